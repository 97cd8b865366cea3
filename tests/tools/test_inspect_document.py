"""docs/INSPECT.md and its pictures show what the command prints and draws.

``python -m tests.tools.test_inspect_document`` brings both up to date.  In an example
a line ``...`` stands for lines left out; as many lines are kept before and behind it
as there are.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shlex
import tempfile
from pathlib import Path
from typing import Final
from unittest import mock

import pytest
from vsfs_tools import inspect

from tests.support.documents import ROOT as REPOSITORY
from tests.tools.test_inspect import build_example, build_later, build_waiting

DOCUMENT: Final = REPOSITORY / "docs" / "INSPECT.md"
EXAMPLE: Final = re.compile(
    r"^(```console\n)\$ (vsfs-inspect .*)\n((?:.*\n)*?)(```)$", re.MULTILINE
)
LEFT_OUT: Final = "...\n"
PICTURES: Final = {
    "inspect-layout.svg": "vsfs-inspect disk.img layout --svg -",
    "inspect-inode.svg": "vsfs-inspect disk.img inode /foo/large --svg -",
    "inspect-path.svg": "vsfs-inspect disk.img path /foo/bar --svg -",
}


def printed(command: str) -> str:
    """What a command prints into a pipe."""
    found = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(found), contextlib.suppress(SystemExit):  # --help
        inspect.main(shlex.split(command)[1:])
    found.seek(0)
    return found.read()


def shortened(text: str, shown: str) -> str:
    """`text` with so many lines of its start and end as `shown` has, if that leaves out any."""
    head, left_out, tail = shown.partition(LEFT_OUT)
    if not left_out:
        return text
    lines = text.splitlines(keepends=True)
    first, last = head.count("\n"), tail.count("\n")
    return "".join([*lines[:first], LEFT_OUT, *(lines[-last:] if last else [])])


@functools.cache
def renewed() -> tuple[str, dict[str, str]]:
    """The document with the outputs that its commands have now, and the pictures."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {"COLUMNS": "80"}),  # argparse folds its help
    ):
        build_example(Path("disk.img"))
        build_later(Path("disk.img"), Path("later.img"))
        build_waiting(Path("journal.img"))
        pictures = {name: printed(command) for name, command in PICTURES.items()}
        text = EXAMPLE.sub(
            lambda found: (
                f"{found[1]}$ {found[2]}\n{shortened(printed(found[2]), found[3])}{found[4]}"
            ),
            DOCUMENT.read_text(encoding="utf-8"),
        )
    return text, pictures


def test_the_document_shows_what_the_command_prints() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(EXAMPLE.findall(text)) > 10
    assert renewed()[0] == text, f"run python -m {__name__}"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_the_document_is_what_the_command_draws(name: str) -> None:
    assert renewed()[1][name] == (DOCUMENT.parent / name).read_text(encoding="utf-8")
    assert f"({name})" in DOCUMENT.read_text(encoding="utf-8")


if __name__ == "__main__":
    new_text, new_pictures = renewed()
    DOCUMENT.write_text(new_text, encoding="utf-8")
    for name, picture in new_pictures.items():
        (DOCUMENT.parent / name).write_text(picture, encoding="utf-8")
