"""The list of broken images; each is a function that breaks a sound one.

Its name is the image's, its docstring the line that says what is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.damage import Image

#: What a case is for -> what the list in README.md says about all of that kind.
KINDS: Final = {
    "homework": "The damage of OSTEP's homework for chapter 42 (`fsck.py`), each kind both ways",
    "damage": "One thing wrong, or one accident that makes many things wrong",
    "crash": "What a power cut leaves: `fsck.vsfs -p` and a mount repair it without a question",
    "unseen": "Damage that no checker can see: all structures still agree with each other",
    "sound": "Looks odd, and is allowed",
    "refused": "Nothing to check: made by a newer version, or nothing of VSFS is left",
}


@dataclass(frozen=True)
class Case:
    """A broken image: made from the sound image `base` by `break_it`."""

    name: str
    description: str
    base: str
    kind: str
    break_it: Callable[[Image], None]


CASES: Final[list[Case]] = []


def case(
    base: str = "tree", kind: str = "damage"
) -> Callable[[Callable[[Image], None]], Callable[[Image], None]]:
    """Declare the function below a case."""

    def declare(break_it: Callable[[Image], None]) -> Callable[[Image], None]:
        assert break_it.__doc__ is not None
        assert kind in KINDS
        name = break_it.__name__.strip("_").replace("_", "-")
        CASES.append(Case(name, " ".join(break_it.__doc__.split()), base, kind, break_it))
        return break_it

    return declare


def noise(seed: str, size: int) -> bytes:
    """Random bytes, the same for the same `seed`."""
    return random.Random(seed).randbytes(size)  # noqa: S311  nothing secret
