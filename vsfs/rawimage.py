"""An image as its bytes stand, for those who look at it and change nothing.

A :class:`~vsfs.volume.Volume` refuses what is damaged, rightly: it would write
there.  Who wants to *see* damage needs the opposite, so this reader goes by the
layout alone, shows what it can, and raises :class:`~vsfs.errors.Corrupt` only
for the one structure that was asked for.

The usual sequence::

    image = RawImage(device)                      # the superblock, checked
    ino = image.resolve(b"/foo/bar")
    record = image.inode(ino)                     # an inode, checked
    for piece in image.pieces(ino, record): ...   # where its bytes are

Nothing read from the image is trusted, and work is bounded by the image's size:
an inode's blocks by its `blocks` field, and an indirect block is followed from
one place only, however many pointers lead to it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from errno import EINVAL, ENOENT
from typing import Final, NamedTuple

from vsfs.device import BlockDevice, Kind
from vsfs.errors import Corrupt, VsfsError
from vsfs.journal import Journal
from vsfs.layout import (
    DIRECT_POINTERS,
    FEATURE_COMPAT_JOURNAL,
    INDIRECT_LEVELS,
    INLINE_SIZE,
    INODE_SIZE,
    JOURNAL_INO,
    ROOT_INO,
    SECTOR_SIZE,
    STATE_CLEAN,
    SUPERBLOCK_SIZE,
    DirectoryRecord,
    Geometry,
    InodeRecord,
    Superblock,
    ceil_div,
    decode_inode,
    decode_superblock,
    encode_inode,
    encode_superblock,
    get_pointers,
    records,
)
from vsfs.validate import check_inode, check_superblock
from vsfs.words import counted

_CACHED_BLOCKS: Final = 128  # 8 MiB of the largest blocks
_CHUNK: Final = 1 << 20  # bytes of a file read at a time
MAX_LINKS: Final = 40  # symbolic links on one path, as in Linux
_NO_CHILD: Final = (0, b"", 0, True)  # behind the last of _children
_MAX_TARGET: Final = 4096  # bytes of a link's target that are read (PATH_MAX)
_MAX_DEPTH: Final = 2048  # components of the longest path of 4096 bytes
_ONES: Final = re.compile("1+")


class NotThere(VsfsError):
    """ENOENT: the image has no such inode, block or path."""

    code = ENOENT


class WrongType(VsfsError):
    """EINVAL: inode `ino` is of a type that does not have what was asked for."""

    code = EINVAL

    def __init__(self, ino: int, message: str) -> None:
        super().__init__(message)
        self.ino = ino


@dataclass(slots=True)
class Piece:
    """`count` blocks in a row of one file, on the disk from `block_no` on.

    `level` 0 is file data from file block `file_block` on, and `block_no` 0 then
    a hole.  Level 1 to 3 is an indirect block with so many levels of pointers
    below it, the first of which leads to `file_block`.  `slot` is the pointer of
    the inode that leads there: 0 to 11 direct, 12 to 14 single to triple.
    """

    level: int
    slot: int
    file_block: int
    block_no: int
    count: int


class Sector(NamedTuple):
    """512 bytes of a directory, or a hole in one (`block_no` 0).

    `damage` says why the records end early; None if they fill the sector.
    """

    file_block: int
    block_no: int
    offset: int
    records: tuple[DirectoryRecord, ...]
    damage: str | None


class Node(NamedTuple):
    """A name in the tree, in the order of a walk that goes into directories first.

    `is_last` tells the last name of its directory; `record` is None where it
    cannot be read, and `damage` says why.  What has damage may still have both.
    """

    depth: int
    parent: int
    name: bytes
    ino: int
    is_last: bool
    record: InodeRecord | None
    damage: str | None


class RawImage:
    """The structures of the image on `device`, read when asked for.

    `superblock` and `geometry` are as in :class:`~vsfs.volume.Volume`.  `damage`
    says what else is wrong with a superblock whose geometry can be used.
    """

    def __init__(self, device: BlockDevice) -> None:
        """Read the superblock.

        Raises NotVsfs (EINVAL), UnknownFeature (EOPNOTSUPP), or Corrupt (EUCLEAN)
        if not even the geometry makes sense.
        """
        head = device.read(0, min(SUPERBLOCK_SIZE, device.size), 0, Kind.SUPERBLOCK)
        self.device = device
        self.damage: str | None = None
        try:
            self.superblock = check_superblock(head, device.size)
        except Corrupt as error:
            self.superblock = decode_superblock(head)
            _require_geometry(self.superblock, device.size)
            self.damage = str(error)
        self.geometry: Geometry = self.superblock.geometry
        device.block_size = self.geometry.block_size
        self.block: Callable[[int], bytes] = functools.lru_cache(_CACHED_BLOCKS)(self._read)
        #: Indirect block -> the one place (inode, level, file block) it is followed from.
        self._claims: dict[int, tuple[int, int, int]] = {}
        #: Inode -> a directory and a name there that are known without a walk.
        self._known: dict[int, tuple[int, bytes]] = {}

    def apart(self) -> RawImage:
        """The same image, in which every indirect block may be followed from anywhere again.

        For inodes that are free: what they once had may be another's now.
        """
        twin = copy.copy(self)
        twin._claims = {}
        return twin

    def _read(self, block_no: int) -> bytes:
        """The bytes of a block, from memory if it was read lately."""
        if not 0 <= block_no < self.geometry.block_count:
            last = self.geometry.block_count - 1
            raise NotThere(f"there is no block {block_no}: the image has blocks 0 to {last}")
        return self.device.read(block_no, self.geometry.block_size)

    @functools.cached_property
    def journal(self) -> Journal | None:
        """The journal, if there is one; raises Corrupt (EUCLEAN) if it cannot be followed."""
        if not self.superblock.feature_compat & FEATURE_COMPAT_JOURNAL:
            return None
        return Journal(self.device, self.geometry)

    # -- bitmaps --------------------------------------------------------------

    def inode_in_use(self, ino: int) -> bool:
        """Whether the bit of inode `ino` is 1."""
        block, byte, bit = self.geometry.inode_bit(ino)
        return bool(self.block(block)[byte] >> bit & 1)

    def block_in_use(self, block_no: int) -> bool:
        """Whether the bit of data block `block_no` is 1; other blocks always are."""
        if not self.geometry.is_data_block(block_no):
            return True
        block, byte, bit = self.geometry.data_bit(block_no)
        return bool(self.block(block)[byte] >> bit & 1)

    def count_ones(self, start: int, first: int, count: int) -> int:
        """The bits that are 1 among `count` from bit `first` on.

        `start` is the bitmap's first block.
        """
        per_block, ones = self.geometry.bits_per_block, 0
        while count:
            block, bit = divmod(first, per_block)
            part = min(count, per_block - bit)
            low, high = bit // 8, ceil_div(bit + part, 8)
            window = int.from_bytes(self.block(start + block)[low:high], "little") >> bit % 8
            ones += (window & ((1 << part) - 1)).bit_count()
            first, count = first + part, count - part
        return ones

    def runs_of_ones(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        """Runs (first bit, how many) of ones among the `count` bits of a bitmap."""
        per_block = self.geometry.bits_per_block
        run_first = run_count = 0
        for block in range(ceil_div(count, per_block)):
            bits = bin(int.from_bytes(self.block(start + block), "little") | 1 << per_block)
            valid = min(count - block * per_block, per_block)
            for match in _ONES.finditer(bits[:2:-1], 0, valid):  # bit 0 first
                first = block * per_block + match.start()
                if first != run_first + run_count and run_count:
                    yield run_first, run_count
                    run_count = 0
                run_first = run_first if run_count else first
                run_count += len(match[0])
        if run_count:
            yield run_first, run_count

    def inodes_in_use(self) -> Iterator[int]:
        """Every inode number whose bit is 1, reserved ones too."""
        geometry = self.geometry
        for first, count in self.runs_of_ones(geometry.inode_bitmap_start, geometry.inode_count):
            yield from range(first, first + count)

    # -- inodes ---------------------------------------------------------------

    def inode_bytes(self, ino: int) -> bytes:
        """The 256 bytes of inode `ino`; raises NotThere (ENOENT) past the last."""
        if not 0 <= ino < self.geometry.inode_count:
            last = self.geometry.inode_count - 1
            raise NotThere(f"there is no inode {ino}: the image has inodes 0 to {last}")
        block, offset = self.geometry.inode_location(ino)
        return self.block(block)[offset : offset + INODE_SIZE]

    def inode(self, ino: int) -> InodeRecord:
        """Inode `ino`, in use or free, with numbers that can be followed.

        A wrong checksum alone does not matter here, so that one flipped bit hides
        nothing; :meth:`inode_damage` tells.  Raises Corrupt (EUCLEAN), NotThere
        (ENOENT).
        """
        data = self.inode_bytes(ino)
        with contextlib.suppress(Corrupt):
            record = check_inode(ino, data, self.geometry)
            if record.nlink:
                return record  # the usual case: nothing is wrong with it
        record = decode_inode(data)
        if any(data):  # a free one (nlink 0) is checked like one in use
            sealed = encode_inode(ino, record._replace(nlink=max(record.nlink, 1)))
            check_inode(ino, sealed, self.geometry)
        return record

    def inode_damage(self, ino: int) -> str | None:
        """What is wrong with inode `ino`, its checksum and its bit included."""
        data = self.inode_bytes(ino)
        try:
            self.inode(ino)
            record = check_inode(ino, data, self.geometry)
        except Corrupt as error:
            return str(error)
        if not self.inode_in_use(ino):
            if record.nlink:
                links = counted(record.nlink, "link")
                return f"its bit in the inode bitmap is 0, but it has {links}"
        elif not any(data) and ino > JOURNAL_INO:
            return "its bit in the inode bitmap is 1, but its record was never used"
        return None

    def pieces(self, ino: int, record: InodeRecord) -> Iterator[Piece]:
        """All blocks of a checked inode, and its holes, in file order.

        An indirect block comes before what it points to; the attribute block is
        not among them.  Raises Corrupt (EUCLEAN) on the way.
        """
        end = ceil_div(_content_size(record), self.geometry.block_size)
        found = 1 if record.attribute_block else 0
        for piece in _joined(self._all_pieces(ino, record.pointers), end):
            if piece.block_no:
                found += piece.count
            if found > record.blocks:
                raise self._bad_count(ino, record, "at least", found)
            yield piece
        if found != record.blocks:
            raise self._bad_count(ino, record, "exactly", found)

    def _bad_count(self, ino: int, record: InodeRecord, word: str, found: int) -> Corrupt:
        block, offset = self.geometry.inode_location(ino)
        expected = f"{word} {found}, since its pointers reach so many"
        return Corrupt(f"inode {ino} field blocks", block, offset, str(record.blocks), expected)

    def _all_pieces(self, ino: int, pointers: tuple[int, ...]) -> Iterator[Piece]:
        used = next((slot for slot in range(len(pointers), 0, -1) if pointers[slot - 1]), 0)
        for slot in range(min(used, DIRECT_POINTERS)):
            yield Piece(0, slot, slot, pointers[slot], 1)
        if used <= DIRECT_POINTERS:  # the usual case: nothing behind, which is one hole
            slot = min(used, DIRECT_POINTERS)
            yield Piece(0, slot, slot, 0, self.geometry.max_file_blocks - slot)
            return
        first = DIRECT_POINTERS
        for level in range(1, INDIRECT_LEVELS + 1):
            top = Piece(level, DIRECT_POINTERS + level - 1, first, 0, 1)
            yield from self._below(ino, top, pointers[top.slot])
            first += self.geometry.pointers_per_block**level

    def _below(self, ino: int, place: Piece, pointer: int) -> Iterator[Piece]:
        """What `pointer` leads to, at the level and file block of `place`."""
        per_block, level = self.geometry.pointers_per_block, place.level
        if not pointer:  # a hole, of all that could be below
            yield Piece(0, place.slot, place.file_block, 0, per_block**level)
            return
        self._claim(pointer, (ino, level, place.file_block))
        yield replace(place, block_no=pointer)
        below = self._pointers(ino, pointer)
        if level == 1:
            yield from _leaf_pieces(below, replace(place, level=0))
            return
        for index, block_no in enumerate(below):
            at = place.file_block + index * per_block ** (level - 1)
            yield from self._below(ino, replace(place, level=level - 1, file_block=at), block_no)

    def _claim(self, block_no: int, place: tuple[int, int, int]) -> None:
        """Raise Corrupt if the indirect block was followed from another place."""
        other = self._claims.setdefault(block_no, place)
        if other != place:
            raise Corrupt(
                f"indirect block {block_no} of inode {place[0]}",
                block_no,
                0,
                f"a block that inode {other[0]} has as indirect block for file block {other[2]}",
                "a block of its own",
            )

    def _pointers(self, ino: int, block_no: int) -> tuple[int, ...]:
        """The checked pointers of an indirect block."""
        pointers = get_pointers(self.block(block_no), 0, self.geometry.pointers_per_block)
        start, end = self.geometry.data_start, self.geometry.block_count
        if max(pointers) < end and min(filter(None, pointers), default=start) >= start:
            return pointers  # the usual case, at C's speed
        for index, pointer in enumerate(pointers):
            if pointer and not start <= pointer < end:
                raise Corrupt(
                    f"pointer {index} of an indirect block of inode {ino}",
                    block_no,
                    index * 4,
                    str(pointer),
                    f"0 or a block from {start} to {end - 1}",
                )
        return pointers

    def content(self, ino: int, record: InodeRecord) -> Iterator[bytes]:
        """The bytes of a file or link, at most 1 MiB at a time; holes as zeroes.

        Raises Corrupt (EUCLEAN) on the way.
        """
        size, block_size = record.size, self.geometry.block_size
        if stat.S_ISLNK(record.mode) and size <= INLINE_SIZE:
            yield record.inline[:size]
            return
        for piece in self.pieces(ino, record):
            if piece.level:
                continue
            start = piece.file_block * block_size
            end = min(start + piece.count * block_size, size)
            for at in range(start, end, _CHUNK):
                part = min(_CHUNK, end - at)
                if not piece.block_no:
                    yield bytes(part)
                else:
                    yield self.device.read(piece.block_no, part, at - start, Kind.DATA, ino)

    def target(self, ino: int, record: InodeRecord) -> bytes:
        """What a symbolic link names, cut off at 4096 bytes; raises Corrupt."""
        found = b""
        for part in self.content(ino, record):
            found += part
            if len(found) >= _MAX_TARGET:
                break
        return found[:_MAX_TARGET]

    # -- directories ----------------------------------------------------------

    def sectors(self, ino: int, record: InodeRecord) -> Iterator[Sector]:
        """The sectors of a directory in file order; a damaged one says so itself.

        Raises Corrupt (EUCLEAN) where its blocks cannot be found.
        """
        blocks = record.size // self.geometry.block_size
        seen: set[int] = set()  # no block twice, so that work is bounded by the image's bytes
        for piece in self.pieces(ino, record):
            if piece.level or piece.file_block >= blocks:
                continue
            if not piece.block_no:
                are = "is" if piece.count == 1 else "are"
                damage = f"{counted(piece.count, 'block')} of the directory {are} a hole"
                yield Sector(piece.file_block, 0, 0, (), damage)
                continue
            for index in range(min(piece.count, blocks - piece.file_block)):
                file_block, block_no = piece.file_block + index, piece.block_no + index
                if block_no in seen:
                    damage = f"block {block_no} is in the directory a second time"
                    yield Sector(file_block, block_no, 0, (), damage)
                else:
                    seen.add(block_no)
                    yield from self._sectors_of(file_block, block_no)

    def _sectors_of(self, file_block: int, block_no: int) -> Iterator[Sector]:
        data = self.block(block_no)
        for offset in range(0, len(data), SECTOR_SIZE):
            found, damage = sector_records(data, block_no, offset)
            yield Sector(file_block, block_no, offset, found, damage)

    def names(self, ino: int, record: InodeRecord) -> tuple[dict[bytes, int], str | None]:
        """Names of a directory -> inode numbers, and the first damage met."""
        found: dict[bytes, int] = {}
        damage = None
        try:
            for sector in self.sectors(ino, record):
                damage = damage or sector.damage
                for entry in sector.records:
                    if entry.ino:
                        found.setdefault(entry.name, entry.ino)
        except Corrupt as error:
            damage = damage or str(error)
        return found, damage

    def resolve(self, path: bytes, *, follow: bool = False) -> int:
        """The inode number of an absolute `path`, regardless of permissions.

        Symbolic links on the way are followed, the last one only with `follow`.
        Raises NotThere (ENOENT), Corrupt (EUCLEAN).
        """
        todo, current, links = split_path(path), ROOT_INO, 0
        while todo:
            ino = self._step(current, todo.pop(), path)
            if not (todo or follow):
                return ino  # damaged or not
            record = self.inode(ino)
            if not stat.S_ISLNK(record.mode):
                current = ino
                continue
            links += 1
            if links > MAX_LINKS:
                raise NotThere(f"{shown(path)} leads through more than {MAX_LINKS} symbolic links")
            target = self.target(ino, record)
            todo += split_path(target)
            if target.startswith(b"/"):
                current = ROOT_INO
        return current

    def _step(self, ino: int, name: bytes, path: bytes) -> int:
        """The inode that directory `ino` has as `name`, on the way along `path`."""
        record = self.inode(ino)
        if not stat.S_ISDIR(record.mode):
            raise NotThere(f"{shown(path)} leads through inode {ino}, which is no directory")
        names, damage = self.names(ino, record)
        if name in names:
            self.remember(ino, name, names[name])
            return names[name]
        if damage:
            raise NotThere(f"{shown(path)} is not found, and directory {ino} is damaged: {damage}")
        raise NotThere(f"there is no {shown(path)} in the image")

    def tree(self) -> Iterator[Node]:
        """Every name that can be reached from the root, going into directories first.

        The root itself comes first, as "/".  No directory is entered twice.
        """
        entered: set[int] = set()
        stack = [iter([(0, b"/", ROOT_INO, True)])]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                continue
            parent, name, ino, is_last = following
            record, damage = self._named(ino)
            names: dict[bytes, int] = {}
            if record is not None and stat.S_ISDIR(record.mode):
                if ino in entered:
                    damage = "a second name for this directory"
                else:
                    entered.add(ino)
                    names, damage_below = self.names(ino, record)
                    damage = damage or damage_below
            yield Node(len(stack) - 1, parent, name, ino, is_last, record, damage)
            stack.append(_children(ino, names))

    def _named(self, ino: int) -> tuple[InodeRecord | None, str | None]:
        """The inode that a name stands for; None, and why, if there is none."""
        try:
            record = self.inode(ino)
        except (Corrupt, NotThere) as error:
            return None, str(error)
        if not record.nlink:
            return None, "a name for an inode that is free"
        return record, self.inode_damage(ino)

    @functools.cached_property
    def places(self) -> dict[int, tuple[int, bytes]]:
        """For each inode with a name: its directory and its name there.

        Of a file with several names, the first one met on a walk of the tree; unlike
        :meth:`tree`, it looks at each inode once, and for nothing but its type.
        """
        found: dict[int, tuple[int, bytes]] = {}
        stack = [iter([(0, b"/", ROOT_INO, True)])]
        while stack:
            parent, name, ino, _ = next(stack[-1], _NO_CHILD)
            if not ino:
                stack.pop()
            elif ino not in found:
                found[ino] = parent, name
                stack.append(_children(ino, self._names_below(ino)))
        return found

    def _names_below(self, ino: int) -> dict[bytes, int]:
        """The names in inode `ino`, none if it is no directory or cannot be read."""
        with contextlib.suppress(Corrupt, NotThere):
            record = self.inode(ino)
            if record.nlink and stat.S_ISDIR(record.mode):
                return self.names(ino, record)[0]
        return {}

    def remember(self, directory: int, name: bytes, ino: int) -> None:
        """Note that `directory` has inode `ino` as `name`, which spares a walk for its path."""
        if name not in (b".", b".."):
            self._known.setdefault(ino, (directory, name))

    def path(self, ino: int) -> bytes | None:
        """A path of inode `ino`, the one it was resolved by if it was; None if it has none."""
        found = self._climb(ino, self._known)
        return self._climb(ino, self.places) if found is None else found

    def _climb(self, ino: int, places: dict[int, tuple[int, bytes]]) -> bytes | None:
        """The path that `places` give, from the inode up to the root."""
        names: list[bytes] = []
        while ino != ROOT_INO:
            if ino not in places or len(names) > _MAX_DEPTH:
                return None
            ino, name = places[ino]
            names.append(name)
        return b"/" + b"/".join(reversed(names))


def sector_records(
    data: bytes, block_no: int, offset: int
) -> tuple[tuple[DirectoryRecord, ...], str | None]:
    """The records of the directory sector at `offset` of a block.

    Up to the first that breaks a rule, which is then the second value.
    """
    found: list[DirectoryRecord] = []
    try:
        found.extend(records(data[: offset + SECTOR_SIZE], block_no, offset))
    except Corrupt as error:
        return tuple(found), str(error)
    return tuple(found), None


def shown(name: bytes) -> str:
    r"""A name or path as text; bytes that are not UTF-8 become \x escapes."""
    return name.decode("utf-8", "backslashreplace")


def _children(ino: int, names: dict[bytes, int]) -> Iterator[tuple[int, bytes, int, bool]]:
    """(directory, name, inode, whether it is the last) without `.` and `..`."""
    kept = [(name, child) for name, child in names.items() if name not in (b".", b"..")]
    for index, (name, child) in enumerate(kept, 1):
        yield ino, name, child, index == len(kept)


def split_path(path: bytes) -> list[bytes]:
    """The components of a path, last one first, so that pop() walks it."""
    return [name for name in reversed(path.split(b"/")) if name]


def _require_geometry(superblock: Superblock, device_size: int) -> None:
    """Raise Corrupt unless regions and sizes make sense, whatever else is wrong."""
    sound = superblock._replace(
        inode_size=INODE_SIZE, free_block_count=0, free_inode_count=0, state=STATE_CLEAN
    )
    check_superblock(encode_superblock(sound), device_size)


def _content_size(record: InodeRecord) -> int:
    """Bytes of an inode's contents that are in blocks."""
    kind = stat.S_IFMT(record.mode)
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        return record.size
    if kind == stat.S_IFLNK and record.size > INLINE_SIZE:
        return record.size
    return 0


