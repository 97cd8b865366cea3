"""Usage: a set of numbers that reads as a bitmap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsfs.fsck.usage import Usage

COUNT = 100
PER_BLOCK = 32

runs = st.lists(
    st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT)).map(
        lambda pair: (pair[0], min(pair[1], COUNT - pair[0]))
    ),
    max_size=12,
)


def bitmap(used: set[int], index: int) -> bytes:
    """A bitmap block, bit by bit."""
    bits = sum(
        1 << k
        for k in range(PER_BLOCK)
        if index * PER_BLOCK + k in used or index * PER_BLOCK + k >= COUNT
    )
    return bits.to_bytes(PER_BLOCK // 8, "little")


@given(runs, st.sets(st.integers(0, COUNT - 1)))
def test_it_is_a_set_of_numbers(marked: list[tuple[int, int]], cleared: set[int]) -> None:
    usage, model = Usage(COUNT, PER_BLOCK), set[int]()
    for first, count in marked:
        run = set(range(first, first + count))
        assert usage.mark(first, count) == sorted(run & model)
        model |= run
    for number in cleared:
        usage.clear(number)
    model -= cleared
    assert list(usage) == sorted(model)
    assert usage.used == len(model)
    assert [number in usage for number in range(COUNT)] == [n in model for n in range(COUNT)]
    assert usage.find_free() == min(set(range(COUNT)) - model, default=None)
    for index in range(5):  # the last ones wholly past the end
        assert usage.bits(index) == bitmap(model, index)


def test_free_numbers_are_found_again_after_they_were_given_back() -> None:
    usage = Usage(COUNT, PER_BLOCK)
    usage.mark(0, COUNT)
    assert usage.find_free() is None
    usage.clear(70)
    assert usage.find_free() == 70
    usage.clear(3)
    assert usage.find_free() == 3


def test_clearing_a_free_number_changes_nothing() -> None:
    usage = Usage(COUNT, PER_BLOCK)
    usage.clear(5)
    assert usage.used == 0
    assert list(usage) == []


@pytest.mark.parametrize("run", [(-1, 1), (COUNT, 1), (0, COUNT + 1)])
def test_numbers_outside_are_a_mistake_of_the_caller(run: tuple[int, int]) -> None:
    with pytest.raises(AssertionError):
        Usage(COUNT, PER_BLOCK).mark(*run)


def test_memory_follows_what_is_used() -> None:
    usage = Usage(2**32, 32768)
    usage.mark(2**32 - 1)
    usage.mark(0)
    assert len(usage._pieces) == 2
    assert usage.bits(5000) == bytes(4096)
