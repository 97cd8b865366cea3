"""A walk along a path for people: a numbered step for each inode, and the reads."""

from __future__ import annotations

from typing import Any, Final

from vsfs.words import counted

from .inspect_output import Printer, Span, safe

Values = dict[str, Any]

_READS: Final = {
    "inode": "inode table",
    "indirect": "pointers",
    "directory": "directory",
    "target": "link target",
}


def print_path(printer: Printer, values: Values) -> None:
    """Each step with the blocks that it reads, then the sum."""
    printer.line(("walk", "title"), " along ", (safe(values["path"]), "title"))
    number = 0
    for step in values["steps"]:
        printer.line()
        number = _print_step(printer, step, number)
    printer.line()
    told = values["steps"] and values["steps"][-1]["damage"] == values["missing"]
    if values["found"] is None and not told:
        printer.line((f"ends here: {safe(values['missing'])}", "damage"))
    reads, blocks = values["read_count"], values["block_count"]
    printer.line(
        f"{counted(reads, 'read')}, {reads - blocks} from memory: ",
        (f"a cold walk reads {counted(blocks, 'block')}", "title"),
    )


def _print_step(printer: Printer, step: Values, number: int) -> int:
    """One inode: its reads, numbered on from `number`, and what they showed."""
    kind = step["type"] or "free"
    style = {"directory": "directory", "symbolic link": "link"}.get(kind, "title")
    printer.line((safe(step["path"]), style), f"  inode {step['ino']}, {kind}")
    for read in step["reads"]:
        number += 1
        again: Span = ("  (in memory)", "minor") if read["cached"] else ""
        printer.line(
            (f"{number:>3}. ", "minor"),
            "read block ",
            (str(read["block"]), "minor" if read["cached"] else "used"),
            f"  {_read_text(step, read)}",
            again,
        )
    if step["match"]:
        match = step["match"]
        printer.line(
            "     found ",
            (safe(step["wanted"]), "title"),
            f" -> inode {match['inode']}: record {step['records_read']}, "
            f"block {match['block']}, offset {match['offset']}",
        )
    elif step["wanted"] is not None:
        printer.line(
            (
                f"     no {safe(step['wanted'])} in {counted(step['records_read'], 'record')}",
                "damage",
            )
        )
    if step["target"] is not None:
        printer.line("     leads to ", (safe(step["target"]), "link"))
    if step["damage"]:
        printer.line((f"     damaged: {safe(step['damage'])}", "damage"))
    return number


def _read_text(step: Values, read: Values) -> str:
    """What a read is for; of an inode, where it stands in the block."""
    text = _READS[read["what"]]
    if read["what"] == "inode":
        return f"{text}: inode {read['ino']} at offset {step['location']['offset']}"
    return f"{text} of inode {read['ino']}"
