"""An inode for people: the arithmetic that finds it, its bytes, and its pointers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from vsfs.words import span

from .inspect_output import Cell, Column, Printer, name_spans, print_damage, safe
from .inspect_pointers import print_pointers

Values = dict[str, Any]

_BYTES_SHOWN: Final = 8  # of a field; more are counted
_COLUMNS: Final = (
    Column("at", right=True),
    Column("bytes"),
    Column("field"),
    Column("value"),
    Column("meaning", extra=True),
)


def print_inode(printer: Printer, values: Values) -> None:
    """Where it stands, every field with its bytes, and where its contents are."""
    _print_place(printer, values)
    printer.line(f"{state(values)}  ", *name_spans(values))
    print_damage(printer, values)
    printer.line()
    printer.table(_COLUMNS, _field_rows(values))
    print_pointers(printer, values)
    if values["attributes"]:
        _print_attributes(printer, values["attributes"])


def _print_place(printer: Printer, values: Values) -> None:
    """The arithmetic of OSTEP 40.3 for the record, and for its bit in the bitmap."""
    ino, place = values["ino"], values["location"]
    size, at = place["block_size"], place["table_offset"]
    block, offset, bit = place["block"], place["offset"], place["bit"]
    printer.line((f"inode {ino}", "title"), f": {ino}*256 = {at}, block {block}, offset {offset}")
    indent = " " * len(f"inode {ino}: ")
    table = place["table_start"]
    printer.line((f"{indent}{table} + {at} // {size} = {block}, {at} % {size} = {offset}", "minor"))
    where = f"byte {block}*{size} + {offset} = {place['image_offset']} of the image"
    in_bitmap = f"its bit: block {bit['block']}, byte {bit['byte']}, bit {bit['bit']}"
    printer.line((f"{indent}{where}; {in_bitmap}", "minor"))


def state(values: Values) -> str:
    """In a few words, what an inode is."""
    if values["reserved"]:
        return "the journal" if values["type"] else "reserved"
    if values["type"] is None:
        return "free, never used"
    if not values["in_use"]:
        return f"{values['type']}, deleted"
    if not values["fields"]["nlink"]["value"]:
        return f"{values['type']}, removed while open"
    return f"{values['type']}, in use"


# -- fields -------------------------------------------------------------------


def _field_rows(values: Values) -> Iterator[list[Cell]]:
    """A row for each field; for each stretch of equal pointers where there are twelve."""
    data = bytes.fromhex(values["hex"])
    for name, field in values["fields"].items():
        if name == "direct":
            yield from _direct_rows(data, field)
        else:
            raw = data[field["offset"] : field["offset"] + field["size"]]
            yield _row(field["offset"], raw, name, field["text"], field["meaning"])


def _direct_rows(data: bytes, field: Values) -> Iterator[list[Cell]]:
    index = 0
    for block, group in groupby(field["value"]):
        count = len(list(group))
        at = field["offset"] + 4 * index
        raw, name = data[at : at + 4 * count], f"direct[{span(index, count)}]"
        yield _row(at, raw, name, str(block), field["meaning"])
        index += count


def _row(at: int, raw: bytes, name: str, text: str, meaning: str) -> list[Cell]:
    cells: list[Cell] = [str(at), (_bytes_text(raw), "minor"), name, safe(text)]
    return [*cells, (meaning, "minor")]


def _bytes_text(raw: bytes) -> str:
    """Up to eight bytes in hexadecimal, and how many more there are.

    >>> _bytes_text(bytes(12))
    '00 x 12'
    """
    if len(raw) <= _BYTES_SHOWN:
        return raw.hex(" ")
    if len(set(raw)) == 1:
        return f"{raw[:1].hex()} x {len(raw)}"
    shown = _BYTES_SHOWN - 3
    return f"{raw[:shown].hex(' ')} +{len(raw) - shown} more"


# -- attributes ---------------------------------------------------------------


def _print_attributes(printer: Printer, values: Values) -> None:
    printer.line()
    printer.line(("extended attributes", "title"), f" in block {values['block']}")
    print_damage(printer, values)
    columns = Column("name"), Column("value")
    rows = ((safe(each["name"]), safe(each["value"])) for each in values["list"])
    printer.table(columns, rows)
