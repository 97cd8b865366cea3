"""vsfs-inspect as people and programs use it: text, JSON, errors, exit statuses."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vsfs_tools import inspect, inspect_progress, present
from vsfs_tools.inspect_output import RichPrinter

import vsfs
from tests.support.images import IDENTITY, ROOT, Clock
from tests.support.terminals import open_terminal
from vsfs import lock
from vsfs.device import Access, FailingDevice, FileDevice, Kind

BLOCK = 4096
ESCAPE = "\x1b"
BRANCHES = {*"|`│├└", "|--", "`--", "├──", "└──"}
BINARY = bytes(range(256))
COMMANDS = [
    [],
    ["super"],
    ["layout"],
    ["layout", "--owner"],
    ["bitmap"],
    ["bitmap", "inode"],
    ["bitmap", "data"],
    ["inode", "0"],
    ["inode", "/foo/large"],
    ["inode", "/"],
    ["path", "/foo/large"],
    ["path", "/soft/nowhere"],
    ["block", "0"],
    ["block", "1"],
    ["block", "2"],
    ["block", "3"],
    ["block", "8"],
    ["block", "10"],
    ["block", "63"],
    ["hexdump", "0"],
    ["hexdump", "10"],
    ["dir", "/"],
    ["tree"],
    ["fragments"],
    ["fragments", "/foo/large"],
    ["cat", "/foo/bar"],
]
Run = Callable[..., str]

FIGURE = """\
layout of fresh.img: 64 blocks of 4096 bytes (256 KiB)

      -Inodes--   ------------------- Data Region -------------------
S i d I I I I I   D D D D D D D D   D D D D D D D D   D D D D D D D D
* * * + . . . .   / . . . . . . .   . . . . . . . .   . . . . . . . .
0             7   8            15   16           23   24           31

---------------------------- Data Region ----------------------------
D D D D D D D D   D D D D D D D D   D D D D D D D D   D D D D D D D D
. . . . . . . .   . . . . . . . .   . . . . . . . .   . . . . . . . .
32           39   40           47   48           55   56           63
"""


def put(fs: vsfs.FileSystem, path: str, content: bytes, offset: int = 0) -> None:
    fd = fs.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    fs.pwrite(fd, content, offset)
    fs.close(fd)


def build(image: Path, **geometry: Any) -> None:
    vsfs.format_image(image, identity=IDENTITY, **geometry)
    with vsfs.FileSystem.open(image) as fs:
        fs.mkdir("/foo")
        put(fs, "/foo/bar", b"hello\n")
        put(fs, "/foo/large", bytes(60_000))
        put(fs, "/sparse", b"end", 100_000)
        fs.symlink("foo/bar", "/soft")
        fs.mknod("/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        fs.mkdir("/foo/sub")
        put(fs, "/new\nline\x1b[31m", b"")
        put(fs, "/caf\udce9", b"")
        put(fs, "/binary", BINARY)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file with one of each kind; /foo is inode 3, /foo/bar 4, /foo/large 5."""
    path = tmp_path / "disk.img"
    build(path)
    return path


