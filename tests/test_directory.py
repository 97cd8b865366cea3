"""Directories: records in sectors, names, room for more, and giving blocks back."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.images import KIB, blank, errno_of, fail_nth
from tests.support.layers import Layers
from vsfs.device import Kind
from vsfs.directory import Directory
from vsfs.errors import CommitNeeded, Corrupt, NoSpace
from vsfs.layout import SECTOR_SIZE, DirectoryRecord, record_size, records

FILE = 1
PER_SECTOR = SECTOR_SIZE // record_size(1)


class Names:
    """A directory and the operations on it, each one whole."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.inode = layers.new_directory().inode

    @property
    def directory(self) -> Directory:
        return Directory.of(self.layers.cache, self.layers.blockmap, self.inode)

    @property
    def size(self) -> int:
        return self.inode.size

    def add(self, *names: bytes, ino: int = 9) -> None:
        with self.layers.operation():
            self.layers.inodes.modify(self.inode)
            for name in names:
                self.directory.add(name, ino, FILE)

    def remove(self, *names: bytes) -> None:
        with self.layers.operation():
            self.layers.inodes.modify(self.inode)
            for name in names:
                self.directory.remove(name)

    def rename(self, old: bytes, new: bytes) -> None:
        with self.layers.operation():
            self.layers.inodes.modify(self.inode)
            self.directory.rename(old, new)

    def replace(self, name: bytes, ino: int) -> None:
        with self.layers.operation():
            self.layers.inodes.modify(self.inode)
            self.directory.replace(name, ino, FILE)

    def index(self) -> dict[bytes, int]:
        """What the index says, without `.` and `..`."""
        entries = self.directory.entries
        return {name: entry.ino for name, entry in entries.items() if name not in (b".", b"..")}

    def records(self) -> list[DirectoryRecord]:
        """The used records in the blocks; raises Corrupt for a broken chain."""
        found: list[DirectoryRecord] = []
        layers = self.layers
        for file_block in range(self.size // layers.geometry.block_size):
            (run,) = layers.blockmap.runs(self.inode, file_block, 1)
            data = layers.cache.read(run.block, Kind.DIRECTORY).data
            found += [record for record in records(data, run.block) if record.ino]
        return found

    def listed(self) -> dict[bytes, int]:
        """What the blocks say, without `.` and `..`; each name stands there once."""
        found = [(record.name, record.ino) for record in self.records()]
        assert found[:2] == [(b".", self.inode.ino), (b"..", 2)]
        assert len(dict(found)) == len(found)
        return dict(found[2:])


@pytest.fixture(params=[512, 4096])
def names(request: pytest.FixtureRequest) -> Names:
    return Names(Layers(block_size=request.param))


@pytest.fixture
def small() -> Names:
    """A directory whose blocks are one sector each."""
    return Names(Layers(block_size=512))


def numbered(count: int, size: int = 4) -> list[bytes]:
    return [b"%0*d" % (size, number) for number in range(count)]


def test_a_new_directory_has_its_two_names_and_one_block(names: Names) -> None:
    assert names.directory.is_empty
    assert names.listed() == {}
    assert (names.inode.size, names.inode.blocks) == (names.layers.geometry.block_size, 1)


def test_a_name_stands_for_its_inode_until_it_is_removed(names: Names) -> None:
    names.add(b"foo", ino=7)
    assert names.index() == names.listed() == {b"foo": 7}
    assert not names.directory.is_empty
    names.remove(b"foo")
    assert names.index() == names.listed() == {}
    assert names.directory.is_empty


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 254, 255])
def test_names_of_any_length_fit(names: Names, length: int) -> None:
    every = [bytes([letter]) * length for letter in b"abcdef\xff"]
    names.add(*every)
    assert set(names.listed()) == set(every)


def test_a_sector_takes_as_many_names_as_fit_and_then_the_directory_grows(small: Names) -> None:
    room = PER_SECTOR - 2  # beside `.` and `..`
    small.add(*numbered(room))
    assert small.size == 512
    small.add(b"more")
    assert small.size == 1024
    assert len(small.listed()) == room + 1


