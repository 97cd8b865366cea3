"""The bytes of one block beside their meaning.

Where the filesystem knows what bytes mean, eight stand on a line with a field;
where it does not, sixteen with their letters, as ``hexdump -C`` prints them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .inspect_output import Printer, Span, safe

Values = dict[str, Any]

_FIELD_ROW: Final = 8  # bytes on a line with a meaning
_DUMP_ROW: Final = 16  # bytes on a line without
_JOURNAL: Final = 1  # its inode
_MEANING_AT: Final = 3 * _FIELD_ROW + 1  # columns behind the offset


def print_block(printer: Printer, values: Values) -> None:
    """Whose block it is, then its bytes."""
    state = "in use" if values["in_use"] else "free"
    printer.line(
        (f"block {values['block']}", "title"),
        f": {values['region']}, {state}, byte {values['image_offset']} of the image",
    )
    for owner in values["owners"]:
        printer.line(*owner_spans(owner))
    if values["damage"]:
        printer.line((f"damaged: {safe(values['damage'])}", "damage"))
    printer.line()
    data = bytes.fromhex(values["hex"])
    if not values["parts"]:
        _print_dump(printer, data)
    for part in values["parts"]:
        _print_part(printer, data, part)


def owner_spans(owner: Values) -> Iterator[Span]:
    """What the block is to its owner: "data[2] of /foo/bar (inode 5)"."""
    if owner["role"] == "indirect":
        levels = "" if owner["level"] == 1 else f", {owner['level']} levels above the data,"
        yield f"block of pointers{levels} from file block {owner['file_block']} on"
    elif owner["role"] == "attributes":
        yield "extended attributes"
    elif owner["role"] == "journal":
        yield f"log[{owner['file_block'] - 1}]" if owner["file_block"] else "header"
    else:
        yield f"{owner['role']}[{owner['file_block']}]"
    if owner["ino"] == _JOURNAL:
        yield " of the journal (inode 1)"
        return
    path = "a file without a name" if owner["path"] is None else safe(owner["path"])
    yield " of "
    yield path, "title"
    through = f", through its {owner['through']} pointer" if owner["through"] else ""
    yield f" (inode {owner['ino']}{through})"


def _print_part(printer: Printer, data: bytes, part: Values) -> None:
    """One structure: field by field, or as a whole where it has none."""
    start = part["offset"]
    title = safe(part["title"])
    if part["damage"]:
        title += f": damaged: {safe(part['damage'])}"
    if not part["fields"]:
        style = "damage" if part["damage"] else ""
        _print_rows(printer, data, start, part["size"], (title, style))
        return
    printer.line((title, "damage" if part["damage"] else "title"))
    for name, field in part["fields"].items():
        text = f"{name} = {safe(field['text'])}" if field["text"] else name
        letters = name == "slack"  # removed names are still there
        _print_rows(printer, data, start + field["offset"], field["size"], text, letters=letters)


def _print_rows(
    printer: Printer,
    data: bytes,
    start: int,
    size: int,
    meaning: Span,
    *,
    letters: bool = False,
) -> None:
    """Rows of eight bytes, also as letters if wanted; the meaning beside the first."""
    for at, row, is_repeated in _rows(data[start : start + size], _FIELD_ROW):
        if is_repeated:
            printer.line((f"{'*':>6}", "minor"))
            continue
        spans = [row.hex(" ").ljust(_MEANING_AT)]
        if letters:
            spans.append(f"|{_letters(row)}|  ")
        said = meaning if at == 0 else ""
        printer.line((f"{start + at:06x}  ", "minor"), *spans, said)


def _rows(data: bytes, width: int) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, bytes, False), and one (offset, b"", True) for a stretch of repeats."""
    previous, is_repeat = None, False
    for at in range(0, len(data), width):
        row = data[at : at + width]
        if row == previous:
            if not is_repeat:
                yield at, b"", True
            is_repeat = True
            continue
        previous, is_repeat = row, False
        yield at, row, False


def _print_dump(printer: Printer, data: bytes) -> None:
    """Sixteen bytes a line, with their letters."""
    for at, row, is_repeated in _rows(data, _DUMP_ROW):
        if is_repeated:
            printer.line(("*", "minor"))
            continue
        halves = "  ".join((row[:8].hex(" ").ljust(23), row[8:].hex(" ").ljust(23)))
        printer.line((f"{at:06x}  ", "minor"), f"{halves}  |{_letters(row)}|")
    printer.line((f"{len(data):06x}", "minor"))


def _letters(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
