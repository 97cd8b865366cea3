"""A walk described, against the same walk done by the filesystem."""

from __future__ import annotations

from typing import Any

import pytest

import vsfs
from tests.test_describe import BAR, FOO, SOFT, image_with, inode_at, overwrite, put, reseal
from vsfs.describe_path import describe_path
from vsfs.device import MemoryDevice
from vsfs.rawimage import RawImage


def build(fs: vsfs.FileSystem) -> None:
    """Directories of one block each, the inodes in different blocks of the table."""
    fs.mkdir("/foo")
    put(fs, "/foo/bar", b"")
    for number in range(20):
        put(fs, f"/{number}", b"")
    fs.mkdir("/foo/deep")
    put(fs, "/foo/deep/leaf", b"")
    fs.symlink("/foo/deep", "/absolute")
    fs.symlink("deep/../deep", "/foo/relative")
    fs.symlink("foo/./" * 40 + "deep", "/long")
    fs.symlink("loop", "/loop")


class Recording(MemoryDevice):
    """Keeps the numbers of the blocks that were read."""

    def __init__(self, image: bytes) -> None:
        super().__init__(bytearray(image))
        self.blocks: list[int] = []

    def read(self, block_no: int, size: int, *rest: Any) -> bytes:
        self.blocks.append(block_no)
        return super().read(block_no, size, *rest)


@pytest.mark.parametrize(
    "path", ["/", "/foo/bar", "/foo/deep/leaf", "/absolute/leaf", "/foo/relative/leaf", "/19"]
)
def test_a_cold_walk_reads_the_blocks_that_are_listed(path: str) -> None:
    device = Recording(bytes(image_with(build).image))
    fs = vsfs.FileSystem.open(device, read_only=True, commit_interval=None)
    device.blocks.clear()
    ino = fs.lstat(path).st_ino
    read = set(device.blocks)
    fs.unmount()
    found = describe_path(RawImage(device), path.encode())
    assert found["found"] == ino
    listed = [one["block"] for step in found["steps"] for one in step["reads"]]
    assert len(listed) == found["read_count"]
    assert len(set(listed)) == found["block_count"]
    # the mount may know the root directory from its own start
    assert read <= set(listed) <= read | {3, 8}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (b"/nope", "directory 2 has no record nope"),
        (b"/foo/bar/x", "inode 4 is no directory but a regular file"),
        (b"/loop/x", "more than 40 symbolic links"),
        (b"/foo//nope/more", "directory 3 has no record nope"),
    ],
)
def test_a_walk_that_ends_early_says_why(path: bytes, why: str) -> None:
    found = describe_path(RawImage(image_with(build)), path)
    assert found["found"] is None
    assert why in found["missing"]


def test_the_last_link_is_not_followed_those_before_are() -> None:
    image = RawImage(image_with())
    found = describe_path(image, b"/soft")
    assert found["found"] == SOFT
    assert [step["ino"] for step in found["steps"]] == [2, SOFT]
    long = RawImage(image_with(build))
    steps = describe_path(long, b"/long/leaf")["steps"]
    assert "target" in [read["what"] for read in steps[1]["reads"]]


def test_a_match_is_the_record_with_that_name() -> None:
    device = image_with()
    step = describe_path(RawImage(device), b"/foo/bar")["steps"][1]
    at = step["match"]["image_offset"]
    assert int.from_bytes(device.image[at : at + 4], "little") == BAR == step["match"]["inode"]
    assert bytes(device.image[at + 8 : at + 11]) == b"bar"
    assert step["ino"] == FOO


def test_blocks_of_pointers_are_read_once_on_the_way_to_the_directorys_blocks() -> None:
    def many(fs: vsfs.FileSystem) -> None:
        for number in range(100):
            fs.mkfifo(f"/{number:0200}")

    image = RawImage(image_with(many, size=2**20, block_size=512, inode_count=200))
    found = describe_path(image, b"/" + b"%0200d" % 99)
    assert found["found"] is not None
    reads = [read["what"] for read in found["steps"][0]["reads"]]
    assert reads.count("indirect") == 1
    assert reads.index("indirect") == 1 + 12  # the inode, and 12 blocks by direct pointers
    assert reads.count("directory") == len(reads) - 2


def test_damage_on_the_way_is_said_where_it_was_met() -> None:
    device = image_with()
    overwrite(device, 9 * 4096 + 4, b"\x01")
    found = describe_path(RawImage(device), b"/foo/bar")
    assert found["found"] is None
    assert "directory record length" in found["steps"][1]["damage"]


def test_a_damaged_inode_ends_the_walk_and_keeps_its_type() -> None:
    device = image_with()
    overwrite(device, inode_at(FOO) + 16, b"\x64")
    reseal(device, FOO)
    found = describe_path(RawImage(device), b"/foo/bar")
    step = found["steps"][-1]
    assert (found["found"], step["ino"], step["type"]) == (None, FOO, "directory")
    assert step["damage"] == found["missing"]
