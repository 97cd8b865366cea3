"""What the fuzzer found, without the fuzzer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.patches import READ, SEAL, changes, decoded, encoded, run_one, subject
from tests.fuzz.seeds import LONGEST, seeds
from tests.support.damage import Image
from tests.support.rawwalk import walk

CORPUS: Final = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_an_input_of_the_corpus_breaks_no_promise(path: Path) -> None:
    run_one(path.read_bytes())


def test_there_is_a_corpus() -> None:
    assert CORPUS


def test_an_empty_input_is_the_sound_image() -> None:
    assert subject().data == decoded(b"").data == decoded(b"\1").data


@given(st.lists(st.tuples(st.integers(0, 65000), st.binary(min_size=1, max_size=100))))
def test_changes_are_what_was_asked_for(wanted: list[tuple[int, bytes]]) -> None:
    expected = Image(subject().data)
    for where, content in wanted:
        expected.put(where, content)
    assert decoded(encoded(0, wanted)).data == bytes(expected.data)
    assert changes(encoded(READ, wanted)) == changes(encoded(SEAL, wanted))


def test_checksums_are_made_right_again() -> None:
    image = Image(subject().data)
    where = [88, image.inode_at(image.find("/dir/fifo")) + 40]
    broken = decoded(encoded(SEAL, [(at, b"x") for at in where]))
    assert walk(broken.data).findings == []
    assert walk(decoded(encoded(0, [(where[1], b"x")])).data).findings != []


def test_seeds_are_small_and_not_all_alike() -> None:
    made = seeds()
    assert len(set(made)) > 100
    assert max(map(len, made)) <= LONGEST
