"""The picture of OSTEP 40.2: blocks as letters, eight to a group.

Below each row of letters stands a row of marks, so that blocks in use are told
from free ones without colour, and below that the numbers of each group's first
and last block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .inspect_output import Cell, Column, Printer, Span
from .sizes import show_size

Values = dict[str, Any]

_GROUP: Final = 8  # cells, as in the book
_GROUPS_IN_A_ROW: Final = 4
_GROUP_WIDTH: Final = 2 * _GROUP - 1
_GAP: Final = "   "
_MARKS: Final = {"all": "*", "some": "+", "none": "."}
_LABELS: Final = {"I": "Inodes", "D": " Data Region ", "J": " Journal "}


def print_layout(printer: Printer, name: str, values: Values) -> None:
    """The picture, what its letters and marks mean, and the regions as a table."""
    count, size = values["block_count"], values["block_size"]
    text = f" of {name}: {count} blocks of {size} bytes ({show_size(count * size)})"
    printer.line(("layout", "title"), text)
    printer.line()
    cells = values["cells"]
    per_row = _GROUP * _GROUPS_IN_A_ROW
    for at in range(0, len(cells), per_row):
        _print_row(printer, cells[at : at + per_row])
    has_journal = any(cell["letter"] == "J" for cell in cells)
    _print_key(printer, values["blocks_per_cell"], has_journal=has_journal)
    printer.line()
    _print_regions(printer, values["regions"])


def _print_row(printer: Printer, cells: list[Values]) -> None:
    groups = [cells[at : at + _GROUP] for at in range(0, len(cells), _GROUP)]
    labels = _label_line(groups)
    if labels.strip():
        printer.line((labels, "minor"))
    printer.line(*_cell_spans(groups, "letter"))
    printer.line(*_cell_spans(groups, "mark"))
    printer.line((_GAP.join(map(_numbers, groups)), "minor"))
    printer.line()


def _label_line(groups: list[list[Values]]) -> str:
    """The regions' names above their letters, where there is room for them."""
    letters = _GAP.join(" ".join(cell["letter"] for cell in group) for group in groups)
    line = ""
    for letter, run in _stretches(letters):
        label = _LABELS.get(letter, "")
        fits = label and len(run.rstrip()) > len(label)
        width = len(run.rstrip())
        line += (f"{label:-^{width}}" if fits else "").ljust(len(run))
    return line


def _stretches(letters: str) -> Iterator[tuple[str, str]]:
    """(letter, all of the line from its first one to before the next letter's)."""
    start = 0
    for at in range(1, len(letters) + 1):
        if at == len(letters) or letters[at] not in (" ", letters[start]):
            yield letters[start], letters[start:at]
            start = at


def _mark(cell: Values) -> str:
    share = "none" if not cell["used"] else "all" if cell["used"] == cell["of"] else "some"
    return _MARKS[share]


def _cell_spans(groups: list[list[Values]], what: str) -> Iterator[Span]:
    """One row of letters or marks, in the colours of the regions."""
    for index, group in enumerate(groups):
        if index:
            yield _GAP
        for place, cell in enumerate(group):
            style = cell["letter"] if cell["used"] else "free"
            yield " " * (place > 0)
            yield cell["letter"] if what == "letter" else _mark(cell), style


def _numbers(group: list[Values]) -> str:
    """First and last block of a group, below its first and last letter."""
    first, last = group[0]["first"], group[-1]["first"] + group[-1]["count"] - 1
    width = 2 * len(group) - 1 - len(str(first))
    text = str(first)
    if first != last:
        text += f"{last:>{width}}" if width > len(str(last)) else f"-{last}"
    return text.ljust(_GROUP_WIDTH) if len(text) <= _GROUP_WIDTH else f"{first:<{_GROUP_WIDTH}}"


def _print_key(printer: Printer, per_cell: int, *, has_journal: bool) -> None:
    journal = "  J journal" if has_journal else ""
    printer.line(f"S superblock  i inode bitmap  d data bitmap  I inode table  D data{journal}")
    printer.line("* in use  + some of its inodes or blocks in use  . free")
    if per_cell > 1:
        printer.line(f"Each letter stands for {per_cell} blocks, fewer at the end of a region.")


def _print_regions(printer: Printer, regions: list[Values]) -> None:
    columns = (
        Column(""),
        Column("region"),
        Column("first block", right=True),
        Column("last block", right=True),
        Column("blocks", right=True),
        Column("in use"),
    )
    printer.table(columns, map(_region_row, regions))


def _region_row(region: Values) -> list[Cell]:
    unit = "inodes" if region["letter"] == "I" else "blocks"
    return [
        (region["letter"], region["letter"]),
        region["name"],
        str(region["first"]),
        str(region["first"] + region["count"] - 1),
        str(region["count"]),
        f"{region['used']} of {region['of']} {unit}",
    ]
