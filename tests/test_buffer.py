"""The buffer cache: operations, transactions, and the order of writes."""

from __future__ import annotations

import errno
from itertools import groupby

import pytest

from tests.support.images import blank, errno_of, fail_nth
from tests.support.layers import Layers
from vsfs.buffer import Buffer, BufferCache
from vsfs.device import Access, FailingDevice, Kind, MemoryDevice, RecordingDevice
from vsfs.errors import CommitNeeded, Corrupt, ReadOnly
from vsfs.mkfs import plan

GEOMETRY = plan(64 * 1024, block_size=512)


def cache_on(
    device: MemoryDevice | RecordingDevice | FailingDevice, capacity: int = 8
) -> BufferCache:
    device.block_size = 512
    return BufferCache(device, GEOMETRY, capacity)


def numbered() -> MemoryDevice:
    """A device whose block n starts with the byte n."""
    image = bytearray(64 * 1024)
    image[::512] = bytes(range(128))
    device = MemoryDevice(image)
    device.block_size = 512
    return device


def put(cache: BufferCache, block_no: int, content: bytes, kind: Kind = Kind.DIRECTORY) -> Buffer:
    """Change the first bytes of a block in the running operation."""
    buffer = cache.read(block_no, kind)
    cache.modify(buffer)
    buffer.data[: len(content)] = content
    return buffer


def stages(device: RecordingDevice) -> list[list[int]]:
    """The blocks written between barriers."""
    parts = groupby(device.accesses, lambda access: access.operation == "barrier")
    return [
        [access.block_no for access in part if access.operation == "write"]
        for is_barrier, part in parts
        if not is_barrier
    ]


def writes(device: RecordingDevice) -> list[Access]:
    return [access for access in device.accesses if access.operation == "write"]


# -- blocks ---------------------------------------------------------------------


def test_a_block_is_read_from_the_device_once() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device)
    first = cache.read(5, Kind.DIRECTORY, 7)
    assert first.data[0] == 5
    assert cache.read(5, Kind.DIRECTORY, 7) is first
    assert device.accesses == [Access("read", 5, 0, 512, Kind.DIRECTORY, 7)]


def test_a_block_in_use_as_one_kind_is_damage_as_another() -> None:
    cache = cache_on(numbered())
    cache.read(5, Kind.DIRECTORY)
    with pytest.raises(Corrupt, match="in use as directory"):
        cache.read(5, Kind.INDIRECT)


def test_the_least_recently_used_clean_block_is_dropped() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device, capacity=3)
    for block_no in (1, 2, 3, 1, 4):
        cache.read(block_no, Kind.DIRECTORY)
    device.accesses.clear()
    cache.read(1, Kind.DIRECTORY)
    assert device.accesses == []
    cache.read(2, Kind.DIRECTORY)
    assert [access.block_no for access in device.accesses] == [2]


def test_a_dirty_block_stays_until_it_is_written() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device, capacity=2)
    cache.begin()
    dirty = put(cache, 1, b"dirty")
    for block_no in range(2, 60):
        cache.read(block_no, Kind.DIRECTORY)
    assert cache.read(1, Kind.DIRECTORY) is dirty
    cache.end()
    cache.commit()
    for block_no in range(2, 60):
        cache.read(block_no, Kind.DIRECTORY)
    assert cache.read(1, Kind.DIRECTORY).data[:5] == b"dirty"


def test_a_block_dropped_while_somebody_holds_it_can_still_be_changed() -> None:
    device = numbered()
    cache = cache_on(device, capacity=1)
    cache.begin()
    held = cache.read(1, Kind.DIRECTORY)
    cache.read(2, Kind.DIRECTORY)
    cache.modify(held)
    held.data[:4] = b"held"
    cache.end()
    cache.commit()
    assert device.read(1, 4) == b"held"


# -- operations -----------------------------------------------------------------


def test_nothing_reaches_the_device_before_a_commit() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device)
    cache.begin()
    put(cache, 1, b"new")
    cache.end()
    assert cache.dirty
    assert writes(device) == []
    cache.commit()
    assert not cache.dirty
    assert device.below.read(1, 3) == b"new"


