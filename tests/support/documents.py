"""Documents of which parts are generated, and held up to date by a test.

Such a part stands between ``<!-- generated: its name -->`` and ``<!-- end -->``.
What a long run has counted stands between marks of its own, and no test makes it again.

A test module says what is generated, and is the program that writes it::

    DOCUMENT = Document("FSCK.md", generated({"rules": rules_table}), __name__)

    def test_the_document_is_up_to_date() -> None:
        DOCUMENT.check()

    if __name__ == "__main__":
        DOCUMENT.write()
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

Parts = Mapping[str, Callable[[], str]]
Renew = Callable[[str], str]

ROOT: Final = Path(__file__).parents[2]
_GENERATED: Final = re.compile(r"(<!-- generated: ([^>]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


class Document:
    """A file of docs/, how its text is made anew from itself, and its pictures.

    `module` is what to run with ``python -m`` to write them; `pictures` are made by
    the names of their files.
    """

    def __init__(self, name: str, renew: Renew, module: str, pictures: Parts | None = None) -> None:
        self.path = ROOT / "docs" / name
        self.pictures = pictures or {}
        self._renew = renew
        self._advice = f"run python -m {module}"

    @property
    def text(self) -> str:
        """What stands in it."""
        return self.path.read_text(encoding="utf-8")

    def check(self) -> None:
        """Assert that what is generated is what stands there."""
        shown, expected = self.text.splitlines(), self._renew(self.text).splitlines()
        differences = difflib.unified_diff(shown, expected, "as it is", "as it should be", n=1)
        found = "\n".join(differences)
        assert not found, f"{self._advice}\n{found}"

    def check_picture(self, file: str) -> None:
        """Assert that a picture is what is generated, and that the text shows it."""
        shown = (self.path.parent / file).read_text(encoding="utf-8")
        assert self.pictures[file]() == shown, self._advice
        assert f"({file})" in self.text

    def write(self) -> None:
        """Bring text and pictures up to date."""
        self.path.write_text(self._renew(self.text), encoding="utf-8")
        for file, make in self.pictures.items():
            (self.path.parent / file).write_text(make(), encoding="utf-8")


def generated(parts: Parts) -> Renew:
    """Makes the generated parts anew, which must be all that the document has."""

    def renew(text: str) -> str:
        assert sorted(parts) == sorted(part[2] for part in _GENERATED.finditer(text))
        return _GENERATED.sub(lambda part: f"{part[1]}{parts[part[2]]()}{part[4]}", text)

    return renew


def parts_of(names: Iterable[str], make: Callable[[str], str]) -> Parts:
    """Parts that one function makes by their names."""
    return {name: functools.partial(make, name) for name in names}


def console(shown: str) -> str:
    """What is on the screen, as a block of markdown."""
    return f"```console\n{shown}```\n"


def put_between(document: Path, begin: str, end: str, part: str) -> None:
    """Put the lines `part` between two marks of a document, each on a line of its own."""
    text = document.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{document} has no marks {begin} and {end}")
    document.write_text(f"{before}{begin}\n{part}\n{end}{after}", encoding="utf-8")
