"""The blocks of an inode as the tree that its pointers form.

``pieces`` of a description stand in the order of the file, an indirect block
before what it leads to; here they become nodes, for text and for pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from vsfs.words import numbered, span

from .inspect_output import Printer, Span

Values = dict[str, Any]

DIRECT: Final = 12  # direct pointers of an inode
MAX_CHILDREN: Final = 12  # below one block of pointers that are drawn
_NAMES: Final = {
    "single indirect": "single_indirect",
    "double indirect": "double_indirect",
    "triple indirect": "triple_indirect",
}


@dataclass(slots=True)
class Node:
    """One place that pointers lead to: `label` names the pointers."""

    label: str
    role: str  # data, hole, indirect, attributes or none
    block: int | None
    count: int
    file_block: int
    level: int = 0
    below: list[Node] = field(default_factory=list)

    @property
    def file_blocks(self) -> str:
        """The numbers of the file's blocks: "file blocks 0-11"."""
        return numbered("file block", self.file_block, self.count)

    @property
    def blocks(self) -> str:
        """The numbers of the blocks on the disk: "blocks 11-22"."""
        return numbered("block", self.block or 0, self.count)


def pointer_tree(values: Values) -> list[Node]:
    """The nodes of an inode described: direct ones, single, double, triple, attributes."""
    per_block = values["location"]["block_size"] // 4
    roots: list[Node] = []
    above: list[Node] = []
    for piece in values["pieces"]:
        is_indirect = piece["role"] == "indirect"
        while above and (not _leads_to(above[-1], piece, per_block)):
            above.pop()
        node = Node(
            _label(piece, above, per_block),
            piece["role"],
            piece["block"],
            piece["count"],
            piece["file_block"],
            piece["level"],
        )
        (above[-1].below if above else roots).append(node)
        if is_indirect:
            above.append(node)
    drawn = {node.label for node in roots}
    for name in _NAMES.values():
        if name not in drawn and not values["fields"][name]["value"]:
            roots.append(Node(name, "none", None, 1, 0))
    attribute_block = values["fields"]["attribute_block"]["value"]
    if attribute_block:
        roots.append(Node("attribute_block", "attributes", attribute_block, 1, 0))
    return roots


def _leads_to(node: Node, piece: Values, per_block: int) -> bool:
    """Whether `piece` begins below the block of pointers `node`."""
    if piece["level"] >= node.level:
        return False
    return bool(piece["file_block"] < node.file_block + per_block**node.level)


def _label(piece: Values, above: list[Node], per_block: int) -> str:
    """The pointers that lead to a piece: "direct[0-3]", "[5]" below a block of pointers."""
    at = piece["file_block"]
    if above:
        each = per_block ** (above[-1].level - 1)
        first = (at - above[-1].file_block) // each
        last = (at + max(piece["count"], 1) - 1 - above[-1].file_block) // each
        last = first if piece["role"] == "indirect" else min(last, per_block - 1)
        return f"[{span(first, last - first + 1)}]"
    if piece["role"] == "indirect":
        return _NAMES[str(piece["through"])]
    if at < DIRECT:
        return f"direct[{span(at, min(piece['count'], DIRECT - at))}]"
    return _NAMES[str(piece["through"])]


# -- as text ------------------------------------------------------------------


def print_pointers(printer: Printer, values: Values) -> None:
    """The tree below the inode, with holes, and the pointers that lead nowhere."""
    roots = pointer_tree(values)
    held = sum(node.role != "none" for node in roots)
    if not held:
        return
    data = sum(piece["count"] for piece in values["pieces"] if piece["role"] == "data")
    own = sum(piece["count"] for piece in values["pieces"] if piece["role"] == "indirect")
    printer.line()
    printer.line(
        ("pointers", "title"), f" to {_blocks(data, 'of data')}, {_blocks(own, 'of pointers')}"
    )
    rows = list(_rows(printer, roots, ""))
    width = max(len(stem) + len(label) for stem, label, _ in rows)
    for stem, label, spans in rows:
        printer.line((stem, "minor"), label.ljust(width - len(stem)), "  ", *spans)


def _blocks(count: int, what: str) -> str:
    return f"{count} block{'' if count == 1 else 's'} {what}"


def _rows(printer: Printer, nodes: list[Node], stem: str) -> Iterator[tuple[str, str, list[Span]]]:
    """(branches in front, label, rest of the line) for each node, at most 12 of one parent."""
    middle, last, below_middle, below_last = printer.branches
    shown = nodes if len(nodes) <= MAX_CHILDREN else nodes[: MAX_CHILDREN - 1]
    for index, node in enumerate(shown):
        is_last = index == len(nodes) - 1
        yield stem + (last if is_last else middle), node.label, list(node_spans(node))
        yield from _rows(printer, node.below, stem + (below_last if is_last else below_middle))
    if len(nodes) > len(shown):
        yield stem + last, "...", [(f"{len(nodes) - len(shown)} more", "minor")]


def node_spans(node: Node) -> Iterator[Span]:
    """What a node is, behind its label."""
    if node.role == "none":
        yield "none", "free"
    elif node.role == "hole":
        yield node.file_blocks
        yield "  hole", "free"
    elif node.role == "indirect":
        yield node.blocks, "state.indirect"
        levels = "" if node.level == 1 else f", {node.level} levels"
        yield f"  pointers{levels}", "minor"
    elif node.role == "attributes":
        yield node.blocks, "state.attributes"
    else:
        yield node.file_blocks
        yield "  "
        yield node.blocks, "used"
