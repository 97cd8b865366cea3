"""readdir(3), as os.listdir and os.scandir have it."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, home_of, put


@pytest.mark.parametrize("count", [0, 1, 60, 200])
def test_each_name_comes_once(fs: Process, count: int) -> None:
    fs.mkdir("/d")
    names = [f"a-name-of-some-length-{number}" for number in range(count)]
    for name in names:
        fs.mknod("/d/" + name)
    assert sorted(fs.listdir("/d")) == sorted(names)
    assert fs.stat("/d").st_size % 4096 == 0
    for name in names[::2]:
        fs.unlink("/d/" + name)
    assert sorted(fs.listdir("/d")) == sorted(names[1::2])


def test_names_of_the_longest_length_come_whole(fs: Process) -> None:
    names = [f"{number:03}" + "n" * 252 for number in range(50)]
    for name in names:
        fs.mknod("/" + name)
    assert sorted(fs.listdir("/")) == names


def test_each_entry_knows_inode_and_type(fs: Process) -> None:
    put(fs, "/file")
    fs.mkdir("/directory")
    fs.symlink("directory", "/link")
    fs.mkfifo("/fifo")
    fs.mknod("/socket", stat.S_IFSOCK | 0o600)
    types = {
        "directory": (True, False, False),
        "file": (False, True, False),
        "link": (False, False, True),
        "fifo": (False, False, False),
        "socket": (False, False, False),
    }
    expected = {name: (fs.lstat("/" + name).st_ino, *shown) for name, shown in types.items()}
    assert fs.scandir_types("/") == expected


def test_an_entry_follows_its_file_when_it_moves(fs: Process) -> None:
    fs.mkdir("/a")
    put(fs, "/a/f")
    inode = fs.stat("/a/f").st_ino
    fs.rename("/a/f", "/g")
    assert fs.scandir_types("/")["g"][0] == inode
    assert fs.listdir("/a") == []


def test_links_to_directories_are_followed(fs: Process) -> None:
    fs.mkdir("/d")
    put(fs, "/d/f")
    fs.symlink("d", "/link")
    assert fs.listdir("/link") == ["f"]
    assert fs.listdir("/link/") == ["f"]


def test_bytes_that_are_no_text_come_back(fs: Process) -> None:
    put(fs, b"/\xff\xfe")
    assert fs.listdir(b"/") == [b"\xff\xfe"]
    assert fs.listdir("/") == [os.fsdecode(b"\xff\xfe")]


def test_the_first_listing_after_a_change_is_noted_as_access(fs: Process) -> None:
    fs.mkdir("/d")
    fs.utime("/d", ns=(1, 1))
    before = fs.stat("/d")
    fs.listdir("/d")
    after = fs.stat("/d")
    assert after.st_atime_ns > before.st_ctime_ns
    assert (after.st_mtime_ns, after.st_ctime_ns) == (1, before.st_ctime_ns)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/missing", errno.ENOENT),
        ("/f", errno.ENOTDIR),
        ("/f/", errno.ENOTDIR),
        ("/loop", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, path: str, code: int) -> None:
    put(fs, "/f")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.listdir, path) == code


def test_it_needs_read_permission_and_names_need_search_permission(
    alice: Process, root: Process
) -> None:
    home_of(root, ALICE, "/home", 0o300)
    put(root, "/home/f")
    assert errno_of(alice.listdir, "/home") == errno.EACCES
    assert alice.stat("/home/f").st_size == 0
    root.chmod("/home", 0o400)
    assert alice.listdir("/home") == ["f"]
    assert errno_of(alice.stat, "/home/f") == errno.EACCES
