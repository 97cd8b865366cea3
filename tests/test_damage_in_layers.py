"""What the layers do with damaged structures, failing devices and numbers that wrap."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vsfs.bitmap
from tests.support.images import blank, errno_of, fail_nth, mount
from tests.support.layers import Layers
from vsfs.device import FileDevice, Kind, MemoryDevice, RecordingDevice
from vsfs.errors import Corrupt
from vsfs.inode import Inode
from vsfs.lock import wait_for_writer

FILE: Final = stat.S_IFREG | 0o644


# -- test_device.py -----------------------------------------------------------


@pytest.mark.parametrize("most", [1, 7, 511])
def test_short_reads_and_writes_of_the_host_are_carried_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """The kernel moves at most 2 GiB in one call; here it moves less."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(2048))
    content = bytes(range(256)) * 4
    pread, pwrite = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, most), at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:most], at))
    device = FileDevice(image)
    device.write(1, content, 100)
    assert device.read(1, 1024, 100) == content
    assert errno_of(device.read, 3, 513) == errno.EIO
    device.close()
    assert image.read_bytes() == bytes(612) + content + bytes(412)


def test_a_punched_file_takes_no_room(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"\x55" * 1024 * 1024)
    device = FileDevice(image)
    punched = device.punch(0, 1024 * 1024)
    device.close()
    if not punched:
        pytest.skip("the host's filesystem has no holes")
    assert image.read_bytes() == bytes(1024 * 1024)
    assert image.stat().st_blocks < 8


# -- test_lock.py -------------------------------------------------------------


@pytest.mark.timeout(5)
def test_a_fifo_keeps_no_reader_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert wait_for_writer(tmp_path / "fifo") == []


# -- test_buffer.py -----------------------------------------------------------


def test_a_block_that_is_in_memory_cannot_be_new() -> None:
    """The bitmap was damaged: it gave out a block that something uses."""
    layers = Layers()
    block = layers.geometry.data_start
    with layers.operation():
        buffer = layers.cache.read(block, Kind.DIRECTORY)
        layers.cache.modify(buffer)
        buffer.data[:5] = b"first"
    with pytest.raises(Corrupt, match="in use as directory"), layers.operation():
        layers.cache.create(block, bytearray(512), Kind.INDIRECT, 5)
    layers.cache.commit()
    assert layers.memory.read(block, 5) == b"first"


