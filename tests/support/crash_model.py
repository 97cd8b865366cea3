"""What a tree is after each operation: plain dicts, and nothing of ``vsfs``.

A model keeps every state that the tree has had, so that a disk after a crash can
be compared with those between two moments.  A file is known by a number of its
own (`file`), which no other file gets again; 0 is the root directory.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

ROOT: Final = 0

Entry = tuple[int, str]  # directory (its file), name


@dataclass(frozen=True, slots=True)
class Node:
    """A file: `kind` is "f", "d" or "l"; `content` is a link's target, too."""

    kind: str
    content: bytes = b""
    attributes: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """A state: the files that have names, and the names."""

    nodes: dict[int, Node]
    entries: dict[Entry, int]


class Refused(Exception):
    """The operation fails in this state, with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(errno.errorcode[code])
        self.code = code


class Model:
    """The states of a tree; `states[k]` is that after k operations."""

    def __init__(self) -> None:
        self.states = [Tree({ROOT: Node("d")}, {})]
        self._next = 1

    @property
    def tree(self) -> Tree:
        """The present state."""
        return self.states[-1]

    def start_here(self) -> None:
        """Forget the states so far: the present one is state 0."""
        del self.states[:-1]

    # -- paths ----------------------------------------------------------------

    def find(self, path: str) -> int:
        """The file at `path`; raises Refused with ENOENT or ENOTDIR."""
        file = ROOT
        for name in path.strip("/").split("/"):
            if not name:
                continue
            if self.tree.nodes[file].kind != "d":
                raise Refused(errno.ENOTDIR)
            if (file, name) not in self.tree.entries:
                raise Refused(errno.ENOENT)
            file = self.tree.entries[file, name]
        return file

    def place(self, path: str) -> Entry:
        """The directory and name of `path`, which need not be there."""
        above, _, name = path.rpartition("/")
        directory = self.find(above)
        if self.tree.nodes[directory].kind != "d":
            raise Refused(errno.ENOTDIR)
        return directory, name

    def regular(self, path: str) -> int:
        """The regular file at `path`; raises Refused with EISDIR or ELOOP for another kind."""
        file = self.find(path)
        if self.tree.nodes[file].kind == "d":
            raise Refused(errno.EISDIR)
        if self.tree.nodes[file].kind != "f":
            raise Refused(errno.ELOOP)
        return file

    def _new_place(self, path: str) -> Entry:
        place = self.place(path)
        if place in self.tree.entries:
            raise Refused(errno.EEXIST)
        return place

    def _is_empty(self, file: int) -> bool:
        return not any(directory == file for directory, _ in self.tree.entries)

    # -- changes --------------------------------------------------------------

    def stay(self) -> None:
        """An operation that changed nothing."""
        self.states.append(self.tree)

    def _enter(self, place: Entry, file: int, node: Node | None = None) -> None:
        nodes, entries = dict(self.tree.nodes), dict(self.tree.entries)
        if node is not None:
            nodes[file] = node
        entries[place] = file
        self.states.append(Tree(nodes, entries))

    def _make(self, path: str, node: Node) -> int:
        place = self._new_place(path)
        file = self._next
        self._next += 1
        self._enter(place, file, node)
        return file

    def _change(self, file: int, change: Callable[[Node], Node]) -> None:
        nodes = dict(self.tree.nodes)
        nodes[file] = change(nodes[file])
        self.states.append(Tree(nodes, self.tree.entries))

    def create(self, path: str) -> int:
        """An empty file; its number."""
        return self._make(path, Node("f"))

    def mkdir(self, path: str) -> int:
        """An empty directory; its number."""
        return self._make(path, Node("d"))

    def symlink(self, path: str, target: bytes) -> int:
        """A symbolic link; its number."""
        return self._make(path, Node("l", target))

    def write(self, path: str, offset: int | None, content: bytes) -> None:
        """Write at `offset`, or at the end if it is None."""
        file = self.regular(path)
        old = self.tree.nodes[file].content
        at = len(old) if offset is None else offset
        new = old.ljust(at, b"\0")[:at] + content + old[at + len(content) :]
        self._change(file, lambda node: replace(node, content=new))

    def truncate(self, path: str, size: int) -> None:
        """Cut off, or grow by zeroes."""
        file = self.regular(path)
        new = self.tree.nodes[file].content[:size].ljust(size, b"\0")
        self._change(file, lambda node: replace(node, content=new))

    def setxattr(self, path: str, name: bytes, value: bytes) -> None:
        """Set an attribute of a file or directory."""
        file = self.find(path)
        if self.tree.nodes[file].kind == "l":
            raise Refused(errno.EPERM)
        attributes = {**dict(self.tree.nodes[file].attributes), name: value}
        self._change(file, lambda node: replace(node, attributes=tuple(sorted(attributes.items()))))

    def removexattr(self, path: str, name: bytes) -> None:
        """Remove an attribute that is there."""
        file = self.find(path)
        kept = tuple(pair for pair in self.tree.nodes[file].attributes if pair[0] != name)
        self._change(file, lambda node: replace(node, attributes=kept))

    def link(self, path: str, new: str) -> None:
        """One more name."""
        file = self.find(path)
        if self.tree.nodes[file].kind == "d":
            raise Refused(errno.EPERM)
        self._enter(self._new_place(new), file)

    def _without(self, place: Entry, put: tuple[Entry, int] | None = None) -> None:
        """Take a name away, give one; a file without names is gone."""
        entries = dict(self.tree.entries)
        del entries[place]
        if put is not None:
            entries[put[0]] = put[1]
        named = set(entries.values()) | {ROOT}
        nodes = {file: node for file, node in self.tree.nodes.items() if file in named}
        self.states.append(Tree(nodes, entries))

    def unlink(self, path: str) -> None:
        """Take a name of a file away."""
        if self.tree.nodes[self.find(path)].kind == "d":
            raise Refused(errno.EISDIR)
        self._without(self.place(path))

    def rmdir(self, path: str) -> None:
        """Take an empty directory away."""
        file = self.find(path)
        if self.tree.nodes[file].kind != "d":
            raise Refused(errno.ENOTDIR)
        if not self._is_empty(file):
            raise Refused(errno.ENOTEMPTY)
        self._without(self.place(path))

    def rename(self, path: str, new: str) -> None:
        """Move a name, over what it finds."""
        file, place, target = self.find(path), self.place(path), self.place(new)
        node = self.tree.nodes[file]
        if node.kind == "d" and self._is_below(target[0], file):
            raise Refused(errno.EINVAL)
        victim = self.tree.entries.get(target)
        if victim == file:
            self.stay()
            return
        if victim is not None:
            other = self.tree.nodes[victim].kind
            if node.kind == "d" and other != "d":
                raise Refused(errno.ENOTDIR)
            if node.kind != "d" and other == "d":
                raise Refused(errno.EISDIR)
            if other == "d" and not self._is_empty(victim):
                raise Refused(errno.ENOTEMPTY)
        self._without(place, (target, file))

    def _is_below(self, file: int, above: int) -> bool:
        parents = {child: directory for (directory, _), child in self.tree.entries.items()}
        while file != above:
            if file == ROOT:
                return False
            file = parents[file]
        return True


def paths_of(tree: Tree) -> dict[str, int]:
    """Every path, "" for the root."""
    found = {"": ROOT}
    waiting = [("", ROOT)]
    while waiting:
        path, directory = waiting.pop()
        for (above, name), file in tree.entries.items():
            if above == directory:
                found[f"{path}/{name}"] = file
                if tree.nodes[file].kind == "d":
                    waiting.append((f"{path}/{name}", file))
    return found
