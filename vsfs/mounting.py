"""A mounted filesystem: the layers put together, one lock, and the commits.

The part of a volume that a kernel calls its superblock operations: mount, sync,
statfs, unmount.  :func:`query` and :func:`operation` make a method one of the
calls of ``Volume``: atomic under the lock, and, if it changes something, done
wholly or not at all (OSTEP 42).

A changed filesystem is durable after the next commit.  That comes with ``sync``
and ``close``, every `commit_interval` seconds, and when an operation needs it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Container
from typing import Any, ClassVar, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from vsfs.bitmap import Bitmap
from vsfs.blockmap import BlockMap
from vsfs.buffer import Buffer, BufferCache
from vsfs.device import BlockDevice, Kind, PatchedDevice
from vsfs.errors import CommitNeeded, Corrupt, NoSpace, ReadOnly, TransactionFull
from vsfs.fileio import FileIO
from vsfs.inode import Inode, InodeTable
from vsfs.journal import Journal
from vsfs.layout import (
    FEATURE_COMPAT_JOURNAL,
    FEATURE_INCOMPAT_RECOVER,
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
#: Blocks that a rename changes beside the data bitmap: four inodes, three directory
#: blocks, a bitmap block of inodes, the superblock, and to let a directory grow.
_FEW_BLOCKS: Final = 12
_READ_ONLY_NOW: Final = "; the filesystem is read-only from now on, unmount it and run fsck.vsfs"
_MOST_DAMAGE: Final = 100  # lines in the log about damage
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
            if self.inodes.is_crowded:
                self.inodes.trim()
            try:
                return method(self, *args, **kwargs)
            except Corrupt as error:
                self.meet_damage(error)
                raise

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
            inodes = self.inodes
            if inodes.is_crowded:
                inodes.trim()
            cache = self.cache
            cache.begin()
            try:
                result = method(self, *args, **kwargs)
            except BaseException as error:
                cache.rollback()
                result = self._attempt_again(error, method, args, kwargs)
            else:
                cache.end()
            if inodes.is_overdue or self._acts_after_change:
                self._changed()
            while self._deferred:
                self._free_orphan(self._deferred.pop())
            return result

    return call


class Mounted:
    """What a volume needs before it can answer a call, and to end well.

    Public attributes: `geometry`, `superblock` (as of the last commit), `inodes`,
    `blockmap`, `cache`, `files`, `read_only`, `lock`.
    """

    cache_type: ClassVar[type[BufferCache]] = BufferCache
    inode_table_type: ClassVar[type[InodeTable]] = InodeTable

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
        device.block_size = self.geometry.block_size
        self.journal: Journal | None = None
        self.clock = clock
        self.device = self._recover(device)
        self.atime = atime
        self.sync_always = sync
        self.commit_interval = commit_interval
        #: Whether the next change starts the committer, or each change commits.
        self._acts_after_change = sync or commit_interval is not None
        self.lock = threading.RLock()
        self.files = OpenFileTable()
        self.cache = self.cache_type(self.device, self.geometry)
        self._assemble()
        self._encoded = self.superblock  # as it is on the disk
        #: Inodes that somebody knows by number without having them open, as a kernel
        #: does: without names they stay until :meth:`let_go`.
        self.known: Container[int] = ()
        self.held: dict[int, Inode] = {}  # those that stay only because they are known
        self._unused: list[Inode] = []  # let go, and to be freed with the next commit
        self._deferred: list[Inode] = []
        self._unfreed: list[Inode] = []  # orphans that could not be freed; close tries again
        self._damage: set[tuple[int, int]] = set()  # block, offset: told in the log
        self._committer: threading.Thread | None = None
        self._closing = threading.Event()
        root = self.inodes.get(ROOT_INO)
        if not root.is_directory:
            block, offset = self.geometry.inode_location(ROOT_INO)
            raise Corrupt("inode 2", block, offset, oct(root.mode), "a directory: the root")
        if not self.read_only:
            self._mark_mounted()

    def _recover(self, device: BlockDevice) -> BlockDevice:
        """Find the journal and replay what waits in it; the device to read from then.

        A mount for reading only writes nothing: it reads as if it were replayed.
        """
        if not self._has(FEATURE_COMPAT_JOURNAL, FEATURE_INCOMPAT_RECOVER):
            self._repair(device)  # of one with a journal: where the last mount has met damage
            if self._has(FEATURE_COMPAT_JOURNAL):
                self.journal = Journal(device, self.geometry)
                if not self.read_only:
                    self.journal.resume()
            return device
        self.journal = Journal(device, self.geometry)
        if self.read_only:
            waiting = self.journal.waiting()
            device = PatchedDevice(device, dict(waiting.blocks if waiting else ()))
        else:
            count = self.journal.replay()
            log.warning("the filesystem was not cleanly unmounted; %d blocks replayed", count)
        self.superblock = check_superblock(
            device.read(0, SUPERBLOCK_SIZE, 0, Kind.SUPERBLOCK), device.size
        )
        return device

    def _has(self, compat: int, incompat: int = 0) -> bool:
        """Whether the filesystem has all of these features."""
        superblock = self.superblock
        return not (compat & ~superblock.feature_compat or incompat & ~superblock.feature_incompat)

    def _repair(self, device: BlockDevice) -> None:
        """Repair what a crash left that no journal takes care of; raises NeedsCheck (EUCLEAN)."""
        if self.superblock.state != STATE_MOUNTED:
            return
        from vsfs.recovery import name_of, recover  # noqa: PLC0415  (late: the whole checker)

        if self.read_only:
            log.warning(
                "%s was not cleanly unmounted; it is mounted read-only, so nothing is repaired",
                name_of(device),
            )
            return
        recover(device, self.clock())
        head = device.read(0, SUPERBLOCK_SIZE, 0, Kind.SUPERBLOCK)
        self.superblock = check_superblock(head, device.size)

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
        self.inodes = self.inode_table_type(cache, self._inode_bitmap)
        self.blockmap = BlockMap(cache, self._data_bitmap)
        self._io = FileIO(cache, self.blockmap)
        self._attributes = Attributes(cache, self._data_bitmap)
        cache.prepare.append(self._encode_superblock)
        cache.overdue = self._commit
        if self.journal is not None:
            cache.write_back = self._write_back
            cache.limit = self.journal.capacity

    def _write_back(self, buffers: list[Buffer]) -> None:
        """Commit by way of the journal."""
        assert self.journal is not None
        self.journal.commit(buffers, self.cache.install)

    # -- mounting -------------------------------------------------------------

    def _mark_mounted(self) -> None:
        """Say on the disk that the filesystem is in use."""
        was_recovered = bool(self.superblock.feature_incompat & FEATURE_INCOMPAT_RECOVER)
        if self.journal is not None:
            self._set_recover(needed=True)
        self.superblock = self.superblock._replace(
            state=STATE_MOUNTED,
            mounted_ns=self.clock(),
            mount_count=(self.superblock.mount_count + 1) & 0xFFFFFFFF,
        )
        self._commit_superblock()
        if was_recovered:
            for inode in list(self.inodes.orphans()):
                self._release_orphan(inode)

    def _set_recover(self, *, needed: bool) -> None:
        """Say in the superblock whether a transaction may wait in the journal."""
        others = self.superblock.feature_incompat & ~FEATURE_INCOMPAT_RECOVER
        bit = FEATURE_INCOMPAT_RECOVER if needed else 0
        self.superblock = self.superblock._replace(feature_incompat=others | bit)

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
                    self._commit()
                    if is_clean:
                        self._set_recover(needed=False)
                        self.superblock = self.superblock._replace(state=STATE_CLEAN)
                        self._commit_superblock()
            finally:
                self.device.close()

    def _release_all(self) -> bool:
        """Close every handle; return whether no orphan had to be left behind."""
        self.known = ()
        for file in list(self.files):
            file.references = 1
            self.release(file.handle)
        for ino in list(self.held):
            self.let_go(ino)
        self._free_unused()
        unfreed, self._unfreed = self._unfreed, []
        for inode in unfreed:
            self._free_orphan(inode)
        return not self._unfreed

    def _commit_superblock(self) -> None:
        self.cache.begin()
        self.cache.modify(self.cache.read(0, Kind.SUPERBLOCK))
        self.cache.end()
        self.cache.commit()

    def _encode_superblock(self) -> None:
        """Put counts and state into block 0 if they change; the last part of every commit."""
        now = self.superblock._replace(
            free_inode_count=max(self._inode_bitmap.available, 0),
            free_block_count=max(self._data_bitmap.available, 0),
        )
        if now == self._encoded:
            return
        self.superblock = self._encoded = now._replace(written_ns=self.clock())
        buffer = self.cache.read(0, Kind.SUPERBLOCK)
        self.cache.modify(buffer)
        buffer.data[:SUPERBLOCK_SIZE] = encode_superblock(self.superblock)

    def sync(self) -> None:
        """Commit: everything so far is durable when this returns.

        Raises EIO (or what the device says), also if it failed before.
        """
        with self.lock:
            if not self.read_only or self.cache.failed:
                self._commit()

    def _commit(self) -> None:
        """Commit, with what has no user any more freed first."""
        if self._unused:
            self._free_unused()
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

    def _attempt_again(
        self,
        reason: BaseException,
        method: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> R:
        """An operation failed and was undone: run it once more after a commit if it needs that."""
        if isinstance(reason, Corrupt):
            self.meet_damage(reason)
        if not isinstance(reason, CommitNeeded):
            raise reason
        self._commit()
        self.cache.begin()
        try:
            result = method(self, *args, **kwargs)
        except BaseException as error:
            self.cache.rollback()
            if isinstance(error, Corrupt):
                self.meet_damage(error)
            if isinstance(error, CommitNeeded) and not isinstance(error, TransactionFull):
                # only what this very call freed is left
                raise NoSpace("no free block is left") from error
            raise  # a full transaction: more than the journal holds, all alone
        self.cache.end()
        return result

    def meet_damage(self, error: Corrupt) -> None:
        """Something read from the image cannot be: change nothing any more.

        As ext4's errors=remount-ro.  What was done before is still written; the
        filesystem is not marked clean, so that the next mount for writing has it
        checked.
        """
        place = (error.block, error.offset)
        if place not in self._damage and len(self._damage) < _MOST_DAMAGE:
            self._damage.add(place)
            consequence = "" if self.read_only else _READ_ONLY_NOW
            log.error("%s%s", error, consequence)
        if self.read_only:
            return
        self.read_only = True
        with contextlib.suppress(OSError):
            self.cache.commit()
            if self.journal is not None:  # only now, or a crash would leave half of that commit
                self._set_recover(needed=False)
                self._commit_superblock()

    def _changed(self) -> None:
        if self.sync_always or self.inodes.is_overdue:
            self._commit()
        elif self._committer is None and self.commit_interval is not None:
            self._committer = threading.Thread(
                target=self._commit_regularly, name="vsfs-commit", daemon=True
            )
            self._committer.start()
            self._acts_after_change = False

    def _commit_regularly(self) -> None:
        while not self._closing.wait(self.commit_interval):
            with self.lock:
                if self._closing.is_set() or self.cache.failed:
                    return
                try:
                    self._commit()
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
                if inode.ino in self.known:
                    self._hold(inode)
                else:
                    self._free_orphan(inode)

    def _hold(self, inode: Inode) -> None:
        self.held[inode.ino] = inode
        inode.open_count += 1

    def _let_go(self, ino: int) -> Inode | None:
        inode = self.held.pop(ino, None)
        if inode is not None:
            inode.open_count -= 1
        return inode

    def let_go(self, ino: int) -> None:
        """Nobody knows `ino` any more: if it is in :attr:`held`, it is free.

        That is, it counts as free; its bits are cleared at the next commit, which is also
        the first moment at which they may be set again.  A kernel forgets one inode at a
        time, and to free a thousand at once takes half as long.
        """
        with self.lock:
            inode = self._let_go(ino)
            if inode is not None and inode.open_count == 0:
                self._unused.append(inode)
                self._inode_bitmap.awaited += 1
                self._data_bitmap.awaited += inode.blocks

    def _free_unused(self) -> None:
        """Free what was let go since the last commit, which comes next."""
        cache = self.cache
        if self.read_only or cache.failed:
            return  # nothing changes any more; the next mount's check frees them
        unused, self._unused = self._unused, []
        self._inode_bitmap.awaited = self._data_bitmap.awaited = 0
        cache.begin()
        try:
            for inode in unused:
                self.blockmap.free_all(inode)
                self.inodes.free(inode)
        except BaseException as error:
            cache.rollback()
            if not isinstance(error, OSError):
                raise
            for inode in unused:  # one of them is damaged, or the journal has no room for all
                self._free_orphan(inode)
        else:
            cache.end()

    def _free_orphan(self, inode: Inode) -> None:
        """Free an inode without names; an error is for the log.

        What the caller asked for, to remove a name or to close a handle, is done.
        """
        if self.read_only:  # the reason is in the log
            self._unfreed.append(inode)
            return
        try:
            self._release_orphan(inode)
        except OSError as error:
            log.error("inode %d could not be freed: %s", inode.ino, error)
            self._unfreed.append(inode)

    def _release_orphan(self, inode: Inode) -> None:
        """Free an inode without names: at once, or in as many transactions as it takes.

        A crash in between leaves an orphan, which the next mount frees.
        """
        try:
            self._free(inode)
        except TransactionFull:
            self._shrink(inode, 0)
            self._free(inode)

    @operation
    def _free(self, inode: Inode) -> None:
        self.blockmap.free_all(inode)
        self.inodes.free(inode)

    def _free_if_unused(self, inode: Inode) -> None:
        """Free an inode that nothing refers to, now or after this operation."""
        if inode.nlink or inode.open_count:
            return
        if inode.ino in self.known:
            self._hold(inode)
            self.cache.undo(lambda: self._let_go(inode.ino))
            return
        if self._is_large(inode):
            self._deferred.append(inode)
            self.cache.undo(lambda: self._deferred.remove(inode))
            return
        self.blockmap.free_all(inode)
        self.inodes.free(inode)

    def _is_large(self, inode: Inode) -> bool:
        """Whether freeing an inode may be too much for the journal, with what comes before it."""
        if self.cache.limit is None:
            return False
        geometry = self.geometry
        bitmap_blocks = geometry.inode_table_start - geometry.data_bitmap_start
        return min(inode.blocks, bitmap_blocks) + _FEW_BLOCKS > self.cache.limit

    def _shrink(self, inode: Inode, size: int) -> None:
        """Cut a file to `size` bytes in steps, each an operation of its own.

        The steps are as large as the journal allows, to a factor of two.
        """
        while inode.size > size:
            target = size
            while True:
                try:
                    self._cut(inode, target)
                    break
                except TransactionFull:
                    if inode.size - target <= self.geometry.block_size:
                        raise
                    target = (target + inode.size) // 2

    @operation
    def _cut(self, inode: Inode, size: int) -> None:
        self.inodes.modify(inode)
        self._io.truncate(inode, size)

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
        try:
            self.inodes.modify(inode)
        except TransactionFull:
            self.cache.commit()
            self.cache.begin()
            self.inodes.modify(inode)
        inode.atime_ns = now
        self.cache.end()
        self._changed()
