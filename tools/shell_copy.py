"""The shell's `put` and `get`: files and whole trees between the host and the image."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Final

from vsfs.copying import Calls, Copier, Keep, Tree, resolved
from vsfs.words import counted

from .shell_commands import BadUse, Group, Session, Trouble, inside

COMMANDS: Final = Group("Between the host and the image")

_DETAILS: Final = (
    "  Directories come whole: modes, times, hard and symbolic links, holes and extended\n"
    "  attributes as they are; owners as far as you may set them.  A file that is there is\n"
    "  replaced, a directory is not."
)
#: A thousand files take a second: where less is to do, no bar is drawn.
_MANY_BYTES: Final = 1 << 22
_MANY_FILES: Final = 200
_FILE_BYTES: Final = 1 << 16  # bytes that are copied in the time it takes to make a file


@COMMANDS.command("put SOURCE... TARGET", "copy from the host into the image", _DETAILS)
def put(session: Session, words: list[str]) -> None:
    """Host to image."""
    fs = session.fs
    size = fs.volume.geometry.block_size
    if len(words) == 1:
        words = [*words, "."]
    for source, target in inside(fs, words):
        _forbid_image(session, source, "put into itself")
        _copy(session, os, source, fs, target, block_size=size)


@COMMANDS.command("get SOURCE... TARGET", "copy from the image to the host", _DETAILS)
def get(session: Session, words: list[str]) -> None:
    """Image to host."""
    if len(words) == 1:
        words = [*words, "."]
    for source, target in inside(os, words):
        _forbid_image(session, target, "overwritten with what is in it")
        _copy(session, session.fs, source, os, target)


def _forbid_image(session: Session, path: str, what: str) -> None:
    """Raise Trouble if a path of the host is the image itself."""
    with contextlib.suppress(OSError):
        if os.path.samefile(path, session.image):
            raise Trouble(f"{path} is the image; it cannot be {what}")


def _copy(
    session: Session,
    source_calls: Calls,
    source: str,
    target_calls: Calls,
    target: str,
    *,
    block_size: int | None = None,
) -> None:
    """Copy one file, or a directory with all in it."""
    if not source:
        raise BadUse("an empty name is no file")
    whole, path = resolved(source_calls, os.fsencode(source)), os.fsencode(target)

    def tree() -> Tree:
        is_host = source_calls is os
        image = session.image if is_host else None
        return Tree(source_calls, whole, path, image=image, is_trusted=is_host)

    with _progress(tree) as (on_entry, on_bytes):
        copier = Copier(
            source_calls, target_calls, Keep.POSSIBLE, block_size=block_size, on_bytes=on_bytes
        )
        if stat.S_ISREG(source_calls.lstat(whole).st_mode):
            copier.contents(path, whole)
            entry, _ = next(iter(tree()))
            copier.attributes(entry)
        else:
            copier.run(tree(), on_entry)


_Reports = tuple[Callable[[bytes], object], Callable[[int], object]]


@contextlib.contextmanager
def _progress(tree: Callable[[], Tree]) -> Iterator[_Reports]:
    """Called with each path, and with the bytes that were copied: a bar on a terminal."""
    if not sys.stderr.isatty():
        yield (lambda _path: None), (lambda _count: None)
        return
    files, size = _measure(tree())
    if files < _MANY_FILES and size < _MANY_BYTES:
        yield (lambda _path: None), (lambda _count: None)
        return
    from rich.console import Console  # noqa: PLC0415  (late: only a terminal needs it)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    done = TextColumn("{task.fields[done]} of {task.fields[files]}")
    columns = (BarColumn(), TaskProgressColumn(), done, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        total = size + files * _FILE_BYTES
        task = bar.add_task("", total=total, files=counted(files, "file"), done=0)

        def on_entry(_path: bytes) -> None:
            bar.update(task, advance=_FILE_BYTES, done=bar.tasks[0].fields["done"] + 1)

        yield on_entry, lambda count: bar.advance(task, count)


def _measure(tree: Tree) -> tuple[int, int]:
    """Files, and their bytes."""
    files = size = 0
    for entry, is_left in tree:
        if not is_left:
            files += 1
            size += entry.status.st_size if stat.S_ISREG(entry.status.st_mode) else 0
    return files, size
