"""Making a filesystem: the plan as arithmetic, and what is written of it."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vsfs
from tests.support.images import IDENTITY, KIB, blank, errno_of
from tests.support.rawwalk import walk
from vsfs import mkfs
from vsfs.device import Access, FailingDevice, FileDevice, Kind, MemoryDevice, RecordingDevice
from vsfs.errors import ImageBusy, ImpossibleSize
from vsfs.layout import Geometry
from vsfs.mkfs import MIN_BLOCKS, Identity, format_image, make, plan, plan_for

MIB = 1024 * KIB

# -- the plan -----------------------------------------------------------------------


def test_the_default_is_the_layout_of_ostep() -> None:
    assert plan(256 * KIB) == Geometry(
        block_size=4096,
        block_count=64,
        inode_count=80,
        inode_bitmap_start=1,
        data_bitmap_start=2,
        inode_table_start=3,
        data_start=8,
    )


def sound_plan(geometry: Geometry) -> bool:
    """Whether the regions lie end to end, each just large enough."""
    bits = geometry.block_size * 8
    sizes = [region.count for region in geometry.regions]
    return (
        sum(sizes) == geometry.block_count
        and sizes[0] == 1
        and sizes[1] == -(-geometry.inode_count // bits)
        and (sizes[2] - 1) * bits <= geometry.data_blocks <= sizes[2] * bits
        and sizes[3] * geometry.inodes_per_block == geometry.inode_count
        and geometry.data_blocks >= 1
        and geometry.inode_count > 3  # one more than the reserved ones
    )


@given(
    st.integers(0, 2**44) | st.integers(0, 2**20),
    st.sampled_from([512 << shift for shift in range(8)]),
    st.none() | st.integers(-5, 2**33),
    st.none() | st.integers(-5, 2**20),
)
def test_a_plan_is_sound_or_impossible(
    size: int, block_size: int, inode_count: int | None, bytes_per_inode: int | None
) -> None:
    try:
        geometry = plan(
            size,
            block_size=block_size,
            inode_count=inode_count,
            bytes_per_inode=bytes_per_inode,
        )
    except ImpossibleSize:
        return
    assert sound_plan(geometry)
    assert geometry.block_count == size // block_size
    if inode_count is not None:
        wanted = min(inode_count, 2**32 - geometry.inodes_per_block)
        assert 0 <= geometry.inode_count - wanted < geometry.inodes_per_block


@pytest.mark.parametrize("block_size", [512 << shift for shift in range(8)])
def test_the_smallest_image_has_room_for_each_region_and_four_inodes(block_size: int) -> None:
    smallest = (MIN_BLOCKS + (block_size == 512)) * block_size  # two inodes in a block of 512
    assert sound_plan(plan(smallest, block_size=block_size))
    with pytest.raises(ImpossibleSize):
        plan(smallest - 1, block_size=block_size)


def test_the_largest_image_has_2_to_the_32_blocks() -> None:
    geometry = plan(2**32 * 4096)
    assert geometry.block_count == 2**32
    assert sound_plan(geometry)
    with pytest.raises(ImpossibleSize, match="too large"):
        plan((2**32 + 1) * 4096)


@pytest.mark.parametrize("block_size", [0, 1, 256, 513, 1000, 131072, -512])
def test_a_block_is_a_power_of_two_from_512_to_65536(block_size: int) -> None:
    with pytest.raises(ImpossibleSize, match="power of two"):
        plan(MIB, block_size=block_size)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"inode_count": 3}, "too few"),
        ({"inode_count": 0}, "too few"),
        ({"inode_count": -1}, "too few"),
        ({"inode_count": 10**9}, "leave none for data"),
        ({"bytes_per_inode": 0}, "cannot be"),
        ({"bytes_per_inode": 1}, "leave none for data"),
    ],
)
def test_inodes_that_cannot_be_are_refused_in_words(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ImpossibleSize, match=message) as raised:
        plan(256 * KIB, **sizes)
    assert raised.value.errno == errno.EINVAL


def test_the_data_bitmap_has_no_block_too_many_at_its_edge() -> None:
    """Just where one more block of bitmap is needed, and just before."""
    bits = 512 * 8
    for data_blocks in range(2 * bits - 3, 2 * bits + 6):
        geometry = plan((1 + 1 + 8 + data_blocks + 2) * 512, block_size=512, inode_count=16)
        assert sound_plan(geometry), data_blocks


def test_the_inode_table_takes_a_quarter_at_most_unless_asked() -> None:
    geometry = plan(64 * KIB)
    assert (geometry.data_start - geometry.inode_table_start) * 4 <= geometry.block_count
    assert plan(64 * KIB, inode_count=150).inode_count == 160


# -- making it ----------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [512 << shift for shift in range(8)])
@pytest.mark.parametrize("blocks", [5, 6, 64, 777])
@pytest.mark.parametrize("before", [b"\0", b"\xff"], ids=["zeroes", "ones"])
def test_a_new_filesystem_is_sound_whatever_was_there_before(
    block_size: int, blocks: int, before: bytes
) -> None:
    size = min(max(blocks * block_size, 3 * KIB), 4 * MIB)
    device = MemoryDevice(bytearray(before * size))
    make(device, plan(size, block_size=block_size), IDENTITY)
    found = walk(device.image)
    assert found.findings == []
    assert found.paths == {b"": 2}
    root = found.inodes[2]
    assert (root.mode, root.nlink, root.size) == (stat.S_IFDIR | 0o755, 2, block_size)


def test_it_says_who_made_it_when_and_its_name() -> None:
    identity = Identity.new(label="ünïcode", identity=UUID(int=7), now_ns=12345)
    device = MemoryDevice(bytearray(256 * KIB))
    make(device, plan(256 * KIB), identity)
    fs = vsfs.FileSystem.open(device, read_only=True)
    superblock = fs.volume.superblock
    assert (superblock.text_label, superblock.uuid) == ("ünïcode", UUID(int=7).bytes)
    assert (superblock.created_ns, superblock.mounted_ns, superblock.mount_count) == (12345, 0, 0)
    status = fs.stat("/")
    assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (os.geteuid(), os.getegid(), 12345)


def test_a_label_has_32_bytes_at_most() -> None:
    assert Identity.new(label="ä" * 16).label == "ä" * 16
    with pytest.raises(ImpossibleSize, match="33 bytes"):
        Identity.new(label="ä" * 16 + "x")


def test_the_same_identity_gives_the_same_bytes() -> None:
    devices = [MemoryDevice(bytearray(256 * KIB)) for _ in range(2)]
    for device in devices:
        make(device, plan(256 * KIB), IDENTITY)
    assert devices[0].image == devices[1].image
    assert Identity.new().uuid != Identity.new().uuid


def test_the_superblock_is_written_last_and_an_old_one_is_gone_first() -> None:
    device = RecordingDevice(MemoryDevice(bytearray(256 * KIB)))
    make(device, plan(256 * KIB), IDENTITY)
    kinds = [access.operation for access in device.accesses[:2]]
    assert (kinds, device.accesses[0].block_no) == (["write", "barrier"], 0)
    assert [access.operation for access in device.accesses[-3:]] == ["barrier", "write", "barrier"]
    assert device.accesses[-2].kind == Kind.SUPERBLOCK
    between = [access.block_no for access in device.accesses[1:-2] if access.operation == "write"]
    assert 0 not in between


def test_a_half_made_filesystem_is_none() -> None:
    old = MemoryDevice(bytearray(256 * KIB))
    make(old, plan(256 * KIB), IDENTITY)
    for nth in range(2, 20):
        below = MemoryDevice(bytearray(old.image))
        count = 0

        def fails(access: Access, nth: int = nth) -> bool:
            nonlocal count
            count += access.operation == "write"
            return count >= nth

        if not errno_of(make, FailingDevice(below, fails), plan(256 * KIB), IDENTITY):
            break
        with pytest.raises(vsfs.NotVsfs):
            vsfs.FileSystem.open(below)
    assert 5 < nth < 19


# -- format_image ---------------------------------------------------------------------


def test_a_missing_image_is_made_with_256_kib(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    assert format_image(image) == plan(256 * KIB)
    assert image.stat().st_size == 256 * KIB
    assert walk(image.read_bytes()).findings == []


def test_a_terabyte_takes_no_longer_and_little_space(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    format_image(image, 2**40, inode_count=1000)
    assert image.stat().st_size == 2**40
    assert image.stat().st_blocks * 512 < 100 * MIB
    with vsfs.FileSystem.open(image) as fs:
        fs.mkdir("/d")


def test_an_empty_image_keeps_its_size_unless_another_is_given(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(128 * KIB))
    assert format_image(image).block_count == 32
    assert format_image(image, MIB, force=True).block_count == 256
    assert image.stat().st_size == MIB
    assert format_image(image, 64 * KIB, force=True).block_count == 16
    assert image.stat().st_size == 64 * KIB
    assert walk(image.read_bytes()).findings == []


@pytest.mark.parametrize("what", ["filesystem", "head", "tail"])
def test_an_image_that_holds_something_is_refused_without_force(tmp_path: Path, what: str) -> None:
    image = tmp_path / "disk.img"
    content = bytearray(256 * KIB)
    if what == "filesystem":
        format_image(image)
        content[:] = image.read_bytes()
    else:
        content[60 * KIB if what == "head" else -1] = 1
        image.write_bytes(content)
    with pytest.raises(ImageBusy, match="-F"):
        format_image(image)
    with pytest.raises(ImageBusy, match="-F"):
        plan_for(image)
    assert image.read_bytes() == content
    format_image(image, force=True)
    assert walk(image.read_bytes()).paths == {b"": 2}


def test_an_image_that_this_call_made_does_not_stay_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(mkfs, "make", fail)
    image = tmp_path / "disk.img"
    with pytest.raises(OSError, match="broken"):
        format_image(image)
    assert not image.exists()
    image.write_bytes(bytes(256 * KIB))
    with pytest.raises(OSError, match="broken"):
        format_image(image)
    assert image.exists()


@pytest.mark.parametrize(
    "wrong", [{"size": 100}, {"block_size": 1000}, {"inode_count": 1}, {"label": "x" * 33}]
)
def test_a_plan_that_cannot_be_touches_nothing(tmp_path: Path, wrong: dict[str, Any]) -> None:
    image = tmp_path / "disk.img"
    with pytest.raises(ImpossibleSize):
        format_image(image, **wrong)
    assert not image.exists()


def test_what_cannot_hold_a_filesystem_is_refused(tmp_path: Path) -> None:
    assert errno_of(format_image, tmp_path) == errno.EISDIR
    assert errno_of(format_image, tmp_path / "no" / "such") == errno.ENOENT


@pytest.mark.parametrize("call", [format_image, plan_for])
def test_a_plan_for_an_image_is_what_would_be_made(
    tmp_path: Path, call: Callable[..., Geometry]
) -> None:
    image = tmp_path / "disk.img"
    sizes = {"block_size": 1024, "inode_count": 40}
    assert call(image, 100 * KIB, **sizes) == plan(100 * KIB, **sizes)
    assert image.exists() == (call is format_image)


def test_a_new_filesystem_is_unmounted_and_was_never_mounted(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    format_image(image)
    device = FileDevice(image, read_only=True)
    assert struct.unpack("<I", device.read(0, 4, 68)) == (1,)
    device.close()


# -- the journal --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block_size", "blocks"), [(512, 16), (512, 124), (1024, 100), (4096, 16), (65536, 20)]
)
def test_a_journal_lies_behind_the_root_directory(block_size: int, blocks: int) -> None:
    device = blank(200 * block_size, block_size=block_size, journal_blocks=blocks)
    found = walk(device.image)
    assert found.findings == []
    start = plan(200 * block_size, block_size=block_size).data_start
    assert found.journal == (*range(start + 1, start + 1 + blocks),)
    without = walk(blank(200 * block_size, block_size=block_size).image)
    assert without.free_blocks - found.free_blocks == blocks + 1
    assert without.free_inodes == found.free_inodes
    assert found.paths == without.paths


def test_without_a_journal_an_image_is_as_before() -> None:
    with_none = blank(journal_blocks=None)
    assert with_none.image == blank().image
    assert struct.unpack_from("<2I", with_none.image, 8) == (0, 0)


def test_a_default_journal_is_the_one_of_its_size(tmp_path: Path) -> None:
    for name, blocks in (("a", mkfs.DEFAULT_JOURNAL), ("b", 64)):
        format_image(tmp_path / name, 4 * MIB, identity=IDENTITY, journal_blocks=blocks)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("blocks", [0, 15, 1021, -2])
def test_a_journal_of_an_impossible_size_touches_nothing(tmp_path: Path, blocks: int) -> None:
    image = tmp_path / "disk.img"
    with pytest.raises(ImpossibleSize, match="16 to 1020"):
        format_image(image, 64 * MIB, journal_blocks=blocks)
    assert not image.exists()
    device = MemoryDevice(bytearray(64 * MIB))
    with pytest.raises(ImpossibleSize):
        make(device, plan(64 * MIB), IDENTITY, journal_blocks=blocks)
    assert not any(device.image)


def test_old_bytes_where_the_journal_comes_are_no_transaction(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"JRNL\x01\x00" * 50_000)
    format_image(image, force=True, journal_blocks=16)
    assert walk(image.read_bytes()).findings == []
    with vsfs.FileSystem.open(image) as fs:
        fs.mkdir("/a")
    assert walk(image.read_bytes()).findings == []
