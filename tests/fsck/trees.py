"""A small sound tree, and what a check and a repair make of it once it is broken."""

from __future__ import annotations

import functools
import os

from tests.support.broken import repaired
from tests.support.damage import Image
from tests.support.images import blank, image_of, mount
from tests.support.rawwalk import Walk, walk
from vsfs.device import MemoryDevice
from vsfs.fsck import Finding, Report, check, repair_safe

DIRECTORY = 2  # file types in entries
REGULAR = 1
SUPERBLOCK = 512


@functools.cache
def tree(block_size: int = 512, size: int = 256 * 1024, inode_count: int = 128) -> bytes:
    """An image with directories in directories, hard links, and one of many blocks."""
    fs = mount(blank(size, block_size=block_size, inode_count=inode_count))
    for name in ("/a", "/a/b", "/a/b/c", "/d", "/many"):
        fs.mkdir(name)
    for name, content in {"/f": b"f" * 600, "/a/g": b"g", "/a/b/h": b"h" * 20, "/e": b""}.items():
        fd = fs.open(name, os.O_CREAT | os.O_WRONLY)
        fs.write(fd, content)
        fs.close(fd)
    fs.link("/f", "/a/again")
    fs.symlink("f", "/s")
    for number in range(60):
        fs.link("/a/g", f"/many/name-number-{number:02}")
    fs.unmount()
    return image_of(fs)


def image(block_size: int = 512, **options: int) -> Image:
    """The same, to be broken."""
    return Image(tree(block_size, **options))


class Repaired:
    """What a check found; the repair is made, and a second check has found nothing."""

    def __init__(self, broken: Image) -> None:
        self.before = bytes(broken.data)
        self.report: Report
        self.report, self.after = repaired(self.before)
        self.findings: tuple[Finding, ...] = self.report.findings
        again, _ = repaired(self.after)
        assert [finding.text for finding in again.findings] == []
        self.walk: Walk = walk(self.after)
        assert self.walk.findings == []
        self.image = Image(self.after)

    @property
    def is_as_before(self) -> bool:
        """Whether the image is the sound tree again, but for times in the superblock."""
        sound = tree(self.image.block_size)
        return self.after[SUPERBLOCK:] == sound[SUPERBLOCK:]

    @property
    def rules(self) -> list[int]:
        return [finding.rule.number for finding in self.findings]

    def of(self, number: int) -> list[Finding]:
        """The findings of a rule."""
        return [finding for finding in self.findings if finding.rule.number == number]

    def only(self, number: int) -> Finding:
        """The single finding, which is of this rule."""
        assert self.rules == [number], [finding.text for finding in self.findings]
        return self.findings[0]

    def names(self, path: str) -> set[bytes]:
        """The names in a directory, without `.` and `..`."""
        prefix = path.rstrip("/").encode() + b"/"
        below = (name[len(prefix) :] for name in self.walk.paths if name.startswith(prefix))
        return {name for name in below if b"/" not in name}

    def ino(self, path: str) -> int:
        return self.walk.paths[path.encode()]


def place(broken: Image, finding: Finding) -> int:
    """Where in the image what was found stands."""
    return broken.at(finding.found.block_no, finding.found.offset)


def safely(broken: Image) -> Report:
    """What ``-p`` would find and decide."""
    return check(MemoryDevice(bytearray(broken.data)), decide=repair_safe)
