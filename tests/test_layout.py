"""The layout against bytes that are written by hand from docs/FORMAT.md.

Every offset below is a number of that document, not of vsfs.layout.
"""

from __future__ import annotations

import contextlib
import datetime
import doctest
import importlib
import struct
import zlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsfs import layout, validate
from vsfs.errors import Corrupt, NotVsfs, UnknownFeature, VsfsError
from vsfs.layout import (
    INODE,
    POINTER,
    RECORD,
    SUPERBLOCK,
    DirectoryRecord,
    Geometry,
    InodeRecord,
    Superblock,
)

DEFAULT: Final = Geometry(4096, 64, 80, 1, 2, 3, 8)
IMAGE_SIZE: Final = 64 * 4096

GEOMETRIES: Final = (
    DEFAULT,
    Geometry(512, 40, 20, 1, 2, 3, 13),
    Geometry(1024, 9000, 8200, 1, 3, 5, 2055),  # two blocks of each bitmap
    Geometry(4096, 200, 100, 2, 5, 9, 20),  # more room than any region needs
    Geometry(65536, 5, 256, 1, 2, 3, 4),
)


# -- bytes by hand ------------------------------------------------------------

#: Superblock: offset and struct code of each field.
SUPERBLOCK_FIELDS: Final = {
    "magic": (0, "4s"),
    "version": (4, "I"),
    "feature_compat": (8, "I"),
    "feature_incompat": (12, "I"),
    "feature_ro_compat": (16, "I"),
    "block_size": (20, "I"),
    "block_count": (24, "Q"),
    "inode_count": (32, "I"),
    "inode_size": (36, "I"),
    "inode_bitmap_start": (40, "I"),
    "data_bitmap_start": (44, "I"),
    "inode_table_start": (48, "I"),
    "data_start": (52, "I"),
    "free_block_count": (56, "Q"),
    "free_inode_count": (64, "I"),
    "state": (68, "I"),
    "uuid": (72, "16s"),
    "label": (88, "32s"),
    "created_ns": (120, "q"),
    "mounted_ns": (128, "q"),
    "written_ns": (136, "q"),
    "checked_ns": (144, "q"),
    "mount_count": (152, "I"),
    "reserved": (156, "352s"),
    "checksum": (508, "I"),
}

#: Inode: the same; times without epochs.
INODE_FIELDS: Final = {
    "mode": (0, "I"),
    "nlink": (4, "I"),
    "uid": (8, "I"),
    "gid": (12, "I"),
    "size": (16, "Q"),
    "blocks": (24, "Q"),
    "atime_ns": (32, "q"),
    "mtime_ns": (40, "q"),
    "ctime_ns": (48, "q"),
    "btime_ns": (56, "q"),
    "flags": (64, "I"),
    "generation": (68, "I"),
    "device": (72, "I"),
    "epochs": (76, "4b"),
    "pointers": (80, "15I"),
    "attribute_block": (140, "I"),
    "inline": (144, "108s"),
    "checksum": (252, "I"),
}

A_SUPERBLOCK: Final[dict[str, Any]] = {
    "magic": b"VSFS",
    "version": 1,
    "feature_compat": 0x10,
    "feature_incompat": 0,
    "feature_ro_compat": 0x20,
    "block_size": 4096,
    "block_count": 64,
    "inode_count": 80,
    "inode_size": 256,
    "inode_bitmap_start": 1,
    "data_bitmap_start": 2,
    "inode_table_start": 3,
    "data_start": 8,
    "free_block_count": 50,
    "free_inode_count": 70,
    "state": 1,
    "uuid": bytes(range(16)),
    "label": "schöne Platte".encode().ljust(32, b"\0"),
    "created_ns": -1,
    "mounted_ns": 2**62,
    "written_ns": -(2**63),
    "checked_ns": 2**63 - 1,
    "mount_count": 0xFFFFFFFF,
    "reserved": b"\x01" * 352,
}

AN_INODE: Final[dict[str, Any]] = {
    "mode": 0o100644,
    "nlink": 3,
    "uid": 1000,
    "gid": 0xFFFFFFFE,
    "size": 12288,
    "blocks": 4,
    "atime_ns": 1_767_225_600_123_456_789,
    "mtime_ns": -1,
    "ctime_ns": 2**63 - 1,
    "btime_ns": -(2**63),
    "flags": 0,
    "generation": 7,
    "device": 0x12345678,
    "pointers": (10, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 63, 12, 13, 14),
    "attribute_block": 15,
    "inline": b"target".ljust(108, b"\0"),
}

A_DIRECTORY_INODE: Final = AN_INODE | {"mode": 0o040755, "size": 4096}


