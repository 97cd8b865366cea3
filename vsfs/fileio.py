"""The bytes of a file: read, write and truncate through the block map.

File data goes straight to the device, one access for each run of blocks; it is
never kept in memory here, since the kernel (or the caller) keeps what it needs.

The order that crash safety rests on: data is written to the device before the
commit that writes the pointers to it, and a block that is new to a file is
written whole, so that nothing of its former owner is ever seen.  Bytes between
a file's end and the end of its last block may be old bytes *of that file*; they
are zeroed when the file grows over them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from vsfs.blockmap import BlockMap, Run
from vsfs.buffer import BufferCache
from vsfs.device import BytesLike, Kind
from vsfs.errors import posix_error
from vsfs.inode import Inode
from vsfs.layout import ceil_div


class FileIO:
    """Reads and writes byte ranges of regular files (and long symlinks' targets).

    The caller announces the inode with ``InodeTable.modify`` before a write or a
    truncate, checks types and permissions, and sets the times.
    """

    def __init__(self, cache: BufferCache, blockmap: BlockMap) -> None:
        self._cache = cache
        self._device = cache.device
        self._map = blockmap
        self._block_size = cache.geometry.block_size
        self._max_size = cache.geometry.max_file_size

    def read(self, inode: Inode, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer at the end of the file.

        Holes read as zeroes.
        """
        size = min(size, inode.size - offset)
        if size <= 0:
            return b""
        block_size = self._block_size
        first, within = divmod(offset, block_size)
        count = (within + size + block_size - 1) // block_size
        parts = []
        for run in self._map.runs(inode, first, count):
            part = min(run.count * block_size - within, size)
            if run.block:
                parts.append(self._device.read(run.block, part, within, Kind.DATA, inode.ino))
            else:
                parts.append(bytes(part))
            size -= part
            within = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seek(self, inode: Inode, offset: int, *, hole: bool) -> int:
        """The first byte from `offset` on that is in a hole, or else in none.

        A hole is made of whole blocks, and one is behind the end.  Raises ENXIO
        from the end on, and if no byte that is in no hole comes before it.
        """
        if not 0 <= offset < inode.size:
            raise posix_error(errno.ENXIO)
        end = ceil_div(inode.size, self._block_size)
        found = self._map.seek(inode, offset // self._block_size, end, hole=hole)
        if found == end and not hole:
            raise posix_error(errno.ENXIO)
        return min(max(found * self._block_size, offset), inode.size)

    def write(self, inode: Inode, content: BytesLike, offset: int) -> int:
        """Write `content` at `offset`, growing the file as needed; return how much.

        Less than all of it fits when space runs out on the way.  Raises NoSpace
        (ENOSPC) when nothing does, EFBIG past the largest size.  The data is
        durable at the next commit, together with what points to it.
        """
        if not content:
            return 0
        if offset >= self._max_size:
            raise posix_error(errno.EFBIG)
        content = memoryview(content)[: self._max_size - offset]
        if offset > inode.size:
            self._zero_old_tail(inode, offset)
        block_size = self._block_size
        first, within = divmod(offset, block_size)
        count = (within + len(content) + block_size - 1) // block_size
        written = 0
        for head, tail, blocks in _stretches(self._map.allocate(inode, first, count)):
            size = blocks * block_size
            part = content[written : written + size - within]
            # a fresh block is written whole, with zeroes around `part`
            before = within if head.fresh else 0
            after = size - within - len(part) if tail.fresh else 0
            whole = b"".join((bytes(before), part, bytes(after))) if before or after else part
            self._device.write(head.block, whole, within - before, Kind.DATA, inode.ino)
            written += len(part)
            within = 0
        self._cache.data_written()
        inode.size = max(inode.size, offset + written)
        inode.version += 1
        return written

    def _zero_old_tail(self, inode: Inode, new_size: int) -> None:
        """Before the file grows to `new_size`: zero what lies behind its old end."""
        within = inode.size % self._block_size
        if not within:
            return
        (run,) = self._map.runs(inode, inode.size // self._block_size, 1)
        if run.block:
            zeroes = bytes(min(self._block_size - within, new_size - inode.size))
            self._device.write(run.block, zeroes, within, Kind.DATA, inode.ino)
            self._cache.data_written()

    def truncate(self, inode: Inode, size: int) -> None:
        """Cut the file to `size` bytes, or let it grow by a hole; EFBIG if too large."""
        if size > self._max_size:
            raise posix_error(errno.EFBIG)
        if size > inode.size:
            self._zero_old_tail(inode, size)
        elif size < inode.size:
            self._map.truncate(inode, ceil_div(size, self._block_size))
        inode.size = size
        inode.version += 1


def _stretches(runs: list[Run]) -> Iterable[tuple[Run, Run, int]]:
    """Runs that are neighbours on the disk, as one: (the first, the last, blocks in all).

    What a file had and what it has just got are often neighbours.
    """
    head = runs[0]
    return ((head, head, head.count),) if len(runs) == 1 else _joined(runs)


def _joined(runs: list[Run]) -> Iterator[tuple[Run, Run, int]]:
    head = tail = runs[0]
    blocks = head.count
    for run in runs[1:]:
        if run.block == tail.block + tail.count:
            blocks += run.count
        else:
            yield head, tail, blocks
            head, blocks = run, run.count
        tail = run
    yield head, tail, blocks
