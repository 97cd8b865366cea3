"""The floor on llfuse: ``python -m bench.floor_llfuse MOUNTPOINT``, in the foreground."""

from __future__ import annotations

import errno
import stat
import sys
from collections.abc import Iterator
from typing import Any

import llfuse

from .floor import NAMES_ARE_VALID_FOR, ROOT_INO, Node, Tree


class Floor(llfuse.Operations):  # type: ignore[misc]
    """llfuse's operations, by inode number; a handle is an inode number, too."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree()
        self.open_nodes: dict[int, list[Any]] = {}  # inode number -> node, how often

    def _node(self, ino: int) -> Node:
        node = self.tree.nodes.get(ino)
        if node is None:  # unlinked, but open
            opened = self.open_nodes.get(ino)
            if opened is None:
                raise llfuse.FUSEError(errno.ENOENT)
            found: Node = opened[0]
            return found
        return node

    @staticmethod
    def _entry(node: Node) -> Any:
        entry = llfuse.EntryAttributes()
        attributes = node.attributes
        entry.st_ino = node.ino
        entry.st_mode = attributes["st_mode"]
        entry.st_nlink = attributes["st_nlink"]
        entry.st_uid = attributes["st_uid"]
        entry.st_gid = attributes["st_gid"]
        entry.st_size = attributes["st_size"]
        entry.st_blocks = attributes["st_blocks"]
        entry.st_atime_ns = attributes["st_atime"]
        entry.st_mtime_ns = attributes["st_mtime"]
        entry.st_ctime_ns = attributes["st_ctime"]
        entry.entry_timeout = entry.attr_timeout = NAMES_ARE_VALID_FOR
        return entry

    def lookup(self, parent_inode: int, name: bytes, _ctx: Any) -> Any:
        """A name; of one that is not there the kernel remembers that, too."""
        if name in (b".", b".."):  # only who exports by NFS asks for these
            return self._entry(self._node(parent_inode))
        node = self._node(parent_inode).children.get(name)
        if node is None:
            entry = llfuse.EntryAttributes()
            entry.st_ino = 0
            entry.entry_timeout = NAMES_ARE_VALID_FOR
            return entry
        return self._entry(node)

    def forget(self, inode_list: list[tuple[int, int]]) -> None:
        """Nodes stay as long as they have a name."""

    def getattr(self, inode: int, _ctx: Any) -> Any:
        """stat(2)."""
        return self._entry(self._node(inode))

    def setattr(self, inode: int, attr: Any, fields: Any, _fh: int | None, _ctx: Any) -> Any:
        """chmod(2), chown(2), truncate(2), utimensat(2)."""
        node = self._node(inode)
        attributes = node.attributes
        if fields.update_size:
            node.truncate(attr.st_size)
        if fields.update_mode:
            attributes["st_mode"] = attr.st_mode
        if fields.update_uid:
            attributes["st_uid"] = attr.st_uid
        if fields.update_gid:
            attributes["st_gid"] = attr.st_gid
        if fields.update_atime:
            attributes["st_atime"] = attr.st_atime_ns
        if fields.update_mtime:
            attributes["st_mtime"] = attr.st_mtime_ns
        return self._entry(node)

    def getxattr(self, _inode: int, _name: bytes, _ctx: Any) -> bytes:
        """There are none, but the kernel asks before each write, as it asks VSFS."""
        raise llfuse.FUSEError(llfuse.ENOATTR)

    def readlink(self, inode: int, _ctx: Any) -> bytes:
        """readlink(2)."""
        return bytes(self._node(inode).content)

    def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> Any:
        """mkdir(2)."""
        return self._entry(self._make(parent_inode, name, stat.S_IFDIR | mode & ~ctx.umask, ctx))

    def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: Any) -> Any:
        """symlink(2)."""
        node = self._make(parent_inode, name, stat.S_IFLNK | 0o777, ctx)
        node.write(target, 0)
        return self._entry(node)

    def _make(self, parent: int, name: bytes, mode: int, ctx: Any) -> Node:
        try:
            return self.tree.make(self._node(parent), name, mode, ctx.uid, ctx.gid)
        except OSError as error:
            raise llfuse.FUSEError(error.errno) from error

    def unlink(self, parent_inode: int, name: bytes, _ctx: Any) -> None:
        """unlink(2)."""
        self._remove(parent_inode, name, directory=False)

    def rmdir(self, parent_inode: int, name: bytes, _ctx: Any) -> None:
        """rmdir(2)."""
        self._remove(parent_inode, name, directory=True)

    def _remove(self, parent: int, name: bytes, *, directory: bool) -> None:
        try:
            self.tree.remove(self._node(parent), name, directory=directory)
        except OSError as error:
            raise llfuse.FUSEError(error.errno) from error

    def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        _ctx: Any,
    ) -> None:
        """rename(2)."""
        try:
            self.tree.rename(
                self._node(parent_inode_old), name_old, self._node(parent_inode_new), name_new
            )
        except OSError as error:
            raise llfuse.FUSEError(error.errno) from error

    def create(
        self, parent_inode: int, name: bytes, mode: int, _flags: int, ctx: Any
    ) -> tuple[int, Any]:
        """open(2) with O_CREAT."""
        node = self._make(parent_inode, name, mode & ~ctx.umask, ctx)
        return self._open(node), self._entry(node)

    def open(self, inode: int, _flags: int, _ctx: Any) -> int:
        """open(2)."""
        return self._open(self._node(inode))

    def _open(self, node: Node) -> int:
        self.open_nodes.setdefault(node.ino, [node, 0])[1] += 1
        return node.ino

    def read(self, fh: int, off: int, size: int) -> bytes:
        """read(2)."""
        return self._node(fh).read(size, off)

    def write(self, fh: int, off: int, buf: bytes) -> int:
        """write(2)."""
        return self._node(fh).write(buf, off)

    def release(self, fh: int) -> None:
        """The last close(2) of one open(2)."""
        opened = self.open_nodes[fh]
        opened[1] -= 1
        if not opened[1]:
            del self.open_nodes[fh]

    def fsync(self, _fh: int, _datasync: bool) -> None:
        """Nothing is ever durable."""

    def fsyncdir(self, _fh: int, _datasync: bool) -> None:
        """Nothing is ever durable."""

    def opendir(self, inode: int, _ctx: Any) -> int:
        """opendir(3)."""
        return inode

    def releasedir(self, _fh: int) -> None:
        """closedir(3)."""

    def readdir(self, fh: int, off: int) -> Iterator[tuple[bytes, Any, int]]:
        """readdir(3), from entry `off` on."""
        for number, (name, child) in enumerate(
            list(self._node(fh).children.items())[off:], off + 1
        ):
            yield name, self._entry(child), number


def main(mount_point: str) -> None:
    """Mount, and serve until unmounted."""
    assert llfuse.ROOT_INODE == ROOT_INO
    options = {"fsname=floor", "big_writes"}
    llfuse.init(Floor(), mount_point, options)
    try:
        llfuse.main(workers=1)
    finally:
        llfuse.close()


if __name__ == "__main__":
    main(sys.argv[1])
