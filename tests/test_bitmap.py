"""Allocation: first fit, runs, goals, room, and frees that wait for the commit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.layers import Layers
from vsfs import bitmap
from vsfs.bitmap import Bitmap
from vsfs.buffer import BufferCache
from vsfs.device import Kind, MemoryDevice, RecordingDevice
from vsfs.errors import CommitNeeded, Corrupt, NoSpace
from vsfs.layout import Geometry

BITS = 512 * 8  # in a block
FIRST = 100  # number of the first thing
START = 1  # first block of the bitmap


class Bits:
    """A bitmap of `count` bits over blocks of 512 bytes, some of them set."""

    def __init__(
        self, count: int, used: set[int] | None = None, available: int | None = None
    ) -> None:
        blocks = -(-count // BITS)
        self.memory = MemoryDevice(bytearray((START + blocks) * 512))
        ones = sum(1 << bit for bit in used or ())
        ones |= (1 << blocks * BITS) - (1 << count)
        self.memory.image[START * 512 :] = ones.to_bytes(blocks * 512, "little")
        self.device = RecordingDevice(self.memory)
        self.device.block_size = 512
        geometry = Geometry(512, 1 + blocks, 16, 1, 1, 1, 1)
        self.cache = BufferCache(self.device, geometry)
        self.map = Bitmap(
            self.cache,
            kind=Kind.DATA_BITMAP,
            start=START,
            first=FIRST,
            count=count,
            available=count - len(used or ()) if available is None else available,
        )
        self.cache.begin()

    def ones(self) -> set[int]:
        """The bits that are set on the device."""
        bits = int.from_bytes(self.memory.image[START * 512 :], "little")
        return {bit for bit in range(bits.bit_length()) if bits >> bit & 1}

    def commit(self) -> None:
        self.cache.end()
        self.cache.commit()
        self.cache.begin()


def test_the_lowest_free_number_is_taken_first() -> None:
    bits = Bits(64, used={0, 1, 2, 5})
    assert [bits.map.allocate(None)[0] for _ in range(3)] == [FIRST + 3, FIRST + 4, FIRST + 6]


def test_a_run_ends_at_the_first_number_in_use() -> None:
    bits = Bits(64, used={0, 6})
    assert bits.map.allocate(None, 10) == (FIRST + 1, 5)
    assert bits.map.allocate(None, 10) == (FIRST + 7, 10)


def test_the_search_starts_at_the_goal_and_goes_round() -> None:
    bits = Bits(64, used={20, 21})
    assert bits.map.allocate(FIRST + 20) == (FIRST + 22, 1)
    assert bits.map.allocate(FIRST + 60, 8) == (FIRST + 60, 4)
    assert bits.map.allocate(FIRST + 60) == (FIRST, 1)


@pytest.mark.parametrize("goal", [0, FIRST - 1, FIRST + 64, 2**32])
def test_a_goal_outside_means_the_start(goal: int) -> None:
    assert Bits(64).map.allocate(goal) == (FIRST, 1)


def test_every_number_is_given_out_once_and_then_none() -> None:
    bits = Bits(BITS + 77, used=set(range(40)))
    taken: list[int] = []
    while bits.map.available:
        number, count = bits.map.allocate(None, 50)
        taken += range(number, number + count)
    assert sorted(taken) == list(range(FIRST + 40, FIRST + BITS + 77))
    with pytest.raises(NoSpace):
        bits.map.allocate(None)
    bits.commit()
    assert bits.ones() == set(range(2 * BITS))


def test_bits_past_the_end_are_never_given_out_even_if_damage_cleared_them() -> None:
    bits = Bits(10)
    bits.memory.image[START * 512 :] = bytes(512)
    taken = {bits.map.allocate(None)[0] for _ in range(10)}
    assert taken == set(range(FIRST, FIRST + 10))
    with pytest.raises(NoSpace):
        bits.map.allocate(None)


def test_a_run_does_not_cross_into_the_next_block_of_the_bitmap() -> None:
    bits = Bits(2 * BITS)
    assert bits.map.allocate(FIRST + BITS - 3, 10) == (FIRST + BITS - 3, 3)
    assert bits.map.allocate(FIRST + BITS, 10) == (FIRST + BITS, 10)


def test_what_is_freed_is_not_given_out_before_the_commit() -> None:
    bits = Bits(16, used=set(range(16)))
    bits.map.free(FIRST + 3, 2)
    assert bits.map.freed == 2
    assert bits.map.available == 0
    with pytest.raises(CommitNeeded):
        bits.map.allocate(None)
    with pytest.raises(CommitNeeded):
        bits.map.require(1)
    assert bits.map.is_set(FIRST + 3)
    bits.commit()
    assert (bits.map.freed, bits.map.available) == (0, 2)
    assert not bits.map.is_set(FIRST + 3)
    assert bits.map.allocate(None, 5) == (FIRST + 3, 2)


def test_a_run_over_several_blocks_of_the_bitmap_is_freed_whole() -> None:
    count = 3 * BITS
    bits = Bits(count, used=set(range(count)))
    bits.map.free(FIRST + 5, 2 * BITS + 7)
    bits.commit()
    assert bits.ones() == set(range(5)) | set(range(2 * BITS + 12, count))
    assert bits.map.available == 2 * BITS + 7


def test_freeing_what_is_free_is_damage_and_changes_nothing() -> None:
    bits = Bits(16, used={4, 5, 7})
    with pytest.raises(Corrupt, match="block bitmap"):
        bits.map.free(FIRST + 4, 4)
    assert bits.map.freed == 0
    bits.commit()
    assert bits.ones() >= {4, 5, 7}


def test_freeing_twice_in_one_transaction_is_counted_once() -> None:
    """Damage may have given a block to two files that are deleted together."""
    bits = Bits(16, used={4})
    bits.map.free(FIRST + 4)
    bits.map.free(FIRST + 4)
    bits.commit()
    assert bits.map.available == 16
    assert bits.map.count_free() == 16


def test_rollback_gives_back_what_was_taken_and_keeps_what_was_freed() -> None:
    bits = Bits(BITS, used={0, 1, 2})
    bits.map.allocate(None, 20)
    bits.map.free(FIRST + 1)
    bits.cache.rollback()
    assert (bits.map.available, bits.map.freed) == (BITS - 3, 0)
    bits.cache.begin()
    assert bits.map.allocate(None, 2) == (FIRST + 3, 2)


def test_an_allocation_looks_at_no_more_bitmap_blocks_than_it_needs() -> None:
    bits = Bits(64 * BITS, used=set(range(3)))
    bits.map.allocate(None)
    bits.map.allocate(FIRST + 10 * BITS)
    assert [access.block_no for access in bits.device.accesses] == [START, START + 10]


def test_full_blocks_are_not_searched_again() -> None:
    """Filling it one by one costs the same for the last as for the first."""
    bits = Bits(8 * BITS, used=set(range(7 * BITS)))
    searched: list[int] = []
    original = bits.map._read
    bits.map._read = lambda block: searched.append(block) or original(block)  # type: ignore[method-assign,func-returns-value]
    bits.map.allocate(None)
    assert set(searched) == set(range(8))
    searched.clear()
    for _ in range(10):
        bits.map.allocate(None)
    assert set(searched) <= {7}


def steps_of(call: Callable[[], object]) -> int:
    """The lines of ``vsfs/bitmap.py`` that a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename.endswith("bitmap.py") else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("room", [1, 50])
