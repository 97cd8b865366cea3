"""vsfs-shell in scripts: what commands do and print, how they fail, and with what status."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import vsfs_tools
from hypothesis import given
from hypothesis import strategies as st
from vsfs_tools import shell_copy
from vsfs_tools.shell import main
from vsfs_tools.shell_calls import unescaped
from vsfs_tools.shell_commands import Session
from vsfs_tools.shell_pictures import draw_open_file_table
from vsfs_tools.shell_run import GROUPS, new_session, prompt_text, run_script
from vsfs_tools.shell_strace import WHENCE, quoted
from vsfs_tools.shell_words import BadLine, CommandLine, Unfinished, parse

import vsfs
from tests.support.damage import Image
from tests.support.documents import ROOT as REPOSITORY
from tests.support.images import IDENTITY, blank, image_of, mount
from tests.support.mounts import tree
from tests.support.rawwalk import walk
from tests.support.traces import book_image, traced
from vsfs.device import MemoryDevice

BINARY = bytes(range(256)) * 10
Typed = Callable[..., tuple[str, str]]


@pytest.fixture
def session() -> Iterator[Session]:
    """A shell on an image in memory."""
    fs = mount(blank())
    yield new_session(fs, "disk.img")
    fs.unmount()


@pytest.fixture
def typed(session: Session, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types commands; gives what they print, on stdout and stderr."""

    def type_(*lines: str, status: int = 0, keep_going: bool = False) -> tuple[str, str]:
        assert status == run_script(session, "\n".join(lines), keep_going=keep_going)
        shown = capsys.readouterr()
        return shown.out, shown.err

    return type_


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    vsfs.format_image(path, identity=IDENTITY)
    return path


def environment(**others: str) -> dict[str, str]:
    """In which another Python finds the commands."""
    assert vsfs_tools.__file__ is not None
    return {**os.environ, "PYTHONPATH": str(Path(vsfs_tools.__file__).parents[1]), **others}


def shell(image: Path, *arguments: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "vsfs_tools.shell", str(image), *arguments],
        input=typed,
        capture_output=True,
        env=environment(),
        timeout=60,
        check=False,
    )


# -- words ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  # only a comment", []),
        ("ls;;ls", [CommandLine(["ls"]), CommandLine(["ls"])]),
        ('a \'b c\'"d\\"e"f\\ g', [CommandLine(["a", 'b cd"ef g'])]),
        ("echo '' \"\"", [CommandLine(["echo", "", ""])]),
        ("echo a>b", [CommandLine(["echo", "a"], "b")]),
        ("echo a >> 'b c'", [CommandLine(["echo", "a"], "b c", append=True)]),
        ("echo a#b '#' # c", [CommandLine(["echo", "a#b", "#"])]),
        ("open /f O_CREAT|O_RDWR", [CommandLine(["open", "/f", "O_CREAT|O_RDWR"])]),
        ("echo '|' \\|", [CommandLine(["echo", "|", "|"])]),
        ("echo one\\\ntwo\nls", [CommandLine(["echo", "onetwo"]), CommandLine(["ls"])]),
    ],
)
def test_a_line_is_split_as_sh_splits_it(text: str, expected: list[CommandLine]) -> None:
    assert expected == parse(text)


@pytest.mark.parametrize(
    "text", ["a | b", "a && b", "a &", "a < b", "> a", "a >", "a > ; b", "a >> > b"]
)
def test_what_this_shell_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(BadLine):
        parse(text)


@pytest.mark.parametrize("text", ["echo 'a", 'echo "a\\"', "echo a\\"])
def test_an_open_quote_wants_another_line(text: str) -> None:
    with pytest.raises(Unfinished):
        parse(text)


@given(st.text())
def test_any_text_is_commands_or_a_bad_line(text: str) -> None:
    try:
        commands = parse(text)
    except BadLine as error:
        assert str(error)
    else:
        assert all(command.words for command in commands)


@given(st.binary(max_size=40))
def test_what_read_prints_can_be_given_to_write(content: bytes) -> None:
    shown = quoted(content)
    assert shown.isascii()
    assert shown.isprintable()
    assert unescaped(shown[1:-1]) == content


# -- everyday commands ----------------------------------------------------------------


