"""Processes: who makes the system calls (OSTEP 39.3 to 39.6, 39.16).

To a filesystem a process is a table of descriptors, a current directory, a user
and a umask.  A descriptor is a small number that refers to an entry of the open
file table, where the offset is; so what shares an entry shares its offset::

    process 1            open file table             inodes
      3 ─────────────┐
      4 ──────────┐  ├─> offset 5, references 2 ──> inode 4
    process 2     │  │
      3 ──────────│──┘   (after a fork)
                  └────> offset 0, references 1 ──> inode 4  (a second open)

In memory only.  A process ends with :meth:`Process.exit`, which closes all that
it has open.  Callers hold the volume's lock; :func:`system_call` takes it.
"""

from __future__ import annotations

import errno
import functools
import heapq
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast

from vsfs.errors import posix_error
from vsfs.inode import Inode
from vsfs.openfiles import OpenFile
from vsfs.volume import Volume
from vsfs.walk import Credentials, Walker

FIRST_FD: Final = 3  # 0 to 2 are the terminal's, as in every process
OPEN_MAX: Final = 1024  # descriptors of a process, Linux's usual limit
_FIRST_PID: Final = 1

R = TypeVar("R")


class Call(NamedTuple):
    """A system call: which process makes it, and with what arguments."""

    pid: int
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Observer(Protocol):
    """Somebody who looks on, as strace does."""

    def enter(self, call: Call) -> None:
        """A call begins; whatever is read and written from now on is its doing."""

    def leave(self, call: Call, result: object, error: BaseException | None) -> None:
        """It has ended, with a result or an error."""


class Caller(Protocol):
    """What has system calls as methods."""

    volume: Volume
    process: Process


M = TypeVar("M", bound=Callable[..., Any])
#: Methods that are called otherwise where they come from.
_NAMES: Final = {"open_file": "open"}


def system_call(method: M) -> M:
    """Make a method of a `Caller` a system call: atomic under the volume's lock, and observed.

    The lock is held from the path walk to the result: in between no other thread
    can remove a directory of the path, or move the offset.  An error names the path
    that the call was given, as those of ``os`` do.
    """
    name = _NAMES.get(method.__name__, method.__name__)

    @functools.wraps(method)
    def call(self: Caller, /, *args: Any, **kwargs: Any) -> Any:
        with self.volume.lock:
            table = self.process.table
            try:
                if not table.observers or table.is_in_call:  # one that makes another is one call
                    return method(self, *args, **kwargs)
                made = Call(self.process.pid, name, args, kwargs)
                return table.observe(made, lambda: method(self, *args, **kwargs))
            except OSError as error:
                if error.filename is None and args and isinstance(args[0], str | bytes):
                    error.filename = args[0]
                raise

    return cast(M, call)


class ProcessTable:
    """The processes on a volume by their numbers, and who observes their calls."""

    def __init__(self) -> None:
        self.observers: list[Observer] = []
        self.is_in_call = False
        self._processes: dict[int, Process] = {}
        self._next_pid = _FIRST_PID

    def add(self, volume: Volume, credentials: Credentials, parent: int = 0) -> Process:
        """A new process, with nothing open; pids are not used a second time."""
        pid = self._next_pid
        self._next_pid += 1
        process = self._processes[pid] = Process(self, pid, parent, volume, credentials)
        return process

    def get(self, pid: int) -> Process:
        """The process `pid`; raises ESRCH."""
        process = self._processes.get(pid)
        if process is None:
            raise posix_error(errno.ESRCH)
        return process

    def remove(self, process: Process) -> None:
        """It has ended; its children are the first process's from now on."""
        del self._processes[process.pid]
        for other in self:
            if other.parent == process.pid:
                other.parent = _FIRST_PID if _FIRST_PID in self._processes else 0

    def __iter__(self) -> Iterator[Process]:
        return iter(self._processes.values())

    def __len__(self) -> int:
        return len(self._processes)

    def observe(self, call: Call, run: Callable[[], R]) -> R:
        """Run a call while the observers look on."""
        observers = list(self.observers)
        self.is_in_call = True
        try:
            for observer in observers:
                observer.enter(call)
            try:
                result = run()
            except BaseException as error:
                for observer in observers:
                    observer.leave(call, None, error)
                raise
            for observer in observers:
                observer.leave(call, result, None)
            return result
        finally:
            self.is_in_call = False


