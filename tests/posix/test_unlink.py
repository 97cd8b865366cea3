"""unlink(2), and what stays of an open file without a name."""

from __future__ import annotations

import errno
import os
import stat
import time

import pytest

from tests.support.images import ALICE, BOB, errno_of
from tests.support.processes import Process, contents, home_of, put


def eventually_free(fs: Process, expected: int) -> bool:
    """Whether so many blocks are free, at least soon: the last close takes its time."""
    deadline = time.monotonic() + 10
    while fs.statvfs("/").f_bfree != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("kind", ["file", "fifo", "socket", "symlink"])
def test_the_name_is_gone_and_the_times_of_the_directory_change(fs: Process, kind: str) -> None:
    fs.mkdir("/d")
    if kind == "symlink":
        fs.symlink("/d", "/d/x")
    else:
        kinds = {"file": stat.S_IFREG, "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
        fs.mknod("/d/x", kinds[kind] | 0o644)
    fs.utime("/d", ns=(1, 1))
    before = fs.stat("/d").st_ctime_ns
    fs.unlink("/d/x")
    assert fs.listdir("/d") == []
    assert errno_of(fs.lstat, "/d/x") == errno.ENOENT
    shown = fs.stat("/d")
    assert shown.st_mtime_ns == shown.st_ctime_ns > before


def test_the_last_name_gives_the_blocks_back(fs: Process) -> None:
    put(fs, "/other", b"x")
    free = fs.statvfs("/").f_bfree
    put(fs, "/f", b"x" * 300_000)
    assert fs.statvfs("/").f_bfree < free - 70
    fs.unlink("/f")
    assert eventually_free(fs, free)


def test_a_further_name_keeps_the_file_and_sees_one_link_less(fs: Process) -> None:
    put(fs, "/a", b"contents")
    fs.link("/a", "/b")
    before = fs.stat("/b")
    fs.unlink("/a")
    after = fs.stat("/b")
    assert (before.st_nlink, after.st_nlink, contents(fs, "/b")) == (2, 1, b"contents")
    assert after.st_ctime_ns > before.st_ctime_ns
    assert after.st_mtime_ns == before.st_mtime_ns


def test_an_open_file_lives_on_without_a_name(fs: Process) -> None:
    put(fs, "/other")
    free = fs.statvfs("/").f_bfree
    fd = fs.open("/f", os.O_CREAT | os.O_RDWR)
    fs.write(fd, b"x" * 10_000)
    fs.unlink("/f")
    assert fs.listdir("/") == ["other"]
    assert fs.fstat(fd).st_nlink == 0
    assert fs.pread(fd, 3, 9_000) == b"xxx"
    fs.pwrite(fd, b"more", 20_000)
    fs.fchmod(fd, 0o600)
    fs.ftruncate(fd, 20_002)
    shown = fs.fstat(fd)
    assert (shown.st_size, stat.S_IMODE(shown.st_mode)) == (20_002, 0o600)
    assert fs.pread(fd, 9, 20_000) == b"mo"
    fs.close(fd)
    assert eventually_free(fs, free)


def test_an_open_file_without_a_name_lives_until_its_last_opener_closes_it(fs: Process) -> None:
    put(fs, "/other")
    free = fs.statvfs("/").f_bfree
    other = fs.other()
    put(fs, "/f", b"contents")
    mine, theirs = fs.open("/f", os.O_RDONLY), other.open("/f", os.O_RDONLY)
    fs.unlink("/f")
    fs.close(mine)
    assert other.read(theirs, 99) == b"contents"
    other.close(theirs)
    assert eventually_free(fs, free)


def test_a_new_file_of_the_same_name_is_another_one(fs: Process) -> None:
    put(fs, "/f", b"old")
    fd = fs.open("/f", os.O_RDONLY)
    fs.unlink("/f")
    put(fs, "/f", b"new")
    assert fs.read(fd, 9) == b"old"
    assert contents(fs, "/f") == b"new"
    assert fs.fstat(fd).st_ino != fs.stat("/f").st_ino


def test_a_link_is_removed_and_not_what_it_names(fs: Process) -> None:
    put(fs, "/f", b"contents")
    fs.symlink("f", "/link")
    fs.unlink("/link")
    assert (fs.listdir("/"), contents(fs, "/f")) == (["f"], b"contents")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/missing", errno.ENOENT),
        ("/missing/f", errno.ENOENT),
        ("/d", errno.EISDIR),
        ("/d/", errno.EISDIR),
        ("/f/", errno.ENOTDIR),
        ("/f/x", errno.ENOTDIR),
        ("/link/", errno.ENOTDIR),
        ("/loop/f", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, path: str, code: int) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.symlink("d", "/link")
    fs.symlink("loop", "/loop")
    before = fs.stat("/")
    assert errno_of(fs.unlink, path) == code
    assert sorted(fs.listdir("/")) == ["d", "f", "link", "loop"]
    assert fs.stat("/").st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("mode", [0o555, 0o666])
def test_it_needs_write_and_search_permission(alice: Process, root: Process, mode: int) -> None:
    home_of(root, ALICE, "/home", mode)
    put(root, "/home/f", mode=0o777)
    assert errno_of(alice.unlink, "/home/f") == errno.EACCES
    root.chmod("/home", 0o300)
    alice.unlink("/home/f")


def test_the_permissions_of_the_file_do_not_matter(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home")
    put(root, "/home/f", mode=0)
    alice.unlink("/home/f")
    assert root.listdir("/home") == []


@pytest.mark.parametrize(
    ("directory_owner", "file_owner", "code"),
    [
        (BOB.uid, BOB.uid, errno.EPERM),
        (0, 0, errno.EPERM),
        (BOB.uid, ALICE.uid, 0),
        (ALICE.uid, BOB.uid, 0),
    ],
)
def test_in_a_sticky_directory_only_owners_remove_names(
    alice: Process, root: Process, directory_owner: int, file_owner: int, code: int
) -> None:
    root.mkdir("/tmp")
    put(root, "/tmp/f", mode=0o666)
    root.chown("/tmp/f", file_owner, -1)
    root.chown("/tmp", directory_owner, -1)
    root.chmod("/tmp", 0o1777)
    assert errno_of(alice.unlink, "/tmp/f") == code
    assert root.listdir("/tmp") == (["f"] if code else [])


def test_nothing_is_removed_from_a_read_only_filesystem(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.unlink, "/file") == errno.EROFS
