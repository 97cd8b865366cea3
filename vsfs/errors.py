"""Errors: what goes wrong, each with the errno a program sees.

Lowest layer; imports nothing of VSFS.  Two audiences read an error.  A program
reads ``errno``, so every class here is an ``OSError`` and always carries a
positive one.  A person reads ``str(error)``, so the text is one sentence: what
is wrong, where, and what to do.

Plain POSIX answers ("no such file") are built by :func:`posix_error`, which
lets Python choose the subclass (``FileNotFoundError`` and so on) as ``os``
does; the classes below are for what only a filesystem can say.
"""

from __future__ import annotations

import errno
import os
from typing import Final

#: "Structure needs cleaning": Linux's word for damage, and its number where there is none.
EUCLEAN: Final = getattr(errno, "EUCLEAN", 117)


def posix_error(code: int, path: str | bytes | None = None) -> OSError:
    """The error that ``os`` itself would raise for errno `code` on `path`."""
    if path is None:
        return OSError(code, os.strerror(code))
    return OSError(code, os.strerror(code), path)


class VsfsError(OSError):
    """Base of the errors that VSFS adds; `code` is the class's errno."""

    code = errno.EIO

    def __init__(self, message: str) -> None:
        super().__init__(self.code, message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Corrupt(VsfsError):
    """EUCLEAN: a structure read from the image cannot be right.

    `structure` names it for a person ("inode 12"), `block` and `offset` say
    where its bytes are (offset in bytes within the block), `found` and
    `expected` are the two sides that disagree.
    """

    code = EUCLEAN

    def __init__(self, structure: str, block: int, offset: int, found: str, expected: str) -> None:
        super().__init__(
            f"{structure} (block {block}, offset {offset}) is damaged: "
            f"found {found}, expected {expected}"
        )
        self.structure = structure
        self.block = block
        self.offset = offset
        self.found = found
        self.expected = expected


class NeedsCheck(VsfsError):
    """EUCLEAN: the image was not cleanly unmounted, and is damaged beyond that.

    Not mounted for writing until fsck.vsfs has asked about the repairs.
    """

    code = EUCLEAN


class NotVsfs(VsfsError):
    """EINVAL: the image does not hold a VSFS filesystem at all."""

    code = errno.EINVAL


class UnknownFeature(VsfsError):
    """EOPNOTSUPP: the image needs a feature that this version does not have."""

    code = errno.EOPNOTSUPP


class ImageBusy(VsfsError):
    """EBUSY: another process has the image open for writing, or mounted."""

    code = errno.EBUSY


class ImpossibleSize(VsfsError):
    """EINVAL: no filesystem of the wanted sizes can exist."""

    code = errno.EINVAL


class NoSpace(VsfsError):
    """ENOSPC: no free block or no free inode is left."""

    code = errno.ENOSPC


class ReadOnly(VsfsError):
    """EROFS: the filesystem was opened for reading, or turned read-only."""

    code = errno.EROFS


class CommitNeeded(VsfsError):
    """EAGAIN, never seen by a caller: the running transaction must commit first.

    A layer raises it inside an operation when the operation can only succeed
    after a commit.  The volume undoes what the operation did, commits, and runs
    the operation again.
    """

    code = errno.EAGAIN


class TransactionFull(CommitNeeded):
    """ENOSPC: an operation changes more blocks than the journal has room for.

    Like CommitNeeded at first.  In a transaction of its own it still does not fit:
    then whoever called it does the work in smaller steps.
    """

    code = errno.ENOSPC
