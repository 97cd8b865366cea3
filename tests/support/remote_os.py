"""A process that calls functions of ``os`` for the tests that started it.

Run as a script, with user, group and further groups as its arguments: these
become its own, if they are not.  Requests come on stdin and answers go to stdout,
pickled.  It imports nothing from the project, which another user may not read.

It serves one test after the other: each begins in a directory below the one
where it was started, and at its end all that was opened is closed.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

START = 3  # descriptor of the directory where it was started
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100


def begin(directory: str) -> None:
    """A test begins, in `directory`."""
    os.chdir(directory)
    os.umask(0o022)


def end() -> None:
    """A test is over: close what it opened, and leave its directory."""
    os.fchdir(START)
    os.closerange(START + 1, 1024)


def utimensat(path: str, atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    """utimensat(2), for what os.utime cannot say: (seconds, ns or UTIME_...)."""
    import ctypes  # not above: it would take longer than all the rest

    libc = ctypes.CDLL(None, use_errno=True)
    times = (ctypes.c_long * 4)(*atime, *mtime)
    if libc.utimensat(AT_FDCWD, os.fsencode(path), times, AT_SYMLINK_NOFOLLOW):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)


def scandir_types(path: str) -> dict[str, tuple[int, bool, bool, bool]]:
    """What os.scandir says of each name: inode, and whether directory, file, link."""
    with os.scandir(path) as entries:
        return {
            entry.name: (
                entry.inode(),
                entry.is_dir(follow_symlinks=False),
                entry.is_file(follow_symlinks=False),
                entry.is_symlink(),
            )
            for entry in entries
        }


EXTRA: dict[str, Callable[..., Any]] = {
    "begin": begin,
    "end": end,
    "utimensat": utimensat,
    "scandir_types": scandir_types,
}


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Take on these ids; only root can."""
    if (uid, gid) != (os.geteuid(), os.getegid()):
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def main() -> None:
    """Answer requests until there are no more."""
    assert os.open(".", os.O_RDONLY) == START
    become(int(sys.argv[1]), int(sys.argv[2]), [int(group) for group in sys.argv[3:]])
    while True:
        try:
            name, args, kwargs = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (True, (EXTRA.get(name) or getattr(os, name))(*args, **kwargs))
        except Exception as error:
            answer = (False, error)
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
