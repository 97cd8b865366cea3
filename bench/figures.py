"""Medians, ratios, targets: plain arithmetic on measurements.

A ratio of two systems is the median of the ratios within each round, not the
ratio of the medians: what slows the machine down for a minute slows both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from .rounds import Measurement

#: What the kernel's caches answer once they are warm.
_FROM_CACHES: Final = ("stat warm", "read 4 KiB warm", "list")


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio to reach: of each phase, or of the geometric mean where `phases` is None."""

    against: str  # "fuse2fs", "floor" or "ext4"
    minimum: float
    phases: tuple[str, ...] | None = ()  # () is every phase


#: By binding, as docs/PERFORMANCE.md states them.
TARGETS: Final = {
    "fusepy": (
        Target("fuse2fs", 1.1),
        Target("fuse2fs", 2.0, None),
        Target("floor", 0.75),
    ),
    "llfuse": (
        Target("fuse2fs", 1.5),
        Target("fuse2fs", 3.0, None),
        Target("floor", 0.75),
        Target("ext4", 0.9, _FROM_CACHES),
    ),
}


class Figures:
    """Rates of all phases and systems of a run."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._rates: dict[tuple[str, str], dict[int, float]] = {}
        for one in measurements:
            self._rates.setdefault((one.phase, one.system), {})[one.round] = one.rate

    @property
    def systems(self) -> list[str]:
        """Those that were measured, in order of appearance."""
        return list(dict.fromkeys(system for _, system in self._rates))

    @property
    def phases(self) -> list[str]:
        """Those that were run, in order."""
        return list(dict.fromkeys(phase for phase, _ in self._rates))

    def rate(self, phase: str, system: str) -> float | None:
        """The median rate; None if it was not measured."""
        rates = self._rates.get((phase, system))
        return median(rates.values()) if rates else None

    def microseconds(self, phase: str, system: str) -> float | None:
        """The median time of a unit (in phases that count bytes, of a MB)."""
        rate = self.rate(phase, system)
        return 1e6 / rate if rate else None

    def spread(self, phase: str, system: str) -> float | None:
        """(largest - smallest) / median of the rounds."""
        rates = self._rates.get((phase, system))
        if not rates:
            return None
        return (max(rates.values()) - min(rates.values())) / median(rates.values())

    def ratio(self, phase: str, system: str, against: str) -> float | None:
        """How many times faster `system` is than `against`; the median of the rounds."""
        mine = self._rates.get((phase, system), {})
        theirs = self._rates.get((phase, against), {})
        ratios = [mine[number] / theirs[number] for number in mine.keys() & theirs.keys()]
        return median(ratios) if ratios else None

    def mean_ratio(self, system: str, against: str) -> float | None:
        """The geometric mean of the ratios of all phases."""
        ratios = [self.ratio(phase, system, against) for phase in self.phases]
        return geometric_mean([ratio for ratio in ratios if ratio is not None])


def geometric_mean(values: Sequence[float]) -> float | None:
    """The n-th root of the product; None of no values.

    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def binding_of(system: str) -> str | None:
    """The binding of a VSFS column, by its name ("vsfs fusepy -j"); None for others."""
    words = system.split()
    return words[1] if words[0] == "vsfs" else None


def opponent(target: Target, system: str) -> str:
    """The column that a target compares `system` with: a floor is one of its own binding."""
    return f"floor {binding_of(system)}" if target.against == "floor" else target.against


def minimum_for(system: str, against: str, phase: str | None) -> float | None:
    """The ratio that `system` is to reach in `phase` (None: in the geometric mean)."""
    for target in TARGETS.get(binding_of(system) or "", ()):
        if opponent(target, system) != against or (phase is None) != (target.phases is None):
            continue
        if phase is None or not target.phases or phase in target.phases:
            return target.minimum
    return None
