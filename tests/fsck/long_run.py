"""Check a great many broken images: ``python -m tests.fsck.long_run --count 200000``.

Prints what was broken and how it ended, the slowest check and the most memory; a
failure with the damage and the command that repeats it.  Exit status 1 if there
was one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fsck.mutants import PREEN_EACH, examine_nth, how_to_repeat, nth
from tests.support.mutation import KINDS

_CHUNK: Final = 50
_SHOWN: Final = 20  # failures that are printed whole


@dataclass
class Totals:
    """What came of some images."""

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)  # images with so many pieces of it
    outcomes: Counter[str] = field(default_factory=Counter)
    preens: Counter[str] = field(default_factory=Counter)
    rules: Counter[int] = field(default_factory=Counter)
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)  # of one piece of damage
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)
    most_reads: tuple[int, int] = (0, 0)
    memory_kib: int = 0

    def add(self, other: Totals) -> None:
        self.count += other.count
        for name in ("kinds", "damages", "outcomes", "preens", "rules", "by_kind"):
            getattr(self, name).update(getattr(other, name))
        self.failures += other.failures
        self.slowest = max(self.slowest, other.slowest)
        self.most_reads = max(self.most_reads, other.most_reads)
        self.memory_kib = max(self.memory_kib, other.memory_kib)


def run_chunk(work: tuple[int, int, int]) -> Totals:
    """Images `first` to `end` - 1 of `seed`."""
    seed, first, end = work
    totals = Totals()
    for number in range(first, end):
        totals.count += 1
        try:
            broken, outcome = examine_nth(seed, number)
        except Exception as error:
            _, broken = nth(seed, number)
            trace = "".join(traceback.format_exception(error)).rstrip()
            totals.failures.append(trace)
            totals.outcomes["FAILED"] += 1
            totals.kinds.update(broken.kinds)
            continue
        totals.kinds.update(broken.kinds)
        totals.damages["one" if len(broken.kinds) == 1 else "several"] += 1
        totals.outcomes[outcome.status] += 1
        totals.preens[outcome.preen] += 1
        totals.rules.update(outcome.rules)
        if len(broken.kinds) == 1:
            totals.by_kind[(broken.kinds[0], outcome.status)] += 1
        totals.slowest = max(totals.slowest, (outcome.seconds, number))
        totals.most_reads = max(totals.most_reads, (outcome.reads, number))
    totals.memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return totals


def run(seed: int, count: int, jobs: int, *, first: int = 0) -> Totals:
    """All of it, in `jobs` processes; a line on stderr now and then."""
    work = [
        (seed, start, min(start + _CHUNK, first + count))
        for start in range(first, first + count, _CHUNK)
    ]
    totals, shown = Totals(), time.monotonic()
    # a process that is forked off while threads run may wait for their locks for ever
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for part in pool.imap(run_chunk, work):
            totals.add(part)
            for failure in part.failures[: max(_SHOWN - len(totals.failures), 0) + 1]:
                print(failure, file=sys.stderr, flush=True)
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                print(f"{totals.count} of {count}", file=sys.stderr, flush=True)
    return totals


def table(totals: Totals, seed: int, seconds: float) -> str:
    """The result as Markdown."""
    rules = ", ".join(f"{rule}: {totals.rules[rule]}" for rule in sorted(totals.rules))
    statuses = ("clean", "repaired", "left", "refused", "FAILED")
    lines = [
        f"{totals.count} images, seed {seed}, {seconds:.0f} s.",
        f"{totals.damages['one']} with one piece of damage, {totals.damages['several']} with more.",
        "",
        "| outcome | images |",
        "|---|---|",
        *(f"| {status} | {totals.outcomes[status]} |" for status in statuses),
        "",
        f"| `fsck.vsfs -p` would | images (one of {PREEN_EACH} is tried) |",
        "|---|---|",
        *(f"| {what} | {totals.preens[what]} |" for what in ("clean", "repairs", "asks")),
        "",
        "| one piece of damage | " + " | ".join(statuses[:4]) + " | pieces in all |",
        "|---|" + "---|" * 5,
        *(
            f"| {kind} | "
            + " | ".join(str(totals.by_kind[(kind, status)]) for status in statuses[:4])
            + f" | {totals.kinds[kind]} |"
            for kind in KINDS
        ),
        "",
        f"Slowest check: {totals.slowest[0] * 1000:.0f} ms (image {totals.slowest[1]}).",
        f"Most reads: {totals.most_reads[0]} (image {totals.most_reads[1]}).",
        f"Most memory of a process: {totals.memory_kib // 1024} MiB.",
        "",
        f"Rules broken, in images: {rules}.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run as the arguments say; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description="Check many broken images.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", type=int, help="one image, by its number")
    parser.add_argument("--save", type=Path, help="with --only: write the broken image here")
    arguments = parser.parse_args()
    if arguments.only is not None:
        return only(arguments.seed, arguments.only, arguments.save)
    started = time.monotonic()
    totals = run(arguments.seed, arguments.count, arguments.jobs, first=arguments.first)
    print(table(totals, arguments.seed, time.monotonic() - started))
    print(f"\n{len(totals.failures)} failures")
    return 1 if totals.failures else 0


def only(seed: int, number: int, save: Path | None) -> int:
    """One image: what was done to it, and how it ended."""
    _, broken = nth(seed, number)
    print(how_to_repeat(seed, number, broken))
    if save is not None:
        save.write_bytes(broken.data)
    _, outcome = examine_nth(seed, number)
    print(outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())
