"""Processes that use a filesystem: one text of a test for the library and a mount.

A :class:`Process` has the functions of ``os``, and "/" means the filesystem's own
root.  On the library it is a ``FileSystem``; on a mount it is a real process,
which works in a directory of the mount.  Each has its own user, descriptors and
umask (022 at first).
"""

from __future__ import annotations

import abc
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import vsfs
from tests.support import remote_os
from tests.support.images import as_user

SECONDS_FOR_A_CALL = 60


class Process(abc.ABC):
    """Calls functions of ``os`` on a filesystem, as some user."""

    is_mount: bool

    @abc.abstractmethod
    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call the function `name` of ``os``."""

    @abc.abstractmethod
    def other(self, user: vsfs.Credentials | None = None) -> Process:
        """A further process on the same filesystem; of the same user if none is given."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.call(name, *args, **kwargs)


class LibraryProcess(Process):
    """Calls the methods of a ``FileSystem``."""

    is_mount = False

    def __init__(self, fs: vsfs.FileSystem) -> None:
        self.fs = fs

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # what takes a path there takes a descriptor, too, as in os
        names = {"fchmod": "chmod", "fchown": "chown", "futime": "utime"}
        if name == "scandir_types":
            return self._scandir_types(*args)
        return getattr(self.fs, names.get(name, name))(*args, **kwargs)

    def _scandir_types(self, path: str) -> dict[str, tuple[int, bool, bool, bool]]:
        with self.fs.scandir(path) as entries:
            return {
                entry.name: (
                    entry.inode(),
                    entry.is_dir(follow_symlinks=False),
                    entry.is_file(follow_symlinks=False),
                    entry.is_symlink(),
                )
                for entry in entries
            }

    def other(self, user: vsfs.Credentials | None = None) -> Process:
        return LibraryProcess(as_user(self.fs, user or self.fs.credentials))


class MountProcess(Process):
    """Asks a child process, whose current directory is the "/" of the calls."""

    is_mount = True
    #: Which arguments are paths of the filesystem; of all others the first.
    _PATHS: ClassVar = {"link": (0, 1), "rename": (0, 1), "replace": (0, 1), "symlink": (1,)}

    def __init__(self, family: Family, user: vsfs.Credentials) -> None:
        self._family = family
        self._user = user
        ids = [user.uid, user.gid, *sorted(user.groups)]
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", remote_os.__file__, *map(str, ids)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=family.point,
        )

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        paths = self._PATHS.get(name, (0,))
        inside = [_relative(arg) if at in paths else arg for at, arg in enumerate(args)]
        pickle.dump((name, inside, kwargs), self._child.stdin)
        self._child.stdin.flush()
        ready, _, _ = select.select([self._child.stdout], [], [], SECONDS_FOR_A_CALL)
        assert ready, f"{name} does not come back"
        succeeded, result = pickle.load(self._child.stdout)
        if not succeeded:
            raise result
        return result

    def other(self, user: vsfs.Credentials | None = None) -> Process:
        return self._family.process(user or self._user)

    def quit(self) -> None:
        """Let the child go; one that hangs in the mount is killed."""
        try:
            self._child.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Family:
    """All processes on one mount; they serve one test after the other.

    A new process would cost more than most tests.
    """

    def __init__(self, point: Path) -> None:
        self.point = point
        self._directory = "."
        self._busy: list[tuple[vsfs.Credentials, MountProcess]] = []
        self._idle: list[tuple[vsfs.Credentials, MountProcess]] = []

    def begin(self, directory: str) -> Process:
        """A test begins, whose "/" is `directory` of the mount; its first process."""
        self._directory = directory
        return self.process(vsfs.Credentials.of_process())

    def process(self, user: vsfs.Credentials) -> MountProcess:
        """A process of `user` that the test doesn't use yet."""
        for at, (other, _) in enumerate(self._idle):
            if other == user:
                self._busy.append(self._idle.pop(at))
                break
        else:
            self._busy.append((user, MountProcess(self, user)))
        process = self._busy[-1][1]
        process.call("begin", self._directory)
        return process

    def end(self) -> None:
        """The test is over: close all that its processes have open."""
        while self._busy:
            self._busy[-1][1].call("end")
            self._idle.append(self._busy.pop())

    def quit(self) -> None:
        """End all processes, so that the mount is not busy."""
        for _, process in self._busy + self._idle:
            process.quit()


def _relative(path: Any) -> Any:
    """The path from the current directory on, of one that starts with a slash."""
    if isinstance(path, str) and path.startswith("/"):
        return path.lstrip("/") or "."
    if isinstance(path, bytes) and path.startswith(b"/"):
        return path.lstrip(b"/") or b"."
    return path


# -- what most tests begin with ---------------------------------------------------


def put(fs: Process, path: str | bytes, content: bytes = b"", mode: int = 0o644) -> None:
    """Make a file, or replace what is in it."""
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
    try:
        if content:
            assert fs.write(fd, content) == len(content)
    finally:
        fs.close(fd)


def contents(fs: Process, path: str | bytes) -> bytes:
    """All bytes of a file."""
    fd = fs.open(path, os.O_RDONLY)
    try:
        whole: bytes = fs.pread(fd, fs.fstat(fd).st_size + 1, 0)
        return whole
    finally:
        fs.close(fd)


def home_of(root: Process, user: vsfs.Credentials, path: str, mode: int = 0o755) -> str:
    """Make a directory that belongs to `user`."""
    root.mkdir(path)
    root.chown(path, user.uid, user.gid)
    root.chmod(path, mode)
    return path
