"""The journal described as plain values: its header, and what waits in its log.

For ``vsfs-inspect IMAGE journal``.  What a data block of the log is, only the
state *after* the transaction tells: an inode of the same transaction may be what
points to it.  So owners are looked for in the image as a replay would leave it.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import groupby

from vsfs.describe import THROUGH, Values, field_values, inode_record, path_values
from vsfs.describe_block import role_of_piece
from vsfs.device import PatchedDevice
from vsfs.errors import Corrupt
from vsfs.journal import Journal
from vsfs.layout import (
    FEATURE_INCOMPAT_RECOVER,
    JOURNAL,
    JOURNAL_HEADER_SIZE,
    Geometry,
    JournalHeader,
)
from vsfs.rawimage import RawImage


def describe_journal(image: RawImage) -> Values:
    """The journal: where it lies, its header, and the blocks that it would write.

    `waits` tells whether a transaction is to be replayed; `log` lists the blocks of
    the header in any case.  All is null or empty where there is no journal.
    """
    flag = bool(image.superblock.feature_incompat & FEATURE_INCOMPAT_RECOVER)
    found: Values = {
        "present": False,
        "damage": None,
        "replay_flag": flag,
        "blocks": [],
        "capacity": 0,
        "header": None,
        "waits": False,
        "log": [],
    }
    journal = None
    try:
        journal = image.journal
        if journal is not None:
            found |= _place(image, journal)
            header = journal.header()
            log = journal.log(header)
            found["header"]["checksum_is_right"] = log is not None
            found["log"] = _log(image, journal, header, log)
            found["waits"] = flag and bool(header.block_numbers) and log is not None
            if log is not None:
                journal.check_numbers(header.block_numbers)
    except Corrupt as error:
        found |= {"present": True, "damage": str(error), "waits": False}
    return found


def _place(image: RawImage, journal: Journal) -> Values:
    block = journal.blocks[0]
    fields = field_values(JOURNAL, image.block(block)[:JOURNAL_HEADER_SIZE])
    return {
        "present": True,
        "blocks": _runs(journal.blocks),
        "capacity": journal.capacity,
        "header": {"block": block, "checksum_is_right": False, "fields": fields},
    }


def _runs(blocks: tuple[int, ...]) -> list[list[int]]:
    """Blocks in their order as runs [first, count]."""
    pairs = groupby(enumerate(blocks), lambda pair: pair[1] - pair[0])
    runs = [[block for _, block in group] for _, group in pairs]
    return [[run[0], len(run)] for run in runs]


def _log(
    image: RawImage, journal: Journal, header: JournalHeader, log: list[bytes] | None
) -> list[Values]:
    """Each block of the log: where it stands, where it belongs, and what it is there."""
    numbers = header.block_numbers
    content = dict(zip(numbers, log, strict=True)) if log is not None else {}
    uses = _uses(image, content, set(numbers))
    found = []
    for block, number in zip(journal.blocks[1:], numbers, strict=False):
        in_image = number < image.geometry.block_count
        region = image.geometry.region_of(number).name if in_image else None
        found.append(
            {
                "log_block": block,
                "block": number,
                "region": region,
                "what": _what(image.geometry, number, region),
                "owner": uses.get(number),
            }
        )
    return found


def _what(geometry: Geometry, number: int, region: str | None) -> str:
    """What a block is by its place alone."""
    if region is None:
        return "past the end of the image"
    if region == "inode table":
        first = (number - geometry.inode_table_start) * geometry.inodes_per_block
        count = min(geometry.inodes_per_block, geometry.inode_count - first)
        return f"inodes {_span(first, count)}"
    if region == "inode bitmap":
        first = (number - geometry.inode_bitmap_start) * geometry.bits_per_block
        count = min(geometry.bits_per_block, geometry.inode_count - first)
        return f"bits of inodes {_span(first, count)}"
    if region == "data bitmap":
        first = (number - geometry.data_bitmap_start) * geometry.bits_per_block
        count = min(geometry.bits_per_block, geometry.data_blocks - first)
        return f"bits of blocks {_span(geometry.data_start + first, count)}"
    return region


def _span(first: int, count: int) -> str:
    return f"{first}-{first + count - 1}" if count > 1 else str(first)


def _uses(image: RawImage, content: dict[int, bytes], wanted: set[int]) -> dict[int, Values]:
    """Who uses each of the `wanted` data blocks once the blocks of `content` are in place."""
    found: dict[int, Values] = {}
    try:
        after = RawImage(PatchedDevice(image.device, content))
    except Corrupt:
        return found
    ordered = sorted(number for number in wanted if image.geometry.is_data_block(number))
    for ino in after.inodes_in_use() if ordered else ():
        record, is_usable = inode_record(after, ino)
        if not is_usable:
            continue
        if record.attribute_block in ordered:
            found[record.attribute_block] = _use(after, ino, "attributes", None)
        try:
            for piece in after.pieces(ino, record):
                role = role_of_piece(ino, record, piece)
                start = bisect_left(ordered, piece.block_no)
                end = bisect_left(ordered, piece.block_no + piece.count)
                for number in ordered[start:end] if piece.block_no else ():
                    found.setdefault(number, _use(after, ino, role, THROUGH[piece.slot]))
        except Corrupt:
            continue
    return found


def _use(image: RawImage, ino: int, role: str, through: str | None) -> Values:
    return {"ino": ino, **path_values(image, ino), "role": role, "through": through}