def test_a_removed_name_makes_room_for_another(small: Names) -> None:
    every = numbered(PER_SECTOR - 2)
    small.add(*every)
    for name in every:
        small.remove(name)
        small.add(b"n" + name[1:])
        assert small.size == 512
    assert len(small.listed()) == len(every)


def test_neighbours_that_are_removed_make_room_for_a_longer_name(small: Names) -> None:
    every = numbered(PER_SECTOR - 2)
    small.add(*every)
    small.remove(*every[5:27])
    small.add(b"l" * 240)
    assert small.size == 512
    assert small.index() == small.listed()


def test_a_second_gap_of_a_sector_is_found_when_the_largest_is_used_up(small: Names) -> None:
    small.add(*numbered(PER_SECTOR - 2))
    small.remove(*numbered(PER_SECTOR - 2)[10:20])  # the largest gap
    small.remove(*numbered(PER_SECTOR - 2)[30:35])
    small.add(b"x" * (10 * record_size(4) - 8))
    small.add(b"y" * (5 * record_size(4) - 8))
    assert small.size == 512
    assert small.index() == small.listed()


def test_the_first_record_of_a_sector_becomes_free_and_is_used_again(small: Names) -> None:
    small.add(*numbered(60))
    first = next(record for record in small.records() if record.offset == 0 and record.name != b".")
    small.remove(first.name)
    assert first.name not in small.listed()
    small.add(b"aaaa")
    assert small.index() == small.listed()
    assert len(small.listed()) == 60


def test_empty_blocks_at_the_end_are_given_back(small: Names) -> None:
    free = small.layers.free_blocks()
    every = numbered(300)
    small.add(*every)
    grown = small.size
    assert grown > 512 * 6
    small.remove(*every[:100])
    assert small.size == grown  # holes at the start stay
    small.remove(*every[100:])
    assert (small.size, small.inode.blocks) == (512, 1)
    assert small.layers.free_blocks() == free


def test_a_directory_with_indirect_blocks_grows_and_shrinks(small: Names) -> None:
    every = numbered(60, size=240)
    free = small.layers.free_blocks()
    small.add(*every)
    assert small.size > 12 * 512
    assert small.index() == small.listed()
    small.remove(*reversed(every))
    assert (small.size, small.layers.free_blocks()) == (512, free)


def test_a_rename_keeps_the_inode_and_the_sector_where_it_fits(names: Names) -> None:
    names.add(*numbered(40))
    names.replace(b"0007", 77)
    names.layers.cache.commit()
    names.layers.device.accesses.clear()
    names.rename(b"0007", b"new")
    assert names.index() == names.listed()
    assert (names.index()[b"new"], b"0007" in names.index()) == (77, False)
    names.layers.cache.commit()
    written = [a for a in names.layers.device.accesses if a.kind == Kind.DIRECTORY]
    assert [access.operation for access in written] == ["write"]


def test_a_rename_to_a_longer_name_moves_it_where_there_is_room(small: Names) -> None:
    small.add(*numbered(PER_SECTOR - 2))
    small.rename(b"0003", b"l" * 255)
    assert small.size == 1024
    assert small.index() == small.listed()


def test_a_rename_over_blocks_writes_the_new_name_before_the_old_one_goes(small: Names) -> None:
    small.add(*numbered(60))  # two blocks
    small.layers.cache.commit()
    gone_from = small.directory.block_of(b"0003")
    small.rename(b"0003", b"l" * 200)
    came_to = small.directory.block_of(b"l" * 200)
    assert gone_from != came_to
    small.layers.device.accesses.clear()
    small.layers.cache.commit()
    order = [a.block_no for a in small.layers.device.accesses if a.kind == Kind.DIRECTORY]
    assert order == [came_to, gone_from]


def test_renames_that_need_opposite_orders_ask_for_a_commit(small: Names) -> None:
    small.add(*numbered(36))
    small.add(b"b" * 100)
    small.layers.cache.commit()
    small.rename(b"0003", b"l" * 200)  # from the first block to the second
    first, second = small.directory.block_of(b"0004"), small.directory.block_of(b"l" * 200)
    assert first != second
    with pytest.raises(CommitNeeded), small.layers.operation():
        small.layers.cache.order(first, second)
    small.layers.cache.commit()
    with small.layers.operation():
        small.layers.cache.order(first, second)


