"""Errors as people read them: one sentence on stderr, and an exit status."""

from __future__ import annotations

import errno
import os
import shlex
import sys

from vsfs.errors import Corrupt, VsfsError


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
