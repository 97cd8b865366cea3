"""Pass 2: each rule of directories broken in one place, found there, and repaired."""

from __future__ import annotations

import struct
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fsck.trees import DIRECTORY, REGULAR, Repaired, crowded, image, place, safely
from tests.support.damage import Image
from vsfs.device import MemoryDevice
from vsfs.errors import VsfsError
from vsfs.fsck import check
from vsfs.fsck.context import Check, Entry
from vsfs.fsck.entry_types import named_types
from vsfs.fsck.overlay import Overlay
from vsfs.fsck.records import Names
from vsfs.layout import decode_superblock

MANY = {b"name-number-%02d" % number for number in range(60)}
SIZES = pytest.mark.parametrize("block_size", [512, 4096])


@SIZES
def test_a_sound_tree_has_no_findings(block_size: int) -> None:
    assert Repaired(image(block_size)).findings == ()


# -- 301: the chain of records


@SIZES
@pytest.mark.parametrize("bit", range(16))
def test_a_record_with_a_flipped_bit_in_its_length_keeps_its_name(
    block_size: int, bit: int
) -> None:
    broken = image(block_size)
    at = broken.entry("/many/name-number-01")
    broken.put_record(at, length=broken.record(at, "length") ^ 1 << bit)
    found = Repaired(broken)
    assert found.names("/many") == MANY
    assert place(broken, found.only(301)) == at + 4
    assert found.findings[0].lost is None
    assert found.is_as_before


def test_a_broken_record_is_free_space_up_to_the_next_sound_one() -> None:
    broken = image()
    at = broken.entry("/many/name-number-01")
    broken.put_record(at, name_length=255)
    found = Repaired(broken)
    assert found.rules == [301, 501]
    assert place(broken, found.of(301)[0]) == at + 4
    assert found.names("/many") == MANY - {b"name-number-01"}


def test_a_record_that_makes_no_sense_is_lost_and_the_next_are_not() -> None:
    broken = image()
    at = broken.entry("/many/name-number-01")
    broken.put(at, b"\xff" * 12)
    found = Repaired(broken)
    assert found.rules == [301, 501]
    assert "lost: the names in these bytes" in found.of(301)[0].text
    assert len(found.names("/many")) == 59


def test_a_file_whose_name_is_lost_goes_to_lost_and_found() -> None:
    broken = image()
    at = broken.entry("/a/b/h")
    ino = broken.record(at, "ino")
    broken.put(at, b"\xff" * 12)
    found = Repaired(broken)
    assert found.ino(f"/lost+found/#{ino}") == ino
    assert found.walk.content(ino) == b"h" * 20
    assert {301, 405} <= set(found.rules)


def test_four_bytes_at_a_sector_s_end_join_the_record_before() -> None:
    broken = image()
    last = list(broken.records(broken.find("/d")))[-1]
    broken.put_record(last, length=broken.record(last, "length") - 4)
    assert Repaired(broken).only(301).found.value == "4 bytes left in the sector"


def test_sectors_without_any_record_are_one_finding() -> None:
    broken = image()
    blocks = list(broken.owned(broken.find("/many")).data.values())
    for block in blocks[1:]:
        broken.put_block(block, b"\xff" * 512)
    found = Repaired(broken)
    assert found.rules == [301, 501]
    assert f"{len(blocks) - 1} sectors without a sound record" in found.of(301)[0].text


# -- 302 and 303: `.` and `..`


@SIZES
def test_a_dot_for_another_inode_is_set_right_in_place(block_size: int) -> None:
    broken = image(block_size)
    at = broken.entry("/a/.")
    broken.put_record(at, ino=broken.find("/d"))
    found = Repaired(broken)
    assert place(broken, found.only(302)) == at
    assert [len(edit.after) for edit in found.findings[0].edits] == [4]
    assert found.is_as_before


@pytest.mark.parametrize("fields", [{"length": 24}, {"name_length": 9}, {"name": b"x"}])
def test_a_damaged_dot_is_written_anew(fields: dict[str, object]) -> None:
    broken = image()
    at = broken.entry("/a/.")
    broken.put_record(at, **fields)
    found = Repaired(broken)
    assert place(broken, found.only(302)) == at
    assert found.is_as_before


