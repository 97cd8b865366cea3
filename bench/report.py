"""Tables of figures: as plain values, for the terminal, for docs/PERFORMANCE.md.

A cell that has a target carries a verdict: reached or not.  In the terminal that is
a colour and a sign, in Markdown the sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from .client import PHASES
from .figures import Figures, binding_of, minimum_for
from .growth import FEW, MANY
from .startup import LIMITS

BEGIN: Final = "<!-- begin: python -m bench --document -->"
END: Final = "<!-- end -->"

#: Growth and memory: name -> (at least or at most, limit).
GROWTH_TARGETS: Final[dict[str, tuple[str, float]]] = {
    "create": (">=", 0.9),
    "lookup": (">=", 0.9),
    "unlink": (">=", 0.9),
    "allocation at 95% full": (">=", 0.8),
    "MiB of a mount, files touched": ("<=", 60.0),
}
_UNITS: Final = {phase.name: phase.unit for phase in PHASES}
_SIGNS: Final = {True: "✓", False: "✗", None: ""}
_STYLES: Final = {True: "green", False: "red", None: ""}


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as text; `reached` is None where nothing was asked of it.

    `beyond` if the floor, which does nothing, does not reach it either.
    """

    text: str
    reached: bool | None = None
    beyond: bool = False

    @property
    def marked(self) -> str:
        """The text with its sign."""
        return f"{self.text} {_SIGNS[self.reached]}".rstrip()


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the heads of the columns, and rows of a name and cells."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def rates(figures: Figures) -> Table:
    """How much each system does in a second."""
    heads = ("phase", *figures.systems)
    rows = tuple(
        (
            Cell(f"{phase}, {_UNITS[phase]}"),
            *(Cell(_number(figures.rate(phase, system))) for system in figures.systems),
        )
        for phase in figures.phases
    )
    return Table("What each does in a second (medians)", heads, rows)


def ratios(figures: Figures, system: str) -> Table:
    """One VSFS column compared with the others: how many times faster it is.

    The last column is its binding's floor compared with fuse2fs: what no filesystem on
    that binding can be expected to beat by much.
    """
    floor = f"floor {binding_of(system)}"
    others = [name for name in ("fuse2fs", floor, "ext4") if name in figures.systems]
    has_floor = {"fuse2fs", floor} <= set(others)

    def row(phase: str | None) -> tuple[Cell, ...]:
        most = _compared(figures, phase, floor, "fuse2fs") if has_floor else None
        cells = [
            _ratio(
                _compared(figures, phase, system, other),
                minimum_for(system, other, phase),
                most if other == "fuse2fs" else None,
            )
            for other in others
        ]
        if has_floor:
            cells.append(_ratio(most, None))
        return (Cell(phase or "geometric mean"), *cells)

    heads = ["phase", *(f"x {other}" for other in others)]
    if has_floor:
        heads.append("the floor x fuse2fs")
    rows = tuple(row(phase) for phase in (*figures.phases, None))
    return Table(f"{system}, times as fast as others", tuple(heads), rows)


def budget(figures: Figures, system: str) -> Table:
    """What a target leaves to the filesystem, in us a unit, where `system` misses it.

    `fuse2fs`' time by the target is what a unit may take.  What the floor takes goes off
    that: the kernel, the binding and the client.  Where little is left, or nothing,
    nothing that a filesystem does could be quick enough.
    """
    floor = f"floor {binding_of(system)}"
    rows = []
    for phase in figures.phases:
        minimum = minimum_for(system, "fuse2fs", phase)
        ratio = figures.ratio(phase, system, "fuse2fs")
        theirs, least = (figures.microseconds(phase, name) for name in ("fuse2fs", floor))
        if minimum is None or ratio is None or theirs is None or least is None or ratio >= minimum:
            continue
        allowed = theirs / minimum
        taken = theirs / ratio
        times = (allowed, least, allowed - least, taken - least)
        rows.append((Cell(phase), *(Cell(f"{time:.1f}") for time in times)))
    heads = ("phase", "a unit may take", "the floor takes", "is left", f"{system} adds")
    return Table(f"{system}: what missed targets leave, us", heads, tuple(rows))


