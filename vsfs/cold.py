"""A volume that remembers nothing between calls: the assumption of OSTEP's figures.

Figures 40.3 and 40.4 count every access that a call needs when nothing is in memory
before it and all that it changes is on the disk after it.  A :class:`ColdVolume`
works like that, with the same layers and the same crash-safe order:

* before each call every clean block, inode and directory index is forgotten, and an
  open file's inode is read from the disk again when the call first needs it;
* within a call a block is read once, but each inode is read and written on its own,
  as if it had a block to itself;
* each call commits, and a read changes the access time (``strictatime``);
* the superblock's counts are written at unmount only.  A crash before leaves old
  ones, which the next mount counts anew like any that it left half-way.

For showing, not for speed.
"""

from __future__ import annotations

from typing import Any, Final

from vsfs.buffer import Buffer, BufferCache
from vsfs.device import BlockDevice, Kind
from vsfs.inode import Inode, InodeTable
from vsfs.layout import INODE_SIZE
from vsfs.openfiles import OpenFile, OpenFileTable
from vsfs.traced import TracedVolume
from vsfs.validate import check_inode

#: Calls that need the open file table only: no disk I/O, says OSTEP 40.6 of close.
_OF_THE_TABLE: Final = ("close", "release", "releasedir", "dup", "dup2", "fork", "exit", "unmount")


class ColdCache(BufferCache):
    """Keeps blocks for one call; inodes are read and written one by one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.changed_inodes: list[int] = []  # of the commit that runs, in their order
        self._on_disk: dict[int, bytes] = {}  # blocks of the inode table

    def forget_clean(self) -> None:
        """Keep only what a commit still has to write."""
        for block_no in [no for no, buffer in self._blocks.items() if not buffer.dirty]:
            del self._blocks[block_no]
            self._on_disk.pop(block_no, None)

    def read(self, block_no: int, kind: Kind, ino: int = 0) -> Buffer:
        """As of ``BufferCache``; an inode asked for by number comes from the disk."""
        if kind != Kind.INODE_TABLE:
            return super().read(block_no, kind, ino)
        buffer = self._blocks.get(block_no)
        if buffer is not None and (buffer.dirty or not ino):
            return super().read(block_no, kind, ino)
        if buffer is not None:
            buffer.data[:] = self.device.read(block_no, self.geometry.block_size, 0, kind, ino)
        buffer = super().read(block_no, kind, ino)
        self._on_disk[block_no] = bytes(buffer.data)
        return buffer

    def install(self, buffers: list[Buffer]) -> None:
        """Write each buffer by itself, and each inode."""
        for buffer in sorted(buffers, key=lambda buffer: buffer.block_no):
            if buffer.kind == Kind.INODE_TABLE:
                self._write_inodes(buffer)
            else:
                super().install([buffer])

    def _write_inodes(self, buffer: Buffer) -> None:
        content = bytearray(self._on_disk[buffer.block_no])
        for ino in self.changed_inodes:
            block, offset = self.geometry.inode_location(ino)
            if block == buffer.block_no:
                end = offset + INODE_SIZE
                content[offset:end] = buffer.data[offset:end]
                self.device.write(block, bytes(content), 0, Kind.INODE_TABLE, ino)
        self._on_disk[buffer.block_no] = bytes(content)


class ColdInodes(InodeTable):
    """Reads an inode from the disk once in each call that needs it."""

    _cache: ColdCache

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: set[int] = set()  # inodes that this call has read
        self._trusts_open = False

    def forget_clean(self, *, trusts_open: bool) -> None:
        """A call begins: what is open is still there, but has to be read again.

        With `trusts_open` the call can do with what it finds of it.
        """
        self._trusts_open = trusts_open
        self._seen.clear()
        for ino, inode in list(self._inodes.items()):
            inode.index = None
            if not inode.open_count and ino not in self._dirty:
                del self._inodes[ino]

    def get(self, ino: int) -> Inode:
        """As of ``InodeTable``."""
        inode = self._inodes.get(ino)
        if inode is not None:
            self.refresh(inode)
            return inode
        self._seen.add(ino)
        return super().get(ino)

    def refresh(self, inode: Inode) -> None:
        """Read an open inode again, unless this call has done so."""
        if self._trusts_open or inode.ino in self._seen or inode.ino in self._dirty:
            return
        self._seen.add(inode.ino)
        geometry = self._cache.geometry
        block, offset = geometry.inode_location(inode.ino)
        data = self._cache.read(block, Kind.INODE_TABLE, inode.ino).data
        record = check_inode(inode.ino, bytes(data[offset : offset + INODE_SIZE]), geometry)
        inode.restore(Inode(inode.ino, record).state)

    def allocate(self, mode: int, uid: int, gid: int, now_ns: int) -> Inode:
        """As of ``InodeTable``."""
        inode = super().allocate(mode, uid, gid, now_ns)
        self._seen.add(inode.ino)
        return inode

    def _encode(self) -> None:
        self._cache.changed_inodes = list(self._dirty)
        super()._encode()


class _ColdFiles(OpenFileTable):
    """Whoever uses an open file needs its inode."""

    def __init__(self, inodes: ColdInodes) -> None:
        super().__init__()
        self._inodes = inodes

    def get(self, handle: int) -> OpenFile:
        """As of ``OpenFileTable``."""
        file = super().get(handle)
        self._inodes.refresh(file.inode)
        return file


class ColdVolume(TracedVolume):
    """A volume of which every call starts with an empty memory."""

    cache_type = ColdCache
    inode_table_type = ColdInodes
    is_cold = True
    cache: ColdCache
    inodes: ColdInodes
    _with_superblock = False

    def __init__(self, device: BlockDevice, **options: Any) -> None:
        """As ``Volume``; that each call commits, and updates access times, is not to be chosen."""
        super().__init__(
            device, **{**options, "sync": True, "atime": "strictatime", "commit_interval": None}
        )
        self.files = _ColdFiles(self.inodes)

    def forget(self, call: str) -> None:
        """Nothing stays in memory from one call to the next."""
        self.inodes.forget_clean(trusts_open=call in _OF_THE_TABLE)
        self.cache.forget_clean()

    def _commit_superblock(self) -> None:
        self._with_superblock = True
        try:
            super()._commit_superblock()
        finally:
            self._with_superblock = False

    def _encode_superblock(self) -> None:
        if self._with_superblock:
            super()._encode_superblock()