@pytest.mark.parametrize("behind", [0, BITS + 5])
def test_an_allocation_takes_as_many_steps_behind_many_full_blocks_as_behind_one(
    behind: int, room: int
) -> None:
    steps = []
    for full in (3, 60):
        bits = Bits((full + 1) * BITS, used=set(range(full * BITS)))
        goal = FIRST + behind
        bits.map.allocate(goal, 3, room)  # reads the full ones
        bits.device.accesses.clear()
        bits.map._searched.clear()  # as if it had started elsewhere
        steps.append(steps_of(lambda bits=bits, goal=goal: bits.map.allocate(goal, 3, room)))  # type: ignore[misc]
        assert bits.device.accesses == []
    assert steps[0] == steps[1]


@pytest.mark.parametrize("room", [1, 4])
def test_a_full_block_in_which_something_was_freed_is_searched_again(room: int) -> None:
    bits = Bits(4 * BITS, used=set(range(3 * BITS)))
    bits.map.allocate(FIRST + 5, 1, room)
    bits.map.free(FIRST + BITS + 7, 4)
    assert bits.map.allocate(FIRST + 5, 1, room) == (FIRST + 3 * BITS + 1, 1)
    bits.commit()
    assert bits.map.allocate(FIRST + 5, 9, room) == (FIRST + BITS + 7, 4)
    bits.cache.rollback()
    bits.cache.begin()
    assert bits.map.allocate(FIRST + 5, 9, room) == (FIRST + BITS + 7, 4)


