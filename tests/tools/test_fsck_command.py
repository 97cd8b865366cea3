"""fsck.vsfs as people and programs use it: questions, text, JSON, undo, exit statuses."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from vsfs_tools import fsck, present
from vsfs_tools.fsck_text import PASSES
from vsfs_tools.inspect_output import RichPrinter

import vsfs
import vsfs.fsck
from tests.support.damage import Image
from tests.support.images import IDENTITY, ROOT, Clock
from tests.support.rawwalk import walk
from tests.support.terminals import open_terminal
from vsfs import lock

BLOCK = 4096
ESCAPE = "\x1b"
MODES = ["-n", "-p", "-y"]
CODE = "import sys; from vsfs_tools.fsck import main; sys.exit(main())"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A sound image with some files: /foo/bar is inode 4 with one block."""
    path = tmp_path / "disk.img"
    vsfs.format_image(path, identity=IDENTITY)
    with vsfs.FileSystem.open(path, credentials=ROOT, clock=Clock()) as fs:
        fs.mkdir("/foo")
        for name, size in (("/foo/bar", 100), ("/foo/large", 60_000), ("/m", 5000)):
            fd = fs.open(name, os.O_CREAT | os.O_RDWR, 0o644)
            fs.write(fd, bytes(size))
            fs.close(fd)
        fs.mkdir(b"/esc\x1b[31m\xff")
    return path


@contextlib.contextmanager
def damage(image: Path) -> Iterator[Image]:
    """Break the image, by its bytes."""
    broken = Image(image.read_bytes())
    yield broken
    image.write_bytes(broken.data)


def clear_bit(image: Path, ino: int = 4) -> None:
    """What a crash leaves: an inode in use whose bit is 0."""
    with damage(image) as broken:
        broken.put_inode_bit(ino, 0)


def break_checksum(image: Path, ino: int = 4) -> None:
    """What no crash leaves."""
    with damage(image) as broken:
        broken.put_inode(ino, seal=False, checksum=broken.get(ino, "checksum") ^ 1)


def run(*arguments: object) -> int:
    """The command's exit status."""
    try:
        return fsck.main([str(argument) for argument in arguments])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


