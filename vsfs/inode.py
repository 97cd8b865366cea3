"""Inodes in memory, and the inode table on the disk (OSTEP 40.3).

An :class:`Inode` is the decoded record plus what only memory knows: how often
it is open, the index of its names if it is a directory.  There is at most one
object for each inode number.  Changing one is::

    table.modify(inode)      # before the change: it can be undone, will be written
    inode.size = ...

and it is encoded into its block of the inode table at the next commit.

An inode is *free* when its bit in the inode bitmap is 0.  Its record then keeps
its last contents with a link count of 0 (or is all zeroes: never used).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sized
from operator import attrgetter
from typing import Any, Final

from vsfs.bitmap import Bitmap
from vsfs.buffer import BufferCache
from vsfs.device import Kind
from vsfs.errors import Corrupt
from vsfs.layout import (
    INLINE_SIZE,
    INODE_SIZE,
    ROOT_INO,
    TYPE_OF_MODE,
    InodeRecord,
    ceil_div,
    decode_inode,
    encode_inode,
    inode_generation,
)
from vsfs.validate import check_inode

#: Inodes kept in memory while nobody has them open: 3 MiB.
DEFAULT_CAPACITY: Final = 4_000
#: Names in the indexes of directories that are kept: 5 MiB.
DEFAULT_NAMES: Final = 16_000

_NO_INLINE: Final = bytes(INLINE_SIZE)
_NEVER_USED: Final = decode_inode(bytes(INODE_SIZE), 0)
_INODE_TABLE: Final = Kind.INODE_TABLE  # to ask an enum for it takes as long as a call
#: What an Inode and its record both have, but for the pointers: a list in one of them.
_RECORDED_NAMES: Final = tuple(
    name for name in InodeRecord._fields if name not in ("pointers", "checksum")
)
_RECORDED: Final = attrgetter(*_RECORDED_NAMES)
_POINTERS: Final = InodeRecord._fields.index("pointers")


class Inode:
    """One file, directory, symbolic link or special file in memory.

    Times are ns since 1970, `size` bytes, `blocks` blocks.  `pointers` are the
    direct block numbers followed by the single, double and triple indirect.
    """

    __slots__ = (
        "atime_ns",
        "attribute_block",
        "blocks",
        "btime_ns",
        "ctime_ns",
        "device",
        "flags",
        "generation",
        "gid",
        "goal",
        "index",
        "inline",
        "ino",
        "mode",
        "mtime_ns",
        "nlink",
        "open_count",
        "pointers",
        "recent",
        "saved_in",
        "searched",
        "size",
        "uid",
        "version",
    )

    def __init__(self, ino: int, record: InodeRecord) -> None:
        self.ino = ino
        self.open_count = 0
        self.recent = False  # asked for again since the table was last trimmed
        self.searched = False  # its index was used since indexes were last dropped
        self.index: Sized | None = None  # its names, kept here for the directory layer
        self.saved_in = 0
        self.version = 0  # rises with each change of the contents
        self.goal = 0  # where its first block should go, while it has none; 0: anywhere
        (
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            self.size,
            self.blocks,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            self.btime_ns,
            self.flags,
            self.generation,
            self.device,
            pointers,
            self.attribute_block,
            inline,
            _,
        ) = record
        self.pointers = list(pointers)
        self.inline = _NO_INLINE if inline == _NO_INLINE else inline  # mostly: one object for all

    @property
    def state(self) -> tuple[tuple[Any, ...], list[int]]:
        """All that a record holds, for :meth:`restore`; quicker than to make one."""
        return _RECORDED(self), self.pointers.copy()

    @property
    def record(self) -> InodeRecord:
        """What the disk would hold for it now."""
        values, pointers = self.state
        checksum = 0  # is for who encodes it
        return InodeRecord._make(
            (*values[:_POINTERS], tuple(pointers), *values[_POINTERS:], checksum)
        )

    def restore(self, state: tuple[tuple[Any, ...], list[int]]) -> None:
        """Take back all changes since `state` was taken."""
        values, self.pointers = state
        for name, value in zip(_RECORDED_NAMES, values, strict=True):
            setattr(self, name, value)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def file_type(self) -> int:
        """Its type code in a directory record."""
        return TYPE_OF_MODE[stat.S_IFMT(self.mode)]


class InodeTable:
    """Inodes by number: read, allocate, modify, free.

    Keeps the objects of up to `capacity` inodes that nobody has open; a changed
    one stays until a commit wrote it.  Of directories it keeps indexes with up to
    `names` names, and those that are in use in any case.
    """

    def __init__(
        self,
        cache: BufferCache,
        bitmap: Bitmap,
        capacity: int = DEFAULT_CAPACITY,
        names: int = DEFAULT_NAMES,
    ) -> None:
        self.bitmap = bitmap
        self.capacity = capacity
        self.names = names
        self._indexed: dict[int, Inode] = {}  # directories with an index, oldest first
        self._names_left = names  # that can come before the next trim
        self._cache = cache
        self._inodes: dict[int, Inode] = {}
        self._dirty: dict[int, Inode] = {}
        #: Whether :meth:`trim` has enough to do to be worth its walk.
        self.is_crowded = False
        #: Whether so many are changed that a commit should make them forgettable.
        self.is_overdue = False
        cache.prepare.append(self._encode)

    def get(self, ino: int) -> Inode:
        """The inode that a directory entry or a handle names.

        Raises Corrupt (EUCLEAN) if there can be no such inode, if it is free, or
        if its record is damaged.
        """
        inode = self._inodes.get(ino)
        if inode is None:
            return self._load(ino)
        inode.recent = True
        return inode

    def cached(self, ino: int) -> Inode | None:
        """The inode `ino` if it is in memory; never reads."""
        return self._inodes.get(ino)

    def _load(self, ino: int) -> Inode:
        geometry = self._cache.geometry
        if not ROOT_INO <= ino < geometry.inode_count:  # nobody may open the journal
            raise Corrupt(
                f"inode number {ino}",
                geometry.inode_table_start,
                0,
                "a directory entry with it",
                f"a number from {ROOT_INO} to {geometry.inode_count - 1}",
            )
        block, offset = geometry.inode_location(ino)
        data = self._cache.read(block, Kind.INODE_TABLE, ino).data[offset : offset + INODE_SIZE]
        record = check_inode(ino, bytes(data), geometry)
        if record.nlink == 0:
            raise Corrupt(
                f"inode {ino}", block, offset, "a free inode", "one in use, since an entry names it"
            )
        inode = self._inodes[ino] = Inode(ino, record)
        self._look_for_crowd()
        return inode

    def modify(self, inode: Inode) -> None:
        """Announce a change of `inode` in the running operation."""
        cache = self._cache
        if cache.limit is not None:
            cache.expect(cache.geometry.inode_location(inode.ino)[0])
        if inode.saved_in != cache.operation:
            inode.saved_in = cache.operation
            state = inode.state
            cache.undo(lambda: inode.restore(state))
        if inode.ino not in self._dirty:
            self._note_dirty(inode)
            # its block is no longer expected either, and may not fit into the journal
            cache.undo(lambda: self._forget_change(inode.ino))

    def _note_dirty(self, inode: Inode) -> None:
        dirty = self._dirty
        dirty[inode.ino] = inode
        if len(dirty) > self.capacity:
            self.is_overdue = True

    def _forget_change(self, ino: int) -> None:
        self._dirty.pop(ino, None)
        self.is_overdue = len(self._dirty) > self.capacity

    def allocate(self, mode: int, uid: int, gid: int, now_ns: int) -> Inode:
        """A new inode with a link count of 0, written at the next commit.

        Raises NoSpace (ENOSPC) when all are in use.
        """
        ino, _ = self.bitmap.allocate(None)
        cache = self._cache
        block, offset = cache.geometry.inode_location(ino)
        data = cache.read(block, _INODE_TABLE, ino).data
        generation = (inode_generation(data, offset) + 1) & 0xFFFFFFFF
        inode = Inode(ino, _NEVER_USED)
        inode.mode, inode.uid, inode.gid, inode.generation = mode, uid, gid, generation
        inode.atime_ns = inode.mtime_ns = inode.ctime_ns = inode.btime_ns = now_ns
        if cache.limit is not None:
            cache.expect(block)
        cache.undo(lambda: self._discard(ino))
        self._inodes[ino] = inode
        self._note_dirty(inode)
        return inode

    def free(self, inode: Inode) -> None:
        """Give back an inode without links; its number is free at the next commit.

        The record keeps what it last pointed to, for those who look at deleted
        files; its blocks must have been freed.
        """
        self.modify(inode)
        self.bitmap.free(inode.ino)

    def orphans(self) -> Iterator[Inode]:
        """Every inode that is in use and has no links; reads the whole table.

        For a mount that recovers, before anything is open.
        """
        geometry = self._cache.geometry
        per_block = geometry.inodes_per_block
        for index in range(ceil_div(geometry.inode_count, per_block)):
            data = self._cache.read(geometry.inode_table_start + index, Kind.INODE_TABLE).data
            if not any(data):
                continue
            for slot in range(per_block):
                ino = index * per_block + slot
                record = decode_inode(data, slot * INODE_SIZE)
                if record.nlink == 0 and ino >= ROOT_INO and self.bitmap.is_set(ino):
                    raw = bytes(data[slot * INODE_SIZE : (slot + 1) * INODE_SIZE])
                    yield Inode(ino, check_inode(ino, raw, geometry))

    def _discard(self, ino: int) -> None:
        del self._inodes[ino]
        self._forget_change(ino)

    def _encode(self) -> None:
        """Put the changed inodes into their blocks; part of every commit."""
        cache, location = self._cache, self._cache.geometry.inode_location
        for ino, inode in self._dirty.items():
            block, offset = location(ino)
            buffer = cache.read(block, _INODE_TABLE)
            cache.modify(buffer)
            buffer.data[offset : offset + INODE_SIZE] = encode_inode(ino, inode.record)
            if inode.nlink == 0 and inode.open_count == 0:
                self._inodes.pop(ino, None)
        self._dirty.clear()
        self.is_overdue = False
        self._look_for_crowd()

    def indexed(self, inode: Inode) -> None:
        """Note that a directory has got an index."""
        self._indexed[inode.ino] = inode
        self._names_left -= len(inode.index or ())
        self._look_for_crowd()

    def named(self) -> None:
        """Note that the index of some directory has got a name."""
        self._names_left -= 1
        if self._names_left < 0:
            self.is_crowded = True

    def _look_for_crowd(self) -> None:
        if self._has_many_inodes or self._has_many_names:
            self.is_crowded = True

    @property
    def _has_many_inodes(self) -> bool:
        return len(self._inodes) - len(self._dirty) > self.capacity

    @property
    def _has_many_names(self) -> bool:
        return self._names_left < 0

    def trim(self) -> None:
        """Forget inodes, and indexes of directories, beyond what is allowed.

        Between operations only, since an operation may hold any of them.
        """
        if self._has_many_inodes:
            self._trim_inodes()
        if self._has_many_names:
            self._trim_indexes()
        self.is_crowded = self._has_many_inodes or self._has_many_names

    def _trim_inodes(self) -> None:
        """Forget inodes that are neither open nor changed, until half are left.

        The oldest go first, but one that was asked for again gets a second chance:
        a directory in use keeps its index.
        """
        surplus = len(self._inodes) - len(self._dirty) - self.capacity // 2
        for ino, inode in list(self._inodes.items()):
            if surplus <= 0:
                break
            if inode.recent:
                inode.recent = False
            elif inode.open_count == 0 and ino not in self._dirty:
                del self._inodes[ino]
                surplus -= 1

    def _trim_indexes(self) -> None:
        """Drop the indexes of directories, the oldest first, that nobody used since last time.

        What is in use stays, however large: between two directories of 100,000 names
        files can be moved without reading one of them again for each.  The blocks have
        all that an index knows, so a changed directory can lose its own.
        """
        kept = {ino: inode for ino, inode in self._indexed.items() if inode.index is not None}
        total = sum(len(inode.index or ()) for inode in kept.values())
        for ino, inode in list(kept.items()):
            if total > self.names and not inode.searched:
                total -= len(inode.index or ())
                inode.index = None
                del kept[ino]
            inode.searched = False
        self._indexed = kept
        # at least a quarter, so that the walk pays where directories in use have more than all may
        self._names_left = max(self.names - total, self.names // 4)
