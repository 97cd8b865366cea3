"""Who is used: a set of numbers in runs, kept one byte each, in pieces.

For inodes and data blocks as the inodes themselves tell it, to compare with the
bitmaps (OSTEP 42.2).  A piece covers one block of the bitmap and comes into being
when one of its numbers is marked, so memory follows what is used, not what a
superblock claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_FREE: Final = ord("0")  # a piece reads as a binary number, see `bits`
_USED: Final = ord("1")


class Usage:
    """Which of the numbers 0 to `count` - 1 are used; `per_block` is a piece's length."""

    def __init__(self, count: int, per_block: int) -> None:
        self.count = count
        self.per_block = per_block
        self.used = 0
        self._pieces: dict[int, bytearray] = {}
        self._search_from = 0  # no free number is below it
        self._nothing = bytes(per_block // 8)  # most bitmap blocks of a large image

    def __contains__(self, number: int) -> bool:
        index, at = divmod(number, self.per_block)
        piece = self._pieces.get(index)
        return piece is not None and piece[at] == _USED

    def mark(self, first: int, count: int = 1) -> list[int]:
        """Mark a run as used; give those of its numbers that were used already."""
        again: list[int] = []
        end = first + count
        assert 0 <= first <= end <= self.count
        while first < end:
            index, at = divmod(first, self.per_block)
            part = min(end - first, self.per_block - at)
            piece = self._piece(index)
            twice = piece.count(_USED, at, at + part)
            if twice:
                again += [first + i for i in range(part) if piece[at + i] == _USED]
            piece[at : at + part] = b"1" * part
            self.used += part - twice
            first += part
        return again

    def clear(self, number: int) -> None:
        """Mark one number as free again."""
        index, at = divmod(number, self.per_block)
        piece = self._piece(index)
        self.used -= piece[at] == _USED
        piece[at] = _FREE
        self._search_from = min(self._search_from, number)

    def _piece(self, index: int) -> bytearray:
        piece = self._pieces.get(index)
        if piece is None:
            length = min(self.per_block, self.count - index * self.per_block)
            piece = self._pieces[index] = bytearray(b"0" * length)
        return piece

    def find_free(self) -> int | None:
        """The lowest free number; None if there is none."""
        while self._search_from < self.count:
            index, at = divmod(self._search_from, self.per_block)
            found = self._pieces[index].find(_FREE, at) if index in self._pieces else at
            if found >= 0:
                self._search_from = index * self.per_block + found
                return self._search_from
            self._search_from = (index + 1) * self.per_block
        return None

    def __iter__(self) -> Iterator[int]:
        for index in sorted(self._pieces):
            piece, at = self._pieces[index], -1
            while (at := piece.find(_USED, at + 1)) >= 0:
                yield index * self.per_block + at

    def bits(self, index: int) -> bytes:
        """Bitmap block `index` as it should be: bits past the end are 1."""
        size = self.per_block // 8
        covered = min(max(self.count - index * self.per_block, 0), self.per_block)
        if covered == self.per_block and index not in self._pieces:
            return self._nothing
        value = ((1 << self.per_block) - 1) >> covered << covered
        piece = self._pieces.get(index)
        if piece is not None:
            value |= int(piece[::-1], 2)
        return value.to_bytes(size, "little")
