"""Drawings as SVG: boxes, lines and text, in ink that suits a dark page and a light one.

Only what every renderer knows is used: plain shapes, and a style sheet of classes
whose colours a page's ``prefers-color-scheme`` changes.  Boxes are light in both and
their text is dark, so that print and colour-blind readers have the same picture; no
meaning is told by colour alone.

Units are pixels; text is monospaced, so that its width is known without a font.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from .inspect_output import safe

SIZE: Final = 13  # of text
SMALL: Final = 11
_WIDTH: Final = 0.602  # of a letter, in font sizes: DejaVu Sans Mono, Menlo, Consolas
_INK: Final = {
    "paper": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "soft": ("#59636e", "#9da7b3"),
    "line": ("#818b98", "#6e7681"),
    "bad": ("#b3261e", "#ff8a80"),
}
#: What a box holds -> its colour.
_FILLS: Final = {
    "S": "#d9a6c7",
    "i": "#f2d377",
    "d": "#f2d377",
    "I": "#8fcbee",
    "data": "#8fd1ab",
    "directory": "#a3bff5",
    "indirect": "#f0b45c",
    "attributes": "#a5e0da",
    "journal": "#c4c4c4",
    "damage": "#f29a86",
    "link": "#c9b8f0",
    "other": "#e3d9c6",
}


def _style() -> str:
    """The style sheet: ink by the page's scheme, boxes always the same."""
    light = _ink_rules({name: pair[0] for name, pair in _INK.items()})
    dark = _ink_rules({name: pair[1] for name, pair in _INK.items()})
    fills = "".join(f".f-{name}{{fill:{colour}}}" for name, colour in _FILLS.items())
    fonts = (
        f"text{{font:{SIZE}px 'DejaVu Sans Mono',Menlo,Consolas,monospace}}"
        f".small{{font-size:{SMALL}px}}.strong{{font-weight:bold}}.on{{fill:#16191d}}.faint{{opacity:.6}}"
    )
    return f"{fonts}{fills}{light}@media (prefers-color-scheme:dark){{{dark}}}"


def _ink_rules(ink: dict[str, str]) -> str:
    return (
        f".paper{{fill:{ink['paper']}}}.ink{{fill:{ink['ink']}}}.soft{{fill:{ink['soft']}}}"
        f".bad{{fill:{ink['bad']}}}.frame{{fill:none;stroke:{ink['line']}}}"
        f".hollow{{fill:{ink['paper']};stroke:{ink['line']}}}"
        f".edge{{fill:none;stroke:{ink['line']};stroke-width:1.5}}"
        f".mark{{fill:none;stroke:{ink['ink']};stroke-width:2}}"
        f".tip{{fill:{ink['line']}}}"
    )


def width_of(text: str, size: int = SIZE) -> float:
    """Pixels that `text` takes."""
    return len(text) * size * _WIDTH


class Drawing:
    """Shapes in the order in which they are painted; `title` is what is read aloud."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._shapes: list[str] = []
        self._width = self._height = 0.0

    def box(
        self, x: float, y: float, width: float, height: float, fill: str | None, radius: int = 3
    ) -> None:
        """A framed rectangle, filled as what it holds; None is empty."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}"'
        if fill is not None:
            self._shapes.append(f'<rect {place} class="f-{fill}"/>')
        self._shapes.append(f'<rect {place} class="frame"/>')
        self._reach(x + width, y + height)

    def fill(
        self, x: float, y: float, width: float, height: float, fill: str, *, faint: bool = False
    ) -> None:
        """A filled rectangle without a frame."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        look = f"f-{fill} faint" if faint else f"f-{fill}"
        self._shapes.append(f'<rect {place} class="{look}"/>')

    def text(self, x: float, y: float, text: str, look: str = "ink", anchor: str = "start") -> None:
        """A line of text on the baseline `y`; `look` is one or more classes."""
        place = f'x="{x:g}" y="{y:g}"' + ("" if anchor == "start" else f' text-anchor="{anchor}"')
        self._shapes.append(f"<text {place} class={quoteattr(look)}>{escape(safe(text))}</text>")
        if anchor == "start":
            self._reach(x + width_of(text, SMALL if "small" in look else SIZE), y)

    def edge(self, points: Iterable[tuple[float, float]], *, arrow: bool = True) -> None:
        """A line through `points`, with a tip at its end."""
        placed = list(points)
        path = " L".join(f"{x:g} {y:g}" for x, y in placed)
        self._shapes.append(f'<path d="M{path}" class="edge"/>')
        if arrow:
            (x, y), (from_x, from_y) = placed[-1], placed[-2]
            along, across = (x > from_x) - (x < from_x), (y > from_y) - (y < from_y)
            left = f"{x - 6 * along - 4 * across:g} {y - 6 * across - 4 * along:g}"
            right = f"{x - 6 * along + 4 * across:g} {y - 6 * across + 4 * along:g}"
            self._shapes.append(f'<path d="M{x:g} {y:g} L{left} L{right} Z" class="tip"/>')

    def badge(self, x: float, y: float, text: str, *, hollow: bool) -> None:
        """A number in a circle around (x, y)."""
        look = "hollow" if hollow else "f-indirect"
        self._shapes.append(f'<circle cx="{x:g}" cy="{y:g}" r="11" class="{look}"/>')
        self.text(x, y + 4, text, "small soft" if hollow else "small strong on", "middle")

    def _reach(self, x: float, y: float) -> None:
        self._width, self._height = max(self._width, x), max(self._height, y)

    def svg(self) -> str:
        """The whole document, with a margin to the right and below."""
        width, height = round(self._width + 20), round(self._height + 20)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-labelledby="title">\n'
            f'<title id="title">{escape(safe(self._title))}</title>\n'
            f"<style>{_style()}</style>\n"
            f'<rect width="{width}" height="{height}" class="paper"/>\n'
        )
        return head + "\n".join(self._shapes) + "\n</svg>\n"
