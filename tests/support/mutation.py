"""Images broken at random: :func:`mutant`.

All of it follows from a seed and a number, so that a failure is repeated by those two.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.support.damage import (
    INODE,
    INODE_FIELDS,
    POINTER_FIELDS,
    RECORD_FIELDS,
    SECTOR,
    SUPERBLOCK_FIELDS,
    Image,
)


@dataclass(frozen=True)
class Mutant:
    """An image broken at random; `recipe` says how, one line each."""

    data: bytes
    kinds: tuple[str, ...]
    recipe: tuple[str, ...]


class Target:
    """A sound image to be broken many times, with all that is costly to find.

    Where a transaction waits in its journal, `sound` is what it makes of the image.
    """

    def __init__(self, data: bytes | bytearray, sound: bytes | None = None) -> None:
        self.image = image = Image(data if sound is None else sound)
        self.journal = image.journal()
        self.inos = image.inodes()
        self.owned = {ino: image.owned(ino) for ino in self.inos}
        self.directories = [ino for ino in self.inos if image.is_directory(ino)]
        self.records = [at for ino in self.directories for at in image.records(ino)]
        self.indirect = [block for owned in self.owned.values() for block in owned.indirect]
        own = sorted(image.owned(1).all)
        self.used: list[int] = sorted(block for owned in self.owned.values() for block in owned.all)
        self.used += own
        fixed = range(image.data_start)
        directory_blocks = [
            block for ino in self.directories for block in self.owned[ino].data.values()
        ]
        attributes = [block for owned in self.owned.values() for block in owned.attribute]
        self.metadata: list[int] = [*fixed, *directory_blocks, *self.indirect, *attributes, *own]
        self.numbers = self.inos + [1] * bool(own)  # of inodes that mean something
        image.data = bytearray(data)


class _Breaker:
    """One mutant in the making."""

    def __init__(self, target: Target, chance: random.Random) -> None:
        self.target = target
        self.image = target.image.copy()
        self.chance = chance
        self.recipe: list[str] = []

    def note(self, sentence: str) -> None:
        self.recipe.append(sentence)

    # -- choices --------------------------------------------------------------

    def some_block(self) -> int:
        """Metadata mostly, since mistakes there do harm."""
        if self.chance.random() < 0.8:
            return self.chance.choice(self.target.metadata)
        return self.chance.randrange(self.image.block_count)

    def some_byte(self) -> int:
        """A place in `data`; in the parts that mean something more often than not."""
        block = self.some_block()
        if self.chance.random() < 0.3:
            return self.chance.choice(self.target.records) + self.chance.randrange(12)
        if self.chance.random() < 0.3:
            return self.image.inode_at(self.some_ino()) + self.chance.randrange(INODE)
        if block in (0, self.image.inode_bitmap, self.image.data_bitmap):
            return self.image.at(block, self.chance.randrange(min(160, self.image.block_size)))
        return self.image.at(block, self.chance.randrange(self.image.block_size))

    def some_ino(self) -> int:
        if self.chance.random() < 0.85:
            return self.chance.choice(self.target.numbers)
        return self.chance.randrange(self.image.inode_count)

    def some_number(self, bits: int) -> int:
        """A number that something might choke on."""
        image, chance = self.image, self.chance
        numbers: tuple[int, ...] = (
            *(0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 255, 256, 511, 512, 513, 4095, 4096),
            *(image.block_size, image.block_size // 4, image.inode_count, image.inode_count - 1),
            *(image.data_start, image.data_start - 1, image.block_count, image.block_count - 1),
            *(2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1),
            *(2**bits - 1, 1 << chance.randrange(bits), chance.randrange(2**bits)),
            *(chance.choice(self.target.used), chance.choice(self.target.inos)),
        )
        chosen = chance.choice(numbers)
        return chosen & ((1 << bits) - 1)

    def some_pointer(self) -> int:
        if self.chance.random() < 0.6:
            return self.chance.choice(self.target.used)
        if self.chance.random() < 0.5:
            return self.chance.randrange(self.image.block_count + 4)
        return self.some_number(32)

    def noise(self, size: int) -> bytes:
        """Zeroes, ones, random bytes, or a copy of other bytes of the image."""
        how = self.chance.choice(("zeroes", "zeroes", "noise", "copy", "copy", "ones"))
        self.note(f"    filled with {how}")
        if how == "zeroes":
            return bytes(size)
        if how == "ones":
            return b"\xff" * size
        if how == "noise":
            return self.chance.randbytes(size)
        source = self.some_block() * self.image.block_size // size * size
        self.note(f"    from byte {source}")
        return bytes(self.image.data[source : source + size].ljust(size, b"\0"))

    # -- kinds of damage --------------------------------------------------------

    def bit(self) -> None:
        at, bit = self.some_byte(), self.chance.randrange(8)
        self.note(f"bit {bit} of byte {at} flipped")
        self.image.flip(at, bit)

    def byte(self) -> None:
        at, value = self.some_byte(), self.chance.randrange(256)
        self.note(f"byte {at} is {value}")
        self.image.put(at, bytes((value,)))

    def word(self) -> None:
        at, value = self.some_byte() // 4 * 4, self.some_number(32)
        self.note(f"the word at {at} is {value}")
        self.image.put_word(at, value)

    def sector(self) -> None:
        block = self.some_block()
        at = self.image.at(block) + self.chance.randrange(self.image.block_size) // SECTOR * SECTOR
        self.note(f"sector at byte {at}")
        self.image.put(at, self.noise(SECTOR))

    def block(self) -> None:
        block = self.some_block()
        self.note(f"block {block}")
        self.image.put_block(block, self.noise(self.image.block_size))

    def run(self) -> None:
        """Bytes in a row, not aligned to anything."""
        at, size = self.some_byte(), self.chance.choice((2, 5, 16, 64, 300))
        self.note(f"{size} bytes from {at} on")
        self.image.put(at, self.noise(size))

    def inode_field(self) -> None:
        ino, name = self.some_ino(), self.chance.choice(list(INODE_FIELDS))
        code = INODE_FIELDS[name][0]
        value: Any
        if code == "108s":
            value = self.noise(108)
        elif name in POINTER_FIELDS:
            value = self.some_pointer()
        else:
            value = self.some_number(64 if code in "qQ" else 32)
            if self.chance.random() < 0.2:  # next to what it was
                value = self.image.get(ino, name) + self.chance.choice((-1, 1))
            if name == "mode" and self.chance.random() < 0.7:
                value = self.chance.choice((1, 2, 4, 6, 8, 10, 12, 3, 15)) << 12 | 0o644
            value &= 2**64 - 1 if code in "qQ" else 2**32 - 1
            value -= (value >> 63) << 64 if code == "q" else 0
        seal = name != "checksum" and self.chance.random() < 0.85
        self.note(f"inode {ino}: {name} is {value!r}, {'' if seal else 'not '}sealed")
        self.image.put_inode(ino, seal=seal, **{name: value})

    def inode_copy(self) -> None:
        source, ino, seal = self.some_ino(), self.some_ino(), self.chance.random() < 0.6
        self.note(f"inode {ino} is a copy of inode {source}, {'' if seal else 'not '}sealed")
        at = self.image.inode_at(source)
        self.image.put(self.image.inode_at(ino), bytes(self.image.data[at : at + INODE]))
        if seal:
            self.image.seal(ino)

    def inode_zero(self) -> None:
        ino = self.some_ino()
        self.note(f"inode {ino} is zeroes")
        self.image.put(self.image.inode_at(ino), bytes(INODE))

    def pointer(self) -> None:
        """A pointer of an inode or of an indirect block, the checksum right."""
        value = self.some_pointer()
        if self.target.indirect and self.chance.random() < 0.5:
            block = self.chance.choice(self.target.indirect)
            most = self.chance.choice((4, self.image.block_size // 4))
            index = self.chance.randrange(most)
            self.note(f"pointer {index} of indirect block {block} is {value}")
            self.image.put_word(self.image.at(block, index * 4), value)
        else:
            ino, name = self.some_ino(), self.chance.choice(POINTER_FIELDS)
            self.note(f"inode {ino}: pointer {name} is {value}")
            fields: dict[str, Any] = {name: value}
            self.image.put_inode(ino, **fields)

    def record_field(self) -> None:
        at, name = self.chance.choice(self.target.records), self.chance.choice(list(RECORD_FIELDS))
        value = self.some_number(8 * struct.calcsize(RECORD_FIELDS[name][0]))
        if name == "ino" and self.chance.random() < 0.7:
            value = self.some_ino()
        if name == "file_type" and self.chance.random() < 0.7:
            value = self.chance.randrange(9)
        self.note(f"record at byte {at}: {name} is {value}")
        self.image.put_record(at, **{name: value})

    def record_name(self) -> None:
        """A record with the name of another, or with one that is not allowed."""
        at, other = self.chance.choice(self.target.records), self.chance.choice(self.target.records)
        names = (self.image.name(other), b".", b"..", b"a/b", b"a\0b", b"", b"lost+found")
        name = self.chance.choice(names)
        self.note(f"record at byte {at}: the name is {name!r}")
        self.image.put_record(at, name=name)

    def superblock_field(self) -> None:
        name = self.chance.choice(list(SUPERBLOCK_FIELDS)[:-2])
        code = SUPERBLOCK_FIELDS[name][0]
        if code.endswith("s"):
            value: Any = self.noise(struct.calcsize(code))
        else:
            value = self.some_number(64 if code in "qQ" else 32)
            if self.chance.random() < 0.3:
                value = (self.image.superblock(name) + self.chance.choice((-1, 1))) & 2**32 - 1
            value -= (value >> 63) << 64 if code == "q" else 0
        seal = self.chance.random() < 0.5
        self.note(f"superblock: {name} is {value!r}, {'' if seal else 'not '}sealed")
        self.image.put_superblock(seal=seal, **{name: value})

    def bitmap(self) -> None:
        which = self.chance.choice((self.image.inode_bitmap, self.image.data_bitmap))
        covered = self.image.inode_count
        if which == self.image.data_bitmap:
            covered = self.image.block_count - self.image.data_start
        offset = self.chance.randrange(covered // 8 + 2) % self.image.block_size
        value = self.chance.choice((0, 255, self.chance.randrange(256)))
        self.note(f"byte {offset} of the bitmap in block {which} is {value}")
        self.image.put(self.image.at(which, offset), bytes((value,)))

    def transaction(self) -> None:
        """The journal's header or its log, the checksum right: what is replayed does harm."""
        journal, chance = self.target.journal, self.chance
        header = self.image.at(journal[0])
        what = chance.choice(("magic", "count", "number", "number", "log", "log", "log"))
        if what == "log":
            at = self.image.at(chance.choice(journal[1:]), chance.randrange(self.image.block_size))
        elif what == "number":
            at = header + 20 + 4 * chance.randrange(len(journal) - 1)
        else:
            at = header + (0 if what == "magic" else 4)
        value = self.some_pointer() if what == "number" else self.some_number(32)
        seal = chance.random() < 0.85
        self.note(f"the journal's {what} at {at} is {value}, {'' if seal else 'not '}sealed")
        self.image.put_word(at, value)
        if seal:
            self.image.seal_journal(journal)

    def length(self) -> None:
        """The image file cut off, or with more behind it."""
        size = len(self.image.data)
        new = self.chance.choice(
            (
                size - self.chance.randrange(1, self.image.block_size + 1),
                size - self.chance.randrange(1, 40) * self.image.block_size,
                self.chance.randrange(max(size, 1)),
                size + self.chance.randrange(1, 3 * self.image.block_size),
            )
        )
        self.note(f"the image has {new} bytes")
        self.image.data = self.image.data[: max(new, 0)].ljust(new, b"\0")