@pytest.mark.parametrize("fields", [{"length": 13}, {"name_length": 3}, {"name": b"x."}])
def test_a_damaged_dotdot_is_written_anew(fields: dict[str, object]) -> None:
    broken = image()
    at = broken.entry("/a/..")
    broken.put_record(at, **fields)
    found = Repaired(broken)
    assert place(broken, found.only(302)) == at
    assert found.is_as_before


def test_a_first_sector_of_zeroes_gets_its_dots_again() -> None:
    broken = image()
    broken.put_block(broken.owned(broken.find("/a/b/c")).data[0], bytes(512))
    found = Repaired(broken)
    found.only(302)
    assert found.is_as_before


def test_records_in_the_place_of_the_dots_are_moved() -> None:
    broken = image()
    block = broken.owned(broken.find("/d")).data[0]
    other = broken.find("/e")
    record = struct.pack("<IHBB4s", other, 16, 4, REGULAR, b"here").ljust(16, b"\0")
    there = struct.pack("<IHBB5s", other, 496, 5, REGULAR, b"there")
    broken.put_block(block, record + there)
    found = Repaired(broken)
    assert found.rules == [302, 501]
    assert found.names("/d") == {b"here", b"there"}


def test_a_dot_elsewhere_is_removed() -> None:
    broken = image()
    at = broken.insert(broken.find("/d"), b"..", 2, DIRECTORY)
    assert place(broken, Repaired(broken).only(303)) == at + 8


# -- 304: names


@pytest.mark.parametrize(
    ("name", "expected"), [(b"a/b", b"a_b"), (b"a\0b", b"a_b"), (b"/", b"_"), (b"x/", b"x_")]
)
def test_an_impossible_name_is_changed_in_place(name: bytes, expected: bytes) -> None:
    broken = image()
    at = broken.insert(broken.find("/d"), name, broken.find("/e"), REGULAR)
    broken.put_inode(broken.find("/e"), nlink=2)
    found = Repaired(broken)
    assert place(broken, found.only(304)) == at + 8
    assert found.names("/d") == {expected}


def test_a_changed_name_is_new_in_its_directory() -> None:
    broken = image()
    for name in (b"a_b", b"a/b", b"a\0b"):
        broken.insert(broken.find("/d"), name, broken.find("/e"), REGULAR)
    broken.put_inode(broken.find("/e"), nlink=4)
    found = Repaired(broken)
    assert found.rules == [304, 304]
    assert found.names("/d") == {b"a_b", b"a~1", b"a~2"}


def test_an_entry_without_a_name_is_removed() -> None:
    broken = image()
    at = broken.insert(broken.find("/d"), b"abc", broken.find("/e"), REGULAR)
    broken.put_record(at, name_length=0)
    assert place(broken, Repaired(broken).only(304)) == at + 6


# -- 305 and 306: what entries name


@pytest.mark.parametrize("ino", [1, 128, 2**32 - 1])
def test_an_entry_for_an_impossible_inode_is_removed(ino: int) -> None:
    broken = image()
    at = broken.insert(broken.find("/d"), b"odd", ino, REGULAR)
    found = Repaired(broken)
    assert place(broken, found.only(305)) == at
    assert found.findings[0].found.value == str(ino)
    assert not found.findings[0].rule.is_safe
    assert found.names("/d") == set()


def test_an_entry_for_a_free_inode_is_removed_without_asking() -> None:
    broken = image()
    ino = broken.free_ino()
    at = broken.insert(broken.find("/d"), b"gone", ino, REGULAR)
    found = Repaired(broken)
    assert place(broken, found.only(306)) == at
    assert found.findings[0].expected.block_no == broken.inode_at(ino) // 512
    assert safely(broken).left == ()


def test_many_entries_for_free_inodes_are_one_finding() -> None:
    broken = image()
    free = broken.free_ino()
    for at in list(broken.records(broken.find("/many")))[2:]:
        if broken.record(at, "ino"):
            broken.put_record(at, ino=free)
    found = Repaired(broken)
    assert found.rules == [306, 501]
    assert "and 59 more entries of that directory likewise" in found.of(306)[0].text
    assert found.names("/many") == set()


