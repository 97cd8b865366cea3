"""Pass 1: pointers, sizes, block counts, and blocks with two owners."""

from __future__ import annotations

import contextlib
import os
import stat

import pytest

import vsfs
from tests.fsck.test_inodes import (
    BLOCK,
    MANY,
    SUB,
    Repaired,
    image,
    inode_place,
    place,
    tree,
    where,
)
from tests.support.broken import repaired, unpacked
from tests.support.damage import Image
from tests.support.images import blank, image_of, mount
from tests.support.rawwalk import walk

__all__ = ["image", "tree"]  # fixtures


# -- pointers ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, 2**32 - 1, 100_000])
def test_a_pointer_out_of_the_data_region_becomes_a_hole(image: Image, value: int) -> None:
    ino = image.find("/far")
    image.put_inode(ino, direct5=value)
    done = Repaired(image)
    finding = done.first(220)
    assert where(finding) == inode_place(image, ino, 80 + 4 * 5)
    assert finding.found.value == str(value)
    assert finding.lost == "block 5 of the file"
    content = done.content("/far")
    assert content[5 * BLOCK : 6 * BLOCK] == bytes(BLOCK)
    assert content[6 * BLOCK : 7 * BLOCK] == b"G" * BLOCK


def test_a_bad_pointer_in_an_indirect_block_is_found_there(image: Image) -> None:
    single = image.get(image.find("/far"), "single")
    image.put_word(image.at(single, 4), 5)
    image.put_word(image.at(single, 8), 6)
    done = Repaired(image)
    finding = done.first(220)
    assert where(finding) == (single, 4)
    assert "1 more pointer" in finding.problem
    assert done.content("/far")[12 * BLOCK : 13 * BLOCK] == b"M" * BLOCK


