"""chown(2), lchown(2) and fchown(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import ALICE, BOB, errno_of
from tests.support.processes import Process, put

MOST = 2**32 - 2  # the largest id; one more means "leave it"


def owner(fs: Process, path: str) -> tuple[int, int]:
    shown = fs.lstat(path)
    return shown.st_uid, shown.st_gid


@pytest.mark.parametrize("ids", [(1, 2), (65534, 65536), (MOST, MOST)])
@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "symlink"])
def test_root_sets_any_ids(root: Process, kind: str, ids: tuple[int, int]) -> None:
    if kind == "file":
        put(root, "/x")
    elif kind == "symlink":
        root.symlink("nothing", "/x")
    else:
        (root.mkdir if kind == "directory" else root.mkfifo)("/x")
    root.lchown("/x", *ids)
    assert owner(root, "/x") == ids


def test_minus_one_leaves_an_id_as_it_is(root: Process) -> None:
    put(root, "/f")
    root.chown("/f", 11, 22)
    root.chown("/f", -1, 33)
    assert owner(root, "/f") == (11, 33)
    root.chown("/f", 44, -1)
    assert owner(root, "/f") == (44, 33)
    root.chown("/f", -1, -1)
    assert owner(root, "/f") == (44, 33)


def test_chown_follows_links_and_lchown_does_not(root: Process) -> None:
    put(root, "/f")
    root.symlink("f", "/link")
    root.chown("/link", 11, 22)
    root.lchown("/link", 33, 44)
    assert (owner(root, "/f"), owner(root, "/link")) == ((11, 22), (33, 44))


def test_an_open_file_is_changed_by_its_descriptor(root: Process) -> None:
    fd = root.open("/f", os.O_CREAT | os.O_RDONLY)
    root.rename("/f", "/g")
    root.fchown(fd, 11, 22)
    assert owner(root, "/g") == (11, 22)


def test_it_changes_the_ctime_only(root: Process) -> None:
    put(root, "/f")
    root.utime("/f", ns=(3, 5))
    before = root.stat("/f").st_ctime_ns
    root.chown("/f", 11, 22)
    shown = root.stat("/f")
    assert (shown.st_atime_ns, shown.st_mtime_ns, shown.st_ctime_ns > before) == (3, 5, True)


@pytest.mark.parametrize("who", ["alice", "root"])
@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o6755, 0o755), (0o4755, 0o755), (0o2755, 0o755), (0o6711, 0o711), (0o1755, 0o1755)],
)
def test_a_program_loses_its_set_id_bits_whoever_gives_it_away(
    alice: Process, root: Process, who: str, mode: int, expected: int
) -> None:
    put(root, "/f")
    root.chown("/f", ALICE.uid, ALICE.gid)
    root.chmod("/f", mode)
    (alice if who == "alice" else root).chown("/f", -1, 2000)
    shown = root.stat("/f")
    assert (stat.S_IMODE(shown.st_mode), shown.st_gid) == (expected, 2000)


def test_a_directory_keeps_its_set_group_id_bit(root: Process) -> None:
    root.mkdir("/d")
    root.chmod("/d", 0o6755)
    root.chown("/d", 11, 22)
    assert stat.S_IMODE(root.stat("/d").st_mode) == 0o6755


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        ((BOB.uid, -1), errno.EPERM),
        ((0, -1), errno.EPERM),
        ((-1, BOB.gid), errno.EPERM),
        ((-1, 0), errno.EPERM),
        ((BOB.uid, 2000), errno.EPERM),
        ((ALICE.uid, -1), 0),
        ((-1, 2000), 0),
        ((ALICE.uid, 2000), 0),
        ((ALICE.uid, ALICE.gid), 0),
    ],
)
def test_the_owner_may_give_it_to_a_group_of_hers_and_to_nobody_else(
    alice: Process, root: Process, ids: tuple[int, int], code: int
) -> None:
    put(root, "/f")
    root.chown("/f", ALICE.uid, ALICE.gid)
    before = owner(root, "/f")
    assert errno_of(alice.chown, "/f", *ids) == code
    expected = tuple(old if new == -1 else new for old, new in zip(before, ids, strict=True))
    assert owner(root, "/f") == (before if code else expected)


@pytest.mark.parametrize("ids", [(BOB.uid, -1), (-1, BOB.gid), (ALICE.uid, -1), (-1, ALICE.gid)])
def test_who_does_not_own_it_may_not_even_leave_it_as_it_is(
    bob: Process, root: Process, ids: tuple[int, int]
) -> None:
    put(root, "/f", mode=0o666)
    root.chown("/f", ALICE.uid, ALICE.gid)
    assert errno_of(bob.chown, "/f", *ids) == errno.EPERM


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/missing", errno.ENOENT),
        ("/dangling", errno.ENOENT),
        ("/f/", errno.ENOTDIR),
        ("/f/x", errno.ENOTDIR),
        ("/loop", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, path: str, code: int) -> None:
    put(fs, "/f")
    fs.symlink("nothing", "/dangling")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.chown, path, -1, -1) == code


def test_search_permission_is_needed_on_the_way(alice: Process, root: Process) -> None:
    root.mkdir("/d")
    put(root, "/d/f")
    root.chown("/d/f", ALICE.uid, ALICE.gid)
    root.chmod("/d", 0o700)
    assert errno_of(alice.chown, "/d/f", -1, 2000) == errno.EACCES


def test_a_read_only_filesystem_is_not_changed(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.chown, "/file", os.getuid(), os.getgid()) == errno.EROFS
