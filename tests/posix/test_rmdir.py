"""rmdir(2)."""

from __future__ import annotations

import errno
import os

import pytest

import vsfs
from tests.support.images import ALICE, BOB, errno_of
from tests.support.processes import Process, home_of, put


def test_an_empty_directory_goes_and_its_parent_has_one_link_less(fs: Process) -> None:
    fs.mkdir("/a")
    fs.mkdir("/a/b")
    fs.utime("/a", ns=(1, 1))
    before = fs.stat("/a")
    fs.rmdir("/a/b")
    after = fs.stat("/a")
    assert (before.st_nlink, after.st_nlink, fs.listdir("/a")) == (3, 2, [])
    assert after.st_mtime_ns == after.st_ctime_ns > before.st_ctime_ns


def test_a_slash_behind_the_name_is_allowed(fs: Process) -> None:
    fs.mkdir("/d")
    fs.rmdir("/d/")
    assert fs.listdir("/") == []


def test_a_directory_that_was_full_and_is_empty_again_can_go(fs: Process) -> None:
    fs.mkdir("/d")
    for number in range(100):
        put(fs, f"/d/{number}")
    assert errno_of(fs.rmdir, "/d") == errno.ENOTEMPTY
    for number in range(100):
        fs.unlink(f"/d/{number}")
    fs.rmdir("/d")
    assert errno_of(fs.stat, "/d") == errno.ENOENT


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "fifo"])
def test_one_name_of_any_kind_is_enough_to_keep_it(fs: Process, kind: str) -> None:
    fs.mkdir("/d")
    make = {"file": put, "directory": lambda fs, path: fs.mkdir(path)}
    make |= {
        "symlink": lambda fs, path: fs.symlink("nothing", path),
        "fifo": lambda fs, path: fs.mkfifo(path),
    }
    make[kind](fs, "/d/x")
    assert errno_of(fs.rmdir, "/d") == errno.ENOTEMPTY
    assert fs.listdir("/d") == ["x"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/missing", errno.ENOENT),
        ("/missing/d", errno.ENOENT),
        ("/f", errno.ENOTDIR),
        ("/f/", errno.ENOTDIR),
        ("/f/d", errno.ENOTDIR),
        ("/link", errno.ENOTDIR),
        ("/link/", errno.ENOTDIR),
        ("/d/.", errno.EINVAL),
        ("/d/sub/..", errno.ENOTEMPTY),
        ("/d", errno.ENOTEMPTY),
        ("/loop/d", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, path: str, code: int) -> None:
    fs.mkdir("/d")
    fs.mkdir("/d/sub")
    put(fs, "/f")
    fs.symlink("d/sub", "/link")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.rmdir, path) == code
    assert sorted(fs.listdir("/")) == ["d", "f", "link", "loop"]
    assert fs.listdir("/d") == ["sub"]


def test_the_root_is_busy(library: Process) -> None:
    assert errno_of(library.rmdir, "/") == errno.EBUSY


def test_an_open_directory_without_a_name_is_empty_and_no_other(library: Process) -> None:
    """On a mount it cannot be asked: the kernel gives no handle along for a directory."""
    library.mkdir("/d")
    fd = library.open("/d", os.O_RDONLY)
    library.rmdir("/d")
    library.mkdir("/d")
    put(library, "/d/f")
    assert library.fstat(fd).st_nlink == 0
    assert library.fstat(fd).st_ino != library.stat("/d").st_ino


@pytest.mark.parametrize("mode", [0o555, 0o666])
def test_it_needs_write_and_search_permission(alice: Process, root: Process, mode: int) -> None:
    home_of(root, ALICE, "/home", mode)
    home_of(root, ALICE, "/home/d")
    assert errno_of(alice.rmdir, "/home/d") == errno.EACCES
    root.chmod("/home", 0o300)
    alice.rmdir("/home/d")


@pytest.mark.parametrize(
    ("above", "owner", "code"),
    [(BOB, BOB, errno.EPERM), (BOB, ALICE, 0), (ALICE, BOB, 0)],
)
def test_in_a_sticky_directory_only_owners_remove_directories(
    alice: Process, root: Process, above: vsfs.Credentials, owner: vsfs.Credentials, code: int
) -> None:
    home_of(root, above, "/tmp", 0o1777)
    home_of(root, owner, "/tmp/d")
    assert errno_of(alice.rmdir, "/tmp/d") == code


def test_nothing_is_removed_from_a_read_only_filesystem(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.rmdir, "/directory") == errno.EROFS
