"""The workload: system calls in tight loops, in a process of its own.

``python client.py`` reads a request for each line of stdin, ``PHASE DIRECTORY
FILES MEGABYTES REPEATS``, and answers with a line of JSON: how many units it did
in how many seconds.  It imports little and shares nothing with who starts it, so
that neither the interpreter that serves a mount nor the report takes time away.

What Python adds to a system call here is 0.1 to 0.5 us.  That is nothing beside
a request through FUSE (10 us and more); beside the kernel's own ext4 it makes the
kernel look slower than it is, at most by a third for the warm ``stat`` loop.

Each phase finds what the ones it `needs` left behind.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 4096
_MIB: Final = 1 << 20
_SEED: Final = 40  # chapter 40 is the one on filesystems
_RANDOM_ACCESSES: Final = 2000
_APPENDS: Final = 50
_APPEND: Final = b"one more line for the log, a hundred bytes long with what is in it".ljust(
    100, b"."
)
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a phase does: files of 4 KiB, MiB of the large file, passes of warm phases."""

    files: int = 1000
    megabytes: int = 64
    repeats: int = 20
    source: str = ""  # directory with source.tar and source.git

    @property
    def names(self) -> list[str]:
        """The names of the small files."""
        return [f"file-{number:05d}" for number in range(self.files)]


class Stopwatch:
    """Measures what is inside ``with watch.running():``; the rest of a phase is free."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


Work = Callable[[Scale, Stopwatch], float]


@dataclass(frozen=True, slots=True)
class Phase:
    """One line of the table; `work` returns how many units it did."""

    name: str
    unit: str  # "/s", or "MB/s"
    work: Work
    needs: str = ""  # the phase that leaves what this one works on
    cold: bool = False  # the kernel's caches are dropped before


def content_of(number: int) -> bytes:
    """What the small file `number` holds: 4 KiB that no other file has."""
    return b"%08d" % number * (BLOCK // 8)


# -- small files --------------------------------------------------------------


def create(scale: Scale, watch: Stopwatch) -> float:
    """open(O_CREAT), close."""
    names = scale.names
    with watch.running():
        for name in names:
            os.close(os.open(name, _NEW, 0o644))
    return len(names)


def write(scale: Scale, watch: Stopwatch) -> float:
    """open, write 4 KiB, close."""
    pairs = [(name, content_of(number)) for number, name in enumerate(scale.names)]
    with watch.running():
        for name, content in pairs:
            fd = os.open(name, os.O_WRONLY)
            os.write(fd, content)
            os.close(fd)
    return len(pairs)


def stat_once(scale: Scale, watch: Stopwatch) -> float:
    """One stat of each file."""
    names = scale.names
    with watch.running():
        for name in names:
            os.stat(name)
    return len(names)


def stat_warm(scale: Scale, watch: Stopwatch) -> float:
    """The same, many times over."""
    for _ in range(scale.repeats):
        stat_once(scale, watch)
    return scale.files * scale.repeats


def list_names(scale: Scale, watch: Stopwatch) -> float:
    """The whole directory, many times over; the unit is a name."""
    with watch.running():
        for _ in range(scale.repeats):
            found = len(os.listdir("."))
    _require(found == scale.files, f"{found} names, not {scale.files}")
    return found * scale.repeats


def read_once(scale: Scale, watch: Stopwatch) -> float:
    """open, read 4 KiB, close."""
    pairs = list(enumerate(scale.names))
    contents = []
    with watch.running():
        for _, name in pairs:
            fd = os.open(name, os.O_RDONLY)
            contents.append(os.read(fd, BLOCK))
            os.close(fd)
    _require(
        all(content == content_of(number) for number, content in enumerate(contents)),
        "a file does not hold what was written",
    )
    return len(pairs)


def read_warm(scale: Scale, watch: Stopwatch) -> float:
    """The same, several times over."""
    passes = max(scale.repeats // 4, 1)
    return sum(read_once(scale, watch) for _ in range(passes))


def rename(scale: Scale, watch: Stopwatch) -> float:
    """Each file gets another name in the same directory."""
    pairs = [(name, "new-" + name) for name in scale.names]
    with watch.running():
        for old, new in pairs:
            os.rename(old, new)
    return len(pairs)


def unlink(scale: Scale, watch: Stopwatch) -> float:
    """Each file is removed."""
    names = ["new-" + name for name in scale.names]
    with watch.running():
        for name in names:
            os.unlink(name)
    _require(not os.listdir("."), "names are left")
    return len(names)


def mkdir_rmdir(scale: Scale, watch: Stopwatch) -> float:
    """As many directories made, then removed."""
    names = scale.names
    with watch.running():
        for name in names:
            os.mkdir(name)
        for name in names:
            os.rmdir(name)
    return 2 * len(names)


# -- trees --------------------------------------------------------------------


def unpack(scale: Scale, watch: Stopwatch) -> float:
    """``tar -x`` of a source tree."""
    os.mkdir("tree")
    with watch.running():
        _run("tar", "-xf", f"{scale.source}/source.tar", "-C", "tree")
    return _count_files("tree")


def clone(scale: Scale, watch: Stopwatch) -> float:
    """``git clone`` of the same tree, over git's protocol."""
    with watch.running():
        _run("git", "clone", "-q", f"file://{scale.source}/source.git", "clone")
    return _count_files("clone")


