"""Everything that reads an image, used on one image to the last byte.

Each reader may answer with an OSError that has an errno, and with nothing else.
:class:`CountingDevice` tells how much work it was.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, Final

import vsfs
from tests.support.images import Clock
from vsfs import describe
from vsfs.describe_block import describe_block
from vsfs.describe_deleted import describe_deleted, describe_recovery, recovered
from vsfs.describe_diff import describe_diff
from vsfs.describe_fragments import describe_fragments
from vsfs.describe_layout import describe_image, describe_layout
from vsfs.describe_list import describe_list, describe_status
from vsfs.describe_owner import describe_names, describe_owner
from vsfs.describe_path import describe_path
from vsfs.describe_usage import describe_usage
from vsfs.describe_where import describe_where
from vsfs.device import Kind, MemoryDevice
from vsfs.errors import VsfsError
from vsfs.mkfs import require_unused
from vsfs.rawimage import RawImage

ROOT: Final = vsfs.Credentials(0, 0)
_PART: Final = 64 * 1024  # bytes read at a time
_PARTS: Final = 40  # of one file; more than any file in these images has data
_ENTRIES: Final = 5000  # names looked at; a tree that loops has endless ones


class CountingDevice(MemoryDevice):
    """Counts what is read; `limit` is the number of reads that are too many."""

    def __init__(self, image: bytes | bytearray, limit: int = 200_000) -> None:
        super().__init__(bytearray(image))
        self.reads = 0
        self.bytes_read = 0
        self.largest = 0
        self.limit = limit

    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        self.reads += 1
        self.bytes_read += size
        self.largest = max(self.largest, size)
        assert self.reads <= self.limit, "reads without end"
        return super().read(block_no, size, offset, kind, ino)


def tried(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What `call` gives, or its OSError; that one has an errno."""
    try:
        return call(*arguments, **options)
    except OSError as error:
        assert isinstance(error.errno, int), repr(error)
        assert error.errno > 0, repr(error)
        assert str(error), repr(error)
        return error


# -- the library -----------------------------------------------------------------


class Reading:
    """A mounted image read whole; `errors` are those met on the way, by path."""

    def __init__(self, fs: vsfs.FileSystem) -> None:
        self.fs = fs
        self.paths: dict[bytes, int] = {}
        self.errors: dict[bytes, OSError] = {}
        waiting, entered = [b"/"], set[int]()
        while waiting and len(self.paths) < _ENTRIES:
            path = waiting.pop()
            status = self.get(path, fs.lstat, path)
            if status is None:
                continue
            self.paths[path] = status.st_ino
            if stat.S_ISDIR(status.st_mode) and status.st_ino not in entered:
                entered.add(status.st_ino)
                names = self.get(path, fs.listdir, path) or []
                waiting += [path.rstrip(b"/") + b"/" + name for name in names[:_ENTRIES]]
            self.read(path, status.st_mode)

    def get(self, path: bytes, call: Callable[..., Any], *arguments: Any) -> Any:
        result = tried(call, *arguments)
        if isinstance(result, OSError):
            self.errors[path] = result
            return None
        return result

    def read(self, path: bytes, mode: int) -> None:
        """Contents and attributes of one file."""
        if stat.S_ISLNK(mode):
            self.get(path, self.fs.readlink, path)
            return
        if stat.S_ISREG(mode):
            self.get(path, self.read_data, path)
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            for name in self.get(path, self.fs.listxattr, path) or ():
                self.get(path, self.fs.getxattr, path, name)

    def read_data(self, path: bytes) -> None:
        """All of a file that is no hole; and around its ends, hole or not."""
        fs, fd = self.fs, self.fs.open(path, os.O_RDONLY)
        try:
            size = fs.fstat(fd).st_size
            fs.pread(fd, _PART, 0)
            fs.pread(fd, _PART, max(size - 10, 0))
            at = 0
            for _ in range(_PARTS):
                try:
                    at = fs.lseek(fd, at, os.SEEK_DATA)
                except OSError as error:
                    if error.errno != errno.ENXIO:
                        raise
                    return
                at += len(fs.pread(fd, _PART, at)) or 1
        finally:
            fs.close(fd)


