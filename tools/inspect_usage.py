"""How vsfs-inspect shows what fills the disk, and the format as tables."""

from __future__ import annotations

from typing import Any, Final

from vsfs.words import counted

from .inspect_output import Column, Printer, safe

Values = dict[str, Any]

_WHAT: Final = {
    "data": "file data",
    "directory": "directories",
    "indirect": "pointers",
    "attributes": "extended attributes",
    "journal": "journal",
    "lost": "lost: in use, but by no sound inode",
    "free": "free",
}


def print_usage(printer: Printer, values: Values) -> None:
    """By region, then the data region by role, then inodes, waste and the largest files."""
    total = values["block_count"]
    rows = [
        (region["name"], str(region["blocks"]), _share(region["blocks"], total), "title")
        for region in values["regions"]
    ]
    rows += [
        (f"  {_WHAT[role]}", str(count), _share(count, total), "damage" if role == "lost" else "")
        for role, count in values["blocks"].items()
        if count or role in ("data", "directory", "free")
    ]
    columns = Column("blocks of"), Column("blocks", right=True), Column("share", right=True)
    printer.table(columns, ([(what, style), *cells] for what, *cells, style in rows))
    printer.line()
    _print_inodes(printer, values)
    _print_waste(printer, values)
    if values["largest"]:
        printer.line()
        _print_largest(printer, values)


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %"


def _print_inodes(printer: Printer, values: Values) -> None:
    inodes = values["inodes"]
    types = ", ".join(f"{name} {count}" for name, count in sorted(inodes["types"].items()))
    printer.line(
        ("inodes", "title"),
        f": {inodes['used']} of {inodes['count']} in use, {inodes['free']} free",
    )
    printer.line(f"  {types or 'no files'}; the others in use are reserved")
    if values["damaged_inodes"]:
        text = (
            f"  {values['damaged_inodes']} damaged: what they own is not counted, or only in part"
        )
        printer.line((text, "damage"))


def _print_waste(printer: Printer, values: Values) -> None:
    files, size = values["slack_files"], values["wasted"]
    printer.line(
        ("waste", "title"),
        f": {counted(size, 'byte')} behind {_ends(files)}",
    )
    fragments = values["fragments"]
    average = fragments["fragments"] / (fragments["files"] or 1)
    are = "is" if fragments["fragmented"] == 1 else "are"
    printer.line(
        ("fragments", "title"),
        f": {fragments['fragmented']} of {fragments['files']} files and directories with blocks "
        f"{are} fragmented, {average:.1f} fragments on average",
    )
    printer.line(
        ("holes", "title"),
        f": {counted(values['holes'], 'block')} that files have only in their sizes",
    )


def _ends(files: int) -> str:
    return (
        "the end of 1 file, in its last block"
        if files == 1
        else f"the ends of {files} files, in their last blocks"
    )


def _print_largest(printer: Printer, values: Values) -> None:
    columns = (
        Column("inode", right=True),
        Column("blocks", right=True),
        Column("size", right=True),
        Column("fragments", right=True),
        Column("largest files"),
    )
    rows = (
        (
            str(file["ino"]),
            str(file["blocks"]),
            str(file["size"]),
            str(file["fragments"]),
            ("(no name)", "minor") if file["path"] is None else (safe(file["path"]), "title"),
        )
        for file in values["largest"]
    )
    printer.table(columns, rows)


def print_fields(printer: Printer, values: Values) -> None:
    """A table for each structure."""
    columns = (
        Column("offset", right=True),
        Column("width", right=True),
        Column("type"),
        Column("field"),
        Column("meaning"),
    )
    for index, structure in enumerate(values["structures"]):
        if index:
            printer.line()
        printer.line(
            (structure["name"], "title"), f": {structure['size']} bytes; {structure['where']}"
        )
        rows = (
            (
                row["offset_text"],
                row["width_text"],
                row["type"],
                (row["name"], "title"),
                (row["meaning"], "minor"),
            )
            for row in structure["fields"]
        )
        printer.table(columns, rows)
