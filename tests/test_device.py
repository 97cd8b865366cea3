"""Devices: bounds, what the wrappers record, and how they fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.images import KIB, errno_of, fail_nth
from vsfs.device import (
    Access,
    BlockDevice,
    FailingDevice,
    FileDevice,
    Kind,
    LayeredDevice,
    MemoryDevice,
    PatchedDevice,
    RecordingDevice,
)
from vsfs.trace import TracedDevice


@pytest.fixture(params=["file", "memory", "wrapped"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockDevice]:
    """A device of 16 blocks of 512 bytes, full of 0x55."""
    content = b"\x55" * 8 * KIB
    image = tmp_path / "disk.img"
    image.write_bytes(content)
    made: BlockDevice = MemoryDevice(bytearray(content))
    if request.param != "memory":
        made = FileDevice(image)
    yield RecordingDevice(made) if request.param == "wrapped" else made
    made.close()


def test_a_write_is_read_back(device: BlockDevice) -> None:
    device.write(3, b"three" * 200)
    assert device.read(3, 1000) == b"three" * 200


def test_an_access_starts_inside_a_block_and_runs_over_the_next(device: BlockDevice) -> None:
    device.write(1, b"A" * 600, 500)
    assert device.read(1, 500) == b"\x55" * 500
    assert device.read(2, 600) == b"A" * 588 + b"\x55" * 12


def test_block_numbers_count_in_blocks_of_the_size_that_is_set(device: BlockDevice) -> None:
    device.block_size = 4096
    device.write(1, b"B")
    device.block_size = 512
    assert device.read(8, 1) == b"B"


def test_the_last_byte_can_be_read_and_written(device: BlockDevice) -> None:
    device.write(15, b"Z", 511)
    assert device.read(15, 1, 511) == b"Z"
    assert device.size == 8 * KIB


@pytest.mark.parametrize(("block_no", "size", "offset"), [(15, 513, 0), (16, 1, 0), (15, 2, 511)])
def test_an_access_past_the_end_is_an_io_error(
    device: BlockDevice, block_no: int, size: int, offset: int
) -> None:
    assert errno_of(device.read, block_no, size, offset) == errno.EIO
    assert errno_of(device.write, block_no, bytes(size), offset) == errno.EIO
    assert device.size == 8 * KIB
    assert device.read(15, 512) == b"\x55" * 512


def test_a_memory_device_never_changes_its_length() -> None:
    device = MemoryDevice(bytearray(1024))
    device.write(1, bytearray(b"x" * 512))
    device.write(0, memoryview(b"y" * 512))
    assert device.image == b"y" * 512 + b"x" * 512
    device.barrier()
    device.close()


def test_a_file_device_keeps_its_bytes_after_it_is_closed(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1024))
    device = FileDevice(image)
    device.write(1, b"kept")
    device.barrier()
    device.close()
    assert image.read_bytes()[512:516] == b"kept"


def test_a_read_only_file_device_refuses_writes(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1024))
    device = FileDevice(image, read_only=True)
    try:
        assert device.read_only
        assert errno_of(device.write, 0, b"x") == errno.EBADF
    finally:
        device.close()


def test_what_cannot_hold_blocks_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert errno_of(FileDevice, tmp_path, read_only=True) == errno.EISDIR
    assert errno_of(FileDevice, tmp_path / "fifo") == errno.EINVAL
    assert errno_of(FileDevice, tmp_path / "missing") == errno.ENOENT


def test_a_resized_file_grows_by_a_hole_and_shrinks(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"\x55" * 512)
    device = FileDevice(image)
    device.resize(2048)
    assert device.read(1, 1536) == bytes(1536)
    device.resize(512)
    device.close()
    assert image.read_bytes() == b"\x55" * 512


def test_punched_bytes_read_as_zeroes_and_their_neighbours_stay(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"\x55" * 64 * KIB)
    device = FileDevice(image)
    punched = device.punch(8 * KIB, 16 * KIB)
    device.close()
    middle = bytes(16 * KIB) if punched else b"\x55" * 16 * KIB
    expected = b"\x55" * 8 * KIB + middle + b"\x55" * 40 * KIB
    assert image.read_bytes() == expected


def test_a_recording_device_notes_each_access_in_order() -> None:
    device = RecordingDevice(MemoryDevice(bytearray(1024)))
    device.write(1, b"hi", 10, Kind.DIRECTORY, 2)
    device.read(1, 4, 10, Kind.INODE_TABLE, 7)
    device.barrier()
    assert device.accesses == [
        Access("write", 1, 10, 2, Kind.DIRECTORY, 2, b"hi"),
        Access("read", 1, 10, 4, Kind.INODE_TABLE, 7),
        Access("barrier"),
    ]


def test_a_recorded_write_keeps_its_bytes_when_the_caller_reuses_them() -> None:
    device = RecordingDevice(MemoryDevice(bytearray(1024)))
    content = bytearray(b"before")
    device.write(0, content)
    content[:] = b"after!"
    assert device.accesses[0].content == b"before"


def test_a_wrapper_passes_its_block_size_on() -> None:
    below = MemoryDevice(bytearray(2048))
    device = RecordingDevice(below)
    device.block_size = 1024
    device.write(1, b"x")
    assert below.image[1024:1025] == b"x"


@pytest.mark.parametrize(
    "layer",
    [LayeredDevice, RecordingDevice, TracedDevice, lambda below: PatchedDevice(below, {})],
    ids=["plain", "recording", "traced", "patched"],
)
def test_a_layer_knows_the_holes_of_the_file_below(
    layer: Callable[[BlockDevice], BlockDevice], tmp_path: Path
) -> None:
    below = with_a_hole(tmp_path / "disk.img")
    expected = [below.next_data(start) for start in range(0, below.size, 4 * KIB)]
    device = layer(below)
    assert expected == [device.next_data(start) for start in range(0, below.size, 4 * KIB)]
    device.close()


def test_a_patch_in_a_hole_is_data(tmp_path: Path) -> None:
    below = with_a_hole(tmp_path / "disk.img")
    below.block_size = 4 * KIB
    first_behind = below.next_data(0)
    device = PatchedDevice(below, {20: b"p" * 4 * KIB, 300: b"q" * 4 * KIB})
    assert min(20 * 4 * KIB, first_behind) == device.next_data(0)
    assert 20 * 4 * KIB + 1 == device.next_data(20 * 4 * KIB + 1)
    assert min(300 * 4 * KIB, below.next_data(21 * 4 * KIB)) == device.next_data(21 * 4 * KIB)
    assert below.next_data(301 * 4 * KIB) == device.next_data(301 * 4 * KIB)
    device.close()


def with_a_hole(image: Path) -> FileDevice:
    """A file of 2 MiB with data at 1 MiB and a hole before and behind it."""
    with image.open("wb") as file:
        file.truncate(2 << 20)
        file.seek(1 << 20)
        file.write(b"data")
    return FileDevice(image)


def test_a_failing_device_fails_where_it_is_told_to_and_nowhere_else() -> None:
    below = MemoryDevice(bytearray(1024))
    device = fail_nth(below, "write", 2, errno.ENOSPC)
    device.write(0, b"1")
    assert errno_of(device.write, 0, b"2") == errno.ENOSPC
    assert device.read(0, 1) == b"1"
    device.write(0, b"3")
    assert below.image[0:1] == b"3"


def test_a_failing_device_can_fail_barriers_and_reads_for_ever() -> None:
    device = FailingDevice(MemoryDevice(bytearray(512)), lambda access: access.operation != "write")
    device.write(0, b"x")
    for _ in range(3):
        assert errno_of(device.barrier) == errno.EIO
        assert errno_of(device.read, 0, 1) == errno.EIO


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_of_block_has_a_name_for_people(kind: Kind) -> None:
    assert kind.label == kind.label.lower()
    assert "_" not in kind.label
