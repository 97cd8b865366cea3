"""link(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import LibraryProcess, Process, contents, home_of, put
from vsfs.layout import LINK_MAX


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK])
def test_both_names_are_one_file(fs: Process, kind: int) -> None:
    fs.mknod("/a", kind | 0o644)
    fs.link("/a", "/b")
    a, b = fs.stat("/a"), fs.stat("/b")
    assert a == b
    assert a.st_nlink == 2


def test_what_is_done_through_one_name_is_seen_through_the_other(fs: Process) -> None:
    fs.mkdir("/d")
    put(fs, "/a", b"old")
    fs.link("/a", "/d/b")
    put(fs, "/d/b", b"something new")
    fs.chmod("/d/b", 0o600)
    fs.utime("/d/b", ns=(5, 7))
    assert contents(fs, "/a") == b"something new"
    shown = fs.stat("/a")
    assert (stat.S_IMODE(shown.st_mode), shown.st_mtime_ns, shown.st_size) == (0o600, 7, 13)
    fs.truncate("/a", 3)
    assert contents(fs, "/d/b") == b"som"


def test_it_changes_the_ctime_of_the_file_and_the_times_of_the_directory(fs: Process) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.utime("/f", ns=(1, 1))
    fs.utime("/d", ns=(1, 1))
    before = fs.stat("/d").st_ctime_ns
    fs.link("/f", "/d/g")
    file, directory = fs.stat("/f"), fs.stat("/d")
    assert (file.st_atime_ns, file.st_mtime_ns, file.st_ctime_ns > before) == (1, 1, True)
    assert directory.st_mtime_ns == directory.st_ctime_ns > before


def test_each_name_counts_and_the_last_one_keeps_the_file(fs: Process) -> None:
    put(fs, "/0", b"contents")
    for number in range(1, 30):
        fs.link(f"/{number - 1}", f"/{number}")
    assert fs.stat("/0").st_nlink == 30
    for number in range(29):
        fs.unlink(f"/{number}")
    assert (fs.stat("/29").st_nlink, contents(fs, "/29")) == (1, b"contents")


def test_a_link_itself_gets_the_further_name(fs: Process) -> None:
    put(fs, "/f")
    fs.symlink("f", "/link")
    fs.link("/link", "/other", follow_symlinks=False)
    assert (fs.readlink("/other"), fs.lstat("/link").st_nlink) == ("f", 2)
    assert fs.stat("/f").st_nlink == 1


def test_an_open_file_gets_a_further_name_and_loses_the_first(fs: Process) -> None:
    fd = fs.open("/a", os.O_CREAT | os.O_RDWR)
    fs.link("/a", "/b")
    fs.unlink("/a")
    fs.write(fd, b"contents")
    assert (fs.fstat(fd).st_nlink, contents(fs, "/b")) == (1, b"contents")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("", "/x", errno.ENOENT),
        ("/f", "", errno.ENOENT),
        ("/missing", "/x", errno.ENOENT),
        ("/missing/f", "/x", errno.ENOENT),
        ("/f", "/missing/x", errno.ENOENT),
        ("/f", "/x/", errno.ENOENT),
        ("/f/", "/x", errno.ENOTDIR),
        ("/f/x", "/x", errno.ENOTDIR),
        ("/f", "/f/x", errno.ENOTDIR),
        ("/f", "/f", errno.EEXIST),
        ("/f", "/d", errno.EEXIST),
        ("/f", "/link", errno.EEXIST),
        ("/f", "/dangling", errno.EEXIST),
        ("/d", "/x", errno.EPERM),
        ("/d", "/f", errno.EEXIST),
        ("/loop/x", "/x", errno.ELOOP),
        ("/f", "/loop/x", errno.ELOOP),
        ("/" + "n" * 256, "/x", errno.ENAMETOOLONG),
        ("/f", "/" + "n" * 256, errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", "/x", errno.ENAMETOOLONG),
        ("/f", "./" * 2047 + "xx", errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, old: str, new: str, code: int) -> None:
    put(fs, "/f")
    fs.mkdir("/d")
    fs.symlink("f", "/link")
    fs.symlink("nothing", "/dangling")
    fs.symlink("loop", "/loop")
    before = (sorted(fs.listdir("/")), fs.stat("/f"))
    assert errno_of(fs.link, old, new) == code
    assert (sorted(fs.listdir("/")), fs.stat("/f")) == before


def test_a_file_has_at_most_so_many_names(
    library: LibraryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LINK_MAX == 65_535
    monkeypatch.setattr("vsfs.volume.LINK_MAX", 5)
    put(library, "/0")
    for number in range(1, 5):
        library.link("/0", f"/{number}")
    assert errno_of(library.link, "/0", "/5") == errno.EMLINK
    assert (library.stat("/0").st_nlink, len(library.listdir("/"))) == (5, 5)
    library.unlink("/3")
    library.link("/0", "/5")


@pytest.mark.parametrize("mode", [0o555, 0o666])
def test_it_needs_write_and_search_permission(alice: Process, root: Process, mode: int) -> None:
    home_of(root, ALICE, "/home", mode)
    home_of(root, ALICE, "/from")
    put(alice, "/from/f")
    assert errno_of(alice.link, "/from/f", "/home/g") == errno.EACCES
    root.chmod("/home", 0o300)
    alice.link("/from/f", "/home/g")


def test_search_permission_is_needed_on_the_way_to_the_file(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home")
    home_of(root, ALICE, "/from")
    put(alice, "/from/f")
    root.chmod("/from", 0o600)
    assert errno_of(alice.link, "/from/f", "/home/g") == errno.EACCES


def test_a_read_only_filesystem_gets_none(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.link, "/file", "/x") == errno.EROFS
