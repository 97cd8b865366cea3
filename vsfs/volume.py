"""The volume: what a kernel's VFS asks of a filesystem.

Everything is by inode number, name (bytes) and handle; paths, descriptors and
permissions are the business of who calls (``FileSystem``, or the kernel behind
FUSE).  One lock makes each call atomic, so a volume may be used from threads.

Calls that change something are *operations* (OSTEP 42): each happens wholly or
not at all, in memory, and is durable at the next commit.  That comes with
``fsync``, ``sync`` and ``close``, every `commit_interval` seconds, and whenever
freed space is needed again.
"""

from __future__ import annotations

import errno
import functools
import logging
import stat
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from vsfs.bitmap import Bitmap
from vsfs.blockmap import BlockMap
from vsfs.buffer import BufferCache
from vsfs.device import BlockDevice, BytesLike, Kind
from vsfs.directory import Directory
from vsfs.errors import CommitNeeded, Corrupt, NoSpace, ReadOnly, posix_error
from vsfs.fileio import FileIO
from vsfs.inode import Inode, InodeTable
from vsfs.layout import (
    INLINE_SIZE,
    KNOWN_RO_COMPAT,
    LINK_MAX,
    MAX_TIME_NS,
    MIN_TIME_NS,
    NAME_MAX,
    ROOT_INO,
    STATE_CLEAN,
    STATE_MOUNTED,
    SUPERBLOCK_SIZE,
    TYPE_OF_MODE,
    check_superblock,
    encode_superblock,
)
from vsfs.openfiles import OpenFile, OpenFileTable

log = logging.getLogger("vsfs")

COMMIT_INTERVAL: Final = 5.0  # seconds, as ext4's commit=5
SYMLINK_MAX: Final = 4095  # bytes of a target; Linux's PATH_MAX less the NUL
_DAY_NS: Final = 24 * 60 * 60 * 10**9
_PERMISSIONS: Final = 0o7777
#: A loop of `..` entries cannot be longer than this many steps in a sound image.
_MAX_DEPTH: Final = 100_000

P = ParamSpec("P")
R = TypeVar("R")


class Statistics(NamedTuple):
    """What statvfs(3) reports, in blocks and inodes."""

    block_size: int
    blocks: int
    free_blocks: int
    inodes: int
    free_inodes: int


