"""Run a workload, pull the plug everywhere, and judge what each mount makes of it.

The usual sequence::

    space = Space(journal_blocks=16)
    outcome = space.examine(parse("create bar, fsync; rename foo A/foo"))
    outcome.states, outcome.failures

Each failure says how to repeat it: ``python -m tests.crash.long_run --only ...``.
"""

from __future__ import annotations

import errno
import os
import random
import shlex
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import vsfs
from tests.support.crash_check import Window, problems_with_journal, problems_without_journal
from tests.support.crash_model import ROOT, Model, paths_of
from tests.support.crash_recovery import (
    Recovered,
    Recovery,
    mount_quietly,
    quiet,
)
from tests.support.crash_workloads import Op, Workload, apply, copy_of, flush, run, text_of
from tests.support.crashes import Event, Recorder, State, crash_states
from tests.support.images import IDENTITY, KIB
from tests.support.rawwalk import walk
from vsfs.device import MemoryDevice
from vsfs.mkfs import make, plan

#: What free blocks hold at first; no workload writes it, so no file may ever show it.
JUNK: Final = 0xEE
_BASE_FILL: Final = 200  # what the files of the base image hold, each its own
_REMEMBERED: Final = 40_000  # disks
#: Failures of one workload that are kept; more say nothing new.
_KEPT: Final = 3


@dataclass(slots=True)
class Outcome:
    """What came of a workload."""

    states: int = 0  # disks, each with what had to be on it
    mounts: int = 0  # disks that no workload before had led to
    twice: int = 0  # disks after a second crash, in the recovery from the first
    failures: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """What a workload wrote, and what it did."""

    image: bytes
    events: list[Event]
    model: Model
    inos: dict[int, int]
    drops: bool  # a file lost its last name while it was open