def superblock_bytes(**values: Any) -> bytes:
    """512 bytes with a right checksum, as docs/FORMAT.md says."""
    data = _place(SUPERBLOCK_FIELDS, 512, A_SUPERBLOCK | values)
    if "checksum" not in values:
        struct.pack_into("<I", data, 508, zlib.crc32(data[:508]))
    return bytes(data)


def inode_bytes(ino: int, values: dict[str, Any]) -> bytes:
    """256 bytes with a right checksum, as docs/FORMAT.md says."""
    data = _place(INODE_FIELDS, 256, values)
    if "checksum" not in values:
        struct.pack_into("<I", data, 252, zlib.crc32(struct.pack("<I", ino) + data[:252]))
    return bytes(data)


def _place(fields: dict[str, tuple[int, str]], size: int, values: dict[str, Any]) -> bytearray:
    data = bytearray(size)
    for name, value in values.items():
        offset, code = fields[name]
        struct.pack_into(f"<{code}", data, offset, *_sequence(value))
    return data


def _sequence(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple) else (value,)


# -- superblock ---------------------------------------------------------------


def test_a_superblock_written_by_hand_decodes() -> None:
    data = superblock_bytes()
    decoded = layout.decode_superblock(data)
    assert A_SUPERBLOCK | {"checksum": zlib.crc32(data[:508])} == decoded._asdict()


def test_a_superblock_encodes_to_the_bytes_written_by_hand() -> None:
    superblock = Superblock(**A_SUPERBLOCK, checksum=0)
    assert superblock_bytes() == layout.encode_superblock(superblock)


def test_a_sound_superblock_passes_the_check() -> None:
    superblock = validate.check_superblock(superblock_bytes(), IMAGE_SIZE)
    assert superblock.geometry == DEFAULT
    assert superblock.text_label == "schöne Platte"


def test_a_superblock_may_be_checked_together_with_what_follows_it() -> None:
    data = superblock_bytes() + bytes(range(256))
    assert validate.check_superblock(data, IMAGE_SIZE).geometry == DEFAULT


def test_a_label_that_is_not_utf8_is_escaped() -> None:
    label = b"\xff\0".ljust(32, b"\0")
    assert layout.decode_superblock(superblock_bytes(label=label)).text_label == r"\xff"


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_every_sound_geometry_passes_the_check(geometry: Geometry) -> None:
    values = {name: getattr(geometry, name) for name in Geometry.__slots__}
    data = superblock_bytes(**values, free_block_count=0, free_inode_count=0)
    size = geometry.block_size * geometry.block_count
    assert validate.check_superblock(data, size).geometry == geometry


def test_less_than_512_bytes_are_no_superblock() -> None:
    with pytest.raises(NotVsfs, match="it has 511 bytes"):
        validate.check_superblock(superblock_bytes()[:511], 511)


def test_another_magic_is_no_superblock() -> None:
    with pytest.raises(NotVsfs, match="42 46 53 21 instead of 56 53 46 53"):
        validate.check_superblock(superblock_bytes(magic=b"BFS!"), IMAGE_SIZE)


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_another_version_is_refused_even_with_another_checksum(version: int) -> None:
    with pytest.raises(UnknownFeature, match=f"version {version}"):
        validate.check_superblock(superblock_bytes(version=version, checksum=0), IMAGE_SIZE)


