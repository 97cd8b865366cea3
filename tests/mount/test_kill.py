"""kill -9 of a mount's process: what was durable is there, the rest is sound.

``python -m tests.mount.kill_rounds`` is the long form, and says what is done.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mount.kill_rounds import rounds
from tests.support.kills import Round, play

#: File churn in both modes, each of the others in one.
PLANS = [
    plan
    for plan in rounds(8, seed=1)
    if plan.program == "churn" or plan.journal == (plan.program in ("git", "sqlite3"))
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.program}, {plan.mode}")
def test_what_was_fsynced_is_there_after_a_kill(plan: Round, tmp_path: Path) -> None:
    assert play(plan, tmp_path, longest=0.5).problems == ()
