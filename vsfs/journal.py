"""The journal: a write-ahead log, so that a crash leaves all of a transaction or none.

xv6's kind (OSTEP 42.3): one transaction at a time.  The journal is a file without
a name, inode 1, of one header block and a log behind it.  A commit is

1. write the changed blocks to the log; barrier (which also makes file data durable);
2. write the header: their numbers, and a checksum over all of it; barrier.
   **This is the commit point.**  Before it, a crash leaves the old filesystem and a
   log that nobody looks at; after it, a mount finds the header and installs the log;
3. install: write the blocks to their places; barrier;
4. clear the header's count.

The clear needs no barrier: until it is durable, a replay would install what is
there already.  The next commit's header comes after two more barriers, and no
block of the log is given to a file before that commit, which frees it, is through.

The superblock flag `RECOVER` stands from the first commit of a mount to its end,
so that a program without a journal does not read a half-installed filesystem.

On disk: the header, the log, inode 1 with its pointers (direct and single
indirect, which is enough for as many blocks as a header can name).  Where the
journal is never changes while it is mounted.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from vsfs.buffer import Buffer
from vsfs.device import BlockDevice, Kind
from vsfs.errors import Corrupt, ImpossibleSize, VsfsError
from vsfs.layout import (
    DIRECT_POINTERS,
    INLINE_SIZE,
    INODE_SIZE,
    JOURNAL_HEADER_SIZE,
    JOURNAL_INO,
    SUPERBLOCK_SIZE,
    Geometry,
    InodeRecord,
    JournalHeader,
    decode_inode,
    decode_journal,
    encode_inode,
    encode_journal,
    get_pointers,
    journal_room,
    put_pointers,
)
from vsfs.validate import check_inode, check_superblock

_SUPERBLOCK: Final = 0  # its block
#: A header and room for the largest operation of a small filesystem.
MIN_BLOCKS: Final = 16
#: One block of journal for so many of the image, unless a size is asked for.
_BLOCKS_FOR_EACH: Final = 16


def default_blocks(geometry: Geometry) -> int:
    """Blocks of a journal for a filesystem of this size, if nobody says how many.

    >>> default_blocks(Geometry(4096, 64, 80, 1, 2, 3, 8))
    16
    """
    wanted = max(geometry.block_count // _BLOCKS_FOR_EACH, MIN_BLOCKS)
    return min(wanted, max_blocks(geometry))


def max_blocks(geometry: Geometry) -> int:
    """The longest journal: what one header can name, and the header."""
    return 1 + journal_room(geometry.block_size)


def require_possible(geometry: Geometry, count: int) -> None:
    """Raise ImpossibleSize (EINVAL) for a journal of `count` blocks that cannot be."""
    most = max_blocks(geometry)
    if not MIN_BLOCKS <= count <= most:
        raise ImpossibleSize(
            f"a journal cannot have {count} blocks: with blocks of {geometry.block_size} bytes "
            f"it has {MIN_BLOCKS} to {most}"
        )
    if count + count // geometry.pointers_per_block + 3 > geometry.data_blocks:
        raise ImpossibleSize(
            f"a journal of {count} blocks leaves no room for files in the image, "
            f"whose data region has {geometry.data_blocks} blocks; ask for a larger image"
        )


@dataclass(frozen=True, slots=True)
class JournalPlace:
    """Where a journal lies: its blocks in order, and an indirect block, or 0."""

    blocks: tuple[int, ...]
    indirect: int

    @classmethod
    def of(cls, blocks: tuple[int, ...], spare: int) -> JournalPlace:
        """A journal in `blocks`; block `spare` has the pointers for which inode 1 has no room."""
        return cls(blocks, spare if len(blocks) > DIRECT_POINTERS else 0)

    @property
    def capacity(self) -> int:
        """Blocks that one transaction can have: all but the header."""
        return len(self.blocks) - 1

    @property
    def total(self) -> int:
        """All blocks that inode 1 owns."""
        return len(self.blocks) + bool(self.indirect)

    def encode_indirect(self, block_size: int) -> bytes:
        """The contents of the indirect block."""
        data = bytearray(block_size)
        put_pointers(data, 0, self.blocks[DIRECT_POINTERS:])
        return bytes(data)


def write_journal(
    device: BlockDevice, geometry: Geometry, place: JournalPlace, now_ns: int
) -> None:
    """Write an empty journal: its header, its indirect block, and inode 1.

    The caller has given it the blocks, and says in the superblock that it is there
    after a barrier.
    """
    header = encode_journal(JournalHeader(0, ()), []).ljust(geometry.block_size, b"\0")
    device.write(place.blocks[0], header, 0, Kind.JOURNAL, JOURNAL_INO)
    if place.indirect:
        pointers = place.encode_indirect(geometry.block_size)
        device.write(place.indirect, pointers, 0, Kind.INDIRECT, JOURNAL_INO)
    block, offset = geometry.inode_location(JOURNAL_INO)
    inode = encode_inode(JOURNAL_INO, _inode(place, geometry.block_size, now_ns))
    device.write(block, inode, offset, Kind.INODE_TABLE, JOURNAL_INO)


def _inode(place: JournalPlace, block_size: int, now_ns: int) -> InodeRecord:
    """Inode 1 of a new journal: a file that only its owner, root, could read."""
    direct = place.blocks[:DIRECT_POINTERS]
    return InodeRecord(
        mode=stat.S_IFREG | 0o600,
        nlink=1,
        uid=0,
        gid=0,
        size=len(place.blocks) * block_size,
        blocks=place.total,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        btime_ns=now_ns,
        flags=0,
        generation=1,
        device=0,
        pointers=direct + (0,) * (DIRECT_POINTERS - len(direct)) + (place.indirect, 0, 0),
        attribute_block=0,
        inline=bytes(INLINE_SIZE),
    )


def journal_blocks(
    record: InodeRecord, geometry: Geometry, read: Callable[[int], bytes | bytearray]
) -> tuple[int, ...]:
    """The blocks of the journal in their order: the header, then the log.

    `record` is inode 1, of which every number that is used is checked here; `read`
    gives the bytes of a block.  Raises Corrupt (EUCLEAN) if it cannot be a journal.
    """
    block, offset = geometry.inode_location(JOURNAL_INO)
    count = record.size // geometry.block_size

    def bad(found: object, expected: str) -> Corrupt:
        return Corrupt("inode 1, the journal,", block, offset, str(found), expected)

    if not stat.S_ISREG(record.mode) or record.size % geometry.block_size:
        raise bad(f"mode {record.mode:#o}, {record.size} bytes", "a regular file of whole blocks")
    if not 1 < count <= max_blocks(geometry):
        raise bad(f"{count} blocks", f"2 to {max_blocks(geometry)}")
    blocks = record.pointers[: min(count, DIRECT_POINTERS)]
    if count > DIRECT_POINTERS:
        indirect = record.pointers[DIRECT_POINTERS]
        if not geometry.is_data_block(indirect):
            raise bad(f"block {indirect} as indirect block", "one of the data region")
        blocks += get_pointers(read(indirect), 0, count - DIRECT_POINTERS)
    wrong = next((number for number in blocks if not geometry.is_data_block(number)), None)
    if wrong is not None:
        raise bad(f"a pointer to block {wrong}", "blocks of the data region")
    if len(set(blocks)) < count:
        raise bad("the same block twice", f"{count} different blocks")
    return blocks


@dataclass(frozen=True, slots=True)
class Waiting:
    """A committed transaction that waits in the log: block number and content, in order."""

    sequence: int
    blocks: tuple[tuple[int, bytes], ...]


class Journal:
    """The journal of one filesystem."""

    def __init__(self, device: BlockDevice, geometry: Geometry, *, check: bool = True) -> None:
        """Find the journal of the filesystem on `device`; raises Corrupt (EUCLEAN).

        Without `check`, for the checker, inode 1 may have a wrong checksum, or numbers
        that do not matter here.
        """
        self._device = device
        self._geometry = geometry
        block, offset = geometry.inode_location(JOURNAL_INO)
        data = device.read(block, INODE_SIZE, offset, Kind.INODE_TABLE, JOURNAL_INO)
        record = check_inode(JOURNAL_INO, data, geometry) if check else decode_inode(data)
        self.blocks = journal_blocks(record, geometry, self._read)
        self._sequence = 0
        self._runs = list(_runs(self.blocks[1:]))

    def _read(self, block_no: int) -> bytes:
        size = self._geometry.block_size
        return self._device.read(block_no, size, 0, Kind.JOURNAL, JOURNAL_INO)

    @property
    def capacity(self) -> int:
        """Blocks that one transaction can have."""
        return len(self.blocks) - 1

    # -- reading --------------------------------------------------------------

    def header(self) -> JournalHeader:
        """What the header says; raises Corrupt (EUCLEAN) for what no crash leaves."""
        header = decode_journal(self._read(self.blocks[0]), self.blocks[0])
        if len(header.block_numbers) > self.capacity:
            raise Corrupt(
                "journal header",
                self.blocks[0],
                4,
                f"{len(header.block_numbers)} blocks",
                f"at most {self.capacity}, as many as its log has",
            )
        return header

    def log(self, header: JournalHeader) -> list[bytes] | None:
        """The blocks that `header` is about; None if its checksum does not fit them.

        Then a crash came before all of the transaction was written, or the log was
        written over since: nothing was committed by it, or it is in place.
        """
        log = [self._read(block_no) for block_no in self.blocks[1 : 1 + len(header.block_numbers)]]
        sealed = decode_journal(encode_journal(header, log), self.blocks[0])
        return log if sealed.checksum == header.checksum else None

    def waiting(self) -> Waiting | None:
        """The transaction that was committed and may not be installed; None if none.

        Raises Corrupt (EUCLEAN) for what no crash leaves.
        """
        header = self.header()
        self._sequence = header.sequence
        numbers = header.block_numbers
        log = self.log(header) if numbers else None
        if log is None:
            return None
        self.check_numbers(numbers)
        self._check_superblock(numbers, log)
        return Waiting(header.sequence, tuple(zip(numbers, log, strict=True)))

    def check_numbers(self, numbers: tuple[int, ...]) -> None:
        """Raise Corrupt for a number that no transaction of VSFS has."""
        own = set(self.blocks)
        before = -1
        for index, number in enumerate(numbers):
            if not before < number < self._geometry.block_count or number in own:
                raise Corrupt(
                    "journal header",
                    self.blocks[0],
                    JOURNAL_HEADER_SIZE + index * 4,
                    f"block {number}",
                    "a block behind the one before, in the filesystem and not the journal's",
                )
            before = number

    def _check_superblock(self, numbers: tuple[int, ...], log: list[bytes]) -> None:
        """Raise Corrupt unless the superblock in the log, if one is, is of this filesystem."""
        if _SUPERBLOCK not in numbers:
            return
        index = numbers.index(_SUPERBLOCK)
        try:
            found = check_superblock(log[index][:SUPERBLOCK_SIZE], self._device.size)
            if found.geometry == self._geometry:
                return
            problem = f"{found.block_count} blocks of {found.block_size} bytes in other regions"
        except VsfsError as error:
            problem = str(error)
        raise Corrupt(
            "the superblock in the journal",
            self.blocks[1 + index],
            0,
            problem,
            "one of this filesystem",
        )

    def replay(self) -> int:
        """Install the transaction that waits, if any; return how many blocks it had.

        Durable at return.  Installing twice does what installing once does, so a
        crash on the way does no harm.
        """
        waiting = self.waiting()
        if waiting is None:
            return 0
        for block_no, content in waiting.blocks:
            self._device.write(block_no, content, 0, Kind.JOURNAL)
        self._device.barrier()
        self._clear()
        self._device.barrier()
        return len(waiting.blocks)

    def resume(self) -> None:
        """Go on with the sequence number of a journal in which nothing waits.

        Raises Corrupt (EUCLEAN) if it has no header.
        """
        self._sequence = self.header().sequence

    # -- committing -----------------------------------------------------------

    def commit(self, buffers: Sequence[Buffer], install: Callable[[list[Buffer]], None]) -> None:
        """Write a transaction; it is durable, and wholly so, when this returns.

        `buffers` are all its blocks, at most `capacity`; `install` writes them to
        their places.
        """
        assert len(buffers) <= self.capacity, "the cache's limit is the journal's capacity"
        ordered = sorted(buffers, key=lambda buffer: buffer.block_no)
        log = [bytes(buffer.data) for buffer in ordered]
        self._write_log(log)
        self._device.barrier()
        self._sequence += 1
        numbers = tuple(buffer.block_no for buffer in ordered)
        header = encode_journal(JournalHeader(self._sequence, numbers), log)
        self._device.write(self.blocks[0], header, 0, Kind.JOURNAL, JOURNAL_INO)
        self._device.barrier()  # the commit point
        install(ordered)
        self._device.barrier()
        self._clear()

    def _write_log(self, log: list[bytes]) -> None:
        """One write for each run of the journal's blocks."""
        written = 0
        for first, count in self._runs:
            part = log[written : written + count]
            if not part:
                return
            self._device.write(first, b"".join(part), 0, Kind.JOURNAL, JOURNAL_INO)
            written += len(part)

    def _clear(self) -> None:
        """Say that no transaction waits: one sector, so never half of it."""
        header = encode_journal(JournalHeader(self._sequence, ()), [])
        self._device.write(self.blocks[0], header, 0, Kind.JOURNAL, JOURNAL_INO)


def _runs(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Runs (first block, how many) of neighbours among `blocks`.

    >>> _runs([5, 6, 7, 10])
    [(5, 3), (10, 1)]
    """
    runs: list[tuple[int, int]] = []
    for block in blocks:
        if runs and sum(runs[-1]) == block:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((block, 1))
    return runs
