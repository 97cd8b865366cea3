"""The floor on fusepy: ``python -m bench.floor_fusepy MOUNTPOINT``, in the foreground."""

from __future__ import annotations

import errno
import stat
import sys
from collections.abc import Iterator
from typing import Any, Final

import fuse

from .floor import NAMES_ARE_VALID_FOR, Node, Tree

_ENCODING: Final = "latin-1"


class Floor:
    """fusepy's operations; what is not here the kernel does not ask for."""

    use_ns = True
    flag_nullpath_ok = 1
    flag_nopath = 1
    flag_utime_omit_ok = 1

    def __init__(self) -> None:
        self.tree = Tree()
        self.open_nodes: dict[int, Node] = {}
        self.free_handles: list[int] = []

    def __call__(self, name: str, *args: Any) -> Any:
        """Dispatch, as directly as fusepy allows."""
        return getattr(self, name)(*args)

    def _node(self, path: str) -> Node:
        node = self.tree.root
        if path != "/":
            for name in path.encode(_ENCODING).split(b"/")[1:]:
                node = self.tree.find(node, name)
        return node

    def _place(self, path: str) -> tuple[Node, bytes]:
        parent, _, name = path.rpartition("/")
        return self._node(parent or "/"), name.encode(_ENCODING)

    def getattr(self, path: str | None, fi: Any = None) -> dict[str, int]:
        """stat(2)."""
        if path is None or (fi is not None and fi.fh):
            return self.open_nodes[fi.fh].attributes
        return self._node(path).attributes

    def getxattr(self, _path: str, _name: str, _position: int = 0) -> bytes:
        """There are none.  VSFS has some, so the kernel asks there before each write; here, too."""
        raise OSError(errno.ENODATA, "no attribute")

    def readlink(self, path: str) -> str:
        """readlink(2)."""
        return self._node(path).content.decode(_ENCODING)

    def mkdir(self, path: str, mode: int) -> None:
        """mkdir(2)."""
        self._make(path, stat.S_IFDIR | mode)

    def symlink(self, path: str, target: str) -> None:
        """symlink(2)."""
        self._make(path, stat.S_IFLNK | 0o777).write(target.encode(_ENCODING), 0)

    def _make(self, path: str, mode: int) -> Node:
        uid, gid, _pid = fuse.fuse_get_context()
        return self.tree.make(*self._place(path), mode, uid, gid)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        self.tree.remove(*self._place(path), directory=False)

    def rmdir(self, path: str) -> None:
        """rmdir(2)."""
        self.tree.remove(*self._place(path), directory=True)

    def rename(self, old: str, new: str) -> None:
        """rename(2)."""
        self.tree.rename(*self._place(old), *self._place(new))

    def chmod(self, path: str, mode: int) -> None:
        """chmod(2)."""
        attributes = self._node(path).attributes
        attributes["st_mode"] = stat.S_IFMT(attributes["st_mode"]) | stat.S_IMODE(mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """chown(2)."""
        attributes = self._node(path).attributes
        if uid != -1:
            attributes["st_uid"] = uid
        if gid != -1:
            attributes["st_gid"] = gid

    def truncate(self, path: str | None, length: int, fi: Any = None) -> None:
        """truncate(2)."""
        node = self._node(path) if path is not None else self.open_nodes[fi.fh]
        node.truncate(length)

    def utimens(self, path: str, times: tuple[int, int]) -> None:
        """utimensat(2); nobody here leaves out one of the times."""
        self._node(path).attributes.update(st_atime=times[0], st_mtime=times[1])

    def create(self, path: str, mode: int, fi: Any) -> int:
        """open(2) with O_CREAT."""
        return self._open(self._make(path, mode), fi)

    def open(self, path: str, fi: Any) -> int:
        """open(2)."""
        return self._open(self._node(path), fi)

    def _open(self, node: Node, fi: Any) -> int:
        fi.fh = self._handle(node)
        fi.keep_cache = 1
        return 0

    def _handle(self, node: Node) -> int:
        handle = self.free_handles.pop() if self.free_handles else len(self.open_nodes) + 1
        self.open_nodes[handle] = node
        return handle

    def read(self, _path: str | None, size: int, offset: int, fi: Any) -> bytes:
        """read(2)."""
        return self.open_nodes[fi.fh].read(size, offset)

    def write(self, _path: str | None, content: bytes, offset: int, fi: Any) -> int:
        """write(2)."""
        return self.open_nodes[fi.fh].write(content, offset)

    def release(self, _path: str | None, fi: Any) -> None:
        """close(2)."""
        self.releasedir(None, fi.fh)

    def fsync(self, _path: str | None, _datasync: int, _fi: Any) -> None:
        """Nothing is ever durable."""

    def fsyncdir(self, _path: str | None, _datasync: int, _handle: int) -> None:
        """Nothing is ever durable."""

    def opendir(self, path: str) -> int:
        """opendir(3)."""
        return self._handle(self._node(path))

    def readdir(self, _path: str | None, handle: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """readdir(3)."""
        node = self.open_nodes[handle]
        yield ".", node.attributes, 0
        yield "..", node.attributes, 0
        for name, child in node.children.items():
            yield name.decode(_ENCODING), child.attributes, 0

    def releasedir(self, _path: str | None, handle: int) -> None:
        """closedir(3)."""
        del self.open_nodes[handle]
        self.free_handles.append(handle)


def main(mount_point: str) -> None:
    """Mount, and serve until unmounted; the options are those of vsfs/fuse_adapter.py."""
    fuse.FUSE(
        Floor(),
        mount_point,
        raw_fi=True,
        encoding=_ENCODING,
        foreground=True,
        nothreads=True,
        fsname="floor",
        use_ino=True,
        big_writes=True,
        attr_timeout=0,
        entry_timeout=NAMES_ARE_VALID_FOR,
        negative_timeout=NAMES_ARE_VALID_FOR,
    )


if __name__ == "__main__":
    main(sys.argv[1])
