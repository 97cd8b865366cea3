"""What a crash can leave on a disk, built from a record of its writes.

:class:`Recorder` is a device that notes writes and barriers in one list, with
marks between them that say what the workload had done by then.  From such a
record :func:`crash_states` builds every disk that pulling the plug could leave:

* The writes between two barriers are a *stretch*.  When the plug is pulled in a
  stretch, all earlier ones have arrived whole, none of the later ones, and of its
  own any subset, in any order, each perhaps torn: a disk writes a sector of 512
  bytes whole or not at all, and promises nothing more.
* Order is seen only where writes overlap, and there it decides which version of
  a sector is there in the end.  So the canonical form of a state is **one version
  for each sector** of the stretch: the durable one or one of those written.
  Two sets of writes that leave the same disk have the same form.
* If there are at most `EXHAUSTIVE` such choices, all are built.  Otherwise: every
  prefix, sector by sector; every subset of the writes while there are at most ten
  of them; each sector alone, and all but each; and a seeded sample of choices.

A state can come about at several moments.  Its earliest is when the last of its
sectors was written, its latest the end of the stretch.  It has to be right for
both: what had not been begun by the earliest cannot be there, and what had been
acknowledged by the latest must be.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vsfs.device import BytesLike, Kind, MemoryDevice

SECTOR: Final = 512
#: Choices of a stretch that are all built: ten sectors with two versions each.
EXHAUSTIVE: Final = 1 << 10
_MOST_WRITES: Final = 10  # all subsets of so many


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that went to the device."""

    start: int  # byte on the device
    content: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in the workload: `name` is "begun" or "durable", of operation `number`."""

    name: str
    number: int


#: In a record, None is a barrier.
Event = Write | Mark | None


class Recorder(MemoryDevice):
    """A device in memory that notes what is written to it."""

    def __init__(self, image: bytes) -> None:
        super().__init__(bytearray(image))
        self.events: list[Event] = []

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        super().write(block_no, content, offset, kind, ino)
        self.events.append(Write(block_no * self.block_size + offset, bytes(content)))

    def barrier(self) -> None:
        self.events.append(None)

    def mark(self, name: str, number: int) -> None:
        """Note a moment."""
        self.events.append(Mark(name, number))


@dataclass(frozen=True, slots=True)
class Version:
    """What a sector may hold: `event` is where in the record it was written."""

    event: int
    content: bytes


@dataclass(slots=True)
class Stretch:
    """The writes between two barriers, sector by sector.

    `base` is the disk before it.  `versions` has for each sector that changes what
    it may hold: first the durable bytes, then what was written, in order.
    """

    first: int  # event
    end: int
    base: bytearray
    versions: dict[int, list[Version]]
    writes: list[tuple[int, list[int]]]  # event, the sectors that it changes


@dataclass(frozen=True, slots=True)
class State:
    """A disk after a crash.

    `floor` and `ceiling` count operations: what was durable at the latest moment at
    which the disk can be so, and what had begun at the earliest.  `digest` tells
    two disks apart.  `name` is what to ask for to get it again.
    """

    name: str
    digest: int
    floor: int
    ceiling: int
    base: bytearray
    sectors: tuple[tuple[int, bytes], ...]

    @property
    def image(self) -> bytearray:
        """The disk, a copy of its own."""
        image = bytearray(self.base)
        for sector, content in self.sectors:
            image[sector * SECTOR : (sector + 1) * SECTOR] = content
        return image


def digest_of(sector: int, content: bytes) -> int:
    """A number for a sector; those of all sectors together, by xor, stand for a disk."""
    made = hashlib.blake2b(content, digest_size=12, salt=sector.to_bytes(8, "little"))
    return int.from_bytes(made.digest(), "little")


def digest_of_image(image: bytes | bytearray) -> int:
    """The number that stands for a whole disk."""
    digest = 0
    for start in range(0, len(image), SECTOR):
        digest ^= digest_of(start // SECTOR, bytes(image[start : start + SECTOR]))
    return digest


def stretches(image: bytes, events: Sequence[Event]) -> Iterator[Stretch]:
    """Cut a record that began on `image` at its barriers."""
    base = bytearray(image)
    first = 0
    for end in [*(i for i, event in enumerate(events) if event is None), len(events)]:
        yield _stretch(base, events, first, end)
        base = bytearray(base)
        for event in events[first:end]:
            if isinstance(event, Write):
                base[event.start : event.start + len(event.content)] = event.content
        first = end + 1


def _stretch(base: bytearray, events: Sequence[Event], first: int, end: int) -> Stretch:
    versions: dict[int, list[Version]] = {}
    writes: list[tuple[int, list[int]]] = []
    for index in range(first, end):
        event = events[index]
        if not isinstance(event, Write):
            continue
        changed = []
        last = event.start + len(event.content) - 1
        for sector in range(event.start // SECTOR, last // SECTOR + 1):
            at = sector * SECTOR
            known = versions.get(sector)
            before = known[-1].content if known else bytes(base[at : at + SECTOR])
            content = bytearray(before)
            low, high = max(event.start, at), min(event.start + len(event.content), at + SECTOR)
            content[low - at : high - at] = event.content[low - event.start : high - event.start]
            if content != before:
                versions.setdefault(sector, [Version(first, before)]).append(
                    Version(index, bytes(content))
                )
                changed.append(sector)
        if changed:
            writes.append((index, changed))
    return Stretch(first, end, base, versions, writes)


Choice = dict[int, int]  # sector -> which of its versions; 0 is left out


def choices(stretch: Stretch, sample: int, chance: random.Random) -> Iterator[Choice]:
    """What may have arrived of a stretch; some choices may come more than once."""
    versions = stretch.versions
    count = 1
    for known in versions.values():
        count *= len(known)
        if count > EXHAUSTIVE:
            break
    if count <= EXHAUSTIVE:
        for picked in itertools.product(*(range(len(known)) for known in versions.values())):
            yield {sector: which for sector, which in zip(versions, picked, strict=True) if which}
        return
    yield from _prefixes(stretch)
    if len(stretch.writes) <= _MOST_WRITES:
        for subset in itertools.product((False, True), repeat=len(stretch.writes)):
            yield _arrived(stretch, [w for w, is_in in enumerate(subset) if is_in])
    whole = {sector: len(known) - 1 for sector, known in versions.items()}
    for sector in versions:
        yield {sector: whole[sector]}
        yield {other: which for other, which in whole.items() if other != sector}
    for number in range(sample):
        if len(stretch.writes) > _MOST_WRITES and number % 2:
            order = [w for w in range(len(stretch.writes)) if chance.random() < 0.5]
            chance.shuffle(order)
            yield _arrived(stretch, order)
        else:
            parts = {sector: chance.randrange(len(known)) for sector, known in versions.items()}
            yield {sector: which for sector, which in parts.items() if which}


def _prefixes(stretch: Stretch) -> Iterator[Choice]:
    """Each prefix of the writes, the last of them cut off behind each sector."""
    choice: Choice = {}
    yield {}
    for index, sectors in stretch.writes:
        for sector in sectors:
            choice[sector] = _version_of(stretch, sector, index)
            yield dict(choice)


def _arrived(stretch: Stretch, order: list[int]) -> Choice:
    """The writes with these numbers arrived, in this order, and no others."""
    choice: Choice = {}
    for number in order:
        index, sectors = stretch.writes[number]
        for sector in sectors:
            choice[sector] = _version_of(stretch, sector, index)
    return choice


def _version_of(stretch: Stretch, sector: int, event: int) -> int:
    known = stretch.versions[sector]
    return next(which for which, version in enumerate(known) if which and version.event == event)


def crash_states(
    image: bytes, events: Sequence[Event], *, sample: int = 16, seed: int = 0
) -> Iterator[State]:
    """Every disk that a crash could leave, each once for each floor and ceiling.

    `sample` is how many choices are drawn in a stretch that has too many.
    """
    begun, durable = _counts(events, "begun"), _counts(events, "durable")
    seen: set[tuple[int, int, int]] = set()
    base_digest = digest_of_image(image)
    for number, stretch in enumerate(stretches(image, events)):
        digests = {
            sector: [digest_of(sector, version.content) for version in known]
            for sector, known in stretch.versions.items()
        }
        chance = random.Random(f"{seed} {number}")
        for choice in choices(stretch, sample, chance):
            digest, earliest = base_digest, stretch.first
            for sector, which in choice.items():
                digest ^= digests[sector][0] ^ digests[sector][which]
                earliest = max(earliest, stretch.versions[sector][which].event)
            floor, ceiling = durable[stretch.end], begun[earliest]
            key = digest, floor, ceiling
            if key in seen:
                continue
            seen.add(key)
            yield State(
                f"{number}:{_name(choice)}",
                digest,
                floor,
                ceiling,
                stretch.base,
                tuple(
                    (sector, stretch.versions[sector][which].content)
                    for sector, which in choice.items()
                ),
            )
        for known in digests.values():
            base_digest ^= known[0] ^ known[-1]


def _counts(events: Sequence[Event], name: str) -> list[int]:
    """For each event: the number of the last mark `name` before it (or at it)."""
    counts, last = [], 0
    for event in events:
        if isinstance(event, Mark) and event.name == name:
            last = event.number
        counts.append(last)
    return [*counts, last]


def _name(choice: Choice) -> str:
    """A choice as text: sectors, with the version where it is not the first.

    >>> _name({8: 1, 9: 1, 20: 2})
    '8,9,20.2'
    """
    return ",".join(
        f"{sector}.{which}" if which > 1 else str(sector)
        for sector, which in sorted(choice.items())
    )
