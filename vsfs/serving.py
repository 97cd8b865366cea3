"""Serving a volume to the kernel: what both FUSE adapters share.

An adapter translates the kernel's requests for one binding.  Whichever it is,
these hold:

* one thread answers: the volume has one lock, and a second would only wait for it;
* an error becomes an errno at one place (:func:`errno_of`);
* SIGTERM, SIGINT and SIGHUP unmount, and a second one does not end the process
  before the last commit, so they stay blocked and a thread takes them;
* the last commit comes when the mount is gone (:meth:`Adapter.finish`).
"""

from __future__ import annotations

import abc
import errno
import logging
import os
import signal
import stat
import threading
from collections.abc import Callable
from typing import Any, Final

from vsfs.inode import Inode
from vsfs.layout import NAME_MAX
from vsfs.volume import Volume

log = logging.getLogger("vsfs")

#: Seconds for which the kernel may keep what only this mount changes.
VALID_FOR: Final = 3600
ST_BLOCK: Final = 512  # bytes in a unit of st_blocks
#: The attribute that the kernel asks for before each write(2), mostly in vain.
CAPABILITY: Final = b"security.capability"
_WAKE_SECONDS: Final = 0.02
_ANY_EXECUTE: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


class CannotMount(Exception):
    """libfuse has refused to mount."""


class Adapter(abc.ABC):
    """A volume that is being served; a binding's adapter adds the requests."""

    binding = ""  # its name for -o binding=

    def __init__(self, volume: Volume, on_mounted: Callable[[], None] | None = None) -> None:
        self.volume = volume
        self.failure: BaseException | None = None  # why the mount did not end well
        self.finished = threading.Event()
        self._on_mounted = on_mounted

    @abc.abstractmethod
    def serve(self, image: str, mount_point: str, options: dict[str, Any]) -> None:
        """Mount and answer requests until the mount is gone.

        `image` is the absolute path that ``mount`` shows; `options` are libfuse's,
        by name.  Raises CannotMount when libfuse could not mount; it has then
        written the reason to stderr.
        """

    def mounted(self) -> None:
        """Tell who asked that the kernel has mounted it."""
        if self._on_mounted is not None:
            self._on_mounted()

    def finish(self) -> None:
        """The mount is gone, or never was: write everything back."""
        self.finished.set()
        try:
            self.volume.close()
        except BaseException as error:
            self.failure = error
            log.error("the last changes could not be written to the image: %s", error)

    def statfs_fields(self) -> dict[str, int]:
        """statvfs(3) of the volume, by the names of its fields."""
        counts = self.volume.statistics()
        return {
            "f_bsize": counts.block_size,
            "f_frsize": counts.block_size,
            "f_blocks": counts.blocks,
            "f_bfree": counts.free_blocks,
            "f_bavail": counts.free_blocks,
            "f_files": counts.inodes,
            "f_ffree": counts.free_inodes,
            "f_favail": counts.free_inodes,
            "f_namemax": NAME_MAX,
        }


def with_needed_checks(options: dict[str, Any]) -> dict[str, Any]:
    """`options` with ``default_permissions``, unless they say or only root can get in.

    To check who may pass through a directory the kernel needs its attributes, and asks
    for them again after each change of its names: up to half of all requests for
    nothing, since root passes anyway.
    """
    chosen = {"default_permissions": os.geteuid() != 0 or "allow_other" in options} | options
    return {name: value for name, value in chosen.items() if value is not False}


def root_may(inode: Inode, wanted: int) -> bool:
    """What access(2) tells root: yes, but for the execution of what nobody can execute."""
    return not wanted & os.X_OK or inode.is_directory or bool(inode.mode & _ANY_EXECUTE)


def errno_of(error: BaseException, request: str) -> int:
    """The errno that answers a request; what should not happen is EIO and logged."""
    if not isinstance(error, OSError):
        log.error("%s failed: this is a bug in vsfs", request, exc_info=error)
        return errno.EIO
    if not error.errno or error.errno < 0:
        log.error("%s failed without an errno", request, exc_info=error)
        return errno.EIO
    return error.errno


def option_value(path: str) -> bytes:
    """A path as the value of one of libfuse's comma-separated options."""
    return os.fsencode(path).replace(b"\\", b"\\\\").replace(b",", b"\\,")


def end_on(
    signals: tuple[signal.Signals, ...], stop: Callable[[], None], finished: threading.Event
) -> None:
    """Once one of `signals` comes, which all threads block, call `stop` until it worked.

    `stop` makes the main thread, which waits for the kernel's next request, look up
    and see that it is to end.
    """

    def wait() -> None:
        signal.sigwait(signals)
        stop()
        while not finished.wait(_WAKE_SECONDS):
            stop()

    threading.Thread(target=wait, name="vsfs-signals", daemon=True).start()


def interrupt_main_thread(number: signal.Signals) -> None:
    """Deliver a signal to the main thread and no other."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)
