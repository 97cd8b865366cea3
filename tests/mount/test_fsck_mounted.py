"""fsck.vsfs and a real mount: who may do what, and what a mount repairs by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.damage import Image
from tests.support.rawwalk import walk

Run = Callable[..., subprocess.CompletedProcess[str]]


def crash(mount: Any) -> None:
    """Commit, then end the mount's process as a power failure does."""
    folder = os.open(mount.point, os.O_RDONLY)
    os.fsync(folder)  # sync(2) does not reach FUSE
    os.close(folder)
    os.kill(mount.server(), signal.SIGKILL)
    subprocess.run(["umount", "-l", mount.point], check=True)


def change(image: Path, change_it: Callable[[Image], None]) -> None:
    broken = Image(image.read_bytes())
    change_it(broken)
    image.write_bytes(broken.data)


@pytest.mark.parametrize("mode", ["-p", "-y"])
def test_a_mounted_image_is_not_repaired(mounted: Any, run: Run, mode: str) -> None:
    result = run("fsck", mode, mounted.image)
    assert (result.returncode, result.stdout) == (8, "")
    assert result.stderr == (
        f"fsck.vsfs: {mounted.image} is mounted on {mounted.point}; unmount it first\n"
    )


def test_a_mounted_image_can_be_checked(mounted: Any, run: Run) -> None:
    (mounted.point / "file").write_bytes(bytes(100_000))
    with open(mounted.point / "gone", "wb") as file:
        file.write(bytes(10_000))
        file.flush()
        (mounted.point / "gone").unlink()  # open, and without a name: no fault
        result = run("fsck", "-n", mounted.image)
        assert (result.returncode, result.stderr) == (0, ""), result.stdout
        assert f"is mounted on {mounted.point}" in result.stdout.splitlines()[0]
    assert mounted.is_mounted


def test_fsck_waits_for_a_mount_that_is_ending(mounted: Any, run: Run) -> None:
    for number in range(5):
        (mounted.point / f"file{number}").write_bytes(bytes(number))
        mounted.unmount()
        result = run("fsck", "-y", mounted.image)
        assert (result.returncode, result.stderr) == (0, ""), result.stdout
        mounted.mount()


def test_a_mount_after_a_crash_repairs_and_says_what(mounted: Any, run: Run) -> None:
    (mounted.point / "file").write_text("contents")
    crash(mounted)
    change(mounted.image, lambda image: image.put_inode_bit(image.find("/file"), 0))
    result = run("mount", mounted.image, mounted.point)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert f"{mounted.image} was not cleanly unmounted: repaired " in line
    assert (mounted.point / "file").read_text() == "contents"
    mounted.unmount()
    assert run("fsck", "-y", mounted.image).returncode == 0
    assert walk(mounted.image.read_bytes()).findings == []


def test_a_mount_refuses_what_no_crash_leaves(mounted: Any, run: Run) -> None:
    (mounted.point / "file").write_text("contents")
    crash(mounted)
    change(mounted.image, lambda image: image.put_inode(3, seal=False, checksum=1))
    before = mounted.image.read_bytes()
    result = run("mount", mounted.image, mounted.point)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "inode 3" in line
    assert line.endswith(f"run: fsck.vsfs {mounted.image}")
    assert not mounted.is_mounted
    assert mounted.image.read_bytes() == before
    assert run("fsck", "-y", mounted.image).returncode == 1
    mounted.mount()
    assert (mounted.point / "file").read_text() == "contents"


def test_a_mount_for_reading_leaves_it_as_the_crash_did(mounted: Any, run: Run) -> None:
    (mounted.point / "file").write_text("contents")
    crash(mounted)
    before = mounted.image.read_bytes()
    result = run("mount", "-o", "ro", mounted.image, mounted.point)
    assert result.returncode == 0
    assert "not cleanly unmounted" in result.stderr
    assert (mounted.point / "file").read_text() == "contents"
    mounted.unmount()
    assert mounted.image.read_bytes() == before


def test_a_file_deleted_while_open_is_freed_after_a_crash(mounted: Any, run: Run) -> None:
    free = os.statvfs(mounted.point).f_bfree
    file = os.open(mounted.point / "gone", os.O_CREAT | os.O_WRONLY)
    os.write(file, bytes(100_000))
    (mounted.point / "gone").unlink()
    crash(mounted)
    with contextlib.suppress(OSError):  # its filesystem is gone
        os.close(file)
    assert run("mount", mounted.image, mounted.point).returncode == 0
    assert os.listdir(mounted.point) == []
    assert os.statvfs(mounted.point).f_bfree == free
