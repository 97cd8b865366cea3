"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vsfs_tools.sizes import parse_size, show_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("256K", 2**18), ("1m", 2**20), ("3GiB", 3 * 2**30), ("2TB", 2**41)],
)
def test_units_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "1.5M", "-1", "12Q", "0x10", "1 M", "٣", "1KK"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="256K"):
        parse_size(text)


@given(st.integers(1, 2**50))
def test_a_shown_size_is_exact(size: int) -> None:
    number, unit = show_size(size).split()
    assert parse_size(number + ("" if unit == "bytes" else unit)) == size
