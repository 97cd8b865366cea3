"""Changing a filesystem that nobody has mounted: its journal, label and UUID.

What tune2fs does for ext4.  Each change is made so that a pulled plug leaves the
old filesystem, or the new one, or what the next mount (or ``fsck.vsfs -p``)
repairs without a question:

* label and UUID are one write of the superblock, which is one sector;
* a journal is **added** from the inside out: the superblock says "mounted", so
  that nobody trusts what is half done; the empty journal is written to free
  blocks; their bits; inode 1; and last the superblock, with the journal's flag
  and "clean" again.  Without that flag a check makes inode 1 zero (rule 202);
* it is **taken away** in the opposite order: first the superblock loses the flag.

The image must be clean, since bits and counts are trusted here.  Each function
takes a device that is open for writing, and what it did is durable at return.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from vsfs.device import BlockDevice, Kind
from vsfs.errors import Corrupt, NeedsCheck, NoSpace, VsfsError
from vsfs.journal import (
    MIN_BLOCKS,
    Journal,
    JournalPlace,
    default_blocks,
    require_possible,
    write_journal,
)
from vsfs.layout import (
    DIRECT_POINTERS,
    FEATURE_COMPAT_JOURNAL,
    FEATURE_INCOMPAT_RECOVER,
    INODE_SIZE,
    JOURNAL_INO,
    KNOWN_RO_COMPAT,
    STATE_CLEAN,
    STATE_MOUNTED,
    SUPERBLOCK_SIZE,
    Geometry,
    Superblock,
    ceil_div,
    encode_superblock,
)
from vsfs.mkfs import encode_label
from vsfs.validate import check_inode, check_superblock

_ALL_ONES: Final = 0xFF


class CannotTune(VsfsError):
    """EINVAL: the filesystem is not such that this change can be made."""

    code = errno.EINVAL


def read_superblock(device: BlockDevice) -> Superblock:
    """The superblock of the image, checked; the device gets its block size.

    Raises NotVsfs (EINVAL), Corrupt (EUCLEAN), UnknownFeature (EOPNOTSUPP).
    """
    head = device.read(0, min(SUPERBLOCK_SIZE, device.size), 0, Kind.SUPERBLOCK)
    superblock = check_superblock(head, device.size)
    device.block_size = superblock.block_size
    return superblock


def set_label(device: BlockDevice, label: str) -> None:
    """Give the filesystem another label.

    Raises ImpossibleSize (EINVAL) for one over 32 bytes, NeedsCheck (EUCLEAN).
    """
    encoded = encode_label(label)
    _write_superblock(device, _clean_superblock(device)._replace(label=encoded))


def set_uuid(device: BlockDevice, identity: UUID) -> None:
    """Give the filesystem another UUID; raises NeedsCheck (EUCLEAN)."""
    _write_superblock(device, _clean_superblock(device)._replace(uuid=identity.bytes))


def add_journal(device: BlockDevice, now_ns: int, count: int | None = None) -> int:
    """Give the filesystem a journal of `count` blocks, or of as many as suit it.

    Returns their number.  Raises CannotTune (EINVAL) if it has one, ImpossibleSize
    (EINVAL), NoSpace (ENOSPC), NeedsCheck (EUCLEAN), Corrupt (EUCLEAN).
    """
    superblock = _clean_superblock(device)
    geometry = superblock.geometry
    if superblock.feature_compat & FEATURE_COMPAT_JOURNAL:
        raise CannotTune("it has a journal already; -O ^journal takes that away")
    _require_free_inode(device, geometry)
    count = default_blocks(geometry) if count is None else count
    require_possible(geometry, count)
    needed = count + (count > DIRECT_POINTERS)
    if superblock.free_block_count < needed:
        raise NoSpace(_too_full(superblock.free_block_count, count, needed))
    found = _free_blocks(device, geometry, needed)
    if len(found) < needed:
        raise Corrupt(
            "superblock field free_block_count",
            0,
            0,
            str(superblock.free_block_count),
            f"{len(found)}, as many as the data bitmap has free",
        )
    place = JournalPlace.of(found[:count], found[-1])
    _write_superblock(device, superblock._replace(state=STATE_MOUNTED))
    _set_bits(device, geometry, found, value=True)
    write_journal(device, geometry, place, now_ns)
    device.barrier()
    new = superblock._replace(
        feature_compat=superblock.feature_compat | FEATURE_COMPAT_JOURNAL,
        free_block_count=superblock.free_block_count - needed,
        written_ns=now_ns,
    )
    _write_superblock(device, new)
    return count


def _too_full(free: int, count: int, needed: int) -> str:
    are = "is" if free == 1 else "are"
    text = f"a journal of {count} blocks takes {needed} blocks, and only {free} {are} free"
    if free > MIN_BLOCKS:
        return f"{text}; ask for a smaller one with -J blocks={free - 1}"
    return f"{text}; remove some files first"


def remove_journal(device: BlockDevice, now_ns: int) -> int:
    """Take the journal away.

    Returns how many blocks became free.  Raises CannotTune (EINVAL) if there is
    none, NeedsCheck (EUCLEAN), Corrupt (EUCLEAN).
    """
    if not read_superblock(device).feature_compat & FEATURE_COMPAT_JOURNAL:
        raise CannotTune("it has no journal")
    superblock = _clean_superblock(device)
    geometry = superblock.geometry
    block, offset = geometry.inode_location(JOURNAL_INO)
    data = device.read(block, INODE_SIZE, offset, Kind.INODE_TABLE, JOURNAL_INO)
    blocks = Journal(device, geometry).blocks
    indirect = check_inode(JOURNAL_INO, data, geometry).pointers[DIRECT_POINTERS]
    freed = blocks + ((indirect,) if indirect else ())
    superblock = superblock._replace(
        feature_compat=superblock.feature_compat & ~FEATURE_COMPAT_JOURNAL, written_ns=now_ns
    )
    _write_superblock(device, superblock._replace(state=STATE_MOUNTED))
    device.write(block, bytes(INODE_SIZE), offset, Kind.INODE_TABLE, JOURNAL_INO)
    device.barrier()
    _set_bits(device, geometry, freed, value=False)
    device.barrier()
    count = superblock.free_block_count + len(freed)
    _write_superblock(device, superblock._replace(free_block_count=count))
    return len(freed)


# -- the superblock ------------------------------------------------------------


def is_clean(superblock: Superblock) -> bool:
    """Whether it was cleanly unmounted, with nothing that waits in a journal."""
    waits = superblock.feature_incompat & FEATURE_INCOMPAT_RECOVER
    return superblock.state == STATE_CLEAN and not waits


def _clean_superblock(device: BlockDevice) -> Superblock:
    """The superblock of a filesystem that was cleanly unmounted, and may be written.

    Raises NeedsCheck (EUCLEAN), CannotTune (EINVAL).
    """
    superblock = read_superblock(device)
    if not is_clean(superblock):
        raise NeedsCheck("it was not cleanly unmounted; mount it once, or run fsck.vsfs -p")
    unknown = superblock.feature_ro_compat & ~KNOWN_RO_COMPAT
    if unknown:
        raise CannotTune(
            f"it has features that this program does not know (bits {unknown:#x}), "
            "and can only be read; use a newer vsfs"
        )
    return superblock


def _write_superblock(device: BlockDevice, superblock: Superblock) -> None:
    """One sector, with barriers around it."""
    device.barrier()
    device.write(0, encode_superblock(superblock), 0, Kind.SUPERBLOCK)
    device.barrier()


# -- inode 1 and the data bitmap -----------------------------------------------


def _require_free_inode(device: BlockDevice, geometry: Geometry) -> None:
    """Raise Corrupt (EUCLEAN) unless inode 1 is zero."""
    block, offset = geometry.inode_location(JOURNAL_INO)
    data = device.read(block, INODE_SIZE, offset, Kind.INODE_TABLE, JOURNAL_INO)
    at = next((index for index, byte in enumerate(data) if byte), None)
    if at is not None:
        found = f"byte {data[at]:#04x}"
        raise Corrupt("inode 1", block, offset + at, found, "zeroes: there is no journal")


def _free_blocks(device: BlockDevice, geometry: Geometry, count: int) -> tuple[int, ...]:
    """`count` free blocks in a row, or else the first ones that are free."""
    first: list[int] = []
    row: list[int] = []
    for block_no in _zeroes(device, geometry):
        if len(first) < count:
            first.append(block_no)
        if row and block_no != row[-1] + 1:
            row.clear()
        row.append(block_no)
        if len(row) == count:
            return tuple(row)
    return tuple(first)


def _zeroes(device: BlockDevice, geometry: Geometry) -> Iterator[int]:
    """The free data blocks in their order."""
    bits = geometry.bits_per_block
    for index in range(ceil_div(geometry.data_blocks, bits)):
        start = geometry.data_start + index * bits
        data = device.read(
            geometry.data_bitmap_start + index, geometry.block_size, 0, Kind.DATA_BITMAP
        )
        for at, byte in enumerate(data):
            if byte == _ALL_ONES:
                continue
            for bit in range(8):
                block_no = start + at * 8 + bit
                if not byte >> bit & 1 and block_no < geometry.block_count:
                    yield block_no


def _set_bits(
    device: BlockDevice, geometry: Geometry, blocks: tuple[int, ...], *, value: bool
) -> None:
    """Give the bits of `blocks` this value, one write for each block of the bitmap."""
    bitmap: dict[int, bytearray] = {}
    for block_no in blocks:
        number, byte, bit = geometry.data_bit(block_no)
        if number not in bitmap:
            content = device.read(number, geometry.block_size, 0, Kind.DATA_BITMAP)
            bitmap[number] = bytearray(content)
        if value:
            bitmap[number][byte] |= 1 << bit
        else:
            bitmap[number][byte] &= ~(1 << bit)
    for number in sorted(bitmap):
        device.write(number, bitmap[number], 0, Kind.DATA_BITMAP)
