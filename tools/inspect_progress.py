"""A bar on the terminal while every inode is read, which on a large image takes seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Final

from vsfs.rawimage import RawImage

_PATIENCE: Final = 0.5  # seconds without a bar
_STEP: Final = 256  # inodes between two looks at the clock
_WIDTH: Final = 30  # characters of the bar


@contextlib.contextmanager
def progress(image: RawImage) -> Iterator[None]:
    """Within it, a bar on stderr shows how far a walk over `image` is; gone at the end.

    Nothing where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield
        return
    bar = _Bar(image.geometry.inode_count)
    image.watch = bar.reach
    try:
        yield
    finally:
        image.watch = None
        bar.clear()


class _Bar:
    """Drawn again each time the clock has moved on enough."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._due = time.monotonic() + _PATIENCE
        self._is_drawn = False

    def reach(self, ino: int) -> None:
        """The walk is at inode `ino`."""
        if ino % _STEP or time.monotonic() < self._due:
            return
        done = _WIDTH * ino // self._count
        bar = "#" * done + "." * (_WIDTH - done)
        sys.stderr.write(f"\rreading inodes [{bar}] {100 * ino // self._count:>3} %")
        sys.stderr.flush()
        self._due = time.monotonic() + 0.1
        self._is_drawn = True

    def clear(self) -> None:
        """Leave an empty line."""
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