def test_a_file_is_made_read_copied_moved_and_removed(typed: Typed, session: Session) -> None:
    out, _ = typed(
        "echo hello > /f",
        "echo -n more >> /f",
        "cp /f /g",
        "mkdir -p /d/e",
        "mv /g /d",
        "cat /f /d/g",
        "cd /d; pwd",
        "rm g; rmdir e; ls",
        "truncate 3 /f; cat /f",
    )
    assert out == "hello\nmorehello\nmore/d\nhel"
    assert session.fs.listdir("/") == ["f", "d"]


@pytest.mark.parametrize("cold", [False, True])
def test_the_prompt_and_ps_are_no_part_of_the_trace(
    cold: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    fs, recorder = traced(book_image(with_bar=True), cold=cold)
    session = new_session(fs, "disk.img")
    assert run_script(session, "cd /foo") == 0
    fs.volume.sync()
    recorder.trace.calls.clear()
    recorder.trace.events.clear()
    assert prompt_text(session) == "vsfs:/foo$ "
    assert run_script(session, "ps") == 0
    assert "/foo" in capsys.readouterr().out
    recorder.finish()
    assert (recorder.trace.calls, recorder.trace.events) == ([], [])


WAYS = (
    "mkdir -p /a/b/c /d",
    "ln -s /a/b /link",
    "cd /link/c",
    "cd ..",
    "mv /a/b /d/moved",
    "cd c",
    "mv /d /e",
    "cd ../../../a",
    "cd /e/moved",
    "fork",
    "as 2",
    "cd c",
)


@pytest.mark.parametrize("is_traced", [False, True])
def test_the_prompt_is_where_pwd_is(is_traced: bool, capsys: pytest.CaptureFixture[str]) -> None:
    session = new_session(traced(blank())[0] if is_traced else mount(blank()), "disk.img")
    for way in WAYS:
        assert run_script(session, way) == 0, way
        assert f":{session.fs.getcwd()}$ " in prompt_text(session), way
    assert run_script(session, "rmdir /e/moved/c") == 0
    assert prompt_text(session) == "vsfs[2]:(removed)$ "
    assert run_script(session, "ps") == 0
    assert "removed" in capsys.readouterr().out
    session.fs.volume.close()


def test_ls_lists_as_ls_does(typed: Typed, session: Session) -> None:
    typed("mkdir /d", "echo x > /d/f", "ln /d/f /d/g", "ln -s f /d/s", "touch /d/.hidden")
    assert typed("ls /d") == ("f\ng\ns\n", "")
    assert typed("ls -a /d")[0].split() == [".", "..", ".hidden", "f", "g", "s"]
    assert typed("ls -i /d/f /d")[0].split("\n") == ["4 /d/f", "", "/d:", "4 f", "4 g", "5 s", ""]
    assert typed("ls -d /d /d/s") == ("/d\n/d/s\n", "")
    long = typed("ls -l /d")[0].splitlines()
    assert long[0].startswith("-rw-r--r-- 2 0 0 2 Sep ")
    assert long[2].startswith("lrwxrwxrwx 1 0 0 1 ")
    assert long[2].endswith(" s -> f")


def test_names_cannot_move_the_cursor(typed: Typed, session: Session) -> None:
    session.fs.mkdir(b"/\x1b[2J\xff")
    for command in ("ls /", "ls -li /", "tree /"):
        out, _ = typed(command)
        assert "\x1b" not in out
        assert "\\x1b[2J\\udcff" in out
    assert typed("cat /\x1b[2J\udcff", status=1)[1] == ("cat: /\\x1b[2J\\udcff: Is a directory\n")


def test_binary_contents_go_through_unchanged(
    session: Session, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    fd = session.fs.open("/b", os.O_CREAT | os.O_WRONLY)
    session.fs.write(fd, BINARY)
    session.fs.close(fd)
    run_script(session, "cat /b /b > /c; cat /c")
    assert capfdbinary.readouterr().out == BINARY * 2


def test_cp_takes_trees_with_their_links_and_holes(typed: Typed, session: Session) -> None:
    typed(
        "mkdir -p /a/b; echo x > /a/f; ln /a/f /a/b/g; ln -s ../f /a/b/s; truncate 100000 /a/hole",
        "chmod 2750 /a/b; chown 1:2 /a/f",
        "cp -r /a /z; cp -rp /a /kept",
    )
    fs = session.fs
    assert sorted(fs.listdir("/z")) == ["b", "f", "hole"]
    assert fs.readlink("/z/b/s") == "../f"
    assert fs.stat("/z/f").st_ino == fs.stat("/z/b/g").st_ino != fs.stat("/a/f").st_ino
    assert (fs.stat("/z/hole").st_size, fs.stat("/z/hole").st_blocks) == (100_000, 0)
    assert (fs.stat("/z/f").st_uid, fs.stat("/kept/f").st_uid) == (0, 1)
    assert fs.stat("/kept/f").st_mtime_ns == fs.stat("/a/f").st_mtime_ns
    assert stat.S_IMODE(fs.stat("/kept/b").st_mode) == 0o2750


def test_cp_through_a_link_copies_what_it_names(typed: Typed, session: Session) -> None:
    typed("echo x > /f", "ln -s /f /s", "cp /s /g", "echo old > /h", "ln /h /i", "cp /s /h")
    assert stat.S_ISREG(session.fs.lstat("/g").st_mode)
    assert typed("cat /i") == ("x\n", "")  # the file that was there got new contents


def test_what_cp_would_destroy_is_refused(typed: Typed) -> None:
    typed("mkdir -p /a/b; echo x > /f; ln /f /g")
    assert typed("cp /f /g", status=1)[1] == "cp: /f and /g are the same file\n"
    assert typed("cp -r /a /a/b", status=1)[1] == "cp: /a cannot be copied into itself, /a/b/a\n"
    assert typed("cp /a /z", status=1)[1] == "cp: /a is a directory; copy it with cp -r\n"
    assert typed("mv /a /a/b", status=1)[1] == "mv: /a: Invalid argument\n"
    assert typed("cat /f") == ("x\n", "")


def test_rm_r_removes_a_tree_and_nothing_that_a_link_in_it_names(
    typed: Typed, session: Session
) -> None:
    typed("mkdir -p /a/b/c /keep; echo x > /keep/f; ln -s /keep /a/b/link; echo y > /a/b/c/g")
    assert typed("rm /a", status=1)[1] == "rm: /a: Is a directory\n"
    typed("rm -r /a; rm -f /a")
    assert session.fs.listdir("/") == ["keep"]
    assert session.fs.listdir("/keep") == ["f"]
    assert typed("rm -r /keep/..", status=1)[1].startswith("rm: /keep/..: ")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/d/*", "/d/a /d/a.txt /d/b.txt /d/s*r"),
        ("/d/*.txt", "/d/a.txt /d/b.txt"),
        ("/d/?", "/d/a"),
        ("/d/[ab].txt", "/d/a.txt /d/b.txt"),
        ("/d/.h*", "/d/.hidden"),
        ("/*/a*", "/d/a /d/a.txt /e/a"),
        ("/*/", "/d/ /e/"),
        ("d/../d/*.txt", "d/../d/a.txt d/../d/b.txt"),
        ("/d/none*", "/d/none*"),
        ("/d/a.txt/*", "/d/a.txt/*"),
        ("'/d/*'", "/d/*"),
        ("/d/s\\*r*", "/d/s*r"),
        ("/d/'s*'*", "/d/s*r"),
        ("open*flag", "open*flag"),
    ],
)
def test_a_pattern_stands_for_the_names_that_fit(
    typed: Typed, session: Session, pattern: str, expected: str
) -> None:
    typed("mkdir /d /e; touch /d/a.txt /d/a /d/b.txt /d/.hidden '/d/s*r' /e/a")
    assert typed(f"echo {pattern}") == (expected + "\n", "")


