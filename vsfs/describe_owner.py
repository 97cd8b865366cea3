"""From a block back to whoever uses it, and from an inode to all of its names.

On the disk everything points one way: names to inodes, inodes to blocks.  The way
back is a walk over all of them (as ``debugfs`` has it in ``icheck`` and ``ncheck``),
so whoever wants the owners of many blocks asks for them together.
"""

from __future__ import annotations

import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from vsfs.describe import THROUGH, Values, inode_record, name_values, path_values
from vsfs.errors import Corrupt
from vsfs.layout import JOURNAL_INO, TYPE_NAMES, DirectoryRecord, Geometry, InodeRecord, type_name
from vsfs.rawimage import Piece, RawImage, Sector
from vsfs.words import span

MAX_NAMES: Final = 1000  # of one inode that are listed; all are counted
_KINDS: Final = {b".": "itself", b"..": "parent"}

# -- block -> inode -----------------------------------------------------------


def owners_of(image: RawImage, blocks: Iterable[int]) -> dict[int, list[Values]]:
    """For each of the data `blocks`, every use of it by an inode in use.

    As far as inodes are sound; an empty list where nobody uses it.
    """
    wanted = sorted(blocks)
    found: dict[int, list[Values]] = {block: [] for block in wanted}
    for ino in image.inodes_in_use() if wanted else ():
        record, is_usable = inode_record(image, ino)
        if not is_usable:
            continue
        if record.attribute_block in found:
            owner = _owner(image, ino, "attributes", None, 0, 0)
            found[record.attribute_block].append(owner)
        try:
            for piece in image.pieces(ino, record):
                for block in _within(wanted, piece):
                    role, through = role_of_piece(ino, record, piece), THROUGH[piece.slot]
                    at = piece.file_block + block - piece.block_no
                    found[block].append(_owner(image, ino, role, through, piece.level, at))
        except Corrupt:
            continue
    return found


def _within(ordered: list[int], piece: Piece) -> list[int]:
    """The numbers among `ordered` that are blocks of `piece`."""
    if not piece.block_no:
        return []
    start = bisect_left(ordered, piece.block_no)
    return ordered[start : bisect_left(ordered, piece.block_no + piece.count)]


def role_of_piece(ino: int, record: InodeRecord, piece: Piece) -> str:
    """What the blocks of `piece` are to inode `ino`: `record`, in use."""
    if piece.level:
        return "indirect"
    if ino == JOURNAL_INO:
        return "journal"
    return "directory" if stat.S_ISDIR(record.mode) else "data"


def _owner(
    image: RawImage, ino: int, role: str, through: str | None, level: int, file_block: int
) -> Values:
    return {
        "ino": ino,
        **path_values(image, ino),
        "role": role,
        "through": through,
        "level": level,
        "file_block": file_block,
    }


def what_by_place(geometry: Geometry, block: int) -> str:
    """What a block is by its place alone.

    >>> what_by_place(Geometry(4096, 64, 80, 1, 2, 3, 8), 3)
    'inodes 0-15'
    """
    if block >= geometry.block_count:
        return "past the end of the image"
    region = geometry.region_of(block)
    index = block - region.start
    if region.name == "inode table":
        per_block = geometry.inodes_per_block
        return f"inodes {_span(index * per_block, per_block, geometry.inode_count)}"
    if region.name == "inode bitmap":
        per_block = geometry.bits_per_block
        return f"bits of inodes {_span(index * per_block, per_block, geometry.inode_count)}"
    if region.name == "data bitmap":
        per_block, start = geometry.bits_per_block, geometry.data_start
        first = start + index * per_block
        return f"bits of blocks {_span(first, per_block, geometry.block_count)}"
    return region.name


def _span(first: int, count: int, end: int) -> str:
    """`count` numbers from `first` on, but none from `end` on."""
    return span(first, min(count, end - first))


def describe_owner(image: RawImage, block: int) -> Values:
    """Who uses block `block`: the inode, in which role, and every path of it.

    `what` says what a block outside the data region holds by its place.  Raises
    NotThere (ENOENT) past the last block.
    """
    image.block(block)
    geometry = image.geometry
    is_data = geometry.is_data_block(block)
    owners = owners_of(image, [block])[block] if is_data else []
    names = _paths_of(image, {owner["ino"] for owner in owners})
    return {
        "block": block,
        "image_offset": block * geometry.block_size,
        "region": geometry.region_of(block).name,
        "what": what_by_place(geometry, block),
        "in_use": image.block_in_use(block),
        "owners": [{**owner, "paths": names[owner["ino"]]} for owner in owners],
    }


def _paths_of(image: RawImage, inos: set[int]) -> dict[int, list[Values]]:
    """The paths of each inode, at most 1000 of one."""
    found: dict[int, list[Values]] = {ino: [] for ino in inos}
    for place in _entries_for(image, inos) if inos else ():
        paths = found[place.record.ino]
        if place.kind == "name" and len(paths) < MAX_NAMES:
            paths.append(name_values(place.path, "path") if place.path else _NO_PATH)
    return found


# -- inode -> names -----------------------------------------------------------

_NO_PATH: Final[Values] = {"path": None, "path_hex": None}


class _Place:
    """A directory record, and where it stands."""

    __slots__ = ("directory", "kind", "path", "record", "sector")

    def __init__(
        self, image: RawImage, directory: int, sector: Sector, record: DirectoryRecord
    ) -> None:
        self.directory = directory
        self.sector = sector
        self.record = record
        self.kind = _KINDS.get(record.name, "name")
        above = image.path(directory)
        self.path = above and above.rstrip(b"/") + b"/" + record.name


def _entries_for(image: RawImage, inos: set[int]) -> Iterator[_Place]:
    """Every record that stands for one of `inos`, in any directory in use."""
    for ino in image.inodes_in_use():
        record, is_usable = inode_record(image, ino)
        if not is_usable or not stat.S_ISDIR(record.mode):
            continue
        try:
            for sector in image.sectors(ino, record):
                for entry in sector.records:
                    if entry.ino and entry.ino in inos:
                        yield _Place(image, ino, sector, entry)
        except Corrupt:
            continue


def describe_names(image: RawImage, ino: int) -> Values:
    """Every directory record that stands for inode `ino`, with its path.

    A directory's own ``.`` and the ``..`` of those in it are among them: all
    together are what its `nlink` counts.  At most 1000 are listed, `record_count`
    tells how many there are.  Raises NotThere (ENOENT) past the last inode.
    """
    record, _ = inode_record(image, ino)
    places = _entries_for(image, {ino}) if ino else iter(())
    listed = [_place_values(image, place) for place in islice(places, MAX_NAMES)]
    return {
        "ino": ino,
        "type": type_name(record.mode) if record.mode else None,
        "in_use": image.inode_in_use(ino),
        "damage": image.inode_damage(ino),
        "nlink": record.nlink,
        "record_count": len(listed) + sum(1 for _ in places),
        "records": listed,
    }


def _place_values(image: RawImage, place: _Place) -> Values:
    sector, record = place.sector, place.record
    path = _NO_PATH if place.path is None else name_values(place.path, "path")
    return {
        **path,
        **name_values(record.name),
        "kind": place.kind,
        "type": TYPE_NAMES.get(record.file_type),
        "directory": place.directory,
        "block": sector.block_no,
        "offset": record.offset,
        "image_offset": sector.block_no * image.geometry.block_size + record.offset,
    }
