"""The disk as OSTEP's figures draw it (40.2, 40.3): regions, blocks, inode table.

The second part of :mod:`vsfs.describe`, for ``vsfs-inspect IMAGE layout``, and for
the dump of everything.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from vsfs.describe import (
    Values,
    describe_bitmap,
    describe_inode,
    describe_superblock,
    inode_record,
    journal_blocks,
)
from vsfs.describe_uses import STATES, Stretch, owner_values, stretches
from vsfs.layout import INODE_SIZE, JOURNAL_INO, Region, ceil_div, type_name
from vsfs.rawimage import RawImage

MAX_CELLS: Final = 256  # of a picture of the layout, and a few for the regions' ends
MAX_TABLE_INODES: Final = 256  # of the close-up of the inode table


def describe_layout(image: RawImage, *, owners: bool = False) -> Values:
    """The five regions, the blocks as at most about 256 cells, and the inode table.

    A cell stands for `blocks_per_cell` blocks (fewer at a region's end).  `used`
    of its `of` are in use: inodes in the inode table, blocks elsewhere.  In the data
    region `holds` counts its blocks by :data:`~vsfs.describe_uses.STATES`.  A cell of
    which at least half is the journal's has its letter, J.  With `owners` the blocks
    in use are listed with those who use them.
    """
    geometry = image.geometry
    journal = sorted(journal_blocks(image))
    per_cell = 1
    while sum(ceil_div(region.count, per_cell) for region in geometry.regions) > MAX_CELLS:
        per_cell *= 2
    found, damage = stretches(image)
    holds = _holds(found, geometry.data_start, per_cell)
    cells = [
        _cell(image, region, first, min(per_cell, region.start + region.count - first), journal)
        for region in geometry.regions
        for first in range(region.start, region.start + region.count, per_cell)
    ]
    return {
        "block_size": geometry.block_size,
        "block_count": geometry.block_count,
        "damage": damage,
        "regions": [
            {
                "name": region.name,
                **_cell(image, region, region.start, region.count),
                "holds": _sum(holds.values()) if region.letter == "D" else None,
            }
            for region in geometry.regions
        ],
        "blocks_per_cell": per_cell,
        "cells": [{**cell, "holds": holds.get(cell["first"])} for cell in cells],
        "inode_table": _table_values(image),
        "owners": owner_values(image, found) if owners else None,
    }


def _cell(
    image: RawImage,
    region: Region,
    first: int,
    count: int,
    journal: Sequence[int] = (),
) -> Values:
    """`count` blocks of one region from `first` on, and how many are in use."""
    geometry, letter = image.geometry, region.letter
    used, of = count, count
    if region.letter == "I":
        ino = (first - region.start) * geometry.inodes_per_block
        of = max(0, min(count * geometry.inodes_per_block, geometry.inode_count - ino))
        used = image.count_ones(geometry.inode_bitmap_start, ino, of)
    elif region.letter == "D":
        used = image.count_ones(geometry.data_bitmap_start, first - region.start, count)
        own = bisect_left(journal, first + count) - bisect_left(journal, first)
        letter = "J" if own and own * 2 >= count else letter
    return {"letter": letter, "first": first, "count": count, "used": used, "of": of}


def _holds(found: list[Stretch], start: int, per_cell: int) -> dict[int, Values]:
    """For each cell of the data region, by its first block: its blocks by state."""
    cells: dict[int, Values] = {}
    for stretch in found:
        first, end = stretch.first, stretch.first + stretch.count
        while first < end:
            cell = first - (first - start) % per_cell
            stop = min(end, cell + per_cell)
            counts = cells.setdefault(cell, dict.fromkeys(STATES, 0))
            counts[stretch.state] += stop - first
            first = stop
    return cells


def _sum(counts: Iterable[Values]) -> Values:
    total = dict.fromkeys(STATES, 0)
    for each in counts:
        for state, count in each.items():
            total[state] += count
    return total


# -- the inode table, block by block ------------------------------------------


def _table_values(image: RawImage) -> Values:
    """The blocks of the inode table, and what each inode in them is.

    Those of the first 256 inodes; of a longer table, the first so many blocks that
    have an inode in use.
    """
    geometry = image.geometry
    per_block = geometry.inodes_per_block
    total = geometry.data_start - geometry.inode_table_start
    most = max(1, MAX_TABLE_INODES // per_block)
    chosen = range(total) if total <= most else list(islice(_used_blocks(image), most))
    return {
        "inodes_per_block": per_block,
        "inode_size": INODE_SIZE,
        "blocks": [
            {
                "block": geometry.inode_table_start + index,
                "first": index * per_block,
                "inodes": [
                    _inode_state(image, ino)
                    for ino in range(
                        index * per_block, min((index + 1) * per_block, geometry.inode_count)
                    )
                ],
            }
            for index in chosen
        ],
        "complete": total <= most,
    }


def _used_blocks(image: RawImage) -> Iterator[int]:
    """Indexes of the table's blocks that have an inode in use."""
    per_block, last = image.geometry.inodes_per_block, -1
    geometry = image.geometry
    for first, count in image.runs_of_ones(geometry.inode_bitmap_start, geometry.inode_count):
        start = max(first // per_block, last + 1)
        last = max(last, (first + count - 1) // per_block)
        yield from range(start, last + 1)


def _inode_state(image: RawImage, ino: int) -> str:
    """In a word or two: `damaged`, `free`, `deleted`, `reserved`, `journal`, or its type."""
    if image.inode_damage(ino):
        return "damaged"
    record, _ = inode_record(image, ino)
    if ino <= JOURNAL_INO:
        return "journal" if record.mode else "reserved"
    if not image.inode_in_use(ino):
        return "deleted" if record.mode else "free"
    return type_name(record.mode)


# -- all of it ----------------------------------------------------------------


def describe_image(image: RawImage) -> Values:
    """Superblock, layout, both bitmaps, and every inode in use."""
    return {
        "super": describe_superblock(image),
        "layout": describe_layout(image),
        "bitmaps": [describe_bitmap(image, which) for which in ("inode", "data")],
        "inodes": (describe_inode(image, ino) for ino in image.inodes_in_use()),
    }