Printed = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Run it; it must end with `status` and without complaints. What it prints."""

    def run_it(*arguments: object, status: int) -> str:
        assert run(*arguments) == status
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    return run_it


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 8) -> str:
    """Run it; it must refuse with one sentence, which is returned."""
    assert run(*arguments) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    (sentence,) = shown.err.splitlines()
    assert sentence.startswith("fsck.vsfs: ")
    return sentence


# -- what each mode does -------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_clean_image_is_status_0_and_one_line(printed: Printed, image: Path, mode: str) -> None:
    assert printed(mode, image, status=0) == f"{image}: clean, 8/80 inodes, 22/56 blocks\n"


def test_n_shows_what_is_wrong_and_the_bytes_and_changes_nothing(
    printed: Printed, image: Path
) -> None:
    clear_bit(image)
    before = image.read_bytes()
    out = printed("-n", image, status=4)
    assert "inode 4 is in use (regular file, 1 block, named /foo/bar)" in out
    assert "(block 1, byte 0, bit 4)" in out
    assert "block 1, offset 0: ef -> ff" in out
    assert "1 problem, nothing was changed" in out
    assert image.read_bytes() == before


@pytest.mark.parametrize("mode", ["-p", "-y"])
def test_what_a_crash_leaves_is_repaired(printed: Printed, image: Path, mode: str) -> None:
    clear_bit(image)
    out = printed(mode, "-f", image, status=1)
    assert f"{image}: 1 problem, 1 repaired; 8/80 inodes, 22/56 blocks in use" in out
    assert walk(image.read_bytes()).findings == []
    assert printed("-y", image, status=0).count("\n") == 1


def test_p_changes_nothing_if_something_is_not_safe(printed: Printed, image: Path) -> None:
    clear_bit(image)
    break_checksum(image)
    before = image.read_bytes()
    out = printed("-p", "-f", image, status=4)
    assert "checksum" in out.splitlines()[0]
    assert "nothing was changed" in out
    assert f"run fsck.vsfs {image} without -p" in out
    assert image.read_bytes() == before


def test_y_repairs_also_what_is_not_safe(printed: Printed, image: Path) -> None:
    break_checksum(image)
    assert "1 problem, 1 repaired" in printed("-y", image, status=1)
    assert walk(image.read_bytes()).findings == []


def test_p_believes_a_clean_image_unless_told_otherwise(printed: Printed, image: Path) -> None:
    clear_bit(image)
    assert "clean" in printed("-p", image, status=0)
    assert "1 repaired" in printed("-p", "-f", image, status=1)


def test_p_checks_what_was_not_cleanly_unmounted(printed: Printed, image: Path) -> None:
    clear_bit(image)
    with damage(image) as broken:
        broken.put_superblock(state=2)
    printed("-p", image, status=1)
    assert Image(image.read_bytes()).superblock("state") == 1


def test_p_of_a_clean_image_does_not_load_the_check(image: Path) -> None:
    code = (
        "import sys; from vsfs_tools.fsck import main; status = main()\n"
        "print(status, *{'vsfs.fsck', 'vsfs.volume', 'json', 'rich'} & {*sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "-p", str(image)], env=environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.splitlines()[1] == "0"


def test_fsck_8s_way_to_say_p_works(printed: Printed, image: Path) -> None:
    assert "clean" in printed("-a", "-C0", image, status=0)


def test_v_tells_the_rule_the_evidence_and_why(printed: Printed, image: Path) -> None:
    clear_bit(image)
    out = printed("-n", "-v", image, status=4)
    (rule,) = (r for r in vsfs.fsck.all_rules() if f"{r.number} {r.name}: " in out)
    for words in (rule.text, rule.trusted, rule.taught, "OSTEP"):
        assert words in out
    for name in ("rule", "found", "expected", "trusted", "taught", "safe", "edit"):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
    assert [line for line in out.splitlines() if line.startswith("Pass ")] == [*PASSES.values()]


def test_each_rule_belongs_to_a_pass() -> None:
    assert {rule.number // 100 for rule in vsfs.fsck.all_rules()} <= PASSES.keys()


def test_names_cannot_move_the_cursor(printed: Printed, image: Path) -> None:
    ino = Image(image.read_bytes()).inodes()[-1]
    clear_bit(image, ino)
    for option in ("-n", "-v"):
        out = printed("-n", option, image, status=4)
        assert ESCAPE not in out
        assert r"/esc\x1b[31m\xff" in out


def test_a_broken_image_never_ends_in_a_traceback(image: Path, printed: Printed) -> None:
    """Many kinds at once; each alone is the business of tests/fsck."""
    with damage(image) as broken:
        broken.put_block(1, bytes(BLOCK))
        broken.put_inode(5, direct0=1, direct1=99_999, size=2**60)
        broken.put_inode(3, nlink=77)
        broken.put_record(broken.entry("/m"), ino=79)
    out = printed("-y", image, status=1)
    assert out.count("\n") > 4
    assert walk(image.read_bytes()).findings == []
    printed("-y", image, status=0)


# -- JSON ----------------------------------------------------------------------


def test_json_has_all_facts(printed: Printed, image: Path) -> None:
    ino = Image(image.read_bytes()).inodes()[-1]
    clear_bit(image, ino)
    found = json.loads(printed("--json", "-n", image, status=4))
    assert (found["image"], found["mode"], found["status"]) == (str(image), "-n", 4)
    assert (found["checked"], found["error"], found["mounted"]) == (True, None, [])
    assert found["geometry"]["data_start"] == 8
    assert found["in_use"] == {
        "inodes": 8, "inode_count": 80, "blocks": 22, "block_count": 56,
    }  # fmt: skip
    assert (found["found"], found["repaired"], found["directories"]) == (1, 0, 3)
    (finding,) = found["findings"]
    assert finding["rule"].keys() == {"number", "name", "text", "trusted", "taught", "is_safe"}
    assert finding["found"] == {
        "structure": finding["found"]["structure"],
        "block": 1, "offset": ino // 8, "bit": ino % 8, "value": "0",
    }  # fmt: skip
    assert finding["expected"]["block"] == 3
    assert (finding["ino"], finding["accepted"], finding["repaired"]) == (ino, True, False)
    assert finding["path_hex"] == b"/esc\x1b[31m\xff".hex()
    (edit,) = finding["edits"]
    assert edit["image_offset"] == BLOCK + edit["offset"]


def test_the_edits_in_the_json_are_the_repair(printed: Printed, image: Path) -> None:
    with damage(image) as broken:
        broken.put_inode_bit(4, 0)
        broken.put_inode(3, nlink=9)
        broken.put_data_bit(40, 1)
    edited = bytearray(image.read_bytes())
    for finding in json.loads(printed("--json", "-n", image, status=4))["findings"]:
        for edit in finding["edits"]:
            before, after = bytes.fromhex(edit["before"]), bytes.fromhex(edit["after"])
            at = edit["image_offset"]
            assert edited[at : at + len(before)] == before
            edited[at : at + len(after)] = after
    found = json.loads(printed("--json", "-y", image, status=1))
    assert all(finding["repaired"] for finding in found["findings"])
    assert image.read_bytes()[512:] == edited[512:]


def test_json_of_what_was_not_checked(printed: Printed, image: Path) -> None:
    found = json.loads(printed("--json", "-p", image, status=0))
    assert (found["checked"], found["findings"], found["in_use"]["blocks"]) == (False, [], 22)


# -- undoing -------------------------------------------------------------------


def test_undo_takes_a_repair_back_bit_for_bit(
    printed: Printed, image: Path, tmp_path: Path
) -> None:
    clear_bit(image)
    break_checksum(image, 5)
    before = image.read_bytes()
    printed("-y", "-z", tmp_path / "undo", image, status=1)
    assert image.read_bytes() != before
    assert "taken back" in printed("--undo", tmp_path / "undo", image, status=0)
    assert image.read_bytes() == before


def test_an_undo_file_is_not_overwritten(
    capsys: pytest.CaptureFixture[str], image: Path, tmp_path: Path
) -> None:
    clear_bit(image)
    before = image.read_bytes()
    (tmp_path / "undo").write_bytes(b"the way back from an earlier repair")
    assert "is there already" in refused(capsys, "-y", "-z", tmp_path / "undo", image)
    assert image.read_bytes() == before


def test_without_its_undo_file_nothing_is_repaired(
    capsys: pytest.CaptureFixture[str], image: Path, tmp_path: Path
) -> None:
    clear_bit(image)
    before = image.read_bytes()
    assert run("-y", "-z", tmp_path / "missing" / "undo", image) == 4 | 8
    assert "nothing was changed" in capsys.readouterr().err
    assert image.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"x", b"not an undo file\n" * 100, None])
def test_what_is_no_undo_file_is_refused(
    capsys: pytest.CaptureFixture[str], image: Path, tmp_path: Path, content: bytes | None
) -> None:
    before = image.read_bytes()
    if content is not None:
        (tmp_path / "undo").write_bytes(content)
    assert "undo" in refused(capsys, "--undo", tmp_path / "undo", image)
    assert image.read_bytes() == before


# -- questions -----------------------------------------------------------------


#: Where the tests run in the background of a shell, SIGINT is ignored, and inherited so.
_INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


class Terminal:
    """The command on a terminal of 80 columns, and somebody who types."""

    def __init__(self, *arguments: object) -> None:
        self._ours, theirs = open_terminal()
        self.shown = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _INTERRUPTIBLE + CODE, *map(str, arguments)],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=environment() | {"TERM": "xterm-256color", "COLUMNS": "80"},
        )  # fmt: skip
        os.close(theirs)

    def type(self, text: str) -> None:
        """Wait for the next question, and answer it."""
        asked = self.shown.count("(a)ll: ")
        self._read_until(lambda: self.shown.count("(a)ll: ") > asked)
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        """Wait for the next question, and press Ctrl-C."""
        self._read_until(lambda: "(a)ll: " in self.shown)
        for _ in range(10):  # between its question and its wait for the answer it is deaf
            time.sleep(0.2)
            os.kill(self._process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
                return

    def end(self) -> int:
        """The exit status; `shown` then has all that was printed."""
        with contextlib.suppress(OSError):  # Linux's EIO: nobody has the other end any more
            self._read_until(lambda: False)
        os.close(self._ours)
        return self._process.wait(timeout=30)

    def _read_until(self, is_enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not is_enough():
            ready, _, _ = select.select([self._ours], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                self._process.kill()
                self._process.wait()
                pytest.fail(f"it hangs: {self.shown}")
            self.shown += os.read(self._ours, 65536).decode(errors="replace")


def environment() -> dict[str, str]:
    """For a process that finds the packages that this one has."""
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found.pop("NO_COLOR", None)
    return found


def break_twice(image: Path) -> None:
    with damage(image) as broken:
        broken.put_inode(3, nlink=9)
        broken.put_inode_bit(4, 0)


def test_each_repair_is_asked_for_and_done_at_the_end(image: Path) -> None:
    break_twice(image)
    terminal = Terminal(image)
    terminal.type("what?\n")
    terminal.type("y\n")
    terminal.type("yes\n")
    assert terminal.end() == 1
    assert "2 problems, 2 repaired" in terminal.shown
    assert ESCAPE in terminal.shown
    assert walk(image.read_bytes()).findings == []


def test_a_repair_that_is_declined_is_left(image: Path, printed: Printed) -> None:
    break_twice(image)
    terminal = Terminal(image)
    terminal.type("y\n")
    terminal.type("n\n")
    assert terminal.end() == 1 | 4
    assert "2 problems, 1 repaired" in terminal.shown
    out = printed("-y", image, status=1)  # and marks it clean, which was left, too
    assert "2 problems, 2 repaired" in out


def test_all_is_asked_once(image: Path) -> None:
    break_twice(image)
    terminal = Terminal(image)
    terminal.type("a\n")
    assert terminal.end() == 1
    assert terminal.shown.count("(a)ll") == 1
    assert terminal.shown.count("is in use") == 1
    assert walk(image.read_bytes()).findings == []


def test_declining_everything_changes_nothing(image: Path) -> None:
    break_twice(image)
    before = image.read_bytes()
    terminal = Terminal(image)
    terminal.type("n\n")
    terminal.type("n\n")
    assert terminal.end() == 4
    assert image.read_bytes()[512:] == before[512:]


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-D"])
def test_stopping_changes_nothing(image: Path, how: str) -> None:
    break_twice(image)
    before = image.read_bytes()
    terminal = Terminal(image)
    if how == "Ctrl-C":
        terminal.interrupt()
    else:
        terminal.type("\x04")
    assert terminal.end() == 32
    assert "stopped; nothing was changed" in terminal.shown
    assert image.read_bytes() == before


def test_a_terminal_gets_the_words_of_a_pipe(
    printed: Printed, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_twice(image)
    plain = printed("-n", "-v", image, status=4)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(fsck, "printer_for_stdout", RichPrinter)
    assert printed("-n", "-v", image, status=4).split() == plain.split()


# -- usage ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "-n, -p or -y"),
        (["--json"], "-n, -p or -y"),
        (["-n", "-y"], "only one"),
        (["-p", "-n"], "only one"),
        (["-n", "-z", "undo"], "-n changes nothing"),
        (["--undo", "undo", "-y"], "--undo"),
        (["--undo", "undo", "-z", "other"], "--undo"),
        (["--bogus"], "--bogus"),
        (["-n", "another.img"], "another.img"),
        (["-z"], "-z"),
    ],
)
def test_a_wrong_command_line_is_status_16(
    capsys: pytest.CaptureFixture[str], image: Path, options: list[str], words: str
) -> None:
    sentence = refused(capsys, image, *options, status=16)
    assert words in sentence
    assert "--help" in sentence


def test_no_image_is_status_16(capsys: pytest.CaptureFixture[str]) -> None:
    assert "IMAGE" in refused(capsys, "-n", status=16)


# -- images that cannot be checked ---------------------------------------------


def ext4() -> bytes:
    """Enough of one: the magic number of its superblock."""
    content = bytearray(os.urandom(2**20))
    content[:1024] = bytes(1024)
    content[1080:1082] = b"\x53\xef"
    return bytes(content)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"hello, world\n" * 9999, bytes(256 * 1024), ext4()],
    ids=["empty", "one byte", "text", "zeroes", "ext4"],
)
def test_what_is_no_image_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: str, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert str(path) in refused(capsys, mode, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", MODES)
def test_what_cannot_hold_an_image_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: str
) -> None:
    assert "no such file" in refused(capsys, mode, tmp_path / "missing")
    assert "directory" in refused(capsys, mode, tmp_path)
    os.mkfifo(tmp_path / "fifo")  # opening it for reading would wait for a writer
    assert "neither a file" in refused(capsys, mode, tmp_path / "fifo")
    assert "neither a file" in refused(capsys, mode, "/dev/zero")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_feature_is_refused(
    capsys: pytest.CaptureFixture[str], image: Path, mode: str
) -> None:
    with damage(image) as broken:
        broken.put_superblock(feature_incompat=1 << 31)
    before = image.read_bytes()
    assert "newer vsfs" in refused(capsys, mode, image)
    assert image.read_bytes() == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("mode", MODES)
def test_what_cannot_be_opened_is_refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    image: Path,
    mode: str,
    code: int,
) -> None:
    def fail(path: str, **_: Any) -> vsfs.FileDevice:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(fsck, "FileDevice", fail)
    assert str(image) in refused(capsys, mode, image)


def test_an_image_that_may_only_be_read_can_be_checked_with_n(
    printed: Printed, capsys: pytest.CaptureFixture[str], image: Path
) -> None:
    """By a user who is not root, since root may write whatever the permissions say."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    image.chmod(0o444)
    for folder in image.parents[:4]:  # down to what all tests have in common
        folder.chmod(folder.stat().st_mode | 0o055)
    printed("-n", image, status=0)  # loads what the other user may not be able to load
    os.seteuid(65534)
    try:
        printed("-n", image, status=0)
        assert "permissions" in refused(capsys, "-y", image)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("cut", range(64))
