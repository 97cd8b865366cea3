"""open(2) and close(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, contents, home_of, put

CREATE = os.O_CREAT | os.O_WRONLY
READ_WRITE = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR]


def test_o_creat_makes_an_empty_file(fs: Process) -> None:
    fd = fs.open("/f", CREATE, 0o640)
    shown = fs.fstat(fd)
    assert (stat.S_IFMT(shown.st_mode), stat.S_IMODE(shown.st_mode)) == (stat.S_IFREG, 0o640)
    assert (shown.st_size, shown.st_blocks, shown.st_nlink) == (0, 0, 1)


def test_o_creat_leaves_a_file_that_is_there_as_it_is(fs: Process) -> None:
    put(fs, "/f", b"contents", 0o600)
    before = fs.stat("/f")
    fs.close(fs.open("/f", CREATE, 0o777))
    assert contents(fs, "/f") == b"contents"
    after = fs.stat("/f")
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@pytest.mark.parametrize(
    ("mask", "mode", "expected"),
    [
        (0, 0o666, 0o666),
        (0o022, 0o666, 0o644),
        (0o151, 0o777, 0o626),
        (0o777, 0o777, 0),
        (0, 0o4751, 0o4751),
    ],
)
def test_the_umask_is_taken_from_the_mode(fs: Process, mask: int, mode: int, expected: int) -> None:
    fs.umask(mask)
    fs.close(fs.open("/f", CREATE, mode))
    assert stat.S_IMODE(fs.stat("/f").st_mode) == expected


def test_the_mode_is_for_later_opens_only(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home")
    fd = alice.open("/home/f", os.O_CREAT | os.O_RDWR, 0)
    assert alice.write(fd, b"hi") == 2
    assert alice.pread(fd, 9, 0) == b"hi"
    assert errno_of(alice.open, "/home/f", os.O_RDONLY) == errno.EACCES


def test_making_a_file_changes_the_times_of_its_directory(fs: Process) -> None:
    fs.mkdir("/d")
    fs.utime("/d", ns=(1, 1))
    before = fs.stat("/d").st_ctime_ns
    put(fs, "/d/f")
    parent, child = fs.stat("/d"), fs.stat("/d/f")
    assert parent.st_mtime_ns == parent.st_ctime_ns > before
    assert min(child.st_atime_ns, child.st_mtime_ns, child.st_ctime_ns) > before
    put(fs, "/d/f")
    assert fs.stat("/d").st_mtime_ns == parent.st_mtime_ns


def test_the_maker_owns_the_file(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home")
    put(alice, "/home/f")
    shown = root.stat("/home/f")
    assert (shown.st_uid, shown.st_gid) == (ALICE.uid, ALICE.gid)


def test_a_set_group_id_directory_hands_on_its_group(alice: Process, root: Process) -> None:
    root.mkdir("/d")
    root.chown("/d", -1, 555)
    root.chmod("/d", 0o2777)
    put(alice, "/d/f")
    shown = root.stat("/d/f")
    assert (shown.st_uid, shown.st_gid, stat.S_IMODE(shown.st_mode)) == (ALICE.uid, 555, 0o644)


@pytest.mark.parametrize(("gid", "expected"), [(555, 0o755), (2000, 0o2755)])
def test_only_a_member_makes_a_set_group_id_program_for_the_group_of_the_directory(
    alice: Process, root: Process, gid: int, expected: int
) -> None:
    root.mkdir("/d")
    root.chown("/d", -1, gid)
    root.chmod("/d", 0o2777)
    put(alice, "/d/f", mode=0o2755)
    assert stat.S_IMODE(root.stat("/d/f").st_mode) == expected


# -- flags ----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["/f", "/d", "/link", "/dangling", "/fifo"])
def test_o_excl_refuses_whatever_is_there(fs: Process, what: str) -> None:
    put(fs, "/f")
    fs.mkdir("/d")
    fs.mkfifo("/fifo")
    fs.symlink("f", "/link")
    fs.symlink("nothing", "/dangling")
    assert errno_of(fs.open, what, CREATE | os.O_EXCL) == errno.EEXIST
    assert "nothing" not in fs.listdir("/")


def test_of_two_who_make_a_file_with_o_excl_one_succeeds(fs: Process) -> None:
    other = fs.other()
    fs.open("/f", CREATE | os.O_EXCL)
    assert errno_of(other.open, "/f", CREATE | os.O_EXCL) == errno.EEXIST
    fs.unlink("/f")
    other.open("/f", CREATE | os.O_EXCL)


def test_o_creat_through_a_link_makes_what_the_link_names(fs: Process) -> None:
    fs.mkdir("/d")
    fs.symlink("d/new", "/link")
    put(fs, "/link", b"x")
    assert contents(fs, "/d/new") == b"x"
    assert stat.S_ISLNK(fs.lstat("/link").st_mode)


@pytest.mark.parametrize("how", [os.O_WRONLY, os.O_RDWR])
def test_o_trunc_empties_the_file_and_changes_its_times(fs: Process, how: int) -> None:
    put(fs, "/f", b"x" * 10_000)
    fs.utime("/f", ns=(1, 1))
    before = fs.stat("/f").st_ctime_ns
    fs.close(fs.open("/f", how | os.O_TRUNC))
    shown = fs.stat("/f")
    assert (shown.st_size, shown.st_blocks) == (0, 0)
    assert shown.st_mtime_ns == shown.st_ctime_ns > before


def test_after_o_trunc_of_one_process_another_reads_nothing(fs: Process) -> None:
    put(fs, "/f", b"x" * 10_000)
    other = fs.other()
    fd = other.open("/f", os.O_RDONLY)
    assert other.pread(fd, 1, 5000) == b"x"
    fs.close(fs.open("/f", os.O_WRONLY | os.O_TRUNC))
    assert other.pread(fd, 10, 0) == b""
    assert other.fstat(fd).st_size == 0


def test_o_trunc_needs_write_permission(alice: Process, root: Process) -> None:
    put(root, "/f", b"contents", 0o444)
    assert errno_of(alice.open, "/f", os.O_RDONLY | os.O_TRUNC) == errno.EACCES
    assert contents(root, "/f") == b"contents"


@pytest.mark.parametrize("how", READ_WRITE)
def test_o_nofollow_refuses_a_link_only_at_the_end(fs: Process, how: int) -> None:
    fs.mkdir("/d")
    put(fs, "/d/f")
    fs.symlink("d", "/way")
    fs.symlink("f", "/d/link")
    assert errno_of(fs.open, "/d/link", how | os.O_NOFOLLOW) == errno.ELOOP
    fs.close(fs.open("/way/f", how | os.O_NOFOLLOW))


def test_o_directory_refuses_all_else(fs: Process) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.symlink("d", "/link")
    fs.close(fs.open("/d", os.O_RDONLY | os.O_DIRECTORY))
    fs.close(fs.open("/link", os.O_RDONLY | os.O_DIRECTORY))
    assert errno_of(fs.open, "/f", os.O_RDONLY | os.O_DIRECTORY) == errno.ENOTDIR
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    assert errno_of(fs.open, "/link", flags) == errno.ENOTDIR


# -- errors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [
        ("", os.O_RDONLY, errno.ENOENT),
        ("/missing", os.O_RDONLY, errno.ENOENT),
        ("/missing/f", CREATE, errno.ENOENT),
        ("/dangling", os.O_RDONLY, errno.ENOENT),
        ("/f/", os.O_RDONLY, errno.ENOTDIR),
        ("/f/.", os.O_RDONLY, errno.ENOTDIR),
        ("/f/x", CREATE, errno.ENOTDIR),
        ("/new/", CREATE, errno.EISDIR),
        ("/d", os.O_WRONLY, errno.EISDIR),
        ("/d", os.O_RDWR, errno.EISDIR),
        ("/d", CREATE, errno.EISDIR),
        ("/d", os.O_RDONLY | os.O_TRUNC, errno.EISDIR),
        ("/loop", os.O_RDONLY, errno.ELOOP),
        ("/loop", CREATE, errno.ELOOP),
        ("/loop/f", CREATE, errno.ELOOP),
        ("/one", os.O_RDONLY, errno.ELOOP),
        ("/" + "n" * 256, os.O_RDONLY, errno.ENAMETOOLONG),
        ("/" + "n" * 256, CREATE, errno.ENAMETOOLONG),
        ("/" + "n" * 256 + "/f", CREATE, errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", CREATE, errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, path: str, flags: int, code: int) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.symlink("nothing", "/dangling")
    fs.symlink("loop", "/loop")
    fs.symlink("two", "/one")
    fs.symlink("one", "/two")
    before = sorted(fs.listdir("/"))
    assert errno_of(fs.open, path, flags) == code
    assert sorted(fs.listdir("/")) == before


def test_the_longest_path_has_4095_bytes(fs: Process) -> None:
    path = "./" * 2047 + "x"
    put(fs, path, b"here")
    assert (len(path), contents(fs, "/x")) == (4095, b"here")


def test_the_longest_name_has_255_bytes(fs: Process) -> None:
    for name in ("n" * 255, "\u00fc" * 127 + "x"):
        put(fs, "/" + name, b"here")
        assert name in fs.listdir("/")
    assert errno_of(put, fs, "/" + "\u00fc" * 128) == errno.ENAMETOOLONG


def test_a_name_may_have_any_bytes_but_slash_and_nul(fs: Process) -> None:
    names = {bytes([byte]) for byte in range(1, 256)} - {b"/", b"."}
    names |= {b"\xff\xfe\xfd", b" ", b"...", b"\n\t", b"a\\b", b"-rf", "\u540d".encode()}
    for name in names:
        put(fs, b"/" + name, name)
    assert set(fs.listdir(b"/")) == names
    assert all(contents(fs, b"/" + name) == name for name in names)


def test_forty_links_may_be_followed_and_no_more(fs: Process) -> None:
    put(fs, "/0", b"end")
    for number in range(1, 42):
        fs.symlink(str(number - 1), f"/{number}")
    assert contents(fs, "/40") == b"end"
    assert errno_of(fs.open, "/41", os.O_RDONLY) == errno.ELOOP


@pytest.mark.parametrize("flags", [*READ_WRITE, CREATE])
def test_search_permission_is_needed_on_the_way(alice: Process, root: Process, flags: int) -> None:
    root.umask(0)
    home_of(root, ALICE, "/home", 0o600)
    put(root, "/home/f", mode=0o666)
    assert errno_of(alice.open, "/home/f", flags) == errno.EACCES
    root.chmod("/home", 0o300)
    alice.close(alice.open("/home/f", flags))


@pytest.mark.parametrize("mode", range(0o10))
def test_the_permissions_of_its_class_decide_for_a_user(
    alice: Process, bob: Process, root: Process, mode: int
) -> None:
    """The owner's bits for the owner even if others may more; else the group's; else the rest."""
    put(root, "/own", mode=0)
    put(root, "/group", mode=0)
    root.chown("/own", ALICE.uid, 0)
    root.chown("/group", 0, 2000)
    root.chmod("/own", mode << 6 | 0o077 & ~(mode * 0o11))
    root.chmod("/group", 0o700 | mode << 3 | (~mode & 0o7))
    wanted = {os.O_RDONLY: 4, os.O_WRONLY: 2, os.O_RDWR: 6}
    for flags, bits in wanted.items():
        allowed = 0 if mode & bits == bits else errno.EACCES
        assert errno_of(alice.open, "/own", flags) == allowed
        assert errno_of(alice.open, "/group", flags) == allowed
        for_the_rest = 0 if ~mode & bits == bits else errno.EACCES
        assert errno_of(bob.open, "/group", flags) == for_the_rest


def test_making_a_file_needs_write_permission_on_the_directory(
    alice: Process, root: Process
) -> None:
    root.umask(0)
    home_of(root, ALICE, "/home", 0o555)
    put(root, "/home/there", mode=0o666)
    assert errno_of(alice.open, "/home/f", CREATE) == errno.EACCES
    alice.close(alice.open("/home/there", CREATE))


def test_root_may_open_what_nobody_may(root: Process) -> None:
    put(root, "/f", b"secret", 0)
    assert contents(root, "/f") == b"secret"


@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [
        ("/file", os.O_WRONLY, errno.EROFS),
        ("/file", os.O_RDWR, errno.EROFS),
        ("/file", os.O_RDONLY | os.O_TRUNC, errno.EROFS),
        ("/new", CREATE, errno.EROFS),
        ("/file", os.O_CREAT | os.O_RDONLY, 0),
        ("/missing", os.O_RDONLY, errno.ENOENT),
        ("/directory", os.O_WRONLY, errno.EISDIR),
    ],
)
def test_a_read_only_filesystem_is_opened_for_reading_only(
    read_only_fs: Process, path: str, flags: int, code: int
) -> None:
    assert errno_of(read_only_fs.open, path, flags) == code
    assert contents(read_only_fs, "/file") == b"contents"


# -- descriptors ----------------------------------------------------------------


def test_an_open_file_does_not_mind_new_permissions_names_or_owners(
    alice: Process, root: Process
) -> None:
    home_of(root, ALICE, "/home")
    put(alice, "/home/f", b"old")
    fd = alice.open("/home/f", os.O_RDWR)
    root.chmod("/home/f", 0)
    root.chown("/home/f", 0, 0)
    root.rename("/home/f", "/elsewhere")
    root.chmod("/home", 0)
    assert alice.pread(fd, 9, 0) == b"old"
    assert alice.pwrite(fd, b"new", 0) == 3
    assert contents(root, "/elsewhere") == b"new"


def test_a_closed_descriptor_is_bad(fs: Process) -> None:
    fd = fs.open("/f", os.O_CREAT | os.O_RDWR)
    fs.close(fd)
    assert errno_of(fs.close, fd) == errno.EBADF
    assert errno_of(fs.read, fd, 1) == errno.EBADF
    assert errno_of(fs.fstat, fd) == errno.EBADF
