"""Allocation: which inodes and which data blocks are free (OSTEP 40.2).

A bit is 0 when its block or inode is free.  The search is first fit from a
goal, and takes contiguous runs; who wants a longer run than the first one that
is free says so, and the bitmap blocks near the goal are looked through for it.

Bitmap blocks are read when first needed.  What has been seen of them is kept in
memory (which are full, how long their longest free run is at most, how far the
last searches got), so that an allocation does not depend on how much is in use.
All of that is forgotten for a block when something in it becomes free.

What is freed keeps its bit until the transaction commits, and is not given out
again before: until then the old owner's pointers are still on the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from vsfs.buffer import Buffer, BufferCache
from vsfs.device import Kind
from vsfs.errors import CommitNeeded, Corrupt, NoSpace

_NOT_FULL: Final = re.compile(rb"[^\xff]")
#: Bitmap blocks that are looked through for a long run: 1 GiB of 4 KiB blocks.
_NEAR: Final = 8
#: Bytes of a bitmap block that are looked at first where another long run is wanted.
_PIECE: Final = 512
#: Places where searches started whose ends are remembered.
_SEARCHES: Final = 256


class Bitmap:
    """The bits for `count` things numbered from `first` on.

    Inodes are numbered from 0, data blocks from `data_start`; callers only see
    those numbers, never a bit's place.  `available` is how many can be given out
    now, `freed` how many more there will be after the next commit; `awaited` are those
    of them that the caller will free just before it.
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
        self.awaited = 0
        self._cache = cache
        self._kind = kind
        self._start = start  # first block of the bitmap
        self._first = first
        self._count = count
        self._bits_per_block = cache.geometry.bits_per_block
        self._pending: list[tuple[int, int]] = []  # runs of bits to clear at the commit
        self._free_in: dict[int, int] = {}  # bitmap block -> zero bits, once read
        #: For each bitmap block: 1 if it is known to be full (32 KiB for 4 TiB).
        self._full = bytearray(-(-count // self._bits_per_block))
        self._longest: dict[int, int] = {}  # bitmap block -> no free run is longer
        self._searched: dict[int, int] = {}  # start of a search -> no bit is 0 before this
        #: Length of a run that was looked for -> no free one of it begins between these bits.
        self._roomless: dict[int, tuple[int, int]] = {}
        cache.prepare.append(self._apply_frees)

    @property
    def freed(self) -> int:
        """How many were freed since the last commit, or will be before the next."""
        return self.awaited + sum(count for _, count in self._pending)

    @property
    def _name(self) -> str:
        return "inode" if self._kind == Kind.INODE_BITMAP else "block"

    def allocate(self, goal: int | None, count: int = 1, room: int = 1) -> tuple[int, int]:
        """Take the first free run at or after `goal`; return (number, how many).

        The run has at most `count` members, and fewer where it ends early.
        Without a goal the search starts at the lowest number; behind the last one
        it goes on there.  A free run of `room` is preferred to a shorter one where
        some bitmap block near the goal has it; otherwise it is as long a one as
        they have.  Raises NoSpace (ENOSPC), or CommitNeeded when a commit would
        make some free.
        """
        start = 0 if goal is None else goal - self._first
        if not 0 <= start < self._count:
            start = 0
        first = bit = self._searched.get(start, start)
        # nearly always there
        got = self._take_one(bit) if count == room == 1 else self._take_where_free(bit, count, room)
        if not got and (near := self._next_room(first, room)) is not None:
            bit, got = near, self._take_where_free(near, count, room)
        if not got:
            found = self._find(start)
            if found is None:
                raise self._shortage()
            first = bit = found
            got = self._take_where_free(bit, count, room)
        if not got:
            bit = first if room == 1 else self._roomier(first, room)
            got = self._set_run(bit, count)
        if first < start:  # the search went round
            start = 0
        self._searched[start] = bit + got if bit == first else first
        return self._first + bit, got

    def extend(self, number: int, count: int) -> int:
        """Take the free run that starts at `number`; return how many.

        At most `count`; 0, with nothing changed, if `number` is not free.
        """
        bit = number - self._first
        if not 0 <= bit < self._count:
            return 0
        if count == 1:
            return self._take_one(bit)
        if self._full[bit // self._bits_per_block]:
            return 0
        return self._set_run(bit, count)

    def require(self, count: int) -> None:
        """Raise what :meth:`allocate` would unless `count` can be given out now."""
        if self.available < count:
            raise self._shortage()

    def _shortage(self) -> CommitNeeded | NoSpace:
        if self._pending or self.awaited:
            return CommitNeeded(f"every free {self._name} was freed since the last commit")
        return NoSpace(f"no free {self._name} is left")

    def free(self, number: int, count: int = 1) -> None:
        """Give back the run of `count` from `number` on, at the next commit.

        Raises Corrupt (EUCLEAN), with nothing changed, if one of them is free
        already: then two owners think that they have it.
        """
        bit = number - self._first
        cache = self._cache
        if count == 1:  # the commonest, and the short way
            block, at = divmod(bit, self._bits_per_block)
            if not self._read(block).data[at >> 3] >> (at & 7) & 1:
                raise self._free_already(number, 1, block, at >> 3)
            cache.expect(self._start + block)
        else:
            for block, first_bit, part in self._parts(bit, count):
                window, mask, byte, _ = _window(self._read(block).data, first_bit, part)
                if window & mask != mask:
                    raise self._free_already(number, count, block, byte)
                cache.expect(self._start + block)
        self._pending.append((bit, count))
        cache.undo(self._pending.pop)

    def _free_already(self, number: int, count: int, block: int, byte: int) -> Corrupt:
        return Corrupt(
            f"{self._name} bitmap",
            self._start + block,
            byte,
            f"a bit of 0 for a {self._name} from {number} to {number + count - 1}",
            "ones, since they are being freed",
        )

    def is_set(self, number: int) -> bool:
        """Whether `number` is in use (or past the end)."""
        block, byte, bit = self._place(number - self._first)
        return bool(self._read(block).data[byte] >> bit & 1)

    def count_free(self) -> int:
        """Count the zero bits by reading every block of the bitmap."""
        blocks = range(len(self._full))
        for block in blocks:
            self._read(block)
        return sum(self._free_in[block] for block in blocks)

    def _place(self, bit: int) -> tuple[int, int, int]:
        """Block of the bitmap, byte in it and bit in that byte."""
        block, bit = divmod(bit, self._bits_per_block)
        return block, bit // 8, bit % 8

    def _read(self, block: int) -> Buffer:
        buffer = self._cache.read(self._start + block, self._kind)
        if block not in self._free_in:
            self._free_in[block] = free = self._zeros(block, buffer).bit_count()
            self._full[block] = not free
        return buffer

    def _zeros(self, block: int, buffer: Buffer) -> int:
        """A bitmap block as an integer with a 1 for each free bit."""
        # a damaged bitmap may have zeros past its end: those are no free bits
        bits = min(self._bits_per_block, self._count - block * self._bits_per_block)
        return ~int.from_bytes(buffer.data, "little") & ((1 << bits) - 1)

    # -- searching ------------------------------------------------------------

    def _find(self, start: int) -> int | None:
        """The first 0 bit from `start` on, or if there is none the first of all."""
        if len(self._searched) > _SEARCHES:
            self._searched.clear()
        bit = self._first_from(self._searched.get(start, start))
        if bit is None and start:
            self._searched[start] = self._count
            return self._find(0)
        return bit

    def _first_from(self, start: int) -> int | None:
        """The first 0 bit from `start` on."""
        block = start // self._bits_per_block
        while (block := self._full.find(0, block)) >= 0:
            base = block * self._bits_per_block
            found = _first_zero(self._read(block).data, max(start - base, 0))
            if found is not None:
                return base + found if base + found < self._count else None
            block += 1
        return None

    def _roomier(self, bit: int, room: int) -> int:
        """Where a free run of `room` starts, or else the longest: near `bit`, a free bit.

        Longest to a factor of two: what is looked for is `room`, half of it, ...
        """
        own, first_bit, here = next(iter(self._parts(bit, room)))
        window, mask, _, _ = _window(self._read(own).data, first_bit, here)
        length = _free_bits(window, mask, first_bit % 8)
        if length == here:  # enough, or it may go on in the next bitmap block
            return bit
        near = self._near(own)
        room = min(room, self._bits_per_block)
        while room > length:
            for block in near:
                if self._longest.get(block, room) >= room:
                    found = self._run_in(block, room, bit)
                    if found is not None:
                        self._roomless[room] = bit, max(bit, found)
                        return found
            room //= 2
        return bit

    def _next_room(self, bit: int, room: int) -> int | None:
        """Where a free run of `room` starts, close behind the last one that was looked for.

        None if that was not looked for from `bit` on, or the next one is further away.
        """
        begin, end = self._roomless.get(room, (0, -1))
        if not begin <= bit <= end:
            return None
        block, at = divmod(end, self._bits_per_block)
        start, shift = at >> 3, at & 7
        piece = self._read(block).data[start : start + _PIECE]
        bits = min(len(piece) * 8, self._count - (end - shift))
        runs, _ = _runs_of_ones(
            (~int.from_bytes(piece, "little") & ((1 << bits) - 1)) >> shift, room
        )
        if not runs:
            return None
        found = end + _lowest_one(runs)
        self._roomless[room] = begin, found
        return found

    def _near(self, block: int) -> list[int]:
        """The next bitmap blocks from `block` on, going round, that may have free bits."""
        found: list[int] = []
        for begin, end in ((block, len(self._full)), (0, block)):
            at = begin
            while len(found) < _NEAR and (at := self._full.find(0, at, end)) >= 0:
                found.append(at)
                at += 1
        return found

    def _run_in(self, block: int, room: int, bit: int) -> int | None:
        """The first free run of `room` in a bitmap block; from `bit` on if there is one."""
        runs, length = _runs_of_ones(self._zeros(block, self._read(block)), room)
        if not runs:
            self._longest[block] = length - 1
            return None
        base = block * self._bits_per_block
        before = max(bit - base, 0)
        return base + _lowest_one(runs >> before << before or runs)

    # -- changing -------------------------------------------------------------

    def _parts(self, bit: int, count: int) -> Iterable[tuple[int, int, int]]:
        """Split a run at the borders of bitmap blocks: (block, bit in it, count)."""
        block, first_bit = divmod(bit, self._bits_per_block)
        if first_bit + count <= self._bits_per_block:
            return ((block, first_bit, count),)
        return self._split(bit, count)

    def _split(self, bit: int, count: int) -> Iterator[tuple[int, int, int]]:
        while count:
            block, first_bit = divmod(bit, self._bits_per_block)
            part = min(count, self._bits_per_block - first_bit)
            yield block, first_bit, part
            bit, count = bit + part, count - part

    def _take_where_free(self, bit: int, count: int, room: int) -> int:
        """Set `count` bits from `bit` on if `room` of them (no fewer) are 0; return how many.

        0, with nothing changed, where one is not, or the bitmap block ends before.
        What a search and :meth:`_set_run` do, in a third of the time.
        """
        block, at = divmod(bit, self._bits_per_block)
        room = max(room, count)
        if bit + room > self._count or at + room > self._bits_per_block:
            return 0
        buffer = self._read(block)
        window, mask, start, end = _window(buffer.data, at, room)
        if window & mask:
            return 0
        self._put(buffer, start, end, window | ((1 << count) - 1) << (at & 7))
        self._count_change(block, -count)
        self._cache.undo(lambda: self._count_change(block, count))
        return count

    def _take_one(self, bit: int) -> int:
        """Set a bit if it is 0; return how many were set.

        Flat, and one entry in the undo list: every new file takes an inode and a block.
        """
        if bit >= self._count:
            return 0
        cache, (block, at) = self._cache, divmod(bit, self._bits_per_block)
        buffer = cache.read(self._start + block, self._kind)
        if block not in self._free_in:
            self._read(block)
        data, byte, mask = buffer.data, at >> 3, 1 << (at & 7)
        if data[byte] & mask:
            return 0
        if not buffer.dirty:
            cache.touch(buffer)
        data[byte] |= mask
        self._free_in[block] = free = self._free_in[block] - 1
        if not free:
            self._full[block] = 1
        self.available -= 1
        cache.undo(lambda: self._give_back(block, data, byte, mask))
        return 1

    def _give_back(self, block: int, data: bytearray, byte: int, mask: int) -> None:
        """Undo :meth:`_take_one`."""
        data[byte] &= ~mask
        self._count_change(block, 1)

    def _set_run(self, bit: int, count: int) -> int:
        """Set the run of 0 bits at `bit`, at most `count` of them and within the
        bitmap block; return how many.
        """
        block, first_bit = divmod(bit, self._bits_per_block)
        count = min(count, self._count - bit, self._bits_per_block - first_bit)
        buffer = self._read(block)
        window, mask, start, end = _window(buffer.data, first_bit, count)
        if window & mask:
            count = _free_bits(window, mask, first_bit % 8)
            mask = ((1 << count) - 1) << first_bit % 8
            if not count:
                return 0
        self._put(buffer, start, end, window | mask)
        self._count_change(block, -count)
        self._cache.undo(lambda: self._count_change(block, count))
        return count

    def _put(self, buffer: Buffer, start: int, end: int, window: int) -> None:
        self._cache.modify(buffer, start, end)
        buffer.data[start:end] = window.to_bytes(end - start, "little")

    def _count_change(self, block: int, change: int) -> None:
        """There are `change` more free bits in a bitmap block, or fewer."""
        self._free_in[block] = free = self._free_in[block] + change
        self._full[block] = not free
        self.available += change
        if change > 0:
            self._longest.pop(block, None)
            self._searched.clear()
            self._roomless.clear()

    def _apply_frees(self) -> None:
        """Clear the bits of what this transaction freed; part of every commit."""
        if self._pending:
            self._cache.frees()
        for bit, count in self._pending:
            for block, first_bit, part in self._parts(bit, count):
                buffer = self._read(block)
                window, mask, start, end = _window(buffer.data, first_bit, part)
                self._put(buffer, start, end, window & ~mask)
                # counted, since damage may have made two owners free the same one
                self._count_change(block, (window & mask).bit_count())
        self._pending.clear()


def _runs_of_ones(bits: int, room: int) -> tuple[int, int]:
    """A 1 for each bit of `bits` at which `room` ones in a row start; 0 if none does.

    With it, a length that no run has if `room` is too long, or else `room`.

    >>> _runs_of_ones(0b1110111, 3), _runs_of_ones(0b1110111, 8)
    ((17, 3), (0, 4))
    """
    length = 1
    while bits and length < room:
        step = min(length, room - length)
        bits &= bits >> step
        length += step
    return bits, length


def _window(data: bytearray, first_bit: int, count: int) -> tuple[int, int, int, int]:
    """The bytes around a run of bits as one integer: (integer, mask, start, end)."""
    start, shift = divmod(first_bit, 8)
    end = start + (shift + count + 7) // 8
    return int.from_bytes(data[start:end], "little"), ((1 << count) - 1) << shift, start, end


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
    return byte * 8 + _lowest_one(zeros)


def _lowest_one(number: int) -> int:
    """The place of the lowest 1 bit of a number that is not 0."""
    return (number & -number).bit_length() - 1


def _free_bits(window: int, mask: int, shift: int) -> int:
    """How many bits of `mask`, whose first is `shift`, are 0 before the first 1."""
    ones = window & mask
    return _lowest_one(ones) - shift if ones else mask.bit_count()
