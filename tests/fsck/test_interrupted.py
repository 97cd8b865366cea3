"""The plug is pulled while the repairs of the broken images are written."""

from __future__ import annotations

import random
from typing import Final

import pytest

from tests.conftest import MORE
from tests.fsck.mutants import subject
from tests.support.broken import Broken, broken_images, repaired
from tests.support.examine import is_unharmed, without_reserved
from tests.support.interrupted import crash_states
from tests.support.mutation import Mutant
from tests.support.rawwalk import walk

#: States of each image that are looked at; all with VSFS_TEST_EXAMPLES.
EACH: Final = 3
#: Where only few of the states show a wrong order.
ALL_OF: Final = {"journal-is-another-file"}
REPAIRABLE: Final = [
    image for image in broken_images() if image.kind in ("homework", "damage", "crash")
]


@pytest.mark.parametrize("image", REPAIRABLE, ids=lambda image: image.name)
def test_an_interrupted_repair_of_the_list_can_be_repaired(image: Broken) -> None:
    """And it harms no more than the damage did; what it could not repair is the same."""
    made_from, broken = subject(image.base), Mutant(image.data, (), ())
    report, _ = repaired(image.data)
    left = {finding.rule.number for finding in report.left} | {701}  # it stays "mounted" then
    states = list(crash_states(image.data, report.geometry.block_size, seed=1))
    if not MORE and image.name not in ALL_OF:
        states = random.Random(image.name).sample(states, min(EACH, len(states)))
    for state in states:
        again, after = repaired(state)
        if report.left:
            assert {finding.rule.number for finding in again.left} <= left
            continue
        assert again.left == ()
        assert repaired(after)[0].findings == ()
        found = walk(without_reserved(after))
        assert found.findings == []
        is_unharmed(made_from, broken, found)
