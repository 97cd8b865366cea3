"""What every data block is used for: the whole data region as runs, in order.

The data bitmap says only that a block is in use; by whom, only the inodes say
(OSTEP 40.3).  So this is a walk over all inodes in use, like fsck's, but it judges
nothing: each stretch of blocks gets one word, its *state*:

``free``, ``data`` (of a file or a long link), ``directory``, ``indirect``,
``attributes``, ``journal``; ``lost``: its bit is 1, but no inode reaches it;
``unmarked``: an inode uses it, but its bit is 0; ``shared``: used more than once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from vsfs.describe import Values, inode_record, path_values
from vsfs.describe_owner import role_of_piece
from vsfs.errors import Corrupt
from vsfs.rawimage import RawImage
from vsfs.words import counted

STATES: Final = (
    "free",
    "data",
    "directory",
    "indirect",
    "attributes",
    "journal",
    "lost",
    "unmarked",
    "shared",
)
MAX_OWNERS: Final = 1000  # stretches of blocks with their owners that are listed
MAX_SHARING: Final = 16  # users of one block that are told of


@dataclass(frozen=True, slots=True)
class Use:
    """`count` blocks in a row that inode `ino` has in one role."""

    first: int
    count: int
    role: str
    ino: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """`count` blocks in a row of one state, and who uses them."""

    first: int
    count: int
    state: str
    uses: tuple[Use, ...]


def stretches(image: RawImage) -> tuple[list[Stretch], str | None]:
    """The data region without gaps, in order; and what could not be followed.

    Blocks behind damage look lost, which the second value then says.
    """
    uses, damaged = _uses(image)
    marked = _marked(image)
    found: list[Stretch] = []
    for first, end, users in _sweep(uses, image.geometry.data_start, image.geometry.block_count):
        for start, stop, bit in _cut(marked, first, end):
            found.append(Stretch(start, stop - start, _state(users, bit=bit), users))
    return found, _damage(damaged)


def _uses(image: RawImage) -> tuple[list[Use], list[int]]:
    """Every use of data blocks by inodes in use, and the inodes that are damaged."""
    found: list[Use] = []
    damaged = []
    for ino in image.inodes_in_use():
        record, is_usable = inode_record(image, ino)
        if not is_usable:
            damaged.append(ino)
            continue
        if record.attribute_block:
            found.append(Use(record.attribute_block, 1, "attributes", ino))
        try:
            for piece in image.pieces(ino, record):
                if piece.block_no:
                    role = role_of_piece(ino, record, piece)
                    found.append(Use(piece.block_no, piece.count, role, ino))
        except Corrupt:
            damaged.append(ino)
    return found, damaged


def _damage(inos: list[int]) -> str | None:
    if not inos:
        return None
    which = f"inode {inos[0]}"
    if len(inos) > 1:
        which += f" and {counted(len(inos) - 1, 'other')}"
    return f"{which} cannot be followed to the end, so that blocks behind may look lost"


def _sweep(uses: list[Use], start: int, end: int) -> Iterator[tuple[int, int, tuple[Use, ...]]]:
    """(first, end, users) of stretches between which the users change."""
    events = [(use.first, index, True) for index, use in enumerate(uses)]
    events += [(use.first + use.count, index, False) for index, use in enumerate(uses)]
    events.sort()
    active: dict[int, Use] = {}
    at = start
    for place, index, begins in events:
        if place > at:
            yield at, place, tuple(islice(active.values(), MAX_SHARING))
            at = place
        if begins:
            active[index] = uses[index]
        else:
            active.pop(index)
    if at < end:
        yield at, end, ()


class _Marked:
    """Runs of ones of the data bitmap as [first, end), read once, forwards."""

    def __init__(self, runs: Iterator[tuple[int, int]], past: int) -> None:
        self._runs = runs
        self._past = past
        self.first = self.end = 0

    def advance(self, block: int) -> None:
        """Go to the first run that ends behind `block`."""
        while self.end <= block:
            first, count = next(self._runs, (self._past, 1))
            self.first, self.end = first, first + count


def _marked(image: RawImage) -> _Marked:
    geometry = image.geometry
    bits = image.runs_of_ones(geometry.data_bitmap_start, geometry.data_blocks)
    runs = ((geometry.data_start + first, count) for first, count in bits)
    return _Marked(runs, geometry.block_count)


def _cut(marked: _Marked, first: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """The blocks from `first` to before `end`, cut where their bits change."""
    while first < end:
        marked.advance(first)
        bit = marked.first <= first
        stop = min(end, marked.end if bit else marked.first)
        yield first, stop, bit
        first = stop


def _state(users: tuple[Use, ...], *, bit: bool) -> str:
    if not users:
        return "lost" if bit else "free"
    if len(users) > 1:
        return "shared"
    return users[0].role if bit else "unmarked"


def owner_values(image: RawImage, found: list[Stretch]) -> Values:
    """Whose the blocks in use are: at most 1000 stretches, in order."""
    listed: list[Values] = []
    taken = (stretch for stretch in found if stretch.state != "free")
    for stretch in taken:
        if len(listed) >= MAX_OWNERS:
            break
        for use in stretch.uses or (None,):
            listed.append(_owner_values(image, stretch, use))
    return {"list": listed[:MAX_OWNERS], "complete": len(listed) < MAX_OWNERS}


def _owner_values(image: RawImage, stretch: Stretch, use: Use | None) -> Values:
    path = path_values(image, use.ino) if use else {"path": None, "path_hex": None}
    return {
        "first": stretch.first,
        "count": stretch.count,
        "state": stretch.state,
        "role": use.role if use else None,
        "ino": use.ino if use else None,
        **path,
    }
