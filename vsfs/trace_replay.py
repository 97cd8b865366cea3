"""What memory saves: recorded calls once more, on a volume that keeps nothing."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import Final

from vsfs.cold import ColdVolume
from vsfs.device import MemoryDevice
from vsfs.trace import Event, Totals, TracedCall, totals_of
from vsfs.trace_log import CallLog, Step

_OF_HANDLES: Final = ("read", "seek", "write", "append", "fsync", "release")


def cold_totals(log: CallLog | None) -> Totals | None:
    """The accesses that the calls of `log` need on a cold volume.

    None without a whole log, or if a call does not end as it did.
    """
    if log is None or not log.is_whole:
        return None
    totals = Totals()

    def add(_call: TracedCall, events: list[Event]) -> None:
        nonlocal totals
        totals = totals.plus(totals_of(events))

    try:
        volume = ColdVolume(MemoryDevice(bytearray(log.image)))
    except OSError:
        return None
    volume.record(add)
    handles: dict[int, int] = {}
    for _, steps in groupby(log.steps, attrgetter("call")):
        volume.call_begins("replay", "replay")
        try:
            if not all(_make(volume, step, handles) for step in steps):
                return None
        finally:
            volume.call_ends(None)
    volume.stop_recording()
    volume.close()
    return totals


def _make(volume: ColdVolume, step: Step, handles: dict[int, int]) -> bool:
    """Make a call; whether it ends as it did before.

    `handles` are those that the opens gave now, by those that they gave then.
    """
    args = step.args
    if step.name in _OF_HANDLES:
        if args[0] not in handles:  # nothing was open then either
            return step.ended.errno != 0
        handle = handles.pop(args[0]) if step.name == "release" else handles[args[0]]
        args = (handle, *args[1:])
    if step.name in ("write", "append"):
        args = (args[0], bytes(args[1]), *args[2:])
    try:
        result = getattr(volume, step.name)(*args, **step.kwargs)
    except OSError as error:
        return error.errno == step.ended.errno
    if step.name == "open":
        handles[step.ended.handle] = result.handle
    return step.ended.errno == 0
