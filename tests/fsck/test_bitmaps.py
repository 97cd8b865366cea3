"""Pass 5: bitmaps, free counts and state follow the inodes."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.images import IDENTITY, KIB, mount
from tests.support.rawwalk import walk
from vsfs.device import FileDevice, MemoryDevice
from vsfs.errors import Corrupt
from vsfs.fsck.bitmaps import check_bitmaps
from vsfs.fsck.context import Check, CheckedInode
from vsfs.fsck.findings import Evidence, Finding
from vsfs.fsck.overlay import Overlay
from vsfs.fsck.state import check_state
from vsfs.fsck.superblock import CHECKSUM_WRONG, check_superblock
from vsfs.layout import Geometry
from vsfs.mkfs import make, plan
from vsfs.rawimage import RawImage
from vsfs.validate import check_superblock as require_superblock

NOW_NS: Final = 2 * 10**18
INODE_BITMAP: Final = 4096  # bytes, in the default image
DATA_BITMAP: Final = 8192


def made() -> bytes:
    """An image with a few files: inodes 3 to 5, blocks 9 to 11 and more."""
    device = MemoryDevice(bytearray(256 * KIB))
    make(device, plan(256 * KIB), IDENTITY)
    with mount(device) as fs:
        fs.mkdir("/d")
        for path, content in (("/d/big", b"x" * 100_000), ("/m", b"m" * 10)):
            fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
            fs.write(fd, content)
            fs.close(fd)
    return bytes(device.image)


SOUND: Final = made()
IN_USE: Final = walk(SOUND)


def inodes_of(check: Check) -> None:
    """What passes 1 to 4 leave of a sound image."""
    image = RawImage(check.overlay)
    for ino in range(2, min(check.geometry.inode_count, 1000)):
        record = image.inode(ino)
        if not record.nlink:
            continue
        check.inodes[ino] = CheckedInode(ino, record, is_sealed=True)
        for piece in image.pieces(ino, record):
            if piece.block_no:
                check.blocks.mark(piece.block_no - check.geometry.data_start, piece.count)


def started(
    image: bytes | bytearray, decide: Callable[[Finding], bool] = lambda finding: True
) -> Check:
    """A check of an image whose inodes are sound, up to pass 4."""
    check = check_superblock(Overlay(MemoryDevice(bytearray(image))), decide, NOW_NS)
    inodes_of(check)
    return check


def checked(
    image: bytes | bytearray, decide: Callable[[Finding], bool] = lambda finding: True
) -> Check:
    check = started(image, decide)
    check_bitmaps(check)
    check_state(check)
    return check


def repaired(check: Check) -> bytes:
    """The image with all repairs."""
    size = check.geometry.block_size
    return b"".join(bytes(check.overlay.block(n)) for n in range(check.overlay.size // size))


def numbers(check: Check) -> list[int]:
    return [finding.rule.number for finding in check.findings]


def flipped(image: bytes, start: int, *bits: int) -> bytearray:
    """The image with bits of the bitmap at byte `start` the other way round."""
    changed = bytearray(image)
    for bit in bits:
        changed[start + bit // 8] ^= 1 << bit % 8
    return changed


def with_superblock(image: bytes | bytearray, offset: int, code: str, value: int) -> bytearray:
    """The image with a field of its superblock changed, and a right checksum."""
    changed = bytearray(image)
    struct.pack_into(code, changed, offset, value)
    struct.pack_into("<I", changed, 508, zlib.crc32(changed[:508]))
    return changed


def decline_first() -> Callable[[Finding], bool]:
    """Says no to the first finding, and yes to all others."""
    asked: list[Finding] = []

    def decide(finding: Finding) -> bool:
        asked.append(finding)
        return len(asked) > 1

    return decide


def test_a_sound_image_has_no_finding_and_is_not_changed() -> None:
    check = checked(SOUND)
    assert check.findings == []
    assert check.overlay.edits == []


# -- bits ------------------------------------------------------------------------


def test_an_inode_in_use_with_a_bit_of_0() -> None:
    image = flipped(SOUND, INODE_BITMAP, 5)
    check = checked(image)
    (finding,) = check.findings
    assert finding.rule.number == 601
    assert finding.rule.is_safe
    assert (
        finding.problem == "inode 5 is in use (regular file, 1 block, named /m) "
        "but its bit in the inode bitmap is 0"
    )
    assert finding.found == Evidence("inode bitmap", 1, 0, "0", bit=5)
    assert (finding.expected.block_no, finding.expected.offset) == (3, 5 * 256 + 4)  # nlink
    assert finding.expected.value == "1"
    assert finding.repair == "set the bit"
    assert [(e.block_no, e.offset, e.before, e.after) for e in finding.edits] == [
        (1, 0, b"\x1f", b"\x3f")
    ]
    assert walk(repaired(check)).findings == []


def test_a_free_inode_with_a_bit_of_1() -> None:
    check = checked(flipped(SOUND, INODE_BITMAP, 17))
    (finding,) = check.findings
    assert finding.rule.number == 602
    assert finding.problem == "inode 17 is free but its bit in the inode bitmap is 1"
    assert finding.found == Evidence("inode bitmap", 1, 2, "1", bit=1)
    assert (finding.expected.block_no, finding.expected.offset) == (4, 256 + 4)
    assert walk(repaired(check)).findings == []


def test_what_was_deleted_is_free_if_its_bit_is_1_again() -> None:
    device = MemoryDevice(bytearray(SOUND))
    with mount(device) as fs:
        fs.unlink("/m")
    check = checked(flipped(bytes(device.image), INODE_BITMAP, 5))
    (finding,) = check.findings
    assert finding.rule.number == 602
    assert finding.problem == "inode 5 is free but its bit in the inode bitmap is 1"
    assert walk(repaired(check)).findings == []


@pytest.mark.parametrize("ino", [0, 1])
def test_the_bits_of_reserved_inodes_are_1(ino: int) -> None:
    check = checked(flipped(SOUND, INODE_BITMAP, ino))
    (finding,) = check.findings
    assert finding.rule.number == 601
    assert finding.problem.startswith(f"inode {ino} is reserved but its bit")
    assert finding.expected.offset == ino * 256
    assert walk(repaired(check)).findings == []


def test_a_block_in_use_with_a_bit_of_0() -> None:
    check = checked(flipped(SOUND, DATA_BITMAP, 3))
    (finding,) = check.findings
    assert finding.rule.number == 604
    assert (
        finding.problem == "block 11 belongs to inode 4 (/d/big) "
        "but its bit in the data bitmap is 0"
    )
    assert finding.found == Evidence("data bitmap", 2, 0, "0", bit=3)
    assert finding.expected == Evidence("inode 4 field direct[1]", 3, 4 * 256 + 84, "11")
    assert walk(repaired(check)).findings == []


def test_a_free_block_with_a_bit_of_1() -> None:
    check = checked(flipped(SOUND, DATA_BITMAP, 50))
    (finding,) = check.findings
    assert finding.rule.number == 605
    assert finding.problem == "block 58 belongs to no inode but its bit in the data bitmap is 1"
    assert finding.found == Evidence("data bitmap", 2, 6, "1", bit=2)
    assert walk(repaired(check)).findings == []


@pytest.mark.parametrize(
    ("start", "bit", "number", "field"),
    [
        (INODE_BITMAP, 80, 603, 32),
        (INODE_BITMAP, 4096 * 8 - 1, 603, 32),
        (DATA_BITMAP, 56, 606, 24),
        (DATA_BITMAP, 4096 * 8 - 1, 606, 24),
    ],
)
def test_bits_past_the_end_are_1(start: int, bit: int, number: int, field: int) -> None:
    check = checked(flipped(SOUND, start, bit))
    (finding,) = check.findings
    assert finding.rule.number == number
    assert finding.found == Evidence(
        finding.found.structure, start // 4096, bit // 8, "0", bit=bit % 8
    )
    assert finding.expected.offset == field
    assert walk(repaired(check)).findings == []


def test_wrong_bits_in_a_row_are_one_finding() -> None:
    check = checked(flipped(SOUND, INODE_BITMAP, *range(20, 60)))
    (finding,) = check.findings
    assert finding.problem == "inodes 20 to 59 are free but their bits in the inode bitmap are 1"
    assert finding.repair == "clear the 40 bits"


def test_rows_of_each_kind_are_a_finding_each() -> None:
    image = flipped(SOUND, DATA_BITMAP, 2, 3, 50, 51, 54)
    assert numbers(checked(image)) == [604, 605, 605]


def test_a_wiped_bitmap_is_few_findings() -> None:
    image = bytearray(SOUND)
    image[INODE_BITMAP : INODE_BITMAP + 8192] = bytes(8192)
    check = checked(image)
    assert numbers(check) == [601, 603, 604, 606]
    assert (
        repaired(check)
        == SOUND[:144]
        + repaired(check)[144:152]
        + SOUND[152:508]
        + repaired(check)[508:512]
        + SOUND[512:]
    )  # but for checked_ns and the checksum
    assert walk(repaired(check)).findings == []


@given(st.integers(0, 2**32))
def test_bitmaps_of_random_bytes_are_repaired_with_few_findings(seed: int) -> None:
    image = bytearray(SOUND)
    image[INODE_BITMAP : INODE_BITMAP + 8192] = random.Random(seed).randbytes(8192)
    check = checked(image)
    assert len(check.findings) <= 70
    assert walk(repaired(check)).findings == []
    assert checked(repaired(check)).findings == []


@given(
    st.sets(st.integers(0, 4096 * 8 - 1), max_size=30),
    st.sets(st.integers(0, 79), max_size=30),
    st.sets(st.integers(0, 55), max_size=30),
)
def test_only_wrong_bits_are_changed(past: set[int], inodes: set[int], blocks: set[int]) -> None:
    image = flipped(bytes(flipped(SOUND, INODE_BITMAP, *inodes)), DATA_BITMAP, *blocks ^ past)
    check = checked(image)
    assert repaired(check)[512:] == SOUND[512:]
    for edit in check.overlay.edits:
        assert edit.before != edit.after


def test_a_region_longer_than_needed_ends_in_ones() -> None:
    geometry = Geometry(4096, 200, 100, 2, 5, 9, 20)
    device = MemoryDevice(bytearray(200 * 4096))
    make(device, geometry, IDENTITY)
    assert checked(device.image).findings == []
    device.image[4 * 4096 + 17] = 0  # in the third, unused block of the inode bitmap
    check = checked(device.image)
    (finding,) = check.findings
    assert finding.rule.number == 603
    assert (finding.found.block_no, finding.found.offset, finding.found.bit) == (4, 17, 0)
    assert checked(repaired(check)).findings == []


def test_runs_go_on_across_blocks_of_the_bitmap() -> None:
    geometry = plan(4096 * KIB, block_size=512)
    device = MemoryDevice(bytearray(4096 * KIB))
    make(device, geometry, IDENTITY)
    start = geometry.data_bitmap_start * 512
    check = checked(flipped(bytes(device.image), start, *range(4000, 4200)))
    (finding,) = check.findings
    first = geometry.data_start + 4000
    assert f"blocks {first} to {first + 199} belong" in finding.problem
    assert len(finding.edits) == 2  # a bitmap block each
    assert walk(repaired(check)).findings == []


def test_a_large_image_costs_a_comparison_for_each_bitmap_block(tmp_path: object) -> None:
    path = f"{tmp_path}/large.img"
    with open(path, "xb") as file:
        file.truncate(2**36)
    device = FileDevice(path)
    make(device, plan(2**36), IDENTITY)
    check = check_superblock(Overlay(device), lambda finding: True, NOW_NS)
    inodes_of(check)
    tracemalloc.start()
    check_bitmaps(check)
    check_state(check)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    device.close()
    assert check.findings == []
    assert most < 16 << 20


# -- counts and state ------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "code", "number", "block"), [(56, "<Q", 607, 2), (64, "<I", 608, 1)]
)
@pytest.mark.parametrize("value", [0, 1, 2**32 - 1])
def test_free_counts_of_a_clean_image_are_exact(
    offset: int, code: str, number: int, block: int, value: int
) -> None:
    check = checked(with_superblock(SOUND, offset, code, value))
    (finding,) = check.findings
    assert finding.rule.number == number
    assert (finding.found.block_no, finding.found.offset) == (0, offset)
    assert finding.found.value == str(value)
    assert finding.expected.block_no == block
    assert walk(repaired(check)).findings == []
    assert check.superblock.free_block_count == IN_USE.free_blocks
    assert check.superblock.free_inode_count == IN_USE.free_inodes


def test_an_image_that_was_not_unmounted_becomes_clean_with_its_counts() -> None:
    image = with_superblock(with_superblock(SOUND, 68, "<I", 2), 56, "<Q", 3)
    check = checked(image)
    (finding,) = check.findings
    assert finding.rule.number == 701
    assert finding.rule.is_safe
    assert "not cleanly unmounted" in finding.problem
    assert finding.found == Evidence("superblock field state", 0, 68, "2")
    assert check.superblock.state == 1
    assert check.superblock.checked_ns == NOW_NS
    assert walk(repaired(check)).findings == []


def test_impossible_counts_are_a_finding_in_any_state() -> None:
    image = with_superblock(with_superblock(SOUND, 68, "<I", 2), 56, "<Q", 2**40)
    check = checked(image)
    assert numbers(check) == [607, 701]
    assert walk(repaired(check)).findings == []


@pytest.mark.parametrize("state", [0, 3, 2**32 - 1])
def test_an_impossible_state_becomes_clean(state: int) -> None:
    image = with_superblock(SOUND, 68, "<I", state)
    check = checked(with_superblock(image, 64, "<I", 3))
    (finding,) = check.findings  # in a state that says nothing, the counts say nothing either
    assert finding.rule.number == 702
    assert not finding.rule.is_safe
    assert finding.found.offset == 68
    assert walk(repaired(check)).findings == []


def test_any_repair_notes_when_the_check_was() -> None:
    check = checked(flipped(SOUND, INODE_BITMAP, 17))
    assert check.superblock.checked_ns == NOW_NS
    assert walk(repaired(check)).findings == []


# -- something declined ----------------------------------------------------------


def test_nothing_is_given_away_while_something_is_left_unrepaired() -> None:
    image = flipped(SOUND, INODE_BITMAP, 5, 17)
    image = flipped(bytes(image), DATA_BITMAP, 3, 50)
    check = checked(image, decline_first())
    assert numbers(check) == [601, 602, 604, 605]  # nothing was declined before pass 5
    check = started(image, decline_first())
    check.report(CHECKSUM_WRONG, "", found=_SOMEWHERE, expected=_SOMEWHERE, repair="")
    check_bitmaps(check)
    check_state(check)
    assert numbers(check) == [107, 601, 604]
    after = repaired(check)
    assert after[INODE_BITMAP + 2] == image[INODE_BITMAP + 2]
    assert after[DATA_BITMAP + 6] == image[DATA_BITMAP + 6]


_SOMEWHERE: Final = Evidence("superblock", 0, 0, "")


def test_a_half_repaired_image_is_left_in_state_2() -> None:
    image = flipped(SOUND, INODE_BITMAP, 5, 17)
    check = checked(image, decline_first())
    assert [finding.is_repaired for finding in check.findings] == [False, True]
    assert check.superblock.state == 2
    assert check.superblock.checked_ns != NOW_NS
    assert check.superblock.free_inode_count == IN_USE.free_inodes


def test_an_image_of_which_nothing_is_repaired_is_not_changed() -> None:
    image = with_superblock(flipped(SOUND, INODE_BITMAP, 5, 17), 68, "<I", 2)
    check = checked(image, lambda finding: False)
    assert check.overlay.edits == []
    assert not any(finding.is_repaired for finding in check.findings)
    assert numbers(check)[-1] == 701


def test_state_2_stays_with_a_finding_until_all_is_repaired() -> None:
    image = with_superblock(flipped(SOUND, INODE_BITMAP, 5, 17), 68, "<I", 2)
    check = checked(image, decline_first())
    assert numbers(check) == [601, 602, 701]
    assert not check.findings[-1].is_repaired
    assert check.superblock.state == 2


def test_an_impossible_state_becomes_2_while_something_is_left() -> None:
    image = with_superblock(flipped(SOUND, INODE_BITMAP, 17), 68, "<I", 9)
    check = checked(image, decline_first())
    assert numbers(check) == [602, 702]
    assert check.superblock.state == 2


def test_a_checksum_that_is_to_stay_wrong_stays_wrong() -> None:
    image = bytearray(flipped(SOUND, INODE_BITMAP, 17, 18))
    image[508:512] = b"abcd"
    check = checked(image, decline_first())
    assert repaired(check)[508:512] == b"abcd"
    with pytest.raises(Corrupt, match="checksum"):
        require_superblock(repaired(check)[:512], len(image))
