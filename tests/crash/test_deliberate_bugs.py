"""Bugs put in on purpose: a test that finds none of them would prove nothing.

Each is patched into the code that writes; the crash tests, or the device that
watches the order of writes, must notice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import pytest

import vsfs.fsck.journal
import vsfs.journal
from tests.support.crash_order import OrderCheckingDevice
from tests.support.crash_recovery import quiet
from tests.support.crash_runs import Space
from tests.support.crash_workloads import parse
from tests.support.crashes import Recorder
from tests.support.images import KIB, blank, mount
from vsfs.bitmap import Bitmap
from vsfs.buffer import Buffer, BufferCache
from vsfs.device import BlockDevice, Kind
from vsfs.journal import Journal
from vsfs.layout import encode_journal

Install = Callable[[list[Buffer]], None]

WORKLOADS = (
    "create bar; append bar 500, fsync",
    "append foo 2000, fsync",
    "rename foo B/foo, sync",
    "unlink A/foo; create A/foo; append A/foo 1300, fsync",
    "mkdir bar, fsync; rename foo bar/foo, fsync",
    "create bar, fsync; create B/foo, fsync",
)


@pytest.fixture(autouse=True)
def _order_is_right(_order_of_writes: list[str]) -> Iterator[None]:
    """Instead of the one in conftest.py: here a wrong order is what is wanted."""
    yield
    _order_of_writes.clear()


def is_caught(journal_blocks: int | None) -> bool:
    """Whether some crash state of these workloads is wrong."""
    space = Space(journal_blocks, sample=1)
    return any(space.examine(parse(text)).failures for text in WORKLOADS)


def leave_out_barrier(
    monkeypatch: pytest.MonkeyPatch, owner: type, method: str, number: int
) -> None:
    """Have each call of `method` do without its barrier `number`, from 0."""
    original = getattr(owner, method)
    count = -1  # outside of a call nothing is left out

    def call(*args: object, **kwargs: object) -> object:
        nonlocal count
        count = number
        try:
            return original(*args, **kwargs)
        finally:
            count = -1

    for device in (Recorder, OrderCheckingDevice):
        barrier = device.barrier

        def perhaps(self: BlockDevice, barrier: Callable[..., None] = barrier) -> None:
            nonlocal count
            count -= 1
            if count != -1:
                barrier(self)

        monkeypatch.setattr(device, "barrier", perhaps)
    monkeypatch.setattr(owner, method, call)


def test_without_a_bug_nothing_is_caught() -> None:
    assert not is_caught(None)
    assert not is_caught(16)


@pytest.mark.parametrize(
    "number", [0, 1, 2], ids=["before-the-header", "before-the-install", "before-the-clear"]
)
def test_a_barrier_left_out_of_the_journal(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    leave_out_barrier(monkeypatch, Journal, "commit", number)
    assert is_caught(16)


def test_an_install_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Journal.commit

    def commit(self: Journal, buffers: Sequence[Buffer], install: Install) -> None:
        install(list(buffers))
        original(self, buffers, lambda _: None)

    monkeypatch.setattr(Journal, "commit", commit)
    assert is_caught(16)


def test_a_header_cleared_before_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Journal.commit

    def commit(self: Journal, buffers: Sequence[Buffer], install: Install) -> None:
        original(self, buffers, lambda _: None)
        install(list(buffers))

    monkeypatch.setattr(Journal, "commit", commit)
    assert is_caught(16)


def test_a_transaction_that_is_never_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "replay", lambda _: 0)
    assert is_caught(16)


def test_a_checksum_without_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header of one transaction is believed with the log of the next."""
    for module in (vsfs.journal, vsfs.fsck.journal):
        monkeypatch.setattr(module, "encode_journal", lambda header, _: encode_journal(header, []))
    assert is_caught(16)


def test_the_barrier_behind_the_data_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_barrier(monkeypatch, BufferCache, "write_in_order", 0)
    assert is_caught(None)


