"""What README.md's table of limits says is so: no more, and no less."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import errno_of

over_fusepy = pytest.mark.parametrize("binding", ["fusepy"], indirect=True)
over_llfuse = pytest.mark.parametrize("binding", ["llfuse"], indirect=True)

_libc = ctypes.CDLL(None, use_errno=True)
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_RENAME_NOREPLACE, _RENAME_EXCHANGE, _AT_FDCWD = 1, 2, -100


def check(result: int) -> None:
    """Raise what a call of the C library reports."""
    if result != 0:
        raise OSError(ctypes.get_errno(), "")


def fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    check(_libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)))


def renameat2(old: Path, new: Path, flags: int) -> None:
    check(_libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags))


def wait_until(condition: Callable[[], bool]) -> None:
    """The kernel tells what it forgets without waiting for it."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@pytest.fixture
def file(mounted: Any) -> Path:
    path: Path = mounted.point / "file"
    path.write_bytes(b"x" * 8192)
    return path


def test_there_are_no_acls(file: Path) -> None:
    acl = bytes.fromhex("02000000 01000600ffffffff 04000400ffffffff 20000400ffffffff")
    assert errno_of(os.setxattr, file, "system.posix_acl_access", acl) == errno.EOPNOTSUPP


@over_fusepy
def test_only_an_open_file_may_not_get_the_name_that_libfuse_hides_files_under(file: Path) -> None:
    hidden = file.with_name(".fuse_hidden0123456789abcdef")
    file.rename(hidden)
    assert os.listdir(file.parent) == [hidden.name]
    hidden.rename(file)
    with open(file, "rb") as still_open:
        file.rename(hidden)  # this is how libfuse asks for its unlink
        assert os.listdir(file.parent) == []
        assert still_open.read() == b"x" * 8192


@over_llfuse
def test_an_open_file_may_get_any_name(file: Path) -> None:
    hidden = file.with_name(".fuse_hidden0123456789abcdef")
    with open(file, "rb") as still_open:
        file.rename(hidden)
        assert os.listdir(file.parent) == [hidden.name]
        assert os.fstat(still_open.fileno()).st_nlink == 1


@over_llfuse
def test_all_names_of_a_file_show_what_one_changes_while_it_is_open(file: Path) -> None:
    other = file.with_name("second")
    os.link(file, other)
    with (
        open(file, "r+b", buffering=0) as first,
        open(other, "r+b", buffering=0) as second,
        mmap.mmap(first.fileno(), 0) as mapped,
    ):
        assert mapped[:3] == b"xxx"
        second.write(b"two")
        assert mapped[:3] == os.pread(first.fileno(), 3, 0) == b"two"
        mapped[:3] = b"map"
        assert other.read_bytes()[:3] == b"map"
        os.truncate(other, 10_000)
        assert file.stat().st_size == os.fstat(first.fileno()).st_size == 10_000
        other.chmod(0o600)
        assert file.stat().st_mode & 0o777 == 0o600
        other.unlink()
        assert file.stat().st_nlink == os.fstat(second.fileno()).st_nlink == 1


@over_fusepy
def test_a_file_with_two_names_cannot_be_mapped_shared_but_privately(file: Path) -> None:
    os.link(file, file.with_name("second"))
    with open(file, "r+b") as opened:
        for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
            with pytest.raises(OSError, match="No such device"):
                mmap.mmap(opened.fileno(), 0, prot=protection)
        with mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE) as private:
            assert private[:3] == b"xxx"
    file.with_name("second").unlink()
    with open(file, "r+b") as opened, mmap.mmap(opened.fileno(), 0) as shared:
        assert shared[:3] == b"xxx"


def test_mount_shows_relatime_whatever_was_asked_for(new_mount: Callable[..., Any]) -> None:
    mount = new_mount()
    mount.mount("-o", "noatime")
    line = next(x for x in Path("/proc/mounts").read_text().splitlines() if str(mount.point) in x)
    assert "relatime" in line
    (mount.point / "file").write_text("x")
    os.utime(mount.point / "file", (5, 50))
    mount.again("-o", "noatime")  # nothing is cached
    assert (mount.point / "file").read_text() == "x"
    assert (mount.point / "file").stat().st_atime == 5


def test_what_the_kernel_reads_from_its_cache_is_no_access(mounted: Any, file: Path) -> None:
    file.read_bytes()
    os.utime(file, (5, 50))
    file.read_bytes()
    assert file.stat().st_atime == 5
    mounted.again()  # nothing is cached
    file.read_bytes()
    assert file.stat().st_atime > 50


@pytest.mark.parametrize("command", ["sync", "sync -f {point}"])
def test_sync_commits_only_when_it_is_given_a_file_or_directory(
    command: str, new_mount: Callable[..., Any]
) -> None:
    mount = new_mount()
    mount.mount("-o", "commit=1000")
    before = mount.image.read_bytes()
    (mount.point / "directory").mkdir()
    subprocess.run(command.format(point=mount.point), shell=True, check=True)
    assert mount.image.read_bytes() == before
    subprocess.run(["sync", mount.point], check=True)
    assert mount.image.read_bytes() != before


@over_fusepy
def test_a_directory_removed_while_it_was_open_is_gone(mounted: Any) -> None:
    path = mounted.point / "directory"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    path.rmdir()
    assert errno_of(os.fstat, fd) == errno.ENOENT
    assert errno_of(os.listdir, fd) == errno.ENOENT
    assert errno_of(os.fchmod, fd, 0o700) == errno.ENOENT
    os.fsync(fd)
    os.close(fd)


