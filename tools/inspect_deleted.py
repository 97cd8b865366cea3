"""How vsfs-inspect shows what was removed, and what it could recover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from vsfs.words import counted

from .inspect_blocks import owner_spans
from .inspect_output import Cell, Column, Printer, print_damage, safe

Values = dict[str, Any]

_MOST: Final = 1000  # rows of a table; --json has all
_LISTED: Final = 20  # reused blocks
_STATES: Final = {
    "free": "free: recover {ino} may work",
    "in use": "in use: renamed, or the number was given out again",
    "reused": "another type of file has the number now",
    "never used": "its record was never written",
    "unknown": "unknown: the number was overwritten",
}


def print_deleted(printer: Printer, values: Values) -> None:
    """Removed names, then free inodes that still have a file."""
    printer.line(("names that were removed and can still be read", "title"))
    rows = list(deleted_rows(values["names"]))
    if rows:
        print_names_table(printer, rows)
    else:
        printer.line("none")
    printer.line()
    printer.line(("free inodes that still have a file", "title"))
    inodes = list(_cut(_inode_row(inode) for inode in values["inodes"]))
    if not inodes:
        printer.line("none")
        return
    columns = (
        Column("inode", right=True),
        Column("mode"),
        Column("size", right=True),
        Column("blocks", right=True),
        Column("reused", right=True),
        Column("changed"),
        Column("contents"),
    )
    printer.table(columns, inodes)


def _cut(rows: Iterator[list[Cell]]) -> Iterator[list[Cell]]:
    """The first rows, and one that says that there are more."""
    for count, row in enumerate(rows):
        if count == _MOST:
            yield ["...", *[""] * (len(row) - 1)]
            return
        yield row


def deleted_rows(names: Iterable[Values]) -> Iterator[list[Cell]]:
    """A row for each removed name, for :func:`print_names_table`."""
    return _cut(_name_row(name) for name in names)


def print_names_table(printer: Printer, rows: list[list[Cell]]) -> None:
    """Removed names with the place of their records."""
    columns = (
        Column("block", right=True),
        Column("offset", right=True),
        Column("inode", right=True),
        Column("type"),
        Column("removed name"),
        Column("its inode now"),
    )
    printer.table(columns, rows)


def _name_row(name: Values) -> list[Cell]:
    above = name["directory_path"]
    prefix = f"({name['directory']})/" if above is None else safe(above.rstrip("/") + "/")
    return [
        str(name["block"]),
        str(name["offset"]),
        str(name["ino"] or "-"),
        name["type"] or "-",
        (prefix + safe(name["name"]), "free"),
        _STATES[name["state"]].format(ino=name["ino"]),
    ]


def _inode_row(inode: Values) -> list[Cell]:
    if inode["damage"]:
        text: Cell = (f"in part: {safe(inode['damage'])}", "damage")
    elif not inode["blocks"]:
        text = "no blocks"
    elif inode["reused"] == inode["blocks"]:
        text = "gone: every block was reused"
    else:
        text = "in part" if inode["reused"] else ("all of its blocks are free", "used")
    return [
        str(inode["ino"]),
        inode["mode_text"],
        str(inode["size"]),
        str(inode["blocks"]),
        str(inode["reused"]),
        f"{inode['ctime_text'].partition('.')[0]}Z",
        text,
    ]


def print_recovery(printer: Printer, values: Values) -> None:
    """What was written, and what could not be."""
    printer.line(
        (f"inode {values['ino']}", "title"),
        f": {counted(values['written'], 'byte')} written to {safe(values['out'])}",
    )
    if values["written"] != values["size"]:
        size = counted(values["size"], "byte")
        printer.line(f"  zeroes for the rest of its {size}: holes, or not to be had")
    print_damage(printer, values)
    for reused in values["reused"][:_LISTED]:
        at = reused["file_block"]
        what = "a block of pointers" if at is None else f"file block {at}, zeroes now"
        owners = reused["owners"]
        by = [" by ", *owner_spans(owners[0])] if owners else [" by no sound inode"]
        printer.line(f"block {reused['block']} ({what}) was reused", *by)
    if values["reused_count"] > _LISTED:
        printer.line(f"... and {values['reused_count'] - _LISTED} more")
    if values["written"]:
        printer.line("A free block may have been another file's in between: look at the contents.")
