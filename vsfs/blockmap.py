"""The block map: which disk block holds block k of a file (OSTEP 40.3).

The first 12 blocks are found through direct pointers in the inode, the next
through one, two and three levels of indirect blocks.  A pointer of 0 is a hole:
it reads as zeroes and takes no block.

All functions work on *runs*, since neighbouring file blocks are usually
neighbours on the disk: one lookup, one allocation, one device access for many
blocks.  They change inodes and indirect blocks in memory, to be written at the
next commit; the caller has announced the inode with ``InodeTable.modify``.

Where a block goes (docs/DESIGN.md has the reasons): the first one of a file near
its directory, the next one behind its predecessor, an indirect block between the
blocks before it and those it points to.  A place is only ever a wish; all that
there is gets used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from vsfs.bitmap import Bitmap
from vsfs.buffer import Buffer, BufferCache
from vsfs.device import Kind
from vsfs.errors import Corrupt, NoSpace
from vsfs.inode import Inode
from vsfs.layout import DIRECT_POINTERS, INDIRECT_LEVELS, POINTER_SIZE, get_pointers, put_pointers

#: A file of so many blocks that must go on elsewhere skips ahead by its length ...
_GROWING: Final = 16
#: ... but by no more than so many bytes, and never asks for a longer run.
_MOST_AHEAD: Final = 8 * 1024 * 1024
#: Pointers before a hole that are searched for a neighbour.
_LOOK_BACK: Final = 16
_DATA: Final = Kind.DATA  # to ask an enum for it takes as long as a call
_INDIRECT: Final = Kind.INDIRECT


@dataclass(slots=True)
class Run:
    """`count` file blocks in a row that lie in a row on the disk from `block` on.

    `block` 0 is a hole.  `fresh` blocks were allocated by the call that returned
    the run, and what they hold on the disk is not the file's yet.  (Not frozen:
    that would double the time to make one, and every read and write makes some.)
    """

    block: int
    count: int
    fresh: bool = False


@dataclass(slots=True)
class _Leaf:
    """A stretch of pointers to file blocks: in the inode, or an indirect block."""

    buffer: Buffer | None  # None: the direct pointers
    index: int  # of the first pointer wanted
    count: int  # pointers from there to the end of the stretch
    is_hole: bool = False  # indirect blocks that are not there


@dataclass(slots=True)
class _Place:
    """Where the next block of a file that is being written should go."""

    goal: int | None
    wanted: int  # blocks still to come
    follows: bool  # the block before `goal` is the one before it in the file


class BlockMap:
    """Finds, allocates and frees the blocks of files."""

    def __init__(self, cache: BufferCache, bitmap: Bitmap) -> None:
        self.bitmap = bitmap
        self._cache = cache
        self._geometry = cache.geometry
        self._most_ahead = max(_MOST_AHEAD // cache.geometry.block_size, _GROWING)

    # -- finding --------------------------------------------------------------

    def runs(self, inode: Inode, first: int, count: int) -> list[Run]:
        """The runs of file blocks `first` to `first + count - 1`, in file order.

        Raises Corrupt (EUCLEAN) for a pointer that leaves the data region.
        """
        if count == 1:  # the commonest, and the short way
            return [Run(self._block_of(inode, first), 1)]
        found: list[Run] = []
        while count:
            leaf = self._leaf(inode, first)
            part = min(count, leaf.count)
            if leaf.is_hole:
                _append(found, Run(0, part))
            else:
                for run in _runs_of(self._pointers(inode, leaf, part)):
                    _append(found, run)
            first, count = first + part, count - part
        return found

    def _block_of(self, inode: Inode, file_block: int) -> int:
        """The disk block of one file block, 0 for a hole; raises Corrupt as :meth:`runs`."""
        slot, indexes = pointer_path(file_block, self._geometry.pointers_per_block)
        block = inode.pointers[slot]
        for index in indexes:
            if not block:
                break
            buffer = self._cache.read(block, _INDIRECT, inode.ino)
            (block,) = self._pointers(inode, _Leaf(buffer, index, 1), 1)
        return block

    def seek(self, inode: Inode, first: int, end: int, *, hole: bool) -> int:
        """The first file block from `first` on that is a hole, or else that is none.

        `end` if there is none before.  Looks at the pointers that there are, never
        at each block of a hole.  Raises Corrupt (EUCLEAN) as :meth:`runs`, and after
        more blocks than the inode owns: pointers may loop.
        """
        seen = 0  # blocks of the inode
        while first < end:
            leaf = self._leaf(inode, first)
            if leaf.is_hole:
                runs = [Run(0, leaf.count)]
            else:
                runs = _runs_of(self._pointers(inode, leaf, min(leaf.count, end - first)))
                seen += leaf.buffer is not None
            for run in runs:
                if hole == (run.block == 0):
                    return first
                first += run.count
                seen += run.count if run.block else 0
            if seen > inode.blocks:
                raise self._too_many(inode)
        return end

    def _leaf(self, inode: Inode, file_block: int) -> _Leaf:
        """The stretch of pointers that file block `file_block` stands in.

        Where indirect blocks are not there, all that would lie below them.
        """
        if file_block < DIRECT_POINTERS:
            return _Leaf(None, file_block, DIRECT_POINTERS - file_block)
        per_block = self._geometry.pointers_per_block
        slot, indexes = pointer_path(file_block, per_block)
        span = per_block ** len(indexes)  # file blocks below the pointer looked at
        within = 0  # which of them
        for index in indexes:
            within = within * per_block + index
        block, zeroes = inode.pointers[slot], 1
        for index in indexes[:-1]:
            if not block:
                break
            span //= per_block
            within %= span
            buffer = self._cache.read(block, Kind.INDIRECT, inode.ino)
            block = self._pointers(inode, _Leaf(buffer, index, 1), 1)[0]
            if not block:
                zeroes = _leading_zeroes(buffer.data, index)
        if not block:
            return _Leaf(None, 0, zeroes * span - within, is_hole=True)
        return _Leaf(self._cache.read(block, Kind.INDIRECT, inode.ino), within, span - within)

    def _pointers(self, inode: Inode, leaf: _Leaf, count: int) -> tuple[int, ...]:
        """`count` pointers of a leaf, each checked."""
        if leaf.buffer is None:  # checked when the inode was read
            return tuple(inode.pointers[leaf.index : leaf.index + count])
        pointers = get_pointers(leaf.buffer.data, leaf.index, count)
        start, end = self._geometry.data_start, self._geometry.block_count
        for index, pointer in enumerate(pointers, leaf.index):
            if pointer and not start <= pointer < end:
                raise Corrupt(
                    f"pointer {index} of an indirect block of inode {inode.ino}",
                    leaf.buffer.block_no,
                    index * POINTER_SIZE,
                    str(pointer),
                    f"0 or a block from {start} to {end - 1}",
                )
        return pointers

    # -- allocating -----------------------------------------------------------

    def allocate(self, inode: Inode, first: int, count: int) -> list[Run]:
        """Like :meth:`runs`, but with a block for every hole.

        When space runs out, the runs cover only the first blocks; raises NoSpace
        (ENOSPC) if not even one is there.
        """
        end = first + count
        if end <= DIRECT_POINTERS:  # the commonest, and the short way
            return self._allocate_direct(inode, first, end, count)
        if count == 1 and (block := self._block_of(inode, first)):
            return [Run(block, 1)]
        found: list[Run] = []
        if first < DIRECT_POINTERS:  # and an indirect block comes in between
            found = self._allocate_direct(inode, first, DIRECT_POINTERS, count + 1)
            first += sum(run.count for run in found)
            if first < DIRECT_POINTERS:  # no space is left
                return found
        place: _Place | None = None  # found out when it is needed
        try:
            while first < end:
                leaf = self._leaf(inode, first)
                if leaf.is_hole:
                    place = place or self._place(inode, first, end - first)
                    self._create_path(inode, first, place)
                    leaf = self._leaf(inode, first)
                pointers = self._pointers(inode, leaf, min(end - first, leaf.count))
                if all(pointers):
                    place, runs = None, iter(_runs_of(pointers))
                else:
                    place = place or self._place(inode, first, end - first)
                    runs = self._fill(inode, pointers, place, partial(self._put, leaf))
                for run in runs:
                    _append(found, run)
                    first += run.count
        except NoSpace:
            if not found:
                raise
        return found

    def _allocate_direct(self, inode: Inode, first: int, end: int, wanted: int) -> list[Run]:
        """What :meth:`allocate` does for blocks that the inode itself points to.

        `wanted` blocks are being written in all, beyond `end`, too.
        """
        pointers = inode.pointers
        found: list[Run] = []
        if first == 0 and not any(pointers):  # a file's first blocks, nearly always in one run
            room = min(wanted, self._most_ahead)
            block, first = self.bitmap.allocate(inode.goal or None, end, room)
            inode.blocks += first
            pointers[:first] = range(block, block + first)
            found.append(Run(block, first, fresh=True))
            if first == end:
                return found
        elif all(pointers[first:end]):
            return _runs_of(pointers[first:end])

        def put(index: int, blocks: range) -> None:
            pointers[first + index : first + index + len(blocks)] = blocks

        place = self._place(inode, first, wanted)
        try:
            for run in self._fill(inode, pointers[first:end], place, put):
                _append(found, run)
        except NoSpace:
            if not found:
                raise
        return found

    def _place(self, inode: Inode, file_block: int, count: int) -> _Place:
        """Where `count` blocks from `file_block` on are best.

        Behind a neighbour that comes before them, or behind the indirect block with
        their pointers, or behind what the inode points to; else near the directory.
        """
        block = 0
        if 0 < file_block <= DIRECT_POINTERS and inode.pointers[file_block - 1]:
            return _Place(inode.pointers[file_block - 1] + 1, count, follows=True)
        if file_block:
            leaf = self._leaf(inode, file_block - 1)
            if not leaf.is_hole:
                (block,) = self._pointers(inode, leaf, 1)
                if block:
                    return _Place(block + 1, count, follows=True)
                block = self._neighbour(inode, leaf)
        block = block or max(inode.pointers)
        goal = block + 1 if block else inode.goal or None
        return _Place(goal, count, follows=False)

    def _neighbour(self, inode: Inode, leaf: _Leaf) -> int:
        """The block of the last pointer before a leaf's first, of those close to it.

        If all are holes, the indirect block itself; 0 for direct pointers.
        """
        first = max(leaf.index - _LOOK_BACK, 0)
        pointers = self._pointers(inode, _Leaf(leaf.buffer, first, 0), leaf.index - first)
        own = leaf.buffer.block_no if leaf.buffer else 0
        return next(filter(None, reversed(pointers)), own)

    def _take(self, inode: Inode, place: _Place, count: int) -> tuple[int, int]:
        """Allocate up to `count` blocks in a row; return (the first, how many)."""
        block, got = place.goal, 0
        if block is not None and place.follows:
            got = self.bitmap.extend(block, count)
        if block is None or not got:
            block, got = self._move_on(inode, place, count)
        place.goal, place.follows = block + got, True
        place.wanted -= got
        inode.blocks += got
        return block, got

    def _move_on(self, inode: Inode, place: _Place, count: int) -> tuple[int, int]:
        """Allocate where the file can go on, since right behind its last block it cannot.

        Something else grows there.  A file that does not keep out of its way would
        have to move again after each write: so one that has some length goes as
        much further, and looks for as much room.
        """
        goal, room = place.goal, max(place.wanted, count)
        if goal is not None and place.follows and inode.blocks >= _GROWING and inode.is_regular:
            ahead = min(inode.blocks, self._most_ahead)
            room = max(room, ahead)
            if goal + ahead < self._geometry.block_count:
                goal += ahead
        return self.bitmap.allocate(goal, count, min(room, self._most_ahead))

    def _create_path(self, inode: Inode, file_block: int, place: _Place) -> None:
        """Allocate the missing indirect blocks above one file block.

        All of them and one data block, or none: raises NoSpace (ENOSPC) first.
        """
        slot, indexes = pointer_path(file_block, self._geometry.pointers_per_block)
        missing = len(indexes) + 1
        block = inode.pointers[slot]
        if not block:
            self.bitmap.require(missing)
            block = inode.pointers[slot] = self._new_indirect(inode, place)
        for index in indexes[:-1]:
            missing -= 1
            buffer = self._cache.read(block, Kind.INDIRECT, inode.ino)
            block = self._pointers(inode, _Leaf(buffer, index, 1), 1)[0]
            if not block:
                self.bitmap.require(missing)
                block = self._new_indirect(inode, place)
                self._cache.modify(buffer, index * POINTER_SIZE, (index + 1) * POINTER_SIZE)
                put_pointers(buffer.data, index, (block,))

    def _new_indirect(self, inode: Inode, place: _Place) -> int:
        """Allocate an indirect block full of holes."""
        block, _ = self._take(inode, place, 1)
        self._cache.create(block, bytearray(self._geometry.block_size), Kind.INDIRECT, inode.ino)
        return block

    def _fill(
        self,
        inode: Inode,
        pointers: Sequence[int],
        place: _Place,
        put: Callable[[int, range], None],
    ) -> Iterator[Run]:
        """Runs for `pointers`, allocating where they are 0.

        `put` gets the index of the first and the blocks, before their run is yielded.
        """
        index, count = 0, len(pointers)
        while index < count:
            if pointers[index]:
                place.goal, place.follows = pointers[index] + 1, True
                yield Run(pointers[index], 1)
                index += 1
                continue
            hole_end = index
            while hole_end < count and not pointers[hole_end]:
                hole_end += 1
            block, got = self._take(inode, place, hole_end - index)
            put(index, range(block, block + got))
            yield Run(block, got, fresh=True)
            index += got

    def _put(self, leaf: _Leaf, index: int, blocks: range) -> None:
        """Have pointers of an indirect block point to `blocks`, from one of a leaf's on."""
        assert leaf.buffer is not None
        start, end = leaf.index + index, leaf.index + index + len(blocks)
        self._cache.modify(leaf.buffer, start * POINTER_SIZE, end * POINTER_SIZE)
        put_pointers(leaf.buffer.data, start, tuple(blocks))

    # -- freeing --------------------------------------------------------------

    def truncate(self, inode: Inode, keep: int) -> None:
        """Free every block of the file from file block `keep` on.

        Pointers to them become 0, and indirect blocks without use are freed.
        """
        if keep == 0 and not inode.goal:
            # the first place, not the last: a file that is often rewritten would wander off
            inode.goal = inode.pointers[0]
        for index in range(keep, DIRECT_POINTERS):
            if inode.pointers[index]:
                self._release(inode, Kind.DATA, Run(inode.pointers[index], 1))
                inode.pointers[index] = 0
        start = DIRECT_POINTERS  # first file block below the indirect pointer
        for level in range(1, INDIRECT_LEVELS + 1):
            slot = DIRECT_POINTERS + level - 1
            span = self._geometry.pointers_per_block**level
            if inode.pointers[slot] and keep < start + span:
                kept = max(keep - start, 0)
                if self._truncate_tree(inode, inode.pointers[slot], level, kept):
                    inode.pointers[slot] = 0
            start += span

    def _truncate_tree(self, inode: Inode, block: int, level: int, keep: int) -> bool:
        """Free what lies below an indirect block from its `keep`-th file block on.

        Returns whether the indirect block itself was freed, too.
        """
        if keep == 0:
            self._free_tree(inode, block, level)
            return True
        buffer = self._cache.read(block, Kind.INDIRECT, inode.ino)
        per_block = self._geometry.pointers_per_block
        below = per_block ** (level - 1)  # file blocks below each pointer
        first, partly = divmod(keep, below)
        pointers = self._pointers(inode, _Leaf(buffer, first, 0), per_block - first)
        remaining = list(pointers)
        for index, pointer in enumerate(pointers):
            if not pointer:
                continue
            if index == 0 and partly:
                if not self._truncate_tree(inode, pointer, level - 1, partly):
                    continue
            elif level == 1:
                self._release(inode, Kind.DATA, Run(pointer, 1))
            else:
                self._free_tree(inode, pointer, level - 1)
            remaining[index] = 0
        self._cache.modify(buffer)
        put_pointers(buffer.data, first, remaining)
        return False

    def _free_tree(self, inode: Inode, block: int, level: int) -> None:
        """Free an indirect block and all below it; its contents stay as they are."""
        # all of them first: freeing an indirect block drops it from the cache
        for role, run in list(self._bounded(inode, self._tree_runs(inode, block, level))):
            self._release(inode, role, run)

    def _release(self, inode: Inode, role: Kind, run: Run) -> None:
        """Free a run and count it off the inode's blocks."""
        if inode.blocks < run.count:
            raise self._too_many(inode)
        for block in _metadata_blocks(inode, role, run):
            self._cache.forget(block)
        self.bitmap.free(run.block, run.count)
        inode.blocks -= run.count

    def _too_many(self, inode: Inode) -> Corrupt:
        block, offset = self._geometry.inode_location(inode.ino)
        return Corrupt(
            f"inode {inode.ino} field blocks",
            block,
            offset,
            str(inode.blocks),
            "as many blocks as its pointers reach, which are more",
        )

    def free_all(self, inode: Inode) -> None:
        """Free every block of an inode that is itself being freed.

        The pointers stay as they are, so that a deleted file can be looked at,
        and so that a crash before the commit finds the file whole.
        """
        for role, run in self._owned(inode):
            for block in _metadata_blocks(inode, role, run):
                self._cache.forget_after_commit(block)
            self.bitmap.free(run.block, run.count)

    def _owned(self, inode: Inode) -> list[tuple[Kind, Run]]:
        """All of :meth:`all_runs`; quicker where there are no indirect blocks."""
        if inode.attribute_block or any(inode.pointers[DIRECT_POINTERS:]):
            return list(self.all_runs(inode))
        if inode.blocks == 1 and inode.pointers[0] and not any(inode.pointers[1:]):
            return [(_DATA, Run(inode.pointers[0], 1))]
        runs = [run for run in _runs_of(inode.pointers[:DIRECT_POINTERS]) if run.block]
        if sum([run.count for run in runs]) > inode.blocks:
            raise self._too_many(inode)
        return [(_DATA, run) for run in runs]

    def all_runs(self, inode: Inode) -> Iterator[tuple[Kind, Run]]:
        """Every block the inode owns, holes left out: (what it holds, run).

        An indirect block comes before what it points to.
        """
        return self._bounded(inode, self._walk(inode))

    def _bounded(
        self, inode: Inode, runs: Iterator[tuple[Kind, Run]]
    ) -> Iterator[tuple[Kind, Run]]:
        """Raise Corrupt after more blocks than the inode owns: pointers may loop."""
        count = 0
        for role, run in runs:
            count += run.count
            if count > inode.blocks:
                raise self._too_many(inode)
            yield role, run

    def _walk(self, inode: Inode) -> Iterator[tuple[Kind, Run]]:
        for run in _runs_of(inode.pointers[:DIRECT_POINTERS]):
            if run.block:
                yield Kind.DATA, run
        for level in range(1, INDIRECT_LEVELS + 1):
            block = inode.pointers[DIRECT_POINTERS + level - 1]
            if block:
                yield from self._tree_runs(inode, block, level)
        if inode.attribute_block:
            yield Kind.ATTRIBUTE, Run(inode.attribute_block, 1)

    def _tree_runs(self, inode: Inode, block: int, level: int) -> Iterator[tuple[Kind, Run]]:
        yield Kind.INDIRECT, Run(block, 1)
        buffer = self._cache.read(block, Kind.INDIRECT, inode.ino)
        pointers = self._pointers(inode, _Leaf(buffer, 0, 0), self._geometry.pointers_per_block)
        if level == 1:
            for run in _runs_of(pointers):
                if run.block:
                    yield Kind.DATA, run
            return
        for pointer in pointers:
            if pointer:
                yield from self._tree_runs(inode, pointer, level - 1)


