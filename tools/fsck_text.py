"""What fsck.vsfs prints for people: findings, their repairs, and the last line.

One or two lines for a finding; with -v its rule and both pieces of evidence; the
bytes that its repair changes where they are what matters (-n, -v).
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from vsfs.words import counted

from .fsck_outcome import Mode, Outcome
from .inspect_output import Printer, Span, safe

if TYPE_CHECKING:
    from vsfs.fsck import Edit, Evidence, Finding

#: Hundreds of a rule's number -> the pass.
PASSES: Final = {
    1: "Pass 0: superblock and geometry",
    2: "Pass 1: inodes and their blocks",
    3: "Pass 2: directories",
    4: "Pass 3: the tree",
    5: "Pass 4: link counts",
    6: "Pass 5: bitmaps and free counts",
    7: "Pass 6: journal and state",
}
#: Rules of the journal that are looked at earlier, since all else follows from it.
_EARLY: Final = {711: 1, 714: 1, 712: 2, 713: 2}
_SHORT: Final = 8  # bytes that are shown beside each other, before -> after
_FOLDED: Final = 16  # bytes that are shown of a longer edit
_FEW_EDITS: Final = 16  # of one finding, without -v


class Text:
    """Prints findings as they come; `verbose` is -v, `edits` shows the bytes."""

    def __init__(self, printer: Printer, *, verbose: bool, edits: bool) -> None:
        self._line = printer.line
        self._verbose = verbose
        self._edits = edits or verbose
        self._titles = list(PASSES.items())
        self._shown: set[Finding] = set()

    def finding(self, finding: Finding, *, has_question: bool = False) -> None:
        """One finding, below the title of its pass.

        A question behind it says what the repair is, so here it is left out.
        """
        self._shown.add(finding)
        number = finding.rule.number
        self._passes(_EARLY.get(number, number // 100))
        place = f" ({finding.found.place})"
        repair = "" if has_question else safe(f"; {finding.repair}")
        self._line((safe(finding.problem), "damage"), (place, "minor"), repair)
        if finding.lost:
            self._line("  lost: ", safe(finding.lost))
        if self._verbose:
            self._reasons(finding)
        if self._edits:
            self._changes(finding.edits)

    def outcome(self, outcome: Outcome) -> None:
        """The findings that were not shown yet, and the last lines."""
        for point in outcome.mounted:
            note = f"{outcome.image} is mounted on {point}; it may change while it is read"
            self._line((safe(note), "minor"))
        refused = outcome.first_declined if outcome.mode is Mode.SAFE else None
        for finding in outcome.findings if refused is None else (refused,):
            if dataclasses.replace(finding, is_repaired=False) not in self._shown:
                self.finding(finding)
                if not finding.is_repaired and outcome.mode is not Mode.SAFE:
                    self._line(("  left as it is", "damage"))
        if outcome.report is not None and refused is None:
            self._passes(max(PASSES))
        self._summary(outcome)
        self._advice(outcome)

    def _passes(self, last: int) -> None:
        while self._titles and self._titles[0][0] <= last:
            _, title = self._titles.pop(0)
            if self._verbose:
                self._line((title, "title"))

    def _reasons(self, finding: Finding) -> None:
        rule = finding.rule
        self._field("rule", f"{rule.number} {rule.name}: {rule.text}")
        self._field("found", _evidence(finding.found))
        self._field("expected", _evidence(finding.expected))
        self._field("trusted", rule.trusted)
        self._field("taught", rule.taught)
        self._field("safe", "yes: -p repairs it" if rule.is_safe else "no: -p leaves it")

    def _field(self, name: str, *spans: Span) -> None:
        self._line((f"  {name:<9} ", "minor"), *map(_safe_span, spans))

    def _changes(self, edits: tuple[Edit, ...]) -> None:
        shown = edits if self._verbose else edits[:_FEW_EDITS]
        for edit in shown:
            for name, text in _edit_lines(edit):
                self._field(name, text)
        if len(shown) < len(edits):
            more = counted(len(edits) - len(shown), "more edit")
            self._field("", f"... and {more}, which -v shows")

    # -- the last lines ---------------------------------------------------------

    def _summary(self, outcome: Outcome) -> None:
        """How many problems there are, what became of them, what is in use."""
        usage, found = outcome.usage, len(outcome.findings)
        name = safe(outcome.image)
        if not found:
            self._line(f"{name}: ", ("clean", "used"), f", {usage}")
            return
        in_use = "" if usage is None else f"; {usage} in use"
        self._line(f"{name}: {counted(found, 'problem')}, {_what_became(outcome)}{in_use}")

    def _advice(self, outcome: Outcome) -> None:
        """What to do about what is left."""
        command = f"fsck.vsfs {shlex.quote(outcome.image)}"
        if not outcome.findings or outcome.is_begun:
            return
        if outcome.mode is Mode.SAFE:
            self._line(safe(f"run {command} without -p, which asks about each repair"))
        elif outcome.mode is Mode.SHOW:
            self._line(safe(f"to repair: {command}"))


def _what_became(outcome: Outcome) -> str:
    if outcome.is_written:
        return f"{outcome.repaired} repaired"
    return "not all repairs were written" if outcome.is_begun else "nothing was changed"


def _evidence(evidence: Evidence) -> str:
    return f"{evidence.structure} = {evidence.value} ({evidence.place})"


def _safe_span(span: Span) -> Span:
    return safe(span) if isinstance(span, str) else (safe(span[0]), span[1])


def _edit_lines(edit: Edit) -> Iterator[tuple[str, str]]:
    """(title, text) of the lines that show an edit: one, or three for a long one."""
    place = f"block {edit.block_no}, offset {edit.offset}"
    if len(edit.after) <= _SHORT:
        yield "edit", f"{place}: {edit.before.hex(' ')} -> {edit.after.hex(' ')}"
        return
    pairs = zip(edit.before, edit.after, strict=True)
    same = next((at for at, (before, after) in enumerate(pairs) if before != after), 0)
    yield "edit", f"{place}: {len(edit.after)} bytes" + (f", the first {same} stay" if same else "")
    yield "  before", folded(edit.before[same:])
    yield "  after", folded(edit.after[same:])


def folded(content: bytes) -> str:
    """Bytes in hexadecimal; of many only the first.

    >>> folded(b"abc"), folded(bytes(4096))
    ('61 62 63', '00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ... 4096 bytes')
    """
    if len(content) <= _FOLDED:
        return content.hex(" ")
    return f"{content[:_FOLDED].hex(' ')} ... {len(content)} bytes"
