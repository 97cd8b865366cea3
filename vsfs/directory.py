"""Directories: names to inode numbers (OSTEP 40.4).

A directory is a file of variable-length records.  Records never cross a block,
and never a 512-byte sector either (as in the BSD fast file system): a sector is
the unit that a disk writes whole, so each change of a name changes one sector,
and a torn write leaves every other name alone.

Within a sector the records fill it exactly.  A new name takes the slack behind
another one; a removed one becomes slack of its predecessor, its bytes still
there, or a free record (inode 0) if it was the sector's first.

In memory a directory also has an index, ``name -> Entry``, built when it is
first looked at; after that a lookup is one dict access and adding a name does
not search.  The blocks in the buffer cache stay the truth.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from vsfs.blockmap import BlockMap, pointer_path
from vsfs.buffer import Buffer, BufferCache
from vsfs.device import Kind
from vsfs.errors import Corrupt, TransactionFull, posix_error
from vsfs.inode import Inode
from vsfs.layout import (
    DIRECTORY_TYPE,
    DOT_SIZE,
    SECTOR_SIZE,
    empty_directory_block,
    first_directory_block,
    has_record,
    put_record_behind,
    put_record_ino,
    put_record_type,
    record_ino,
    record_size,
    records,
    take_out_record,
)

#: The smallest record: a name of one to four bytes.
_MIN_RECORD: Final = record_size(1)
_DIRECTORY: Final = Kind.DIRECTORY  # to ask an enum for it takes as long as a call
#: In place of the index of a new directory, until it is first looked at.
_NO_NAMES: Final = ()
#: Sectors with some room that are tried before the directory grows by a block.
_TRIES: Final = 8


#: Blocks whose place is looked up together when a directory is first read.
_LOAD_BLOCKS: Final = 256
#: Blocks that an operation may change after a name was removed: an inode, its bitmap,
#: a `..`, and as many of the data bitmap as a file's that is freed at once.
_ROOM_FOR_THE_REST: Final = 6
#: Blocks behind a directory that its files leave to it at most.
_MOST_LEFT: Final = 256


@dataclass(slots=True, eq=False)
class Entry:
    """What a name stands for, and where its record is.

    `offset` is the record's byte offset in the directory file.  Never changed: a name
    gets another one, and who has listed the directory keeps what was there.  (Not a named
    tuple: to make one takes three times as long, and every new name makes one.)
    """

    ino: int
    file_type: int
    offset: int


class Directory:
    """The names of one directory.

    The caller has announced the directory's inode with ``InodeTable.modify``
    before it adds, removes or replaces a name, and keeps link counts and times.
    """

    def __init__(self, cache: BufferCache, blockmap: BlockMap, inode: Inode) -> None:
        """Read and index the directory; raises Corrupt (EUCLEAN) if it is damaged."""
        self.inode = inode
        self.entries: dict[bytes, Entry] = {}
        self._cache = cache
        self._map = blockmap
        self._block_size = cache.geometry.block_size
        self._blocks: list[int] = []  # disk block of each file block
        self._live: list[int] = []  # names in each file block
        #: Sector -> its largest slack that is known: the record that has it, its bytes.
        self._room: dict[int, tuple[int, int]] = {}
        self._recount: dict[int, None] = {}  # sectors that may have more than known
        self._hint = 0  # the sector that took the last new name
        #: The block from which on its files are best: behind the last of its own; a directory
        #: of several blocks can double there.
        self.goal = 0
        self._invalid_after = 0  # the operation whose rollback drops this index
        self._load()

    @classmethod
    def of(cls, cache: BufferCache, blockmap: BlockMap, inode: Inode) -> Directory:
        """The directory of `inode`, indexed on first use."""
        directory = inode.index
        if not isinstance(directory, Directory):
            directory = inode.index = cls(cache, blockmap, inode)
        return directory

    @classmethod
    def create(cls, cache: BufferCache, blockmap: BlockMap, inode: Inode, parent: int) -> None:
        """Give the new inode `inode` its first block, with `.` and `..`.

        Raises NoSpace (ENOSPC).
        """
        (run,) = blockmap.allocate(inode, 0, 1)
        block_size = cache.geometry.block_size
        data = first_directory_block(block_size, inode.ino, parent)
        cache.create(run.block, data, _DIRECTORY, inode.ino)
        inode.size = block_size
        inode.index = _NO_NAMES

    @classmethod
    def is_as_created(
        cls, cache: BufferCache, blockmap: BlockMap, inode: Inode, parent: int
    ) -> bool:
        """Whether no name was ever added: a quick answer for a directory without index.

        False also if there were some once; raises Corrupt (EUCLEAN) as reading does.
        """
        if inode.index is _NO_NAMES:
            return True
        block_size = cache.geometry.block_size
        if inode.index is not None or inode.size != block_size:
            return False
        (run,) = blockmap.runs(inode, 0, 1)
        if not run.block:
            return False
        data = cache.read(run.block, _DIRECTORY, inode.ino).data
        return data == first_directory_block(block_size, inode.ino, parent)

    def _load(self) -> None:
        inode = self.inode
        count = inode.size // self._block_size
        # In pieces: a damaged size may claim terabytes, and the first block that
        # is no directory's ends it.
        for first in range(0, count, _LOAD_BLOCKS):
            for run in self._map.runs(inode, first, min(_LOAD_BLOCKS, count - first)):
                if not run.block:
                    block, offset = self._cache.geometry.inode_location(inode.ino)
                    raise Corrupt(
                        f"directory {inode.ino}", block, offset, "a hole in it", f"{count} blocks"
                    )
                self._blocks.extend(range(run.block, run.block + run.count))
            for file_block in range(first, len(self._blocks)):
                self._index_block(file_block)
        for name in (b".", b".."):
            if name not in self.entries:
                raise Corrupt(
                    f"directory {inode.ino}",
                    self._blocks[0],
                    0,
                    f"no entry {name.decode()!r}",
                    "one in its first block",
                )
        self._set_goal()

    def _index_block(self, file_block: int) -> None:
        buffer = self._buffer(file_block)
        if file_block == 0 and self._index_as_created(buffer.data):
            return
        start = file_block * self._block_size
        live = 0
        for record in records(buffer.data, buffer.block_no):
            if record.ino:
                live += 1
                if record.name in self.entries:
                    raise Corrupt(
                        f"directory {self.inode.ino}",
                        buffer.block_no,
                        record.offset,
                        f"the name {record.name!r} a second time",
                        "each name once",
                    )
                self.entries[record.name] = Entry(
                    record.ino, record.file_type, start + record.offset
                )
            self._offer_room(start + record.offset, record.slack)
        self._live.append(live)

    def _index_as_created(self, data: bytearray) -> bool:
        """Index a first block without names, as it is for the first name of most directories."""
        ino, parent = self.inode.ino, record_ino(data, DOT_SIZE)
        if data != first_directory_block(self._block_size, ino, parent):
            return False
        self.entries[b"."] = Entry(ino, DIRECTORY_TYPE, 0)
        self.entries[b".."] = Entry(parent, DIRECTORY_TYPE, DOT_SIZE)
        self._offer_room(DOT_SIZE, SECTOR_SIZE - DOT_SIZE - record_size(2))
        for offset in range(SECTOR_SIZE, self._block_size, SECTOR_SIZE):
            self._room[offset // SECTOR_SIZE] = offset, SECTOR_SIZE
        self._live.append(2)
        return True

    def _buffer(self, file_block: int) -> Buffer:
        return self._cache.read(self._blocks[file_block], _DIRECTORY, self.inode.ino)

    def __len__(self) -> int:
        """Names in it, with `.` and `..`."""
        return len(self.entries)

    @property
    def is_empty(self) -> bool:
        """Whether it has no names but `.` and `..`."""
        return len(self.entries) == 2

    def require_removable(self) -> None:
        """Raise ENOTEMPTY, or CommitNeeded if a name has left it in this transaction.

        Without links its inode would reach the disk before the name's new place does.
        """
        if not self.is_empty:
            raise posix_error(errno.ENOTEMPTY)
        for block in self._blocks:
            self._cache.require_arrived(block)

    def _set_goal(self) -> None:
        self.goal = self._blocks[-1] + min(len(self._blocks), _MOST_LEFT)

    # -- changing -------------------------------------------------------------

    def add(self, name: bytes, ino: int, file_type: int) -> None:
        """Enter a new name; the caller has checked that it is not there yet.

        Raises NoSpace (ENOSPC) when the directory must grow and cannot.
        """
        self._put(self.find_room(name), name, ino, file_type)

    def find_room(self, name: bytes) -> int:
        """A sector with room for a record of `name`; the directory grows if needed.

        Raises NoSpace (ENOSPC).
        """
        needed = record_size(len(name))
        room = self._room.get(self._hint)
        if room is not None and room[1] >= needed:  # nearly always
            return self._hint
        if self._has_room(self._hint + 1, needed):
            return self._hint + 1
        for _ in range(min(_TRIES, len(self._room))):
            sector = next(iter(self._room))
            if self._has_room(sector, needed):
                return sector
            self._room[sector] = self._room.pop(sector)  # to the end: try others first
        for _ in range(min(_TRIES, len(self._recount))):
            sector = next(iter(self._recount))
            self._measure(sector)
            if self._has_room(sector, needed):
                return sector
        return self._grow()

    def block_of_sector(self, sector: int) -> int:
        """The disk block of a sector that :meth:`find_room` gave."""
        return self._blocks[sector * SECTOR_SIZE // self._block_size]

    def block_of(self, name: bytes) -> int:
        """The disk block that holds the record of an existing name."""
        return self._blocks[self.entries[name].offset // self._block_size]

    def _put(self, sector: int, name: bytes, ino: int, file_type: int) -> None:
        """Split the record with the most slack in `sector`; the new one gets it."""
        offset, slack = self._room.pop(sector)
        file_block, at = divmod(offset, self._block_size)
        buffer = self._modify(file_block, at)
        put = put_record_behind(buffer.data, at, slack, ino, file_type, name)
        if put is None:
            raise self._changed_elsewhere(buffer, at)
        offset += put - at
        self.entries[name] = Entry(ino, file_type, offset)
        self._live[file_block] += 1
        self._hint = sector
        slack -= record_size(len(name))
        if slack >= _MIN_RECORD:
            self._room[sector] = offset, slack

    def remove(self, name: bytes) -> None:
        """Take out an existing name; empty blocks at the end are given back."""
        self._take_out(name)
        self._shrink()

    def rename(self, old: bytes, new: bytes) -> None:
        """Give the entry `old` the name `new`, in the same sector where it fits.

        Raises NoSpace (ENOSPC), or CommitNeeded as :meth:`BufferCache.order`.
        """
        entry = self.entries[old]
        offset = entry.offset
        old_block = self._blocks[offset // self._block_size]
        self._take_out(old)
        self._hint = offset // SECTOR_SIZE
        sector = self.find_room(new)
        self._cache.order(self.block_of_sector(sector), old_block)
        self._put(sector, new, entry.ino, entry.file_type)

    def _take_out(self, name: bytes) -> None:
        entry = self.entries[name]
        file_block, at = divmod(entry.offset, self._block_size)
        buffer = self._modify(file_block, at)
        gap = take_out_record(buffer.data, at, entry.ino, name)
        if gap is None:
            raise self._changed_elsewhere(buffer, at)
        del self.entries[name]
        start, length, slack = gap
        start += entry.offset - at
        sector = start // SECTOR_SIZE
        known = self._room.get(sector)
        if known is not None and start <= known[0] < start + length:
            del self._room[sector]  # that gap is part of the new one
        self._offer_room(start, slack)
        self._live[file_block] -= 1

    def replace(self, name: bytes, ino: int, file_type: int) -> None:
        """Let an existing name stand for another inode."""
        offset = self.entries[name].offset
        file_block, at = divmod(offset, self._block_size)
        buffer = self._modify(file_block, at)
        self._require_there(buffer, at, name)
        put_record_ino(buffer.data, at, ino)
        put_record_type(buffer.data, at, file_type)
        self.entries[name] = Entry(ino, file_type, offset)

    def _modify(self, file_block: int, at: int) -> Buffer:
        """The buffer of a block whose sector at byte `at` is about to change."""
        cache = self._cache
        buffer = cache.read(self._blocks[file_block], _DIRECTORY, self.inode.ino)
        start = at - at % SECTOR_SIZE
        cache.modify(buffer, start, start + SECTOR_SIZE)
        if self._invalid_after != cache.operation:
            self._invalid_after = cache.operation
            cache.undo(self._drop_index)
        return buffer

    def _drop_index(self) -> None:
        """Undo of every change: the blocks are put back, so index them again."""
        self.inode.index = None

    def _require_there(self, buffer: Buffer, at: int, name: bytes) -> None:
        """Raise Corrupt (EUCLEAN) unless the index is right about the record at `at`.

        It is wrong if another directory has the same block and has changed it.
        """
        if not has_record(buffer.data, at, self.entries[name].ino, name):
            raise self._changed_elsewhere(buffer, at)

    def _changed_elsewhere(self, buffer: Buffer, at: int) -> Corrupt:
        return Corrupt(
            f"a record of directory {self.inode.ino}",
            buffer.block_no,
            at,
            "another record than was there before",
            "a block that only this directory changes",
        )

    # -- room -----------------------------------------------------------------

    def _has_room(self, sector: int, needed: int) -> bool:
        room = self._room.get(sector)
        return room is not None and room[1] >= needed

    def _offer_room(self, offset: int, slack: int) -> None:
        """Note slack behind the record at `offset`, if it is the sector's largest."""
        if slack < _MIN_RECORD:
            return
        sector = offset // SECTOR_SIZE
        known = self._room.get(sector)
        if known is None:
            self._room[sector] = offset, slack
            return
        self._recount[sector] = None  # there is more than one gap
        if slack > known[1]:
            self._room[sector] = offset, slack

    def _measure(self, sector: int) -> None:
        """Find the largest slack of a sector by looking at its records."""
        self._room.pop(sector, None)
        self._recount.pop(sector, None)
        file_block, at = divmod(sector * SECTOR_SIZE, self._block_size)
        buffer = self._buffer(file_block)
        for record in records(buffer.data[: at + SECTOR_SIZE], buffer.block_no, at):
            self._offer_room(file_block * self._block_size + record.offset, record.slack)

    def _grow(self) -> int:
        """Add an empty block at the end; return its first sector."""
        file_block = len(self._blocks)
        (run,) = self._map.allocate(self.inode, file_block, 1)
        data = empty_directory_block(self._block_size)
        self._cache.create(run.block, data, Kind.DIRECTORY, self.inode.ino)
        self.inode.size += self._block_size
        self._blocks.append(run.block)
        self._live.append(0)
        self._set_goal()
        self._modify(file_block, 0)  # a rollback drops this index
        start = file_block * self._block_size
        for at in range(start, start + self._block_size, SECTOR_SIZE):
            self._offer_room(at, SECTOR_SIZE)
        return start // SECTOR_SIZE

    def _most_to_give_back(self) -> int:
        """How many blocks at the end the transaction has room to give back.

        Each may be in another block of the bitmap, as the indirect blocks that go with
        them may; others of these are changed.
        """
        room = self._cache.room
        if room is None:
            return len(self._live)
        geometry = self._cache.geometry
        bitmap_blocks = geometry.inode_table_start - geometry.data_bitmap_start
        levels = len(pointer_path(len(self._live) - 1, geometry.pointers_per_block)[1])
        room -= _ROOM_FOR_THE_REST + levels
        return len(self._live) if room >= bitmap_blocks else max(room - levels, 0)

    def _shrink(self) -> None:
        """Give back blocks at the end that have no names.

        If a journal has no room even for these alone, the rest goes with the next name.
        Raises TransactionFull if others have to be committed first.
        """
        keep = len(self._live)
        while (
            keep > 1
            and not self._live[keep - 1]
            # the smaller size is written before the block the name moved to
            and not self._cache.is_losing(self._blocks[keep - 1])
        ):
            keep -= 1
        wanted = len(self._live) - keep
        if not wanted:
            return
        possible = self._most_to_give_back()
        if possible < wanted:
            if not self._cache.is_first:
                raise TransactionFull("the journal has no room for a directory's blocks")
            keep += wanted - possible
        self._map.truncate(self.inode, keep)
        self.inode.size = keep * self._block_size
        sectors = range(
            keep * self._block_size // SECTOR_SIZE,
            len(self._live) * self._block_size // SECTOR_SIZE,
        )
        for sector in sectors:
            self._room.pop(sector, None)
            self._recount.pop(sector, None)
        del self._blocks[keep:], self._live[keep:]
        self._set_goal()
        self._hint = 0
