"""How vsfs-inspect shows where files lie: a line for each, then the total."""

from __future__ import annotations

from typing import Any, Final

from vsfs.words import span

from .inspect_output import Printer, Span, safe

Values = dict[str, Any]

_RUNS_ON_A_LINE: Final = 8


def print_fragments(printer: Printer, values: Values) -> None:
    """Lines come as files are read: there may be millions."""
    printer.line((_HEADER, "minor"))
    for file in values["files"]:
        printer.line(*_line(file))
    printer.line()
    printer.line(_total_text(values["total"]))


_HEADER: Final = (
    f"{'inode':>5}  {'blocks':>8}  {'runs':>6}  {'needed':>6}  {'fragments':>9}  "
    f"{'where':<22}  path"
)


def _line(file: Values) -> list[Span]:
    """One file; what is in more than one fragment stands out."""
    path = safe(file["path"]) if file["path"] is not None else "(no name)"
    if file["damage"]:
        text = f"damaged: {safe(file['damage'])}"
        return [f"{file['ino']:>5}  ", (text, "damage"), f"  {path}"]
    counts = f"{file['blocks']:>8}  {file['run_count']:>6}  {file['needed']:>6}"
    fragments = f"{file['fragments']:>9}"
    return [
        f"{file['ino']:>5}  {counts}  ",
        (fragments, "title") if file["fragments"] > 1 else fragments,
        f"  {_runs_text(file):<22}  ",
        (path, "title"),
    ]


def _runs_text(file: Values) -> str:
    found = [_run_text(run) for run in file["runs"][:_RUNS_ON_A_LINE]]
    more = file["run_count"] - len(found)
    if more > 0:
        found.append(f"and {more} more")
    return " ".join(found) or "-"


def _run_text(run: Values) -> str:
    return span(run["block"], run["count"])


def _total_text(total: Values) -> str:
    """How many files, how many of them are fragmented, and how much (empty ones left out)."""
    files = total["files"]
    noun = "file or directory" if files == 1 else "files and directories"
    average = total["fragments"] / (total["not_empty"] or 1)
    return (
        f"{files} {noun}, {total['fragmented']} fragmented, {average:.1f} fragments on average; "
        f"blocks: {total['blocks']}, runs: {total['runs']}, needed: {total['needed']}"
    )
