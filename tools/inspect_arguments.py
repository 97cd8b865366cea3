"""What the commands of vsfs-inspect have in common: what one is, and what its words mean."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vsfs.rawimage import NotThere, RawImage

if TYPE_CHECKING:
    from .inspect_text import Report

PROGRAM: Final = "vsfs-inspect"
INODE: Final = "N|/PATH"
MAYBE_INODE: Final = "[N|/PATH]"
_MAX_DIGITS: Final = 20  # of a number that can mean anything: 2^64 has 20

Values = dict[str, Any]


class UsageError(Exception):
    """Its text is the sentence for the user; exit status 2."""


class Command(NamedTuple):
    """`describe` gives what --json prints; `show` prints it for people.

    `argument` stands in the list of commands.  `add` declares the words and options
    of a command that takes others than one such argument.
    """

    help: str
    argument: str | None
    describe: Callable[[RawImage, argparse.Namespace], Values]
    show: Callable[[Report, Values], None]
    add: Callable[[argparse.ArgumentParser], None] | None = None


def locate(image: RawImage, what: str, *, follow: bool = False) -> int:
    """The inode that a number or a path on the command line means.

    Raises UsageError for what is neither, NotThere (ENOENT), Corrupt (EUCLEAN).
    """
    if what.startswith("/"):
        return image.resolve(os.fsencode(what), follow=follow)
    return number(what, "neither a path, which starts with /, nor an inode number")


def number(text: str, wanted: str) -> int:
    """A decimal number; raises UsageError, saying that `text` is `wanted`."""
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{text!r} is {wanted}; see {PROGRAM} --help")
    if len(text) > _MAX_DIGITS:
        raise NotThere(f"there is nothing with a number of {len(text)} digits")
    return int(text)
