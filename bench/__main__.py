"""``python -m bench``: run the benchmark, print its tables, write bench/results.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from . import growth, report, source, startup
from .client import PHASES, Scale
from .figures import Figures
from .rounds import Measurement, run_round, wanted_phases
from .systems import System, Vsfs, all_systems, available

_HERE: Final = Path(__file__).parent
_DOCUMENT: Final = _HERE.parent / "docs" / "PERFORMANCE.md"
_MEGABYTES: Final = 256
_SECTIONS: Final = ("phases", "library", "startup", "growth")


@dataclass
class Results:
    """All that a run found out, as it goes into the file."""

    about: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    library: dict[str, float] = field(default_factory=dict)
    startup: dict[str, float] = field(default_factory=dict)
    growth: dict[str, float] = field(default_factory=dict)

    def tables(self) -> list[report.Table]:
        """A table for each thing that was measured."""
        found = []
        if self.measurements:
            figures = Figures(self.measurements)
            found.append(report.rates(figures))
            ours = [name for name in figures.systems if name.startswith("vsfs")]
            found += [report.ratios(figures, name) for name in ours]
            budgets = [report.budget(figures, name) for name in ours if not name.endswith(" -j")]
            found += [table for table in budgets if table.rows]
        if self.startup:
            found.append(report.startup(self.startup))
        if self.growth:
            found.append(report.growth(self.growth))
        if self.library:
            found.append(report.library(self.library))
        return found

    def write(self, path: Path) -> None:
        """Write everything as JSON, with each round and the medians."""
        figures = Figures(self.measurements)
        content = asdict(self) | {
            "medians": {
                phase: {system: figures.rate(phase, system) for system in figures.systems}
                for phase in figures.phases
            },
            "ratios": {
                phase: {
                    system: {
                        other: figures.ratio(phase, system, other) for other in figures.systems
                    }
                    for system in figures.systems
                    if system.startswith("vsfs")
                }
                for phase in figures.phases
            },
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (5)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PHASE",
        choices=[phase.name for phase in PHASES] + list(_SECTIONS),
        help="a phase, and what it needs; or one of: " + ", ".join(_SECTIONS),
    )
    parser.add_argument(
        "--system",
        action="append",
        default=[],
        metavar="NAME",
        help="only systems whose name begins so, such as 'vsfs fusepy' or fuse2fs",
    )
    parser.add_argument("--quick", action="store_true", help="two rounds of little work")
    parser.add_argument("--folder", type=Path, help="where images go (TMPDIR)")
    parser.add_argument("--json", type=Path, default=_HERE / "results.json", help="results.json")
    parser.add_argument(
        "--document", action="store_true", help="put the tables into docs/PERFORMANCE.md"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit status."""
    arguments = _arguments(argv)
    console = Console()
    sections = [name for name in arguments.only if name in _SECTIONS]
    phases = [name for name in arguments.only if name not in _SECTIONS]
    if not sections:
        sections = ["phases"] if phases else list(_SECTIONS)
    results = Results(_about(arguments))
    with tempfile.TemporaryDirectory(prefix="vsfs-bench-", dir=arguments.folder) as name:
        _measure(Path(name), arguments, sections, phases, results, console)
    results.write(arguments.json)
    tables = results.tables()
    for table in tables:
        report.show(console, table)
    for note in results.notes:
        console.print(f"note: {note}", highlight=False)
    for sentence in filter(None, map(report.reached, tables)):
        console.print(sentence, highlight=False)
    console.print(f"written to {arguments.json}", highlight=False)
    if arguments.document:
        report.put_into_document(_DOCUMENT, _document(results, tables))
    return 0


def _measure(
    folder: Path,
    arguments: argparse.Namespace,
    sections: Sequence[str],
    phases: Sequence[str],
    results: Results,
    console: Console,
) -> None:
    """Run the sections one after the other; what they find goes into `results`."""
    # compiled modules, as the installation of a package leaves them, wherever this runs
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    with console.status("") as status:
        if "phases" in sections:
            _run_phases(folder, arguments, phases, results, status.update)
        if "library" in sections:
            status.update("the library alone")
            results.library = _script("library.py", folder / "library.img", _MEGABYTES, 1000)
        if "startup" in sections:
            status.update("start-up")
            rounds = 3 if arguments.quick else startup.ROUNDS
            results.startup = startup.measure(folder, rounds)
        if "growth" in sections:
            status.update("growth")
            results.growth = _growth(folder, 2000 if arguments.quick else growth.MANY)


def _run_phases(
    folder: Path,
    arguments: argparse.Namespace,
    phases: Sequence[str],
    results: Results,
    on_step: Callable[[str], object],
) -> None:
    scale = Scale(source=str(folder))
    if arguments.quick:
        scale = Scale(files=200, megabytes=16, repeats=4, source=str(folder))
    source.make(folder, scale.files * 6 // 10)
    systems, results.notes = available(_chosen(folder, arguments.system))
    wanted = wanted_phases(phases)
    for number in range(2 if arguments.quick else arguments.rounds):
        results.measurements += run_round(
            systems,
            wanted,
            scale,
            number,
            partial(_say, on_step, number),
        )


def _say(on_step: Callable[[str], object], number: int, step: str) -> None:
    on_step(f"round {number + 1}: {step}")


def _chosen(folder: Path, beginnings: Sequence[str]) -> list[System]:
    systems = all_systems(folder, _MEGABYTES)
    return [one for one in systems if not beginnings or one.name.startswith(tuple(beginnings))]


def _growth(folder: Path, files: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for what in ("names", "allocation"):
        found |= _script("growth.py", what, folder / f"{what}.img")
    system = Vsfs(folder, 2 * _MEGABYTES, "fusepy", journal=False)
    system.inodes = growth.MANY + 1000
    system.format()
    system.mount()
    try:
        process = system.process_id()
        assert process is not None
        memory = growth.memory_of_mount(system.mount_point, process, files)
    finally:
        system.unmount()
    return found | {"MiB of a mount, files touched": memory}


def _script(name: str, *arguments: object) -> dict[str, float]:
    """What one of the scripts beside this file prints."""
    command = [sys.executable, str(_HERE / name), *map(str, arguments)]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd="/").stdout
    found: dict[str, float] = json.loads(shown)
    return found


def _about(arguments: argparse.Namespace) -> dict[str, Any]:
    """The machine and the run."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "rounds": 2 if arguments.quick else arguments.rounds,
        "quick": arguments.quick,
    }


def _document(results: Results, tables: Sequence[report.Table]) -> str:
    """The generated part of docs/PERFORMANCE.md."""
    about = results.about
    head = (
        f"{about['when'][:10]}, Linux {about['kernel']}, Python {about['python']}, "
        f"{about['processors']} processors, {about['rounds']} rounds, "
        f"load {about['load']:.1f} from others when it began."
    )
    notes = [f"- {note}" for note in results.notes]
    sentences = [f"- {sentence}." for sentence in filter(None, map(report.reached, tables))]
    lines = [head, "", *notes, *sentences, "", *map(report.markdown, tables)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