def test_put_takes_patterns_of_the_host_and_get_those_of_the_image(
    typed: Typed, session: Session, tmp_path: Path
) -> None:
    for name in ("a.c", "b.c", "c.h"):
        (tmp_path / name).touch()
    typed(f"put {tmp_path}/*.c /", f"mkdir /d; mv *.c /d; rm {tmp_path}/* -f")
    assert session.fs.listdir("/d") == ["a.c", "b.c"]
    (tmp_path / "out").mkdir()
    typed(f"get /d/* {tmp_path}/out")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.c", "b.c"]


def test_tree_draws_everything_once(typed: Typed) -> None:
    typed("mkdir -p /a/b; echo x > /a/f; ln -s f /a/s")
    assert typed("tree /")[0] == ("2 /\n`-- 3 a\n    |-- 4 b\n    |-- 5 f\n    `-- 6 s -> f\n")
    assert typed("tree /a/f", status=1)[1] == "tree: /a/f: Not a directory\n"


# -- errors and exit statuses -----------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("cat /x", 1, "cat: /x: No such file or directory"),
        ("cat", 2, "cat: too few arguments; usage: cat FILE..."),
        ("ls -z", 2, "ls: option -z not recognized; usage: ls [-a] [-d] [-i] [-l] [PATH...]"),
        ("frob", 127, "vsfs-shell: frob: command not found; `help` lists them"),
        ("echo x | cat", 2,
         "vsfs-shell: line 1: this shell has no '|'; quote it if you mean the text"),
        ("echo x > /d/f", 1, "echo: /d/f: No such file or directory"),
        ("mkdir /", 1, "mkdir: /: File exists"),
        ("open /x O_RDWR", 1, 'open("/x", O_RDWR) = -1 ENOENT (No such file or directory)'),
        ("open /x O_RDWR|O_WRONLY", 2,
         "open: O_RDONLY, O_WRONLY and O_RDWR exclude each other; usage: open PATH FLAGS [MODE]"),
        ("open /x O_CREAT 999", 2,
         "open: '999' is no mode; write it in octal, such as 0644; usage: open PATH FLAGS [MODE]"),
        ("read 3 10", 1, "read(3, 10) = -1 EBADF (Bad file descriptor)"),
        ("read three 10", 2, "read: 'three' is not a number; usage: read FD N"),
        ("write 1 hi", 1, 'write(1, "hi") = -1 EBADF (Bad file descriptor)'),
        ("lseek 3 0 SEEK_FOO", 2,
         f"lseek: 'SEEK_FOO' is not one of {', '.join(WHENCE)}; usage: lseek FD OFFSET WHENCE"),
        ("dup2 3 99999999999", 1, "dup2(3, 99999999999) = -1 EBADF (Bad file descriptor)"),
        ("as 7", 1, "as: there is no process 7; `ps` lists them"),
        ("execve /", 1, 'execve("/") = -1 EACCES (Permission denied)'),
        ("inode 99999", 2, "inode: inodes are numbered 1 to 79; usage: inode N|PATH"),
        ("ls '\0'", 1, "ls: embedded null byte"),
        ("chown you /", 2,
         "chown: 'you' is no owner; write it as 1000, 1000:1000 or :1000; "  # noqa: ISC004
         "usage: chown UID[:GID] FILE..."),
        ("help frob", 1, "help: there is no command 'frob'; `help` alone lists all"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_has_a_status(
    typed: Typed, command: str, status: int, message: str
) -> None:
    assert typed(command, status=status) == ("", message + "\n")


def test_a_script_stops_at_the_first_error_unless_it_is_to_go_on(typed: Typed) -> None:
    lines = ("echo one; cat /x; echo two", "echo three")
    assert typed(*lines, status=1)[0] == "one\n"
    assert typed(*lines, status=1, keep_going=True)[0] == "one\ntwo\nthree\n"
    assert typed("quit; echo never") == ("", "")


def test_a_disk_that_is_full_stops_a_redirection_with_a_sentence(typed: Typed) -> None:
    typed("echo " + "x" * 5000 + " > /f")
    _, error = typed(*["cat /f /f /f /f /f /f /f /f >> /g"] * 40, status=1)
    assert error == "cat: No space left on device\n"
    assert typed("fds")[0].count("\n") == 4  # the redirection's descriptor is closed


def test_every_command_has_help_and_refuses_nonsense(typed: Typed, session: Session) -> None:
    listed, _ = typed("help")
    for group in GROUPS:
        for name, command in group.commands.items():
            assert command.usage in listed
            assert typed(f"help {name}")[0].startswith(f"{command.usage}\n  {command.summary}\n")
    for name in (name for group in GROUPS for name in group.commands):
        status = run_script(session, f"{name} a b c d e f g '' -q", keep_going=True)
        assert bool(status) == (name != "echo"), name


# -- system calls and processes ----------------------------------------------------------


def test_calls_print_what_they_return(typed: Typed) -> None:
    out, _ = typed(
        "open /f O_RDWR|O_CREAT|O_APPEND 0600",
        "write 3 'a\\n\\0b'",
        "lseek 3 -2 SEEK_END",
        "read 3 100",
        "dup 3",
        "dup2 3 9",
        "fsync 3; ftruncate 3 1; close 4",
        "fstat 3",
        "umask; umask 077; umask",
        "fork; as 2; exit",
    )
    assert out.splitlines() == [
        "3", "4", "2", '"\\0b"', "4", "9",
        "inode 3, links 1, size 1, blocks 1",
        "0022", "0077", "2",
    ]  # fmt: skip


def test_strace_shows_the_calls_of_every_command(typed: Typed) -> None:
    typed("strace on")
    _, calls = typed("echo hi > /f", "cat /f", "ln /f /g; ls /")
    assert calls.splitlines()[:4] == [
        'open("/f", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3',
        'write(3, "hi\\n") = 3',
        "close(3) = 0",
        'open("/f", O_RDONLY) = 3',
    ]
    assert 'link("/f", "/g") = 0' in calls
    _, calls = typed("fork; as 2; read 7 1", status=1)
    assert calls.splitlines() == [
        "[pid 1] fork() = 2",
        "[pid 2] read(7, 1) = -1 EBADF (Bad file descriptor)",
    ]
    assert typed("strace off", "stat /f")[1] == ""


def test_the_lines_of_oft_join_what_belongs_together(typed: Typed, session: Session) -> None:
    typed("open /a O_RDWR|O_CREAT; open /b O_RDWR|O_CREAT; dup 3; open /a O_RDONLY; dup 4")
    typed("mkdir /d; fork; as 2; cd /d; close 3")
    drawn = ["".join(s if isinstance(s, str) else s[0] for s in line)
             for line in draw_open_file_table(session)]  # fmt: skip
    assert [line.partition("offset")[0].rstrip() for line in drawn] == [
        "descriptors            open file table",
        "process 1",
        "  fd 3    ────────┬──> 1  O_RDWR|O_CREAT",
        "  fd 4    ─────┬──│──> 2  O_RDWR|O_CREAT",
        "  fd 5    ─────│──┤",
        "  fd 6    ──┬──│──│──> 3  O_RDONLY",
        "  fd 7    ──│──┤  │",
        "process 2   │  │  │",
        "  fd 4    ──│──┤  │",
        "  fd 5    ──│──│──┘",
        "  fd 6    ──┘  │",
        "  fd 7    ─────┘",
        "  cwd     ───────────> 4  O_RDONLY|O_DIRECTORY",
    ]
    assert drawn[-1].endswith("inode 5: directory, size 4096, links 2  /d")
    typed("exit; close 3; close 5")
    assert typed("oft")[0].splitlines()[2].startswith("  fd 4    ──┬──> 2  ")


def test_oft_in_ascii_where_the_terminal_has_no_lines(image: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vsfs_tools.shell", str(image), "-c",
         "open / O_RDONLY; dup 3; oft"],
        capture_output=True, text=True, check=True,
        env=environment(PYTHONIOENCODING="ascii"),
    )  # fmt: skip
    assert "  fd 3    --+--> 1  O_RDONLY  offset 0  references 2 --> inode 2" in done.stdout
    assert "  fd 4    --'" in done.stdout


