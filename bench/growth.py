"""Whether cost grows with what is not touched.

``python growth.py names IMAGE`` prints operations per second in a directory of few
and of many names; ``... allocation IMAGE`` the blocks per second that are allocated
on an empty and on a nearly full image.  By the library's system calls: through FUSE
the same difference would be hidden by what a request costs anyway.

:func:`memory_of_mount` looks at a real mount, from outside.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import vsfs

FEW: Final = 1_000
MANY: Final = 100_000
_SAMPLE: Final = 1_000  # operations that are timed
_PASSES: Final = 30  # the machine is at its fastest in some of them
_FULL: Final = 0.95
_FILE_BLOCKS: Final = 16
_RESIDENT: Final = "VmRSS:"


def names(image: str) -> dict[str, float]:
    """Ratios: create, lookup and unlink with MANY names, compared with FEW."""
    vsfs.format_image(image, size=512 << 20, inode_count=MANY + 10 * _SAMPLE)
    with _mount(image) as fs:
        few = _directory(fs, "/few", FEW)
        many = _directory(fs, "/many", MANY)
        fs.sync()
        return _compare(fs, few, many)


def _mount(image: str) -> vsfs.FileSystem:
    return vsfs.FileSystem(vsfs.Volume(vsfs.FileDevice(image), commit_interval=None))


def _directory(fs: vsfs.FileSystem, path: str, count: int) -> str:
    fs.mkdir(path)
    for number in range(count):
        fs.mknod(f"{path}/name-{number:06d}")
    return path


def _compare(fs: vsfs.FileSystem, few: str, many: str) -> dict[str, float]:
    """The best of some passes on each, in turn."""
    best: dict[tuple[str, str], float] = {}
    for _ in range(_PASSES):
        for directory in (few, many):
            for what, rate in _rates(fs, directory).items():
                best[what, directory] = max(rate, best.get((what, directory), 0.0))
        fs.sync()
    return {what: best[what, many] / best[what, few] for what in ("create", "lookup", "unlink")}


def _rates(fs: vsfs.FileSystem, directory: str) -> dict[str, float]:
    """Create, look up and remove _SAMPLE names beside those that are there."""
    chosen = [f"{directory}/more-{number:06d}" for number in range(_SAMPLE)]
    mknod, look_up, unlink = fs.mknod, fs.stat, fs.unlink
    return {
        "create": _rate(lambda: [mknod(path) for path in chosen]),
        "lookup": _rate(lambda: [look_up(path) for path in chosen]),
        "unlink": _rate(lambda: [unlink(path) for path in chosen]),
    }


def _rate(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return _SAMPLE / (time.perf_counter() - start)


def allocation(image: str) -> dict[str, float]:
    """The ratio: allocating files at 95 % full, compared with an empty image; in turn."""
    for name in (image, f"{image}.full"):
        vsfs.format_image(name, size=512 << 20, inode_count=MANY)
    best = [0.0, 0.0]
    with _mount(image) as empty, _mount(f"{image}.full") as full:
        content = bytes(_FILE_BLOCKS * empty.statvfs("/").f_bsize)
        full.mkdir("/filler")
        _fill(full, content)
        for fs in (empty, full):
            fs.mkdir("/sample")
        for _ in range(_PASSES):
            for at, fs in enumerate((empty, full)):
                best[at] = max(best[at], _allocate(fs, content))
    return {"allocation at 95% full": best[1] / best[0]}


def _allocate(fs: vsfs.FileSystem, content: bytes) -> float:
    """Files of some blocks per second; removed again."""
    paths = [f"/sample/{number}" for number in range(100)]
    start = time.perf_counter()
    for path in paths:
        _write(fs, path, content)
    rate = len(paths) / (time.perf_counter() - start)
    for path in paths:
        fs.unlink(path)
    fs.sync()
    return rate


def _fill(fs: vsfs.FileSystem, content: bytes) -> None:
    """Fill up to 95 %, with a hole for each fourth file, as use leaves them."""
    counts = fs.statvfs("/")
    files = int(counts.f_bfree * _FULL / _FILE_BLOCKS * 4 / 3)
    for number in range(files):
        if fs.statvfs("/").f_bfree < counts.f_blocks * (1 - _FULL):
            break
        _write(fs, f"/filler/{number}", content)
        if number % 4 == 3:
            fs.unlink(f"/filler/{number}")
    fs.sync()


def _write(fs: vsfs.FileSystem, path: str, content: bytes) -> None:
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
    fs.write(fd, content)
    fs.close(fd)


def memory_of_mount(mount_point: Path, process: int, files: int = MANY) -> float:
    """Touch `files` files below a mount; the serving process's resident MiB then."""
    for number in range(files):
        directory = mount_point / f"d{number // 1000}"
        if number % 1000 == 0:
            directory.mkdir()
        path = f"{directory}/f{number}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.stat(path)
    return resident_mib(Path(f"/proc/{process}/status").read_text())


def resident_mib(status: str) -> float:
    """The resident size that /proc/PID/status states, in MiB."""
    line = next(line for line in status.splitlines() if line.startswith(_RESIDENT))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    work = {"names": names, "allocation": allocation}[sys.argv[1]]
    print(json.dumps(work(sys.argv[2])))
