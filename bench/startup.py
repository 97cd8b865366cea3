"""How long commands take to start: the time until an answer, for a person and in scripts.

All commands run in turn, some rounds of them; the median of each counts.  One round
before that is not timed: it leaves compiled modules.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from .systems import Fuse2fs, System, Unavailable, Vsfs, tool

ROUNDS: Final = 9
_HUGE: Final = "1T"
_SMALL: Final = "256K"

#: What is compared: (slower, faster, at most so many times as long).
LIMITS: Final = (
    ("vsfs-inspect super", "python -c 'import construct'", 1.6),
    ("mkfs.vsfs 256 KiB", "python -c 'import construct'", 1.6),
    ("mkfs, mount, stat of 1 TiB", "mkfs, mount, stat of 256 KiB", 1.3),
)

Command = Callable[[], object]


class _Sized(Vsfs):
    """A VSFS image of another size than the others'."""

    def __init__(self, folder: Path, size: str) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder, 0, "fusepy", journal=False)
        self.size = size

    def format(self) -> None:
        """mkfs.vsfs with a size in words."""
        self.image.unlink(missing_ok=True)
        _run(*tool("mkfs"), str(self.image), self.size)


def commands(folder: Path) -> tuple[dict[str, Command], list[System]]:
    """What is timed, by the name in the table, and the systems that it leaves mounted."""
    image = folder / "startup.img"
    _run(*tool("mkfs"), str(image), _SMALL)
    small, huge = _Sized(folder / "small", _SMALL), _Sized(folder / "huge", _HUGE)
    systems: list[System] = [small, huge]
    found: dict[str, Command] = {
        "python -c pass": lambda: _run(sys.executable, "-c", "pass"),
        "python -c 'import construct'": lambda: _run(sys.executable, "-c", "import construct"),
        "vsfs-inspect super": lambda: _run(*tool("inspect"), str(image), "super"),
        "mkfs.vsfs 256 KiB": small.format,
        "mkfs, mount, stat of 256 KiB": lambda: _first_stat(small),
        "mkfs, mount, stat of 1 TiB": lambda: _first_stat(huge),
    }
    other = Fuse2fs(folder, 1)
    with contextlib.suppress(Unavailable):
        other.check()
        systems.append(other)
        found["mke2fs, fuse2fs, stat of 1 MiB"] = lambda: _first_stat(other)
    return found, systems


def _first_stat(system: System) -> None:
    system.format()
    system.mount()
    os.stat(system.mount_point)


def measure(folder: Path, rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of each command; unmounting is not timed."""
    all_commands, systems = commands(folder)
    times: dict[str, list[float]] = {name: [] for name in all_commands}
    for _ in range(1 + rounds):
        for name, command in all_commands.items():
            start = time.perf_counter()
            command()
            times[name].append((time.perf_counter() - start) * 1000)
            for system in systems:
                system.unmount()
    return {name: median(found[1:]) for name, found in times.items()}


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")
