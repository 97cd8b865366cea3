"""A volume with little memory: what a cache that is too small costs (OSTEP 40.7).

The same caches as of any volume, with bounds so low that a walk of a few directories
already pushes something out.  What is changed stays until a commit wrote it, and so
does what is open; only clean blocks and inodes are dropped, least recently used first.
"""

from __future__ import annotations

from typing import Final

from vsfs.bitmap import Bitmap
from vsfs.buffer import BufferCache
from vsfs.device import BlockDevice
from vsfs.inode import InodeTable
from vsfs.layout import Geometry
from vsfs.traced import TracedVolume

#: Clean metadata blocks kept.
SMALL_BLOCKS: Final = 4
#: Inodes kept that are neither open nor changed; half as many are left by each trim.
SMALL_INODES: Final = 4
#: Names of indexed directories: the directory used last keeps its index in any case.
_SMALL_NAMES: Final = 0


class _SmallCache(BufferCache):
    def __init__(self, device: BlockDevice, geometry: Geometry) -> None:
        super().__init__(device, geometry, SMALL_BLOCKS)


class _SmallInodes(InodeTable):
    def __init__(self, cache: BufferCache, bitmap: Bitmap) -> None:
        super().__init__(cache, bitmap, SMALL_INODES, _SMALL_NAMES)


class SmallVolume(TracedVolume):
    """A volume that keeps a handful of blocks and inodes."""

    cache_type = _SmallCache
    inode_table_type = _SmallInodes