@pytest.mark.parametrize("operation", ["write", "barrier"])
@pytest.mark.parametrize("nth", range(1, 5))
def test_after_a_failed_commit_every_block_is_whole_and_old_or_new(
    operation: str, nth: int
) -> None:
    """Of a later stage nothing is new unless all of the earlier ones are."""
    memory = blank(block_size=512)
    layers = Layers(memory)
    before = memory.read(0, memory.size)
    layers.cache.device = fail_nth(layers.device, operation, nth)
    root = layers.geometry.data_start
    order = [root + 5, layers.geometry.inode_table_start, root, layers.geometry.data_bitmap_start]
    kinds = [Kind.DIRECTORY, Kind.INODE_TABLE, Kind.DIRECTORY, Kind.DATA_BITMAP]
    with layers.operation():
        layers.cache.create(order[0], bytearray(b"N" * 512), kinds[0], 2)
        for block_no, kind in zip(order[1:], kinds[1:], strict=True):
            buffer = layers.cache.read(block_no, kind)
            layers.cache.modify(buffer)
            buffer.data[:] = b"N" * 512
    layers.cache.frees()
    assert errno_of(layers.cache.commit) == errno.EIO
    written = [memory.read(block_no, 512) == b"N" * 512 for block_no in order]
    assert written == sorted(written, reverse=True)
    assert sum(written) == nth - (operation == "write")
    for block_no in range(memory.size // 512):
        if not (block_no in order and written[order.index(block_no)]):
            assert memory.read(block_no, 512) == before[block_no * 512 : (block_no + 1) * 512]


# -- test_bitmap.py -----------------------------------------------------------


def test_zeroes_past_the_end_are_counted_as_no_free_blocks() -> None:
    layers = Layers()
    geometry = layers.geometry
    last = geometry.inode_table_start - 1
    bits = layers.memory.read(last, 512)
    assert bits[-1] == 0xFF
    layers.memory.write(last, b"\0", 511)
    assert layers.bitmap.count_free() == geometry.data_blocks - 1


def test_a_search_does_not_start_over_from_what_is_known_to_be_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where all of that was in use before the mount."""
    layers = Layers(blank(block_size=4096), block_size=4096)
    for _ in range(30):
        layers.new_file()
    layers.cache.commit()
    again = Layers(layers.memory)
    starts: list[int] = []
    first_zero = vsfs.bitmap._first_zero

    def noted(data: bytearray, bit: int) -> int | None:
        starts.append(bit)
        return first_zero(data, bit)

    monkeypatch.setattr(vsfs.bitmap, "_first_zero", noted)
    numbers = [again.new_file().ino for _ in range(3)]
    assert numbers == [33, 34, 35]
    assert starts == [0]


# -- test_inode.py ------------------------------------------------------------

#: struct code and offset of each number in an inode, as docs/FORMAT.md has them.
NUMBERS: Final = {
    "mode": ("<I", 0),
    "nlink": ("<I", 4),
    "uid": ("<I", 8),
    "gid": ("<I", 12),
    "size": ("<Q", 16),
    "blocks": ("<Q", 24),
    "atime_ns": ("<q", 32),
    "mtime_ns": ("<q", 40),
    "ctime_ns": ("<q", 48),
    "btime_ns": ("<q", 56),
    "generation": ("<I", 68),
    "device": ("<I", 72),
    "attribute_block": ("<I", 140),
}
WORD: Final = st.integers(0, 2**32 - 1)
TIME: Final = st.integers(-(2**63), 2**63 - 1)
BLOCK: Final = st.just(0) | st.integers(100, 400)
VALUES: Final = st.fixed_dictionaries(
    {
        "mode": st.integers(stat.S_IFREG, stat.S_IFREG | 0o7777),
        "nlink": st.integers(1, 65535),
        **dict.fromkeys(("uid", "gid", "generation", "device"), WORD),
        "size": st.integers(0, 2**30),
        "blocks": st.integers(0, 100),
        **dict.fromkeys(("atime_ns", "mtime_ns", "ctime_ns", "btime_ns"), TIME),
        "attribute_block": BLOCK,
        "pointers": st.lists(BLOCK, min_size=15, max_size=15),
        "inline": st.binary(min_size=108, max_size=108),
    }
)


def change(layers: Layers, inode: Inode, **fields: Any) -> None:
    with layers.operation():
        layers.inodes.modify(inode)
        for name, value in fields.items():
            setattr(inode, name, value)


def raw(layers: Layers, ino: int) -> bytes:
    block, offset = layers.geometry.inode_location(ino)
    return layers.memory.read(block, 256, offset)


@given(VALUES)
def test_every_field_stands_in_its_place_after_a_commit(fields: dict[str, Any]) -> None:
    layers = Layers()
    inode = layers.new_file()
    change(layers, inode, **fields)
    layers.cache.commit()
    data = raw(layers, inode.ino)
    for name, (code, offset) in NUMBERS.items():
        assert (name, struct.unpack_from(code, data, offset)) == (name, (fields[name],))
    assert list(struct.unpack_from("<15I", data, 80)) == fields["pointers"]
    assert data[144:252] == fields["inline"]
    again = Layers(layers.memory).inodes.get(inode.ino)
    assert {name: getattr(again, name) for name in fields} == fields


def test_rollback_restores_every_field() -> None:
    layers = Layers()
    inode = layers.new_file()
    before = inode.record
    with layers.undone():
        layers.inodes.modify(inode)
        for name in NUMBERS:
            setattr(inode, name, getattr(inode, name) + 1)
        inode.pointers[3], inode.inline = 99, b"x" * 108
    assert inode.record == before


def test_inodes_of_one_block_do_not_disturb_each_other() -> None:
    layers = Layers()
    files = [layers.new_file() for _ in range(3)]
    layers.cache.commit()
    assert len({layers.geometry.inode_location(inode.ino)[0] for inode in files}) == 2
    neighbours = [raw(layers, files[at].ino) for at in (0, 2)]
    change(layers, files[1], size=2**30)
    layers.cache.commit()
    assert [raw(layers, files[at].ino) for at in (0, 2)] == neighbours


def test_the_generation_goes_round_after_32_bits() -> None:
    layers = Layers()
    inode = layers.new_file()
    change(layers, inode, generation=2**32 - 1, nlink=0)
    with layers.operation():
        layers.inodes.free(inode)
    layers.cache.commit()
    again = layers.new_file()
    assert (again.ino, again.generation) == (inode.ino, 0)


def test_rollback_of_a_free_keeps_the_inode() -> None:
    layers = Layers()
    inode = layers.new_file()
    with layers.undone():
        layers.inodes.modify(inode)
        inode.nlink = 0
        layers.inodes.free(inode)
    layers.cache.commit()
    assert layers.inode_bitmap.is_set(inode.ino)
    assert Layers(layers.memory).inodes.get(inode.ino).nlink == 1


def test_an_inode_without_links_stays_while_it_is_open() -> None:
    layers = Layers()
    inode = layers.new_file()
    inode.open_count = 1
    change(layers, inode, nlink=0)
    layers.cache.commit()
    assert layers.inodes.get(inode.ino) is inode


def test_an_allocation_whose_old_record_cannot_be_read_takes_nothing() -> None:
    layers = Layers(MemoryDevice(blank(block_size=512).image))
    layers.cache.device = fail_nth(layers.device, "read", 2)  # bitmap, then inode table
    free = layers.inode_bitmap.available
    assert errno_of(layers.new_file) == errno.EIO
    assert layers.inode_bitmap.available == free
    assert layers.new_file().ino == 3


# -- crashes between the stages of a commit ------------------------------------


def test_a_deleted_file_is_whole_on_the_disk_while_its_name_is_still_there() -> None:
    """Its inode is written before its directory: with what it points to."""
    device = RecordingDevice(blank())
    fs = mount(device)
    fd = fs.open("/f", os.O_CREAT | os.O_RDWR)
    fs.write(fd, b"a" * 4096)
    fs.sync()
    fs.write(fd, b"b" * 15 * 4096)  # grows over the single indirect block
    pointers = list(fs.volume.inode(3).pointers)
    fs.close(fd)
    fs.unlink("/f")
    device.accesses.clear()
    fs.sync()
    written: set[int] = set()
    for access in device.accesses:
        if access.kind == Kind.DIRECTORY:
            break
        written.add(access.block_no)
    assert pointers[12] in written
    fs.unmount()
