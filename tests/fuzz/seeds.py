"""Inputs to start from: small pieces of damage, so that the fuzzer need not find them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.fuzz.patches import READ, SEAL, encoded, subject
from tests.support.mutation import mutant

COUNT: Final = 400
LONGEST: Final = 512  # bytes of an input


def seeds() -> list[bytes]:
    """Each is the difference of a mutant and the sound image, where that is small."""
    sound = subject()
    made = []
    for number in range(COUNT):
        broken = mutant(sound, 7, number).data
        if len(broken) != len(sound.data):
            continue
        wanted = _changes(sound.data, broken)
        made.append(encoded((0, SEAL, READ, SEAL | READ)[number % 4], wanted))
    return [content for content in made if len(content) <= LONGEST]


def _changes(before: bytes, after: bytes) -> list[tuple[int, bytes]]:
    """What differs, in stretches."""
    found: list[tuple[int, bytes]] = []
    for at, (old, new) in enumerate(zip(before, after, strict=True)):
        if old == new:
            continue
        if found and found[-1][0] + len(found[-1][1]) == at:
            found[-1] = (found[-1][0], found[-1][1] + bytes((new,)))
        else:
            found.append((at, bytes((new,))))
    return found


def write_seeds(directory: Path) -> None:
    """One file each."""
    for number, content in enumerate(seeds()):
        (directory / f"seed-{number:03}").write_bytes(content)
