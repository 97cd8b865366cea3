"""Directory records for the checker: read despite damage, changed in drafts.

:func:`read_sector` is ``layout.records`` for readers who go on behind a broken
record.  A :class:`Draft` is a repair while it is being made up: copies of the
blocks it changes, on which records are removed or added as the filesystem itself
does it, until :meth:`Draft.report` turns the differences into a finding's edits.

A sector whose chain of records is repaired holds its records elsewhere than
before.  If such a repair is declined, nothing more is changed in that sector
(``check.untouchable``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from vsfs.device import Kind
from vsfs.fsck.context import Change, Check, CheckedInode, Entry
from vsfs.fsck.findings import Evidence, Rule, quoted
from vsfs.layout import (
    DIRECTORY_TYPE,
    DOT_SIZE,
    RECORD,
    RECORD_HEADER_SIZE,
    SECTOR_SIZE,
    TYPE_OF_MODE,
    DirectoryRecord,
    InodeRecord,
    fields,
    get_pointers,
    packer,
    put_pointers,
    put_record,
    put_record_ino,
    put_record_length,
    put_record_type,
    record_length,
    record_size,
    record_slack,
)

DOTS: Final = (b".", b"..")
DOTS_END: Final = DOT_SIZE + record_size(2)

_HEADER: Final = packer(RECORD)
_AT: Final = {field.name: field.offset for field in fields(RECORD)}


class Header(NamedTuple):
    """The fixed part of a record, as it stands."""

    ino: int
    length: int
    name_length: int
    file_type: int


def header(data: bytes | bytearray, offset: int) -> Header:
    """The 8 bytes at `offset`, not checked."""
    return Header._make(_HEADER.unpack_from(data, offset))


def name_at(data: bytes | bytearray, offset: int, name_length: int) -> bytes:
    """The name of the record at `offset`."""
    start = offset + RECORD_HEADER_SIZE
    return bytes(data[start : start + name_length])


def is_legal(name: bytes) -> bool:
    """Whether a name has 1 byte or more, none of them `/` or NUL."""
    return bool(name) and b"/" not in name and b"\0" not in name


# -- reading --------------------------------------------------------------------

#: Whether an inode is in use and, with a file type that is not 0, of that type.
IsInUse = Callable[[int, int], bool]


@dataclass(frozen=True, slots=True)
class Gap:
    """A broken record at `start`; the next sound one is at `end`.

    `field` is what is wrong with it; `at` is where that stands.  `kept` is the
    record itself if all but its length makes sense; `lost` is the name that could
    be read of one that does not.
    """

    start: int
    end: int
    field: str
    at: int
    found: str
    expected: str
    kept: DirectoryRecord | None
    lost: bytes | None


def read_sector(
    data: bytes | bytearray, start: int, end: int, is_in_use: IsInUse
) -> tuple[list[DirectoryRecord], Gap | None]:
    """The records, free ones too, from `start` to the sector's end `end`.

    At most one gap is among them: behind it only a chain that reaches the end is
    believed.
    """
    found: list[DirectoryRecord] = []
    gap = None
    at = start
    while at < end:
        if end - at >= RECORD_HEADER_SIZE:
            ino, length, name_length, file_type = _HEADER.unpack_from(data, at)
            needed = record_size(name_length) if ino else RECORD_HEADER_SIZE
            if not length & 3 and needed <= length <= end - at:
                name = name_at(data, at, name_length) if ino else b""
                found.append(DirectoryRecord(at, ino, length, file_type, name))
                at += length
                continue
        gap = _find_gap(data, at, end, is_in_use, found[-1] if found else None)
        if found and gap.start < at:
            found.pop()
        if gap.kept is not None:
            found.append(gap.kept)
        at = gap.end
    return found, gap


def _find_gap(
    data: bytes | bytearray,
    start: int,
    end: int,
    is_in_use: IsInUse,
    before: DirectoryRecord | None,
) -> Gap:
    """What is wrong with the record at `start`, and where the next sound one is.

    Or with the one `before`, if one flipped bit in its length explains it all.
    """
    if before is not None:
        gap = _blame(data, before, end, is_in_use)
        if gap is not None:
            return gap
    if end - start < RECORD_HEADER_SIZE:
        left = f"{end - start} bytes left in the sector"
        expected = f"none, or at least {RECORD_HEADER_SIZE}"
        return Gap(start, end, "record length", start, left, expected, None, None)
    ino, length, name_length, file_type = header(data, start)
    needed = record_size(name_length) if ino else RECORD_HEADER_SIZE
    name = name_at(data, start, name_length) if start + needed <= end else b""
    is_whole = bool(ino) and is_legal(name) and is_in_use(ino, file_type)
    sound, used = _chains(data, start + 4, end, is_in_use)
    own = start + length
    own_is_sound = not length & 3 and length >= 8 and (own == end or own in sound)
    near = [p for p in (*sorted(used), end) if (p - start ^ length).bit_count() == 1]
    exact = [p for p in near if p >= start + needed] if is_whole else []
    if exact:  # one flipped bit explains it
        following = exact[0]
    elif own_is_sound:
        following = own
    else:
        least = start + (needed if is_whole else 4 if before else RECORD_HEADER_SIZE)
        following = min((p for p in used if p >= least), default=end)
    kept = None
    if is_whole and following - start >= needed:
        kept = DirectoryRecord(start, ino, following - start, file_type, name)
    lost = name if kept is None and ino and is_legal(name) else None
    return Gap(
        start,
        following,
        "record length",
        start + _AT["record_length"],
        str(length),
        f"a multiple of 4 from {needed} to {end - start}",
        kept,
        lost,
    )


def _blame(
    data: bytes | bytearray, record: DirectoryRecord, end: int, is_in_use: IsInUse
) -> Gap | None:
    """The gap behind `record` if its length, but for one bit, swallows sound records."""
    least = record_size(len(record.name)) if record.ino else RECORD_HEADER_SIZE
    offset, length = record.offset, record.record_length
    _, used = _chains(data, offset + least, end, is_in_use)
    behind = offset + length
    near = [p for p in used if p < behind and (p - offset ^ length).bit_count() == 1]
    if not near:
        return None
    following = min(near)
    return Gap(
        offset,
        following,
        "record length",
        offset + _AT["record_length"],
        str(length),
        f"{following - offset}, up to the next sound record",
        record._replace(record_length=following - offset),
        None,
    )


def _chains(
    data: bytes | bytearray, start: int, end: int, is_in_use: IsInUse
) -> tuple[set[int], set[int]]:
    """From where on records fill the sector up to `end` exactly: all such places.

    Secondly those from which such a chain has a name of an inode in use.  Found
    from the end backwards, so each place is looked at once.
    """
    sound, used = {end}, set[int]()
    for at in range(end - RECORD_HEADER_SIZE, start - 1, -4):
        ino, length, name_length, _ = _HEADER.unpack_from(data, at)
        if length & 3 or length < RECORD_HEADER_SIZE or at + length not in sound:
            continue
        if ino:
            name = name_at(data, at, name_length)
            if record_size(name_length) > length or not is_legal(name):
                continue
            if is_in_use(ino, 0):
                used.add(at)
        sound.add(at)
        if at + length in used:
            used.add(at)
    sound.discard(end)
    return sound, used


def is_first_block(data: bytes | bytearray, ino: int, parent: int | None = None) -> bool:
    """Whether a block begins as the first one of directory `ino` (below `parent`) does."""
    dot, dotdot = header(data, 0), header(data, DOT_SIZE)
    return (
        dot == (ino, DOT_SIZE, 1, DIRECTORY_TYPE)
        and name_at(data, 0, 1) == DOTS[0]
        and dotdot[2:] == (2, DIRECTORY_TYPE)
        and name_at(data, DOT_SIZE, 2) == DOTS[1]
        and dotdot_fits(dotdot.length)
        and parent in (None, dotdot.ino)
    )


def dotdot_fits(length: int) -> bool:
    """Whether `..` can have this length."""
    return not length & 3 and record_size(2) <= length <= SECTOR_SIZE - DOT_SIZE


def _any(_ino: int, _file_type: int) -> bool:
    return True


# -- names ----------------------------------------------------------------------


class Names:
    """The names of a directory, to find unused ones like another.

    Each number is tried once for names alike, so that a directory full of one
    name takes no longer than another.
    """

    def __init__(self, entries: list[Entry]) -> None:
        self.taken = {entry.name for entry in entries}
        self._next: dict[tuple[bytes, int], itertools.count[int]] = {}

    def take(self, wanted: bytes) -> bytes | None:
        """`wanted` itself or a name of the same length like it, from now on taken.

        None if all of that length are taken, or nearly all.
        """
        name = wanted if wanted not in self.taken else self._unused(wanted)
        if name is not None:
            self.taken.add(name)
        return name

    def unused(self, wanted: bytes) -> bytes:
        """`wanted` itself, or else with the lowest number behind it that makes it new."""
        numbered = (b"%s~%d" % (wanted, number) for number in itertools.count(1))
        return next(n for n in itertools.chain([wanted], numbered) if n not in self.taken)

    def _unused(self, wanted: bytes) -> bytes | None:
        length = len(wanted)
        key = (wanted[: max(length - 8, 0)], length)
        for number in self._next.setdefault(key, itertools.count(1)):
            tail = b"~%d" % number
            if len(tail) > min(length, 8):
                break
            name = wanted[: length - len(tail)] + tail
            if name not in self.taken:
                return name
        for byte in range(0x21, 0x7F):  # for names of one or two bytes
            name = wanted[:-1] + bytes([byte])
            if name not in self.taken and is_legal(name):
                return name
        return None


# -- changing -------------------------------------------------------------------


class Draft:
    """A repair in the making: blocks and inodes as they shall be.

    `then` is what follows in the model when it is accepted; blocks taken for it
    are given back when it is not.
    """

    def __init__(self, check: Check) -> None:
        self.check = check
        self.is_blocked = False  # it would change an untouchable sector
        self.then: list[Callable[[], None]] = []
        self._blocks: dict[int, bytearray] = {}
        self._kinds: dict[int, Kind] = {}
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        self._inodes: dict[int, tuple[CheckedInode, dict[str, Any]]] = {}
        self._taken: list[int] = []
        self._inos: list[int] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was changed on it."""
        return not self._ranges and not self._inodes

    # -- blocks

    def block(self, block_no: int) -> bytearray:
        """A copy of the block with the draft's changes; change it by the methods."""
        found = self._blocks.get(block_no)
        if found is None:
            found = self._blocks[block_no] = bytearray(self.check.overlay.block(block_no))
        return found

    def _note(self, block_no: int, offset: int, size: int, kind: Kind = Kind.DIRECTORY) -> bool:
        """Note that bytes are about to change; whether they may."""
        sector = offset - offset % SECTOR_SIZE
        if (block_no, sector) in self.check.untouchable:
            self.is_blocked = True
            return False
        self._kinds[block_no] = kind
        self._ranges.setdefault(block_no, []).append((offset, offset + size))
        return True

    def put_block(self, block_no: int, content: bytes | bytearray, kind: Kind) -> None:
        """Give a new block its contents."""
        self._note(block_no, 0, len(content), kind)
        self._blocks[block_no] = bytearray(content)

    def put_pointer(self, block_no: int, index: int, pointer: int) -> None:
        """Set pointer number `index` of an indirect block."""
        self._note(block_no, index * 4, 4, Kind.INDIRECT)
        put_pointers(self.block(block_no), index, (pointer,))

    def put_ino(self, block_no: int, offset: int, ino: int) -> None:
        """Let a record name another inode; 0 frees it."""
        if self._note(block_no, offset + _AT["inode"], 4):
            put_record_ino(self.block(block_no), offset, ino)

    def put_length(self, block_no: int, offset: int, length: int) -> None:
        """Give a record another length."""
        if self._note(block_no, offset + _AT["record_length"], 2):
            put_record_length(self.block(block_no), offset, length)

    def put_type(self, block_no: int, offset: int, file_type: int) -> None:
        """Give a record another file type."""
        if self._note(block_no, offset + _AT["file_type"], 1):
            put_record_type(self.block(block_no), offset, file_type)

    def put_name(self, block_no: int, offset: int, name: bytes) -> None:
        """Give a record another name of the same length."""
        start = offset + _AT["name"]
        if self._note(block_no, start, len(name)):
            self.block(block_no)[start : start + len(name)] = name

    def put_record(self, block_no: int, record: DirectoryRecord) -> None:
        """Write a whole record, over whatever is there."""
        if self._note(block_no, record.offset, RECORD_HEADER_SIZE + len(record.name)):
            put_record(self.block(block_no), record.offset, record)

    def remove(self, entry: Entry) -> None:
        """Take a record out: it joins the one before it in the sector, or is free."""
        block_no, offset = entry.block_no, entry.offset
        data, at = self.block(block_no), offset - offset % SECTOR_SIZE
        while at < offset:
            length = record_length(data, at)
            if at + length == offset:
                self.put_length(block_no, at, length + record_length(data, offset))
                return
            at += length or SECTOR_SIZE  # a broken chain does not lead there
        self.put_ino(block_no, offset, 0)

    def find_slack(self, block_no: int, sector: int, needed: int) -> int | None:
        """The record in a sector with `needed` bytes to spare behind it; None without."""
        if (block_no, sector) in self.check.untouchable:
            return None
        data = self.block(block_no)
        found, gap = read_sector(data, sector, sector + SECTOR_SIZE, _any)
        if gap is not None:
            return None
        return next((record.offset for record in found if record.slack >= needed), None)

    def add(self, block_no: int, at: int, ino: int, file_type: int, name: bytes) -> Entry:
        """Put a new record into the slack of the record at `at`."""
        data = self.block(block_no)
        length, slack = record_length(data, at), record_slack(data, at)
        if slack < length:
            self.put_length(block_no, at, length - slack)
        offset = at + length - slack
        self.put_record(block_no, DirectoryRecord(offset, ino, slack, file_type, name))
        return Entry(block_no, offset, ino, file_type, name)

    # -- inodes and space

    def record(self, inode: CheckedInode) -> InodeRecord:
        """The inode's fields with the draft's changes."""
        return inode.record._replace(**self._inodes.get(inode.ino, (inode, {}))[1])

    def set(self, inode: CheckedInode, **new: Any) -> None:
        """Give fields of an inode new values."""
        self._inodes.setdefault(inode.ino, (inode, {}))[1].update(new)

    def add_link(self, inode: CheckedInode) -> None:
        """One link more."""
        self.set(inode, nlink=min(self.record(inode).nlink + 1, 2**32 - 1))

    def take_block(self) -> int | None:
        """A free block for the repair; None if there is none."""
        block_no = self.check.allocate_block()
        if block_no is not None:
            self._taken.append(block_no)
        return block_no

    def take_ino(self) -> int | None:
        """A free inode for the repair; None if there is none."""
        ino = self.check.allocate_ino()
        if ino is not None:
            self._inos.append(ino)
        return ino

    def append_block(self, inode: CheckedInode, block_no: int) -> bool:
        """Make a block the last one of a directory, with indirect blocks as needed.

        Returns False if there is no block for those, or no pointer.
        """
        per_block = self.check.geometry.pointers_per_block
        record = self.record(inode)
        pointers, index, new = list(record.pointers), len(inode.blocks), 1
        direct = len(pointers) - 3
        if index < direct:
            pointers[index] = block_no
        else:
            index -= direct
            level = 1
            while level < 4 and index >= per_block**level:
                index -= per_block**level
                level += 1
            if level == 4:
                return False
            steps = [index // per_block**power % per_block for power in range(level - 1, -1, -1)]
            at = pointers[direct + level - 1]
            if not at:
                top = self._new_indirect()
                if top is None:
                    return False
                at = pointers[direct + level - 1] = top
                new += 1
            for step in steps[:-1]:
                (following,) = get_pointers(self.block(at), step, 1)
                if not following:
                    made = self._new_indirect()
                    if made is None:
                        return False
                    self.put_pointer(at, step, made)
                    following = made
                    new += 1
                at = following
            self.put_pointer(at, steps[-1], block_no)
        size = record.size + self.check.geometry.block_size
        self.set(inode, pointers=tuple(pointers), size=size, blocks=record.blocks + new)
        return True

    def _new_indirect(self) -> int | None:
        block_no = self.take_block()
        if block_no is not None:
            self.put_block(block_no, bytes(self.check.geometry.block_size), Kind.INDIRECT)
        return block_no

    # -- the finding

    def changes(self) -> list[Change]:
        """All that differs from the image: ranges of bytes, and fields of inodes."""
        made: list[Change] = []
        for block_no, ranges in self._ranges.items():
            data, kind = self._blocks[block_no], self._kinds[block_no]
            for start, end in _joined(sorted(ranges)):
                made.append(Change(block_no, start, bytes(data[start:end]), kind))
        for inode, new in self._inodes.values():
            made += self.check.inode_changes(inode, **new)
        return made

    def report(
        self,
        rule: Rule,
        problem: str,
        *,
        found: Evidence,
        expected: Evidence,
        repair: str,
        lost: str | None = None,
        ino: int | None = None,
        can_repair: bool = True,
    ) -> bool:
        """Report the finding that the draft repairs; whether it was accepted."""
        can_repair = can_repair and not self.is_blocked
        accepted = self.check.report(
            rule,
            problem,
            found=found,
            expected=expected,
            repair=repair,
            changes=self.changes() if can_repair else (),
            lost=lost,
            ino=ino,
            can_repair=can_repair,
        )
        if not accepted:
            self.drop()
            return False
        for inode, new in self._inodes.values():
            inode.record = inode.record._replace(**new)
        for step in self.then:
            step()
        return True

    def drop(self) -> None:
        """Give back what was taken for it."""
        for block_no in self._taken:
            self.check.give_back_block(block_no)
        for ino in self._inos:
            self.check.give_back_ino(ino)
        self._taken.clear()
        self._inos.clear()


def _joined(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sorted ranges (start, end) with those that overlap made one."""
    start, end = ranges[0]
    for following in ranges[1:]:
        if following[0] >= end:
            yield start, end
            start, end = following
        end = max(end, following[1])
    yield start, end


# -- evidence --------------------------------------------------------------------


def entry_evidence(directory: int, entry: Entry, field: str, value: object) -> Evidence:
    """A field of a directory record as evidence."""
    what = f"directory inode {directory}, entry {quoted(entry.name)}, {field}"
    return Evidence(what, entry.block_no, entry.offset + _AT[field], str(value))


def type_code(mode: int) -> int:
    """The type code in directory records for a mode; 0 for an impossible one."""
    return TYPE_OF_MODE.get(mode & 0o170000, 0)
