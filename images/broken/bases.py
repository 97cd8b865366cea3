"""The sound images that are broken: ``book`` for OSTEP's damage, ``tree`` for all else.

All come out the same wherever and whenever they are made: root owns everything,
the UUID is fixed, and each system call happens a second after the one before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from vsfs import Credentials, FileSystem, MemoryDevice, NoSpace
from vsfs.mkfs import Identity, make, plan

_SECOND_NS: Final = 10**9
START_NS: Final = 1767225600 * _SECOND_NS  # 2026-01-01T00:00:00Z
SIZE: Final = 256 * 1024
LONG_NAME: Final = 240  # bytes: only one such name fits into a sector
_LINE: Final = 512  # a line for each block of 512 bytes, so that an image packs well


class _Clock:
    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        self.now_ns += _SECOND_NS
        return self.now_ns


def text(path: str, size: int) -> bytes:
    """`size` bytes of readable lines; each tells where in the file it stands."""
    lines = (
        f"{path}: byte {offset}".ljust(_LINE - 1, ".") + "\n" for offset in range(0, size, _LINE)
    )
    return "".join(lines).encode()[:size]


def write(fs: FileSystem, path: str, content: bytes, offset: int = 0) -> int:
    """Write into a file, made if needed; how much of it fitted."""
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        return fs.pwrite(fd, content, offset)
    finally:
        fs.close(fd)


def fill_book(fs: FileSystem) -> None:
    """A small tree in the image of OSTEP's chapter 40: 64 blocks of 4096 bytes."""
    fs.mkdir("/foo")
    write(fs, "/foo/bar", text("/foo/bar", 3 * 4096))
    write(fs, "/m", b"one block of text\n")
    fs.link("/m", "/foo/n")
    fs.mkdir("/foo/dir")
    write(fs, "/foo/dir/file", b"deep down\n")
    fs.mkdir("/empty")


def fill_tree(fs: FileSystem) -> None:
    """Every type of file, every kind of pointer; blocks of 512 bytes, so that few do."""
    write(fs, "/hello", b"hello\n")
    write(fs, "/empty", b"")
    write(fs, "/direct", text("/direct", 5 * 512))
    write(fs, "/single", text("/single", 20 * 512))
    write(fs, "/double", text("/double", (12 + 128 + 10) * 512 + 100))
    write(fs, "/sparse", text("/sparse", 512))
    write(fs, "/sparse", b"the end\n", offset=(12 + 128 + 128 * 128 + 5) * 512)
    fs.link("/hello", "/hard")
    fs.symlink("hello", "/short")
    fs.symlink("/" + "./" * 70 + "hello", "/long")
    fs.mkfifo("/fifo")
    fs.mknod("/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    fs.mknod("/disk", stat.S_IFBLK | 0o660, os.makedev(7, 0))
    write(fs, "/described", b"see my attributes\n")
    fs.setxattr("/described", "user.comment", b"a comment")
    fs.setxattr("/described", "user.more", b"and one more")
    fs.mkdir("/dir")
    fs.link("/hello", "/dir/hard")
    write(fs, "/dir/file", text("/dir/file", 3 * 512))
    fs.mkdir("/dir/sub")
    fs.mkdir("/dir/sub/deep")
    write(fs, "/dir/sub/deep/file", text("/dir/sub/deep/file", 700))
    fs.mkdir("/names")  # a block for each name: the directory itself needs an indirect one
    for number in range(16):
        fs.link("/direct", f"/names/{number:02}-".ljust(len("/names/") + LONG_NAME, "x"))
    fs.mkdir("/leaf")


def fill_small(fs: FileSystem) -> None:
    """A bit of everything in 64 KiB, for those who break it many thousand times."""
    write(fs, "/single", text("/single", 14 * 512))
    write(fs, "/sparse", b"the end\n", offset=(12 + 128 + 1) * 512)
    fs.mkdir("/dir")
    fs.mkdir("/dir/sub")
    write(fs, "/dir/sub/file", b"deep down\n")
    fs.link("/single", "/dir/hard")
    fs.symlink("dir/hard", "/short")
    fs.symlink("/" + "./" * 70 + "single", "/long")
    fs.mkfifo("/dir/fifo")
    write(fs, "/empty", b"")
    fs.setxattr("/empty", "user.comment", b"a comment")
    for number in range(4):  # four sectors
        fs.link("/empty", f"/dir/sub/{number}".ljust(LONG_NAME, "x"))


def fill_full(fs: FileSystem) -> None:
    """The same, and a file that takes all the blocks that are left."""
    fill_tree(fs)
    try:
        for number in range(10):
            wanted = 20 * 4096
            if write(fs, f"/filler-{number}", bytes([65 + number]) * wanted) < wanted:
                return
    except NoSpace:
        return


def _made(
    fill: Callable[[FileSystem], None],
    number: int,
    *,
    size: int = SIZE,
    block_size: int = 512,
    inode_count: int = 80,
    journal_blocks: int | None = None,
) -> bytes:
    device = MemoryDevice(bytearray(size))
    uuid = bytes.fromhex(f"00000000000040009000{number:012}")
    label = fill.__name__.removeprefix("fill_")
    geometry = plan(size, block_size=block_size, inode_count=inode_count)
    make(
        device,
        geometry,
        Identity(uuid, label, START_NS, uid=0, gid=0),
        journal_blocks=journal_blocks,
    )
    fs = FileSystem.open(
        device, credentials=Credentials(0, 0), clock=_Clock(), commit_interval=None
    )
    fs.umask(0o022)
    fill(fs)
    fs.unmount()
    return bytes(device.image)


def bases() -> dict[str, bytes]:
    """The sound images by name."""
    return {
        "book": _made(fill_book, 1, block_size=4096),
        "tree": _made(fill_tree, 2),
        "full": _made(fill_full, 3),
        "small": _made(fill_small, 4, size=64 * 1024, inode_count=16),
        "journal": _made(fill_small, 5, size=64 * 1024, inode_count=16, journal_blocks=16),
    }
