"""The commands around a mount: what they promise, and what they say when they cannot."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from vsfs_tools import mount as mount_tool

import vsfs
from vsfs.layout import decode_superblock, encode_superblock
from vsfs.lock import mount_points

Run = Callable[..., subprocess.CompletedProcess[str]]


def mount_line(point: Path) -> list[str]:
    """The fields of /proc/mounts for a mount point."""
    for line in Path("/proc/mounts").read_text().splitlines():
        if line.split()[1] == str(point):
            return line.split()
    return []


def test_mount_lists_it_as_fuse_vsfs_with_the_images_absolute_path(
    new_mount: Any, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    mount = new_mount()
    monkeypatch.chdir(mount.image.parent)
    assert run("mount", mount.image.name, mount.point.name).returncode == 0
    assert mount_line(mount.point)[:3] == [str(mount.image), str(mount.point), "fuse.vsfs"]


def test_a_comma_or_a_blank_in_the_images_name_is_no_option(
    tmp_path: Path, run: Run, new_mount: Any
) -> None:
    mount = new_mount()
    mount.image = mount.image.rename(tmp_path / "my, ro,disk\\1.img")
    mount.mount()
    (mount.point / "written").write_text("so it is not read-only")
    mount.unmount()


def test_the_root_directory_is_inode_2(mounted: Any) -> None:
    assert os.stat(mounted.point).st_ino == 2


def test_statfs_shows_80_inodes_and_56_blocks(mounted: Any) -> None:
    shown = os.statvfs(mounted.point)
    assert (
        shown.f_files,
        shown.f_ffree,
        shown.f_blocks,
        shown.f_bfree,
        shown.f_bsize,
        shown.f_namemax,
    ) == (80, 77, 56, 55, 4096, 255)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "not a VSFS image"),
        (b"x", "not a VSFS image"),
        (b"text, not a filesystem\n" * 1000, "not a VSFS image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(
    content: bytes | None, says: str, new_mount: Any, run: Run
) -> None:
    mount = new_mount()
    mount.image.unlink()
    if content is not None:
        mount.image.write_bytes(content)
    assert_refused(run("mount", mount.image, mount.point), says)


@pytest.mark.parametrize(
    ("offset", "value", "says"),
    [
        (500, b"\xff", "checksum"),  # a damaged superblock
        (12, b"\x01", "checksum"),  # a feature flag without its checksum
        (4, b"\x02", "version 2"),
    ],
)
def test_a_damaged_superblock_is_refused(
    offset: int, value: bytes, says: str, new_mount: Any, run: Run
) -> None:
    mount = new_mount()
    overwrite(mount.image, offset, value)
    assert_refused(run("mount", mount.image, mount.point), says)


def test_an_unknown_feature_is_refused(new_mount: Any, run: Run) -> None:
    mount = new_mount()
    set_feature(mount.image, "feature_incompat")
    assert_refused(run("mount", mount.image, mount.point), "features that this program does not")


def test_an_unknown_read_only_feature_mounts_read_only(new_mount: Any, run: Run) -> None:
    mount = new_mount()
    set_feature(mount.image, "feature_ro_compat")
    result = run("mount", mount.image, mount.point)
    assert result.returncode == 0
    assert "read-only" in result.stderr
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        (mount.point / "new").touch()


def test_an_image_cut_short_is_refused(new_mount: Any, run: Run) -> None:
    mount = new_mount()
    os.truncate(mount.image, 100_000)
    assert_refused(run("mount", mount.image, mount.point), "block_count")


def test_a_missing_mount_point_is_refused(new_mount: Any, run: Run) -> None:
    mount = new_mount()
    assert_refused(run("mount", mount.image, mount.point / "no"), "mkdir")


def test_a_mount_point_that_is_not_empty_is_refused(new_mount: Any, run: Run) -> None:
    mount = new_mount()
    (mount.point / "file").touch()
    assert_refused(run("mount", mount.image, mount.point), "not empty")


def test_a_file_as_mount_point_is_refused(new_mount: Any, run: Run) -> None:
    mount = new_mount()
    assert_refused(run("mount", mount.image, mount.image), "not a directory")


def test_an_unknown_option_is_refused(new_mount: Any, run: Run) -> None:
    mount = new_mount()
    assert_refused(run("mount", "-o", "ro,fast", mount.image, mount.point), "unknown option 'fast'")
    assert_refused(run("mount", "-o", "commit=often", mount.image, mount.point), "commit=5")


def test_a_mounted_image_is_refused_by_a_second_mount_and_by_mkfs(
    mounted: Any, tmp_path: Path, run: Run
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert_refused(run("mount", mounted.image, other), f"is mounted on {mounted.point}")
    assert_refused(run("mkfs", "-F", mounted.image), f"is mounted on {mounted.point}")


def test_read_only_mounts_share_an_image_and_keep_writers_out(
    new_mount: Any, tmp_path: Path, run: Run
) -> None:
    mount = new_mount()
    mount.mount("-o", "ro")
    second = tmp_path / "second"
    second.mkdir()
    assert run("mount", "-o", "ro", mount.image, second).returncode == 0
    try:
        third = tmp_path / "third"
        third.mkdir()
        assert_refused(run("mount", mount.image, third), "is mounted on")
    finally:
        subprocess.run(["umount", second], check=True)


def test_without_the_device_the_sentence_names_it(
    new_mount: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mount = new_mount()
    monkeypatch.setattr(mount_tool, "_FUSE_DEVICE", "/dev/no-such-fuse")
    assert mount_tool.main([str(mount.image), str(mount.point)]) == 1
    assert "/dev/no-such-fuse" in capfd.readouterr().err


@pytest.mark.parametrize("binding", ["fusepy"], indirect=True)
def test_without_libfuse_the_sentence_names_the_package(
    new_mount: Any, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = new_mount()
    monkeypatch.setenv("FUSE_LIBRARY_PATH", str(tmp_path / "no-libfuse.so"))
    assert_refused(run("mount", mount.image, mount.point), "libfuse2")


def test_an_image_that_may_not_be_written_is_mounted_read_only(
    new_mount: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = new_mount()
    real_open = os.open

    def open_read_only(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:  # root may write anything, so pretend
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real_open(path, flags, *rest)

    monkeypatch.setattr(os, "open", open_read_only)
    volume = mount_tool._open_volume(str(mount.image), mount_tool.Options())
    assert volume.read_only
    volume.close()


def test_ro_forbids_changes_and_leaves_every_byte(new_mount: Any) -> None:
    mount = new_mount()
    before = mount.image.read_bytes()
    mount.mount("-o", "ro")
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        (mount.point / "new").touch()
    assert list(mount.point.iterdir()) == []
    mount.unmount()
    assert mount.image.read_bytes() == before


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_and_everything_is_written_back(end: int, mounted: Any) -> None:
    (mounted.point / "file").write_text("kept")
    process = mounted.server()
    os.kill(process, end)
    os.kill(process, end)  # an impatient user presses it twice
    wait_until(lambda: not mounted.is_mounted)
    with vsfs.FileSystem.open(mounted.image) as fs:
        assert fs.listdir("/") == ["file"]
        assert fs.volume.superblock.mount_count == 2


def test_tools_wait_for_the_last_commit_after_umount(mounted: Any, run: Run) -> None:
    for number in range(20):
        (mounted.point / f"file{number}").write_text("x")
        mounted.unmount()
        with vsfs.FileSystem.open(mounted.image, read_only=False) as fs:
            assert f"file{number}" in fs.listdir("/")
        mounted.mount()


def test_fsync_makes_a_file_readable_in_the_image_while_it_is_mounted(mounted: Any) -> None:
    with open(mounted.point / "file", "wb") as file:
        file.write(b"synced")
        file.flush()
        os.fsync(file.fileno())
    with vsfs.FileSystem.open(mounted.image, read_only=True) as fs:
        fd = fs.open("/file", os.O_RDONLY)
        assert fs.read(fd, 100) == b"synced"


def test_changes_reach_the_image_within_the_commit_interval(new_mount: Any) -> None:
    mount = new_mount()
    mount.mount("-o", "commit=0.2")
    (mount.point / "file").touch()
    wait_until(lambda: read_names(mount.image) == ["file"])


def test_with_sync_a_change_is_in_the_image_at_once(new_mount: Any) -> None:
    mount = new_mount()
    mount.mount("-o", "sync,commit=3600")
    (mount.point / "directory").mkdir()
    assert read_names(mount.image) == ["directory"]


@pytest.mark.parametrize(
    ("option", "expected"), [("noatime", 0), ("relatime", 0), ("strictatime", 1)]
)
def test_access_times_follow_the_mount_option(option: str, expected: int, new_mount: Any) -> None:
    mount = new_mount()
    mount.mount("-o", option)
    file = mount.point / "file"
    file.write_text("x")
    now = time.time_ns()
    recently = (now - 10**9, now - 2 * 10**9)  # accessed after it was modified
    os.utime(file, ns=recently)
    changed_before = file.stat().st_ctime_ns
    os.utime(file, ns=(changed_before + 10**9, recently[1]))  # and after it was changed
    before = file.stat().st_atime_ns
    file.read_text()
    assert (file.stat().st_atime_ns != before) == bool(expected)


def test_a_crashed_mount_says_how_to_get_rid_of_it(mounted: Any, run: Run) -> None:
    os.kill(mounted.server(), signal.SIGKILL)
    wait_until(lambda: not os.path.exists(mounted.point / "x") and is_dead(mounted.point))
    assert_refused(run("mount", mounted.image, mounted.point), "fusermount -u")


def test_after_a_crash_the_image_mounts_and_says_so(mounted: Any, run: Run) -> None:
    (mounted.point / "file").write_text("x")
    os.sync()
    os.kill(mounted.server(), signal.SIGKILL)
    subprocess.run(["umount", "-l", mounted.point], check=True)
    result = run("mount", mounted.image, mounted.point)
    assert result.returncode == 0
    assert "not cleanly unmounted" in result.stderr


def test_fusermount_unmounts_as_well(mounted: Any) -> None:
    (mounted.point / "file").touch()
    subprocess.run(["fusermount", "-u", mounted.point], check=True)
    assert read_names(mounted.image) == ["file"]


def test_in_the_foreground_it_says_which_binding_it_uses(new_mount: Any) -> None:
    mount = new_mount()
    process = subprocess.Popen(foreground(mount), stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: mount.is_mounted)
        mount.unmount()
        _, said = process.communicate(timeout=30)
        line = f"mount.vsfs: {mount.image} is mounted on {mount.point} (by {mount.binding})\n"
        assert said == line
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("binding", ["fusepy"], indirect=True)
def test_without_a_word_about_it_llfuse_is_taken_where_it_is_installed(
    new_mount: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llfuse", ModuleType("llfuse"))
    assert mount_tool._check_fuse(None) == "llfuse"
    assert mount_tool._check_fuse("fusepy") == "fusepy"
    monkeypatch.setitem(sys.modules, "llfuse", None)  # as if it were not installed
    assert mount_tool._check_fuse(None) == "fusepy"


@pytest.mark.parametrize("binding", ["fusepy"], indirect=True)
def test_a_binding_that_is_not_there_is_refused_in_one_sentence(
    new_mount: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mount = new_mount()
    monkeypatch.setitem(sys.modules, "llfuse", None)
    for option, says in [("llfuse", "pip install"), ("fuse4", "choose one of fusepy, llfuse")]:
        words = ["-o", f"binding={option}", str(mount.image), str(mount.point)]
        assert mount_tool.main(words) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert says in line


def test_in_the_foreground_it_runs_until_it_is_unmounted(new_mount: Any) -> None:
    mount = new_mount()
    process = subprocess.Popen(foreground(mount), stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: mount.is_mounted)
        assert process.poll() is None
        mount.unmount()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


# -- how the tests above ask ---------------------------------------------------


def foreground(mount: Any) -> list[str]:
    options = ["-f", "-o", f"binding={mount.binding}"]
    return [sys.executable, "-m", "vsfs_tools.mount", *options, str(mount.image), str(mount.point)]


def assert_refused(result: subprocess.CompletedProcess[str], says: str) -> None:
    """Status 1, nothing on stdout, and one sentence on stderr."""
    assert result.returncode == 1
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert says in lines[0]


def overwrite(image: Path, offset: int, content: bytes) -> None:
    with open(image, "r+b") as file:
        file.seek(offset)
        file.write(content)


def set_feature(image: Path, field: str) -> None:
    """Set an unknown feature bit, with the checksum right."""
    superblock = decode_superblock(image.read_bytes()[:512])
    changes: dict[str, Any] = {field: 1 << 31}
    overwrite(image, 0, encode_superblock(superblock._replace(**changes)))


def read_names(image: Path) -> list[str]:
    """What the root directory holds on the disk, whether or not it is mounted."""
    if not mount_points(image):
        vsfs.FileSystem.open(image).unmount()  # waits for a mount that is ending
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        return fs.listdir("/")


def is_dead(point: Path) -> bool:
    try:
        os.listdir(point)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
