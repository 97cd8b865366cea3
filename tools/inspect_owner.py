"""How vsfs-inspect shows the way back: block to inode, inode to names; and `where`."""

from __future__ import annotations

from typing import Any

from vsfs.words import counted

from .inspect_blocks import owner_spans
from .inspect_output import Column, Printer, print_damage, safe

Values = dict[str, Any]


def print_owner(printer: Printer, values: Values) -> None:
    """A line for each use of the block, and one for each path."""
    block, state = values["block"], "in use" if values["in_use"] else "free"
    place = f"{values['region']}, {state}, byte {values['image_offset']} of the image"
    printer.line((f"block {block}", "title"), f": {place}")
    if values["what"] != values["region"]:
        printer.line(f"  holds {values['what']}")
    if values["region"] == "data region" and not values["owners"]:
        lost = "damaged: its bit is 1, but no sound inode in use points to it"
        printer.line("  ", (lost, "damage") if values["in_use"] else "nobody uses it")
    for owner in values["owners"]:
        printer.line("  ", *owner_spans(owner))
        for path in owner["paths"]:
            printer.line("    ", (_path(path), "title"))


def _path(values: Values) -> str:
    return "(in a directory without a path)" if values["path"] is None else safe(values["path"])


def print_names(printer: Printer, values: Values) -> None:
    """A row for each record, then whether they are as many as the inode says."""
    kind = values["type"] or "never used"
    state = "in use" if values["in_use"] else "free"
    printer.line((f"inode {values['ino']}", "title"), f": {kind}, {state}")
    print_damage(printer, values)
    columns = (
        Column("block", right=True),
        Column("offset", right=True),
        Column("in inode", right=True),
        Column("record"),
        Column("path"),
    )
    if values["records"]:
        rows = (
            (
                str(record["block"]),
                str(record["offset"]),
                str(record["directory"]),
                _kind(record),
                (_path(record), "title" if record["kind"] == "name" else "minor"),
            )
            for record in values["records"]
        )
        printer.table(columns, rows)
    left_out = values["record_count"] - len(values["records"])
    if left_out:
        printer.line(f"... and {left_out} more")
    count = values["record_count"]
    said = f"{counted(count, 'record')} {'names' if count == 1 else 'name'} it"
    text = f"{said}, and its field nlink is {values['nlink']}"
    agree = count == values["nlink"]
    printer.line(text if agree else (f"{text}: they differ", "damage"))


def _kind(record: Values) -> str:
    return {"name": "a name", "itself": "its own .", "parent": "a .. below it"}[record["kind"]]


def print_where(printer: Printer, values: Values) -> None:
    """The arithmetic from a file's offset to the image's, a step a line."""
    path = "" if values["path"] is None else f"{safe(values['path'])} "
    offset, size = values["offset"], values["block_size"]
    printer.line((f"byte {offset} of {path}", "title"), f"(inode {values['ino']})")
    print_damage(printer, values)
    if values["past_the_end"]:
        printer.line((f"past the end: the size is {counted(values['size'], 'byte')}", "damage"))
    if values["inline"]:
        printer.line("  a short target stands in the inode itself")
        _print_end(printer, values)
        return
    within = values["offset_in_block"]
    printer.line(f"  file block  {offset} // {size} = {values['file_block']}")
    printer.line(f"  byte in it  {offset} % {size} = {within}")
    printer.line(f"  pointer     {_way(values)}")
    for step in values["steps"]:
        place = f"block {step['block']} offset {step['offset']}, byte {step['image_offset']}"
        pointer = str(step["pointer"]) if step["pointer"] else "0, a hole: it reads as zeroes"
        where = f"{step['structure']}, {step['field']}"
        printer.line(f"    {where:<28}  ({place}) = ", (pointer, "used"))
    if values["block"] is not None:
        _print_end(printer, values)


def _print_end(printer: Printer, values: Values) -> None:
    block, size, within = values["block"], values["block_size"], values["offset_in_block"]
    arithmetic = f"  in image    {block} * {size} + {within} = "
    printer.line(arithmetic, (str(values["image_offset"]), "used"))


def _way(values: Values) -> str:
    """Which pointer of the inode, and which entries of the blocks behind it, by numbers."""
    file_block, entries, per_block = (
        values["file_block"],
        values["entries"],
        values["pointers_per_block"],
    )
    if not entries:
        return f"{file_block} < 12: direct"
    before = [12, *(per_block**level for level in range(1, len(entries)))]
    rest = file_block - sum(before)
    minus = "".join(f" - {count}" for count in before)
    arithmetic = f"{file_block}{minus} = {rest} < {per_block}{_power(len(entries))}"
    found = []
    for level, entry in zip(range(len(entries) - 1, -1, -1), entries, strict=True):
        divided = f" // {per_block}{_power(level)}" if level else ""
        modulo = f" % {per_block}" if level < len(entries) - 1 else ""
        found.append(f"{rest}{divided}{modulo} = {entry}")
    shown = "" if len(entries) == 1 else f" ({', '.join(found)})"
    noun = "entry" if len(entries) == 1 else "entries"
    listed = ", ".join(map(str, entries))
    return f"{arithmetic}: {values['through']}, {noun} {listed}{shown}"


def _power(exponent: int) -> str:
    return f"^{exponent}" if exponent > 1 else ""
