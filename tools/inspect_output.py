"""Lines and tables for people: plain text in a pipe, colours by rich on a terminal.

What is printed is the same in both.  A *span* is a piece of a line, either plain
text or (text, style); a style is a word for what the text is, never a colour.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from rich.text import Text

Span = str | tuple[str, str]
Cell = Span

_GAP: Final = "  "  # between columns

_COLOURS: Final = {
    "title": "bold",
    "minor": "dim",
    "damage": "bold red",
    "directory": "bold blue",
    "link": "cyan",
    "free": "dim",
    "used": "bold green",
    "S": "bold magenta",
    "i": "bold yellow",
    "d": "bold yellow",
    "I": "bold cyan",
    "D": "bold green",
    "J": "bold blue",
    "cell.S": "bold white on magenta",  # a block as a coloured cell, two lines high
    "cell.i": "bold black on yellow",
    "cell.d": "bold black on yellow",
    "cell.I": "bold black on cyan",
    "cell.data": "bold black on green",
    "cell.directory": "bold white on blue",
    "cell.indirect": "bold black on bright_yellow",
    "cell.attributes": "bold black on bright_cyan",
    "cell.journal": "bold white on bright_black",
    "cell.lost": "bold white on red",
    "cell.unmarked": "bold white on red",
    "cell.shared": "bold white on red",
    "state.data": "green",
    "state.directory": "bold blue",
    "state.indirect": "yellow",
    "state.attributes": "cyan",
    "state.journal": "bright_black",
    "field.0": "bright_cyan",
    "field.1": "bright_yellow",
    "field.2": "bright_magenta",
    "field.3": "bright_green",
    "field.4": "bright_blue",
    "field.5": "bright_red",
    "inode.reserved": "dim",
    "inode.journal": "bold bright_black",
    "inode.deleted": "magenta",
    "inode.damaged": "bold red",
    "inode.directory": "bold blue",
    "inode.regular file": "bold green",
    "inode.symbolic link": "bold cyan",
    "inode.character device": "bold yellow",
    "inode.block device": "bold yellow",
    "inode.fifo": "bold yellow",
    "inode.socket": "bold yellow",
}


class Column(NamedTuple):
    """A column of a table; numbers stand to the `right`.

    An `extra` one is left out where a terminal has no room for all of them.
    """

    title: str
    right: bool = False
    extra: bool = False


class Printer(Protocol):
    """Where output goes."""

    branches: tuple[str, str, str, str]  # of a tree: middle, last, and below each

    def line(self, *spans: Span) -> None:
        """Print one line."""

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        """Print rows in aligned columns below their titles."""


def text_of(span: Span) -> str:
    """A span without its style."""
    return span if isinstance(span, str) else span[0]


def safe(text: str) -> str:
    r"""`text` with escapes for what could move the cursor or hide: \n, \x1b.

    >>> safe("a\nb")
    'a\\nb'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class PlainPrinter:
    """For pipes and files: no colour, and nothing is ever cut off or folded."""

    branches = ("|-- ", "`-- ", "|   ", "    ")

    def line(self, *spans: Span) -> None:
        """Print one line."""
        print("".join(text_of(span) for span in spans).rstrip())

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        """Print rows in columns as wide as their widest cell."""
        titles: list[Cell] = [column.title for column in columns]
        cells = [titles, *(list(row) for row in rows)]
        widths = _widths(cells)
        for row in cells:
            self.line(_GAP.join(map(_padded, row, widths, columns)))


def _widths(rows: Sequence[Sequence[Cell]]) -> list[int]:
    """What each column needs; the first row is the titles."""
    return [max(len(text_of(cell)) for cell in column) for column in zip(*rows, strict=True)]


def _padded(cell: Cell, width: int, column: Column) -> str:
    text = text_of(cell)
    return text.rjust(width) if column.right else text.ljust(width)


class RichPrinter:
    """For terminals; only making one imports rich."""

    branches = ("├── ", "└── ", "│   ", "    ")

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  (late: 50 ms that a pipe need not pay)
        from rich.theme import Theme  # noqa: PLC0415

        self._console = Console(highlight=False, markup=False, emoji=False, theme=Theme(_COLOURS))

    def line(self, *spans: Span) -> None:
        """Print one line, in colour."""
        self._console.print(_rich_text(spans), soft_wrap=True)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        """Print a table; cells fold where the terminal is too narrow."""
        from rich.table import Table  # noqa: PLC0415

        cells = [list(row) for row in rows]
        kept = self._columns_with_room(columns, cells)
        table = Table(box=None, padding=(0, len(_GAP), 0, 0), pad_edge=False, header_style="title")
        for at in kept:
            right = columns[at].right
            table.add_column(
                columns[at].title, justify="right" if right else "left", overflow="fold"
            )
        for row in cells:
            table.add_row(*(_rich_text([row[at]]) for at in kept))
        self._console.print(table)

    def _columns_with_room(
        self, columns: Sequence[Column], cells: Sequence[Sequence[Cell]]
    ) -> list[int]:
        """Indexes of the columns: all, or all but the extra ones."""
        titles: list[Cell] = [column.title for column in columns]
        room = sum(_widths([titles, *cells])) + len(_GAP) * (len(columns) - 1)
        everything = room <= self._console.width
        return [at for at, column in enumerate(columns) if everything or not column.extra]


def _rich_text(spans: Iterable[Span]) -> Text:
    from rich.text import Text  # noqa: PLC0415

    found = Text()
    for span in spans:
        text, style = (span, "") if isinstance(span, str) else span
        found.append(text, style)
    return found


def name_spans(values: dict[str, Any]) -> Iterator[Span]:
    """A path, and where a link leads; nothing for what has no name."""
    if values["path"] is not None:
        style = {"directory": "directory", "symbolic link": "link"}
        yield safe(values["path"]), style.get(values.get("type", "directory"), "title")
    if values.get("target") is not None:
        yield f" -> {safe(values['target'])}"


def printer_for_stdout() -> Printer:
    """In colour on a terminal, plain anywhere else."""
    return RichPrinter() if sys.stdout.isatty() else PlainPrinter()


def print_damage(printer: Printer, values: Mapping[str, Any]) -> None:
    """What is wrong with what is shown, if anything is."""
    if values["damage"]:
        printer.line((f"damaged: {safe(values['damage'])}", "damage"))
