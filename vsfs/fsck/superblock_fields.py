"""Fields of the superblock in findings: as evidence, in words, and changed."""

from __future__ import annotations

from typing import Final, NoReturn

from vsfs.device import Kind
from vsfs.errors import Corrupt
from vsfs.fsck.context import Change
from vsfs.fsck.findings import Evidence, quoted
from vsfs.layout import LABEL_MAX, SUPERBLOCK, fields
from vsfs.validate import SUPERBLOCK_OFFSET
from vsfs.words import counted

_WIDTH: Final = {field.name: field.width for field in fields(SUPERBLOCK)}


def field_change(name: str, sealed: bytes) -> Change:
    """The change that gives a field the value it has in the superblock `sealed`."""
    at = SUPERBLOCK_OFFSET[name]
    return Change(0, at, sealed[at : at + _WIDTH[name]], Kind.SUPERBLOCK)


def field_evidence(name: str, value: object) -> Evidence:
    """A field as evidence."""
    return Evidence(f"superblock field {name}", 0, SUPERBLOCK_OFFSET[name], shown(name, value))


def shown(name: str, value: object) -> str:
    """A field's value for people."""
    if name == "checksum":
        return f"{value:#010x}"
    if isinstance(value, bytes):
        if name == "magic":
            return value.hex(" ")
        if name == "label":
            return _label_in_words(value)
        if name == "reserved" and any(value):
            count = len(value) - value.count(0)
            return f"{counted(count, 'byte')} that {'is' if count == 1 else 'are'} not zero"
        return value.hex(" ") if any(value) else "zeroes"
    return f"{value:#x}" if name.startswith("feature") else str(value)


def _label_in_words(label: bytes) -> str:
    r"""A label as text if it is some, and otherwise as bytes.

    >>> _label_in_words(b"backup"), _label_in_words(b"\xff\1")
    ("'backup'", 'ff 01')
    """
    text = label.rstrip(b"\0")
    if is_label(label):
        return quoted(text)
    return text.hex(" ")


def is_label(label: bytes) -> bool:
    """Whether it is UTF-8 without control characters, padded with zeroes."""
    try:
        return label.rstrip(b"\0").decode().isprintable() and len(label) <= LABEL_MAX
    except UnicodeDecodeError:
        return False


def refuse(found: Evidence, value: str) -> NoReturn:
    """Without this repair nothing else can be found."""
    raise Corrupt(
        found.structure,
        found.block_no,
        found.offset,
        found.value,
        f"{value}; nothing else can be checked until fsck.vsfs -y has repaired it",
    )
