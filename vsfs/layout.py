"""Layout: the one place where the bytes of an image get a meaning.

Above it nobody computes an on-disk offset; ``docs/FORMAT.md`` is this module in
prose, and a test holds the two together.  The shape is OSTEP 40.2's::

    superblock | inode bitmap | data bitmap | inode table | data region

Three steps are kept apart, because an image is never trusted; the third is in
``validate.py``:

* *declare*: the ``construct`` structures (:data:`SUPERBLOCK`, :data:`INODE`,
  :data:`RECORD`), integers little-endian throughout;
* *decode* and *encode*: ``decode_*``/``encode_*`` between bytes and values.
  They run on every inode of a mount, so they use a ``struct`` format that
  :func:`packer` derives from the same declaration;
* *validate*: ``check_*`` compare each number with the :class:`Geometry`.  Only a
  chain of directory records is checked while it is read, in :func:`records`,
  since each record says where the next one is.

Names ending in ``Record`` are on disk; what is in memory (``Inode``,
``Directory``) lives in the layers above.
"""

from __future__ import annotations

import functools
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from construct import (
    Array,
    Bytes,
    Int8sl,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64sl,
    Int64ul,
    Renamed,
    Struct,
    this,
)

from vsfs.errors import Corrupt

MAGIC: Final = b"VSFS"
VERSION: Final = 1

MIN_BLOCK_SIZE: Final = 512
MAX_BLOCK_SIZE: Final = 65536
DEFAULT_BLOCK_SIZE: Final = 4096
MAX_BLOCK_COUNT: Final = 2**32  # block numbers are 32 bits wide

# A disk writes this many bytes whole or not at all.  The superblock, two inodes
# and every chain of directory records fit in one sector, so that a torn block
# write never leaves half of any of them.
SECTOR_SIZE: Final = 512

INODE_SIZE: Final = 256
DIRECT_POINTERS: Final = 12
INDIRECT_LEVELS: Final = 3  # single, double, triple
POINTER_SIZE: Final = 4  # bytes
INLINE_SIZE: Final = 108  # bytes of a short symlink's target
NAME_MAX: Final = 255
LABEL_MAX: Final = 32  # bytes of UTF-8
LINK_MAX: Final = 65535
TARGET_MAX: Final = 4095  # bytes of a symbolic link's target: Linux's PATH_MAX less the NUL

FREE_INO: Final = 0  # in a directory record: the record is free
JOURNAL_INO: Final = 1
ROOT_INO: Final = 2
RESERVED_INODES: Final = 3  # 0, 1 and the root

STATE_CLEAN: Final = 1
STATE_MOUNTED: Final = 2

# Features this version knows, with ext2's meaning of the three sets: an unknown
# `compat` bit may be ignored, an unknown `ro_compat` bit allows reading only, an
# unknown `incompat` bit forbids even that.
FEATURE_COMPAT_JOURNAL: Final = 1  # inode 1 holds a journal
FEATURE_INCOMPAT_RECOVER: Final = 1  # a transaction may wait in it: replay it before reading
#: Field of the superblock -> names of its bits.
FEATURES: Final[dict[str, dict[int, str]]] = {
    "feature_compat": {FEATURE_COMPAT_JOURNAL: "journal"},
    "feature_incompat": {FEATURE_INCOMPAT_RECOVER: "recover"},
    "feature_ro_compat": {},
}
KNOWN_RO_COMPAT: Final = 0
KNOWN_INCOMPAT: Final = FEATURE_INCOMPAT_RECOVER

