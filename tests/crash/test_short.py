"""The plug pulled everywhere, in the short form: fixed seeds, well under a minute.

``make crash`` is the long form; it says how to repeat a failure, and so do these.
"""

from __future__ import annotations

import itertools
import random

import pytest

from tests.support.crash_runs import Outcome, Space
from tests.support.crash_workloads import Workload, parse, random_workload, sequences

SEED = 1
MODES = pytest.mark.parametrize("blocks", [None, 16], ids=["no-journal", "journal"])

#: What has gone wrong once, or is known to go wrong elsewhere.
KNOWN = (
    # the header of a transaction that was installed, and a log that was begun over it
    "create bar, fsync; create B/foo, fsync",
    # a directory that is removed after its file has moved out
    "rename A/foo B/foo; rmdir A",
    "rename A/foo B/foo; rename B A, fsync",
    # an old name kept by a link while a new file replaces it
    "link A/foo bar; rename foo A/foo",
    "link foo B/foo; unlink foo, sync",
    # a name made again, a rename back and forth
    "unlink foo; create foo; append foo 500, fsync; unlink A/foo, sync",
    "rename foo A/bar; rename A/foo foo; rename A/bar A/foo, fsync",
    # a file that is written, renamed over another, written again
    "create bar; append bar 700; rename bar foo; append foo 700, fsync",
    # cut off, and grown over the old end
    "truncate A/foo 300; append A/foo 900, sync; truncate A/foo 0; truncate A/foo 1300",
    # indirect blocks, new and cut off
    "append foo 9000, fsync; truncate foo 7000; append foo 400, sync; truncate foo 100",
    "write foo 30000 600, sync; unlink foo; create bar; append bar 9000, fsync",
    # open without a name
    "drop A/foo, fsync; create bar; append bar 2000, sync",
)


def examine(space: Space, workloads: list[Workload], twice: int = 0) -> Outcome:
    """All of them together."""
    total = Outcome()
    for workload in workloads:
        outcome = space.examine(workload, seed=SEED, twice=twice)
        total.states += outcome.states
        total.twice += outcome.twice
        total.failures += outcome.failures
    assert not total.failures, "\n\n".join(["", *total.failures[:10]])
    return total


@MODES
def test_one_operation(blocks: int | None) -> None:
    space = Space(blocks, sample=4)
    total = examine(space, list(sequences(1, space.start)))
    assert total.states > 1000


@MODES
def test_two_operations(blocks: int | None) -> None:
    space = Space(blocks, sample=6)
    workloads = list(sequences(2, space.start))
    assert len(workloads) > 10_000  # of which make crash does all
    chosen = random.Random(SEED).sample(workloads, 14 if blocks else 120)
    total = examine(space, chosen, twice=200)
    assert total.states > 1500
    assert total.twice > 10


@MODES
def test_what_has_gone_wrong_before(blocks: int | None) -> None:
    space = Space(blocks, sample=2)
    examine(space, list(map(parse, KNOWN)), twice=400)


@MODES
def test_what_a_kernel_forgets_after_the_operation(blocks: int | None) -> None:
    """Inodes that are freed just before the commit, with others or alone."""
    space = Space(blocks, sample=2, kernel=True)
    removing = [
        workload
        for workload in sequences(2, space.start)
        if all(op.verb in ("unlink", "rmdir", "rename", "drop") for op in workload)
    ]
    chosen = random.Random(SEED).sample(removing, 6 if blocks else 40)
    examine(space, [*map(parse, KNOWN), *chosen], twice=400)


@pytest.mark.parametrize("block_size", [512, 1024, 4096])
@MODES
def test_longer_sequences(blocks: int | None, block_size: int) -> None:
    """Indirect blocks, directories of several blocks, open files without names."""
    size = max(64 * block_size, 64 * 1024)
    space = Space(blocks, size=size, block_size=block_size, sample=1)
    seeds = range(1 if blocks else 2)
    workloads = [random_workload(seed, space.start, 6 if blocks else 10) for seed in seeds]
    examine(space, workloads, twice=1000)


@pytest.mark.parametrize("kernel", [False, True])
@MODES
def test_a_full_disk(blocks: int | None, kernel: bool) -> None:
    """Commits in the middle of an operation, and operations that fail."""
    size = (56 if blocks else 36) * 512
    space = Space(blocks, size=size, inode_count=16, sample=2, kernel=kernel)
    text = (
        "append foo 6000; append A/foo 6000, sync; unlink foo; create bar; append bar 6000; "
        "append bar 6000; unlink A/foo; append bar 9000, fsync; truncate bar 0; "
        "append bar 3000; mkdir C"
    )
    examine(space, [parse(text)], twice=1000)


def test_a_record_is_the_same_each_time() -> None:
    """What repeats a failure: the states of a workload have the same names each time."""
    names = []
    for _ in range(2):
        space = Space(16)
        record = space.record(parse("create bar, fsync; rename foo A/foo"))
        names.append(record.events)
    assert names[0] == names[1]


def test_every_state_of_two_sectors_is_built_once() -> None:
    """The canonical form: one version of each sector."""
    from tests.support.crashes import Recorder, crash_states

    device = Recorder(bytes(2048))
    device.block_size = 512
    device.write(0, b"a" * 1024)
    device.write(1, b"b" * 512)
    device.barrier()
    device.write(2, b"c" * 512)
    found = [bytes(state.image) for state in crash_states(bytes(2048), device.events)]
    first = list(itertools.product((b"\0", b"a"), (b"\0", b"a", b"b")))
    expected = [a * 512 + b * 512 + bytes(1024) for a, b in first]
    expected.append(b"a" * 512 + b"b" * 512 + b"c" * 512 + bytes(512))
    assert sorted(found) == sorted(expected)