# -- 307: types in entries


def test_the_type_in_an_entry_is_that_of_the_inode() -> None:
    broken = image()
    at = broken.entry("/f")
    broken.put_record(at, file_type=3)
    found = Repaired(broken)
    assert place(broken, found.only(307)) == at + 7
    assert found.is_as_before
    assert safely(broken).left == ()


def test_the_type_of_dotdot_is_directory() -> None:
    broken = image()
    broken.put_record(broken.entry("/a/.."), file_type=0)
    found = Repaired(broken)
    found.only(307)
    assert found.is_as_before


# -- 308, 309, 310: directories known by their first block


def test_a_directory_whose_type_is_flipped_is_one_again() -> None:
    broken = image()
    ino = broken.find("/a/b")
    broken.put_inode(ino, mode=0o100755)
    found = Repaired(broken)
    assert place(broken, found.only(308)) == broken.inode_at(ino)
    assert found.findings[0].ino == ino
    assert found.is_as_before
    assert [f.rule.number for f in safely(broken).left] == [308]


def test_a_directory_whose_inode_is_destroyed_comes_back() -> None:
    broken = image()
    ino = broken.find("/a/b")
    broken.put(broken.inode_at(ino), b"\xa5" * 256)
    found = Repaired(broken)
    assert 309 in found.rules
    assert found.names("/a/b") == {b"c", b"h"}
    assert found.ino("/a/b") == ino
    assert found.walk.inodes[ino].mode == 0o40700


def test_a_wiped_block_of_inodes_loses_no_directory_of_one_block() -> None:
    broken = image()
    ino = broken.find("/a/b")
    at = broken.inode_at(ino) // 512 * 512
    broken.put(at, bytes(512))
    found = Repaired(broken)
    assert found.ino("/a/b") == ino


def test_an_entry_for_a_removed_directory_does_not_bring_it_back() -> None:
    """What a crash leaves in the middle of rmdir."""
    broken = image()
    ino = broken.find("/d")
    broken.put_inode(ino, nlink=0)
    broken.put_inode_bit(ino, 0)
    found = Repaired(broken)
    assert 306 in found.rules
    assert 309 not in found.rules
    assert b"d" not in found.names("/")
    assert safely(broken).left == ()


def test_a_new_directory_without_its_inode_is_not_brought_back() -> None:
    """What a crash leaves in the middle of mkdir: its block is written, its bit is not."""
    broken = image()
    ino = broken.find("/d")
    broken.put(broken.inode_at(ino), bytes(256))
    broken.put_inode_bit(ino, 0)
    found = Repaired(broken)
    assert 309 not in found.rules
    assert safely(broken).left == ()


@SIZES
def test_a_destroyed_root_is_found_by_its_first_block(block_size: int) -> None:
    broken = image(block_size)
    broken.put(broken.inode_at(2), b"\xa5" * 256)
    found = Repaired(broken)
    assert 310 in found.rules
    assert {b"a", b"d", b"f", b"many"} <= found.names("/")
    assert found.walk.inodes[2].mode == 0o40755


def test_without_any_trace_the_root_is_made_anew() -> None:
    broken = image()
    block = broken.owned(2).data[0]
    tops = [broken.find(path) for path in ("/a", "/d", "/many", "/s")]
    broken.put(broken.inode_at(2), b"\xa5" * 256)
    broken.put_block(block, bytes(512))
    found = Repaired(broken)
    assert 310 in found.rules
    assert found.names("/") == {b"lost+found"}
    assert found.names("/lost+found") == {b"#%d" % ino for ino in tops}  # /f has more names


def test_a_file_in_the_place_of_the_root_gets_another_number() -> None:
    broken = image()
    file = broken.find("/f")
    at, root = broken.inode_at(file), broken.inode_at(2)
    broken.put(root, bytes(broken.data[at : at + 256]))
    broken.seal(2)
    broken.put_inode(file, nlink=0)
    broken.put_inode_bit(file, 0)
    found = Repaired(broken)
    assert 310 in found.rules
    assert b"f" * 600 in [found.walk.content(ino) for ino in found.walk.inodes]


