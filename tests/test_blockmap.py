"""The block map: pointers by arithmetic, runs, allocating and freeing."""

from __future__ import annotations

import errno
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.images import KIB, blank, errno_of, fail_nth
from tests.support.layers import Layers
from vsfs.blockmap import Run, pointer_path
from vsfs.device import Kind
from vsfs.errors import Corrupt, NoSpace
from vsfs.inode import Inode

PER_BLOCK = 128  # pointers in a block of 512 bytes
SINGLE = 12
DOUBLE = SINGLE + PER_BLOCK
TRIPLE = DOUBLE + PER_BLOCK**2
END = TRIPLE + PER_BLOCK**3


def allocate(layers: Layers, inode: Inode, first: int, count: int) -> list[Run]:
    with layers.operation():
        layers.inodes.modify(inode)
        return layers.blockmap.allocate(inode, first, count)


def truncate(layers: Layers, inode: Inode, keep: int) -> None:
    with layers.operation():
        layers.inodes.modify(inode)
        layers.blockmap.truncate(inode, keep)


def mapped(layers: Layers, inode: Inode, first: int, count: int) -> list[int]:
    """The disk block of each file block, 0 for a hole."""
    blocks: list[int] = []
    for run in layers.blockmap.runs(inode, first, count):
        blocks += range(run.block, run.block + run.count) if run.block else [0] * run.count
    return blocks


@pytest.mark.parametrize("per_block", [2, 3, 5])
def test_pointer_paths_count_through_the_trees_in_order(per_block: int) -> None:
    expected = [(slot, ()) for slot in range(12)]
    paths: list[tuple[int, tuple[int, ...]]] = list(expected)
    for level in (1, 2, 3):
        paths += [
            (11 + level, indexes) for indexes in itertools.product(range(per_block), repeat=level)
        ]
    assert [pointer_path(block, per_block) for block in range(len(paths))] == paths
    with pytest.raises(ValueError, match="out of reach"):
        pointer_path(len(paths), per_block)


@pytest.mark.parametrize(
    ("file_block", "path"),
    [
        (11, (11, ())),
        (SINGLE, (12, (0,))),
        (DOUBLE - 1, (12, (127,))),
        (DOUBLE, (13, (0, 0))),
        (TRIPLE - 1, (13, (127, 127))),
        (TRIPLE, (14, (0, 0, 0))),
        (END - 1, (14, (127, 127, 127))),
    ],
)
def test_the_first_and_last_pointer_of_each_tree(
    file_block: int, path: tuple[int, tuple[int, ...]]
) -> None:
    assert pointer_path(file_block, PER_BLOCK) == path


def test_a_new_file_is_one_hole() -> None:
    layers = Layers()
    assert layers.blockmap.runs(layers.new_file(), 0, 1000) == [Run(0, 1000)]
    assert layers.blockmap.runs(layers.new_file(), TRIPLE, END - TRIPLE) == [Run(0, PER_BLOCK**3)]


def test_blocks_in_a_row_are_one_run_even_over_an_indirect_block() -> None:
    layers = Layers()
    inode = layers.new_file()
    runs = allocate(layers, inode, 0, 100)
    assert [run.fresh for run in runs] == [True] * len(runs)
    assert sum(run.count for run in runs) == 100
    assert len(runs) <= 2
    again = allocate(layers, inode, 0, 100)
    assert again == [Run(run.block, run.count) for run in runs]
    assert inode.blocks == 101


def test_an_allocation_fills_only_the_holes() -> None:
    layers = Layers()
    inode = layers.new_file()
    allocate(layers, inode, 3, 2)
    old = mapped(layers, inode, 3, 2)
    runs = allocate(layers, inode, 0, 8)
    assert mapped(layers, inode, 3, 2) == old
    fresh = [run.fresh for run in runs for _ in range(run.count)]
    assert fresh == [True] * 3 + [False] * 2 + [True] * 3
    assert inode.blocks == 8


@pytest.mark.parametrize(
    "file_block", [0, 11, SINGLE, DOUBLE - 1, DOUBLE, TRIPLE - 1, TRIPLE, END - 1]
)
def test_a_lone_block_takes_itself_and_the_indirect_blocks_above_it(file_block: int) -> None:
    layers = Layers()
    inode = layers.new_file()
    free = layers.free_blocks()
    allocate(layers, inode, file_block, 1)
    levels = len(pointer_path(file_block, PER_BLOCK)[1])
    assert inode.blocks == 1 + levels
    assert layers.free_blocks() == free - 1 - levels
    around = mapped(layers, inode, max(file_block - 2, 0), 3)
    assert sum(map(bool, around)) == 1
    truncate(layers, inode, 0)
    assert (inode.blocks, set(inode.pointers)) == (0, {0})
    assert layers.free_blocks() == free


