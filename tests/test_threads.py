"""Threads on one filesystem: what they see and leave equals the same calls one by one.

Each call holds the volume's lock, so the calls have an order.  An observer notes it,
inside of the lock; the same calls, made again in this order by one thread on a new
filesystem, must give the same results and leave the same image.  That is
linearizability: the order lies between the begin and the end of every call.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vsfs
from tests.support.images import blank, image_of, mount, snapshot
from tests.support.rawwalk import walk
from vsfs.process import Call

SECONDS = 30
RDWR = os.O_RDWR | os.O_CREAT
Step = tuple[Any, ...]


@pytest.fixture(autouse=True)
def _switching_often() -> Iterator[None]:
    """Threads change places after nearly every instruction that lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(*jobs: Callable[[], object]) -> None:
    """Run the jobs at once; raise what one of them raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        try:
            start.wait(SECONDS)
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a deadlock"
    if errors:
        raise errors[0]


def comparable(result: Any) -> object:
    """What of a result says the same each time: all but times."""
    if isinstance(result, os.stat_result):
        return result.st_ino, result.st_mode, result.st_nlink, result.st_size
    if isinstance(result, vsfs.FileSystem):
        return result.process.pid
    return sorted(result) if isinstance(result, list) else result


class Order:
    """Notes the order in which calls happen, and their results."""

    def __init__(self) -> None:
        self.calls: list[tuple[Call, object]] = []

    def enter(self, call: Call) -> None:
        """Its place in the order is where it ends; the lock is held until then."""

    def leave(self, call: Call, result: object, error: BaseException | None) -> None:
        outcome = error.errno if isinstance(error, OSError) else comparable(result)
        self.calls.append((call, outcome))


# -- any calls ----------------------------------------------------------------------

PATHS = st.sampled_from(["/a", "/b", "/d", "/d/a", "/d/e", "/d/e/b"])
FDS = st.integers(3, 6)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("open"),
            PATHS,
            st.sampled_from([RDWR, os.O_RDONLY, RDWR | os.O_APPEND, RDWR | os.O_EXCL]),
        ),
        st.tuples(st.just("write"), FDS, st.binary(min_size=1, max_size=700)),
        st.tuples(st.just("read"), FDS, st.integers(0, 900)),
        st.tuples(st.just("lseek"), FDS, st.integers(0, 2000), st.just(os.SEEK_SET)),
        st.tuples(st.just("ftruncate"), FDS, st.integers(0, 2000)),
        st.tuples(st.sampled_from(["close", "dup", "fsync", "fstat"]), FDS),
        st.tuples(st.just("dup2"), FDS, FDS),
        st.tuples(st.sampled_from(["mkdir", "rmdir", "unlink", "stat", "listdir", "chdir"]), PATHS),
        st.tuples(st.sampled_from(["rename", "link", "symlink"]), PATHS, PATHS),
    ),
    min_size=3,
    max_size=12,
)


def small() -> vsfs.FileSystem:
    """A filesystem that a few of these calls may fill."""
    return mount(blank(64 * 1024, block_size=512, inode_count=16))


def prepared() -> tuple[vsfs.FileSystem, vsfs.FileSystem]:
    """Two processes that have two open files in common."""
    fs = small()
    fs.mkdir("/d")
    fs.open("/a", RDWR)
    fs.open("/d/a", RDWR | os.O_APPEND)
    return fs, fs.fork()


@settings(max_examples=60)
@given(threads=st.tuples(STEPS, STEPS, STEPS))
def test_calls_of_threads_happen_in_some_order(threads: tuple[list[Step], ...]) -> None:
    fs, child = prepared()
    order = Order()
    fs.process.table.observers.append(order)

    def job(process: vsfs.FileSystem, steps: list[Step]) -> None:
        for name, *arguments in steps:
            with contextlib.suppress(OSError):
                getattr(process, name)(*arguments)

    first, second, third = threads
    in_threads(  # two threads of one process, one of the other
        lambda: job(fs, first), lambda: job(fs, second), lambda: job(child, third)
    )
    fs.process.table.observers.clear()
    assert len(order.calls) == sum(map(len, threads))

    again, again_child = prepared()
    processes = {1: again, 2: again_child}
    for call, outcome in order.calls:
        try:
            result = comparable(getattr(processes[call.pid], call.name)(*call.args))
        except OSError as error:
            result = error.errno
        assert (call, outcome) == (call, result)
    assert snapshot(fs) == snapshot(again)
    for one in (fs, again):
        one.unmount()
        assert walk(image_of(one)).findings == []


# -- no update is lost ----------------------------------------------------------------


def records(thread: int, size: int) -> list[bytes]:
    """What one thread writes: no two records are equal."""
    return [f"{thread}:{number}".encode().ljust(size, b".") for number in range(30)]


@pytest.mark.parametrize("flags", [RDWR | os.O_APPEND, RDWR])
@pytest.mark.parametrize("size", [10, 700])
def test_no_record_is_lost_or_torn_when_all_append(flags: int, size: int) -> None:
    """With O_APPEND by an open of one's own; without it by an offset that fork shares."""
    fs = mount(blank(512 * 1024, block_size=512))
    shared = fs.open("/log", flags)

    def writer(thread: int) -> Callable[[], None]:
        process = fs.fork()
        fd = process.open("/log", flags) if flags & os.O_APPEND else shared

        def write() -> None:
            for record in records(thread, size):
                assert process.write(fd, record) == size

        return write

    in_threads(*(writer(thread) for thread in range(4)))
    whole = fs.pread(shared, 200 * size, 0)
    found = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert len(found) == 4 * 30
    for thread in range(4):
        mine = [record for record in found if record.startswith(f"{thread}:".encode())]
        assert mine == records(thread, size)
    fs.unmount()
    assert walk(image_of(fs)).findings == []


def test_of_several_threads_that_make_a_name_exactly_one_does() -> None:
    fs = small()
    made: list[int] = []

    def make(process: vsfs.FileSystem) -> None:
        for number in range(5):
            try:
                process.mkdir(f"/{number}")
            except FileExistsError:
                continue
            made.append(number)

    in_threads(*(functools.partial(make, fs.fork()) for _ in range(4)))
    assert sorted(made) == [0, 1, 2, 3, 4]
    fs.unmount()
    assert walk(image_of(fs)).findings == []


def test_no_name_lands_in_a_directory_that_is_removed_under_its_path() -> None:
    """Its inode may be another directory's by then; so walk and change are one step."""
    fs = small()

    def come_and_go() -> None:
        for _ in range(60):
            fs.mkdir("/d")
            try:
                fs.rmdir("/d")
            except OSError:
                fs.unlink("/d/f")
                fs.rmdir("/d")

    def visit() -> None:
        for _ in range(60):
            with contextlib.suppress(FileNotFoundError):
                fs.close(fs.open("/d/f", RDWR))

    def take_its_inode() -> None:
        for _ in range(60):
            fs.mkdir("/other")
            fs.rmdir("/other")  # ENOTEMPTY if a visitor got into it

    in_threads(come_and_go, visit, take_its_inode)
    fs.unmount()
    assert walk(image_of(fs)).findings == []
