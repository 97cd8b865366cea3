"""Finding a filesystem again whose superblock is wrong or gone.

What a geometry says can be held against the image, because other structures know
where they stand: an inode's checksum includes its number, the root directory's
first record is a `.` that leads to inode 2, and both bitmaps end in bits of 1.  So
candidates are made, from three sources that need not all be there,

* the root inode, found by its checksum: it is inode 2 of the inode table, and
  ``mkfs`` gave it the first block of the data region;
* the geometries that ``mkfs`` makes for an image of this size;
* the fields that the superblock still has,

and each is given points for what fits.  The work is bounded: at most 1 MiB is read
in one piece, and a few kilobytes for each of at most some hundred candidates.

Nothing here changes anything, or knows of findings.
"""

from __future__ import annotations

import functools
import itertools
import stat
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from vsfs.device import BlockDevice
from vsfs.errors import Corrupt, ImpossibleSize
from vsfs.fsck.findings import Evidence
from vsfs.layout import (
    DEFAULT_BLOCK_SIZE,
    DIRECTORY_TYPE,
    INODE_SIZE,
    JOURNAL_INO,
    MAX_BLOCK_COUNT,
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    ROOT_INO,
    SECTOR_SIZE,
    DirectoryRecord,
    Geometry,
    InodeRecord,
    ceil_div,
    decode_inode,
    inode_checksum,
    record_size,
    records,
)
from vsfs.mkfs import plan
from vsfs.validate import check_geometry

_LOW: Final = 1 << 20  # bytes at the image's start that are searched for the root inode
_FAR_BITMAPS: Final = 256  # lengths of the inode bitmap that are tried beyond those
_MOST_ROOTS: Final = 8
_MOST_CANDIDATES: Final = 400
_SAMPLE: Final = 32  # inodes of the table that are looked at
_TAIL: Final = 4096  # bytes of a bitmap's end that are looked at
#: All block sizes, the usual one first: where two fit equally, the first is taken.
_BLOCK_SIZES: Final = (
    DEFAULT_BLOCK_SIZE,
    *(1 << k for k in range(9, 17) if 1 << k != DEFAULT_BLOCK_SIZE),
)
assert min(_BLOCK_SIZES) == MIN_BLOCK_SIZE
assert max(_BLOCK_SIZES) == MAX_BLOCK_SIZE

# Points.  What a stranger's bytes do not have by chance counts most.
_ROOT_INODE: Final = 8
_ROOT_BLOCK: Final = 6
_OTHER_INODE: Final = 2  # for each, up to _OTHER_INODES
_OTHER_INODES: Final = 4
_BITMAP_END: Final = 3
_SMALL: Final = 1
_AS_MKFS: Final = 1
#: A geometry is believed from here on, and only with one of the first three.
ENOUGH: Final = 10


class Fit(NamedTuple):
    """A geometry, and what of the image agrees with it."""

    geometry: Geometry
    points: int
    is_strong: bool
    is_perfect: bool  # the root inode, its block, and the ends of both bitmaps fit
    evidence: tuple[Evidence, ...]  # the strongest first

    @property
    def is_enough(self) -> bool:
        """Whether to believe it without the superblock's own word."""
        return self.is_strong and self.points >= ENOUGH


class Root(NamedTuple):
    """A root inode found by its checksum; `table` is the byte where its table starts."""

    table: int
    record: InodeRecord


