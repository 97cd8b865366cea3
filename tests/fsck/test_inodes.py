"""Pass 1: each rule broken in one field of a sound image, found there, and repaired."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from tests.support.broken import repaired
from tests.support.damage import Image
from tests.support.images import blank, image_of, mount
from tests.support.rawwalk import Walk, walk
from vsfs.fsck import Finding

BLOCK = 512
SUB = "a-directory-with-a-name-that-fills-a-sector-soon-"  # two digits behind it
MANY = 16  # blocks of /far, four of them behind its single indirect block


@pytest.fixture(scope="module")
def tree() -> bytes:
    """A small tree with something of every kind, in blocks of 512 bytes."""
    fs = mount(blank(128 * 1024, block_size=BLOCK))
    fs.mkdir("/dir")
    for name, content in {
        "/near": b"n" * 1000,
        "/dir/file": b"f" * 700,
        "/far": b"".join(bytes([65 + index]) * BLOCK for index in range(MANY)),
        "/empty": b"",
    }.items():
        fd = fs.open(name, os.O_CREAT | os.O_WRONLY)
        fs.write(fd, content)
        fs.close(fd)
    fs.link("/near", "/dir/again")
    fs.symlink("/near", "/short")
    fs.symlink("/" + "long/" * 50, "/long")
    fs.mknod("/fifo", stat.S_IFIFO | 0o644)
    fs.mknod("/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    fs.setxattr("/near", "user.colour", b"green")
    fs.setxattr("/near", "user.taste", b"sour")
    for number in range(30):
        fs.mkdir(f"/dir/{SUB}{number:02}")
    fs.unmount()
    return image_of(fs)


@pytest.fixture
def image(tree: bytes) -> Image:
    return Image(tree)


class Repaired:
    """What a check of a broken image found, and the tree after its repair."""

    def __init__(self, image: Image) -> None:
        self.before = bytes(image.data)
        report, self.after = repaired(self.before)
        self.findings: tuple[Finding, ...] = report.findings
        again, _ = repaired(self.after)
        assert [finding.text for finding in again.findings] == []
        self.walk: Walk = walk(self.after)
        assert self.walk.findings == []

    @property
    def rules(self) -> list[int]:
        return [finding.rule.number for finding in self.findings]

    def only(self, number: int) -> Finding:
        """The single finding, which is of this rule."""
        assert self.rules == [number], [finding.text for finding in self.findings]
        return self.findings[0]

    def first(self, number: int) -> Finding:
        """The first finding of this rule."""
        return next(finding for finding in self.findings if finding.rule.number == number)

    def content(self, path: str) -> bytes:
        return self.walk.content(self.walk.paths[path.encode()])


def place(image: Image, at: int) -> tuple[int, int]:
    return at // image.block_size, at % image.block_size


def where(finding: Finding) -> tuple[int, int]:
    return finding.found.block_no, finding.found.offset


def inode_place(image: Image, ino: int, offset: int) -> tuple[int, int]:
    return place(image, image.inode_at(ino) + offset)


def test_a_sound_image_has_no_findings_and_no_edits(image: Image) -> None:
    done = Repaired(image)
    assert done.findings == ()
    assert done.after == done.before


# -- inodes as a whole ---------------------------------------------------------


@pytest.mark.parametrize("offset", [*range(0, 252, 7), 252, 255])
def test_any_single_wrong_byte_of_an_inode_comes_back(image: Image, offset: int) -> None:
    ino = image.find("/near")
    at = image.inode_at(ino) + offset
    image.put(at, bytes([image.data[at] ^ 0x5A]))
    done = Repaired(image)
    finding = done.only(212 if offset < 252 else 201)
    assert where(finding) == inode_place(image, ino, min(offset, 252))
    assert finding.path == b"/dir/again"
    image.put(at, bytes([image.data[at] ^ 0x5A]))
    assert done.after[image.inode_at(ino) :][:256] == image.data[image.inode_at(ino) :][:256]


def test_a_wrong_checksum_is_set_while_all_fields_are_possible(image: Image) -> None:
    ino = image.find("/near")
    image.put_inode(ino, seal=False, uid=123456, mtime_ns=654321)
    finding = Repaired(image).only(201)
    assert where(finding) == inode_place(image, ino, 252)


def test_the_checksum_of_a_free_inode_is_set(image: Image) -> None:
    ino = image.find("/empty")
    image.remove("/empty")
    image.put_inode(ino, nlink=0)
    image.put_inode_bit(ino, 0)
    image.put_superblock(free_inode_count=image.superblock("free_inode_count") + 1)
    image.put_inode(ino, seal=False, uid=123456, gid=654321)
    assert Repaired(image).only(201).ino == ino


@pytest.mark.parametrize("ino", [0, 1])
def test_a_reserved_inode_is_cleared(image: Image, ino: int) -> None:
    image.put(image.inode_at(ino) + 77, b"x")
    done = Repaired(image)
    assert where(done.only(202)) == inode_place(image, ino, 77)
    assert done.after[image.inode_at(ino) :][:256] == bytes(256)


def test_random_bytes_in_place_of_an_inode_are_cleared_and_its_name_removed(image: Image) -> None:
    ino = image.find("/dir/file")
    noise = bytes((37 * index + 11) % 256 for index in range(256))
    image.put(image.inode_at(ino), noise)
    done = Repaired(image)
    assert done.first(203).ino == ino
    assert b"/dir/file" not in done.walk.paths
    assert b"/dir/again" in done.walk.paths


def test_an_orphan_is_freed(image: Image) -> None:
    ino = image.find("/far")
    image.remove("/far")
    image.put_inode(ino, nlink=0)
    done = Repaired(image)
    finding = done.first(206)
    assert finding.rule.is_safe
    assert where(finding) == place(image, image.at(image.inode_bitmap) + ino // 8)
    assert finding.found.bit == ino % 8
    assert ino not in done.walk.inodes


def test_a_link_count_that_was_zeroed_by_damage_comes_back(image: Image) -> None:
    ino = image.find("/near")
    image.put_inode(ino, seal=False, nlink=0, atime_ns=1)
    done = Repaired(image)
    assert done.first(207).ino == ino
    assert done.walk.inodes[ino].nlink == 2
    assert done.content("/near") == b"n" * 1000


# -- types and modes ------------------------------------------------------------


@pytest.mark.parametrize("path", ["/near", "/dir", "/short", "/fifo"])
def test_an_impossible_type_is_told_by_the_entry_or_the_contents(image: Image, path: str) -> None:
    ino = image.find(path)
    mode = image.get(ino, "mode")
    image.put_inode(ino, mode=mode & 0o7777 | 0o030000)
    done = Repaired(image)
    assert where(done.only(204)) == inode_place(image, ino, 0)
    assert done.walk.inodes[ino].mode == mode


def test_bits_above_a_mode_are_cleared(image: Image) -> None:
    ino = image.find("/near")
    image.put_inode(ino, mode=image.get(ino, "mode") | 1 << 20)
    done = Repaired(image)
    done.only(204)
    assert done.walk.inodes[ino].mode == image.get(ino, "mode") & 0xFFFF


def test_a_file_whose_type_was_flipped_to_directory_is_a_file_again(image: Image) -> None:
    ino = image.find("/near")
    image.put_inode(ino, mode=image.get(ino, "mode") & 0o7777 | stat.S_IFDIR)
    done = Repaired(image)
    done.only(205)
    assert done.content("/near") == b"n" * 1000


def test_a_directory_whose_type_was_flipped_to_file_is_a_directory_again(image: Image) -> None:
    ino = image.find("/dir")
    image.put_inode(ino, mode=image.get(ino, "mode") & 0o7777 | stat.S_IFREG)
    done = Repaired(image)
    assert f"/dir/{SUB}29".encode() in done.walk.paths
    assert b"/lost+found" not in done.walk.paths


@pytest.mark.parametrize("file_type", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFLNK])
def test_a_file_whose_type_was_flipped_to_one_without_contents_is_a_file_again(
    image: Image, file_type: int
) -> None:
    ino = image.find("/far")
    image.put_inode(ino, mode=image.get(ino, "mode") & 0o7777 | file_type)
    done = Repaired(image)
    done.only(205)
    assert len(done.content("/far")) == MANY * BLOCK


# -- fields ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "field", "value", "offset"),
    [
        ("/near", "flags", 1, 64),
        ("/dir", "device", 7, 72),
        ("/near", "inline", b"x".ljust(108, b"\0"), 144),
        ("/short", "inline", b"/near\0\0y".ljust(108, b"\0"), 144),
    ],
)
def test_a_field_without_use_is_set_to_zero(
    image: Image, path: str, field: str, value: Any, offset: int
) -> None:
    ino = image.find(path)
    image.put_inode(ino, **{field: value})
    assert where(Repaired(image).only(208)) == inode_place(image, ino, offset)


def test_a_special_file_has_size_0(image: Image) -> None:
    ino = image.find("/fifo")
    image.put_inode(ino, size=10)
    assert where(Repaired(image).only(210)) == inode_place(image, ino, 16)


def test_a_target_ends_before_a_nul(image: Image) -> None:
    ino = image.find("/short")
    image.put_inode(ino, size=9)
    done = Repaired(image)
    assert where(done.only(209)) == inode_place(image, ino, 16)
    assert done.walk.inodes[ino].size == len("/near")


@pytest.mark.parametrize("size", [0, 4096, 2**40])
def test_a_link_without_a_target_is_freed(image: Image, size: int) -> None:
    ino = image.find("/short")
    image.put_inode(ino, size=size)
    done = Repaired(image)
    assert done.first(209).ino == ino
    assert b"/short" not in done.walk.paths


# -- attributes --------------------------------------------------------------------


def attribute_block(image: Image) -> int:
    return int(image.get(image.find("/near"), "attribute"))


@pytest.mark.parametrize("offset", [4, 8, 12])
def test_a_damaged_head_of_an_attribute_block_is_written_anew(image: Image, offset: int) -> None:
    block = attribute_block(image)
    image.put_block(block, b"\xff\xff", offset)
    done = Repaired(image)
    assert where(done.only(211)) == (block, offset)
    assert b"green" in done.after[image.at(block) :][:BLOCK]


def test_attributes_up_to_the_damaged_one_are_kept(image: Image) -> None:
    block = attribute_block(image)
    second = bytes(image.block(block)).index(b"user.taste") - 4
    image.put_block(block, b"\0", second)
    done = Repaired(image)
    done.only(211)
    assert b"green" in done.after[image.at(block) :][:BLOCK]


def test_a_block_that_is_no_attribute_block_is_let_go(image: Image) -> None:
    block = attribute_block(image)
    image.put_block(block, b"NONE")
    done = Repaired(image)
    assert done.rules[0] == 211
    assert done.findings[0].lost == "its extended attributes"
    assert done.content("/near") == b"n" * 1000


def test_attributes_outside_the_data_region_are_let_go(image: Image) -> None:
    ino = image.find("/near")
    image.put_inode(ino, attribute=3)
    assert where(Repaired(image).first(220)) == inode_place(image, ino, 140)
