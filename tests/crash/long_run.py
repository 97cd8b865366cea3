"""The long form of the crash tests: ``make crash``, or ``python -m tests.crash.long_run``.

Every sequence of one and of two operations, in both modes, in an order that the seed
shuffles; between them longer random ones, and sequences of three operations by chance.
That is some six million crash states, and an hour or two; ``--states`` ends it earlier.
Stopped by Ctrl-C or a signal, it goes on where it was when it is started again with the
same seed; what was done is in ``build/crash-N.json``, unless ``--state-file`` says where.
With ``--kernel`` all of it is done as below a kernel that knows inodes by number, and lets
those go that have lost their last name after the operation.
At the end the counts go to ``docs/RELIABILITY.md``.

A failure is printed with the command that repeats it alone.  Exit status 1 if there
was one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.support.crash_runs import Outcome, Space
from tests.support.crash_workloads import (
    Workload,
    parse,
    random_sequence,
    random_workload,
    sequences,
    text_of,
)
from tests.support.documents import ROOT, put_between

DOCUMENT: Final = ROOT / "docs" / "RELIABILITY.md"
BEGIN: Final = "<!-- crash states{}: written by make crash -->"
END: Final = "<!-- crash states{}: end -->"
JOURNAL_BLOCKS: Final = 16
_CHUNK: Final = 20  # workloads for a process at a time
#: What is done in turn, so that a run which is ended early has some of each.
_TURN: Final = (("two operations", 100), ("random", 2), ("three operations", 10))
_SHOWN: Final = 20  # failures that are printed whole
#: Of every so many disks the recovery is interrupted, too.
_TWICE: Final = 100

FAMILIES: Final = ("one operation", "two operations", "random", "three operations")
#: Block size of random workloads by number: most have tiny blocks, some torn ones.
_BLOCK_SIZES: Final = (512, 512, 1024, 4096)


@dataclass(frozen=True, slots=True)
class Task:
    """Some workloads of a family: numbers `first` to `end` - 1."""

    family: str
    journal: bool
    first: int
    end: int
    seed: int
    kernel: bool


@dataclass(slots=True)
class Row:
    """What came of the workloads of one family in one mode."""

    workloads: int = 0
    states: int = 0
    mounts: int = 0
    twice: int = 0
    failed: int = 0

    def add(self, outcome: Outcome) -> None:
        self.workloads += 1
        self.states += outcome.states
        self.mounts += outcome.mounts
        self.twice += outcome.twice
        self.failed += bool(outcome.failures)

    def add_row(self, row: Row) -> None:
        for name in Row.__slots__:
            setattr(self, name, getattr(self, name) + getattr(row, name))


@dataclass(slots=True)
class Progressed:
    """What has been done so far, as the state file has it."""

    done: Counter[str] = field(default_factory=Counter)  # family -> workloads, in both modes
    rows: dict[str, Row] = field(default_factory=dict)  # "family, mode"
    failures: list[str] = field(default_factory=list)
    seconds: float = 0

    @property
    def states(self) -> int:
        return sum(row.states + row.twice for row in self.rows.values())

    def note(self, task: Task, row: Row, failures: list[str]) -> None:
        """Add what came of a task."""
        mode = "with a journal" if task.journal else "without"
        known = self.rows.setdefault(f"{task.family}, {mode}", Row())
        known.add_row(row)
        self.failures += failures

    def save(self, path: Path) -> None:
        rows = {
            key: [getattr(row, name) for name in Row.__slots__] for key, row in self.rows.items()
        }
        content = {
            "done": self.done, "rows": rows, "failures": self.failures, "seconds": self.seconds,
        }  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".new").write_text(json.dumps(content, indent=1))
        path.with_suffix(".new").replace(path)

    @classmethod
    def load(cls, path: Path) -> Progressed:
        if not path.exists():
            return cls()
        content = json.loads(path.read_text())
        rows = {key: Row(*values) for key, values in content["rows"].items()}
        return cls(Counter(content["done"]), rows, content["failures"], content["seconds"])


# -- workers ---------------------------------------------------------------------

_spaces: dict[tuple[bool, bool, int], Space] = {}
_lists: dict[tuple[str, int], list[Workload]] = {}


def space_for(*, journal: bool, kernel: bool = False, block_size: int = 512) -> Space:
    """The one of this process, which remembers disks from one workload to the next."""
    key = journal, kernel, block_size
    if key not in _spaces:
        blocks = JOURNAL_BLOCKS if journal else None
        size = 128 * block_size
        _spaces[key] = Space(blocks, size=size, block_size=block_size, kernel=kernel)
    return _spaces[key]


def workload_of(family: str, number: int, seed: int, start: Any) -> Workload:
    """A workload, from its family, number and seed alone."""
    if family == "random":
        return random_workload(seed * 1_000_003 + number, start)
    if family == "three operations":
        return random_sequence(seed * 1_000_003 + number, 3, start)
    return _list(family, seed, start)[number]


def _list(family: str, seed: int, start: Any) -> list[Workload]:
    if (family, seed) not in _lists:
        length = 1 + FAMILIES.index(family)
        found = list(sequences(length, start))
        random.Random(seed).shuffle(found)
        _lists[family, seed] = found
    return _lists[family, seed]


def run_task(task: Task) -> tuple[Task, Row, list[str]]:
    """Examine the workloads of a task."""
    row, failures = Row(), []
    for number in range(task.first, task.end):
        block_size = _BLOCK_SIZES[number % len(_BLOCK_SIZES)] if task.family == "random" else 512
        space = space_for(journal=task.journal, kernel=task.kernel, block_size=block_size)
        workload = workload_of(task.family, number, task.seed, space.start)
        try:
            outcome = space.examine(workload, seed=task.seed, twice=_TWICE)
        except Exception as error:
            outcome = Outcome(failures=[f"after: {text_of(workload)}\n  {error!r}"])
        row.add(outcome)
        failures += outcome.failures
    return task, row, failures


# -- the whole -------------------------------------------------------------------


def tasks(seed: int, *, kernel: bool) -> Iterator[Task]:
    """All that there is to do."""
    start = space_for(journal=False).start
    yield from _chunks("one operation", 0, len(_list("one operation", seed, start)), seed, kernel)
    pairs = len(_list("two operations", seed, start))
    for turn in range(-(-pairs // _TURN[0][1])):
        for family, count in _TURN:
            end = (turn + 1) * count
            last = min(end, pairs) if family == "two operations" else end
            yield from _chunks(family, turn * count, last, seed, kernel)


def _chunks(family: str, first: int, end: int, seed: int, kernel: bool) -> Iterator[Task]:
    """The workloads `first` to `end` - 1 of a family, in both modes."""
    for start in range(first, end, _CHUNK):
        for journal in (False, True):
            yield Task(family, journal, start, min(start + _CHUNK, end), seed, kernel)


def run(arguments: argparse.Namespace) -> int:
    """The long run; returns the exit status."""
    console = Console()
    variant = "-kernel" if arguments.kernel else ""
    state_file: Path = (
        arguments.state_file or ROOT / "build" / f"crash{variant}-{arguments.seed}.json"
    )
    progressed = Progressed() if arguments.fresh else Progressed.load(state_file)
    if progressed.states:
        console.print(f"going on from {state_file}: {progressed.states:,} states are done")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run_tasks(progressed, state_file, arguments, console)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on from {state_file}")
        return 130
    table = "\n".join(table_of(progressed, arguments.seed, kernel=arguments.kernel))
    print(table)
    if not arguments.dry_run:
        put_between(DOCUMENT, BEGIN.format(variant), END.format(variant), table)
    return 1 if progressed.failures else 0


def _run_tasks(
    progressed: Progressed, state_file: Path, arguments: argparse.Namespace, console: Console
) -> None:
    """Do what is left, and note it; both modes of a chunk are noted together."""
    wanted = tasks(arguments.seed, kernel=arguments.kernel)
    left = [task for task in wanted if task.first >= progressed.done[task.family]]
    started = time.monotonic() - progressed.seconds
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with (
        multiprocessing.get_context("fork").Pool(arguments.jobs, _ignore_interrupts) as pool,
        Progress(*columns, console=console) as progress,
    ):
        done = sum(progressed.done.values()) * 2
        bar = progress.add_task("", total=done + sum(task.end - task.first for task in left))
        progress.update(bar, completed=done)
        for task, row, failures in pool.imap(run_task, left):
            progressed.note(task, row, failures)
            for failure in failures[: max(_SHOWN - len(progressed.failures) + len(failures), 0)]:
                console.print(failure, markup=False, highlight=False, soft_wrap=True)
            states = f"{progressed.states:,} crash states"
            progress.update(bar, advance=task.end - task.first, description=states)
            if task.journal:  # the second half of a chunk
                progressed.done[task.family] = task.end
                progressed.seconds = time.monotonic() - started
                progressed.save(state_file)
                if arguments.states and progressed.states >= arguments.states:
                    return


def _ignore_interrupts() -> None:
    """In a worker: Ctrl-C goes to the whole group, and the first process ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def table_of(progressed: Progressed, seed: int, *, kernel: bool) -> Iterator[str]:
    """The lines for the document."""
    minutes, failed = progressed.seconds / 60, sum(row.failed for row in progressed.rows.values())
    options = f"seed {seed} and `--kernel`" if kernel else f"seed {seed}"
    yield f"`make crash` with {options}, {minutes:.0f} minutes; {failed} workloads failed."
    yield ""
    yield "| workloads | how many | crash states | disks mounted | after a second crash | failed |"
    yield "|---|--:|--:|--:|--:|--:|"
    total = Row()
    for key, row in progressed.rows.items():
        yield _line(key, row, _of_how_many(key.partition(",")[0], seed))
        total.add_row(row)
    yield _line("**together**", total)


