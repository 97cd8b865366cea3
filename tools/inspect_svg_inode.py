"""An inode as a picture: its fields, and its pointers as arrows to blocks (OSTEP 40.3)."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .inspect_pointers import MAX_CHILDREN, Node, pointer_tree
from .inspect_svg import SMALL, Drawing, width_of

Values = dict[str, Any]

_LEFT: Final = 20
_INODE: Final = 250  # width of the inode's box
_BOX: Final = 36  # height of a block's box
_ROW: Final = 46
_GAP: Final = 70  # between columns, where the pointers' numbers need no more
_FIELDS: Final = ("mode", "nlink", "uid", "gid", "size", "blocks", "mtime_ns")
_MAX_NAME: Final = 70  # letters of a path that are drawn


def draw_inode(values: Values, name: str) -> str:
    """The picture of an inode of the image called `name`."""
    place, ino = values["location"], values["ino"]
    path = values["path"] or "no name"
    shown = path if len(path) <= _MAX_NAME else f"...{path[-_MAX_NAME:]}"
    drawing = Drawing(f"Inode {ino} of {name}: {shown}")
    kind = values["type"] or "free"
    drawing.text(_LEFT, 30, f"inode {ino}: {shown}, {kind}", "ink strong")
    drawing.text(_LEFT, 50, _arithmetic(ino, place), "small soft")
    if values["damage"]:
        drawing.text(_LEFT, 68, f"damaged: {values['damage']}", "small bad")
    top = 80.0
    y = _draw_fields(drawing, values["fields"], top + 18)
    roots = pointer_tree(values)
    y = _draw_nodes(drawing, roots, y + 8)
    drawing.box(_LEFT, top, _INODE, y + 6 - top, None)
    return drawing.svg()


def _arithmetic(ino: int, place: Values) -> str:
    """How it is found, as OSTEP 40.3 computes it."""
    at, size, block = place["table_offset"], place["block_size"], place["block"]
    where = f"block {place['table_start']} + {at} // {size} = {block}"
    return f"{ino} * 256 = {at}: {where}, offset {at} % {size} = {place['offset']}"


def _draw_fields(drawing: Drawing, fields: Values, y: float) -> float:
    """The fields that people ask for first; the height below them."""
    for name in _FIELDS:
        text = fields[name]["text"]
        if name.endswith("_ns"):
            text = text.partition(".")[0]  # to the second
        if name == "mode":
            text = " ".join(text.split()[:2])  # the type stands in the title
        drawing.text(_LEFT + 10, y, name.removesuffix("_ns"), "small soft")
        drawing.text(_LEFT + 76, y, text, "small ink")
        y += 17
    return y


def _draw_nodes(drawing: Drawing, roots: list[Node], y: float) -> float:
    """The pointers in the inode's box, each with an arrow; the height below them."""
    for node in roots:
        is_none = node.role == "none"
        middle = y + (12 if is_none else _BOX / 2)
        drawing.text(_LEFT + 10, middle + 4, node.label, "small ink")
        if is_none:
            drawing.text(_LEFT + _INODE - 12, middle + 4, "none", "small soft", "end")
            y += 24
        else:
            start = _Start(_LEFT + _INODE, middle, _GAP)
            y = _draw_node(drawing, node, start, y, "")
    return y


class _Start(NamedTuple):
    """Where the arrows of one block begin, and how far away those it leads to stand."""

    x: float
    y: float
    gap: float


def _draw_node(drawing: Drawing, node: Node, start: _Start, y: float, label: str) -> float:
    """A block and all below it, with an arrow from `start`; the height below them."""
    x, middle, bend = start.x + start.gap, y + _BOX / 2, start.x + 14
    drawing.edge([(start.x, start.y), (bend, start.y), (bend, middle), (x, middle)])
    if label:
        drawing.text(x - 10, middle - 4, label, "small soft", "end")
    lines = _lines(node)
    width = max(width_of(line, SMALL) for line in lines) + 20
    fill = {"hole": None, "indirect": "indirect", "attributes": "attributes"}.get(node.role, "data")
    drawing.box(x, y, width, _BOX, fill)
    for index, line in enumerate(lines):
        look = "small soft" if fill is None else "small on"
        drawing.text(x + 10, y + (22 if len(lines) == 1 else 15 + 14 * index), line, look)
    if not node.below:
        return y + _ROW
    return _draw_below(drawing, node, x + width, middle, y)


def _draw_below(drawing: Drawing, node: Node, x: float, middle: float, y: float) -> float:
    """What a block of pointers leads to, at most 12 places; the height below it."""
    shown = node.below if len(node.below) <= MAX_CHILDREN else node.below[: MAX_CHILDREN - 1]
    gap = max(_GAP, max(width_of(child.label, SMALL) for child in shown) + 34)
    for child in shown:
        y = _draw_node(drawing, child, _Start(x, middle, gap), y, child.label)
    if len(node.below) > len(shown):
        text = f"... {len(node.below) - len(shown)} more"
        drawing.text(x + gap, y + 10, text, "small soft")
        y += 24
    return y


def _lines(node: Node) -> list[str]:
    """What stands in a block's box."""
    if node.role == "hole":
        return [f"hole: {node.file_blocks}"]
    if node.role == "indirect":
        levels = "pointers" if node.level == 1 else f"pointers, {node.level} levels"
        return [node.blocks, levels]
    if node.role == "attributes":
        return [node.blocks, "attributes"]
    return [node.blocks, node.file_blocks]
