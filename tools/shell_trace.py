"""The shell's timelines: which blocks the calls read and write (OSTEP 40.6)."""

from __future__ import annotations

import argparse
from typing import Final, NoReturn

from vsfs.trace_replay import cold_totals
from vsfs.traced import TracedVolume

from .shell_commands import BadUse, Group, Session, Trouble, exactly
from .timeline_output import HOW, add_arguments, show

COMMANDS: Final = Group("What the disk sees")


def _volume(session: Session) -> TracedVolume:
    volume = session.fs.volume
    if not isinstance(volume, TracedVolume):
        raise Trouble("this filesystem was not opened for tracing")
    return volume


@COMMANDS.command(
    "trace on|off",
    "record every block that is read and written",
    "  `on` begins anew; `off` keeps what was recorded for `timeline`.",
)
def trace(session: Session, words: list[str]) -> None:
    """Begin or end recording."""
    (word,) = exactly(words, 1)
    volume = _volume(session)
    if word == "on":
        session.recorder = volume.record()
    elif word == "off":
        _count_cold(session, volume)
        volume.stop_recording()
    else:
        raise BadUse(f"{word!r} is neither on nor off")


def _count_cold(session: Session, volume: TracedVolume) -> None:
    """Find out what the calls so far would need if memory kept nothing."""
    if session.recorder is not None and volume.traced.recorder is session.recorder:
        session.recorder.trace.cold_totals = cold_totals(volume.call_log)


class _Words(argparse.ArgumentParser):
    """A parser whose errors are the shell's."""

    def error(self, message: str) -> NoReturn:
        raise BadUse(message)


@COMMANDS.command(
    f"timeline {HOW}",
    "draw what was recorded as OSTEP's figures 40.3 and 40.4",
    "  A column for each structure on the disk, a row for each access, time downwards;\n"
    "  with `--by block` a column for each block.\n"
    "  vsfs-shell --cold keeps nothing in memory between calls, as the figures assume;\n"
    "  without it, what is missing is what caching saves, and writes come with `sync`.\n"
    "  --svg writes FILE on the host.",
)
def timeline(session: Session, words: list[str]) -> None:
    """Draw the trace."""
    parser = _Words("timeline", add_help=False)
    add_arguments(parser)
    how = parser.parse_args(words)
    recorder = session.recorder
    if recorder is None:
        raise Trouble("nothing was recorded; begin with `trace on`")
    _count_cold(session, _volume(session))
    show(session.printer, recorder.trace, how)
