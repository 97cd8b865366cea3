"""The long form of test_kill.py: ``python -m tests.mount.kill_rounds``, 200 rounds.

Each kills the process of a mount with SIGKILL while a program is at work on it: file
churn, git, SQLite and fio in turn, without and with a journal, over each binding.
The counts go to ``docs/RELIABILITY.md``.  The moment of a kill cannot be repeated,
so the image as it was left is kept in ``build/kills`` if something is wrong with it.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.documents import ROOT, put_between
from tests.support.kill_programs import NAMES
from tests.support.kills import Result, Round, play
from tests.support.mounts import BINDINGS

DOCUMENT: Final = ROOT / "docs" / "RELIABILITY.md"
BEGIN: Final = "<!-- kill rounds: written by python -m tests.mount.kill_rounds -->"
END: Final = "<!-- kill rounds: end -->"
KEPT: Final = ROOT / "build" / "kills"


def rounds(count: int, seed: int) -> Iterator[Round]:
    """Programs, modes and bindings in turn; those programs that are installed."""
    bindings = [name for name in BINDINGS if name == "fusepy" or importlib.util.find_spec(name)]
    programs = [name for name in NAMES if name in ("churn", "sqlite3") or shutil.which(name)]
    for number in range(count):
        rest, at = divmod(number, len(programs))
        rest, journal = divmod(rest, 2)
        binding = bindings[(at + journal + rest) % len(bindings)]
        yield Round(programs[at], bool(journal), binding, seed * 1000 + number)


def run(count: int, seed: int) -> tuple[dict[tuple[str, str], Counter[str]], bool]:
    """Play the rounds; what is to be counted by program and mode, and whether all is well."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    failed = 0
    for number, plan in enumerate(rounds(count, seed), 1):
        with tempfile.TemporaryDirectory() as folder:
            result = play(plan, Path(folder))
            if result.problems:
                _keep(plan, Path(folder))
        failed += bool(result.problems)
        rows.setdefault((plan.program, plan.mode), Counter()).update(
            rounds=1, promises=result.promises, failed=bool(result.problems)
        )
        _tell(number, count, plan, result)
    return rows, not failed


def _keep(plan: Round, folder: Path) -> None:
    """Keep the image as it was after the kill, and what had been promised by then."""
    place = KEPT / f"{plan.program}-{plan.seed}"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("killed.img", "ledger"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, place / name)


def _tell(number: int, count: int, plan: Round, result: Result) -> None:
    what = f"{plan.program}, {plan.mode}, {plan.binding}: {result.promises} promises"
    print(f"{number}/{count} {what}", *result.problems, sep="\n  ", flush=True)


def table_of(rows: dict[tuple[str, str], Counter[str]], seed: int) -> Iterator[str]:
    """The lines for the document."""
    yield f"`python -m tests.mount.kill_rounds --rounds {_total(rows, 'rounds')} --seed {seed}`:"
    yield ""
    yield "| program | mode | kills | durable things promised | kills after which one was broken |"
    yield "|---|---|--:|--:|--:|"
    for (program, mode), row in sorted(rows.items()):
        yield f"| {program} | {mode} | {row['rounds']} | {row['promises']:,} | {row['failed']} |"
    totals = " | ".join(f"{_total(rows, name):,}" for name in ("rounds", "promises", "failed"))
    yield f"| **together** | | {totals} |"


def _total(rows: dict[tuple[str, str], Counter[str]], name: str) -> int:
    return sum(row[name] for row in rows.values())


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mount.kill_rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true", help="leave the document as it is")
    arguments = parser.parse_args()
    rows, is_well = run(arguments.rounds, arguments.seed)
    table = "\n".join(table_of(rows, arguments.seed))
    print(table)
    if not arguments.dry_run:
        put_between(DOCUMENT, BEGIN, END, table)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
