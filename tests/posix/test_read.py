"""read(2), pread(2), stat(2) and access(2)."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, contents, home_of, put

WHOLE = bytes(number * 17 % 241 for number in range(100_000))


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 49_152, 99_999, 100_000, 200_000, 2**40])
@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 100_000])
def test_as_much_comes_as_there_is(fs: Process, offset: int, size: int) -> None:
    put(fs, "/f", WHOLE)
    fd = fs.open("/f", os.O_RDONLY)
    assert fs.pread(fd, size, offset) == WHOLE[offset : offset + size]


def test_the_offset_moves_on_until_the_end(fs: Process) -> None:
    put(fs, "/f", WHOLE)
    fd = fs.open("/f", os.O_RDONLY)
    parts = []
    while part := fs.read(fd, 7_777):
        parts.append(part)
    assert b"".join(parts) == WHOLE
    assert fs.read(fd, 1) == b""
    assert fs.lseek(fd, 0, os.SEEK_CUR) == len(WHOLE)


def test_two_descriptors_have_an_offset_each(fs: Process) -> None:
    put(fs, "/f", b"0123456789")
    one, two = (fs.open("/f", os.O_RDONLY) for _ in range(2))
    assert (fs.read(one, 4), fs.read(two, 2), fs.read(one, 4)) == (b"0123", b"01", b"4567")


def test_an_end_that_moves_is_seen_by_who_reads(fs: Process) -> None:
    other = fs.other()
    put(fs, "/f", b"one")
    fd = other.open("/f", os.O_RDONLY)
    assert (other.read(fd, 99), other.read(fd, 99)) == (b"one", b"")
    out = fs.open("/f", os.O_WRONLY | os.O_APPEND)
    fs.write(out, b" two")
    assert other.read(fd, 99) == b" two"


@pytest.mark.parametrize(
    ("flags", "path", "code"),
    [(os.O_WRONLY, "/f", errno.EBADF), (os.O_RDONLY, "/d", errno.EISDIR)],
)
def test_it_refuses(fs: Process, flags: int, path: str, code: int) -> None:
    put(fs, "/f", b"contents")
    fs.mkdir("/d")
    fd = fs.open(path, flags)
    assert errno_of(fs.read, fd, 10) == code
    assert errno_of(fs.pread, fd, 10, 0) == code


def test_an_offset_below_zero_is_refused(fs: Process) -> None:
    put(fs, "/f", b"contents")
    fd = fs.open("/f", os.O_RDONLY)
    assert errno_of(fs.pread, fd, 10, -1) == errno.EINVAL


def test_the_first_read_after_a_change_is_noted_as_access(fs: Process) -> None:
    """relatime: so that "read since it was written" can be told, and no more is."""
    put(fs, "/f", b"contents")
    fs.utime("/f", ns=(1, 1))
    before = fs.stat("/f")
    assert contents(fs, "/f") == b"contents"
    after = fs.stat("/f")
    assert after.st_atime_ns > before.st_ctime_ns
    assert (after.st_mtime_ns, after.st_ctime_ns) == (1, before.st_ctime_ns)
    assert contents(fs, "/f") == b"contents"
    assert fs.stat("/f").st_atime_ns == after.st_atime_ns


def test_reading_does_not_change_a_read_only_filesystem(read_only_fs: Process) -> None:
    before = read_only_fs.stat("/file")
    assert contents(read_only_fs, "/file") == b"contents"
    assert read_only_fs.readlink("/link") == "file"
    assert sorted(read_only_fs.listdir("/")) == ["directory", "file", "link"]
    assert read_only_fs.stat("/file").st_atime_ns == before.st_atime_ns


# -- stat and access ------------------------------------------------------------------


def test_stat_and_fstat_agree_and_looking_changes_nothing(fs: Process) -> None:
    put(fs, "/f", WHOLE)
    fd = fs.open("/f", os.O_RDONLY)
    by_path, by_fd = fs.stat("/f"), fs.fstat(fd)
    assert by_path == by_fd
    assert by_path.st_ctime_ns == by_fd.st_ctime_ns
    assert by_path.st_blksize == 4096


def test_no_two_files_have_the_same_inode_number(fs: Process) -> None:
    for number in range(20):
        put(fs, f"/{number}")
    assert len({fs.stat(f"/{number}").st_ino for number in range(20)} | {0}) == 21


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/missing", errno.ENOENT),
        ("/missing/..", errno.ENOENT),
        ("/dangling", errno.ENOENT),
        ("/f/", errno.ENOTDIR),
        ("/f/..", errno.ENOTDIR),
        ("/loop", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("/d/" + "n" * 256 + "/x", errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", errno.ENAMETOOLONG),
    ],
)
def test_stat_refuses(fs: Process, path: str, code: int) -> None:
    put(fs, "/f")
    fs.mkdir("/d")
    fs.symlink("nothing", "/dangling")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.stat, path) == code


def test_stat_needs_search_permission_on_the_way_and_none_on_the_file(
    alice: Process, root: Process
) -> None:
    home_of(root, ALICE, "/home")
    put(root, "/home/f", mode=0)
    assert alice.stat("/home/f").st_uid == 0
    root.chmod("/home", 0o600)
    assert errno_of(alice.stat, "/home/f") == errno.EACCES
    assert alice.listdir("/home") == ["f"]


@pytest.mark.parametrize("mode", range(0o10))
def test_access_tells_what_the_user_may_do(alice: Process, root: Process, mode: int) -> None:
    put(root, "/f")
    root.chown("/f", ALICE.uid, ALICE.gid)
    root.chmod("/f", mode << 6)
    for wanted in range(0o10):
        assert alice.access("/f", wanted) == (mode & wanted == wanted)
    assert root.access("/f", os.R_OK | os.W_OK)
    assert root.access("/f", os.X_OK) == bool(mode & 1)


def test_access_of_a_read_only_filesystem_grants_no_writing(read_only_fs: Process) -> None:
    assert read_only_fs.access("/file", os.R_OK)
    assert not read_only_fs.access("/file", os.W_OK)
