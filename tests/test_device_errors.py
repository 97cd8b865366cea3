"""A device that fails: the n-th read, write or barrier, once or from then on.

Every operation meets the failure at every access that it makes, or that the sync
and the unmount after it make, without and with a journal.  Whatever happens:

* the caller gets the device's error, from the operation or from the sync, or nothing
  has failed for it;
* an operation that failed has not happened, as far as callers see;
* after a failed sync the filesystem is read-only, and says so until it is unmounted;
* on the image, once the device works again, a mount finds what was durable before,
  with the operation or without it, and nothing is left to repair.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

import vsfs
from tests.support.crash_check import (
    Window,
    problems_with_journal,
    problems_without_journal,
    unlike,
)
from tests.support.crash_recovery import Recovery, mount_quietly, quiet, tree_as_mounted
from tests.support.crash_runs import Space
from tests.support.crash_workloads import Workload, apply, copy_of, parse, run
from tests.support.damage import Image
from tests.support.images import KIB, blank, errno_of, mount
from tests.support.rawwalk import walk
from vsfs.device import Access, FailingDevice, MemoryDevice

_NAME: Final = "n" * 60
#: What goes before, and is durable; then the operation that meets the failure.
WORKLOADS: Final = (
    "create bar",
    "; ".join(f"create A/{_NAME}{number}" for number in range(7)),  # it grows
    "mkdir bar",
    "symlink bar 20",
    "symlink bar 1500",
    "write foo 100 600",
    "write foo 30000 600",
    "append foo 500",
    "append foo 9000",
    "truncate foo 300",
    "truncate foo 1500",
    "append foo 9000, sync; truncate foo 100",
    "append foo 20000, sync; truncate foo 7000",
    "setxattr foo 300",
    "setxattr A 50",
    "removexattr foo",
    "link foo B/foo",
    "unlink foo",
    "append foo 20000, sync; unlink foo",
    "drop A/foo",
    "append A/foo 20000, sync; drop A/foo",
    "rmdir B",
    "rename foo bar",
    f"rename foo {_NAME}",
    "rename foo B/foo",
    "rename foo A/foo",
    "rename A/foo foo",
    "rename A B",
    "rename A B/A",
)


class Failure(NamedTuple):
    """Which accesses fail, and how: `kind` is "read", "write" or "barrier"."""

    kind: str
    code: int
    once: bool

    def __str__(self) -> str:
        return f"{self.kind}, {errno.errorcode[self.code]}, {'once' if self.once else 'for ever'}"


FAILURES: Final = (
    Failure("read", errno.EIO, once=True),
    Failure("read", errno.EIO, once=False),
    Failure("write", errno.EIO, once=True),
    Failure("write", errno.ENOSPC, once=False),
    Failure("barrier", errno.EIO, once=True),
    Failure("barrier", errno.EIO, once=False),
)


class Switch:
    """Makes the `nth` access of the kind fail while it is on."""

    def __init__(self, failure: Failure, nth: int) -> None:
        self.failure = failure
        self.nth = nth
        self.is_on = False
        self.seen = 0

    def __call__(self, access: Access) -> bool:
        if not self.is_on or access.operation != self.failure.kind:
            return False
        self.seen += 1
        return self.seen == self.nth if self.failure.once else self.seen >= self.nth

    def call(self, call: Callable[..., object], *args: object) -> int:
        """The errno with which `call` fails under the failure; 0 if it does not."""
        self.is_on = True
        try:
            return errno_of(call, *args)
        finally:
            self.is_on = False


class Case:
    """A space to work in, with what is known of the disks that follow from it."""

    def __init__(self, journal_blocks: int | None) -> None:
        self.space = Space(journal_blocks, size=128 * 512)
        self.recovery = Recovery()

    def prepare(self, workload: Workload) -> tuple[bytes, Window]:
        """The image before the last operation, and the states before and after it."""
        device = MemoryDevice(bytearray(self.space.image))
        model, inos = copy_of(self.space.start), dict(self.space.inos)
        image = b""
        for number, op in enumerate(workload, 1):
            image = bytes(device.image)
            with mount_quietly(device) as fs:
                file = apply(model, op, number, run(fs, op, number))
                if file is not None:
                    inos[file] = fs.lstat("/" + op.paths[-1]).st_ino
        return image, Window(model.states[-2:], inos)

    def problems_after(self, window: Window, image: bytearray) -> list[str]:
        """What is wrong with an image, after a mount has recovered it."""
        recovered = self.recovery.recover(image)
        judge = problems_with_journal if self.space.journal_blocks else problems_without_journal
        return list(recovered.problems) or judge(window, recovered.files)


@pytest.fixture(scope="module", params=[None, 16], ids=["no-journal", "journal"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("failure", FAILURES, ids=str)
@pytest.mark.parametrize("text", WORKLOADS)
def test_a_failing_device_breaks_no_promise(case: Case, text: str, failure: Failure) -> None:
    workload = parse(text)
    image, window = case.prepare(workload)
    nth = 1
    with quiet():
        while is_met(case, workload, bytearray(image), window, Switch(failure, nth)):
            nth += 1
    assert nth > 1 or failure.kind == "read"


def is_met(
    case: Case, workload: Workload, image: bytearray, window: Window, switch: Switch
) -> bool:
    """Do the last operation, a sync and an unmount under a failure; whether it was met."""
    number, op = len(workload), workload[-1]
    allowed = (0, switch.failure.code, errno.EIO)
    fs = mount_quietly(FailingDevice(MemoryDevice(image), switch, switch.failure.code))
    failed = switch.call(run, fs, op, number)
    assert failed in allowed[:2]
    assert list(unlike(window, 0 if failed else 1, tree_as_mounted(fs))) == []
    sync_failed = switch.call(fs.sync)
    assert sync_failed in allowed
    if sync_failed:
        assert errno_of(fs.mkdir, "/later") == errno.EROFS
        assert errno_of(fs.sync) == errno.EIO
    assert switch.call(fs.unmount) in allowed
    durable = Window(window.states if failed or sync_failed else window.states[1:], window.inos)
    assert case.problems_after(durable, image) == [], f"access {switch.nth}"
    return switch.seen >= switch.nth


# -- reading --------------------------------------------------------------------------

QUERIES: Final[dict[str, Callable[[vsfs.FileSystem], object]]] = {
    "stat": lambda fs: fs.stat("/A/foo"),
    "listdir": lambda fs: fs.listdir("/A"),
    "read": lambda fs: read(fs, "/foo"),
    "read through an indirect block": lambda fs: read(fs, "/B/foo"),
    "readlink": lambda fs: fs.readlink("/bar"),
    "getxattr": lambda fs: fs.getxattr("/foo", "user.x"),
    "listxattr": lambda fs: fs.listxattr("/foo"),
}


def read(fs: vsfs.FileSystem, path: str) -> bytes:
    fd = fs.open(path, os.O_RDONLY)
    try:
        return fs.read(fd, 100_000)
    finally:
        fs.close(fd)


@pytest.mark.parametrize("name", QUERIES)
def test_a_failed_read_reaches_the_caller_and_does_no_harm(case: Case, name: str) -> None:
    image, _ = case.prepare(parse("create B/foo; append B/foo 9000; symlink bar 1500; mkdir C"))
    expected = QUERIES[name](mount_quietly(MemoryDevice(bytearray(image))))
    nth, failed = 0, errno.EIO
    while failed:
        nth += 1
        switch = Switch(Failure("read", errno.EIO, once=True), nth)
        fs = mount_quietly(FailingDevice(MemoryDevice(bytearray(image)), switch))
        failed = switch.call(QUERIES[name], fs)
        assert failed == (errno.EIO if switch.seen >= nth else 0)
        assert QUERIES[name](fs) == expected
        fs.mkdir("/later")
        fs.unmount()
    assert nth > 1


# -- mounting -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["read", "write", "barrier"])
def test_a_mount_that_fails_leaves_what_the_next_one_recovers(case: Case, kind: str) -> None:
    """Whichever write of a commit the device failed at, and whichever access of the mount."""
    workload = parse("create bar, sync; rename foo B/foo")
    image, window = case.prepare(workload)
    with quiet():
        for cut in itertools.count(1):
            crashed = bytearray(image)
            switch = Switch(Failure("write", errno.EIO, once=False), cut)
            fs = mount_quietly(FailingDevice(MemoryDevice(crashed), switch))
            run(fs, workload[-1], 2)
            if not switch.call(fs.sync):
                break
            switch.call(fs.unmount)
            for nth in itertools.count(1):
                again = bytearray(crashed)
                switch = Switch(Failure(kind, errno.EIO, once=True), nth)
                device = FailingDevice(MemoryDevice(again), switch)
                failed = switch.call(mount_quietly, device)
                assert failed == (errno.EIO if switch.seen >= nth else 0)
                if not failed:
                    break
                assert case.problems_after(window, again) == []
            assert nth > 1
    assert cut > 3


# -- what is left for later -------------------------------------------------------------


def test_a_large_file_that_cannot_be_freed_is_freed_later() -> None:
    """Its blocks are more than one transaction of the journal, so the name goes first."""
    device = blank(12 * 1024 * KIB, block_size=512, journal_blocks=16)
    with mount(device) as fs:
        before = fs.statvfs("/").f_bfree
        fd = fs.open("/big", os.O_CREAT | os.O_WRONLY)
        for _ in range(9):
            fs.write(fd, bytes(1024 * KIB))
    image = bytes(device.image)
    for once in (True, False):
        switch = Switch(Failure("read", errno.EIO, once=once), 4)
        below = MemoryDevice(bytearray(image))
        fs = mount(FailingDevice(below, switch))
        with quiet():
            assert switch.call(fs.unlink, "/big") == 0
            assert not fs.exists("/big")
            assert switch.call(fs.unmount) == 0
        with mount(below) as fs, quiet():
            assert fs.statvfs("/").f_bfree == before
        assert walk(below.image).findings == []


def test_a_sync_after_damage_says_what_could_not_be_written() -> None:
    """The commit that meeting damage makes has failed, and nobody was told."""
    below = blank()
    with mount(below) as fs:
        fs.mkdir("/d")
        fs.symlink("x" * 200, "/d/long")
    broken = Image(below.image)
    broken.put_block(broken.get(broken.find("/d"), "direct0"), b"\xff" * 64)
    switch = Switch(Failure("write", errno.EIO, once=False), 1)
    fs = mount(FailingDevice(MemoryDevice(broken.data), switch))
    fs.mkdir("/new")
    with quiet():
        assert switch.call(fs.listdir, "/d") == errno.EUCLEAN
    assert errno_of(fs.sync) == errno.EIO
    fs.unmount()
