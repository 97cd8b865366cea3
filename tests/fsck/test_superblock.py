"""Pass 0: the superblock is put right, found again, or refused with a sentence."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.images import IDENTITY, KIB, blank
from vsfs.device import BlockDevice, FileDevice, MemoryDevice
from vsfs.errors import Corrupt, NotVsfs, UnknownFeature, VsfsError
from vsfs.fsck.context import Check
from vsfs.fsck.crc import find_wrong_byte
from vsfs.fsck.findings import Finding
from vsfs.fsck.overlay import Overlay
from vsfs.fsck.superblock import check_superblock
from vsfs.layout import Geometry, decode_superblock, encode_superblock
from vsfs.mkfs import make, plan

NOW_NS: Final = 2 * 10**18

#: Field -> (offset, width, number of the rule it breaks), by hand from FORMAT.md.
FIELDS: Final = {
    "magic": (0, 4, 101),
    "version": (4, 4, 102),
    "feature_compat": (8, 4, 103),
    "feature_incompat": (12, 4, 103),
    "feature_ro_compat": (16, 4, 103),
    "block_size": (20, 4, 104),
    "block_count": (24, 8, 104),
    "inode_count": (32, 4, 104),
    "inode_size": (36, 4, 105),
    "inode_bitmap_start": (40, 4, 104),
    "data_bitmap_start": (44, 4, 104),
    "inode_table_start": (48, 4, 104),
    "data_start": (52, 4, 104),
    "free_block_count": (56, 8, 106),
    "free_inode_count": (64, 4, 106),
    "state": (68, 4, 106),
    "uuid": (72, 16, 106),
    "label": (88, 32, 106),
    "created_ns": (120, 8, 106),
    "mounted_ns": (128, 8, 106),
    "written_ns": (136, 8, 106),
    "checked_ns": (144, 8, 106),
    "mount_count": (152, 4, 106),
    "reserved": (156, 352, 106),
    "checksum": (508, 4, 107),
}
FOUND_AGAIN: Final = [name for name, (_, _, number) in FIELDS.items() if number <= 105]

GEOMETRIES: Final = (
    plan(256 * KIB),
    plan(256 * KIB, block_size=512),
    plan(1024 * KIB, block_size=1024, inode_count=3000),
    plan(8192 * KIB, block_size=65536),
)


def accept(finding: Finding) -> bool:
    return True


def decline(finding: Finding) -> bool:
    return False


def checked(image: bytes | bytearray, decide: object = accept) -> Check:
    """Pass 0 of an image in memory."""
    device = MemoryDevice(bytearray(image))
    return check_superblock(Overlay(device), decide, NOW_NS)  # type: ignore[arg-type]


def repaired(check: Check) -> bytes:
    """Block 0 with the repairs."""
    return bytes(check.overlay.block(0)[:512])


def image_of(geometry: Geometry) -> bytearray:
    device = MemoryDevice(bytearray(geometry.block_size * geometry.block_count))
    make(device, geometry, IDENTITY)
    return device.image


def sealed(image: bytearray) -> bytearray:
    """The image with a right checksum for whatever its superblock says."""
    image[508:512] = struct.pack("<I", zlib.crc32(image[:508]))
    return image


SOUND: Final = bytes(blank().image)


# -- nothing to find -------------------------------------------------------------


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.block_size}")
def test_a_sound_superblock_has_no_finding(geometry: Geometry) -> None:
    check = checked(image_of(geometry))
    assert check.findings == []
    assert check.overlay.edits == []
    assert check.geometry == geometry
    assert check.overlay.block_size == geometry.block_size


def test_an_image_longer_than_its_filesystem_has_no_finding() -> None:
    check = checked(SOUND + b"somebody else's" * 1000)
    assert check.findings == []
    assert check.geometry.block_count == 64


def test_regions_with_more_room_than_they_need_have_no_finding() -> None:
    geometry = Geometry(4096, 200, 100, 2, 5, 9, 20)
    check = checked(image_of(geometry))
    assert check.findings == []
    assert check.geometry == geometry


# -- refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"V",
        bytes(511),
        bytes(512),
        bytes(256 * KIB),
        b"\xff" * 256 * KIB,
        b"#!/bin/sh\n" * 3000,
        random.Random(1).randbytes(256 * KIB),
    ],
    ids=["empty", "byte", "511", "512", "zeroes", "ones", "text", "random"],
)
def test_what_is_nothing_like_vsfs_is_refused_with_a_sentence(image: bytes) -> None:
    with pytest.raises(NotVsfs, match="not a VSFS image"):
        checked(image)


@pytest.mark.parametrize(("offset", "words"), [(4, "version 2"), (12, "0x2"), (16, "0x2")])
def test_what_needs_a_newer_version_is_refused(offset: int, words: str) -> None:
    image = bytearray(SOUND)
    image[offset] = 2
    with pytest.raises(UnknownFeature, match=words):
        checked(sealed(image))


def test_an_unknown_compatible_feature_is_no_finding() -> None:
    image = bytearray(SOUND)
    image[8] = 2
    assert checked(sealed(image)).findings == []


def test_a_newer_version_with_a_checksum_of_another_kind_is_refused() -> None:
    image = bytearray(SOUND)
    image[4:8] = struct.pack("<I", 2)
    image[508:512] = b"\1\2\3\4"
    with pytest.raises(UnknownFeature, match="version 2"):
        checked(image)


def test_a_superblock_of_which_nothing_fits_is_refused() -> None:
    image = bytearray(random.Random(1).randbytes(256 * KIB))
    image[:4] = b"VSFS"
    with pytest.raises(Corrupt, match="nothing in the image can be found"):
        checked(image)


# -- one field -------------------------------------------------------------------


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("at", [0, -1])
def test_one_wrong_byte_is_put_right_by_the_checksum(field: str, at: int) -> None:
    offset, width, number = FIELDS[field]
    image = bytearray(SOUND)
    image[offset + at % width] ^= 0x40
    check = checked(image)
    (finding,) = check.findings
    assert finding.rule.number == number
    assert finding.is_repaired
    assert not finding.rule.is_safe
    assert (finding.found.block_no, finding.found.offset) == (0, offset)
    assert field in finding.problem
    assert finding.lost is None
    assert repaired(check) == SOUND[:512]
    assert all(edit.block_no == 0 for edit in finding.edits)
    assert sum(len(edit.after) for edit in finding.edits) == width  # that field and no more


@given(st.integers(0, 511), st.integers(1, 255))
def test_any_byte_of_the_superblock_may_be_wrong(offset: int, xor: int) -> None:
    image = bytearray(SOUND)
    image[offset] ^= xor
    check = checked(image)
    assert repaired(check) == SOUND[:512]
    assert len(check.findings) == 1


@given(st.binary(min_size=1, max_size=600), st.data())
def test_the_crc_names_the_wrong_byte(content: bytes, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(content) - 1))
    xor = data.draw(st.integers(1, 255))
    wrong = bytearray(content)
    wrong[index] ^= xor
    assert find_wrong_byte(bytes(wrong), zlib.crc32(content)) == (index, xor)
    assert find_wrong_byte(content, zlib.crc32(content)) is None


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.block_size}")
@pytest.mark.parametrize("field", FOUND_AGAIN)
@pytest.mark.parametrize("value", [b"\0", b"\xff", b"\xa5"])
def test_a_field_overwritten_whole_is_found_again(
    field: str, value: bytes, geometry: Geometry
) -> None:
    offset, width, number = FIELDS[field]
    sound = image_of(geometry)
    image = bytearray(sound)
    image[offset : offset + width] = value * width
    check = checked(image)
    assert repaired(check) == sound[:512]
    if image != sound:
        (finding,) = check.findings
        assert finding.rule.number == number
        assert finding.found.offset == offset
        assert finding.lost is None  # the checksum proves the rest


@pytest.mark.parametrize("name", ["inode_count", "data_start", "inode_table_start"])
def test_numbers_that_agree_among_themselves_are_held_against_the_image(name: str) -> None:
    """A geometry that makes sense, of which the checksum is wrong in two bytes."""
    offset, width, _ = FIELDS[name]
    image = bytearray(SOUND)
    other = {"inode_count": 79, "data_start": 9, "inode_table_start": 2}[name]
    image[offset : offset + width] = other.to_bytes(width, "little")
    image[88:92] = b"abcd"  # so that the checksum proves nothing
    check = checked(image)
    assert check.geometry == plan(256 * KIB)
    assert {f.rule.number for f in check.findings} == {104, 107}


def test_a_contradiction_under_a_right_checksum_is_found_too() -> None:
    image = bytearray(SOUND)
    image[52:56] = struct.pack("<I", 4)  # the data region, in the middle of the inode table
    check = checked(sealed(image))
    (finding,) = check.findings
    assert finding.rule.number == 104
    assert repaired(check) == SOUND[:512]


def test_a_checksum_that_fits_nothing_leaves_label_uuid_and_times() -> None:
    image = bytearray(SOUND)
    image[508:512] = b"abcd"
    check = checked(image)
    (finding,) = check.findings
    assert finding.rule.number == 107
    assert finding.lost is not None
    assert repaired(check) == SOUND[:512]


def test_a_label_that_is_no_text_is_given_up() -> None:
    image = bytearray(SOUND)
    image[88:92] = b"\xff\xfe\0\1"
    check = checked(image)
    assert [f.rule.number for f in check.findings] == [106, 107]
    assert check.findings[0].lost == "the label"
    assert decode_superblock(repaired(check)).text_label == ""
    assert decode_superblock(repaired(check)).uuid == IDENTITY.uuid


def test_several_wrong_fields_are_a_finding_each() -> None:
    image = bytearray(SOUND)
    image[0:4] = b"abcd"
    image[20:24] = bytes(4)
    image[36:40] = bytes(4)
    check = checked(image)
    assert [f.rule.number for f in check.findings] == [101, 104, 105]
    assert repaired(check) == SOUND[:512]


# -- lost ------------------------------------------------------------------------


def test_a_zeroed_superblock_is_made_again_with_a_uuid_that_repeats() -> None:
    image = bytes(512) + SOUND[512:]
    check = checked(image)
    (finding,) = check.findings
    assert finding.rule.number == 108
    assert finding.lost is not None
    assert "inode 2 (block 3, offset 512)" in finding.problem
    assert "(block 8, offset 0)" in finding.problem
    new, old = decode_superblock(repaired(check)), decode_superblock(SOUND)
    assert new.geometry == old.geometry
    assert new.uuid not in (bytes(16), old.uuid)
    assert repaired(checked(image)) == repaired(check)
    assert (new.state, new.free_block_count, new.free_inode_count) == (1, 55, 77)
    assert new.created_ns == IDENTITY.now_ns  # the root's birth


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.block_size}")
@pytest.mark.parametrize("content", [bytes(512), random.Random(7).randbytes(512)])
def test_a_lost_superblock_is_found_again_in_any_geometry(
    geometry: Geometry, content: bytes
) -> None:
    image = image_of(geometry)
    image[:512] = content
    assert checked(image).geometry == geometry


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.block_size}")
@pytest.mark.parametrize("also", ["root inode", "bitmaps", "root block"])
def test_a_lost_superblock_is_found_again_with_something_else_lost(
    geometry: Geometry, also: str
) -> None:
    image = image_of(geometry)
    image[:512] = bytes(512)
    block, offset = geometry.inode_location(2)
    size = geometry.block_size
    start, end = {
        "root inode": (block * size + offset, block * size + offset + 256),
        "bitmaps": (size, geometry.inode_table_start * size),
        "root block": (geometry.data_start * size, (geometry.data_start + 1) * size),
    }[also]
    image[start:end] = bytes(end - start)
    assert checked(image).geometry == geometry


def test_what_survives_of_a_torn_superblock_is_kept() -> None:
    check = checked(bytes(64) + SOUND[64:])
    (finding,) = check.findings
    assert finding.rule.number == 108
    new = decode_superblock(repaired(check))
    assert (new.uuid, new.text_label) == (IDENTITY.uuid, "test")
    assert finding.lost is None


def test_a_lost_superblock_has_its_journal_again() -> None:
    image = bytearray(SOUND)
    inode = struct.pack("<4I", 0o100600, 1, 0, 0) + bytes(236)
    checksum = zlib.crc32(struct.pack("<I", 1) + inode)
    image[3 * 4096 + 256 : 3 * 4096 + 512] = inode + struct.pack("<I", checksum)
    image[:512] = bytes(512)
    assert decode_superblock(repaired(checked(image))).feature_compat == 1


def test_a_filesystem_inside_a_file_is_not_taken_for_the_image() -> None:
    image = image_of(plan(1024 * KIB))
    image[512 * KIB : 768 * KIB] = SOUND
    image[:512] = bytes(512)
    assert checked(image).geometry == plan(1024 * KIB)


@pytest.mark.parametrize("inode_count", [None, 5_000_000])
def test_a_lost_superblock_of_a_large_image_is_found_without_reading_it_all(
    tmp_path: object, inode_count: int | None
) -> None:
    path = f"{tmp_path}/large.img"
    geometry = plan(2**40, inode_count=inode_count)
    with open(path, "xb") as file:
        file.truncate(2**40)
    device: BlockDevice = FileDevice(path)
    make(device, geometry, IDENTITY)
    device.block_size = 512
    device.write(0, bytes(512))
    check = check_superblock(Overlay(device), accept, NOW_NS)
    device.close()
    assert check.geometry == geometry


# -- cut off ---------------------------------------------------------------------


@pytest.mark.parametrize("blocks", range(9, 64))
def test_a_filesystem_ends_where_its_image_does(blocks: int) -> None:
    check = checked(SOUND[: blocks * 4096 + 100])
    (finding,) = check.findings
    assert finding.rule.number == 109
    assert check.geometry.block_count == blocks
    assert decode_superblock(repaired(check)).block_count == blocks
    assert finding.lost is not None
    assert (finding.found.offset, finding.found.value) == (24, "64")
    assert f"{64 - blocks} block" in finding.problem


@pytest.mark.parametrize("size", [512, 4096, 4 * 4096, 8 * 4096, 9 * 4096 - 1])
def test_an_image_cut_off_in_its_metadata_is_refused(size: int) -> None:
    with pytest.raises(Corrupt, match="nothing of the files' contents is left"):
        checked(SOUND[:size])


def test_a_lost_superblock_of_an_image_cut_off_is_found_again() -> None:
    check = checked(bytes(512) + SOUND[512 : 30 * 4096])
    assert check.geometry == Geometry(4096, 30, 80, 1, 2, 3, 8)


def test_a_wrong_byte_in_an_image_cut_off_is_two_findings() -> None:
    image = bytearray(SOUND[: 20 * 4096])
    image[33] ^= 1
    check = checked(image)
    assert [f.rule.number for f in check.findings] == [104, 109]
    sound = decode_superblock(SOUND)
    expected = sound._replace(block_count=20, free_block_count=sound.free_block_count - 64 + 20)
    assert repaired(check) == encode_superblock(expected)


# -- declined --------------------------------------------------------------------


@pytest.mark.parametrize("field", FOUND_AGAIN)
def test_a_declined_repair_of_what_finds_the_rest_ends_the_check(field: str) -> None:
    offset, _, _ = FIELDS[field]
    image = bytearray(SOUND)
    image[offset] ^= 0x40
    with pytest.raises(Corrupt, match=r"fsck\.vsfs -y"):
        checked(image, decline)


@pytest.mark.parametrize("image", [bytes(512) + SOUND[512:], SOUND[: 20 * 4096]])
def test_a_declined_new_superblock_ends_the_check(image: bytes) -> None:
    with pytest.raises(Corrupt, match=r"fsck\.vsfs -y"):
        checked(image, decline)


@pytest.mark.parametrize("field", ["label", "uuid", "checksum"])
def test_a_declined_repair_of_anything_else_does_not(field: str) -> None:
    offset, _, _ = FIELDS[field]
    image = bytearray(SOUND)
    image[offset] ^= 0x40
    check = checked(image, decline)
    assert check.has_unrepaired
    assert check.overlay.edits == []


# -- anything --------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans())
def test_no_damage_to_the_first_blocks_raises_anything_but_a_sentence(
    seed: int, changes: int, reseal: bool
) -> None:
    chance = random.Random(seed)
    image = bytearray(SOUND)
    for _ in range(changes):
        at = chance.choice((chance.randrange(160), chance.randrange(9 * 4096)))
        length = chance.choice((1, 1, 4, 64))
        image[at : at + length] = chance.randbytes(length)
    if reseal:
        sealed(image)
    try:
        check = checked(image)
    except VsfsError as error:
        assert str(error)
        return
    again = checked(repaired(check) + bytes(image[512:]))
    assert again.findings == []
    assert again.geometry == check.geometry
