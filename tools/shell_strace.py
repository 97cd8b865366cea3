"""System calls as strace(1) prints them, and who looks on in the shell."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import sys
from typing import Any, Final

import vsfs
from vsfs.process import Call
from vsfs.words import counted

from .inspect_output import safe
from .shell_commands import BadUse, Session

_LONGEST: Final = 32  # bytes of a text that are shown, as in strace
_FLAGS: Final = (
    "O_CREAT",
    "O_EXCL",
    "O_TRUNC",
    "O_APPEND",
    "O_DIRECTORY",
    "O_NOFOLLOW",
    "O_CLOEXEC",
    "O_NOATIME",
    "O_NONBLOCK",
    "O_NOCTTY",
    "O_DSYNC",
    "O_SYNC",
)
_ACCESS: Final = {os.O_RDONLY: "O_RDONLY", os.O_WRONLY: "O_WRONLY", os.O_RDWR: "O_RDWR"}
WHENCE: Final = {
    name: getattr(os, name)
    for name in ("SEEK_SET", "SEEK_CUR", "SEEK_END", "SEEK_DATA", "SEEK_HOLE")
    if hasattr(os, name)
}
_KINDS: Final = {
    stat.S_IFREG: "S_IFREG",
    stat.S_IFDIR: "S_IFDIR",
    stat.S_IFLNK: "S_IFLNK",
    stat.S_IFIFO: "S_IFIFO",
    stat.S_IFSOCK: "S_IFSOCK",
    stat.S_IFCHR: "S_IFCHR",
    stat.S_IFBLK: "S_IFBLK",
}
#: Which argument of a call is what, by its place.
_MEANING: Final[dict[str, tuple[str, ...]]] = {
    "open": ("path", "flags", "mode"),
    "mkdir": ("path", "mode"),
    "chmod": ("path", "mode"),
    "mknod": ("path", "mode"),
    "umask": ("mode",),
    "lseek": ("", "", "whence"),
}


# -- open's flags -----------------------------------------------------------------


def flags_text(flags: int) -> str:
    """The names of open(2)'s flags.

    >>> flags_text(os.O_RDWR | os.O_CREAT)
    'O_RDWR|O_CREAT'
    """
    names = [_ACCESS.get(flags & os.O_ACCMODE, "O_ACCMODE")]
    left = flags & ~os.O_ACCMODE
    for name in _FLAGS:
        bits = getattr(os, name, 0)
        if bits and left & bits == bits:
            names.append(name)
            left &= ~bits
    if left:
        names.append(hex(left))
    return "|".join(names)


def open_flags() -> list[str]:
    """The names of open(2)'s flags that this system has."""
    return [name for name in (*_ACCESS.values(), *_FLAGS) if hasattr(os, name)]


def parse_flags(text: str) -> int:
    """Flags written as open(2) has them; raises BadUse.

    >>> parse_flags("O_RDWR|O_CREAT") == os.O_RDWR | os.O_CREAT
    True
    """
    known = open_flags()
    flags = 0
    for name in text.split("|"):
        if name not in known:
            raise BadUse(f"{name!r} is no flag of open; there are {', '.join(known)}")
        flags |= getattr(os, name)
    if flags & os.O_ACCMODE == os.O_ACCMODE:
        raise BadUse("O_RDONLY, O_WRONLY and O_RDWR exclude each other")
    return flags


# -- texts ------------------------------------------------------------------------


