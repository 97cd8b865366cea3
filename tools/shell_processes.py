"""The shell's processes: fork, ps, as, exit; their tables drawn (OSTEP 39.5, figure 39.3)."""

from __future__ import annotations

from typing import Final

from vsfs.process import Process

from .inspect_output import Column
from .shell_commands import Group, Session, Trouble, exactly, number
from .shell_pictures import descriptor_rows, draw_open_file_table
from .shell_strace import Strace

COMMANDS: Final = Group("Processes", are_calls=True)


@COMMANDS.command(
    "fork",
    "a new process, with the same files open; prints its pid",
    "  It shares the open files of this one, and so their offsets.  `as PID` makes the\n"
    "  next calls as it.",
)
def fork(session: Session, words: list[str]) -> None:
    """fork(2)."""
    exactly(words, 0)
    print(session.fs.fork().process.pid)


@COMMANDS.command("as PID", "make the next calls as this process")
def as_(session: Session, words: list[str]) -> None:
    """Change the process that the shell speaks for."""
    (pid,) = exactly(words, 1)
    if number(pid) not in [process.pid for process in session.processes]:
        raise Trouble(f"there is no process {pid}; `ps` lists them")
    session.become(number(pid))


@COMMANDS.command("ps", "list the processes; * is the one that makes the calls")
def ps(session: Session, words: list[str]) -> None:
    """Print a table of all processes."""
    exactly(words, 0)
    columns = [
        Column(""),
        Column("pid", right=True),
        Column("parent", right=True),
        Column("uid", right=True),
        Column("gid", right=True),
        Column("open", right=True),
        Column("umask"),
        Column("current directory"),
    ]
    rows = [
        [
            "*" if process is session.fs.process else "",
            str(process.pid),
            str(process.parent),
            str(process.credentials.uid),
            str(process.credentials.gid),
            str(len(process.descriptors())),
            f"0{process.umask:03o}",
            _current(session, process),
        ]
        for process in session.processes
    ]
    session.printer.table(columns, rows)


def _current(session: Session, process: Process) -> str:
    where = session.current_directory(process)
    return f"inode {process.walker.current}, removed" if where is None else where


@COMMANDS.command(
    "execve PATH",
    "become another program: close-on-exec descriptors close",
    "  Nothing runs; what a filesystem sees of it happens: the permission to execute is\n"
    "  checked, O_CLOEXEC descriptors are closed, set-user-ID takes effect.",
)
def execve(session: Session, words: list[str]) -> None:
    """execve(2)."""
    (path,) = exactly(words, 1)
    session.fs.execve(path)


@COMMANDS.command("setuid UID [GID [GROUP...]]", "act for another user, as only root may")
def setuid(session: Session, words: list[str]) -> None:
    """setuid(2), after setgroups(2) and setgid(2), which a user could not make any more."""
    uid, *gids = [number(word) for word in exactly(words, 1, 64)]
    if gids:
        session.fs.setgroups(gids[1:])
        session.fs.setgid(gids[0])
    session.fs.setuid(uid)


@COMMANDS.command("exit", "end this process and close its files; the last one ends the shell")
def exit_(session: Session, words: list[str]) -> None:
    """_exit(2)."""
    exactly(words, 0)
    parent = session.fs.process.parent
    session.fs.exit()
    left = [process.pid for process in session.processes]
    if left:
        session.become(parent if parent in left else left[0])
    else:
        session.is_over = True


@COMMANDS.command("fds", "the descriptors of this process")
def fds(session: Session, words: list[str]) -> None:
    """Print this process's table."""
    exactly(words, 0)
    columns = [
        Column("fd", right=True),
        Column("open file", right=True),
        Column("flags"),
        Column("offset", right=True),
        Column("inode", right=True),
        Column("path"),
    ]
    session.printer.table(columns, descriptor_rows(session))


@COMMANDS.command(
    "oft",
    "the open file table, and which descriptors refer to it",
    "  Every open makes an entry, with an offset of its own.  fork and dup only add\n"
    "  references; the entry goes away with its last one.",
)
def oft(session: Session, words: list[str]) -> None:
    """Draw it."""
    exactly(words, 0)
    for line in draw_open_file_table(session):
        session.printer.line(*line)


@COMMANDS.command("strace on|off", "print each system call that is made, also by cat and ls")
def strace(session: Session, words: list[str]) -> None:
    """Let an observer print the calls, or no more."""
    (what,) = exactly(words, 1)
    if what not in ("on", "off"):
        raise Trouble("say on or off")
    observers = session.processes.observers
    observers[:] = [observer for observer in observers if not isinstance(observer, Strace)]
    if what == "on":
        observers.append(Strace(session))
