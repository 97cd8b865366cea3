"""Pass 0: an image that is shorter than its superblock says.

What is not there cannot be read, so the filesystem becomes as long as the image is.
The bits of the blocks that are gone become bits past the end, and they are no free
blocks any more: both belong to this repair.
"""

from __future__ import annotations

from vsfs.device import Kind
from vsfs.errors import Corrupt
from vsfs.fsck.context import Change, Check
from vsfs.fsck.findings import Evidence, rule
from vsfs.fsck.superblock_fields import field_change, field_evidence, refuse
from vsfs.layout import Superblock, encode_superblock
from vsfs.words import counted

CUT_OFF = rule(
    109,
    "image-size",
    "All blocks that the superblock counts are in the image.",
    "The image: what is not there cannot be read.",
    "OSTEP 40.2 Overall Organization",
    is_safe=False,
)


def shortened(superblock: Superblock, size: int) -> Superblock:
    """The superblock without the blocks that are past the image's end.

    Raises Corrupt if no data block is left.
    """
    blocks = size // superblock.block_size
    if superblock.block_count <= blocks:
        return superblock
    if blocks <= superblock.data_start:
        raise Corrupt(
            "image",
            blocks,
            0,
            f"its end, where it should have {superblock.block_count} blocks",
            f"more than its {superblock.data_start} blocks of metadata: it was cut off, and "
            "nothing of the files' contents is left",
        )
    return superblock._replace(block_count=blocks)


def report_cut(check: Check, whole: Superblock) -> None:
    """Rule 109: the image ends early; go on with the blocks that are there."""
    new = check.superblock
    gone = whole.block_count - new.block_count
    found = field_evidence("block_count", whole.block_count)
    bits, free = _bits_of_the_gone(check, whole)
    stored = check.stored_superblock().free_block_count
    sealed = encode_superblock(new._replace(free_block_count=max(stored - free, 0)))
    accepted = check.report(
        CUT_OFF,
        f"the filesystem has {whole.block_count} blocks, but the image ends after "
        f"{new.block_count}: {counted(gone, 'block')} {'are' if gone > 1 else 'is'} gone",
        found=found,
        expected=Evidence("image", new.block_count, 0, f"its end, at {check.overlay.size} bytes"),
        repair=f"make the filesystem {new.block_count} blocks long",
        changes=[
            *(field_change(n, sealed) for n in ("block_count", "free_block_count", "checksum")),
            *bits,
        ],
        lost=f"what was in {'them' if gone > 1 else 'it'}",
    )
    if not accepted:
        refuse(found, str(new.block_count))
    check.superblock = check.stored_superblock()


def _bits_of_the_gone(check: Check, whole: Superblock) -> tuple[list[Change], int]:
    """Changes that set the bits of the blocks that are gone, and how many of those were 0."""
    geometry = whole.geometry
    per_block, first = geometry.bits_per_block, check.geometry.data_blocks
    changes: list[Change] = []
    free = 0
    for index in range(first // per_block, (geometry.data_blocks - 1) // per_block + 1):
        block_no = geometry.data_bitmap_start + index
        content = int.from_bytes(check.overlay.block(block_no), "little")
        low = max(first - index * per_block, 0)
        high = min(geometry.data_blocks - index * per_block, per_block)
        gone = (1 << high) - (1 << low)
        free += (gone & ~content).bit_count()
        after = (content | gone).to_bytes(geometry.block_size, "little")
        at, end = low // 8, (high + 7) // 8
        changes.append(Change(block_no, at, after[at:end], Kind.DATA_BITMAP))
    return changes, free