@pytest.mark.parametrize("bit", range(1, 32))  # bit 0: a journal is to be replayed
def test_an_unknown_incompatible_feature_is_refused(bit: int) -> None:
    with pytest.raises(UnknownFeature, match=f"{1 << bit:#x}"):
        validate.check_superblock(superblock_bytes(feature_incompat=1 << bit), IMAGE_SIZE)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("checksum", {"checksum": 0}),
        ("block_size", {"block_size": 0}),
        ("block_size", {"block_size": 256}),
        ("block_size", {"block_size": 131072}),
        ("block_size", {"block_size": 4095}),
        ("block_size", {"block_size": 4096 + 512}),
        ("block_count", {"block_count": 0}),
        ("block_count", {"block_count": 65}),
        ("block_count", {"block_count": 2**32}),
        ("block_count", {"block_count": 2**32 + 1}),
        ("block_count", {"block_count": 2**64 - 1}),
        ("inode_count", {"inode_count": 0}),
        ("inode_count", {"inode_count": 2}),
        ("inode_bitmap_start", {"inode_bitmap_start": 0}),
        ("data_bitmap_start", {"data_bitmap_start": 1}),
        ("data_bitmap_start", {"inode_bitmap_start": 2}),
        ("data_bitmap_start", {"inode_bitmap_start": 2**32 - 1}),
        ("data_bitmap_start", {"inode_count": 2**32 - 1}),
        ("inode_table_start", {"inode_table_start": 2}),
        ("inode_table_start", {"data_bitmap_start": 3}),
        ("data_start", {"data_start": 7}),
        ("data_start", {"data_start": 0}),
        ("data_start", {"inode_count": 81}),
        ("data_start", {"inode_table_start": 4}),
        ("data_start", {"data_start": 64}),
        ("data_start", {"data_start": 2**32 - 1}),
        ("data_start", {"block_count": 8}),
        ("inode_size", {"inode_size": 128}),
        ("inode_size", {"inode_size": 0}),
        ("free_block_count", {"free_block_count": 57}),
        ("free_block_count", {"free_block_count": 2**64 - 1}),
        ("free_inode_count", {"free_inode_count": 78}),
        ("state", {"state": 0}),
        ("state", {"state": 3}),
    ],
    ids=str,
)
def test_a_bad_number_in_the_superblock_is_named(field: str, bad: dict[str, int]) -> None:
    with pytest.raises(Corrupt) as caught:
        validate.check_superblock(superblock_bytes(**bad), IMAGE_SIZE)
    assert caught.value.structure == f"superblock field {field}"
    assert (caught.value.block, caught.value.offset) == (0, SUPERBLOCK_FIELDS[field][0])
    assert f"superblock field {field} (block 0, offset" in str(caught.value)


def test_the_data_bitmap_must_cover_the_data_region() -> None:
    """8 * 512 bits in one block of bitmap, and one data block too many for it."""
    size = 512 * (5 + 4097)
    sound = {
        "block_size": 512,
        "inode_count": 4,
        "data_start": 5,
        "inode_table_start": 3,
        "block_count": 5 + 4096,
    }
    validate.check_superblock(superblock_bytes(**sound, free_inode_count=0), size)
    with pytest.raises(Corrupt, match=r"inode_table_start .* found 3, expected 4 or more"):
        validate.check_superblock(superblock_bytes(**sound | {"block_count": 5 + 4097}), size)


def test_the_largest_numbers_of_the_superblock_are_allowed() -> None:
    validate.check_superblock(
        superblock_bytes(free_block_count=56, free_inode_count=77, state=2), IMAGE_SIZE
    )


# -- inode --------------------------------------------------------------------


def test_an_inode_written_by_hand_decodes() -> None:
    data = inode_bytes(10, AN_INODE)
    decoded = layout.decode_inode(data)
    checksum = zlib.crc32(b"\x0a\0\0\0" + data[:252])
    assert AN_INODE | {"checksum": checksum} == decoded._asdict()


def test_an_inode_encodes_to_the_bytes_written_by_hand() -> None:
    assert inode_bytes(10, AN_INODE) == layout.encode_inode(10, InodeRecord(**AN_INODE))


def test_an_inode_decodes_at_any_offset() -> None:
    block = bytes(2560) + inode_bytes(10, AN_INODE) + bytes(1280)
    assert AN_INODE["size"] == layout.decode_inode(block, 2560).size


@pytest.mark.parametrize("field", ["atime_ns", "mtime_ns", "ctime_ns", "btime_ns"])
@pytest.mark.parametrize(
    ("when", "epoch", "low"),
    [
        (32_503_680_000 * 10**9, 2, -4_389_808_147_419_103_232),  # the example of the document
        (2**63, 1, -(2**63)),
        (-(2**63) - 1, -1, 2**63 - 1),
        (layout.MAX_TIME_NS, 127, 2**63 - 1),
        (layout.MIN_TIME_NS, -128, -(2**63)),
    ],
)
def test_a_time_beyond_64_bits_has_an_epoch(field: str, when: int, epoch: int, low: int) -> None:
    index = ["atime_ns", "mtime_ns", "ctime_ns", "btime_ns"].index(field)
    epochs = [0, 0, 0, 0]
    epochs[index] = epoch
    expected = inode_bytes(5, AN_INODE | {field: low, "epochs": tuple(epochs)})
    record = InodeRecord(**AN_INODE | {field: when})
    assert expected == layout.encode_inode(5, record)
    assert when == getattr(layout.decode_inode(expected), field)


def test_a_time_that_needs_more_than_72_bits_does_not_encode() -> None:
    with pytest.raises(struct.error):
        layout.encode_inode(5, InodeRecord(**AN_INODE | {"mtime_ns": layout.MAX_TIME_NS + 1}))


