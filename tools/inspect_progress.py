"""How far a walk over all inodes has come, on the terminal of who waits for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Final

from vsfs.device import BlockDevice
from vsfs.rawimage import RawImage

_QUIET: Final = 0.5  # seconds in which a walk says nothing
_EACH: Final = 512  # inodes from one look at the clock to the next
_WIDTH: Final = 40  # of the bar


class PatientImage(RawImage):
    """An image whose walks over all inodes draw a bar on stderr once they take long."""

    def inodes_in_use(self) -> Iterator[int]:
        """As always; the bar is gone when the walk ends, or is given up."""
        geometry = self.geometry
        total = self.count_ones(geometry.inode_bitmap_start, 0, geometry.inode_count)
        begun, is_drawn = time.monotonic(), False
        try:
            for index, ino in enumerate(super().inodes_in_use()):
                if index % _EACH == 0 and time.monotonic() - begun > _QUIET:
                    is_drawn = True
                    _draw(index, total)
                yield ino
        finally:
            if is_drawn:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _draw(done: int, total: int) -> None:
    full = _WIDTH * done // max(total, 1)
    bar = "#" * full + "." * (_WIDTH - full)
    text = f"\rreading inodes [{bar}] {100 * done // max(total, 1)}%"
    print(text, end="", file=sys.stderr, flush=True)


def open_image(device: BlockDevice, *, quiet: bool) -> RawImage:
    """The image, with a bar where stderr is a terminal, and not `quiet`; raises as RawImage."""
    if quiet or not sys.stderr.isatty():
        return RawImage(device)
    return PatientImage(device)
