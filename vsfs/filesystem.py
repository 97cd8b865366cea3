"""The file system interface: the calls of Python's ``os``, on an image.

The top of the library (OSTEP 39): paths, descriptors, permissions.  Every method
has the name, the arguments, the result and the errors of the function in ``os``,
so there is nothing new to learn::

    with vsfs.FileSystem.open("disk.img") as fs:
        fs.mkdir("/foo")
        fd = fs.open("/foo/bar", os.O_CREAT | os.O_RDWR)
        fs.write(fd, b"hi")
        fs.close(fd)

Paths are str or bytes; a relative one starts at the current directory, which is
the root at first.  Nothing here needs root or FUSE.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Iterable
from fractions import Fraction
from types import TracebackType
from typing import Any, Final, Protocol, overload

from vsfs.device import BlockDevice, FileDevice
from vsfs.directory import Entry
from vsfs.errors import Corrupt, posix_error
from vsfs.filecalls import SET_ID, FileCalls
from vsfs.inode import Inode
from vsfs.layout import MODE_OF_TYPE, NAME_MAX, ROOT_INO
from vsfs.process import Process, ProcessTable, system_call
from vsfs.results import DirEntry, ScandirIterator
from vsfs.volume import Volume
from vsfs.walk import Credentials, StrPath

#: Flags of setxattr(2), for systems where ``os`` does not have them.
_XATTR_CREATE: Final = getattr(os, "XATTR_CREATE", 1)
_XATTR_REPLACE: Final = getattr(os, "XATTR_REPLACE", 2)


class _OpenImage(Protocol):
    def __call__(
        self,
        image: str | os.PathLike[str] | BlockDevice,
        *,
        read_only: bool = False,
        credentials: Credentials | None = None,
        **options: Any,
    ) -> FileSystem: ...


class _OpenFile(Protocol):
    def __call__(self, path: StrPath, flags: int, mode: int = 0o777) -> int: ...


class _Open:
    """`FileSystem.open(image)` opens an image; `fs.open(path, flags)` a file in it.

    Both are what one expects to be called `open`: on the class there is no
    filesystem yet, on an instance there is.
    """

    @overload
    def __get__(self, fs: None, owner: type[FileSystem]) -> _OpenImage: ...
    @overload
    def __get__(self, fs: FileSystem, owner: type[FileSystem]) -> _OpenFile: ...
    def __get__(self, fs: FileSystem | None, owner: type[FileSystem]) -> _OpenImage | _OpenFile:
        return owner.open_image if fs is None else fs.open_file


class FileSystem(FileCalls):
    """A filesystem in an image, as one process sees it.

    The process has a current directory, descriptors and a user: at first
    `credentials`, or else those of the process that runs this.  :meth:`fork` makes
    more of them on the same volume, each with a ``FileSystem`` of its own.
    """

    open = _Open()

    def __init__(
        self,
        volume: Volume,
        credentials: Credentials | None = None,
        *,
        process: Process | None = None,
    ) -> None:
        """See `volume` as `process` does, or as a first process of its own."""
        if process is None:
            process = ProcessTable().add(volume, credentials or Credentials.of_process())
        super().__init__(volume, process)

    @classmethod
    def open_image(
        cls,
        image: str | os.PathLike[str] | BlockDevice,
        *,
        read_only: bool = False,
        credentials: Credentials | None = None,
        **options: Any,
    ) -> FileSystem:
        """Open the filesystem in `image`; also callable as ``FileSystem.open``.

        `options` are those of :class:`~vsfs.volume.Volume`.  Raises NotVsfs,
        Corrupt, UnknownFeature, ImageBusy, or what ``os.open`` raises.
        """
        device = image if isinstance(image, BlockDevice) else FileDevice(image, read_only=read_only)
        try:
            return cls(Volume(device, read_only=read_only, **options), credentials)
        except BaseException:
            device.close()
            raise

    def unmount(self) -> None:
        """Close all descriptors, make everything durable, and let go of the image."""
        with self.volume.lock:
            for process in self.process.table:
                process.forget(release=False)
            self.volume.close()

    def __enter__(self) -> FileSystem:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.unmount()

    @system_call
    def sync(self) -> None:
        """os.sync: everything is durable when this returns."""
        self.volume.sync()

    # -- looking --------------------------------------------------------------

    @system_call
    def stat(self, path: StrPath | int, *, follow_symlinks: bool = True) -> os.stat_result:
        """os.stat."""
        if isinstance(path, int):
            return self.fstat(path)
        return self._stat(self._walker.find(path, follow=follow_symlinks))

    @system_call
    def lstat(self, path: StrPath) -> os.stat_result:
        """os.lstat."""
        return self.stat(path, follow_symlinks=False)

    @system_call
    def access(self, path: StrPath, mode: int, *, follow_symlinks: bool = True) -> bool:
        """os.access: whether this user may do `mode` (F_OK, R_OK, W_OK, X_OK)."""
        try:
            inode = self._walker.find(path, follow=follow_symlinks)
            self._walker.require(inode, mode, os.fspath(path))
        except OSError:
            return False
        return not (mode & os.W_OK and self.volume.read_only)

    def exists(self, path: StrPath) -> bool:
        """os.path.exists."""
        return self.access(path, os.F_OK)

    @overload
    def listdir(self, path: bytes | os.PathLike[bytes]) -> list[bytes]: ...
    @overload
    def listdir(self, path: str | os.PathLike[str] = ".") -> list[str]: ...
    @system_call
    def listdir(self, path: StrPath = ".") -> list[str] | list[bytes]:
        """os.listdir: the names, without `.` and `..`."""
        names = [name for name, _ in self._list(path)]
        if isinstance(os.fspath(path), bytes):
            return names
        return [os.fsdecode(name) for name in names]

    @overload
    def scandir(self, path: bytes | os.PathLike[bytes]) -> ScandirIterator[bytes]: ...
    @overload
    def scandir(self, path: str | os.PathLike[str] = ".") -> ScandirIterator[str]: ...
    @system_call
    def scandir(self, path: StrPath = ".") -> ScandirIterator[str] | ScandirIterator[bytes]:
        """os.scandir: an iterator of entries, without `.` and `..`."""
        directory = os.fspath(path)
        listed = [
            (name, entry.ino, MODE_OF_TYPE.get(entry.file_type, 0))
            for name, entry in self._list(path)
        ]
        if isinstance(directory, bytes):
            return ScandirIterator(
                DirEntry(self.stat, directory, name, ino, mode) for name, ino, mode in listed
            )
        return ScandirIterator(
            DirEntry(self.stat, directory, os.fsdecode(name), ino, mode)
            for name, ino, mode in listed
        )

    def _list(self, path: StrPath) -> list[tuple[bytes, Entry]]:
        inode = self._walker.find(path)
        if not inode.is_directory:
            raise posix_error(errno.ENOTDIR, os.fspath(path))
        self._walker.require(inode, os.R_OK, os.fspath(path))
        return [item for item in self.volume.readdir(inode.ino) if item[0] not in (b".", b"..")]

    @overload
    def readlink(self, path: bytes | os.PathLike[bytes]) -> bytes: ...
    @overload
    def readlink(self, path: str | os.PathLike[str]) -> str: ...
    @system_call
    def readlink(self, path: StrPath) -> str | bytes:
        """os.readlink."""
        inode = self._walker.find(path, follow=False)
        if not inode.is_symlink:
            raise posix_error(errno.EINVAL, os.fspath(path))
        target = self.volume.readlink(inode.ino)
        return target if isinstance(os.fspath(path), bytes) else os.fsdecode(target)

    @system_call
    def statvfs(self, path: StrPath = "/") -> os.statvfs_result:
        """os.statvfs."""
        self._walker.find(path)
        counts = self.volume.statistics()
        free, inodes = counts.free_blocks, counts.free_inodes
        flags = os.ST_RDONLY if self.volume.read_only else 0
        return os.statvfs_result(
            (
                counts.block_size,
                counts.block_size,
                counts.blocks,
                free,
                free,
                counts.inodes,
                inodes,
                inodes,
                flags,
                NAME_MAX,
            )
        )

    # -- current directory and umask -------------------------------------------

    @system_call
    def chdir(self, path: StrPath) -> None:
        """os.chdir."""
        self._enter(self._walker.find(path), os.fspath(path))

    @system_call
    def fchdir(self, fd: int) -> None:
        """os.fchdir."""
        self._enter(self._file(fd).inode, None)

    def _enter(self, inode: Inode, path: str | bytes | None) -> None:
        if not inode.is_directory:
            raise posix_error(errno.ENOTDIR, path)
        self._walker.require(inode, os.X_OK, path)
        self.process.chdir(inode)

    @system_call
    def getcwd(self) -> str:
        """os.getcwd: found through the `..` entries, as getcwd(3) once did.

        Raises ENOENT if it was removed.
        """
        names: dict[int, bytes] = {}  # of each directory on the way up
        ino = self._walker.current
        while ino != ROOT_INO:
            parent = self.volume.lookup(ino, b"..").ino
            listed = self.volume.readdir(parent)
            name = next((name for name, entry in listed if entry.ino == ino), None)
            if name is None or ino in names:
                block, offset = self.volume.geometry.inode_location(ino)
                raise Corrupt(f"directory {ino}", block, offset, "a wrong '..'", "a way to /")
            names[ino] = name
            ino = parent
        return "/" + os.fsdecode(b"/".join(reversed(names.values())))

    @system_call
    def umask(self, mask: int, /) -> int:
        """os.umask: set it, return the old one."""
        old, self.process.umask = self.process.umask, mask & 0o777
        return old

    # -- the process ----------------------------------------------------------

    @system_call
    def getpid(self) -> int:
        """os.getpid."""
        return self.process.pid

    @system_call
    def fork(self) -> FileSystem:
        """The filesystem as a child sees it: same descriptors, same open file entries.

        There is nothing to run, so unlike os.fork it returns once, with the child,
        whose pid is that of its ``process``.
        """
        return FileSystem(self.volume, process=self.process.fork())

    @system_call
    def execve(self, path: StrPath) -> None:
        """os.execve, as far as a filesystem sees it: nothing runs.

        Descriptors that are close-on-exec are closed, set-user-ID and set-group-ID
        take effect.  Raises EACCES for what is no program that the user may run.
        """
        inode = self._walker.find(path)
        if not inode.is_regular:
            raise posix_error(errno.EACCES, os.fspath(path))
        self._walker.require(inode, os.X_OK, os.fspath(path))
        self.process.execve(inode)

    @system_call
    def exit(self) -> None:
        """os._exit: close everything; no call can be made after it."""
        self.process.exit()

    @system_call
    def setuid(self, uid: int, /) -> None:
        """os.setuid: root becomes another user, and cannot go back."""
        self.process.set_user(uid=uid)

    @system_call
    def setgid(self, gid: int, /) -> None:
        """os.setgid."""
        self.process.set_user(gid=gid)

    @system_call
    def setgroups(self, groups: Iterable[int], /) -> None:
        """os.setgroups."""
        self.process.set_user(groups=frozenset(groups))

    # -- names ----------------------------------------------------------------

    @system_call
    def mkdir(self, path: StrPath, mode: int = 0o777) -> None:
        """os.mkdir."""
        place = self._walker.new_place(path, directory=True)
        permissions = stat.S_IMODE(mode) & 0o1777 & ~self.process.umask
        user = self.credentials
        self.volume.mkdir(place.parent.ino, place.name, permissions, user.uid, user.gid)

    def makedirs(self, name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        """os.makedirs: make `name` and the directories above it."""
        parent = os.path.dirname(name.rstrip("/"))
        if parent.strip("/") and not self.exists(parent):
            self.makedirs(parent, exist_ok=True)
        try:
            self.mkdir(name, mode)
        except FileExistsError:
            if not (exist_ok and stat.S_ISDIR(self.stat(name).st_mode)):
                raise

    @system_call
    def mknod(self, path: StrPath, mode: int = 0o600, device: int = 0) -> None:
        """os.mknod: a file, fifo, socket, or (root only) device."""
        if not stat.S_IFMT(mode):
            mode |= stat.S_IFREG
        place = self._walker.new_place(path)
        if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not self.credentials.is_root:
            raise posix_error(errno.EPERM, os.fspath(path))
        self._make(place, mode & ~self.process.umask, device)

    @system_call
    def mkfifo(self, path: StrPath, mode: int = 0o666) -> None:
        """os.mkfifo."""
        self.mknod(path, stat.S_IFIFO | stat.S_IMODE(mode))

    @system_call
    def symlink(self, src: StrPath, dst: StrPath, target_is_directory: bool = False) -> None:
        """os.symlink: make `dst` a symbolic link to `src`."""
        target = os.fsencode(src)
        if not target:
            raise posix_error(errno.ENOENT, os.fspath(src))
        if b"\0" in target:
            raise ValueError("embedded null byte")  # as os does
        place = self._walker.new_place(dst)
        user = self.credentials
        self.volume.symlink(place.parent.ino, place.name, target, user.uid, user.gid)

    @system_call
    def link(self, src: StrPath, dst: StrPath, *, follow_symlinks: bool = False) -> None:
        """os.link: give `src` the further name `dst`.

        A symbolic link `src` is itself linked, as Linux does, unless followed.
        """
        inode = self._walker.find(src, follow=follow_symlinks)
        place = self._walker.new_place(dst)
        if inode.is_directory:
            raise posix_error(errno.EPERM, os.fspath(src))
        self.volume.link(inode.ino, place.parent.ino, place.name)

    @system_call
    def unlink(self, path: StrPath) -> None:
        """os.unlink."""
        place = self._walker.existing_place(path)
        self._walker.require_removal(place)
        if place.inode is not None and place.inode.is_directory:
            raise posix_error(errno.EISDIR, place.path)
        if place.wants_directory:
            raise posix_error(errno.ENOTDIR, place.path)
        self.volume.unlink(place.parent.ino, place.name)

    remove = unlink

    @system_call
    def rmdir(self, path: StrPath) -> None:
        """os.rmdir."""
        place = self._walker.existing_place(path)
        if place.inode is not None and place.inode.ino == ROOT_INO:
            raise posix_error(errno.EBUSY, place.path)
        if place.name not in (b".", b".."):
            self._walker.require_removal(place)
        self.volume.rmdir(place.parent.ino, place.name)

    @system_call
    def rename(self, src: StrPath, dst: StrPath) -> None:
        """os.rename: move `src` to `dst`, replacing what is there."""
        old = self._walker.place(src, follow=False)
        new = self._walker.place(dst, follow=False)
        self._walker.check_rename(old, new)
        self.volume.rename(old.parent.ino, old.name, new.parent.ino, new.name)

    replace = rename

    # -- attributes -----------------------------------------------------------

    def _for_change(self, path: StrPath | int, follow_symlinks: bool) -> Inode:
        if isinstance(path, int):
            return self._file(path).inode
        return self._walker.find(path, follow=follow_symlinks)

    @system_call
    def chmod(self, path: StrPath | int, mode: int, *, follow_symlinks: bool = True) -> None:
        """os.chmod: by the owner or root."""
        inode = self._for_change(path, follow_symlinks)
        if inode.is_symlink:
            raise posix_error(errno.EOPNOTSUPP, _name(path))
        self._walker.require_owner(inode, _name(path))
        if not self._is_in_group_of(inode):
            mode &= ~stat.S_ISGID
        self.volume.setattr(inode.ino, mode=mode)

    @system_call
    def chown(
        self, path: StrPath | int, uid: int, gid: int, *, follow_symlinks: bool = True
    ) -> None:
        """os.chown: -1 leaves an id as it is; only root gives files away."""
        inode = self._for_change(path, follow_symlinks)
        user = self.credentials
        new_uid = None if uid == -1 else uid
        new_gid = None if gid == -1 else gid
        owner = inode.uid == user.uid
        if not user.is_root and not (
            (new_uid is None or (owner and uid == inode.uid))
            and (new_gid is None or (owner and (gid == inode.gid or user.in_group(gid))))
        ):
            raise posix_error(errno.EPERM, _name(path))
        changed = inode.mode & SET_ID and not inode.is_directory
        mode = self._without_set_id(inode) if changed else None
        self.volume.setattr(inode.ino, mode=mode, uid=new_uid, gid=new_gid)

    @system_call
    def lchown(self, path: StrPath, uid: int, gid: int) -> None:
        """os.lchown."""
        self.chown(path, uid, gid, follow_symlinks=False)

    @system_call
    def truncate(self, path: StrPath | int, length: int) -> None:
        """os.truncate."""
        if isinstance(path, int):
            self.ftruncate(path, length)
            return
        if length < 0:
            raise posix_error(errno.EINVAL, os.fspath(path))
        inode = self._walker.find(path)
        if inode.is_directory:
            raise posix_error(errno.EISDIR, os.fspath(path))
        self._walker.require(inode, os.W_OK, os.fspath(path))
        self._resize(inode, length)

    @system_call
    def utime(
        self,
        path: StrPath | int,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """os.utime: set access and modification time, to now if none are given."""
        if times is not None and ns is not None:
            raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
        inode = self._for_change(path, follow_symlinks)
        if times is None and ns is None:
            if not self.credentials.owns(inode):
                self._walker.require(inode, os.W_OK, _name(path))
            ns = (self.volume.clock(),) * 2
        else:
            self._walker.require_owner(inode, _name(path))
        if ns is None:
            assert times is not None
            ns = (_nanoseconds(times[0]), _nanoseconds(times[1]))
        self.volume.setattr(inode.ino, atime_ns=ns[0], mtime_ns=ns[1])

    # -- extended attributes ------------------------------------------------------

    @system_call
    def getxattr(
        self, path: StrPath | int, attribute: str | bytes, *, follow_symlinks: bool = True
    ) -> bytes:
        """os.getxattr."""
        name = os.fsencode(attribute)
        inode = self._for_xattr(path, name, os.R_OK, follow_symlinks)
        return self.volume.getxattr(inode.ino, name)

    @system_call
    def setxattr(
        self,
        path: StrPath | int,
        attribute: str | bytes,
        value: bytes,
        flags: int = 0,
        *,
        follow_symlinks: bool = True,
    ) -> None:
        """os.setxattr: `flags` are os.XATTR_CREATE and os.XATTR_REPLACE."""
        name = os.fsencode(attribute)
        inode = self._for_xattr(path, name, os.W_OK, follow_symlinks)
        self.volume.setxattr(
            inode.ino,
            name,
            bytes(value),
            create=bool(flags & _XATTR_CREATE),
            replace=bool(flags & _XATTR_REPLACE),
        )

    @system_call
    def removexattr(
        self, path: StrPath | int, attribute: str | bytes, *, follow_symlinks: bool = True
    ) -> None:
        """os.removexattr."""
        name = os.fsencode(attribute)
        inode = self._for_xattr(path, name, os.W_OK, follow_symlinks)
        self.volume.removexattr(inode.ino, name)

    @system_call
    def listxattr(self, path: StrPath | int = "/", *, follow_symlinks: bool = True) -> list[str]:
        """os.listxattr: the names; `trusted.` ones for root only."""
        inode = self._for_change(path, follow_symlinks)
        return [
            os.fsdecode(name)
            for name in self.volume.listxattr(inode.ino)
            if self.credentials.is_root or not name.startswith(b"trusted.")
        ]

    def _for_xattr(
        self, path: StrPath | int, name: bytes, wanted: int, follow_symlinks: bool
    ) -> Inode:
        """The inode at `path`, if this user may use its attribute so (xattr(7)).

        Raises EPERM or ENODATA, EACCES.
        """
        inode = self._for_change(path, follow_symlinks)
        changing = wanted == os.W_OK
        if name.startswith(b"trusted.") and not self.credentials.is_root:
            raise posix_error(errno.EPERM if changing else errno.ENODATA, _name(path))
        if name.startswith(b"security.") and changing and not self.credentials.is_root:
            raise posix_error(errno.EPERM, _name(path))
        if name.startswith(b"user."):
            if not (inode.is_regular or inode.is_directory):
                raise posix_error(errno.EPERM if changing else errno.ENODATA, _name(path))
            if changing and inode.is_directory and inode.mode & stat.S_ISVTX:
                self._walker.require_owner(inode, _name(path))
            self._walker.require(inode, wanted, _name(path))
        return inode


def _nanoseconds(seconds: float) -> int:
    """Seconds in ns, rounded down as os.utime does; a float's product would be inexact."""
    return math.floor(Fraction(seconds) * 10**9)


def _name(path: StrPath | int) -> str | bytes | None:
    return None if isinstance(path, int) else os.fspath(path)