@pytest.mark.parametrize("values", [AN_INODE, A_DIRECTORY_INODE], ids=["file", "directory"])
def test_a_sound_inode_passes_the_check(values: dict[str, Any]) -> None:
    record = validate.check_inode(10, inode_bytes(10, values), DEFAULT)
    assert values["size"] == record.size


@pytest.mark.parametrize("mode", layout.MODE_OF_TYPE.values())
def test_each_file_type_passes_the_check(mode: int) -> None:
    values = A_DIRECTORY_INODE | {"mode": mode | 0o7777}
    assert validate.check_inode(10, inode_bytes(10, values), DEFAULT).mode == mode | 0o7777


def test_an_inode_that_was_never_used_passes_the_check() -> None:
    assert validate.check_inode(10, bytes(256), DEFAULT).nlink == 0


def test_a_free_inode_keeps_whatever_it_had() -> None:
    values = AN_INODE | {"nlink": 0, "mode": 0, "size": 2**64 - 1, "pointers": (99,) * 15}
    assert validate.check_inode(10, inode_bytes(10, values), DEFAULT).nlink == 0


def test_an_inode_in_the_wrong_place_is_found_out() -> None:
    with pytest.raises(Corrupt, match="inode 11 field checksum"):
        validate.check_inode(11, inode_bytes(10, AN_INODE), DEFAULT)


@pytest.mark.parametrize("byte", range(256))
def test_a_flipped_bit_anywhere_in_an_inode_is_found_out(byte: int) -> None:
    data = bytearray(inode_bytes(10, AN_INODE))
    data[byte] ^= 1 << byte % 8
    with pytest.raises(Corrupt, match="inode 10 field checksum"):
        validate.check_inode(10, bytes(data), DEFAULT)


LARGEST: Final = (12 + 1024 + 1024**2 + 1024**3) * 4096
BAD_POINTERS: Final = (1, 7, 64, 2**32 - 1)


def _with_pointer(index: int, pointer: int) -> dict[str, Any]:
    if index == 15:
        return {"attribute_block": pointer}
    pointers = list(AN_INODE["pointers"])
    pointers[index] = pointer
    return {"pointers": tuple(pointers)}


POINTER_NAMES: Final = (
    *(f"direct[{index}]" for index in range(12)),
    "single_indirect",
    "double_indirect",
    "triple_indirect",
    "attribute_block",
)


@pytest.mark.parametrize(
    ("field", "offset", "bad"),
    [
        ("checksum", 252, {"checksum": 0}),
        ("mode", 0, {"mode": 0o000644}),
        ("mode", 0, {"mode": 0o030644}),
        ("mode", 0, {"mode": 0o170644}),
        ("mode", 0, {"mode": 0o300644}),
        ("mode", 0, {"mode": 0x80000000 | 0o100644}),
        ("size", 16, {"size": LARGEST + 1}),
        ("size", 16, {"size": 2**64 - 1}),
        ("size", 16, {"mode": 0o040755, "size": 0}),
        ("size", 16, {"mode": 0o040755, "size": 4095}),
        ("size", 16, {"mode": 0o040755, "size": 57 * 4096}),
        ("size", 16, {"mode": 0o040755, "size": LARGEST}),
        ("blocks", 24, {"blocks": 57}),
        ("blocks", 24, {"blocks": 2**64 - 1}),
        *(
            (name, 80 + 4 * index, _with_pointer(index, pointer))
            for index, name in enumerate(POINTER_NAMES)
            for pointer in BAD_POINTERS
        ),
    ],
)
def test_a_bad_number_in_an_inode_is_named(field: str, offset: int, bad: dict[str, Any]) -> None:
    """Inode 21 stands in block 4 at offset 1280."""
    with pytest.raises(Corrupt) as caught:
        validate.check_inode(21, inode_bytes(21, AN_INODE | bad), DEFAULT)
    assert caught.value.structure == f"inode 21 field {field}"
    assert (caught.value.block, caught.value.offset) == (4, 1280 + offset)
    assert f"inode 21 field {field} (block 4, offset {1280 + offset})" in str(caught.value)


@pytest.mark.parametrize("index", range(16))
@pytest.mark.parametrize("pointer", [0, 8, 63])
def test_a_pointer_to_either_end_of_the_data_region_is_allowed(index: int, pointer: int) -> None:
    data = inode_bytes(10, AN_INODE | _with_pointer(index, pointer))
    validate.check_inode(10, data, DEFAULT)


def test_the_largest_numbers_of_an_inode_are_allowed() -> None:
    validate.check_inode(10, inode_bytes(10, AN_INODE | {"size": LARGEST, "blocks": 56}), DEFAULT)
    whole = A_DIRECTORY_INODE | {"size": 56 * 4096}
    validate.check_inode(10, inode_bytes(10, whole), DEFAULT)