@pytest.fixture
def run(image: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the image, which must succeed in silence; gives its output."""

    def run_one(*arguments: str) -> str:
        assert inspect.main([str(image), *arguments]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run_one


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int = 1) -> str:
    """The one sentence on stderr of a command that fails."""
    try:
        assert inspect.main(arguments) == status
    except SystemExit as error:  # argparse ends usage errors so
        assert error.code == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("vsfs-inspect: ")
    assert captured.err.count("\n") == 1
    return captured.err


# -- text ---------------------------------------------------------------------


def test_the_layout_is_drawn_as_in_the_book(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = tmp_path / "fresh.img"
    vsfs.format_image(fresh)
    assert inspect.main([str(fresh), "layout"]) == 0
    assert capsys.readouterr().out.startswith(FIGURE)


@pytest.mark.parametrize(("size", "cells"), [(2**20, 256), (2**30, 300), (2**40, 300)])
def test_the_layout_of_a_large_image_is_folded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int, cells: int
) -> None:
    large = tmp_path / "large.img"
    vsfs.format_image(large, size, inode_count=1000)
    assert inspect.main([str(large), "layout"]) == 0
    out = capsys.readouterr().out
    picture = [line for line in out.splitlines() if set(line) <= set("SidID ")]
    assert 100 < sum(len(line.replace(" ", "")) for line in picture) <= cells
    assert len(out.splitlines()) < 70


@pytest.mark.parametrize(("ino", "line"), [
    (10, "inode 10: 10*256 = 2560, block 3, offset 2560"),
    (20, "inode 20: 20*256 = 5120, block 4, offset 1024"),
])  # fmt: skip
def test_an_inode_is_placed_as_in_the_book(run: Run, ino: int, line: str) -> None:
    assert run("inode", str(ino)).splitlines()[0] == line


def test_a_bitmap_is_drawn_bit_by_bit(run: Run, image: Path) -> None:
    rows = run("bitmap", "inode").splitlines()[1:]
    drawn = "".join("".join(row.split()[1:]) for row in rows)
    bits = int.from_bytes(image.read_bytes()[BLOCK : BLOCK + 10], "little")
    assert drawn == f"{bits:080b}"[::-1]


def test_the_dump_has_every_inode_in_use(run: Run) -> None:
    lines = run().split("inodes in use\n")[1].splitlines()[1:]
    listed = [int(line.split()[0]) for line in lines]
    runs = json.loads(run("bitmap", "inode", "--json"))["bitmaps"][0]["runs"]
    assert listed == [ino for first, count in runs for ino in range(first, first + count)]


def test_the_tree_is_drawn_with_inode_numbers(run: Run) -> None:
    assert run("tree").splitlines()[:5] == [
        "[2] /",
        "|-- [3] foo",
        "|   |-- [4] bar",
        "|   |-- [5] large",
        "|   `-- [9] sub",
    ]
    assert run("tree").splitlines()[-1] == "2 directories, 8 files"


def test_cat_writes_the_bytes_as_they_are(
    image: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for what, content in (
        ("/binary", BINARY),
        ("/soft", b"hello\n"),
        ("4", b"hello\n"),
        ("/sparse", bytes(100_000) + b"end"),
    ):
        assert inspect.main([str(image), "cat", what]) == 0
        assert capfdbinary.readouterr() == (content, b"")


def test_names_cannot_move_the_cursor(run: Run) -> None:
    for command in (["tree"], ["dir", "/"], [], ["block", "8"]):
        out = run(*command)
        assert ESCAPE not in out
        assert r"new\nline\x1b[31m" in out
        assert r"caf\xe9" in out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_plain_output_has_no_colour_and_ends_no_line_with_blanks(
    run: Run, command: list[str]
) -> None:
    out = run(*command)
    assert ESCAPE not in out
    assert command[:1] == ["cat"] or all(line == line.rstrip() for line in out.splitlines())


def test_a_terminal_gets_colour_and_all_values(image: Path) -> None:
    out = on_terminal([str(image), "super"])
    assert ESCAPE in out
    assert "00010203-0405-0607-0809-0a0b0c0d0e0f" in out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_terminal_gets_the_words_of_a_pipe(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    plain = run(*command).split()
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(inspect, "printer_for_stdout", RichPrinter)
    assert [word for word in run(*command).split() if word not in BRANCHES] == [
        word for word in plain if word not in BRANCHES
    ]


def on_terminal(arguments: list[str]) -> str:
    """What the command prints on a terminal of 80 columns."""
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    ours, theirs = open_terminal()
    code = "import sys; from vsfs_tools.inspect import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(theirs)
    found = b""
    while part := read_or_end(ours):
        found += part
    os.close(ours)
    assert process.wait() == 0
    return found.decode(errors="replace")


def read_or_end(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError as error:  # the last writer closed its end
        assert error.errno == errno.EIO
        return b""


def test_a_hexdump_is_that_of_hexdump_with_the_fields_behind(run: Run, image: Path) -> None:
    for block in (0, 3, 8, 10):
        dumped = bytearray()
        lines = run("hexdump", str(block)).splitlines()
        assert lines.pop() == f"{BLOCK:06x}"
        for line in lines:
            if line == "*":
                continue
            at, row = int(line[:6], 16), bytes.fromhex(line[8:57])
            while len(dumped) < at:  # a line with * stands for lines like the one before it
                dumped += dumped[-16:]
            dumped += row
        while len(dumped) < BLOCK:
            dumped += dumped[-16:]
        assert dumped == image.read_bytes()[block * BLOCK : (block + 1) * BLOCK]
    first = run("hexdump", "0").splitlines()[0]
    assert first.endswith("superblock: magic  version  feature_compat  feature_incompat")


# -- JSON ---------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_json_is_one_object_before_or_behind_the_command(run: Run, command: list[str]) -> None:
    found = json.loads(run(*command, "--json"))
    assert isinstance(found, dict)
    assert found == json.loads(run("--json", *command))


def test_json_of_a_file_has_its_bytes(run: Run) -> None:
    found = json.loads(run("cat", "/binary", "--json"))
    assert base64.b64decode(found["base64"]) == BINARY
    assert (found["size"], found["complete"]) == (256, True)


def test_json_of_names_is_exact(run: Run) -> None:
    entries = json.loads(run("tree", "--json"))["entries"]
    names = {entry["name"]: entry["name_hex"] for entry in entries}
    assert names["caf\\xe9"] == b"caf\xe9".hex()
    assert names["new\nline\x1b[31m"] is None


def test_json_of_the_dump_has_what_each_command_gives(run: Run) -> None:
    dump = json.loads(run("--json"))
    assert dump["super"] == json.loads(run("super", "--json"))
    assert dump["layout"] == json.loads(run("layout", "--json"))
    assert dump["bitmaps"] == json.loads(run("bitmap", "--json"))["bitmaps"]
    for inode in dump["inodes"]:
        assert inode == json.loads(run("inode", str(inode["ino"]), "--json"))


# -- errors -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["inode", "80"], "inodes 0 to 79"),
        (["block", "64"], "blocks 0 to 63"),
        (["inode", "9" * 30], "30 digits"),
        (["inode", "/nope"], "there is no /nope"),
        (["dir", "/foo/bar"], "inode 4 is no directory but a regular file"),
        (["inode", "/foo/bar/x"], "inode 4, which is no directory"),
        (["cat", "/foo"], "inode 3 is no file but a directory"),
        (["cat", "/null"], "character device"),
        (["dir", "79"], "free inode"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(
    image: Path, capsys: pytest.CaptureFixture[str], command: list[str], words: str
) -> None:
    sentence = refused(capsys, [str(image), *command])
    assert words in sentence
    assert str(image) in sentence


@pytest.mark.parametrize(
    "command",
    [
        ["bogus"],
        ["path", "foo"],
        ["inode"],
        ["inode", "foo"],
        ["block", "-1"],
        ["block", "/foo"],
        ["bitmap", "x"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_status_2(
    image: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert "--help" in refused(capsys, [str(image), *command], 2)


def test_no_image_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert "IMAGE" in refused(capsys, [], 2)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "0 bytes"), (b"hello\n", "6 bytes"), (b"x" * 9999, "78 78 78 78")]
)
def test_what_is_no_image_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    sentence = refused(capsys, [str(path)])
    assert "not a VSFS image" in sentence
    assert words in sentence


def test_what_cannot_hold_an_image_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such file" in refused(capsys, [str(tmp_path / "missing")])
    assert "directory" in refused(capsys, [str(tmp_path)])
    os.mkfifo(tmp_path / "fifo")  # opening it for reading would wait for a writer
    assert "neither a file" in refused(capsys, [str(tmp_path / "fifo")])


def test_a_closed_pipe_is_no_error(image: Path) -> None:
    code = "import sys; from vsfs_tools.inspect import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(image), "block", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


# -- damage -------------------------------------------------------------------


def damage_inode(image: Path, ino: int, offset: int, content: bytes) -> None:
    """Change an inode, and give it a checksum that fits."""
    data = bytearray(image.read_bytes())
    at = 3 * BLOCK + ino * 256
    data[at + offset : at + offset + len(content)] = content
    checksum = zlib.crc32(data[at : at + 252], zlib.crc32(struct.pack("<I", ino)))
    data[at + 252 : at + 256] = struct.pack("<I", checksum)
    image.write_bytes(data)


def test_a_damaged_inode_is_one_line_of_the_dump(run: Run, image: Path) -> None:
    before = run().split("inodes in use\n")[1].splitlines()
    damage_inode(image, 5, 80, struct.pack("<I", 999))
    after = run().split("inodes in use\n")[1].splitlines()
    changed = [line for line in after if line not in before]
    assert len(after) == len(before)
    assert len(changed) == 1
    assert changed[0].startswith("inode 5: damaged: inode 5 field direct")


def test_a_damaged_directory_is_told_in_the_tree(run: Run, image: Path) -> None:
    data = bytearray(image.read_bytes())
    block = struct.unpack_from("<I", data, 3 * BLOCK + 3 * 256 + 80)[0]
    data[block * BLOCK + 4] = 1
    image.write_bytes(data)
    assert "[3] foo  damaged: directory record length" in run("tree")
    assert "damaged: directory record length" in run("dir", "/foo")


def test_a_superblock_that_cannot_be_used_is_still_shown(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(image, 100_000)
    assert "super" in refused(capsys, [str(image), "tree"])
    assert inspect.main([str(image), "super"]) == 1
    captured = capsys.readouterr()
    assert "block_count" in captured.out
    assert captured.err.count("\n") == 1
    assert inspect.main([str(image), "super", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["counted"] is None


def test_a_damaged_superblock_is_warned_of(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(image.read_bytes())
    data[100] ^= 1  # a byte of the label
    image.write_bytes(data)
    assert inspect.main([str(image), "tree"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("vsfs-inspect: warning: superblock field checksum")
    assert "[3] foo" in captured.out


@pytest.mark.parametrize("seed", range(16))
def test_no_damage_makes_a_command_crash(
    image: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    data = bytearray(image.read_bytes())
    regions = (
        (0, 512),
        (BLOCK, 3 * BLOCK),
        (3 * BLOCK, 3 * BLOCK + 12 * 256),
        (8 * BLOCK, 40 * BLOCK),
    )
    start, end = regions[seed % 4]
    for step in range(1 + seed // 4):
        at = start + (seed * 7919 + step * 104_729) % (end - start)
        data[at] ^= 1 << (seed + step) % 8
    data[508:512] = struct.pack("<I", zlib.crc32(data[:508]))
    image.write_bytes(data)
    for command in COMMANDS:
        assert inspect.main([str(image), *command]) in (0, 1)
        assert "Traceback" not in capsys.readouterr().err


# -- others that have the image open ------------------------------------------


def test_a_writer_that_does_not_finish_is_an_error(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.05)
    with vsfs.FileSystem.open(image):
        assert "in use by another process" in refused(capsys, [str(image), "super"])


def test_a_mounted_image_is_synced_first(
    run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(present, "wait_for_writer", lambda _image: [str(tmp_path)])
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    run("super")
    assert synced == [str(tmp_path.resolve())]


def test_a_mount_that_cannot_be_synced_is_warned_of(
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = str(tmp_path / "gone")
    monkeypatch.setattr(present, "wait_for_writer", lambda _image: [gone])
    assert inspect.main([str(image), "tree"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"vsfs-inspect: warning: cannot sync {gone}")
    assert captured.err.count("\n") == 1
    assert "[3] foo" in captured.out


def test_looking_changes_nothing(run: Run, image: Path) -> None:
    before = image.read_bytes()
    image.chmod(0o444)
    for command in COMMANDS:
        run(*command)
    assert image.read_bytes() == before


# -- waiting ------------------------------------------------------------------


def test_a_long_walk_draws_a_bar_on_the_terminal_and_wipes_it_away(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = [inspect.main([str(image), "layout"]), *capsys.readouterr()]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(inspect_progress, "_QUIET", -1.0)
    assert inspect.main([str(image), "layout"]) == quiet[0] == 0
    captured = capsys.readouterr()
    assert captured.out == quiet[1]
    assert captured.err.startswith("\rreading inodes [....")
    assert captured.err.endswith("\r\x1b[K")


# -- start-up -----------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--json"], ["tree", "--json"], ["layout"], []], ids=str)
def test_rich_is_not_loaded_without_a_terminal(image: Path, arguments: list[str]) -> None:
    code = (
        "import sys; from vsfs_tools.inspect import main; status = main()\n"
        "assert not {'rich', 'fuse', 'shutil'} & {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(status)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(image), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_the_runs_of_files_are_shown_with_their_sum(run: Run, image: Path) -> None:
    with vsfs.FileSystem.open(image) as fs:
        fds = [fs.open(f"/{name}", os.O_CREAT | os.O_WRONLY) for name in "ab"]
        for _ in range(10):
            for fd in fds:
                fs.write(fd, bytes(BLOCK))
    lines = run("fragments").splitlines()
    (large,) = (line for line in lines if line.endswith("/foo/large"))
    assert large.split()[:5] == ["5", "16", "2", "2", "1"]
    (torn,) = (line for line in lines if line.endswith(" /a"))
    assert torn.split()[1:5] == ["10", "10", "1", "10"]
    assert "and 2 more" in torn
    assert ", 2 fragmented, " in lines[-1]


def test_the_runs_of_one_file_are_shown_alone(run: Run) -> None:
    lines = run("fragments", "/foo/large").splitlines()
    assert [line.split()[0] for line in lines if line] == ["inode", "5", "1"]
    assert run("fragments", "5") == run("fragments", "/foo/large")
    found = json.loads(run("fragments", "/foo/large", "--json"))
    assert [file["ino"] for file in found["files"]] == [5]
    assert found["total"]["files"] == 1


def test_a_damaged_file_has_its_damage_in_place_of_runs(run: Run, image: Path) -> None:
    damage_inode(image, 5, 80, struct.pack("<I", 2**31))
    (line,) = (line for line in run("fragments").splitlines() if line.startswith("    5 "))
    assert "damaged: " in line
    assert line.endswith("/foo/large")


# -- journals -----------------------------------------------------------------


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    path = tmp_path / "journal.img"
    build_waiting(path)
    return path


def test_a_transaction_that_waits_is_shown_with_what_it_would_write(
    waiting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect.main([str(waiting), "journal"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Transaction 3 waits" in captured.out
    assert re.search(r" 3  inodes 0-15$", captured.out, re.MULTILINE)
    assert "directory data of /new (inode 5)" in captured.out
    assert "block of pointers of /new/large (inode 6)" in captured.out


def test_the_other_commands_say_that_they_show_what_was_before(
    waiting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect.main([str(waiting), "tree"]) == 0
    captured = capsys.readouterr()
    assert "new" not in captured.out
    assert captured.err.startswith("vsfs-inspect: warning: transaction 3 waits in the journal")
    assert captured.err.count("\n") == 1
    vsfs.FileSystem.open(waiting).unmount()
    assert inspect.main([str(waiting), "tree"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "new" in captured.out


def test_after_an_unmount_nothing_waits(waiting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vsfs.FileSystem.open(waiting).unmount()
    assert inspect.main([str(waiting), "journal"]) == 0
    assert "No transaction waits; the last one was number 5." in capsys.readouterr().out


@pytest.mark.parametrize("command", [*COMMANDS, ["journal"], ["inode", "1"], ["block", "9"]])
def test_an_image_with_a_journal_is_shown_without_damage(
    waiting: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    vsfs.FileSystem.open(waiting).unmount()
    if "/foo/large" in command or "/foo/bar" in command:
        command = [command[0], "/new/large"]
    assert inspect.main([str(waiting), *command]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "damaged" not in captured.out


def test_the_layout_has_the_journals_letter(
    waiting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vsfs.FileSystem.open(waiting).unmount()
    assert inspect.main([str(waiting), "layout"]) == 0
    out = capsys.readouterr().out
    assert "S i d I I I I I   D J J J J J J J   J J J J J J J J   J J D D" in out
    assert "D data  J journal" in out
    inspect.main([str(waiting), "layout", "--json"])
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["first"] for cell in cells if cell["letter"] == "J"] == [*range(9, 26)]


def test_a_large_image_with_a_journal_has_a_picture_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = tmp_path / "large.img"
    vsfs.format_image(large, 2**40, inode_count=1000, journal_blocks=1020)
    assert inspect.main([str(large), "layout"]) == 0
    assert "J" not in capsys.readouterr().out.split("S superblock")[0]  # far less than a cell


def test_a_journal_is_none_where_there_is_none(run: Run) -> None:
    assert run("journal") == "disk.img has no journal; tune.vsfs -j makes one\n"
    values = json.loads(run("journal", "--json"))
    assert values["present"] is False
    assert values["header"] is None


@pytest.mark.parametrize(
    ("offset", "content", "says"),
    [
        (0, b"X", "damaged: journal header (block 9, offset 0) is damaged"),
        (4, b"\xff\xff", "damaged: journal header (block 9, offset 4) is damaged"),
        (8, b"\xff", "the checksum does not fit"),
        (20, b"\xff\xff\xff\xff", "past the end of the image"),
    ],
)
def test_a_damaged_header_is_shown(
    waiting: Path,
    capsys: pytest.CaptureFixture[str],
    offset: int,
    content: bytes,
    says: str,
) -> None:
    with waiting.open("r+b") as file:
        file.seek(9 * BLOCK + offset)
        file.write(content)
    assert inspect.main([str(waiting), "journal"]) == 0
    out = capsys.readouterr().out
    assert says in out
    assert " waits: it was committed" not in out
    for command in ("block", "layout", "super"):
        assert inspect.main([str(waiting), command, *(["9"] if command == "block" else [])]) == 0


# -- the images of the document -----------------------------------------------


def build_example(image: Path) -> None:
    """The image of the document's examples, the same at each run."""
    vsfs.format_image(image, identity=IDENTITY)
    with vsfs.FileSystem.open(image, credentials=ROOT, clock=Clock()) as fs:
        fs.mkdir("/foo")
        put(fs, "/foo/bar", b"hello, world\n")
        put(fs, "/foo/large", bytes(60_000))
        put(fs, "/sparse", b"end", 100_000)
        put(fs, "/gone", b"still here\n")
        fs.symlink("foo/bar", "/soft")
        fs.unlink("/gone")


def build_later(image: Path, later: Path) -> None:
    """A copy of the example, and what was done in it a minute later."""
    later.write_bytes(image.read_bytes())
    clock = Clock()
    clock.now_ns += 60 * 10**9
    with vsfs.FileSystem.open(later, credentials=ROOT, clock=clock) as fs:
        put(fs, "/new", b"hello")
        fs.rename("/foo/bar", "/moved")
        put(fs, "/foo/large", b"changed", 50_000)
        fs.unlink("/sparse")


def build_waiting(image: Path) -> None:
    """An image whose journal holds a transaction that was committed, but not installed."""
    vsfs.format_image(image, identity=IDENTITY, journal_blocks=16)
    armed: list[bool] = []

    def fails(access: Access) -> bool:
        is_install = access.operation == "write" and access.kind not in (Kind.JOURNAL, Kind.DATA)
        return bool(armed) and is_install

    device = FailingDevice(FileDevice(image), fails)
    fs = vsfs.FileSystem.open(device, credentials=ROOT, clock=Clock())
    fs.mkdir("/foo")
    put(fs, "/foo/bar", b"hello, world\n")
    fs.sync()
    fs.mkdir("/new")
    fs.rename("/foo/bar", "/new/bar")
    put(fs, "/new/large", bytes(60_000))
    armed.append(True)
    with pytest.raises(OSError, match="Input/output error"):
        fs.sync()
    fs.unmount()
