"""The journal described as plain values: its header, and what waits in its log.

For ``vsfs-inspect IMAGE journal``.  What a data block of the log is, only the
state *after* the transaction tells: an inode of the same transaction may be what
points to it.  So owners are looked for in the image as a replay would leave it.
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

from vsfs.describe import Values, field_values
from vsfs.describe_owner import owners_of, what_by_place
from vsfs.device import PatchedDevice
from vsfs.errors import Corrupt
from vsfs.journal import Journal
from vsfs.layout import (
    FEATURE_INCOMPAT_RECOVER,
    JOURNAL,
    JOURNAL_HEADER_SIZE,
    JournalHeader,
)
from vsfs.rawimage import RawImage

_OWNER_KEYS: Final = ("ino", "path", "path_hex", "role", "through")


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
                "what": what_by_place(image.geometry, number),
                "owner": uses.get(number),
            }
        )
    return found


def _uses(image: RawImage, content: dict[int, bytes], wanted: set[int]) -> dict[int, Values]:
    """Who uses each of the `wanted` data blocks once the blocks of `content` are in place."""
    try:
        after = RawImage(PatchedDevice(image.device, content))
    except Corrupt:
        return {}
    owners = owners_of(after, filter(image.geometry.is_data_block, wanted))
    return {
        number: {key: uses[0][key] for key in _OWNER_KEYS}
        for number, uses in owners.items()
        if uses
    }