def _of_how_many(family: str, seed: int) -> str:
    """What to say of a family of which there are not any number."""
    if family not in FAMILIES[:2]:
        return ""
    return f" of {len(_list(family, seed, space_for(journal=False).start)):,}"


def _line(name: str, row: Row, of_how_many: str = "") -> str:
    counts = (row.states, row.mounts, row.twice, row.failed)
    numbers = " | ".join(f"{count:,}" for count in counts)
    return f"| {name} | {row.workloads:,}{of_how_many} | {numbers} |"


def run_one(arguments: argparse.Namespace) -> int:
    """One workload, or one state of it."""
    space = space_for(
        journal=arguments.journal, kernel=arguments.kernel, block_size=arguments.block_size
    )
    outcome = space.examine(
        parse(arguments.only), seed=arguments.seed, twice=_TWICE, only=arguments.state
    )
    print(*outcome.failures, sep="\n\n")
    counts = f"{outcome.states} crash states, {outcome.twice} after a second crash"
    print(f"{counts}; {len(outcome.failures)} failures shown")
    if not outcome.states:
        print(f"there is no state {arguments.state}; the record may be another one now")
    return 1 if outcome.failures else 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.long_run", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--states", type=int, help="stop when there are so many")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--state-file", type=Path, help="where to note what is done")
    parser.add_argument("--fresh", action="store_true", help="start from the beginning")
    parser.add_argument("--dry-run", action="store_true", help="leave the document as it is")
    parser.add_argument("--kernel", action="store_true", help="as below a kernel")
    parser.add_argument("--only", metavar="WORKLOAD", help="run this one workload")
    parser.add_argument("--state", help="and only this state of it, with second crashes")
    parser.add_argument("--journal", action="store_true", help="of --only: with a journal")
    parser.add_argument("--block-size", type=int, default=512, help="of --only")
    arguments = parser.parse_args()
    return run_one(arguments) if arguments.only else run(arguments)


if __name__ == "__main__":
    sys.exit(main())
