"""The floor: the least that a filesystem in Python can do and still answer right.

Nodes with a bytearray or a dict in them; nothing is ever written anywhere, no call
is undone, no limit is kept, no link is hard.  What a filesystem with a disk costs
above this is its own; what this costs is the binding's and the kernel's.

``floor_fusepy`` and ``floor_llfuse`` put it on the two bindings, with the options
that VSFS mounts with.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Final

NAMES_ARE_VALID_FOR: Final = 3600  # seconds, as VSFS
ROOT_INO: Final = 1


class Node:
    """A file, directory or symbolic link; attributes as fusepy wants them."""

    __slots__ = ("attributes", "children", "content", "ino")

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        now = time.time_ns()
        self.ino = ino
        self.children: dict[bytes, Node] = {}
        self.content = bytearray()
        self.attributes = {
            "st_ino": ino,
            "st_mode": mode,
            "st_nlink": 2 if stat.S_ISDIR(mode) else 1,
            "st_uid": uid,
            "st_gid": gid,
            "st_size": 0,
            "st_blocks": 0,
            "st_atime": now,
            "st_mtime": now,
            "st_ctime": now,
        }

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.attributes["st_mode"])

    def read(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset` on."""
        return bytes(memoryview(self.content)[offset : offset + size])

    def write(self, content: bytes, offset: int) -> int:
        """Put `content` at `offset`; return its length."""
        end = offset + len(content)
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset:end] = content
        self.changed()
        return len(content)

    def truncate(self, size: int) -> None:
        """Cut to `size` bytes, or fill up with zeroes."""
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))
        self.changed()

    def changed(self) -> None:
        """The content is another now."""
        attributes, size = self.attributes, len(self.content)
        attributes["st_size"] = size
        attributes["st_blocks"] = (size + 511) // 512
        attributes["st_mtime"] = attributes["st_ctime"] = time.time_ns()


class Tree:
    """All nodes, by inode number; names in the nodes of directories."""

    def __init__(self) -> None:
        self.root = Node(ROOT_INO, stat.S_IFDIR | 0o755, os.getuid(), os.getgid())
        self.nodes = {ROOT_INO: self.root}
        self._last_ino = ROOT_INO

    def find(self, parent: Node, name: bytes) -> Node:
        """The node called `name`; ENOENT."""
        node = parent.children.get(name)
        if node is None:
            raise OSError(errno.ENOENT, "no such name")
        return node

    def make(self, parent: Node, name: bytes, mode: int, uid: int, gid: int) -> Node:
        """A new node called `name`; EEXIST."""
        if name in parent.children:
            raise OSError(errno.EEXIST, "the name exists")
        self._last_ino += 1
        node = Node(self._last_ino, mode, uid, gid)
        parent.children[name] = self.nodes[node.ino] = node
        self._touch(parent, 1 if node.is_directory else 0)
        return node

    def remove(self, parent: Node, name: bytes, *, directory: bool) -> Node:
        """Take a name away; ENOENT, ENOTEMPTY, EISDIR, ENOTDIR."""
        node = self.find(parent, name)
        if node.is_directory != directory:
            raise OSError(errno.ENOTDIR if directory else errno.EISDIR, "of the other kind")
        if node.children:
            raise OSError(errno.ENOTEMPTY, "names are left")
        del parent.children[name]
        self._touch(parent, -1 if directory else 0)
        node.attributes["st_nlink"] = 0
        del self.nodes[node.ino]  # who has it open keeps the object
        return node

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """Move a name, over another one where there is one."""
        node = self.find(parent, name)
        victim = new_parent.children.get(new_name)
        if victim is node:
            return
        if victim is not None:
            self.remove(new_parent, new_name, directory=victim.is_directory)
        del parent.children[name]
        new_parent.children[new_name] = node
        step = 1 if node.is_directory else 0
        self._touch(parent, -step)
        self._touch(new_parent, step)

    def _touch(self, parent: Node, links: int) -> None:
        attributes = parent.attributes
        attributes["st_nlink"] += links
        attributes["st_mtime"] = attributes["st_ctime"] = time.time_ns()