def test_rollback_restores_every_block_of_the_operation_and_no_other() -> None:
    cache = cache_on(numbered())
    cache.begin()
    put(cache, 1, b"first")
    put(cache, 2, b"first")
    cache.end()
    cache.begin()
    put(cache, 2, b"later")
    put(cache, 2, b"again")
    put(cache, 3, b"later")
    cache.rollback()
    contents = [bytes(cache.read(block_no, Kind.DIRECTORY).data[:5]) for block_no in (1, 2, 3)]
    assert contents == [b"first", b"first", b"\x03\0\0\0\0"]


def test_rollback_takes_back_a_created_block() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device)
    cache.begin()
    cache.create(9, bytearray(b"new" + bytes(509)), Kind.DIRECTORY, 2)
    cache.rollback()
    assert cache.read(9, Kind.DIRECTORY).data[:3] == b"\x09\0\0"
    cache.commit()
    assert writes(device) == []


def test_rollback_brings_a_forgotten_block_back_dirty() -> None:
    device = numbered()
    cache = cache_on(device)
    cache.begin()
    put(cache, 4, b"waiting")
    cache.end()
    cache.begin()
    cache.forget(4)
    cache.rollback()
    cache.commit()
    assert device.read(4, 7) == b"waiting"


def test_a_forgotten_block_is_not_written() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device)
    cache.begin()
    put(cache, 4, b"useless")
    cache.forget(4)
    cache.end()
    cache.commit()
    assert writes(device) == []


def test_undo_actions_run_in_reverse_and_only_at_a_rollback() -> None:
    cache = cache_on(numbered())
    done: list[int] = []
    cache.begin()
    cache.undo(lambda: done.append(0))
    cache.end()
    cache.begin()
    cache.undo(lambda: done.append(1))
    cache.undo(lambda: done.append(2))
    cache.rollback()
    assert done == [2, 1]


def test_a_rolled_back_operation_leaves_nothing_in_the_image() -> None:
    layers = Layers()
    before = bytes(layers.memory.read(0, layers.memory.size))
    with layers.undone():
        inode = layers.inodes.allocate(0o100644, 0, 0, 0)
        inode.nlink = 1
        layers.blockmap.allocate(inode, 10, 20)
    layers.cache.commit()
    assert layers.memory.read(0, layers.memory.size) == before


# -- the order of a commit --------------------------------------------------------


@pytest.mark.parametrize(
    ("frees", "expected"),
    [
        (True, [[60], [10, 50], [42], [41], [40], [0]]),
        (False, [[60], [0, 2, 10, 50], [42], [1, 41], [40]]),
    ],
)
def test_a_commit_writes_stage_by_stage_with_a_barrier_behind_each(
    frees: bool, expected: list[list[int]]
) -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device, capacity=99)
    cache.begin()
    put(cache, 0, b"s", Kind.SUPERBLOCK)
    put(cache, 1, b"i", Kind.INODE_BITMAP)
    put(cache, 2, b"d", Kind.DATA_BITMAP)
    put(cache, 40, b"last", Kind.DIRECTORY)
    put(cache, 41, b"middle", Kind.DIRECTORY)
    put(cache, 42, b"first", Kind.DIRECTORY)
    put(cache, 50, b"p", Kind.INDIRECT)
    put(cache, 10, b"I", Kind.INODE_TABLE)
    cache.create(60, bytearray(512), Kind.DIRECTORY, 2)
    cache.create(61, bytearray(512), Kind.INDIRECT, 2)
    cache.order(42, 40)
    cache.end()
    if frees:
        cache.frees()
    device.accesses.clear()
    cache.commit()
    assert stages(device) == expected
    assert device.accesses[-1].operation == "barrier"


def test_neighbouring_blocks_of_a_stage_are_one_write() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device, capacity=99)
    cache.begin()
    for block_no in (13, 11, 12, 20):
        put(cache, block_no, bytes([100 + block_no]), Kind.INODE_TABLE)
    cache.end()
    cache.commit()
    assert [(access.block_no, access.size) for access in writes(device)] == [(11, 1536), (20, 512)]
    assert writes(device)[0].content[512:513] == bytes([112])


