"""What changed in attributes, in the journal, and in blocks that are nobody's now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vsfs.compare import Comparison, Spans
from vsfs.describe import Values, field_values, journal_blocks, name_values
from vsfs.describe_diff_files import role_of, subject
from vsfs.describe_diff_inodes import field_changes
from vsfs.errors import Corrupt
from vsfs.layout import JOURNAL, JOURNAL_HEADER_SIZE, attribute_records
from vsfs.rawimage import RawImage

# -- attributes ---------------------------------------------------------------


def attribute_changes(comparison: Comparison) -> Iterator[Values]:
    """For each inode that differs, the extended attributes it gained, lost or has anew."""
    for ino in comparison.touched:
        old = _attributes(comparison, comparison.before, ino)
        new = _attributes(comparison, comparison.after, ino)
        both = old.keys() & new.keys()
        if old != new:
            yield {
                **subject(comparison, ino),
                "gained": _named(new.keys() - old.keys()),
                "lost": _named(old.keys() - new.keys()),
                "changed": _named(name for name in both if old[name] != new[name]),
            }


def _named(names: Iterable[bytes]) -> list[Values]:
    return [name_values(name) for name in sorted(names)]


def _attributes(comparison: Comparison, image: RawImage, ino: int) -> dict[bytes, bytes]:
    """The attributes of an inode in use, as far as they can be read."""
    record = comparison.inode(image, ino)
    found: dict[bytes, bytes] = {}
    if record is None or not image.geometry.is_data_block(record.attribute_block):
        return found
    block = record.attribute_block
    try:
        for attribute in attribute_records(image.block(block), block, ino):
            found[attribute.name] = attribute.value
    except Corrupt:
        pass  # those up to there
    return found


# -- the journal --------------------------------------------------------------


def journal_changes(comparison: Comparison) -> Iterator[Values]:
    """The fields of the journal's header that differ, and how many blocks of its log."""
    old, new = journal_blocks(comparison.before), journal_blocks(comparison.after)
    if not old or old != new:
        return  # that one came or went is told with inode 1 and the superblock
    changed = [block for block in new if any(comparison.changed.within(block, block + 1))]
    if changed:
        header = (
            field_values(JOURNAL, image.block(new[0])[:JOURNAL_HEADER_SIZE])
            for image in (comparison.before, comparison.after)
        )
        yield {
            "block": new[0],
            "fields": field_changes(*header),
            "log_blocks": sum(block != new[0] for block in changed),
        }


# -- nobody's blocks ----------------------------------------------------------


def other_blocks(comparison: Comparison) -> Iterator[Values]:
    """Data blocks whose bytes differ and that no inode uses now: what they are, and were."""
    geometry = comparison.after.geometry
    owned = Spans(
        (piece.block_no, piece.block_no + piece.count)
        for pieces in comparison.uses_after.values()
        for piece in pieces
    )
    for start, end in comparison.changed.within(geometry.data_start, geometry.block_count):
        for low, high in owned.outside(start, end):
            yield from _orphaned(comparison, low, high)


def _orphaned(comparison: Comparison, start: int, end: int) -> Iterator[Values]:
    """Stretches of blocks without an owner, cut where the owner before was another."""
    cuts = Spans(
        (max(piece.block_no, start), min(piece.block_no + piece.count, end))
        for pieces in comparison.uses_before.values()
        for piece in pieces
        if piece.block_no < end and piece.block_no + piece.count > start
    )
    for low, high in sorted([*cuts.within(start, end), *cuts.outside(start, end)]):
        yield {
            "first": low,
            "count": high - low,
            "in_use": comparison.after.block_in_use(low),
            "was": _was(comparison, low),
        }


def _was(comparison: Comparison, block: int) -> Values | None:
    """Whose the block was before."""
    for ino, pieces in comparison.uses_before.items():
        for piece in pieces:
            if piece.block_no <= block < piece.block_no + piece.count:
                at = piece.file_block + block - piece.block_no
                return {**subject(comparison, ino), "role": role_of(piece), "file_block": at}
    return None
