"""write(2), pwrite(2) and lseek(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import errno_of
from tests.support.processes import Process, contents, put

BLOCK = 4096
SECTORS = BLOCK // 512
MOST = BLOCK * (12 + 1024 + 1024**2 + 1024**3)  # bytes that pointers reach


def create(fs: Process, path: str = "/f", more: int = 0) -> int:
    """Make a file; a descriptor to read and write it."""
    fd: int = fs.open(path, os.O_CREAT | os.O_RDWR | more)
    return fd


@pytest.mark.parametrize("size", [0, 1, 511, 4095, 4096, 4097, 49_152, 49_153, 150_000])
def test_what_was_written_is_read_and_takes_as_many_blocks_as_it_needs(
    fs: Process, size: int
) -> None:
    content = bytes(number * 31 % 253 for number in range(size))
    put(fs, "/f", content)
    shown = fs.stat("/f")
    blocks = -(-size // BLOCK)
    assert (contents(fs, "/f"), shown.st_size) == (content, size)
    assert shown.st_blocks == (blocks + (blocks > 12)) * SECTORS


def test_the_offset_moves_on_with_write_and_stays_with_pwrite(fs: Process) -> None:
    fd = create(fs)
    assert fs.write(fd, b"abc") == 3
    assert fs.pwrite(fd, b"Z", 1) == 1
    assert fs.write(fd, b"def") == 3
    assert fs.lseek(fd, 0, os.SEEK_CUR) == 6
    assert contents(fs, "/f") == b"aZcdef"


@pytest.mark.parametrize("at", [0, 1, 4090, 4096, 9_000, 9_990])
def test_the_bytes_around_what_is_overwritten_stay(fs: Process, at: int) -> None:
    put(fs, "/f", b"x" * 10_000)
    fd = fs.open("/f", os.O_WRONLY)
    fs.pwrite(fd, b"y" * 10, at)
    assert contents(fs, "/f") == b"x" * at + b"y" * 10 + b"x" * (9_990 - at)


def test_writing_nothing_changes_nothing(fs: Process) -> None:
    put(fs, "/f", b"contents")
    fd = fs.open("/f", os.O_WRONLY)
    before = fs.stat("/f")
    assert fs.pwrite(fd, b"", 5_000) == 0
    after = fs.stat("/f")
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_mtime_and_ctime_change_and_atime_does_not(fs: Process) -> None:
    put(fs, "/f")
    fd = fs.open("/f", os.O_WRONLY)
    fs.utime("/f", ns=(1, 1))
    before = fs.stat("/f").st_ctime_ns
    fs.write(fd, b"x")
    shown = fs.stat("/f")
    assert shown.st_mtime_ns == shown.st_ctime_ns > before
    assert shown.st_atime_ns == 1


# -- holes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "blocks"),
    [
        (0, 1),
        (11 * BLOCK, 1),
        (12 * BLOCK, 2),  # an indirect block, too
        ((12 + 1023) * BLOCK, 2),
        ((12 + 1024) * BLOCK, 3),  # behind two
        ((12 + 1024 + 1024**2) * BLOCK, 4),  # behind three
        (MOST - BLOCK, 4),
    ],
)
def test_a_hole_takes_no_blocks(fs: Process, offset: int, blocks: int) -> None:
    fd = create(fs)
    fs.pwrite(fd, b"end", offset)
    shown = fs.stat("/f")
    assert (shown.st_size, shown.st_blocks) == (offset + 3, blocks * SECTORS)
    start = max(offset - 10_000, 0)
    assert fs.pread(fd, 20_000, start) == bytes(offset - start) + b"end"
    assert fs.pread(fd, 10, 0) == (bytes(10) if offset else b"end")


def test_a_hole_is_filled_in_any_order(fs: Process) -> None:
    fd = create(fs)
    expected = bytearray(20 * BLOCK)
    for at in (19, 3, 12, 11, 0, 13):
        fs.pwrite(fd, bytes([at + 1]) * BLOCK, at * BLOCK)
        expected[at * BLOCK : (at + 1) * BLOCK] = bytes([at + 1]) * BLOCK
    assert contents(fs, "/f") == expected
    assert fs.stat("/f").st_blocks == 7 * SECTORS


@pytest.mark.parametrize("end", [1, 100, 4095, 4096, 5000])
def test_between_the_old_end_and_a_later_write_there_are_zeroes(fs: Process, end: int) -> None:
    """Also where a block of the file had other bytes before it was cut."""
    put(fs, "/f", b"x" * 10_000)
    fs.truncate("/f", end)
    fd = fs.open("/f", os.O_WRONLY)
    fs.pwrite(fd, b"end", 9_000)
    assert contents(fs, "/f") == b"x" * end + bytes(9_000 - end) + b"end"


def test_a_block_that_another_file_had_is_never_seen(fs: Process) -> None:
    put(fs, "/secret", b"secret" * 50_000)
    fs.unlink("/secret")
    fd = create(fs)
    expected = bytearray(70 * BLOCK + 1)
    for block in range(0, 71, 2):
        fs.pwrite(fd, b"y", block * BLOCK)
        expected[block * BLOCK] = ord("y")
    assert contents(fs, "/f") == expected


def test_a_write_may_reach_the_last_byte_and_none_behind(fs: Process) -> None:
    fd = create(fs)
    assert fs.pwrite(fd, b"last", MOST - 4) == 4
    assert fs.pwrite(fd, b"more", MOST - 2) == 2
    assert errno_of(fs.pwrite, fd, b"x", MOST) == errno.EFBIG
    assert errno_of(fs.pwrite, fd, b"x", MOST + 5 * BLOCK) == errno.EFBIG
    assert fs.fstat(fd).st_size == MOST
    assert fs.pread(fd, 9, MOST - 4) == b"lamo"


def test_an_offset_below_zero_is_refused(fs: Process) -> None:
    fd = create(fs)
    assert errno_of(fs.pwrite, fd, b"x", -1) == errno.EINVAL
    assert errno_of(fs.lseek, fd, -1, os.SEEK_SET) == errno.EINVAL


def test_lseek_counts_from_start_offset_and_end(fs: Process) -> None:
    put(fs, "/f", b"0123456789")
    fd = fs.open("/f", os.O_RDWR)
    assert fs.lseek(fd, -3, os.SEEK_END) == 7
    assert fs.read(fd, 9) == b"789"
    assert fs.lseek(fd, 2, os.SEEK_SET) == 2
    assert fs.lseek(fd, 3, os.SEEK_CUR) == 5
    assert fs.read(fd, 1) == b"5"
    assert fs.lseek(fd, 10, os.SEEK_END) == 20
    assert fs.stat("/f").st_size == 10  # not until something is written there
    fs.write(fd, b"x")
    assert contents(fs, "/f") == b"0123456789" + bytes(10) + b"x"


def test_a_descriptor_for_reading_is_not_enough(fs: Process) -> None:
    put(fs, "/f", b"contents")
    fd = fs.open("/f", os.O_RDONLY)
    assert errno_of(fs.write, fd, b"x") == errno.EBADF
    assert errno_of(fs.pwrite, fd, b"x", 0) == errno.EBADF
    assert contents(fs, "/f") == b"contents"


# -- several writers ------------------------------------------------------------------


def test_appends_of_several_processes_all_reach_the_end(fs: Process) -> None:
    writers = [fs, fs.other(), fs.other()]
    fds = [create(writer, more=os.O_APPEND) for writer in writers]
    expected = b""
    for number in range(20):
        for name, writer, fd in zip("abc", writers, fds, strict=True):
            line = f"{name}{number}\n".encode() * (number * 40 % 7 + 1)
            assert writer.write(fd, line) == len(line)
            expected += line
    assert contents(fs, "/f") == expected


def test_an_append_goes_to_the_end_wherever_the_offset_is_and_after_a_cut(fs: Process) -> None:
    put(fs, "/f", b"0123456789")
    other = fs.other()
    fd = other.open("/f", os.O_RDWR | os.O_APPEND)
    other.lseek(fd, 0, os.SEEK_SET)
    other.write(fd, b"x")
    assert other.lseek(fd, 0, os.SEEK_CUR) == 11
    fs.close(fs.open("/f", os.O_WRONLY | os.O_TRUNC))
    other.write(fd, b"y")
    assert contents(fs, "/f") == b"y"


def test_appends_through_two_names_of_a_file_all_reach_the_end(fs: Process) -> None:
    first = create(fs, more=os.O_APPEND)
    fs.link("/f", "/other")
    second = fs.open("/other", os.O_WRONLY | os.O_APPEND)
    for _ in range(5):
        for fd, word in ((first, b"first "), (second, b"second ")):
            assert fs.write(fd, word) == len(word)
    assert contents(fs, "/other") == b"first second " * 5


def test_what_one_process_writes_another_reads_at_once(fs: Process) -> None:
    other = fs.other()
    fd = create(fs)
    theirs = other.open("/f", os.O_RDWR)
    for number in range(5):
        fs.pwrite(fd, b"%d" % number * 6_000, 0)
        assert other.pread(theirs, 6_000, 0) == b"%d" % number * 6_000
        other.pwrite(theirs, b"theirs", 3_000)
        assert fs.pread(fd, 6, 3_000) == b"theirs"


def test_what_is_written_through_one_name_is_read_through_another(fs: Process) -> None:
    fd = create(fs)
    fs.link("/f", "/g")
    theirs = fs.open("/g", os.O_RDONLY)
    for text in (b"first", b"second and longer", b"3"):
        fs.ftruncate(fd, 0)
        fs.pwrite(fd, text, 0)
        assert contents(fs, "/g") == text
    assert fs.fstat(theirs).st_size == 1


# -- set-id bits and space --------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o6777, 0o777), (0o4777, 0o777), (0o2777, 0o777), (0o1777, 0o1777), (0o4666, 0o666)],
)
@pytest.mark.parametrize("how", ["write", "pwrite", "append"])
def test_set_id_bits_go_when_a_user_writes(
    alice: Process, root: Process, how: str, mode: int, expected: int
) -> None:
    put(root, "/f", b"contents")
    root.chmod("/f", mode)
    fd = alice.open("/f", os.O_WRONLY | (os.O_APPEND if how == "append" else 0))
    assert stat.S_IMODE(root.stat("/f").st_mode) == mode
    if how == "pwrite":
        alice.pwrite(fd, b"x", 3)
    else:
        alice.write(fd, b"x")
    assert stat.S_IMODE(root.stat("/f").st_mode) == expected


def test_set_id_bits_stay_when_root_writes(root: Process) -> None:
    put(root, "/f")
    root.chmod("/f", 0o6755)
    fd = root.open("/f", os.O_WRONLY)
    root.write(fd, b"x")
    assert stat.S_IMODE(root.stat("/f").st_mode) == 0o6755


def test_when_the_disk_is_full_what_fits_is_written_and_the_rest_refused(fs: Process) -> None:
    put(fs, "/keep", b"k" * 5_000)
    free = fs.statvfs("/").f_bfree
    fd = create(fs)
    chunk, written = b"x" * 1_000_000, 0
    while fs.statvfs("/").f_bfree:
        written += fs.write(fd, chunk)
    assert errno_of(fs.write, fd, chunk) == errno.ENOSPC
    assert fs.statvfs("/").f_bfree == 0
    assert fs.fstat(fd).st_size == written > (free - 10) * BLOCK - len(chunk)
    assert fs.pread(fd, 10, written - 10) == b"x" * 10
    assert errno_of(fs.pwrite, fd, b"y", 0) == 0  # what it has can be overwritten
    fs.close(fd)
    fs.unlink("/f")
    put(fs, "/g", chunk)
    assert contents(fs, "/keep") == b"k" * 5_000
