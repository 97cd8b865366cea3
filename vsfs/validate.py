"""Validation: every number read from an image, compared with the geometry.

Between ``layout`` (what the bytes mean) and all that acts on them.  ``construct``
and ``struct`` decode any bytes whatever, so these explicit checks follow each
decode; nothing above uses a number that did not pass.  A bad one is a
:class:`~vsfs.errors.Corrupt` that names the structure, its block and the offset.
"""

from __future__ import annotations

import stat
import zlib
from typing import Final

from vsfs.errors import Corrupt, NotVsfs, UnknownFeature
from vsfs.layout import (
    DIRECT_POINTERS,
    INODE,
    INODE_SIZE,
    KNOWN_INCOMPAT,
    MAGIC,
    MAX_BLOCK_COUNT,
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    RESERVED_INODES,
    STATE_CLEAN,
    STATE_MOUNTED,
    SUPERBLOCK,
    SUPERBLOCK_SIZE,
    TYPE_OF_MODE,
    VERSION,
    Geometry,
    InodeRecord,
    Superblock,
    ceil_div,
    decode_inode,
    decode_superblock,
    fields,
    inode_checksum,
    is_power_of_two,
)

#: Field of the inode that holds each of its 16 block numbers, in their order.
POINTER_FIELDS: Final = ("direct",) * DIRECT_POINTERS + (
    "single_indirect",
    "double_indirect",
    "triple_indirect",
    "attribute_block",
)

#: Byte offset of each field of the superblock.
SUPERBLOCK_OFFSET: Final = {field.name: field.offset for field in fields(SUPERBLOCK)}


def check_superblock(data: bytes, device_size: int) -> Superblock:
    """Decode the superblock in `data` and compare it with itself and the device.

    `data` is the first 512 bytes of the image, `device_size` its size in bytes.
    Raises NotVsfs (EINVAL), Corrupt (EUCLEAN) or UnknownFeature (EOPNOTSUPP).
    """
    if len(data) < SUPERBLOCK_SIZE:
        raise NotVsfs(
            f"not a VSFS image: it has {device_size} bytes, and a superblock alone "
            f"has {SUPERBLOCK_SIZE}; make one with mkfs.vsfs"
        )
    superblock = decode_superblock(data)
    if superblock.magic != MAGIC:
        raise NotVsfs(
            "not a VSFS image: its first four bytes are "
            f"{superblock.magic.hex(' ')} instead of {MAGIC.hex(' ')} ('VSFS'); "
            "make one with mkfs.vsfs"
        )
    if superblock.version != VERSION:
        raise UnknownFeature(
            f"the image has VSFS version {superblock.version}, "
            f"and this program knows version {VERSION}; use a newer vsfs"
        )
    checksum = zlib.crc32(data[: SUPERBLOCK_SIZE - 4])
    if superblock.checksum != checksum:
        raise _bad_superblock("checksum", f"{superblock.checksum:#010x}", f"{checksum:#010x}")
    unknown = superblock.feature_incompat & ~KNOWN_INCOMPAT
    if unknown:
        raise UnknownFeature(
            f"the image needs features that this program does not know "
            f"(incompatible feature bits {unknown:#x}); use a newer vsfs"
        )
    check_geometry(superblock.geometry, device_size)
    _check_counts(superblock)
    return superblock


def _bad_superblock(field: str, found: object, expected: str) -> Corrupt:
    return Corrupt(f"superblock field {field}", 0, SUPERBLOCK_OFFSET[field], str(found), expected)


