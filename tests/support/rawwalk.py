"""A second reader of VSFS images, as an oracle: ``struct`` and nothing of ``vsfs``.

:func:`walk` takes the bytes of an image and returns what the tree is and every
rule that is broken.  The offsets are written here by hand, from the same
specification as ``vsfs/layout.py``: a mistake there cannot hide itself.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

SECTOR = 512
INODE = 256
TYPE_CODES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}


@dataclass
class RawInode:
    """An inode that is in use, and the blocks that its pointers reach."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    mtime_ns: int
    device: int
    inline: bytes
    file_blocks: dict[int, int] = field(default_factory=dict)  # file block -> block
    indirect_blocks: int = 0
    entries: dict[bytes, int] = field(default_factory=dict)  # of a directory


@dataclass
class Walk:
    """What an image holds: broken rules, inodes, and paths to inode numbers."""

    findings: list[str]
    block_size: int = 0
    free_blocks: int = 0
    free_inodes: int = 0
    inodes: dict[int, RawInode] = field(default_factory=dict)
    paths: dict[bytes, int] = field(default_factory=dict)  # b"" is the root, b"/a/b" a file
    orphans: set[int] = field(default_factory=set)
    journal: tuple[int, ...] = ()  # the blocks of inode 1: the header, then the log
    image: bytes = field(default=b"", repr=False)

    def content(self, ino: int) -> bytes:
        """The bytes of a file, or the target of a symbolic link."""
        inode = self.inodes[ino]
        if stat.S_ISLNK(inode.mode) and not inode.file_blocks:
            return inode.inline[: inode.size]
        content = bytearray(inode.size)
        for file_block, block in inode.file_blocks.items():
            start = file_block * self.block_size
            part = self.image[block * self.block_size : (block + 1) * self.block_size]
            part = part[: max(inode.size - start, 0)]
            content[start : start + len(part)] = part
        return bytes(content)


def walk(image: bytes | bytearray, *, mounted: bool = False, shared: bool = False) -> Walk:
    """Read `image` and compare each of its structures with all others.

    With `mounted` the superblock must say so, and inodes without a name are
    allowed: files that are open.  A block of two files is a finding; with `shared`
    it counts as part of both all the same, as whoever reads them sees it.
    """
    return _Walker(bytes(image), mounted, shared).run()


