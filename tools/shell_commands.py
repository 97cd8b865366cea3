"""The table of the shell's commands, and what every command works with.

A module of commands has a group of its own, and the shell lists the groups::

    COMMANDS = Group("Files")

    @COMMANDS.command("cat FILE...", "print the contents of files")
    def cat(session: Session, words: list[str]) -> None:
        for path in words or usage():
            ...

A command prints to ``sys.stdout``, which may be a file of the image.  It raises
OSError for what the filesystem refuses, BadUse for words that it does not take,
Trouble for anything else that it has to say.
"""

from __future__ import annotations

import contextlib
import getopt
import io
import os
import posixpath
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol

import vsfs
from vsfs.copying import Calls
from vsfs.process import Call, Process, ProcessTable
from vsfs.trace import Recorder
from vsfs.traced import TracedVolume

from .inspect_output import PlainPrinter, Printer, RichPrinter

#: Bytes read and written at a time.
CHUNK: Final = 1 << 17


class BadUse(Exception):
    """The words behind a command are not what it takes; its usage is shown."""


class Trouble(Exception):
    """What went wrong, as a sentence."""


#: Runs commands in a shell of their own on another filesystem; returns the exit status.
Play = Callable[[vsfs.FileSystem, str], int]


class Run(Protocol):
    """What a command does."""

    def __call__(self, session: Session, words: list[str], /) -> None:
        """Do it; `words` are those behind the command's name."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command: `usage` begins with its name, `details` is for ``help NAME``.

    `is_call` ones fail as strace shows it, others as sh does.
    """

    usage: str
    summary: str
    run: Run
    details: str = ""
    is_call: bool = False

    @property
    def name(self) -> str:
        """What one types."""
        return self.usage.partition(" ")[0]


class Group:
    """Commands that belong together, by name, in the order of ``help``."""

    def __init__(self, title: str, *, are_calls: bool = False) -> None:
        self.title = title
        self.commands: dict[str, Command] = {}
        self._are_calls = are_calls

    def command(self, usage: str, summary: str, details: str = "") -> Callable[[Run], Run]:
        """Make a function a command of this group."""

        def add(run: Run) -> Run:
            command = Command(usage, summary, run, details, self._are_calls)
            self.commands[command.name] = command
            return run

        return add


@dataclass
class Session:
    """A shell at work: the process whose calls are made, and what is printed.

    `fs` is the filesystem as the chosen process sees it.  `opened` remembers for
    ``oft`` under which path each open file was opened, by handle.
    """

    fs: vsfs.FileSystem
    image: str
    groups: list[Group]
    play: Play
    opened: dict[int, str] = field(default_factory=dict)
    last_call: Call | None = None
    recorder: Recorder | None = None
    is_over: bool = False
    _rich: RichPrinter | None = None

    @property
    def processes(self) -> ProcessTable:
        """All processes of the shell."""
        return self.fs.process.table

    @property
    def printer(self) -> Printer:
        """Prints to where the command's output goes: in colour on a terminal."""
        if not sys.stdout.isatty():
            return PlainPrinter()
        if self._rich is None:
            self._rich = RichPrinter()
        return self._rich

    def become(self, pid: int) -> None:
        """Make the next calls as process `pid`; raises ESRCH."""
        self.fs = vsfs.FileSystem(self.fs.volume, process=self.processes.get(pid))

    def find(self, name: str) -> Command | None:
        """The command `name`."""
        for group in self.groups:
            if name in group.commands:
                return group.commands[name]
        return None

    def current_directory(self, process: Process) -> str | None:
        """Where a process is, for people; None if that was removed.

        A traced volume is not asked, since that would be part of the trace: it knows
        the names by which the directory was entered.
        """
        if process.current is None:
            return "/"
        if not process.current.inode.nlink:
            return None
        volume = self.fs.volume
        if isinstance(volume, TracedVolume):
            known = volume.names.path(process.walker.current)
            if known is not None:
                return known
        with self.unobserved():
            return vsfs.FileSystem(volume, process=process).getcwd()

    @contextlib.contextmanager
    def unobserved(self) -> Iterator[None]:
        """Calls that the shell makes for itself, which no strace is to show."""
        observers, self.processes.observers = self.processes.observers, []
        try:
            yield
        finally:
            self.processes.observers = observers

    @contextlib.contextmanager
    def output_to(self, path: str | None, *, append: bool = False) -> Iterator[None]:
        """Let ``sys.stdout`` be a file of the image; nothing changes without a path."""
        if path is None:
            yield
            return
        how = os.O_APPEND if append else os.O_TRUNC
        fd = self.fs.open(path, os.O_WRONLY | os.O_CREAT | how, 0o666)
        fs = self.fs
        try:
            raw = io.BufferedWriter(_ImageFile(fs, fd), CHUNK)
            text = io.TextIOWrapper(raw, "utf-8", "surrogateescape", newline="")
            try:
                with contextlib.redirect_stdout(text):
                    yield
                text.flush()
            finally:
                with contextlib.suppress(OSError, ValueError):  # the flush before has told it
                    text.detach().detach()
        finally:
            fs.close(fd)


