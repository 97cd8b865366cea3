"""The ways in which a timeline is shown: text, JSON, SVG, or beside the book's figure."""

from __future__ import annotations

import argparse
from typing import Final

from vsfs.timeline import FIGURES, VIEWS, compare, timeline_of
from vsfs.trace import Trace
from vsfs.trace_json import lines_of

from .inspect_output import Printer
from .timeline_svg import svg_of
from .timeline_text import draw

HOW: Final = "[--json | --svg FILE] [--by role|block] [--compare 40.3|40.4]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options that say how to show it."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="the accesses as JSON lines")
    how.add_argument("--svg", metavar="FILE", help="draw the figure into FILE; - is stdout")
    parser.add_argument(
        "--by",
        choices=VIEWS,
        default=VIEWS[0],
        help="what a column is: a structure such as `foo inode` (the default), or a block",
    )
    parser.add_argument(
        "--compare",
        metavar="FIGURE",
        choices=sorted(FIGURES),
        help=f"say how it differs from OSTEP's figure: {' or '.join(sorted(FIGURES))}",
    )


def show(printer: Printer, trace: Trace, how: argparse.Namespace) -> None:
    """Show a trace as the options say; OSError if FILE cannot be written."""
    if how.json:
        for line in lines_of(trace):
            print(line)
        return
    timeline = timeline_of(trace, how.by)
    if how.svg is not None:
        _write(how.svg, svg_of(timeline))
    else:
        draw(printer, timeline)
    if how.compare is not None:
        _, sentences = compare(timeline_of(trace), how.compare)
        for sentence in sentences:
            printer.line(sentence)


def _write(path: str, picture: str) -> None:
    if path == "-":
        print(picture, end="")
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write(picture)
