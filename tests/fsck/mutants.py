"""The numbered stream of broken images that CI and the long run both check."""

from __future__ import annotations

import functools
from typing import Final

from tests.support.broken import unpacked
from tests.support.examine import Outcome, Subject, examine
from tests.support.images import mount
from tests.support.mutation import Mutant, mutant
from vsfs.device import MemoryDevice

#: Which sound image the n-th one is made from, over and over.
BASES: Final = (
    "small",
    "tree",
    "small",
    "book",
    "small",
    "full",
    "small",
    "tree",
    "small",
    "small",
    "journal",
    "waiting",
    "journal",
    "waiting",
)

WAITING: Final = "crash-transaction-waits"  # what "waiting" is called among the broken ones

PREEN_EACH: Final = 3  # of so many images, one is also tried with -p


@functools.cache
def subject(base: str) -> Subject:
    """The sound image images/broken/base-NAME.img.gz, or the one with a transaction to replay."""
    if base != "waiting":
        return Subject(unpacked(f"base-{base}"))
    device = MemoryDevice(bytearray(unpacked(WAITING)))
    mount(device).unmount()
    return Subject(unpacked(WAITING), bytes(device.image))


def nth(seed: int, number: int) -> tuple[Subject, Mutant]:
    """The `number`-th broken image of `seed`, and what it was made from."""
    made_from = subject(BASES[number % len(BASES)])
    return made_from, mutant(made_from, seed, number)


def examine_nth(seed: int, number: int) -> tuple[Mutant, Outcome]:
    """Check it; what is raised says how to repeat it."""
    made_from, broken = nth(seed, number)
    try:
        return broken, examine(made_from, broken, with_preen=number % PREEN_EACH == 0)
    except BaseException as error:
        error.add_note(how_to_repeat(seed, number, broken))
        raise


def how_to_repeat(seed: int, number: int, broken: Mutant) -> str:
    """The damage, and the command that does it again."""
    return (
        f"image {number} of seed {seed}, made from {BASES[number % len(BASES)]}:\n  "
        + "\n  ".join(broken.recipe)
        + f"\nagain: python -m tests.fsck.long_run --seed {seed} --only {number} [--save FILE]"
    )
