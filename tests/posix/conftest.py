"""Each test of this folder runs on the library and on real mounts, one for each binding.

The library gets a fresh image in memory for each test.  Mounts are expensive, so
all tests share them, and each works in a fresh directory of it.  At the end of a
test the image has no fault, or the mount has all its blocks and inodes back.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vsfs
from tests.support.images import ALICE, BOB, ROOT, blank, image_of, mount
from tests.support.mounts import ON_MOUNTS, Mount, need_binding, need_fuse
from tests.support.processes import Family, LibraryProcess, Process, put
from tests.support.rawwalk import walk
from vsfs.device import MemoryDevice

SIZE = 4 * 1024 * 1024
MOUNT_SIZE = 16 * 1024 * 1024
IS_ROOT = os.geteuid() == 0
OPTIONS = ("-o", "allow_other") if IS_ROOT else ()  # others ask fuse.conf first


Mounts = Callable[[str], Family]  # by binding


@pytest.fixture(scope="session")
def posix_mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    """The processes on the mounts for all tests."""
    with contextlib.ExitStack() as at_end:

        @functools.cache
        def mounts(binding: str) -> Family:
            return at_end.enter_context(_mounted(tmp_path_factory.mktemp("posix"), binding))

        yield mounts


@contextlib.contextmanager
def _mounted(where: Path, binding: str) -> Iterator[Family]:
    need_fuse()
    need_binding(binding)
    mounted = Mount.make(where / "disk.img", where / "mnt", binding, MOUNT_SIZE)
    yield from _used(mounted, *OPTIONS)
    assert walk(_settled(mounted.image)).findings == []


def _used(mounted: Mount, *options: str) -> Iterator[Family]:
    """Mount it for some processes, and unmount it behind them."""
    family = Family(mounted.point)
    try:
        mounted.mount(*options)
        yield family
        family.quit()
        mounted.unmount()
    finally:
        family.quit()
        mounted.remove()


def _settled(image: Path) -> bytes:
    """The image after the last commit, which umount does not wait for."""
    vsfs.FileSystem.open(str(image)).unmount()  # waits for the lock
    return image.read_bytes()


@pytest.fixture(params=["library", "journal", *ON_MOUNTS])
def on(request: pytest.FixtureRequest) -> str:
    """What a test runs on."""
    kind: str = request.param
    return kind


@pytest.fixture
def fs(on: str, request: pytest.FixtureRequest) -> Iterator[Process]:
    """A process on an empty filesystem that may do all; on the mount only if the tests may."""
    if on == "library":
        yield from _library(blank(SIZE))
    elif on == "journal":  # the smallest one
        yield from _library(blank(SIZE, journal_blocks=16))
    else:
        yield from _mount(request.getfixturevalue("posix_mounts")(on))


def _library(device: MemoryDevice) -> Iterator[Process]:
    library = mount(device, ROOT)
    yield LibraryProcess(library)
    library.unmount()
    assert walk(image_of(library)).findings == []


def _mount(family: Family) -> Iterator[Process]:
    before = _free(family)
    top = family.point / "test"
    top.mkdir()
    top.chmod(0o755)
    try:
        yield family.begin("test")
    finally:
        family.end()
        if not IS_ROOT:  # who has to be let in to remove what is there
            subprocess.run(["chmod", "-R", "u+rwX", top], check=True, timeout=60)
        shutil.rmtree(top)
    deadline = time.monotonic() + 10
    while _free(family) != before and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel does not wait for the last close
    assert _free(family) == before


def _free(family: Family) -> tuple[int, int]:
    counts = os.statvfs(family.point)
    return counts.f_bfree, counts.f_ffree


@pytest.fixture
def root(fs: Process) -> Process:
    """The same, but surely root."""
    if fs.is_mount and not IS_ROOT:
        pytest.skip("only root can act as another user")
    return fs


@pytest.fixture
def alice(root: Process) -> Process:
    """A process of an ordinary user on the same filesystem, member of two groups."""
    return root.other(ALICE)


@pytest.fixture
def bob(root: Process) -> Process:
    """A process of another ordinary user."""
    return root.other(BOB)


@pytest.fixture
def library(make_fs: Any) -> Process:
    """For what only the library can show: a process on an image in memory."""
    return LibraryProcess(make_fs(SIZE))


@pytest.fixture(scope="session")
def read_only_mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    """The processes on the mounts that cannot be changed."""
    with contextlib.ExitStack() as at_end:

        @functools.cache
        def mounts(binding: str) -> Family:
            where = tmp_path_factory.mktemp("read-only")
            return at_end.enter_context(_mounted_read_only(where, binding))

        yield mounts


@contextlib.contextmanager
def _mounted_read_only(where: Path, binding: str) -> Iterator[Family]:
    need_fuse()
    need_binding(binding)
    mounted = Mount.make(where / "disk.img", where / "mnt", binding, SIZE)
    with vsfs.FileSystem.open(str(mounted.image)) as writer:
        _one_of_everything(LibraryProcess(writer))
    before = mounted.image.read_bytes()
    yield from _used(mounted, "-o", "ro")
    assert mounted.image.read_bytes() == before


@pytest.fixture
def read_only_fs(on: str, request: pytest.FixtureRequest) -> Iterator[Process]:
    """A filesystem that is mounted read-only, with one of everything in it."""
    if on in ("library", "journal"):
        device = blank(SIZE, journal_blocks=16 if on == "journal" else None)
        with mount(device, ROOT) as writer:
            _one_of_everything(LibraryProcess(writer))
        with mount(device, ROOT, read_only=True) as reader:
            yield LibraryProcess(reader)
        return
    family: Family = request.getfixturevalue("read_only_mounts")(on)
    yield family.begin(".")
    family.end()


def _one_of_everything(fs: Process) -> None:
    put(fs, "/file", b"contents")
    fs.mkdir("/directory")
    fs.symlink("file", "/link")