# -- put and get --------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small tree with one of everything."""
    top = tmp_path / "top"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "file").write_bytes(BINARY)
    (top / "sub" / "link").hardlink_to(top / "file")
    (top / "sub" / "soft").symlink_to("../file")
    (top / "sub" / "dangling").symlink_to("/no/where")
    with open(top / "hole", "wb") as hole:
        hole.truncate(3 * 4096)
        hole.seek(8192)
        hole.write(b"end")
    os.mkfifo(top / "fifo", 0o640)
    (top / "sub" / "empty").chmod(0o2751)
    (top / "file").chmod(0o4711)
    for path in (top / "file", top / "sub", top / "sub" / "empty", top):
        os.utime(path, ns=(10**18 + 1, 10**18 + 2))
    return top


def test_a_tree_comes_back_from_the_image_as_it_went_in(
    typed: Typed, session: Session, folder: Path, tmp_path: Path
) -> None:
    typed(f"put {folder} /", f"get /top {tmp_path}/out")
    assert tree(str(folder)) == tree(str(tmp_path / "out"))
    assert os.stat(tmp_path / "out" / "hole").st_blocks < 24
    assert session.fs.stat("/top/hole").st_blocks == 8
    typed(f"put {folder}/file {folder}/fifo /top/sub", f"get /top/sub/file {tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == BINARY
    assert stat.S_ISFIFO(session.fs.lstat("/top/sub/fifo").st_mode)


def test_put_and_get_replace_files_but_no_directories(
    typed: Typed, folder: Path, tmp_path: Path
) -> None:
    typed("echo old > /f", f"put {folder}/file /f", "echo new > /f", f"get /f {folder}/file")
    assert (folder / "file").read_bytes() == b"new\n"
    assert typed(f"put {folder} /", f"put {folder} /", status=1)[1] == "put: /top: File exists\n"
    (tmp_path / "out" / "top").mkdir(parents=True)
    assert "File exists" in typed(f"get /top {tmp_path}/out", status=1)[1]


def test_a_user_who_is_not_root_keeps_what_he_may(folder: Path, tmp_path: Path) -> None:
    fs = mount(blank())
    fs.chmod("/", 0o777)
    fs.setgid(1000)
    fs.setuid(1000)
    session = new_session(fs, "disk.img")
    assert run_script(session, f"put {folder} /") == 0
    made = fs.stat("/top/file")
    assert (made.st_uid, made.st_mtime_ns) == (1000, 10**18 + 2)
    assert stat.S_IMODE(made.st_mode) == 0o711  # set-user-ID would be for another user
    fs.unmount()


def test_the_image_is_neither_put_into_itself_nor_overwritten(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = image.stat().st_ino
    assert main([str(image), "-c", f"put {image} /x"]) == 1
    assert capsys.readouterr().err == f"put: {image} is the image; it cannot be put into itself\n"
    assert main([str(image), "-c", f"echo x > /f; get /f {image}"]) == 1
    assert "it cannot be overwritten" in capsys.readouterr().err
    assert main([str(image), "-c", f"put {image.parent} /all; ls /all"]) == 0
    assert capsys.readouterr().out == ""
    assert image.stat().st_ino == before


def test_a_name_of_the_image_cannot_lead_out_of_where_it_is_put(
    typed: Typed, session: Session, tmp_path: Path
) -> None:
    """A link of the host that stands where a file is to go is not followed."""
    typed("mkdir -p /d/e; echo evil > /d/e/f")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "d").symlink_to(outside)
    assert typed(f"get /d/e {tmp_path}/new") == ("", "")
    assert "File exists" in typed(f"get /d {tmp_path}", status=1)[1] or not any(outside.iterdir())


def test_progress_is_told_for_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, typed: Typed, folder: Path
) -> None:
    monkeypatch.setattr(shell_copy, "_MANY_FILES", 1)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    _, shown = typed(f"put {folder} /")
    assert "9 of 9 files" in shown


