"""Two images of one geometry side by side: where their bytes differ, and whose they are.

The images are two moments of one filesystem, or two filesystems of the same sizes.
:class:`Comparison` finds the blocks that differ; what they mean is told above.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from vsfs.errors import Corrupt
from vsfs.layout import JOURNAL_INO, InodeRecord, decode_inode
from vsfs.rawimage import Piece, RawImage

_CHUNK: Final = 1 << 20  # bytes compared at a time

#: As level of a piece: it is the inode's block of extended attributes.
ATTRIBUTES: Final = -1

Span = tuple[int, int]  # first, and the one behind the last


class Spans:
    """Numbers as ascending stretches that do not touch; `spans` are those."""

    def __init__(self, numbers: Iterable[Span] = ()) -> None:
        self.spans: list[Span] = []
        for start, end in sorted(numbers):
            if self.spans and start <= self.spans[-1][1]:
                self.spans[-1] = (self.spans[-1][0], max(end, self.spans[-1][1]))
            else:
                self.spans.append((start, end))

    def __bool__(self) -> bool:
        return bool(self.spans)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return sum(end - start for start, end in self.spans)

    def within(self, start: int, end: int) -> Iterator[Span]:
        """What of them lies in [start, end)."""
        at = max(bisect_right(self.spans, (start, 1 << 64)) - 1, 0)
        for low, high in self.spans[at:]:
            if low >= end:
                return
            if high > start:
                yield max(low, start), min(high, end)

    def outside(self, start: int, end: int) -> Iterator[Span]:
        """What of [start, end) is not among them."""
        for low, high in self.within(start, end):
            if start < low:
                yield start, low
            start = high
        if start < end:
            yield start, end


class Comparison:
    """The images `before` and `after`, and the blocks in which they differ."""

    def __init__(self, before: RawImage, after: RawImage) -> None:
        self.before = before
        self.after = after
        self.is_possible = before.geometry == after.geometry

    @functools.cached_property
    def changed(self) -> Spans:
        """The blocks whose bytes differ; holes of both image files are passed over."""
        geometry = self.after.geometry
        chunk = max(_CHUNK, geometry.block_size)
        end, at = geometry.block_count * geometry.block_size, 0
        found: list[Span] = []
        while at < end:
            at = min(self.before.device.next_data(at), self.after.device.next_data(at))
            at -= at % geometry.block_size
            if at >= end:
                break
            size = min(chunk, end - at)
            found += self._changed_at(at // geometry.block_size, size)
            at += size
        return Spans(found)

    def _changed_at(self, first: int, size: int) -> Iterator[Span]:
        """Blocks that differ among `size` bytes from block `first` on."""
        old, new = (image.device.read(first, size) for image in (self.before, self.after))
        if old == new:
            return
        block_size = self.after.geometry.block_size
        for index, at in enumerate(range(0, size, block_size), first):
            if old[at : at + block_size] != new[at : at + block_size]:
                yield index, index + 1

    def inode(self, image: RawImage, ino: int) -> InodeRecord | None:
        """Inode `ino` if it is in use in `image`, as far as it can be read."""
        if not image.inode_in_use(ino):
            return None
        try:
            return image.inode(ino)
        except Corrupt:
            return decode_inode(image.inode_bytes(ino))

    def pieces(self, image: RawImage, ino: int) -> list[Piece]:
        """The blocks of an inode in use, as far as its pointers are sound; no holes.

        The block of extended attributes comes first, with level ATTRIBUTES.
        """
        found: list[Piece] = []
        if not image.inode_in_use(ino):
            return found
        try:
            record = image.inode(ino)
            if record.attribute_block:
                found.append(Piece(ATTRIBUTES, 0, 0, record.attribute_block, 1))
            for piece in image.pieces(ino, record):
                if piece.block_no:
                    found.append(piece)
        except Corrupt:
            pass
        return found

    @functools.cached_property
    def uses_before(self) -> dict[int, list[Piece]]:
        """For each inode in use before, its pieces with a block that differs."""
        return self._uses(self.before)

    @functools.cached_property
    def uses_after(self) -> dict[int, list[Piece]]:
        """The same for each inode in use after."""
        return self._uses(self.after)

    def _uses(self, image: RawImage) -> dict[int, list[Piece]]:
        found: dict[int, list[Piece]] = {}
        geometry = image.geometry
        if not any(self.changed.within(geometry.data_start, geometry.block_count)):
            return found
        for ino in image.inodes_in_use():
            touched = [
                piece
                for piece in self.pieces(image, ino)
                if any(self.changed.within(piece.block_no, piece.block_no + piece.count))
            ]
            if touched:
                found[ino] = touched
        return found

    @functools.cached_property
    def inodes(self) -> list[int]:
        """The inodes whose bytes differ, or whose bits in the bitmap do; ascending."""
        geometry = self.after.geometry
        found = {ino for ino, _, _ in self.bits("inode") if ino < geometry.inode_count}
        table, per_block = geometry.inode_table_start, geometry.inodes_per_block
        for start, end in self.changed.within(table, geometry.data_start):
            for block in range(start, end):
                first = (block - table) * per_block
                for ino in range(first, min(first + per_block, geometry.inode_count)):
                    if self.before.inode_bytes(ino) != self.after.inode_bytes(ino):
                        found.add(ino)
        return sorted(found)

    def bits(self, which: str) -> Iterator[tuple[int, int, bool]]:
        """(number, block, is allocated) of each bit of a bitmap that differs.

        The number is that of an inode or a block, and may be past the end.
        """
        geometry = self.after.geometry
        start, end, first = geometry.inode_bitmap_start, geometry.data_bitmap_start, 0
        if which == "data":
            start, end, first = end, geometry.inode_table_start, geometry.data_start
        for low, high in self.changed.within(start, end):
            for block in range(low, high):
                base = first + (block - start) * geometry.bits_per_block
                old, new = self.before.block(block), self.after.block(block)
                for at, (was, now) in enumerate(zip(old, new, strict=True)):
                    for bit in range(8) if was != now else ():
                        if (was ^ now) >> bit & 1:
                            yield base + at * 8 + bit, block, bool(now >> bit & 1)

    @functools.cached_property
    def touched(self) -> list[int]:
        """Every inode that differs, or of which a block does; the journal's left out."""
        found = {*self.inodes, *self.uses_before, *self.uses_after} - {0, JOURNAL_INO}
        return sorted(found)


def pieces_minus(pieces: list[Piece], others: list[Piece]) -> list[Piece]:
    """What of `pieces` the `others` do not have: same file block, same disk block."""
    covered: dict[tuple[int, int], list[Span]] = {}
    for piece in others:
        key = piece.level, piece.block_no - piece.file_block
        covered.setdefault(key, []).append((piece.file_block, piece.file_block + piece.count))
    spans = {key: Spans(each) for key, each in covered.items()}
    found = []
    for piece in pieces:
        distance = piece.block_no - piece.file_block
        theirs = spans.get((piece.level, distance), Spans())
        for start, end in theirs.outside(piece.file_block, piece.file_block + piece.count):
            cut = replace(piece, file_block=start, block_no=start + distance, count=end - start)
            found.append(cut)
    return found
