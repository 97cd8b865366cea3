"""The difference of two images as sentences: what somebody did in between.

Guessed from the ends alone: a file that was made and removed again in between left
no trace but times and blocks, and a copy that replaced a file looks like a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from vsfs.describe import Values
from vsfs.layout import JOURNAL_INO
from vsfs.words import counted, span

_IDENTITY: Final = ("mode", "uid", "gid")
_TIMES: Final = ("atime_ns", "mtime_ns", "ctime_ns")


def story(
    inodes: list[Values],
    directories: list[Values],
    files: Iterable[Values],
    attributes: Iterable[Values],
) -> list[Values]:
    """Sentences (`ino`, `text`), in the order of inode numbers.

    `inodes` to `attributes` are the groups that :func:`describe_diff` gives.
    """
    moves = _Moves(directories)
    by_ino = {file["ino"]: file for file in files}
    told: dict[int, list[str]] = {}
    for inode in inodes:
        if inode["ino"] <= JOURNAL_INO:
            continue
        told.setdefault(inode["ino"], []).extend(_of_inode(inode, moves, by_ino))
    for ino in moves.inodes() - told.keys():  # names for an inode that is as it was
        told[ino] = list(_of_names(moves.gained.get(ino, []), moves.lost.get(ino, [])))
    for ino in by_ino.keys() - told.keys():
        told[ino] = list(_of_contents(by_ino[ino]))
    for each in attributes:
        names = [name["name"] for key in ("gained", "lost", "changed") for name in each[key]]
        told.setdefault(each["ino"], []).append(
            f"extended attributes of {_path(each)} changed: {', '.join(names)}"
        )
    return [{"ino": ino, "text": text} for ino in sorted(told) for text in told[ino]]


class _Moves:
    """For each inode, the paths that directories gained and lost for it."""

    def __init__(self, directories: list[Values]) -> None:
        self.gained: dict[int, list[str]] = {}
        self.lost: dict[int, list[str]] = {}
        for directory in directories:
            above = directory["path"]
            prefix = "(no path)/" if above is None else above.rstrip("/") + "/"
            for entry in directory["gained"] + directory["changed"]:
                if entry["name"] not in (".", ".."):
                    self.gained.setdefault(entry["ino"], []).append(prefix + entry["name"])
            for entry in directory["lost"]:
                if entry["name"] not in (".", ".."):
                    self.lost.setdefault(entry["ino"], []).append(prefix + entry["name"])
            for entry in directory["changed"]:
                if entry["name"] not in (".", ".."):
                    self.lost.setdefault(entry["ino_before"], []).append(prefix + entry["name"])

    def inodes(self) -> set[int]:
        """Those that gained or lost a name."""
        return self.gained.keys() | self.lost.keys()


def _of_inode(inode: Values, moves: _Moves, files: dict[int, Values]) -> Iterator[str]:
    """What happened to an inode whose bytes or bit changed."""
    ino, event = inode["ino"], inode["event"]
    gained, lost = moves.gained.get(ino, []), moves.lost.get(ino, [])
    if event == "given to another file":
        name = _list(lost) if lost else _path({**inode, "path": inode["path_before"]})
        yield f"{name} removed, and its inode {ino} given to another file"
        event, lost = "allocated", []
    if event == "allocated":
        size = files.get(ino, {}).get("size")
        much = f", {counted(size, 'byte')}" if size and inode["type"] != "directory" else ""
        name = _list(gained) if gained else f"inode {ino}, without a name,"
        yield f"{name} made: {inode['type']}{much}, inode {ino}"
        return
    if event == "freed":
        name = _list(lost) if lost else f"inode {ino}"
        yield f"{name} removed: {inode['type_before']}, inode {ino} is free"
        return
    if event == "changed, though free":
        return
    yield from _of_names(gained, lost)
    changes = {change["field"]: change for change in inode["fields"]}
    for field in _IDENTITY:
        if field in changes:
            old, new = changes[field]["before_text"], changes[field]["after_text"]
            yield f"{field} of {_path(inode)} changed from {old} to {new}"
    contents = list(_of_contents(files[ino])) if ino in files else []
    yield from contents
    if changes and not (contents or gained or lost) and changes.keys() <= {*_TIMES, "checksum"}:
        times = [field.removesuffix("_ns") for field in _TIMES if field in changes]
        if inode["type"] != "directory":  # a directory's name changes say it already
            yield f"times of {_path(inode)} changed: {', '.join(times)}"


def _of_names(gained: list[str], lost: list[str]) -> Iterator[str]:
    if gained and lost:
        yield f"{_list(lost)} renamed to {_list(gained)}"
    elif gained:
        yield f"{_list(gained)} linked: a further name"
    elif lost:
        yield f"{_list(lost)} unlinked: a name less"


def _of_contents(file: Values) -> Iterator[str]:
    """Size and bytes of a file that was there before, too."""
    old, new, path = file["size_before"], file["size"], _path(file)
    if old is None or new is None:
        return
    if old != new:
        verb = "grew" if new > old else "shrank"
        yield f"{_kind(file)}{path} {verb} from {old} to {counted(new, 'byte')}"
    if file["type"] == "directory":
        return
    stretches = [
        span(run["first_byte"], run["last_byte"] - run["first_byte"] + 1)
        for run in file["written"][:3]
    ]
    if stretches:
        more = " and more" if len(file["written"]) > len(stretches) else ""
        yield f"{path} written: bytes {', '.join(stretches)}{more}"
    elif old == new and (file["gained"] or file["lost"]):
        yield f"{path} has other blocks, and its size is the same"


def _kind(file: Values) -> str:
    return "directory " if file["type"] == "directory" else ""


def _path(values: Values) -> str:
    path: Any = values["path"]
    return f"inode {values['ino']}" if path is None else str(path)


def _list(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (" and more" if len(paths) > 3 else "")
