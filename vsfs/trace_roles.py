"""What the blocks of an access are: found in memory, without reading the disk for it.

Where a block lies says most.  In the data region the buffer cache knows what it
holds, and the inode's pointers tell which block of its file it is.  Names are
learned as they are looked up.
"""

from __future__ import annotations

from typing import Final

from vsfs.device import BlockDevice, Kind
from vsfs.inode import Inode
from vsfs.layout import DIRECT_POINTERS, INODE_SIZE, ROOT_INO, get_pointers
from vsfs.trace import Part
from vsfs.volume import Volume

_BY_REGION: Final = {
    "superblock": Kind.SUPERBLOCK,
    "inode bitmap": Kind.INODE_BITMAP,
    "data bitmap": Kind.DATA_BITMAP,
    "inode table": Kind.INODE_TABLE,
}
_MAX_DEPTH: Final = 1000  # names of a path; a loop of directories is damage


class Names:
    """Which name each inode was last looked up by."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[int, bytes]] = {}

    def learn(self, ino: int, parent: int, name: bytes) -> None:
        """`name` in directory `parent` stands for inode `ino`."""
        if name not in (b".", b".."):
            self._names[ino] = (parent, name)

    def path(self, ino: int) -> str | None:
        """The path of an inode, escaped for people; None if nobody has looked it up."""
        names: list[bytes] = []
        while ino != ROOT_INO:
            known = self._names.get(ino)
            if known is None or len(names) > _MAX_DEPTH:
                return None
            ino, name = known
            names.append(name)
        whole = b"/" + b"/".join(reversed(names))
        return whole.decode("utf-8", "backslashreplace")


class Roles:
    """Names the parts of an access of a volume's device."""

    def __init__(self, volume: Volume, below: BlockDevice, names: Names) -> None:
        self._volume = volume
        self._below = below
        self.path = names.path

    def parts(
        self, operation: str, block: int, count: int, kind: Kind, ino: int, content: bytes
    ) -> list[Part]:
        """What an access touches."""
        if kind == Kind.DATA:  # one stretch of a file
            return [Part(kind, block, count, ino, None, self._file_block(ino, block))]
        if kind == Kind.JOURNAL:
            return [Part(kind, block, count)]
        size, found = self._volume.geometry.block_size, []
        for at in range(count):
            piece = content[at * size : (at + 1) * size]
            found += self._of_block(operation, block + at, kind, ino, piece)
        return found

    def _of_block(
        self, operation: str, block: int, kind: Kind, ino: int, content: bytes
    ) -> list[Part]:
        region = self._volume.geometry.region_of(block).name
        kind = _BY_REGION.get(region, kind)
        if kind == Kind.INODE_TABLE:
            inos = self._changed(block, content) if operation == "write" else []
            inos = inos or [ino]
            return [Part(kind, block, 1, changed) for changed in inos]
        if region in _BY_REGION:
            return [Part(kind, block)]
        buffer = self._volume.cache.cached(block)  # neighbours are written together
        if buffer is not None:
            kind, ino = buffer.kind, buffer.ino
        at = self._file_block(ino, block) if kind == Kind.DIRECTORY else None
        return [Part(kind, block, 1, ino, None, at)]

    def _changed(self, block: int, content: bytes) -> list[int]:
        """The inodes in which `content` differs from what a block of the table holds."""
        geometry = self._volume.geometry
        if len(content) != geometry.block_size:
            return []
        before = self._below.read(block, len(content))
        first = (block - geometry.inode_table_start) * geometry.inodes_per_block
        return [
            first + at // INODE_SIZE
            for at in range(0, len(content), INODE_SIZE)
            if content[at : at + INODE_SIZE] != before[at : at + INODE_SIZE]
        ]

    def _file_block(self, ino: int, block: int) -> int | None:
        """Which block of its file a disk block is, from the pointers in memory."""
        inode = self._volume.inodes.cached(ino)
        if inode is None:
            return None
        if block in inode.pointers[:DIRECT_POINTERS]:
            return inode.pointers.index(block)
        return self._below_indirect(inode, block)

    def _below_indirect(self, inode: Inode, block: int) -> int | None:
        base, per_block = DIRECT_POINTERS, self._volume.geometry.pointers_per_block
        for level, pointer in enumerate(inode.pointers[DIRECT_POINTERS:], 1):
            found = self._search(pointer, level, block)
            if found is not None:
                return base + found
            base += per_block**level
        return None

    def _search(self, pointer: int, level: int, block: int) -> int | None:
        """The index of `block` among those below an indirect block, if that is in memory."""
        buffer = self._volume.cache.cached(pointer) if pointer else None
        if buffer is None:
            return None
        pointers = get_pointers(buffer.data, 0, self._volume.geometry.pointers_per_block)
        if level == 1:
            return pointers.index(block) if block in pointers else None
        span: int = len(pointers) ** (level - 1)
        for index, below in enumerate(pointers):
            found = self._search(below, level - 1, block)
            if found is not None:
                return index * span + found
        return None