# -- images -------------------------------------------------------------------------------


def test_commands_come_from_c_a_file_or_stdin_and_stay_in_the_image(
    image: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("# make\nmkdir /a\n\nls\n")
    assert shell(image, str(script)).stdout == b"a\n"
    assert shell(image, typed=b"mkdir /b; ls\n").stdout == b"a\nb\n"
    assert shell(image, "-c", "mkdir /c; ls").stdout == b"a\nb\nc\n"
    assert walk(image.read_bytes()).findings == []
    done = shell(image, "-k", "-c", "cat /x; ls")
    assert (done.returncode, done.stdout, done.stderr) == (
        1, b"a\nb\nc\n", b"cat: /x: No such file or directory\n",
    )  # fmt: skip
    assert shell(image, str(tmp_path / "none")).returncode == 2
    assert shell(image, "-c", "ls", str(script)).returncode == 2


def test_a_reader_that_goes_away_ends_it_in_silence_and_nothing_is_lost(image: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "vsfs_tools.shell", str(image), "-c", "mkdir /a; ls; ls"],
            stdout=closed, stderr=subprocess.PIPE, env=environment(), check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, b"")
    with vsfs.FileSystem.open(image) as fs:
        assert fs.listdir("/") == ["a"]


def test_u_acts_for_another_user(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(image), "-u", "0", "-c", "chmod 0777 /"]) == 0
    assert main([str(image), "-u", "1000:7", "-c", "touch /f; ls -l"]) == 0
    assert "-rw-r--r-- 1 1000 7 0 " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(image), "-u", "you"])