def read_all(device: vsfs.BlockDevice) -> Reading:
    """Mount it for reading and read everything; raises OSError where it cannot be mounted."""
    fs = vsfs.FileSystem.open(device, read_only=True, credentials=ROOT, commit_interval=None)
    try:
        return Reading(fs)
    finally:
        fs.unmount()


def use(device: vsfs.BlockDevice) -> None:
    """Mount it for writing and change things, whatever the answers are."""
    fs = tried(vsfs.FileSystem.open, device, credentials=ROOT, commit_interval=None, clock=Clock())
    if isinstance(fs, OSError):
        return
    tried(fs.statvfs)
    paths = list(Reading(fs).paths)[:20]
    for number, path in enumerate(paths):
        renamed = b"/renamed-%d" % number
        tried(fs.setxattr, path, "user.a", b"b" * 100)
        tried(write, fs, path, b"x" * 3000, 1000 * number)
        tried(write, fs, path + b"/new", b"y" * 10_000)
        tried(fs.link, path, b"/link-%d" % number)
        tried(fs.rename, path, renamed)
        tried(fs.truncate, renamed, 700)
        tried(fs.mkdir, b"/directory-%d" % number)
        tried(fs.unlink, renamed)
        tried(fs.rmdir, renamed)
    tried(fs.sync)
    tried(fs.unmount)


def write(fs: vsfs.FileSystem, path: bytes, content: bytes, offset: int = 0) -> None:
    fd = fs.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fs.pwrite(fd, content, offset)
    finally:
        fs.close(fd)


# -- vsfs-inspect ------------------------------------------------------------------


def described(device: vsfs.BlockDevice) -> int:
    """Describe everything that vsfs-inspect can; how many values that gave."""
    image = tried(RawImage, device)
    if isinstance(image, OSError):
        tried(describe.describe_raw_superblock, device, str(image))
        return 0
    count = 0
    for describe_it in (
        describe.describe_superblock,
        lambda image: describe_layout(image, owners=True),
        describe.describe_tree,
        describe_fragments,
        describe_image,
        lambda image: describe_path(image, b"/dir/sub/leaf"),
        describe_usage,
        describe_deleted,
        lambda image: describe.describe_bitmap(image, "inode"),
        lambda image: describe.describe_bitmap(image, "data"),
    ):
        count += _count(tried(_drained, describe_it, image))
    for ino in _some(image.geometry.inode_count, 25):
        for describe_one in (
            describe.describe_inode,
            describe.describe_directory,
            describe.describe_file,
            describe_fragments,
            describe_names,
            describe_status,
            lambda image, ino: describe_list(image, ino, deleted=True),
            describe_recovery,
            lambda image, ino: {"parts": (content.hex() for _, content in recovered(image, ino))},
            lambda image, ino: describe_where(image, ino, 5000 * ino),
        ):
            count += _count(tried(_drained, describe_one, image, ino))
    for block in _some(image.geometry.block_count, 16):
        count += _count(tried(_drained, describe_block, image, block))
        count += _count(tried(_drained, describe_owner, image, block))
    return count + _compared(device, image)


def _compared(device: vsfs.BlockDevice, image: RawImage) -> int:
    """The difference of the image and one with the same superblock and no sense behind it."""
    head = image.geometry.block_size
    data = device.read(0, device.size)
    other = tried(RawImage, MemoryDevice(bytearray(data[:head] + data[head:][::-1])))
    if isinstance(other, OSError):
        return 0
    return _count(tried(_drained, describe_diff, other, image))


def _some(count: int, most: int) -> Iterator[int]:
    """All numbers below `count`, or the first ones and the last."""
    yield from range(min(count, most))
    yield from {max(count - 1, 0), count, 2**32 - 1}


def _drained(call: Callable[..., Any], *arguments: Any) -> Any:
    """The values with every iterator in them read to its end."""
    return _plain(call(*arguments))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Iterator):
        return [_plain(item) for _, item in zip(range(_ENTRIES), value, strict=False)]
    return value


def _count(value: Any) -> int:
    return 0 if isinstance(value, OSError) else len(json.dumps(value))


# -- mkfs ----------------------------------------------------------------------------


def refused_by_mkfs(device: vsfs.BlockDevice) -> None:
    """What mkfs.vsfs without -F looks at."""
    error = tried(require_unused, device, "image")
    assert error is None or isinstance(error, VsfsError)
