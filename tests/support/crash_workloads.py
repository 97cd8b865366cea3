"""Workloads for the crash tests: operations as text, and which sequences there are.

The bounded space in which most known crash bugs of Linux filesystems lie
(CrashMonkey, OSDI 2018): few operations on few names, each followed by fsync,
sync or nothing.  ``create bar, fsync; rename foo A/foo`` is such a workload; its
text is all that is needed to run it again.
"""

from __future__ import annotations

import itertools
import os
import random
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import vsfs
from tests.support.crash_model import Model, Refused

FILES: Final = ("foo", "bar", "A/foo", "B/foo")
NAMES: Final = (*FILES, "A", "B")
FOLLOWED_BY: Final = ("", "fsync", "sync")
#: Sizes that matter for blocks of 512 bytes.
_SHORT, _GROWN, _WRITTEN, _APPENDED, _AT = 300, 1500, 600, 500, 100
_LONG_TARGET: Final = 200  # bytes: more than an inode has room for


@dataclass(frozen=True, slots=True)
class Op:
    """An operation: a verb, paths, numbers; `then` is fsync, sync or nothing."""

    verb: str
    paths: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    then: str = ""

    def __str__(self) -> str:
        words = " ".join((self.verb, *self.paths, *map(str, self.numbers)))
        return f"{words}, {self.then}" if self.then else words

    @classmethod
    def parse(cls, text: str) -> Op:
        """The operation that prints as `text`."""
        words, _, then = text.strip().partition(", ")
        verb, *rest = words.split()
        paths = tuple(word for word in rest if not word.isdigit())
        return cls(verb, paths, tuple(int(word) for word in rest if word.isdigit()), then)


Workload = tuple[Op, ...]


def text_of(workload: Sequence[Op]) -> str:
    """A workload as one line."""
    return "; ".join(map(str, workload))


def parse(text: str) -> Workload:
    """The workload that prints as `text`."""
    return tuple(map(Op.parse, text.split(";")))


def fill(number: int, size: int) -> bytes:
    """What operation `number` writes: bytes that no other one does, and no zeroes."""
    return bytes([1 + number % 160]) * size


# -- doing them ------------------------------------------------------------------


def apply(model: Model, op: Op, number: int, written: int | None = None) -> int | None:
    """Do `op` in the model; the file that was made, if one was.

    `written` is how many bytes a write managed.  Raises Refused.
    """
    paths, numbers = op.paths, op.numbers
    match op.verb:
        case "create":
            return model.create(paths[0])
        case "mkdir":
            return model.mkdir(paths[0])
        case "symlink":
            return model.symlink(paths[0], b"t" * numbers[0])
        case "write":
            size = numbers[1] if written is None else written
            model.write(paths[0], numbers[0], fill(number, size))
        case "append":
            model.write(paths[0], None, fill(number, numbers[0] if written is None else written))
        case "truncate":
            model.truncate(paths[0], numbers[0])
        case "setxattr":
            model.setxattr(paths[0], b"user.x", fill(number, numbers[0]))
        case "removexattr":
            model.removexattr(paths[0], b"user.x")
        case "link" | "rename":
            getattr(model, op.verb)(*paths)
        case "unlink" | "rmdir":
            getattr(model, op.verb)(*paths)
        case "drop":
            model.regular(paths[0])
            model.unlink(paths[0])
        case _:
            raise ValueError(op.verb)
    return None


