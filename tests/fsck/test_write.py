"""Writing repairs: their order, and that the plug may be pulled at any point."""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
import zlib
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.images import IDENTITY, KIB, fail_nth, mount
from tests.support.interrupted import crash_states, grouped
from tests.support.rawwalk import walk
from vsfs.device import Access, Kind, MemoryDevice, RecordingDevice
from vsfs.fsck import Report, check
from vsfs.fsck.findings import Edit
from vsfs.fsck.write import ImageChanged, write_edits
from vsfs.layout import Geometry, decode_superblock
from vsfs.mkfs import make, plan

GEOMETRY: Final = plan(256 * KIB)
NOW_NS: Final = 2 * 10**18


def made() -> bytes:
    """An image with files of every shape of pointers, and directories."""
    device = MemoryDevice(bytearray(256 * KIB))
    make(device, plan(256 * KIB, block_size=512), IDENTITY)
    with mount(device) as fs:
        for path in ("/d", "/d/e", "/f"):
            fs.mkdir(path)
        files = {"/a": 40, "/b": 3000, "/d/large": 20_000, "/d/e/larger": 90_000, "/f/last": 600}
        for number, (path, size) in enumerate(files.items(), 1):
            fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
            fs.write(fd, random.Random(number).randbytes(size))
            fs.close(fd)
        for number in range(30):
            fs.symlink(f"target {number}", f"/f/a name that is rather long {number}")
        fs.link("/b", "/d/b")
        fs.setxattr("/a", "user.note", b"kept")
    return bytes(device.image)


SOUND: Final = made()
SUPERBLOCK: Final = decode_superblock(SOUND)
PATHS: Final = walk(SOUND).paths
INODES: Final = walk(SOUND).inodes


# -- damage ----------------------------------------------------------------------


def at_inode(path: bytes, offset: int) -> int:
    """The byte of the image with byte `offset` of an inode."""
    block, start = SUPERBLOCK.geometry.inode_location(PATHS[path])
    return block * 512 + start + offset


def change_inode(image: bytearray, path: bytes, offset: int, value: int) -> None:
    """Put 32 bits into an inode, with a right checksum."""
    start, ino = at_inode(path, 0), PATHS[path]
    struct.pack_into("<I", image, start + offset, value)
    checksum = zlib.crc32(struct.pack("<I", ino) + image[start : start + 252])
    struct.pack_into("<I", image, start + 252, checksum)


def pointer(path: bytes, index: int) -> int:
    found: int = struct.unpack_from("<I", SOUND, at_inode(path, 80 + 4 * index))[0]
    return found


def two_bitmaps(image: bytearray) -> None:
    geometry = SUPERBLOCK.geometry
    start, end = geometry.inode_bitmap_start * 512, geometry.inode_table_start * 512
    image[start:end] = bytes(end - start)


def one_block_for_two_files(image: bytearray) -> None:
    change_inode(image, b"/b", 80 + 4, pointer(b"/d/large", 2))


def one_indirect_block_for_two_files(image: bytearray) -> None:
    change_inode(image, b"/d/large", 128, pointer(b"/d/e/larger", 12))


def a_directory_without_a_name(image: bytearray) -> None:
    block = INODES[2].file_blocks[0]
    at = image.index(b"\1\2d", block * 512) - 6  # the record of /d
    image[at : at + 4] = bytes(4)


def a_block_of_the_root_directory(image: bytearray) -> None:
    block = INODES[2].file_blocks[0]
    image[block * 512 : block * 512 + 512] = random.Random(3).randbytes(512)


def a_block_of_the_inode_table(image: bytearray) -> None:
    block, _ = SUPERBLOCK.geometry.inode_location(PATHS[b"/d"])
    image[block * 512 : block * 512 + 512] = bytes(512)


def pointers_out_of_range(image: bytearray) -> None:
    block = pointer(b"/d/e/larger", 12)
    image[block * 512 : block * 512 + 64] = b"\xff" * 64


def superblock(image: bytearray) -> None:
    image[:512] = bytes(512)


def superblock_and_bitmaps(image: bytearray) -> None:
    superblock(image)
    two_bitmaps(image)


def last_part(image: bytearray) -> None:
    del image[150 * KIB :]


