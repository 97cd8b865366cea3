"""Copying a tree of the host into an image (mkfs.vsfs -d).

Everything that an inode can hold comes along: modes, owners, times to the
nanosecond, extended attributes, hard links, symbolic links, devices, fifos, and
holes as holes.  Names are taken in sorted order, so the same tree gives the same
image.

All or nothing: :func:`measure` says beforehand what a tree takes, to the last
block, so that one that does not fit is refused before anything is written; and
:func:`fill` writes the superblock last, as ``mkfs`` does, so that a tree that
changed in between leaves no half-filled filesystem behind.  The usual sequence::

    needs = measure(source, geometry, image=image)
    if needs.fit(geometry):
        format_image(image, ...)
        fill(image, source)
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from vsfs.device import BytesLike, FileDevice, Kind, PatchedDevice
from vsfs.errors import VsfsError
from vsfs.filesystem import FileSystem
from vsfs.layout import (
    ATTRIBUTES_SIZE,
    DIRECT_POINTERS,
    INDIRECT_LEVELS,
    INLINE_SIZE,
    MAX_BLOCK_SIZE,
    NAMESPACES,
    RESERVED_INODES,
    SECTOR_SIZE,
    SUPERBLOCK_SIZE,
    Geometry,
    attribute_size,
    ceil_div,
    record_size,
)
from vsfs.mkfs import place_journal
from vsfs.validate import check_superblock
from vsfs.walk import Credentials

_COPY_SIZE: Final = 1 << 20  # bytes read from the host at a time
_PERMISSIONS: Final = 0o7777
#: Files between two commits: fewer than make the cache commit by itself, perhaps
#: between two attributes of one file, which would then take two blocks for a while.
_COMMIT_EVERY: Final = 512
#: Sectors with some room that a directory tries, as ``Directory`` does.
_TRIES: Final = 8
#: ``mkfs`` takes an image for unused when so many bytes at either end are zero.
_ENDS: Final = 64 * 1024
#: Errors of the host's disk that the image lies on, not of the file being copied.
_OF_THE_IMAGE: Final = (errno.ENOSPC, errno.EDQUOT)


class CannotCopy(VsfsError):
    """EIO: a file of the tree cannot be read, or the image cannot hold it.

    The sentence starts with the file's path; the cause is what the host said.
    """

    code = errno.EIO


# -- the tree ------------------------------------------------------------------


class _Entry(NamedTuple):
    """A file of the host's tree, and where it goes."""

    path: bytes  # in the image
    source: bytes
    status: os.stat_result
    linked: bytes | None  # the path in the image of an earlier name of the same file
    names: tuple[bytes, ...]  # in a directory, sorted


class _Tree:
    """Walks a host directory; both what is measured and what is copied is this.

    `image` is left out where it lies in the tree itself: it is known by its device
    and inode number, whatever its name there.  (Refusing would be no help to
    somebody who runs ``mkfs.vsfs -d . disk.img``; tar leaves its archive out, too.)
    """

    def __init__(self, top: bytes, image: str | os.PathLike[str] | None) -> None:
        self.left_out: bytes | None = None  # where the image was come upon
        self._top = top
        self._image: tuple[int, int] | None = None
        if image is not None:
            with contextlib.suppress(FileNotFoundError):  # it is still to be made
                status = os.stat(image)
                if stat.S_ISREG(status.st_mode):  # the node of a block device holds no blocks
                    self._image = status.st_dev, status.st_ino

    def __iter__(self) -> Iterator[tuple[_Entry, bool]]:
        """(Entry, False) for each file, the top first; (entry, True) behind a directory's last.

        No recursion: a tree may be deeper than Python's stack.
        """
        linked: dict[tuple[int, int], bytes] = {}  # host (device, inode) -> our path
        above: list[tuple[_Entry, Iterator[bytes]]] = []
        path, source = b"/", self._top
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

    def _entry(self, path: bytes, source: bytes, linked: dict[tuple[int, int], bytes]) -> _Entry:
        with _naming(source):
            status = os.lstat(source)
            if stat.S_ISDIR(status.st_mode):
                return _Entry(path, source, status, None, self._names(source))
        if status.st_nlink == 1:
            return _Entry(path, source, status, None, ())
        first = linked.setdefault((status.st_dev, status.st_ino), path)
        return _Entry(path, source, status, None if first == path else first, ())

    def _names(self, source: bytes) -> tuple[bytes, ...]:
        with os.scandir(source) as entries:
            return tuple(sorted(entry.name for entry in entries if not self._is_image(entry)))

    def _is_image(self, entry: os.DirEntry[bytes]) -> bool:
        if self._image is None or entry.inode() != self._image[1]:
            return False
        if entry.stat(follow_symlinks=False).st_dev != self._image[0]:
            return False
        self.left_out = entry.path
        return True


