"""Findings: what the checker says, as plain values.

A finding tells which *rule* of the format is broken and names two pieces of
*evidence* that cannot both be right: what was found, and what it was expected to
agree with.  The rule says which of the two is believed and why, and where
OSTEP teaches it.  The repair is exact: *edits* of bytes.

Nothing here reads or writes an image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from vsfs.device import Kind

#: Bytes of a name that stand in a sentence.
_MOST_SHOWN: Final = 40
_MOST_OF_NOISE: Final = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that every sound image keeps.

    `number` never changes its meaning: hundreds are the pass.  `is_safe` rules
    are repaired by ``-p`` without asking: what breaks them is what a crash
    leaves, and the repair loses nothing that was acknowledged.
    """

    number: int
    name: str
    text: str  # the rule itself, a sentence
    trusted: str  # which side of the evidence is believed, and why
    taught: str  # where in OSTEP
    is_safe: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """A value and where it stands: `offset` in bytes within the block.

    `bit` is set for a bit of a bitmap, 0 being a byte's least significant.
    """

    structure: str
    block_no: int
    offset: int
    value: str
    bit: int | None = None

    @property
    def place(self) -> str:
        """Where it stands, in words.

        >>> Evidence("inode bitmap", 1, 1, "0", bit=5).place
        'block 1, byte 1, bit 5'
        >>> Evidence("inode 13", 3, 3332, "1").place
        'block 3, offset 3332'
        """
        if self.bit is not None:
            return f"block {self.block_no}, byte {self.offset}, bit {self.bit}"
        return f"block {self.block_no}, offset {self.offset}"


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes of one block that a repair changes, from `offset` on."""

    block_no: int
    offset: int
    before: bytes
    after: bytes
    kind: Kind


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule.

    `problem` and `repair` are halves of a sentence for a person; `lost` says
    what no repair brings back, if anything.  `is_repaired` tells whether the
    edits were accepted; they reach the image only with all others, at the end.
    """

    rule: Rule
    problem: str
    repair: str
    found: Evidence
    expected: Evidence
    edits: tuple[Edit, ...] = ()
    lost: str | None = None
    ino: int | None = None
    path: bytes | None = None
    is_repaired: bool = field(default=False)

    @property
    def text(self) -> str:
        """All of it in one sentence."""
        sentence = f"{self.problem} ({self.found.place}); {self.repair}"
        return f"{sentence}; lost: {self.lost}" if self.lost else sentence


def printable(path: bytes) -> str:
    r"""A path for a sentence; bytes that are no text or could move a cursor are escaped.

    >>> print(printable(b"/a\n\xff"))
    /a\n\xff
    """
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def quoted(name: bytes, most: int = _MOST_SHOWN) -> str:
    r"""A name in quotes, `most` bytes of it; what is not UTF-8 or printable is escaped.

    Of what is no text at all, only the first bytes.

    >>> print(quoted(b"a/b"), quoted(b"a\0\xff"), quoted(b"abcdef", 4), quoted(b"\0" * 40))
    'a/b' 'a\x00\xff' 'abcd'... '\x00\x00\x00\x00\x00\x00\x00\x00'...
    """
    if not name.decode("utf-8", "replace").isprintable():
        most = min(most, _MOST_OF_NOISE)
    shown = f"'{printable(name[:most])}'"
    return shown if len(name) <= most else shown + "..."


_RULES: Final[dict[int, Rule]] = {}


def rule(number: int, name: str, text: str, trusted: str, taught: str, *, is_safe: bool) -> Rule:
    """Declare a rule; its number and name are unique."""
    made = Rule(number, name, text, trusted, taught, is_safe)
    assert number not in _RULES
    assert all(other.name != name for other in _RULES.values())
    _RULES[number] = made
    return made


def all_rules() -> list[Rule]:
    """Every rule that the loaded passes declare, by number."""
    return [_RULES[number] for number in sorted(_RULES)]
