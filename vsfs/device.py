"""Devices: an image as numbered blocks, and nothing more (OSTEP 37, 40.2).

Everything above reads and writes through :class:`BlockDevice`.  A *write* is
accepted in any order by the disk below; only a *barrier* promises that all
writes before it are durable before any write after it.

Each access says which `kind` of block it touches and for which inode, so that a
wrapper can tell the story of a system call as OSTEP's figures 40.3 and 40.4 do.
Wrappers are devices, too: they record, or fail on purpose.
"""

from __future__ import annotations

import abc
import enum
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vsfs.errors import posix_error
from vsfs.lock import lock_image

_INITIAL_BLOCK_SIZE: Final = 512  # until the superblock says better

BytesLike = bytes | bytearray | memoryview


class Kind(enum.IntEnum):
    """What a block holds, as far as the one who accesses it knows."""

    SUPERBLOCK = 0
    INODE_BITMAP = 1
    DATA_BITMAP = 2
    INODE_TABLE = 3
    DIRECTORY = 4
    INDIRECT = 5
    ATTRIBUTE = 6
    DATA = 7
    JOURNAL = 8

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.name.lower().replace("_", " ")


class BlockDevice(abc.ABC):
    """Blocks numbered from 0, each of `block_size` bytes.

    `offset` and sizes are bytes; an access may start inside a block and run over
    as many blocks as it likes, since one large access beats many small ones.
    """

    block_size: int = _INITIAL_BLOCK_SIZE
    read_only: bool = False

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Bytes on the device."""

    @abc.abstractmethod
    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        """`size` bytes from byte `offset` of block `block_no` on.

        Raises EIO when the device ends before.
        """

    def next_data(self, start: int) -> int:
        """The first byte from byte `start` on that is not in a hole of the host's file.

        Bytes before it are zeroes; the device's size where only they follow.
        """
        return start

    @abc.abstractmethod
    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        """Write `content` from byte `offset` of block `block_no` on.

        Durable after the next barrier.  Raises EIO past the end of the device.
        """

    @abc.abstractmethod
    def barrier(self) -> None:
        """Return when every write so far is durable; raises EIO."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the device; no barrier."""


