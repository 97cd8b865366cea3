"""vsfs-trace and the shell's timeline: what they print, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from vsfs_tools.shell import main as shell
from vsfs_tools.trace import main

import vsfs
from tests.support.images import IDENTITY
from tests.support.mounts import need_fuse
from vsfs.fsck import check
from vsfs.lock import mount_points
from vsfs.timeline import timeline_of
from vsfs.trace_json import read_trace

FIGURE_40_3 = """\
                 root   foo   bar  root   foo     bar     bar     bar
                inode inode inode  data  data data[0] data[1] data[2]
---------------------------------------------------------------------
open(/foo/bar)   read
                                   read
                       read
                                         read
                             read
---------------------------------------------------------------------
read(3, 4096)                read
                                                 read
                            write
---------------------------------------------------------------------
read(3, 4096)                read
                                                         read
                            write
---------------------------------------------------------------------
read(3, 4096)                read
                                                                 read
                            write

11 reads, 3 writes, 3 barriers
the same as figure 40.3
"""
READS = "trace on; open /foo/bar O_RDONLY; read 3 4096; read 3 4096; read 3 4096; trace off; "
Ran = Callable[..., tuple[str, str]]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary directories go where nobody else's are."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The file /foo/bar of three blocks, as in figure 40.3."""
    path = tmp_path / "disk.img"
    vsfs.format_image(path, identity=IDENTITY)
    with vsfs.FileSystem.open(path) as fs:
        fs.mkdir("/foo")
        fd = fs.open("/foo/bar", os.O_WRONLY | os.O_CREAT)
        fs.write(fd, b"bar" * 4096)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Ran:
    """Runs a command; gives what it prints, on stdout and stderr."""

    def run_(
        command: Callable[[list[str]], int], *words: object, status: int = 0
    ) -> tuple[str, str]:
        assert status == command([str(word) for word in words])
        shown = capsys.readouterr()
        return shown.out, shown.err

    return run_


def is_gone(image: Path) -> bool:
    """Whether no mount and no directory of ours is left, and the image is sound."""
    left = list(Path(tempfile.gettempdir()).glob("vsfs-trace-*"))
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        return not mount_points(image) and not left and not check(fs.volume.device).findings


# -- the shell -----------------------------------------------------------------


def test_the_shell_draws_figure_40_3_from_a_cold_run(image: Path, run: Ran) -> None:
    out, err = run(shell, "--cold", image, "-c", READS + "timeline --compare 40.3")
    assert FIGURE_40_3 == "".join(line + "\n" for line in out.splitlines()[4:])
    assert err == ""


