"""vsfs-shell at a terminal: prompt, history, completion."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vsfs
from tests.support.images import IDENTITY, blank, mount
from tests.support.terminals import open_terminal

pytest.importorskip("prompt_toolkit")

import vsfs_tools
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from vsfs_tools.shell_commands import Session
from vsfs_tools.shell_prompt import ShellCompleter
from vsfs_tools.shell_run import new_session

SECONDS = 30
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])")


@pytest.fixture
def session() -> Iterator[Session]:
    fs = mount(blank())
    for folder in ("/home", "/home/alice", "/hot spot"):
        fs.mkdir(folder)
    fs.close(fs.open("/home/.profile", os.O_CREAT))
    fs.close(fs.open("/hello", os.O_CREAT))
    yield new_session(fs, "disk.img")
    fs.unmount()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("chmo", ["chmod"]),
        ("ls; dup", ["dup", "dup2"]),
        ("ls; unk", []),
        ("ls; umas", ["umask"]),
        ("help fst", ["fstat"]),
        ("cat /h", ["hello", "home/", "hot\\ spot/"]),
        ("ls -l /home/", ["alice/"]),
        ("ls /home/.", [".profile"]),
        ("cd ho", ["home/", "hot\\ spot/"]),
        ("echo x >/hel", ["hello"]),
        ("open /hello O_RDO", ["O_RDONLY"]),
        ("open /hello O_RDWR|O_EX", ["O_EXCL"]),
        ("strace o", ["off", "on"]),
        ("cat /missing/", []),
        ("cat /hello/", []),
    ],
)
def test_tab_completes_what_can_stand_there(
    session: Session, typed: str, expected: list[str]
) -> None:
    found = ShellCompleter(session).get_completions(Document(typed), CompleteEvent())
    assert expected == [completion.text for completion in found]


def test_put_completes_paths_of_the_host(session: Session, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    completer = ShellCompleter(session)
    for typed in (f"put {tmp_path}/th", f"get /hello {tmp_path}/th"):
        found = completer.get_completions(Document(typed), CompleteEvent())
        assert [completion.text for completion in found] == ["ere"]


def test_completion_makes_no_calls_that_strace_would_show(session: Session) -> None:
    session.last_call = None
    assert list(ShellCompleter(session).get_completions(Document("cat /h"), CompleteEvent()))
    assert session.last_call is None


class Terminal:
    """The shell in a terminal of its own."""

    def __init__(self, *arguments: str, home: Path) -> None:
        assert vsfs_tools.__file__ is not None
        self.shown = ""
        self.fd, theirs = open_terminal()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vsfs_tools.shell", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(Path(vsfs_tools.__file__).parents[1]),
                "TERM": "xterm",
                "HOME": str(home),
                "XDG_STATE_HOME": str(home),
                "PROMPT_TOOLKIT_NO_CPR": "1",
            },
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, text: str) -> str:
        """What is on the screen up to `text`, from where the last call ended."""
        end = time.monotonic() + SECONDS
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self.fd], [], [], 1)[0]:
                raw = os.read(self.fd, 4096).decode(errors="replace")
                self.shown = ESCAPES.sub("", self.shown + raw)
        before, _, self.shown = self.shown.partition(text)
        return before

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.fd, text.encode())


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    image = tmp_path / "disk.img"
    vsfs.format_image(image, identity=IDENTITY)
    terminal = Terminal(str(image), home=tmp_path)
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.fd)


def test_somebody_at_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    terminal.until("vsfs:/$")
    terminal.type("mkdir /foo\r")
    terminal.until("vsfs:/$")
    terminal.type("cd f\t")
    terminal.until("cd foo/")  # completed
    terminal.type("\r")
    terminal.until("vsfs:/foo$")
    terminal.type("echo 'two\r")  # a quote is open
    terminal.until(">")
    terminal.type("lines'\r")
    terminal.until("two\r\nlines")
    terminal.until("vsfs:/foo$")
    terminal.type("cat nothing; echo never\r")
    terminal.until("cat: nothing: No such file or directory")
    assert "never" not in terminal.until("vsfs:/foo$")
    terminal.type("echo half\x03")  # Ctrl-C gives the line up
    terminal.until("vsfs:/foo$")
    terminal.type("fork\r")
    terminal.until("vsfs[1]:/foo$")
    terminal.type("\x04")
    assert terminal.process.wait(SECONDS) == 0
    assert "+fork" in (tmp_path / "vsfs" / "shell_history").read_text()
    with vsfs.FileSystem.open(tmp_path / "disk.img") as fs:
        assert fs.listdir("/") == ["foo"]
