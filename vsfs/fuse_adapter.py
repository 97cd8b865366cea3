"""The adapter for fusepy: the kernel's requests become calls of the volume.

It only translates: paths to inode numbers, results to fusepy's dicts, errors to
errnos.  No filesystem logic lives here.  What comes often does not pass through
fusepy's own Python code (``fuse_callbacks``).

fusepy speaks libfuse 2's high-level interface, which names files by path and
gives every path a node of its own.  Two hard links are two files to the kernel
then, so it may not cache what it could not see change:

* attributes are asked for each time (``attr_timeout=0``); names are cached for
  long, since only this mount changes them;
* cached pages survive an open only if nothing changed the file since this very
  path last had it open (:class:`_PageCache`), and a file with several names has
  none.

Paths are bytes.  Those that come fusepy's own way are decoded as Latin-1, which keeps
every byte of a name exact, and encoded again in one place (``__call__``).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import logging
import os
import re
import signal
import stat
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import fuse

from vsfs.device import BytesLike
from vsfs.directory import Entry
from vsfs.errors import posix_error
from vsfs.fuse_callbacks import Callbacks
from vsfs.inode import Inode
from vsfs.openfiles import OpenFile
from vsfs.serving import (
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

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ENCODING: Final = "latin-1"  # of paths that fusepy decodes: keeps every byte of a name exact

#: Paths of which it is known whether the kernel's pages are right: 1 MiB.
_MAX_PATHS: Final = 4_000


class _PageCache:
    """Knows for which paths the kernel's cached pages are the file's contents.

    A path qualifies when its last opener saw every change of the inode since it
    opened it, and none came since.
    """

    def __init__(self) -> None:
        # path -> inode's state then; of a dict the first is found past all that were deleted
        self._valid: OrderedDict[bytes, tuple[int, int, int]] = OrderedDict()
        self._open: dict[int, tuple[bytes, int] | None] = {}  # handle -> path, version seen

    @staticmethod
    def _state(inode: Inode) -> tuple[int, int, int]:
        return inode.ino, inode.generation, inode.version

    def opened(self, path: bytes, file: OpenFile) -> bool:
        """Note an open; return whether the kernel may keep its pages of `path`."""
        self._open[file.handle] = (path, file.inode.version)
        return self._valid.get(path) == self._state(file.inode)

    def before_write(self, file: OpenFile) -> None:
        """A write through `file` follows: the kernel's pages of its path get it, too."""
        seen = self._open[file.handle]
        if seen is not None:
            path, version = seen
            # somebody else's change in between is not in those pages
            self._open[file.handle] = (path, version + 1) if version == file.inode.version else None

    def closed(self, file: OpenFile) -> None:
        """Note a close."""
        seen = self._open.pop(file.handle)
        if seen is not None and seen[1] == file.inode.version:
            self._valid[seen[0]] = self._state(file.inode)
            if len(self._valid) > _MAX_PATHS:  # the oldest: its pages are read once more
                self._valid.popitem(last=False)
        elif seen is not None:
            self._valid.pop(seen[0], None)

    def moved(self, *paths: bytes) -> None:
        """`paths` stand for something else from now on, or for nothing."""
        for path in paths:
            self._valid.pop(path, None)

    def clear(self) -> None:
        """Trust nothing; when whole subtrees move."""
        self._valid.clear()
        self._open = dict.fromkeys(self._open)


class _HiddenFiles:
    """Open files that were unlinked, by the name that libfuse gave them instead.

    libfuse 2 finds an open file by its path.  So instead of unlinking the name of
    one it asks for a rename to ``.fuse_hidden...``, and for the unlink of that
    after the last close.  Here such a rename *is* the unlink: nothing is ever
    called so on the disk, and calls with that path mean the open inode.

    A rename over an open file arrives in two calls as well: hide the old target,
    then rename.  The unlink waits for the next call, whatever it is; if that is
    this rename, the target is replaced in one operation, as rename(2) promises.
    """

    _NAME: Final = re.compile(rb"\.fuse_hidden[0-9a-f]{16}")

    def __init__(self) -> None:
        self.inodes: dict[bytes, Inode] = {}  # by name: libfuse never gives one twice
        self.waiting: bytes | None = None  # the path whose unlink waits

    def is_hidden_name(self, path: bytes) -> bool:
        """Whether libfuse makes such names."""
        return self._NAME.fullmatch(_last_name(path)) is not None

    def hide(self, path: bytes, hidden_path: bytes, inode: Inode) -> None:
        """`path` is to be unlinked; `inode` is found at `hidden_path` from now on."""
        self.inodes[_last_name(hidden_path)] = inode
        self.waiting = path

    def find(self, path: bytes) -> Inode | None:
        """The open inode that a hidden path means."""
        return self.inodes.get(_last_name(path))

    def forget(self, path: bytes) -> bool:
        """Note that libfuse is done with a hidden path; False if it is none."""
        return self.inodes.pop(_last_name(path), None) is not None


