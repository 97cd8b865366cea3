"""The same operations straight on the library, without FUSE: what VSFS itself costs.

``python library.py IMAGE MEGABYTES FILES`` formats IMAGE and prints a line of JSON,
microseconds for each operation: by inode number as the kernel asks (``Volume``) and
by path as programs do (``FileSystem``).  Commits on demand only, so that no figure
has a piece of somebody else's commit in it; the commit has a line of its own.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

import vsfs

_BLOCK: Final = bytes(range(256)) * 16
_MIB: Final = _BLOCK * 256
_ROOT: Final = 2
_MODE: Final = stat.S_IFREG | 0o644

Step = tuple[str, int, Callable[[], object]]  # name, how many operations it does, the work


def on_volume(volume: vsfs.Volume, files: int) -> Iterator[Step]:
    """What an adapter asks for, request by request."""
    names = [b"file-%05d" % number for number in range(files)]
    inos: list[int] = []
    handles: list[int] = []

    def create() -> None:
        inos.extend(volume.mknod(_ROOT, name, _MODE, 0, 0).ino for name in names)

    def opened() -> None:
        handles.extend(volume.open(ino, os.O_RDWR).handle for ino in inos)

    yield "volume create", files, create
    yield "volume lookup", files, lambda: each(volume.lookup, ((_ROOT, name) for name in names))
    yield "volume open", files, opened
    for which in ("new", "again"):
        writes = ((handle, _BLOCK, 0) for handle in handles)
        yield f"volume write 4 KiB, {which}", files, partial(each, volume.write, writes)
    yield "volume read 4 KiB", files, lambda: each(volume.read, ((h, 4096, 0) for h in handles))
    yield "volume readdir, a name", files, lambda: volume.readdir(_ROOT)
    yield "volume release", files, lambda: each(volume.release, ((h,) for h in handles))
    yield "volume commit, a file", files, volume.sync
    moves = ((_ROOT, name, _ROOT, b"new-" + name) for name in names)
    yield "volume rename", files, partial(each, volume.rename, moves)
    removals = ((_ROOT, b"new-" + name) for name in names)
    yield "volume unlink", files, partial(each, volume.unlink, removals)


def each(call: Callable[..., object], arguments: Iterable[tuple[object, ...]]) -> None:
    """Call with each of some arguments."""
    for some in arguments:
        call(*some)


def on_filesystem(fs: vsfs.FileSystem, files: int) -> Iterator[Step]:
    """The calls of `os`, by path."""
    paths = [f"/directory/file-{number:05d}" for number in range(files)]
    fs.mkdir("/directory")

    def create() -> None:
        for path in paths:
            fs.close(fs.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    def write() -> None:
        for path in paths:
            fd = fs.open(path, os.O_WRONLY)
            fs.write(fd, _BLOCK)
            fs.close(fd)

    def read() -> None:
        for path in paths:
            fd = fs.open(path, os.O_RDONLY)
            fs.read(fd, 4096)
            fs.close(fd)

    yield "path create", files, create
    yield "path write 4 KiB", files, write
    yield "path stat", files, lambda: each(fs.stat, ((path,) for path in paths))
    yield "path read 4 KiB", files, read
    yield "path listdir, a name", files, lambda: fs.listdir("/directory")
    moves = ((path, path + ".new") for path in paths)
    yield "path rename", files, partial(each, fs.rename, moves)
    yield "path unlink", files, lambda: each(fs.unlink, ((path + ".new",) for path in paths))


def on_large_file(fs: vsfs.FileSystem, mebibytes: int) -> Iterator[Step]:
    """One file, a mebibyte at a time."""
    fd = fs.open("/large", os.O_CREAT | os.O_RDWR)
    places = [number << 20 for number in range(mebibytes)]
    yield "sequential write, a MiB", mebibytes, lambda: [fs.pwrite(fd, _MIB, at) for at in places]
    yield "sequential read, a MiB", mebibytes, lambda: [fs.pread(fd, 1 << 20, at) for at in places]
    yield "random write 4 KiB", mebibytes, lambda: [fs.pwrite(fd, _BLOCK, at) for at in places]
    yield "random read 4 KiB", mebibytes, lambda: [fs.pread(fd, 4096, at) for at in places]


def main(image: str, megabytes: int, files: int) -> None:
    """Format, measure, print."""
    vsfs.format_image(image, size=megabytes << 20)
    volume = vsfs.Volume(vsfs.FileDevice(image), commit_interval=None)
    found = measured(on_volume(volume, files))
    with vsfs.FileSystem(volume) as fs:
        found |= measured(on_filesystem(fs, files))
        found |= measured(on_large_file(fs, min(64, megabytes // 4)))
    print(json.dumps(found))


def measured(steps: Iterator[Step]) -> dict[str, float]:
    """Run all steps; microseconds for each operation, by name."""
    found = {}
    for name, count, work in steps:
        start = time.perf_counter()
        work()
        found[name] = (time.perf_counter() - start) / count * 1e6
    return found


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