class _Walker:
    def __init__(self, image: bytes, mounted: bool, shared: bool) -> None:
        self.image = image
        self.mounted = mounted
        self.shared = shared
        self.result = Walk([], image=image)
        self.owners: dict[int, str] = {}  # block -> who has it

    def bad(self, sentence: str) -> None:
        self.result.findings.append(sentence)

    def expect(self, what: str, expected: object, found: object) -> None:
        if expected != found:
            self.bad(f"{what} is {found}, expected {expected}")

    def run(self) -> Walk:
        if not self.read_superblock():
            return self.result
        for ino in range(self.inode_count):
            self.read_inode(ino)
        if 2 in self.result.inodes:
            self.read_tree()
        self.check_links()
        self.check_bitmaps()
        return self.result

    # -- superblock -----------------------------------------------------------

    def read_superblock(self) -> bool:
        image = self.image
        self.expect("the magic", b"VSFS", image[:4])
        version, compat, incompat, ro_compat, self.block_size = struct.unpack_from("<5I", image, 4)
        (self.block_count,) = struct.unpack_from("<Q", image, 24)
        self.inode_count, inode_size = struct.unpack_from("<2I", image, 32)
        starts = struct.unpack_from("<4I", image, 40)
        self.inode_bitmap, self.data_bitmap, self.table, self.data = starts
        (self.free_blocks,) = struct.unpack_from("<Q", image, 56)
        self.free_inodes, state = struct.unpack_from("<2I", image, 64)
        (checksum,) = struct.unpack_from("<I", image, 508)
        self.expect("the version", 1, version)
        self.has_journal = compat == 1
        needs_replay = int(self.has_journal and self.mounted)
        features = (int(self.has_journal), needs_replay, 0)
        self.expect("the features", features, (compat, incompat, ro_compat))
        self.expect("the inode size", INODE, inode_size)
        self.expect("the superblock's checksum", zlib.crc32(image[:508]), checksum)
        self.expect("the state", 2 if self.mounted else 1, state)
        self.expect("the reserved part of the superblock", bytes(352), image[156:508])
        if self.result.findings:
            return False
        size = self.block_size
        self.expect("the rest of block 0", bytes(size - 512), image[512:size])
        per_block = size * 8
        self.expect("the inode bitmap's start", 1, self.inode_bitmap)
        self.expect("the data bitmap's start", 1 - -self.inode_count // per_block, self.data_bitmap)
        self.expect(
            "the data region's start", self.table - -self.inode_count * INODE // size, self.data
        )
        data_blocks = self.block_count - self.data
        room = (self.table - self.data_bitmap) * per_block
        if not 0 < data_blocks <= room:
            self.bad(f"the data bitmap has {room} bits for {data_blocks} blocks")
        if self.block_count * size > len(image):
            self.bad(f"{self.block_count} blocks do not fit {len(image)} bytes")
        self.result.block_size = size
        return not self.result.findings

    def block(self, number: int) -> bytes:
        return self.image[number * self.block_size : (number + 1) * self.block_size]

    # -- inodes ---------------------------------------------------------------

    def bits(self, start: int, end: int) -> int:
        return int.from_bytes(self.image[start * self.block_size : end * self.block_size], "little")

    def read_inode(self, ino: int) -> None:
        at = self.table * self.block_size + ino * INODE
        raw = self.image[at : at + INODE]
        in_use = self.bits(self.inode_bitmap, self.data_bitmap) >> ino & 1
        if ino == 1 and self.has_journal:
            self.read_journal(raw, in_use)
            return
        if ino < 2:
            self.expect(f"reserved inode {ino}", (1, bytes(INODE)), (in_use, raw))
            return
        if any(raw) or in_use:
            checksum = zlib.crc32(struct.pack("<I", ino) + raw[:252])
            self.expect(
                f"the checksum of inode {ino}", checksum, struct.unpack_from("<I", raw, 252)[0]
            )
        mode, nlink, uid, gid, size, blocks = struct.unpack_from("<4I2Q", raw)
        if not in_use:
            self.expect(f"the link count of free inode {ino}", 0, nlink)
            return
        _, mtime_ns, _, _ = struct.unpack_from("<4q", raw, 32)
        flags, _, device = struct.unpack_from("<3I", raw, 64)
        (mtime_epoch,) = struct.unpack_from("<b", raw, 77)
        pointers = struct.unpack_from("<15I", raw, 80)
        (attribute_block,) = struct.unpack_from("<I", raw, 140)
        inode = RawInode(
            ino, mode, nlink, uid, gid, size, blocks,
            mtime_ns + (mtime_epoch << 64), device, raw[144:252],
        )  # fmt: skip
        self.result.inodes[ino] = inode
        self.expect(f"the flags of inode {ino}", 0, flags)
        if stat.S_IFMT(mode) not in TYPE_CODES or mode > 0o177777:
            self.bad(f"inode {ino} has mode {mode:o}")
        self.read_pointers(inode, pointers, attribute_block)
        self.check_contents(inode)

    def read_journal(self, raw: bytes, in_use: int) -> None:
        """Inode 1, and the header that its first block begins with."""
        checksum = zlib.crc32(struct.pack("<I", 1) + raw[:252])
        self.expect("the checksum of the journal", checksum, struct.unpack_from("<I", raw, 252)[0])
        mode, nlink, uid, gid, size, blocks = struct.unpack_from("<4I2Q", raw)
        self.expect("the journal's bit and links", (1, 1), (in_use, nlink))
        self.expect("the journal's type", stat.S_IFREG, stat.S_IFMT(mode))
        inode = RawInode(1, mode, nlink, uid, gid, size, blocks, 0, 0, raw[144:252])
        pointers = struct.unpack_from("<15I", raw, 80)
        self.expect("pointers of the journal that it does not need", (0, 0), pointers[13:])
        self.read_pointers(inode, pointers, *struct.unpack_from("<I", raw, 140))
        count, rest = divmod(size, self.block_size)
        room = (self.block_size - 20) // 4
        self.expect("the journal's file blocks", list(range(count)), sorted(inode.file_blocks))
        if rest or not 2 <= count <= 1 + room:
            self.bad(f"the journal has {size} bytes")
            return
        self.result.journal = tuple(inode.file_blocks[index] for index in range(count))
        header = self.block(self.result.journal[0])
        magic, waiting, _sequence, checksum = struct.unpack_from("<4sIQI", header)
        self.expect("the journal's magic", b"JRNL", magic)
        if waiting >= count:
            self.bad(f"the journal has {waiting} blocks, and room for {count - 1}")
        if not waiting:
            empty = zlib.crc32(header[:16] + bytes(4))
            self.expect("the checksum of an empty header", empty, checksum)

    def claim(self, block: int, owner: str) -> bool:
        """Note that `owner` has `block`; say whether that is possible."""
        if not self.data <= block < self.block_count:
            self.bad(f"{owner} points to block {block}, outside the data region")
            return False
        if block in self.owners:
            self.bad(f"block {block} belongs to {self.owners[block]} and to {owner}")
            return self.shared
        self.owners[block] = owner
        return True

    def read_pointers(
        self, inode: RawInode, pointers: tuple[int, ...], attribute_block: int
    ) -> None:
        owner = f"inode {inode.ino}"
        for file_block, block in enumerate(pointers[:12]):
            if block and self.claim(block, owner):
                inode.file_blocks[file_block] = block
        first, per_block = 12, self.block_size // 4
        for level in (1, 2, 3):
            if pointers[11 + level]:
                self.read_indirect(inode, pointers[11 + level], level, first)
            first += per_block**level
        owned = len(inode.file_blocks) + inode.indirect_blocks
        if attribute_block and self.claim(attribute_block, owner):
            owned += 1
            self.read_attributes(inode.ino, attribute_block)
        self.expect(f"the block count of {owner}", owned, inode.blocks)
        end = -(-inode.size // self.block_size)
        past = [file_block for file_block in inode.file_blocks if file_block >= end]
        if past:
            self.bad(f"{owner} has {inode.size} bytes, and file blocks {past}")

    def read_attributes(self, ino: int, block: int) -> None:
        data = self.image[block * self.block_size : (block + 1) * self.block_size]
        magic, owner, size, checksum = struct.unpack_from("<4s3I", data)
        what = f"the attribute block of inode {ino}"
        self.expect(f"{what}: magic and owner", (b"ATTR", ino), (magic, owner))
        blank = data[:12] + bytes(4) + data[16:size]
        self.expect(f"{what}: checksum", zlib.crc32(blank), checksum)
        names, at = [], 16
        while at < size:
            name_length, _, value_length = struct.unpack_from("<BBH", data, at)
            names.append(data[at + 4 : at + 4 + name_length])
            at += (4 + name_length + value_length + 3) // 4 * 4
        self.expect(f"{what}: its end", size, at)
        self.expect(f"{what}: names", sorted(set(names)), names)

    def read_indirect(self, inode: RawInode, block: int, level: int, first: int) -> None:
        if not self.claim(block, f"inode {inode.ino} (indirect)"):
            return
        inode.indirect_blocks += 1
        if first * self.block_size >= inode.size:
            self.bad(
                f"inode {inode.ino} has an indirect block for file block {first}, past its end"
            )
        per_block = self.block_size // 4
        below = per_block ** (level - 1)
        for index, pointer in enumerate(struct.unpack(f"<{per_block}I", self.block(block))):
            if not pointer:
                continue
            if level > 1:
                self.read_indirect(inode, pointer, level - 1, first + index * below)
            elif self.claim(pointer, f"inode {inode.ino}"):
                inode.file_blocks[first + index] = pointer

    def check_contents(self, inode: RawInode) -> None:
        """Size and blocks as the file's type allows them."""
        ino, mode = inode.ino, inode.mode
        blocks = len(inode.file_blocks)
        if stat.S_ISDIR(mode):
            self.expect(f"the size of directory {ino}", blocks * self.block_size, inode.size)
            if not blocks:
                self.bad(f"directory {ino} has no block")
        elif stat.S_ISLNK(mode):
            if not 0 < inode.size < 4096:
                self.bad(f"symbolic link {ino} has a target of {inode.size} bytes")
            wanted = 0 if inode.size <= 108 else -(-inode.size // self.block_size)
            self.expect(f"the blocks of symbolic link {ino}", wanted, blocks)
        elif not stat.S_ISREG(mode):
            self.expect(f"size and blocks of special file {ino}", (0, 0), (inode.size, blocks))
        inline = inode.size if stat.S_ISLNK(mode) and inode.size <= 108 else 0
        self.expect(f"the padding of inode {ino}", bytes(108 - inline), inode.inline[inline:])
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            self.expect(f"the device number of inode {ino}", 0, inode.device)

    # -- names ----------------------------------------------------------------

    def read_tree(self) -> None:
        self.links: dict[int, int] = {2: 2}  # the root's `.` and `..`
        waiting = [(2, 2, b"")]
        reached: set[int] = set()
        self.result.paths[b""] = 2
        while waiting:
            ino, parent, path = waiting.pop()
            if ino in reached:
                self.bad(f"directory {ino} has a second name {path!r}")
                continue
            reached.add(ino)
            directory = self.result.inodes[ino]
            if not stat.S_ISDIR(directory.mode):
                self.bad(f"inode {ino} should be a directory")
                continue
            self.read_directory(directory)
            entries = directory.entries
            self.expect(f"`.` of directory {ino}", ino, entries.get(b"."))
            self.expect(f"`..` of directory {ino}", parent, entries.get(b".."))
            for name, child in entries.items():
                if name not in (b".", b".."):
                    self.enter(ino, path + b"/" + name, child, waiting)

    def enter(
        self, parent: int, path: bytes, child: int, waiting: list[tuple[int, int, bytes]]
    ) -> None:
        inode = self.result.inodes.get(child)
        if inode is None:
            self.bad(f"{path!r} names inode {child}, which is free")
            return
        self.result.paths[path] = child
        if stat.S_ISDIR(inode.mode):
            self.links[parent] = self.links.get(parent, 0) + 1  # the child's `..`
            self.links[child] = self.links.get(child, 0) + 2  # its name and its `.`
            waiting.append((child, parent, path))
        else:
            self.links[child] = self.links.get(child, 0) + 1

    def read_directory(self, directory: RawInode) -> None:
        for file_block in sorted(directory.file_blocks):
            block = directory.file_blocks[file_block]
            data = self.block(block)
            for sector in range(0, self.block_size, SECTOR):
                place = f"sector {sector // SECTOR} of directory block {block}"
                for ino, code, name in self.read_sector(data[sector : sector + SECTOR], place):
                    if name in directory.entries:
                        self.bad(f"{name!r} stands twice in directory {directory.ino}")
                    directory.entries[name] = ino
                    inode = self.result.inodes.get(ino)
                    if inode is not None:
                        self.expect(
                            f"the type of {name!r} in {place}",
                            TYPE_CODES.get(stat.S_IFMT(inode.mode)),
                            code,
                        )

    def read_sector(self, data: bytes, place: str) -> Iterator[tuple[int, int, bytes]]:
        """The used records of one sector: (inode number, type code, name)."""
        at = 0
        while at < SECTOR:
            if SECTOR - at < 8:
                self.bad(f"{place} ends with {SECTOR - at} bytes that are no record")
                return
            ino, length, name_length, code = struct.unpack_from("<IHBB", data, at)
            needed = (8 + name_length + 3) // 4 * 4 if ino else 8
            if length % 4 or length < needed or at + length > SECTOR:
                self.bad(f"a record at {at} in {place} has length {length}")
                return
            name = data[at + 8 : at + 8 + name_length]
            if ino and (not name or b"/" in name or b"\0" in name):
                self.bad(f"a record at {at} in {place} has the name {name!r}")
            if ino:
                yield ino, code, name
            at += length

    def check_links(self) -> None:
        for ino, inode in self.result.inodes.items():
            if inode.nlink == 0 and ino not in self.links and self.mounted:
                self.result.orphans.add(ino)
            else:
                self.expect(f"the link count of inode {ino}", self.links.get(ino), inode.nlink)

    # -- bitmaps --------------------------------------------------------------

    def check_bitmaps(self) -> None:
        used = 3 | sum(1 << ino for ino in self.result.inodes)
        self.compare("inode", self.inode_bitmap, self.data_bitmap, used, self.inode_count)
        used = sum(1 << block - self.data for block in self.owners)
        data_blocks = self.block_count - self.data
        self.compare("data", self.data_bitmap, self.table, used, data_blocks)
        self.result.free_blocks = data_blocks - len(self.owners)
        self.result.free_inodes = self.inode_count - 2 - len(self.result.inodes)
        self.expect("the free block count", self.result.free_blocks, self.free_blocks)
        self.expect("the free inode count", self.result.free_inodes, self.free_inodes)

    def compare(self, name: str, start: int, end: int, used: int, count: int) -> None:
        total = (end - start) * self.block_size * 8
        expected = used | (1 << total) - (1 << count)  # bits past the end are 1
        found = self.bits(start, end)
        wrong = expected ^ found
        while wrong:
            bit = (wrong & -wrong).bit_length() - 1
            self.bad(f"bit {bit} of the {name} bitmap is {found >> bit & 1}")
            wrong &= wrong - 1
