"""A walk along a path as a picture: inode, directory, inode, ..., and each read."""

from __future__ import annotations

from typing import Any, Final

from vsfs.words import counted

from .inspect_svg import SMALL, Drawing, width_of

Values = dict[str, Any]

_LEFT: Final = 20
_BADGES: Final = 28  # a step's reads stand in front of the boxes
_INODE: Final = 40  # height of a box
_ROW: Final = 78
_GAP: Final = 70
_MAX_STEPS: Final = 40  # that are drawn
_MAX_NAME: Final = 60
_FILLS: Final = {"directory": "directory", "regular file": "data", "symbolic link": "link"}


def draw_path(values: Values, name: str) -> str:
    """The picture of a walk in the image called `name`."""
    path = _short(values["path"])
    drawing = Drawing(f"Walk along {path} in {name}")
    drawing.text(_LEFT, 30, f"walk along {path}", "ink strong")
    y, number = 56.0, 0
    steps = values["steps"][:_MAX_STEPS]
    for index, step in enumerate(steps):
        has_next = index + 1 < len(steps)
        number = _draw_step(drawing, step, y, number, has_next=has_next)
        y += _ROW
    if len(values["steps"]) > len(steps):
        more = counted(len(values["steps"]) - len(steps), "more step")
        drawing.text(_LEFT, y, f"... {more}", "soft")
        y += 24
    if values["found"] is None:
        drawing.text(_LEFT, y, f"ends here: {values['missing']}", "small bad")
        y += 22
    reads, blocks = values["read_count"], values["block_count"]
    again = f"{counted(reads, 'read')}, {reads - blocks} from memory (hollow)"
    cold = f"a cold walk reads {counted(blocks, 'block')}"
    drawing.text(_LEFT, y + 4, f"{again}: {cold}", "small ink")
    return drawing.svg()


def _short(text: str) -> str:
    return text if len(text) <= _MAX_NAME else f"...{text[-_MAX_NAME:]}"


def _draw_step(drawing: Drawing, step: Values, y: float, number: int, *, has_next: bool) -> int:
    """An inode, and what was read to go on from it; the number of the last read."""
    kind = step["type"] or "free"
    lines = [f"inode {step['ino']}: {_short(step['path'])}", kind]
    if step["location"]:
        lines[1] += f", block {step['location']['block']} offset {step['location']['offset']}"
    x = _LEFT + _BADGES
    width = max(width_of(line, SMALL) for line in lines) + 20
    first = step["reads"][:1]
    for read in first:
        number += 1
        drawing.badge(_LEFT + 11, y + _INODE / 2, str(number), hollow=read["cached"])
    fill = "damage" if step["damage"] else _FILLS.get(kind, "other")
    _draw_box(drawing, x, y, width, lines, fill)
    rest = step["reads"][1:]
    lines = _search_lines(step)
    if not lines:
        return number
    right = x + width + _GAP
    middle = y + _INODE / 2
    drawing.edge([(x + width, middle), (right, middle)])
    if rest:
        numbers = str(number + 1) if len(rest) == 1 else f"{number + 1}-{number + len(rest)}"
        hollow = all(read["cached"] for read in rest)
        drawing.badge(x + width + _GAP / 2 - 3, middle, numbers, hollow=hollow)
        number += len(rest)
    wide = max(width_of(line, SMALL) for line in lines) + 20
    _draw_box(drawing, right, y, wide, lines, "directory" if step["match"] else "other")
    if has_next:
        down, below, turn = y + _INODE, y + _ROW, y + _INODE + (_ROW - _INODE) / 2
        drawing.edge([(right + 30, down), (right + 30, turn), (x + 30, turn), (x + 30, below)])
    return number


def _search_lines(step: Values) -> list[str]:
    """What a directory, or a link, said."""
    if step["target"] is not None:
        return [f"leads to {_short(step['target'])}"]
    if step["wanted"] is None:
        return []
    blocks = [read["block"] for read in step["reads"] if read["what"] == "directory"]
    where = f"block {blocks[-1]}" if blocks else "no block"
    if step["match"] is None:
        return [
            f"{where}: {counted(step['records_read'], 'record')}",
            f"no {_short(step['wanted'])}",
        ]
    match = step["match"]
    found = f"{_short(step['wanted'])} -> inode {match['inode']}"
    return [found, f"{where} offset {match['offset']}, record {step['records_read']}"]


def _draw_box(
    drawing: Drawing, x: float, y: float, width: float, lines: list[str], fill: str
) -> None:
    drawing.box(x, y, width, _INODE, fill)
    for index, line in enumerate(lines):
        at = y + (24 if len(lines) == 1 else 16 + 15 * index)
        drawing.text(x + 10, at, line, "small on strong" if index == 0 else "small on")