#: Kind of damage -> how often it comes, relative to the others.
KINDS: Final[dict[str, tuple[int, Callable[[_Breaker], None]]]] = {
    "bit": (14, _Breaker.bit),
    "byte": (8, _Breaker.byte),
    "word": (8, _Breaker.word),
    "sector": (8, _Breaker.sector),
    "block": (6, _Breaker.block),
    "run": (5, _Breaker.run),
    "inode field": (16, _Breaker.inode_field),
    "inode copy": (4, _Breaker.inode_copy),
    "inode zero": (2, _Breaker.inode_zero),
    "pointer": (12, _Breaker.pointer),
    "record field": (8, _Breaker.record_field),
    "record name": (5, _Breaker.record_name),
    "superblock field": (3, _Breaker.superblock_field),
    "bitmap": (4, _Breaker.bitmap),
    "length": (1, _Breaker.length),
    "transaction": (12, _Breaker.transaction),  # only where there is a journal
}
#: How many pieces of damage one image gets: one mostly, so that a failure is small.
_COUNTS: Final = (1, 1, 1, 1, 2, 2, 3, 5, 10, 40)


def mutant(target: Target, seed: int, number: int) -> Mutant:
    """The `number`-th image that comes of `target` with `seed`; always the same."""
    chance = random.Random(f"{seed} {number}")
    breaker = _Breaker(target, chance)
    weights = [
        weight if kind != "transaction" or target.journal else 0
        for kind, (weight, _) in KINDS.items()
    ]
    kinds = chance.choices(list(KINDS), weights, k=chance.choice(_COUNTS))
    kinds.sort(key=lambda kind: kind == "length")  # what is cut off cannot be broken
    for kind in kinds:
        KINDS[kind][1](breaker)
    return Mutant(bytes(breaker.image.data), tuple(kinds), tuple(breaker.recipe))


