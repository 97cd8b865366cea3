"""A full disk: what does not fit is refused whole, and deleting gives all back.

Everything is filled to the last: inode, block, pointer, byte of a name.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from functools import partial

import pytest

import vsfs
from tests.support.images import KIB, errno_of, snapshot, sound
from vsfs.layout import SECTOR_SIZE, record_size

MakeFs = Callable[..., vsfs.FileSystem]
CREATE = os.O_CREAT | os.O_WRONLY
SINGLE, PER_BLOCK = 12, 128  # with blocks of 512 bytes
DOUBLE = SINGLE + PER_BLOCK
TRIPLE = DOUBLE + PER_BLOCK**2
END = TRIPLE + PER_BLOCK**3


@pytest.fixture(params=[512, 1024, 4096])
def fs(request: pytest.FixtureRequest, make_fs: MakeFs) -> vsfs.FileSystem:
    """A small filesystem that is soon full."""
    return make_fs(24 * request.param, block_size=request.param, inode_count=16)


def free(fs: vsfs.FileSystem) -> tuple[int, int]:
    """Free blocks and inodes."""
    counts = fs.statvfs()
    return counts.f_bfree, counts.f_ffree


def put(fs: vsfs.FileSystem, path: str, content: bytes, offset: int = 0) -> int:
    fd = fs.open(path, CREATE)
    try:
        return fs.pwrite(fd, content, offset)
    finally:
        fs.close(fd)


def fill(fs: vsfs.FileSystem, leave: int = 0, path: str = "/filler") -> None:
    """Take all blocks but `leave`."""
    size = fs.statvfs().f_bsize
    fd = fs.open(path, CREATE)
    fs.ftruncate(fd, size)  # a hole for the last one, since behind an indirect block it takes two
    while fs.statvfs().f_bfree > leave:
        end = fs.fstat(fd).st_size
        fs.pwrite(fd, bytes(size), 0 if fs.statvfs().f_bfree == leave + 1 else end)
    fs.close(fd)
    assert fs.statvfs().f_bfree == leave


def fill_sector(fs: vsfs.FileSystem, directory: str) -> None:
    """Names until the next one needs a block of directory; one inode in all."""
    fs.mkdir(directory)
    fs.close(fs.open(directory + "/0", CREATE))
    room = fs.stat(directory).st_size
    number = 0
    while fs.stat(directory).st_size == room:
        number += 1
        fs.link(directory + "/0", f"{directory}/{number:04}")
    fs.unlink(f"{directory}/{number:04}")
    assert fs.stat(directory).st_size == room


def refuses(fs: vsfs.FileSystem, call: Callable[[], object]) -> bool:
    """Whether the call ends in ENOSPC and leaves everything as it was."""
    before, tree = free(fs), snapshot(fs)
    failed = errno_of(call) == errno.ENOSPC
    return failed and free(fs) == before and snapshot(fs) == tree


# -- blocks -----------------------------------------------------------------------


def test_a_write_takes_what_fits_and_the_next_one_nothing(fs: vsfs.FileSystem) -> None:
    blocks, _ = free(fs)
    size = fs.statvfs().f_bsize
    indirect = 1 if blocks > 12 else 0
    fd = fs.open("/f", CREATE)
    assert fs.write(fd, b"x" * 100 * size) == (blocks - indirect) * size
    assert free(fs)[0] == 0
    assert refuses(fs, lambda: fs.write(fd, b"y"))
    assert fs.lseek(fd, 0, os.SEEK_CUR) == (blocks - indirect) * size
    assert fs.pwrite(fd, b"z" * size, 0) == size  # what is there can be written over


def test_the_last_block_can_be_used_by_anything(fs: vsfs.FileSystem) -> None:
    size = fs.statvfs().f_bsize
    uses: list[Callable[[], object]] = [
        lambda: fs.mkdir("/new"),
        lambda: fs.symlink("t" * 300, "/new"),
        lambda: put(fs, "/new", b"x"),
        lambda: put(fs, "/new", b"x", 11 * size),
    ]
    for use in uses:
        fill(fs, leave=1)
        use()
        assert free(fs)[0] == 0
        sound(fs)
        (fs.rmdir if fs.stat("/").st_nlink == 3 else fs.unlink)("/new")
        fs.unlink("/filler")


def test_what_needs_a_block_is_refused_when_none_is_left(fs: vsfs.FileSystem) -> None:
    size = fs.statvfs().f_bsize
    fs.close(fs.open("/empty", CREATE))
    fill(fs)
    calls: list[Callable[[], object]] = [
        lambda: fs.mkdir("/new"),
        lambda: fs.symlink("t" * 109, "/new"),
        lambda: put(fs, "/empty", b"x"),
        lambda: put(fs, "/empty", b"x", 10**6),
    ]
    for call in calls:
        assert refuses(fs, call)
    fs.close(fs.open("/new", CREATE))  # these need none
    fs.symlink("t" * 108, "/link")
    fs.link("/empty", "/other")
    fs.rename("/other", "/again")
    fs.truncate("/empty", 10**6)
    assert fs.stat("/empty").st_size == 10**6
    assert fs.stat("/filler").st_size % size == 0


def test_a_long_link_of_which_only_a_part_fits_is_refused(make_fs: MakeFs) -> None:
    fs = make_fs(64 * KIB, block_size=512)
    fill(fs, leave=3)
    assert refuses(fs, lambda: fs.symlink("t" * 2000, "/new"))
    fs.symlink("t" * 1500, "/new")
    assert fs.readlink("/new") == "t" * 1500


def test_a_name_that_needs_a_directory_block_is_refused_when_none_is_left(
    fs: vsfs.FileSystem,
) -> None:
    fill_sector(fs, "/d")
    fs.mkdir("/sub")
    put(fs, "/f", b"")
    put(fs, "/g", b"content")
    fill(fs)
    calls: list[Callable[[], object]] = [
        lambda: fs.open("/d/new-file", CREATE),
        lambda: fs.mkdir("/d/new-directory"),
        lambda: fs.symlink("x", "/d/new-symlink"),
        lambda: fs.mkfifo("/d/new-fifo"),
        lambda: fs.link("/f", "/d/new-link"),
        lambda: fs.rename("/f", "/d/renamed"),
        lambda: fs.rename("/sub", "/d/renamed"),
        lambda: fs.rename("/d/0001", "/d/" + "n" * 255),
    ]
    for call in calls:
        assert refuses(fs, call)
    fs.rename("/d/0001", "/d/0000")  # as long as the old one: the same place
    fs.rename("/g", "/d/0002")  # and so is one that is replaced
    fs.unlink("/d/0003")
    fs.link("/f", "/d/0003")


def test_each_pointer_can_be_the_last_one_that_fits(make_fs: MakeFs) -> None:
    fs = make_fs(64 * KIB, block_size=512)
    for file_block in (11, SINGLE, DOUBLE - 1, DOUBLE, TRIPLE - 1, TRIPLE, END - 1):
        levels = 0 if file_block < SINGLE else 1 if file_block < DOUBLE else 2
        levels += file_block >= TRIPLE
        for leave in range(levels + 2):
            fill(fs, leave=leave)
            if leave <= levels:
                fs.close(fs.open("/f", CREATE))
                fd = fs.open("/f", os.O_WRONLY)
                assert refuses(fs, partial(fs.pwrite, fd, b"x" * 512, file_block * 512))
                fs.close(fd)
            else:
                assert put(fs, "/f", b"x" * 512, file_block * 512) == 512
                assert free(fs)[0] == 0
                fd = fs.open("/f", os.O_RDONLY)
                assert fs.pread(fd, 1000, file_block * 512 - 1) == b"\0" + b"x" * 512
                fs.close(fd)
            sound(fs)
            fs.unlink("/f")
            fs.unlink("/filler")


def test_a_write_over_the_border_of_a_tree_stops_where_the_next_block_is_missing(
    make_fs: MakeFs,
) -> None:
    """At the border two or more blocks are needed at once: indirect and data."""
    fs = make_fs(128 * KIB, block_size=512)
    for border, levels in ((SINGLE, 1), (DOUBLE, 2), (TRIPLE, 3)):
        above = {SINGLE: 0, DOUBLE: 1, TRIPLE: 2}[border]  # indirect blocks before the border
        for spare in range(levels + 2):
            fill(fs, leave=1 + above + spare)
            written = put(fs, "/f", b"x" * 1024, (border - 1) * 512)
            enough = spare == levels + 1
            assert (written, free(fs)[0]) == ((1024, 0) if enough else (512, spare))
            sound(fs)
            fs.unlink("/f")
            fs.unlink("/filler")


def test_deleting_gives_every_block_back_a_hundred_times_over(make_fs: MakeFs) -> None:
    fs = make_fs(96 * KIB, block_size=512, inode_count=40)
    source = random.Random(7)
    at_first = free(fs)
    for turn in range(100):
        fs.makedirs("/d/e")
        names: list[str] = []
        while free(fs)[0] and free(fs)[1]:
            name = f"/d/{len(names):03}" + "n" * source.choice([0, 50, 250])
            size, offset = source.choice([1, 600, 7000, 9000]), source.choice([0, 80_000])
            failed = errno_of(put, fs, name, b"x" * size, offset)
            assert failed in (0, errno.ENOSPC)
            if not fs.exists(name):  # not even its name had room
                break
            names.append(name)
        if turn % 10 == 0:
            sound(fs)
        source.shuffle(names)
        for name in names:
            fs.unlink(name)
        fs.rmdir("/d/e")
        fs.rmdir("/d")
        assert free(fs) == at_first
    assert sound(fs).free_blocks == at_first[0]


def test_overwriting_by_rename_on_a_full_disk_frees_the_old_file(fs: vsfs.FileSystem) -> None:
    put(fs, "/new", b"new")
    put(fs, "/old", b"old" * 3000)
    fill(fs)
    size = fs.stat("/old").st_blocks * 512 // fs.statvfs().f_bsize
    fs.rename("/new", "/old")
    assert free(fs)[0] == size
    assert fs.stat("/old").st_size == 3


def test_truncating_and_writing_again_needs_no_more_than_there_was(fs: vsfs.FileSystem) -> None:
    fill(fs)
    size = fs.stat("/filler").st_size
    for _ in range(20):
        fd = fs.open("/filler", os.O_WRONLY | os.O_TRUNC)
        assert fs.write(fd, bytes(size + 100_000)) == size
        fs.close(fd)
    assert free(fs)[0] == 0


def test_space_of_an_open_file_comes_back_when_it_is_closed(fs: vsfs.FileSystem) -> None:
    before = free(fs)
    fd = fs.open("/f", CREATE)
    fs.write(fd, bytes(10**6))
    fs.unlink("/f")
    assert free(fs)[0] == 0
    assert refuses(fs, lambda: fs.mkdir("/d"))
    fs.close(fd)
    assert free(fs) == before
    fs.mkdir("/d")


# -- inodes -----------------------------------------------------------------------


def test_every_inode_can_be_used_and_the_next_one_is_refused(fs: vsfs.FileSystem) -> None:
    _, inodes = free(fs)
    for number in range(inodes):
        fs.close(fs.open(f"/{number}", CREATE))
    assert free(fs)[1] == 0
    assert fs.stat(f"/{inodes - 1}").st_ino == 15  # the last of 16
    for call in (
        lambda: fs.open("/new", CREATE),
        lambda: fs.mkdir("/new"),
        lambda: fs.symlink("x", "/new"),
        lambda: fs.mkfifo("/new"),
    ):
        assert refuses(fs, call)
    fs.link("/0", "/new")
    fs.rename("/new", "/newer")
    fs.unlink("/newer")
    for number in range(inodes):
        fs.unlink(f"/{number}")
        fs.mkfifo(f"/again{number}")  # at once
    sound(fs)


def test_a_hundred_times_every_inode(fs: vsfs.FileSystem) -> None:
    before = free(fs)
    for turn in range(100):
        for number in range(before[1]):
            fs.symlink("x", f"/{turn}-{number}")
        assert free(fs)[1] == 0
        for number in range(before[1]):
            fs.unlink(f"/{turn}-{number}")
        assert free(fs) == before


# -- names ------------------------------------------------------------------------


def test_names_of_255_bytes_fill_each_sector(make_fs: MakeFs) -> None:
    fs = make_fs(128 * KIB, block_size=1024)
    fs.mkdir("/d")
    fs.close(fs.open("/d/0", CREATE))
    names = [f"{number:03}" + "n" * 252 for number in range(40)]
    for name in names:
        fs.link("/d/0", "/d/" + name)
    per_sector = SECTOR_SIZE // record_size(255)
    assert fs.stat("/d").st_size >= len(names) // per_sector * SECTOR_SIZE
    assert set(fs.listdir("/d")) == {"0", *names}
    assert errno_of(fs.link, "/d/0", "/d/" + "n" * 256) == errno.ENAMETOOLONG
    sound(fs)
    for name in names:
        fs.rename("/d/" + name, "/d/" + name[::-1])
    sound(fs)
    for name in names:
        fs.unlink("/d/" + name[::-1])
    assert fs.stat("/d").st_size == 1024


def test_a_directory_grows_until_the_disk_is_full_and_gives_all_back(make_fs: MakeFs) -> None:
    fs = make_fs(64 * KIB, block_size=512)
    fs.mkdir("/d")
    fs.close(fs.open("/d/0", CREATE))
    before = free(fs)
    count = 1
    while not errno_of(fs.link, "/d/0", f"/d/{count:04}"):
        count += 1
    assert free(fs)[0] == 0
    assert fs.stat("/d/0").st_nlink == count
    assert len(fs.listdir("/d")) == count
    sound(fs)
    for number in range(1, count):
        fs.unlink(f"/d/{number:04}")
    assert free(fs) == before
