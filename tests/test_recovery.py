"""Mounting what was not cleanly unmounted: repaired, or refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vsfs
from tests.support.damage import Image
from tests.support.images import blank, errno_of, fail_nth, image_of, mount
from tests.support.rawwalk import walk
from vsfs.device import MemoryDevice
from vsfs.errors import NeedsCheck

Break = Callable[[Image], None]


def crashed(break_it: Break = lambda image: None) -> MemoryDevice:
    """What a mount leaves that ended without unmounting; then broken.

    /foo is inode 3, /foo/bar inode 4, and inode 5 was deleted while open.
    """
    fs = mount(blank())
    fs.mkdir("/foo")
    fs.close(fs.open("/foo/bar", os.O_CREAT | os.O_WRONLY))
    fd = fs.open("/gone", os.O_CREAT | os.O_WRONLY)
    fs.write(fd, bytes(10_000))
    fs.unlink("/gone")
    fs.sync()
    image = Image(image_of(fs))
    break_it(image)
    return MemoryDevice(image.data)


def lose_bit(image: Image) -> None:
    image.put_inode_bit(4, 0)


def break_checksum(image: Image) -> None:
    image.put_inode(4, seal=False, checksum=0)


def test_what_a_crash_leaves_is_repaired(caplog: pytest.LogCaptureFixture) -> None:
    device = crashed(lose_bit)
    fs = mount(device)
    assert fs.listdir("/foo") == ["bar"]
    fs.unmount()
    assert walk(bytes(device.image)).findings == []
    (line,) = caplog.messages
    assert line.startswith("the image was not cleanly unmounted: repaired ")
    assert "in bitmaps" in line


def test_a_file_that_was_deleted_but_open_is_freed() -> None:
    device = crashed()
    fs = mount(device)
    assert fs.statvfs().f_bfree == 54  # without the root and /foo
    assert fs.statvfs().f_ffree == 75
    fs.unmount()
    assert walk(bytes(device.image)).findings == []


def test_where_nothing_is_wrong_the_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    fs = mount(blank())
    fs.mkdir("/foo")
    fs.sync()
    mount(MemoryDevice(bytearray(image_of(fs)))).unmount()
    assert caplog.messages == ["the image was not cleanly unmounted: nothing had to be repaired"]


def test_what_no_crash_leaves_is_refused_and_nothing_is_changed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = crashed(break_checksum)
    before = bytes(device.image)
    with pytest.raises(NeedsCheck, match=r"checksum.*; run: fsck\.vsfs IMAGE$") as refused:
        mount(device)
    assert refused.value.errno == errno.EUCLEAN
    assert bytes(device.image) == before
    assert caplog.messages == []


def test_the_sentence_has_the_images_path_as_a_shell_wants_it(tmp_path: Path) -> None:
    path = tmp_path / "my disk.img"
    path.write_bytes(crashed(break_checksum).image)
    with pytest.raises(NeedsCheck) as refused:
        vsfs.FileSystem.open(path)
    assert str(refused.value).startswith(f"{path} was not cleanly unmounted, and inode 4")
    assert str(refused.value).endswith(f"; run: fsck.vsfs '{path}'")
    vsfs.device.FileDevice(path).close()  # the lock is free again


def test_a_mount_for_reading_changes_nothing_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for break_it in (lose_bit, break_checksum):
        device = crashed(break_it)
        before = bytes(device.image)
        fs = mount(device, read_only=True)
        assert fs.listdir("/") == ["foo"]
        fs.unmount()
        assert bytes(device.image) == before
        assert "not cleanly unmounted" in caplog.messages[-1]
        assert "read-only" in caplog.messages[-1]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_write_that_fails_ends_the_mount_and_can_be_made_up_for(nth: int) -> None:
    device = crashed(lose_bit)
    assert errno_of(mount, fail_nth(device, "write", nth)) == errno.EIO
    mount(device).unmount()
    assert walk(bytes(device.image)).findings == []


def test_a_clean_image_is_mounted_without_loading_the_check(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    vsfs.format_image(path)
    code = (
        "import sys, vsfs\n"
        "vsfs.FileSystem.open(sys.argv[1]).unmount()\n"
        "print(*{'vsfs.recovery', 'vsfs.fsck', 'vsfs.rawimage'} & {*sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == []
