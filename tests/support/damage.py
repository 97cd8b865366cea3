"""Ways to break an image, by its bytes alone: ``struct``, ``zlib`` and nothing of ``vsfs``.

:class:`Image` finds the parts of an image by name and puts there what no program
would: an inode's field, a bit of a bitmap, a directory record.  A checksum is made
right again unless the damage is to be one that the checksum shows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

SECTOR: Final = 512
INODE: Final = 256

#: Field -> struct code and offset, as docs/FORMAT.md has them.
SUPERBLOCK_FIELDS: Final = {
    "magic": ("4s", 0),
    "version": ("I", 4),
    "feature_compat": ("I", 8),
    "feature_incompat": ("I", 12),
    "feature_ro_compat": ("I", 16),
    "block_size": ("I", 20),
    "block_count": ("Q", 24),
    "inode_count": ("I", 32),
    "inode_size": ("I", 36),
    "inode_bitmap_start": ("I", 40),
    "data_bitmap_start": ("I", 44),
    "inode_table_start": ("I", 48),
    "data_start": ("I", 52),
    "free_block_count": ("Q", 56),
    "free_inode_count": ("I", 64),
    "state": ("I", 68),
    "uuid": ("16s", 72),
    "label": ("32s", 88),
    "created_ns": ("q", 120),
    "mounted_ns": ("q", 128),
    "written_ns": ("q", 136),
    "checked_ns": ("q", 144),
    "mount_count": ("I", 152),
    "reserved": ("352s", 156),
    "checksum": ("I", 508),
}
INODE_FIELDS: Final = {
    "mode": ("I", 0),
    "nlink": ("I", 4),
    "uid": ("I", 8),
    "gid": ("I", 12),
    "size": ("Q", 16),
    "blocks": ("Q", 24),
    "atime_ns": ("q", 32),
    "mtime_ns": ("q", 40),
    "ctime_ns": ("q", 48),
    "btime_ns": ("q", 56),
    "flags": ("I", 64),
    "generation": ("I", 68),
    "device": ("I", 72),
    "epochs": ("I", 76),
    **{f"direct{index}": ("I", 80 + 4 * index) for index in range(12)},
    "single": ("I", 128),
    "double": ("I", 132),
    "triple": ("I", 136),
    "attribute": ("I", 140),
    "inline": ("108s", 144),
    "checksum": ("I", 252),
}
POINTER_FIELDS: Final = (
    *(f"direct{index}" for index in range(12)),
    "single",
    "double",
    "triple",
    "attribute",
)
RECORD_FIELDS: Final = {
    "ino": ("I", 0),
    "length": ("H", 4),
    "name_length": ("B", 6),
    "file_type": ("B", 7),
}


@dataclass
class Owned:
    """The blocks of one inode."""

    data: dict[int, int]  # file block -> block
    indirect: list[int]
    attribute: list[int]

    @property
    def all(self) -> set[int]:
        return {*self.data.values(), *self.indirect, *self.attribute}


class Image:
    """The bytes of an image, to be broken; `data` is a copy of what it was made from.

    Where things are is read once, while the image is sound.
    """

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = bytearray(data)
        self.block_size: int = self.superblock("block_size")
        self.block_count: int = self.superblock("block_count")
        self.inode_count: int = self.superblock("inode_count")
        self.inode_bitmap: int = self.superblock("inode_bitmap_start")
        self.data_bitmap: int = self.superblock("data_bitmap_start")
        self.table: int = self.superblock("inode_table_start")
        self.data_start: int = self.superblock("data_start")

    def copy(self) -> Image:
        """The same image with bytes of its own."""
        other = Image.__new__(Image)
        other.__dict__.update(self.__dict__)
        other.data = bytearray(self.data)
        return other

    # -- bytes ----------------------------------------------------------------

    def at(self, block: int, offset: int = 0) -> int:
        """Where in `data` byte `offset` of `block` is."""
        return block * self.block_size + offset

    def block(self, number: int) -> bytes:
        return bytes(self.data[self.at(number) : self.at(number + 1)])

    def put(self, at: int, content: bytes) -> None:
        """Put bytes at `at`; those past the end of the image are dropped."""
        content = content[: max(len(self.data) - at, 0)]
        self.data[at : at + len(content)] = content

    def put_block(self, number: int, content: bytes, offset: int = 0) -> None:
        self.put(self.at(number, offset), content)

    def flip(self, at: int, bit: int) -> None:
        """Flip one bit."""
        self.data[at] ^= 1 << bit

    def word(self, at: int) -> int:
        word: int = struct.unpack_from("<I", self.data, at)[0]
        return word

    def put_word(self, at: int, value: int) -> None:
        self.put(at, struct.pack("<I", value))

    # -- superblock -----------------------------------------------------------

    def superblock(self, name: str) -> Any:
        """A field of the superblock."""
        code, at = SUPERBLOCK_FIELDS[name]
        return struct.unpack_from("<" + code, self.data, at)[0]

    def put_superblock(self, *, seal: bool = True, **fields: Any) -> None:
        """Change fields of the superblock, and its checksum with `seal`."""
        for name, value in fields.items():
            code, at = SUPERBLOCK_FIELDS[name]
            self.put(at, struct.pack("<" + code, value))
        if seal:
            self.seal_superblock()

    def seal_superblock(self) -> None:
        """Make its checksum right."""
        self.put_word(508, zlib.crc32(self.data[:508]))

    # -- inodes ---------------------------------------------------------------

    def inode_at(self, ino: int) -> int:
        """Where in `data` the record of `ino` starts."""
        return self.at(self.table) + ino * INODE

    def get(self, ino: int, name: str) -> Any:
        """A field of an inode; pointers are `direct0` to `direct11`, `single` and so on."""
        code, at = INODE_FIELDS[name]
        return struct.unpack_from("<" + code, self.data, self.inode_at(ino) + at)[0]

    def put_inode(self, ino: int, *, seal: bool = True, **fields: Any) -> None:
        """Change fields of an inode, and its checksum with `seal`."""
        for name, value in fields.items():
            code, at = INODE_FIELDS[name]
            self.put(self.inode_at(ino) + at, struct.pack("<" + code, value))
        if seal:
            self.seal(ino)

    def seal(self, ino: int) -> None:
        """Make the checksum of an inode right."""
        at = self.inode_at(ino)
        number = zlib.crc32(struct.pack("<I", ino))
        self.put_word(at + 252, zlib.crc32(self.data[at : at + 252], number))

    def is_directory(self, ino: int) -> bool:
        return int(self.get(ino, "mode")) & 0o170000 == 0o040000

    def inodes(self) -> list[int]:
        """Those in use, without 0 and 1."""
        return [ino for ino in range(2, self.inode_count) if self.inode_bit(ino)]

    def owned(self, ino: int) -> Owned:
        """The blocks of a sound inode."""
        owned = Owned({}, [], [])
        for index in range(12):
            if self.get(ino, f"direct{index}"):
                owned.data[index] = self.get(ino, f"direct{index}")
        first, per_block = 12, self.block_size // 4
        for level, name in enumerate(("single", "double", "triple"), 1):
            self._below(owned, self.get(ino, name), level, first)
            first += per_block**level
        if self.get(ino, "attribute"):
            owned.attribute.append(self.get(ino, "attribute"))
        return owned

    def _below(self, owned: Owned, block: int, level: int, first: int) -> None:
        if not block:
            return
        if level == 0:
            owned.data[first] = block
            return
        owned.indirect.append(block)
        per_block = self.block_size // 4
        for index, pointer in enumerate(struct.unpack(f"<{per_block}I", self.block(block))):
            self._below(owned, pointer, level - 1, first + index * per_block ** (level - 1))

    # -- bitmaps --------------------------------------------------------------

    def inode_bit(self, ino: int) -> int:
        return self.data[self.at(self.inode_bitmap) + ino // 8] >> ino % 8 & 1

    def put_inode_bit(self, ino: int, value: int) -> None:
        self._put_bit(self.at(self.inode_bitmap), ino, value)

    def data_bit(self, block: int) -> int:
        number = block - self.data_start
        return self.data[self.at(self.data_bitmap) + number // 8] >> number % 8 & 1

    def put_data_bit(self, block: int, value: int) -> None:
        self._put_bit(self.at(self.data_bitmap), block - self.data_start, value)

    def _put_bit(self, at: int, number: int, value: int) -> None:
        byte = self.data[at + number // 8] & ~(1 << number % 8)
        self.data[at + number // 8] = byte | value << number % 8

    def free_block(self, nth: int = 0) -> int:
        """The `nth` data block whose bit is 0."""
        free = (n for n in range(self.data_start, self.block_count) if not self.data_bit(n))
        return [n for _, n in zip(range(nth + 1), free, strict=False)][nth]

    def free_ino(self, nth: int = 0) -> int:
        """The `nth` inode whose bit is 0."""
        return [ino for ino in range(2, self.inode_count) if not self.inode_bit(ino)][nth]

    # -- journal --------------------------------------------------------------

    def journal(self) -> list[int]:
        """The blocks of a sound journal: the header, then the log; none without one."""
        blocks = self.owned(1).data
        return [blocks[file_block] for file_block in sorted(blocks)]

    def journal_numbers(self, journal: list[int]) -> list[int]:
        """The blocks that the header is about; no more than there is a log for."""
        count = min(self.word(self.at(journal[0], 4)), len(journal) - 1)
        return [self.word(self.at(journal[0], 20 + 4 * index)) for index in range(count)]

    def seal_journal(self, journal: list[int]) -> None:
        """Make the header's checksum right for the log as it is: all of it is committed."""
        count = len(self.journal_numbers(journal))
        header = self.block(journal[0])
        checksum = zlib.crc32(header[:16] + bytes(4) + header[20 : 20 + 4 * count])
        for number in journal[1 : 1 + count]:
            checksum = zlib.crc32(self.block(number)[::-1], checksum)
        self.put_word(self.at(journal[0], 16), checksum)

    def commit(self, after: Image) -> None:
        """Put into the journal what makes `after` of this image; both are mounted then."""
        journal = self.journal()
        for image in (self, after):
            image.put_superblock(state=2, feature_incompat=1)
        numbers = [n for n in range(self.block_count) if after.block(n) != self.block(n)]
        self.put_word(self.at(journal[0], 4), len(numbers))
        self.put_block(journal[0], struct.pack(f"<{len(numbers)}I", *numbers), 20)
        for number, content in zip(journal[1:], map(after.block, numbers), strict=False):
            self.put_block(number, content)
        self.seal_journal(journal)

    # -- directories ----------------------------------------------------------

    def records(self, ino: int) -> Iterator[int]:
        """Where in `data` each record of a sound directory starts, free ones too."""
        blocks = self.owned(ino).data
        for file_block in sorted(blocks):
            at, end = self.at(blocks[file_block]), self.at(blocks[file_block] + 1)
            while at < end:
                yield at
                at += self.record(at, "length")

    def record(self, at: int, name: str) -> int:
        """A field of the record at `at`."""
        code, offset = RECORD_FIELDS[name]
        value: int = struct.unpack_from("<" + code, self.data, at + offset)[0]
        return value

    def name(self, at: int) -> bytes:
        return bytes(self.data[at + 8 : at + 8 + self.record(at, "name_length")])

    def put_record(self, at: int, **fields: Any) -> None:
        """Change fields of the record at `at`; `name` also sets its length."""
        if "name" in fields:
            name = fields.pop("name")
            fields["name_length"] = len(name)
            self.put(at + 8, name)
        for field, value in fields.items():
            code, offset = RECORD_FIELDS[field]
            self.put(at + offset, struct.pack("<" + code, value))

    def entries(self, ino: int) -> dict[bytes, int]:
        """Names of a sound directory -> where their records start."""
        return {self.name(at): at for at in self.records(ino) if self.record(at, "ino")}

    def find(self, path: str) -> int:
        """The inode number of an absolute path; symbolic links are not followed."""
        ino = 2
        for part in path.encode().split(b"/"):
            if part:
                ino = self.record(self.entries(ino)[part], "ino")
        return ino

    def entry(self, path: str) -> int:
        """Where the record of the last name of `path` starts."""
        parent, _, name = path.rpartition("/")
        return self.entries(self.find(parent))[name.encode()]

    def insert(self, directory: int, name: bytes, ino: int, file_type: int) -> int:
        """Enter a name in the slack of some record, as a program would; where it is."""
        wanted = (8 + len(name) + 3) // 4 * 4
        for at in self.records(directory):
            length = self.record(at, "length")
            used = (
                (8 + self.record(at, "name_length") + 3) // 4 * 4 if self.record(at, "ino") else 0
            )
            if length - used >= wanted:
                if used:
                    self.put_record(at, length=used)
                new, rest = at + used, length - used
                self.put_record(new, ino=ino, length=rest, file_type=file_type, name=name)
                return new
        raise ValueError(f"no room for {name!r}")

    def remove(self, path: str) -> None:
        """Take away a name, as a program would: the record joins the one before."""
        at = self.entry(path)
        sector = at // SECTOR * SECTOR
        records = self.records(self.find(path.rpartition("/")[0]))
        before = [other for other in records if sector <= other < at]
        if before:
            length = self.record(before[-1], "length") + self.record(at, "length")
            self.put_record(before[-1], length=length)
        else:
            self.put_record(at, ino=0)
