"""A path walked step by step, with every block that a cold walk reads (OSTEP 40.6).

Nothing is in memory at the start.  Each step reads an inode, then the directory's
blocks up to the record that matches, each through its blocks of pointers.  A block
that was read before on the same walk costs nothing: it is in the cache (OSTEP 40.7).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Final

from vsfs.describe import Values, inode_record, name_values
from vsfs.errors import Corrupt
from vsfs.layout import INLINE_SIZE, ROOT_INO, DirectoryRecord, InodeRecord, type_name
from vsfs.rawimage import MAX_LINKS, NotThere, Piece, RawImage, Sector, split_path

MAX_STEPS: Final = 4096  # inodes on one walk: more than any path of 4096 bytes has


class _Pointers:
    """The blocks of pointers of one inode, in the order in which they are needed."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._end = 0  # the file block behind those that were looked at

    def down_to(self, file_block: int) -> list[int]:
        """Those on the way to `file_block` that no call before this one gave."""
        found: list[int] = []
        while self._end <= file_block:
            piece = next(self._pieces, None)
            if piece is None:
                break
            if piece.level:
                found.append(piece.block_no)
            else:
                self._end = piece.file_block + piece.count
        return found


class _Walk:
    """The steps and the block reads of one walk."""

    def __init__(self, image: RawImage) -> None:
        self.image = image
        self.steps: list[Values] = []
        self.reads: list[Values] = []
        self._seen: set[int] = set()

    def read(self, block: int, what: str, ino: int) -> None:
        """Note that `block` is read for `what` of inode `ino`."""
        cached = block in self._seen
        self._seen.add(block)
        read = {"block": block, "what": what, "ino": ino, "cached": cached}
        self.reads.append(read)
        self.steps[-1]["reads"].append(read)

    def visit(self, ino: int, above: bytes) -> InodeRecord:
        """Begin a step: read inode `ino`.  Raises Corrupt, NotThere."""
        step: Values = {
            "ino": ino,
            **name_values(above, "path"),
            "location": None,
            "type": None,
            **name_values(b"", "wanted"),
            "records_read": 0,
            "match": None,
            "target": None,
            "target_hex": None,
            "reads": [],
            "damage": None,
        }
        self.steps.append(step)
        step["wanted"] = None
        self.image.inode_bytes(ino)
        block, offset = self.image.geometry.inode_location(ino)
        step["location"] = {"block": block, "offset": offset}
        self.read(block, "inode", ino)
        step["damage"] = self.image.inode_damage(ino)
        record, _ = inode_record(self.image, ino)
        step["type"] = type_name(record.mode) if record.mode else None
        return self.image.inode(ino)

    def search(self, ino: int, record: InodeRecord, name: bytes) -> int | None:
        """Read directory `ino` up to the record of `name`; its inode number.

        None where the directory has no such name.
        """
        step = self.steps[-1]
        step |= name_values(name, "wanted")
        pointers = _Pointers(self.image.pieces(ino, record))
        blocks: set[int] = set()
        for sector in self.image.sectors(ino, record):
            step["damage"] = step["damage"] or sector.damage
            if sector.block_no and sector.block_no not in blocks:
                blocks.add(sector.block_no)
                for block in pointers.down_to(sector.file_block):
                    self.read(block, "indirect", ino)
                self.read(sector.block_no, "directory", ino)
            for entry in sector.records:
                step["records_read"] += 1
                if entry.ino and entry.name == name:
                    step["match"] = _match_values(self.image, sector, entry)
                    return entry.ino
        return None

    def target(self, ino: int, record: InodeRecord) -> bytes:
        """Where a symbolic link leads; a long one is in a block of its own."""
        target = self.image.target(ino, record)
        if record.size > INLINE_SIZE:
            for piece in self.image.pieces(ino, record):
                if piece.block_no and not piece.level:
                    self.read(piece.block_no, "target", ino)
        self.steps[-1] |= name_values(target, "target")
        return target


def _match_values(image: RawImage, sector: Sector, entry: DirectoryRecord) -> Values:
    """The record that a search found."""
    return {
        "block": sector.block_no,
        "offset": entry.offset,
        "image_offset": sector.block_no * image.geometry.block_size + entry.offset,
        "inode": entry.ino,
    }


def describe_path(image: RawImage, path: bytes) -> Values:
    """The walk along an absolute `path`: each inode, each directory, each block read.

    Symbolic links on the way are followed, the last one is not.  A walk that ends
    early has `found` None, and `missing` says why; nothing is raised.
    """
    walk = _Walk(image)
    found, missing = None, None
    try:
        found = _follow(walk, path)
    except (Corrupt, NotThere) as error:
        missing = str(error)
        if walk.steps and isinstance(error, Corrupt):
            walk.steps[-1]["damage"] = walk.steps[-1]["damage"] or missing
    return {
        **name_values(path, "path"),
        "found": found,
        "missing": missing,
        "steps": walk.steps,
        "read_count": len(walk.reads),
        "block_count": sum(not read["cached"] for read in walk.reads),
    }


def _follow(walk: _Walk, path: bytes) -> int:
    """Walk to the end of `path`; raises NotThere where there is none, Corrupt."""
    todo, above, links = split_path(path), b"/", 0
    current = ROOT_INO
    record = walk.visit(current, above)
    while todo:
        if not stat.S_ISDIR(record.mode):
            raise NotThere(f"inode {current} is no directory but a {type_name(record.mode)}")
        name = todo.pop()
        ino = walk.search(current, record, name)
        if ino is None:
            shown = name_values(name)["name"]
            raise NotThere(f"directory {current} has no record {shown}")
        if len(walk.steps) >= MAX_STEPS:
            raise NotThere(f"the walk has more than {MAX_STEPS} steps")
        below = above.rstrip(b"/") + b"/" + name
        entered = walk.visit(ino, below)
        if not (stat.S_ISLNK(entered.mode) and todo):
            current, record, above = ino, entered, below
            continue
        links += 1
        if links > MAX_LINKS:
            raise NotThere(f"it leads through more than {MAX_LINKS} symbolic links")
        target = walk.target(ino, entered)
        todo += split_path(target)
        if target.startswith(b"/"):
            current, above = ROOT_INO, b"/"
        record = walk.visit(current, above)  # again: from where the link's path starts
    return current
