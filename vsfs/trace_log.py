"""The calls of a traced volume, kept so that they can be made once more elsewhere.

Together with the image as it was before them: ``trace_replay`` makes them on a cold
volume, to tell what memory has saved.  Of what is written only the size is kept.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from vsfs.device import BlockDevice
from vsfs.layout import (
    FEATURE_INCOMPAT_RECOVER,
    STATE_CLEAN,
    SUPERBLOCK_SIZE,
    encode_superblock,
)
from vsfs.mounting import Mounted

#: A larger image is not kept in memory, and more calls are not.
MOST_BYTES: Final = 64 << 20
MOST_STEPS: Final = 20_000


class Ended(NamedTuple):
    """How a call has ended: an errno, or 0, and then the `handle` that an open gave."""

    errno: int
    handle: int


class Step(NamedTuple):
    """A call of a volume, part of call `call`."""

    call: int
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    ended: Ended


def clean_copy(volume: Mounted, device: BlockDevice) -> bytes | None:
    """The image of a volume on `device` that has just been synced, as if it were unmounted.

    None for an image that is too large, and for one that is only read as if it were
    replayed.
    """
    must_replay = volume.superblock.feature_incompat & FEATURE_INCOMPAT_RECOVER
    if device.size > MOST_BYTES or (volume.read_only and must_replay):
        return None
    statistics = volume.statistics()
    clean = volume.superblock._replace(
        free_block_count=statistics.free_blocks,  # a cold volume's are old until its unmount
        free_inode_count=statistics.free_inodes,
        state=STATE_CLEAN,
        feature_incompat=volume.superblock.feature_incompat & ~FEATURE_INCOMPAT_RECOVER,
    )
    return encode_superblock(clean) + device.read(0, device.size)[SUPERBLOCK_SIZE:]


class CallLog:
    """The image before a recording, and the calls since.

    `is_whole` turns false when there are too many.
    """

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.steps: list[Step] = []
        self.is_whole = True

    @classmethod
    def of(cls, volume: Mounted, device: BlockDevice) -> CallLog | None:
        """A log of a volume on `device` that has just been synced.

        None while files are open (the calls could not go on with them), and where
        there is no :func:`clean_copy`.
        """
        image = None if len(volume.files) else clean_copy(volume, device)
        return None if image is None else cls(image)

    def add(
        self, call: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], ended: Ended
    ) -> None:
        """A call has ended."""
        if len(self.steps) >= MOST_STEPS:
            self.is_whole = False
        elif name != "close":
            kept = tuple(len(arg) if name in ("write", "append") and at == 1 else arg
                         for at, arg in enumerate(args))  # fmt: skip
            self.steps.append(Step(call, name, kept, kwargs, ended))
