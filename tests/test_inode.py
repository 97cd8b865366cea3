"""Inodes in memory and their table on the disk."""

from __future__ import annotations

import stat

import pytest

from tests.support.layers import Layers
from vsfs.device import Kind
from vsfs.errors import Corrupt, NoSpace
from vsfs.inode import Inode
from vsfs.layout import INODE_SIZE, decode_inode, encode_inode

FILE = stat.S_IFREG | 0o644


@pytest.fixture
def layers() -> Layers:
    return Layers()


def on_disk(layers: Layers, ino: int) -> Inode:
    block, offset = layers.geometry.inode_location(ino)
    return Inode(ino, decode_inode(layers.memory.read(block, INODE_SIZE, offset)))


def damage(layers: Layers, ino: int, record: bytes) -> None:
    block, offset = layers.geometry.inode_location(ino)
    layers.memory.write(block, record, offset)


def test_there_is_one_object_for_each_inode(layers: Layers) -> None:
    root = layers.inodes.get(2)
    assert root.is_directory
    assert layers.inodes.get(2) is root


def test_a_new_inode_has_the_lowest_free_number_and_nothing_in_it(layers: Layers) -> None:
    with layers.operation():
        inode = layers.inodes.allocate(FILE, 5, 6, 7)
    assert (inode.ino, inode.mode, inode.nlink, inode.uid, inode.gid) == (3, FILE, 0, 5, 6)
    assert (inode.size, inode.blocks, set(inode.pointers)) == (0, 0, {0})
    assert {inode.atime_ns, inode.mtime_ns, inode.ctime_ns, inode.btime_ns} == {7}


def test_a_change_reaches_the_disk_at_the_commit(layers: Layers) -> None:
    inode = layers.new_file()
    layers.cache.commit()
    with layers.operation():
        layers.inodes.modify(inode)
        inode.size = 77
        inode.mtime_ns = 2**70
    assert on_disk(layers, inode.ino).size == 0
    layers.cache.commit()
    assert on_disk(layers, inode.ino).record == inode.record


def test_rollback_takes_a_change_back(layers: Layers) -> None:
    inode = layers.new_file()
    before = inode.record
    with layers.undone():
        layers.inodes.modify(inode)
        inode.size, inode.nlink, inode.pointers[3] = 5, 9, 300
        layers.inodes.modify(inode)
    assert inode.record == before
    layers.cache.commit()
    assert on_disk(layers, inode.ino).record == before


def test_rollback_leaves_no_inode_to_be_written(layers: Layers) -> None:
    """Its block is not expected any more, and the journal may have no room for it."""
    inode = layers.new_file()
    layers.cache.commit()
    with layers.undone():
        layers.inodes.modify(inode)
    layers.inodes.capacity = 0
    assert not layers.inodes.is_overdue


def test_rollback_takes_a_new_inode_back(layers: Layers) -> None:
    free = layers.inode_bitmap.available
    with layers.undone():
        layers.inodes.allocate(FILE, 0, 0, 0).nlink = 1
    assert layers.inode_bitmap.available == free
    assert layers.new_file().ino == 3


def test_every_inode_can_be_used_the_last_one_too(layers: Layers) -> None:
    inodes = [layers.new_file() for _ in range(layers.geometry.inode_count - 3)]
    assert [inode.ino for inode in inodes] == list(range(3, layers.geometry.inode_count))
    with pytest.raises(NoSpace), layers.operation():
        layers.inodes.allocate(FILE, 0, 0, 0)
    layers.cache.commit()
    assert on_disk(layers, layers.geometry.inode_count - 1).nlink == 1


def test_a_freed_number_is_given_out_again_after_the_commit_one_generation_later(
    layers: Layers,
) -> None:
    inode = layers.new_file()
    layers.cache.commit()
    with layers.operation():
        layers.inodes.modify(inode)
        inode.nlink = 0
        layers.inodes.free(inode)
    assert layers.new_file().ino == 4
    layers.cache.commit()
    again = layers.new_file()
    assert again is not inode
    assert (again.ino, again.generation) == (3, inode.generation + 1)