def _compared(figures: Figures, phase: str | None, system: str, other: str) -> float | None:
    if phase is None:
        return figures.mean_ratio(system, other)
    return figures.ratio(phase, system, other)


def startup(times: Mapping[str, float]) -> Table:
    """Milliseconds of commands; the limits of those that have one."""
    limits = {slow: (fast, most) for slow, fast, most in LIMITS}
    rows = []
    for name, milliseconds in times.items():
        limit = Cell("")
        if name in limits and limits[name][0] in times:
            fast, most = limits[name]
            ratio = milliseconds / times[fast]
            limit = Cell(f"{ratio:.2f} x {fast} (<= {most})", ratio <= most)
        rows.append((Cell(name), Cell(f"{milliseconds:.0f}"), limit))
    return Table("Start-up", ("command", "ms", "compared"), tuple(rows))


def growth(found: Mapping[str, float]) -> Table:
    """Ratios of large to small, and memory."""
    rows = []
    for name, value in found.items():
        sign, limit = GROWTH_TARGETS[name]
        reached = value >= limit if sign == ">=" else value <= limit
        rows.append((Cell(name), Cell(f"{value:.2f}", reached), Cell(f"{sign} {limit}")))
    title = f"Growth: speed with {MANY:,} names compared with {FEW:,}, and so on"
    return Table(title, ("what", "measured", "target"), tuple(rows))


def library(found: Mapping[str, float]) -> Table:
    """Microseconds of operations without FUSE."""
    rows = tuple((Cell(name), Cell(f"{microseconds:.1f}")) for name, microseconds in found.items())
    return Table("The library alone", ("operation", "us"), rows)


def _number(rate: float | None) -> str:
    """Three digits and a letter.

    >>> _number(53942), _number(426), _number(1.6e6)
    ('53.9k', '426', '1.60M')
    """
    if rate is None:
        return "-"
    if rate < 1000:
        return f"{rate:.3g}"
    scaled, letter = (rate / 1e6, "M") if rate >= 1e6 else (rate / 1e3, "k")
    return f"{scaled:#.3g}{letter}".replace(".k", "k").replace(".M", "M")


def _ratio(ratio: float | None, minimum: float | None, most: float | None = None) -> Cell:
    """A ratio and what it is to be; `most` is what the floor reaches."""
    if ratio is None:
        return Cell("-")
    text = f"{ratio:.2f}"
    if minimum is None:
        return Cell(text)
    beyond = ratio < minimum and most is not None and most < minimum
    return Cell(f"{text} (>= {minimum})", ratio >= minimum, beyond)


def reached(table: Table) -> str:
    """How many of a table's targets were reached, as a sentence; "" if it has none."""
    cells = [cell for row in table.rows for cell in row if cell.reached is not None]
    if not cells:
        return ""
    text = f"{table.title}: {sum(map(_is_reached, cells))} of {len(cells)} targets reached"
    beyond = sum(cell.beyond for cell in cells)
    return f"{text}; {beyond} of the others not even by the floor" if beyond else text


def _is_reached(cell: Cell) -> bool:
    return bool(cell.reached)


def show(console: Console, table: Table) -> None:
    """Print a table in the terminal."""
    shown = RichTable(
        title=table.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for index, head in enumerate(table.heads):
        if index == 0:
            shown.add_column(head, overflow="fold")
        else:
            shown.add_column("\n".join(head.split()), justify="right", no_wrap=len(table.heads) > 4)
    for row in table.rows:
        shown.add_row(
            *(
                f"[{style}]{cell.marked}[/]" if (style := _STYLES[cell.reached]) else cell.marked
                for cell in row
            )
        )
    console.print(shown)


def markdown(table: Table) -> str:
    """The table in Markdown, under a heading of the third level."""
    lines = [
        f"### {table.title}",
        "",
        _line(table.heads),
        _line(["---", *["---:"] * (len(table.heads) - 1)]),
        *(_line([cell.marked for cell in row]) for row in table.rows),
        "",
    ]
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def put_into_document(document: Path, text: str) -> None:
    """Replace what stands between the markers; raises ValueError if there are none."""
    whole = document.read_text()
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no markers {BEGIN!r} and {END!r}")
    document.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}")
