"""The commands of vsfs-inspect that look things up, compare, and dig out."""

from __future__ import annotations

import json
import os
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vsfs_tools import inspect

import vsfs
from tests.support.images import IDENTITY, ROOT, Clock

BLOCK = 4096
CONTENT = random.Random(7).randbytes(60_000)
COMMANDS = [
    ["owner", "0"],
    ["owner", "3"],
    ["owner", "8"],
    ["owner", "63"],
    ["names", "/"],
    ["names", "/foo/bar"],
    ["where", "/foo/large", "50000"],
    ["where", "/soft", "1"],
    ["where", "/sparse", "0"],
    ["ls"],
    ["ls", "-l", "/foo"],
    ["ls", "--deleted"],
    ["stat", "/foo"],
    ["deleted"],
    ["usage"],
    ["fields"],
    ["fields", "inode"],
]
Run = Callable[..., str]
Json = Callable[..., dict[str, Any]]


def put(fs: vsfs.FileSystem, path: str, content: bytes, offset: int = 0) -> None:
    fd = fs.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    fs.pwrite(fd, content, offset)
    fs.close(fd)


def changed(image: Path) -> Any:
    return vsfs.FileSystem.open(image, credentials=ROOT, clock=Clock())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """/foo is inode 3, /foo/bar 4, /foo/large 5; inode 7 was /gone, of 60,000 bytes."""
    path = tmp_path / "disk.img"
    vsfs.format_image(path, identity=IDENTITY)
    with changed(path) as fs:
        fs.mkdir("/foo")
        put(fs, "/foo/bar", b"hello\n")
        put(fs, "/foo/large", bytes(60_000))
        put(fs, "/sparse", b"end", 100_000)
        put(fs, "/gone", CONTENT)
        fs.symlink("foo/bar", "/soft")
        fs.link("/foo/bar", "/second")
        fs.unlink("/gone")
    return path


