"""One writer at a time, and readers that wait for it."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vsfs
from vsfs import lock
from vsfs.device import FileDevice
from vsfs.lock import mount_points, wait_for_writer

HOLD = """
import sys
from vsfs.device import FileDevice
device = FileDevice(sys.argv[1])
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    vsfs.format_image(path)
    return path


@pytest.fixture
def other_process(image: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the image open for writing until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(image)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.05)


@pytest.mark.usefixtures("impatient", "other_process")
def test_a_second_writer_is_refused(image: Path) -> None:
    with pytest.raises(vsfs.ImageBusy, match="in use by another process") as refused:
        FileDevice(image)
    assert refused.value.errno == errno.EBUSY


@pytest.mark.usefixtures("impatient", "other_process")
def test_a_filesystem_in_use_is_neither_opened_nor_formatted(image: Path) -> None:
    before = image.read_bytes()
    with pytest.raises(vsfs.ImageBusy):
        vsfs.FileSystem.open(image)
    with pytest.raises(vsfs.ImageBusy):
        vsfs.format_image(image, force=True)
    assert image.read_bytes() == before


@pytest.mark.usefixtures("impatient")
def test_the_lock_is_free_again_after_unmount(image: Path) -> None:
    with vsfs.FileSystem.open(image), pytest.raises(vsfs.ImageBusy):
        FileDevice(image)
    FileDevice(image).close()


def test_the_lock_ends_with_the_process_that_holds_it(
    image: Path, other_process: subprocess.Popen[str]
) -> None:
    other_process.kill()
    FileDevice(image).close()


@pytest.mark.usefixtures("impatient", "other_process")
def test_reading_needs_no_lock(image: Path) -> None:
    device = FileDevice(image, read_only=True)
    assert device.read(0, 4) == b"VSFS"
    device.close()


def test_a_shared_lock_keeps_writers_away_and_lets_readers_in(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.05)
    first, second = (FileDevice(image, read_only=True) for _ in range(2))
    first.lock_shared()
    second.lock_shared()
    with pytest.raises(vsfs.ImageBusy):
        FileDevice(image)
    first.close()
    second.close()
    FileDevice(image).close()


def test_a_reader_waits_for_a_writer_that_is_about_to_finish(image: Path) -> None:
    writer = FileDevice(image)
    finishing = threading.Timer(0.2, writer.close)
    finishing.start()
    started = time.monotonic()
    assert wait_for_writer(image) == []
    assert time.monotonic() - started >= 0.15
    finishing.join()


@pytest.mark.usefixtures("impatient", "other_process")
def test_a_reader_gives_up_on_a_writer_that_goes_on(image: Path) -> None:
    with pytest.raises(vsfs.ImageBusy):
        wait_for_writer(image)


def test_a_reader_of_an_image_that_nobody_writes_does_not_wait(image: Path) -> None:
    assert wait_for_writer(image) == []
    FileDevice(image).close()  # and holds no lock behind


TABLE = (
    b"22 1 0:21 / /proc rw,nosuid - proc proc rw\n"
    b"40 1 0:50 / /mnt/a\\040b rw shared:3 master:1 - fuse.vsfs IMAGE rw,user_id=0\n"
    b"41 1 0:51 / /mnt/other rw - fuse.vsfs /elsewhere.img rw\n"
    b"42 1 0:52 / /mnt/second rw - fuse.vsfs IMAGE rw\n"
)


@pytest.fixture
def mounted(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image, which the mount table lists twice."""
    table = tmp_path / "mountinfo"
    table.write_bytes(TABLE.replace(b"IMAGE", bytes(image).replace(b" ", b"\\040")))
    monkeypatch.setattr(lock, "_MOUNT_TABLE", str(table))
    return image


def test_mount_points_are_those_that_the_kernel_lists(mounted: Path) -> None:
    assert mount_points(mounted) == ["/mnt/a b", "/mnt/second"]
    assert mount_points(mounted.parent / "other.img") == []


def test_mount_points_are_found_by_another_path_of_the_image(mounted: Path) -> None:
    link = mounted.parent / "link.img"
    link.symlink_to(mounted)
    assert mount_points(link) == ["/mnt/a b", "/mnt/second"]


@pytest.mark.usefixtures("other_process")
def test_a_mounted_image_is_refused_at_once_and_the_error_says_where(mounted: Path) -> None:
    started = time.monotonic()
    with pytest.raises(vsfs.ImageBusy, match="is mounted on /mnt/a b"):
        FileDevice(mounted)
    assert time.monotonic() - started < lock.WAIT_SECONDS / 2


@pytest.mark.usefixtures("other_process")
def test_a_reader_of_a_mounted_image_learns_where_to_sync_it(mounted: Path) -> None:
    assert wait_for_writer(mounted) == ["/mnt/a b", "/mnt/second"]


def test_without_a_mount_table_nothing_is_mounted(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_MOUNT_TABLE", "/nowhere/mountinfo")
    assert mount_points(image) == []
