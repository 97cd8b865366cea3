"""What a tree may be after a crash: the promises, word for word.

A *window* is the states of the model from the last one that was acknowledged as
durable (fsync, sync or unmount had returned) to the last operation that had begun
when the plug was pulled.  VSFS makes everything durable at an fsync, not only the
file that it is for; so whatever was done before it counts as acknowledged.

**With a journal** the tree is one state of the window, whole: names, links, types,
sizes, attributes, targets.  One thing is not journalled, file data (ext4's
data=ordered): data that later operations of the window wrote *over* bytes of the
file may be there already.  So each byte is that of the state, or of a later one;
or 0, where a later state has cut the file off and made it grow again.  A new
block is always written before what points to it.

**Without a journal** each name and each file is for itself:

* A name stands for what it stood for in some state of the window, or for nothing
  if there was nothing in some state.  So a name that did not change is there.  One
  that a rename replaced may be missing, too: the replaced file's inode is written
  as free before its entry is.  The file that was to replace it then has its old
  name still, by the third rule.
* What is untouched in the window, a file or a directory, is exactly as it was.
* A file that has a name in every state of the window has one of these names
  afterwards: a rename may leave the old name, the new one or both, never neither.
  (If it had two names at some time, so that one came by link and the other went by
  unlink, and none of them was there all the time, it may be in lost+found.)
* A file's size is that of some state of the window.  Each byte is what the file
  has there in some state, or 0: an indirect block can be there without the inode
  and the other way round, and what is in neither is a hole.  No other byte, ever:
  not another file's, and not what the disk held before.
* The attributes are those of some state, all together; the target of a symbolic
  link is whole.
* /lost+found may be there, with files that were made or lost a name within the
  window, under the same rules; and, where a repair was itself interrupted, with
  what was going to be lost+found.  On a full disk, where it could not be made, they
  may be in the root directory as #10 and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.support.crash_model import ROOT, Node, Tree
from tests.support.crash_recovery import LOST_FOUND, Found

_ROOT_INO: Final = 2
_NOBODYS: Final = -1  # the file of lost+found


@dataclass(frozen=True, slots=True)
class Window:
    """The states that are possible, and which inode each file of the model has."""

    states: Sequence[Tree]
    inos: dict[int, int]


def problems_with_journal(window: Window, files: dict[int, Found]) -> list[str]:
    """Why `files` is no state of the window; empty if it is one."""
    reasons = []
    for number in range(len(window.states) - 1, -1, -1):
        problems = list(unlike(window, number, files))
        if not problems:
            return []
        reasons.append(f"it is not state {number} of {len(window.states)}: {'; '.join(problems)}")
    return reasons


def unlike(window: Window, number: int, files: dict[int, Found]) -> Iterator[str]:
    """Why `files` is not state `number` of the window, with data of later ones."""
    tree = window.states[number]
    expected: dict[int, dict[str, int]] = {
        file: {} for file, node in tree.nodes.items() if node.kind == "d"
    }
    for (directory, name), file in tree.entries.items():
        expected[directory][name] = window.inos[file]
    inos = {window.inos[file]: file for file in tree.nodes}
    if inos.keys() != files.keys():
        yield f"it has the inodes {sorted(files)} instead of {sorted(inos)}"
        return
    for ino, found in files.items():
        file = inos[ino]
        node = tree.nodes[file]
        what = f"inode {ino}"
        if found.kind != node.kind:
            yield f"{what} has the wrong type"
        elif found.kind == "d" and found.names != expected[file]:
            yield f"{what} has the names {found.names} instead of {expected[file]}"
        elif found.attributes != node.attributes:
            yield f"{what} has other attributes"
        elif found.content != node.content:
            later = [t.nodes[file] for t in window.states[number:] if file in t.nodes]
            if len(found.content) != len(node.content):
                yield f"{what} has {len(found.content)} bytes instead of {len(node.content)}"
            elif found.kind == "l":
                yield f"{what} has another target"
            else:
                shrank = len({len(other.content) for other in later}) > 1
                yield from _foreign(what, found.content, later, zeroes=shrank)


def problems_without_journal(window: Window, files: dict[int, Found]) -> list[str]:
    """What the rules above forbid in `files`."""
    return list(_Weak(window, files).run())


class _Weak:
    """The rules for a filesystem without a journal."""

    def __init__(self, window: Window, files: dict[int, Found]) -> None:
        self.states = window.states
        self.inos = window.inos
        self.found = files
        self.reached: dict[int, int] = {}  # inode -> file
        self.lost: set[int] = set()  # inodes in lost+found

    def run(self) -> Iterator[str]:
        self.reached[_ROOT_INO] = ROOT
        waiting = [ROOT]
        while waiting:
            directory = waiting.pop()
            names = self.found[self.inos[directory]].names
            for name, file in self.names_of(directory, names):
                if isinstance(file, str):
                    yield file
                elif self.found[names[name]].kind == "d":
                    waiting.append(file)
        yield from self.lost_found()
        yield from self.without_name()

    def names_of(self, directory: int, names: dict[str, int]) -> Iterator[tuple[str, int | str]]:
        """Each name of a directory with its file, or with what is wrong."""
        known = {name for t in self.states for (d, name) in t.entries if d == directory}
        for name in sorted(known | names.keys()):
            allowed = {t.entries.get((directory, name)) for t in self.states}
            ino = names.get(name)
            if ino is None:
                if None not in allowed and len(allowed) == 1:
                    yield name, f"the name {name!r} of directory {directory} is missing"
                continue
            if directory == ROOT and name not in known and _is_of_repair(name):
                continue
            file = next((f for f in allowed if f is not None and self.inos[f] == ino), None)
            if file is None:
                yield (
                    name,
                    (
                        f"the name {name!r} of directory {directory} stands for inode {ino}, "
                        f"which it never did"
                    ),
                )
                continue
            problem = self.reach(file, ino)
            yield name, problem or file

    def reach(self, file: int, ino: int) -> str | None:
        """Note that `ino` is `file`, and compare it."""
        if self.reached.setdefault(ino, file) != file:
            return f"inode {ino} is two files"
        found = self.found[ino]
        versions = [t.nodes[file] for t in self.states if file in t.nodes]
        return next(iter(self.compare(f"inode {ino}", found, versions)), None)

    def compare(self, what: str, found: Found, versions: list[Node]) -> Iterator[str]:
        if found.kind != versions[0].kind:
            yield f"{what} has the wrong type"
        if all(found.attributes != node.attributes for node in versions):
            yield f"{what} has attributes that it never had"
        if found.kind == "d" or any(found.content == node.content for node in versions):
            return
        if found.kind == "l":
            yield f"{what} has another target"
            return
        sizes = {len(node.content) for node in versions}
        if len(found.content) not in sizes:
            yield f"{what} has {len(found.content)} bytes; it had {sorted(sizes)}"
        if len({node.content for node in versions}) == 1:
            yield f"{what} has not been touched, and has other contents"
            return
        yield from _foreign(what, found.content, versions, zeroes=True)

    def lost_found(self) -> Iterator[str]:
        """What was put into lost+found if it was made, into / where there was no room for it."""
        for name, ino in self.found[_ROOT_INO].names.items():
            if name == LOST_FOUND.decode():
                if ino not in self.reached:
                    yield from self.lost_below(ino)
            elif _is_of_repair(name):
                yield from self.lost_entry(name, ino)

    def lost_below(self, ino: int) -> Iterator[str]:
        self.reached[ino] = _NOBODYS
        for name, child in self.found[ino].names.items():
            yield from self.lost_entry(name, child)

    def lost_entry(self, name: str, ino: int) -> Iterator[str]:
        found = self.found[ino]
        files = {
            file
            for tree in self.states
            for file, node in tree.nodes.items()
            if self.inos[file] == ino and node.kind == found.kind
        }
        # a lost+found that another repair was making may have got the number of a
        # directory that a crash had undone; no workload has such names
        was_lost_found = any(map(_is_of_repair, found.names))
        if found.kind == "d" and (was_lost_found or not files):
            yield from self.lost_below(ino)
        elif not files:
            yield f"lost+found has {name!r}, inode {ino}, which was no file"
        elif ino not in self.reached:
            self.lost.add(ino)
            yield from self.lost_file(ino, files)

    def lost_file(self, ino: int, files: set[int]) -> Iterator[str]:
        """A file in lost+found; `files` are those that had its inode."""
        problems = [self.reach(file, ino) for file in files if self.reached.pop(ino, None) is None]
        if all(problems):
            yield f"in lost+found: {problems[0]}"
        for file in files if self.found[ino].kind == "d" else ():
            for below, problem in self.names_of(file, self.found[ino].names):
                if isinstance(problem, str):
                    yield f"in lost+found, {below!r}: {problem}"

    def without_name(self) -> Iterator[str]:
        for file in self.states[0].nodes:
            if not all(file in t.nodes for t in self.states):
                continue
            ino = self.inos[file]
            if self.reached.get(ino) == file and ino not in self.lost:
                continue
            if ino not in self.lost or max(map(self.links(file), self.states)) < 2:
                yield f"inode {ino} had a name all the time, and has none now"

    def links(self, file: int) -> Callable[[Tree], int]:
        """How many names `file` has in a state."""
        return lambda tree: list(tree.entries.values()).count(file)


def _foreign(what: str, content: bytes, versions: Iterable[Node], *, zeroes: bool) -> Iterator[str]:
    """Bytes of `content` that are in none of the versions at their place."""
    contents = [node.content for node in versions]
    for start in range(0, len(content), 64):
        part = content[start : start + 64]
        if any(part == other[start : start + 64] for other in contents):
            continue
        for at, byte in enumerate(part, start):
            if not (byte == 0 and zeroes) and all(
                at >= len(other) or other[at] != byte for other in contents
            ):
                yield f"{what} has byte {byte:#x} at {at}, which was never written there"
                return


def _is_of_repair(name: str) -> bool:
    """Whether only a repair makes such names: no workload does."""
    return name == LOST_FOUND.decode() or name.startswith("#")