class _ImageFile(io.RawIOBase):
    """An open file of the image, for writing."""

    def __init__(self, fs: vsfs.FileSystem, fd: int) -> None:
        self._fs = fs
        self._fd = fd

    def writable(self) -> bool:
        return True

    def write(self, content: object, /) -> int:
        return self._fs.write(self._fd, bytes(content))  # type: ignore[call-overload]


# -- the words behind a command --------------------------------------------------


def options(words: list[str], letters: str) -> tuple[set[str], list[str]]:
    """Options of one letter each, and the other words; raises BadUse.

    >>> options(["-l", "/foo", "-i"], "lia") == ({"l", "i"}, ["/foo"])
    True
    """
    try:
        found, rest = getopt.gnu_getopt(words, letters)
    except getopt.GetoptError as error:
        raise BadUse(str(error)) from None
    return {name.lstrip("-") for name, _ in found}, rest


def exactly(words: list[str], least: int, most: int | None = None) -> list[str]:
    """`words`, if there are `least` to `most` of them; raises BadUse."""
    if not least <= len(words) <= (least if most is None else most):
        raise BadUse("too few arguments" if len(words) < least else "too many arguments")
    return words


def some(words: list[str]) -> list[str]:
    """`words`, if there is one or more; raises BadUse."""
    return words or usage()


def usage(why: str = "too few arguments") -> NoReturn:
    """Refuse the words."""
    raise BadUse(why)


def number(text: str, what: str = "a number") -> int:
    """An integer, also hexadecimal (0x) or octal (0o, or a 0 before it as in C)."""
    try:
        if len(text) > 1 and text.lstrip("-").startswith("0") and text.lstrip("-").isdigit():
            return int(text, 8)
        return int(text, 0)
    except ValueError:
        raise BadUse(f"{text!r} is not {what}") from None


def octal(text: str) -> int:
    """A mode in octal; raises BadUse.

    >>> octal("644") == octal("0644") == 0o644
    True
    """
    digits = text.removeprefix("0o")
    if not digits or set(digits) - set("01234567") or int(digits, 8) > 0o7777:
        raise BadUse(f"{text!r} is no mode; write it in octal, such as 0644")
    return int(digits, 8)


def inside(calls: Calls, paths: list[str]) -> list[tuple[str, str]]:
    """(Source, target) of what ``cp`` and ``mv`` are told: into a directory, if that is last.

    `calls` are those of where the target is.  Raises BadUse, and Trouble for several
    sources without a directory.
    """
    *sources, target = paths if len(paths) > 1 else some([])
    if is_directory(calls, target):
        return [
            (source, posixpath.join(target, posixpath.basename(source.rstrip("/"))))
            for source in sources
        ]
    if len(sources) > 1:
        raise Trouble(f"{target} is no directory, so it has no room for several files")
    return [(sources[0], target)]


def is_directory(calls: Calls, path: str) -> bool:
    """Whether there is a directory, or a link to one."""
    try:
        return stat.S_ISDIR(calls.stat(path).st_mode)
    except OSError:
        return False