def quoted(content: bytes, longest: int | None = None) -> str:
    r"""Bytes as a C string; what is longer than `longest` ends with dots.

    >>> quoted(b"a\n\xff")
    '"a\\n\\377"'
    """
    shown = content if longest is None else content[:longest]
    special = {0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
    text = ""
    for at, byte in enumerate(shown):
        if byte in special:
            text += special[byte]
        elif 0x20 <= byte < 0x7F:
            text += chr(byte)
        else:  # short where no digit follows that would belong to it
            digit = shown[at + 1 : at + 2].isdigit()
            text += f"\\{byte:03o}" if digit else f"\\{byte:o}"
    return f'"{text}"' + ("..." if len(shown) < len(content) else "")


def _argument(value: Any, meaning: str) -> str:
    if meaning == "flags":
        return flags_text(value)
    if meaning == "mode":
        return mode_text(value)
    if meaning == "whence":
        return next((name for name, code in WHENCE.items() if code == value), str(value))
    if isinstance(value, str | os.PathLike):
        return quoted(os.fsencode(value), None)
    if isinstance(value, bytes | bytearray | memoryview):
        return quoted(bytes(value), _LONGEST)
    return str(value)


def mode_text(mode: int) -> str:
    """A mode as strace shows it: its type by name, its permissions in octal."""
    kind = _KINDS.get(stat.S_IFMT(mode))
    permissions = f"0{stat.S_IMODE(mode):03o}" if mode else "0"
    return f"{kind}|{permissions}" if kind else permissions


def call_text(call: Call) -> str:
    """A call with its arguments: ``open("/foo", O_RDONLY)``."""
    meanings = _MEANING.get(call.name, ())
    values = list(call.args)
    if call.name == "open" and len(values) == 3 and not values[1] & os.O_CREAT:
        values.pop()  # the mode means nothing, and strace leaves it out
    shown = [
        _argument(value, meanings[at] if at < len(meanings) else "")
        for at, value in enumerate(values)
    ]
    shown += [f"{name}={_argument(value, '')}" for name, value in call.kwargs.items()]
    return f"{call.name}({', '.join(shown)})"


def failed_call(call: Call, error: OSError) -> str:
    """A call that failed, with the name of its errno."""
    code = error.errno or 0
    name = errno.errorcode.get(code, str(code))
    return f"{call_text(call)} = -1 {name} ({os.strerror(code)})"


def result_text(result: object) -> str:
    """What a call returned."""
    if result is None:
        return "0"
    if isinstance(result, os.stat_result):
        return (
            f"{{st_ino={result.st_ino}, st_mode={mode_text(result.st_mode)}, "
            f"st_nlink={result.st_nlink}, st_size={result.st_size}}}"
        )
    if isinstance(result, bytes):
        return quoted(result, _LONGEST)
    if isinstance(result, str):
        return quoted(os.fsencode(result), None)
    if isinstance(result, list):
        return counted(len(result), "name")
    if isinstance(result, bool):
        return str(int(result))
    if isinstance(result, int):
        return str(result)
    return str(result.process.pid) if isinstance(result, vsfs.FileSystem) else "{...}"


# -- observers ----------------------------------------------------------------------


class Strace:
    """Prints each call when it has ended; with the pid if there are several processes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def enter(self, call: Call) -> None:
        """Nothing is shown before the result is known."""

    def leave(self, call: Call, result: object, error: BaseException | None) -> None:
        """Print the call and what came of it."""
        if isinstance(error, OSError):
            text = failed_call(call, error)
        elif call.name in ("read", "pread") and isinstance(result, bytes):
            fd, *others = call.args
            shown = ", ".join([str(fd), quoted(result, _LONGEST), *map(str, others)])
            text = f"{call.name}({shown}) = {len(result)}"
        else:
            text = f"{call_text(call)} = {result_text(result)}"
        several = len(self._session.processes) > 1
        sys.stdout.flush()
        print(f"[pid {call.pid}] {text}" if several else safe(text), file=sys.stderr)


class OpenedPaths:
    """Remembers the last call, and under which path an entry was opened.

    It asks the filesystem nothing: what that reads would be counted as the call's.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._here = "/"  # the current directory when the call began

    def enter(self, call: Call) -> None:
        """Remember it for the error that may come, and where it begins."""
        session = self._session
        session.last_call = call
        current = session.processes.get(call.pid).current
        self._here = "/" if current is None else session.opened.get(current.handle, "/")

    def leave(self, call: Call, result: object, error: BaseException | None) -> None:
        """Note the path of an open or chdir, made absolute."""
        if error is not None or call.name not in ("open", "chdir"):
            return
        session = self._session
        path = posixpath.join(self._here, os.fsdecode(call.args[0]))
        process = session.processes.get(call.pid)
        file = process.file(result) if isinstance(result, int) else process.current
        if file is not None:
            session.opened[file.handle] = posixpath.normpath(path)


def is_traced(session: Session) -> bool:
    """Whether the calls are printed already."""
    return any(isinstance(observer, Strace) for observer in session.processes.observers)