def _last_name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


class FuseAdapter(Adapter):
    """What fusepy calls: one method for each request of the kernel.

    Methods have fusepy's signatures.  `fi` is the ``fuse_file_info``, whose `fh`
    is the handle in the volume's open file table.
    """

    binding = "fusepy"
    callbacks_type: type[Callbacks] = Callbacks
    use_ns = True
    flag_nullpath_ok = 1  # open files that were unlinked come without a path
    flag_nopath = 1  # and no request with a handle needs one
    flag_utime_omit_ok = 1  # otherwise libfuse drops `touch -a` and `touch -m`

    def __init__(self, volume: Volume, on_mounted: Callable[[], None] | None = None) -> None:
        super().__init__(volume, on_mounted)
        self._pages = _PageCache()
        self.hidden = _HiddenFiles()

    def __call__(self, name: str, *args: Any) -> Any:
        """Dispatch a request; the one place where errors become errnos."""
        given = [arg.encode(_ENCODING) if isinstance(arg, str) else arg for arg in args]
        try:
            if self.hidden.waiting is not None:
                self.finish_unlink(given[1] if name == "rename" else None)
            return getattr(self, name)(*given)
        except Exception as error:
            code = errno_of(error, name)
            if isinstance(error, OSError) and code == error.errno:
                raise
            raise posix_error(code) from error

    def finish_unlink(self, renamed_over: bytes | None = None) -> None:
        """Do the unlink that `hidden` says is waiting, unless this call is a rename over it."""
        path, self.hidden.waiting = self.hidden.waiting, None
        if path is None or path == renamed_over:
            return
        try:
            self.volume.unlink(*self._place(path))
        except OSError as error:  # its caller has long been told that it is done
            log.error("%s could not be unlinked: %s", os.fsdecode(path), error)

    # -- life of the mount ----------------------------------------------------

    def serve(self, image: str, mount_point: str, options: dict[str, Any]) -> None:
        """Mount and answer requests until the mount is gone; raises CannotMount."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
        try:
            self.callbacks_type(
                self,
                os.fsencode(mount_point).decode(_ENCODING),
                raw_fi=True,
                encoding=_ENCODING,
                foreground=True,
                nothreads=True,
                fsname=option_value(image).decode(_ENCODING),
                subtype="vsfs",
                use_ino=True,
                big_writes=True,
                attr_timeout=0,
                **{
                    "entry_timeout": VALID_FOR,
                    "negative_timeout": VALID_FOR,
                    **with_needed_checks(options),
                },
            )
        except RuntimeError as error:  # libfuse's exit status, in fusepy's words
            raise CannotMount(str(error)) from None

    def init(self, _path: bytes) -> None:
        """The kernel has mounted it."""
        end_on(_ENDING, _Exit(), self.finished)
        self.mounted()

    def destroy(self, _path: bytes) -> None:
        """The mount is gone."""
        self.finish()

    # -- names ----------------------------------------------------------------

    def _inode(self, path: bytes) -> Inode:
        found = self.find(path)
        if found is None:
            raise posix_error(errno.ENOENT)
        return found[0]

    def find(self, path: bytes) -> tuple[Inode, int] | None:
        """What a path means, also one of libfuse's own, and how many names it has.

        None where there is no such name; raises ENOTDIR, ENAMETOOLONG.
        """
        if self.hidden.inodes and (hidden := self.hidden.find(path)) is not None:
            # libfuse counts the name that it made up, and takes it off again
            return hidden, hidden.nlink + 1
        inode = self.volume.walk(path.split(b"/")[1:] if path != b"/" else ())
        return None if inode is None else (inode, inode.nlink)

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """Inode number of the directory above, and the last name."""
        parent, _, name = path.rpartition(b"/")
        return self._inode(parent or b"/").ino, name

    def getattr(self, path: bytes | None, fi: Any = None) -> dict[str, int]:
        """stat(2), and fstat(2) where the kernel gives a handle."""
        if path is None or (fi is not None and fi.fh):
            return self._attributes(self.volume.files.get(fi.fh).inode)
        found = self.find(path)
        if found is None:
            raise posix_error(errno.ENOENT)
        inode, nlink = found
        return self._attributes(inode) | {"st_nlink": nlink}

    def _attributes(self, inode: Inode) -> dict[str, int]:
        block_size = self.volume.geometry.block_size
        return {
            "st_ino": inode.ino,
            "st_mode": inode.mode,
            "st_nlink": inode.nlink,
            "st_uid": inode.uid,
            "st_gid": inode.gid,
            "st_rdev": inode.device,
            "st_size": inode.size,
            "st_blksize": block_size,
            "st_blocks": inode.blocks * (block_size // ST_BLOCK),
            "st_atime": inode.atime_ns,
            "st_mtime": inode.mtime_ns,
            "st_ctime": inode.ctime_ns,
        }

    def readlink(self, path: bytes) -> str:
        """readlink(2)."""
        return self.volume.readlink(self._inode(path).ino).decode(_ENCODING)

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        """mknod(2)."""
        self.volume.mknod(*self._place(path), mode, *_user(), device)

    def mkdir(self, path: bytes, mode: int) -> None:
        """mkdir(2)."""
        self.volume.mkdir(*self._place(path), mode, *_user())

    def symlink(self, path: bytes, target: bytes) -> None:
        """symlink(2): make `path` point to `target`."""
        self.volume.symlink(*self._place(path), target, *_user())

    def link(self, path: bytes, source: bytes) -> None:
        """link(2): give `source` the further name `path`."""
        self.volume.link(self._inode(source).ino, *self._place(path))

    def unlink(self, path: bytes) -> None:
        """unlink(2)."""
        if self.hidden.forget(path):
            return
        self.volume.unlink(*self._place(path))
        self._pages.moved(path)

    def rmdir(self, path: bytes) -> None:
        """rmdir(2)."""
        self.volume.rmdir(*self._place(path))

    def rename(self, old: bytes, new: bytes) -> None:
        """rename(2), and what libfuse makes of unlink(2) while a file is open."""
        inode = self._inode(old)
        if inode.open_count and self.hidden.is_hidden_name(new):
            self.hidden.hide(old, new, inode)
            self._pages.moved(old)
            return
        self.volume.rename(*self._place(old), *self._place(new))
        if inode.is_directory:
            self._pages.clear()
        else:
            self._pages.moved(old, new)

    # -- attributes -----------------------------------------------------------

    def access(self, path: bytes, wanted: int) -> int:
        """access(2) and chdir(2) without ``default_permissions``."""
        if not root_may(self._inode(path), wanted):
            raise posix_error(errno.EACCES)
        return 0

    def chmod(self, path: bytes, mode: int) -> None:
        """chmod(2); the kernel has checked who asks."""
        self.volume.setattr(self._inode(path).ino, mode=stat.S_IMODE(mode))

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        """chown(2); -1 leaves an id as it is."""
        self.volume.setattr(
            self._inode(path).ino,
            uid=None if uid == -1 else uid,
            gid=None if gid == -1 else gid,
        )

    def truncate(self, path: bytes | None, length: int, fi: Any = None) -> None:
        """truncate(2) and ftruncate(2)."""
        if path is None or fi is not None:
            inode = self.volume.files.get(fi.fh).inode
        else:
            inode = self._inode(path)
        self.volume.setattr(inode.ino, size=length)

    def utimens(self, path: bytes, times: tuple[int | None, int | None]) -> None:
        """utimensat(2): ns since 1970; None leaves a time as it is."""
        atime, mtime = times
        self.volume.setattr(self._inode(path).ino, atime_ns=atime, mtime_ns=mtime)

    def getxattr(self, path: bytes, name: bytes, _position: int = 0) -> bytes:
        """getxattr(2)."""
        return self.volume.getxattr(self._inode(path).ino, name)

    def listxattr(self, path: bytes) -> list[str]:
        """listxattr(2)."""
        return [name.decode(_ENCODING) for name in self.volume.listxattr(self._inode(path).ino)]

    def setxattr(
        self, path: bytes, name: bytes, value: bytes, flags: int, _position: int = 0
    ) -> None:
        """setxattr(2)."""
        self.volume.setxattr(
            self._inode(path).ino,
            name,
            value,
            create=bool(flags & os.XATTR_CREATE),
            replace=bool(flags & os.XATTR_REPLACE),
        )

    def removexattr(self, path: bytes, name: bytes) -> None:
        """removexattr(2)."""
        self.volume.removexattr(self._inode(path).ino, name)

    def statfs(self, _path: bytes) -> dict[str, int]:
        """statfs(2)."""
        return self.statfs_fields()

    # -- open files -----------------------------------------------------------

    def create(self, path: bytes, mode: int, fi: Any) -> int:
        """open(2) with O_CREAT, of a name that is not there."""
        inode = self.volume.mknod(*self._place(path), mode, *_user())
        return self._open(path, inode, fi)

    def open(self, path: bytes, fi: Any) -> int:
        """open(2)."""
        return self._open(path, self._inode(path), fi)

    def _open(self, path: bytes, inode: Inode, fi: Any) -> int:
        file = self.volume.open(inode.ino, fi.flags)
        fi.fh = file.handle
        fi.keep_cache = self._pages.opened(path, file)
        # Pages of one name would not see what is written through another while
        # both are open, so a file with several names is read past the cache.
        fi.direct_io = inode.nlink > 1 and inode.is_regular
        return 0

    def read(self, _path: bytes | None, size: int, offset: int, fi: Any) -> bytes:
        """read(2), and the kernel's read-ahead."""
        return self.volume.read(fi.fh, size, offset)

    def write(self, _path: bytes | None, content: BytesLike, offset: int, fi: Any) -> int:
        """write(2); for O_APPEND the kernel may know an older end: that of this name."""
        file = self.volume.files.get(fi.fh)
        if file.flags & os.O_APPEND:
            offset = file.inode.size
        self._pages.before_write(file)
        return self.volume.write(fi.fh, content, offset)

    def release(self, _path: bytes | None, fi: Any) -> None:
        """The last close of what one open(2) gave."""
        self._pages.closed(self.volume.files.get(fi.fh))
        self.volume.release(fi.fh)

    def fsync(self, _path: bytes | None, _datasync: int, fi: Any) -> None:
        """fsync(2) and fdatasync(2)."""
        self.volume.fsync(fi.fh)

    def opendir(self, path: bytes) -> int:
        """opendir(3): the handle keeps a directory that is removed meanwhile."""
        return self.volume.open(self._inode(path).ino, os.O_RDONLY | os.O_DIRECTORY).handle

    def readdir(self, _path: bytes | None, handle: int) -> list[tuple[bytes, Entry]]:
        """readdir(3): all names at once; libfuse hands them out in pieces."""
        return self.volume.readdir(self.volume.files.get(handle).inode.ino)

    def releasedir(self, _path: bytes | None, handle: int) -> None:
        """closedir(3)."""
        self.volume.release(handle)

    def fsyncdir(self, _path: bytes | None, _datasync: int, _handle: int) -> None:
        """fsync(2) of a directory."""
        self.volume.sync()


def _user() -> tuple[int, int]:
    """User and group of the process whose request is being served."""
    context = _context()
    return context.uid, context.gid


@functools.cache
def _context() -> Any:
    """Where libfuse writes whose request it is: one place for the one thread that answers."""
    return fuse._libfuse.fuse_get_context().contents


class _Exit:
    """Ends libfuse's loop when called, from any thread.

    libfuse's own handlers are gone while it unmounts.
    """

    def __init__(self) -> None:
        self._fuse = ctypes.c_void_p(fuse._libfuse.fuse_get_context().contents.fuse)

    def __call__(self) -> None:
        fuse._libfuse.fuse_exit(self._fuse)
        interrupt_main_thread(signal.SIGUSR1)