def test_a_cut_image_is_repaired_or_refused(
    image: Path, capsys: pytest.CaptureFixture[str], cut: int
) -> None:
    os.truncate(image, cut * BLOCK)
    before = image.read_bytes()
    for mode in ("-n", "-p"):
        assert run(mode, image) in (4, 8, 4 | 8)
        assert image.read_bytes() == before
    status = run("-y", image)
    assert "Traceback" not in "".join(capsys.readouterr())
    if status == 1:
        assert run("-y", image) == 0
    elif status != 1 | 4:  # no room for a block that a directory has lost
        assert status in (8, 4 | 8)
        assert image.read_bytes() == before


# -- others that have the image open, and a device that fails ------------------


@pytest.mark.parametrize("mode", MODES)
def test_an_image_in_use_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, image: Path, mode: str
) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.05)
    with vsfs.FileSystem.open(image):
        assert "in use by another process" in refused(capsys, mode, image)


def test_a_mounted_image_is_synced_and_only_read(
    printed: Printed, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    with vsfs.FileSystem.open(image):
        before = image.read_bytes()
        monkeypatch.setattr(present, "wait_for_writer", lambda _image: [str(tmp_path)])
        monkeypatch.setattr(os, "fsync", synced.append)
        out = printed("-n", image, status=0)
        assert len(synced) == 1
        assert f"{image} is mounted on {tmp_path}" in out
        assert image.read_bytes() == before


def test_a_failure_to_write_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, image: Path
) -> None:
    clear_bit(image)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(vsfs.fsck, "write_edits", fail)
    assert run("-y", image) == 4 | 8
    shown = capsys.readouterr()
    assert "not all repairs were written" in shown.err
    assert "run it once more" in shown.err
    assert "inode 4 is in use" in shown.out
    assert "nothing was changed" not in shown.out


def test_a_closed_pipe_does_not_keep_repairs_from_being_written(image: Path) -> None:
    clear_bit(image)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "-y", str(image)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141
    assert walk(image.read_bytes()).findings == []