def test_file_data_is_durable_before_metadata_is_written() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device)
    cache.begin()
    put(cache, 10, b"I", Kind.INODE_TABLE)
    cache.data_written()
    cache.end()
    device.accesses.clear()
    cache.commit()
    assert [access.operation for access in device.accesses] == ["barrier", "write", "barrier"]


def test_file_data_alone_is_made_durable_by_a_commit() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device)
    cache.begin()
    cache.data_written()
    cache.end()
    cache.commit()
    cache.commit()
    assert [access.operation for access in device.accesses] == ["barrier"]


def test_two_renames_in_opposite_order_need_a_commit_between_them() -> None:
    cache = cache_on(numbered())
    cache.begin()
    put(cache, 5, b"x")
    cache.order(5, 6)
    assert cache.is_losing(6)
    assert not cache.is_losing(5)
    for first, then in ((6, 5), (6, 7), (7, 5)):
        with pytest.raises(CommitNeeded):
            cache.order(first, then)
    cache.order(5, 6)  # the same order again is fine,
    cache.order(6, 6)  # and so is one block that both names are in
    cache.end()
    cache.commit()
    assert not cache.is_losing(6)
    cache.order(6, 5)


def test_hooks_run_before_the_write_and_after_it() -> None:
    device = RecordingDevice(numbered())
    cache = cache_on(device)
    log: list[object] = []

    def encode() -> None:
        put(cache, 3, b"late")

    cache.prepare.append(encode)
    cache.prepare.append(lambda: log.append(len(writes(device))))
    cache.committed.append(lambda: log.append((len(writes(device)), cache.dirty)))
    cache.begin()
    put(cache, 8, b"x")
    cache.end()
    cache.commit()
    assert log == [0, (2, False)]
    assert device.below.read(3, 4) == b"late"


def test_a_commit_without_changes_touches_nothing() -> None:
    device = RecordingDevice(numbered())
    cache_on(device).commit()
    assert device.accesses == []


def test_a_transaction_that_grows_too_large_commits_by_itself() -> None:
    layers = Layers(blank(4 * 1024 * 1024, block_size=512))
    first = layers.geometry.data_start
    layers.cache.begin()
    for block_no in range(first, first + 2049):
        layers.cache.create(block_no, bytearray(512), Kind.DIRECTORY, 2)
    assert writes(layers.device) == []
    layers.cache.end()
    assert not layers.cache.dirty
    assert sum(access.size for access in writes(layers.device)) >= 2049 * 512


# -- failures ---------------------------------------------------------------------


def test_a_failed_commit_turns_the_filesystem_read_only() -> None:
    cache = cache_on(fail_nth(numbered(), "write", 1))
    cache.begin()
    buffer = put(cache, 5, b"new")
    cache.end()
    assert errno_of(cache.commit) == errno.EIO
    assert cache.failed
    with pytest.raises(ReadOnly):
        cache.begin()
    assert errno_of(cache.commit) == errno.EIO
    assert cache.read(5, Kind.DIRECTORY) is buffer  # what is in memory can still be read


@pytest.mark.parametrize("operation", ["write", "barrier"])
@pytest.mark.parametrize("nth", range(1, 5))
def test_a_failed_commit_loses_nothing_already_committed(operation: str, nth: int) -> None:
    memory = numbered()
    cache = cache_on(RecordingDevice(memory))
    cache.begin()
    put(cache, 5, b"kept")
    cache.end()
    cache.commit()
    cache = cache_on(fail_nth(memory, operation, nth))
    cache.begin()
    for block_no, kind in ((10, Kind.INODE_TABLE), (40, Kind.DIRECTORY), (1, Kind.INODE_BITMAP)):
        put(cache, block_no, b"new", kind)
    cache.create(60, bytearray(512), Kind.DIRECTORY, 2)
    cache.end()
    cache.frees()
    assert errno_of(cache.commit) == errno.EIO
    assert memory.read(5, 4) == b"kept"


def test_no_later_stage_is_written_after_a_failed_barrier() -> None:
    below = RecordingDevice(numbered())
    cache = cache_on(fail_nth(below, "barrier", 1))
    cache.begin()
    put(cache, 10, b"I", Kind.INODE_TABLE)
    put(cache, 40, b"D")
    cache.end()
    assert errno_of(cache.commit) == errno.EIO
    assert [access.block_no for access in writes(below)] == [10]
