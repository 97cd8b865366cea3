"""What changed in the contents of directories and files, and in blocks of pointers."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from itertools import islice
from typing import Final

from vsfs.compare import ATTRIBUTES, Comparison, pieces_minus
from vsfs.describe import Values, name_values, path_values
from vsfs.errors import Corrupt
from vsfs.layout import TYPE_NAMES, InodeRecord, get_pointers, type_name
from vsfs.rawimage import Piece, RawImage

MAX_EACH: Final = 1000  # names, runs and pointers that are told of one inode

# -- directories --------------------------------------------------------------


def directory_changes(comparison: Comparison) -> list[Values]:
    """For each directory that differs, the names it gained, lost, or gave anew."""
    found = []
    for ino in comparison.touched:
        old, new = (
            _names(comparison, comparison.before, ino),
            _names(comparison, comparison.after, ino),
        )
        gained = [new[name] for name in new.keys() - old.keys()]
        lost = [old[name] for name in old.keys() - new.keys()]
        both = [name for name in old.keys() & new.keys() if old[name]["ino"] != new[name]["ino"]]
        if gained or lost or both:
            found.append(
                {
                    **subject(comparison, ino),
                    "gained": _by_place(gained),
                    "lost": _by_place(lost),
                    "changed": _by_place(
                        [{**new[name], "ino_before": old[name]["ino"]} for name in both]
                    ),
                }
            )
    return found


def subject(comparison: Comparison, ino: int) -> Values:
    """Number and path of an inode that both images may have; the path is the later one."""
    values = path_values(comparison.after, ino)
    if values["path"] is None:
        values = path_values(comparison.before, ino)
    return {"ino": ino, **values}


def _by_place(entries: list[Values]) -> list[Values]:
    return sorted(entries, key=lambda entry: (entry["block"], entry["offset"]))[:MAX_EACH]


def _names(comparison: Comparison, image: RawImage, ino: int) -> dict[bytes, Values]:
    """The names of a directory in use with what they stand for; none of anything else."""
    record = comparison.inode(image, ino)
    found: dict[bytes, Values] = {}
    if record is None or not stat.S_ISDIR(record.mode):
        return found
    try:
        for sector in image.sectors(ino, image.inode(ino)):
            for entry in sector.records:
                if entry.ino:
                    found[entry.name] = {
                        **name_values(entry.name),
                        "ino": entry.ino,
                        "type": TYPE_NAMES.get(entry.file_type),
                        "block": sector.block_no,
                        "offset": entry.offset,
                    }
    except Corrupt:
        pass  # the inode is told of; these are the names up to there
    return found


# -- files --------------------------------------------------------------------


def file_changes(comparison: Comparison) -> list[Values]:
    """For each file and directory: its size, its blocks, and where its bytes changed.

    Contents are compared where both images have them in the same block.
    """
    found = []
    for ino in comparison.touched:
        old = comparison.inode(comparison.before, ino)
        new = comparison.inode(comparison.after, ino)
        was, now = (
            comparison.pieces(image, ino) for image in (comparison.before, comparison.after)
        )
        gained, lost = pieces_minus(now, was), pieces_minus(was, now)
        written = _written(comparison, pieces_minus(now, gained), old, new)
        sizes = old.size if old else None, new.size if new else None
        if not (gained or lost or written or sizes[0] != sizes[1]):
            continue
        record = new or old
        found.append(
            {
                **subject(comparison, ino),
                "type": type_name(record.mode) if record else None,
                "size_before": sizes[0],
                "size": sizes[1],
                "gained": _piece_list(gained),
                "lost": _piece_list(lost),
                "written": written,
            }
        )
    return found


def _piece_list(pieces: list[Piece]) -> list[Values]:
    return [
        {
            "role": role_of(piece),
            "file_block": piece.file_block,
            "block": piece.block_no,
            "count": piece.count,
        }
        for piece in pieces[:MAX_EACH]
    ]


def role_of(piece: Piece) -> str:
    """What the blocks of a piece are: data, indirect or attributes."""
    if piece.level == ATTRIBUTES:
        return "attributes"
    return "indirect" if piece.level else "data"


def _written(
    comparison: Comparison, kept: list[Piece], old: InodeRecord | None, new: InodeRecord | None
) -> list[Values]:
    """Stretches of file blocks that stayed where they are, and have other bytes now.

    `first_byte` and `last_byte` are offsets in the file.  A directory's bytes are told
    as names instead.
    """
    if old is None or new is None or stat.S_ISDIR(new.mode):
        return []
    found = []
    block_size = comparison.after.geometry.block_size
    for piece in kept:
        if piece.level:
            continue
        for start, end in comparison.changed.within(piece.block_no, piece.block_no + piece.count):
            distance = piece.file_block - piece.block_no
            first = (start + distance) * block_size + _differing(comparison, start)[0]
            last = (end - 1 + distance) * block_size + _differing(comparison, end - 1)[-1]
            if first < max(old.size, new.size):
                found.append(
                    {
                        "file_block": start + distance,
                        "block": start,
                        "count": end - start,
                        "first_byte": first,
                        "last_byte": min(last, max(old.size, new.size) - 1),
                    }
                )
    return found[:MAX_EACH]


def _differing(comparison: Comparison, block: int) -> list[int]:
    """The offsets in a block of the bytes that differ."""
    pairs = zip(comparison.before.block(block), comparison.after.block(block), strict=True)
    return [at for at, (old, new) in enumerate(pairs) if old != new]


# -- pointers -----------------------------------------------------------------


def pointer_changes(comparison: Comparison) -> list[Values]:
    """The entries that differ in each block of pointers that both images have."""
    found = []
    for ino, pieces in comparison.uses_after.items():
        for piece in pieces:
            if piece.level > 0 and _was_indirect(comparison, ino, piece):
                entries = list(islice(_entries(comparison, piece), MAX_EACH))
                found.append(
                    {
                        **subject(comparison, ino),
                        "block": piece.block_no,
                        "level": piece.level,
                        "entries": entries,
                    }
                )
    return found


def _was_indirect(comparison: Comparison, ino: int, piece: Piece) -> bool:
    """Whether it was a block of pointers before, too: a new one is told with its file."""
    return piece in comparison.uses_before.get(ino, [])


def _entries(comparison: Comparison, piece: Piece) -> Iterator[Values]:
    per_block = comparison.after.geometry.pointers_per_block
    old, new = (
        get_pointers(image.block(piece.block_no), 0, per_block)
        for image in (comparison.before, comparison.after)
    )
    below = per_block ** (piece.level - 1)
    for index, (was, now) in enumerate(zip(old, new, strict=True)):
        if was != now:
            at = piece.file_block + index * below
            yield {"index": index, "file_block": at, "before": was, "after": now}
