"""Extended attributes: names and values beside a file's contents (xattr(7)).

All attributes of an inode stand in one block of its own, its attribute block; an
inode without any has none.  The block is never changed in place on the disk: a
changed set goes to a newly allocated block, and the inode then points to that.
So a crash leaves the old set or the new one, whichever sectors arrived.
"""

from __future__ import annotations

import errno
from typing import Final

from vsfs.bitmap import Bitmap
from vsfs.buffer import BufferCache
from vsfs.device import Kind
from vsfs.errors import NoSpace, posix_error
from vsfs.inode import Inode
from vsfs.layout import (
    ATTRIBUTES_SIZE,
    NAMESPACES,
    attribute_records,
    attribute_size,
    encode_attributes,
)

NAME_MAX: Final = 255  # bytes, with the namespace
VALUE_MAX: Final = 65535  # bytes; 16 bits on the disk


class Attributes:
    """Reads and changes the attributes of inodes.

    The caller announces the inode with ``InodeTable.modify`` before a change.
    """

    def __init__(self, cache: BufferCache, bitmap: Bitmap) -> None:
        self._cache = cache
        self._bitmap = bitmap
        self._block_size = cache.geometry.block_size

    def all(self, inode: Inode) -> dict[bytes, bytes]:
        """Name to value; raises Corrupt (EUCLEAN) for a damaged block."""
        block = inode.attribute_block
        if not block:
            return {}
        data = self._cache.read(block, Kind.ATTRIBUTE, inode.ino).data
        return {record.name: record.value for record in attribute_records(data, block, inode.ino)}

    def get(self, inode: Inode, name: bytes) -> bytes:
        """The value of `name`; raises ENODATA if there is none."""
        _check_name(name)
        value = self.all(inode).get(name)
        if value is None:
            raise posix_error(errno.ENODATA)
        return value

    def set(self, inode: Inode, name: bytes, value: bytes, *, create: bool, replace: bool) -> None:
        """Give `name` a value; `create` demands a new name, `replace` an old one.

        Raises EEXIST, ENODATA, E2BIG, EOPNOTSUPP for an unknown namespace, ENOSPC
        when the set does not fit into a block or no block is free.
        """
        _check_name(name)
        if len(value) > VALUE_MAX:
            raise posix_error(errno.E2BIG)
        attributes = self.all(inode)
        if create and name in attributes:
            raise posix_error(errno.EEXIST)
        if replace and name not in attributes:
            raise posix_error(errno.ENODATA)
        attributes[name] = value
        self._store(inode, attributes)

    def remove(self, inode: Inode, name: bytes) -> None:
        """Take `name` away; raises ENODATA if there is none."""
        _check_name(name)
        attributes = self.all(inode)
        if attributes.pop(name, None) is None:
            raise posix_error(errno.ENODATA)
        self._store(inode, attributes)

    def _store(self, inode: Inode, attributes: dict[bytes, bytes]) -> None:
        size = sum(attribute_size(name, value) for name, value in attributes.items())
        if ATTRIBUTES_SIZE + size > self._block_size:
            raise NoSpace(
                f"the extended attributes of inode {inode.ino} would take "
                f"{ATTRIBUTES_SIZE + size} bytes, and all must fit into a block of "
                f"{self._block_size}"
            )
        old = inode.attribute_block
        if attributes and old and self._is_fresh(inode):
            buffer = self._cache.read(old, Kind.ATTRIBUTE, inode.ino)
            self._cache.modify(buffer)
            buffer.data[:] = encode_attributes(inode.ino, attributes, self._block_size)
            return
        inode.attribute_block = self._new_block(inode, attributes) if attributes else 0
        if old:
            self._cache.forget(old)
            self._bitmap.free(old)
            inode.blocks -= 1

    def _is_fresh(self, inode: Inode) -> bool:
        """Whether nothing on the disk points to the attribute block yet."""
        return self._cache.read(inode.attribute_block, Kind.ATTRIBUTE, inode.ino).fresh

    def _new_block(self, inode: Inode, attributes: dict[bytes, bytes]) -> int:
        # near the old set, or near the contents, if there is either
        neighbour = inode.attribute_block or inode.pointers[0]
        block, _ = self._bitmap.allocate(neighbour or None)
        data = encode_attributes(inode.ino, attributes, self._block_size)
        self._cache.create(block, data, Kind.ATTRIBUTE, inode.ino)
        inode.blocks += 1
        return block


def _check_name(name: bytes) -> None:
    """Raise EOPNOTSUPP for an unknown namespace, ERANGE or EINVAL for a bad name."""
    if not name.startswith(NAMESPACES):
        raise posix_error(errno.EOPNOTSUPP)
    if len(name) > NAME_MAX:
        raise posix_error(errno.ERANGE)
    if name in NAMESPACES or b"\0" in name:
        raise posix_error(errno.EINVAL)
