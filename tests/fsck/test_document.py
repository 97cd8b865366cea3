"""docs/FSCK.md shows the rules that there are and what the command prints.

Both are generated: ``python -m tests.fsck.test_document`` writes them again.  The
examples are commands that are run, in the document's order, on one small image.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from unittest import mock

from vsfs_tools import fsck

import vsfs
from tests.support.damage import Image
from tests.support.documents import Document, console, generated, parts_of
from tests.support.images import IDENTITY, ROOT, Clock
from vsfs.fsck import all_rules

#: The examples: commands, and what somebody types when asked.
SESSIONS: Final[dict[str, list[tuple[str, str]]]] = {
    "help": [("fsck.vsfs --help", "")],
    "show": [("fsck.vsfs -n disk.img", ""), ("echo $?", "")],
    "refused": [("fsck.vsfs -p -f disk.img", "")],
    "reasons": [("fsck.vsfs -n -v disk.img", "")],
    "ask": [("fsck.vsfs -z disk.undo disk.img", "yyyyyyyyy")],
    "undo": [("fsck.vsfs --undo disk.undo disk.img", "")],
    "repair": [("fsck.vsfs -y disk.img", ""), ("echo $?", ""), ("fsck.vsfs -y disk.img", "")],
    "json": [("fsck.vsfs -n --json small.img", "")],
}


# -- the generated parts -------------------------------------------------------


def build_images() -> None:
    """The images of the examples: eleven files /c to /m, so that /m is inode 13."""
    vsfs.format_image("disk.img", identity=IDENTITY)
    with vsfs.FileSystem.open("disk.img", credentials=ROOT, clock=Clock()) as fs:
        for letter in "cdefghijklm":
            fd = fs.open(f"/{letter}", os.O_CREAT | os.O_WRONLY, 0o644)
            fs.write(fd, f"this is {letter}\n".encode())
            fs.close(fd)
    broken = Image(Path("disk.img").read_bytes())
    broken.put_inode_bit(13, 0)
    Path("small.img").write_bytes(broken.data)
    broken.put_inode(4, nlink=2)
    broken.put_inode(5, direct0=broken.get(6, "direct0"))
    Path("disk.img").write_bytes(broken.data)


@functools.cache
def sessions() -> dict[str, str]:
    """Every example as it is in the document."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {"COLUMNS": "80"}),
        mock.patch("time.time_ns", return_value=IDENTITY.now_ns + 10**9),
    ):
        build_images()
        played = {}
        for name, commands in SESSIONS.items():
            lines, status = [], 0
            for command, answers in commands:
                if command == "echo $?":
                    shown = f"{status}\n"
                else:
                    shown, status = run(command, iter(answers))
                lines.append(f"$ {command}\n{shown}")
            played[name] = console("".join(lines))
        return played


def run(command: str, answers: Iterator[str]) -> tuple[str, int]:
    """What a command prints when its questions are answered so, and its exit status."""
    printed = io.StringIO()

    def answer(question: str) -> str:
        given = next(answers)
        print(f"{question}{given}", file=printed)
        return given

    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        mock.patch("builtins.input", answer),
        mock.patch("sys.stdin.isatty", return_value=True),
    ):
        try:
            status = fsck.main(shlex.split(command)[1:])
        except SystemExit as end:
            status = int(end.code or 0)
    return printed.getvalue(), status


def rules_table() -> str:
    """Every rule as a row."""
    lines = ["| # | name | the rule | what is believed, and why | `-p` | OSTEP |", "|---" * 6 + "|"]
    for rule in all_rules():
        safe = "repairs" if rule.is_safe else "asks"
        where = rule.taught.removeprefix("OSTEP ")
        lines.append(
            f"| {rule.number} | `{rule.name}` | {rule.text} | {rule.trusted} | {safe} | {where} |"
        )
    return "\n".join(lines) + "\n"


DOCUMENT: Final = Document(
    "FSCK.md",
    generated({"rules": rules_table, **parts_of(SESSIONS, lambda name: sessions()[name])}),
    __name__,
)


# -- what is held --------------------------------------------------------------


def test_the_document_is_up_to_date() -> None:
    DOCUMENT.check()


def test_every_rule_is_a_sentence_with_a_section_of_osteps() -> None:
    for rule in all_rules():
        assert rule.text.endswith("."), rule
        assert rule.trusted.endswith("."), rule
        assert rule.taught.startswith("OSTEP "), rule


if __name__ == "__main__":
    DOCUMENT.write()
