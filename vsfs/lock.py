"""One writer at a time: the advisory lock on an image, and who has it mounted.

A process that writes an image holds an exclusive ``flock`` on it, one that has
it mounted read-only a shared one; both end with the process, however it ends.

``umount`` of a FUSE filesystem returns before the mount process has written its
last commit.  So a lock that is held although no mount of the image exists any
more belongs to a process that is about to finish, and is waited for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from typing import Final

from vsfs.errors import ImageBusy

WAIT_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_MOUNT_TABLE: Final = "/proc/self/mountinfo"
_FILESYSTEM_TYPE: Final = b"fuse.vsfs"


def mount_points(image: str | os.PathLike[str]) -> list[str]:
    """Where `image` is mounted, as the kernel lists it; empty if nowhere.

    The source of a VSFS mount is its image's absolute path.
    """
    source = os.fsencode(os.path.realpath(image))
    found = []
    try:
        with open(_MOUNT_TABLE, "rb") as table:
            lines = table.read().splitlines()
    except OSError:
        return []  # no /proc, or not Linux
    for line in lines:
        # proc(5): ... mount point at 4, then optional fields up to a lone "-"
        before, _, after = line.partition(b" - ")
        kind, device = after.split(b" ")[:2]
        if kind == _FILESYSTEM_TYPE and _unescape(device) == source:
            found.append(os.fsdecode(_unescape(before.split(b" ")[4])))
    return found


def _unescape(field: bytes) -> bytes:
    """Undo the kernel's octal escapes for blanks and backslashes."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def lock_image(fd: int, image: str, *, exclusive: bool) -> None:
    """Take the lock on the open image `fd`; it is held until `fd` is closed.

    Raises ImageBusy (EBUSY) when the image is mounted, or when another process
    still holds it after a wait of a few seconds.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    while not _try_lock(fd, how):
        mounted = mount_points(image)
        if mounted:
            raise ImageBusy(f"{image} is mounted on {mounted[0]}; unmount it first")
        if time.monotonic() > deadline:
            raise ImageBusy(
                f"{image} is in use by another process; wait for it to finish, or end it"
            )
        time.sleep(_POLL_SECONDS)


def wait_for_writer(image: str | os.PathLike[str]) -> list[str]:
    """Return when `image` shows the present: no writer, or a live mount of it.

    For readers.  Gives the mount points (which the caller then syncs); an empty
    list means that nobody is writing.  Raises ImageBusy (EBUSY) as lock_image.
    """
    # O_NONBLOCK: a fifo must not keep us waiting for somebody to open its other end
    fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        lock_image(fd, os.fspath(image), exclusive=False)
    except ImageBusy:
        mounted = mount_points(image)
        if not mounted:
            raise
        return mounted
    finally:
        os.close(fd)
    return []


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True