def _leaf_pieces(pointers: tuple[int, ...], place: Piece) -> Iterator[Piece]:
    """The data pieces of an indirect block whose first pointer is for `place`."""
    start, count = pointers[0], len(pointers)
    if not any(pointers) or (start and pointers == tuple(range(start, start + count))):
        yield replace(place, block_no=start, count=count)  # the usual case, at C's speed
        return
    for file_block, block_no in enumerate(pointers, place.file_block):
        yield Piece(0, place.slot, file_block, block_no, 1)


def _joined(pieces: Iterable[Piece], end: int) -> Iterator[Piece]:
    """Join neighbours into one piece, and cut holes off at file block `end`."""
    last: Piece | None = None
    for piece in pieces:
        if not piece.block_no:
            if piece.file_block >= end:
                continue
            piece.count = min(piece.count, end - piece.file_block)
        if last is not None and _continues(last, piece):
            last.count += piece.count
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last


def _continues(last: Piece, piece: Piece) -> bool:
    """Whether `piece` lies behind `last` in the file and on the disk."""
    if last.level or piece.level or last.file_block + last.count != piece.file_block:
        return False
    if not last.block_no or not piece.block_no:
        return last.block_no == piece.block_no
    same_pointer = last.slot == piece.slot or piece.slot < DIRECT_POINTERS
    return same_pointer and last.block_no + last.count == piece.block_no
