"""The volume: what a kernel's VFS asks of a filesystem.

Everything is by inode number, name (bytes) and handle; paths, descriptors and
permissions are the business of who calls (``FileSystem``, or the kernel behind
FUSE).  Each call is atomic, so a volume may be used from threads.

Calls that change something are *operations* (OSTEP 42): each happens wholly or
not at all, in memory, and is durable at the next commit (``mounting``).
"""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Iterable
from typing import Final

from vsfs.device import BytesLike
from vsfs.directory import Directory, Entry
from vsfs.errors import Corrupt, TransactionFull, posix_error
from vsfs.inode import Inode
from vsfs.layout import (
    INLINE_SIZE,
    LINK_MAX,
    MAX_TIME_NS,
    MIN_TIME_NS,
    NAME_MAX,
    ROOT_INO,
    TYPE_OF_MODE,
)
from vsfs.mounting import Mounted, operation, query
from vsfs.openfiles import O_NOATIME, OpenFile

SYMLINK_MAX: Final = 4095  # bytes of a target; Linux's PATH_MAX less the NUL
_PERMISSIONS: Final = 0o7777
#: A loop of `..` entries cannot be longer than this many steps in a sound image.
_MAX_DEPTH: Final = 100_000


class Volume(Mounted):
    """The calls of a mounted filesystem; how it is mounted is in ``Mounted``."""

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
        inode = self._find(self.inodes.get(parent), name)
        if inode is None:
            raise posix_error(errno.ENOENT)
        return inode

    @query
    def find(self, parent: int, name: bytes) -> Inode | None:
        """As :meth:`lookup`, but None where there is no such name: no error for a kernel."""
        return self._find(self.inodes.get(parent), name)

    @query
    def walk(self, names: Iterable[bytes]) -> Inode | None:
        """The inode at the end of a path from the root, by the names on it.

        Symbolic links on the way are for who calls.  None, or raises, as :meth:`find`.
        """
        inode: Inode | None = self.inodes.get(ROOT_INO)
        for name in names:
            if inode is None:
                return None
            inode = self._find(inode, name)
        return inode

    def _find(self, above: Inode, name: bytes) -> Inode | None:
        directory = self._directory_of(above)
        entry = directory.entries.get(name)
        if entry is None:
            if len(name) > NAME_MAX:
                raise posix_error(errno.ENAMETOOLONG)
            return None
        if name == b".." and above.nlink == 0:
            return None  # removed, but open: its parent may be gone, too
        inode = self.inodes.get(entry.ino)
        if not inode.blocks and not inode.goal:
            inode.goal = directory.goal
        return inode

    def _directory(self, ino: int) -> Directory:
        return self._directory_of(self.inodes.get(ino))

    def _directory_of(self, inode: Inode) -> Directory:
        inode.searched = True
        index = inode.index
        if isinstance(index, Directory):  # the short way: only a directory has one
            return index
        if not inode.is_directory:
            raise posix_error(errno.ENOTDIR)
        directory = Directory.of(self.cache, self.blockmap, inode)
        self.inodes.indexed(inode)
        return directory

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
    def readdir(self, ino: int) -> list[tuple[bytes, Entry]]:
        """All names of directory `ino`, `.` and `..` too, and what each stands for."""
        directory = self._directory(ino)
        self._touch_atime(directory.inode)
        return list(directory.entries.items())

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
        file_type = TYPE_OF_MODE.get(stat.S_IFMT(mode))
        if file_type is None or not _have_32_bits(uid | gid | device):
            raise posix_error(errno.EINVAL)
        if directory.inode.mode & stat.S_ISGID:
            gid = directory.inode.gid
        now = self.clock()
        inode = self.inodes.allocate(mode, uid, gid, now)
        inode.device = device
        inode.nlink = 1
        self._touch_directory(directory.inode, now)
        directory.add(name, inode.ino, file_type)
        inode.goal = directory.goal
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
        self.inodes.named()
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
        self._require_empty(inode, parent)
        now = self.clock()
        self._touch_directory(directory.inode, now)
        directory.remove(name)
        self._drop_directory(inode, directory.inode, now)

    def _entry(self, directory: Directory, name: bytes) -> Inode:
        entry = directory.entries.get(name)
        if entry is None:
            raise posix_error(errno.ENOENT)
        return self.inodes.get(entry.ino)

    def _require_empty(self, inode: Inode, parent: int) -> None:
        """Raise unless `inode` is an empty directory; `parent` has its name."""
        if not inode.is_directory:
            raise posix_error(errno.ENOTDIR)
        if inode.ino == ROOT_INO:
            raise posix_error(errno.EBUSY)
        if Directory.is_as_created(self.cache, self.blockmap, inode, parent):
            return
        self._directory_of(inode).require_removable()

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
            self._check_replace(inode, victim, new_parent)
        else:
            victim = None
            self._directory_for_new(new_parent, new_name)
        self._touch_directory(source.inode, now)
        self._touch_directory(target.inode, now)
        self.inodes.modify(inode)
        inode.ctime_ns = now
        self._move_entry(source, name, target, new_name, inode, replace=victim is not None)
        if inode.is_directory and source is not target:
            self._directory_of(inode).replace(b"..", target.inode.ino, inode.file_type)
            source.inode.nlink -= 1
            target.inode.nlink += 1
        if victim is not None and victim.is_directory:
            self._drop_directory(victim, target.inode, now)
        elif victim is not None:
            self._drop_link(victim, now)

    def _check_replace(self, inode: Inode, victim: Inode, parent: int) -> None:
        if victim.is_directory:
            if not inode.is_directory:
                raise posix_error(errno.EISDIR)
            self._require_empty(victim, parent)
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

    def setattr(self, ino: int, *, size: int | None = None, **others: int | None) -> Inode:
        """Change those attributes that are given (chmod, chown, truncate, utime).

        `mode` is permissions only; `uid`, `gid`; `size` in bytes; `atime_ns` and
        `mtime_ns` are ns since 1970.  Raises EISDIR or EINVAL for the size of what
        has none, EFBIG.
        """
        if size is None:
            return self._setattr(ino, **others)
        with self.lock:
            try:
                return self._setattr(ino, size=size, **others)
            except TransactionFull:  # it frees more than the journal has room for
                self._shrink(self.inodes.get(ino), size)
                return self._setattr(ino, size=size, **others)

    @operation
    def _setattr(
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
        inode = self.inodes.get(ino)
        if not _have_32_bits((uid or 0) | (gid or 0)):
            raise posix_error(errno.EINVAL)
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

    @query
    def getxattr(self, ino: int, name: bytes) -> bytes:
        """The value of an extended attribute; ENODATA, EOPNOTSUPP."""
        return self._attributes.get(self.inodes.get(ino), name)

    @query
    def listxattr(self, ino: int) -> list[bytes]:
        """The names of all extended attributes."""
        return list(self._attributes.all(self.inodes.get(ino)))

    @operation
    def setxattr(
        self, ino: int, name: bytes, value: bytes, *, create: bool = False, replace: bool = False
    ) -> None:
        """Set an extended attribute (setxattr(2)); `create` and `replace` are its flags.

        Raises EEXIST, ENODATA, EOPNOTSUPP, ERANGE, E2BIG, ENOSPC.
        """
        inode = self.inodes.get(ino)
        self.inodes.modify(inode)
        self._attributes.set(inode, name, value, create=create, replace=replace)
        inode.ctime_ns = self.clock()

    @operation
    def removexattr(self, ino: int, name: bytes) -> None:
        """Remove an extended attribute; raises ENODATA, EOPNOTSUPP."""
        inode = self.inodes.get(ino)
        self.inodes.modify(inode)
        self._attributes.remove(inode, name)
        inode.ctime_ns = self.clock()

    # -- open files -----------------------------------------------------------

    @query
    def open(self, ino: int, flags: int) -> OpenFile:
        """Enter inode `ino` in the open file table; `flags` as open(2) has them."""
        return self.files.open(self.inodes.get(ino), flags)

    @query
    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes from byte `offset` on; EISDIR for a directory."""
        file = self.files.get(handle)
        inode = file.inode
        if inode.is_directory:
            raise posix_error(errno.EISDIR)
        content = self._io.read(inode, size, offset)
        if not file.flags & O_NOATIME:
            self._touch_atime(inode)
        return content

    @query
    def seek(self, handle: int, offset: int, *, hole: bool) -> int:
        """The first byte from `offset` on that is in a hole, or else in none.

        The end of the file counts as a hole.  Raises ENXIO where there is neither.
        """
        return self._io.seek(self.files.get(handle).inode, offset, hole=hole)

    def write(self, handle: int, content: BytesLike, offset: int) -> int:
        """Write at byte `offset`, or at the end with O_APPEND; return how much.

        Raises ENOSPC when not a byte fits, EFBIG.
        """
        try:
            return self._write_at(handle, content, offset)
        except TransactionFull:  # more blocks than the journal can name
            half = len(content) // 2
            if half < self.geometry.block_size:
                raise
        whole = memoryview(content)
        with self.lock:
            written = self.write(handle, whole[:half], offset)
            if written == half:
                with contextlib.suppress(OSError):  # a short count says it, as in write(2)
                    written += self.write(handle, whole[half:], offset + half)
            return written

    @operation
    def _write_at(self, handle: int, content: BytesLike, offset: int) -> int:
        inode = self.files.get(handle).inode
        if not content:
            return 0  # and no other result, says write(2): the times stay
        self.inodes.modify(inode)
        written = self._io.write(inode, content, offset)
        inode.mtime_ns = inode.ctime_ns = self.clock()
        return written

    def append(self, handle: int, content: BytesLike) -> tuple[int, int]:
        """Write at the end of the file; return (bytes written, new end)."""
        with self.lock:
            inode = self.files.get(handle).inode
            written = self.write(handle, content, inode.size)
            return written, inode.size

    def fsync(self, handle: int) -> None:
        """Return when the file, and all that happened before, is durable."""
        with self.lock:
            self.files.get(handle)
            self.sync()


def _have_32_bits(numbers: int) -> bool:
    """Whether the disk has room for user, group and device numbers, joined by ``|``."""
    return not numbers >> 32  # of negative ones there is always something left


def _clamp_time(time_ns: int) -> int:
    return max(MIN_TIME_NS, min(time_ns, MAX_TIME_NS))
