"""Documents of which parts are generated, and held up to date by a test.

Such a part stands between ``<!-- generated: its name -->`` and ``<!-- end -->``.
What a long run has counted stands between marks of its own, and no test makes it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

Parts = Mapping[str, Callable[[], str]]

ROOT: Final = Path(__file__).parents[2]
_GENERATED: Final = re.compile(r"(<!-- generated: ([^>]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def generated_parts(document: Path) -> dict[str, str]:
    """The parts as they stand in the document, by name."""
    text = document.read_text(encoding="utf-8")
    return {part[2]: part[3] for part in _GENERATED.finditer(text)}


def regenerate(document: Path, parts: Parts) -> None:
    """Bring the generated parts of the document up to date."""
    text = document.read_text(encoding="utf-8")
    text = _GENERATED.sub(lambda part: f"{part[1]}{parts[part[2]]()}{part[4]}", text)
    document.write_text(text, encoding="utf-8")


def put_between(document: Path, begin: str, end: str, part: str) -> None:
    """Put the lines `part` between two marks of a document, each on a line of its own."""
    text = document.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{document} has no marks {begin} and {end}")
    document.write_text(f"{before}{begin}\n{part}\n{end}{after}", encoding="utf-8")