def test_the_next_block_is_the_one_behind_its_predecessor() -> None:
    layers = Layers()
    one, other = layers.new_file(), layers.new_file()
    (first,) = allocate(layers, one, 0, 1)
    allocate(layers, other, 0, 1)
    (far,) = allocate(layers, one, 1, 1)
    assert far.block == first.block + 2
    (next_one,) = allocate(layers, one, 2, 1)
    assert next_one.block == far.block + 1


def test_an_allocation_takes_what_is_left_and_says_how_much() -> None:
    layers = Layers(blank(32 * KIB, block_size=512))
    inode = layers.new_file()
    free = layers.free_blocks()
    runs = allocate(layers, inode, 0, 1000)
    assert sum(run.count for run in runs) == free - 1  # and the indirect block
    assert layers.free_blocks() == 0
    with pytest.raises(NoSpace):
        allocate(layers, layers.new_file(), 0, 1)


@pytest.mark.parametrize(("file_block", "needed"), [(SINGLE, 2), (DOUBLE, 3), (TRIPLE, 4)])
def test_indirect_blocks_are_only_taken_if_a_data_block_is_left_for_them(
    file_block: int, needed: int
) -> None:
    layers = Layers(blank(32 * KIB, block_size=512))
    inode, filler = layers.new_file(), layers.new_file()
    allocate(layers, filler, 0, 12)
    allocate(layers, filler, SINGLE, layers.free_blocks() - needed)  # 1 more is indirect
    assert layers.free_blocks() == needed - 1
    with pytest.raises(NoSpace):
        allocate(layers, inode, file_block, 1)
    assert layers.free_blocks() == needed - 1
    assert inode.blocks == 0
    truncate(layers, filler, SINGLE + 1)
    layers.cache.commit()
    allocate(layers, inode, file_block, 1)
    assert inode.blocks == needed


def test_free_all_gives_back_every_block_and_keeps_the_pointers() -> None:
    layers = Layers(blank(512 * KIB, block_size=512))
    inode = layers.new_file()
    free = layers.free_blocks()
    for first in (0, SINGLE + 5, DOUBLE + 300, TRIPLE + 9):
        allocate(layers, inode, first, 5)
    layers.cache.commit()
    pointers = list(inode.pointers)
    with layers.operation():
        layers.inodes.modify(inode)
        layers.blockmap.free_all(inode)
    assert inode.pointers == pointers
    assert layers.free_blocks() == free


def test_a_file_deleted_before_it_was_ever_written_gives_back_every_block() -> None:
    layers = Layers()
    inode = layers.new_file()
    free = layers.free_blocks()
    allocate(layers, inode, 0, 200)
    with layers.operation():
        layers.blockmap.free_all(inode)
    layers.cache.commit()
    assert layers.bitmap.available == free
    assert layers.bitmap.count_free() == free


def test_all_runs_lists_each_block_once_indirect_before_what_it_points_to() -> None:
    layers = Layers()
    inode = layers.new_file()
    allocate(layers, inode, 10, 4)
    allocate(layers, inode, DOUBLE, 2)
    kinds = [(kind, run.count) for kind, run in layers.blockmap.all_runs(inode)]
    assert kinds == [
        (Kind.DATA, 2),
        (Kind.INDIRECT, 1),
        (Kind.DATA, 2),
        (Kind.INDIRECT, 1),
        (Kind.INDIRECT, 1),
        (Kind.DATA, 2),
    ]


def test_a_pointer_out_of_the_data_region_is_damage() -> None:
    layers = Layers()
    inode = layers.new_file()
    allocate(layers, inode, SINGLE, 3)
    layers.cache.commit()
    indirect = inode.pointers[12]
    for wrong in (1, layers.geometry.data_start - 1, layers.geometry.block_count, 2**32 - 1):
        layers.memory.write(indirect, wrong.to_bytes(4, "little"), 4)
        fresh = Layers(layers.memory)
        with pytest.raises(Corrupt, match=f"found {wrong}") as raised:
            fresh.blockmap.runs(fresh.inodes.get(inode.ino), SINGLE, 3)
        assert (raised.value.block, raised.value.offset) == (indirect, 4)