def test_r_changes_nothing(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(image), "-c", "echo x > /f"]) == 0
    image.chmod(0o444)
    before = image.read_bytes()
    assert main([str(image), "-r", "-k", "-c", "cat /f; inode /f; touch /g; rm /f; ls"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("x\ninode 3: ")
    assert out.endswith("f\n")
    assert err == "touch: /g: Read-only file system\nrm: /f: Read-only file system\n"
    assert image.read_bytes() == before


def test_an_image_that_is_in_use_is_refused(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsfs.lock.WAIT_SECONDS", 0)
    with vsfs.FileSystem.open(image):
        assert main([str(image), "-c", "ls"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vsfs-shell: {image} is in use by another process")
    monkeypatch.setattr("vsfs.lock.mount_points", lambda _image: ["/mnt"])
    with vsfs.FileSystem.open(image):
        assert main([str(image), "-c", "ls"]) == 1
    assert capsys.readouterr().err == (
        f"vsfs-shell: {image} is mounted on /mnt; unmount it first\n"
    )


@pytest.mark.parametrize("content", [b"", b"no filesystem" * 1000, bytes(256 * 1024)])
def test_what_is_no_image_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert main([str(path), "-c", "ls"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vsfs-shell: ")


EVERYTHING = (
    "tree /; ls -li /; cp -r / /copy; rm -r /; df; oft; inode 2; cat /foo; stat /a; get / {}"
)
BROKEN = sorted((REPOSITORY / "images" / "broken").glob("*.img.gz"))[::9]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda path: path.name.partition(".")[0])
@pytest.mark.parametrize("options", [[], ["-r"]])
def test_a_damaged_image_gives_sentences_and_ends(
    broken: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(gzip.decompress(broken.read_bytes()))
    status = main([str(image), *options, "-k", "-c", EVERYTHING.format(tmp_path / "out")])
    assert status in (0, 1)
    for line in capsys.readouterr().err.splitlines():
        assert ": " in line
        assert "Traceback" not in line


def test_a_directory_that_is_its_own_child_is_entered_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the bytes can say so: no call makes such a directory."""
    fs = mount(blank())
    fs.makedirs("/a/b")
    fs.unmount()
    broken = Image(image_of(fs))
    broken.put_record(broken.entry("/a/b"), ino=3)
    again = mount(MemoryDevice(bytearray(broken.data)))
    session = new_session(again, "disk.img")
    assert run_script(session, f"get /a {tmp_path}/out") == 1
    assert run_script(session, "tree /; cp -r /a /z", keep_going=True) == 1
    out, err = capsys.readouterr()
    assert out == "2 /\n`-- 3 a\n    `-- 3 b\n"
    assert err.splitlines()[0] == (
        "get: /a/b is a directory that was met before, so the image is damaged; fsck.vsfs says more"
    )
    again.unmount()


def test_without_prompt_toolkit_a_script_runs_and_typing_is_explained(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    monkeypatch.delitem(sys.modules, "vsfs_tools.shell_prompt", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main([str(image), "-c", "ls"]) == 0
    assert main([str(image)]) == 1
    assert capsys.readouterr().err == (
        "vsfs-shell: typing commands needs prompt_toolkit; run pip install 'vsfs-fuse[shell]', "
        "or give the commands with -c, in a file, or on stdin\n"
    )


def test_the_shell_runs_where_only_posix_is_there(image: Path, tmp_path: Path) -> None:
    """What Linux has beyond it is taken away first: as on macOS."""
    script = f"""if True:
        import errno, os, sys
        del os.O_NOATIME, os.fdatasync, errno.EUCLEAN
        for name in dir(os):
            if "xattr" in name.lower():
                delattr(os, name)
        from vsfs_tools.shell import main
        lines = "echo hi > /f; put {REPOSITORY}/LICENSE /g; cp /g /h; cat /f; get / {tmp_path}/out"
        sys.exit(main([{str(image)!r}, "-c", lines]))
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=environment(), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hi\n", b"")
    assert (tmp_path / "out" / "h").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