def link_counts(image: bytearray) -> None:
    for path in (b"/a", b"/b", b"/d", b"/d/e"):
        change_inode(image, path, 4, 7)


def many_at_once(image: bytearray) -> None:
    one_block_for_two_files(image)
    a_directory_without_a_name(image)
    link_counts(image)
    two_bitmaps(image)


DAMAGES: Final[tuple[Callable[[bytearray], None], ...]] = (
    two_bitmaps,
    one_block_for_two_files,
    one_indirect_block_for_two_files,
    a_directory_without_a_name,
    a_block_of_the_root_directory,
    a_block_of_the_inode_table,
    pointers_out_of_range,
    superblock,
    superblock_and_bitmaps,
    last_part,
    link_counts,
    many_at_once,
)


def damaged(damage: Callable[[bytearray], None]) -> bytes:
    image = bytearray(SOUND)
    damage(image)
    return bytes(image)


def repair(image: bytes | bytearray) -> bytes:
    """The image after check and write."""
    device = MemoryDevice(bytearray(image))
    check(device, now_ns=NOW_NS).write(device)
    return bytes(device.image)


def files(image: bytes) -> dict[bytes, bytes]:
    """Path -> contents of every regular file and link."""
    found = walk(image)
    assert found.findings == []
    return {
        path: found.content(ino)
        for path, ino in found.paths.items()
        if not stat.S_ISDIR(found.inodes[ino].mode)
    }


# -- the pulled plug -------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_repair_that_is_interrupted_can_be_repaired(damage: Callable[[bytearray], None]) -> None:
    image = damaged(damage)
    finished = files(repair(image))
    sound_before = {
        path: content for path, content in files(SOUND).items() if finished.get(path) == content
    }
    for state in crash_states(image, 512, seed=1):
        again = repair(state)
        device = MemoryDevice(bytearray(again))
        assert [finding.text for finding in check(device).findings] == []
        found = files(again)  # asserts that nothing is wrong with it
        assert sound_before.items() <= found.items()
        assert set(finished.values()) <= set(found.values())  # under whatever name


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_finished_repair_leaves_nothing_to_find(damage: Callable[[bytearray], None]) -> None:
    again = repair(damaged(damage))
    device = MemoryDevice(bytearray(again))
    report = check(device)
    assert [finding.text for finding in report.findings] == []
    assert report.edits == ()
    assert walk(again).findings == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_is_written_is_what_the_findings_say(damage: Callable[[bytearray], None]) -> None:
    image = damaged(damage)
    report = check(MemoryDevice(bytearray(image)), now_ns=NOW_NS)
    expected = bytearray(image)
    for edit in report.edits:
        start = edit.block_no * 512 + edit.offset
        assert expected[start : start + len(edit.before)] == edit.before
        expected[start : start + len(edit.after)] = edit.after
    assert repair(image) == expected


@pytest.mark.parametrize("nth", range(1, 40))
def test_an_error_of_the_disk_in_the_middle_leaves_what_can_be_repaired(nth: int) -> None:
    memory = MemoryDevice(bytearray(damaged(many_at_once)))
    report = check(memory, now_ns=NOW_NS)
    finished = files(repair(bytes(memory.image)))
    device = fail_nth(memory, "write", nth)
    try:
        report.write(device)
    except OSError as error:
        assert error.errno == errno.EIO
    found = files(repair(bytes(memory.image)))
    assert set(finished.values()) <= set(found.values())
    kept = {path for path in finished if not path.startswith(b"/lost+found")}
    assert {path: found.get(path) for path in kept} == {path: finished[path] for path in kept}


# -- order -----------------------------------------------------------------------


def edit_of(image: bytes, block_no: int, offset: int, after: bytes, kind: Kind) -> Edit:
    start = block_no * 4096 + offset
    return Edit(block_no, offset, image[start : start + len(after)], after, kind)


def default_image(*, state: int = 1) -> bytes:
    device = MemoryDevice(bytearray(256 * KIB))
    make(device, GEOMETRY, IDENTITY)
    if state != 1:
        device.image[68] = state
        device.image[508:512] = struct.pack("<I", zlib.crc32(device.image[:508]))
    return bytes(device.image)