# -- directory records --------------------------------------------------------


def record_bytes(ino: int, length: int, file_type: int, name: bytes) -> bytes:
    """A record with zeroes as slack, as docs/FORMAT.md says."""
    header = struct.pack("<IHBB", ino, length, len(name), file_type)
    return (header + name).ljust(length, b"\0")


def sector_bytes(*first: bytes) -> bytes:
    """A sector: records, and a free one that fills it."""
    data = b"".join(first)
    return data + record_bytes(0, 512 - len(data), 0, b"") if len(data) < 512 else data


def test_records_written_by_hand_decode() -> None:
    longest = record_bytes(9, 512, 1, b"x" * 255)
    data = (
        sector_bytes(record_bytes(2, 12, 2, b"."), record_bytes(3, 16, 7, b"\xff\xfe -")) + longest
    )
    expected = [
        DirectoryRecord(0, 2, 12, 2, b"."),
        DirectoryRecord(12, 3, 16, 7, b"\xff\xfe -"),
        DirectoryRecord(28, 0, 484, 0, b""),
        DirectoryRecord(512, 9, 512, 1, b"x" * 255),
    ]
    assert expected == list(layout.records(data, 8))
    assert expected[3:] == list(layout.records(data, 8, start=512))
    slack = [0, 4, 484, 248]
    assert slack == [record.slack for record in expected]
    assert slack == [layout.record_slack(bytearray(data), record.offset) for record in expected]


def test_a_record_is_put_where_it_belongs() -> None:
    data = bytearray(b"\xee" * 64)
    layout.put_record(data, 16, DirectoryRecord(16, 0x01020304, 0x20, 7, b"name"))
    assert data == b"\xee" * 16 + bytes.fromhex("04030201 2000 04 07") + b"name" + b"\xee" * 36


def test_each_part_of_a_record_changes_alone() -> None:
    data = bytearray(8) + bytearray(record_bytes(5, 16, 1, b"name"))
    layout.put_record_ino(data, 8, 6)
    layout.put_record_length(data, 8, 504)
    layout.put_record_type(data, 8, 2)
    assert data == bytes(8) + struct.pack("<IHBB", 6, 504, 4, 2) + b"name" + bytes(4)
    assert layout.record_length(data, 8) == 504


