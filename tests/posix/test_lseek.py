"""lseek(2) with SEEK_DATA and SEEK_HOLE.

Over FUSE the kernel answers by itself, as for a filesystem that knows of no holes:
the file is all data.  What both may say is tested on both, and the places of holes
on the library, compared with the host's tmpfs at the same block size.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.images import blank, errno_of, mount
from tests.support.processes import Process, put

BLOCK = 4096
CREATE = os.O_CREAT | os.O_RDWR
SHM = Path("/dev/shm")


def test_a_file_without_holes_is_data_up_to_a_hole_at_its_end(fs: Process) -> None:
    put(fs, "/f", b"x" * 10_000)
    fd = fs.open("/f", os.O_RDONLY)
    for offset in (0, 1, 4096, 9_999):
        assert fs.lseek(fd, offset, os.SEEK_DATA) == offset
        assert fs.lseek(fd, offset, os.SEEK_HOLE) == 10_000
    assert fs.lseek(fd, 0, os.SEEK_CUR) == 10_000


@pytest.mark.parametrize("whence", [os.SEEK_DATA, os.SEEK_HOLE])
def test_from_the_end_on_there_is_neither(fs: Process, whence: int) -> None:
    put(fs, "/f", b"x" * 10)
    put(fs, "/empty", b"")
    fd = fs.open("/f", os.O_RDONLY)
    fs.lseek(fd, 3, os.SEEK_SET)
    for offset in (10, 11, 2**40, -1):
        assert errno_of(fs.lseek, fd, offset, whence) == errno.ENXIO
    assert errno_of(fs.lseek, fs.open("/empty", os.O_RDONLY), 0, whence) == errno.ENXIO
    assert fs.lseek(fd, 0, os.SEEK_CUR) == 3


def test_a_hole_is_found_and_the_data_behind_it(library: Process) -> None:
    fd = library.open("/f", CREATE)
    library.pwrite(fd, b"x", 10 * BLOCK + 5)
    library.pwrite(fd, b"x" * BLOCK, 2 * BLOCK)
    found = []
    offset = 0
    for whence in (os.SEEK_DATA, os.SEEK_HOLE, os.SEEK_DATA, os.SEEK_HOLE):
        offset = library.lseek(fd, offset, whence)
        found.append(offset)
    assert found == [2 * BLOCK, 3 * BLOCK, 10 * BLOCK, 10 * BLOCK + 6]


def test_a_file_that_is_one_hole_has_no_data(library: Process) -> None:
    fd = library.open("/f", CREATE)
    library.ftruncate(fd, 2**40)
    assert errno_of(library.lseek, fd, 0, os.SEEK_DATA) == errno.ENXIO
    assert library.lseek(fd, 12345, os.SEEK_HOLE) == 12345


def test_a_directory_is_all_data(library: Process) -> None:
    library.mkdir("/d")
    fd = library.open("/d", os.O_RDONLY)
    assert library.lseek(fd, 7, os.SEEK_DATA) == 7
    assert library.lseek(fd, 7, os.SEEK_HOLE) == library.fstat(fd).st_size


def test_a_closed_descriptor_is_refused(library: Process) -> None:
    fd = library.open("/f", CREATE)
    library.close(fd)
    assert errno_of(library.lseek, fd, 0, os.SEEK_DATA) == errno.EBADF


# -- the host as oracle ------------------------------------------------------------

#: Bytes near the borders of blocks, and of the direct pointers and the first indirect block.
offsets = st.builds(
    lambda block, by: max(block * BLOCK + by, 0),
    st.one_of(st.integers(0, 20), st.sampled_from([12, 1036, 1037, 2060, 5000])),
    st.sampled_from([0, 0, 1, -1, 100]),
)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), offsets, st.integers(1, 3 * BLOCK)),
        st.tuples(st.just("truncate"), offsets, st.just(0)),
    ),
    max_size=8,
)


@contextlib.contextmanager
def host_file() -> Iterator[int]:
    """A descriptor of an empty file on the host's tmpfs."""
    with tempfile.TemporaryFile(dir=SHM) as file:
        yield file.fileno()


def _finds_holes_as_we_do() -> bool:
    if not SHM.is_dir() or os.statvfs(SHM).f_bsize != BLOCK:
        return False
    with host_file() as fd:
        os.pwrite(fd, b"x", 3 * BLOCK)
        return os.lseek(fd, 0, os.SEEK_DATA) == 3 * BLOCK


@pytest.mark.skipif(not _finds_holes_as_we_do(), reason="no tmpfs with pages of 4096 bytes")
@given(changes, st.lists(offsets, min_size=1, max_size=10))
def test_data_and_holes_are_where_the_host_has_them(
    sequence: list[tuple[str, int, int]], starts: list[int]
) -> None:
    with host_file() as host, mount(blank(1024 * 1024)) as fs:
        ours = fs.open("/f", CREATE)
        for what, at, size in sequence:
            if what == "write":
                assert fs.pwrite(ours, b"x" * size, at) == os.pwrite(host, b"x" * size, at)
            else:
                os.ftruncate(host, at)
                fs.ftruncate(ours, at)
        for start in starts:
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                assert _seek(os, host, start, whence) == _seek(fs, ours, start, whence)
                assert os.lseek(host, 0, os.SEEK_CUR) == fs.lseek(ours, 0, os.SEEK_CUR)


def _seek(calls: Any, fd: int, offset: int, whence: int) -> int:
    """The new offset, or minus the errno."""
    try:
        found: int = calls.lseek(fd, offset, whence)
    except OSError as error:
        return -(error.errno or 0)
    return found