SUPERBLOCK = Struct(
    "magic" / Bytes(4) * 'the letters "VSFS"',
    "version" / Int32ul * "version of this format: 1",
    "feature_compat" / Int32ul * "features that a reader may ignore",
    "feature_incompat" / Int32ul * "features that a reader must know",
    "feature_ro_compat" / Int32ul * "features that a writer must know",
    "block_size" / Int32ul * "bytes in a block: a power of two, 512 to 65536",
    "block_count" / Int64ul * "blocks in the filesystem, this one included",
    "inode_count" / Int32ul * "inodes in the inode table",
    "inode_size" / Int32ul * "bytes in an inode: 256",
    "inode_bitmap_start" / Int32ul * "first block of the inode bitmap",
    "data_bitmap_start" / Int32ul * "first block of the data bitmap",
    "inode_table_start" / Int32ul * "first block of the inode table",
    "data_start" / Int32ul * "first block of the data region",
    "free_block_count" / Int64ul * "data blocks whose bit is 0",
    "free_inode_count" / Int32ul * "inodes whose bit is 0",
    "state" / Int32ul * "1 clean, 2 mounted (or not cleanly unmounted)",
    "uuid" / Bytes(16) * "identity of the filesystem, in RFC 4122 byte order",
    "label" / Bytes(LABEL_MAX) * "name given by its owner, UTF-8, zero-padded",
    "created_ns" / Int64sl * "when it was made, ns since 1970 UTC",
    "mounted_ns" / Int64sl * "when it was last mounted for writing, ns",
    "written_ns" / Int64sl * "when the superblock was last written, ns",
    "checked_ns" / Int64sl * "when it was last checked, ns",
    "mount_count" / Int32ul * "times it was mounted for writing",
    "reserved" / Bytes(352) * "zero",
    "checksum" / Int32ul * "CRC-32 of the 508 bytes before it",
)

INODE = Struct(
    "mode" / Int32ul * "file type and permissions, as st_mode",
    "nlink" / Int32ul * "directory entries that name it; 0 when it is free",
    "uid" / Int32ul * "owner",
    "gid" / Int32ul * "group",
    "size" / Int64ul * "bytes in the file",
    "blocks" / Int64ul * "blocks it owns: data, indirect and attribute",
    "atime_ns" / Int64sl * "last access, ns since 1970 UTC",
    "mtime_ns" / Int64sl * "last change of the contents, ns",
    "ctime_ns" / Int64sl * "last change of the inode, ns",
    "btime_ns" / Int64sl * "birth, ns",
    "flags" / Int32ul * "none defined: zero",
    "generation" / Int32ul * "times this inode number was given out",
    "device" / Int32ul * "device number of a character or block device",
    "epochs" / Array(4, Int8sl) * "for each of the four times: multiples of 2^64 ns to add",
    "direct" / Array(DIRECT_POINTERS, Int32ul) * "blocks of the file; 0 is a hole",
    "single_indirect" / Int32ul * "a block of pointers to blocks of the file",
    "double_indirect" / Int32ul * "a block of pointers to blocks of pointers",
    "triple_indirect" / Int32ul * "the same, one level deeper",
    "attribute_block" / Int32ul * "block of extended attributes, or 0",
    "inline" / Bytes(INLINE_SIZE) * "target of a short symbolic link, zero-padded",
    "checksum" / Int32ul * "CRC-32 of the inode number (32 bits) and the 252 bytes before it",
)

RECORD = Struct(
    "inode" / Int32ul * "inode number; 0 marks a free record",
    "record_length" / Int16ul * "bytes to the next record, a multiple of 4",
    "name_length" / Int8ul * "bytes in the name",
    "file_type" / Int8ul * "what the inode is, see the table of types",
    "name" / Bytes(this.name_length) * "1 to 255 bytes, no '/' and no NUL",
)

ATTRIBUTES = Struct(
    "magic" / Bytes(4) * 'the letters "ATTR"',
    "inode" / Int32ul * "the inode whose attributes these are",
    "size" / Int32ul * "bytes in use, these 16 included",
    "checksum" / Int32ul * "CRC-32 of the bytes in use, with 0 for this field",
)

ATTRIBUTE = Struct(
    "name_length" / Int8ul * "bytes in the name, 1 to 255",
    "reserved" / Int8ul * "zero",
    "value_length" / Int16ul * "bytes in the value",
    "name" / Bytes(this.name_length) * "with its namespace, such as user.comment; no NUL",
    "value" / Bytes(this.value_length) * "any bytes",
)

JOURNAL = Struct(
    "magic" / Bytes(4) * 'the letters "JRNL"',
    "count" / Int32ul * "blocks of the transaction that waits; 0: none does",
    "sequence" / Int64ul * "number of the transaction, one more for each",
    "checksum" / Int32ul * "CRC-32 of header (0 here), block numbers, log blocks backwards",
)

POINTER = Int32ul  # an indirect block is an array of these


def _codes(construct: Any) -> str:
    """`struct` codes of one ``construct`` field: integer, bytes or array."""
    if isinstance(construct, Renamed):  # a name and a docstring around the field
        return _codes(construct.subcon)
    if isinstance(construct, Array):
        return str(construct.count) + _codes(construct.subcon)
    if hasattr(construct, "fmtstr"):
        return str(construct.fmtstr)[1:]
    if isinstance(construct.length, int):
        return f"{construct.length}s"
    return ""  # a directory record's name, whose length stands in the record


