"""The system calls: names, arguments, results and errors are those of ``os``."""

from __future__ import annotations

import errno
import inspect
import math
import os
import random
import stat
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import vsfs
from tests.support.images import ALICE, ROOT, Clock, as_user, blank, errno_of, image_of, sound
from tests.support.rawwalk import walk

MakeFs = Callable[..., vsfs.FileSystem]
CREATE = os.O_CREAT | os.O_RDWR


def put(fs: vsfs.FileSystem, path: str, content: bytes = b"") -> None:
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    assert fs.write(fd, content) == len(content)
    fs.close(fd)


def get(fs: vsfs.FileSystem, path: str) -> bytes:
    fd = fs.open(path, os.O_RDONLY)
    content = fs.read(fd, 1 << 20)
    fs.close(fd)
    return content


def permissions(fs: vsfs.FileSystem, path: str) -> int:
    return stat.S_IMODE(fs.lstat(path).st_mode)


# -- opening ----------------------------------------------------------------------


def test_the_first_use_in_the_documentation_works(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    vsfs.format_image(image)
    with vsfs.FileSystem.open(image) as fs:
        fs.mkdir("/foo")
        fd = fs.open("/foo/bar", os.O_CREAT | os.O_RDWR)
        fs.write(fd, b"hi")
        fs.close(fd)
    assert walk(image.read_bytes()).findings == []
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        assert get(fs, "/foo/bar") == b"hi"


def test_a_filesystem_that_cannot_be_opened_lets_go_of_the_image(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    for _ in range(2):
        with pytest.raises(vsfs.NotVsfs):
            vsfs.FileSystem.open(image)
    with pytest.raises(FileNotFoundError):
        vsfs.FileSystem.open(tmp_path / "missing")


def test_a_new_file_needs_o_creat(fs: vsfs.FileSystem) -> None:
    assert errno_of(fs.open, "/f", os.O_RDWR) == errno.ENOENT
    fd = fs.open("/f", CREATE)
    assert fs.fstat(fd).st_size == 0
    assert fs.listdir("/") == ["f"]


def test_o_excl_refuses_what_is_there_even_a_link_to_nothing(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    fs.mkdir("/d")
    fs.symlink("missing", "/link")
    for path in ("/f", "/d", "/link", "/.", "/d/.."):
        assert errno_of(fs.open, path, CREATE | os.O_EXCL) == errno.EEXIST, path
    fs.open("/new", CREATE | os.O_EXCL)


def test_o_creat_makes_what_a_link_names(fs: vsfs.FileSystem) -> None:
    fs.mkdir("/d")
    fs.symlink("d/target", "/link")
    fs.write(fs.open("/link", CREATE), b"through")
    assert get(fs, "/d/target") == b"through"


@pytest.mark.parametrize("path", ["/new/", "/f/", "/d/", "/d", "/.", "/d/.", "/d/.."])
def test_o_creat_does_not_open_directories(fs: vsfs.FileSystem, path: str) -> None:
    put(fs, "/f")
    fs.mkdir("/d")
    assert errno_of(fs.open, path, CREATE) == errno.EISDIR


def test_o_trunc_empties_a_file_that_is_opened_for_reading_too(fs: vsfs.FileSystem) -> None:
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        put(fs, "/f", b"content")
        fs.close(fs.open("/f", flags | os.O_TRUNC))
        assert fs.stat("/f").st_size == 0


def test_o_append_writes_at_the_end_wherever_the_offset_is(fs: vsfs.FileSystem) -> None:
    put(fs, "/f", b"one")
    appending = fs.open("/f", os.O_RDWR | os.O_APPEND)
    assert fs.lseek(appending, 0, os.SEEK_CUR) == 0
    fs.write(appending, b"two")
    assert fs.lseek(appending, 0, os.SEEK_CUR) == 6
    put_at_end = fs.open("/f", os.O_WRONLY | os.O_APPEND)
    fs.write(put_at_end, b"three")
    fs.lseek(appending, 1, os.SEEK_SET)
    fs.write(appending, b"four")
    assert fs.pwrite(appending, b"five", 0) == 4
    assert get(fs, "/f") == b"onetwothreefourfive"
    assert fs.lseek(appending, 0, os.SEEK_CUR) == 15


def test_o_nofollow_refuses_a_link(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    fs.symlink("f", "/link")
    assert errno_of(fs.open, "/link", os.O_NOFOLLOW) == errno.ELOOP
    assert errno_of(fs.open, "/link", os.O_NOFOLLOW | os.O_DIRECTORY) == errno.ENOTDIR
    fs.open("/f", os.O_NOFOLLOW)


def test_o_directory_refuses_all_else(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    assert errno_of(fs.open, "/f", os.O_DIRECTORY) == errno.ENOTDIR
    fs.open("/", os.O_DIRECTORY)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_TRUNC])
def test_a_directory_is_not_opened_for_writing(fs: vsfs.FileSystem, flags: int) -> None:
    assert errno_of(fs.open, "/", flags) == errno.EISDIR


def test_special_files_are_the_business_of_the_kernel(fs: vsfs.FileSystem) -> None:
    fs.mkfifo("/fifo")
    assert errno_of(fs.open, "/fifo", os.O_RDONLY) == errno.ENXIO
    assert stat.S_ISFIFO(fs.stat("/fifo").st_mode)


def test_the_lowest_free_descriptor_is_given_out(fs: vsfs.FileSystem) -> None:
    assert [fs.open("/f", CREATE) for _ in range(4)] == [3, 4, 5, 6]
    fs.close(5)
    fs.close(3)
    assert [fs.open("/f", CREATE) for _ in range(3)] == [3, 5, 7]


def test_a_descriptor_that_is_not_open_is_bad(fs: vsfs.FileSystem) -> None:
    fd = fs.open("/f", CREATE)
    fs.close(fd)
    calls: list[Callable[[], object]] = [
        lambda: fs.close(fd),
        lambda: fs.read(fd, 1),
        lambda: fs.pread(fd, 1, 0),
        lambda: fs.write(fd, b"x"),
        lambda: fs.pwrite(fd, b"x", 0),
        lambda: fs.lseek(fd, 0, os.SEEK_SET),
        lambda: fs.fstat(fd),
        lambda: fs.ftruncate(fd, 0),
        lambda: fs.fsync(fd),
        lambda: fs.chmod(fd, 0o644),
        lambda: fs.utime(fd),
    ]
    assert [errno_of(call) for call in calls] == [errno.EBADF] * len(calls)


def test_a_descriptor_does_only_what_it_was_opened_for(fs: vsfs.FileSystem) -> None:
    reading, writing = fs.open("/f", os.O_CREAT | os.O_RDONLY), fs.open("/f", os.O_WRONLY)
    assert errno_of(fs.write, reading, b"x") == errno.EBADF
    assert errno_of(fs.pwrite, reading, b"x", 0) == errno.EBADF
    assert errno_of(fs.ftruncate, reading, 0) == errno.EINVAL
    assert errno_of(fs.read, writing, 1) == errno.EBADF
    assert errno_of(fs.pread, writing, 1, 0) == errno.EBADF


# -- reading and writing ------------------------------------------------------------


def test_the_offset_moves_with_reads_and_writes_but_not_with_pread(fs: vsfs.FileSystem) -> None:
    fd = fs.open("/f", CREATE)
    fs.write(fd, b"0123456789")
    assert fs.lseek(fd, 2, os.SEEK_SET) == 2
    assert fs.read(fd, 3) == b"234"
    assert fs.pread(fd, 3, 7) == b"789"
    assert fs.pwrite(fd, b"X", 0) == 1
    assert fs.lseek(fd, 0, os.SEEK_CUR) == 5
    assert fs.lseek(fd, -1, os.SEEK_END) == 9
    assert fs.read(fd, 10) == b"9"
    assert fs.read(fd, 10) == b""
    assert fs.pread(fd, 1, 0) == b"X"


def test_two_descriptors_of_a_file_have_an_offset_each(fs: vsfs.FileSystem) -> None:
    first, second = fs.open("/f", CREATE), fs.open("/f", CREATE)
    fs.write(first, b"abc")
    assert fs.read(second, 2) == b"ab"
    assert fs.read(second, 2) == b"c"


def test_numbers_that_cannot_be_are_refused(fs: vsfs.FileSystem) -> None:
    fd = fs.open("/f", CREATE)
    calls: list[Callable[[], object]] = [
        lambda: fs.read(fd, -1),
        lambda: fs.pread(fd, -1, 0),
        lambda: fs.pread(fd, 1, -1),
        lambda: fs.pwrite(fd, b"x", -1),
        lambda: fs.lseek(fd, -1, os.SEEK_SET),
        lambda: fs.lseek(fd, -1, os.SEEK_END),
        lambda: fs.lseek(fd, 0, 99),
        lambda: fs.ftruncate(fd, -1),
        lambda: fs.truncate("/f", -1),
        lambda: fs.truncate("/missing", -1),
    ]
    assert [errno_of(call) for call in calls] == [errno.EINVAL] * len(calls)


def test_a_file_grows_and_shrinks_by_truncate(fs: vsfs.FileSystem) -> None:
    put(fs, "/f", b"content")
    fs.truncate("/f", 3)
    assert get(fs, "/f") == b"con"
    fd = fs.open("/f", os.O_RDWR)
    fs.ftruncate(fd, 6)
    fs.truncate(fd, 5)
    assert get(fs, "/f") == b"con\0\0"
    assert errno_of(fs.truncate, "/", 0) == errno.EISDIR
    fs.mkfifo("/fifo")
    assert errno_of(fs.truncate, "/fifo", 0) == errno.EINVAL


def test_any_bytes_like_object_can_be_written(fs: vsfs.FileSystem) -> None:
    fd = fs.open("/f", CREATE)
    for content in (b"ab", bytearray(b"cd"), memoryview(b"xefx")[1:3]):
        assert fs.write(fd, content) == 2
    assert get(fs, "/f") == b"abcdef"


def test_reading_a_directory_is_refused(fs: vsfs.FileSystem) -> None:
    fd = fs.open("/", os.O_RDONLY)
    assert errno_of(fs.read, fd, 1) == errno.EISDIR
    fs.fsync(fd)


def test_an_unlinked_file_stays_until_its_last_descriptor_is_closed(fs: vsfs.FileSystem) -> None:
    free = sound(fs).free_blocks
    first, second = fs.open("/f", CREATE), fs.open("/f", os.O_RDWR)
    fs.write(first, b"x" * 10_000)
    fs.unlink("/f")
    assert fs.fstat(second).st_nlink == 0
    assert sound(fs).orphans == {fs.fstat(first).st_ino}
    fs.close(first)
    put(fs, "/f", b"another")
    assert fs.read(second, 20_000) == b"x" * 10_000
    fs.ftruncate(second, 20_000)
    fs.close(second)
    fs.unlink("/f")
    assert sound(fs).free_blocks == free
    assert sound(fs).orphans == set()


def test_a_removed_directory_stays_until_it_is_closed(fs: vsfs.FileSystem) -> None:
    fs.mkdir("/d")
    fd = fs.open("/d", os.O_RDONLY)
    fs.rmdir("/d")
    assert fs.fstat(fd).st_nlink == 0
    assert len(sound(fs).orphans) == 1
    fs.close(fd)
    assert sound(fs).orphans == set()


# -- looking ------------------------------------------------------------------------


def test_stat_tells_what_os_would(make_fs: MakeFs) -> None:
    clock = Clock()
    fs = make_fs(block_size=1024, clock=clock)
    fs.chmod("/", 0o777)
    fs = as_user(fs, ALICE)
    before = clock.now_ns
    put(fs, "/f", b"x" * 3000)
    fs.link("/f", "/g")
    status = fs.stat("/f")
    assert isinstance(status, os.stat_result)
    assert status.st_mode == stat.S_IFREG | 0o755
    assert (status.st_ino, status.st_dev, status.st_nlink) == (3, 0, 2)
    assert (status.st_uid, status.st_gid, status.st_size) == (1000, 1000, 3000)
    assert (status.st_blksize, status.st_blocks, status.st_rdev) == (1024, 6, 0)
    assert before < status.st_atime_ns < status.st_mtime_ns < status.st_ctime_ns <= clock.now_ns
    assert status.st_mtime == pytest.approx(status.st_mtime_ns / 1e9)
    assert status[stat.ST_MTIME] == status.st_mtime_ns // 10**9
    assert fs.stat(fs.open("/f", os.O_RDONLY)) == status
    assert fs.stat("/").st_nlink == 2


def test_times_before_1970_and_far_away_survive(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    for ns in (-1, -(10**18) - 7, 0, 10**18 + 1, 2**63 - 1, 2**63, 2**66):
        fs.utime("/f", ns=(ns, -ns))
        fs.sync()
        status = fs.stat("/f")
        assert (status.st_atime_ns, status.st_mtime_ns) == (ns, -ns)
        found = walk(image_of(fs), mounted=True)
        assert found.inodes[found.paths[b"/f"]].mtime_ns == -ns


def test_times_in_float_seconds_are_rounded_as_os_does(fs: vsfs.FileSystem, tmp_path: Path) -> None:
    put(fs, "/f")
    host = tmp_path / "f"
    host.touch()
    source = random.Random(1)
    for _ in range(200):
        times = (source.uniform(0, 4e9), source.uniform(0, 100))
        os.utime(host, times)
        fs.utime("/f", times)
        assert fs.stat("/f").st_atime_ns == math.floor(Fraction(times[0]) * 10**9)
        assert fs.stat("/f").st_mtime_ns == host.stat().st_mtime_ns


def test_utime_without_times_means_now(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    fs.utime("/f", ns=(1, 2))
    fs.utime("/f")
    status = fs.stat("/f")
    assert status.st_atime_ns == status.st_mtime_ns > 10**18
    with pytest.raises(ValueError, match="not both"):
        fs.utime("/f", (1, 1), ns=(1, 1))


def test_utime_of_a_link_itself(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    fs.symlink("f", "/link")
    fs.utime("/link", ns=(1, 2), follow_symlinks=False)
    assert fs.lstat("/link").st_mtime_ns == 2
    assert fs.stat("/link").st_mtime_ns > 2


CHANGING: dict[str, tuple[Callable[[vsfs.FileSystem], object], str, str]] = {
    # call, whose mtime and ctime it changes, whose ctime only
    "write": (lambda fs: put(fs, "/d/f", b"new"), "/d/f", ""),
    "truncate": (lambda fs: fs.truncate("/d/f", 1), "/d/f", ""),
    "chmod": (lambda fs: fs.chmod("/d/f", 0o600), "", "/d/f"),
    "chown": (lambda fs: fs.chown("/d/f", 1, 1), "", "/d/f"),
    "utime": (lambda fs: fs.utime("/d/f", ns=(1, 2 * 10**18)), "/d/f", ""),
    "link": (lambda fs: fs.link("/d/f", "/d/g"), "/d", "/d/f"),
    "create": (lambda fs: put(fs, "/d/g"), "/d", ""),
    "mkdir": (lambda fs: fs.mkdir("/d/g"), "/d", ""),
    "symlink": (lambda fs: fs.symlink("f", "/d/g"), "/d", ""),
    "unlink": (lambda fs: fs.unlink("/d/other"), "/d", "/d/f"),
    "rmdir": (lambda fs: fs.rmdir("/d/sub"), "/d", ""),
    "rename": (lambda fs: fs.rename("/d/other", "/d/new"), "/d", "/d/f"),
}


@pytest.mark.parametrize("name", CHANGING)
def test_each_call_sets_the_times_that_posix_says(fs: vsfs.FileSystem, name: str) -> None:
    call, modified, changed = CHANGING[name]
    fs.makedirs("/d/sub")
    put(fs, "/d/f", b"old")
    fs.link("/d/f", "/d/other")
    before = {path: fs.stat(path) for path in ("/d", "/d/f")}
    call(fs)
    for path, old in before.items():
        new = fs.stat(path)
        assert (new.st_mtime_ns > old.st_mtime_ns) == (path == modified), path
        assert (new.st_ctime_ns > old.st_ctime_ns) == (path in (modified, changed)), path


def test_listdir_leaves_out_the_dots_and_speaks_the_language_of_its_path(
    fs: vsfs.FileSystem,
) -> None:
    fs.mkdir(b"/\xff\xfe")
    fs.mkdir("/ü")
    assert set(fs.listdir(b"/")) == {b"\xff\xfe", "ü".encode()}
    assert set(fs.listdir("/")) == {"\udcff\udcfe", "ü"}
    assert set(fs.listdir()) == set(fs.listdir("/"))
    assert fs.stat("/\udcff\udcfe").st_ino == fs.stat(b"/\xff\xfe").st_ino
    put(fs, "/f")
    assert errno_of(fs.listdir, "/f") == errno.ENOTDIR
    assert errno_of(fs.listdir, "/missing") == errno.ENOENT


@pytest.fixture
def host_and_fs(fs: vsfs.FileSystem, tmp_path: Path) -> tuple[str, vsfs.FileSystem]:
    """The same entries in a directory of the host and in /d."""
    fs.mkdir("/d")
    both: list[tuple[str, Any]] = [(str(tmp_path), os), ("/d", fs)]
    for directory, system in both:
        system.mkdir(directory + "/dir")
        flags = os.O_CREAT | os.O_WRONLY
        system.close(system.open(directory + "/file", flags))
        for target in ("dir", "file", "missing", "loop"):
            name = directory + "/to-" + target if target != "loop" else directory + "/loop"
            system.symlink(target, name)
        system.mkfifo(directory + "/fifo")
    return str(tmp_path), fs


def kinds(entry: Any) -> tuple[object, ...]:
    results: list[object] = [entry.name, entry.is_symlink()]
    for follow in (True, False):
        for question in (entry.is_dir, entry.is_file):
            try:
                results.append(question(follow_symlinks=follow))
            except OSError as error:
                results.append(error.errno)
        try:
            results.append(stat.S_IFMT(entry.stat(follow_symlinks=follow).st_mode))
        except OSError as error:
            results.append(error.errno)
    return tuple(results)


def test_scandir_answers_as_that_of_os(host_and_fs: tuple[str, vsfs.FileSystem]) -> None:
    host, fs = host_and_fs
    with os.scandir(host) as theirs, fs.scandir("/d") as ours:
        assert sorted(map(kinds, ours)) == sorted(map(kinds, theirs))


def test_an_entry_knows_its_path_and_inode(fs: vsfs.FileSystem) -> None:
    fs.mkdir("/d")
    put(fs, "/d/f")
    (entry,) = fs.scandir("/d")
    assert (entry.name, entry.path, os.fspath(entry)) == ("f", "/d/f", "/d/f")
    assert repr(entry) == "<DirEntry 'f'>"
    assert entry.inode() == fs.stat("/d/f").st_ino
    assert get(fs, entry.path) == b""
    (raw,) = fs.scandir(b"/d")
    assert (raw.name, raw.path) == (b"f", b"/d/f")
    fs.chdir("/d")
    assert [entry.path for entry in fs.scandir()] == ["./f"]


def test_readlink_gives_the_target_unchanged(fs: vsfs.FileSystem) -> None:
    for number, target in enumerate(["x", "n" * 107, "n" * 108, "n" * 109, "../" * 1365, "/a//b/"]):
        fs.symlink(target, f"/{number}")
        assert fs.readlink(f"/{number}") == target
        assert fs.readlink(b"/%d" % number) == target.encode()
        assert fs.lstat(f"/{number}").st_size == len(target)
    assert errno_of(fs.readlink, "/") == errno.EINVAL
    assert errno_of(fs.symlink, "n" * 4096, "/long") == errno.ENAMETOOLONG
    assert errno_of(fs.symlink, "", "/empty") == errno.ENOENT


def test_short_targets_take_no_block(fs: vsfs.FileSystem) -> None:
    for length, blocks in ((108, 0), (109, 8)):
        fs.symlink("n" * length, f"/{length}")
        assert fs.lstat(f"/{length}").st_blocks == blocks


def test_statvfs_counts_blocks_and_inodes(fs: vsfs.FileSystem) -> None:
    before = fs.statvfs()
    assert (before.f_bsize, before.f_blocks, before.f_files) == (4096, 56, 80)
    assert (before.f_bfree, before.f_ffree, before.f_namemax) == (55, 77, 255)
    assert not before.f_flag & os.ST_RDONLY
    put(fs, "/f", b"x" * 5000)
    after = fs.statvfs("/f")
    assert (after.f_bfree, after.f_bavail, after.f_ffree) == (53, 53, 76)
    with vsfs.FileSystem.open(blank(), read_only=True) as read_only:
        assert read_only.statvfs().f_flag & os.ST_RDONLY
        assert not read_only.access("/", os.W_OK)


def test_access_and_exists_give_no_errors(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    fs.symlink("missing", "/link")
    assert fs.access("/f", os.R_OK | os.W_OK)
    assert not fs.access("/missing", os.F_OK)
    assert not fs.access("/f/x", os.F_OK)
    assert fs.exists("/f")
    assert not fs.exists("/link")
    assert fs.access("/link", os.F_OK, follow_symlinks=False)


# -- current directory and umask ------------------------------------------------------


def test_relative_paths_start_at_the_current_directory(fs: vsfs.FileSystem) -> None:
    fs.makedirs("/a/b")
    assert fs.getcwd() == "/"
    fs.chdir("a")
    put(fs, "f", b"here")
    fs.chdir("b")
    assert (fs.getcwd(), get(fs, "../f")) == ("/a/b", b"here")
    fs.rename("/a", "/moved")
    assert fs.getcwd() == "/moved/b"
    fs.chdir("..")
    assert fs.listdir() == ["b", "f"]
    put(fs, "/file")
    assert errno_of(fs.chdir, "/file") == errno.ENOTDIR
    assert errno_of(fs.chdir, "/missing") == errno.ENOENT
    assert fs.getcwd() == "/moved"


def test_a_removed_current_directory_is_empty_and_nobody_else_gets_its_inode(
    fs: vsfs.FileSystem,
) -> None:
    fs.mkdir("/gone")
    ino = fs.stat("/gone").st_ino
    fs.chdir("/gone")
    fs.rmdir("/gone")
    fs.sync()
    fs.mkdir("/new")
    assert fs.stat("/new").st_ino != ino
    assert fs.listdir(".") == []
    assert errno_of(fs.mkdir, "sub") == errno.ENOENT
    assert errno_of(fs.stat, "..") == errno.ENOENT
    assert errno_of(fs.getcwd) == errno.ENOENT
    fs.chdir("/new")
    fs.sync()
    fs.mkdir("/again")
    assert fs.stat("/again").st_ino == ino


def test_each_filesystem_object_has_a_current_directory_of_its_own(fs: vsfs.FileSystem) -> None:
    fs.mkdir("/d")
    other = as_user(fs, ROOT)
    other.chdir("/d")
    assert (fs.getcwd(), other.getcwd()) == ("/", "/d")


def test_the_umask_takes_permissions_from_all_that_is_made(fs: vsfs.FileSystem) -> None:
    assert fs.umask(0o027) == 0o022
    fs.open("/f", os.O_CREAT, 0o666)
    fs.mkdir("/d", 0o777)
    fs.mkfifo("/fifo", 0o666)
    fs.mknod("/node", 0o777)
    fs.symlink("x", "/link")
    paths = ["/f", "/d", "/fifo", "/node", "/link"]
    assert [permissions(fs, path) for path in paths] == [0o640, 0o750, 0o640, 0o750, 0o777]
    assert fs.umask(0o7777) == 0o027
    assert fs.umask(0) == 0o777


# -- names --------------------------------------------------------------------------


def test_mkdir_counts_links_and_takes_a_slash(fs: vsfs.FileSystem) -> None:
    fs.mkdir("/a/", 0o7777)
    assert permissions(fs, "/a") == 0o1755  # no set-id bits, as on Linux
    fs.mkdir("/a/b")
    assert [fs.stat(path).st_nlink for path in ("/", "/a", "/a/b")] == [3, 3, 2]
    for path in ("/a", "/a/", "/", "/a/.", "/a/b/.."):
        assert errno_of(fs.mkdir, path) == errno.EEXIST
    fs.symlink("missing", "/link")
    assert errno_of(fs.mkdir, "/link/") == errno.EEXIST
    assert errno_of(fs.mkdir, "/no/such") == errno.ENOENT


def test_makedirs_makes_what_is_missing(fs: vsfs.FileSystem) -> None:
    fs.makedirs("/a/b/c")
    fs.makedirs("a/b/d/")
    fs.makedirs("/a/b/c", exist_ok=True)
    assert errno_of(fs.makedirs, "/a/b/c") == errno.EEXIST
    put(fs, "/a/f")
    assert errno_of(fs.makedirs, "/a/f", exist_ok=True) == errno.EEXIST
    assert errno_of(fs.makedirs, "/a/f/x", exist_ok=True) == errno.ENOTDIR


def test_link_gives_a_file_one_more_name(fs: vsfs.FileSystem) -> None:
    put(fs, "/f", b"content")
    fs.mkdir("/d")
    fs.link("/f", "/d/g")
    assert fs.stat("/d/g").st_ino == fs.stat("/f").st_ino
    assert fs.stat("/f").st_nlink == 2
    fs.unlink("/f")
    assert (get(fs, "/d/g"), fs.stat("/d/g").st_nlink) == (b"content", 1)
    assert errno_of(fs.link, "/d", "/e") == errno.EPERM
    assert errno_of(fs.link, "/d/g", "/d") == errno.EEXIST
    assert errno_of(fs.link, "/d/g", "/new/") == errno.ENOENT
    assert errno_of(fs.link, "/missing", "/d") == errno.ENOENT


def test_link_of_a_symbolic_link_links_it_unless_it_is_followed(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    fs.symlink("f", "/s")
    fs.link("/s", "/same")
    fs.link("/s", "/followed", follow_symlinks=True)
    assert fs.readlink("/same") == "f"
    assert fs.lstat("/followed").st_ino == fs.stat("/f").st_ino


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/missing", errno.ENOENT),
        ("/d", errno.EISDIR),
        ("/", errno.EISDIR),
        ("/d/..", errno.EISDIR),
        ("/f/", errno.ENOTDIR),
        ("/to-d/", errno.ENOTDIR),
        ("/to-f/", errno.ENOTDIR),
        ("/f/x", errno.ENOTDIR),
    ],
)
def test_unlink_removes_files_only(fs: vsfs.FileSystem, path: str, code: int) -> None:
    fs.mkdir("/d")
    put(fs, "/f")
    fs.symlink("d", "/to-d")
    fs.symlink("f", "/to-f")
    assert errno_of(fs.unlink, path) == code
    fs.remove("/to-d")
    assert sorted(fs.listdir("/")) == ["d", "f", "to-f"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/missing", errno.ENOENT),
        ("/f", errno.ENOTDIR),
        ("/full", errno.ENOTEMPTY),
        ("/", errno.EBUSY),
        ("/d/.", errno.EINVAL),
        ("/full/sub/..", errno.ENOTEMPTY),
        ("/to-d", errno.ENOTDIR),
        ("/to-d/", errno.ENOTDIR),
    ],
)
def test_rmdir_removes_empty_directories_only(fs: vsfs.FileSystem, path: str, code: int) -> None:
    fs.mkdir("/d")
    fs.makedirs("/full/sub")
    put(fs, "/f")
    fs.symlink("d", "/to-d")
    assert errno_of(fs.rmdir, path) == code
    fs.rmdir("/d/")
    fs.rmdir("/full/sub")
    assert (fs.stat("/full").st_nlink, fs.stat("/").st_nlink) == (2, 3)


# -- rename -------------------------------------------------------------------------


@pytest.fixture
def tree(fs: vsfs.FileSystem) -> vsfs.FileSystem:
    """/f /g /a/b/c /full/x /empty /to-a -> a"""
    put(fs, "/f", b"f")
    put(fs, "/g", b"g")
    for path in ("/a/b/c", "/full/x", "/empty"):
        fs.makedirs(path)
    fs.symlink("a", "/to-a")
    return fs


def test_rename_moves_a_file_and_replaces_another(tree: vsfs.FileSystem) -> None:
    ino = tree.stat("/f").st_ino
    tree.rename("/f", "/g")
    assert (tree.stat("/g").st_ino, get(tree, "/g")) == (ino, b"f")
    tree.replace("/g", "/a/b/moved")
    assert not tree.exists("/g")
    assert tree.stat("/a/b/moved").st_ino == ino


def test_rename_moves_a_directory_with_all_below_it(tree: vsfs.FileSystem) -> None:
    tree.rename("/a/b", "/full/b/")
    assert tree.listdir("/full/b") == ["c"]
    assert tree.stat("/full/b/..").st_ino == tree.stat("/full").st_ino
    assert (tree.stat("/a").st_nlink, tree.stat("/full").st_nlink) == (2, 4)


def test_rename_over_an_empty_directory_replaces_it(tree: vsfs.FileSystem) -> None:
    ino = tree.stat("/a").st_ino
    nlink = tree.stat("/").st_nlink
    tree.rename("/a", "/empty")
    assert tree.stat("/empty").st_ino == ino
    assert tree.stat("/").st_nlink == nlink - 1


def test_rename_between_two_names_of_a_file_changes_nothing(tree: vsfs.FileSystem) -> None:
    tree.link("/f", "/same")
    tree.rename("/f", "/same")
    assert get(tree, "/f") == get(tree, "/same") == b"f"
    tree.rename("/f", "/f")
    tree.rename("/a", "/a")
    assert tree.stat("/f").st_nlink == 2


def test_rename_moves_a_link_and_not_what_it_names(tree: vsfs.FileSystem) -> None:
    tree.rename("/to-a", "/moved")
    assert tree.readlink("/moved") == "a"
    tree.rename("/f", "/moved")
    assert get(tree, "/moved") == b"f"
    assert tree.listdir("/a") == ["b"]


@pytest.mark.parametrize(
    ("src", "dst", "code"),
    [
        ("/missing", "/new", errno.ENOENT),
        ("/f", "/no/such", errno.ENOENT),
        ("/f", "/g/x", errno.ENOTDIR),
        ("/f", "/empty", errno.EISDIR),
        ("/a", "/f", errno.ENOTDIR),
        ("/a", "/full", errno.ENOTEMPTY),
        ("/a", "/a/x", errno.EINVAL),
        ("/a", "/a/b/c/x", errno.EINVAL),
        ("/a/b/c", "/a", errno.ENOTEMPTY),
        ("/f", "/new/", errno.ENOTDIR),
        ("/f/", "/new", errno.ENOTDIR),
        ("/to-a/", "/new", errno.ENOTDIR),
        ("/f", "/g/", errno.ENOTDIR),
        ("/a/.", "/new", errno.EBUSY),
        ("/a", "/empty/.", errno.EBUSY),
        ("/missing", "/a/..", errno.EBUSY),
        ("/", "/new", errno.EBUSY),
        ("/f", "/" + "n" * 256, errno.ENAMETOOLONG),
    ],
)
def test_rename_refuses_what_cannot_be(
    tree: vsfs.FileSystem, src: str, dst: str, code: int
) -> None:
    before = sorted(tree.listdir("/"))
    assert errno_of(tree.rename, src, dst) == code
    assert sorted(tree.listdir("/")) == before


# -- attributes ---------------------------------------------------------------------


def test_chmod_changes_permissions_and_nothing_else(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    fd = fs.open("/f", os.O_RDONLY)
    for mode in (0o0, 0o7777, 0o644):
        fs.chmod("/f", mode)
        assert fs.stat("/f").st_mode == stat.S_IFREG | mode
    fs.chmod(fd, stat.S_IFDIR | 0o600)
    assert fs.stat("/f").st_mode == stat.S_IFREG | 0o600
    fs.symlink("f", "/link")
    fs.chmod("/link", 0o640)
    assert permissions(fs, "/f") == 0o640
    assert errno_of(fs.chmod, "/link", 0o1, follow_symlinks=False) == errno.EOPNOTSUPP


def test_chown_follows_links_and_lchown_does_not(fs: vsfs.FileSystem) -> None:
    put(fs, "/f")
    fs.symlink("f", "/link")
    fs.chown("/link", 5, 6)
    fs.lchown("/link", 7, -1)
    fs.chown(fs.open("/f", os.O_RDONLY), -1, 8)
    owners = [(fs.lstat(path).st_uid, fs.lstat(path).st_gid) for path in ("/f", "/link")]
    assert owners == [(5, 8), (7, 0)]


def test_everything_is_there_again_after_a_remount(any_fs: vsfs.FileSystem) -> None:
    fs = any_fs
    fs.makedirs("/a/b")
    put(fs, "/a/f", b"content" * 1000)
    fs.symlink("f", "/a/link")
    fs.mkfifo("/a/fifo")
    fs.utime("/a/f", ns=(5, 6))
    before = {path: fs.lstat(path) for path in ("/", "/a", "/a/b", "/a/f", "/a/link", "/a/fifo")}
    fs.unmount()
    device = blank()
    device.image[:] = image_of(fs)
    with vsfs.FileSystem.open(device, read_only=True) as again:
        assert {path: again.lstat(path) for path in before} == before
        assert get(again, "/a/f") == b"content" * 1000


CALLS = (
    "access chdir chown close fdatasync fstat fsync ftruncate getcwd lchown link listdir "
    "lseek lstat makedirs mkdir mkfifo mknod open pread pwrite read readlink remove rename replace "
    "rmdir scandir stat statvfs symlink sync truncate umask unlink write"
)  # utime, and chmod of Python 3.13, have no signature that Python could tell


@pytest.mark.parametrize("call", CALLS.split())
def test_a_call_takes_the_arguments_of_the_one_in_os(call: str) -> None:
    """By name where os takes them by name; dir_fd and the like are left out."""
    ours = [*inspect.signature(getattr(vsfs.FileSystem, call)).parameters.values()]
    if call == "open":
        ours = [*inspect.signature(vsfs.FileSystem.open_file).parameters.values()]
    theirs = [*inspect.signature(getattr(os, call)).parameters.values()]
    wanted = [
        parameter.name if parameter.kind != inspect.Parameter.POSITIONAL_ONLY else None
        for parameter in theirs
        if not parameter.name.endswith(("dir_fd", "effective_ids"))
    ]
    found = [
        parameter.name if parameter.kind != inspect.Parameter.POSITIONAL_ONLY else None
        for parameter in ours[1:]
    ]
    assert found == wanted
