"""A timeline as SVG: OSTEP's figure for a slide.

A read is a green box with its word, a write an orange one; calls are parted by lines.
"""

from __future__ import annotations

from typing import Final

from vsfs.timeline import Group, Timeline

from .inspect_svg import SIZE, Drawing, width_of
from .timeline_text import label_of, totals_text

_ROW: Final = 22  # height of an access
_BOX: Final = 18
_MARGIN: Final = 16
_HEAD: Final = 2 * SIZE + 16
_GAP: Final = 12  # between columns
_FILLS: Final = {"read": "data", "write": "indirect"}


def svg_of(timeline: Timeline) -> str:
    """The picture as an SVG document."""
    drawing = Drawing(
        "which structures of the disk each call reads and writes, one below the other"
    )
    left = _MARGIN + max((width_of(label_of(group)) for group in timeline.groups), default=0.0)
    starts, right = _columns(drawing, timeline, left + 2 * _GAP)
    y = float(_MARGIN + _HEAD)
    for group in timeline.groups:
        drawing.edge([(_MARGIN, y), (right, y)], arrow=False)
        y = _group(drawing, group, starts, y + 4)
    drawing.edge([(_MARGIN, y), (right, y)], arrow=False)
    for line in totals_text(timeline):
        y += _ROW
        drawing.text(_MARGIN, y, line, "soft")
    return drawing.svg()


def _columns(
    drawing: Drawing, timeline: Timeline, x: float
) -> tuple[list[tuple[float, float]], float]:
    """Draw the titles; where each column starts and how wide it is, and where all end."""
    places = []
    for column in timeline.columns:
        width = max(width_of(word) for word in (column.first, column.second, "write")) + 8
        for at, word in enumerate((column.first, column.second)):
            middle = x + width / 2
            drawing.text(middle, _MARGIN + SIZE + at * (SIZE + 4), word, "ink strong", "middle")
        places.append((x, width))
        x += width + _GAP
    return places, x


def _group(drawing: Drawing, group: Group, places: list[tuple[float, float]], y: float) -> float:
    """Draw a call; returns where the next begins."""
    drawing.text(_MARGIN, y + _BOX - 5, label_of(group))
    for row in group.rows:
        for at in row.columns:
            x, width = places[at]
            drawing.box(x, y, width, _BOX, _FILLS[row.operation])
            drawing.text(x + width / 2, y + _BOX - 5, row.operation, "on", "middle")
        y += _ROW
    return y + (0 if group.rows else _ROW) + 2