def packer(structure: Any) -> struct.Struct:
    """The little-endian ``struct`` format of a declaration's fixed part.

    An inode decodes in 0.6 us through it and in 39 us through ``construct``.
    """
    return struct.Struct("<" + "".join(_codes(field) for field in structure.subcons))


class Field(NamedTuple):
    """One field of a structure: where it stands and what it means."""

    name: str
    offset: int
    width: int  # bytes; 0 where the record itself says how many
    type: str
    meaning: str


def fields(structure: Any) -> list[Field]:
    """The fields of `structure` in order of their offset in bytes."""
    found, offset = [], 0
    for field in structure.subcons:
        codes = _codes(field)
        width = struct.calcsize("<" + codes)
        if codes.endswith("s") or not codes:
            kind = "bytes"
        else:
            one = struct.calcsize("<" + codes[-1])
            kind = ("s" if codes[-1].islower() else "u") + str(8 * one)
            if width != one:
                kind += f"[{width // one}]"
        found.append(Field(field.name, offset, width, kind, field.docs))
        offset += width
    return found


_SUPERBLOCK = packer(SUPERBLOCK)
_INODE = packer(INODE)
_RECORD = packer(RECORD)
_ATTRIBUTES = packer(ATTRIBUTES)
_ATTRIBUTE = packer(ATTRIBUTE)
SUPERBLOCK_SIZE: Final = _SUPERBLOCK.size
RECORD_HEADER_SIZE: Final = _RECORD.size
ATTRIBUTES_SIZE: Final = _ATTRIBUTES.size
ATTRIBUTE_HEADER_SIZE: Final = _ATTRIBUTE.size
ATTRIBUTES_MAGIC: Final = b"ATTR"
#: With what the names of attributes begin.  ``system.`` is what a kernel makes of others.
NAMESPACES: Final = (b"user.", b"trusted.", b"security.")
_JOURNAL = packer(JOURNAL)
JOURNAL_HEADER_SIZE: Final = _JOURNAL.size
JOURNAL_MAGIC: Final = b"JRNL"


def is_power_of_two(number: int) -> bool:
    """Whether `number` is 1, 2, 4, 8, ..."""
    return number > 0 and number & (number - 1) == 0


