"""statvfs(3), which asks statfs(2)."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, home_of, put


def test_it_tells_block_size_and_the_longest_name(fs: Process) -> None:
    shown = fs.statvfs("/")
    assert (shown.f_bsize, shown.f_frsize, shown.f_namemax) == (4096, 4096, 255)
    assert 0 < shown.f_bavail <= shown.f_bfree < shown.f_blocks
    assert 0 < shown.f_favail <= shown.f_ffree < shown.f_files


def test_blocks_and_inodes_count_from_the_call_that_takes_them(fs: Process) -> None:
    fs.mkdir("/d")  # the directory itself has its block now
    before = fs.statvfs("/")
    put(fs, "/d/f", b"x" * 4097)
    fs.mkdir("/d/sub")
    fs.symlink("short", "/d/link")
    after = fs.statvfs("/")
    assert (before.f_bfree - after.f_bfree, before.f_ffree - after.f_ffree) == (3, 3)
    assert (before.f_blocks, before.f_files) == (after.f_blocks, after.f_files)


def test_a_further_name_takes_nothing(fs: Process) -> None:
    put(fs, "/f", b"x")
    before = fs.statvfs("/")
    fs.link("/f", "/g")
    after = fs.statvfs("/")
    assert (before.f_bfree, before.f_ffree) == (after.f_bfree, after.f_ffree)


def test_any_file_may_be_asked_by_anybody(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home", 0)
    put(root, "/f", mode=0)
    assert alice.statvfs("/f").f_blocks == root.statvfs("/home").f_blocks


@pytest.mark.parametrize(
    ("path", "code"),
    [("/missing", errno.ENOENT), ("/f/x", errno.ENOTDIR), ("/loop", errno.ELOOP)],
)
def test_it_refuses(fs: Process, path: str, code: int) -> None:
    put(fs, "/f")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.statvfs, path) == code


def test_a_read_only_filesystem_says_so(read_only_fs: Process) -> None:
    assert read_only_fs.statvfs("/").f_flag & os.ST_RDONLY
