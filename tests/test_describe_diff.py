"""The difference of two images: every change is told, and nothing else."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import Any, Final

import pytest

import vsfs
from tests.support.images import KIB, blank, image_of, mount
from vsfs.compare import Spans
from vsfs.describe_diff import describe_diff
from vsfs.device import MemoryDevice
from vsfs.rawimage import RawImage

Change = Callable[[vsfs.FileSystem], object]


def put(fs: vsfs.FileSystem, path: str, content: bytes, offset: int = 0) -> None:
    fd = fs.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    fs.pwrite(fd, content, offset)
    fs.close(fd)


def raw(image: bytes) -> RawImage:
    return RawImage(MemoryDevice(bytearray(image)))


def prepared(**geometry: Any) -> bytes:
    """An image with a file, a large one, and a directory."""
    fs = mount(blank(512 * KIB, **geometry))
    put(fs, "/file", b"contents")
    put(fs, "/large", bytes(100_000))
    fs.mkdir("/dir")
    put(fs, "/dir/inner", b"x")
    fs.sync()
    fs.unmount()
    return image_of(fs)


BEFORE: Final = prepared()


def after(change: Change, before: bytes = BEFORE) -> bytes:
    fs = mount(MemoryDevice(bytearray(before)))
    change(fs)
    fs.unmount()
    return image_of(fs)


def difference(change: Change, before: bytes = BEFORE) -> dict[str, Any]:
    found = describe_diff(raw(before), raw(after(change, before)))
    json.dumps(found)
    return found


def told(change: Change, before: bytes = BEFORE) -> list[str]:
    return [each["text"] for each in difference(change, before)["story"]]


def rename_replacing(fs: vsfs.FileSystem) -> None:
    fs.rename("/file", "/dir/inner")


@pytest.mark.parametrize(
    ("change", "story"),
    [
        (lambda fs: put(fs, "/new", b"hello"), ["/new made: regular file, 5 bytes, inode 7"]),
        (lambda fs: fs.unlink("/file"), ["/file removed: regular file, inode 3 is free"]),
        (lambda fs: fs.rename("/file", "/dir/f"), ["/file renamed to /dir/f"]),
        (lambda fs: fs.link("/file", "/dir/f"), ["/dir/f linked: a further name"]),
        (lambda fs: fs.truncate("/large", 5), ["/large shrank from 100000 to 5 bytes"]),
        (lambda fs: put(fs, "/large", b"1234", 5000), ["/large written: bytes 5000-5003"]),
        (lambda fs: fs.mkdir("/dir/d"), ["/dir/d made: directory, inode 7"]),
        (lambda fs: fs.utime("/file", ns=(5, 7)), ["times of /file changed: atime, mtime, ctime"]),
        (
            lambda fs: fs.setxattr("/file", "user.a", b"b"),
            ["extended attributes of /file changed: user.a"],
        ),
        (
            rename_replacing,
            [
                "/file renamed to /dir/inner",
                "/dir/inner removed: regular file, inode 6 is free",
            ],
        ),
    ],
)
def test_the_story_is_what_was_done(change: Change, story: list[str]) -> None:
    assert [text for text in told(change) if not text.startswith("/file has other")] == story


def test_a_file_that_grew_is_told_structure_by_structure() -> None:
    found = difference(lambda fs: put(fs, "/new", b"hello"))
    (bit,) = found["inode_bitmap"]["list"]
    assert (bit["first"], bit["block"], bit["byte"], bit["bit"]) == (7, 1, 0, 7)
    assert bit["allocated"]
    (block,) = found["data_bitmap"]["list"]
    (directory,) = found["directories"]["list"]
    assert directory["path"] == "/"
    assert [(name["name"], name["ino"]) for name in directory["gained"]] == [("new", 7)]
    (file,) = (file for file in found["files"]["list"] if file["ino"] == 7)
    assert (file["size_before"], file["size"]) == (None, 5)
    assert [piece["block"] for piece in file["gained"]] == [block["first"]]
    (inode,) = (inode for inode in found["inodes"]["list"] if inode["ino"] == 7)
    fields = {change["field"]: change["after"] for change in inode["fields"]}
    assert fields["size"] == 5
    assert fields["direct[0]"] == block["first"]


def test_the_same_image_has_no_difference() -> None:
    found = describe_diff(raw(BEFORE), raw(BEFORE))
    assert found["changed_blocks"] == 0
    assert found["story"] == []


def test_other_geometries_are_not_compared_beyond_the_superblock() -> None:
    found = describe_diff(raw(BEFORE), raw(prepared(block_size=1024)))
    assert not found["comparable"]
    assert "block_size" in [change["field"] for change in found["superblock"]]


def test_a_block_that_came_and_went_is_told() -> None:
    def come_and_go(fs: vsfs.FileSystem) -> None:
        put(fs, "/new", b"hello")
        fs.sync()
        fs.unlink("/new")

    (run,) = difference(come_and_go)["other"]["list"]
    assert (run["count"], run["in_use"], run["was"]) == (1, False, None)


def test_every_block_that_differs_is_told_somewhere() -> None:
    """Whatever was done: each changed block is metadata of a listed thing, or listed."""
    for seed in range(8):
        chance = random.Random(seed)

        def change(fs: vsfs.FileSystem, chance: random.Random = chance) -> None:
            for _ in range(10):
                name = chance.choice(["/a", "/b", "/file", "/dir/c", "/large"])
                put(fs, name, chance.randbytes(9000), chance.randrange(90_000))
            fs.truncate("/large", chance.randrange(90_000))
            fs.unlink(chance.choice(["/file", "/dir/inner"]))

        image = after(change)
        found = describe_diff(raw(BEFORE), raw(image))
        geometry = raw(image).geometry
        changed = {
            block
            for first, count in found["changed_runs"]["list"]
            for block in range(first, first + count)
            if block >= geometry.data_start
        }
        named = _named(found)
        assert changed <= named, f"seed {seed}"


def _named(found: dict[str, Any]) -> set[int]:
    """The data blocks that the groups name."""
    named: set[int] = set()
    for file in found["files"]["list"]:
        for run in file["gained"] + file["lost"] + file["written"]:
            named |= set(range(run["block"], run["block"] + run["count"]))
    for directory in found["directories"]["list"]:
        for key in ("gained", "lost", "changed"):
            named |= {entry["block"] for entry in directory[key]}
    named |= {block["block"] for block in found["pointers"]["list"]}
    for run in found["other"]["list"]:
        named |= set(range(run["first"], run["first"] + run["count"]))
    return named


def test_spans_are_cut_as_sets_are() -> None:
    chance = random.Random(1)
    for _ in range(200):
        numbers = {chance.randrange(40) for _ in range(chance.randrange(20))}
        spans = Spans((number, number + 1) for number in numbers)
        assert spans.count == len(numbers)
        start = chance.randrange(40)
        end = chance.randrange(start, 41)
        wanted = set(range(start, end))
        assert numbers_of(spans.within(start, end)) == numbers & wanted
        assert numbers_of(spans.outside(start, end)) == wanted - numbers


def numbers_of(spans: Any) -> set[int]:
    return {number for start, end in spans for number in range(start, end)}