def test_pointers_that_loop_end_as_damage_after_the_blocks_the_inode_has() -> None:
    layers = Layers()
    inode = layers.new_file()
    allocate(layers, inode, TRIPLE, 1)
    layers.cache.commit()
    top = inode.pointers[14]
    layers.memory.write(top, top.to_bytes(4, "little") * PER_BLOCK)
    fresh = Layers(layers.memory)
    looping = fresh.inodes.get(inode.ino)
    with pytest.raises(Corrupt, match="field blocks"):
        truncate(fresh, looping, 0)
    with pytest.raises(Corrupt, match="field blocks"), fresh.operation():
        fresh.blockmap.free_all(looping)
    assert fresh.bitmap.freed == 0


def test_an_error_while_freeing_leaves_the_file_whole() -> None:
    layers = Layers()
    inode = layers.new_file()
    allocate(layers, inode, 0, 12)
    allocate(layers, inode, DOUBLE + 5, 200)
    layers.cache.commit()
    whole = mapped(layers, inode, 0, DOUBLE + 210)
    for nth in (1, 2, 3):
        fresh = Layers(layers.memory)
        again = fresh.inodes.get(inode.ino)
        fresh.cache.device = fail_nth(fresh.device, "read", nth)
        assert errno_of(truncate, fresh, again, 3) == errno.EIO
        assert mapped(fresh, again, 0, DOUBLE + 210) == whole
        assert (fresh.bitmap.freed, again.record) == (0, inode.record)


#: Places near the ends of the trees, where off-by-one errors live.
places = st.builds(
    lambda near, by: max(near + by, 0),
    st.sampled_from([0, SINGLE, DOUBLE, DOUBLE + PER_BLOCK, TRIPLE, TRIPLE + PER_BLOCK**2]),
    st.integers(-3, 30),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["allocate", "truncate", "fail", "commit"]), places, st.integers(1, 20)
    ),
    min_size=8,
    max_size=25,
)


@given(steps)
def test_any_sequence_agrees_with_a_dict(sequence: list[tuple[str, int, int]]) -> None:
    layers = Layers(blank(512 * KIB, block_size=512))
    inode = layers.new_file()
    free = layers.free_blocks()
    model: dict[int, int] = {}  # file block -> disk block
    for what, at, count in sequence:
        if what == "allocate":
            runs = allocate(layers, inode, at, count)
            blocks = [block for run in runs for block in range(run.block, run.block + run.count)]
            assert len(blocks) == count
            for file_block, block in enumerate(blocks, at):
                assert model.setdefault(file_block, block) == block
        elif what == "truncate":
            truncate(layers, inode, at)
            model = {file_block: block for file_block, block in model.items() if file_block < at}
        elif what == "fail":
            with layers.undone():
                layers.inodes.modify(inode)
                layers.blockmap.truncate(inode, at)
                layers.blockmap.allocate(inode, at + 1, count)
        else:
            layers.cache.commit()
        wanted = [model.get(file_block, 0) for file_block in range(at, at + count)]
        assert mapped(layers, inode, at, count) == wanted
    assert len(set(model.values())) == len(model)
    data = [
        block
        for kind, run in layers.blockmap.all_runs(inode)
        for block in range(run.block, run.block + run.count)
        if kind == Kind.DATA
    ]
    assert data == [model[file_block] for file_block in sorted(model)]
    truncate(layers, inode, 0)
    assert (inode.blocks, layers.free_blocks()) == (0, free)
    layers.cache.commit()
    assert layers.bitmap.count_free() == free


def test_an_attribute_block_belongs_to_the_inode_but_not_to_its_contents() -> None:
    layers = Layers()
    inode = layers.new_file()
    free = layers.free_blocks()
    allocate(layers, inode, 0, 3)
    with layers.operation():
        layers.inodes.modify(inode)
        inode.attribute_block, _ = layers.bitmap.allocate(None)
        inode.blocks += 1
    owned = [(kind, run.count) for kind, run in layers.blockmap.all_runs(inode)]
    assert owned == [(Kind.DATA, 3), (Kind.ATTRIBUTE, 1)]
    truncate(layers, inode, 0)
    assert (inode.blocks, layers.free_blocks()) == (1, free - 1)
    with layers.operation():
        layers.blockmap.free_all(inode)
    assert layers.free_blocks() == free


def test_truncating_inside_a_double_indirect_tree_keeps_what_lies_before() -> None:
    layers = Layers()
    inode = layers.new_file()
    for first in (DOUBLE, DOUBLE + PER_BLOCK, DOUBLE + 3 * PER_BLOCK):
        allocate(layers, inode, first, 4)
    truncate(layers, inode, DOUBLE + PER_BLOCK + 2)
    assert inode.blocks == 6 + 3  # data, and the double indirect with two below it
    assert all(mapped(layers, inode, DOUBLE, 4))
    assert [bool(block) for block in mapped(layers, inode, DOUBLE + PER_BLOCK, 4)] == [
        True,
        True,
        False,
        False,
    ]
    truncate(layers, inode, DOUBLE + 1)
    assert inode.blocks == 1 + 2


