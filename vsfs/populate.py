"""Copying a tree of the host into an image (mkfs.vsfs -d).

``copying`` does the copying; this adds that the same tree gives the same image, and
that it is all or nothing: :func:`measure` says beforehand what a tree takes, to the
last block, so that one that does not fit is refused before anything is written; and
:func:`fill` writes the superblock last, as ``mkfs`` does, so that a tree that
changed in between leaves no half-filled filesystem behind.  The usual sequence::

    needs = measure(source, geometry, image=image)
    if needs.fit(geometry):
        format_image(image, ...)
        fill(image, source)
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from vsfs.copying import (
    CannotCopy,
    Copier,
    Entry,
    Keep,
    Tree,
    kept_attributes,
    naming,
    opened,
    shown,
    stretches,
)
from vsfs.device import BytesLike, FileDevice, Kind, PatchedDevice
from vsfs.filesystem import FileSystem
from vsfs.layout import (
    DIRECT_POINTERS,
    INDIRECT_LEVELS,
    INLINE_SIZE,
    RESERVED_INODES,
    SECTOR_SIZE,
    SUPERBLOCK_SIZE,
    Geometry,
    ceil_div,
    record_size,
)
from vsfs.mkfs import place_journal
from vsfs.validate import check_superblock
from vsfs.walk import Credentials

#: Files between two commits: fewer than make the cache commit by itself, perhaps
#: between two attributes of one file, which would then take two blocks for a while.
_COMMIT_EVERY: Final = 512
#: Sectors with some room that a directory tries, as ``Directory`` does.
_TRIES: Final = 8
#: ``mkfs`` takes an image for unused when so many bytes at either end are zero.
_ENDS: Final = 64 * 1024


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
    tree = Tree(os, os.fsencode(source), image=image)
    inodes = blocks = 0
    for entry, is_left in tree:
        if is_left or entry.linked is not None:
            continue
        inodes += 1
        with naming(entry.source):
            blocks += _contents_blocks(entry, geometry)
            blocks += bool(kept_attributes(os, entry.source, geometry.block_size))
    return Needs(inodes - 1, blocks - 1, tree.left_out)


def _contents_blocks(entry: Entry, geometry: Geometry) -> int:
    """Blocks for the contents of a file, its indirect ones included."""
    mode, block_size = entry.status.st_mode, geometry.block_size
    if stat.S_ISDIR(mode):
        return file_blocks([(0, directory_blocks(entry.names, block_size) * block_size)], geometry)
    if stat.S_ISLNK(mode):
        length = len(os.readlink(entry.source))
        return file_blocks([(0, length)], geometry) if length > INLINE_SIZE else 0
    if not stat.S_ISREG(mode):
        return 0
    with opened(os, entry.source) as fd:
        size = os.fstat(fd).st_size
        if size > geometry.max_file_size:
            raise CannotCopy(
                f"{shown(entry.source)} is too large: it has {size} bytes, and with blocks of "
                f"{block_size} a file has at most {geometry.max_file_size}"
            )
        return file_blocks(stretches(os, fd, size), geometry)


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
        self._tree = Tree(os, os.fsencode(source), image=image)
        self._copier = Copier(
            os,
            fs,
            Keep.EVERYTHING,
            block_size=fs.volume.geometry.block_size,
            stable_times=stable_times,
        )
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
            with naming(entry.source):
                if is_left:
                    self._copier.attributes(entry)  # last: adding names changed its times
                elif number:  # the root directory is there
                    self._copier.make(entry)
            if number % _COMMIT_EVERY == _COMMIT_EVERY - 1:
                self._fs.sync()


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