def test_a_root_that_may_not_be_repaired_ends_the_check() -> None:
    broken = image()
    broken.put(broken.inode_at(2), bytes(256))
    with pytest.raises(VsfsError, match="root directory"):
        safely(broken)


# -- 311: names that stand twice


def test_a_name_that_stands_twice_for_one_inode_is_removed() -> None:
    broken = image()
    at = broken.insert(2, b"f", broken.find("/f"), REGULAR)
    found = Repaired(broken)
    assert place(broken, found.only(311)) == at + 8
    assert safely(broken).left == ()


def test_a_name_that_stands_twice_for_two_inodes_is_changed() -> None:
    broken = image()
    at = broken.insert(broken.find("/d"), b"name", broken.find("/e"), REGULAR)
    second = broken.insert(broken.find("/d"), b"nam2", broken.find("/f"), REGULAR)
    broken.put(second + 8, b"name")
    broken.put_inode(broken.find("/e"), nlink=2)
    broken.put_inode(broken.find("/f"), nlink=3)
    found = Repaired(broken)
    finding = found.only(311)
    assert (
        place(broken, finding),
        broken.at(finding.expected.block_no, finding.expected.offset),
    ) == (
        second + 8,
        at + 8,
    )
    assert found.ino("/d/name") == broken.find("/e")
    assert found.ino("/d/na~1") == broken.find("/f")


def test_names_are_found_until_there_are_none() -> None:
    names = Names([Entry(0, 0, 5, 1, b"x")])
    taken = [names.take(b"x") for _ in range(300)]
    assert len({name for name in taken if name}) == sum(name is not None for name in taken)
    assert all(name is None or len(name) == 1 for name in taken)
    assert taken[-1] is None


# -- for pass 1


def test_named_types_are_those_of_all_sound_entries() -> None:
    broken = image()
    device = MemoryDevice(broken.data)
    overlay = Overlay(device)
    superblock = decode_superblock(bytes(broken.data[:512]))
    overlay.set_block_size(superblock.block_size)
    found = named_types(Check(overlay, superblock, lambda _: True, now_ns=0))
    assert found[broken.find("/a/b")] == {DIRECTORY}
    assert found[broken.find("/f")] == {REGULAR}
    assert found[broken.find("/s")] == {7}
    assert 2 not in found


# -- whatever is there


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 511), st.binary(min_size=1, max_size=40)), max_size=4),
    st.sampled_from([512, 4096]),
)
def test_any_damage_in_one_sector_of_a_directory_is_repaired(
    sector: int, damage: list[tuple[int, bytes]], block_size: int
) -> None:
    broken = image(block_size)
    blocks = [b for ino in broken.inodes() if broken.is_directory(ino)
              for b in broken.owned(ino).data.values()]  # fmt: skip
    sectors = [broken.at(block, at) for block in blocks for at in range(0, block_size, 512)]
    start = sectors[sector % len(sectors)]
    for offset, content in damage:
        broken.put(start + offset, content[: 512 - offset])
    Repaired(broken)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.binary(min_size=512, max_size=512), st.integers(0, 2**32 - 1))
def test_declined_repairs_are_no_harm(sector: int, content: bytes, seed: int) -> None:
    """Whatever is declined, the next check that may repair all repairs it."""
    broken = image()
    blocks = [b for ino in broken.inodes() if broken.is_directory(ino)
              for b in broken.owned(ino).data.values()]  # fmt: skip
    broken.put(broken.at(blocks[sector % len(blocks)]), content)
    device = MemoryDevice(bytearray(broken.data))
    try:
        check(
            device, decide=lambda finding: zlib.crc32(finding.text.encode(), seed) % 2 == 0
        ).write(device)
    except VsfsError:
        return
    Repaired(Image(bytes(device.image)))


@pytest.mark.slow
def test_the_cost_is_linear_in_the_names() -> None:
    seconds = []
    for count in (5_000, 20_000):
        device = MemoryDevice(bytearray(crowded(count, 30).data))
        started = time.perf_counter()
        assert check(device).findings == ()
        seconds.append(time.perf_counter() - started)
    assert seconds[1] < 8 * seconds[0] + 0.5
