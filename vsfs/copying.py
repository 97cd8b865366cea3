"""Copying files and trees: from the host into an image, out of it, and inside of it.

A :class:`~vsfs.filesystem.FileSystem` has the functions of ``os``, so one text
copies in every direction: the source is either, and so is the target.  Everything
that an inode can hold comes along: modes, owners, times to the nanosecond,
extended attributes, hard links, symbolic links, devices, fifos, and holes as holes.
Names are taken in sorted order.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from vsfs.errors import VsfsError, posix_error
from vsfs.layout import ATTRIBUTES_SIZE, MAX_BLOCK_SIZE, NAMESPACES, attribute_size

#: The module ``os``, or a ``FileSystem``.
Calls = Any

COPY_SIZE: Final = 1 << 20  # bytes read at a time
_PERMISSIONS: Final = 0o7777
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_MAX_LINKS: Final = 40  # followed one after the other, as in Linux
#: Errors of the host's disk that the image lies on, not of the file being copied.
_OF_THE_IMAGE: Final = (errno.ENOSPC, errno.EDQUOT)


class CannotCopy(VsfsError):
    """EIO: a file of the tree cannot be read, or the image cannot hold it.

    The sentence starts with the file's path; the cause is what the host said.
    """

    code = errno.EIO


# -- the tree ------------------------------------------------------------------


class Entry(NamedTuple):
    """A file of a tree, and where it goes."""

    path: bytes  # in the target
    source: bytes
    status: os.stat_result
    linked: bytes | None  # the path in the target of an earlier name of the same file
    names: tuple[bytes, ...]  # in a directory, sorted


class Tree:
    """Walks what is below `top` in `source`, be it to measure or to copy it.

    `path` is where the top goes in the target.  `image` is left out where it lies in
    the tree itself: it is known by its device and inode number, whatever its name
    there.  (Refusing would be no help to somebody who runs ``mkfs.vsfs -d . disk.img``;
    tar leaves its archive out, too.)  A `source` that is not trusted is an image.
    """

    def __init__(
        self,
        source: Calls,
        top: bytes,
        path: bytes = b"/",
        *,
        image: str | os.PathLike[str] | None = None,
        is_trusted: bool = True,
    ) -> None:
        self.left_out: bytes | None = None  # where the image was come upon
        self._source = source
        self._top = top
        self._path = path
        self._is_trusted = is_trusted
        self._met: set[int] = set()  # directories
        self._image: tuple[int, int] | None = None
        if image is not None:
            with contextlib.suppress(FileNotFoundError):  # it is still to be made
                status = os.stat(image)
                if stat.S_ISREG(status.st_mode):  # the node of a block device holds no blocks
                    self._image = status.st_dev, status.st_ino

    def __iter__(self) -> Iterator[tuple[Entry, bool]]:
        """(Entry, False) for each file, the top first; (entry, True) behind a directory's last.

        No recursion: a tree may be deeper than Python's stack.
        """
        linked: dict[tuple[int, int], bytes] = {}  # (device, inode) there -> path here
        above: list[tuple[Entry, Iterator[bytes]]] = []
        path, source = self._path, self._top
        while True:
            entry = self._entry(path, source, linked)
            yield entry, False
            if stat.S_ISDIR(entry.status.st_mode):
                above.append((entry, iter(entry.names)))
            while True:
                if not above:
                    return
                entry, names = above[-1]
                name = next(names, None)
                if name is not None:
                    break
                above.pop()
                yield entry, True
            path, source = os.path.join(entry.path, name), os.path.join(entry.source, name)

    def _entry(self, path: bytes, source: bytes, linked: dict[tuple[int, int], bytes]) -> Entry:
        with naming(source):
            status = self._source.lstat(source)
            if stat.S_ISDIR(status.st_mode):
                self._meet(status, source)
                return Entry(path, source, status, None, self._names(source))
        if status.st_nlink == 1:
            return Entry(path, source, status, None, ())
        first = linked.setdefault((status.st_dev, status.st_ino), path)
        return Entry(path, source, status, None if first == path else first, ())

    def _meet(self, status: os.stat_result, source: bytes) -> None:
        """In a damaged image a directory may be its own grandparent: raises CannotCopy."""
        if self._is_trusted:
            return
        if status.st_ino in self._met:
            raise CannotCopy(
                f"{shown(source)} is a directory that was met before, so the image is damaged; "
                "fsck.vsfs says more"
            )
        self._met.add(status.st_ino)

    def _names(self, source: bytes) -> tuple[bytes, ...]:
        with self._source.scandir(source) as entries:
            return tuple(sorted(entry.name for entry in entries if not self._is_image(entry)))

    def _is_image(self, entry: os.DirEntry[bytes]) -> bool:
        if self._image is None or entry.inode() != self._image[1]:
            return False
        if entry.stat(follow_symlinks=False).st_dev != self._image[0]:
            return False
        self.left_out = entry.path
        return True


@contextlib.contextmanager
def naming(source: bytes) -> Iterator[None]:
    """Errors about a file of the tree say which one: as CannotCopy."""
    try:
        yield
    except VsfsError:
        raise
    except OSError as error:
        if error.errno in _OF_THE_IMAGE:
            raise
        raise CannotCopy(f"{shown(source)} {_trouble(error)}") from error


def _trouble(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return "vanished while it was being copied; try again when nothing changes the files"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "cannot be read by you; try as root, or leave it out"
    return f"cannot be copied: {error.strerror}"


def shown(name: bytes) -> str:
    """A path or name for a message, on one line."""
    text = os.fsdecode(name)
    return text if text.isprintable() else repr(text)


@contextlib.contextmanager
def opened(calls: Calls, source: bytes) -> Iterator[int]:
    """A file's descriptor, for reading."""
    # what was a file when it was looked at may be a link or a fifo by now
    fd = calls.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        calls.close(fd)