@contextlib.contextmanager
def _naming(source: bytes) -> Iterator[None]:
    """Errors about a file of the tree say which one: as CannotCopy."""
    try:
        yield
    except VsfsError:
        raise
    except OSError as error:
        if error.errno in _OF_THE_IMAGE:
            raise
        raise CannotCopy(f"{_shown(source)} {_trouble(error)}") from error


def _trouble(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return "vanished while it was being copied; try again when nothing changes the files"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "cannot be read by you; try as root, or leave it out"
    return f"cannot be copied: {error.strerror}"


def _shown(name: bytes) -> str:
    """A path or name for a message, on one line."""
    text = os.fsdecode(name)
    return text if text.isprintable() else repr(text)


@contextlib.contextmanager
def _opened(source: bytes) -> Iterator[int]:
    # what was a file when it was looked at may be a link or a fifo by now
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _stretches(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a host file that are not holes: (start, end) in bytes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.EINVAL:  # a filesystem that does not know, such as sysfs
                start, end = end, size
            elif error.errno == errno.ENXIO:  # only a hole up to the end
                return
            else:
                raise
        yield start, end


def _kept_attributes(source: bytes, block_size: int) -> dict[str, bytes]:
    """The extended attributes of a host file that VSFS has a place for.

    Raises CannotCopy, with the name of the largest, if they do not fit into a block.
    """
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # the host's filesystem has none
            raise
        return {}
    found = {
        name: os.getxattr(source, name, follow_symlinks=False)
        for name in names
        if os.fsencode(name).startswith(NAMESPACES)
    }
    sizes = {name: attribute_size(os.fsencode(name), value) for name, value in found.items()}
    size = ATTRIBUTES_SIZE + sum(sizes.values())
    if sizes and size > block_size:
        largest = _shown(os.fsencode(max(sizes, key=sizes.__getitem__)))
        larger = 1 << (size - 1).bit_length()
        raise CannotCopy(
            f"{_shown(source)} has attributes of {size} bytes ({largest} is the largest), "
            f"and all must fit into a block of {block_size}; "
            + (f"-b {larger} makes them fit" if larger <= MAX_BLOCK_SIZE else "no block is enough")
        )
    return found


# -- measuring -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Needs:
    """What a tree takes beside the root directory's inode and first block.

    `left_out` is the image's own path, if it lies in the tree.
    """

    inodes: int
    blocks: int
    left_out: bytes | None = None

    def missing(self, geometry: Geometry, journal_blocks: int | None = None) -> tuple[int, int]:
        """How many inodes and blocks a new filesystem has too few; 0 for enough.

        `journal_blocks` is what ``mkfs.make`` is told of a journal.
        """
        inodes, blocks = room(geometry, journal_blocks)
        return max(self.inodes - inodes, 0), max(self.blocks - blocks, 0)

    def fit(self, geometry: Geometry, journal_blocks: int | None = None) -> bool:
        """Whether a new filesystem has room for the tree."""
        return self.missing(geometry, journal_blocks) == (0, 0)


def room(geometry: Geometry, journal_blocks: int | None = None) -> tuple[int, int]:
    """Free inodes and free blocks of a new filesystem, which has a root directory.

    And a journal, if `journal_blocks` says so to ``mkfs.make``.

    >>> room(Geometry(4096, 64, 80, 1, 2, 3, 8)), room(Geometry(4096, 64, 80, 1, 2, 3, 8), 20)
    ((77, 55), (77, 34))
    """
    journal = place_journal(geometry, journal_blocks)
    taken = 1 + (journal.total if journal else 0)
    return geometry.inode_count - RESERVED_INODES, geometry.data_blocks - taken


def measure(
    source: str | os.PathLike[str],
    geometry: Geometry,
    *,
    image: str | os.PathLike[str] | None = None,
) -> Needs:
    """What the tree below `source` will take of a filesystem like `geometry`.

    Only the block size matters, not whether there is room.  Each file is opened,
    to find its holes; nothing is read but names and attributes.  Exact as long as
    nobody changes the tree.  Raises CannotCopy (EIO) for what cannot be read, for
    a file that is too large, and for attributes that do not fit.
    """
    tree = _Tree(os.fsencode(source), image)
    inodes = blocks = 0
    for entry, is_left in tree:
        if is_left or entry.linked is not None:
            continue
        inodes += 1
        with _naming(entry.source):
            blocks += _contents_blocks(entry, geometry)
            blocks += bool(_kept_attributes(entry.source, geometry.block_size))
    return Needs(inodes - 1, blocks - 1, tree.left_out)


def _contents_blocks(entry: _Entry, geometry: Geometry) -> int:
    """Blocks for the contents of a file, its indirect ones included."""
    mode, block_size = entry.status.st_mode, geometry.block_size
    if stat.S_ISDIR(mode):
        return file_blocks([(0, directory_blocks(entry.names, block_size) * block_size)], geometry)
    if stat.S_ISLNK(mode):
        length = len(os.readlink(entry.source))
        return file_blocks([(0, length)], geometry) if length > INLINE_SIZE else 0
    if not stat.S_ISREG(mode):
        return 0
    with _opened(entry.source) as fd:
        size = os.fstat(fd).st_size
        if size > geometry.max_file_size:
            raise CannotCopy(
                f"{_shown(entry.source)} is too large: it has {size} bytes, and with blocks of "
                f"{block_size} a file has at most {geometry.max_file_size}"
            )
        return file_blocks(_stretches(fd, size), geometry)


def file_blocks(stretches: Iterable[tuple[int, int]], geometry: Geometry) -> int:
    """Blocks of a file with bytes in `stretches`, (start, end) in rising order.

    Data blocks, and every indirect block on the way to one.

    >>> geometry = Geometry(4096, 64, 80, 1, 2, 3, 8)
    >>> file_blocks([(0, 1)], geometry), file_blocks([(0, 13 * 4096)], geometry)
    (1, 14)
    >>> file_blocks([(2**30, 2**30 + 1)], geometry)  # in the double indirect block
    3
    """
    per_block = geometry.pointers_per_block
    count = 0
    # an indirect block of each level below each of the inode's pointers, by its number
    last_seen: dict[tuple[int, int], int] = {}
    last = -1  # the last data block counted: two stretches may share it
    for start, end in stretches:
        first = max(start // geometry.block_size, last + 1)
        stop = ceil_div(end, geometry.block_size)
        if first >= stop:
            continue
        last = stop - 1
        count += stop - first
        low = DIRECT_POINTERS  # first file block below the indirect pointer
        for level in range(1, INDIRECT_LEVELS + 1):
            high = low + per_block**level
            if first < high and stop > low:
                for depth in range(1, level + 1):
                    span = per_block**depth
                    begin = (max(first, low) - low) // span
                    finish = (min(stop, high) - 1 - low) // span
                    begin = max(begin, last_seen.get((level, depth), -1) + 1)
                    count += max(finish - begin + 1, 0)
                    last_seen[level, depth] = finish
            low = high
    return count


def directory_blocks(names: Iterable[bytes], block_size: int) -> int:
    """Blocks that a directory has after `names` were added to it in this order.

    The places that ``Directory.add`` finds; a test holds the two together.

    >>> directory_blocks([b"x" * 255] * 8, 4096), directory_blocks([b"x" * 255] * 9, 4096)
    (1, 2)
    """
    per_block = block_size // SECTOR_SIZE
    blocks, hint = 1, 0
    slack = dict.fromkeys(range(per_block), SECTOR_SIZE)  # of sectors with room
    slack[0] -= 2 * record_size(1)  # . and ..
    for name in names:
        needed = record_size(len(name))
        hint = _sector_with_room(slack, hint, needed)
        if hint < 0:
            hint = blocks * per_block
            slack.update(dict.fromkeys(range(hint, hint + per_block), SECTOR_SIZE))
            blocks += 1
        left = slack.pop(hint) - needed
        if left >= record_size(1):
            slack[hint] = left
    return blocks


def _sector_with_room(slack: dict[int, int], hint: int, needed: int) -> int:
    """What ``Directory.find_room`` would take; -1 if it would grow the directory."""
    for sector in (hint, hint + 1):
        if slack.get(sector, 0) >= needed:
            return sector
    for _ in range(min(_TRIES, len(slack))):
        sector = next(iter(slack))
        if slack[sector] >= needed:
            return sector
        slack[sector] = slack.pop(sector)  # to the end
    return -1


# -- copying -------------------------------------------------------------------


class Populator:
    """Copies one host directory into the root directory of an empty filesystem.

    `fs` acts as root, with its umask 0.  With `stable_times` access times are
    those of the last modification, since reading the source changes them.
    `on_file` is called with each path before it is copied.  `image` is the file
    that the filesystem is in: if it lies in the tree, it is left out.
    """

    def __init__(
        self,
        fs: FileSystem,
        source: str | os.PathLike[str],
        *,
        image: str | os.PathLike[str] | None = None,
        stable_times: bool = False,
        on_file: Callable[[bytes], object] = lambda _path: None,
    ) -> None:
        self._fs = fs
        self._tree = _Tree(os.fsencode(source), image)
        self._stable_times = stable_times
        self._on_file = on_file

    def run(self) -> None:
        """Copy the tree; the last part of it is durable at the next commit.

        Raises CannotCopy (EIO) for a file of the tree, NoSpace (ENOSPC), or what
        writing the image raises.
        """
        self._fs.umask(0)
        for number, (entry, is_left) in enumerate(self._tree):
            if number and not is_left:
                self._on_file(entry.source)
            with _naming(entry.source):
                if is_left:
                    self._attributes(entry)  # last: adding names changed its times
                elif number:  # the root directory is there
                    self._make(entry)
            if number % _COMMIT_EVERY == _COMMIT_EVERY - 1:
                self._fs.sync()

    def _make(self, entry: _Entry) -> None:
        fs, path, mode = self._fs, entry.path, entry.status.st_mode
        if stat.S_ISDIR(mode):
            fs.mkdir(path)
            return
        if entry.linked is not None:
            fs.link(entry.linked, path)
            return
        if stat.S_ISREG(mode):
            self._contents(path, entry.source)
        elif stat.S_ISLNK(mode):
            fs.symlink(os.readlink(entry.source), path)
        else:
            fs.mknod(path, mode, entry.status.st_rdev)
        self._attributes(entry)

    def _contents(self, path: bytes, source: bytes) -> None:
        fs = self._fs
        with _opened(source) as file:
            fd = fs.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                size = os.fstat(file).st_size
                for start, end in _stretches(file, size):
                    self._stretch(fd, file, start, end)
                fs.ftruncate(fd, size)
            finally:
                fs.close(fd)

    def _stretch(self, fd: int, source: int, start: int, end: int) -> None:
        while start < end:
            content = os.pread(source, min(_COPY_SIZE, end - start), start)
            if not content:
                return  # the file became shorter while it was copied
            written = self._fs.pwrite(fd, content, start)
            start += written
            if written < len(content):  # the next write says why: no space
                self._fs.pwrite(fd, content[written:], start)

    def _attributes(self, entry: _Entry) -> None:
        fs, path, status = self._fs, entry.path, entry.status
        fs.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            fs.chmod(path, status.st_mode & _PERMISSIONS)
        kept = _kept_attributes(entry.source, fs.volume.geometry.block_size)
        for name, value in kept.items():
            fs.setxattr(path, name, value, follow_symlinks=False)
        atime = status.st_mtime_ns if self._stable_times else status.st_atime_ns
        fs.utime(path, ns=(atime, status.st_mtime_ns), follow_symlinks=False)


def fill(
    image: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    clock: Callable[[], int] | None = None,
    stable_times: bool = False,
    on_file: Callable[[bytes], object] = lambda _path: None,
) -> None:
    """Copy the tree below `source` into the new filesystem in `image`.

    It is a filesystem again only when all is durable in it: whatever stops this,
    even the end of the process, leaves an image without a superblock, and an
    error one that ``mkfs`` takes for unused.  `clock` and the other options are
    those of ``Volume`` and :class:`Populator`.  Raises what these raise.
    """
    # no commits by the clock: two runs write the same
    options: dict[str, Any] = {"commit_interval": None} | ({"clock": clock} if clock else {})
    file = FileDevice(image)
    try:
        device = _Unpublished(file)
        try:
            fs = FileSystem.open(device, credentials=Credentials(0, 0), **options)
            Populator(fs, source, image=image, stable_times=stable_times, on_file=on_file).run()
            fs.unmount()
            device.publish()
        except BaseException:
            with contextlib.suppress(OSError):  # it has no superblock in any case
                device.erase()
            raise
    finally:
        file.close()


class _Unpublished(PatchedDevice):
    """A filesystem whose block 0 is kept in memory, and on `below` is zero."""

    def __init__(self, below: FileDevice) -> None:
        head = below.read(0, SUPERBLOCK_SIZE, 0, Kind.SUPERBLOCK)
        below.block_size = check_superblock(head, below.size).geometry.block_size
        self._first = {0: below.read(0, below.block_size, 0, Kind.SUPERBLOCK)}
        super().__init__(below, self._first)
        self.read_only = False
        below.write(0, bytes(below.block_size), 0, Kind.SUPERBLOCK)
        below.barrier()

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        if block_no == 0:  # perhaps with its neighbours
            first = bytearray(self._first[0])
            rest = len(first) - offset
            first[offset : offset + len(content)] = content[:rest]
            self._first[0] = bytes(first)
            block_no, offset, content = 1, 0, content[rest:]
        if content:
            self.below.write(block_no, content, offset, kind, ino)

    def publish(self) -> None:
        """Write block 0, after all others; durable when this returns."""
        self.below.barrier()
        self.below.write(0, self._first[0], 0, Kind.SUPERBLOCK)
        self.below.barrier()

    def erase(self) -> None:
        """Zero both ends of the device, where ``mkfs`` looks for signs of use."""
        size = min(_ENDS, self.size)
        for start in (0, self.size - size):
            block, offset = divmod(start, self.block_size)
            self.below.write(block, bytes(size), offset)
        self.below.barrier()

    def close(self) -> None:
        """Stay open: publish or erase is still to come."""
