"""System calls by descriptor: open, read, write, lseek, dup, close (OSTEP 39.3 to 39.7).

The half of :class:`~vsfs.filesystem.FileSystem` that goes through the tables of
``process`` and ``openfiles``; the half by path stands there.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from vsfs.device import BytesLike
from vsfs.errors import posix_error
from vsfs.inode import Inode
from vsfs.openfiles import O_NOATIME, OpenFile
from vsfs.process import Process, system_call
from vsfs.results import stat_result
from vsfs.volume import Volume
from vsfs.walk import Credentials, Place, StrPath, Walker

SET_ID: Final = stat.S_ISUID | stat.S_ISGID


class FileCalls:
    """The calls of one process, its `process`, on `volume`."""

    def __init__(self, volume: Volume, process: Process) -> None:
        self.volume = volume
        self.process = process
        self._walker: Walker = process.walker

    @property
    def credentials(self) -> Credentials:
        """The user who makes the calls."""
        return self.process.credentials

    @system_call
    def open_file(self, path: StrPath, flags: int, mode: int = 0o777) -> int:
        """os.open: a descriptor, the lowest that is free.

        Regular files and directories can be opened; ENXIO for anything else, EMFILE
        when the process has all its descriptors in use.  Unlike in ``os``, and as in
        open(2), a descriptor stays open in execve unless `flags` have O_CLOEXEC.
        """
        self.process.lowest_free()  # before a file is made that nobody could use
        inode, created = self._find_or_create(path, flags, mode)
        if not created:
            self._check_open(inode, path, flags)
        if flags & os.O_TRUNC and inode.is_regular and not created:
            self._resize(inode, 0)
        file = self.volume.open(inode.ino, flags)
        return self.process.install(file, close_on_exec=bool(flags & os.O_CLOEXEC))

    def _find_or_create(self, path: StrPath, flags: int, mode: int) -> tuple[Inode, bool]:
        follow = not flags & os.O_NOFOLLOW
        if not flags & os.O_CREAT:
            return self._walker.find(path, follow=follow), False
        place = self._walker.place(path, follow=follow and not flags & os.O_EXCL)
        if place.wants_directory and place.name not in (b".", b".."):
            raise posix_error(errno.EISDIR, place.path)
        if place.inode is not None:
            if flags & os.O_EXCL:
                raise posix_error(errno.EEXIST, place.path)
            return place.inode, False
        self._walker.require_change(place)
        permissions = stat.S_IMODE(mode) & ~self.process.umask
        return self._make(place, stat.S_IFREG | permissions), True

    def _check_open(self, inode: Inode, path: StrPath, flags: int) -> None:
        writing = flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC
        name = os.fspath(path)
        if flags & os.O_DIRECTORY and not inode.is_directory:
            raise posix_error(errno.ENOTDIR, name)
        if inode.is_symlink:
            raise posix_error(errno.ELOOP, name)
        if inode.is_directory and (writing or flags & os.O_CREAT):
            raise posix_error(errno.EISDIR, name)
        if not (inode.is_directory or inode.is_regular):
            raise posix_error(errno.ENXIO, name)
        wanted = os.W_OK if writing else 0
        if flags & os.O_ACCMODE != os.O_WRONLY:
            wanted |= os.R_OK
        self._walker.require(inode, wanted, name)
        if writing and self.volume.read_only:
            raise posix_error(errno.EROFS, name)
        if flags & O_NOATIME:
            self._walker.require_owner(inode, name)

    def _make(self, place: Place, mode: int, device: int = 0) -> Inode:
        user = self.credentials
        group_program = stat.S_ISGID | stat.S_IXGRP
        if (
            mode & group_program == group_program
            and place.parent.mode & stat.S_ISGID
            and not self._is_in_group_of(place.parent)
        ):
            mode &= ~stat.S_ISGID  # the file gets the directory's group, which is not the user's
        return self.volume.mknod(place.parent.ino, place.name, mode, user.uid, user.gid, device)

    @system_call
    def close(self, fd: int) -> None:
        """os.close."""
        self.process.close(fd)

    @system_call
    def dup(self, fd: int, /) -> int:
        """os.dup: a second descriptor for the same entry, and so for its offset.

        Unlike that of ``os``, and as in dup(2), it stays open in execve.
        """
        return self.process.dup(fd)

    @system_call
    def dup2(self, fd: int, fd2: int, inheritable: bool = True) -> int:
        """os.dup2: `fd2` becomes a second descriptor for the entry of `fd`."""
        new = self.process.dup2(fd, fd2)
        if not inheritable and new != fd:
            self.process.set_inheritable(new, inheritable=False)
        return new

    @system_call
    def get_inheritable(self, fd: int, /) -> bool:
        """os.get_inheritable: whether it stays open in execve."""
        return self.process.is_inheritable(fd)

    @system_call
    def set_inheritable(self, fd: int, inheritable: bool, /) -> None:
        """os.set_inheritable."""
        self.process.set_inheritable(fd, inheritable=inheritable)

    def _file(self, fd: int) -> OpenFile:
        return self.process.file(fd)

    def _file_for(self, fd: int, *, writing: bool) -> OpenFile:
        file = self._file(fd)
        if not (file.writable if writing else file.readable):
            raise posix_error(errno.EBADF)
        return file

    @system_call
    def read(self, fd: int, n: int, /) -> bytes:
        """os.read: up to `n` bytes at the descriptor's offset, which moves on."""
        file = self._file_for(fd, writing=False)
        content = self.pread(fd, n, file.offset)
        file.offset += len(content)
        return content

    @system_call
    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        """os.pread: up to `n` bytes at `offset`; the descriptor's offset stays."""
        file = self._file_for(fd, writing=False)
        if n < 0 or offset < 0:
            raise posix_error(errno.EINVAL)
        return self.volume.read(file.handle, n, offset)

    @system_call
    def write(self, fd: int, content: BytesLike, /) -> int:
        """os.write: at the descriptor's offset, or at the end with O_APPEND."""
        file = self._file_for(fd, writing=True)
        if not file.flags & os.O_APPEND:
            written = self.pwrite(fd, content, file.offset)
            file.offset += written
            return written
        written, file.offset = self.volume.append(file.handle, content)
        self._clear_set_id(file.inode, written)
        return written

    @system_call
    def pwrite(self, fd: int, content: BytesLike, offset: int, /) -> int:
        """os.pwrite: at `offset`; with O_APPEND at the end, as on Linux."""
        file = self._file_for(fd, writing=True)
        if offset < 0:
            raise posix_error(errno.EINVAL)
        if file.flags & os.O_APPEND:
            written, _ = self.volume.append(file.handle, content)
        else:
            written = self.volume.write(file.handle, content, offset)
        self._clear_set_id(file.inode, written)
        return written

    def _clear_set_id(self, inode: Inode, written: int) -> None:
        """A write by a user takes set-user-ID and set-group-ID away."""
        if written and inode.mode & SET_ID and not self.credentials.is_root:
            self.volume.setattr(inode.ino, mode=self._without_set_id(inode))

    def _without_set_id(self, inode: Inode) -> int:
        """The mode of a file that a user has changed."""
        mode = inode.mode & ~stat.S_ISUID
        # without the execute bit it means mandatory locking, not a group to run as
        if mode & stat.S_IXGRP or not self._is_in_group_of(inode):
            mode &= ~stat.S_ISGID
        return mode

    def _is_in_group_of(self, inode: Inode) -> bool:
        return self.credentials.is_root or self.credentials.in_group(inode.gid)

    @system_call
    def lseek(self, fd: int, position: int, whence: int, /) -> int:
        """os.lseek: move the descriptor's offset; return the new one.

        SEEK_DATA and SEEK_HOLE find the next byte that is in no hole, or in one.
        """
        file = self._file(fd)
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            file.offset = self.volume.seek(file.handle, position, hole=whence == os.SEEK_HOLE)
            return file.offset
        base = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: file.offset,
            os.SEEK_END: file.inode.size,
        }.get(whence)
        if base is None or base + position < 0:
            raise posix_error(errno.EINVAL)
        file.offset = base + position
        return file.offset

    def _stat(self, inode: Inode) -> os.stat_result:
        return stat_result(inode, self.volume.geometry.block_size)

    @system_call
    def fstat(self, fd: int) -> os.stat_result:
        """os.fstat."""
        return self._stat(self._file(fd).inode)

    @system_call
    def ftruncate(self, fd: int, length: int, /) -> None:
        """os.ftruncate."""
        file = self._file(fd)
        if not file.writable or length < 0 or not file.inode.is_regular:
            raise posix_error(errno.EINVAL)
        self._resize(file.inode, length)

    def _resize(self, inode: Inode, size: int) -> None:
        changed = inode.mode & SET_ID and not self.credentials.is_root
        mode = self._without_set_id(inode) if changed else None
        self.volume.setattr(inode.ino, size=size, mode=mode)

    @system_call
    def fsync(self, fd: int) -> None:
        """os.fsync: durable when this returns."""
        self.volume.fsync(self._file(fd).handle)

    @system_call
    def fdatasync(self, fd: int) -> None:
        """os.fdatasync: as fsync."""
        self.volume.fsync(self._file(fd).handle)