class Space:
    """An image to start from, and what is known of the disks that follow from it."""

    def __init__(
        self,
        journal_blocks: int | None = None,
        *,
        size: int = 64 * KIB,
        block_size: int = 512,
        inode_count: int = 24,
        sample: int = 16,
        kernel: bool = False,
    ) -> None:
        """With `kernel`, each inode is known by number, and let go after each operation."""
        self.journal_blocks = journal_blocks
        self.size = size
        self.block_size = block_size
        self.inode_count = inode_count
        self.sample = sample
        self.kernel = kernel
        self.start = Model()
        self.inos = {ROOT: 2}
        self.image = self._base()
        self._recovery = Recovery()
        self._known: OrderedDict[int, Recovered] = OrderedDict()

    @property
    def mode(self) -> str:
        """What it is called in a table."""
        return "journal" if self.journal_blocks else "no journal"

    def _base(self) -> bytes:
        """A, B, foo and A/foo, and junk in every free block."""
        device = MemoryDevice(bytearray(self.size))
        geometry = plan(self.size, block_size=self.block_size, inode_count=self.inode_count)
        make(device, geometry, IDENTITY, journal_blocks=self.journal_blocks)
        with mount_quietly(device) as fs:
            for name in ("A", "B"):
                fs.mkdir(f"/{name}")
                self.inos[self.start.mkdir(name)] = fs.lstat("/" + name).st_ino
            for number, (path, size) in enumerate((("foo", 700), ("A/foo", 1300))):
                content = bytes([_BASE_FILL + number]) * size
                fd = fs.open("/" + path, os.O_CREAT | os.O_WRONLY)
                fs.write(fd, content)
                fs.close(fd)
                self.inos[self.start.create(path)] = fs.lstat("/" + path).st_ino
                self.start.write(path, 0, content)
            fs.setxattr("/foo", "user.x", bytes([_BASE_FILL]) * 10)
            self.start.setxattr("foo", b"user.x", bytes([_BASE_FILL]) * 10)
        self.start.start_here()
        return self._with_junk(bytes(device.image), geometry.data_start)

    def _with_junk(self, image: bytes, data_start: int) -> bytes:
        made = bytearray(image)
        size = self.block_size
        for block in range(data_start, self.size // size):
            byte, bit = divmod(block - data_start, 8)
            bitmap = walk_bitmap(image)
            if not image[bitmap * size + byte] >> bit & 1:
                made[block * size : (block + 1) * size] = bytes([JUNK]) * size
        assert walk(made).findings == []
        return bytes(made)

    # -- running --------------------------------------------------------------

    def record(self, workload: Workload) -> Record:
        """Run a workload, with an unmount at its end; note what it writes."""
        device = Recorder(self.image)
        model, inos = copy_of(self.start), dict(self.inos)
        fs = mount_quietly(device)
        for number, op in enumerate(workload, 1):
            device.mark("begun", number)
            fs.volume.known = range(self.inode_count if self.kernel else 0)
            self._do(fs, model, inos, op, number)
            for ino in list(fs.volume.held):
                fs.volume.let_go(ino)
            if op.then:
                flush(fs, op)
                device.mark("durable", number)
        fs.unmount()
        device.mark("durable", len(workload))
        drops = any(op.verb == "drop" for op in workload)
        return Record(self.image, device.events, model, inos, drops)

    def _do(
        self, fs: vsfs.FileSystem, model: Model, inos: dict[int, int], op: Op, number: int
    ) -> None:
        try:
            written = run(fs, op, number)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            model.stay()
            return
        file = apply(model, op, number, written)
        if file is not None:
            inos[file] = fs.lstat("/" + op.paths[-1]).st_ino

    # -- judging --------------------------------------------------------------

    def examine(
        self, workload: Workload, *, seed: int = 0, twice: int = 0, only: str | None = None
    ) -> Outcome:
        """Pull the plug everywhere in a workload.

        Of every `twice`-th disk the recovery is interrupted, too, at every point,
        and of some of these again.  `only` is the name of the one state wanted.
        """
        outcome = Outcome()
        with quiet():
            record = self.record(workload)
            states = crash_states(record.image, record.events, sample=self.sample, seed=seed)
            chance = random.Random(f"{seed} {text_of(workload)}")
            for state in states:
                if only is not None and state.name != only:
                    continue
                outcome.states += 1
                recovered = self._recovered(state, outcome)
                self._judge(record, state, recovered, outcome, workload, seed)
                if (twice and not chance.randrange(twice)) or only is not None:
                    self._again(record, state, outcome, workload, seed)
        return outcome

    def _recovered(self, state: State, outcome: Outcome) -> Recovered:
        known = self._known.get(state.digest)
        if known is not None:
            self._known.move_to_end(state.digest)
            return known
        outcome.mounts += 1
        recovered = self._recovery.recover(state.image, look=outcome.mounts % 8 == 1)
        self._known[state.digest] = recovered
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return recovered

    def _judge(
        self,
        record: Record,
        state: State,
        recovered: Recovered,
        outcome: Outcome,
        workload: Workload,
        seed: int,
        again: str = "",
    ) -> None:
        problems = list(recovered.problems)
        if recovered.orphans and not record.drops:
            problems.append("files without names, although none was open without one")
        if not recovered.problems:
            # an operation that changed nothing is durable without having been written
            last = max(state.floor, state.ceiling)
            window = Window(record.model.states[state.floor : last + 1], record.inos)
            judge = problems_with_journal if self.journal_blocks else problems_without_journal
            problems += judge(window, recovered.files)
        if problems and len(outcome.failures) < _KEPT:
            outcome.failures.append(self._report(state, problems, workload, seed, again))

    def _report(
        self, state: State, problems: list[str], workload: Workload, seed: int, again: str
    ) -> str:
        mode = "--journal " if self.journal_blocks else ""
        mode += "--kernel " if self.kernel else ""
        if self.block_size != 512:
            mode += f"--block-size {self.block_size} "
        command = (
            f"python -m tests.crash.long_run {mode}--seed {seed} "
            f"--only {shlex.quote(text_of(workload))} --state '{state.name}'"
        )
        lines = [
            f"after: {text_of(workload)}{again}",
            f"state {state.name}, between operations {state.floor} and {state.ceiling}:",
            *(f"  {problem}" for problem in problems[:8]),
            f"again: {command}",
        ]
        return "\n".join(lines)

    def _again(
        self, record: Record, state: State, outcome: Outcome, workload: Workload, seed: int
    ) -> None:
        """Crash in the recovery of `state`, and in that of a few disks which this leaves."""
        first = Recorder(bytes(state.image))
        self._recovery.recover_on(first)
        chance = random.Random(f"{seed} {state.name}")
        for second in crash_states(bytes(state.image), first.events, sample=8, seed=seed):
            self._after(record, state, second, outcome, workload, seed, f", crash {second.name}")
            if chance.randrange(12):
                continue
            again = Recorder(bytes(second.image))
            self._recovery.recover_on(again)
            for third in crash_states(bytes(second.image), again.events, sample=4, seed=seed):
                name = f", crashes {second.name} and {third.name}"
                self._after(record, state, third, outcome, workload, seed, name)

    def _after(
        self,
        record: Record,
        state: State,
        crashed: State,
        outcome: Outcome,
        workload: Workload,
        seed: int,
        name: str,
    ) -> None:
        outcome.twice += 1
        recovered = self._recovered(crashed, outcome)
        self._judge(record, state, recovered, outcome, workload, seed, name + " in its recovery")


def walk_bitmap(image: bytes) -> int:
    """The block of the data bitmap."""
    return int.from_bytes(image[44:48], "little")


def paths(space: Space) -> dict[str, int]:
    """The paths of the base image, for a look."""
    return paths_of(space.start.tree)
