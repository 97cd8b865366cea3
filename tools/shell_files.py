"""The shell's everyday commands: ls, cat, cp, mv, rm, mkdir, ln, stat, df, tree, ..."""

from __future__ import annotations

import os
import sys
from typing import Final

from .shell_commands import CHUNK, Group, Session, some

COMMANDS: Final = Group("Files")


@COMMANDS.command("cat FILE...", "print the contents of files")
def cat(session: Session, words: list[str]) -> None:
    """Copy files to the output, as they are."""
    fs = session.fs
    sys.stdout.flush()
    for path in some(words):
        fd = fs.open(path, os.O_RDONLY)
        try:
            while content := fs.read(fd, CHUNK):
                sys.stdout.buffer.write(content)
        finally:
            fs.close(fd)
    sys.stdout.buffer.flush()


@COMMANDS.command("echo [-n] TEXT...", "print words; `echo TEXT > FILE` makes a file")
def echo(_session: Session, words: list[str]) -> None:
    """Print the words with blanks between them."""
    newline = words[:1] != ["-n"]
    print(" ".join(words if newline else words[1:]), end="\n" if newline else "")
