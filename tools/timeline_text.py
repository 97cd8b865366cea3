"""A timeline as text: OSTEP's figure where it fits, a list of accesses where not."""

from __future__ import annotations

import shutil
from typing import Final

from vsfs.timeline import Group, Row, Timeline
from vsfs.trace import Totals
from vsfs.words import counted

from .inspect_output import Printer, Span, safe

_MARKS: Final = {"read": "used", "write": "I"}  # and their styles
_LONGEST_LABEL: Final = 32
_LONGEST_NAME: Final = 24
_NO_TERMINAL: Final = 100  # columns of text in a pipe, unless COLUMNS says it


def draw(printer: Printer, timeline: Timeline) -> None:
    """Print a timeline and its totals."""
    width = shutil.get_terminal_size((_NO_TERMINAL, 24)).columns
    labels = _label_width(timeline)
    cells = [_cell_width(column.first, column.second) for column in timeline.columns]
    if labels + sum(cells) <= width:
        _draw_figure(printer, timeline, labels, cells)
    else:
        _draw_list(printer, timeline, labels)
    printer.line()
    for line in totals_text(timeline):
        printer.line(line)
    if timeline.dropped:
        printer.line(f"{timeline.dropped} further accesses were not kept")


def totals_text(timeline: Timeline) -> list[str]:
    """What the disk had to do, in words; beside it what it would have without memory."""
    if timeline.cold_totals is None:
        return [_totals(timeline.totals)]
    return [
        f"in all         {_totals(timeline.totals)}",
        f"without cache  {_totals(timeline.cold_totals)}",
        "               (the same calls, nothing in memory from one to the next)",
    ]


def _totals(totals: Totals) -> str:
    reads = _amount(totals.reads, "read", totals.blocks_read)
    writes = _amount(totals.writes, "write", totals.blocks_written)
    return f"{reads}, {writes}, {counted(totals.barriers, 'barrier')}"


def _amount(accesses: int, word: str, blocks: int) -> str:
    text = counted(accesses, word)
    return text if blocks == accesses else f"{text} of {counted(blocks, 'block')}"


def label_of(group: Group, longest: int = _LONGEST_LABEL) -> str:
    """The label of a call: cut in the middle, with what went wrong or how often it was."""
    text = _cut(group.call.label, longest)
    if group.call.errno:
        import errno  # noqa: PLC0415

        text += f" {errno.errorcode.get(group.call.errno, group.call.errno)}"
    return f"{text} x{group.times}" if group.times > 1 else text


def _cut(text: str, longest: int) -> str:
    text = safe(text)
    if len(text) <= longest:
        return text
    half = (longest - 2) // 2
    return f"{text[:half]}..{text[-half:]}"


def _label_width(timeline: Timeline) -> int:
    return max((len(label_of(group)) for group in timeline.groups), default=0) + 1


def _cell_width(*words: str) -> int:
    return max(len("write"), *(len(_cut(word, _LONGEST_NAME)) for word in words)) + 1


# -- as a figure ---------------------------------------------------------------


def _draw_figure(printer: Printer, timeline: Timeline, labels: int, cells: list[int]) -> None:
    for word in (0, 1):
        titles = "".join(
            _cut(column[word], _LONGEST_NAME).rjust(cell)
            for column, cell in zip(timeline.columns, cells, strict=True)
        )
        printer.line((" " * labels + titles, "title"))
    rule = "-" * (labels + sum(cells))
    for group in timeline.groups:
        printer.line((rule, "minor"))
        if not group.rows:
            printer.line(label_of(group))
        for number, row in enumerate(group.rows):
            label = label_of(group) if number == 0 else ""
            printer.line(label.ljust(labels), *_marks(row, cells))


def _marks(row: Row, cells: list[int]) -> list[Span]:
    return [
        (row.operation.rjust(cell), _MARKS[row.operation]) if at in row.columns else " " * cell
        for at, cell in enumerate(cells)
    ]


# -- as a list -----------------------------------------------------------------


def _draw_list(printer: Printer, timeline: Timeline, labels: int) -> None:
    """An access in a line, where there are too many structures for columns."""
    for group in timeline.groups:
        if not group.rows:
            printer.line(label_of(group))
        for number, row in enumerate(group.rows):
            label = label_of(group) if number == 0 else ""
            what = ", ".join(safe(timeline.columns[column].title) for column in row.columns)
            mark = (row.operation.ljust(6), _MARKS[row.operation])
            printer.line(label.ljust(labels), mark, what)