def test_a_repeated_search_starts_where_the_last_one_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[int] = []
    first_zero = bitmap._first_zero

    def noted(data: bytearray, bit: int) -> int | None:
        starts.append(bit)
        return first_zero(data, bit)

    monkeypatch.setattr(bitmap, "_first_zero", noted)
    bits = Bits(BITS, used=set(range(10, 2000)))
    found = [bits.map.allocate(FIRST + 50, 7) for _ in range(3)]
    assert found == [(FIRST + start, 7) for start in (2000, 2007, 2014)]
    assert starts == [50]


# -- extending, and room -----------------------------------------------------------


def test_a_run_is_extended_only_by_what_is_free_right_there() -> None:
    bits = Bits(64, used={0, 1, 5})
    assert bits.map.extend(FIRST + 1, 3) == 0
    assert bits.map.extend(FIRST + 2, 10) == 3
    assert bits.map.extend(FIRST + 2, 10) == 0
    assert bits.map.extend(FIRST + 60, 10) == 4
    for outside in (0, FIRST - 1, FIRST + 64, 2**32):
        assert bits.map.extend(outside, 1) == 0
    assert bits.map.available == 64 - 3 - 3 - 4


def test_what_extended_a_run_is_given_back_by_a_rollback() -> None:
    bits = Bits(64)
    assert bits.map.extend(FIRST, 64) == 64
    bits.cache.rollback()
    bits.cache.begin()
    assert bits.map.extend(FIRST + 3, 5) == 5


def test_a_run_with_room_is_preferred_to_small_ones_before_it() -> None:
    bits = Bits(200, used=set(range(0, 100, 2)) | set(range(110, 120)))
    assert bits.map.allocate(None, 8, room=8) == (FIRST + 99, 8)
    assert bits.map.allocate(None, 20, room=20) == (FIRST + 120, 20)
    assert bits.map.allocate(None, 1, room=1) == (FIRST + 1, 1)


def test_runs_with_room_are_taken_in_order_and_the_last_costs_what_the_first_did() -> None:
    holes = [(68 * number, 17 if number % 3 else 16) for number in range(1, 115)]  # in two blocks
    used = set(range(2 * BITS)) - {bit for at, size in holes for bit in range(at, at + size)}
    bits = Bits(2 * BITS, used=used)
    large = [FIRST + at for at, size in holes if size == 17]
    found, steps = [], []
    for _ in large:
        steps.append(steps_of(lambda: found.append(bits.map.allocate(None, 12, room=17))))
        assert bits.map.extend(found[-1][0] + 12, 5) == 5
    assert found == [(number, 12) for number in large]
    assert sorted(steps)[-3] < 2 * min(steps)  # but for the first, and that in the next block
    bits.map.free(large[3], 17)
    bits.commit()
    assert bits.map.allocate(None, 12, room=17) == (large[3], 12)


def test_without_enough_room_the_longest_run_is_taken_to_a_factor_of_two() -> None:
    bits = Bits(100, used=set(range(100)) - {5, 10, 11, 12, *range(50, 57)})
    assert bits.map.allocate(None, 32, room=32) == (FIRST + 50, 7)
    assert bits.map.allocate(None, 32, room=32) == (FIRST + 10, 3)
    assert bits.map.allocate(None, 32, room=32) == (FIRST + 5, 1)


def test_room_is_found_in_another_block_of_the_bitmap_but_not_searched_for_in_all() -> None:
    """Bounded: eight blocks, each read once."""
    holes = set(range(60 * BITS)) - {block * BITS + 7 for block in range(60)}
    bits = Bits(61 * BITS, used=holes)
    assert bits.map.allocate(FIRST + 20 * BITS, 5, room=5) == (FIRST + 20 * BITS + 7, 1)
    assert len(bits.device.accesses) == 8
    assert bits.map.allocate(FIRST + 55 * BITS, 5, room=5) == (FIRST + 60 * BITS, 5)
    bits.device.accesses.clear()
    steps = [steps_of(lambda: bits.map.allocate(FIRST + 21 * BITS, 5, room=5)) for _ in range(2)]
    assert max(steps) < 250
    assert [access.block_no - START for access in bits.device.accesses] == [28, 29]


def longest(free: set[int]) -> int:
    best = length = 0
    for bit in range(300):
        length = length + 1 if bit in free else 0
        best = max(best, length)
    return best


