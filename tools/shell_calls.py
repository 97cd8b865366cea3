"""The shell's system calls on descriptors: open, read, write, lseek, dup, ... (OSTEP 39.3 to 39.8).

Each makes exactly the call of its name, and prints what it returns.
"""

from __future__ import annotations

import os
import re
from typing import Final

from vsfs.describe import describe_inode
from vsfs.rawimage import RawImage

from .inspect_text import Report
from .shell_commands import BadUse, Group, Session, exactly, number, octal
from .shell_strace import WHENCE, parse_flags, quoted

COMMANDS: Final = Group("System calls on descriptors", are_calls=True)

_MOST: Final = 1 << 16  # bytes that one read shows
_SIMPLE_ESCAPES: Final = {"n": b"\n", "t": b"\t", "r": b"\r", "\\": b"\\", '"': b'"'}


@COMMANDS.command(
    "open PATH FLAGS [MODE]",
    "open a file; prints its descriptor",
    "  FLAGS are those of open(2), joined by |: O_RDONLY, O_WRONLY or O_RDWR, then\n"
    "  O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, ...\n"
    "  MODE is octal (0644), and is for a file that O_CREAT makes; the umask is taken\n"
    "  from it.  Example: open /foo/bar O_RDWR|O_CREAT 0644",
)
def open_(session: Session, words: list[str]) -> None:
    """open(2)."""
    path, flags, *mode = exactly(words, 2, 3)
    print(session.fs.open(path, parse_flags(flags), octal(mode[0]) if mode else 0o666))


@COMMANDS.command(
    "read FD N",
    "read up to N bytes at the offset, which moves on",
    f'  Prints them as a C string; "" is the end of the file.  At most {_MOST} at a time.',
)
def read(session: Session, words: list[str]) -> None:
    """read(2)."""
    fd, count = exactly(words, 2)
    print(quoted(session.fs.read(number(fd), min(number(count), _MOST))))


@COMMANDS.command(
    "write FD TEXT",
    "write TEXT at the offset, which moves on; prints how many bytes",
    "  In TEXT, \\n is a new line, \\t a tab, \\101 the byte with this octal number, \\\\ a\n"
    "  backslash; put it in quotes.  Example: write 3 'hello\\n'",
)
def write(session: Session, words: list[str]) -> None:
    """write(2)."""
    fd, text = exactly(words, 2)
    print(session.fs.write(number(fd), unescaped(text)))


@COMMANDS.command(
    "lseek FD OFFSET WHENCE",
    "move the offset; prints the new one",
    f"  WHENCE is {', '.join(WHENCE)}.",
)
def lseek(session: Session, words: list[str]) -> None:
    """lseek(2)."""
    fd, offset, whence = exactly(words, 3)
    if whence not in WHENCE:
        raise BadUse(f"{whence!r} is not one of {', '.join(WHENCE)}")
    print(session.fs.lseek(number(fd), number(offset), WHENCE[whence]))


@COMMANDS.command("dup FD", "a second descriptor for the same open file; prints it")
def dup(session: Session, words: list[str]) -> None:
    """dup(2)."""
    (fd,) = exactly(words, 1)
    print(session.fs.dup(number(fd)))


@COMMANDS.command("dup2 FD NEW", "let NEW be that second descriptor; closes what NEW was")
def dup2(session: Session, words: list[str]) -> None:
    """dup2(2)."""
    fd, new = exactly(words, 2)
    print(session.fs.dup2(number(fd), number(new)))


@COMMANDS.command("close FD", "free a descriptor")
def close(session: Session, words: list[str]) -> None:
    """close(2)."""
    (fd,) = exactly(words, 1)
    session.fs.close(number(fd))


@COMMANDS.command("fsync FD", "return when the file is safe on the disk")
def fsync(session: Session, words: list[str]) -> None:
    """fsync(2)."""
    (fd,) = exactly(words, 1)
    session.fs.fsync(number(fd))


@COMMANDS.command("fstat FD", "what stat says of an open file, with or without a name")
def fstat(session: Session, words: list[str]) -> None:
    """fstat(2)."""
    (fd,) = exactly(words, 1)
    status = session.fs.fstat(number(fd))
    blocks = status.st_blocks * 512 // status.st_blksize
    print(f"inode {status.st_ino}, links {status.st_nlink}, size {status.st_size}, blocks {blocks}")


@COMMANDS.command("ftruncate FD SIZE", "cut the file, or let it grow by a hole")
def ftruncate(session: Session, words: list[str]) -> None:
    """ftruncate(2)."""
    fd, size = exactly(words, 2)
    session.fs.ftruncate(number(fd), number(size))


@COMMANDS.command("umask [MODE]", "permissions that new files do not get; prints the mask")
def umask(session: Session, words: list[str]) -> None:
    """umask(2)."""
    if exactly(words, 0, 1):
        session.fs.umask(octal(words[0]))
    else:
        print(f"0{session.fs.process.umask:03o}")


@COMMANDS.command(
    "inode N|PATH",
    "every field of an inode, and where it is on the disk",
    "  As `vsfs-inspect IMAGE inode` shows it.  What was done before is written to the\n"
    "  image first.  A symbolic link is not followed.",
)
def inode(session: Session, words: list[str]) -> None:
    """The inode as its bytes are."""
    (what,) = exactly(words, 1)
    ino = number(what) if what.isdecimal() else session.fs.lstat(what).st_ino
    session.fs.sync()
    image = RawImage(session.fs.volume.device)
    if not 0 < ino < image.geometry.inode_count:
        raise BadUse(f"inodes are numbered 1 to {image.geometry.inode_count - 1}")
    Report(session.printer, os.path.basename(session.image)).inode(describe_inode(image, ino))


def unescaped(text: str) -> bytes:
    r"""The bytes of a text with C's escapes; what `quoted` prints, read back.

    >>> unescaped("a\\n\\101")
    b'a\nA'
    """

    def byte(escape: re.Match[bytes]) -> bytes:
        code = escape[1].decode("latin-1")
        return _SIMPLE_ESCAPES[code] if code in _SIMPLE_ESCAPES else bytes([int(code, 8) & 0xFF])

    return re.sub(rb'\\([ntr\\"]|[0-7]{1,3})', byte, os.fsencode(text))