def _metadata_blocks(inode: Inode, role: Kind, run: Run) -> range:
    """The blocks of a run that the buffer cache may hold."""
    is_metadata = role != _DATA or inode.is_directory
    return range(run.block, run.block + run.count if is_metadata else run.block)


def pointer_path(file_block: int, per_block: int) -> tuple[int, tuple[int, ...]]:
    """Which pointers lead to `file_block`: (slot in the inode, index at each level).

    >>> pointer_path(11, 1024), pointer_path(12, 1024)
    ((11, ()), (12, (0,)))
    >>> pointer_path(12 + 1024, 1024), pointer_path(12 + 1024 + 1024**2, 1024)
    ((13, (0, 0)), (14, (0, 0, 0)))
    """
    if file_block < DIRECT_POINTERS:
        return file_block, ()
    rest = file_block - DIRECT_POINTERS
    if rest < per_block:  # nearly always
        return DIRECT_POINTERS, (rest,)
    for level in range(1, INDIRECT_LEVELS + 1):
        if rest < per_block**level:
            indexes = []
            for _ in range(level):
                rest, index = divmod(rest, per_block)
                indexes.append(index)
            return DIRECT_POINTERS + level - 1, tuple(reversed(indexes))
        rest -= per_block**level
    raise ValueError(f"file block {file_block} is out of reach")


def _leading_zeroes(pointers: bytearray, index: int) -> int:
    """How many pointers of an indirect block are 0 in a row, from `index` on."""
    rest = pointers[index * POINTER_SIZE :]
    return (len(rest) - len(rest.lstrip(b"\0"))) // POINTER_SIZE


def _runs_of(pointers: Sequence[int]) -> list[Run]:
    """Pointers in file order as runs; flat, since every read and write pays for it."""
    found = []
    start, count, following = 0, 0, -1
    for pointer in pointers:
        if count and pointer == following:
            count += 1
        else:
            if count:
                found.append(Run(start, count))
            start, count = pointer, 1
        following = pointer + 1 if pointer else 0
    if count:
        found.append(Run(start, count))
    return found


def _append(runs: list[Run], run: Run) -> None:
    """Add `run` to the end of `runs`, as one with the last where they touch."""
    if runs:
        last = runs[-1]
        follows = last.block + last.count if last.block else 0
        if run.block == follows and run.fresh == last.fresh:
            runs[-1] = Run(last.block, last.count + run.count, run.fresh)
            return
    runs.append(run)
