"""The path walk and permissions: who gets where, and who may change what."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vsfs
from tests.support.images import ALICE, BOB, ROOT, as_user, errno_of
from vsfs.inode import Inode
from vsfs.layout import ROOT_INO, InodeRecord
from vsfs.walk import Credentials, Walker

CAROL = Credentials(1002, 2000)  # in a group of Alice's


def make(fs: vsfs.FileSystem, path: str, mode: int = 0o644, content: bytes = b"") -> None:
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
    fs.write(fd, content)
    fs.close(fd)
    fs.chmod(path, mode)


def can(fs: vsfs.FileSystem, path: str, flags: int) -> bool:
    """Whether the user may open it so."""
    failed = errno_of(lambda: fs.close(fs.open(path, flags)))
    assert failed in (0, errno.EACCES)
    return not failed


# -- Credentials ------------------------------------------------------------------


def inode_of(mode: int, uid: int = 1000, gid: int = 2000) -> Inode:
    no_pointers = (0,) * 15
    record = InodeRecord(mode, 1, uid, gid, 0, 0, 0, 0, 0, 0, 0, 0, 0, no_pointers, 0, bytes(108))
    return Inode(9, record)


@pytest.mark.parametrize("wanted", range(8))
@pytest.mark.parametrize(
    ("user", "shift"),
    [
        (Credentials(1000, 5), 6),
        (Credentials(7, 2000), 3),
        (Credentials(7, 5, frozenset({2000})), 3),
        (Credentials(7, 5), 0),
        (Credentials(1000, 2000), 6),
    ],
)
def test_the_first_class_that_a_user_is_in_decides(
    user: Credentials, shift: int, wanted: int
) -> None:
    for granted in range(8):
        allowed = not wanted & ~granted
        assert user.may(inode_of(stat.S_IFREG | granted << shift), wanted) == allowed
        others = 0o777 & ~(7 << shift)  # what other classes may is of no use
        assert user.may(inode_of(stat.S_IFREG | others), wanted) == (wanted == 0)


def test_root_may_do_all_but_run_what_nobody_may() -> None:
    nothing = inode_of(stat.S_IFREG)
    assert ROOT.may(nothing, os.R_OK | os.W_OK)
    assert not ROOT.may(nothing, os.X_OK)
    assert ROOT.may(inode_of(stat.S_IFREG | 0o001), os.X_OK)
    assert ROOT.may(inode_of(stat.S_IFDIR), os.R_OK | os.W_OK | os.X_OK)


def test_the_credentials_of_the_process_are_its_effective_ones() -> None:
    user = Credentials.of_process()
    assert (user.uid, user.gid) == (os.geteuid(), os.getegid())
    assert user.groups == set(os.getgroups())


def test_a_filesystem_acts_as_this_process_unless_told_otherwise(fs: vsfs.FileSystem) -> None:
    assert vsfs.FileSystem(fs.volume).credentials == Credentials.of_process()


# -- resolving --------------------------------------------------------------------


@pytest.fixture
def tree(fs: vsfs.FileSystem) -> vsfs.FileSystem:
    """/d/sub/f, and links: /to-d -> d, /to-f -> /d/sub/f, /nowhere -> d/missing"""
    fs.makedirs("/d/sub")
    make(fs, "/d/sub/f", content=b"content")
    fs.symlink("d", "/to-d")
    fs.symlink("/d/sub/f", "/to-f")
    fs.symlink("d/missing", "/nowhere")
    return fs


@pytest.mark.parametrize(
    "path",
    [
        "/d/sub/f",
        "d/sub/f",
        "//d///sub/f",
        "/./d/./sub/./f",
        "/d/sub/../sub/f",
        "/../../d/sub/f",
        "/to-d/sub/f",
        "/to-d/../to-d/sub/f",
        "/to-f",
        b"/d/sub/f",
        Path("/d/sub/f"),
    ],
)
def test_all_ways_lead_to_the_same_file(tree: vsfs.FileSystem, path: Any) -> None:
    assert tree.stat(path).st_ino == tree.stat("/d/sub/f").st_ino


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/missing", errno.ENOENT),
        ("/missing/f", errno.ENOENT),
        ("/d/missing/..", errno.ENOENT),
        ("/nowhere", errno.ENOENT),
        ("/d/sub/f/", errno.ENOTDIR),
        ("/d/sub/f/x", errno.ENOTDIR),
        ("/d/sub/f/..", errno.ENOTDIR),
        ("/d/sub/f/.", errno.ENOTDIR),
        ("/to-f/", errno.ENOTDIR),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("/" + "n" * 256 + "/x", errno.ENAMETOOLONG),
        ("/d" * 2048, errno.ENAMETOOLONG),
        ("/" + "n" * 255, errno.ENOENT),
        ("./" * 2047 + "d", 0),
    ],
)
def test_a_path_that_leads_nowhere_says_why(tree: vsfs.FileSystem, path: str, code: int) -> None:
    assert errno_of(tree.stat, path) == code


def test_the_error_names_the_path_as_it_was_given(tree: vsfs.FileSystem) -> None:
    for path in ("/no/such", b"/no/such", "/" + "n" * 256):
        with pytest.raises(OSError, match=r"No such|too long") as raised:
            tree.stat(path)
        assert raised.value.filename == path


def test_a_path_with_a_nul_is_a_mistake_as_in_os(tree: vsfs.FileSystem) -> None:
    for call in (tree.stat, tree.mkdir, tree.unlink, lambda path: tree.symlink(path, "/new")):
        with pytest.raises(ValueError, match="null byte"):
            call("/d\0")


def test_a_path_that_is_none_is_a_mistake_as_in_os(tree: vsfs.FileSystem) -> None:
    with pytest.raises(TypeError):
        tree.stat(None)  # type: ignore[arg-type]


def test_lstat_looks_at_the_link_and_before_a_slash_behind_it(tree: vsfs.FileSystem) -> None:
    assert stat.S_ISLNK(tree.lstat("/to-d").st_mode)
    assert stat.S_ISDIR(tree.lstat("/to-d/").st_mode)
    assert stat.S_ISDIR(tree.lstat("/to-d/.").st_mode)
    assert stat.S_ISDIR(tree.stat("/to-d").st_mode)


def test_forty_links_may_be_followed_and_no_more(fs: vsfs.FileSystem) -> None:
    make(fs, "/link0")
    for number in range(1, 42):
        fs.symlink(f"link{number - 1}", f"/link{number}")
    assert fs.stat("/link40").st_ino == fs.stat("/link0").st_ino
    assert errno_of(fs.stat, "/link41") == errno.ELOOP
    assert fs.lstat("/link41").st_size == len("link40")


@pytest.mark.parametrize("target", ["self", "./self", "/self", "self/x"])
def test_a_link_to_itself_is_a_loop(fs: vsfs.FileSystem, target: str) -> None:
    fs.symlink(target, "/self")
    for call in (fs.stat, fs.listdir, fs.chdir, lambda path: fs.open(path, os.O_CREAT)):
        assert errno_of(call, "/self") == errno.ELOOP
    assert errno_of(fs.stat, "/self/x") == errno.ELOOP
    assert fs.readlink("/self") == target


def test_a_relative_link_starts_where_it_stands(fs: vsfs.FileSystem) -> None:
    fs.makedirs("/a/b")
    make(fs, "/a/f")
    fs.symlink("../f", "/a/b/up")
    fs.chdir("/a")
    assert fs.stat("b/up").st_ino == fs.stat("f").st_ino


def test_a_link_that_ends_in_a_slash_wants_a_directory(tree: vsfs.FileSystem) -> None:
    tree.symlink("d/sub/f/", "/bad")
    tree.symlink("d/", "/good")
    assert errno_of(tree.stat, "/bad") == errno.ENOTDIR
    assert stat.S_ISDIR(tree.stat("/good").st_mode)


def test_place_tells_where_a_missing_name_would_be(tree: vsfs.FileSystem) -> None:
    walker = Walker(tree.volume, ROOT)
    place = walker.place("/d/sub/new/")
    assert (place.inode, place.name, place.wants_directory) == (None, b"new", True)
    assert place.parent.ino == tree.stat("/d/sub").st_ino
    place = walker.place("/nowhere")
    assert (place.inode, place.name, place.parent.ino) == (
        None,
        b"missing",
        tree.stat("/d").st_ino,
    )
    assert walker.place("/").parent.ino == ROOT_INO


# -- permissions ------------------------------------------------------------------


def test_search_permission_is_needed_on_every_directory_of_the_way(
    alice_fs: vsfs.FileSystem,
) -> None:
    alice_fs.makedirs("/a/b/c")
    bob = as_user(alice_fs, BOB)
    for path in ("/a", "/a/b"):
        alice_fs.chmod(path, 0o766)
        assert errno_of(bob.stat, "/a/b/c") == errno.EACCES
        assert alice_fs.stat("/a/b/c")
        alice_fs.chmod(path, 0o711)
        assert bob.stat("/a/b/c")
        assert errno_of(bob.listdir, path) == errno.EACCES


def test_search_permission_is_needed_where_a_link_leads(alice_fs: vsfs.FileSystem) -> None:
    alice_fs.mkdir("/secret", 0o700)
    make(alice_fs, "/secret/f")
    alice_fs.symlink("secret/f", "/link")
    bob = as_user(alice_fs, BOB)
    assert errno_of(bob.stat, "/link") == errno.EACCES
    assert bob.readlink("/link") == "secret/f"


@pytest.mark.parametrize(
    ("user", "reads", "writes"),
    [(ALICE, True, False), (CAROL, False, True), (BOB, False, False), (ROOT, True, True)],
)
def test_opening_asks_the_permissions_of_the_user(
    alice_fs: vsfs.FileSystem, user: Credentials, reads: bool, writes: bool
) -> None:
    make(alice_fs, "/f")
    alice_fs.chown("/f", -1, 2000)
    alice_fs.chmod("/f", 0o420)
    fs = as_user(alice_fs, user)
    assert can(fs, "/f", os.O_RDONLY) == reads
    assert can(fs, "/f", os.O_WRONLY) == writes
    assert can(fs, "/f", os.O_RDWR) == (reads and writes)
    assert can(fs, "/f", os.O_RDONLY | os.O_TRUNC) == (reads and writes)
    assert (errno_of(fs.truncate, "/f", 0) == 0) == writes
    assert fs.access("/f", os.R_OK) == reads
    assert fs.access("/f", os.W_OK) == writes
    assert fs.access("/f", os.F_OK)


def test_an_open_file_stays_usable_when_its_permissions_go(alice_fs: vsfs.FileSystem) -> None:
    fd = alice_fs.open("/f", os.O_CREAT | os.O_RDWR, 0o000)
    assert alice_fs.write(fd, b"mine") == 4
    assert alice_fs.pread(fd, 4, 0) == b"mine"
    assert errno_of(alice_fs.open, "/f", os.O_RDONLY) == errno.EACCES
    alice_fs.close(fd)


CHANGES: dict[str, Callable[[vsfs.FileSystem], object]] = {
    "create": lambda fs: fs.open("/d/new", os.O_CREAT),
    "mkdir": lambda fs: fs.mkdir("/d/new"),
    "mkfifo": lambda fs: fs.mkfifo("/d/new"),
    "symlink": lambda fs: fs.symlink("x", "/d/new"),
    "link": lambda fs: fs.link("/d/f", "/d/new"),
    "unlink": lambda fs: fs.unlink("/d/f"),
    "rmdir": lambda fs: fs.rmdir("/d/sub"),
    "rename": lambda fs: fs.rename("/d/f", "/d/new"),
    "rename out": lambda fs: fs.rename("/d/f", "/bobs/f"),
    "rename in": lambda fs: fs.rename("/bobs/own", "/d/new"),
}


@pytest.mark.parametrize("mode", [0o755, 0o722, 0o733])
@pytest.mark.parametrize("name", CHANGES)
def test_changing_names_needs_write_and_search_permission(
    alice_fs: vsfs.FileSystem, name: str, mode: int
) -> None:
    alice_fs.makedirs("/d/sub")
    make(alice_fs, "/d/f")
    bob = as_user(alice_fs, BOB)
    bob.mkdir("/bobs")
    make(bob, "/bobs/own")
    alice_fs.chmod("/d", mode)
    assert (errno_of(CHANGES[name], bob) == 0) == (mode == 0o733)


@pytest.mark.parametrize("user", [ALICE, BOB, CAROL, ROOT])
@pytest.mark.parametrize("name", ["unlink", "rmdir", "rename", "rename over"])
def test_in_a_sticky_directory_only_owners_remove_names(
    alice_fs: vsfs.FileSystem, user: Credentials, name: str
) -> None:
    """The owner of the file, the owner of the directory, and root."""
    alice_fs.mkdir("/d")
    alice_fs.chmod("/d", 0o1777)
    bob, fs = as_user(alice_fs, BOB), as_user(alice_fs, user)
    make(bob, "/d/f")
    bob.mkdir("/d/sub")
    make(fs, "/d/own")
    call: Callable[[], object] = {
        "unlink": lambda: fs.unlink("/d/f"),
        "rmdir": lambda: fs.rmdir("/d/sub"),
        "rename": lambda: fs.rename("/d/f", "/d/g"),
        "rename over": lambda: fs.rename("/d/own", "/d/f"),
    }[name]
    assert errno_of(call) == (errno.EPERM if user is CAROL else 0)


def test_moving_a_directory_elsewhere_changes_it_and_needs_write_permission(
    alice_fs: vsfs.FileSystem,
) -> None:
    alice_fs.makedirs("/d/sub")
    alice_fs.chmod("/d/sub", 0o555)
    assert errno_of(alice_fs.rename, "/d/sub", "/sub") == errno.EACCES
    alice_fs.rename("/d/sub", "/d/other")  # its `..` stays
    alice_fs.chmod("/d/other", 0o755)
    alice_fs.rename("/d/other", "/sub")


def test_only_the_owner_changes_mode_and_times(alice_fs: vsfs.FileSystem) -> None:
    make(alice_fs, "/f", 0o622)
    bob = as_user(alice_fs, BOB)
    assert errno_of(bob.chmod, "/f", 0o777) == errno.EPERM
    assert errno_of(bob.utime, "/f", ns=(1, 1)) == errno.EPERM
    bob.utime("/f")  # to now: who may write may do that
    alice_fs.chmod("/f", 0o644)
    assert errno_of(bob.utime, "/f") == errno.EACCES
    alice_fs.utime("/f", ns=(1, 1))


def test_only_root_gives_files_away(alice_fs: vsfs.FileSystem) -> None:
    make(alice_fs, "/f")
    assert errno_of(alice_fs.chown, "/f", BOB.uid, -1) == errno.EPERM
    assert errno_of(alice_fs.chown, "/f", -1, 3000) == errno.EPERM
    alice_fs.chown("/f", ALICE.uid, 2000)  # to a group of hers
    bob = as_user(alice_fs, BOB)
    assert errno_of(bob.chown, "/f", -1, BOB.gid) == errno.EPERM
    bob.chown("/f", -1, -1)  # changes nothing
    as_user(alice_fs, ROOT).chown("/f", BOB.uid, 3000)
    assert (alice_fs.stat("/f").st_uid, alice_fs.stat("/f").st_gid) == (BOB.uid, 3000)


def test_only_root_makes_devices(alice_fs: vsfs.FileSystem) -> None:
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        assert errno_of(alice_fs.mknod, "/dev", kind | 0o600, 5) == errno.EPERM
    as_user(alice_fs, ROOT).mknod("/dev", stat.S_IFCHR | 0o600, 5)
    assert alice_fs.stat("/dev").st_rdev == 5


SET_ID = 0o6755


@pytest.mark.parametrize(
    "change",
    [
        lambda fs: fs.write(fs.open("/f", os.O_WRONLY), b"x"),
        lambda fs: fs.write(fs.open("/f", os.O_WRONLY | os.O_APPEND), b"x"),
        lambda fs: fs.pwrite(fs.open("/f", os.O_WRONLY), b"x", 0),
        lambda fs: fs.pwrite(fs.open("/f", os.O_WRONLY | os.O_APPEND), b"x", 0),
        lambda fs: fs.truncate("/f", 1),
        lambda fs: fs.ftruncate(fs.open("/f", os.O_WRONLY), 1),
        lambda fs: fs.open("/f", os.O_WRONLY | os.O_TRUNC),
        lambda fs: fs.chown("/f", -1, ALICE.gid),
    ],
    ids=["write", "append", "pwrite", "pappend", "truncate", "ftruncate", "O_TRUNC", "chown"],
)
def test_who_changes_a_file_takes_its_set_id_bits_away(
    alice_fs: vsfs.FileSystem, change: Callable[[vsfs.FileSystem], object]
) -> None:
    make(alice_fs, "/f", SET_ID, b"abc")
    change(alice_fs)
    assert stat.S_IMODE(alice_fs.stat("/f").st_mode) == 0o755


def test_reading_writing_nothing_and_root_leave_the_set_id_bits(alice_fs: vsfs.FileSystem) -> None:
    make(alice_fs, "/f", SET_ID, b"abc")
    fd = alice_fs.open("/f", os.O_RDWR)
    alice_fs.read(fd, 10)
    alice_fs.write(fd, b"")
    root = as_user(alice_fs, ROOT)
    root.write(root.open("/f", os.O_WRONLY), b"x")
    assert stat.S_IMODE(alice_fs.stat("/f").st_mode) == SET_ID


def test_set_group_id_without_the_execute_bit_stays_for_members(alice_fs: vsfs.FileSystem) -> None:
    make(alice_fs, "/f", 0o2644, b"abc")
    alice_fs.truncate("/f", 1)
    assert stat.S_IMODE(alice_fs.stat("/f").st_mode) == 0o2644


def test_a_user_cannot_set_the_set_group_id_bit_for_a_strange_group(
    alice_fs: vsfs.FileSystem,
) -> None:
    make(alice_fs, "/f")
    as_user(alice_fs, ROOT).chown("/f", -1, 3000)
    alice_fs.chmod("/f", 0o2755)
    assert stat.S_IMODE(alice_fs.stat("/f").st_mode) == 0o755