# -- where blocks are placed -------------------------------------------------------


def owned(layers: Layers, inode: Inode) -> list[int]:
    """Every block of the inode, an indirect one before those it points to."""
    runs = (run for _, run in layers.blockmap.all_runs(inode))
    return [block for run in runs for block in range(run.block, run.block + run.count)]


def stretches(blocks: list[int]) -> int:
    """How many runs they form."""
    return 1 + sum(block + 1 != following for block, following in itertools.pairwise(blocks))


def grow_in_turns(layers: Layers, inodes: list[Inode], total: int, piece: int) -> None:
    for first in range(0, total, piece):
        for inode in inodes:
            allocate(layers, inode, first, piece)


@pytest.mark.parametrize("piece", [1, 7, 256, 2560])
@pytest.mark.parametrize("block_size", [512, 4096])
def test_a_file_that_grows_alone_lies_in_one_run_with_its_indirect_blocks(
    piece: int, block_size: int
) -> None:
    layers = Layers(blank(3000 * block_size, block_size=block_size), block_size=block_size)
    inode = layers.new_file()
    grow_in_turns(layers, [inode], 2560, piece)
    blocks = owned(layers, inode)
    assert blocks == list(range(blocks[0], blocks[0] + inode.blocks))


@pytest.mark.parametrize("files", [2, 3, 5])
@pytest.mark.parametrize("piece", [1, 32])
def test_the_runs_of_files_that_grow_in_turns_grow_as_the_logarithm_of_their_length(
    files: int, piece: int
) -> None:
    """Each skips ahead by its length when it meets another; the gap is the other's."""
    counts = []
    for total in (640, 1280, 2560):
        layers = Layers(blank(128 * 1024 * KIB, block_size=4096), block_size=4096)
        inodes = [layers.new_file() for _ in range(files)]
        grow_in_turns(layers, inodes, total, piece)
        runs = [stretches(owned(layers, inode)) for inode in inodes]
        counts.append(sum(runs) / files)
        last = max(max(owned(layers, inode)) for inode in inodes)
        assert last - layers.geometry.data_start < 3 * files * total
    assert counts[1] - counts[0] < 2 * files
    assert counts[2] - counts[1] < 2 * files
    assert counts[2] < 50


def test_small_files_that_grow_in_turns_leave_no_gaps() -> None:
    layers = Layers()
    inodes = [layers.new_file() for _ in range(4)]
    grow_in_turns(layers, inodes, 12, 1)
    blocks = sorted(block for inode in inodes for block in owned(layers, inode))
    assert stretches(blocks) == 1


def make_holes(layers: Layers, files: int, size: int) -> list[Inode]:
    """Files of `size` blocks in a row, every other one emptied again."""
    small = [layers.new_file() for _ in range(files)]
    for inode in small:
        allocate(layers, inode, 0, size)
    for inode in small[::2]:
        truncate(layers, inode, 0)
    layers.cache.commit()
    return small


def test_a_large_write_goes_past_holes_that_are_too_small_for_it() -> None:
    layers = Layers()
    small = make_holes(layers, 40, 2)
    end = max(owned(layers, small[-1]))
    large, tiny = layers.new_file(), layers.new_file()
    allocate(layers, large, 0, 100)
    assert owned(layers, large) == list(range(end + 1, end + 102))
    allocate(layers, tiny, 0, 2)
    assert owned(layers, tiny) == [layers.geometry.data_start + 1, layers.geometry.data_start + 2]


def test_holes_of_any_size_are_used_before_space_runs_out() -> None:
    layers = Layers(blank(64 * KIB, block_size=512))
    make_holes(layers, 12, 3)
    large = layers.new_file()
    free = layers.free_blocks()
    allocate(layers, large, 0, 1000)
    assert (layers.free_blocks(), large.blocks) == (0, free)


def test_the_first_block_goes_where_it_was_asked_for() -> None:
    layers = Layers()
    inode, other = layers.new_file(), layers.new_file()
    goal = layers.geometry.data_start + 200
    for file in (inode, other):
        file.goal = goal
        allocate(layers, file, 0, 3)
    assert owned(layers, inode) == [goal, goal + 1, goal + 2]
    assert owned(layers, other) == [goal + 3, goal + 4, goal + 5]


