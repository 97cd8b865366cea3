"""Large images, files and directories: work and memory grow with what is touched.

Nothing here looks at a clock.  What is counted are the accesses of the device,
and the function calls of Python.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from vsfs_tools import inspect
from vsfs_tools import mkfs as mkfs_command

import vsfs
from tests.support.images import IDENTITY, ROOT, blank, image_of, mount, sound
from tests.support.layers import Layers
from tests.support.rawwalk import walk
from vsfs import bitmap, lock, mkfs
from vsfs.describe import describe_inode
from vsfs.device import FileDevice, Kind, RecordingDevice
from vsfs.rawimage import RawImage

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
SIZES = [256 * KIB, GIB, TIB]


# -- images -------------------------------------------------------------------


class CountingFile(FileDevice):
    """An image file that notes what is written, and still can be made a hole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.written: list[int] = []

    def write(self, block_no: int, content: Any, *args: Any) -> None:
        self.written.append(len(content))
        super().write(block_no, content, *args)


def sparse_file(path: Path, size: int) -> Path:
    """A file of `size` bytes that takes no room; skips where the host has none so large."""
    try:
        with path.open("xb") as file:
            file.truncate(size)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        pytest.skip(f"the host's filesystem has no files of {size} bytes")
    return path


def make_on(path: Path, size: int, **sizes: Any) -> CountingFile:
    """A filesystem in a sparse file."""
    device = CountingFile(sparse_file(path, size))
    mkfs.make(device, mkfs.plan(size, **sizes), IDENTITY)
    return device


@pytest.mark.parametrize("size", SIZES)
def test_a_fresh_image_takes_a_few_blocks_of_the_host(tmp_path: Path, size: int) -> None:
    image = sparse_file(tmp_path / "disk.img", size)
    vsfs.format_image(image, size)
    assert image.stat().st_size == size
    assert image.stat().st_blocks * 512 <= 64 * KIB


@pytest.mark.parametrize("size", SIZES)
def test_making_a_filesystem_writes_as_much_in_a_small_image_as_in_a_large(
    tmp_path: Path, size: int
) -> None:
    device = make_on(tmp_path / "disk.img", size)
    device.close()
    # the superblock twice, two bitmaps with up to two blocks each, a directory, an inode
    assert len(device.written) <= 8
    assert max(device.written) <= 4096


@pytest.mark.parametrize("size", SIZES)
def test_using_an_image_accesses_as_much_of_a_small_one_as_of_a_large(
    tmp_path: Path, size: int
) -> None:
    make_on(tmp_path / "disk.img", size).close()
    device = RecordingDevice(FileDevice(tmp_path / "disk.img"))
    with mount(device) as fs:
        assert fs.stat("/").st_ino == 2
        assert fs.statvfs().f_blocks == fs.volume.geometry.data_blocks
        # the superblock is read and written as mounted, the root's inode read
        assert accessed(device) <= {(Kind.SUPERBLOCK, 3), (Kind.INODE_TABLE, 1)}
        device.accesses.clear()
        fs.mkdir("/directory")
        fs.symlink("/directory", "/link")
    assert sum(count for _, count in accessed(device)) <= 20
    assert sum(access.size for access in device.accesses) <= 80 * KIB


def accessed(device: RecordingDevice) -> set[tuple[Kind, int]]:
    """(kind, how many reads and writes) for each kind of block."""
    kinds = [access.kind for access in device.accesses if access.operation != "barrier"]
    return {(kind, kinds.count(kind)) for kind in kinds}


@pytest.mark.parametrize("size", SIZES)
def test_memory_does_not_grow_with_the_image(tmp_path: Path, size: int) -> None:
    image = sparse_file(tmp_path / "disk.img", size)
    tracemalloc.start()
    try:
        vsfs.format_image(image, size)
        with vsfs.FileSystem.open(image, credentials=ROOT) as fs:
            fd = fs.open("/file", os.O_CREAT | os.O_RDWR)
            fs.pwrite(fd, b"end", 2**31)
            fs.stat("/file")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_the_last_block_of_a_terabyte_can_be_used(tmp_path: Path) -> None:
    """By filling the bitmap but for it: no file could, in the time of a test."""
    make_on(tmp_path / "disk.img", TIB).close()
    layers = Layers(FileDevice(tmp_path / "disk.img"))
    inode = layers.new_file()
    last = layers.geometry.block_count - 1
    with layers.operation():
        assert (last, 1) == layers.bitmap.allocate(last, 10)
        layers.bitmap.free(last)
    layers.cache.commit()
    assert not layers.bitmap.is_set(last)
    with layers.operation():
        layers.inodes.modify(inode)
        layers.io.write(inode, b"first", 0)
        inode.pointers[1], _ = layers.bitmap.allocate(last)
        inode.blocks += 1
        assert layers.io.write(inode, b"last", 4096) == 4
    layers.cache.commit()
    assert layers.device.read(last, 4) == b"last"
    layers.device.close()


# -- files --------------------------------------------------------------------