def length_at(free: set[int], bit: int) -> int:
    return next(count for count in range(301) if bit + count not in free)


@given(
    st.sets(st.integers(0, 299)),
    st.lists(
        st.tuples(
            st.sampled_from(["take", "take", "take", "free", "fail", "commit"]),
            st.none() | st.integers(0, 299),
            st.integers(1, 9),
            st.integers(1, 40),
        ),
        max_size=40,
    ),
)
def test_no_run_is_less_than_half_as_long_as_what_was_wanted_and_there(
    used: set[int], sequence: list[tuple[str, int | None, int, int]]
) -> None:
    bits = Bits(300, used=used)
    free, freed = set(range(300)) - used, set[int]()
    for what, at, count, room in sequence:
        wanted = set(range(at or 0, min((at or 0) + count, 300)))
        if what in ("take", "fail") and free:
            number, got = bits.map.allocate(None if at is None else FIRST + at, count, room)
            length = length_at(free, number - FIRST)
            assert got == min(count, length)
            assert 2 * length >= min(longest(free), room)
            if what == "take":
                free -= set(range(number - FIRST, number - FIRST + got))
            else:
                bits.cache.rollback()
        elif what == "free" and not wanted & (free | freed):
            bits.map.free(FIRST + min(wanted), len(wanted))
            freed |= wanted
        elif what == "commit":
            bits.commit()
            free, freed = free | freed, set()
        bits.cache.end()
        bits.cache.begin()
        assert (bits.map.available, bits.map.freed) == (len(free), len(freed))


def test_a_shortage_of_inodes_and_of_blocks_says_which() -> None:
    layers = Layers()
    with pytest.raises(NoSpace, match="inode"):
        layers.inode_bitmap.require(10**9)
    with pytest.raises(NoSpace, match="block"):
        layers.bitmap.require(10**9)


def test_the_count_of_a_damaged_image_is_found_by_reading_it() -> None:
    bits = Bits(2 * BITS + 9, used={1, 2, 3, BITS, 2 * BITS + 8}, available=5)
    assert bits.map.count_free() == 2 * BITS + 9 - 5


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.none() | st.integers(0, 300), st.integers(1, 40)),
        st.tuples(st.just("free"), st.integers(0, 299), st.integers(1, 20)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
        st.tuples(st.just("fail"), st.integers(0, 299), st.integers(1, 40)),
    ),
    min_size=15,
    max_size=50,
)


@given(st.sets(st.integers(0, 299)), steps)
def test_any_sequence_agrees_with_a_set(
    used: set[int], sequence: list[tuple[str, int | None, int]]
) -> None:
    bits = Bits(300, used=used)
    taken, freed = set(used), set[int]()  # taken still contains what was freed

    def expected_run(start: int, count: int) -> tuple[int, int] | None:
        order = [*range(start, 300), *range(start)]
        first = next((bit for bit in order if bit not in taken), None)
        if first is None:
            return None
        end = first
        while end < 300 and end not in taken and end - first < count:
            end += 1
        return first, end - first

    for what, at, count in sequence:
        if what in ("take", "fail"):
            run = expected_run(at if at is not None and at < 300 else 0, count)
            goal = None if at is None else FIRST + at
            if run is None:
                with pytest.raises(CommitNeeded if freed else NoSpace):
                    bits.map.allocate(goal, count)
                continue
            assert bits.map.allocate(goal, count) == (FIRST + run[0], run[1])
            if what == "fail":
                bits.cache.rollback()
                bits.cache.begin()
            else:
                taken |= set(range(run[0], sum(run)))
        elif what == "free":
            assert at is not None
            wanted = set(range(at, at + count))
            if wanted <= taken - freed:
                bits.map.free(FIRST + at, count)
                freed |= wanted
        else:
            bits.commit()
            taken, freed = taken - freed, set()
            assert bits.ones() == taken | set(range(300, BITS))
        bits.cache.end()
        bits.cache.begin()
        assert (bits.map.available, bits.map.freed) == (300 - len(taken), len(freed))
    assert bits.map.count_free() == 300 - len(taken)


def test_a_failed_operation_frees_nothing_at_the_next_commit() -> None:
    layers = Layers()
    with layers.operation():
        block, _ = layers.bitmap.allocate(None)
    layers.cache.commit()
    with layers.undone():
        layers.bitmap.free(block)
    layers.cache.commit()
    assert layers.bitmap.is_set(block)
