"""The trace: every access of the disk, and the call that caused it (OSTEP 40.3).

A :class:`Recorder` is told by ``traced`` when a call begins and ends, and by
:class:`TracedDevice` what is read and written.  It keeps :class:`Event` values, or
hands each call to a `sink` as soon as it has ended and keeps nothing.

An access is one request to the device.  It may be of several blocks, and a write of
one block of the inode table may be of several inodes; so it has *parts*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from vsfs.device import BytesLike, Kind, LayeredDevice

#: Accesses that a recorder without a sink keeps; it says how many more there were.
MOST_EVENTS: Final = 100_000


class Part(NamedTuple):
    """What one stretch of an access is: `blocks` of them from `block` on.

    `ino` is the inode that they are or belong to, 0 where it is none; `path` is a
    name of it, None if it is not known; `file_block` is the index of the first
    block in the file, None where it has none.
    """

    kind: Kind
    block: int
    blocks: int = 1
    ino: int = 0
    path: str | None = None
    file_block: int | None = None


class Event(NamedTuple):
    """One access: `operation` is "read", "write" or "barrier" (which has no parts)."""

    call: int
    operation: str
    parts: tuple[Part, ...] = ()


class TracedCall(NamedTuple):
    """A call: its number from 1 on, `label` as ``open(/foo/bar)``, and how it ended.

    `errno` is 0 if it succeeded.
    """

    number: int
    name: str
    label: str
    errno: int = 0


class Totals(NamedTuple):
    """Accesses of the disk, and the blocks in them."""

    reads: int = 0
    blocks_read: int = 0
    writes: int = 0
    blocks_written: int = 0
    barriers: int = 0

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(*map(sum, zip(self, other, strict=True)))


def totals_of(events: list[Event]) -> Totals:
    """How much was read and written."""
    reads = [event for event in events if event.operation == "read"]
    writes = [event for event in events if event.operation == "write"]
    return Totals(
        len(reads),
        sum(map(_blocks, reads)),
        len(writes),
        sum(map(_blocks, writes)),
        len(events) - len(reads) - len(writes),
    )


def _blocks(event: Event) -> int:
    """Blocks of an access; several inodes of one block are one block."""
    return sum({part.block: part.blocks for part in event.parts}.values())


@dataclass
class Trace:
    """What was recorded; `dropped` counts accesses that there was no room for.

    `cold_totals` is what the same calls do if nothing is kept in memory between
    them (``trace_replay``), None where that is not known.
    """

    block_size: int
    is_cold: bool = False
    calls: list[TracedCall] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    dropped: int = 0
    cold_totals: Totals | None = None


Sink = Callable[[TracedCall, list[Event]], None]


class Namer(Protocol):
    """Who knows what the blocks of the disk are."""

    def parts(
        self, operation: str, block: int, count: int, kind: Kind, ino: int, content: bytes
    ) -> list[Part]:
        """What an access touches; `content` is what is written."""

    def path(self, ino: int) -> str | None:
        """A name of an inode, if one is known."""


class Recorder:
    """Collects the accesses of each call; the caller holds the volume's lock."""

    def __init__(self, namer: Namer, trace: Trace, sink: Sink | None = None) -> None:
        self.trace = trace
        self._namer = namer
        self._sink = sink
        self._number = 0
        self._call: TracedCall | None = None
        self._events: list[Event] = []

    def begin(self, name: str, label: str) -> None:
        """A call begins; what was outside of any call ends."""
        self._finish()
        self._number += 1
        self._call = TracedCall(self._number, name, label)

    def end(self, errno: int, label: str = "") -> None:
        """The call has ended; `label` is a better one than at its begin."""
        if self._call is not None:
            self._call = self._call._replace(errno=errno, label=label or self._call.label)
        self._finish()

    def rename(self, old: str, new: str) -> None:
        """An `old` that runs turns out to be a `new`: OSTEP's create() is an open(2)."""
        if self._call is not None and self._call.name == old:
            label = new + self._call.label.removeprefix(old)
            self._call = self._call._replace(name=new, label=label)

    def note(
        self, operation: str, block: int, count: int, kind: Kind, ino: int, content: bytes
    ) -> None:
        """The device is accessed."""
        if self._call is None:  # the regular commit, which no call has asked for
            self.begin("commit", "commit")
            assert self._call is not None
        parts = (
            self._namer.parts(operation, block, count, kind, ino, content)
            if operation != "barrier"
            else ()
        )
        self._events.append(Event(self._call.number, operation, tuple(parts)))

    def _finish(self) -> None:
        """Name what the call has touched: only at its end are all names known."""
        call, events, self._call, self._events = self._call, self._events, None, []
        if call is None:
            return
        path = self._namer.path
        named = [
            event._replace(parts=tuple(part._replace(path=path(part.ino)) for part in event.parts))
            for event in events
        ]
        if self._sink is not None:
            self._sink(call, named)
            return
        room = MOST_EVENTS - len(self.trace.events)
        self.trace.calls.append(call)
        self.trace.events += named[:room]
        self.trace.dropped += max(len(named) - room, 0)

    def finish(self) -> None:
        """Nothing more will come."""
        self._finish()


class TracedDevice(LayeredDevice):
    """A device that tells `recorder`, if there is one, of each access of `below`."""

    recorder: Recorder | None = None

    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        if self.recorder is not None:
            self.recorder.note("read", *self._blocks(block_no, offset, size), kind, ino, b"")
        return self.below.read(block_no, size, offset, kind, ino)

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        if self.recorder is not None:
            first, count = self._blocks(block_no, offset, len(content))
            whole = bytes(content) if kind != Kind.DATA else b""
            self.recorder.note("write", first, count, kind, ino, whole)
        self.below.write(block_no, content, offset, kind, ino)

    def _blocks(self, block_no: int, offset: int, size: int) -> tuple[int, int]:
        """The first block of an access, and how many it touches."""
        block_size = self.block_size
        first = block_no + offset // block_size
        return first, -(-(offset % block_size + size) // block_size) or 1

    def barrier(self) -> None:
        if self.recorder is not None:
            self.recorder.note("barrier", 0, 0, Kind.DATA, 0, b"")
        self.below.barrier()