def query(
    method: Callable[Concatenate[Volume, P], R],
) -> Callable[Concatenate[Volume, P], R]:
    """A call that changes nothing on the disk."""

    @functools.wraps(method)
    def call(self: Volume, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            if self.inodes.crowded:
                self.inodes.trim()
            return method(self, *args, **kwargs)

    return call


def operation(
    method: Callable[Concatenate[Volume, P], R],
) -> Callable[Concatenate[Volume, P], R]:
    """A call that changes the filesystem: wholly, or not at all if it raises.

    Where it can only succeed after a commit, it is undone, the transaction
    commits, and it runs again.
    """

    @functools.wraps(method)
    def call(self: Volume, /, *args: P.args, **kwargs: P.kwargs) -> R:
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


class Volume:
    """A mounted filesystem.

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

        Raises what the commit raises; the device is closed in any case.
        """
        self._closing.set()
        with self.lock:
            try:
                if not self.read_only and not self.cache.failed:
                    for file in list(self.files):
                        file.references = 1
                        self.release(file.handle)
                    self.cache.commit()
                    self.superblock = self.superblock._replace(state=STATE_CLEAN)
                    self._commit_superblock()
            finally:
                self.device.close()

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
        if self.sync_always:
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

    # -- looking --------------------------------------------------------------

    @query
    def inode(self, ino: int) -> Inode:
        """The inode `ino`; its attributes are those of stat(2)."""
        return self.inodes.get(ino)

    @query
    def lookup(self, parent: int, name: bytes) -> Inode:
        """The inode that `name` stands for in directory `parent`.

        Raises ENOENT, ENOTDIR, ENAMETOOLONG.
        """
        directory = self._directory(parent)
        entry = directory.entries.get(name)
        if entry is not None and name == b".." and directory.inode.nlink == 0:
            raise posix_error(errno.ENOENT)  # removed, but open: its parent may be gone, too
        if entry is None:
            if len(name) > NAME_MAX:
                raise posix_error(errno.ENAMETOOLONG)
            raise posix_error(errno.ENOENT)
        return self.inodes.get(entry.ino)

    def _directory(self, ino: int) -> Directory:
        inode = self.inodes.get(ino)
        if not inode.is_directory:
            raise posix_error(errno.ENOTDIR)
        return Directory.of(self.cache, self.blockmap, inode)

    @query
    def readlink(self, ino: int) -> bytes:
        """The target of symbolic link `ino`; raises EINVAL for anything else."""
        inode = self.inodes.get(ino)
        if not inode.is_symlink:
            raise posix_error(errno.EINVAL)
        self._touch_atime(inode)
        if inode.size <= INLINE_SIZE:
            return inode.inline[: inode.size]
        return self._io.read(inode, min(inode.size, SYMLINK_MAX), 0)

    @query
    def readdir(self, ino: int) -> list[tuple[bytes, int, int]]:
        """All names of directory `ino`, `.` and `..` too: (name, inode, type code)."""
        directory = self._directory(ino)
        self._touch_atime(directory.inode)
        return [(name, entry.ino, entry.file_type) for name, entry in directory.entries.items()]

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

    # -- names ----------------------------------------------------------------

    @operation
    def mknod(
        self, parent: int, name: bytes, mode: int, uid: int, gid: int, device: int = 0
    ) -> Inode:
        """Make a file, fifo, socket or device named `name` (mknod(2), open(2)).

        `mode` has type and permissions, the umask already applied.  Raises
        EEXIST, ENOENT (the directory was removed), ENOSPC; EPERM for a directory,
        EINVAL for a symbolic link.
        """
        if stat.S_ISDIR(mode):
            raise posix_error(errno.EPERM)
        if stat.S_ISLNK(mode):
            raise posix_error(errno.EINVAL)
        return self._make(parent, name, mode, uid, gid, device)

    @operation
    def mkdir(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        """Make a directory; a set-group-id parent hands on its bit and group."""
        if self.inodes.get(parent).mode & stat.S_ISGID:
            mode |= stat.S_ISGID
        inode = self._make(parent, name, stat.S_IFDIR | mode & _PERMISSIONS, uid, gid)
        Directory.create(self.cache, self.blockmap, inode, parent)
        inode.nlink = 2
        above = self.inodes.get(parent)
        above.nlink += 1
        return inode

    @operation
    def symlink(self, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        """Make a symbolic link to `target` (1 to 4095 bytes); up to 108 are inline."""
        if not target:
            raise posix_error(errno.ENOENT)
        if len(target) > SYMLINK_MAX:
            raise posix_error(errno.ENAMETOOLONG)
        inode = self._make(parent, name, stat.S_IFLNK | 0o777, uid, gid)
        if len(target) <= INLINE_SIZE:
            inode.inline = target.ljust(INLINE_SIZE, b"\0")
            inode.size = len(target)
        elif self._io.write(inode, target, 0) < len(target):
            raise posix_error(errno.ENOSPC)
        return inode

    def _make(
        self, parent: int, name: bytes, mode: int, uid: int, gid: int, device: int = 0
    ) -> Inode:
        """A new inode with one link, entered as `name`."""
        directory = self._directory_for_new(parent, name)
        if stat.S_IFMT(mode) not in TYPE_OF_MODE:
            raise posix_error(errno.EINVAL)
        _require_32_bits(uid, gid, device)
        if directory.inode.mode & stat.S_ISGID:
            gid = directory.inode.gid
        now = self.clock()
        inode = self.inodes.allocate(mode, uid, gid, now)
        inode.device = device
        inode.nlink = 1
        self._touch_directory(directory.inode, now)
        directory.add(name, inode.ino, inode.file_type)
        return inode

    def _directory_for_new(self, parent: int, name: bytes) -> Directory:
        """The directory that `name` can be added to."""
        directory = self._directory(parent)
        if name in directory.entries:
            raise posix_error(errno.EEXIST)
        if len(name) > NAME_MAX:
            raise posix_error(errno.ENAMETOOLONG)
        if not name or b"/" in name or b"\0" in name:
            raise posix_error(errno.EINVAL)
        if directory.inode.nlink == 0:  # removed, but still open
            raise posix_error(errno.ENOENT)
        return directory

    def _touch_directory(self, inode: Inode, now: int) -> None:
        """Announce a change of a directory's names."""
        self.inodes.modify(inode)
        inode.mtime_ns = inode.ctime_ns = now
        inode.version += 1

    @operation
    def link(self, ino: int, parent: int, name: bytes) -> Inode:
        """Give file `ino` one more name (hard link).

        Raises EPERM for a directory, EMLINK at 65,535 links, EEXIST, ENOSPC.
        """
        inode = self.inodes.get(ino)
        directory = self._directory_for_new(parent, name)
        if inode.is_directory:
            raise posix_error(errno.EPERM)
        if inode.nlink == 0:
            raise posix_error(errno.ENOENT)
        if inode.nlink >= LINK_MAX:
            raise posix_error(errno.EMLINK)
        now = self.clock()
        self.inodes.modify(inode)
        inode.nlink += 1
        inode.ctime_ns = now
        self._touch_directory(directory.inode, now)
        directory.add(name, ino, inode.file_type)
        return inode

    @operation
    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name of a file; with its last name and opener the file goes.

        Raises ENOENT, EISDIR.
        """
        directory = self._directory(parent)
        inode = self._entry(directory, name)
        if inode.is_directory:
            raise posix_error(errno.EISDIR)
        now = self.clock()
        self._touch_directory(directory.inode, now)
        directory.remove(name)
        self._drop_link(inode, now)

    @operation
    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory.

        Raises ENOENT, ENOTDIR, ENOTEMPTY, EINVAL for `.`.
        """
        if name == b".":
            raise posix_error(errno.EINVAL)
        if name == b"..":
            raise posix_error(errno.ENOTEMPTY)
        directory = self._directory(parent)
        inode = self._entry(directory, name)
        self._require_empty(inode)
        now = self.clock()
        self._touch_directory(directory.inode, now)
        directory.remove(name)
        self._drop_directory(inode, directory.inode, now)

    def _entry(self, directory: Directory, name: bytes) -> Inode:
        entry = directory.entries.get(name)
        if entry is None:
            raise posix_error(errno.ENOENT)
        return self.inodes.get(entry.ino)

    def _require_empty(self, inode: Inode) -> None:
        if not inode.is_directory:
            raise posix_error(errno.ENOTDIR)
        if inode.ino == ROOT_INO:
            raise posix_error(errno.EBUSY)
        if not Directory.of(self.cache, self.blockmap, inode).is_empty:
            raise posix_error(errno.ENOTEMPTY)

    def _drop_link(self, inode: Inode, now: int) -> None:
        """One name less; free the inode when nothing refers to it any more."""
        self.inodes.modify(inode)
        inode.nlink -= 1
        inode.ctime_ns = now
        self._free_if_unused(inode)

    def _drop_directory(self, inode: Inode, parent: Inode, now: int) -> None:
        """An empty directory lost its name: its `.` and `..` go with it."""
        self.inodes.modify(inode)
        inode.nlink = 0
        inode.ctime_ns = now
        parent.nlink -= 1
        self._free_if_unused(inode)

    def _free_if_unused(self, inode: Inode) -> None:
        if inode.nlink == 0 and inode.open_count == 0:
            self.blockmap.free_all(inode)
            self.inodes.free(inode)

    @operation
    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        """Move a name, replacing what the new one stood for (rename(2)).

        Raises ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, ENOSPC; EINVAL when a directory
        would move below itself.
        """
        source, target = self._directory(parent), self._directory(new_parent)
        inode = self._entry(source, name)
        if {name, new_name} & {b".", b".."}:
            raise posix_error(errno.EBUSY)
        if inode.is_directory and parent != new_parent:
            self._require_not_below(new_parent, inode)
        now = self.clock()
        if new_name in target.entries:
            victim = self._entry(target, new_name)
            if victim is inode:
                return
            self._check_replace(inode, victim)
        else:
            victim = None
            self._directory_for_new(new_parent, new_name)
        self._touch_directory(source.inode, now)
        self._touch_directory(target.inode, now)
        self.inodes.modify(inode)
        inode.ctime_ns = now
        self._move_entry(source, name, target, new_name, inode, replace=victim is not None)
        if inode.is_directory and source is not target:
            Directory.of(self.cache, self.blockmap, inode).replace(
                b"..", target.inode.ino, inode.file_type
            )
            source.inode.nlink -= 1
            target.inode.nlink += 1
        if victim is not None and victim.is_directory:
            self._drop_directory(victim, target.inode, now)
        elif victim is not None:
            self._drop_link(victim, now)

    def _check_replace(self, inode: Inode, victim: Inode) -> None:
        if victim.is_directory:
            if not inode.is_directory:
                raise posix_error(errno.EISDIR)
            self._require_empty(victim)
        elif inode.is_directory:
            raise posix_error(errno.ENOTDIR)

    def _move_entry(
        self,
        source: Directory,
        name: bytes,
        target: Directory,
        new_name: bytes,
        inode: Inode,
        *,
        replace: bool,
    ) -> None:
        """The name reaches its new place on the disk before it leaves the old."""
        if replace:
            self.cache.order(target.block_of(new_name), source.block_of(name))
            target.replace(new_name, inode.ino, inode.file_type)
            source.remove(name)
        elif source is target:
            source.rename(name, new_name)
        else:
            sector = target.find_room(new_name)
            self.cache.order(target.block_of_sector(sector), source.block_of(name))
            target.add(new_name, inode.ino, inode.file_type)
            source.remove(name)

    def _require_not_below(self, ino: int, above: Inode) -> None:
        """Raise EINVAL if directory `ino` is `above` or lies somewhere below it."""
        for _ in range(_MAX_DEPTH):
            if ino == above.ino:
                raise posix_error(errno.EINVAL)
            if ino == ROOT_INO:
                return
            ino = self._directory(ino).entries[b".."].ino
        block, offset = self.geometry.inode_location(ino)
        raise Corrupt(f"directory {ino}", block, offset, "a loop of '..' entries", "a way to /")

    # -- attributes -----------------------------------------------------------

    @operation
    def setattr(
        self,
        ino: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> Inode:
        """Change those attributes that are given (chmod, chown, truncate, utime).

        `mode` is permissions only; times are ns since 1970.  Raises EISDIR or
        EINVAL for the size of what has none, EFBIG.
        """
        inode = self.inodes.get(ino)
        _require_32_bits(uid or 0, gid or 0)
        self.inodes.modify(inode)
        inode.ctime_ns = self.clock()
        if mode is not None:
            inode.mode = stat.S_IFMT(inode.mode) | mode & _PERMISSIONS
        if uid is not None:
            inode.uid = uid
        if gid is not None:
            inode.gid = gid
        if size is not None:
            self._resize(inode, size)
        if atime_ns is not None:
            inode.atime_ns = _clamp_time(atime_ns)
        if mtime_ns is not None:
            inode.mtime_ns = _clamp_time(mtime_ns)
        return inode

    def _resize(self, inode: Inode, size: int) -> None:
        if inode.is_directory:
            raise posix_error(errno.EISDIR)
        if not inode.is_regular or size < 0:
            raise posix_error(errno.EINVAL)
        self._io.truncate(inode, size)
        inode.mtime_ns = inode.ctime_ns

    # -- open files -----------------------------------------------------------

    @query
    def open(self, ino: int, flags: int) -> OpenFile:
        """Enter inode `ino` in the open file table; `flags` as open(2) has them."""
        return self.files.open(self.inodes.get(ino), flags)

    @query
    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes from byte `offset` on; EISDIR for a directory."""
        inode = self.files.get(handle).inode
        if inode.is_directory:
            raise posix_error(errno.EISDIR)
        content = self._io.read(inode, size, offset)
        self._touch_atime(inode)
        return content

    @operation
    def write(self, handle: int, content: BytesLike, offset: int) -> int:
        """Write at byte `offset`, or at the end with O_APPEND; return how much.

        Raises ENOSPC when not a byte fits, EFBIG.
        """
        return self._write(self.files.get(handle), content, offset)

    @operation
    def append(self, handle: int, content: BytesLike) -> tuple[int, int]:
        """Write at the end of the file; return (bytes written, new end)."""
        file = self.files.get(handle)
        written = self._write(file, content, file.inode.size)
        return written, file.inode.size

    def _write(self, file: OpenFile, content: BytesLike, offset: int) -> int:
        inode = file.inode
        self.inodes.modify(inode)
        written = self._io.write(inode, content, offset)
        inode.mtime_ns = inode.ctime_ns = self.clock()
        return written

    def release(self, handle: int) -> None:
        """Close a handle; the last one of a file without names frees it."""
        with self.lock:
            inode = self.files.close(handle)
            if inode is not None and inode.nlink == 0 and inode.open_count == 0:
                self._release_orphan(inode)

    @operation
    def _release_orphan(self, inode: Inode) -> None:
        self._free_if_unused(inode)

    def fsync(self, handle: int) -> None:
        """Return when the file, and all that happened before, is durable."""
        with self.lock:
            self.files.get(handle)
            self.sync()


def _require_32_bits(*numbers: int) -> None:
    """Raise EINVAL for a user, group or device number that the disk has no room for."""
    if not all(0 <= number < 2**32 for number in numbers):
        raise posix_error(errno.EINVAL)


def _clamp_time(time_ns: int) -> int:
    return max(MIN_TIME_NS, min(time_ns, MAX_TIME_NS))