def written(image: bytes, edits: list[Edit], geometry: Geometry = GEOMETRY) -> list[list[Access]]:
    """The writes of these edits, in groups that end with a barrier."""
    device = RecordingDevice(MemoryDevice(bytearray(image)))
    write_edits(device, geometry, edits)
    return grouped(device)


def test_each_kind_of_block_has_its_stage() -> None:
    image = default_image()
    edits = [
        edit_of(image, 2, 0, b"\3", Kind.DATA_BITMAP),
        edit_of(image, 1, 0, b"\x0f", Kind.INODE_BITMAP),
        edit_of(image, 8, 8, b"x", Kind.DIRECTORY),
        edit_of(image, 12, 0, b"x" * 4096, Kind.DIRECTORY),  # a new one
        edit_of(image, 3, 770, b"x", Kind.INODE_TABLE),
        edit_of(image, 9, 4, b"x", Kind.INDIRECT),
        edit_of(image, 13, 0, b"x" * 4096, Kind.INDIRECT),  # a new one
        edit_of(image, 10, 0, b"x" * 4096, Kind.DATA),
        edit_of(image, 11, 5, b"x", Kind.ATTRIBUTE),
    ]
    groups = written(image, edits)
    assert [[access.block_no for access in group] for group in groups] == [
        [0],
        [10, 12, 13],
        [3, 9, 11],
        [8],
        [1, 2],
        [0],
    ]
    first, last = groups[0][0].content, groups[-1][0].content
    assert decode_superblock(first).state == 2
    assert zlib.crc32(first[:508]) == int.from_bytes(first[508:], "little")
    assert last == image[:512]


def test_an_image_that_is_mounted_already_needs_no_mark() -> None:
    image = default_image(state=2)
    groups = written(image, [edit_of(image, 1, 0, b"\x0f", Kind.INODE_BITMAP)])
    assert [[access.block_no for access in group] for group in groups] == [[1]]


def test_a_superblock_alone_is_one_write() -> None:
    image = default_image()
    groups = written(image, [edit_of(image, 0, 140, b"x", Kind.SUPERBLOCK)])
    assert [[access.block_no for access in group] for group in groups] == [[0]]


def test_a_superblock_that_was_lost_comes_first_with_state_2() -> None:
    sound = default_image()
    image = bytes(512) + sound[512:]
    edits = [
        edit_of(image, 0, 0, sound[:512], Kind.SUPERBLOCK),
        edit_of(image, 1, 0, b"\x0f", Kind.INODE_BITMAP),
    ]
    groups = written(image, edits)
    assert [[access.block_no for access in group] for group in groups] == [[0], [1], [0]]
    opening = decode_superblock(groups[0][0].content)
    assert opening.state == 2
    assert opening.geometry == GEOMETRY
    assert groups[-1][0].content == sound[:512]


def test_edits_of_neighbouring_sectors_are_one_write_of_whole_sectors() -> None:
    image = default_image()
    edits = [
        edit_of(image, 3, 800, b"x", Kind.INODE_TABLE),
        edit_of(image, 3, 1020, b"yyyyyy", Kind.INODE_TABLE),
        edit_of(image, 3, 4000, b"z", Kind.INODE_TABLE),
    ]
    groups = written(image, edits)
    assert [(a.block_no, a.offset, a.size) for a in groups[1]] == [(3, 512, 1024), (3, 3584, 512)]


def test_no_edits_write_nothing() -> None:
    assert written(default_image(), []) == []


@pytest.mark.parametrize("kind", [Kind.INODE_TABLE, Kind.DIRECTORY, Kind.DATA, Kind.SUPERBLOCK])
def test_an_image_that_changed_meanwhile_is_not_written_to(kind: Kind) -> None:
    device = MemoryDevice(bytearray(damaged(many_at_once)))
    report: Report = check(device, now_ns=NOW_NS)
    edit = next(edit for edit in report.edits if edit.kind is kind)
    device.image[edit.block_no * 512 + edit.offset] ^= 0xFF
    before = bytes(device.image)
    with pytest.raises(ImageChanged, match="changed since it was read") as caught:
        report.write(device)
    assert caught.value.errno == errno.ESTALE
    assert device.image == before
