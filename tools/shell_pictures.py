"""The tables of OSTEP's chapter 39 as pictures: descriptors, open files, inodes.

A line leads from each descriptor to its entry of the open file table.  An entry
stands in the row of the first descriptor that refers to it; what others refer to
it join that row by a vertical line in a lane of its own::

    process 1            open file table
      3 ──────────────┬─> 1  O_RDWR  offset 5  references 2 ──> inode 4 ...
      4 ───────────┬──│─> 2  ...
    process 2      │  │
      3 ───────────│──┘
"""

from __future__ import annotations

import stat
import sys
from dataclasses import dataclass
from typing import Final, NamedTuple

from vsfs.inode import Inode
from vsfs.openfiles import OpenFile

from .inspect_output import Cell, Span, safe
from .shell_commands import Session
from .shell_strace import flags_text

_TERMINAL: Final = ("0", "1", "2")
_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
}
_LANE: Final = 3  # columns of a lane


class _Lines(NamedTuple):
    """The characters that lines are drawn with."""

    across: str
    down: str
    first: str  # where a lane leaves its entry's row
    middle: str
    last: str
    arrow: str


_DRAWN: Final = _Lines("─", "│", "┬", "┤", "┘", ">")
_PLAIN: Final = _Lines("-", "|", "+", "+", "'", ">")


def _lines() -> _Lines:
    """Those that the output can show."""
    try:
        "".join(_DRAWN).encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return _PLAIN
    return _DRAWN


# -- fds ----------------------------------------------------------------------------


def descriptor_rows(session: Session) -> list[list[Cell]]:
    """The rows of this process's descriptor table."""
    rows: list[list[Cell]] = [[fd, "", "", "", "", ("terminal", "minor")] for fd in _TERMINAL]
    for fd, file, close_on_exec in session.fs.process.descriptors():
        flags = flags_text(file.flags)
        if close_on_exec and "O_CLOEXEC" not in flags:
            flags += "|O_CLOEXEC"
        path = safe(_path(session, file))
        rows.append([str(fd), str(file.handle), flags, str(file.offset), str(file.inode.ino), path])
    return rows


def _path(session: Session, file: OpenFile) -> str:
    if file.inode.nlink == 0:
        return "(no name any more)"
    return session.opened.get(file.handle, "")


# -- oft ----------------------------------------------------------------------------


@dataclass
class _Row:
    """A row of the picture: a process's name, or one of its descriptors."""

    label: Span
    file: OpenFile | None = None
    is_first: bool = False  # the entry stands here
    lane: int | None = None  # of its entry, if several refer to it


def draw_open_file_table(session: Session) -> list[list[Span]]:
    """The picture, as lines of spans."""
    rows = _rows(session)
    if not any(row.file for row in rows):
        return [["no process has a file open"]]
    lanes = _give_lanes(rows)
    labels = max(len(_text(row.label)) for row in rows) + 1
    entries = _columns([_entry(row.file) for row in rows if row.file and row.is_first])
    picture: list[list[Span]] = []
    width = labels + _LANE * lanes + 4
    picture.append([("descriptors".ljust(width) + "open file table", "title")])
    for at, row in enumerate(rows):
        line: list[Span] = [row.label, " " * (labels - len(_text(row.label)))]
        line.append((_route(rows, at, lanes), "minor"))
        if row.file is not None and row.is_first:
            line.append(" " + entries.pop(0))
            line.append((f" {_lines().across * 2}{_lines().arrow} ", "minor"))
            line += _inode(session, row.file)
        picture.append(line)
    return picture


def _rows(session: Session) -> list[_Row]:
    seen: set[int] = set()
    rows = []
    for process in session.processes:
        name = f"process {process.pid}"
        rows.append(_Row((name, "used") if process is session.fs.process else name))
        for fd, file, _ in process.descriptors():
            rows.append(_Row(f"  fd {fd}", file, file.handle not in seen))
            seen.add(file.handle)
        if process.current is not None:
            file = process.current
            rows.append(_Row("  cwd", file, file.handle not in seen))
            seen.add(file.handle)
    return rows


def _give_lanes(rows: list[_Row]) -> int:
    """Give each entry with several references a lane that is free there; how many there are."""
    spans: dict[int, list[int]] = {}
    for at, row in enumerate(rows):
        if row.file is not None:
            spans.setdefault(row.file.handle, []).append(at)
    ends: list[int] = []  # the last row of what is in each lane
    for places in spans.values():
        if len(places) == 1:
            continue
        free = (lane for lane, end in enumerate(ends) if end < places[0])
        lane = next(free, len(ends))
        if lane == len(ends):
            ends.append(0)
        ends[lane] = places[-1]
        for at in places:
            rows[at].lane = lane
    return len(ends)


def _route(rows: list[_Row], at: int, lanes: int) -> str:
    """The lines of row `at`, from its label to its entry."""
    lines, row = _lines(), rows[at]
    cells = ""
    for lane in reversed(range(lanes)):  # the first lane is next to the entries
        users = [index for index, other in enumerate(rows) if other.lane == lane]
        line = lines.across if _reaches(row, lane) else " "
        cells += line * (_LANE - 1) + _crossing(rows, users, at, line)
    if row.file is None:
        return cells
    return cells + (lines.across * 2 + lines.arrow if row.is_first else "")


def _reaches(row: _Row, lane: int) -> bool:
    """Whether the line of a row goes through a lane: up to its own, or all the way."""
    return row.file is not None and (row.is_first or (row.lane is not None and lane >= row.lane))


def _crossing(rows: list[_Row], users: list[int], at: int, line: str) -> str:
    """What stands in the last column of a lane at row `at`."""
    lines = _lines()
    for first, last in _groups(rows, users):
        if not first <= at <= last:
            continue
        if at not in users:
            return lines.down
        return lines.first if at == first else lines.last if at == last else lines.middle
    return line


def _groups(rows: list[_Row], users: list[int]) -> list[tuple[int, int]]:
    """First and last row of each entry in a lane."""
    found: dict[int, tuple[int, int]] = {}
    for at in users:
        file = rows[at].file
        assert file is not None
        found[file.handle] = (found.get(file.handle, (at, at))[0], at)
    return list(found.values())


def _entry(file: OpenFile) -> list[str]:
    flags = flags_text(file.flags)
    return [
        str(file.handle),
        flags,
        f"offset {file.offset}",
        f"references {file.references}",
    ]


def _columns(entries: list[list[str]]) -> list[str]:
    """The entries with their fields one below the other."""
    widths = [max(map(len, column)) for column in zip(*entries, strict=True)]
    return [
        "  ".join(field.ljust(width) for field, width in zip(entry, widths, strict=True))
        for entry in entries
    ]


def _inode(session: Session, file: OpenFile) -> list[Span]:
    inode = file.inode
    path = safe(_path(session, file))
    text = f"inode {inode.ino}: {_kind(inode)}, size {inode.size}, links {inode.nlink}"
    return [text, ("  " + path, "damage" if inode.nlink == 0 else "directory")] if path else [text]


def _kind(inode: Inode) -> str:
    return _KINDS.get(stat.S_IFMT(inode.mode), "special file")


def _text(span: Span) -> str:
    return span if isinstance(span, str) else span[0]