def test_a_block_of_other_bytes_is_no_indirect_block(image: Image) -> None:
    ino = image.find("/far")
    single = image.get(ino, "single")
    image.put_block(single, b"text" * (BLOCK // 4))
    done = Repaired(image)
    finding = done.first(221)
    assert where(finding) == inode_place(image, ino, 128)
    assert done.content("/far")[: 12 * BLOCK].endswith(b"L" * BLOCK)
    assert len(done.content("/far")) == MANY * BLOCK


def test_an_indirect_block_that_points_to_itself_is_cut_there(image: Image) -> None:
    ino = image.find("/far")
    single = image.get(ino, "single")
    image.put_word(image.at(single, 12), single)
    done = Repaired(image)
    assert where(done.first(222)) == (single, 12)
    assert done.content("/far")[14 * BLOCK : 15 * BLOCK] == b"O" * BLOCK


# -- sizes and counts -----------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 99, 2**63])
def test_a_wrong_block_count_is_set(image: Image, count: int) -> None:
    ino = image.find("/near")
    image.put_inode(ino, blocks=count)
    done = Repaired(image)
    finding = done.only(226)
    assert finding.rule.is_safe
    assert where(finding) == inode_place(image, ino, 24)
    assert done.walk.inodes[ino].blocks == 3


def test_a_size_that_is_less_than_the_blocks_and_their_count_is_set(image: Image) -> None:
    ino = image.find("/far")
    image.put_inode(ino, size=100)
    done = Repaired(image)
    assert where(done.only(224)) == inode_place(image, ino, 16)
    assert done.walk.inodes[ino].size == MANY * BLOCK


@pytest.mark.parametrize("kept", [3, 12, 13])
def test_blocks_past_the_end_are_freed_where_size_and_count_agree(image: Image, kept: int) -> None:
    ino = image.find("/far")
    image.put_inode(ino, size=kept * BLOCK, blocks=kept + (kept > 12))
    done = Repaired(image)
    finding = done.first(223)
    assert finding.rule.is_safe
    assert len(done.content("/far")) == kept * BLOCK
    assert done.walk.inodes[ino].blocks == kept + (kept > 12)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_an_impossible_size_becomes_the_end_of_the_last_block(image: Image, size: int) -> None:
    ino = image.find("/far")
    image.put_inode(ino, size=size)
    done = Repaired(image)
    done.only(225)
    assert done.walk.inodes[ino].size == MANY * BLOCK


@pytest.mark.parametrize("size", [0, 100, BLOCK, 2**40])
def test_a_directory_is_as_large_as_its_blocks(image: Image, size: int) -> None:
    ino = image.find("/dir")
    right = image.get(ino, "size")
    image.put_inode(ino, size=size)
    done = Repaired(image)
    assert done.rules in ([224], [227])
    assert done.walk.inodes[ino].size == right
    assert f"/dir/{SUB}29".encode() in done.walk.paths


def test_a_hole_in_a_directory_is_closed(image: Image) -> None:
    ino = image.find("/dir")
    assert image.get(ino, "size") > 3 * BLOCK
    image.put_inode(ino, direct1=0)
    done = Repaired(image)
    assert where(done.first(228)) == inode_place(image, ino, 84)
    assert f"/dir/{SUB}29".encode() in done.walk.paths
    lost = [path for path in done.walk.paths if path.startswith(b"/lost+found/#")]
    assert lost, "the directories named in the missing block are kept there"


def test_a_directory_without_blocks_becomes_an_empty_one(image: Image) -> None:
    ino = image.find(f"/dir/{SUB}07")
    image.put_inode(ino, direct0=0)
    done = Repaired(image)
    assert done.first(252).ino == ino
    assert f"/dir/{SUB}07".encode() in done.walk.paths


# -- blocks with two owners ---------------------------------------------------------------


def test_a_block_of_two_files_is_copied_and_both_keep_its_bytes(image: Image) -> None:
    near, far = image.find("/near"), image.find("/far")
    lost = image.get(far, "direct3")
    image.put_inode(far, direct3=image.get(near, "direct0"))
    done = Repaired(image)
    finding = done.first(251)
    assert "(/dir/again)" in finding.problem
    assert "(/far)" in finding.problem
    assert done.content("/near") == b"n" * 1000
    assert done.content("/far")[3 * BLOCK : 4 * BLOCK] == b"n" * BLOCK
    assert done.walk.inodes[far].file_blocks[3] != lost, "what is left of a lost block is not used"


def test_a_block_that_stands_twice_in_one_file_is_copied(image: Image) -> None:
    far = image.find("/far")
    image.put_inode(far, direct3=image.get(far, "direct4"))
    done = Repaired(image)
    assert "the same file" in done.first(251).problem
    assert done.content("/far")[3 * BLOCK : 5 * BLOCK] == b"E" * 2 * BLOCK


def test_an_indirect_block_of_two_files_is_copied_with_all_below_it(image: Image) -> None:
    near, far = image.find("/near"), image.find("/far")
    single = image.get(far, "single")
    image.put_inode(near, single=single, size=14 * BLOCK, blocks=2 + 1 + 4 + 1)
    done = Repaired(image)
    assert done.content("/far")[12 * BLOCK :] == b"".join(bytes([77 + i]) * BLOCK for i in range(4))
    content = done.content("/near")
    assert content[12 * BLOCK : 14 * BLOCK] == b"M" * BLOCK + b"N" * BLOCK
    assert content[:1000] == b"n" * 1000


def test_data_below_an_indirect_block_of_two_files_is_not_taken_for_pointers(image: Image) -> None:
    """Another file's indirect block is that, too, and repairs of it would write there."""
    near, far = image.find("/near"), image.find("/far")
    text, single = image.owned(far).data[12], image.get(far, "single")
    image.put_block(text, b"the end\n".ljust(BLOCK, b"\0"))
    before = walk(image.data).content(far)
    image.put_inode(near, direct4=single, single=text, size=100 * BLOCK)
    assert near < far
    assert Repaired(image).content("/far") == before


def test_no_copy_is_put_where_a_shared_indirect_block_leads() -> None:
    """Not even if its pointers are indirect blocks of one file, and data of the other."""
    fs = mount(blank(128 * 1024, block_size=BLOCK))
    for name, first in {"/g": 12 + BLOCK // 4, "/n": 0}.items():
        fd = fs.open(name, os.O_CREAT | os.O_WRONLY)
        fs.lseek(fd, first * BLOCK, os.SEEK_SET)
        fs.write(fd, name[1:].encode() * 5 * BLOCK)
    fs.unmount()
    image = Image(image_of(fs))
    before = walk(image.data).content(image.find("/g"))
    image.put_inode(image.find("/n"), single=image.get(image.find("/g"), "double"), size=99 * BLOCK)
    image.put_block(image.data_bitmap, bytes(BLOCK))
    assert Repaired(image).content("/g") == before


def test_a_directory_block_of_two_directories_is_copied(image: Image) -> None:
    first, second = image.find(f"/dir/{SUB}01"), image.find(f"/dir/{SUB}02")
    image.put_inode(second, direct0=image.get(first, "direct0"))
    done = Repaired(image)
    assert done.first(251)
    assert {f"/dir/{SUB}01".encode(), f"/dir/{SUB}02".encode()} <= done.walk.paths.keys()


def filled(fs: vsfs.FileSystem, fd: int, byte: bytes) -> Image:
    """The image when the file has taken all blocks that were left."""
    with contextlib.suppress(OSError):
        while fs.write(fd, byte * BLOCK):
            pass
    fs.unmount()
    image = Image(image_of(fs))
    assert image.superblock("free_block_count") == 0
    return image


def test_without_room_for_a_copy_the_block_stays_shared_and_nothing_is_lost() -> None:
    fs = mount(blank(32 * 1024, block_size=BLOCK))
    first = fs.open("/first", os.O_CREAT | os.O_WRONLY)
    fs.write(first, b"1" * 10 * BLOCK)
    second = fs.open("/second", os.O_CREAT | os.O_WRONLY)
    fs.lseek(second, BLOCK, os.SEEK_SET)  # block 0 is a hole
    image = filled(fs, second, b"2")
    ino = image.find("/second")
    shared, count = image.get(image.find("/first"), "direct0"), image.get(ino, "blocks")
    image.put_inode(ino, direct0=shared, blocks=count + 1)
    report, after = repaired(bytes(image.data))
    (finding,) = report.findings
    assert finding.rule.number == 251
    assert not finding.is_repaired
    assert finding.lost is None
    assert "free some space" in finding.repair
    assert after == image.data
    again, _ = repaired(after)
    assert again.findings == report.findings


def test_a_copy_is_made_once_there_is_room_for_it() -> None:
    """What a repair of the same check frees is room, too."""
    image = Image(unpacked("shared-on-a-full-disk"))
    image.put_inode(image.find("/double"), direct11=2)  # so one block is nobody's
    report, after = repaired(bytes(image.data))
    assert report.left == ()
    assert walk(after).findings == []


def crowded() -> Image:
    """Directories /d and /e with a name each, and a file /f that takes all other blocks."""
    fs = mount(blank(32 * 1024, block_size=BLOCK))
    for directory in ("/d", "/e"):
        fs.mkdir(directory)
        fs.mkdir(directory + "/below")
    fd = fs.open("/f", os.O_CREAT | os.O_WRONLY)
    return filled(fs, fd, b"f")


def test_nothing_is_changed_below_a_shared_indirect_block_that_cannot_be_copied() -> None:
    image = crowded()
    file, directory = image.find("/f"), image.find("/d")
    image.put_inode(directory, single=image.get(file, "single"))
    report, after = repaired(bytes(image.data))
    assert 251 in [finding.rule.number for finding in report.left]
    for block in image.owned(file).data.values():
        assert Image(after).block(block) == b"f" * BLOCK


def test_without_room_a_directory_loses_a_shared_block_past_its_end() -> None:
    image = crowded()
    before = walk(image.data).paths
    image.put_inode(image.find("/e"), direct11=image.get(image.find("/d"), "direct0"))
    done = Repaired(image)
    assert done.only(223)
    assert done.walk.paths == before


@pytest.mark.parametrize("is_past_end", [True, False])
def test_without_room_pointers_past_the_end_are_cleared_in_all_files(*, is_past_end: bool) -> None:
    """/c is no owner any more then, or the only one, of the block that it shares with /b."""
    fs = mount(blank(32 * 1024, block_size=BLOCK))
    for name, count in {"/a": 10, "/b": 10, "/c": 1}.items():
        fd = fs.open(name, os.O_CREAT | os.O_WRONLY)
        fs.write(fd, name[1:].encode() * count * BLOCK)
    image = filled(fs, fs.open("/rest", os.O_CREAT | os.O_WRONLY), b"r")
    a, b, c = (image.find(name) for name in ("/a", "/b", "/c"))
    image.put_inode(b, size=9 * BLOCK, blocks=9, direct10=image.get(a, "direct0"))
    shared = {"direct3": image.get(b, "direct9")}
    if not is_past_end:
        shared |= {"size": 4 * BLOCK, "blocks": 2}
    image.put_inode(c, **shared)
    done = Repaired(image)
    assert done.content("/a") == b"a" * 10 * BLOCK
    assert done.content("/b") == b"b" * 9 * BLOCK
    inherited = b"" if is_past_end else bytes(2 * BLOCK) + b"b" * BLOCK
    assert done.content("/c") == b"c" * BLOCK + inherited


def test_the_pointers_of_a_special_file_are_cleared(image: Image) -> None:
    ino = image.find("/fifo")
    image.put_inode(ino, direct0=image.free_block(), size=0)
    assert stat.S_ISFIFO(image.get(ino, "mode"))
    done = Repaired(image)
    assert where(done.findings[0]) in (
        inode_place(image, ino, 80),
        place(image, image.inode_at(ino)),
    )
