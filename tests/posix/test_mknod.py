"""mknod(2) and mkfifo(3)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, home_of, put

KINDS = [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK]


@pytest.mark.parametrize("kind", KINDS)
def test_anybody_makes_files_fifos_and_sockets(alice: Process, root: Process, kind: int) -> None:
    home_of(root, ALICE, "/home")
    alice.mknod("/home/x", kind | 0o640)
    shown = root.stat("/home/x")
    assert (stat.S_IFMT(shown.st_mode), stat.S_IMODE(shown.st_mode)) == (kind, 0o640)
    assert (shown.st_uid, shown.st_gid, shown.st_nlink) == (ALICE.uid, ALICE.gid, 1)
    assert (shown.st_size, shown.st_blocks) == (0, 0)


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
@pytest.mark.parametrize(("major", "minor"), [(1, 3), (0, 0), (255, 255), (7, 1000), (4095, 9999)])
def test_root_makes_devices_and_their_numbers_come_back(
    root: Process, kind: int, major: int, minor: int
) -> None:
    root.mknod("/x", kind | 0o600, os.makedev(major, minor))
    shown = root.stat("/x")
    assert stat.S_IFMT(shown.st_mode) == kind
    assert (os.major(shown.st_rdev), os.minor(shown.st_rdev)) == (major, minor)


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_only_root_makes_devices(alice: Process, root: Process, kind: int) -> None:
    home_of(root, ALICE, "/home")
    assert errno_of(alice.mknod, "/home/x", kind | 0o600, os.makedev(1, 3)) == errno.EPERM
    assert root.listdir("/home") == []


def test_it_makes_no_directories(fs: Process) -> None:
    assert errno_of(fs.mknod, "/x", stat.S_IFDIR | 0o755) == errno.EPERM


def test_it_makes_no_symbolic_links(fs: Process) -> None:
    assert errno_of(fs.mknod, "/x", stat.S_IFLNK | 0o777) == errno.EINVAL
    assert fs.listdir("/") == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mask", "expected"), [(0, 0o777), (0o027, 0o750), (0o777, 0)])
def test_the_umask_is_taken_from_the_mode(fs: Process, kind: int, mask: int, expected: int) -> None:
    fs.umask(mask)
    fs.mknod("/x", kind | 0o777)
    assert stat.S_IMODE(fs.stat("/x").st_mode) == expected


def test_mkfifo_makes_a_fifo_that_holds_nothing(fs: Process) -> None:
    fs.mkfifo("/x", 0o600)
    shown = fs.stat("/x")
    assert (stat.S_ISFIFO(shown.st_mode), shown.st_size, shown.st_blocks) == (True, 0, 0)


def test_it_changes_the_times_of_the_directory_and_sets_its_own(fs: Process) -> None:
    fs.mkdir("/d")
    fs.utime("/d", ns=(1, 1))
    before = fs.stat("/d").st_ctime_ns
    fs.mkfifo("/d/x")
    directory, child = fs.stat("/d"), fs.stat("/d/x")
    assert directory.st_mtime_ns == directory.st_ctime_ns > before
    assert min(child.st_atime_ns, child.st_mtime_ns, child.st_ctime_ns) > before


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/f", errno.EEXIST),
        ("/d", errno.EEXIST),
        ("/dangling", errno.EEXIST),
        ("/new/", errno.ENOENT),
        ("/missing/x", errno.ENOENT),
        ("/f/x", errno.ENOTDIR),
        ("/loop/x", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", errno.ENAMETOOLONG),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_it_refuses(fs: Process, path: str, code: int, kind: int) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.symlink("nothing", "/dangling")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.mknod, path, kind | 0o600) == code
    assert sorted(fs.listdir("/")) == ["d", "dangling", "f", "loop"]


@pytest.mark.parametrize("mode", [0o555, 0o666])
def test_it_needs_write_and_search_permission(alice: Process, root: Process, mode: int) -> None:
    home_of(root, ALICE, "/home", mode)
    assert errno_of(alice.mkfifo, "/home/x") == errno.EACCES


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_only_filesystem_gets_none(read_only_fs: Process, kind: int) -> None:
    assert errno_of(read_only_fs.mknod, "/x", kind | 0o600) == errno.EROFS
