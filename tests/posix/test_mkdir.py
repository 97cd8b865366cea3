"""mkdir(2)."""

from __future__ import annotations

import errno
import stat

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, home_of, put


def test_a_new_directory_is_empty_and_has_two_links(fs: Process) -> None:
    fs.mkdir("/d")
    shown = fs.stat("/d")
    assert (stat.S_ISDIR(shown.st_mode), shown.st_nlink, fs.listdir("/d")) == (True, 2, [])


def test_each_directory_counts_the_ones_in_it_as_links(fs: Process) -> None:
    before = fs.stat("/").st_nlink
    for name in ("/a", "/b", "/a/c"):
        fs.mkdir(name)
    assert (fs.stat("/").st_nlink, fs.stat("/a").st_nlink) == (before + 2, 3)
    fs.rmdir("/a/c")
    assert fs.stat("/a").st_nlink == 2


def test_the_dots_name_the_directory_and_the_one_above(fs: Process) -> None:
    fs.mkdir("/a")
    fs.mkdir("/a/b")
    assert fs.stat("/a/b/.").st_ino == fs.stat("/a/b").st_ino
    assert fs.stat("/a/b/..").st_ino == fs.stat("/a").st_ino


@pytest.mark.parametrize(
    ("mask", "mode", "expected"),
    [(0, 0o777, 0o777), (0o022, 0o777, 0o755), (0o077, 0o755, 0o700), (0o777, 0o777, 0)],
)
def test_the_umask_is_taken_from_the_mode(fs: Process, mask: int, mode: int, expected: int) -> None:
    assert fs.umask(mask) == 0o022
    fs.mkdir("/d", mode)
    assert stat.S_IMODE(fs.stat("/d").st_mode) == expected


def test_a_directory_may_be_made_sticky_at_once(fs: Process) -> None:
    fs.umask(0)
    fs.mkdir("/d", 0o1777)
    assert stat.S_IMODE(fs.stat("/d").st_mode) == 0o1777


def test_a_slash_behind_the_name_is_allowed(fs: Process) -> None:
    fs.mkdir("/d/")
    assert fs.listdir("/") == ["d"]


def test_the_maker_owns_it(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home")
    alice.mkdir("/home/d")
    shown = root.stat("/home/d")
    assert (shown.st_uid, shown.st_gid) == (ALICE.uid, ALICE.gid)


def test_a_set_group_id_directory_hands_on_its_group_and_the_bit(
    alice: Process, root: Process
) -> None:
    root.mkdir("/d")
    root.chown("/d", -1, 2000)
    root.chmod("/d", 0o2777)
    alice.mkdir("/d/sub")
    shown = root.stat("/d/sub")
    assert (shown.st_uid, shown.st_gid) == (ALICE.uid, 2000)
    assert stat.S_IMODE(shown.st_mode) == 0o2755


def test_it_changes_the_times_of_the_parent_and_sets_its_own(fs: Process) -> None:
    fs.mkdir("/a")
    fs.utime("/a", ns=(1, 1))
    before = fs.stat("/a")
    fs.mkdir("/a/b")
    parent, child = fs.stat("/a"), fs.stat("/a/b")
    assert parent.st_mtime_ns == parent.st_ctime_ns > before.st_ctime_ns
    assert child.st_atime_ns == child.st_mtime_ns == child.st_ctime_ns > before.st_ctime_ns
    assert parent.st_atime_ns == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/", errno.EEXIST),
        ("/d", errno.EEXIST),
        ("/d/", errno.EEXIST),
        ("/d/.", errno.EEXIST),
        ("/f", errno.EEXIST),
        ("/link", errno.EEXIST),
        ("/dangling", errno.EEXIST),
        ("/dangling/", errno.EEXIST),
        ("/missing/d", errno.ENOENT),
        ("/missing/.", errno.ENOENT),
        ("/f/d", errno.ENOTDIR),
        ("/loop/d", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("n/" * 2048, errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, path: str, code: int) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.symlink("d", "/link")
    fs.symlink("nothing", "/dangling")
    fs.symlink("loop", "/loop")
    before = fs.stat("/")
    assert errno_of(fs.mkdir, path) == code
    assert fs.stat("/").st_mtime_ns == before.st_mtime_ns
    assert sorted(fs.listdir("/")) == ["d", "dangling", "f", "link", "loop"]


@pytest.mark.parametrize("mode", [0o555, 0o666])
def test_it_needs_write_and_search_permission(alice: Process, root: Process, mode: int) -> None:
    home_of(root, ALICE, "/home", mode)
    assert errno_of(alice.mkdir, "/home/d") == errno.EACCES
    root.mkdir("/home/d")


def test_a_read_only_filesystem_gets_none(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.mkdir, "/d") == errno.EROFS
    assert errno_of(read_only_fs.mkdir, "/directory") == errno.EEXIST


def test_a_name_can_be_made_again_as_often_as_it_is_removed(fs: Process) -> None:
    for _ in range(50):
        fs.mkdir("/d")
        fs.rmdir("/d")
    assert fs.listdir("/") == []
