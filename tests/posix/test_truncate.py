"""truncate(2) and ftruncate(2)."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tests.support.images import ALICE, errno_of
from tests.support.processes import Process, contents, home_of, put

BLOCK = 4096
SECTORS = BLOCK // 512


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 12 * BLOCK, 12 * BLOCK + 1, 99_999])
def test_a_file_is_cut_and_its_blocks_are_free_again(fs: Process, size: int) -> None:
    whole = bytes(number * 7 % 251 for number in range(100_000))
    put(fs, "/f", whole)
    fs.truncate("/f", size)
    assert contents(fs, "/f") == whole[:size]
    blocks = -(-size // BLOCK)
    shown = fs.stat("/f")
    assert shown.st_size == size
    assert shown.st_blocks == (blocks + (blocks > 12)) * SECTORS


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 100_000])
def test_a_file_grows_by_zeroes_without_blocks(fs: Process, size: int) -> None:
    put(fs, "/f")
    fs.truncate("/f", size)
    assert contents(fs, "/f") == bytes(size)
    assert fs.stat("/f").st_blocks == 0


@pytest.mark.parametrize("cut", [0, 1, 100, 4095, 4096, 5000, 8191])
@pytest.mark.parametrize("grown", [8192, 8193, 20_000])
def test_what_was_cut_off_never_comes_back(fs: Process, cut: int, grown: int) -> None:
    put(fs, "/f", b"x" * 10_000)
    fs.truncate("/f", cut)
    fs.truncate("/f", grown)
    assert contents(fs, "/f") == b"x" * cut + bytes(grown - cut)


def test_what_was_mapped_or_read_before_a_cut_does_not_come_back_either(fs: Process) -> None:
    put(fs, "/f", b"x" * 10_000)
    reader, writer = fs.other(), fs.other()
    fd = reader.open("/f", os.O_RDONLY)
    assert reader.pread(fd, 10_000, 0) == b"x" * 10_000
    out = writer.open("/f", os.O_WRONLY)
    writer.ftruncate(out, 10)
    writer.ftruncate(out, 10_000)
    assert reader.pread(fd, 10_000, 0) == b"x" * 10 + bytes(9_990)


def test_blocks_of_another_file_are_not_seen_after_growing(fs: Process) -> None:
    put(fs, "/secret", b"secret" * 20_000)
    fs.unlink("/secret")
    put(fs, "/f", b"x")
    fs.truncate("/f", 100_000)
    fd = fs.open("/f", os.O_WRONLY)
    fs.pwrite(fd, b"y", 50_000)
    fs.close(fd)
    expected = bytearray(100_000)
    expected[0], expected[50_000] = ord("x"), ord("y")
    assert contents(fs, "/f") == expected


def test_the_file_goes_on_after_a_cut_where_it_ends_now(fs: Process) -> None:
    fd = fs.open("/f", os.O_CREAT | os.O_RDWR)
    fs.write(fd, b"0123456789")
    fs.ftruncate(fd, 4)
    fs.write(fd, b"x")  # the offset stays where it was
    assert contents(fs, "/f") == b"0123\0\0\0\0\0\0x"


@pytest.mark.parametrize("size", [3, 8, 20])
def test_the_times_change_even_if_the_size_does_not(fs: Process, size: int) -> None:
    put(fs, "/f", b"contents")
    fd = fs.open("/f", os.O_WRONLY)
    fs.utime("/f", ns=(1, 1))
    before = fs.stat("/f").st_ctime_ns
    fs.ftruncate(fd, size)
    shown = fs.stat("/f")
    assert shown.st_mtime_ns == shown.st_ctime_ns > before
    assert shown.st_atime_ns == 1


def test_links_are_followed(fs: Process) -> None:
    put(fs, "/f", b"contents")
    fs.symlink("f", "/link")
    fs.truncate("/link", 3)
    assert contents(fs, "/f") == b"con"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", errno.ENOENT),
        ("/missing", errno.ENOENT),
        ("/dangling", errno.ENOENT),
        ("/d", errno.EISDIR),
        ("/d/", errno.EISDIR),
        ("/f/", errno.ENOTDIR),
        ("/f/x", errno.ENOTDIR),
        ("/fifo", errno.EINVAL),
        ("/loop", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("./" * 2047 + "xx", errno.ENAMETOOLONG),
    ],
)
def test_it_refuses(fs: Process, path: str, code: int) -> None:
    fs.mkdir("/d")
    put(fs, "/f", b"contents")
    fs.mkfifo("/fifo")
    fs.symlink("nothing", "/dangling")
    fs.symlink("loop", "/loop")
    assert errno_of(fs.truncate, path, 0) == code
    assert fs.listdir("/d") == []
    assert contents(fs, "/f") == b"contents"


def test_a_size_below_zero_is_refused(fs: Process) -> None:
    fd = fs.open("/f", os.O_CREAT | os.O_RDWR)
    assert errno_of(fs.truncate, "/f", -1) == errno.EINVAL
    assert errno_of(fs.ftruncate, fd, -1) == errno.EINVAL


def test_a_size_that_pointers_cannot_reach_is_too_large(fs: Process) -> None:
    most = BLOCK * (12 + 1024 + 1024**2 + 1024**3)
    put(fs, "/f", b"x")
    assert errno_of(fs.truncate, "/f", most + 1) == errno.EFBIG
    assert errno_of(fs.truncate, "/f", 2**63 - 1) == errno.EFBIG
    assert fs.stat("/f").st_size == 1
    fs.truncate("/f", most)
    assert fs.stat("/f").st_size == most
    fd = fs.open("/f", os.O_RDONLY)
    assert fs.pread(fd, 100, most - 2) == bytes(2)


def test_a_descriptor_for_reading_is_not_enough(fs: Process) -> None:
    put(fs, "/f", b"contents")
    fd = fs.open("/f", os.O_RDONLY)
    assert errno_of(fs.ftruncate, fd, 0) == errno.EINVAL
    assert contents(fs, "/f") == b"contents"


def test_it_needs_write_permission_and_a_descriptor_does_not(alice: Process, root: Process) -> None:
    home_of(root, ALICE, "/home")
    put(alice, "/home/f", b"contents")
    fd = alice.open("/home/f", os.O_WRONLY)
    root.chmod("/home/f", 0o444)
    assert errno_of(alice.truncate, "/home/f", 3) == errno.EACCES
    alice.ftruncate(fd, 3)
    assert contents(root, "/home/f") == b"con"


@pytest.mark.parametrize("by", ["path", "descriptor"])
def test_set_id_bits_go_when_a_user_cuts_the_file(alice: Process, root: Process, by: str) -> None:
    put(root, "/f", b"contents")
    root.chmod("/f", 0o6777)
    fd = alice.open("/f", os.O_WRONLY)
    assert stat.S_IMODE(root.stat("/f").st_mode) == 0o6777
    if by == "path":
        alice.truncate("/f", 3)
    else:
        alice.ftruncate(fd, 3)
    assert stat.S_IMODE(root.stat("/f").st_mode) == 0o777


def test_a_read_only_filesystem_is_not_changed(read_only_fs: Process) -> None:
    assert errno_of(read_only_fs.truncate, "/file", 0) == errno.EROFS
