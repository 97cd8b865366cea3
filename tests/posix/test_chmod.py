"""chmod(2) and fchmod(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, put


@pytest.mark.parametrize("mode", [0, 0o1, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o7777])
@pytest.mark.parametrize("kind", ["file", "directory", "fifo"])
def test_all_twelve_bits_are_set_and_the_type_stays(root: Process, kind: str, mode: int) -> None:
    if kind == "file":
        put(root, "/x")
    else:
        (root.mkdir if kind == "directory" else root.mkfifo)("/x")
    before = root.stat("/x").st_mode
    root.chmod("/x", mode)
    after = root.stat("/x").st_mode
    assert (stat.S_IFMT(after), stat.S_IMODE(after)) == (stat.S_IFMT(before), mode)


def test_it_changes_the_ctime_only(fs: Process) -> None:
    put(fs, "/f")
    fs.utime("/f", ns=(3, 5))
    before = fs.stat("/f").st_ctime_ns
    fs.chmod("/f", 0o600)
    shown = fs.stat("/f")
    assert (shown.st_atime_ns, shown.st_mtime_ns) == (3, 5)
    assert shown.st_ctime_ns > before


def test_it_follows_links(fs: Process) -> None:
    put(fs, "/f")
    fs.symlink("f", "/link")
    fs.chmod("/link", 0o600)
    assert stat.S_IMODE(fs.stat("/f").st_mode) == 0o600
    assert stat.S_IMODE(fs.lstat("/link").st_mode) == 0o777


def test_an_open_file_is_changed_by_its_descriptor(fs: Process) -> None:
    fd = fs.open("/f", os.O_CREAT | os.O_RDONLY, 0o644)
    fs.rename("/f", "/g")
    fs.fchmod(fd, 0o400)
    assert stat.S_IMODE(fs.stat("/g").st_mode) == 0o400


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
    assert errno_of(fs.chmod, path, 0o600) == code


def test_only_the_owner_and_root_may(alice: Process, bob: Process, root: Process) -> None:
    put(root, "/f", mode=0o666)
    root.chown("/f", ALICE.uid, ALICE.gid)
    before = root.stat("/f")
    assert errno_of(bob.chmod, "/f", 0o777) == errno.EPERM
    assert root.stat("/f") == before
    alice.chmod("/f", 0o400)
    root.chmod("/f", 0o440)
    assert stat.S_IMODE(root.stat("/f").st_mode) == 0o440


def test_search_permission_is_needed_on_the_way(alice: Process, root: Process) -> None:
    root.mkdir("/d")
    put(root, "/d/f")
    root.chown("/d/f", ALICE.uid, ALICE.gid)
    root.chmod("/d", 0o700)
    assert errno_of(alice.chmod, "/d/f", 0o600) == errno.EACCES


@pytest.mark.parametrize(("gid", "expected"), [(555, 0o755), (2000, 0o2755), (1000, 0o2755)])
def test_the_set_group_id_bit_is_only_for_a_group_of_the_owner(
    alice: Process, root: Process, gid: int, expected: int
) -> None:
    put(root, "/f")
    root.chown("/f", ALICE.uid, gid)
    alice.chmod("/f", 0o2755)
    assert stat.S_IMODE(root.stat("/f").st_mode) == expected


def test_a_read_only_filesystem_is_not_changed(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.chmod, "/file", 0o600) == errno.EROFS
