"""What vsfs-inspect shows of each description: text for people.

One method for each command.  Everything here comes from :mod:`vsfs.describe`;
this module only chooses words, columns and pictures.  What one command alone prints
is imported when it is called: start-up is to stay light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, Final

from vsfs.words import counted, numbered, plural, span

from .inspect_output import Cell, Column, Printer, Span, name_spans, print_damage, safe

Values = dict[str, Any]

_GRID_LIMIT: Final = 2048  # bits of a bitmap that are drawn one by one
_PIECES_ON_A_LINE: Final = 6
_MAX_INDENT: Final = 60  # levels of the tree that are drawn
_FIELD_COLUMNS: Final = (
    Column("offset", right=True),
    Column("field"),
    Column("value"),
    Column("meaning", extra=True),
)


class Report:
    """Prints descriptions of the image called `name`."""

    def __init__(self, printer: Printer, name: str) -> None:
        self._printer = printer
        self._name = safe(name)
        self._line = printer.line

    def by(self, print_values: Callable[[Printer, Values], None], values: Values) -> None:
        """What a function of another module prints."""
        print_values(self._printer, values)

    def image(self, values: Values) -> None:
        """The whole dump."""
        self.superblock(values["super"])
        self._line()
        self.layout(values["layout"])
        self._line()
        self.bitmaps(values)
        self._line()
        self._line(("inodes in use", "title"))
        self._line((_inode_header(), "minor"))
        for inode in values["inodes"]:
            self._inode_line(inode)

    def superblock(self, values: Values) -> None:
        """Every field, and both counts of what is free."""
        self._line(("superblock", "title"), f" of {self._name}")
        print_damage(self._printer, values)
        self._fields(values["fields"])
        if values["counted"] is None:
            return
        for what, bitmap in (("block", "data"), ("inode", "inode")):
            said = values["fields"][f"free_{what}_count"]["value"]
            counted = values["counted"][f"free_{what}_count"]
            text = f"free {what}s: {said} in the superblock, {counted} in the {bitmap} bitmap"
            self._line(text if said == counted else (f"{text}: they differ", "damage"))

    def layout(self, values: Values) -> None:
        """The picture of OSTEP 40.2, and the regions as a table."""
        from .inspect_layout import print_layout  # noqa: PLC0415

        print_layout(self._printer, self._name, values)

    def bitmaps(self, values: Values) -> None:
        """One or both bitmaps."""
        for index, bitmap in enumerate(values["bitmaps"]):
            if index:
                self._line()
            self._bitmap(bitmap)

    def _bitmap(self, values: Values) -> None:
        """Counts, and the bits themselves or the runs of those in use."""
        what = values["bitmap"]
        where = numbered("block", values["start"], values["blocks"])
        noun = "inode" if what == "inode" else "block"
        self._line(
            (f"{what} bitmap", "title"),
            f" in {where}: {counted(values['count'], noun)}, ",
            f"{values['used']} in use, {values['free']} free",
        )
        if values["count"] <= _GRID_LIMIT:
            self._grid(values)
        else:
            self._runs(values, noun)

    def _grid(self, values: Values) -> None:
        """The bits, 64 in a row, each row with the number of its first one."""
        first, count = values["first"], values["count"]
        used = {number for start, run in values["runs"] for number in range(start, start + run)}
        width = len(str(first + count))
        for row in range(first, first + count, 64):
            bits = "".join(
                "1" if at in used else "0" for at in range(row, min(row + 64, first + count))
            )
            groups = [bits[at : at + 8] for at in range(0, len(bits), 8)]
            self._line((f"{row:>{width}}  ", "minor"), *_bit_spans(" ".join(groups)))

    def _runs(self, values: Values, noun: str) -> None:
        spans = [span(first, count) for first, count in values["runs"]]
        self._line(f"{plural(noun)} in use: ", (", ".join(spans) or "none", "used"))
        if not values["complete"]:
            self._line(f"... and more; these are the first {len(spans)} runs")

    # -- inodes ---------------------------------------------------------------

    def inode(self, values: Values) -> None:
        """Where it stands, every field, and where its contents are."""
        from .inspect_inode import print_inode  # noqa: PLC0415

        print_inode(self._printer, values)

    def path(self, values: Values) -> None:
        """The walk, step by step, and what it costs."""
        from .inspect_path import print_path  # noqa: PLC0415

        print_path(self._printer, values)

    def _inode_line(self, values: Values) -> None:
        """One inode of the dump, on one line."""
        ino = values["ino"]
        if values["damage"]:
            self._line(f"inode {ino}: ", (f"damaged: {safe(values['damage'])}", "damage"))
            return
        if values["type"] is None:
            self._line(f"{ino:>5}  ", ("reserved", "minor"))
            return
        said = {name: field["value"] for name, field in values["fields"].items()}
        permissions = values["fields"]["mode"]["text"].split()[1]
        owner = f"{said['uid']}:{said['gid']}"
        self._line(
            f"{ino:>5}  {permissions}  {said['nlink']:>5}  {owner:<9}  {said['size']:>10}  ",
            f"{said['blocks']:>6}  {_pieces_text(values):<22}  ",
            *name_spans(values),
            ("(the journal)", "minor") if values["reserved"] else "",
        )

    def _fields(self, values: Values) -> None:
        rows = (
            (str(field["offset"]), name, safe(_field_text(field)), (field["meaning"], "minor"))
            for name, field in values.items()
        )
        self._printer.table(_FIELD_COLUMNS, rows)

    # -- directories and blocks -----------------------------------------------

    def directory(self, values: Values) -> None:
        """Its sectors and records in the order of the disk."""
        self._line(
            ("directory ", "title"),
            *name_spans(values),
            f" (inode {values['ino']}), {counted(values['size'], 'byte')}",
        )
        print_damage(self._printer, values)
        columns = (
            Column("block", right=True),
            Column("sector", right=True),
            Column("offset", right=True),
            Column("inode", right=True),
            Column("length", right=True),
            Column("name length", right=True),
            Column("type"),
            Column("name"),
        )
        rows = (row for sector in values["sectors"] for row in _sector_rows(sector))
        self._printer.table(columns, rows)

    def tree(self, values: Values) -> None:
        """The names as tree(1) draws them, with inode numbers."""
        middle, last, below_middle, below_last = self._printer.branches
        stems: list[str] = []
        directories = files = 0
        for entry in values["entries"]:
            depth = entry["depth"]
            del stems[max(depth - 1, 0) :]
            branch = "" if not depth else last if entry["is_last"] else middle
            skipped = max(len(stems) - _MAX_INDENT, 0)
            more = f"({counted(skipped, 'level')}) " if skipped else ""
            stem = more + "".join(stems[skipped:]) + branch
            self._line((stem, "minor"), *_entry_spans(entry))
            if depth:
                stems.append(below_last if entry["is_last"] else below_middle)
            directories += entry["type"] == "directory" and depth > 0
            files += entry["type"] != "directory"
        self._line()
        self._line(f"{counted(directories, 'directory')}, {counted(files, 'file')}")

    def fragments(self, values: Values) -> None:
        """The runs of each file, and how they are in total."""
        from .inspect_fragments import print_fragments  # noqa: PLC0415

        print_fragments(self._printer, values)

    def journal(self, values: Values) -> None:
        """Its header, and the transaction that waits in it."""
        from .inspect_journal import print_journal  # noqa: PLC0415

        print_journal(self._printer, self._name, values)

    def block(self, values: Values) -> None:
        """Its owner, and its bytes beside what they mean."""
        from .inspect_blocks import print_block  # noqa: PLC0415

        print_block(self._printer, values)

    def hexdump(self, values: Values) -> None:
        """Its bytes as ``hexdump -C`` prints them, with the fields that begin."""
        from .inspect_blocks import print_hexdump  # noqa: PLC0415

        print_hexdump(self._printer, values)


def _bit_spans(bits: str) -> Iterator[Span]:
    for is_one, group in groupby(bits, lambda bit: bit == "1"):
        yield "".join(group), "used" if is_one else "free"


def _field_text(field: Values) -> str:
    """A value for people; a time has its number of ns behind it."""
    text, value = str(field["text"]), field["value"]
    is_time = isinstance(value, int) and text.endswith("Z")
    return f"{text} ({value})" if is_time else text


def _inode_header() -> str:
    columns = f"{'inode':>5}  {'mode':<10}  {'links':>5}  {'owner':<9}  {'size':>10}"
    return f"{columns}  {'blocks':>6}  {'where':<22}  path"


def _pieces_text(values: Values) -> str:
    """The block list in short: "8-19 [20] 21-40", indirect blocks in brackets."""
    found = [_piece_text(piece) for piece in values["pieces"][:_PIECES_ON_A_LINE]]
    more = len(values["pieces"]) - len(found)
    if more > 0:
        found.append(f"and {more} more")
    return " ".join(found) or "-"


def _piece_text(piece: Values) -> str:
    if piece["role"] == "hole":
        return "hole"
    text = span(piece["block"], piece["count"])
    return f"[{text}]" if piece["role"] == "indirect" else text


def _sector_rows(sector: Values) -> Iterator[list[Cell]]:
    """A row for each record; block and sector stand only beside the first."""
    place = [str(sector["block"] or "-"), str(sector["offset"] // 512)]
    for record in sector["records"]:
        yield [*place, *_record_cells(record)]
        place = ["", ""]
    if sector["damage"]:
        text = f"damaged: {safe(sector['damage'])}"
        yield [*place, "", "", "", "", "", (text, "damage")]


def _record_cells(record: Values) -> Iterator[Cell]:
    yield str(record["offset"])
    yield str(record["inode"])
    yield str(record["record_length"])
    yield str(record["name_length"])
    if record["free"]:
        was = f", was {safe(record['name'])}" if record["name"].strip("\0") else ""
        yield "-"
        yield f"(free{was})", "free"
        return
    yield record["type"] or f"unknown ({record['file_type']})"
    yield safe(record["name"]), "directory" if record["type"] == "directory" else "title"


def _entry_spans(entry: Values) -> Iterator[Span]:
    """A name of the tree with its inode number."""
    yield f"[{entry['ino']}] "
    style = {"directory": "directory", "symbolic link": "link"}
    yield safe(entry["name"]), style.get(entry["type"], "")
    if entry["target"] is not None:
        yield f" -> {safe(entry['target'])}"
    if entry["damage"]:
        yield f"  damaged: {safe(entry['damage'])}", "damage"
