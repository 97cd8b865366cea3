"""The layers below the volume, put together on an image in memory."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator

from tests.support.images import KIB, blank
from vsfs.bitmap import Bitmap
from vsfs.blockmap import BlockMap
from vsfs.buffer import BufferCache
from vsfs.device import BlockDevice, Kind, RecordingDevice
from vsfs.directory import Directory
from vsfs.fileio import FileIO
from vsfs.inode import Inode, InodeTable
from vsfs.layout import SUPERBLOCK_SIZE
from vsfs.validate import check_superblock


class Layers:
    """One of each, as ``Volume`` has them; and the device below records."""

    def __init__(
        self, device: BlockDevice | None = None, *, block_size: int = 512, size: int = 256 * KIB
    ) -> None:
        self.memory = device or blank(size, block_size=block_size)
        head = self.memory.read(0, SUPERBLOCK_SIZE)
        superblock = check_superblock(head, self.memory.size)
        self.geometry = geometry = superblock.geometry
        self.memory.block_size = geometry.block_size
        self.device = RecordingDevice(self.memory)
        self.cache = BufferCache(self.device, geometry)
        self.inode_bitmap = Bitmap(
            self.cache,
            kind=Kind.INODE_BITMAP,
            start=geometry.inode_bitmap_start,
            first=0,
            count=geometry.inode_count,
            available=superblock.free_inode_count,
        )
        self.bitmap = Bitmap(
            self.cache,
            kind=Kind.DATA_BITMAP,
            start=geometry.data_bitmap_start,
            first=geometry.data_start,
            count=geometry.data_blocks,
            available=superblock.free_block_count,
        )
        self.inodes = InodeTable(self.cache, self.inode_bitmap)
        self.blockmap = BlockMap(self.cache, self.bitmap)
        self.io = FileIO(self.cache, self.blockmap)

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """One operation: it ends, or is rolled back and its error goes on."""
        self.cache.begin()
        try:
            yield
        except BaseException:
            self.cache.rollback()
            raise
        self.cache.end()

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """An operation that fails after all that is done in it."""
        self.cache.begin()
        yield
        self.cache.rollback()

    def new_file(self) -> Inode:
        """A regular file with one link, and no name."""
        with self.operation():
            inode = self.inodes.allocate(stat.S_IFREG | 0o644, 0, 0, 0)
            inode.nlink = 1
        return inode

    def new_directory(self) -> Directory:
        """An empty directory, and no name for it."""
        with self.operation():
            inode = self.inodes.allocate(stat.S_IFDIR | 0o755, 0, 0, 0)
            inode.nlink = 2
            Directory.create(self.cache, self.blockmap, inode, 2)
        return Directory.of(self.cache, self.blockmap, inode)

    def free_blocks(self) -> int:
        """Data blocks that can be given out now or after a commit."""
        return self.bitmap.available + self.bitmap.freed
