"""fusepy's callbacks, with a short way for each request that comes often.

libfuse calls a C function for each request, and fusepy makes these functions out
of Python's.  Between the two and the adapter stand a partial, a wrapper, a method
that decodes the path, a second one for ``getattr``, ``Operations.__call__``, a dict
of attributes, and a loop that finds each field of a ``struct stat`` by its name: 15
to 20 us, more than the filesystem itself needs.

:class:`Callbacks` replaces them one by one.  A method here gets what libfuse passes
(paths as bytes, pointers) and goes straight to the adapter; a request that has none
here takes fusepy's way, which ends in the adapter's ``__call__``.  Both ways have
the same two duties, and :meth:`Callbacks._wrapper` has them for this one: an error
becomes an errno, and an unlink that waits is done first.

A callback returns 0 or a count, or None for 0.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from typing import Any, Final

import fuse

from vsfs.inode import Inode
from vsfs.layout import MODE_OF_TYPE
from vsfs.serving import CAPABILITY, ST_BLOCK, errno_of

_SECOND: Final = 10**9  # ns
_TIMES: Final = struct.Struct("@6l")  # atime, mtime, ctime of a struct stat
_TIMES_AT: Final = fuse.c_stat.st_atimespec.offset
#: libfuse's function for a name of a directory.  Made for each directory that is read
#: from the pointer that came, without types: to convert arguments would take longer
#: than the function itself, and it needs no other thread to run meanwhile.
_FILLER: Final = ctypes.PYFUNCTYPE(ctypes.c_int)
_SAME_ID: Final = fuse.c_uid_t(-1).value
_UTIME_NOW: Final = (1 << 30) - 1  # utimensat(2), in place of the nanoseconds
_UTIME_OMIT: Final = (1 << 30) - 2


class Callbacks(fuse.FUSE):  # type: ignore[misc]
    """What libfuse calls; ``self.operations`` is the :class:`FuseAdapter`."""

    def _wrapper(self, callback: Callable[..., Any], *arguments: Any) -> int:
        """Make a request's callback; the one place where errors become errnos.

        An exception that left here would reach the kernel as success.
        """
        try:
            # a rename sees for itself: it may belong to the unlink that waits
            operations = self.operations
            if operations.hidden.waiting is not None and callback.__name__ != "rename":
                operations.finish_unlink()
            return callback(*arguments) or 0
        except BaseException as error:
            return -errno_of(error, callback.__name__)

    # -- attributes -----------------------------------------------------------

    def getattr(self, path: bytes, target: Any) -> int:
        """stat(2), and the lookup of a name."""
        found = self.operations.find(path)
        if found is None:
            return -errno.ENOENT  # before each new name; an exception would take longer
        self._put_attributes(target.contents, *found)
        return 0

    def fgetattr(self, path: bytes | None, target: Any, info: Any) -> int:
        """fstat(2)."""
        handle = info.contents.fh
        if path is not None and not handle:
            return self.getattr(path, target)
        inode = self.operations.volume.files.get(handle).inode
        self._put_attributes(target.contents, inode, inode.nlink)
        return 0

    def _put_attributes(self, target: Any, inode: Inode, nlink: int) -> None:
        """Fill a ``struct stat``, which libfuse has zeroed."""
        block_size = self.operations.volume.geometry.block_size
        target.st_ino = inode.ino
        target.st_mode = inode.mode
        target.st_nlink = nlink
        target.st_uid = inode.uid
        target.st_gid = inode.gid
        target.st_rdev = inode.device
        target.st_size = inode.size
        target.st_blksize = block_size
        target.st_blocks = inode.blocks * (block_size // ST_BLOCK)
        _TIMES.pack_into(
            target,
            _TIMES_AT,
            *divmod(inode.atime_ns, _SECOND),
            *divmod(inode.mtime_ns, _SECOND),
            *divmod(inode.ctime_ns, _SECOND),
        )

    def getxattr(self, path: bytes, name: bytes, value: Any, size: int) -> int:
        """getxattr(2); the kernel asks for one of them before each write(2)."""
        found = self.operations.find(path)
        if found is None:
            return -errno.ENOENT
        inode, _ = found
        if name == CAPABILITY and not inode.attribute_block:
            return -errno.ENODATA  # as below, without an exception
        content = self.operations.volume.getxattr(inode.ino, name)
        if value:
            if len(content) > size:
                return -errno.ERANGE
            ctypes.memmove(value, content, len(content))
        return len(content)

    def chmod(self, path: bytes, mode: int) -> None:
        """chmod(2)."""
        self.operations.chmod(path, mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        """chown(2); the largest number is the -1 that leaves an id as it is."""
        ids = (-1 if number == _SAME_ID else number for number in (uid, gid))
        self.operations.chown(path, *ids)

    def utimens(self, path: bytes, times: Any) -> None:
        """utimensat(2): fusepy adds seconds and nanoseconds, and "now" is lost."""
        now = self.operations.volume.clock()
        atime = _time_or_none(times.contents.actime, now)
        mtime = _time_or_none(times.contents.modtime, now)
        self.operations.utimens(path, (atime, mtime))

    # -- names ----------------------------------------------------------------

    def mkdir(self, path: bytes, mode: int) -> None:
        """mkdir(2)."""
        self.operations.mkdir(path, mode)

    def unlink(self, path: bytes) -> None:
        """unlink(2)."""
        self.operations.unlink(path)

    def rmdir(self, path: bytes) -> None:
        """rmdir(2)."""
        self.operations.rmdir(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """rename(2); the unlink that waits may be of what it replaces."""
        self.operations.finish_unlink(renamed_over=new)
        self.operations.rename(old, new)

    # -- open files -----------------------------------------------------------

    def create(self, path: bytes, mode: int, info: Any) -> None:
        """open(2) with O_CREAT, of a name that is not there."""
        self.operations.create(path, mode, info.contents)

    def open(self, path: bytes, info: Any) -> None:
        """open(2)."""
        self.operations.open(path, info.contents)

    def read(self, _path: bytes | None, target: Any, size: int, offset: int, info: Any) -> int:
        """read(2), and the kernel's read-ahead."""
        content = self.operations.volume.read(info.contents.fh, size, offset)
        ctypes.memmove(target, content, len(content))
        return len(content)

    def write(self, _path: bytes | None, source: Any, size: int, offset: int, info: Any) -> int:
        """write(2), without a copy: nobody below keeps the bytes."""
        content = (ctypes.c_char * size).from_address(ctypes.addressof(source.contents))
        written: int = self.operations.write(None, memoryview(content), offset, info.contents)
        return written

    def release(self, _path: bytes | None, info: Any) -> None:
        """The last close of what one open(2) gave."""
        self.operations.release(None, info.contents)

    def opendir(self, path: bytes, info: Any) -> None:
        """opendir(3)."""
        info.contents.fh = self.operations.opendir(path)

    def releasedir(self, _path: bytes | None, info: Any) -> None:
        """closedir(3)."""
        self.operations.releasedir(None, info.contents.fh)

    def readdir(
        self, _path: bytes | None, buffer: Any, filler: Any, _offset: int, info: Any
    ) -> None:
        """readdir(3): all names at once; libfuse hands them out in pieces."""
        fill = _FILLER(ctypes.cast(filler, ctypes.c_void_p).value or 0)
        shown = fuse.c_stat()  # libfuse copies it
        target, address = ctypes.c_void_p(buffer), ctypes.c_void_p(ctypes.addressof(shown))
        offset, file_type = fuse.c_off_t(0), -1
        for name, entry in self.operations.readdir(None, info.contents.fh):
            shown.st_ino = entry.ino
            if entry.file_type != file_type:
                file_type = entry.file_type
                shown.st_mode = MODE_OF_TYPE.get(file_type, 0)
            if fill(target, name, address, offset):
                break


def _time_or_none(timespec: Any, now: int) -> int | None:
    if timespec.tv_nsec == _UTIME_OMIT:
        return None
    if timespec.tv_nsec == _UTIME_NOW:
        return now
    return int(timespec.tv_sec * _SECOND + timespec.tv_nsec)
