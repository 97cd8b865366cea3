"""Random operations on one file, each compared with a bytearray.

The idea is that of Apple's and Linux's ``fsx``: what a file must hold is easy to
say, so any sequence of reads, writes and truncations can be checked against
memory.  A sequence is repeated by its seed: ``VSFS_FSX_SEED`` sets it, and
``VSFS_FSX_OPERATIONS`` how many operations there are.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol, cast

SEED: Final = int(os.environ.get("VSFS_FSX_SEED", "1"))
OPERATIONS: Final = int(os.environ.get("VSFS_FSX_OPERATIONS", "3000"))

#: Kind of operation -> how often it comes, relative to the others.
WEIGHTS: Final = {
    "read": 300,
    "write": 350,
    "cut": 100,
    "extend": 80,
    "punch": 60,
    "fsync": 20,
    "reopen": 30,
    "remount": 2,
}
MAPPED: Final = {"map_read": 150, "map_write": 150}


class Operation(NamedTuple):
    """One of the kinds above; what it needs of `offset` and `size`, in bytes.

    A "punch" cuts the file at `offset` and lets it grow back to what it was.
    """

    kind: str
    offset: int = 0
    size: int = 0


class File(Protocol):
    """The file under test."""

    def read(self, offset: int, size: int) -> bytes: ...
    def write(self, offset: int, content: bytes) -> int: ...
    def truncate(self, size: int) -> None: ...
    def size(self) -> int: ...
    def fsync(self) -> None: ...
    def reopen(self) -> None: ...
    def remount(self) -> None: ...


class MappedFile(File, Protocol):
    """One that can also be mapped into memory, as long as it is not empty."""

    def map_read(self, offset: int, size: int) -> bytes: ...
    def map_write(self, offset: int, content: bytes) -> None: ...


class Choice:
    """Chooses operations for a file of at most `largest` bytes.

    Half of all offsets lie around the borders of blocks and the end of the file,
    since mistakes live there.
    """

    def __init__(self, seed: int, block_size: int, largest: int, weights: dict[str, int]) -> None:
        self.random = random.Random(f"{seed} {block_size}")
        self.block_size = block_size
        self.largest = largest
        self.kinds = list(weights)
        self.weights = list(weights.values())

    def operations(self, count: int, size: Callable[[], int]) -> Iterator[Operation]:
        """`count` operations, each chosen when the one before is done."""
        for _ in range(count):
            (kind,) = self.random.choices(self.kinds, self.weights)
            yield self.operation(kind, size())

    def operation(self, kind: str, size: int) -> Operation:
        if kind in ("read", "write"):
            offset = self.offset(self.largest, size)
            return Operation(kind, offset, min(self.length(), self.largest - offset))
        if kind in ("map_read", "map_write"):
            offset = self.offset(size, size)
            return Operation(kind, offset, min(self.length(), size - offset))
        if kind in ("cut", "punch"):
            return Operation(kind, self.offset(size, size))
        if kind == "extend":
            return Operation(kind, size + self.random.randint(0, self.largest - size))
        return Operation(kind)

    def offset(self, highest: int, size: int) -> int:
        """From 0 to `highest`."""
        where = self.random.random()
        near = self.random.choice((-2, -1, 0, 0, 1, 2))
        chosen = self.random.randint(0, highest)
        if where < 0.35:
            chosen = chosen // self.block_size * self.block_size + near
        elif where < 0.5:
            chosen = size + near
        return min(max(chosen, 0), highest)

    def length(self) -> int:
        chosen = self.random.random()
        if chosen < 0.3:
            return self.random.randint(0, 200)
        if chosen < 0.6:
            return self.block_size * self.random.randint(1, 3)
        return self.random.randint(1, max(self.largest // 20, 3 * self.block_size))


class Run:
    """Operations on `file`, and the `shadow` that tells what it must hold."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.shadow = bytearray()
        self.done: list[Operation] = []

    def run(self, choice: Choice, count: int) -> None:
        """Do them; at a difference, print all that led to it and fail."""
        try:
            for operation in choice.operations(count, lambda: len(self.shadow)):
                self.done.append(operation)
                self.step(operation)
            self.compare()
        except BaseException:
            print(f"VSFS_FSX_SEED={SEED}, blocks of {choice.block_size} bytes: these operations")
            for number, operation in enumerate(self.done):
                print(number, *operation)
            raise

    def step(self, operation: Operation) -> None:
        kind, offset, size = operation
        if kind == "read":
            self.same(offset, self.file.read(offset, size), size)
        elif kind == "write":
            content = self.content(size)
            assert self.file.write(offset, content) == size
            self.put(offset, content)
        elif kind in ("cut", "extend"):
            self.truncate(offset)
        elif kind == "punch":
            before = len(self.shadow)
            self.truncate(offset)
            self.truncate(before)
        elif kind == "fsync":
            self.file.fsync()
        elif kind == "reopen":
            self.file.reopen()
        elif kind == "remount":
            self.file.remount()
            self.compare()
        else:
            self.mapped(operation, cast(MappedFile, self.file))
        assert self.file.size() == len(self.shadow)

    def mapped(self, operation: Operation, file: MappedFile) -> None:
        kind, offset, size = operation
        if not self.shadow:
            return
        if kind == "map_read":
            self.same(offset, file.map_read(offset, size), size)
        else:
            content = self.content(size)
            file.map_write(offset, content)
            self.put(offset, content)

    def content(self, size: int) -> bytes:
        """Bytes that no other operation writes."""
        return random.Random(len(self.done)).randbytes(size)

    def put(self, offset: int, content: bytes) -> None:
        if not content:
            return
        self.shadow.extend(bytes(max(offset - len(self.shadow), 0)))
        self.shadow[offset : offset + len(content)] = content

    def truncate(self, size: int) -> None:
        self.file.truncate(size)
        del self.shadow[size:]
        self.shadow.extend(bytes(size - len(self.shadow)))

    def same(self, offset: int, found: bytes, size: int) -> None:
        """Fail where `found` is not what the file holds from `offset` on."""
        expected = self.shadow[offset : offset + size]
        if found == expected:
            return
        assert len(found) == len(expected), f"{len(found)} bytes from {offset}"
        at = next(
            at for at, pair in enumerate(zip(found, expected, strict=True)) if len({*pair}) > 1
        )
        raise AssertionError(
            f"byte {offset + at} is {found[at]:#x} instead of {expected[at]:#x}; "
            f"the file has {len(self.shadow)} bytes"
        )

    def compare(self) -> None:
        """The whole file."""
        self.same(0, self.file.read(0, len(self.shadow) + 1), len(self.shadow) + 1)