def ceil_div(number: int, divisor: int) -> int:
    """`number / divisor`, rounded up.

    >>> ceil_div(80, 16), ceil_div(81, 16)
    (5, 6)
    """
    return -(-number // divisor)


def uuid_text(raw: bytes) -> str:
    """A UUID as people write it (RFC 4122)."""
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


@dataclass(frozen=True, slots=True)
class Region:
    """One of the five regions: its letter in OSTEP's figures, and its blocks."""

    letter: str
    name: str
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes and places of a filesystem: all that is needed to find any byte.

    The arithmetic of OSTEP 40.3 as methods; no input or output.
    """

    block_size: int
    block_count: int
    inode_count: int
    inode_bitmap_start: int
    data_bitmap_start: int
    inode_table_start: int
    data_start: int

    @property
    def inodes_per_block(self) -> int:
        """Inodes in a block of the inode table."""
        return self.block_size // INODE_SIZE

    @property
    def bits_per_block(self) -> int:
        """Bits in a block of a bitmap."""
        return self.block_size * 8

    @property
    def pointers_per_block(self) -> int:
        """Block pointers in an indirect block."""
        return self.block_size // POINTER_SIZE

    @property
    def data_blocks(self) -> int:
        """Blocks of the data region."""
        return self.block_count - self.data_start

    @property
    def max_file_blocks(self) -> int:
        """Blocks that direct and indirect pointers reach."""
        pointers = self.pointers_per_block
        return DIRECT_POINTERS + pointers + pointers**2 + pointers**3

    @property
    def max_file_size(self) -> int:
        """Largest size of a file in bytes; off_t has 63 bits."""
        return min(self.max_file_blocks * self.block_size, 2**63 - 1)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The five regions in their order on the disk."""
        inode_bitmap, data_bitmap = self.inode_bitmap_start, self.data_bitmap_start
        table, data = self.inode_table_start, self.data_start
        return (
            Region("S", "superblock", 0, inode_bitmap),
            Region("i", "inode bitmap", inode_bitmap, data_bitmap - inode_bitmap),
            Region("d", "data bitmap", data_bitmap, table - data_bitmap),
            Region("I", "inode table", table, data - table),
            Region("D", "data region", data, self.data_blocks),
        )

    def region_of(self, block_no: int) -> Region:
        """The region that `block_no` (0 to block_count - 1) lies in."""
        return next(r for r in reversed(self.regions) if block_no >= r.start)

    def inode_location(self, ino: int) -> tuple[int, int]:
        """Block and byte offset of inode `ino` in the inode table (OSTEP 40.3).

        >>> Geometry(4096, 64, 80, 1, 2, 3, 8).inode_location(10)
        (3, 2560)
        """
        block, offset = divmod(ino * INODE_SIZE, self.block_size)
        return self.inode_table_start + block, offset

    def inode_bit(self, ino: int) -> tuple[int, int, int]:
        """Block, byte in it and bit in that byte of inode `ino` in its bitmap."""
        block, bit = divmod(ino, self.bits_per_block)
        return self.inode_bitmap_start + block, bit // 8, bit % 8

    def data_bit(self, block_no: int) -> tuple[int, int, int]:
        """Block, byte in it and bit in that byte of data block `block_no`."""
        block, bit = divmod(block_no - self.data_start, self.bits_per_block)
        return self.data_bitmap_start + block, bit // 8, bit % 8

    def is_data_block(self, block_no: int) -> bool:
        """Whether a pointer may point to `block_no`: it is in the data region."""
        return self.data_start <= block_no < self.block_count


class Superblock(NamedTuple):
    """Block 0 decoded; times in ns since 1970, the rest as in the declaration."""

    magic: bytes
    version: int
    feature_compat: int
    feature_incompat: int
    feature_ro_compat: int
    block_size: int
    block_count: int
    inode_count: int
    inode_size: int
    inode_bitmap_start: int
    data_bitmap_start: int
    inode_table_start: int
    data_start: int
    free_block_count: int
    free_inode_count: int
    state: int
    uuid: bytes
    label: bytes
    created_ns: int
    mounted_ns: int
    written_ns: int
    checked_ns: int
    mount_count: int
    reserved: bytes
    checksum: int

    @property
    def geometry(self) -> Geometry:
        """The part of the superblock that finds everything else."""
        return Geometry(
            self.block_size,
            self.block_count,
            self.inode_count,
            self.inode_bitmap_start,
            self.data_bitmap_start,
            self.inode_table_start,
            self.data_start,
        )

    @property
    def text_label(self) -> str:
        """The label without its padding; bytes that are not UTF-8 are escaped."""
        return self.label.rstrip(b"\0").decode("utf-8", "backslashreplace")


def feature_names(field: str, bits: int) -> list[str]:
    """The features in a set of the superblock in words; unknown ones as one number.

    >>> feature_names("feature_compat", 1), feature_names("feature_ro_compat", 6)
    (['journal'], ['0x6'])
    """
    known = FEATURES[field]
    unknown = bits & ~sum(known)
    found = [name for bit, name in known.items() if bits & bit]
    return [*found, f"{unknown:#x}"] if unknown else found


def decode_superblock(data: bytes | bytearray) -> Superblock:
    """The first 512 bytes of an image as a value, not yet checked."""
    return Superblock._make(_SUPERBLOCK.unpack_from(data))


def encode_superblock(superblock: Superblock) -> bytes:
    """512 bytes, with a fresh checksum."""
    data = _SUPERBLOCK.pack(*superblock)
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


class InodeRecord(NamedTuple):
    """An inode on disk.

    `pointers` are the direct ones, then single to triple; the times are whole,
    with their epochs added.
    """

    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    flags: int
    generation: int
    device: int
    pointers: tuple[int, ...]
    attribute_block: int
    inline: bytes
    checksum: int = 0


# 64 bits of nanoseconds reach from 1677 to 2262.  A signed byte for each time
# carries on from there: epoch 0 is all that most images will ever hold.
_TIMES: Final = slice(InodeRecord._fields.index("atime_ns"), InodeRecord._fields.index("flags"))
_EPOCHS: Final = slice(_TIMES.stop + 3, _TIMES.stop + 3 + 4)  # flags, generation, device between
_POINTERS: Final = slice(_EPOCHS.stop, _EPOCHS.stop + DIRECT_POINTERS + INDIRECT_LEVELS)
_EPOCH_ZERO: tuple[int, ...] = (0, 0, 0, 0)
_GENERATION: Final = struct.Struct("<I")
_GENERATION_AT: Final = next(field.offset for field in fields(INODE) if field.name == "generation")
MIN_TIME_NS: Final = -(128 << 64) - 2**63  # the lowest epoch and the lowest 64 bits
MAX_TIME_NS: Final = (127 << 64) + 2**63 - 1


def decode_inode(data: bytes | bytearray, offset: int = 0) -> InodeRecord:
    """The 256 bytes at `offset` as a value, not yet checked."""
    values = _INODE.unpack_from(data, offset)
    head: tuple[Any, ...] = values[: _EPOCHS.start]
    epochs = values[_EPOCHS]
    if epochs != _EPOCH_ZERO:
        times = (low + (epoch << 64) for low, epoch in zip(head[_TIMES], epochs, strict=True))
        head = (*head[: _TIMES.start], *times, *head[_TIMES.stop :])
    return InodeRecord._make((*head, values[_POINTERS], *values[_POINTERS.stop :]))


def inode_generation(data: bytes | bytearray, offset: int) -> int:
    """Only the generation of the inode at `offset`."""
    generation: int = _GENERATION.unpack_from(data, offset + _GENERATION_AT)[0]
    return generation


def encode_inode(ino: int, record: InodeRecord) -> bytes:
    """256 bytes, with a fresh checksum for inode number `ino`."""
    head: tuple[Any, ...] = record[: _EPOCHS.start]
    epochs = _EPOCH_ZERO
    times = (record.atime_ns, record.mtime_ns, record.ctime_ns, record.btime_ns)
    if min(times) < -(2**63) or max(times) >= 2**63:
        epochs = tuple((time + 2**63) >> 64 for time in times)
        low = (time - (epoch << 64) for time, epoch in zip(times, epochs, strict=True))
        head = (*head[: _TIMES.start], *low, *head[_TIMES.stop :])
    data = _INODE.pack(*head, *epochs, *record.pointers, *record[_EPOCHS.start + 1 :])
    return data[:-4] + inode_checksum(ino, data).to_bytes(4, "little")


def inode_checksum(ino: int, data: bytes) -> int:
    """CRC-32 of the inode number and the first 252 bytes of the inode.

    The number is part of it, so that an inode written to the wrong place in the
    table is found out.
    """
    return zlib.crc32(data[: INODE_SIZE - 4], zlib.crc32(ino.to_bytes(4, "little")))


#: Type code of a directory record for each file type in an inode's mode.
TYPE_OF_MODE: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
MODE_OF_TYPE: Final = {code: mode for mode, code in TYPE_OF_MODE.items()}
DIRECTORY_TYPE: Final = 2
TYPE_NAMES: Final = {
    1: "regular file",
    2: "directory",
    3: "character device",
    4: "block device",
    5: "fifo",
    6: "socket",
    7: "symbolic link",
}


def type_name(mode: int) -> str:
    """The file type in `mode` in words; "unknown" for an impossible one."""
    return TYPE_NAMES.get(TYPE_OF_MODE.get(stat.S_IFMT(mode), 0), "unknown")


class DirectoryRecord(NamedTuple):
    """A directory record and the byte offset in its block where it starts."""

    offset: int
    ino: int
    record_length: int
    file_type: int
    name: bytes

    @property
    def slack(self) -> int:
        """Bytes behind the name that another record could take."""
        return self.record_length - (record_size(len(self.name)) if self.ino else 0)


def record_size(name_length: int) -> int:
    """Bytes that a record with a name of `name_length` bytes needs.

    >>> record_size(1), record_size(4), record_size(5)
    (12, 12, 16)
    """
    return (RECORD_HEADER_SIZE + name_length + 3) & ~3


def records(data: bytes | bytearray, block_no: int, start: int = 0) -> Iterator[DirectoryRecord]:
    """The records of directory block `block_no` from byte `start` on, in order.

    `data` is the whole block and `start` the offset of one of its sectors.
    Records never cross a sector: each sector's records fill it exactly, so a
    sector that reaches the disk alone is still a chain.  Raises Corrupt
    (EUCLEAN) at the first record that breaks a rule; free ones are given, too.
    """
    offset, end = start, len(data)
    unpack = _RECORD.unpack_from
    while offset < end:
        sector_end = (offset // SECTOR_SIZE + 1) * SECTOR_SIZE
        if sector_end - offset < RECORD_HEADER_SIZE:
            raise Corrupt(
                "directory record",
                block_no,
                offset,
                f"{sector_end - offset} bytes left in the sector",
                "none, or room for a record of 8 bytes",
            )
        ino, length, name_length, file_type = unpack(data, offset)
        needed = record_size(name_length) if ino else RECORD_HEADER_SIZE
        if length % 4 or length < needed or offset + length > sector_end:
            raise Corrupt(
                "directory record length",
                block_no,
                offset + 4,
                str(length),
                f"a multiple of 4 from {needed} to {sector_end - offset}",
            )
        name_start = offset + RECORD_HEADER_SIZE
        name = bytes(data[name_start : name_start + name_length])
        if ino and (not name or b"/" in name or b"\0" in name):
            raise Corrupt(
                "directory record name",
                block_no,
                name_start,
                repr(name),
                "1 to 255 bytes, no / or NUL",
            )
        yield DirectoryRecord(offset, ino, length, file_type, name)
        offset += length


def put_record(data: bytearray, offset: int, record: DirectoryRecord) -> None:
    """Write `record` at byte `offset` of a directory block."""
    name = record.name
    _RECORD.pack_into(data, offset, record.ino, record.record_length, len(name), record.file_type)
    offset += RECORD_HEADER_SIZE
    data[offset : offset + len(name)] = name


_LENGTH = struct.Struct("<H")
_INO = struct.Struct("<I")
_LENGTH_AT = 4  # a record's length behind its inode number


def record_length(data: bytearray, offset: int) -> int:
    """Length in bytes of the record at `offset`."""
    length: int = _LENGTH.unpack_from(data, offset + _LENGTH_AT)[0]
    return length


def has_record(data: bytearray, offset: int, ino: int, name: bytes) -> bool:
    """Whether the record at `offset` gives inode `ino` this name."""
    found, _, length, _ = _RECORD.unpack_from(data, offset)
    start = offset + RECORD_HEADER_SIZE
    return bool(found == ino and data[start : start + length] == name)


def record_slack(data: bytearray, offset: int) -> int:
    """Bytes of the record at `offset` that another record could take."""
    ino, length, name_length, _ = _RECORD.unpack_from(data, offset)
    return int(length - record_size(name_length) if ino else length)


def put_record_behind(
    data: bytearray, offset: int, slack: int, ino: int, file_type: int, name: bytes
) -> int | None:
    """Write a record into the `slack` bytes of the one at `offset`; return its offset.

    None, with nothing changed, if that one has another slack.
    """
    owner, length, name_length, _ = _RECORD.unpack_from(data, offset)
    used = record_size(name_length) if owner else 0
    if length - used != slack:
        return None
    if used:
        _LENGTH.pack_into(data, offset + _LENGTH_AT, used)
        offset += used
    _RECORD.pack_into(data, offset, ino, slack, len(name), file_type)
    start = offset + RECORD_HEADER_SIZE
    data[start : start + len(name)] = name
    return offset


def take_out_record(
    data: bytearray, offset: int, ino: int, name: bytes
) -> tuple[int, int, int] | None:
    """Remove the record at `offset`, which gives inode `ino` this name.

    Its bytes go to the one before it in its sector, or if it is the first it becomes a
    free one.  Returns offset, length and slack of the one that has them now; None, with
    nothing changed, if another record is there.
    """
    found, length, name_length, _ = _RECORD.unpack_from(data, offset)
    start = offset + RECORD_HEADER_SIZE
    if found != ino or data[start : start + name_length] != name:
        return None
    before = _record_before(data, offset)
    if before == offset:
        _INO.pack_into(data, offset, 0)
        return offset, length, length
    if before < 0:
        return None
    owner, own_length, name_length, _ = _RECORD.unpack_from(data, before)
    length += own_length
    _LENGTH.pack_into(data, before + _LENGTH_AT, length)
    return before, length, length - record_size(name_length) if owner else length


def _record_before(data: bytearray, offset: int) -> int:
    """Offset of the record that precedes the one at `offset` in its sector.

    `offset` itself for the first one; -1 if the chain does not lead to it.
    """
    at = before = offset - offset % SECTOR_SIZE
    while at < offset:  # at most 42 steps
        before = at
        # record_length, without the price of a call and a struct for each step
        length = data[at + _LENGTH_AT] | data[at + _LENGTH_AT + 1] << 8
        if not length:
            return -1
        at += length
    return before if at == offset else -1


def put_record_length(data: bytearray, offset: int, length: int) -> None:
    """Change only the length of the record at `offset`."""
    _LENGTH.pack_into(data, offset + _LENGTH_AT, length)


def put_record_ino(data: bytearray, offset: int, ino: int) -> None:
    """Change only the inode number of the record at `offset`; 0 frees it."""
    _INO.pack_into(data, offset, ino)


def record_ino(data: bytearray, offset: int) -> int:
    """Inode number of the record at `offset`."""
    ino: int = _INO.unpack_from(data, offset)[0]
    return ino


def put_record_type(data: bytearray, offset: int, file_type: int) -> None:
    """Change only the file type of the record at `offset`."""
    data[offset + _LENGTH_AT + 3] = file_type


#: Bytes of the record of `.` in a new directory; `..` is behind it.
DOT_SIZE: Final = record_size(1)
#: A sector of a directory with one free record.
_FREE_SECTOR: Final = _RECORD.pack(0, SECTOR_SIZE, 0, 0).ljust(SECTOR_SIZE, b"\0")


@functools.cache
def _first_directory_block(block_size: int) -> bytes:
    """What the first blocks of all new directories have in common: all but inode numbers."""
    data = empty_directory_block(block_size)
    put_record(data, 0, DirectoryRecord(0, 0, DOT_SIZE, DIRECTORY_TYPE, b"."))
    dotdot = DirectoryRecord(DOT_SIZE, 0, SECTOR_SIZE - DOT_SIZE, DIRECTORY_TYPE, b"..")
    put_record(data, DOT_SIZE, dotdot)
    return bytes(data)


def empty_directory_block(block_size: int) -> bytearray:
    """A directory block whose sectors hold one free record each."""
    return bytearray(_FREE_SECTOR * (block_size // SECTOR_SIZE))


def first_directory_block(block_size: int, ino: int, parent: int) -> bytearray:
    """The first block of a new directory `ino`: its `.` and `..`, then room."""
    data = bytearray(_first_directory_block(block_size))
    _INO.pack_into(data, 0, ino)
    _INO.pack_into(data, DOT_SIZE, parent)
    return data


class AttributeRecord(NamedTuple):
    """An extended attribute and the byte offset in its block where it starts."""

    offset: int
    size: int  # bytes with padding, to the next one
    name: bytes
    value: bytes


def attribute_size(name: bytes, value: bytes) -> int:
    """Bytes that an attribute takes in its block, a multiple of 4."""
    return (_ATTRIBUTE.size + len(name) + len(value) + 3) & ~3


def encode_attributes(ino: int, attributes: dict[bytes, bytes], block_size: int) -> bytearray:
    """The attribute block of inode `ino`; the caller has checked that all fit."""
    data = bytearray(block_size)
    offset = ATTRIBUTES_SIZE
    for name, value in sorted(attributes.items()):
        _ATTRIBUTE.pack_into(data, offset, len(name), 0, len(value))
        start = offset + _ATTRIBUTE.size
        data[start : start + len(name) + len(value)] = name + value
        offset += attribute_size(name, value)
    seal_attributes(data, ino, offset)
    return data


def seal_attributes(data: bytearray, ino: int, size: int) -> None:
    """Write the head of an attribute block with `size` bytes in use, and its checksum."""
    _ATTRIBUTES.pack_into(data, 0, ATTRIBUTES_MAGIC, ino, size, 0)
    _ATTRIBUTES.pack_into(data, 0, ATTRIBUTES_MAGIC, ino, size, zlib.crc32(data[:size]))


def decode_attributes_head(data: bytes | bytearray) -> tuple[bytes, int, int, int]:
    """Magic, inode, bytes in use and checksum of an attribute block, not checked."""
    magic, ino, size, checksum = _ATTRIBUTES.unpack_from(data)
    return magic, ino, size, checksum


def attribute_records(
    data: bytes | bytearray, block_no: int, ino: int
) -> Iterator[AttributeRecord]:
    """The attributes in block `block_no` of inode `ino`, in order.

    `data` is the whole block.  Raises Corrupt (EUCLEAN) at the first thing that
    breaks a rule.
    """

    def bad(offset: int, found: object, expected: str) -> Corrupt:
        return Corrupt(f"attribute block of inode {ino}", block_no, offset, str(found), expected)

    magic, owner, end, checksum = decode_attributes_head(data)
    if magic != ATTRIBUTES_MAGIC:
        raise bad(0, magic, str(ATTRIBUTES_MAGIC))
    if owner != ino:
        raise bad(4, f"inode {owner}", f"inode {ino}")
    if not ATTRIBUTES_SIZE <= end <= len(data):
        raise bad(8, end, f"{ATTRIBUTES_SIZE} to {len(data)} bytes")
    blank = _ATTRIBUTES.pack(magic, owner, end, 0) + data[ATTRIBUTES_SIZE:end]
    if checksum != zlib.crc32(blank):
        raise bad(12, f"{checksum:#010x}", f"{zlib.crc32(blank):#010x}")
    offset = ATTRIBUTES_SIZE
    while offset < end:
        if end - offset < _ATTRIBUTE.size:
            raise bad(offset, f"{end - offset} bytes left", "none, or an attribute")
        name_length, _, value_length = _ATTRIBUTE.unpack_from(data, offset)
        start = offset + _ATTRIBUTE.size
        name = bytes(data[start : start + name_length])
        value = bytes(data[start + name_length : start + name_length + value_length])
        size = attribute_size(name, value)
        if not name or b"\0" in name or start + name_length + value_length > end:
            raise bad(offset, f"a name of {name_length} and a value of {value_length} bytes",
                      "a name, and both within the bytes in use")  # fmt: skip
        yield AttributeRecord(offset, size, name, value)
        offset += size


class JournalHeader(NamedTuple):
    """The first block of a journal: what its log holds, and where that belongs.

    Log block i is the new content of block ``block_numbers[i]``; with none, no
    transaction waits.
    """

    sequence: int
    block_numbers: tuple[int, ...]
    checksum: int = 0


def journal_room(block_size: int) -> int:
    """Block numbers that fit into a journal's header block."""
    return (block_size - JOURNAL_HEADER_SIZE) // 4


def encode_journal(header: JournalHeader, log: list[bytes]) -> bytes:
    """A header with a fresh checksum; `log` is the contents of its blocks.

    Each log block goes into the checksum backwards.  A superblock and every inode end
    with a CRC-32 of their own, and a CRC-32 over that is the same whatever stands
    before it: forwards, a block of inodes could be another one and nobody would know.
    """
    numbers = struct.pack(f"<{len(header.block_numbers)}I", *header.block_numbers)
    count = len(header.block_numbers)
    checksum = zlib.crc32(_JOURNAL.pack(JOURNAL_MAGIC, count, header.sequence, 0) + numbers)
    for content in log:
        checksum = zlib.crc32(content[::-1], checksum)
    return _JOURNAL.pack(JOURNAL_MAGIC, count, header.sequence, checksum) + numbers


def decode_journal(data: bytes | bytearray, block_no: int) -> JournalHeader:
    """The header in block `block_no`, whose bytes are `data`; its checksum not compared.

    Raises Corrupt (EUCLEAN) if it is none, or has more numbers than there is room for.
    """
    magic, count, sequence, checksum = _JOURNAL.unpack_from(data)
    if magic != JOURNAL_MAGIC:
        raise Corrupt("journal header", block_no, 0, str(magic), str(JOURNAL_MAGIC))
    room = journal_room(len(data))
    if count > room:
        raise Corrupt("journal header", block_no, 4, f"{count} blocks", f"at most {room}")
    numbers = struct.unpack_from(f"<{count}I", data, JOURNAL_HEADER_SIZE)
    return JournalHeader(sequence, numbers, checksum)


def get_pointers(data: bytes | bytearray, index: int, count: int) -> tuple[int, ...]:
    """`count` block pointers of an indirect block from number `index` on.

    ``struct`` reads 32 of them in about 1 us; ``construct`` would take 0.5 us each.
    """
    return struct.unpack_from(f"<{count}I", data, index * POINTER_SIZE)


def put_pointers(data: bytearray, index: int, pointers: list[int] | tuple[int, ...]) -> None:
    """Write block pointers into an indirect block from number `index` on."""
    struct.pack_into(f"<{len(pointers)}I", data, index * POINTER_SIZE, *pointers)