def test_a_free_inode_keeps_what_it_held_on_the_disk(layers: Layers) -> None:
    inode = layers.new_file()
    with layers.operation():
        layers.inodes.modify(inode)
        inode.nlink, inode.size = 0, 1234
        layers.inodes.free(inode)
    layers.cache.commit()
    assert on_disk(layers, 3).size == 1234


def test_getting_a_free_inode_is_damage(layers: Layers) -> None:
    with pytest.raises(Corrupt, match="free inode"):
        layers.inodes.get(10)


@pytest.mark.parametrize("ino", [0, 10**6, 2**32 - 1])
def test_an_impossible_number_is_damage(layers: Layers, ino: int) -> None:
    with pytest.raises(Corrupt, match=f"inode number {ino}"):
        layers.inodes.get(ino)


def test_a_record_in_the_place_of_another_is_damage(layers: Layers) -> None:
    damage(layers, 11, encode_inode(10, layers.inodes.get(2).record))
    with pytest.raises(Corrupt, match="inode 11 field checksum"):
        layers.inodes.get(11)


def test_a_flipped_bit_is_damage(layers: Layers) -> None:
    record = bytearray(encode_inode(2, layers.inodes.get(2).record))
    record[16] ^= 1
    fresh = Layers(layers.memory)
    damage(fresh, 2, bytes(record))
    with pytest.raises(Corrupt) as raised:
        fresh.inodes.get(2)
    assert (raised.value.block, raised.value.offset) == (
        layers.geometry.inode_location(2)[0],
        layers.geometry.inode_location(2)[1] + 252,
    )


def test_trim_forgets_the_oldest_that_are_neither_open_nor_changed(layers: Layers) -> None:
    files = [layers.new_file() for _ in range(10)]
    layers.inodes.capacity = 4
    layers.cache.commit()
    files[0].open_count = 1
    with layers.operation():
        layers.inodes.modify(files[1])
    assert layers.inodes.is_crowded
    layers.inodes.trim()
    assert not layers.inodes.is_crowded
    assert layers.inodes.get(files[0].ino) is files[0]
    assert layers.inodes.get(files[1].ino) is files[1]
    assert layers.inodes.get(files[2].ino) is not files[2]
    assert layers.inodes.get(files[2].ino).record == files[2].record


def test_reading_an_inode_reads_the_block_of_the_table_that_holds_it(layers: Layers) -> None:
    layers.new_file()
    layers.cache.commit()
    fresh = Layers(layers.memory)
    fresh.inodes.get(3)
    (access,) = fresh.device.accesses
    assert (access.block_no, access.kind, access.ino) == (
        layers.geometry.inode_location(3)[0],
        Kind.INODE_TABLE,
        3,
    )


@pytest.mark.parametrize(
    ("mode", "is_directory", "is_regular", "is_symlink", "file_type"),
    [
        (stat.S_IFREG, False, True, False, 1),
        (stat.S_IFDIR, True, False, False, 2),
        (stat.S_IFCHR, False, False, False, 3),
        (stat.S_IFBLK, False, False, False, 4),
        (stat.S_IFIFO, False, False, False, 5),
        (stat.S_IFSOCK, False, False, False, 6),
        (stat.S_IFLNK, False, False, True, 7),
    ],
)
def test_an_inode_knows_its_type(
    layers: Layers,
    mode: int,
    is_directory: bool,
    is_regular: bool,
    is_symlink: bool,
    file_type: int,
) -> None:
    with layers.operation():
        inode = layers.inodes.allocate(mode | 0o644, 0, 0, 0)
    assert inode.is_directory == is_directory
    assert inode.is_regular == is_regular
    assert inode.is_symlink == is_symlink
    assert inode.file_type == file_type
