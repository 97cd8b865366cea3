"""What the passes share: the image, what is known of it so far, and how to report.

A pass finds that a rule is broken and calls :meth:`Check.report` with the changes
that would repair it.  Whether they are made is decided by the caller of the
check, finding by finding; either way the pass goes on *as if* they were, so that
one fault is told once and not again in each place that follows from it.

``inodes`` holds every inode in use as the first passes left it, ``blocks`` the
data blocks those own.  Both follow what the inodes say: bitmaps are only compared
with them at the end (OSTEP 42.2).

What a repair itself does to the bitmaps belongs to that repair.  The bits of blocks
and inodes that it takes (:meth:`Check.take_block`, :meth:`Check.take_ino`) are set
by the next finding, and so is the bit cleared of an inode that it frees.  The bits
of blocks that it frees (:meth:`Check.release_block`) wait for pass 5, which alone
knows that nobody else owns them, and are no findings there.
"""

from __future__ import annotations

import contextlib
import itertools
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from vsfs.device import Kind
from vsfs.errors import VsfsError
from vsfs.fsck.findings import Edit, Evidence, Finding, Rule, printable
from vsfs.fsck.overlay import Overlay
from vsfs.fsck.usage import Usage
from vsfs.layout import (
    FEATURE_COMPAT_JOURNAL,
    INODE,
    INODE_SIZE,
    RESERVED_INODES,
    ROOT_INO,
    SUPERBLOCK,
    SUPERBLOCK_SIZE,
    TYPE_OF_MODE,
    Geometry,
    InodeRecord,
    Superblock,
    ceil_div,
    decode_inode,
    decode_superblock,
    encode_inode,
    encode_superblock,
    fields,
    inode_checksum,
    type_name,
)
from vsfs.rawimage import RawImage

#: Byte offset of each field in an inode's record, and in the superblock.
INODE_OFFSET: Final = {field.name: field.offset for field in fields(INODE)}
SUPERBLOCK_OFFSET: Final = {field.name: field.offset for field in fields(SUPERBLOCK)}
_WIDTH: Final = {field.name: field.width for field in fields(INODE)}

Decide = Callable[[Finding], bool]


class Change(NamedTuple):
    """Bytes to put into a block: what a repair wants, before it is an Edit."""

    block_no: int
    offset: int
    after: bytes
    kind: Kind


@dataclass(slots=True)
class CheckedInode:
    """An inode in use, with the fields it has after all accepted repairs.

    `blocks` are a directory's blocks in file order, once pass 1 has found them
    all; empty for other types.  `is_sealed` tells whether its checksum was right
    when it was read.  `cuts` has for each repair that clears pointers whether it was
    accepted: that the block count is another then is its consequence.
    """

    ino: int
    record: InodeRecord
    is_sealed: bool
    blocks: list[int] = field(default_factory=list)
    cuts: list[bool] = field(default_factory=list)

    @property
    def is_directory(self) -> bool:
        """Whether it is one, after repairs of its type."""
        return stat.S_ISDIR(self.record.mode)


@dataclass(slots=True)
class Entry:
    """A used directory record: where it stands, and what it says after repairs."""

    block_no: int
    offset: int
    ino: int
    file_type: int
    name: bytes