@over_llfuse
def test_a_directory_removed_while_it_was_open_stays_until_it_is_closed(mounted: Any) -> None:
    before = os.statvfs(mounted.point).f_ffree
    path = mounted.point / "directory"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    path.rmdir()
    path.mkdir()
    assert os.fstat(fd).st_nlink == 0
    assert os.fstat(fd).st_ino != path.stat().st_ino
    os.fchmod(fd, 0o700)
    assert os.fstat(fd).st_mode & 0o777 == 0o700
    assert os.listdir(fd) == []
    assert errno_of(os.mkdir, "x", dir_fd=fd) == errno.ENOENT
    os.close(fd)
    path.rmdir()
    wait_until(lambda: os.statvfs(mounted.point).f_ffree == before)


@over_llfuse
def test_what_is_only_referred_to_stays_without_names(mounted: Any, file: Path) -> None:
    """By O_PATH, which is no open to a filesystem, or by being where a process is."""
    before = os.statvfs(mounted.point).f_bfree
    fd = os.open(file, os.O_PATH)
    file.unlink()
    file.with_name("other").write_bytes(b"y" * 8192)
    os.sync()
    assert os.fstat(fd).st_nlink == 0
    assert Path(f"/proc/self/fd/{fd}").read_bytes() == b"x" * 8192
    os.close(fd)
    wait_until(lambda: os.statvfs(mounted.point).f_bfree == before)
    inside = subprocess.run(
        ["sh", "-c", "mkdir d; cd d; rmdir ../d; stat -c %h ."],
        cwd=mounted.point,
        capture_output=True,
        text=True,
        check=True,
    )
    assert inside.stdout == "0\n"


def test_holes_are_kept_but_cannot_be_looked_for(mounted: Any) -> None:
    path = mounted.point / "sparse"
    with open(path, "wb") as made:
        made.truncate(100_000)
        made.seek(50_000)
        made.write(b"x")
    assert path.stat().st_blocks == 16  # the block with the x, and the indirect one
    fd = os.open(path, os.O_RDONLY)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 100_000
    os.close(fd)


def test_there_is_no_fallocate_but_posix_fallocate(file: Path) -> None:
    fd = os.open(file, os.O_RDWR)
    assert errno_of(fallocate, fd, 0, 0, 20_000) == errno.EOPNOTSUPP
    punch = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    assert errno_of(fallocate, fd, punch, 0, 4096) == errno.EOPNOTSUPP
    os.posix_fallocate(fd, 0, 20_000)
    assert os.fstat(fd).st_blocks == 5 * 8
    os.close(fd)


def test_renameat2_has_no_flags_but_mv_n_works(file: Path) -> None:
    other = file.with_name("other")
    for flag in (_RENAME_NOREPLACE, _RENAME_EXCHANGE):
        other.unlink(missing_ok=True)
        assert errno_of(renameat2, file, other, flag) in (errno.EINVAL, errno.ENOENT)
    other.write_text("kept")
    subprocess.run(["mv", "-n", file, other], check=False)
    assert other.read_text() == "kept"


def test_there_are_no_files_without_a_name_from_the_start(mounted: Any) -> None:
    assert errno_of(os.open, mounted.point, os.O_TMPFILE | os.O_RDWR) == errno.EOPNOTSUPP


def test_stat_shows_no_time_of_birth(file: Path) -> None:
    shown = subprocess.run(["stat", "-c", "%w", file], capture_output=True, text=True, check=True)
    assert shown.stdout == "-\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try it as another user")
def test_only_who_mounted_it_may_enter_and_devices_are_off_by_default(
    new_mount: Callable[..., Any], tmp_path: Path
) -> None:
    for above in (tmp_path, *tmp_path.parents[:-1]):
        above.chmod(above.stat().st_mode | 0o111)

    def attempt(path: Path) -> int:
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", str(path)]
        return subprocess.run(as_nobody, capture_output=True, check=False).returncode

    mount = new_mount()
    mount.mount()
    subprocess.run(["mknod", mount.point / "null", "c", "1", "3"], check=True)
    assert attempt(mount.point) == 2
    assert errno_of(os.open, mount.point / "null", os.O_RDONLY) == errno.EACCES
    mount.again("-o", "allow_other,dev,suid")
    assert attempt(mount.point) == 0
    assert errno_of(os.open, mount.point / "null", os.O_RDONLY) == 0


def test_root_without_its_right_to_pass_is_checked_only_where_that_is_asked_for(
    new_mount: Callable[..., Any],
) -> None:
    mount = new_mount()
    mount.mount()
    secret = mount.point / "secret"
    secret.write_text("x")
    secret.chmod(0)

    def status() -> int:
        without = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        return subprocess.run(
            [*without, "cat", secret], capture_output=True, check=False
        ).returncode

    assert status() == 0
    mount.again("-o", "default_permissions")
    assert status() == 1


def test_a_read_with_o_noatime_is_no_access(mounted: Any) -> None:
    path = mounted.point / "file"
    path.write_text("x")
    os.utime(path, (5, 50))
    mounted.again()  # nothing is cached
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    os.read(fd, 10)
    os.close(fd)
    assert path.stat().st_atime == 5
