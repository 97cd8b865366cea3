"""symlink(2) and readlink(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, contents, home_of, put

#: Around the size that an inode holds itself, and up to the longest.
SIZES = [1, 2, 107, 108, 109, 110, 255, 1000, 4094, 4095]


@pytest.mark.parametrize("size", SIZES)
def test_the_target_comes_back_as_it_was_given(fs: Process, size: int) -> None:
    target = ("d/" * size)[: size - 1] + "x"
    fs.symlink(target, "/link")
    assert fs.readlink("/link") == target
    shown = fs.lstat("/link")
    assert (stat.S_IFMT(shown.st_mode), shown.st_size, shown.st_nlink) == (stat.S_IFLNK, size, 1)
    assert stat.S_IMODE(shown.st_mode) == 0o777
    assert (shown.st_blocks > 0) == (size > 108)


def test_a_target_may_have_any_bytes_but_nul(fs: Process) -> None:
    target = bytes(range(1, 256)) + b"/../\xff"
    fs.symlink(target, b"/link")
    assert fs.readlink(b"/link") == target


@pytest.mark.parametrize("target", ["nothing", "/nowhere/at/all", "link", "..", "./", "//"])
def test_a_target_need_not_exist(fs: Process, target: str) -> None:
    fs.symlink(target, "/link")
    assert fs.readlink("/link") == target


def test_removing_a_link_gives_its_block_back(fs: Process) -> None:
    put(fs, "/other")
    free = fs.statvfs("/").f_bfree
    fs.symlink("t" * 4000, "/link")
    assert fs.statvfs("/").f_bfree == free - 1
    fs.unlink("/link")
    assert fs.statvfs("/").f_bfree == free


def test_a_path_through_a_link_starts_where_the_link_stands(fs: Process) -> None:
    fs.mkdir("/a")
    fs.mkdir("/b")
    put(fs, "/b/f", b"contents")
    fs.symlink("../b", "/a/link")
    fs.symlink("a/link/f", "/chain")
    assert contents(fs, "/a/link/f") == b"contents"
    assert contents(fs, "/chain") == b"contents"
    assert contents(fs, "/a/link/../b/f") == b"contents"


def test_the_longest_target_can_be_followed(fs: Process) -> None:
    put(fs, "/f", b"contents")
    fs.symlink("./" * 2047 + "f", "/link")
    assert contents(fs, "/link") == b"contents"


def test_the_umask_does_not_matter(fs: Process) -> None:
    fs.umask(0o777)
    fs.symlink("x", "/link")
    assert stat.S_IMODE(fs.lstat("/link").st_mode) == 0o777


def test_it_changes_the_times_of_the_directory(fs: Process) -> None:
    fs.mkdir("/d")
    fs.utime("/d", ns=(1, 1))
    before = fs.stat("/d").st_ctime_ns
    fs.symlink("x", "/d/link")
    directory, link = fs.stat("/d"), fs.lstat("/d/link")
    assert directory.st_mtime_ns == directory.st_ctime_ns > before
    assert min(link.st_atime_ns, link.st_mtime_ns, link.st_ctime_ns) > before


def test_the_maker_owns_it_and_everybody_may_read_it(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home")
    alice.symlink("secret", "/home/link")
    shown = root.lstat("/home/link")
    assert (shown.st_uid, shown.st_gid) == (ALICE.uid, ALICE.gid)
    root.symlink("x", "/link")
    assert alice.readlink("/link") == "x"


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
def test_it_refuses(fs: Process, path: str, code: int) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.symlink("nothing", "/dangling")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.symlink, "target", path) == code
    assert sorted(fs.listdir("/")) == ["d", "dangling", "f", "loop"]


@pytest.mark.parametrize(("target", "code"), [("", errno.ENOENT), ("t" * 4096, errno.ENAMETOOLONG)])
def test_a_target_has_1_to_4095_bytes(fs: Process, target: str, code: int) -> None:
    assert errno_of(fs.symlink, target, "/link") == code
    assert fs.listdir("/") == []


@pytest.mark.parametrize("mode", [0o555, 0o666])
def test_it_needs_write_and_search_permission(alice: Process, root: Process, mode: int) -> None:
    home_of(root, ALICE, "/home", mode)
    assert errno_of(alice.symlink, "x", "/home/link") == errno.EACCES


def test_a_read_only_filesystem_gets_none(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.symlink, "x", "/x") == errno.EROFS
    assert read_only_fs.readlink("/link") == "file"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/f", errno.EINVAL),
        ("/d", errno.EINVAL),
        ("/missing", errno.ENOENT),
        ("/f/x", errno.ENOTDIR),
        ("/link/", errno.EINVAL),
        ("/loop/", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
    ],
)
def test_readlink_refuses(fs: Process, path: str, code: int) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.symlink("d", "/link")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.readlink, path) == code


def test_following_needs_search_permission_where_the_link_leads(
    alice: Process, root: Process
) -> None:
    home_of(root, ALICE, "/home", 0o600)
    put(root, "/home/f")
    root.symlink("home/f", "/link")
    assert errno_of(alice.open, "/link", os.O_RDONLY) == errno.EACCES
    assert alice.readlink("/link") == "home/f"
