"""Any sequence of reads, writes and truncations leaves what it leaves in memory."""

from __future__ import annotations

import os

import pytest

import vsfs
from tests.support.fsx import OPERATIONS, SEED, WEIGHTS, Choice, Run
from tests.support.images import blank, mount
from tests.support.rawwalk import walk
from vsfs.device import MemoryDevice

#: Block size -> bytes of the largest file: beyond the first double indirect
#: pointer, but for the largest blocks, which would need a gigabyte.
LARGEST = {512: 200_000, 1024: 500_000, 4096: 5_000_000, 65536: 4_000_000}


class LibraryFile:
    """`/file` of an image in memory."""

    def __init__(self, device: MemoryDevice) -> None:
        self.device = device
        self.fs = mount(device)
        self.fd = self.fs.open("/file", os.O_RDWR | os.O_CREAT)

    def read(self, offset: int, size: int) -> bytes:
        return self.fs.pread(self.fd, size, offset)

    def write(self, offset: int, content: bytes) -> int:
        return self.fs.pwrite(self.fd, content, offset)

    def truncate(self, size: int) -> None:
        self.fs.ftruncate(self.fd, size)

    def size(self) -> int:
        return self.fs.fstat(self.fd).st_size

    def fsync(self) -> None:
        self.fs.fsync(self.fd)

    def reopen(self) -> None:
        self.fs.close(self.fd)
        self.fd = self.fs.open("/file", os.O_RDWR)

    def remount(self) -> None:
        self.fs.close(self.fd)
        self.fs.unmount()
        self.fs = mount(self.device)
        self.fd = self.fs.open("/file", os.O_RDWR)


def scatter(fs: vsfs.FileSystem, block_size: int, blocks: int) -> None:
    """Leave every other of `blocks` blocks free, and old bytes in each of these."""
    kept, gone = (fs.open(f"/{name}", os.O_WRONLY | os.O_CREAT) for name in ("kept", "gone"))
    for _ in range(blocks // 2):
        for fd in (kept, gone):
            assert fs.write(fd, b"\xff" * block_size) == block_size
    fs.close(kept)
    fs.close(gone)
    fs.unlink("/gone")


@pytest.mark.parametrize(
    ("block_size", "journal_blocks"),
    # the smallest journal: what changes many blocks is done in steps
    [*((size, None) for size in sorted(LARGEST)), (512, 16), (1024, 16)],
)
def test_a_file_holds_what_a_bytearray_holds(block_size: int, journal_blocks: int | None) -> None:
    largest = LARGEST[block_size]
    size = largest * 4 // block_size * block_size
    device = blank(size, block_size=block_size, journal_blocks=journal_blocks)
    with mount(device) as fs:
        scatter(fs, block_size, largest // block_size)
    file = LibraryFile(device)
    run = Run(file)
    run.run(Choice(SEED, block_size, largest, WEIGHTS), OPERATIONS)
    file.fs.unmount()
    found = walk(device.image)
    assert found.findings == []
    assert found.content(found.paths[b"/file"]) == run.shadow
