"""Copying a tree of the host into an image (mkfs.vsfs -d).

Everything that an inode can hold comes along: modes, owners, times to the
nanosecond, extended attributes, hard links, symbolic links, devices, fifos, and holes as holes.
Names are taken in sorted order, so the same tree gives the same image.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from vsfs.filesystem import FileSystem
from vsfs.xattr import NAMESPACES

_COPY_SIZE: Final = 1 << 20  # bytes read from the host at a time
_PERMISSIONS: Final = 0o7777


class Populator:
    """Copies one host directory into the root directory of an empty filesystem.

    `fs` acts as root, with its umask 0.  With `stable_times` access times are
    those of the last modification, since reading the source changes them.
    `on_file` is called with each path before it is copied.
    """

    def __init__(
        self,
        fs: FileSystem,
        source: str | os.PathLike[str],
        *,
        stable_times: bool = False,
        on_file: Callable[[bytes], object] = lambda _path: None,
    ) -> None:
        self._fs = fs
        self._source = os.fsencode(source)
        self._stable_times = stable_times
        self._on_file = on_file
        self._linked: dict[tuple[int, int], bytes] = {}  # host (device, inode) -> our path

    def run(self) -> None:
        """Copy the tree; raises what reading the host or writing the image raises.

        Not made durable here.
        """
        self._fs.umask(0)
        self._directory(b"/", self._source)

    def _directory(self, path: bytes, source: bytes) -> None:
        before = os.lstat(source)
        with os.scandir(source) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            self._copy(os.path.join(path, name), os.path.join(source, name))
        self._attributes(path, source, before)  # last: adding names changed its times

    def _copy(self, path: bytes, source: bytes) -> None:
        self._on_file(source)
        status = os.lstat(source)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            self._fs.mkdir(path)
            self._directory(path, source)
            return
        first = self._linked.get((status.st_dev, status.st_ino))
        if first is not None:
            self._fs.link(first, path)
            return
        if status.st_nlink > 1:
            self._linked[status.st_dev, status.st_ino] = path
        if stat.S_ISREG(mode):
            self._contents(path, source)
        elif stat.S_ISLNK(mode):
            self._fs.symlink(os.readlink(source), path)
        else:
            self._fs.mknod(path, mode, status.st_rdev)
        self._attributes(path, source, status)

    def _contents(self, path: bytes, source: bytes) -> None:
        fs = self._fs
        fd = fs.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            with open(source, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                for start, end in _stretches(file.fileno(), size):
                    self._stretch(fd, file.fileno(), start, end)
                fs.ftruncate(fd, size)
        finally:
            fs.close(fd)

    def _stretch(self, fd: int, source: int, start: int, end: int) -> None:
        while start < end:
            content = os.pread(source, min(_COPY_SIZE, end - start), start)
            if not content:
                return  # the file became shorter while it was copied
            written = self._fs.pwrite(fd, content, start)
            start += written
            if written < len(content):  # the next write says why: no space
                self._fs.pwrite(fd, content[written:], start)

    def _extended_attributes(self, path: bytes, source: bytes) -> None:
        try:
            names = os.listxattr(source, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # the host's filesystem has none
                raise
            return
        for name in names:
            if os.fsencode(name).startswith(NAMESPACES):
                value = os.getxattr(source, name, follow_symlinks=False)
                self._fs.setxattr(path, name, value, follow_symlinks=False)

    def _attributes(self, path: bytes, source: bytes, status: os.stat_result) -> None:
        fs = self._fs
        fs.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            fs.chmod(path, status.st_mode & _PERMISSIONS)
        self._extended_attributes(path, source)
        atime = status.st_mtime_ns if self._stable_times else status.st_atime_ns
        fs.utime(path, ns=(atime, status.st_mtime_ns), follow_symlinks=False)


def _stretches(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a host file that are not holes: (start, end) in bytes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # only a hole up to the end
                raise
            return
        yield start, end
