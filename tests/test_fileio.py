"""The bytes of a file: holes, partial blocks, old bytes that must not come back."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.images import KIB, blank, errno_of, fail_nth
from tests.support.layers import Layers
from vsfs.device import Access, Kind, MemoryDevice
from vsfs.inode import Inode


@pytest.fixture
def layers() -> Layers:
    """On a device whose free blocks hold the bytes of somebody else."""
    return Layers(dirty_device())


def dirty_device(size: int = 256 * KIB, block_size: int = 512) -> MemoryDevice:
    device = blank(size, block_size=block_size)
    start = (Layers(device).geometry.data_start + 1) * block_size
    device.image[start:] = b"\xee" * (size - start)
    return device


def write(layers: Layers, inode: Inode, content: bytes, offset: int) -> int:
    with layers.operation():
        layers.inodes.modify(inode)
        return layers.io.write(inode, content, offset)


def truncate(layers: Layers, inode: Inode, size: int) -> None:
    with layers.operation():
        layers.inodes.modify(inode)
        layers.io.truncate(inode, size)


def whole(layers: Layers, inode: Inode) -> bytes:
    return layers.io.read(inode, inode.size + 100, 0)


def accesses(layers: Layers, operation: str) -> list[Access]:
    return [access for access in layers.device.accesses if access.operation == operation]


def test_what_is_written_is_read_back_from_any_offset(layers: Layers) -> None:
    inode = layers.new_file()
    content = bytes(range(256)) * 10
    assert write(layers, inode, content, 0) == 2560
    assert whole(layers, inode) == content
    for offset in (0, 1, 511, 512, 513, 2559):
        assert layers.io.read(inode, 600, offset) == content[offset : offset + 600]


@pytest.mark.parametrize("offset", [2560, 2561, 10**9])
def test_reading_at_or_past_the_end_gives_nothing(layers: Layers, offset: int) -> None:
    inode = layers.new_file()
    write(layers, inode, bytes(2560), 0)
    assert layers.io.read(inode, 10, offset) == b""


def test_a_hole_reads_as_zeroes_and_takes_no_block(layers: Layers) -> None:
    inode = layers.new_file()
    write(layers, inode, b"end", 5000)
    assert whole(layers, inode) == bytes(5000) + b"end"
    assert inode.blocks == 1


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (5, 10), (511, 2), (500, 1000), (512, 512)])
def test_a_new_block_shows_nothing_of_its_former_owner(
    layers: Layers, offset: int, size: int
) -> None:
    inode = layers.new_file()
    write(layers, inode, b"x" * size, offset)
    truncate(layers, inode, 4096)
    assert whole(layers, inode) == (bytes(offset) + b"x" * size).ljust(4096, b"\0")


@pytest.mark.parametrize("cut", [1, 100, 511, 512, 513, 1000])
@pytest.mark.parametrize("grown", [600, 1024, 1500, 3000])
def test_bytes_cut_off_are_zeroes_when_the_file_grows_again(
    layers: Layers, cut: int, grown: int
) -> None:
    inode = layers.new_file()
    write(layers, inode, b"old" * 1000, 0)
    truncate(layers, inode, cut)
    truncate(layers, inode, max(cut, grown))
    assert whole(layers, inode) == (b"old" * 1000)[:cut].ljust(max(cut, grown), b"\0")


@pytest.mark.parametrize("cut", [1, 100, 511, 512, 513])
@pytest.mark.parametrize("offset", [300, 511, 512, 520, 1024, 2000])
def test_bytes_cut_off_are_zeroes_when_a_write_leaves_a_gap(
    layers: Layers, cut: int, offset: int
) -> None:
    inode = layers.new_file()
    write(layers, inode, b"old" * 1000, 0)
    truncate(layers, inode, cut)
    write(layers, inode, b"new", offset)
    expected = bytearray((b"old" * 1000)[:cut].ljust(offset + 3, b"\0"))
    expected[offset : offset + 3] = b"new"
    assert whole(layers, inode) == expected


def test_a_write_into_a_file_leaves_what_is_around_it(layers: Layers) -> None:
    inode = layers.new_file()
    write(layers, inode, b"a" * 2000, 0)
    write(layers, inode, b"b" * 600, 700)
    assert whole(layers, inode) == b"a" * 700 + b"b" * 600 + b"a" * 700
    assert inode.blocks == 4


def test_an_empty_write_changes_nothing_not_even_the_size(layers: Layers) -> None:
    inode = layers.new_file()
    assert write(layers, inode, b"", 5000) == 0
    assert inode.size == 0


def test_neighbouring_blocks_are_one_access(layers: Layers) -> None:
    inode = layers.new_file()
    write(layers, inode, b"x" * 512 * 12, 0)
    assert [access.size for access in accesses(layers, "write")] == [512 * 12]
    layers.device.accesses.clear()
    layers.io.read(inode, 512 * 12, 0)
    assert [access.size for access in accesses(layers, "read")] == [512 * 12]


def test_data_is_on_the_device_before_the_commit(layers: Layers) -> None:
    inode = layers.new_file()
    layers.cache.commit()
    layers.device.accesses.clear()
    write(layers, inode, b"x" * 100, 0)
    layers.cache.commit()
    changes = [access for access in layers.device.accesses if access.operation != "read"]
    assert [access.operation for access in changes[:3]] == ["write", "barrier", "write"]
    assert (changes[0].kind, changes[0].ino) == (Kind.DATA, inode.ino)


def test_the_largest_file_ends_where_the_pointers_do(layers: Layers) -> None:
    inode = layers.new_file()
    largest = layers.geometry.max_file_size
    assert write(layers, inode, b"last", largest - 2) == 2
    assert inode.size == largest
    assert layers.io.read(inode, 10, largest - 3) == b"\0la"
    assert errno_of(write, layers, inode, b"x", largest) == errno.EFBIG
    assert errno_of(truncate, layers, inode, largest + 1) == errno.EFBIG
    truncate(layers, inode, largest)
    assert inode.blocks == 4


def test_a_write_that_does_not_fit_writes_what_does() -> None:
    layers = Layers(dirty_device(32 * KIB))
    inode = layers.new_file()
    free = layers.free_blocks()
    written = write(layers, inode, b"x" * 64 * KIB, 100)
    assert written == (free - 1) * 512 - 100
    assert whole(layers, inode) == bytes(100) + b"x" * written
    assert errno_of(write, layers, inode, b"y", inode.size) == errno.ENOSPC
    assert write(layers, inode, b"z" * 50, 0) == 50  # over what is there


@pytest.mark.parametrize("nth", [1, 2])
def test_a_write_that_fails_leaves_size_and_blocks(layers: Layers, nth: int) -> None:
    inode = layers.new_file()
    write(layers, inode, b"a" * 700, 0)
    write(layers, layers.new_file(), b"x", 0)  # behind it, so that it goes on elsewhere
    before, free = inode.record, layers.free_blocks()
    layers.io._device = fail_nth(layers.device, "write", nth)
    assert errno_of(write, layers, inode, b"b" * 5000, 600) == errno.EIO
    assert (inode.record, layers.free_blocks()) == (before, free)


def test_a_write_over_old_and_new_blocks_is_one_where_they_are_neighbours() -> None:
    layers = Layers()
    inode = layers.new_file()
    write(layers, inode, b"a" * 700, 0)
    layers.device.accesses.clear()
    write(layers, inode, b"b" * 5000, 600)
    (access,) = [access for access in layers.device.accesses if access.kind == Kind.DATA]
    assert (access.operation, access.offset) == ("write", 600 % 512)
    assert whole(layers, inode) == b"a" * 600 + b"b" * 5000


def test_each_change_of_the_contents_has_a_version_of_its_own(layers: Layers) -> None:
    inode = layers.new_file()
    versions = [inode.version]
    write(layers, inode, b"a", 0)
    versions.append(inode.version)
    truncate(layers, inode, 0)
    versions.append(inode.version)
    whole(layers, inode)
    assert sorted(set(versions)) == versions
    assert inode.version == versions[-1]


offsets = st.builds(
    lambda near, by: max(near + by, 0),
    st.sampled_from([0, 0, 512, 1024, 12 * 512, 140 * 512]),
    st.integers(-20, 600),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "truncate", "commit", "fail"]),
        offsets,
        st.integers(1, 1500),
    ),
    min_size=8,
    max_size=25,
)


@given(steps, st.sampled_from([512, 1024, 4096]))
def test_any_sequence_agrees_with_a_bytearray(
    sequence: list[tuple[str, int, int]], block_size: int
) -> None:
    layers = Layers(dirty_device(512 * KIB, block_size))
    inode = layers.new_file()
    model = bytearray()
    for number, (what, at, size) in enumerate(sequence):
        content = bytes([number + 1]) * size
        if what == "write":
            assert write(layers, inode, content, at) == size
            model = model.ljust(at, b"\0")
            model[at : at + size] = content
        elif what == "truncate":
            truncate(layers, inode, at)
            model = model[:at].ljust(at, b"\0")
        elif what == "commit":
            layers.cache.commit()
        else:
            layers.io._device = fail_nth(layers.device, "write", 1)
            # behind the end, where no byte of the file is written before it fails
            assert errno_of(write, layers, inode, content, inode.size + at) == errno.EIO
            layers.io._device = layers.device
        assert inode.size == len(model)
        assert whole(layers, inode) == model
