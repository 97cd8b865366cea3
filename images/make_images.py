"""Make the sample images again, bit for bit: ``python images/make_images.py [DIR]``.

Whoever runs this, and when and where, gets the same bytes: the UUIDs are fixed,
root owns everything, and time is the script's own (one second for each system
call).  ``README.md`` says what each image shows.
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

from vsfs import Credentials, FileSystem, MemoryDevice, NoSpace
from vsfs.mkfs import DEFAULT_IMAGE_SIZE, Identity, make, plan

_SECOND_NS: Final = 10**9
_START: Final = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_BLOCK_SIZE: Final = 4096
_LINE: Final = 64  # bytes, so that a block has 64 lines and each starts at a round offset


class Sample:
    """An image in the making, mounted; each call here happens one second later."""

    def __init__(self, device: MemoryDevice, start_ns: int) -> None:
        self._now_ns = start_ns
        self.fs = FileSystem.open(
            device,
            credentials=Credentials(0, 0),
            clock=lambda: self._now_ns,
            commit_interval=None,  # no thread: a commit comes when the script says so
        )
        self.fs.umask(0o022)

    def tick(self) -> None:
        """Let a second pass."""
        self._now_ns += _SECOND_NS

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self.tick()
        self.fs.mkdir(path)

    def write(self, path: str, content: bytes, offset: int = 0) -> int:
        """Write `content` into the file `path`, made if needed; return how much fitted."""
        self.tick()
        fd = self.fs.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
        try:
            return self.fs.pwrite(fd, content, offset)
        finally:
            self.fs.close(fd)

    def link(self, old: str, new: str) -> None:
        """Give a file one more name."""
        self.tick()
        self.fs.link(old, new)

    def symlink(self, target: str, path: str) -> None:
        """Make a symbolic link."""
        self.tick()
        self.fs.symlink(target, path)

    def unmount(self) -> None:
        """Make everything durable, and mark the image clean."""
        self.tick()
        self.fs.unmount()


def text(path: str, blocks: int) -> bytes:
    """That many blocks of readable lines; each tells where in the file it stands."""
    lines = []
    for offset in range(0, blocks * _BLOCK_SIZE, _LINE):
        line = f"{path}: block {offset // _BLOCK_SIZE}, byte {offset}"
        lines.append(line.ljust(_LINE - 1, ".") + "\n")
    return "".join(lines).encode()


def foo_bar(sample: Sample) -> None:
    """OSTEP's example: /foo/bar, three blocks long."""
    sample.mkdir("/foo")
    sample.write("/foo/bar", text("/foo/bar", 3))


def links(sample: Sample) -> None:
    """Several names for one inode, and names that stand for other names."""
    sample.write("/file", b"one inode, three names\n")
    sample.mkdir("/dir")
    sample.link("/file", "/hard")
    sample.link("/file", "/dir/hard")
    sample.symlink("file", "/soft")
    sample.symlink("../file", "/dir/soft")
    sample.symlink("./" * 52 + "file", "/inline-108")  # the longest that fits the inode
    sample.symlink("/" + "./" * 52 + "file", "/block-109")  # a byte more takes a block
    sample.symlink("nowhere", "/dangling")


def indirect(sample: Sample) -> None:
    """One file past the 12 direct pointers, and one with holes, twice indirect."""
    sample.write("/long", text("/long", 14))
    sample.write("/sparse", text("/sparse", 1))
    beyond_single = 12 + _BLOCK_SIZE // 4
    sample.write("/sparse", b"the end\n", offset=beyond_single * _BLOCK_SIZE)


def full(sample: Sample) -> None:
    """Files until not a block is left; the last one got less than it asked for."""
    for number in range(100):
        path = f"/file-{number}"
        try:
            sample.write(path, text(path, 10))
        except NoSpace:
            return  # the name is there, since inodes are left; the file is empty


_CONTENTS: Final[dict[str, Callable[[Sample], None] | None]] = {
    "textbook": None,  # as mkfs.vsfs leaves it, never mounted
    "foo-bar": foo_bar,
    "links": links,
    "indirect": indirect,
    "full": full,
}


def images() -> dict[str, bytes]:
    """Every image by its file name."""
    made = {}
    start_ns = int(_START.timestamp()) * _SECOND_NS
    for number, (name, fill) in enumerate(_CONTENTS.items(), 1):
        device = MemoryDevice(bytearray(DEFAULT_IMAGE_SIZE))
        identity = Identity(
            uuid=UUID(f"00000000-0000-4000-8000-{number:012}").bytes,
            label=name,
            now_ns=start_ns,
            uid=0,
            gid=0,
        )
        make(device, plan(DEFAULT_IMAGE_SIZE), identity)
        if fill is not None:
            sample = Sample(device, start_ns)
            fill(sample)
            sample.unmount()
        made[f"{name}.img"] = bytes(device.image)
    return made


def main() -> None:
    """Write the images into a directory, by default the one this script is in."""
    parser = argparse.ArgumentParser(description="Make the sample images of VSFS.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in images().items():
        (directory / name).write_bytes(content)


if __name__ == "__main__":
    main()
