"""O_NOATIME: a read through such a descriptor is no access (open(2))."""

from __future__ import annotations

import errno
import os

import pytest

import vsfs
from tests.support.images import ALICE, BOB, as_user, errno_of


@pytest.fixture
def old(fs: vsfs.FileSystem) -> vsfs.FileSystem:
    """A file of ALICE's that anybody may read, and that was not read since it changed."""
    fd = fs.open("/file", os.O_CREAT | os.O_WRONLY)
    fs.write(fd, b"x")
    fs.close(fd)
    fs.chown("/file", ALICE.uid, ALICE.gid)
    fs.utime("/file", ns=(5, 50))
    return fs


def read(fs: vsfs.FileSystem, flags: int = 0) -> int:
    """Read the file; the access time that it then has."""
    fd = fs.open("/file", os.O_RDONLY | flags)
    assert fs.read(fd, 10) == b"x"
    fs.close(fd)
    return fs.stat("/file").st_atime_ns


def test_a_read_with_o_noatime_leaves_the_access_time(old: vsfs.FileSystem) -> None:
    assert read(old, os.O_NOATIME) == 5
    assert read(old) > 50


def test_only_the_owner_and_root_may_hide_an_access(old: vsfs.FileSystem) -> None:
    assert read(as_user(old, ALICE), os.O_NOATIME) == 5
    bob = as_user(old, BOB)
    assert errno_of(bob.open, "/file", os.O_RDONLY | os.O_NOATIME) == errno.EPERM
    old.chmod("/file", 0o600)
    assert errno_of(bob.open, "/file", os.O_RDONLY | os.O_NOATIME) == errno.EACCES


def test_a_refused_o_noatime_truncates_nothing(old: vsfs.FileSystem) -> None:
    old.chmod("/file", 0o666)
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NOATIME
    assert errno_of(as_user(old, BOB).open, "/file", flags) == errno.EPERM
    assert old.stat("/file").st_size == 1


def test_whoever_makes_a_file_owns_it(alice_fs: vsfs.FileSystem) -> None:
    flags = os.O_CREAT | os.O_RDWR | os.O_NOATIME
    alice_fs.close(alice_fs.open("/new", flags))