class Process:
    """A process as a filesystem knows it; made by :class:`ProcessTable` and `fork`.

    Public attributes: `pid`, `parent` (its pid, or 0), `umask`, `current` (the
    open current directory; None is the root), `walker`.
    """

    def __init__(
        self, table: ProcessTable, pid: int, parent: int, volume: Volume, credentials: Credentials
    ) -> None:
        self.table = table
        self.pid = pid
        self.parent = parent
        self.volume = volume
        self.walker = Walker(volume, credentials)
        self.umask = 0o022
        self.current: OpenFile | None = None
        self._files: dict[int, OpenFile] = {}
        self._close_on_exec: set[int] = set()
        # a heap, as a sorted list is; dup2 may take a number that stays in it
        self._free = list(range(FIRST_FD, OPEN_MAX))

    @property
    def credentials(self) -> Credentials:
        """The user it acts for."""
        return self.walker.credentials

    # -- descriptors ----------------------------------------------------------

    def descriptors(self) -> list[tuple[int, OpenFile, bool]]:
        """(descriptor, entry, close-on-exec) of all that is open, in rising order."""
        return [(fd, file, fd in self._close_on_exec) for fd, file in sorted(self._files.items())]

    def file(self, fd: int) -> OpenFile:
        """The entry that `fd` refers to; raises EBADF."""
        file = self._files.get(fd)
        if file is None:
            raise posix_error(errno.EBADF)
        return file

    def lowest_free(self) -> int:
        """The descriptor that the next open gets; raises EMFILE if all are taken."""
        while self._free and self._free[0] in self._files:
            heapq.heappop(self._free)
        if not self._free:
            raise posix_error(errno.EMFILE)
        return self._free[0]

    def install(self, file: OpenFile, *, close_on_exec: bool = False) -> int:
        """Let the lowest free descriptor refer to an entry; raises EMFILE."""
        fd = self.lowest_free()
        self._files[fd] = file
        if close_on_exec:
            self._close_on_exec.add(fd)
        return fd

    def close(self, fd: int) -> None:
        """Free `fd`; the entry goes with its last reference.  Raises EBADF."""
        file = self.file(fd)
        del self._files[fd]
        self._close_on_exec.discard(fd)
        heapq.heappush(self._free, fd)
        self.volume.release(file.handle)

    def dup(self, fd: int) -> int:
        """The lowest free descriptor refers to the entry of `fd`, too."""
        file = self.file(fd)
        new = self.install(file)
        self.volume.files.share(file.handle)
        return new

    def dup2(self, fd: int, new: int) -> int:
        """`new` refers to the entry of `fd`, and is closed first if it is open.

        Raises EBADF, also for one of the terminal's three and for OPEN_MAX and more.
        """
        file = self.file(fd)
        if not FIRST_FD <= new < OPEN_MAX:
            raise posix_error(errno.EBADF)
        if fd == new:
            return new
        self.volume.files.share(file.handle)
        if new in self._files:
            self.close(new)
        self._files[new] = file
        return new

    def is_inheritable(self, fd: int) -> bool:
        """Whether `fd` stays open in execve; raises EBADF."""
        self.file(fd)
        return fd not in self._close_on_exec

    def set_inheritable(self, fd: int, *, inheritable: bool) -> None:
        """Say whether `fd` stays open in execve; raises EBADF."""
        self.file(fd)
        if inheritable:
            self._close_on_exec.discard(fd)
        else:
            self._close_on_exec.add(fd)

    # -- the process itself ---------------------------------------------------

    def fork(self) -> Process:
        """A child with copies of everything; the entries are shared."""
        child = self.table.add(self.volume, self.credentials, self.pid)
        child.umask = self.umask
        child._files = dict(self._files)
        child._close_on_exec = set(self._close_on_exec)
        child._free = list(self._free)
        child.current = self.current
        child.walker.current = self.walker.current
        for file in self._entries():
            self.volume.files.share(file.handle)
        return child

    def _entries(self) -> list[OpenFile]:
        """The entry of each descriptor, and that of the current directory."""
        return [*self._files.values(), *([self.current] if self.current else [])]

    def execve(self, inode: Inode) -> None:
        """Become the program in `inode`: descriptors close, set-user-ID takes effect."""
        for fd in sorted(self._close_on_exec):
            self.close(fd)
        user = self.credentials
        self.walker.credentials = Credentials(
            inode.uid if inode.mode & stat.S_ISUID else user.uid,
            inode.gid if inode.mode & stat.S_ISGID and inode.mode & stat.S_IXGRP else user.gid,
            user.groups,
        )

    def exit(self) -> None:
        """Close everything and end."""
        self.table.remove(self)
        self.forget(release=True)

    def forget(self, *, release: bool) -> None:
        """Have nothing open any more; without `release` because the volume closes all."""
        entries = self._entries()
        self._files.clear()
        self._close_on_exec.clear()
        self.current = None
        if release:
            for file in entries:
                self.volume.release(file.handle)

    def chdir(self, inode: Inode) -> None:
        """Make a directory the current one.

        It is open from now on, so that its inode is nobody else's even after its
        removal.
        """
        before, self.current = self.current, self.volume.open(inode.ino, os.O_DIRECTORY)
        self.walker.current = inode.ino
        if before is not None:
            self.volume.release(before.handle)

    def set_user(
        self,
        uid: int | None = None,
        gid: int | None = None,
        groups: frozenset[int] | None = None,
    ) -> None:
        """Act for another user (setuid(2), setgid(2), setgroups(2)).

        Raises EPERM unless root asks, or nothing changes; EINVAL for a number that
        is no id.
        """
        user = self.credentials
        if not all(0 <= number < 2**32 for number in (uid or 0, gid or 0, *(groups or ()))):
            raise posix_error(errno.EINVAL)
        new = Credentials(
            user.uid if uid is None else uid,
            user.gid if gid is None else gid,
            user.groups if groups is None else groups,
        )
        if new != user and not user.is_root:
            raise posix_error(errno.EPERM)
        self.walker.credentials = new