@pytest.mark.parametrize("block_size", [512, 1024, 4096, 65536])
def test_the_first_block_of_a_directory_has_dot_and_dotdot(block_size: int) -> None:
    first = record_bytes(70, 12, 2, b".") + record_bytes(3, 500, 2, b"..")
    free = record_bytes(0, 512, 0, b"") * (block_size // 512 - 1)
    assert first + free == layout.first_directory_block(block_size, 70, 3)


@pytest.mark.parametrize("block_size", [512, 4096])
def test_an_empty_directory_block_is_free_records_of_a_sector_each(block_size: int) -> None:
    expected = record_bytes(0, 512, 0, b"") * (block_size // 512)
    assert expected == layout.empty_directory_block(block_size)


@pytest.mark.parametrize(
    ("structure", "offset", "sector"),
    [
        ("directory record length", 4, record_bytes(0, 0, 0, b"")),
        ("directory record length", 4, record_bytes(0, 4, 0, b"")),
        ("directory record length", 4, record_bytes(5, 10, 1, b"a")),
        ("directory record length", 4, record_bytes(5, 8, 1, b"")[:6] + b"\x01\x01a"),
        ("directory record length", 4, record_bytes(5, 12, 1, b"abcde")),
        ("directory record length", 4, record_bytes(0, 516, 0, b"")),
        ("directory record length", 4, record_bytes(0, 65532, 0, b"")),
        (
            "directory record length",
            16,
            record_bytes(5, 12, 1, b"a") + record_bytes(0, 504, 0, b""),
        ),
        ("directory record", 508, record_bytes(5, 508, 1, b"a")),
        ("directory record name", 8, record_bytes(5, 512, 1, b"")),
        ("directory record name", 8, record_bytes(5, 512, 1, b"a/b")),
        ("directory record name", 8, record_bytes(5, 512, 1, b"a\0b")),
        ("directory record name", 20, record_bytes(5, 12, 1, b"a") + record_bytes(6, 500, 1, b"/")),
    ],
)
@pytest.mark.parametrize("before", [0, 512])
def test_a_record_that_breaks_a_rule_is_named(
    structure: str, offset: int, sector: bytes, before: int
) -> None:
    data = record_bytes(0, 512, 0, b"") * (before // 512) + sector.ljust(512, b"\0")[:512]
    with pytest.raises(Corrupt) as caught:
        list(layout.records(data, 33))
    assert caught.value.structure == structure
    assert (caught.value.block, caught.value.offset) == (33, before + offset)


def test_what_stands_in_a_free_record_means_nothing() -> None:
    data = struct.pack("<IHBB", 0, 512, 255, 99) + b"/\0" * 252
    (record,) = layout.records(data, 8)
    assert (record.ino, record.record_length, record.slack) == (0, 512, 512)


def test_a_sector_has_at_most_42_names() -> None:
    names = [record_bytes(5, 12, 1, b"%d" % number) for number in range(41)]
    data = b"".join(names) + record_bytes(5, 20, 1, b"the last one")
    assert len(list(layout.records(data, 8))) == 42


# -- the declarations and what is derived from them ---------------------------


@pytest.mark.parametrize(
    ("structure", "size"), [(SUPERBLOCK, 512), (INODE, 256), (RECORD, 8)], ids=str
)
def test_a_structure_has_its_size(structure: Any, size: int) -> None:
    assert layout.packer(structure).size == size


def test_the_sizes_have_names() -> None:
    sizes = (layout.SUPERBLOCK_SIZE, layout.INODE_SIZE, layout.RECORD_HEADER_SIZE)
    assert sizes == (512, 256, 8)
    assert SUPERBLOCK.sizeof() == layout.SUPERBLOCK_SIZE
    assert INODE.sizeof() == layout.INODE_SIZE


STRUCTURES: Final = (SUPERBLOCK, INODE, RECORD)


@pytest.mark.parametrize("structure", STRUCTURES, ids=["superblock", "inode", "record"])
def test_field_names_are_unique(structure: Any) -> None:
    names = [field.name for field in layout.fields(structure)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("structure", STRUCTURES, ids=["superblock", "inode", "record"])
def test_fields_follow_each_other_without_gaps_and_each_has_a_meaning(structure: Any) -> None:
    fields = layout.fields(structure)
    assert fields[0].offset == 0
    for field, following in pairwise(fields):
        assert field.offset + field.width == following.offset
    assert all(field.meaning for field in fields)


def test_the_values_have_the_fields_of_the_declaration() -> None:
    assert Superblock._fields == tuple(field.name for field in layout.fields(SUPERBLOCK))
    on_disk = [field.name for field in layout.fields(INODE)]
    pointers = ("direct", "single_indirect", "double_indirect", "triple_indirect")
    joined = [name for name in on_disk if name != "epochs" and name not in pointers[1:]]
    joined[joined.index("direct")] = "pointers"
    assert InodeRecord._fields == tuple(joined)


def _flat(parsed: Any, structure: Any) -> tuple[Any, ...]:
    """What ``construct`` parsed, as ``struct`` would give it."""
    values: list[Any] = []
    for field in layout.fields(structure):
        value = parsed[field.name]
        values += value if isinstance(value, list) else [value]
    return tuple(values)


@pytest.mark.parametrize("structure", [SUPERBLOCK, INODE], ids=["superblock", "inode"])
@given(source=st.data())
def test_the_derived_struct_reads_and_writes_what_the_declaration_does(
    structure: Any, source: st.DataObject
) -> None:
    packer = layout.packer(structure)
    data = source.draw(st.binary(min_size=packer.size, max_size=packer.size))
    parsed = structure.parse(data)
    values = packer.unpack(data)
    assert _flat(parsed, structure) == values
    assert structure.build(parsed) == packer.pack(*values) == data


@given(
    ino=st.integers(1, 2**32 - 1),
    length=st.integers(0, 2**16 - 1),
    file_type=st.integers(0, 255),
    name=st.binary(min_size=1, max_size=255),
)
def test_a_record_is_what_the_declaration_builds(
    ino: int, length: int, file_type: int, name: bytes
) -> None:
    """``struct`` has no lengths from the data, so it does the header alone."""
    declared = RECORD.build(
        {
            "inode": ino,
            "record_length": length,
            "name_length": len(name),
            "file_type": file_type,
            "name": name,
        }
    )
    data = bytearray(8 + len(name))
    layout.put_record(data, 0, DirectoryRecord(0, ino, length, file_type, name))
    assert declared == data
    parsed = RECORD.parse(bytes(data))
    assert parsed.name == name
    header = layout.packer(RECORD).unpack_from(data)
    assert (parsed.inode, parsed.record_length, parsed.name_length, parsed.file_type) == header


@given(
    pointers=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=64),
    before=st.integers(0, 64),
)
def test_pointers_are_what_the_declaration_builds(pointers: list[int], before: int) -> None:
    data = bytearray(512)
    layout.put_pointers(data, before, pointers)
    declared = POINTER[len(pointers)]
    assert bytes(before * 4) + declared.build(pointers) == data[: (before + len(pointers)) * 4]
    assert not any(data[(before + len(pointers)) * 4 :])
    assert declared.parse(data[before * 4 :]) == pointers
    assert layout.get_pointers(data, before, len(pointers)) == tuple(pointers)


@given(
    values=st.tuples(*(st.integers(0, 2**32 - 1) for _ in range(3))), label=st.binary(max_size=32)
)
def test_a_superblock_comes_back_from_its_bytes(values: tuple[int, ...], label: bytes) -> None:
    superblock = Superblock(**A_SUPERBLOCK, checksum=0)._replace(
        mount_count=values[0],
        free_inode_count=values[1],
        feature_compat=values[2],
        label=label.ljust(32, b"\0"),
    )
    decoded = layout.decode_superblock(layout.encode_superblock(superblock))
    assert superblock == decoded._replace(checksum=0)


def _ns(year: int) -> int:
    start = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
    return (
        (start - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
        // datetime.timedelta(seconds=1)
        * 10**9
    )


u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
times_ns = st.integers(_ns(1000), _ns(3000))

inode_records = st.builds(
    InodeRecord,
    mode=u32,
    nlink=u32,
    uid=u32,
    gid=u32,
    size=u64,
    blocks=u64,
    atime_ns=times_ns,
    mtime_ns=times_ns,
    ctime_ns=times_ns,
    btime_ns=times_ns,
    flags=u32,
    generation=u32,
    device=u32,
    pointers=st.tuples(*[u32] * 15),
    attribute_block=u32,
    inline=st.binary(min_size=108, max_size=108),
    checksum=st.just(0),
)


@given(ino=u32, record=inode_records)
def test_an_inode_comes_back_from_its_bytes(ino: int, record: InodeRecord) -> None:
    """Times from the year 1000 to 3000, to the nanosecond."""
    data = layout.encode_inode(ino, record)
    assert len(data) == 256
    assert record == layout.decode_inode(data)._replace(checksum=0)
    assert layout.decode_inode(data).checksum == layout.inode_checksum(ino, data)


# -- geometry -----------------------------------------------------------------


def test_inode_10_stands_where_ostep_puts_it() -> None:
    assert DEFAULT.inode_location(10) == (3, 2560)
    assert DEFAULT.inode_location(32) == (5, 0)
    assert DEFAULT.inode_bit(10) == (1, 1, 2)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_every_inode_and_block_stands_where_counting_finds_it(geometry: Geometry) -> None:
    size = geometry.block_size
    at = geometry.inode_table_start * size
    bit = geometry.inode_bitmap_start * size * 8
    for ino in range(geometry.inode_count):
        assert (at // size, at % size) == geometry.inode_location(ino)
        assert (bit // 8 // size, bit // 8 % size, bit % 8) == geometry.inode_bit(ino)
        at, bit = at + 256, bit + 1
    assert at <= geometry.data_start * size
    bit = geometry.data_bitmap_start * size * 8
    for block_no in range(geometry.data_start, geometry.block_count):
        assert (bit // 8 // size, bit // 8 % size, bit % 8) == geometry.data_bit(block_no)
        bit += 1
    assert bit <= geometry.inode_table_start * size * 8


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_regions_cover_every_block_once(geometry: Geometry) -> None:
    letters = "".join(region.letter * region.count for region in geometry.regions)
    assert len(letters) == geometry.block_count
    found = [geometry.region_of(block_no).letter for block_no in range(geometry.block_count)]
    assert letters == "".join(found)
    data = [
        block_no for block_no in range(-1, 2 * len(letters)) if geometry.is_data_block(block_no)
    ]
    assert data == list(range(geometry.data_start, geometry.block_count))
    assert len(data) == geometry.data_blocks


def test_the_default_image_is_ostep_s() -> None:
    letters = "".join(region.letter * region.count for region in DEFAULT.regions)
    assert letters == "SidIIIII" + "D" * 56


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_block_holds_as_many_as_fit(geometry: Geometry) -> None:
    size = geometry.block_size
    assert geometry.inodes_per_block == len(range(0, size, 256))
    assert geometry.pointers_per_block == len(range(0, size, 4))
    assert geometry.bits_per_block == len(range(size * 8))


def test_the_largest_file_is_what_the_pointers_reach() -> None:
    assert DEFAULT.max_file_blocks == 1_074_791_436
    assert DEFAULT.max_file_size == LARGEST == 4_402_345_721_856


@pytest.mark.parametrize(("number", "expected"), [(0, False), (1, True), (2, True), (3, False)])
def test_powers_of_two(number: int, *, expected: bool) -> None:
    assert layout.is_power_of_two(number) is expected


# -- hostile bytes ------------------------------------------------------------


def _mutated(sound: bytes) -> st.SearchStrategy[bytes]:
    """`sound` with some bytes replaced: gets further than random bytes."""
    places = st.lists(
        st.tuples(st.integers(0, len(sound) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )

    def apply(changes: list[tuple[int, int]]) -> bytes:
        data = bytearray(sound)
        for at, byte in changes:
            data[at] = byte
        return bytes(data)

    return places.map(apply)


@given(data=st.binary(max_size=600) | _mutated(superblock_bytes()), size=u64)
def test_no_superblock_raises_anything_but_a_vsfs_error(data: bytes, size: int) -> None:
    with contextlib.suppress(VsfsError):
        validate.check_superblock(data, size)


@given(values=st.fixed_dictionaries({}, optional={
    "block_size": st.sampled_from([0, 512, 4096, 65536]) | u32,
    "block_count": u64,
    "inode_count": u32,
    "inode_bitmap_start": u32,
    "data_bitmap_start": u32,
    "inode_table_start": u32,
    "data_start": u32,
    "free_block_count": u64,
    "free_inode_count": u32,
    "state": u32,
}), size=u64)  # fmt: skip
def test_a_superblock_with_a_right_checksum_is_sound_or_refused(
    values: dict[str, int], size: int
) -> None:
    data = superblock_bytes(**values)
    try:
        geometry = validate.check_superblock(data, size).geometry
    except VsfsError:
        return
    assert geometry.block_count * geometry.block_size <= size
    starts = [region.start for region in geometry.regions]
    assert starts == sorted(set(starts))
    last_inode_block, offset = geometry.inode_location(geometry.inode_count - 1)
    assert last_inode_block < geometry.data_start
    assert offset + 256 <= geometry.block_size
    assert geometry.inode_bit(geometry.inode_count - 1)[0] < geometry.data_bitmap_start
    assert geometry.data_bit(geometry.block_count - 1)[0] < geometry.inode_table_start


@given(
    ino=st.integers(0, 79),
    data=st.binary(min_size=256, max_size=256) | _mutated(inode_bytes(10, AN_INODE)),
)
def test_no_inode_raises_anything_but_corrupt(ino: int, data: bytes) -> None:
    with contextlib.suppress(Corrupt):
        validate.check_inode(ino, data, DEFAULT)


@given(ino=st.integers(0, 79), record=inode_records)
def test_an_inode_with_a_right_checksum_is_sound_or_refused(ino: int, record: InodeRecord) -> None:
    data = layout.encode_inode(ino, record)
    try:
        checked = validate.check_inode(ino, data, DEFAULT)
    except Corrupt:
        return
    assert checked.nlink == 0 or checked.size <= LARGEST


SOUND_DIRECTORY: Final = bytes(layout.first_directory_block(1024, 2, 2))
#: Headers that are often right, so that a chain goes on for a while.
_headers: Final = st.lists(
    st.builds(
        lambda ino, length, name: record_bytes(ino, length, 1, name),
        st.integers(0, 3),
        st.sampled_from([0, 4, 8, 12, 16, 20, 264, 500, 512, 65535]),
        st.binary(max_size=12),
    ),
    max_size=60,
).map(lambda parts: b"".join(parts).ljust(1024, b"\0")[:1024])


@given(data=st.binary(min_size=1024, max_size=1024) | _mutated(SOUND_DIRECTORY) | _headers)
def test_hostile_records_end_or_raise_corrupt(data: bytes) -> None:
    found: list[DirectoryRecord] = []
    refused: Corrupt | None = None
    try:
        for record in layout.records(data, 8):
            found.append(record)
            assert len(found) <= 1024 // 8
    except Corrupt as error:
        refused = error
    end = sum(record.record_length for record in found)
    if refused is None:
        assert end == 1024
    else:
        assert refused.block == 8
        assert end <= refused.offset < 1024
    for record in found:
        assert record.offset // 512 == (record.offset + record.record_length - 1) // 512
        assert record.slack >= 0
        if record.ino:
            assert record.name == data[record.offset + 8 :][: len(record.name)]
            assert 1 <= len(record.name) <= 255


# -- doctests -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["words", "layout", "mkfs", "blockmap", "walk"])
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"vsfs.{name}"))
    assert results.attempted
    assert not results.failed
