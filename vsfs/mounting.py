"""A mounted filesystem: the layers put together, one lock, and the commits.

The part of a volume that a kernel calls its superblock operations: mount, sync,
statfs, unmount.  :func:`query` and :func:`operation` make a method one of the
calls of ``Volume``: atomic under the lock, and, if it changes something, done
wholly or not at all (OSTEP 42).

A changed filesystem is durable after the next commit.  That comes with ``sync``
and ``close``, every `commit_interval` seconds, and when an operation needs it.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from vsfs.bitmap import Bitmap
from vsfs.blockmap import BlockMap
from vsfs.buffer import BufferCache
from vsfs.device import BlockDevice, Kind
from vsfs.errors import CommitNeeded, Corrupt, NoSpace, ReadOnly
from vsfs.fileio import FileIO
from vsfs.inode import Inode, InodeTable
from vsfs.layout import (
    KNOWN_RO_COMPAT,
    ROOT_INO,
    STATE_CLEAN,
    STATE_MOUNTED,
    SUPERBLOCK_SIZE,
    encode_superblock,
)
from vsfs.openfiles import OpenFileTable
from vsfs.validate import check_superblock
from vsfs.xattr import Attributes

log = logging.getLogger("vsfs")

COMMIT_INTERVAL: Final = 5.0  # seconds, as ext4's commit=5
_DAY_NS: Final = 24 * 60 * 60 * 10**9

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound="Mounted")


class Statistics(NamedTuple):
    """What statvfs(3) reports, in blocks and inodes."""

    block_size: int
    blocks: int
    free_blocks: int
    inodes: int
    free_inodes: int


def query(
    method: Callable[Concatenate[M, P], R],
) -> Callable[Concatenate[M, P], R]:
    """A call that changes nothing on the disk."""

    @functools.wraps(method)
    def call(self: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            if self.inodes.crowded:
                self.inodes.trim()
            return method(self, *args, **kwargs)

    return call


def operation(
    method: Callable[Concatenate[M, P], R],
) -> Callable[Concatenate[M, P], R]:
    """A call that changes the filesystem: wholly, or not at all if it raises.

    Where it can only succeed after a commit, it is undone, the transaction
    commits, and it runs again.
    """

    @functools.wraps(method)
    def call(self: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            if self.read_only:
                raise ReadOnly("the filesystem is read-only")
            if self.inodes.crowded:
                self.inodes.trim()
            try:
                result = self._attempt(method, args, kwargs)
            except CommitNeeded:
                self.cache.commit()
                try:
                    result = self._attempt(method, args, kwargs)
                except CommitNeeded as error:  # only what this very call freed is left
                    raise NoSpace("no free block is left") from error
            self._changed()
            return result

    return call


class Mounted:
    """What a volume needs before it can answer a call, and to end well.

    Public attributes: `geometry`, `superblock` (as of the last commit), `inodes`,
    `blockmap`, `cache`, `files`, `read_only`, `lock`.
    """

    def __init__(
        self,
        device: BlockDevice,
        *,
        read_only: bool = False,
        clock: Callable[[], int] = time.time_ns,
        atime: str = "relatime",
        sync: bool = False,
        commit_interval: float | None = COMMIT_INTERVAL,
    ) -> None:
        """Mount what `device` holds; for writing unless `read_only`.

        `clock` gives the time in ns since 1970.  `atime` is "relatime",
        "noatime" or "strictatime", as in mount(8).  With `sync` every operation
        commits.  `commit_interval` is in seconds; None commits on demand only.

        Raises NotVsfs (EINVAL), Corrupt (EUCLEAN), UnknownFeature (EOPNOTSUPP).
        """
        head = device.read(0, min(SUPERBLOCK_SIZE, device.size), 0, Kind.SUPERBLOCK)
        self.superblock = check_superblock(head, device.size)
        self.geometry = self.superblock.geometry
        self.read_only = (
            read_only
            or device.read_only
            or bool(self.superblock.feature_ro_compat & ~KNOWN_RO_COMPAT)
        )
        self.device = device
        device.block_size = self.geometry.block_size
        self.clock = clock
        self.atime = atime
        self.sync_always = sync
        self.commit_interval = commit_interval
        self.lock = threading.RLock()
        self.files = OpenFileTable()
        self.cache = BufferCache(device, self.geometry)
        self._assemble()
        self._committer: threading.Thread | None = None
        self._closing = threading.Event()
        root = self.inodes.get(ROOT_INO)
        if not root.is_directory:
            block, offset = self.geometry.inode_location(ROOT_INO)
            raise Corrupt("inode 2", block, offset, oct(root.mode), "a directory: the root")
        if not self.read_only:
            self._mark_mounted()

    def _assemble(self) -> None:
        """Build the layers on the cache, in the order in which they commit."""
        geometry, superblock, cache = self.geometry, self.superblock, self.cache
        self._inode_bitmap = Bitmap(
            cache,
            kind=Kind.INODE_BITMAP,
            start=geometry.inode_bitmap_start,
            first=0,
            count=geometry.inode_count,
            available=superblock.free_inode_count,
        )
        self._data_bitmap = Bitmap(
            cache,
            kind=Kind.DATA_BITMAP,
            start=geometry.data_bitmap_start,
            first=geometry.data_start,
            count=geometry.data_blocks,
            available=superblock.free_block_count,
        )
        self.inodes = InodeTable(cache, self._inode_bitmap)
        self.blockmap = BlockMap(cache, self._data_bitmap)
        self._io = FileIO(cache, self.blockmap)
        self._attributes = Attributes(cache, self._data_bitmap)
        cache.prepare.append(self._encode_superblock)

    # -- mounting -------------------------------------------------------------

    def _mark_mounted(self) -> None:
        """Say on the disk that the filesystem is in use."""
        if self.superblock.state == STATE_MOUNTED:
            # its counts are those of some earlier commit
            log.warning("the filesystem was not cleanly unmounted; its free space is recounted")
            self._inode_bitmap.available = self._inode_bitmap.count_free()
            self._data_bitmap.available = self._data_bitmap.count_free()
        self.superblock = self.superblock._replace(
            state=STATE_MOUNTED,
            mounted_ns=self.clock(),
            mount_count=(self.superblock.mount_count + 1) & 0xFFFFFFFF,
        )
        self._commit_superblock()

    def close(self) -> None:
        """Commit everything, mark the filesystem clean, close the device.

        Raises what the commit raises; the device is closed in any case.  Closing
        again does nothing.  An open file without names that cannot be freed keeps
        nothing else from being written; the filesystem is then not marked clean.
        """
        with self.lock:
            if self._closing.is_set():
                return
            self._closing.set()
            try:
                if not self.read_only and not self.cache.failed:
                    is_clean = self._release_all()
                    self.cache.commit()
                    if is_clean:
                        self.superblock = self.superblock._replace(state=STATE_CLEAN)
                        self._commit_superblock()
            finally:
                self.device.close()

    def _release_all(self) -> bool:
        """Close every handle; return whether no orphan had to be left behind."""
        is_clean = True
        for file in list(self.files):
            file.references = 1
            try:
                self.release(file.handle)
            except OSError as error:
                log.error("inode %d could not be freed: %s", file.inode.ino, error)
                is_clean = False
        return is_clean

    def _commit_superblock(self) -> None:
        self.cache.begin()
        self.cache.modify(self.cache.read(0, Kind.SUPERBLOCK))
        self.cache.end()
        self.cache.commit()

    def _encode_superblock(self) -> None:
        """Put counts and times into block 0; the last part of every commit."""
        self.superblock = self.superblock._replace(
            free_inode_count=max(self._inode_bitmap.available, 0),
            free_block_count=max(self._data_bitmap.available, 0),
            written_ns=self.clock(),
        )
        buffer = self.cache.read(0, Kind.SUPERBLOCK)
        self.cache.modify(buffer)
        buffer.data[:SUPERBLOCK_SIZE] = encode_superblock(self.superblock)

    def sync(self) -> None:
        """Commit: everything so far is durable when this returns."""
        with self.lock:
            if not self.read_only:
                self.cache.commit()

    @query
    def statistics(self) -> Statistics:
        """Sizes and free space; what was freed counts as free at once."""
        blocks, inodes = self._data_bitmap, self._inode_bitmap
        return Statistics(
            self.geometry.block_size,
            self.geometry.data_blocks,
            max(blocks.available, 0) + blocks.freed,
            self.geometry.inode_count,
            max(inodes.available, 0) + inodes.freed,
        )

    # -- operations and commits ---------------------------------------------

    def _attempt(
        self, method: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> R:
        """Run one operation; undo it if it raises."""
        self.cache.begin()
        try:
            result = method(self, *args, **kwargs)
        except BaseException:
            self.cache.rollback()
            raise
        self.cache.end()
        return result

    def _changed(self) -> None:
        if self.sync_always or self.inodes.is_overdue:
            self.cache.commit()
        elif self._committer is None and self.commit_interval is not None:
            self._committer = threading.Thread(
                target=self._commit_regularly, name="vsfs-commit", daemon=True
            )
            self._committer.start()

    def _commit_regularly(self) -> None:
        while not self._closing.wait(self.commit_interval):
            with self.lock:
                if self._closing.is_set() or self.cache.failed:
                    return
                try:
                    self.cache.commit()
                except OSError as error:
                    log.error("cannot write to the image (%s); now read-only", error)
                except Exception:
                    log.exception("a commit failed, now read-only: this is a bug in vsfs")

    # -- open inodes ----------------------------------------------------------

    def release(self, handle: int) -> None:
        """Close a handle; the last one of a file without names frees it."""
        with self.lock:
            inode = self.files.close(handle)
            if inode is not None and inode.nlink == 0 and inode.open_count == 0:
                self._release_orphan(inode)

    @operation
    def _release_orphan(self, inode: Inode) -> None:
        self._free_if_unused(inode)

    def _free_if_unused(self, inode: Inode) -> None:
        if inode.nlink == 0 and inode.open_count == 0:
            self.blockmap.free_all(inode)
            self.inodes.free(inode)

    def _touch_atime(self, inode: Inode) -> None:
        """Note an access, by the mount's rule; durable at the next commit."""
        if self.read_only or self.cache.failed or self.atime == "noatime":
            return
        now, atime = self.clock(), inode.atime_ns
        if self.atime == "relatime" and not (
            atime <= inode.mtime_ns or atime <= inode.ctime_ns or atime + _DAY_NS <= now
        ):
            return
        self.cache.begin()
        self.inodes.modify(inode)
        inode.atime_ns = now
        self.cache.end()
        self._changed()
