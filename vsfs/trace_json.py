"""A trace as JSON lines: one object in a line, each with a `type`.

``{"type": "trace", "version": 1, "block_size": 4096, "cold": false}`` is first.  For
each call there is ``{"type": "call", "call": 1, "name": "open", "label":
"open(/foo/bar)", "errno": 0}``, then its accesses in order, ``{"type": "access",
"call": 1, "operation": "read", "parts": [{"kind": "inode table", "block": 3, "blocks":
1, "ino": 2, "path": "/", "file_block": null}]}``; a barrier has no parts.
Where it is known what the same calls do on a cold volume, a line ``{"type": "cold",
"reads": 13, "blocks_read": 13, "writes": 14, "blocks_written": 14, "barriers": 13}`` says it.
docs/SYSTEM_CALLS.md tells what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from vsfs.device import Kind
from vsfs.trace import MOST_EVENTS, Event, Part, Totals, Trace, TracedCall

_VERSION: Final = 1
_KINDS: Final = {kind.label: kind for kind in Kind}
_OPERATIONS: Final = ("read", "write", "barrier")
_NUMBER_END: Final = 1 << 64
_MOST_PARTS: Final = 1 << 16  # blocks of an access


class BadTrace(ValueError):
    """Its text says which line is no trace's, and why."""


# -- writing -------------------------------------------------------------------


def head_line(trace: Trace) -> str:
    """The first line."""
    head = {"type": "trace", "version": _VERSION, "block_size": trace.block_size}
    return json.dumps({**head, "cold": trace.is_cold})


def call_lines(call: TracedCall, events: Iterable[Event]) -> Iterator[str]:
    """The lines of a call."""
    named = {"name": call.name, "label": call.label, "errno": call.errno}
    yield json.dumps({"type": "call", "call": call.number, **named})
    for event in events:
        yield json.dumps(
            {
                "type": "access",
                "call": event.call,
                "operation": event.operation,
                "parts": [{**part._asdict(), "kind": part.kind.label} for part in event.parts],
            }
        )


def totals_line(totals: Totals) -> str:
    """What the same calls do on a cold volume."""
    return json.dumps({"type": "cold", **totals._asdict()})


def lines_of(trace: Trace) -> Iterator[str]:
    """All lines of a trace that was kept."""
    yield head_line(trace)
    events: dict[int, list[Event]] = {}
    for event in trace.events:
        events.setdefault(event.call, []).append(event)
    for call in trace.calls:
        yield from call_lines(call, events.get(call.number, ()))
    if trace.cold_totals is not None:
        yield totals_line(trace.cold_totals)


# -- reading -------------------------------------------------------------------


def read_trace(lines: Iterable[str]) -> Trace:
    """A trace from its lines; raises BadTrace.  A last line that is cut off is left out."""
    found: Trace | None = None
    unread: str | None = None
    for number, line in enumerate(lines, 1):
        if unread is not None:
            raise BadTrace(unread)
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            unread = f"line {number} is not JSON"
            continue
        try:
            if found is None:
                found = _head(values)
            else:
                _add(found, values)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadTrace(f"line {number} is not a line of a trace") from None
    if found is None:
        raise BadTrace("there is no trace in it")
    return found


def _head(values: Any) -> Trace:
    if values["type"] != "trace" or values["version"] != _VERSION:
        raise ValueError
    return Trace(_number(values["block_size"]), values["cold"] is True)


def _add(trace: Trace, values: Any) -> None:
    if values["type"] == "cold":
        trace.cold_totals = Totals(*(_number(values[name]) for name in Totals._fields))
        return
    if values["type"] == "call":
        trace.calls.append(
            TracedCall(
                _number(values["call"]),
                _text(values["name"]),
                _text(values["label"]),
                _number(values["errno"]),
            )
        )
        return
    if values["type"] != "access" or values["operation"] not in _OPERATIONS:
        raise ValueError
    if not trace.calls or values["call"] != trace.calls[-1].number:
        raise ValueError
    if len(trace.events) >= MOST_EVENTS:
        trace.dropped += 1
        return
    if len(values["parts"]) > _MOST_PARTS:
        raise ValueError
    parts = tuple(map(_part, values["parts"]))
    trace.events.append(Event(values["call"], values["operation"], parts))


def _part(values: Any) -> Part:
    path, at = values["path"], values["file_block"]
    return Part(
        _KINDS[values["kind"]],
        _number(values["block"]),
        _number(values["blocks"]),
        _number(values["ino"]),
        None if path is None else _text(path),
        None if at is None else _number(at),
    )


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _NUMBER_END:
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value