def test_the_first_indirect_block_goes_there_too() -> None:
    layers = Layers()
    inode = layers.new_file()
    goal = layers.geometry.data_start + 200
    inode.goal = goal
    allocate(layers, inode, DOUBLE, 2)
    assert owned(layers, inode) == list(range(goal, goal + 4))


def test_a_file_that_is_rewritten_again_and_again_stays_where_it_is() -> None:
    layers = Layers()
    inode = layers.new_file()
    allocate(layers, layers.new_file(), 0, 50)
    allocate(layers, inode, 0, 10)
    first = inode.pointers[0]
    for number in range(60):
        truncate(layers, inode, 0)
        allocate(layers, inode, 0, 10)
        if number % 2:
            layers.cache.commit()
        assert all(first <= block < first + 40 for block in owned(layers, inode))


def test_a_block_in_a_hole_goes_behind_its_neighbour_or_their_indirect_block() -> None:
    layers = Layers()
    inode = layers.new_file()
    goal = layers.geometry.data_start + 200
    inode.goal = goal
    for file_block in (0, 7, SINGLE + 50, SINGLE + 60, SINGLE + 30):
        allocate(layers, inode, file_block, 1)
        allocate(layers, layers.new_file(), 0, 1)  # elsewhere
    assert sorted(owned(layers, inode)) == list(range(goal, goal + 6))


# -- seeking data and holes --------------------------------------------------------


@given(
    st.lists(st.tuples(places, st.integers(1, 40)), max_size=6),
    st.lists(places, min_size=1, max_size=8),
    places,
)
def test_seeking_agrees_with_looking_at_each_block(
    written: list[tuple[int, int]], starts: list[int], end: int
) -> None:
    layers = Layers(blank(512 * KIB, block_size=512))
    inode = layers.new_file()
    there: set[int] = set()
    for first, count in written:
        allocate(layers, inode, first, count)
        there |= set(range(first, first + count))
    for start in starts:
        data = min((block for block in there if start <= block < end), default=end)
        hole = start
        while hole < end and hole in there:
            hole += 1
        if start < end:
            assert layers.blockmap.seek(inode, start, end, hole=False) == data
            assert layers.blockmap.seek(inode, start, end, hole=True) == hole


def test_a_hole_of_terabytes_is_passed_in_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = Layers(blank(256 * KIB, block_size=4096), block_size=4096)
    inode = layers.new_file()
    last = 12 + 1024 + 1024**2 + 1024**3 - 1
    allocate(layers, inode, last, 1)
    looked: list[int] = []
    leaf = layers.blockmap._leaf

    def noted(inode: Inode, file_block: int) -> Any:
        looked.append(file_block)
        return leaf(inode, file_block)

    monkeypatch.setattr(layers.blockmap, "_leaf", noted)
    assert layers.blockmap.seek(inode, 0, last + 1, hole=False) == last
    assert len(looked) <= 6  # direct, single, double, and once for each level of triple
    looked.clear()
    assert layers.blockmap.runs(inode, 0, last) == [Run(0, last)]
    assert len(looked) <= 6


@pytest.mark.parametrize("hole", [True, False])
def test_seeking_in_pointers_that_loop_ends_as_damage(hole: bool) -> None:
    """For a hole among blocks that are all there, for data below blocks without any."""
    layers = Layers()
    inode = layers.new_file()
    allocate(layers, inode, TRIPLE, 1)
    layers.cache.commit()
    top, middle, bottom, _ = owned(layers, inode)
    following = [(top, top)] if hole else [(top, middle), (middle, bottom), (bottom, 0)]
    for block, pointer in following:
        layers.memory.write(block, pointer.to_bytes(4, "little") * PER_BLOCK)
    fresh = Layers(layers.memory)
    looping = fresh.inodes.get(inode.ino)
    with pytest.raises(Corrupt, match="field blocks"):
        fresh.blockmap.seek(looping, TRIPLE, END, hole=hole)


@pytest.mark.parametrize("count", [1, 3, 14])
def test_pointers_of_an_inode_that_claims_no_blocks_are_kept(count: int) -> None:
    """A damaged count of blocks: what the pointers lead to is the file's all the same."""
    layers = Layers()
    inode = layers.new_file()
    (run,) = allocate(layers, inode, 0, 2)
    inode.blocks = 0
    first = allocate(layers, inode, 0, count)[0]
    assert (first.block, first.fresh) == (run.block, False)
    assert mapped(layers, inode, 0, 2) == [run.block, run.block + 1]
