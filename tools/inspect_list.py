"""How vsfs-inspect shows directories and inodes in the manner of ls(1) and stat(1)."""

from __future__ import annotations

from typing import Any

from .inspect_deleted import deleted_rows, print_names_table
from .inspect_output import Cell, Column, Printer, Span, print_damage, safe

Values = dict[str, Any]


def print_short(printer: Printer, values: Values) -> None:
    """A line for each name: its inode and itself."""
    columns = Column("inode", right=True), Column("name")
    printer.table(
        columns, ([str(entry["ino"] or "-"), _name(entry)] for entry in values["entries"])
    )
    _print_deleted(printer, values)


def print_long(printer: Printer, values: Values) -> None:
    """A line for each name, with what ls -li tells."""
    columns = (
        Column("inode", right=True),
        Column("mode"),
        Column("links", right=True),
        Column("owner"),
        Column("size", right=True),
        Column("modified"),
        Column("name"),
    )
    printer.table(columns, (_long_row(entry) for entry in values["entries"]))
    _print_deleted(printer, values)


def _print_deleted(printer: Printer, values: Values) -> None:
    rows = list(deleted_rows(values["deleted"]))
    if rows:
        printer.line()
        print_names_table(printer, rows)


def _long_row(entry: Values) -> list[Cell]:
    if entry["mode"] is None:
        return [str(entry["ino"] or "-"), "", "", "", "", "", _name(entry)]
    is_device = entry["type"] in ("character device", "block device")
    major, minor = entry["device"]
    return [
        str(entry["ino"]),
        entry["mode_text"],
        str(entry["nlink"]),
        f"{entry['uid']}:{entry['gid']}",
        f"{major},{minor}" if is_device else str(entry["size"]),
        _when(entry["mtime_text"]),
        _name(entry),
    ]


def _when(text: str) -> str:
    """A time to the second."""
    return f"{text.partition('.')[0]}Z"


def _name(entry: Values) -> Cell:
    name = "" if entry["name"] is None else safe(entry["name"])
    if entry["damage"]:
        return f"{name}  damaged: {safe(entry['damage'])}".strip(), "damage"
    if entry["target"] is not None:
        return f"{name} -> {safe(entry['target'])}", "link"
    return name, "directory" if entry["type"] == "directory" else ""


def print_status(printer: Printer, values: Values) -> None:
    """The lines of stat(1)."""
    name = "(no name)" if values["path"] is None else safe(values["path"])
    target = "" if values["target"] is None else f" -> {safe(values['target'])}"
    printer.line("  File: ", (name, "title"), target)
    print_damage(printer, values)
    kind = values["type"] or "never used"
    state = "" if values["in_use"] else " (free)"
    printer.line(f"  Size: {values['size']:<12} Blocks: {values['blocks']:<10} {kind}{state}")
    spans: list[Span] = [f" Inode: {values['ino']:<12} Links: {values['nlink']:<11}"]
    if values["type"] in ("character device", "block device"):
        spans.append("Device type: {},{}".format(*values["device"]))
    printer.line(*spans)
    mode = f"({values['mode'] & 0o7777:04o}/{values['mode_text']})"
    printer.line(f"Access: {mode}  Uid: {values['uid']}  Gid: {values['gid']}")
    for title, key in (
        ("Access", "atime"),
        ("Modify", "mtime"),
        ("Change", "ctime"),
        (" Birth", "btime"),
    ):
        printer.line(f"{title}: {values[f'{key}_text']}")
