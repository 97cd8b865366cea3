"""Running the shell's commands: one after the other, and what went wrong with each.

:data:`GROUPS` lists the modules that have commands; a further one is added there.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from typing import Final

import vsfs
from vsfs.copying import CannotCopy
from vsfs.errors import Corrupt
from vsfs.traced import CallObserver, TracedVolume

from . import shell_calls, shell_copy, shell_files, shell_processes, shell_trace, shell_what_if
from .inspect_output import safe
from .messages import explain, fail
from .shell_commands import BadUse, Command, Group, Session, Trouble, exactly
from .shell_glob import expand
from .shell_strace import OpenedPaths, failed_call, is_traced
from .shell_words import BadLine, CommandLine, Unfinished, parse

PROGRAM: Final = "vsfs-shell"
_BAD_USE: Final = 2
_NOT_FOUND: Final = 127  # as in sh

SHELL: Final = Group("Shell")
GROUPS: Final = [
    shell_files.COMMANDS,
    shell_copy.COMMANDS,
    shell_calls.COMMANDS,
    shell_processes.COMMANDS,
    shell_trace.COMMANDS,
    shell_what_if.COMMANDS,
    SHELL,
]
#: What a shell whose accesses are being counted cannot do: count them.
_COUNTING: Final = (shell_trace.COMMANDS, shell_what_if.COMMANDS)


def new_session(fs: vsfs.FileSystem, image: str) -> Session:
    """A shell with all commands, whose first process is that of `fs`."""
    session = Session(fs, image, list(GROUPS), _play)
    observers = session.processes.observers
    is_observed = any(isinstance(observer, CallObserver) for observer in observers)
    observers.append(OpenedPaths(session))
    if isinstance(fs.volume, TracedVolume) and not is_observed:
        observers.append(CallObserver(fs.volume))
    return session


def _play(fs: vsfs.FileSystem, text: str) -> int:
    """Run commands on a copy of the image, of which something else keeps count."""
    session = new_session(fs, "the copy")
    session.groups = [group for group in GROUPS if group not in _COUNTING]
    return run_script(session, text)


# -- running ------------------------------------------------------------------


def run_script(session: Session, text: str, *, keep_going: bool = False) -> int:
    """Run all commands of a text; stop at the first that fails, unless told not to.

    The exit status is that of the command that stopped it, or with `keep_going` 1
    if any failed.
    """
    failed = False
    for line, commands in _lines(text):
        if isinstance(commands, BadLine):
            status = fail(PROGRAM, f"line {line}: {safe(str(commands))}", _BAD_USE)
        else:
            status = run(session, commands, keep_going=keep_going)
        failed = failed or bool(status)
        if status and not keep_going:
            return status
        if session.is_over:
            break
    return int(failed)


def _lines(text: str) -> Iterator[tuple[int, list[CommandLine] | BadLine]]:
    """The commands of each line, by its number; a quoted text may go over several."""
    pending, first = "", 1
    lines = text.split("\n")
    for at, line in enumerate(lines, 1):
        pending += line
        try:
            yield first, parse(pending)
        except BadLine as error:
            if isinstance(error, Unfinished) and at < len(lines):
                pending += "\n"
                continue
            yield first, error
        pending, first = "", at + 1


def run(session: Session, commands: list[CommandLine], *, keep_going: bool = False) -> int:
    """Run the commands of a line; the status of the first that failed, or 0."""
    first = 0
    for command in commands:
        status = run_one(session, command)
        first = first or status
        if session.is_over or (status and not keep_going):
            break
    return first


def run_one(session: Session, line: CommandLine) -> int:
    """Run one command, and say what went wrong; 0, 1, or 2 for bad use."""
    name, *words = line.words
    command = session.find(name)
    if command is None:
        return fail(PROGRAM, f"{safe(name)}: command not found; `help` lists them", _NOT_FOUND)
    session.last_call = None
    try:
        with session.output_to(line.output, append=line.append):
            command.run(session, expand(session, name, words))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except BadUse as error:
        return fail(name, f"{safe(str(error))}; usage: {command.usage}", _BAD_USE)
    except (Trouble, ValueError) as error:
        return fail(name, safe(str(error)))
    except OSError as error:
        sys.stdout.flush()
        return _report(session, command, error)
    return 0


def _report(session: Session, command: Command, error: OSError) -> int:
    """Say why a command failed: a call as strace does, the others as sh."""
    if command.is_call and session.last_call is not None and not isinstance(error, Corrupt):
        if not is_traced(session):
            print(safe(failed_call(session.last_call, error)), file=sys.stderr)
        return 1
    if isinstance(error, Corrupt):
        return fail(command.name, safe(explain(error, session.image)))
    if isinstance(error, CannotCopy):
        return fail(command.name, safe(str(error)))
    named = error.filename
    where = "" if named is None else f"{safe(os.fsdecode(named))}: "
    return fail(command.name, where + os.strerror(error.errno or errno.EIO))


def prompt_text(session: Session) -> str:
    """Where one is; and which process one is, when there are several."""
    try:
        where = session.current_directory(session.fs.process) or "(removed)"
    except OSError:
        where = "(damaged)"
    process = f"[{session.fs.process.pid}]" if len(session.processes) > 1 else ""
    return f"vsfs{process}:{safe(where)}$ "


# -- commands of the shell itself ------------------------------------------------


@SHELL.command("help [COMMAND]", "list the commands, or explain one")
def help_(session: Session, words: list[str]) -> None:
    """Print usages, or one command's details."""
    if words:
        (name,) = exactly(words, 1)
        command = session.find(name)
        if command is None:
            raise Trouble(f"there is no command {name!r}; `help` alone lists all")
        print(f"{command.usage}\n  {command.summary}")
        if command.details:
            print(command.details)
        return
    width = max(len(c.usage) for group in session.groups for c in group.commands.values())
    for group in session.groups:
        session.printer.line((group.title, "title"))
        for command in group.commands.values():
            session.printer.line(f"  {command.usage:<{width}}  {command.summary}")


@SHELL.command("sync", "write everything to the image now")
def sync(session: Session, words: list[str]) -> None:
    """Commit."""
    exactly(words, 0)
    session.fs.sync()


@SHELL.command("quit", "leave the shell; so does the end of the input")
def quit_(session: Session, words: list[str]) -> None:
    """End the session."""
    exactly(words, 0)
    session.is_over = True
