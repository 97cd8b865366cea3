"""What the settings of a what-if cost: a table, or JSON."""

from __future__ import annotations

import json
from typing import Any, Final

from vsfs.device import Kind
from vsfs.what_if import Outcome

from .inspect_output import Column, Printer

#: Kinds that have a column together, and its title.
_COLUMNS: Final[dict[str, tuple[Kind, ...]]] = {
    "superblock": (Kind.SUPERBLOCK,),
    "bitmaps": (Kind.INODE_BITMAP, Kind.DATA_BITMAP),
    "inodes": (Kind.INODE_TABLE,),
    "directories": (Kind.DIRECTORY,),
    "data": (Kind.DATA,),
    "indirect": (Kind.INDIRECT,),
    "attributes": (Kind.ATTRIBUTE,),
    "journal": (Kind.JOURNAL,),
}


def show_table(printer: Printer, outcomes: list[Outcome]) -> None:
    """Print a row for each setting; the first is what the others differ from."""
    base = outcomes[0].setting
    touched = {kind for outcome in outcomes for kind in outcome.blocks}
    kinds = {title: kinds for title, kinds in _COLUMNS.items() if touched & set(kinds)}
    titles = ("reads", "writes", "barriers", *kinds)
    printer.line(f"base: {_words(base._asdict())}")
    printer.line()
    printer.table(
        [Column("setting"), *(Column(title, right=True) for title in titles)],
        [
            [_words(outcome.setting.differences(base)) or "base", *_cells(outcome, kinds)]
            for outcome in outcomes
            if not outcome.trouble
        ],
    )
    printer.line()
    printer.line(
        "reads and writes are accesses; the columns behind barriers are blocks, read/written"
    )
    for outcome in outcomes:
        if outcome.trouble:
            printer.line(f"no {_words(outcome.setting.differences(base))}: {outcome.trouble}")


def _words(values: dict[str, str]) -> str:
    return " ".join(f"{axis}={value}" for axis, value in values.items())


def _cells(outcome: Outcome, kinds: dict[str, tuple[Kind, ...]]) -> list[str]:
    totals = outcome.totals
    cells = [str(totals.reads), str(totals.writes), str(totals.barriers)]
    for together in kinds.values():
        counts = [outcome.blocks[kind] for kind in together if kind in outcome.blocks]
        read, written = (sum(count[at] for count in counts) for at in (0, 1))
        cells.append(f"{read}/{written}" if read or written else "-")
    return cells


def json_of(outcomes: list[Outcome]) -> str:
    """All of it as one JSON value: a list with an object for each setting."""
    return json.dumps([_values(outcome) for outcome in outcomes], indent=1)


def _values(outcome: Outcome) -> dict[str, Any]:
    setting = {"setting": outcome.setting._asdict()}
    if outcome.trouble:
        return {**setting, "trouble": outcome.trouble}
    blocks = {kind.label: count._asdict() for kind, count in outcome.blocks.items()}
    return {**setting, **outcome.totals._asdict(), "blocks": blocks}