class Search:
    """The candidates for the geometry of the image on `device`, and how each fits."""

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self._at = functools.lru_cache(512)(self._read)

    def _read(self, start: int, size: int) -> bytes:
        """Bytes of the image, fewer at its end."""
        size = min(size, self._device.size - start)
        if size <= 0 or start < 0:
            return b""
        block, offset = divmod(start, self._device.block_size)
        return self._device.read(block, size, offset)

    # -- the root inode -------------------------------------------------------

    @functools.cached_property
    def roots(self) -> list[Root]:
        """Every inode 2 that is a directory and has a right checksum."""
        found = []
        low = self._read(0, _LOW)
        for start in range(2 * SECTOR_SIZE, len(low) - INODE_SIZE + 1, SECTOR_SIZE):
            root = _root_at(low[start : start + INODE_SIZE], start)
            if root is not None:
                found.append(root)
        for table in sorted(_far_tables(self._device.size)):
            start = table + ROOT_INO * INODE_SIZE
            if start >= _LOW:
                root = _root_at(self._read(start, INODE_SIZE), start)
                if root is not None:
                    found.append(root)
        return found[:_MOST_ROOTS]

    def _from_root(self, root: Root) -> Iterator[Geometry]:
        """The geometries that `root` can be part of, if its first block never moved."""
        data_start = root.record.pointers[0]
        for size in _BLOCK_SIZES:
            table, within = divmod(root.table, size)
            blocks = min(self._device.size // size, MAX_BLOCK_COUNT)
            if within or root.record.size % size or not table < data_start < blocks:
                continue
            inodes = (data_start - table) * (size // INODE_SIZE)
            data_bitmap = 1 + ceil_div(inodes, size * 8)
            reach = data_start + (table - data_bitmap) * size * 8
            if inodes < 2**32:
                count = min(blocks, reach)
                yield Geometry(size, count, inodes, 1, data_bitmap, table, data_start)

    # -- candidates -----------------------------------------------------------

    def candidates(self, stored: Geometry) -> list[Geometry]:
        """Geometries worth a look, those nearest to what is `stored` first."""
        bases = [geometry for root in self.roots for geometry in self._from_root(root)]
        bases += self._as_mkfs(stored)
        found: dict[Geometry, None] = {}
        every = itertools.chain([stored], *(_mixed(stored, base) for base in bases))
        for geometry in every:
            if is_possible(geometry):
                found.setdefault(geometry)
            if len(found) >= _MOST_CANDIDATES:
                break
        return list(found)

    def _as_mkfs(self, stored: Geometry) -> Iterator[Geometry]:
        """What mkfs makes for this size, and for the sizes that are stored or seen."""
        for size in _BLOCK_SIZES:
            for count in (self._device.size // size, stored.block_count):
                for inodes in (None, stored.inode_count, self._first_past(size)):
                    try:
                        yield plan(count * size, block_size=size, inode_count=inodes)
                    except ImpossibleSize:
                        continue

    def _first_past(self, block_size: int) -> int:
        """Where the ones at the end of block 1 start: past the last inode, if few are in use."""
        bits = int.from_bytes(self._at(block_size, block_size), "little")
        return (~bits & ((1 << block_size * 8) - 1)).bit_length()

    # -- points ---------------------------------------------------------------

    def fit(self, geometry: Geometry) -> Fit:
        """What of the image agrees with `geometry`, as points and as evidence."""
        inode = list(self._root_inode(geometry))
        block = list(self._root_block(geometry))
        others = list(self._other_inodes(geometry))
        bitmaps = list(self._bitmaps(geometry))
        found = [*inode, *block, *others, *bitmaps]
        points = sum(points for points, _ in found)
        if points and self._is_as_mkfs(geometry):
            points += _AS_MKFS
        if not self._may_have_been_longer(geometry):
            points -= _BITMAP_END + _SMALL
        evidence = tuple(evidence for _, evidence in sorted(found, key=lambda pair: -pair[0]))
        is_strong = bool(inode or block or any(points > _OTHER_INODE for points, _ in others))
        ends = sum(points == _BITMAP_END for points, _ in bitmaps)
        is_perfect = bool(inode and block and ends == 2)
        return Fit(geometry, points, is_strong, is_perfect, evidence)

    def _is_as_mkfs(self, geometry: Geometry) -> bool:
        try:
            return geometry == plan(
                self._device.size,
                block_size=geometry.block_size,
                inode_count=geometry.inode_count,
            )
        except ImpossibleSize:
            return False

    def _may_have_been_longer(self, geometry: Geometry) -> bool:
        """False if it has blocks past the image's end of which no bit is 0."""
        size, start = geometry.block_size, geometry.data_bitmap_start
        first = self._device.size // size - geometry.data_start
        if first >= geometry.data_blocks or first < 0:
            return True
        byte = start * size + first // 8
        tail = self._at(byte, min(geometry.data_blocks // 8 - first // 8 + 1, _TAIL))
        bits = int.from_bytes(tail, "little") >> first % 8
        wanted = (1 << min(len(tail) * 8 - first % 8, geometry.data_blocks - first)) - 1
        return bits & wanted != wanted

    def _inode(self, geometry: Geometry, ino: int) -> InodeRecord | None:
        """An inode with a right checksum; None if it has none."""
        block, offset = geometry.inode_location(ino)
        data = self._at(block * geometry.block_size + offset, INODE_SIZE)
        if len(data) < INODE_SIZE or not any(data):
            return None
        record = decode_inode(data)
        return record if record.checksum == inode_checksum(ino, data) else None

    def root(self, geometry: Geometry) -> InodeRecord | None:
        """The root inode, if its checksum is right there."""
        record = self._inode(geometry, ROOT_INO)
        return record if record is not None and stat.S_ISDIR(record.mode) else None

    def count_zeroes(self, start: int, count: int, block_size: int) -> int:
        """Bits that are 0 among the first `count` of the bitmap at block `start`."""
        zeroes = 0
        for byte in range(0, ceil_div(count, 8), _LOW):
            bits = min(count - byte * 8, _LOW * 8)
            part = self._read(start * block_size + byte, ceil_div(bits, 8))
            used = int.from_bytes(part, "little") & ((1 << bits) - 1)
            zeroes += bits - used.bit_count()
        return zeroes

    def fingerprint(self, geometry: Geometry) -> bytes:
        """Bytes that tell this filesystem from others: the root inode and directory."""
        block, offset = geometry.inode_location(ROOT_INO)
        inode = self._at(block * geometry.block_size + offset, INODE_SIZE)
        return inode + self._at(geometry.data_start * geometry.block_size, SECTOR_SIZE)

    def has_journal(self, geometry: Geometry) -> bool:
        """Whether inode 1 is in use, by a right checksum."""
        record = self._inode(geometry, JOURNAL_INO)
        return record is not None and record.nlink > 0

    def _root_inode(self, geometry: Geometry) -> Iterator[tuple[int, Evidence]]:
        root = self.root(geometry)
        if root is None:
            return
        block, offset = geometry.inode_location(ROOT_INO)
        value = "the root directory, by its checksum, which includes the number"
        yield _ROOT_INODE, Evidence("inode 2", block, offset, value)
        if root.pointers[0] == geometry.data_start:
            value = f"{geometry.data_start}, the first data block"
            yield _SMALL, Evidence("inode 2 field direct[0]", block, offset + 80, value)
        if root.size % geometry.block_size == 0:
            value = f"{root.size}, whole blocks"
            yield _SMALL, Evidence("inode 2 field size", block, offset + 16, value)

    def _root_block(self, geometry: Geometry) -> Iterator[tuple[int, Evidence]]:
        block = geometry.data_start
        if is_root_block(self._at(block * geometry.block_size, SECTOR_SIZE), block):
            value = "a block that starts with `.` and `..` of inode 2"
            yield _ROOT_BLOCK, Evidence("directory data of /", block, 0, value)

    def _other_inodes(self, geometry: Geometry) -> Iterator[tuple[int, Evidence]]:
        last = min(_SAMPLE, geometry.inode_count)
        inos = [ino for ino in range(ROOT_INO + 1, last) if self._inode(geometry, ino)]
        if inos:
            block, offset = geometry.inode_location(inos[0])
            value = f"a table with {len(inos)} inodes whose checksums include their numbers"
            points = _OTHER_INODE * min(len(inos), _OTHER_INODES)
            yield points, Evidence("inode table", block, offset, value)

    def _bitmaps(self, geometry: Geometry) -> Iterator[tuple[int, Evidence]]:
        parts = (
            ("inode", geometry.inode_bitmap_start, geometry.inode_count, 7),
            ("data", geometry.data_bitmap_start, geometry.data_blocks, 1),
        )
        for name, start, count, first in parts:
            head = self._at(start * geometry.block_size, 1)
            if head and head[0] & first == first:
                yield _SMALL, Evidence(f"{name} bitmap", start, 0, f"{head[0]:08b}")
            if self._ends_at(geometry.block_size, start, count):
                block, bit = divmod(count, geometry.bits_per_block)
                value = f"1 from bit {count} on, the first past the end"
                yield _BITMAP_END, Evidence(f"{name} bitmap", start + block, bit // 8, value)

    def _ends_at(self, size: int, start: int, count: int) -> bool:
        """Whether a bitmap's bits from `count` on are 1; False if there are none."""
        if count % (size * 8) == 0:
            return False
        byte = start * size + count // 8
        tail = self._at(byte, min(-byte % size or size, _TAIL))
        past = int.from_bytes(tail, "little") >> count % 8
        return bool(tail) and past.bit_count() == len(tail) * 8 - count % 8


def is_possible(geometry: Geometry) -> bool:
    """Whether the numbers of a geometry agree with each other."""
    try:
        check_geometry(geometry, geometry.block_count * geometry.block_size)
    except Corrupt:
        return False
    return True


def is_root_block(data: bytes, block_no: int) -> bool:
    """Whether a sector starts as the root directory does: `.` and `..` of inode 2."""
    dot, dotdot = record_size(1), record_size(2)
    expected = (
        DirectoryRecord(0, ROOT_INO, dot, DIRECTORY_TYPE, b"."),
        DirectoryRecord(dot, ROOT_INO, dotdot, DIRECTORY_TYPE, b".."),
    )
    if len(data) < SECTOR_SIZE:
        return False
    try:
        first, second = itertools.islice(records(data, block_no), 2)
    except (Corrupt, ValueError):
        return False
    return (first, second._replace(record_length=dotdot)) == expected


def _root_at(data: bytes, start: int) -> Root | None:
    """The root inode, if these 256 bytes from byte `start` are one."""
    mode = int.from_bytes(data[:4], "little")
    if len(data) < INODE_SIZE or not stat.S_ISDIR(mode) or mode > 0o177777:
        return None
    record = decode_inode(data)
    if record.nlink == 0 or record.checksum != inode_checksum(ROOT_INO, data):
        return None
    return Root(start - ROOT_INO * INODE_SIZE, record)


def _far_tables(device_size: int) -> set[int]:
    """The bytes at which inode tables can start in an image made for this size.

    The length of the inode bitmap leaves one or two lengths of the data bitmap,
    so there are few places even in a large image.
    """
    found: set[int] = set()
    for size in _BLOCK_SIZES:
        blocks = min(device_size // size, MAX_BLOCK_COUNT)
        table_step = size * 8 // (size // INODE_SIZE)  # table blocks for one of inode bitmap
        for inode_bitmap in range(1, _FAR_BITMAPS + 1):
            most = blocks - 1 - inode_bitmap - ((inode_bitmap - 1) * table_step + 1)
            if most < 2:
                break
            for rest in (most, max(most - table_step + 1, 2)):
                found.add((1 + inode_bitmap + ceil_div(rest, size * 8 + 1)) * size)
        try:
            found.add(plan(device_size, block_size=size).inode_table_start * size)
        except ImpossibleSize:
            continue
    return found


def _mixed(stored: Geometry, base: Geometry) -> Iterable[Geometry]:
    """`base`, with those of its fields as stored that it only supposes; then the reverse."""
    yield base
    supposed = ("block_count", "inode_count", "inode_bitmap_start", "data_bitmap_start")
    for count in range(1, len(supposed) + 1):
        for names in itertools.combinations(supposed, count):
            yield _with(base, stored, names)
    for name in (*supposed, "block_size", "inode_table_start", "data_start"):
        yield _with(stored, base, (name,))


def _with(geometry: Geometry, other: Geometry, names: Iterable[str]) -> Geometry:
    """`geometry` with these fields of `other`."""
    values = {name: getattr(geometry, name) for name in Geometry.__slots__}
    return Geometry(**values | {name: getattr(other, name) for name in names})
