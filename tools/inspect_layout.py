"""The picture of OSTEP 40.2: blocks as letters, eight to a group.

Below each row of letters stands a row of marks, so that what a block holds is told
without colour, and below that the numbers of each group's first and last block.
Then the inode table, an inode a letter, as OSTEP 40.3 draws it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from vsfs.words import counted

from .inspect_output import Cell, Column, Printer, Span, print_damage, safe
from .sizes import show_size

Values = dict[str, Any]

_GROUP: Final = 8  # cells, as in the book
_GROUPS_IN_A_ROW: Final = 4
_INODES_IN_A_ROW: Final = 16
_GROUP_WIDTH: Final = 2 * _GROUP - 1
_GAP: Final = "   "
#: What a block of the data region holds -> its mark, and what the key says of it.
#: Where a cell is many blocks, the first of these that it holds is the one drawn.
STATE_MARKS: Final = {
    "shared": ("!", "used twice"),
    "unmarked": ("!", "used, but free in the bitmap"),
    "lost": ("?", "lost: in use, but nobody's"),
    "journal": ("*", "journal"),
    "directory": ("/", "directory"),
    "data": ("*", "in use"),
    "indirect": (">", "pointers"),
    "attributes": ("@", "attributes"),
}
DAMAGE: Final = ("shared", "unmarked", "lost")
#: What an inode of the table is -> its letter: that of ls -l, where there is one.
INODE_LETTERS: Final = {
    "free": ".",
    "reserved": "r",
    "journal": "J",
    "deleted": "x",
    "damaged": "!",
    "directory": "d",
    "regular file": "f",
    "symbolic link": "l",
    "character device": "c",
    "block device": "b",
    "fifo": "p",
    "socket": "s",
}
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
    _print_key(printer, values["blocks_per_cell"], cells)
    print_damage(printer, values)
    printer.line()
    _print_table(printer, values["inode_table"])
    printer.line()
    _print_regions(printer, values["regions"])
    if values["owners"]:
        printer.line()
        _print_owners(printer, values["owners"])


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


def state_of(cell: Values) -> str:
    """What a cell is drawn as: `free`, its region's letter, or what it holds.

    Of a cell of many blocks: damage if there is any, else what most of it is.
    """
    holds = cell["holds"]
    if holds is None:
        return str(cell["letter"]) if cell["used"] else "free"
    damage = [state for state in DAMAGE if holds[state]]
    if damage:
        return damage[0]
    most = max(STATE_MARKS, key=lambda state: int(holds[state]))
    return most if holds[most] else "free"


def _mark(cell: Values) -> str:
    state = state_of(cell)
    if state == "free":
        return "."
    if state not in DAMAGE and cell["used"] < cell["of"]:
        return "+"
    return STATE_MARKS[state][0] if state in STATE_MARKS else "*"


def _cell_spans(groups: list[list[Values]], what: str) -> Iterator[Span]:
    """One row of letters or marks, in the colours of what the blocks hold."""
    for index, group in enumerate(groups):
        if index:
            yield _GAP
        for place, cell in enumerate(group):
            state = state_of(cell)
            yield " " * (place > 0)
            yield (
                cell["letter"] if what == "letter" else _mark(cell),
                "free" if state == "free" else f"cell.{state}",
            )


def _numbers(group: list[Values]) -> str:
    """First and last block of a group, below its first and last letter."""
    first, last = group[0]["first"], group[-1]["first"] + group[-1]["count"] - 1
    width = 2 * len(group) - 1 - len(str(first))
    text = str(first)
    if first != last:
        text += f"{last:>{width}}" if width > len(str(last)) else f"-{last}"
    return text.ljust(_GROUP_WIDTH) if len(text) <= _GROUP_WIDTH else f"{first:<{_GROUP_WIDTH}}"


def _print_key(printer: Printer, per_cell: int, cells: list[Values]) -> None:
    """What the letters mean, and those marks that are in the picture."""
    journal = "  J journal" if any(cell["letter"] == "J" for cell in cells) else ""
    printer.line(f"S superblock  i inode bitmap  d data bitmap  I inode table  D data{journal}")
    there = {state_of(cell) for cell in cells} | {"data"}
    said: dict[str, list[str]] = {}
    for state, (mark, meaning) in STATE_MARKS.items():
        if state in there and state != "journal":
            said.setdefault(mark, []).append(meaning)
    marks = "  ".join(f"{mark} {', or '.join(meanings)}" for mark, meanings in said.items())
    printer.line(f"{marks}  + some of it in use  . free")
    if per_cell > 1:
        printer.line(f"Each letter stands for {per_cell} blocks, fewer at the end of a region.")


def _print_table(printer: Printer, table: Values) -> None:
    """The blocks of the inode table, sixteen inodes to a row."""
    per_block, size = table["inodes_per_block"], table["inode_size"]
    printer.line(("inode table", "title"), f": {per_block} inodes of {size} bytes in a block")
    rows = list(_table_rows(table["blocks"]))
    width = max((len(numbers) for _, numbers, _ in rows), default=0)
    for where, numbers, row in rows:
        printer.line((f"{where:<10}  {numbers:>{width}}   ", "minor"), *_inode_spans(row))
    if not table["complete"]:
        printer.line(("... these are the first blocks with an inode in use", "minor"))
    seen = {state for _, _, row in rows for state in row}
    shown = (f"{letter} {state}" for state, letter in INODE_LETTERS.items() if state in seen)
    printer.line("  ".join(shown))


def _table_rows(blocks: list[Values]) -> Iterator[tuple[str, str, list[str]]]:
    """(block, inode numbers, states) of each row of the close-up."""
    for block in blocks:
        inodes, first = block["inodes"], block["first"]
        for at in range(0, len(inodes), _INODES_IN_A_ROW):
            row = inodes[at : at + _INODES_IN_A_ROW]
            where = "" if at else f"block {block['block']}"
            yield where, f"{first + at}-{first + at + len(row) - 1}", row


def _inode_spans(row: list[str]) -> Iterator[Span]:
    for place, state in enumerate(row):
        if place:
            yield "  " if place % 4 == 0 else " "
        yield INODE_LETTERS.get(state, "?"), "free" if state == "free" else f"inode.{state}"


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
    unit = "inode" if region["letter"] == "I" else "block"
    return [
        (region["letter"], region["letter"]),
        region["name"],
        str(region["first"]),
        str(region["first"] + region["count"] - 1),
        str(region["count"]),
        f"{region['used']} of {counted(region['of'], unit)}",
    ]


def _print_owners(printer: Printer, owners: Values) -> None:
    """Whose the blocks in use are, stretch by stretch."""
    columns = (
        Column("blocks"),
        Column("what"),
        Column("inode", right=True),
        Column("path"),
    )
    printer.table(columns, map(_owner_row, owners["list"]))
    if not owners["complete"]:
        printer.line(f"... and more; these are the first {len(owners['list'])} stretches")


def _owner_row(owner: Values) -> list[Cell]:
    first, last = owner["first"], owner["first"] + owner["count"] - 1
    state = owner["state"]
    what = state if owner["role"] in (None, state) else f"{owner['role']}, {state}"
    path = safe(owner["path"]) if owner["path"] else ""
    return [
        str(first) if first == last else f"{first}-{last}",
        (what, "damage" if state in DAMAGE else f"state.{state}"),
        "" if owner["ino"] is None else str(owner["ino"]),
        "(the journal)" if state == "journal" else path,
    ]
