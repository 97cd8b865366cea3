"""Errors as people read them: one sentence on stderr, and an exit status."""

from __future__ import annotations

import errno
import io
import os
import shlex
import sys
from collections.abc import Callable
from typing import Final

from vsfs.errors import Corrupt, VsfsError

_INTERRUPTED: Final = 130  # as a shell reports a program that SIGINT ended
_BROKEN_PIPE: Final = 141  # ... and SIGPIPE


def run_to_end(run: Callable[[], int]) -> int:
    """What `run` returns, or the exit status for Ctrl-C or a reader of stdout that has gone.

    Before, stdout learns to print what its encoding has no character for.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = run()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # as `| head` does; keep the exit from flushing into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED


def fail(program: str, message: str, status: int = 1) -> int:
    """Print "program: message" on stderr; return `status` for sys.exit."""
    print(f"{program}: {message}", file=sys.stderr)
    return status


def explain(error: OSError, path: str) -> str:
    """What went wrong with `path`, and what to do, in one sentence."""
    if isinstance(error, VsfsError):
        text = str(error)
        if isinstance(error, Corrupt):
            text += f"; to see all that is wrong, run: fsck.vsfs -n {shlex.quote(path)}"
        return text if path in text else f"{path}: {text}"
    advice = {
        errno.ENOENT: "there is no such file; give the path of an image",
        errno.EISDIR: "this is a directory; give the path of an image file",
        errno.EACCES: "you may not open it; check its permissions",
        errno.EPERM: "you may not do that; try as root",
        errno.EROFS: "it lies on a read-only filesystem",
        errno.ENOSPC: "no space is left on the disk that it lies on",
        errno.EIO: "the disk below it reports an error",
    }.get(error.errno or 0)
    return f"{path}: {advice or error.strerror or os.strerror(errno.EIO)}"