def remove_trees(_scale: Scale, watch: Stopwatch) -> float:
    """``rm -rf`` of both."""
    count = _count_files("tree") + _count_files("clone")
    with watch.running():
        _run("rm", "-rf", "tree", "clone")
    return count


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _count_files(top: str) -> int:
    return sum(len(files) for _, _, files in os.walk(top))


# -- one large file -----------------------------------------------------------


def write_large(scale: Scale, watch: Stopwatch) -> float:
    """Writes of 1 MiB one behind the other, then fsync."""
    pieces = [random.Random(_SEED + number).randbytes(_MIB) for number in range(4)]
    fd = os.open("large", _NEW, 0o644)
    with watch.running():
        for number in range(scale.megabytes):
            os.write(fd, pieces[number % 4])
        os.fsync(fd)
    os.close(fd)
    return scale.megabytes * _MIB / 1e6


def read_large(scale: Scale, watch: Stopwatch) -> float:
    """Reads of 1 MiB from the first byte to the last."""
    fd = os.open("large", os.O_RDONLY)
    size = 0
    with watch.running():
        while content := os.read(fd, _MIB):
            size += len(content)
    os.close(fd)
    _require(size == scale.megabytes * _MIB, f"{size} bytes in the large file")
    return size / 1e6


def read_large_warm(scale: Scale, watch: Stopwatch) -> float:
    """The same, several times over."""
    return sum(read_large(scale, watch) for _ in range(4))


def read_random(scale: Scale, watch: Stopwatch) -> float:
    """4 KiB at random places of the large file."""
    offsets = _random_offsets(scale)
    fd = os.open("large", os.O_RDONLY)
    with watch.running():
        for offset in offsets:
            os.pread(fd, BLOCK, offset)
    os.close(fd)
    return len(offsets)


def write_random(scale: Scale, watch: Stopwatch) -> float:
    """4 KiB at random places, over what is there."""
    offsets = _random_offsets(scale)
    content = content_of(_SEED)
    fd = os.open("large", os.O_WRONLY)
    with watch.running():
        for offset in offsets:
            os.pwrite(fd, content, offset)
    os.close(fd)
    return len(offsets)


def _random_offsets(scale: Scale) -> list[int]:
    chooser = random.Random(_SEED)
    blocks = scale.megabytes * _MIB // BLOCK
    count = min(_RANDOM_ACCESSES, blocks)
    return [block * BLOCK for block in chooser.sample(range(blocks), count)]


def append_and_fsync(_scale: Scale, watch: Stopwatch) -> float:
    """100 bytes at the end of a log, then fsync; a unit is one such pair."""
    fd = os.open("log", _NEW | os.O_APPEND, 0o644)
    with watch.running():
        for _ in range(_APPENDS):
            os.write(fd, _APPEND)
            os.fsync(fd)
    os.close(fd)
    os.unlink("log")
    return _APPENDS


def _require(holds: bool, what: str) -> None:
    """A filesystem that answers wrong has no figure."""
    if not holds:
        raise RuntimeError(what)


PHASES: Final = (
    Phase("create", "/s", create),
    Phase("write 4 KiB", "/s", write, "create"),
    Phase("stat straight after", "/s", stat_once, "write 4 KiB"),
    Phase("stat warm", "/s", stat_warm, "write 4 KiB"),
    Phase("stat cold", "/s", stat_once, "write 4 KiB", cold=True),
    Phase("list", "names/s", list_names, "write 4 KiB"),
    Phase("read 4 KiB cold", "/s", read_once, "write 4 KiB", cold=True),
    Phase("read 4 KiB warm", "/s", read_warm, "write 4 KiB"),
    Phase("rename", "/s", rename, "write 4 KiB"),
    Phase("unlink", "/s", unlink, "rename"),
    Phase("mkdir, rmdir", "/s", mkdir_rmdir),
    Phase("tar -x", "files/s", unpack),
    Phase("git clone", "files/s", clone),
    Phase("rm -rf", "files/s", remove_trees, "git clone"),
    Phase("sequential write, fsync", "MB/s", write_large),
    Phase("sequential read cold", "MB/s", read_large, "sequential write, fsync", cold=True),
    Phase("sequential read warm", "MB/s", read_large_warm, "sequential write, fsync"),
    Phase("random read cold", "/s", read_random, "sequential write, fsync", cold=True),
    Phase("random write", "/s", write_random, "sequential write, fsync"),
    Phase("append 100 bytes, fsync", "/s", append_and_fsync),
)
#: What a phase needs beside the one that it names.
ALSO_NEEDED: Final = {"rm -rf": "tar -x"}


def settle() -> float:
    """Have the filesystem write back what it holds; return the seconds."""
    start = time.perf_counter()
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return time.perf_counter() - start


def run(phase: Phase, directory: str, scale: Scale) -> dict[str, float]:
    """Run a phase in `directory`; return units, seconds and the seconds to settle."""
    os.chdir(directory)
    try:
        watch = Stopwatch()
        units = phase.work(scale, watch)
        return {"units": units, "seconds": watch.seconds, "settle": settle()}
    finally:
        os.chdir("/")  # a mount that is somebody's working directory cannot go


def clean(directory: str) -> None:
    """Remove all that phases left."""
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def main() -> None:
    """Answer requests until stdin ends."""
    phases = {phase.name: phase for phase in PHASES}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: dict[str, object] = dict(
                run(phases[request["phase"]], request["directory"], Scale(**request["scale"]))
            )
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
