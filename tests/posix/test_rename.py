"""rename(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

import vsfs
from tests.support.images import ALICE, BOB, errno_of
from tests.support.processes import Process, contents, home_of, put


@pytest.mark.parametrize("target", ["/b", "/d/b"])
def test_a_file_keeps_its_inode_and_changes_its_name(fs: Process, target: str) -> None:
    fs.mkdir("/d")
    put(fs, "/a", b"contents")
    before = fs.stat("/a")
    fs.rename("/a", target)
    after = fs.stat(target)
    assert (after.st_ino, after.st_nlink, after.st_mtime_ns) == (
        before.st_ino,
        1,
        before.st_mtime_ns,
    )
    assert contents(fs, target) == b"contents"
    assert errno_of(fs.stat, "/a") == errno.ENOENT


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_special_files_can_be_moved_and_replaced(fs: Process, kind: int) -> None:
    fs.mknod("/a", kind | 0o600)
    put(fs, "/b")
    fs.rename("/a", "/b")
    assert stat.S_IFMT(fs.stat("/b").st_mode) == kind
    put(fs, "/a")
    fs.rename("/a", "/b")
    assert stat.S_ISREG(fs.stat("/b").st_mode)


def test_the_times_of_both_directories_and_the_ctime_of_the_file_change(fs: Process) -> None:
    fs.mkdir("/a")
    fs.mkdir("/b")
    put(fs, "/a/f")
    for path in ("/a", "/b", "/a/f"):
        fs.utime(path, ns=(1, 1))
    before = fs.stat("/a/f").st_ctime_ns
    fs.rename("/a/f", "/b/f")
    for path in ("/a", "/b"):
        shown = fs.stat(path)
        assert shown.st_mtime_ns == shown.st_ctime_ns > before
    shown = fs.stat("/b/f")
    assert (shown.st_mtime_ns, shown.st_ctime_ns > before) == (1, True)


def test_a_link_is_moved_and_not_what_it_names(fs: Process) -> None:
    put(fs, "/f", b"contents")
    fs.symlink("f", "/link")
    fs.rename("/link", "/moved")
    assert fs.readlink("/moved") == "f"
    fs.symlink("nothing", "/dangling")
    fs.rename("/dangling", "/link")
    assert (fs.readlink("/link"), contents(fs, "/f")) == ("nothing", b"contents")


def test_a_link_at_the_target_is_replaced_and_not_followed(fs: Process) -> None:
    put(fs, "/a", b"a")
    put(fs, "/b", b"b")
    fs.symlink("b", "/link")
    fs.rename("/a", "/link")
    assert (stat.S_ISREG(fs.lstat("/link").st_mode), contents(fs, "/b")) == (True, b"b")


# -- replacing --------------------------------------------------------------------


def test_a_file_replaces_a_file_whose_blocks_are_free_again(fs: Process) -> None:
    put(fs, "/new", b"new")
    free = fs.statvfs("/").f_bfree
    put(fs, "/old", b"x" * 100_000)
    fs.rename("/new", "/old")
    assert (fs.listdir("/"), contents(fs, "/old")) == (["old"], b"new")
    assert fs.statvfs("/").f_bfree == free


def test_a_replaced_file_that_is_open_can_still_be_read(fs: Process) -> None:
    put(fs, "/old", b"old")
    put(fs, "/new", b"new")
    fd = fs.open("/old", os.O_RDONLY)
    fs.rename("/new", "/old")
    assert (fs.read(fd, 9), fs.fstat(fd).st_nlink) == (b"old", 0)
    assert (fs.listdir("/"), contents(fs, "/old")) == (["old"], b"new")


def test_an_open_file_moves_on_under_its_new_name(fs: Process) -> None:
    fs.mkdir("/d")
    fd = fs.open("/a", os.O_CREAT | os.O_RDWR)
    fs.rename("/a", "/d/b")
    fs.write(fd, b"written after the rename")
    assert contents(fs, "/d/b") == b"written after the rename"


def test_a_further_name_of_the_replaced_file_keeps_it(fs: Process) -> None:
    put(fs, "/old", b"old")
    fs.link("/old", "/kept")
    put(fs, "/new", b"new")
    before = fs.stat("/kept").st_ctime_ns
    fs.rename("/new", "/old")
    shown = fs.stat("/kept")
    assert (contents(fs, "/kept"), shown.st_nlink) == (b"old", 1)
    assert shown.st_ctime_ns > before


@pytest.mark.parametrize("directory", ["", "/d"])
def test_between_two_names_of_one_file_nothing_happens(fs: Process, directory: str) -> None:
    fs.mkdir("/d")
    put(fs, "/a", b"contents")
    fs.link("/a", directory + "/b")
    before = fs.stat("/a")
    fs.rename("/a", directory + "/b")
    assert fs.stat("/a").st_nlink == 2
    assert fs.stat(directory + "/b").st_ino == before.st_ino
    fs.rename("/a", "/a")
    assert contents(fs, "/a") == b"contents"


def test_a_directory_replaces_an_empty_directory(fs: Process) -> None:
    fs.mkdir("/a")
    put(fs, "/a/f", b"contents")
    fs.mkdir("/b")
    before = fs.stat("/").st_nlink
    fs.rename("/a", "/b")
    assert (fs.listdir("/"), contents(fs, "/b/f")) == (["b"], b"contents")
    assert fs.stat("/").st_nlink == before - 1


# -- directories ------------------------------------------------------------------


def test_a_directory_that_moves_elsewhere_has_a_new_parent(fs: Process) -> None:
    for path in ("/a", "/b", "/a/d", "/a/d/sub"):
        fs.mkdir(path)
    put(fs, "/a/d/sub/f", b"contents")
    fs.rename("/a/d", "/b/e")
    assert fs.stat("/b/e/..").st_ino == fs.stat("/b").st_ino
    assert contents(fs, "/b/e/sub/f") == b"contents"
    assert contents(fs, "/b/e/sub/../../e/sub/f") == b"contents"
    links = {path: fs.stat(path).st_nlink for path in ("/a", "/b", "/b/e")}
    assert links == {"/a": 2, "/b": 3, "/b/e": 3}


def test_a_directory_that_is_renamed_in_place_counts_as_before(fs: Process) -> None:
    fs.mkdir("/a")
    before = fs.stat("/").st_nlink
    fs.rename("/a", "/b/")
    assert (fs.stat("/").st_nlink, fs.stat("/b").st_nlink) == (before, 2)
    assert fs.stat("/b/..").st_ino == fs.stat("/").st_ino


def test_a_directory_that_replaces_one_elsewhere_keeps_the_link_counts_right(fs: Process) -> None:
    for path in ("/a", "/b", "/a/d", "/b/d"):
        fs.mkdir(path)
    fs.rename("/a/d", "/b/d")
    links = {path: fs.stat(path).st_nlink for path in ("/a", "/b", "/b/d")}
    assert links == {"/a": 2, "/b": 3, "/b/d": 2}
    assert fs.stat("/b/d/..").st_ino == fs.stat("/b").st_ino


def test_a_replaced_directory_is_another_one_afterwards(fs: Process) -> None:
    fs.mkdir("/a")
    fs.mkdir("/b")
    put(fs, "/a/f")
    inode = fs.stat("/a").st_ino
    fs.rename("/a", "/b")
    assert fs.stat("/b").st_ino == inode
    put(fs, "/b/g")
    assert sorted(fs.listdir("/b")) == ["f", "g"]


@pytest.mark.parametrize("target", ["/a/b", "/a/b/c", "/a/sub", "/a/sub/x/y", "/a/sub/."])
def test_a_directory_does_not_move_below_itself(fs: Process, target: str) -> None:
    fs.mkdir("/a")
    fs.mkdir("/a/sub")
    fs.mkdir("/a/sub/x")
    code = errno_of(fs.rename, "/a", target)
    assert code in {"/a/b/c": (errno.ENOENT,), "/a/sub/.": (errno.EINVAL, errno.EBUSY)}.get(
        target, (errno.EINVAL,)
    )
    assert (fs.listdir("/a"), fs.listdir("/a/sub")) == (["sub"], ["x"])


def test_a_directory_does_not_replace_one_above_it(fs: Process) -> None:
    fs.mkdir("/a")
    fs.mkdir("/a/b")
    fs.mkdir("/a/b/c")
    assert errno_of(fs.rename, "/a/b/c", "/a") == errno.ENOTEMPTY
    assert errno_of(fs.rename, "/a/b", "/a") == errno.ENOTEMPTY


# -- errors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("", "/x", errno.ENOENT),
        ("/f", "", errno.ENOENT),
        ("/missing", "/x", errno.ENOENT),
        ("/missing", "/f", errno.ENOENT),
        ("/missing/f", "/x", errno.ENOENT),
        ("/f", "/missing/x", errno.ENOENT),
        ("/f/x", "/x", errno.ENOTDIR),
        ("/f", "/f/x", errno.ENOTDIR),
        ("/f", "/g/x", errno.ENOTDIR),
        ("/f/", "/x", errno.ENOTDIR),
        ("/f", "/x/", errno.ENOTDIR),
        ("/d", "/f", errno.ENOTDIR),
        ("/d", "/link", errno.ENOTDIR),
        ("/d", "/link/", errno.ENOTDIR),
        ("/d", "/fifo", errno.ENOTDIR),
        ("/f", "/d", errno.EISDIR),
        ("/fifo", "/d", errno.EISDIR),
        ("/link", "/d", errno.EISDIR),
        ("/f", "/full", errno.EISDIR),
        ("/d", "/full", errno.ENOTEMPTY),
        ("/d/.", "/x", errno.EBUSY),
        ("/full/sub/..", "/x", errno.EBUSY),
        ("/d", "/full/.", errno.EBUSY),
        ("/loop/x", "/x", errno.ELOOP),
        ("/f", "/loop/x", errno.ELOOP),
        ("/" + "n" * 256, "/x", errno.ENAMETOOLONG),
        ("/f", "/" + "n" * 256, errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", "/x", errno.ENAMETOOLONG),
        ("/f", "./" * 2047 + "xx", errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, old: str, new: str, code: int) -> None:
    put(fs, "/f", b"f")
    put(fs, "/g", b"g")
    fs.mkdir("/d")
    fs.mkdir("/full")
    fs.mkdir("/full/sub")
    fs.mkfifo("/fifo")
    fs.symlink("d", "/link")
    fs.symlink("loop", "/loop")
    before = (sorted(fs.listdir("/")), fs.stat("/").st_mtime_ns)
    assert errno_of(fs.rename, old, new) == code
    assert (sorted(fs.listdir("/")), fs.stat("/").st_mtime_ns) == before
    assert (contents(fs, "/f"), contents(fs, "/g")) == (b"f", b"g")


@pytest.mark.parametrize(("source", "target"), [(0o555, 0o755), (0o755, 0o555), (0o755, 0o666)])
def test_it_needs_write_and_search_permission_on_both_directories(
    alice: Process, root: Process, source: int, target: int
) -> None:
    home_of(root, ALICE, "/a", source)
    home_of(root, ALICE, "/b", target)
    put(root, "/a/f")
    assert errno_of(alice.rename, "/a/f", "/b/f") == errno.EACCES
    assert (root.listdir("/a"), root.listdir("/b")) == (["f"], [])


def test_a_directory_needs_write_permission_itself_only_to_get_another_parent(
    alice: Process, root: Process
) -> None:
    home_of(root, ALICE, "/a")
    home_of(root, ALICE, "/b")
    home_of(root, BOB, "/a/d")
    alice.rename("/a/d", "/a/e")
    assert errno_of(alice.rename, "/a/e", "/b/e") == errno.EACCES
    root.chmod("/a/e", 0o777)
    alice.rename("/a/e", "/b/e")


@pytest.mark.parametrize(
    ("directory", "file", "code"),
    [(BOB, BOB, errno.EPERM), (BOB, ALICE, 0), (ALICE, BOB, 0)],
)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_from_a_sticky_directory_only_owners_move(
    alice: Process,
    root: Process,
    kind: str,
    directory: vsfs.Credentials,
    file: vsfs.Credentials,
    code: int,
) -> None:
    home_of(root, ALICE, "/home")
    home_of(root, directory, "/tmp", 0o1777)
    if kind == "file":
        put(root, "/tmp/x")
        root.chown("/tmp/x", file.uid, file.gid)
    else:
        home_of(root, file, "/tmp/x", 0o777)
    assert errno_of(alice.rename, "/tmp/x", "/tmp/y") == code
    assert errno_of(alice.rename, f"/tmp/{'x' if code else 'y'}", "/home/x") == code


@pytest.mark.parametrize(
    ("directory", "victim", "code"),
    [(BOB, BOB, errno.EPERM), (BOB, ALICE, 0), (ALICE, BOB, 0)],
)
def test_in_a_sticky_directory_only_owners_replace(
    alice: Process,
    root: Process,
    directory: vsfs.Credentials,
    victim: vsfs.Credentials,
    code: int,
) -> None:
    home_of(root, ALICE, "/home")
    home_of(root, directory, "/tmp", 0o1777)
    put(alice, "/home/new", b"new")
    put(root, "/tmp/old", b"old")
    root.chown("/tmp/old", victim.uid, victim.gid)
    assert errno_of(alice.rename, "/home/new", "/tmp/old") == code
    assert contents(root, "/tmp/old") == (b"old" if code else b"new")


@pytest.mark.parametrize(
    ("old", "new"), [("/file", "/x"), ("/directory", "/x"), ("/file", "/link")]
)
def test_nothing_moves_on_a_read_only_filesystem(read_only_fs: Process, old: str, new: str) -> None:
    assert errno_of(read_only_fs.rename, old, new) == errno.EROFS


def test_who_looks_for_a_replaced_name_always_finds_it(fs: Process) -> None:
    """A reader in between sees one file or the other, whole."""
    other = fs.other()
    put(fs, "/f", b"0" * 100)
    for number in range(1, 10):
        put(fs, "/new", b"%d" % number * 100)
        assert contents(other, "/f") == b"%d" % (number - 1) * 100
        fs.rename("/new", "/f")
        assert contents(other, "/f") == b"%d" % number * 100
