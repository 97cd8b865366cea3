"""The adapter for llfuse: the kernel's requests become calls of the volume.

It only translates: nodes to inode numbers, inodes to llfuse's attributes, errors
to errnos.  No filesystem logic lives here.

llfuse speaks libfuse 2's low-level interface, in which a node of the kernel is an
inode number.  All names of a file are one node, so the kernel may keep whatever it
has read: names, attributes, pages.  Only this mount changes them, and whatever
changes an inode passes through its node.

Two numbers differ: the root directory is node 1 and inode 2.

**What the kernel knows.**  Each reply with an inode in it raises the kernel's
*lookup count* of that node, and a ``forget`` lowers it.  An inode without names
stays until the count is 0 and it is open no more: somebody may be inside a removed
directory, or hold a file that was opened with O_PATH.  The volume is told which are
known, and holds them.  The kernel doesn't hurry to forget, and space that was freed
is there at once all the same: what nobody has open counts as free, and goes when the
space is needed (:meth:`LlfuseAdapter._reclaim`).  A number that is used again has
another generation, so the kernel never takes one file for the other.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import signal
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import llfuse

from vsfs.directory import Entry
from vsfs.errors import posix_error
from vsfs.inode import Inode
from vsfs.layout import MODE_OF_TYPE, ROOT_INO
from vsfs.serving import (
    CAPABILITY,
    ST_BLOCK,
    VALID_FOR,
    Adapter,
    CannotMount,
    end_on,
    errno_of,
    interrupt_main_thread,
    option_value,
    root_may,
    with_needed_checks,
)
from vsfs.volume import Volume

log = logging.getLogger("vsfs")

_ROOT_NODE: Final = llfuse.ROOT_INODE
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
#: Ends llfuse's loop when the main thread gets it; see ``serve``.
_STOP: Final = signal.SIGHUP

P = ParamSpec("P")
R = TypeVar("R")


def _request(
    method: Callable[Concatenate[LlfuseAdapter, P], R],
) -> Callable[Concatenate[LlfuseAdapter, P], R]:
    """An answer to the kernel: the one place where errors become errnos.

    To llfuse any other exception is the end of the mount.
    """

    @functools.wraps(method)
    def answer(self: LlfuseAdapter, /, *args: P.args, **kwargs: P.kwargs) -> R:
        while True:
            try:
                return method(self, *args, **kwargs)
            except llfuse.FUSEError:
                raise
            except Exception as error:
                code = errno_of(error, method.__name__)
            if code != errno.ENOSPC or not self._reclaim():
                raise llfuse.FUSEError(code)

    return answer


class LlfuseAdapter(Adapter):
    """What llfuse calls: one method for each request of the kernel.

    Methods have llfuse's signatures.  A `handle` is one of the volume's open file
    table, and `context` says whose request it is.
    """

    binding = "llfuse"

    def __init__(self, volume: Volume, on_mounted: Callable[[], None] | None = None) -> None:
        super().__init__(volume, on_mounted)
        self._known: dict[int, int] = {}  # inode -> how often the kernel was told of it
        volume.known = self._known
        self._gone: set[int] = set()  # inodes freed before the kernel forgot them
        self._listings: dict[int, list[tuple[bytes, Entry]]] = {}  # by handle
        self._units = volume.geometry.block_size // ST_BLOCK
        self._no_entry = llfuse.EntryAttributes()  # inode 0: the kernel notes that there is none
        self._no_entry.entry_timeout = VALID_FOR

    # -- life of the mount ----------------------------------------------------

    def serve(self, image: str, mount_point: str, options: dict[str, Any]) -> None:
        """Mount and answer requests until the mount is gone; raises CannotMount.

        llfuse's loop ends on a signal that its own handlers get, in the main thread
        and while it runs.  So SIGHUP is left to them, harmless before and behind the
        loop, and the thread that takes the others passes them on as SIGHUP.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, (*_ENDING, _STOP))
        signal.signal(_STOP, signal.SIG_IGN)
        words = [b"big_writes", b"subtype=vsfs", b"fsname=" + option_value(image)]
        words += [os.fsencode(name) for name in with_needed_checks(options)]
        try:
            llfuse.init(self, mount_point, list(map(_Option, words)))
        except RuntimeError as error:
            raise CannotMount(str(error)) from None
        end_on(_ENDING, lambda: interrupt_main_thread(_STOP), self.finished)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (_STOP,))
        try:
            llfuse.main(workers=1)
        except Exception as error:
            log.exception("the mount on %s ends", mount_point)
            self.failure = error
        llfuse.close()  # unmounts, if that is not what ended the loop
        self.finish()

    def init(self) -> None:
        """The kernel has mounted it."""
        try:
            self.mounted()
        except Exception as error:
            errno_of(error, "init")

    def destroy(self) -> None:
        """The loop has ended; ``serve`` does the rest when it is unmounted, too."""

    # -- what the kernel knows --------------------------------------------------

    def _ino(self, node: int) -> int:
        """The inode of a node; raises ESTALE if it had to go."""
        if node == _ROOT_NODE:
            return ROOT_INO
        if node in self._gone:
            raise posix_error(errno.ESTALE)
        return node

    def _attributes(self, inode: Inode) -> Any:
        entry = llfuse.EntryAttributes()
        entry.st_ino = inode.ino
        entry.generation = inode.generation
        entry.entry_timeout = entry.attr_timeout = VALID_FOR
        entry.st_mode = inode.mode
        entry.st_nlink = inode.nlink
        entry.st_uid = inode.uid
        entry.st_gid = inode.gid
        entry.st_rdev = inode.device
        entry.st_size = inode.size
        entry.st_blksize = self.volume.geometry.block_size
        entry.st_blocks = inode.blocks * self._units
        entry.st_atime_ns = inode.atime_ns
        entry.st_mtime_ns = inode.mtime_ns
        entry.st_ctime_ns = inode.ctime_ns
        return entry

    def _entry(self, inode: Inode) -> Any:
        """The attributes of what a name stands for; the kernel knows the inode then."""
        entry = self._attributes(inode)
        ino = inode.ino
        if ino == ROOT_INO:  # in a damaged image; the kernel refuses it
            entry.st_ino = _ROOT_NODE
        self._gone.discard(ino)  # the number is in use again
        self._known[ino] = self._known.get(ino, 0) + 1
        return entry

    def forget(self, nodes: list[tuple[int, int]]) -> None:
        """The kernel let go of some nodes; those without names and openers go."""
        for ino, count in nodes:
            left = self._known.pop(ino, 0) - count
            if left > 0:
                self._known[ino] = left
            else:
                self._gone.discard(ino)
                self._let_go(ino)

    def _only_known(self) -> list[Inode]:
        """The inodes without names that nobody has open: the kernel will forget them."""
        return [inode for inode in self.volume.held.values() if inode.open_count == 1]

    def _reclaim(self) -> bool:
        """Free what only the kernel still knows, since there is no space left.

        Mostly its forgetting is on the way.  Otherwise somebody holds such an inode
        without having it open, and gets ESTALE from now on.  False if there is none.
        """
        inodes = self._only_known()
        for inode in inodes:
            self._gone.add(inode.ino)
            self._let_go(inode.ino)
        return bool(inodes)

    def _let_go(self, ino: int) -> None:
        try:
            self.volume.let_go(ino)
        except Exception as error:  # nobody waits for an answer, and llfuse would end the mount
            errno_of(error, "forget")

    # -- names ----------------------------------------------------------------

    @_request
    def lookup(self, parent: int, name: bytes, _context: Any) -> Any:
        """What a name stands for; that there is no such name is an answer, too."""
        inode = self.volume.find(self._ino(parent), name)
        return self._no_entry if inode is None else self._entry(inode)

    @_request
    def readlink(self, node: int, _context: Any) -> bytes:
        """readlink(2)."""
        return self.volume.readlink(self._ino(node))

    @_request
    def mknod(self, parent: int, name: bytes, mode: int, device: int, context: Any) -> Any:
        """mknod(2)."""
        made = self.volume.mknod(self._ino(parent), name, mode, context.uid, context.gid, device)
        return self._entry(made)

    @_request
    def mkdir(self, parent: int, name: bytes, mode: int, context: Any) -> Any:
        """mkdir(2)."""
        return self._entry(
            self.volume.mkdir(self._ino(parent), name, mode, context.uid, context.gid)
        )

    @_request
    def symlink(self, parent: int, name: bytes, target: bytes, context: Any) -> Any:
        """symlink(2): make `name` point to `target`."""
        made = self.volume.symlink(self._ino(parent), name, target, context.uid, context.gid)
        return self._entry(made)

    @_request
    def link(self, node: int, parent: int, name: bytes, _context: Any) -> Any:
        """link(2): give an inode the further name `name`."""
        return self._entry(self.volume.link(self._ino(node), self._ino(parent), name))

    @_request
    def unlink(self, parent: int, name: bytes, _context: Any) -> None:
        """unlink(2)."""
        self.volume.unlink(self._ino(parent), name)

    @_request
    def rmdir(self, parent: int, name: bytes, _context: Any) -> None:
        """rmdir(2)."""
        self.volume.rmdir(self._ino(parent), name)

    @_request
    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, _context: Any
    ) -> None:
        """rename(2)."""
        self.volume.rename(self._ino(parent), name, self._ino(new_parent), new_name)

    # -- attributes -----------------------------------------------------------

    @_request
    def getattr(self, node: int, _context: Any) -> Any:
        """stat(2) and fstat(2)."""
        return self._attributes(self.volume.inode(self._ino(node)))

    @_request
    def setattr(self, node: int, new: Any, fields: Any, _handle: int | None, _context: Any) -> Any:
        """chmod(2), chown(2), truncate(2), utimensat(2); the kernel has checked who asks."""
        changes: dict[str, int] = {}
        if fields.update_size:
            changes["size"] = new.st_size
        if fields.update_mode:
            changes["mode"] = stat.S_IMODE(new.st_mode)
        if fields.update_uid:
            changes["uid"] = new.st_uid
        if fields.update_gid:
            changes["gid"] = new.st_gid
        if fields.update_atime:
            changes["atime_ns"] = new.st_atime_ns
        if fields.update_mtime:
            changes["mtime_ns"] = new.st_mtime_ns
        return self._attributes(self.volume.setattr(self._ino(node), **changes))

    def getxattr(self, node: int, name: bytes, context: Any = None) -> bytes:
        """getxattr(2); the kernel asks for one of them before each write(2)."""
        if name == CAPABILITY:
            inode = self.volume.inodes.cached(node)
            if inode is not None and not inode.attribute_block:
                raise llfuse.FUSEError(errno.ENODATA)
        return self._getxattr(node, name, context)

    @_request
    def _getxattr(self, node: int, name: bytes, _context: Any) -> bytes:
        return self.volume.getxattr(self._ino(node), name)

    @_request
    def listxattr(self, node: int, _context: Any) -> list[bytes]:
        """listxattr(2)."""
        return self.volume.listxattr(self._ino(node))

    @_request
    def setxattr(self, node: int, name: bytes, value: bytes, _context: Any) -> None:
        """setxattr(2); llfuse asks with getxattr first where its flags demand it."""
        self.volume.setxattr(self._ino(node), name, value)

    @_request
    def removexattr(self, node: int, name: bytes, _context: Any) -> None:
        """removexattr(2)."""
        self.volume.removexattr(self._ino(node), name)

    @_request
    def access(self, node: int, wanted: int, _context: Any) -> bool:
        """access(2) and chdir(2) without ``default_permissions``."""
        return root_may(self.volume.inode(self._ino(node)), wanted)

    @_request
    def statfs(self, _context: Any) -> Any:
        """statfs(2)."""
        counts = self.statfs_fields()
        for inode in self._only_known():
            counts["f_bfree"] += inode.blocks
            counts["f_bavail"] += inode.blocks
            counts["f_ffree"] += 1
            counts["f_favail"] += 1
        shown = llfuse.StatvfsData()
        for field, value in counts.items():
            setattr(shown, field, value)
        return shown

    # -- open files -----------------------------------------------------------

    @_request
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, context: Any
    ) -> tuple[int, Any]:
        """open(2) with O_CREAT, of a name that is not there."""
        inode = self.volume.mknod(self._ino(parent), name, mode, context.uid, context.gid)
        return self.volume.open(inode.ino, flags).handle, self._entry(inode)

    @_request
    def open(self, node: int, flags: int, _context: Any) -> int:
        """open(2); llfuse tells the kernel that it may keep the file's pages."""
        return self.volume.open(self._ino(node), flags).handle

    @_request
    def read(self, handle: int, offset: int, size: int) -> bytes:
        """read(2), and the kernel's read-ahead."""
        return self.volume.read(handle, size, offset)

    @_request
    def write(self, handle: int, offset: int, content: bytes) -> int:
        """write(2); for O_APPEND the kernel has found the offset."""
        written = self.volume.write(handle, content, offset)
        if written < len(content) and self._reclaim():
            with contextlib.suppress(OSError):  # a short count says it, as in write(2)
                rest = memoryview(content)[written:]
                written += self.volume.write(handle, rest, offset + written)
        return written

    @_request
    def release(self, handle: int) -> None:
        """The last close of what one open(2) gave."""
        self.volume.release(handle)

    @_request
    def fsync(self, handle: int, _datasync: bool) -> None:
        """fsync(2) and fdatasync(2)."""
        self.volume.fsync(handle)

    @_request
    def opendir(self, node: int, _context: Any) -> int:
        """opendir(3)."""
        return self.volume.open(self._ino(node), os.O_RDONLY | os.O_DIRECTORY).handle

    @_request
    def readdir(self, handle: int, offset: int) -> Iterator[tuple[bytes, Any, int]]:
        """readdir(3): the names at the time of the first call, or of rewinddir(3)."""
        listing = self._listings.get(handle)
        if listing is None or offset == 0:
            ino = self.volume.files.get(handle).inode.ino
            listing = self._listings[handle] = self.volume.readdir(ino)
        return _entries(listing, offset)

    @_request
    def releasedir(self, handle: int) -> None:
        """closedir(3)."""
        self._listings.pop(handle, None)
        self.volume.release(handle)

    @_request
    def fsyncdir(self, _handle: int, _datasync: bool) -> None:
        """fsync(2) of a directory."""
        self.volume.sync()

    # -- what the kernel stops asking for when it hears ENOSYS --------------------

    def flush(self, _handle: int) -> None:
        """close(2): nothing is kept back for it."""
        raise llfuse.FUSEError(errno.ENOSYS)

    def stacktrace(self) -> None:
        """A debugging aid of llfuse, asked for by an attribute of the root: not offered."""


def _entries(listing: list[tuple[bytes, Entry]], offset: int) -> Iterator[tuple[bytes, Any, int]]:
    """A directory's entries from `offset` on; llfuse takes as many as fit.

    It copies each before it asks for the next, so one object is enough.
    """
    shown, file_type = llfuse.EntryAttributes(), -1
    for number, (name, entry) in enumerate(islice(listing, offset, None), offset + 1):
        shown.st_ino = entry.ino
        if entry.file_type != file_type:
            file_type = entry.file_type
            shown.st_mode = MODE_OF_TYPE.get(file_type, 0)
        yield name, shown, number


class _Option(bytes):
    """An option, which may have any bytes; llfuse takes text, and only ASCII."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        """Its bytes, whatever encoding is asked for."""
        return self
