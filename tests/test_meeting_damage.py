"""Damage that a mounted filesystem meets: an error for one, read-only for all."""

from __future__ import annotations

import errno
import logging
import os
import struct

import pytest

import vsfs
from tests.support.damage import Image
from tests.support.images import blank, errno_of, image_of, mount
from vsfs.device import MemoryDevice
from vsfs.errors import NeedsCheck
from vsfs.fsck import check
from vsfs.layout import STATE_MOUNTED, decode_superblock

JOURNALS = pytest.mark.parametrize("journal_blocks", [None, 16])


def broken(journal_blocks: int | None) -> MemoryDevice:
    """/bad, a directory with an impossible record; /good, a file in a sound one."""
    fs = mount(blank(journal_blocks=journal_blocks))
    for name in ("/bad", "/sound"):
        fs.mkdir(name)
    fd = fs.open("/sound/good", os.O_CREAT | os.O_WRONLY)
    fs.write(fd, b"kept")
    fs.close(fd)
    fs.unmount()
    image = Image(image_of(fs))
    block = image.get(image.find("/bad"), "direct0")
    image.put_block(block, struct.pack("<H", 7), 4)
    return MemoryDevice(bytearray(image.data))


def read(fs: vsfs.FileSystem, path: str) -> bytes:
    fd = fs.open(path, os.O_RDONLY)
    try:
        return fs.read(fd, 100)
    finally:
        fs.close(fd)


@JOURNALS
def test_who_meets_damage_gets_euclean_and_the_rest_stays_readable(
    journal_blocks: int | None,
) -> None:
    fs = mount(broken(journal_blocks))
    assert errno_of(fs.listdir, "/bad") == errno.EUCLEAN
    assert read(fs, "/sound/good") == b"kept"
    assert fs.listdir("/sound") == ["good"]
    fs.unmount()


@JOURNALS
def test_after_damage_nothing_is_changed_and_what_was_done_before_is_kept(
    journal_blocks: int | None,
) -> None:
    device = broken(journal_blocks)
    fs = mount(device)
    fs.mkdir("/before")
    assert errno_of(fs.mkdir, "/bad/new") == errno.EUCLEAN
    assert errno_of(fs.mkdir, "/after") == errno.EROFS
    fs.unmount()
    again = vsfs.FileSystem.open(device, read_only=True)
    assert sorted(again.listdir("/")) == ["bad", "before", "sound"]
    again.unmount()


@JOURNALS
def test_the_log_has_one_line_for_each_damaged_place(
    journal_blocks: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    fs = mount(broken(journal_blocks))
    with caplog.at_level(logging.ERROR, "vsfs"):
        for _ in range(3):
            assert errno_of(fs.listdir, "/bad") == errno.EUCLEAN
    (line,) = caplog.messages
    assert "block " in line
    assert "offset 4" in line
    assert "read-only" in line
    fs.unmount()


@JOURNALS
def test_the_next_mount_for_writing_has_it_checked(journal_blocks: int | None) -> None:
    device = broken(journal_blocks)
    fs = mount(device)
    assert errno_of(fs.listdir, "/bad") == errno.EUCLEAN
    fs.unmount()
    assert decode_superblock(bytes(device.image[:512])).state == STATE_MOUNTED
    with pytest.raises(NeedsCheck, match=r"fsck\.vsfs"):
        mount(device)
    check(device).write(device)
    fs = mount(device)
    assert fs.listdir("/bad") == []
    fs.unmount()


def test_a_read_only_mount_writes_nothing_about_damage() -> None:
    device = broken(None)
    device.read_only = True
    before = bytes(device.image)
    fs = vsfs.FileSystem.open(device, read_only=True)
    assert errno_of(fs.listdir, "/bad") == errno.EUCLEAN
    fs.unmount()
    assert bytes(device.image) == before