def test_a_narrow_terminal_gets_a_list(
    image: Path, run: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out, _ = run(shell, "--cold", image, "-c", READS + "timeline")
    assert out.splitlines()[4:10] == [
        "open(/foo/bar) read  root inode",
        "               read  root data",
        "               read  foo inode",
        "               read  foo data",
        "               read  bar inode",
        "read(3, 4096)  read  bar inode",
    ]


def test_the_totals_of_a_warm_run_stand_beside_those_without_memory(image: Path, run: Ran) -> None:
    out, _ = run(shell, image, "-c", READS + "timeline")
    warm, cold, _ = out.splitlines()[-3:]
    assert warm == "in all         5 reads, 0 writes, 0 barriers"
    assert cold == "without cache  11 reads, 3 writes, 3 barriers"


def test_timeline_writes_svg_and_json(image: Path, run: Ran, tmp_path: Path) -> None:
    picture = tmp_path / "timeline.svg"
    out, _ = run(shell, "--cold", image, "-c", READS + f"timeline --svg {picture}; timeline --json")
    words = [
        text.text for text in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert (11, 3) == (words.count("read"), words.count("write"))
    trace = read_trace(out.splitlines()[4:])
    assert ["open", "read", "read", "read"] == [call.name for call in trace.calls]


def test_by_block_the_columns_are_numbers_and_the_comparison_is_the_same(
    image: Path, run: Ran
) -> None:
    out, _ = run(shell, "--cold", image, "-c", READS + "timeline --by block --compare 40.3")
    lines = out.splitlines()[4:]
    assert ["block"] * 6 == lines[0].split()[::2]
    assert ["3", "inode"] == [lines[0].split()[1], lines[1].split()[0]]
    assert ["11 reads, 3 writes, 3 barriers", "the same as figure 40.3"] == lines[-2:]


@pytest.mark.parametrize(
    ("commands", "sentence", "status"),
    [
        ("timeline", "timeline: nothing was recorded; begin with `trace on`", 1),
        ("trace", "trace: too few arguments; usage: trace on|off", 2),
        ("trace up", "trace: 'up' is neither on nor off; usage: trace on|off", 2),
        ("trace on; timeline --compare 1", "timeline: argument --compare: invalid choice", 2),
        ("trace on; timeline --svg /none/x", "timeline: /none/x: No such file or directory", 1),
        ("what-if ", "what-if: too few arguments; usage: what-if ", 2),
        (
            "what-if cache",
            "what-if: 'cache' is a setting; put the commands behind it, in quotes",
            2,
        ),
        (
            "what-if x ls",
            "what-if: 'x' is no setting; there are atime, cache, write, journal, depth",
            2,
        ),
        ("what-if cache=huge ls", "what-if: 'huge' is not a value of cache: large, small, none", 2),
        ("what-if 'cat /none'", "cat: /none: No such file or directory", 1),
        ("what-if 'trace on'", "vsfs-shell: trace: command not found", 1),
        ("what-if 'what-if ls'", "vsfs-shell: what-if: command not found", 1),
    ],
)
def test_the_shell_refuses_with_a_sentence(
    image: Path, run: Ran, commands: str, sentence: str, status: int
) -> None:
    out, err = run(shell, image, "-c", commands, status=status)
    assert (out, err.splitlines()[0][: len(sentence)]) == ("", sentence)


def test_a_relative_path_is_opened_with_no_access_of_the_shells_own(image: Path, run: Ran) -> None:
    out, _ = run(shell, "--cold", image, "-c", "cd /foo; trace on; open bar O_RDONLY; timeline")
    assert "3 reads, 0 writes, 0 barriers" == out.splitlines()[-1]  # foo twice, and bar


# -- what-if -------------------------------------------------------------------


def test_what_if_has_a_row_for_each_setting_and_leaves_the_image_alone(
    image: Path, run: Ran
) -> None:
    before = image.read_bytes()
    out, err = run(
        shell, "-r", image, "-c", "cd /foo; what-if cache=none depth=2,3 'cat bar > /new'"
    )
    base, _, titles, *rows = out.splitlines()[:6]
    assert base == "base: atime=relatime cache=none write=through journal=off depth=1"
    assert ["setting", "reads", "writes", "barriers"] == titles.split()[:4]
    assert ["base", "depth=2", "depth=3"] == [row.split()[0] for row in rows]
    first, second, third = (int(row.split()[1]) for row in rows)
    assert (first + 2, first + 4) == (second, third)  # of /new; bar is found from /foo
    assert ("", before) == (err, image.read_bytes())


def test_what_if_as_json_has_the_numbers_of_the_table(image: Path, run: Ran) -> None:
    out, _ = run(shell, image, "-c", "what-if --json atime=noatime cache 'cat /foo/bar'")
    rows = json.loads(out)
    assert ["large", "small", "none"] == [row["setting"]["cache"] for row in rows]
    for row in rows:
        assert row["blocks_read"] == sum(count["read"] for count in row["blocks"].values())
        assert 0 == row["writes"]


def test_what_if_without_a_setting_tries_all_that_there_are(image: Path, run: Ran) -> None:
    out, _ = run(shell, image, "-c", "what-if 'mkdir /d'; what-if depth=8 'mkdir /d'")
    settings = [line.split()[0] for line in out.splitlines() if "=" in line.split("  ")[0]]
    assert {"atime=noatime", "cache=small", "journal=on", "depth=8"} <= set(settings)
    assert 1 == settings.count("depth=8")


def test_a_setting_that_cannot_be_is_told_below_the_table(image: Path, run: Ran) -> None:
    with vsfs.FileSystem.open(image) as fs:
        fd = fs.open("/full", os.O_WRONLY | os.O_CREAT)
        while fs.statvfs("/").f_bfree > 3:
            fs.write(fd, bytes(4096))
    out, _ = run(shell, image, "-c", "what-if journal depth=2 'ls /'")
    assert out.splitlines()[-1].startswith("no journal=on: a journal of 16 blocks takes")


# -- vsfs-trace ----------------------------------------------------------------


@pytest.mark.mount
@pytest.mark.parametrize("cold", [[], ["--cold"]])
def test_a_command_on_the_mounted_image_is_traced(image: Path, run: Ran, cold: list[str]) -> None:
    need_fuse()
    command = ["sh", "-c", "cat foo/bar > copy; exit 7"]
    out, err = run(main, *cold, "--json", image, "--", *command, status=7)
    assert err == ""
    trace = read_trace(out.splitlines())
    timeline = timeline_of(trace)
    assert trace.is_cold == bool(cold)
    labels = {group.call.label.partition(",")[0] for group in timeline.groups}
    assert {"open(/foo/bar)", "read(/foo/bar", "create(/copy)", "write(/copy"} <= labels
    assert {"bar inode", "copy inode", "data bitmap"} <= {c.title for c in timeline.columns}
    assert trace.calls[-1].label == "unmount()"
    if cold:
        opened = next(g for g in timeline.groups if g.call.label == "open(/foo/bar)")
        assert 5 == len(opened.rows)  # the walk from the root, as in figure 40.3
    else:
        assert timeline.cold_totals is not None
        assert timeline.cold_totals.reads > timeline.totals.reads
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        assert fs.stat("/copy").st_size == 3 * 4096
    assert is_gone(image)


@pytest.mark.mount
def test_what_was_recorded_by_a_mount_is_drawn(image: Path, run: Ran, tmp_path: Path) -> None:
    need_fuse()
    out, _ = run(main, "--json", image, "--", "cat", "foo/bar")
    lines = [line for line in out.splitlines() if line.startswith("{")]
    recorded = tmp_path / "trace.jsonl"
    recorded.write_text("\n".join(lines), encoding="utf-8")
    drawn, _ = run(main, "--read", recorded)
    assert "open(/foo/bar)" in drawn
    again, _ = run(main, "--json", "--read", recorded)
    assert lines == again.splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.mount
@pytest.mark.parametrize(
    ("words", "sentence", "status"),
    [
        (["{image}", "--", "no-such-program"], "there is no command no-such-program", 127),
        (["{image}", "--", "/"], "cannot run /: Permission denied", 126),
        (["{image}.none", "--", "true"], "{image}.none: there is no such file", 1),
        (["/dev/null", "--", "true"], "/dev/null: neither a file nor a block device", 1),
        (["--read", "{image}.none"], "cannot read {image}.none: No such file or directory", 1),
        (["--read", "{image}"], "{image}: line 1 is not JSON; give a file that", 1),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_stays(
    image: Path, run: Ran, words: list[str], sentence: str, status: int
) -> None:
    need_fuse()
    out, err = run(main, *(word.format(image=image) for word in words), status=status)
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("vsfs-trace: " + sentence.format(image=image))
    assert is_gone(image)


@pytest.mark.parametrize(
    "words",
    [[], ["disk.img"], ["--read", "x", "disk.img"], ["--read", "x", "--cold"], ["--", "true"]],
)
def test_words_that_do_not_fit_are_bad_use(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert (2, True) == (end.value.code, "vsfs-trace: error: " in capsys.readouterr().err)


@pytest.mark.mount
def test_a_mounted_image_is_refused_and_stays_mounted(image: Path, run: Ran) -> None:
    need_fuse()
    inner = [sys.executable, "-m", "vsfs_tools.trace", str(image), "--", "true"]
    script = f"{' '.join(inner)} 2>&1; echo $? > status; test -e foo/bar"
    run(main, image, "--", "sh", "-c", script)
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        assert b"1\n" == fs.read(fs.open("/status", os.O_RDONLY), 10)
    assert is_gone(image)


@pytest.mark.mount
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_unmounts(
    image: Path, number: signal.Signals, tmp_path: Path
) -> None:
    need_fuse()
    ready = tmp_path / "ready"
    # what a shell starts in the background, as some do with tests, ignores SIGINT
    heard = ["env", "--default-signal=INT,TERM"]
    command = [*heard, sys.executable, "-m", "vsfs_tools.trace", str(image), "--"]
    script = f"touch made; touch {ready}; exec sleep 100"
    with subprocess.Popen(
        [*command, "sh", "-c", script], stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert 128 + number == process.wait(timeout=60)
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        assert fs.exists("/made")
    assert is_gone(image)


@pytest.mark.mount
def test_a_process_that_stays_in_the_mount_does_not_keep_it(image: Path, run: Ran) -> None:
    need_fuse()
    script = "sleep 1 > /dev/null 2>&1 & echo started"
    run(main, image, "--", "sh", "-c", script)
    assert not mount_points(image)


def test_mount_options_for_tracing_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    from vsfs_tools.mount import main as mount

    assert 1 == mount(["-o", "trace=", "disk.img", "/"])
    assert "trace= needs the name of a file" in capsys.readouterr().err
    assert 1 == mount(["-o", "cold,binding=llfuse", "disk.img", "/"])
    assert "cold works with binding=fusepy only" in capsys.readouterr().err