POINTERS = 128  # in a block of 512 bytes
DOUBLE = 12 + POINTERS  # the first file block of each tree
TRIPLE = DOUBLE + POINTERS**2
LAST = TRIPLE + POINTERS**3 - 1


def test_a_sparse_file_reaches_every_level_of_pointers() -> None:
    device = blank(block_size=512)
    places = [0, 11, 12, DOUBLE - 1, DOUBLE, TRIPLE - 1, TRIPLE, TRIPLE + POINTERS**2, LAST]
    with mount(device) as fs:
        free = fs.statvfs().f_bfree
        fd = fs.open("/file", os.O_CREAT | os.O_RDWR)
        for place in reversed(places):
            assert fs.pwrite(fd, b"%d" % place, place * 512) > 0
        fs.pwrite(fd, b"end", (LAST + 1) * 512 - 3)
    with mount(device) as fs:
        fd = fs.open("/file", os.O_RDWR)
        assert fs.fstat(fd).st_size == (LAST + 1) * 512
        for place in places:
            assert fs.pread(fd, 512, place * 512).rstrip(b"end").rstrip(b"\0") == b"%d" % place
        assert fs.pread(fd, 4096, (TRIPLE + 1) * 512) == bytes(4096)
        # single: 1.  double: 1 + 2.  triple: 1, two levels for its first block, for the
        # first behind POINTERS**2 and for the last
        assert fs.fstat(fd).st_blocks == len(places) + 1 + (1 + 2) + (1 + 2 * 3)
        through = {piece["through"] for piece in describe_inode(RawImage(device), 3)["pieces"]}
        assert len(through) == 4
        for place in reversed(places):  # each cut takes away one of them
            fs.ftruncate(fd, place * 512)
            assert fs.fstat(fd).st_size == place * 512
            assert sound(fs).inodes[3].blocks == fs.fstat(fd).st_blocks
        assert fs.fstat(fd).st_blocks == 0
        fs.close(fd)
        fs.unlink("/file")
        fs.sync()
        assert fs.statvfs().f_bfree == free
    assert walk(device.image).findings == []