class FileDevice(BlockDevice):
    """An image file, or a block device such as /dev/loop0."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        """Open `path` and, for writing, take its lock.

        Raises OSError as ``os.open`` does, EISDIR or EINVAL for what cannot hold
        blocks, ImageBusy (EBUSY) for an image in use.
        """
        self.path = os.fspath(path)
        self.read_only = read_only
        # O_NONBLOCK: opening a fifo must fail below, not wait for a writer
        mode = os.O_RDONLY if read_only else os.O_RDWR
        self._fd = os.open(self.path, mode | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _require_blocks(self._fd, self.path)
            if not read_only:
                lock_image(self._fd, self.path, exclusive=True)
            # a block device has st_size 0, but its end can be sought
            self._size = os.lseek(self._fd, 0, os.SEEK_END)
        except BaseException:
            os.close(self._fd)
            raise

    def lock_shared(self) -> None:
        """Keep writers away from now on; for a read-only mount."""
        lock_image(self._fd, self.path, exclusive=False)

    @property
    def size(self) -> int:
        return self._size

    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        content = os.pread(self._fd, size, block_no * self.block_size + offset)
        if len(content) != size:
            return self._read_rest(block_no, size, offset, content)
        return content

    def next_data(self, start: int) -> int:
        if start >= self._size:
            return start
        try:
            return os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError as error:
            return self._size if error.errno == errno.ENXIO else start

    def _read_rest(self, block_no: int, size: int, offset: int, content: bytes) -> bytes:
        """The kernel gives at most 2 GiB for one call; less than that is the end."""
        parts, got = [content], len(content)
        while got < size:
            part = os.pread(self._fd, size - got, block_no * self.block_size + offset + got)
            if not part:
                raise posix_error(errno.EIO, self.path)
            parts.append(part)
            got += len(part)
        return b"".join(parts)

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        start = block_no * self.block_size + offset
        if start + len(content) > self._size:
            raise posix_error(errno.EIO, self.path)
        written = os.pwrite(self._fd, content, start)
        while written < len(content):
            written += os.pwrite(self._fd, memoryview(content)[written:], start + written)

    def resize(self, size: int) -> None:
        """Give the image file `size` bytes; new ones are a hole.

        A block device keeps its size; raises EINVAL if it is smaller.
        """
        if size == self._size:
            return
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.ftruncate(self._fd, size)
            self._size = size
        elif size > self._size:
            raise OSError(errno.EINVAL, f"it has only {self._size} bytes", self.path)

    def punch(self, start: int, size: int) -> bool:
        """Make bytes from `start` on a hole, which reads as zeroes.

        Returns False where the host's filesystem or the device cannot do it.
        """
        if not size or not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return False
        try:
            found = os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError as error:
            return error.errno == errno.ENXIO  # no data from there to the end
        if found >= start + size:
            return True
        return _punch_hole(self._fd, start, size)

    def barrier(self) -> None:
        _sync(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1  # its number may soon be another file's
        os.close(fd)


_sync: Final = getattr(os, "fdatasync", os.fsync)  # macOS has only fsync

_FALLOC_FL_KEEP_SIZE: Final = 1  # fallocate(2); Python has no call for it
_FALLOC_FL_PUNCH_HOLE: Final = 2


def _punch_hole(fd: int, start: int, size: int) -> bool:
    import ctypes  # noqa: PLC0415  (late: few need it, and it takes a millisecond)

    libc = ctypes.CDLL(None)
    fallocate = getattr(libc, "fallocate64", None)
    if fallocate is None:
        return False
    how = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    return bool(fallocate(fd, how, ctypes.c_int64(start), ctypes.c_int64(size)) == 0)


def _require_blocks(fd: int, path: str) -> None:
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        raise posix_error(errno.EISDIR, path)
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise OSError(errno.EINVAL, "neither a file nor a block device", path)


class MemoryDevice(BlockDevice):
    """An image in memory; `image` is its bytes, of fixed length."""

    def __init__(self, image: bytearray) -> None:
        self.image = image

    @property
    def size(self) -> int:
        return len(self.image)

    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        start = block_no * self.block_size + offset
        if start + size > len(self.image):
            raise posix_error(errno.EIO)
        return bytes(self.image[start : start + size])

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        start = block_no * self.block_size + offset
        if start + len(content) > len(self.image):
            raise posix_error(errno.EIO)
        self.image[start : start + len(content)] = content

    def barrier(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Access:
    """One access of a device: `operation` is "read", "write" or "barrier"."""

    operation: str
    block_no: int = 0
    offset: int = 0
    size: int = 0
    kind: Kind = Kind.DATA
    ino: int = 0
    content: bytes = field(default=b"", repr=False)


class LayeredDevice(BlockDevice):
    """A device that passes everything on to `below`; a layer changes what it must.

    The block size is that of `below`, also when it is set.
    """

    def __init__(self, below: BlockDevice) -> None:
        self.below = below
        self.read_only = below.read_only

    @property
    def block_size(self) -> int:
        return self.below.block_size

    @block_size.setter
    def block_size(self, size: int) -> None:
        self.below.block_size = size

    @property
    def size(self) -> int:
        return self.below.size

    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        return self.below.read(block_no, size, offset, kind, ino)

    def next_data(self, start: int) -> int:
        return self.below.next_data(start)

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        self.below.write(block_no, content, offset, kind, ino)

    def barrier(self) -> None:
        self.below.barrier()

    def close(self) -> None:
        self.below.close()


class _Wrapper(LayeredDevice):
    """A device that passes on to `below` what :meth:`before` lets through."""

    @abc.abstractmethod
    def before(self, access: Access) -> None:
        """Called before each access; what it raises is the device's answer."""

    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        self.before(Access("read", block_no, offset, size, kind, ino))
        return super().read(block_no, size, offset, kind, ino)

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        copy = bytes(content)
        self.before(Access("write", block_no, offset, len(copy), kind, ino, copy))
        super().write(block_no, copy, offset, kind, ino)

    def barrier(self) -> None:
        self.before(Access("barrier"))
        super().barrier()


class PatchedDevice(_Wrapper):
    """Reads as if `blocks` (number -> content) were written on `below`; never writes."""

    def __init__(self, below: BlockDevice, blocks: dict[int, bytes]) -> None:
        super().__init__(below)
        self.read_only = True
        self._blocks = blocks

    def before(self, access: Access) -> None:
        if access.operation == "write":
            raise posix_error(errno.EROFS)

    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        content = bytearray(super().read(block_no, size, offset, kind, ino))
        start = block_no * self.block_size + offset
        for number in range(start // self.block_size, -(-(start + size) // self.block_size)):
            patch = self._blocks.get(number)
            if patch is not None:
                at = number * self.block_size - start  # where the block is in `content`
                low, high = max(at, 0), min(at + self.block_size, size)
                content[low:high] = patch[low - at : high - at]
        return bytes(content)

    def next_data(self, start: int) -> int:
        first = start // self.block_size
        patched = min((block for block in self._blocks if block >= first), default=None)
        found = super().next_data(start)
        return found if patched is None else min(found, max(start, patched * self.block_size))


class RecordingDevice(_Wrapper):
    """Notes every access in `accesses`, writes with their bytes."""

    def __init__(self, below: BlockDevice) -> None:
        super().__init__(below)
        self.accesses: list[Access] = []

    def before(self, access: Access) -> None:
        self.accesses.append(access)


class FailingDevice(_Wrapper):
    """Raises `code` instead of each access that `fails` chooses."""

    def __init__(
        self, below: BlockDevice, fails: Callable[[Access], bool], code: int = errno.EIO
    ) -> None:
        super().__init__(below)
        self.fails = fails
        self.code = code

    def before(self, access: Access) -> None:
        if self.fails(access):
            raise posix_error(self.code)