@pytest.fixture
def run(image: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_one(*arguments: str, status: int = 0) -> str:
        assert inspect.main([str(image), *arguments]) == status
        captured = capsys.readouterr()
        assert captured.err.count("\n") == (status != 0)
        return captured.out if not status else captured.err

    return run_one


@pytest.fixture
def found(run: Run) -> Json:
    return lambda *arguments: json.loads(run(*arguments, "--json"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_text_and_json(run: Run, found: Json, command: list[str]) -> None:
    lines = run(*command).splitlines()
    assert lines
    assert all(line == line.rstrip() for line in lines)
    assert found(*command)


def test_looking_changes_nothing(run: Run, image: Path) -> None:
    before = image.read_bytes()
    for command in COMMANDS:
        run(*command)
    assert image.read_bytes() == before


# -- owner, names, where ------------------------------------------------------


def test_a_block_leads_to_every_path_of_its_owner(found: Json) -> None:
    block = found("where", "/foo/bar", "0")["block"]
    (owner,) = found("owner", str(block))["owners"]
    assert (owner["ino"], owner["role"], owner["file_block"]) == (4, "data", 0)
    assert sorted(path["path"] for path in owner["paths"]) == ["/foo/bar", "/second"]


def test_the_records_of_an_inode_are_as_many_as_its_links(found: Json) -> None:
    for what in ("/", "/foo", "/foo/bar", "/soft"):
        values = found("names", what)
        assert values["record_count"] == values["nlink"] == len(values["records"])
    kinds = sorted(record["kind"] for record in found("names", "/foo")["records"])
    assert kinds == ["itself", "name"]


def test_a_name_stands_where_it_is_said_to(found: Json, image: Path) -> None:
    data = image.read_bytes()
    for record in found("names", "/foo/bar")["records"]:
        at = record["image_offset"] + 8
        assert data[at : at + len(record["name"])].decode() == record["name"]


@pytest.mark.parametrize("block_size", [512, 1024, 4096])
def test_a_byte_of_a_file_is_where_it_is_said_to_be(tmp_path: Path, block_size: int) -> None:
    path = tmp_path / "large.img"
    vsfs.format_image(path, 2**21, block_size=block_size, identity=IDENTITY)
    content = random.Random(1).randbytes(400_000)
    with changed(path) as fs:
        put(fs, "/file", content)
    data = path.read_bytes()
    for offset in (0, 1, 12 * block_size - 1, 12 * block_size, 100_000, 399_999):
        values = where(path, "/file", offset)
        assert data[values["image_offset"]] == content[offset]
        for step in values["steps"]:
            at = step["image_offset"]
            assert int.from_bytes(data[at : at + 4], "little") == step["pointer"]
        assert values["steps"][-1]["pointer"] == values["block"]


def where(path: Path, what: str, offset: int) -> dict[str, Any]:
    from vsfs.describe_where import describe_where
    from vsfs.device import FileDevice
    from vsfs.rawimage import RawImage

    device = FileDevice(path, read_only=True)
    try:
        image = RawImage(device)
        return describe_where(image, image.resolve(what.encode()), offset)
    finally:
        device.close()


def test_a_byte_of_a_short_target_is_in_the_inode(found: Json, image: Path) -> None:
    data = image.read_bytes()
    at = [found("where", "/soft", str(index))["image_offset"] for index in range(7)]
    assert bytes(data[each] for each in at) == b"foo/bar"


def test_where_ends_in_a_hole_and_past_the_end(run: Run, found: Json) -> None:
    assert "a hole" in run("where", "/sparse", "5")
    values = found("where", "/sparse", "900000")
    assert (values["past_the_end"], values["block"]) == (True, None)
    assert "no pointer reaches" in run("where", "/sparse", "9" * 18, status=1)
    assert "no offset" in run("where", "/sparse", "one", status=2)


def test_a_pointer_out_of_the_image_is_damage(image: Path, run: Run) -> None:
    data = bytearray(image.read_bytes())
    at = 3 * BLOCK + 5 * 256 + 80
    data[at : at + 4] = (999).to_bytes(4, "little")
    image.write_bytes(data)
    assert "damaged: direct[0] of inode 5 is 999" in run("where", "/foo/large", "0")


# -- ls, stat -----------------------------------------------------------------


def test_ls_tells_what_stat_tells(image: Path, found: Json) -> None:
    with vsfs.FileSystem.open(image, read_only=True, credentials=ROOT) as fs:
        for entry in found("ls", "-l", "/")["entries"]:
            status = fs.lstat(f"/{entry['name']}")
            assert entry["ino"] == status.st_ino
            assert (entry["mode"], entry["nlink"]) == (status.st_mode, status.st_nlink)
            assert (entry["size"], entry["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
        assert found("stat", "/foo/bar")["ctime_ns"] == fs.stat("/foo/bar").st_ctime_ns


# -- deleted, recover ---------------------------------------------------------


def test_a_removed_name_is_found_with_its_inode(found: Json, run: Run) -> None:
    values = found("deleted")
    (name,) = values["names"]
    assert (name["name"], name["ino"], name["state"]) == ("gone", 7, "free")
    (inode,) = values["inodes"]
    assert (inode["ino"], inode["size"], inode["reused"]) == (7, 60_000, 0)
    assert "/gone" in run("ls", "--deleted")


def test_every_name_of_a_directory_that_was_emptied_is_found(image: Path, found: Json) -> None:
    names = [f"name-{number}" for number in range(60)]
    with changed(image) as fs:
        for name in names:
            put(fs, f"/foo/{name}", b"")
        for name in random.Random(3).sample(names, len(names)):
            fs.unlink(f"/foo/{name}")
    removed = {name["name"] for name in found("deleted")["names"]}
    assert set(names) - removed == set()


def test_a_removed_file_is_recovered_whole(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "60000 bytes written" in run("recover", "7", str(out))
    assert out.read_bytes() == CONTENT


def test_what_was_reused_is_told_with_its_owner(image: Path, run: Run, tmp_path: Path) -> None:
    data = bytearray(image.read_bytes())
    first, second = struct.unpack_from("<2I", data, 3 * BLOCK + 7 * 256 + 80)
    bit = first - 8
    data[2 * BLOCK + bit // 8] |= 1 << bit % 8
    struct.pack_into("<I", data, 3 * BLOCK + 4 * 256 + 80, first)  # of /foo/bar
    image.write_bytes(data)
    out = tmp_path / "out"
    text = run("recover", "7", str(out))
    reused = f"block {first} (file block 0, zeroes now) was reused by data[0] of"
    assert reused in text
    assert str(second) not in text
    assert out.read_bytes() == bytes(BLOCK) + CONTENT[BLOCK:]


def test_no_file_is_written_over_unless_told(run: Run, tmp_path: Path, image: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    assert "exists" in run("recover", "7", str(out), status=2)
    assert out.read_text() == "mine"
    run("recover", "-f", "7", str(out))
    assert out.read_bytes() == CONTENT
    before = image.read_bytes()
    assert "is the image itself" in run("recover", "-f", "7", str(image), status=2)
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("ino", "words"), [("4", "in use"), ("70", "was never used"), ("80", "no inode 80")]
)
def test_what_cannot_be_recovered_is_said(run: Run, tmp_path: Path, ino: str, words: str) -> None:
    assert words in run("recover", ino, str(tmp_path / "out"), status=1)
    assert not (tmp_path / "out").exists()


# -- usage, fields ------------------------------------------------------------


def test_the_blocks_of_all_uses_are_those_of_the_disk(found: Json) -> None:
    values = found("usage")
    regions = {region["name"]: region["blocks"] for region in values["regions"]}
    assert sum(regions.values()) == values["block_count"] == 64
    assert sum(values["blocks"].values()) == regions["data region"]
    assert values["blocks"]["lost"] == 0
    assert values["inodes"]["types"] == {"directory": 2, "regular file": 3, "symbolic link": 1}
    assert values["wasted"] == sum(-size % BLOCK for size in (6, 60_000, 100_003))
    assert [file["ino"] for file in values["largest"]][:2] == [5, 6]


def test_one_of_a_thing_is_no_plural(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, image = tmp_path / "before.img", tmp_path / "disk.img"
    vsfs.format_image(before, identity=IDENTITY)
    image.write_bytes(before.read_bytes())
    with changed(image) as fs:
        put(fs, "/one", b"1")
        put(fs, "/gone", b"1")
        put(fs, "/sparse", b"1", BLOCK)
        fs.unlink("/gone")
    for words in (
        ["layout"],
        ["bitmap"],
        ["tree"],
        ["path", "/one"],
        ["names", "/one"],
        ["where", "/one", "1"],
        ["ls", "--deleted"],
        ["deleted"],
        ["recover", "4", str(tmp_path / "found")],
        ["fragments", "/one"],
        ["usage"],
        ["diff", str(before)],
    ):
        assert inspect.main([str(image), *words]) == 0, words
    shown = capsys.readouterr().out
    plurals = r"\b1 (?:more )?(?:bytes|blocks|files|inodes|names|records|reads|links|runs|others)\b"
    assert re.findall(rf"(?:^|[^-\w]){plurals}", shown) == []
    assert "1 byte" in shown
    assert "1 block" in shown


def test_an_unknown_structure_is_said(run: Run) -> None:
    assert "there are superblock, inode," in run("fields", "nothing", status=1)


# -- diff ---------------------------------------------------------------------


def test_diff_tells_what_was_done_in_between(image: Path, run: Run, tmp_path: Path) -> None:
    saved = tmp_path / "saved.img"
    saved.write_bytes(image.read_bytes())
    with changed(image) as fs:
        put(fs, "/new", b"hello")
    since = run("diff", "--since", str(saved))
    assert "- /new made: regular file, 5 bytes, inode 7" in since
    assert "inode 7 allocated: bitmap block 1, byte 0, bit 7" in since
    assert "gained new -> 7" in since
    assert "- /new removed" in run("diff", str(saved))
    assert run("diff", str(image)) == "no block differs\n"


@pytest.mark.parametrize("words", [[], ["a", "--since", "b"]])
def test_diff_takes_one_other_image(run: Run, words: list[str]) -> None:
    assert "either OTHER or --since" in run("diff", *words, status=2)


def test_what_cannot_be_compared_is_said(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert "no such file" in run("diff", str(other), status=1)
    other.write_bytes(b"x" * 9999)
    assert "not a VSFS image" in run("diff", str(other), status=1)