def test_a_block_that_a_rename_emptied_is_kept_until_the_new_name_is_written(small: Names) -> None:
    every = numbered(PER_SECTOR - 2)
    small.add(*every)
    small.add(b"last")
    small.layers.cache.commit()
    with small.layers.operation():
        small.layers.inodes.modify(small.inode)
        small.directory.remove(b"0001")
        small.layers.cache.order(
            small.directory.block_of(b"0002"), small.directory.block_of(b"last")
        )
        small.directory.add(b"mine", 9, FILE)
        small.directory.remove(b"last")
    assert small.size == 1024
    small.layers.cache.commit()
    small.remove(b"mine")
    assert small.size == 512


def test_replace_lets_a_name_stand_for_another_inode_in_place(names: Names) -> None:
    names.add(b"a", b"b", b"c")
    before = [(record.offset, record.name) for record in names.records()]
    with names.layers.operation():
        names.layers.inodes.modify(names.inode)
        names.directory.replace(b"b", 55, 7)
    assert [(record.offset, record.name) for record in names.records()] == before
    assert {record.name: (record.ino, record.file_type) for record in names.records()}[b"b"] == (
        55,
        7,
    )


def test_a_directory_is_as_created_until_it_has_had_a_name(small: Names) -> None:
    """And who has its name is part of that: `..` says it."""
    layers, inode = small.layers, small.inode

    def as_created(parent: int) -> bool:
        inode.index = None
        return Directory.is_as_created(layers.cache, layers.blockmap, inode, parent)

    assert as_created(2)
    assert not as_created(3)
    small.add(b"name")
    assert not as_created(2)
    small.remove(b"name")
    assert small.directory.is_empty
    assert not as_created(2)  # its bytes are still there: look at the records


def test_a_failed_operation_leaves_names_and_room(small: Names) -> None:
    small.add(*numbered(60))
    names, size, free = small.listed(), small.size, small.layers.free_blocks()
    with small.layers.undone():
        small.layers.inodes.modify(small.inode)
        for number in range(60, 200):
            small.directory.add(b"%04d" % number, 9, FILE)
        for number in range(50):
            small.directory.remove(b"%04d" % number)
        small.directory.rename(b"0055", b"n" * 200)
    assert small.index() == small.listed() == names
    assert (small.size, small.layers.free_blocks()) == (size, free)


def test_a_full_disk_refuses_the_name_that_needs_a_block() -> None:
    names = Names(Layers(blank(32 * KIB, block_size=512)))
    filler = names.layers.new_file()
    names.add(*numbered(PER_SECTOR - 2))
    with names.layers.operation():
        names.layers.inodes.modify(filler)
        names.layers.blockmap.allocate(filler, 0, 1000)
    before = dict.fromkeys(numbered(PER_SECTOR - 2), 9)
    with pytest.raises(NoSpace):
        names.add(b"more")
    assert names.index() == names.listed() == before
    with pytest.raises(NoSpace):
        names.rename(b"0001", b"n" * 99)
    assert names.index() == names.listed() == before


def opened(layers: Layers, ino: int) -> Directory:
    return Directory.of(layers.cache, layers.blockmap, layers.inodes.get(ino))


def test_a_read_error_in_any_block_leaves_the_directory_as_it_was(small: Names) -> None:
    small.add(*numbered(200))
    small.layers.cache.commit()
    expected = small.listed()
    for nth in range(1, small.size // 512 + 2):
        fresh = Layers(small.layers.memory)
        fresh.cache.device = fail_nth(fresh.device, "read", nth)
        assert errno_of(opened, fresh, small.inode.ino) == errno.EIO
        assert set(opened(fresh, small.inode.ino).entries) == {*expected, b".", b".."}


def test_a_lookup_reads_the_directory_once(names: Names) -> None:
    names.add(*numbered(100))
    names.layers.cache.commit()
    fresh = Layers(names.layers.memory)
    directory = opened(fresh, names.inode.ino)
    reads = len(fresh.device.accesses)
    for name in numbered(100):
        assert directory.entries[name].ino == 9
    assert len(fresh.device.accesses) == reads
    assert Directory.of(fresh.cache, fresh.blockmap, directory.inode) is directory


def damaged(names: Names, offset: int, content: bytes) -> Directory:
    """The directory, read again after `content` was written over its first block."""
    names.layers.cache.commit()
    (run,) = names.layers.blockmap.runs(names.inode, 0, 1)
    names.layers.memory.write(run.block, content, offset)
    fresh = Layers(names.layers.memory)
    return opened(fresh, names.inode.ino)


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (4, b"\0\0", "record length"),  # of `.`: a chain that would never end
        (4, b"\x0d\0", "record length"),
        (4, b"\x04\x02", "record length"),  # past the sector
        (9 + 12, b"/", "record name"),
        (8, b"\0", "record name"),
        (8, b"x", "no entry '.'"),
        (8 + 12, b"xx", "no entry '..'"),
        (8 + 24, b".\0\0", "record name"),
    ],
)
def test_a_damaged_directory_is_refused(
    small: Names, offset: int, content: bytes, message: str
) -> None:
    small.add(b"foo")
    with pytest.raises(Corrupt, match=message):
        damaged(small, offset, content)