def run(fs: vsfs.FileSystem, op: Op, number: int) -> int | None:
    """Do `op` in a filesystem; how many bytes were written, if it writes."""
    path = "/" + op.paths[0]
    match op.verb:
        case "create":
            fs.close(fs.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        case "symlink":
            fs.symlink("t" * op.numbers[0], path)
        case "write":
            return _write(fs, path, os.O_WRONLY, op.numbers[0], fill(number, op.numbers[1]))
        case "append":
            return _write(fs, path, os.O_WRONLY | os.O_APPEND, 0, fill(number, op.numbers[0]))
        case "truncate":
            fs.truncate(path, op.numbers[0])
        case "setxattr":
            fs.setxattr(path, "user.x", fill(number, op.numbers[0]))
        case "removexattr":
            fs.removexattr(path, "user.x")
        case "link" | "rename":
            getattr(fs, op.verb)(path, "/" + op.paths[1])
        case "drop":  # and it stays open, with descriptors that nobody closes
            fs.open(path, os.O_RDONLY)
            fs.unlink(path)
        case _:
            getattr(fs, op.verb)(path)
    return None


def _write(fs: vsfs.FileSystem, path: str, flags: int, offset: int, content: bytes) -> int:
    fd = fs.open(path, flags)
    try:
        return fs.pwrite(fd, content, offset)
    finally:
        fs.close(fd)


def flush(fs: vsfs.FileSystem, op: Op) -> None:
    """What follows `op`: fsync of the file it changed, or of the directory; or sync."""
    if op.then == "sync":
        fs.sync()
        return
    path = "/" + op.paths[-1]
    if op.verb in ("unlink", "rmdir", "symlink", "drop") or not _can_be_opened(fs, path):
        path = path.rpartition("/")[0] or "/"
    fd = fs.open(path, os.O_RDONLY)
    fs.fsync(fd)
    fs.close(fd)


def _can_be_opened(fs: vsfs.FileSystem, path: str) -> bool:
    return fs.exists(path) and not stat.S_ISLNK(fs.lstat(path).st_mode)


# -- which there are --------------------------------------------------------------


def all_operations() -> list[Op]:
    """Every operation of the bounded space, without what follows it."""
    one: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = [
        ("create", FILES, ()),
        ("write", FILES, (_AT, _WRITTEN)),
        ("append", FILES, (_APPENDED,)),
        ("truncate", FILES, (_SHORT,)),
        ("truncate", FILES, (_GROWN,)),
        ("symlink", FILES, (20,)),
        ("symlink", ("bar", "B/foo"), (_LONG_TARGET,)),
        ("unlink", FILES, ()),
        ("mkdir", NAMES, ()),
        ("rmdir", NAMES, ()),
        ("setxattr", NAMES, (100,)),
    ]
    ops = [Op(verb, (path,), numbers) for verb, paths, numbers in one for path in paths]
    pairs = [pair for pair in itertools.permutations(NAMES, 2) if not pair[1].startswith(pair[0])]
    ops += [Op("rename", pair) for pair in pairs]
    ops += [Op("link", pair) for pair in itertools.permutations(FILES, 2)]
    return ops


def sequences(length: int, start: Model) -> Iterator[Workload]:
    """Every sequence of `length` operations that are possible, one after another."""
    ops = all_operations()

    def extend(prefix: Workload, model: Model) -> Iterator[Workload]:
        if len(prefix) == length:
            yield prefix
            return
        for op in ops:
            after = copy_of(model)
            try:
                apply(after, op, len(prefix))
            except Refused:
                continue
            for then in FOLLOWED_BY:
                yield from extend((*prefix, Op(op.verb, op.paths, op.numbers, then)), after)

    yield from extend((), start)


def random_sequence(seed: int, length: int, start: Model) -> Workload:
    """One of the sequences of :func:`sequences`, by its seed: there are too many for a list."""
    chance, model = random.Random(seed), copy_of(start)
    ops = all_operations()
    workload: list[Op] = []
    while len(workload) < length:
        op = chance.choice(ops)
        try:
            apply(model, op, len(workload))
        except Refused:
            continue
        workload.append(Op(op.verb, op.paths, op.numbers, chance.choice(FOLLOWED_BY)))
    return tuple(workload)


def copy_of(model: Model) -> Model:
    """A model that can be changed alone."""
    made = Model()
    made.states = list(model.states)
    made._next = model._next
    return made


def random_workload(seed: int, start: Model, length: int = 12) -> Workload:
    """A longer sequence: larger files, more names, open files that lose their name."""
    chance = random.Random(seed)
    model = copy_of(start)
    names = [*NAMES, *(f"{d}/{'n' * 60}{i}" for d in "AB" for i in range(6)), "C", "A/C"]
    largest = chance.choice((600, 4000, 9000, 30_000))
    workload: list[Op] = []
    for _ in range(50 * length):
        if len(workload) == length:
            break
        op = _random_op(chance, names, largest)
        try:
            apply(model, op, len(workload))
        except Refused:
            continue
        workload.append(op)
    return tuple(workload)


_VERBS: Final = {
    "create": 5, "mkdir": 2, "symlink": 2, "write": 4, "append": 5, "truncate": 3,
    "setxattr": 2, "link": 2, "rename": 5, "unlink": 3, "rmdir": 1, "drop": 1,
}  # fmt: skip


def _random_op(chance: random.Random, names: list[str], largest: int) -> Op:
    (verb,) = chance.choices(list(_VERBS), list(_VERBS.values()))
    then = chance.choice(("", "", "", "fsync", "sync"))
    paths: tuple[str, ...] = (chance.choice(names),)
    if verb in ("rename", "link"):
        paths = (paths[0], chance.choice(names))
    numbers: tuple[int, ...] = ()
    size = chance.randrange(1, largest)
    match verb:
        case "write":
            numbers = (chance.randrange(largest), size)
        case "append":
            numbers = (size,)
        case "truncate":
            numbers = (chance.randrange(largest),)
        case "symlink":
            numbers = (chance.choice((1, 108, 109, 400, 1500)),)
        case "setxattr":
            numbers = (chance.choice((1, 100, 400)),)
    return Op(verb, paths, numbers, then)
