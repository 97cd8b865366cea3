"""The overlay: an image with the repairs so far on top of it, in memory.

All passes read through it, so each sees what the ones before have repaired,
while the image itself stays as it was until the end.  ``-n`` is then the same
check without the last step, and a repair that is interrupted by an error has
written nothing.

What is kept in memory is the blocks that were changed, and a bounded number of
others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from vsfs.device import BlockDevice, BytesLike, Kind
from vsfs.fsck.findings import Edit

_CACHED_BLOCKS: Final = 512


class Overlay(BlockDevice):
    """`below` with accepted edits on top; writing to it changes memory only."""

    def __init__(self, below: BlockDevice) -> None:
        self.below = below
        self.read_only = True
        #: Changed blocks -> (what they hold now, what kind of block they are).
        self.changed: dict[int, tuple[bytearray, Kind]] = {}
        self.edits: list[Edit] = []
        self.set_block_size(below.block_size)

    def set_block_size(self, block_size: int) -> None:
        """Number blocks anew, once the superblock is known; drops what was read."""
        assert not self.changed, "block numbers of edits would change their meaning"
        self.block_size = block_size
        self._cached: Callable[[int], bytes] = functools.lru_cache(_CACHED_BLOCKS)(self._below)

    def _below(self, block_no: int) -> bytes:
        self.below.block_size = self.block_size
        return self.below.read(block_no, self.block_size)

    @property
    def size(self) -> int:
        return self.below.size

    def block(self, block_no: int) -> bytes | bytearray:
        """A whole block as it is with all edits; not to be changed by the caller."""
        changed = self.changed.get(block_no)
        return self._cached(block_no) if changed is None else changed[0]

    def plan(self, block_no: int, offset: int, after: bytes, kind: Kind) -> Edit | None:
        """The edit that puts `after` into a block; None if that is what stands there."""
        before = bytes(self.block(block_no)[offset : offset + len(after)])
        assert len(before) == len(after), "an edit stays within its block"
        return Edit(block_no, offset, before, after, kind) if before != after else None

    def apply(self, edit: Edit) -> None:
        """Put a planned edit on top, before anything else of those bytes changes."""
        if edit.block_no not in self.changed:
            self.changed[edit.block_no] = (bytearray(self._cached(edit.block_no)), edit.kind)
        content = self.changed[edit.block_no][0]
        end = edit.offset + len(edit.after)
        assert content[edit.offset : end] == edit.before
        content[edit.offset : end] = edit.after
        self.edits.append(edit)

    # -- as a device, for those who read through layers of their own -----------

    def read(
        self, block_no: int, size: int, offset: int = 0, kind: Kind = Kind.DATA, ino: int = 0
    ) -> bytes:
        if not self.changed:
            self.below.block_size = self.block_size
            return self.below.read(block_no, size, offset, kind, ino)
        first, start = divmod(block_no * self.block_size + offset, self.block_size)
        last = (block_no * self.block_size + offset + max(size, 1) - 1) // self.block_size
        whole = b"".join(self.block(number) for number in range(first, last + 1))
        return whole[start : start + size]

    def write(
        self,
        block_no: int,
        content: BytesLike,
        offset: int = 0,
        kind: Kind = Kind.DATA,
        ino: int = 0,
    ) -> None:
        raise AssertionError("an overlay changes by apply() only")

    def barrier(self) -> None:
        pass

    def close(self) -> None:
        pass
