"""Inodes that a kernel knows by number: they stay without names, and go when it forgets them."""

from __future__ import annotations

import errno
import logging
import os
import stat

import pytest

import vsfs
from tests.support.images import KIB, blank, errno_of, image_of, mount, sound
from tests.support.rawwalk import walk
from vsfs.device import MemoryDevice
from vsfs.errors import Corrupt
from vsfs.layout import ROOT_INO
from vsfs.validate import check_superblock

FILE = stat.S_IFREG | 0o644
JOURNALS = pytest.mark.parametrize("journal", [None, 16], ids=["no-journal", "journal"])


def small(journal: int | None = None) -> vsfs.FileSystem:
    """A filesystem whose kernel knows all inodes."""
    fs = mount(blank(96 * KIB, block_size=512, inode_count=40, journal_blocks=journal))
    fs.volume.known = range(40)
    return fs


def put(fs: vsfs.FileSystem, path: str, size: int) -> int:
    """Make a file of `size` bytes; its inode number."""
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
    assert fs.write(fd, b"x" * size) == size
    fs.close(fd)
    return fs.stat(path).st_ino


def let_all_go(fs: vsfs.FileSystem) -> None:
    """The kernel forgets what has no name."""
    for ino in list(fs.volume.held):
        fs.volume.let_go(ino)


def test_an_inode_without_names_stays_while_it_is_known() -> None:
    fs = small()
    before = fs.volume.statistics()
    ino = put(fs, "/f", 5000)
    fs.unlink("/f")
    assert fs.volume.inode(ino).size == 5000
    assert fs.volume.statistics().free_inodes == before.free_inodes - 1
    fs.volume.let_go(ino)
    assert fs.volume.statistics() == before


@JOURNALS
def test_what_was_let_go_is_free_on_the_disk_after_the_next_commit(journal: int | None) -> None:
    fs = small(journal)
    before = sound(fs)
    for number in range(10):
        put(fs, f"/{number}", 3000)
        fs.mkdir(f"/d{number}")
    fs.sync()
    for number in range(10):
        fs.unlink(f"/{number}")
        fs.rmdir(f"/d{number}")
    let_all_go(fs)
    after = sound(fs)
    assert after.free_inodes == before.free_inodes
    assert after.free_blocks == before.free_blocks


@JOURNALS
def test_space_that_was_let_go_is_there_for_the_operation_that_needs_it(
    journal: int | None,
) -> None:
    fs = small(journal)
    room = fs.volume.statistics().free_blocks - 3  # two indirect blocks, one for names
    for turn in range(5):
        put(fs, f"/{turn}", room * 512)
        fs.unlink(f"/{turn}")
        let_all_go(fs)
    assert sound(fs).findings == []


@JOURNALS
def test_inode_numbers_that_were_let_go_are_there_for_new_files(journal: int | None) -> None:
    fs = small(journal)
    for turn in range(3):
        names = [f"/{turn}-{number}" for number in range(fs.volume.statistics().free_inodes)]
        for name in names:
            put(fs, name, 0)
        assert errno_of(put, fs, "/one-more", 0) == errno.ENOSPC
        for name in names:
            fs.unlink(name)
        let_all_go(fs)


@JOURNALS
def test_what_a_rename_replaces_stays_while_it_is_known(journal: int | None) -> None:
    fs = small(journal)
    replaced = put(fs, "/old", 600)
    put(fs, "/new", 700)
    fs.rename("/new", "/old")
    assert list(fs.volume.held) == [replaced]
    assert fs.volume.inode(replaced).size == 600
    let_all_go(fs)
    assert replaced not in sound(fs).inodes


def test_more_than_a_journal_holds_is_let_go_in_several_transactions() -> None:
    device = blank(1024 * KIB, block_size=512, inode_count=200, journal_blocks=16)
    fs = mount(device)
    fs.volume.known = range(200)
    before = sound(fs).free_inodes
    for number in range(150):  # inodes in 75 blocks of the table
        put(fs, f"/{number}", 400)
    fs.sync()
    for number in range(150):
        fs.unlink(f"/{number}")
        let_all_go(fs)
    assert sound(fs).free_inodes == before


def test_the_last_commit_frees_what_is_still_known() -> None:
    fs = small()
    before = fs.volume.statistics()
    put(fs, "/f", 2000)
    fs.unlink("/f")
    fs.unmount()
    found = walk(image_of(fs))
    assert found.findings == []
    assert found.free_blocks == before.free_blocks


def test_damage_in_one_that_was_let_go_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    device = blank(96 * KIB, block_size=512, inode_count=40)
    with mount(device) as fs:
        for number in range(8):
            put(fs, f"/{number}", 600)
    free_first_block(device)
    fs = mount(device)
    fs.volume.known = range(40)
    for number in range(8):
        fs.unlink(f"/{number}")
    let_all_go(fs)
    with caplog.at_level(logging.ERROR):
        fs.sync()
    assert fs.volume.read_only
    assert [record for record in caplog.records if "read-only from now on" in record.message]
    assert len(caplog.records) == 2  # the damage, and what could not be freed for it
    fs.volume.close()


def test_after_damage_a_commit_frees_nothing_more() -> None:
    fs = small()
    put(fs, "/f", 600)
    fs.unlink("/f")
    let_all_go(fs)
    fs.volume.meet_damage(Corrupt("a record", 40, 0, "noise", "a record"))
    before = image_of(fs)
    for commit in (fs.volume._commit, fs.sync, fs.volume.close):  # the first is the committer's
        commit()
        assert image_of(fs) == before


def free_first_block(device: MemoryDevice) -> None:
    """Clear the bit of the block behind the root directory's: file 0 has it."""
    bitmap = (
        check_superblock(bytes(device.image), len(device.image)).geometry.data_bitmap_start * 512
    )
    assert device.image[bitmap] & 0b10
    device.image[bitmap] &= ~0b10


def test_nothing_is_held_of_what_nobody_knows() -> None:
    fs = small()
    fs.volume.known = ()
    before = fs.volume.statistics()
    ino = fs.volume.mknod(ROOT_INO, b"f", FILE, 0, 0).ino
    fs.volume.unlink(ROOT_INO, b"f")
    assert not fs.volume.held
    fs.volume.let_go(ino)  # is nothing
    assert fs.volume.statistics() == before
