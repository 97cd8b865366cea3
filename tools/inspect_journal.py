"""How vsfs-inspect shows a journal: its header, and what a replay would write."""

from __future__ import annotations

from typing import Any, Final

from vsfs.words import counted, span

from .inspect_output import Cell, Column, Printer, print_damage, safe

Values = dict[str, Any]

_FIELD_COLUMNS: Final = (
    Column("offset", right=True),
    Column("field"),
    Column("value"),
    Column("meaning", extra=True),
)
_LOG_COLUMNS: Final = (
    Column("log block", right=True),
    Column("goes to", right=True),
    Column("which is"),
)
_ROLES: Final = {
    "directory": "directory data",
    "indirect": "block of pointers",
    "attributes": "extended attributes",
    "data": "data",
}


def print_journal(printer: Printer, name: str, values: Values) -> None:
    """Where it lies, the header field by field, and the transaction."""
    if not values["present"]:
        printer.line(f"{name} has no journal; tune.vsfs -j makes one")
        return
    spans = ", ".join(span(first, count) for first, count in values["blocks"])
    places = f" of {name} in blocks {spans}" if spans else f" of {name}"
    room = f": a header, and room for {counted(values['capacity'], 'block')}" if spans else ""
    printer.line(("journal", "title"), places, room)
    print_damage(printer, values)
    if values["header"] is None:
        return
    printer.line()
    rows = (
        (str(field["offset"]), name, safe(field["text"]), (field["meaning"], "minor"))
        for name, field in values["header"]["fields"].items()
    )
    printer.table(_FIELD_COLUMNS, rows)
    printer.line()
    printer.line(_summary(values))
    if values["log"]:
        printer.line()
        printer.table(_LOG_COLUMNS, map(_row, values["log"]))


def _summary(values: Values) -> str:
    """Whether a transaction waits, and why not if its blocks are still named."""
    sequence = values["header"]["fields"]["sequence"]["value"]
    count = len(values["log"])
    blocks = counted(count, "block")
    if values["waits"]:
        return (
            f"Transaction {sequence} waits: it was committed, and its {blocks} may not be in "
            "their places. The next mount writes them there, or fsck.vsfs -p."
        )
    if not count:
        return f"No transaction waits; the last one was number {sequence}."
    if not values["header"]["checksum_is_right"]:
        return (
            f"No transaction waits: the checksum does not fit the {blocks} of transaction "
            f"{sequence}, which was not committed, or is in place since."
        )
    return (
        f"No transaction waits: that is what the superblock says, so the {blocks} of "
        f"transaction {sequence} are in their places."
    )


def _row(entry: Values) -> list[Cell]:
    owner = entry["owner"]
    what = str(entry["what"])
    if owner is not None:
        path = "a file without a name" if owner["path"] is None else safe(owner["path"])
        what = f"{_ROLES.get(owner['role'], owner['role'])} of {path} (inode {owner['ino']})"
    return [str(entry["log_block"]), str(entry["block"]), what]
