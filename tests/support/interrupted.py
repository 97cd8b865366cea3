"""What may be on the disk when the plug is pulled while fsck writes its repairs."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.support.broken import NOW_NS
from vsfs.device import Access, MemoryDevice, RecordingDevice
from vsfs.fsck import check
from vsfs.layout import SECTOR_SIZE


def grouped(device: RecordingDevice) -> list[list[Access]]:
    """All writes that were made, in groups that end with a barrier."""
    groups: list[list[Access]] = [[]]
    for access in device.accesses:
        if access.operation == "write":
            groups[-1].append(access)
        elif access.operation == "barrier":
            groups.append([])
    assert groups.pop() == []  # nothing is written behind the last barrier
    return groups


def writes_of(image: bytes) -> list[list[Access]]:
    """What a repair writes."""
    device = RecordingDevice(MemoryDevice(bytearray(image)))
    check(device.below, now_ns=NOW_NS).write(device)
    return grouped(device)


def sectors_of(access: Access, block_size: int) -> Iterator[tuple[int, bytes]]:
    """A write as what a disk does with it: whole sectors, in any order."""
    start = access.block_no * block_size + access.offset
    assert start % SECTOR_SIZE == 0
    for at in range(0, access.size, SECTOR_SIZE):
        yield start + at, access.content[at : at + SECTOR_SIZE]


def crash_states(image: bytes, block_size: int, seed: int) -> Iterator[bytes]:
    """What may be on the disk when the plug is pulled during a repair of `image`.

    Each prefix of the writes, and random sectors of those that no barrier has
    made durable yet.
    """
    chance = random.Random(seed)
    durable = bytearray(image)
    for group in writes_of(image):
        sectors = [sector for access in group for sector in sectors_of(access, block_size)]
        subsets = [sectors[:count] for count in range(len(sectors))][-20:]
        subsets += [[s for s in sectors if chance.random() < 0.5] for _ in range(6)]
        for subset in subsets:
            state = bytearray(durable)
            for start, content in subset:
                state[start : start + len(content)] = content
            yield bytes(state)
        for start, content in sectors:
            durable[start : start + len(content)] = content
    yield bytes(durable)