# -- what damage does not reach ------------------------------------------------


def differences(before: bytes, after: bytes, step: int) -> set[int]:
    """Numbers of the pieces of `step` bytes that differ, or are not there."""
    return {
        at // step
        for at in range(0, len(before), step)
        if before[at : at + step] != after[at : at + step]
    }


def untouched(target: Target, after: bytes) -> set[int]:
    """Inodes whose record and blocks are the same in `after`, holes and all."""
    image = target.image
    blocks = differences(bytes(image.data), after, image.block_size)
    table = image.inode_at(0)
    end = table + image.inode_count * INODE
    inodes = differences(bytes(image.data[table:end]), after[table:end], INODE)
    for block in _replayed(target, after, blocks, inodes):
        blocks.add(block)
        first = (block - image.table) * image.block_size // INODE
        inodes.update(range(first, first + image.block_size // INODE))
    return {ino for ino in target.inos if ino not in inodes and not target.owned[ino].all & blocks}


def _replayed(target: Target, after: bytes, blocks: set[int], inodes: set[int]) -> set[int]:
    """The blocks of which nobody can tell what a damaged journal makes of them."""
    own = {0, *target.journal, *target.image.owned(1).indirect}
    is_cut = len(after) < len(target.image.data)  # the log's superblock does not fit then
    if not target.journal or not (own & blocks or 1 in inodes or is_cut):
        return set()
    broken = target.image.copy()
    broken.data = bytearray(after.ljust(len(target.image.data), b"\0"))
    before = target.image.journal_numbers(target.journal)
    return {*before, *broken.journal_numbers(target.journal)}