def check_geometry(geometry: Geometry, device_size: int) -> None:
    """Each region is large enough, they do not overlap, and all fit the device.

    Raises Corrupt (EUCLEAN) that names the field of the superblock.
    """
    size = geometry.block_size
    if not (is_power_of_two(size) and MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE):
        raise _bad_superblock("block_size", size, "a power of two from 512 to 65536")
    if not 0 < geometry.block_count <= MAX_BLOCK_COUNT:
        raise _bad_superblock("block_count", geometry.block_count, "1 to 2^32 blocks")
    if geometry.block_count * size > device_size:
        raise _bad_superblock(
            "block_count",
            f"{geometry.block_count} blocks of {size} bytes",
            f"at most {device_size // size}, since the image has {device_size} bytes",
        )
    if geometry.inode_count < RESERVED_INODES:
        raise _bad_superblock("inode_count", geometry.inode_count, "3 or more")
    needed = (
        ("inode_bitmap_start", 1),
        ("data_bitmap_start", ceil_div(geometry.inode_count, geometry.bits_per_block)),
        ("inode_table_start", ceil_div(max(geometry.data_blocks, 1), geometry.bits_per_block)),
        ("data_start", ceil_div(geometry.inode_count, geometry.inodes_per_block)),
    )
    earliest = 0
    for field, blocks in needed:
        earliest += blocks
        start = getattr(geometry, field)
        if start < earliest:
            raise _bad_superblock(field, start, f"{earliest} or more")
        earliest = start
    if geometry.data_start >= geometry.block_count:
        raise _bad_superblock("data_start", geometry.data_start, "less than block_count")


def _check_counts(superblock: Superblock) -> None:
    geometry = superblock.geometry
    if superblock.inode_size != INODE_SIZE:
        raise _bad_superblock("inode_size", superblock.inode_size, str(INODE_SIZE))
    if superblock.free_block_count > geometry.data_blocks:
        raise _bad_superblock(
            "free_block_count", superblock.free_block_count, f"at most {geometry.data_blocks}"
        )
    if superblock.free_inode_count > geometry.inode_count - RESERVED_INODES:
        raise _bad_superblock(
            "free_inode_count",
            superblock.free_inode_count,
            f"at most {geometry.inode_count - RESERVED_INODES}",
        )
    if superblock.state not in (STATE_CLEAN, STATE_MOUNTED):
        raise _bad_superblock("state", superblock.state, "1 (clean) or 2 (mounted)")


def check_inode(ino: int, data: bytes, geometry: Geometry) -> InodeRecord:
    """Decode inode `ino` from its 256 bytes and check every number in it.

    Raises Corrupt (EUCLEAN).  A free inode (nlink 0) passes if its checksum
    does, or if it is all zeroes: never used.
    """
    record = decode_inode(data)
    block, offset = geometry.inode_location(ino)

    def bad(field: str, found: object, expected: str, element: int | None = None) -> Corrupt:
        at = next(f.offset for f in fields(INODE) if f.name == field)
        if element is not None:
            field, at = f"{field}[{element}]", at + element * 4
        return Corrupt(f"inode {ino} field {field}", block, offset + at, str(found), expected)

    checksum = inode_checksum(ino, data)
    if record.checksum != checksum:
        if not any(data):
            return record
        raise bad("checksum", f"{record.checksum:#010x}", f"{checksum:#010x}")
    if record.nlink == 0:
        return record
    if stat.S_IFMT(record.mode) not in TYPE_OF_MODE or record.mode > 0o177777:
        raise bad("mode", oct(record.mode), "a file type and permissions")
    if record.size > geometry.max_file_size:
        raise bad("size", record.size, f"at most {geometry.max_file_size}")
    if stat.S_ISDIR(record.mode) and (record.size == 0 or record.size % geometry.block_size):
        raise bad("size", record.size, "whole blocks, since it is a directory")
    if stat.S_ISDIR(record.mode) and record.size // geometry.block_size > geometry.data_blocks:
        # it has no holes; also bounds what reading one through looping pointers can take
        raise bad("size", record.size, f"at most {geometry.data_blocks} blocks, the data region")
    if record.blocks > geometry.data_blocks:
        raise bad("blocks", record.blocks, f"at most {geometry.data_blocks}")
    data_start, end = geometry.data_start, geometry.block_count
    for index, pointer in enumerate((*record.pointers, record.attribute_block)):
        if pointer and not data_start <= pointer < end:
            expected = f"0 or a block from {data_start} to {end - 1}"
            element = index if index < DIRECT_POINTERS else None
            raise bad(POINTER_FIELDS[index], pointer, expected, element)
    return record