class Check:
    """One check of one image; the passes are functions of it."""

    def __init__(
        self, overlay: Overlay, superblock: Superblock, decide: Decide, *, now_ns: int
    ) -> None:
        self.overlay = overlay
        self.superblock = superblock
        self.geometry: Geometry = superblock.geometry
        self.decide = decide
        self.now_ns = now_ns
        self.findings: list[Finding] = []
        #: Whether some finding was left as it is.
        self.has_unrepaired = False
        self.inodes: dict[int, CheckedInode] = {}
        self.blocks = Usage(self.geometry.data_blocks, self.geometry.bits_per_block)
        #: Directory -> its entries in file order, `.` and `..` included (pass 2).
        self.entries: dict[int, list[Entry]] = {}
        #: Blocks that more than one pointer leads to, until it is known whose they are.
        self.contested: set[int] = set()
        #: Blocks with two owners for want of a free one: not to be freed with one of them.
        self.shared: set[int] = set()
        #: Blocks that contested ones point to: not to be given out meanwhile.
        self.promised: set[int] = set()
        #: (block, level) -> whether all below is sound, were it an indirect block.
        self.sound_trees: dict[tuple[int, int], bool] = {}
        #: Inode -> the file types that entries give it; made when a pass first asks.
        self.named_types: dict[int, set[int]] | None = None
        #: Inode not in use -> blocks that were such a directory's first; made when asked for.
        self.lost_directories: dict[int, list[int]] | None = None
        #: Directory sectors (block, offset) of which a repair was declined that would
        #: have moved records: what stands there is not what later passes think.
        self.untouchable: set[tuple[int, int]] = set()
        #: Inodes not in use that an entry names.  A new file does not get such a number: if
        #: the plug is pulled before the entry is gone, that would be a name of it.
        self.named_but_free: set[int] = set()
        #: Inodes in use that no name could be made for: declined, or no room.
        self.adrift: set[int] = set()
        #: Blocks (relative to the data region) that repairs took from their owners.
        self.freed: set[int] = set()
        #: Blocks taken for repairs that were declined: nobody's, but not to be taken again.
        self.unused: set[int] = set()
        self._taken_blocks: set[int] = set()  # for the next finding
        self._taken_inos: set[int] = set()
        self._names: RawImage | None = None
        self._spare_blocks = self._find_spare_blocks()
        self._spare_inos = iter(range(RESERVED_INODES, self.geometry.inode_count))

    # -- reporting ------------------------------------------------------------

    def report(
        self,
        rule: Rule,
        problem: str,
        *,
        found: Evidence,
        expected: Evidence,
        repair: str,
        changes: Iterable[Change] = (),
        lost: str | None = None,
        ino: int | None = None,
        can_repair: bool = True,
    ) -> bool:
        """Note a finding and, if it is so decided, make its changes on the overlay.

        Returns whether they were made.  No two of them may be of the same bytes.
        Without `can_repair` nobody is asked, and the finding is left.
        """
        edits = self._planned((*changes, *self._bits_of_taken()))
        path = self.path(ino) if ino is not None else None
        finding = Finding(rule, problem, repair, found, expected, edits, lost, ino, path)
        accepted = can_repair and self.decide(finding)
        if accepted:
            for edit in edits:
                self.overlay.apply(edit)
            finding = Finding(
                rule, problem, repair, found, expected, edits, lost, ino, path, is_repaired=True
            )
        else:
            self.unused |= self._taken_blocks
        self._taken_blocks.clear()
        self._taken_inos.clear()
        self.has_unrepaired |= not finding.is_repaired
        self.findings.append(finding)
        return accepted

    def _planned(self, changes: Iterable[Change]) -> tuple[Edit, ...]:
        planned = (self.overlay.plan(*change) for change in changes)
        return tuple(edit for edit in planned if edit is not None)

    def follow_up(self, changes: Iterable[Change]) -> None:
        """Make changes that no finding is about: what accepted repairs have for a consequence."""
        for edit in self._planned(changes):
            self.overlay.apply(edit)

    def _bits_of_taken(self) -> list[Change]:
        """Changes that set the bits of what was taken for the finding being made."""
        start = self.geometry.data_start
        inos = ((ino, Kind.INODE_BITMAP) for ino in sorted(self._taken_inos))
        blocks = ((start + number, Kind.DATA_BITMAP) for number in sorted(self._taken_blocks))
        return self._bits(itertools.chain(inos, blocks), to=1)

    def _bits(self, numbers: Iterable[tuple[int, Kind]], *, to: int) -> list[Change]:
        """Changes of bits of either bitmap, one for each byte."""
        places = {
            Kind.INODE_BITMAP: self.geometry.inode_bit,
            Kind.DATA_BITMAP: self.geometry.data_bit,
        }
        after: dict[tuple[int, int, Kind], int] = {}
        for number, kind in numbers:
            block_no, at, bit = places[kind](number)
            byte = after.get((block_no, at, kind), self.overlay.block(block_no)[at])
            after[block_no, at, kind] = byte | 1 << bit if to else byte & ~(1 << bit)
        return [Change(place, at, bytes([byte]), kind) for (place, at, kind), byte in after.items()]

    # -- names for people -----------------------------------------------------

    def path(self, ino: int) -> bytes | None:
        """A path of `ino` as the damaged image tells it; None without any."""
        names = self._tree()
        try:
            return None if names is None else names.path(ino)
        except VsfsError:  # not even the root can be read
            return None

    def parent_of(self, ino: int) -> int:
        """The directory that names `ino` as the damaged image tells it, or the root."""
        names = self._tree()
        if names is None or ino == ROOT_INO:
            return ROOT_INO
        try:
            return names.places.get(ino, (ROOT_INO, b""))[0]
        except VsfsError:  # not even the root can be read
            return ROOT_INO

    def _tree(self) -> RawImage | None:
        if self._names is None:
            with contextlib.suppress(VsfsError):  # the superblock's repair was declined
                self._names = RawImage(self.overlay)
        return self._names

    def forget_names(self) -> None:
        """Read the tree anew for the next path: there is a root again."""
        self._names = None

    def named(self, ino: int) -> str:
        """`ino` for a sentence: its number, and its path where it has one.

        An inode of a directory that cannot be reached has a number only.
        """
        path = self.path(ino)
        return f"inode {ino}" if path is None else f"inode {ino} ({printable(path)})"

    def described(self, inode: CheckedInode) -> str:
        """What the inode is, for a sentence: type, blocks, path."""
        record = inode.record
        count = f"{record.blocks} block{'s' * (record.blocks != 1)}"
        path = self.path(inode.ino)
        name = "" if path is None else f", named {printable(path)}"
        return f"{type_name(record.mode)}, {count}{name}"

    # -- inodes ---------------------------------------------------------------

    def inode_bytes(self, ino: int) -> bytes:
        """The 256 bytes of an inode as they are with all repairs so far."""
        block_no, offset = self.geometry.inode_location(ino)
        return bytes(self.overlay.block(block_no)[offset : offset + INODE_SIZE])

    def original_inode_bytes(self, ino: int) -> bytes:
        """The 256 bytes of an inode as they are on the disk, without any repair."""
        block_no, offset = self.geometry.inode_location(ino)
        self.overlay.below.block_size = self.geometry.block_size
        return self.overlay.below.read(block_no, INODE_SIZE, offset, Kind.INODE_TABLE, ino)

    def is_in_use(self, ino: int, file_type: int) -> bool:
        """Whether an inode is in use, and of a type as in a directory entry (0: of any)."""
        inode = self.inodes.get(ino)
        if inode is None:
            return False
        return not file_type or TYPE_OF_MODE.get(stat.S_IFMT(inode.record.mode)) == file_type

    def inode_bit(self, ino: int) -> int:
        """The bit of an inode in the bitmap, as it is on the disk."""
        block_no, byte, bit = self.geometry.inode_bit(ino)
        return self.overlay.block(block_no)[byte] >> bit & 1

    def inode_bits_cleared(self, inos: Iterable[int]) -> list[Change]:
        """Changes that mark inodes as free in the bitmap."""
        return self._bits(((ino, Kind.INODE_BITMAP) for ino in inos), to=0)

    def inode_evidence(self, ino: int, name: str, value: object, element: int = 0) -> Evidence:
        """A field of an inode as evidence; `element` is an index into an array."""
        block_no, offset = self.geometry.inode_location(ino)
        at = offset + INODE_OFFSET[name] + element * 4
        label = f"{name}[{element}]" if name == "direct" else name
        return Evidence(f"inode {ino} field {label}", block_no, at, str(value))

    def superblock_evidence(self, name: str, value: object) -> Evidence:
        """A field of the superblock as evidence."""
        return Evidence(f"superblock field {name}", 0, SUPERBLOCK_OFFSET[name], str(value))

    def stored_superblock(self) -> Superblock:
        """The superblock as it is with all repairs so far."""
        return decode_superblock(self.overlay.block(0)[:SUPERBLOCK_SIZE])

    def superblock_changes(self, **new: Any) -> list[Change]:
        """Changes that give fields of the superblock `new` values, and the check's time.

        With a checksum that is right after them, unless it was wrong and is to stay.
        """
        stored = self.stored_superblock()
        was_right = encode_superblock(stored) == self.overlay.block(0)[:SUPERBLOCK_SIZE]
        if not self.has_unrepaired:
            new["checked_ns"] = self.now_ns
        sealed = encode_superblock(stored._replace(**new))
        names = [*new, "checksum"] if was_right else list(new)
        ends = dict(itertools.pairwise((*SUPERBLOCK_OFFSET.values(), SUPERBLOCK_SIZE)))
        return [
            Change(0, at, sealed[at : ends[at]], Kind.SUPERBLOCK)
            for at in (SUPERBLOCK_OFFSET[name] for name in names)
        ]

    @property
    def has_journal(self) -> bool:
        """Whether inode 1 holds a journal."""
        return bool(self.superblock.feature_compat & FEATURE_COMPAT_JOURNAL)

    def inode_changes(self, inode: CheckedInode, **new: Any) -> list[Change]:
        """Changes that give fields of an inode on the disk `new` values.

        A checksum that was right is kept right; one that was wrong is left to
        the finding that is about it.  All changes of one finding in one inode
        belong into one call.
        """
        before = self.inode_bytes(inode.ino)
        after = encode_inode(inode.ino, decode_inode(before)._replace(**new))
        block_no, start = self.geometry.inode_location(inode.ino)
        return [
            Change(block_no, start + at, after[at : at + width], Kind.INODE_TABLE)
            for name, at, width in _INODE_PARTS
            if before[at : at + width] != after[at : at + width]
            and (inode.is_sealed or name != "checksum")
        ]

    def update(
        self,
        rule: Rule,
        inode: CheckedInode,
        problem: str,
        *,
        found: Evidence,
        expected: Evidence,
        repair: str,
        more: Iterable[Change] = (),
        lost: str | None = None,
        **new: Any,
    ) -> bool:
        """Report a finding that is repaired by giving fields of `inode` `new` values.

        The inode in memory gets them in any case.  `more` are changes elsewhere,
        made first.  With a link count of 0 it is freed: its bit is cleared, too.
        """
        inode.record = inode.record._replace(**new)
        if new.get("nlink") == 0:
            more = (*more, *self.inode_bits_cleared([inode.ino]))
        return self.report(
            rule,
            problem,
            found=found,
            expected=expected,
            repair=repair,
            changes=[*more, *self.inode_changes(inode, **new)],
            lost=lost,
            ino=inode.ino,
        )

    def follow_cuts(self, inode: CheckedInode, **new: Any) -> None:
        """Give fields of an inode that follow from its pointers the values they have now.

        Belongs to the repairs that cleared some of them, if those are made.
        """
        if all(inode.cuts):
            inode.record = inode.record._replace(**new)
            self.follow_up(self.inode_changes(inode, **new))

    # -- space for repairs ----------------------------------------------------

    def allocate_block(self) -> int | None:
        """Take a data block that no inode owns, for a repair; None if all are used.

        One whose bit is 0, too, while there are such: the others may hold what
        is left of a lost file.  Only after pass 1 is it known who owns what, and
        what is contested still may be somebody's.
        """
        for _ in range(2):  # once more, since some were given back meanwhile
            for number in self._spare_blocks:
                block_no = self.geometry.data_start + number
                if number in self.blocks or block_no in self.promised:
                    continue
                if block_no not in self.contested:
                    self.take_block(block_no)
                    return block_no
            self._spare_blocks = self._find_spare_blocks()
        return None

    def take_block(self, block_no: int) -> None:
        """Give a data block without an owner one, by the next finding."""
        number = block_no - self.geometry.data_start
        self.blocks.mark(number)
        self._taken_blocks.add(number)

    def take_ino(self, ino: int) -> None:
        """Put an inode to use, by the next finding."""
        self._taken_inos.add(ino)

    def give_back_block(self, block_no: int) -> None:
        """The opposite of :meth:`take_block`, before or after the finding."""
        number = block_no - self.geometry.data_start
        self.blocks.clear(number)
        self._taken_blocks.discard(number)
        self.unused.discard(number)

    def give_back_ino(self, ino: int) -> None:
        """The opposite of :meth:`take_ino`, before the finding."""
        self._taken_inos.discard(ino)

    def _find_spare_blocks(self) -> Iterator[int]:
        """Numbers of data blocks without an owner, those with a bit of 0 first."""
        geometry, blocks = self.geometry, self.blocks
        for ignored in (False, True):
            for index in range(ceil_div(blocks.count, blocks.per_block)):
                taken = int.from_bytes(blocks.bits(index), "little")
                if not ignored:
                    bitmap = self.overlay.block(geometry.data_bitmap_start + index)
                    taken |= int.from_bytes(bitmap, "little")
                free = ((1 << blocks.per_block) - 1) & ~taken
                while free:
                    yield index * blocks.per_block + (free & -free).bit_length() - 1
                    free &= free - 1

    def release_block(self, block_no: int) -> None:
        """A data block has no owner any more, because of a repair.

        Not after a repair was declined: then it may have one that was to go.
        """
        if not self.has_unrepaired and block_no not in self.shared:
            number = block_no - self.geometry.data_start
            self.blocks.clear(number)
            self.freed.add(number)

    def allocate_ino(self) -> int | None:
        """Take the number of an inode that is not in use and not named; None if there is none."""
        avoided = self.named_but_free
        spare = (ino for ino in self._spare_inos if ino not in self.inodes and ino not in avoided)
        ino = next(spare, None)
        if ino is not None:
            self.take_ino(ino)
        return ino


