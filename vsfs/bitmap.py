"""Allocation: which inodes and which data blocks are free (OSTEP 40.2).

A bit is 0 when its block or inode is free.  The search is first fit from a
hint, and takes contiguous runs.  Bitmap blocks are read when first needed; a
full one is passed over by its count, an all-ones byte by one regular expression,
so that an allocation does not depend on how much is in use before it.

What is freed keeps its bit until the transaction commits, and is not given out
again before: until then the old owner's pointers are still on the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from vsfs.buffer import Buffer, BufferCache
from vsfs.device import Kind
from vsfs.errors import CommitNeeded, Corrupt, NoSpace

_NOT_FULL: Final = re.compile(rb"[^\xff]")


class Bitmap:
    """The bits for `count` things numbered from `first` on.

    Inodes are numbered from 0, data blocks from `data_start`; callers only see
    those numbers, never a bit's place.  `available` is how many can be given out
    now, `freed` how many more there will be after the next commit.
    """

    def __init__(
        self,
        cache: BufferCache,
        *,
        kind: Kind,
        start: int,
        first: int,
        count: int,
        available: int,
    ) -> None:
        self.available = available
        self._cache = cache
        self._kind = kind
        self._start = start  # first block of the bitmap
        self._first = first
        self._count = count
        self._lowest = 0  # no bit below is 0
        self._pending: list[tuple[int, int]] = []  # runs of bits to clear at the commit
        self._free_in: dict[int, int] = {}  # bitmap block -> zero bits, once read
        cache.prepare.append(self._apply_frees)

    @property
    def freed(self) -> int:
        """How many were freed since the last commit."""
        return sum(count for _, count in self._pending)

    @property
    def _name(self) -> str:
        return "inode" if self._kind == Kind.INODE_BITMAP else "block"

    def allocate(self, goal: int | None, count: int = 1) -> tuple[int, int]:
        """Take the first free run at or after `goal`; return (number, how many).

        The run has at most `count` members, and fewer where it ends early.
        Without a goal the search starts at the lowest free bit.  Raises NoSpace
        (ENOSPC), or CommitNeeded when a commit would make some free.
        """
        start = self._lowest if goal is None else goal - self._first
        if not self._lowest <= start < self._count:
            start = self._lowest
        bit = self._find(start, self._count)
        if bit is None and start > self._lowest:
            bit = self._find(self._lowest, start)
        if bit is None:
            raise self._shortage()
        got = self._set_run(bit, count)
        if not self._lowest < start <= bit:  # the search saw every bit from the lowest on
            lowest = self._lowest
            self._cache.undo(lambda: setattr(self, "_lowest", lowest))
            self._lowest = bit + got
        return self._first + bit, got

    def require(self, count: int) -> None:
        """Raise what :meth:`allocate` would unless `count` can be given out now."""
        if self.available < count:
            raise self._shortage()

    def _shortage(self) -> CommitNeeded | NoSpace:
        if self._pending:
            return CommitNeeded(f"every free {self._name} was freed since the last commit")
        return NoSpace(f"no free {self._name} is left")

    def free(self, number: int, count: int = 1) -> None:
        """Give back the run of `count` from `number` on, at the next commit.

        Raises Corrupt (EUCLEAN), with nothing changed, if one of them is free
        already: then two owners think that they have it.
        """
        bit = number - self._first
        for block, first_bit, part in self._parts(bit, count):
            window, mask, byte, _ = self._window(block, first_bit, part)
            if window & mask != mask:
                raise Corrupt(
                    f"{self._name} bitmap",
                    self._start + block,
                    byte,
                    f"a bit of 0 for a {self._name} from {number} to {number + count - 1}",
                    "ones, since they are being freed",
                )
        self._pending.append((bit, count))
        self._cache.undo(self._pending.pop)

    def is_set(self, number: int) -> bool:
        """Whether `number` is in use (or past the end)."""
        block, byte, bit = self._place(number - self._first)
        return bool(self._read(block).data[byte] >> bit & 1)

    def count_free(self) -> int:
        """Count the zero bits by reading every block of the bitmap."""
        blocks = range(-(-self._count // self._cache.geometry.bits_per_block))
        for block in blocks:
            self._read(block)
        return sum(self._free_in[block] for block in blocks)

    def _place(self, bit: int) -> tuple[int, int, int]:
        """Block of the bitmap, byte in it and bit in that byte."""
        block, bit = divmod(bit, self._cache.geometry.bits_per_block)
        return block, bit // 8, bit % 8

    def _read(self, block: int) -> Buffer:
        buffer = self._cache.read(self._start + block, self._kind)
        if block not in self._free_in:
            # a damaged bitmap may have zeros past its end: those are no free bits
            per_block = self._cache.geometry.bits_per_block
            bits = min(per_block, self._count - block * per_block)
            ones = int.from_bytes(buffer.data, "little") & ((1 << bits) - 1)
            self._free_in[block] = bits - ones.bit_count()
        return buffer

    def _find(self, start: int, end: int) -> int | None:
        """The first 0 bit from `start` on and before `end`."""
        per_block = self._cache.geometry.bits_per_block
        for block in range(start // per_block, -(-end // per_block)):
            if self._free_in.get(block) == 0:
                continue
            found = _first_zero(self._read(block).data, max(start - block * per_block, 0))
            if found is not None:
                bit = block * per_block + found
                return bit if bit < end else None
        return None

    def _parts(self, bit: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Split a run at the borders of bitmap blocks: (block, bit in it, count)."""
        per_block = self._cache.geometry.bits_per_block
        while count:
            block, first_bit = divmod(bit, per_block)
            part = min(count, per_block - first_bit)
            yield block, first_bit, part
            bit, count = bit + part, count - part

    def _window(self, block: int, first_bit: int, count: int) -> tuple[int, int, int, int]:
        """The bytes around a run as one integer: (integer, mask, start, end)."""
        start, shift = divmod(first_bit, 8)
        end = start + (shift + count + 7) // 8
        window = int.from_bytes(self._read(block).data[start:end], "little")
        return window, ((1 << count) - 1) << shift, start, end

    def _set_run(self, bit: int, count: int) -> int:
        """Set the run of 0 bits at `bit`, at most `count` of them and within the
        bitmap block; return how many.
        """
        block, first_bit, count = next(self._parts(bit, min(count, self._count - bit)))
        window, mask, start, end = self._window(block, first_bit, count)
        ones = window & mask
        if ones:
            count = (ones & -ones).bit_length() - 1 - first_bit % 8
            mask = ((1 << count) - 1) << first_bit % 8
        self._put(block, start, end, window | mask)
        self._count_change(block, -count)
        self._cache.undo(lambda: self._count_change(block, count))
        return count

    def _put(self, block: int, start: int, end: int, window: int) -> None:
        buffer = self._read(block)
        self._cache.modify(buffer)
        buffer.data[start:end] = window.to_bytes(end - start, "little")

    def _count_change(self, block: int, change: int) -> None:
        self._free_in[block] += change
        self.available += change

    def _apply_frees(self) -> None:
        """Clear the bits of what this transaction freed; part of every commit."""
        for bit, count in self._pending:
            self._lowest = min(self._lowest, bit)
            for block, first_bit, part in self._parts(bit, count):
                window, mask, start, end = self._window(block, first_bit, part)
                self._put(block, start, end, window & ~mask)
                # counted, since damage may have made two owners free the same one
                self._count_change(block, (window & mask).bit_count())
        self._pending.clear()


def _first_zero(data: bytearray, bit: int) -> int | None:
    """The first 0 bit of `data` from `bit` on."""
    byte, shift = divmod(bit, 8)
    zeros = ~data[byte] & 0xFF & (0xFF << shift)
    if not zeros:
        match = _NOT_FULL.search(data, byte + 1)
        if match is None:
            return None
        byte = match.start()
        zeros = ~data[byte] & 0xFF
    return byte * 8 + (zeros & -zeros).bit_length() - 1