def stretches(calls: Calls, fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are not holes: (start, end) in bytes."""
    end = 0
    while end < size:
        try:
            start = calls.lseek(fd, end, os.SEEK_DATA)
            end = min(calls.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.EINVAL:  # a filesystem that does not know, such as sysfs
                start, end = end, size
            elif error.errno == errno.ENXIO:  # only a hole up to the end
                return
            else:
                raise
        yield start, end


def kept_attributes(calls: Calls, source: bytes, block_size: int | None = None) -> dict[str, bytes]:
    """The extended attributes of a file that VSFS has a place for.

    Raises CannotCopy, with the name of the largest, if they do not fit into a block
    of `block_size` bytes.
    """
    if not hasattr(calls, "listxattr"):  # ``os`` has it on Linux only
        return {}
    try:
        names = calls.listxattr(source, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # that filesystem has none
            raise
        return {}
    found = {
        name: calls.getxattr(source, name, follow_symlinks=False)
        for name in names
        if os.fsencode(name).startswith(NAMESPACES)
    }
    if block_size is None:
        return found
    sizes = {name: attribute_size(os.fsencode(name), value) for name, value in found.items()}
    size = ATTRIBUTES_SIZE + sum(sizes.values())
    if sizes and size > block_size:
        largest = shown(os.fsencode(max(sizes, key=sizes.__getitem__)))
        larger = 1 << (size - 1).bit_length()
        raise CannotCopy(
            f"{shown(source)} has attributes of {size} bytes ({largest} is the largest), "
            f"and all must fit into a block of {block_size}; "
            + (f"-b {larger} makes them fit" if larger <= MAX_BLOCK_SIZE else "no block is enough")
        )
    return found


# -- copying -------------------------------------------------------------------


class Keep(enum.Enum):
    """What a copy has of the original beside its contents."""

    EVERYTHING = enum.auto()  # or an error
    POSSIBLE = enum.auto()  # what the user may set: a user gives no files away
    MODE = enum.auto()  # as cp(1)


class Copier:
    """Makes in `target` what a tree has.

    `stable_times`: access times are those of the last modification, since reading
    the source changes them.  `block_size` is the target's, for its attributes; None
    for no limit.  `on_bytes` is called with the size of what was copied.
    """

    def __init__(
        self,
        source: Calls,
        target: Calls,
        keep: Keep,
        *,
        block_size: int | None = None,
        stable_times: bool = False,
        on_bytes: Callable[[int], object] = lambda _count: None,
    ) -> None:
        self._source = source
        self._target = target
        self._keep = keep
        self._block_size = block_size
        self._stable_times = stable_times
        self._on_bytes = on_bytes

    def run(self, tree: Tree, on_entry: Callable[[bytes], object] = lambda _path: None) -> None:
        """Copy a whole tree, its top too; nothing of it may be there yet."""
        for entry, is_left in tree:
            if is_left:
                self.attributes(entry)
            else:
                on_entry(entry.source)
                self.make(entry)

    def make(self, entry: Entry) -> None:
        """Make a file; a directory gets its attributes when it is full."""
        target, path, mode = self._target, entry.path, entry.status.st_mode
        if stat.S_ISDIR(mode):
            target.mkdir(path, 0o700)
            return
        if entry.linked is not None:
            target.link(entry.linked, path, follow_symlinks=False)
            return
        if stat.S_ISREG(mode):
            # in a tree that nobody else knows: no link may lead out of it
            self.contents(path, entry.source, os.O_EXCL | os.O_NOFOLLOW)
        elif stat.S_ISLNK(mode):
            target.symlink(self._source.readlink(entry.source), path)
        else:
            target.mknod(path, mode, entry.status.st_rdev)
        self.attributes(entry)

    def contents(self, path: bytes, source: bytes, how: int = os.O_TRUNC) -> None:
        """Copy the bytes of a file; `how` it is opened beside O_CREAT and O_WRONLY."""
        target = self._target
        with opened(self._source, source) as file:
            mode = stat.S_IMODE(self._source.fstat(file).st_mode) & 0o777
            first = mode if self._keep is Keep.MODE else 0o600
            fd = target.open(path, os.O_CREAT | os.O_WRONLY | how, first)
            try:
                size = self._source.fstat(file).st_size
                for start, end in stretches(self._source, file, size):
                    self._stretch(fd, file, start, end)
                target.ftruncate(fd, size)
            finally:
                target.close(fd)

    def _stretch(self, fd: int, source: int, start: int, end: int) -> None:
        while start < end:
            content = self._source.pread(source, min(COPY_SIZE, end - start), start)
            if not content:
                return  # the file became shorter while it was copied
            written = self._target.pwrite(fd, content, start)
            start += written
            self._on_bytes(written)
            if written < len(content):  # the next write says why: no space
                self._target.pwrite(fd, content[written:], start)

    def attributes(self, entry: Entry) -> None:
        """Give a copy the original's owner, mode, extended attributes and times."""
        target, path, status = self._target, entry.path, entry.status
        is_link = stat.S_ISLNK(status.st_mode)
        mode = status.st_mode & _PERMISSIONS
        if self._keep is Keep.MODE:
            if stat.S_ISDIR(status.st_mode):
                target.chmod(path, mode & ~_SET_ID)
            return
        with self._allowing():
            target.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
        if self._keep is Keep.POSSIBLE and not is_link:
            made = target.lstat(path)
            if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
                mode &= ~_SET_ID  # they would make it run as somebody else
        if not is_link:
            target.chmod(path, mode)
        kept = kept_attributes(self._source, entry.source, self._block_size)
        for name, value in kept.items() if hasattr(target, "setxattr") else ():
            with self._allowing():
                target.setxattr(path, name, value, follow_symlinks=False)
        atime = status.st_mtime_ns if self._stable_times else status.st_atime_ns
        target.utime(path, ns=(atime, status.st_mtime_ns), follow_symlinks=False)

    @contextlib.contextmanager
    def _allowing(self) -> Iterator[None]:
        """What the user may not set, or the filesystem does not have, is left out."""
        try:
            yield
        except OSError as error:
            missing = (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL)
            if self._keep is Keep.EVERYTHING or error.errno not in missing:
                raise


def resolved(calls: Calls, path: bytes) -> bytes:
    """The path that a symbolic link at the end of `path` leads to; raises ELOOP."""
    for _ in range(_MAX_LINKS):
        if not stat.S_ISLNK(calls.lstat(path).st_mode):
            return path
        target = os.fsencode(calls.readlink(path))
        path = os.path.join(os.path.dirname(path), target)
    raise posix_error(errno.ELOOP, path)
