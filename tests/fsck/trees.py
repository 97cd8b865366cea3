"""A small sound tree, and what a check and a repair make of it once it is broken."""

from __future__ import annotations

import functools
import os
import struct

from tests.support.broken import repaired
from tests.support.damage import SECTOR, Image
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


def crowded(count: int, length: int) -> Image:
    """An image whose /d has `count` names of `length` bytes for the file /f.

    They are written as a file that becomes a directory: calls of link() would take
    most of a test's time.
    """
    fs = mount(blank(16 * 2**20))
    fs.close(fs.open("/f", os.O_CREAT | os.O_WRONLY))
    content = _records(fs.stat("/f").st_ino, count, length)
    fd = fs.open("/d", os.O_CREAT | os.O_WRONLY)
    fs.write(fd, content)
    directory = fs.stat("/d").st_ino
    fs.close(fd)
    fs.unmount()
    made = Image(image_of(fs))
    made.put_inode(directory, mode=0o040755, nlink=2)
    made.put_record(made.entry("/d"), file_type=DIRECTORY)
    made.put_word(made.at(made.owned(directory).data[0]), directory)
    made.put_inode(made.find("/f"), nlink=count + 1)
    made.put_inode(2, nlink=made.get(2, "nlink") + 1)
    return made


def _records(ino: int, count: int, length: int) -> bytes:
    """Whole blocks of directory records: `.` (its inode is put in later), `..`, and the names."""
    size = (8 + length + 3) // 4 * 4
    records = [(12, 2, DIRECTORY, b"."), (12, 2, DIRECTORY, b"..")]
    records += [(size, ino, REGULAR, b"%0*d" % (length, number)) for number in range(count)]
    content = bytearray()
    for at in range(0, len(records), SECTOR // size):
        sector = records[at : at + SECTOR // size]
        room = SECTOR - sum(record[0] for record in sector[:-1])
        for used, number, kind, name in (*sector[:-1], (room, *sector[-1][1:])):
            content += struct.pack("<IHBB", number, used, len(name), kind) + name
            content += bytes(used - 8 - len(name))
    empty = struct.pack("<IHBB", 0, SECTOR, 0, 0).ljust(SECTOR, b"\0")
    return bytes(content) + empty * (-(len(content) // SECTOR) % 8)