def test_a_name_that_stands_twice_is_damage(small: Names) -> None:
    small.add(b"foo", b"bar")
    with pytest.raises(Corrupt, match="a second time"):
        damaged(small, 24 + 12 + 8, b"foo")


def test_a_hole_in_a_directory_is_damage(small: Names) -> None:
    small.add(*numbered(60))
    with small.layers.operation():
        small.layers.inodes.modify(small.inode)
        small.inode.pointers[1] = 0
    small.layers.cache.commit()
    fresh = Layers(small.layers.memory)
    with pytest.raises(Corrupt, match="a hole in it"):
        opened(fresh, small.inode.ino)


def test_adding_to_a_large_directory_looks_at_a_few_sectors_only() -> None:
    names = Names(Layers(blank(1024 * KIB, block_size=512)))
    for first in range(0, 8000, 100):
        names.add(*[b"%08d" % number for number in range(first, first + 100)])
    searched: list[int] = []
    directory = names.directory
    original = directory._measure
    directory._measure = lambda sector: searched.append(sector) or original(sector)  # type: ignore[method-assign,func-returns-value]
    names.add(*[b"%08d" % number for number in range(8000, 8100)])
    assert len(searched) <= 100 * 8


def spelled(number: int) -> bytes:
    """A name for each of 40 numbers; their lengths differ a lot."""
    return b"%d" % number + b"-" * (number * number * 5 % 250)


every_name = st.integers(0, 39).map(spelled)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), every_name, every_name),
        st.tuples(st.just("remove"), every_name, every_name),
        st.tuples(st.just("rename"), every_name, every_name),
        st.tuples(st.just("replace"), every_name, every_name),
        st.tuples(st.just("fail"), every_name, every_name),
        st.tuples(st.just("commit"), every_name, every_name),
        st.tuples(st.just("reload"), every_name, every_name),
    ),
    min_size=20,  # hypothesis makes lists short unless told otherwise
    max_size=80,
)


@given(steps, st.sampled_from([512, 1024, 4096]))
def test_any_sequence_agrees_with_a_dict(
    sequence: list[tuple[str, bytes, bytes]], block_size: int
) -> None:
    names = Names(Layers(block_size=block_size))
    model: dict[bytes, int] = {}
    for number, (what, name, other) in enumerate(sequence, 10):
        if what == "add" and name not in model:
            names.add(name, ino=number)
            model[name] = number
        elif what == "remove" and name in model:
            names.remove(name)
            del model[name]
        elif what == "rename" and name in model and other not in model:
            try:
                names.rename(name, other)
            except CommitNeeded:
                names.layers.cache.commit()
                names.rename(name, other)
            model[other] = model.pop(name)
        elif what == "replace" and name in model:
            names.replace(name, number)
            model[name] = number
        elif what == "fail" and name in model and other not in model:
            with names.layers.undone():
                names.layers.inodes.modify(names.inode)
                names.directory.remove(name)
                names.directory.add(other, number, FILE)
        elif what == "commit":
            names.layers.cache.commit()
        elif what == "reload":
            names.inode.index = None
        assert names.index() == names.listed() == model
    names.remove(*model)
    assert names.directory.is_empty
    names.layers.cache.commit()
    names.add(b"x")
    names.remove(b"x")
    assert names.size == block_size