def test_a_whole_file_grows_into_the_triple_indirect_tree() -> None:
    device = blank(12 * MIB, block_size=512)
    size = (TRIPLE + 3 * POINTERS) * 512
    piece = os.urandom(64 * KIB)
    content = (piece * (size // len(piece) + 1))[:size]
    with mount(device) as fs:
        fd = fs.open("/file", os.O_CREAT | os.O_WRONLY)
        for at in range(0, size, 100_000):
            part = content[at : at + 100_000]
            assert fs.write(fd, part) == len(part)
    found = walk(device.image)
    assert found.findings == []
    assert found.content(found.paths[b"/file"]) == content
    # single: 1.  double: 1 + 128.  triple: 1, 1 below it, and 3 below that
    assert found.inodes[3].indirect_blocks == 1 + 1 + 128 + 1 + 1 + 3


# -- directories --------------------------------------------------------------

NAMES = 100_000


class Calls:
    """Counts calls of functions, Python's own ones too, while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        self._before = sys.getprofile()
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _event(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.count += event in ("call", "c_call")


@pytest.mark.slow
def test_a_directory_of_100_000_names_costs_no_more_for_each_than_a_small_one() -> None:
    device = RecordingDevice(blank(64 * MIB, inode_count=NAMES + 100))
    fs = mount(device)
    add, find, remove = [], [], []
    names = [f"/directory/file{number:06}" for number in range(NAMES)]
    fs.mkdir("/directory")

    def cost(call: Callable[[str], object], group: list[str]) -> float:
        """Calls of functions for each name; blocks are read for many names at once."""
        fs.sync()
        device.accesses.clear()
        with Calls() as calls:
            for name in group:
                call(name)
        assert len(device.accesses) <= len(group) // 5
        return calls.count / len(group)

    for start in range(0, NAMES, 10_000):
        group = names[start : start + 10_000]
        for name in group[:-200]:
            fs.mknod(name)
        add.append(cost(fs.mknod, group[-200:]))
        find.append(cost(fs.stat, names[start : start + 200]))
        device.accesses.clear()  # their copies would fill the memory
    assert max(add) <= 1.2 * min(add)
    assert max(find) <= 1.5 * min(find)  # some inodes must be decoded again
    assert len(fs.listdir("/directory")) == NAMES

    fs.sync()
    device.accesses.clear()
    for start in range(0, NAMES, 10_000):
        group = names[start : start + 10_000]
        remove.append(cost(fs.unlink, group[:200]))
        for name in group[200:]:
            fs.unlink(name)
        device.accesses.clear()
    assert max(remove) <= 1.5 * min(remove)  # here, too
    assert fs.listdir("/directory") == []
    assert fs.stat("/directory").st_size == 4096
    fs.rmdir("/directory")
    fs.unmount()
    assert walk(image_of(fs)).findings == []


@pytest.mark.slow
def test_a_directory_of_100_000_names_is_there_after_a_mount() -> None:
    device = blank(64 * MIB, inode_count=NAMES + 100)
    with mount(device) as fs:
        for number in range(NAMES):
            fs.mknod(f"/file{number}")
    found = walk(device.image)
    assert found.findings == []
    assert len(found.paths) == NAMES + 1
    with mount(device) as fs:
        assert fs.stat(f"/file{NAMES - 1}").st_ino == found.paths[b"/file%d" % (NAMES - 1)]
        assert {*fs.listdir("/")} == {f"file{number}" for number in range(NAMES)}


# -- allocation ---------------------------------------------------------------


@pytest.fixture
def full_layers(tmp_path: Path) -> Iterator[tuple[Layers, int]]:
    """The layers on an image of 64 GiB whose first 95% are in use, and the first free block.

    Its bitmap has 512 blocks.
    """
    device = make_on(tmp_path / "disk.img", 64 * GIB)
    geometry = mkfs.plan(64 * GIB)
    used = geometry.data_blocks * 95 // 100 // 8 * 8
    device.write(geometry.data_bitmap_start, b"\xff" * (used // 8))
    layers = Layers(device)
    layers.bitmap.available = geometry.data_blocks - used
    yield layers, geometry.data_start + used
    layers.device.close()


def bitmap_reads(layers: Layers) -> list[int]:
    """The bitmap blocks read since the last call."""
    reads = [access.block_no for access in layers.device.accesses if access.operation == "read"]
    layers.device.accesses.clear()
    return reads


def test_a_full_part_of_the_bitmap_is_read_once_and_not_looked_at_again(
    full_layers: tuple[Layers, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    layers, free = full_layers
    searched: list[int] = []
    first_zero = bitmap._first_zero

    def noted(data: bytearray, bit: int) -> int | None:
        searched.append(bit)
        return first_zero(data, bit)

    monkeypatch.setattr(bitmap, "_first_zero", noted)
    start = layers.geometry.data_bitmap_start
    with layers.operation():
        assert (free, 1) == layers.bitmap.allocate(None)
    holder = (free - layers.geometry.data_start) // layers.geometry.bits_per_block
    assert bitmap_reads(layers) == list(range(start, start + holder + 1))
    assert len(searched) == holder  # the first block was only tried
    searched.clear()
    for number in range(1, 1000):
        with layers.operation():
            assert (free + number, 1) == layers.bitmap.allocate(None)
    assert bitmap_reads(layers) == []
    assert searched == []  # each begins where the last one ended


def test_an_allocation_with_a_goal_reads_the_bitmap_there_and_nowhere_else(
    full_layers: tuple[Layers, int],
) -> None:
    layers, free = full_layers
    with layers.operation():
        assert (free + 5000, 8) == layers.bitmap.allocate(free + 5000, 8)
    assert len(bitmap_reads(layers)) == 1
    with layers.operation():
        assert (free + 5008, 100) == layers.bitmap.allocate(free + 5008, 100)
    assert bitmap_reads(layers) == []


def test_the_inodes_of_a_terabyte_are_given_out_from_the_first_block_of_their_bitmap(
    tmp_path: Path,
) -> None:
    make_on(tmp_path / "disk.img", TIB).close()
    layers = Layers(FileDevice(tmp_path / "disk.img"))
    assert [3, 4, 5] == [layers.new_file().ino for _ in range(3)]
    # one block of the inode bitmap, one of the inode table
    assert len(bitmap_reads(layers)) == 2
    layers.device.close()


# -- block devices ------------------------------------------------------------


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device of 1 MiB, detached when the test ends."""
    below = sparse_file(tmp_path / "below.img", MIB)
    try:
        made = subprocess.run(
            ["losetup", "--find", "--show", below], capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        pytest.skip("there is no losetup")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"losetup makes no device: {error.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_a_block_device_is_made_used_and_looked_at(
    loop: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.0)
    assert mkfs_command.main([loop]) == 0
    content = os.urandom(100_000)
    with vsfs.FileSystem.open(loop, credentials=ROOT) as fs:
        assert fs.volume.geometry.block_count == MIB // 4096
        fd = fs.open("/file", os.O_CREAT | os.O_RDWR, 0o644)
        assert fs.write(fd, content) == len(content)
        fs.fsync(fd)
        with pytest.raises(vsfs.ImageBusy):
            vsfs.FileSystem.open(loop)
    with vsfs.FileSystem.open(loop, read_only=True) as fs:
        assert fs.pread(fs.open("/file", os.O_RDONLY), MIB, 0) == content
    capsys.readouterr()
    assert inspect.main([loop, "tree"]) == 0
    assert "[3] file" in capsys.readouterr().out
    assert inspect.main([loop, "fragments", "/file"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == ["3", "26", "2", "2", "1"]
    found = walk(Path(loop).read_bytes())
    assert found.findings == []
    assert found.content(3) == content


def test_a_filesystem_larger_than_its_block_device_is_refused(loop: str) -> None:
    with pytest.raises(OSError, match="only 1048576 bytes") as caught:
        vsfs.format_image(loop, 2 * MIB)
    assert caught.value.errno == errno.EINVAL
    assert Path(loop).read_bytes() == bytes(MIB)