def test_an_fsync_without_any_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "barrier", lambda _: None)
    assert is_caught(None)
    assert is_caught(16)


def test_a_rename_whose_blocks_have_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BufferCache, "order", lambda *_: None)
    assert is_caught(None)


@pytest.mark.parametrize("blocks", [None, 16], ids=["no-journal", "journal"])
def test_freed_blocks_given_out_at_once(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    original = Bitmap.free

    def free(self: Bitmap, number: int, count: int = 1) -> None:
        original(self, number, count)
        self._apply_frees()

    monkeypatch.setattr(Bitmap, "free", free)
    assert is_caught(blocks)


def test_a_directory_block_in_front_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name moves out of its directory before it has moved into the other."""
    original = BufferCache._stage

    def stage(self: BufferCache, buffer: Buffer) -> int:
        return 0 if self.is_losing(buffer.block_no) else original(self, buffer)

    monkeypatch.setattr(BufferCache, "_stage", stage)
    assert is_caught(None)


# -- what only the watching device sees: a repair would make up for it ------------------


def violations(journal_blocks: int | None = None) -> list[str]:
    """What it notes while files are made, moved, changed and removed."""
    below = blank(128 * KIB, block_size=512, journal_blocks=journal_blocks)
    device = OrderCheckingDevice(below)
    with quiet():
        fs = mount(device)
        for step in _steps(fs):
            step()
            fs.sync()
        fs.unmount()
    return device.violations


def _steps(fs: object) -> Iterator[Callable[[], object]]:
    from vsfs import FileSystem

    assert isinstance(fs, FileSystem)
    yield lambda: fs.mkdir("/a")
    yield lambda: fs.mkdir("/b")
    yield lambda: put(fs, "/a/f", 700)
    yield lambda: put(fs, "/a/g", 9000)
    yield lambda: put(fs, "/a/g", 12_000)
    yield lambda: fs.setxattr("/a/f", "user.x", b"y")
    yield lambda: fs.rename("/a/f", "/b/f")
    yield lambda: fs.truncate("/a/g", 8000)
    yield lambda: fs.unlink("/a/g")
    yield lambda: fs.rmdir("/a")


def put(fs: object, path: str, size: int) -> None:
    from vsfs import FileSystem

    assert isinstance(fs, FileSystem)
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
    fs.write(fd, b"x" * size)
    fs.close(fd)


def staged(kinds: dict[Kind, int]) -> Callable[[BufferCache, Buffer], int]:
    """A function for the stage of a block, with other stages for these kinds."""
    original = BufferCache._stage
    return lambda self, buffer: kinds.get(buffer.kind, original(self, buffer))


def test_without_a_bug_the_order_is_right() -> None:
    assert violations() == []
    assert violations(16) == []


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_each_barrier_of_a_commit_is_needed(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    if number < 3:
        leave_out_barrier(monkeypatch, Journal, "commit", number)
        assert violations(16)
    leave_out_barrier(monkeypatch, BufferCache, "write_in_order", number)
    assert violations() or number >= 2  # few commits have so many stages


@pytest.mark.parametrize(
    ("kinds", "rule"),
    [
        ({Kind.DIRECTORY: 1, Kind.INODE_TABLE: 3}, "names inode"),
        ({Kind.DATA_BITMAP: 0}, "becomes free while"),
        ({Kind.INODE_TABLE: 0}, "points to block"),
        ({Kind.INDIRECT: 0}, "points to block"),
        ({Kind.INODE_TABLE: 5}, "becomes free while"),
    ],
    ids=["names-first", "bitmaps-first", "inodes-first", "pointers-first", "inodes-last"],
)
def test_a_wrong_order_of_stages(
    monkeypatch: pytest.MonkeyPatch, kinds: dict[Kind, int], rule: str
) -> None:
    monkeypatch.setattr(BufferCache, "_stage", staged(kinds))
    assert any(rule in what for what in violations())
