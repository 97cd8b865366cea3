"""The buffer cache: metadata blocks in memory, and when they reach the disk.

Two ideas, as in every Unix since the sixth edition and in xv6's log:

* An **operation** (one system call) changes blocks in memory only.  It happens
  wholly or not at all: :meth:`BufferCache.rollback` undoes a failed one.
* A **transaction** is all operations since the last commit.
  :meth:`BufferCache.commit` writes its blocks to the device, in an order that
  leaves a repairable filesystem wherever the plug is pulled.

The usual sequence, always under the volume's lock::

    cache.begin()
    buffer = cache.read(block_no, Kind.DIRECTORY, ino)
    cache.modify(buffer)            # before every change of buffer.data
    buffer.data[offset] = ...
    cache.end()                     # or rollback()
    ...
    cache.commit()                  # now, later, or with many other operations

Layers that keep objects in memory (inodes, free counts) register a `prepare`
hook, which encodes them into buffers just before the commit writes.

File data does not come through here.  It goes straight to the device, and the
commit's first barrier makes it durable before any metadata that points to it.

What reaches the disk is decided in one function, :attr:`BufferCache.write_back`.
Without a journal it is :meth:`BufferCache.write_in_order`; a journal puts its
own in that place, with a `limit` of blocks for a transaction: an operation for
which the transaction has no room is told to commit first (TransactionFull).
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from vsfs.device import BlockDevice, Kind
from vsfs.errors import CommitNeeded, Corrupt, ReadOnly, TransactionFull, posix_error
from vsfs.layout import Geometry

#: Clean blocks kept for the next reader: 4 MiB of 4 KiB blocks.
DEFAULT_CAPACITY: Final = 1024
_SUPERBLOCK: Final = 0
#: The block being asked for, and the superblock, which every commit changes.
_ALWAYS_CHANGED: Final = 2
#: A transaction with more dirty blocks than this commits at the end of its
#: operation, so that memory stays bounded.
_MAX_DIRTY: Final = 2048


class Buffer:
    """One metadata block in memory."""

    __slots__ = ("block_no", "data", "dirty", "fresh", "ino", "kind", "saved_in")

    def __init__(self, block_no: int, data: bytearray, kind: Kind, ino: int) -> None:
        self.block_no = block_no
        self.data = data
        self.kind = kind
        self.ino = ino  # the inode it belongs to; 0 where many share it
        self.dirty = False
        self.fresh = False  # allocated in this transaction: nothing on disk points to it
        self.saved_in = 0  # number of the operation that can undo all changes of it


def _claimed_twice(buffer: Buffer, kind: Kind) -> Corrupt:
    return Corrupt(
        f"{kind.label} block {buffer.block_no}",
        buffer.block_no,
        0,
        f"a block that is in use as {buffer.kind.label}",
        "a block of its own",
    )


class BufferCache:
    """Metadata blocks of one device, with operations and transactions.

    In memory only: which blocks are dirty, and the undo list of the running
    operation.  Clean blocks are dropped, least recently used first, beyond
    `capacity`; dirty ones stay until a commit wrote them.
    """

    def __init__(
        self, device: BlockDevice, geometry: Geometry, capacity: int = DEFAULT_CAPACITY
    ) -> None:
        self.device = device
        self.geometry = geometry
        self.capacity = capacity
        self.write_back: Callable[[list[Buffer]], None] = self.write_in_order
        #: Called at the end of an operation when there is too much to write; it commits.
        self.overdue: Callable[[], None] = self.commit
        #: Encoders of in-memory objects, called in order at each commit.
        self.prepare: list[Callable[[], None]] = []
        #: Called after a commit, when nothing is dirty.
        self.committed: list[Callable[[], None]] = []
        #: Blocks that a transaction can have; None if nothing bounds it.
        self.limit: int | None = None
        #: Set when a commit failed half-way: what is on disk is then unsure.
        self.failed = False
        self.operation = 0
        self._blocks: OrderedDict[int, Buffer] = OrderedDict()
        self._dirty: dict[int, Buffer] = {}
        self._undo: list[Callable[[], object]] = []
        #: Has an action called if the running operation is rolled back.
        self.undo: Callable[[Callable[[], object]], None] = self._undo.append
        self._touched = False
        self._unflushed_data = False
        self._gaining: set[int] = set()
        self._losing: set[int] = set()
        self._expiring: list[int] = []
        self._frees = False
        self._expected: set[int] = set()  # blocks that the commit itself will change
        self._committing = False
        self._committed_in = 0  # what `operation` was at the last commit

    # -- blocks ---------------------------------------------------------------

    def read(self, block_no: int, kind: Kind, ino: int = 0) -> Buffer:
        """The buffer of `block_no`, from memory or from the device (EIO).

        Raises Corrupt (EUCLEAN) if the block is in memory as something else:
        then two structures claim it.
        """
        buffer = self._blocks.get(block_no)
        if buffer is not None:
            if buffer.kind != kind:
                raise _claimed_twice(buffer, kind)
            self._blocks.move_to_end(block_no)
            return buffer
        data = bytearray(self.device.read(block_no, self.geometry.block_size, 0, kind, ino))
        buffer = self._blocks[block_no] = Buffer(block_no, data, kind, ino)
        if len(self._blocks) > self.capacity + len(self._dirty):
            self._drop_oldest()
        return buffer

    def cached(self, block_no: int) -> Buffer | None:
        """The buffer of `block_no` if it is in memory; never reads."""
        return self._blocks.get(block_no)

    def create(self, block_no: int, data: bytearray, kind: Kind, ino: int) -> Buffer:
        """A buffer with new contents for a block allocated in this operation.

        Raises Corrupt (EUCLEAN) if the block is in memory already: then it was
        given out although something uses it.
        """
        present = self._blocks.get(block_no)
        if present is not None:
            raise _claimed_twice(present, kind)
        self._require_room(block_no)
        buffer = Buffer(block_no, data, kind, ino)
        buffer.dirty = buffer.fresh = True
        buffer.saved_in = self.operation
        self._blocks[block_no] = self._dirty[block_no] = buffer
        self._undo.append(lambda: self._remove(block_no))
        return buffer

    def modify(self, buffer: Buffer, start: int = 0, end: int | None = None) -> None:
        """Announce a change of the bytes `start` to `end` of a buffer in the running operation.

        Without an end, of any of them.  They are kept for undoing, and to keep a whole
        block for each bit that changes would take longer than the rest of an operation.
        Raises TransactionFull if no more blocks fit into the transaction.
        """
        if not buffer.dirty:
            self.touch(buffer)
        if buffer.saved_in != self.operation and not self._committing:
            if end is None:
                buffer.saved_in = self.operation
            before = buffer.data[start:end]
            self._undo.append(lambda: buffer.data.__setitem__(slice(start, end), before))

    def touch(self, buffer: Buffer) -> None:
        """As :meth:`modify`, for a change that the caller knows how to :attr:`undo`."""
        if buffer.dirty:
            return
        self._require_room(buffer.block_no)
        buffer.dirty = True
        self._dirty[buffer.block_no] = buffer
        self._undo.append(lambda: self._cleanse(buffer))
        # it may have been dropped since it was read; never replaced, though
        kept = self._blocks.setdefault(buffer.block_no, buffer)
        assert kept is buffer

    def expect(self, block_no: int) -> None:
        """Announce that a `prepare` hook will change `block_no`, for an object in memory.

        Raises TransactionFull as :meth:`modify`.
        """
        if self.limit is not None and block_no not in self._expected:
            self._require_room(block_no)
            self._expected.add(block_no)
            self._undo.append(lambda: self._expected.discard(block_no))

    @property
    def room(self) -> int | None:
        """Blocks that the transaction can take beside the superblock; None if any number."""
        if self.limit is None:
            return None
        return self.limit - 1 - len(self._dirty.keys() | self._expected)

    @property
    def is_first(self) -> bool:
        """Whether the running operation is the first since a commit."""
        return self.operation == self._committed_in + 1

    def _require_room(self, block_no: int) -> None:
        """Raise TransactionFull unless one more block fits into the transaction."""
        if self.limit is None or self._committing or block_no in self._expected:
            return
        if block_no == _SUPERBLOCK:  # its room is kept
            return
        waiting = len(self._dirty.keys() | self._expected)
        if waiting + _ALWAYS_CHANGED > self.limit:
            raise TransactionFull("the journal has no room for one more block")

    def forget(self, block_no: int) -> None:
        """`block_no` is being freed: its contents need not be written any more.

        Raises CommitNeeded as :meth:`forget_after_commit`.
        """
        self.require_arrived(block_no)
        buffer = self._remove(block_no)
        if buffer is not None:
            self._undo.append(lambda: self._restore(buffer))

    def forget_after_commit(self, block_no: int) -> None:
        """`block_no` is being freed, but the freed inode on the disk points to it.

        Until the commit is complete a crash may bring that inode back, so the
        block's contents are written with it once more.

        Raises CommitNeeded if a rename of this transaction moves a name out of the
        block: the freed inode would reach the disk before the name's new place does.
        """
        self.require_arrived(block_no)
        self._expiring.append(block_no)
        self._undo.append(self._expiring.pop)

    def require_arrived(self, block_no: int) -> None:
        """Raise CommitNeeded if a rename of this transaction moves a name out of `block_no`."""
        if block_no in self._losing:
            raise CommitNeeded("a name that was in this block must arrive elsewhere first")

    def _remove(self, block_no: int) -> Buffer | None:
        self._dirty.pop(block_no, None)
        return self._blocks.pop(block_no, None)

    def _cleanse(self, buffer: Buffer) -> None:
        """Undo of the operation that made a buffer dirty: it is as on the disk again."""
        buffer.dirty = False
        self._dirty.pop(buffer.block_no, None)

    def _restore(self, buffer: Buffer) -> None:
        self._blocks[buffer.block_no] = buffer
        if buffer.dirty:
            self._dirty[buffer.block_no] = buffer

    def _drop_oldest(self) -> None:
        """Drop the least recently used clean block; there is one."""
        while True:
            block_no, buffer = next(iter(self._blocks.items()))
            if not buffer.dirty:
                del self._blocks[block_no]
                return
            self._blocks.move_to_end(block_no)

    # -- operations -----------------------------------------------------------

    def begin(self) -> None:
        """Start an operation; raises ReadOnly (EROFS) after a failed commit."""
        if self.failed:
            raise ReadOnly(
                "the filesystem turned read-only, since a write to its image failed; "
                "unmount it and run fsck.vsfs"
            )
        self.operation += 1
        self._undo.clear()

    def end(self) -> None:
        """The operation succeeded; it will be durable at the next commit."""
        if self._undo:
            self._touched = True
            self._undo.clear()
        if len(self._dirty) > _MAX_DIRTY:
            self.overdue()

    def rollback(self) -> None:
        """The operation failed: put back everything that it changed."""
        while self._undo:
            self._undo.pop()()

    def data_written(self) -> None:
        """File data went to the device; the next commit makes it durable first."""
        self._unflushed_data = True

    def frees(self) -> None:
        """The commit clears bits of a bitmap: not before the inodes are durable."""
        self._frees = True

    def order(self, first: int, then: int) -> None:
        """Directory block `first` must reach the disk before block `then`.

        For a rename: the name moves in before it moves out.  Raises CommitNeeded
        if an earlier operation of this transaction wants it the other way round.
        """
        if first == then or self.limit is not None:
            return  # one write does both, or a journal all at once
        if first in self._losing or then in self._gaining:
            raise CommitNeeded("these directory blocks already wait in the other order")
        self._gaining.add(first)
        self._losing.add(then)

    def is_losing(self, block_no: int) -> bool:
        """Whether a rename of this transaction moves a name out of `block_no`."""
        return block_no in self._losing

    # -- transactions ---------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether anything waits for a commit."""
        return self._touched or self._unflushed_data

    def commit(self) -> None:
        """Write all that changed; it is durable when this returns.

        Called between operations only.  Raises EIO (or what the device says);
        the filesystem is then read-only, see :meth:`begin`.
        """
        if not self.dirty:
            return
        if self.failed:
            raise posix_error(errno.EIO)
        self.operation += 1  # what the hooks modify belongs to no operation
        self._committing = True
        try:
            for encode in self.prepare:
                encode()
            self.write_back(list(self._dirty.values()))
        except BaseException:
            self.failed = True
            raise
        finally:
            self._committing = False
            self._undo.clear()
        self._expected.clear()
        for buffer in self._dirty.values():
            buffer.dirty = buffer.fresh = False
        self._dirty.clear()
        self._gaining.clear()
        self._losing.clear()
        self._touched = self._unflushed_data = self._frees = False
        self._committed_in = self.operation
        for block_no in self._expiring:
            self._blocks.pop(block_no, None)
        self._expiring.clear()
        while len(self._blocks) > self.capacity:
            self._blocks.popitem(last=False)
        for after in self.committed:
            after()

    def write_in_order(self, buffers: list[Buffer]) -> None:
        """Write `buffers` so that every crash state can be repaired unasked.

        Each stage is durable before the next one starts:

        0. file data, and blocks that nothing on disk points to yet;
        1. inodes, indirect and attribute blocks: they point to what stage 0 wrote;
        2. directories: a name only after its inode.  Blocks that a rename moved
           a name into go before those it left;
        3. bitmaps and superblock: a block or an inode becomes free only after
           nothing points to it.  (One in use whose bit is still 0 is harmless:
           whoever repairs sees what points to it, and sets the bit.)

        Where nothing becomes free, the last stage is not needed, and one barrier less is
        waited for: the inode bitmap goes with stage 2, since an inode in use that was
        never written would look like a lost one; the others with stage 1.
        """
        stages: list[list[Buffer]] = [[] for _ in range(6)]
        for buffer in buffers:
            stages[self._stage(buffer)].append(buffer)
        for stage in stages:
            if stage:
                self.install(stage)
            if stage or self._unflushed_data:
                self.device.barrier()
                self._unflushed_data = False

    def _stage(self, buffer: Buffer) -> int:
        if buffer.fresh:
            return 0
        if buffer.kind in (Kind.INODE_TABLE, Kind.INDIRECT, Kind.ATTRIBUTE):
            return 1
        if buffer.kind == Kind.DIRECTORY:
            if buffer.block_no in self._gaining:
                return 2
            return 4 if buffer.block_no in self._losing else 3
        if self._frees:
            return 5
        return 3 if buffer.kind == Kind.INODE_BITMAP else 1

    def install(self, buffers: list[Buffer]) -> None:
        """Write buffers to their places: one write for each run of neighbours."""
        buffers.sort(key=lambda buffer: buffer.block_no)
        start = 0
        for index in range(1, len(buffers) + 1):
            at_end = index == len(buffers)
            if at_end or buffers[index].block_no != buffers[index - 1].block_no + 1:
                run = buffers[start:index]
                first = run[0]
                content = b"".join(buffer.data for buffer in run)
                self.device.write(first.block_no, content, 0, first.kind, first.ino)
                start = index
