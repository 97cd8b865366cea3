"""The same through the kernel: its page cache, and files mapped into memory."""

from __future__ import annotations

import mmap
import os
from typing import Any

import pytest

from tests.support.fsx import MAPPED, OPERATIONS, SEED, WEIGHTS, Choice, Run
from tests.support.rawwalk import walk
from vsfs.lock import wait_for_writer

LARGEST = {512: 200_000, 1024: 500_000, 4096: 5_000_000, 65536: 4_000_000}
BLOCK_SIZES = sorted(LARGEST) if OPERATIONS > 3000 else [512, 4096]


class MountedFile:
    """`file` of a mounted image, by the system calls of this process."""

    def __init__(self, mount: Any) -> None:
        self.mount = mount
        self.path = mount.point / "file"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.fd, size, offset)

    def write(self, offset: int, content: bytes) -> int:
        return os.pwrite(self.fd, content, offset)

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def fsync(self) -> None:
        os.fsync(self.fd)

    def reopen(self) -> None:
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def remount(self) -> None:
        os.close(self.fd)
        self.mount.again()
        self.fd = os.open(self.path, os.O_RDWR)

    def map_read(self, offset: int, size: int) -> bytes:
        with mmap.mmap(self.fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
            return mapped[offset : offset + size]

    def map_write(self, offset: int, content: bytes) -> None:
        with mmap.mmap(self.fd, 0, mmap.MAP_SHARED) as mapped:
            mapped[offset : offset + len(content)] = content
            mapped.flush()


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_a_file_holds_what_a_bytearray_holds(new_mount: Any, block_size: int) -> None:
    largest = LARGEST[block_size]
    mount = new_mount(largest * 4 // block_size * block_size, block_size)
    mount.mount()
    file = MountedFile(mount)
    run = Run(file)
    try:
        run.run(Choice(SEED, block_size, largest, WEIGHTS | MAPPED), OPERATIONS)
    finally:
        os.close(file.fd)
    mount.unmount()
    assert wait_for_writer(mount.image) == []
    found = walk(mount.image.read_bytes())
    assert found.findings == []
    assert found.content(found.paths[b"/file"]) == run.shadow
