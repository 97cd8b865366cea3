"""The bytes of one block beside their meaning.

Where the filesystem knows what bytes mean, eight stand on a line with a field;
where it does not, sixteen with their letters, as ``hexdump -C`` prints them.  The
dump has that form for every block, and names the fields that begin on a line.
On a terminal neighbouring fields differ in colour, bytes and names alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from .inspect_output import Printer, Span, print_damage, safe

Values = dict[str, Any]

_FIELD_ROW: Final = 8  # bytes on a line with a meaning
_DUMP_ROW: Final = 16  # bytes on a line without
_JOURNAL: Final = 1  # its inode
_FIELD_COLOURS: Final = 6  # that follow each other
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
    print_damage(printer, values)
    printer.line()
    data = bytes.fromhex(values["hex"])
    if not values["parts"]:
        _print_dump(printer, data)
    for index, part in enumerate(values["parts"]):
        _print_part(printer, data, part, f"field.{index % _FIELD_COLOURS}")


def print_hexdump(printer: Printer, values: Values) -> None:
    """All bytes as ``hexdump -C`` prints them, and which fields begin where."""
    _print_dump(printer, bytes.fromhex(values["hex"]), list(_marks(values["parts"])))


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


def _print_part(printer: Printer, data: bytes, part: Values, colour: str) -> None:
    """One structure: field by field, or as a whole, in `colour`, where it has none."""
    start = part["offset"]
    title = safe(part["title"])
    if part["damage"]:
        title += f": damaged: {safe(part['damage'])}"
    if not part["fields"]:
        style = "damage" if part["damage"] else colour
        _print_rows(printer, data, start, part["size"], (title, style))
        return
    printer.line((title, "damage" if part["damage"] else "title"))
    for index, (name, field) in enumerate(part["fields"].items()):
        text = f"{name} = {safe(field['text'])}" if field["text"] else name
        said = text, f"field.{index % _FIELD_COLOURS}"
        letters = name == "slack"  # removed names are still there
        _print_rows(printer, data, start + field["offset"], field["size"], said, letters=letters)


def _print_rows(
    printer: Printer,
    data: bytes,
    start: int,
    size: int,
    meaning: tuple[str, str],
    *,
    letters: bool = False,
) -> None:
    """Rows of eight bytes, also as letters if wanted; the meaning beside the first."""
    style = meaning[1]
    for at, row, is_repeated in _rows(data[start : start + size], _FIELD_ROW):
        if is_repeated:
            printer.line((f"{'*':>6}", "minor"))
            continue
        spans: list[Span] = [(row.hex(" ").ljust(_MEANING_AT), style)]
        if letters:
            spans.append(f"|{_letters(row)}|  ")
        said: Span = meaning if at == 0 else ""
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


class _Mark(NamedTuple):
    """A stretch of bytes with one meaning."""

    start: int
    end: int
    name: str
    style: str


def _marks(parts: list[Values]) -> Iterator[_Mark]:
    """The fields of a block; a part without fields as a whole."""
    index = 0
    for part in parts:
        title, start = safe(part["title"]), part["offset"]
        if not part["fields"]:
            style = "damage" if part["damage"] else f"field.{index % _FIELD_COLOURS}"
            yield _Mark(start, start + part["size"], title, style)
            index += 1
        for number, (name, field) in enumerate(part["fields"].items()):
            at = start + field["offset"]
            style = f"field.{index % _FIELD_COLOURS}"
            name_there = name if number else f"{title}: {name}"
            yield _Mark(at, at + field["size"], name_there, style)
            index += 1


def _print_dump(printer: Printer, data: bytes, marks: Sequence[_Mark] = ()) -> None:
    """Sixteen bytes a line, with their letters, and the fields that begin there."""
    styles = [""] * len(data)
    names: dict[int, list[Span]] = {}
    for mark in marks:
        styles[mark.start : mark.end] = [mark.style] * len(data[mark.start : mark.end])
        names.setdefault(mark.start // _DUMP_ROW, []).extend(["  ", (mark.name, mark.style)])
    previous, is_repeat = None, False
    for at in range(0, len(data), _DUMP_ROW):
        row, said = data[at : at + _DUMP_ROW], names.get(at // _DUMP_ROW, [])
        if row == previous and not said:
            if not is_repeat:
                printer.line(("*", "minor"))
            is_repeat = True
            continue
        previous, is_repeat = row, False
        spans = list(_byte_spans(row, styles[at : at + _DUMP_ROW]))
        printer.line((f"{at:06x}  ", "minor"), *spans, f" |{_letters(row)}|", *said)
    printer.line((f"{len(data):06x}", "minor"))


def _byte_spans(row: bytes, styles: list[str]) -> Iterator[Span]:
    """Each byte in the colour of its field, in two halves, always as wide."""
    for index, (byte, style) in enumerate(zip(row, styles, strict=True)):
        yield " " if index == _DUMP_ROW // 2 else ""
        yield f"{byte:02x}", style
        yield " "
    yield "   " * (_DUMP_ROW - len(row))


def _letters(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
