"""How vsfs-inspect tells the difference of two images: the story, then each structure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from vsfs.words import counted, numbered, span

from .inspect_output import Printer, Span, safe

Values = dict[str, Any]

_MOST: Final = 40  # lines of one list; --json has more


def print_diff(printer: Printer, values: Values) -> None:
    """Group after group; those without a change are left out."""
    if not values["comparable"]:
        printer.line(("the geometries differ: only the superblocks can be compared", "damage"))
    elif not values["changed_blocks"]:
        printer.line("no block differs")
        return
    else:
        _print_head(printer, values)
    for title, lines in _groups(values):
        found = list(lines)
        if found:
            printer.line()
            printer.line((title, "title"))
            for line in found:
                printer.line("  ", *line)


def _print_head(printer: Printer, values: Values) -> None:
    count = values["changed_blocks"]
    runs = [span(first, many) for first, many in values["changed_runs"]["list"][:10]]
    more = len(values["changed_runs"]["list"]) + values["changed_runs"]["left_out"] - len(runs)
    listed = ", ".join(runs) + (f" and {counted(more, 'more run')}" if more else "")
    printer.line(f"{counted(count, 'block')} {'differs' if count == 1 else 'differ'}: {listed}")
    printer.line()
    lines = [safe(each["text"]) for each in values["story"]]
    for text in lines[:_MOST] or ["nothing that a program would see changed"]:
        printer.line("- ", text)
    if len(lines) > _MOST:
        printer.line(f"... and {len(lines) - _MOST} more")


def _groups(values: Values) -> Iterator[tuple[str, Iterable[list[Span]]]]:
    yield "superblock", _fields(values["superblock"], "")
    for which, noun in (("inode", "inode"), ("data", "block")):
        lines_of = functools.partial(_bit_lines, noun)
        yield f"{which} bitmap", _listed(values[f"{which}_bitmap"], lines_of)
    yield "inodes", _listed(values["inodes"], _inode_lines)
    yield "directories", _listed(values["directories"], _directory_lines)
    yield "files", _listed(values["files"], _file_lines)
    yield "blocks of pointers", _listed(values["pointers"], _pointer_lines)
    yield "extended attributes", _listed(values["attributes"], _attribute_lines)
    yield "journal", _listed(values["journal"], _journal_lines)
    yield "blocks that nobody uses now", _listed(values["other"], _other_lines)


def _listed(group: Values, lines_of: Callable[[Values], Iterable[list[Span]]]) -> list[list[Span]]:
    """The lines of the first items of a group, then how many are not told."""
    found: list[list[Span]] = []
    shown = 0
    for item in group["list"]:
        if len(found) >= _MOST:
            break
        found += lines_of(item)
        shown += 1
    rest = len(group["list"]) + group["left_out"] - shown
    if rest:
        found.append([(f"... and {rest} more", "minor")])
    return found


def _cut(lines: list[list[Span]]) -> list[list[Span]]:
    rest = len(lines) - _MOST
    return [*lines[:_MOST], [f"    ... and {rest} more"]] if rest > 0 else lines


def _fields(changes: list[Values], indent: str) -> list[list[Span]]:
    """A line for each field: its offset, its name, and both values."""
    width = max((len(change["field"]) for change in changes), default=0)
    return [
        [
            (f"{indent}{change['offset']:>4}  ", "minor"),
            f"{change['field']:<{width}}  {safe(change['before_text'])} -> ",
            (safe(change["after_text"]), "used"),
        ]
        for change in changes
    ]


def _bit_lines(noun: str, run: Values) -> list[list[Span]]:
    verb = ("allocated", "used") if run["allocated"] else ("freed", "free")
    place = f"bitmap block {run['block']}, byte {run['byte']}, bit {run['bit']}"
    start = " from" if run["count"] > 1 else ""
    past = ", past the end" if run["past_the_end"] else ""
    number = numbered(noun, run["first"], run["count"])
    return [[f"{number} ", verb, f":{start} {place}{past}"]]


def _subject(values: Values) -> list[Span]:
    if values["path"] is None:
        return [f"inode {values['ino']}"]
    return [(safe(values["path"]), "title"), f" (inode {values['ino']})"]


def _inode_lines(inode: Values) -> list[list[Span]]:
    path = inode["path"] if inode["path"] is not None else inode["path_before"]
    name = f" {safe(path)}" if path is not None else ""
    style = {"allocated": "used", "freed": "free"}.get(inode["event"], "")
    place = f", block {inode['block']} offset {inode['offset']}: "
    head: list[Span] = [(f"inode {inode['ino']}{name}", "title"), place, (inode["event"], style)]
    return [head, *_fields(inode["fields"], "  ")]


def _directory_lines(directory: Values) -> list[list[Span]]:
    lines: list[list[Span]] = []
    for verb, style in (("gained", "used"), ("lost", "free"), ("changed", "")):
        for entry in directory[verb]:
            was = f" (was {entry['ino_before']})" if verb == "changed" else ""
            place = f", block {entry['block']} offset {entry['offset']}"
            name = safe(entry["name"])
            lines.append([f"  {verb} ", (name, style), f" -> {entry['ino']}{was}{place}"])
    return [[*_subject(directory), ":"], *_cut(lines)]


def _file_lines(file: Values) -> list[list[Span]]:
    lines: list[list[Span]] = []
    old, new = file["size_before"], file["size"]
    if old != new:
        lines.append([f"  size {_size(old)} -> {_size(new)}"])
    for verb, style in (("gained", "used"), ("lost", "free")):
        for piece in file[verb]:
            blocks = numbered("block", piece["block"], piece["count"])
            what = {
                "data": numbered("file block", piece["file_block"], piece["count"]),
                "indirect": f"pointers from file block {piece['file_block']} on",
                "attributes": "extended attributes",
            }[piece["role"]]
            lines.append([f"  {verb} ", (blocks, style), f": {what}"])
    for run in file["written"]:
        where = numbered("block", run["block"], run["count"])
        written = numbered("byte", run["first_byte"], run["last_byte"] - run["first_byte"] + 1)
        lines.append([f"  written: {written}, in {where}"])
    return [[*_subject(file), ":"], *_cut(lines)]


def _size(size: int | None) -> str:
    return "none" if size is None else counted(size, "byte")


def _pointer_lines(block: Values) -> list[list[Span]]:
    lines: list[list[Span]] = [
        [f"  entry {entry['index']}: {entry['before']} -> ", (str(entry["after"]), "used")]
        for entry in block["entries"]
    ]
    return [[f"block {block['block']} of ", *_subject(block), ":"], *_cut(lines)]


def _attribute_lines(values: Values) -> list[list[Span]]:
    lines: list[list[Span]] = [
        [f"  {verb} {safe(name['name'])}"]
        for verb in ("gained", "lost", "changed")
        for name in values[verb]
    ]
    return [[*_subject(values), ":"], *_cut(lines)]


def _journal_lines(journal: Values) -> list[list[Span]]:
    count = journal["log_blocks"]
    differ = "differs" if count == 1 else "differ"
    text = f"header in block {journal['block']}; {counted(count, 'block')} of the log {differ}"
    return [[text], *_fields(journal["fields"], "  ")]


def _other_lines(run: Values) -> list[list[Span]]:
    where = numbered("block", run["first"], run["count"])
    state = "in use, but by no sound inode" if run["in_use"] else "free"
    was: list[Span] = ["; before, too"]
    if run["was"] is not None:
        was = [f"; was {run['was']['role']}[{run['was']['file_block']}] of ", *_subject(run["was"])]
    return [[f"{where}: {state}", *was]]
