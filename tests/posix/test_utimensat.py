"""utimensat(2) and futimens(3)."""

from __future__ import annotations

import calendar
import errno
import os
import time

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.mounts import ON_MOUNTS
from tests.support.processes import LibraryProcess, Process, home_of, put

BILLION = 10**9
NOW = (0, (1 << 30) - 1)  # UTIME_NOW and UTIME_OMIT of <sys/stat.h>, as nanoseconds
OMIT = (0, (1 << 30) - 2)
TICK = 0.02  # seconds; the kernel's "now" is up to a tick old
TIMES_NS = {
    "1901": calendar.timegm((1901, 12, 13, 20, 45, 51)) * BILLION - 1,
    "just before 1970": -1,
    "before 1970, whole seconds": -BILLION,
    "1970": 0,
    "the last second of 32 bits": (2**31 - 1) * BILLION + 999_999_999,
    "2038": 2**31 * BILLION,
    "2106": 2**32 * BILLION + 1,
    "2262, the end of 64 bits of ns": 2**63,
    "2446": calendar.timegm((2446, 5, 10, 22, 38, 55)) * BILLION + 123_456_789,
    "3000": calendar.timegm((3000, 1, 1, 0, 0, 0)) * BILLION + 7,
    "1600": calendar.timegm((1600, 1, 1, 0, 0, 0)) * BILLION + 999_999_999,
}


def times(fs: Process, path: str) -> tuple[int, int]:
    shown = fs.lstat(path)
    return shown.st_atime_ns, shown.st_mtime_ns


@pytest.mark.parametrize("name", TIMES_NS)
def test_each_nanosecond_is_kept(fs: Process, name: str) -> None:
    time_ns = TIMES_NS[name]
    put(fs, "/f")
    fs.utime("/f", ns=(time_ns, time_ns + 1))
    assert times(fs, "/f") == (time_ns, time_ns + 1)


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "symlink"])
def test_times_of_anything_can_be_set(fs: Process, kind: str) -> None:
    if kind == "file":
        put(fs, "/x")
    elif kind == "symlink":
        fs.symlink("nothing", "/x")
    else:
        (fs.mkdir if kind == "directory" else fs.mkfifo)("/x")
    before = fs.lstat("/x").st_ctime_ns
    fs.utime("/x", ns=(3, 5), follow_symlinks=False)
    assert times(fs, "/x") == (3, 5)
    assert fs.lstat("/x").st_ctime_ns > before


def test_a_link_is_followed_unless_told_otherwise(fs: Process) -> None:
    put(fs, "/f")
    fs.symlink("f", "/link")
    fs.utime("/link", ns=(3, 5))
    fs.utime("/link", ns=(7, 9), follow_symlinks=False)
    assert (times(fs, "/f"), times(fs, "/link")[1]) == ((3, 5), 9)


def test_without_times_both_are_now(fs: Process) -> None:
    put(fs, "/f")
    fs.utime("/f", ns=(3, 5))
    before = fs.stat("/f").st_ctime_ns
    time.sleep(TICK)
    fs.utime("/f")
    shown = fs.stat("/f")
    assert min(shown.st_atime_ns, shown.st_mtime_ns, shown.st_ctime_ns) > before


def test_an_open_file_is_changed_by_its_descriptor(fs: Process) -> None:
    fd = fs.open("/f", os.O_CREAT | os.O_RDONLY)
    fs.rename("/f", "/g")
    fs.utime(fd, ns=(3, 5))
    assert times(fs, "/g") == (3, 5)


def test_one_time_can_be_left_as_it_is(fs: Process) -> None:
    """`os` has no word for it, so this asks the system call, or the volume below."""
    put(fs, "/f")
    fs.utime("/f", ns=(3, 5))
    if isinstance(fs, LibraryProcess):
        ino = fs.stat("/f").st_ino
        fs.fs.volume.setattr(ino, atime_ns=7)
        assert times(fs, "/f") == (7, 5)
        fs.fs.volume.setattr(ino, mtime_ns=9)
    else:
        fs.utimensat("/f", (0, 7), OMIT)
        assert times(fs, "/f") == (7, 5)
        fs.utimensat("/f", OMIT, (0, 9))
    assert times(fs, "/f") == (7, 9)


@pytest.mark.parametrize("on", ON_MOUNTS, indirect=True)
def test_each_time_can_be_now_or_left_as_it_is(fs: Process) -> None:
    put(fs, "/f")
    fs.utime("/f", ns=(3, 5))
    before = fs.stat("/f").st_ctime_ns
    time.sleep(TICK)
    fs.utimensat("/f", NOW, OMIT)
    atime, mtime = times(fs, "/f")
    assert (atime > before, mtime) == (True, 5)
    fs.utimensat("/f", (-2, 7), NOW)
    atime, mtime = times(fs, "/f")
    assert (atime, mtime > before) == (-2 * BILLION + 7, True)
    changed = fs.stat("/f").st_ctime_ns
    fs.utimensat("/f", OMIT, OMIT)
    assert times(fs, "/f") == (atime, mtime)
    assert fs.stat("/f").st_ctime_ns == changed


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
    assert errno_of(fs.utime, path, ns=(0, 0)) == code
    assert errno_of(fs.utime, path) == code


def test_a_writer_may_say_now_and_only_the_owner_any_time(
    alice: Process, bob: Process, root: Process
) -> None:
    put(root, "/f")
    root.chown("/f", ALICE.uid, ALICE.gid)
    root.chmod("/f", 0o466)
    bob.utime("/f")
    assert errno_of(bob.utime, "/f", ns=(3, 5)) == errno.EPERM
    alice.utime("/f", ns=(3, 5))
    assert times(root, "/f") == (3, 5)
    alice.utime("/f")  # may not write to it, but owns it
    root.chmod("/f", 0o644)
    assert errno_of(bob.utime, "/f") == errno.EACCES


def test_search_permission_is_needed_on_the_way(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home")
    put(alice, "/home/f")
    root.chmod("/home", 0o600)
    assert errno_of(alice.utime, "/home/f") == errno.EACCES


def test_a_read_only_filesystem_is_not_changed(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.utime, "/file", ns=(3, 5)) == errno.EROFS
    assert errno_of(read_only_fs.utime, "/file") == errno.EROFS
