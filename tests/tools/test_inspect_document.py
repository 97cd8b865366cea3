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
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from unittest import mock

import pytest
from vsfs_tools import inspect

from tests.support.documents import Document, parts_of
from tests.tools.test_inspect import build_example, build_later, build_waiting

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


@contextlib.contextmanager
def images() -> Iterator[None]:
    """A folder with the images of the examples, as the current one."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {"COLUMNS": "80"}),  # argparse folds its help
    ):
        build_example(Path("disk.img"))
        build_later(Path("disk.img"), Path("later.img"))
        build_waiting(Path("journal.img"))
        yield


def renewed(text: str) -> str:
    """The document with the outputs that its commands have now."""
    with images():
        return EXAMPLE.sub(
            lambda found: (
                f"{found[1]}$ {found[2]}\n{shortened(printed(found[2]), found[3])}{found[4]}"
            ),
            text,
        )


@functools.cache
def pictures() -> dict[str, str]:
    """Every picture as it is drawn now."""
    with images():
        return {file: printed(command) for file, command in PICTURES.items()}


DOCUMENT: Final = Document(
    "INSPECT.md", renewed, __name__, parts_of(PICTURES, lambda file: pictures()[file])
)


def test_the_document_shows_what_the_command_prints() -> None:
    assert len(EXAMPLE.findall(DOCUMENT.text)) > 10
    DOCUMENT.check()


@pytest.mark.parametrize("file", PICTURES)
def test_a_picture_of_the_document_is_what_the_command_draws(file: str) -> None:
    DOCUMENT.check_picture(file)


if __name__ == "__main__":
    DOCUMENT.write()
