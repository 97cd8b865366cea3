"""The layout as a picture: OSTEP 40.2's row of blocks, and the inode table below it."""

from __future__ import annotations

from math import ceil, isqrt
from typing import Any, Final

from .inspect_layout import DAMAGE, STATE_MARKS, state_of
from .inspect_svg import SMALL, Drawing, width_of
from .sizes import show_size

Values = dict[str, Any]

_LEFT: Final = 20
_CELL: Final = 24  # wide
_TALL: Final = 30
_GROUP: Final = 8  # cells, as in the book
_IN_A_ROW: Final = 32
_GROUP_GAP: Final = 12
_ROW: Final = 64  # from one row of cells to the next
_WIDTH: Final = _LEFT + _IN_A_ROW * _CELL + 3 * _GROUP_GAP
_TABLE_BLOCKS: Final = 10  # that are drawn close up
_REGIONS: Final = {
    "S": "superblock",
    "i": "inode bitmap",
    "d": "data bitmap",
    "I": "inode table",
}
_INODE_FILLS: Final = {
    "directory": "directory",
    "regular file": "data",
    "symbolic link": "link",
    "journal": "journal",
    "damaged": "damage",
}


def draw_layout(values: Values, name: str) -> str:
    """The picture of the image called `name`."""
    size, count = values["block_size"], values["block_count"]
    title = f"{name}: {count} blocks of {size} bytes ({show_size(count * size)})"
    drawing = Drawing(f"Layout of {title}")
    drawing.text(_LEFT, 30, title, "ink strong")
    y = 46.0
    cells = values["cells"]
    for at in range(0, len(cells), _IN_A_ROW):
        _draw_row(drawing, cells[at : at + _IN_A_ROW], y)
        y += _ROW
    y = _draw_key(drawing, cells, values["blocks_per_cell"], y + 6)
    _draw_table(drawing, values["inode_table"], y + 28)
    return drawing.svg()


def _draw_row(drawing: Drawing, cells: list[Values], y: float) -> None:
    for index, cell in enumerate(cells):
        x = _LEFT + index * _CELL + index // _GROUP * _GROUP_GAP
        _draw_cell(drawing, cell, x, y)
        middle, below = x + _CELL / 2, y + _TALL + 14
        if index % _GROUP == 0:
            drawing.text(x, below, str(cell["first"]), "small soft")
        elif index % _GROUP == _GROUP - 1:
            last = str(cell["first"] + cell["count"] - 1)
            drawing.text(middle + _CELL / 2, below, last, "small soft", "end")


def _draw_cell(drawing: Drawing, cell: Values, x: float, y: float) -> None:
    """A block, or many: filled from below as far as it is in use."""
    state = state_of(cell)
    drawing.box(x, y, _CELL, _TALL, None)
    if state != "free":
        share = cell["used"] / cell["of"] if cell["of"] else 1.0
        fill = "damage" if state in DAMAGE else state
        if share < 1:
            drawing.fill(x + 1, y + 1, _CELL - 2, _TALL - 2, fill, faint=True)
        tall = max(3.0, round(_TALL * min(share, 1.0), 1))
        drawing.fill(x + 1, y + _TALL - tall, _CELL - 2, tall, fill)
    mark = STATE_MARKS[state][0] if state in DAMAGE else cell["letter"]
    look = "soft" if state == "free" else "on strong"
    drawing.text(x + _CELL / 2, y + 20, mark, look, "middle")


def _draw_key(drawing: Drawing, cells: list[Values], per_cell: int, y: float) -> float:
    """What each colour means; the height where the key ends."""
    there = [state_of(cell) for cell in cells]
    entries = [(letter, letter, text) for letter, text in _REGIONS.items() if letter in there]
    for state, (mark, _) in STATE_MARKS.items():
        if state in there:
            text = {"data": "file data"}.get(state, state)
            is_bad = state in DAMAGE
            entries.append(("damage" if is_bad else state, mark if is_bad else "D", text))
    x = float(_LEFT)
    for fill, letter, text in [*entries, (None, "D", "free")]:
        width = 24 + width_of(text, SMALL) + 18
        if x + width > _WIDTH:
            x, y = _LEFT, y + 24
        drawing.box(x, y, 18, 18, fill)
        drawing.text(x + 9, y + 13, letter, "small on" if fill else "small soft", "middle")
        drawing.text(x + 24, y + 13, text, "small ink")
        x += width
    if per_cell > 1:
        y += 24
        text = f"A cell stands for {per_cell} blocks, and is filled as far as they are in use."
        drawing.text(_LEFT, y + 13, text, "small soft")
    return y + 18


def _draw_table(drawing: Drawing, table: Values, y: float) -> None:
    """The blocks of the inode table beside each other, an inode a numbered box."""
    blocks = table["blocks"][:_TABLE_BLOCKS]
    per_block, size = table["inodes_per_block"], table["inode_size"]
    is_all = table["complete"] and len(blocks) == len(table["blocks"])
    left_out = "" if is_all else ", the first ones"
    title = f"inode table: {per_block} inodes of {size} bytes in a block{left_out}"
    drawing.text(_LEFT, y, title, "ink strong")
    columns = ceil(per_block / max(1, isqrt(per_block)))
    digits = max((len(str(one["first"] + len(one["inodes"]))) for one in blocks), default=1)
    wide = max(24.0, width_of("0" * digits, SMALL) + 8)
    x, y = float(_LEFT), y + 14
    tall = 16 + ceil(per_block / columns) * 20 + 12
    for block in blocks:
        if x > _LEFT and x + columns * wide > _WIDTH:
            x, y = _LEFT, y + tall
        drawing.text(x, y + 10, f"block {block['block']}", "small soft")
        for index, state in enumerate(block["inodes"]):
            row, column = divmod(index, columns)
            at_x, at_y = x + column * wide, y + 16 + row * 20
            fill = None if state in ("free", "reserved", "deleted") else "other"
            drawing.box(at_x, at_y, wide, 20, _INODE_FILLS.get(state, fill), 0)
            look = "small soft" if fill is None and state != "damaged" else "small on"
            number = str(block["first"] + index)
            drawing.text(at_x + wide / 2, at_y + 14, number, look, "middle")
        x += columns * wide + 20
    _draw_inode_key(drawing, blocks, y + tall)


def _draw_inode_key(drawing: Drawing, blocks: list[Values], y: float) -> None:
    there = {state for block in blocks for state in block["inodes"]}
    x = float(_LEFT)
    for state, fill in {**_INODE_FILLS, "other": "other"}.items():
        others = there - {*_INODE_FILLS, "free", "reserved", "deleted"}
        if state not in there and not (state == "other" and others):
            continue
        text = ", ".join(sorted(others)) if state == "other" else state
        drawing.box(x, y, 18, 18, fill)
        drawing.text(x + 24, y + 13, text, "small ink")
        x += 24 + width_of(text, SMALL) + 18
