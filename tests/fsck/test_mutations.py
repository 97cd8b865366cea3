"""Images broken at random: a check ends, a repair repairs, and nothing else is harmed.

``python -m tests.fsck.long_run`` does the same to many more.
"""

from __future__ import annotations

import os
import stat
import tracemalloc
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vsfs
from tests.conftest import MORE
from tests.fsck.long_run import run, table
from tests.fsck.mutants import BASES, nth, subject
from tests.support.examine import Subject, examine, is_unharmed, was_hit
from tests.support.images import blank, errno_of, image_of, mount
from tests.support.mutation import KINDS, Mutant, mutant
from tests.support.rawwalk import walk
from tests.support.readers import CountingDevice, write
from vsfs.device import MemoryDevice
from vsfs.errors import VsfsError
from vsfs.fsck import check

SEED: Final = int(os.environ.get("VSFS_MUTANT_SEED", "1"))
IN_CI: Final = 2000
MEMORY: Final = 100 * 2**20


def test_the_promises_hold_for_broken_images() -> None:
    """All processors have a share of them, as they do in the long run."""
    totals = run(SEED, IN_CI, os.cpu_count() or 1)
    print(table(totals, SEED, 0))
    assert totals.count == IN_CI
    assert not totals.failures, f"{len(totals.failures)} failures: {totals.failures[0]}"


def test_a_number_always_gives_the_same_image() -> None:
    for number in range(20):
        assert nth(SEED, number)[1] == nth(SEED, number)[1]


def test_the_images_are_broken_in_every_way() -> None:
    """And few are as they were."""
    kinds: set[str] = set()
    unbroken = 0
    for number in range(300):
        made_from, broken = nth(SEED, number)
        kinds.update(broken.kinds)
        unbroken += not was_hit(made_from, broken.data)
    assert kinds == set(KINDS)
    assert unbroken < 30


def test_a_check_needs_little_memory() -> None:
    for number in range(60):
        _, broken = nth(SEED, number)
        device = CountingDevice(broken.data)
        tracemalloc.start()
        try:
            check(device)
        except VsfsError:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < MEMORY
        assert device.largest <= max(len(broken.data), 512)


def test_a_name_may_be_missing_only_where_a_finding_says_so() -> None:
    """So the examiner does not let a repair lose one in silence."""
    made_from = subject("small")
    image = made_from.image.copy()
    image.remove("/dir/sub/file")
    broken, found = Mutant(bytes(image.data), (), ()), walk(image.data)
    with pytest.raises(AssertionError, match="was not damaged, and has no name"):
        is_unharmed(made_from, broken, found)
    report = check(MemoryDevice(image.data), decide=lambda _: False)
    assert [finding.rule.number for finding in report.left] == [405]
    is_unharmed(made_from, broken, found, report.left)


# -- trees of all shapes -----------------------------------------------------------

NAMES: Final = st.sampled_from([b"a", b"b", b"c" * 100, b"d" * 255, b"lost+found", b"#3"])
SIZES: Final = st.sampled_from([0, 1, 511, 512, 700, 7000, 90_000])
STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(
            ["file", "file", "mkdir", "mkdir", "link", "symlink", "node", "xattr", "unlink", "far"]
        ),
        st.integers(0, 20),
        NAMES,
        SIZES,
    ),
    min_size=3,
    max_size=40,
)


def build(fs: vsfs.FileSystem, steps: list[tuple[str, int, bytes, int]]) -> None:
    """A tree; steps that the filesystem refuses are left out."""
    directories, others = [b""], [b"/"]
    for what, where, name, size in steps:
        path = directories[where % len(directories)] + b"/" + name
        other = others[where % len(others)]
        if errno_of(step, fs, what, path, other, size) == 0 and what != "unlink":
            (directories if what == "mkdir" else others).append(path)


def step(fs: vsfs.FileSystem, what: str, path: bytes, other: bytes, size: int) -> None:
    """One of the steps, for `path`; `other` is a file that is there."""
    if what == "file":
        write(fs, path, path[-1:] * size)
    elif what == "far":
        write(fs, path, b"far", offset=size * 50)
    elif what == "mkdir":
        fs.mkdir(path)
    elif what == "link":
        fs.link(other, path)
    elif what == "symlink":
        fs.symlink(b"x" * (size % 300 + 1), path)
    elif what == "node":
        fs.mknod(path, stat.S_IFIFO | 0o600)
    elif what == "xattr":
        fs.setxattr(other, "user.a", b"v" * (size % 300))
    else:
        fs.unlink(path)


@settings(max_examples=40 * (MORE or 1))
@given(STEPS, st.sampled_from([512, 512, 1024, 4096]), st.integers(0, 2**32))
def test_the_promises_hold_for_any_tree(
    steps: list[tuple[str, int, bytes, int]], block_size: int, seed: int
) -> None:
    fs = mount(blank(128 * 1024, block_size=block_size, inode_count=40))
    build(fs, steps)
    fs.unmount()
    made_from = Subject(image_of(fs))
    for number in range(8):
        examine(made_from, mutant(made_from, seed, number))


def test_an_image_that_is_not_broken_is_clean() -> None:
    """But for the transaction that waits in one of them."""
    for base in set(BASES):
        made_from = subject(base)
        outcome = examine(made_from, Mutant(made_from.data, (), ()))
        assert outcome.status == ("repaired" if base == "waiting" else "clean")
        assert all(number > 700 for number in outcome.rules)