def in_words(noun: str, numbers: list[int]) -> str:
    """Numbers of things for a sentence, at most three of them.

    >>> in_words("block", [20]), in_words("block", [20, 21, 22])
    ('block 20', 'blocks 20, 21 and 22')
    >>> in_words("inode", [20, 21, 22, 23, 30])
    'inodes 20, 21, 22 and 2 more'
    """
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    shown = [str(number) for number in numbers[:3]]
    if len(numbers) > len(shown):
        shown.append(f"{len(numbers) - len(shown)} more")
    return f"{noun}s {', '.join(shown[:-1])} and {shown[-1]}"


#: (name, offset, width) of each part of an inode that changes on its own: the
#: fields, and each direct pointer.
_INODE_PARTS: Final = tuple(
    (name, INODE_OFFSET[name] + at, 4 if name == "direct" else width)
    for name, width in _WIDTH.items()
    for at in (range(0, width, 4) if name == "direct" else (0,))
)


def may_be_used(ino: int, record: InodeRecord) -> bool:
    """Whether a record is that of an inode in use: it has links, or is the root directory.

    The root cannot be removed, so no link count of 0 makes it free.
    """
    return bool(record.nlink) or (ino == ROOT_INO and stat.S_ISDIR(record.mode))


def is_sealed(ino: int, data: bytes) -> bool:
    """Whether the checksum in an inode's 256 bytes is right."""
    return decode_inode(data).checksum == inode_checksum(ino, data)
