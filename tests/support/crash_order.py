"""A device that watches the order of writes while any other test runs.

It knows the disk format (``struct``, nothing of ``vsfs``) and what is durable, and
notes each write that would leave a disk which must not be, if the plug were
pulled right after it.  Not the crash is tried, but the rule behind it; so it costs
little, and sees every write of every test.

Without a journal (docs/DESIGN.md, "Operations, transactions, commits"):

* an inode or an indirect block points to a block only when that block is durable;
* an entry names an inode only when the inode is;
* a bit of a bitmap is cleared only when no durable inode points there, and when no
  other metadata waits for a barrier.

With one (``vsfs/journal.py``):

* metadata is written to its place only when a durable header names the block, and
  the durable log has the same bytes;
* a header that commits is written only when nothing waits for a barrier, neither
  the log nor file data;
* the header is cleared only when what it names is durable in its place;
* the log is written only behind a header that was cleared.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any, Final
from unittest import mock

from tests.support.crash_recovery import has_journal, journal_blocks_of, needs_replay
from vsfs.device import BlockDevice, BytesLike, Kind, LayeredDevice, MemoryDevice
from vsfs.mounting import Mounted

_INODE: Final = 256
_SECTOR: Final = 512
_MOST_BYTES: Final = 4 << 20  # of an image that is watched
_CLEAN: Final = b"\1\0\0\0"  # the superblock's state
_POINTERS: Final = (Kind.INODE_TABLE, Kind.INDIRECT, Kind.DIRECTORY, Kind.ATTRIBUTE)


@contextlib.contextmanager
def watched_mounts() -> Iterator[list[str]]:
    """Watch each filesystem in memory that is mounted; gives the rules broken so far.

    Not one that was not cleanly unmounted, since a replay or a repair has an order of
    its own, nor a large one, of which the watching would cost more than the test.
    """
    violations: list[str] = []
    original = Mounted.__init__

    def mount(self: Mounted, device: BlockDevice, **options: Any) -> None:
        if type(device) is MemoryDevice and _may_be_watched(device.image):
            device = OrderCheckingDevice(device, violations)
        original(self, device, **options)

    with mock.patch.object(Mounted, "__init__", mount):
        yield violations


def _may_be_watched(image: bytearray) -> bool:
    if len(image) > _MOST_BYTES or image[68:72] != _CLEAN or needs_replay(image):
        return False
    if not has_journal(image):
        return True
    size = int.from_bytes(image[20:24], "little")
    start = journal_blocks_of(image)[0][0] * size
    return not _committed(image[start : start + size])  # or a crash took its clearing


class OrderCheckingDevice(LayeredDevice):
    """Passes everything on to `below`; `violations` are the rules broken so far."""

    def __init__(self, below: MemoryDevice, violations: list[str] | None = None) -> None:
        super().__init__(below)
        self.violations: list[str] = [] if violations is None else violations
        self.image = image = below.image
        (self._size,) = struct.unpack_from("<I", image, 20)
        (self._inodes,) = struct.unpack_from("<I", image, 32)
        starts = struct.unpack_from("<4I", image, 40)
        self._inode_bitmap, self._data_bitmap, self._table, self._data = starts
        self._journal = journal_blocks_of(image)[0] if has_journal(image) else []
        self._log = set(self._journal[1:])
        #: Blocks written since the last barrier, as they were before.
        self._before: dict[int, bytes] = {}
        self._kinds: dict[int, Kind] = {}
        self._used = self._blocks_in_use()

    def _blocks_in_use(self) -> set[int]:
        start = self._data_bitmap * self._size
        bits = int.from_bytes(self.image[start : self._table * self._size], "little")
        count = len(self.image) // self._size - self._data
        return {self._data + bit for bit in range(count) if bits >> bit & 1}

    # -- a device ---------------------------------------------------------------

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        start = block_no * self.block_size + offset
        blocks = range(start // self._size, -(-(start + len(content)) // self._size))
        olds = [(block, self._block(block)) for block in blocks]
        self.below.write(block_no, content, offset, kind, ino)
        for block, old in olds:
            new = self._block(block)
            if old == new:
                continue
            broken = self._with_journal if self._journal else self._without_journal
            what_it_is = self._kind(block, kind)
            for what in broken(block, self._before.get(block, old), new, what_it_is):
                self.violations.append(f"block {block} ({what_it_is.label}): {what}")
            self._before.setdefault(block, old)
            self._kinds[block] = what_it_is

    def _kind(self, block: int, kind: Kind) -> Kind:
        """What a block is; `kind` is that of the first block of the write."""
        if block >= self._data:
            return Kind.INDIRECT if kind is Kind.INODE_TABLE else kind
        starts = (0, self._inode_bitmap, self._data_bitmap, self._table)
        return Kind(sum(block >= start for start in starts) - 1)

    def barrier(self) -> None:
        self.below.barrier()
        if any(kind is Kind.DATA_BITMAP for kind in self._kinds.values()):
            self._used = self._blocks_in_use()
        else:
            self._used.update(
                pointer
                for block, kind in self._kinds.items()
                if kind is Kind.INODE_TABLE
                for slot in range(0, self._size, _INODE)
                for pointer in _pointers(self._block(block), slot)
            )
        self._before.clear()
        self._kinds.clear()

    def _block(self, block: int) -> bytes:
        return bytes(self.image[block * self._size : (block + 1) * self._size])

    def _durable(self, block: int) -> bytes:
        before = self._before.get(block)
        return self._block(block) if before is None else before

    # -- without a journal ------------------------------------------------------

    def _without_journal(self, block: int, old: bytes, new: bytes, kind: Kind) -> Iterator[str]:
        """The rules that a write breaks; `old` is what is durable."""
        if kind is Kind.INODE_TABLE:
            for slot in range(0, self._size, _INODE):
                if new[slot : slot + _INODE] != old[slot : slot + _INODE]:
                    yield from self._leads(_pointers(new, slot) - _pointers(old, slot))
        elif kind is Kind.INDIRECT and block in self._used:
            count = self._size // 4
            pointers = set(struct.unpack(f"<{count}I", new)) - set(struct.unpack(f"<{count}I", old))
            yield from self._leads(pointers)
        elif kind is Kind.DIRECTORY and block in self._used:
            for ino, name in set(_entries(new)) - set(_entries(old)):
                yield from self._names(ino, name)
        elif kind in (Kind.DATA_BITMAP, Kind.INODE_BITMAP):
            cleared = int.from_bytes(old, "little") & ~int.from_bytes(new, "little")
            if cleared:
                yield from self._clears(block, cleared, kind)

    def _leads(self, pointers: set[int]) -> Iterator[str]:
        for pointer in sorted(pointers & self._before.keys()):
            yield f"it points to block {pointer}, which is not durable"

    def _names(self, ino: int, name: bytes) -> Iterator[str]:
        at = ino * _INODE
        block, slot = self._table + at // self._size, at % self._size
        durable = self._durable(block)[slot : slot + _INODE]
        mode, links = struct.unpack_from("<2I", durable)
        if not (mode and links):
            yield f"it names inode {ino} ({name!r}), which is not durable"

    def _clears(self, block: int, cleared: int, kind: Kind) -> Iterator[str]:
        waiting = sorted(b for b, other in self._kinds.items() if other in _POINTERS)
        if waiting:
            yield f"bits are cleared while blocks {waiting} are not durable"
        if kind is Kind.INODE_BITMAP:
            return
        first = self._data + (block - self._data_bitmap) * self._size * 8
        for ino in range(2, self._inodes):
            at = ino * _INODE
            record = self._durable(self._table + at // self._size)
            for pointer in _pointers(record, at % self._size):
                if first <= pointer < first + self._size * 8 and cleared >> pointer - first & 1:
                    yield f"block {pointer} becomes free while inode {ino} points to it"

    # -- with a journal ---------------------------------------------------------

    def _with_journal(self, block: int, _old: bytes, new: bytes, kind: Kind) -> Iterator[str]:
        header = self._journal[0]
        if block == header:
            yield from self._header(new)
        elif block in self._log:
            if _committed(self._block(header)):
                yield "the log is overwritten before its header is cleared"
        elif kind is not Kind.DATA:
            numbers = _committed(self._durable(header))
            if block not in numbers:
                yield "it is installed, but no durable header names it"
            elif self._durable(self._journal[1 + numbers.index(block)]) != new:
                yield "it is installed with other bytes than the log has"

    def _header(self, new: bytes) -> Iterator[str]:
        waiting = sorted(self._before.keys() - {self._journal[0]})
        if waiting:
            what = "commits" if _committed(new) else "is cleared"
            yield f"the header {what} while blocks {waiting} are not durable"


def _pointers(table: bytes, slot: int) -> set[int]:
    """What the inode at `slot` of a table's block points to; nothing if it is free."""
    mode, links = struct.unpack_from("<2I", table, slot)
    if not mode or not links:
        return set()
    return set(struct.unpack_from("<16I", table, slot + 80)) - {0}


def _entries(directory: bytes) -> Iterator[tuple[int, bytes]]:
    for sector in range(0, len(directory), _SECTOR):
        at = 0
        while at <= _SECTOR - 8:
            ino, length, name_length, _ = struct.unpack_from("<IHBB", directory, sector + at)
            if length < 8:
                break
            start = sector + at + 8
            name = directory[start : start + name_length]
            if ino and name not in (b".", b".."):
                yield ino, name
            at += length


def _committed(header: bytes | bytearray) -> tuple[int, ...]:
    """The block numbers of a header's transaction; none if it was cleared."""
    magic, count = struct.unpack_from("<4sI", header)
    if magic != b"JRNL" or count > (len(header) - 20) // 4:
        return ()
    return struct.unpack_from(f"<{count}I", header, 20)
