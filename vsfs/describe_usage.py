"""What fills the disk: by region, by role, by file, and what is wasted on the way.

A file takes whole blocks, so its last one is rarely full (internal fragmentation,
OSTEP 40.2), and a large one needs blocks of pointers beside its data.
"""

from __future__ import annotations

import heapq
from typing import Final

from vsfs.describe import Values, bitmap_counts, inode_record, path_values
from vsfs.describe_fragments import FileLayout
from vsfs.describe_owner import role_of_piece
from vsfs.errors import Corrupt
from vsfs.layout import JOURNAL_INO, InodeRecord, ceil_div, type_name
from vsfs.rawimage import RawImage

MAX_FILES: Final = 20  # of the largest that are listed
_ROLES: Final = ("data", "directory", "indirect", "attributes", "journal")


def describe_usage(image: RawImage) -> Values:
    """Blocks by region and by role, inodes, waste, and the files with the most blocks.

    `lost` are blocks in use that no sound inode has.  `wasted` are bytes: of last
    blocks behind the end of a file, which `slack_files` files have.
    """
    geometry = image.geometry
    inodes, data = bitmap_counts(image, "inode"), bitmap_counts(image, "data")
    count = _Count(image)
    for ino in image.inodes_in_use():
        count.add(ino)
    owned = sum(count.roles.values())
    return {
        "block_size": geometry.block_size,
        "block_count": geometry.block_count,
        "regions": [
            {"name": region.name, "letter": region.letter, "blocks": region.count}
            for region in geometry.regions
        ],
        "blocks": {
            **count.roles,
            "lost": max(data["used"] - owned, 0),
            "free": data["free"],
        },
        "inodes": {
            "count": inodes["count"],
            "used": inodes["used"],
            "free": inodes["free"],
            "types": count.types,
        },
        "fragments": {
            "files": count.files,
            "fragmented": count.fragmented,
            "fragments": count.fragments,
        },
        "wasted": count.wasted,
        "slack_files": count.slack_files,
        "holes": count.holes,
        "damaged_inodes": count.damaged,
        "largest": [_file_values(image, *entry) for entry in count.largest()],
    }


class _Count:
    """Adds up inodes one after the other; memory stays bounded."""

    def __init__(self, image: RawImage) -> None:
        self._image = image
        self.roles = dict.fromkeys(_ROLES, 0)
        self.types: dict[str, int] = {}
        self.wasted = self.slack_files = self.holes = self.damaged = 0
        self.files = self.fragmented = self.fragments = 0
        self._heap: list[tuple[int, int, int]] = []  # (blocks, -inode, fragments)

    def add(self, ino: int) -> None:
        """Count inode `ino`, which is in use."""
        record, is_usable = inode_record(self._image, ino)
        if not is_usable:
            self.damaged += 1
            return
        self.roles["attributes"] += record.attribute_block != 0
        layout, end = self._add_pieces(ino, record)
        if ino <= JOURNAL_INO:
            return
        name = type_name(record.mode)
        self.types[name] = self.types.get(name, 0) + 1
        if end:
            self.files += 1
            self.fragments += layout.fragments
            self.fragmented += layout.fragments > 1
            self._add_slack(record, end)
        if record.blocks:
            heapq.heappush(self._heap, (record.blocks, -ino, layout.fragments))
            if len(self._heap) > MAX_FILES:
                heapq.heappop(self._heap)

    def _add_pieces(self, ino: int, record: InodeRecord) -> tuple[FileLayout, int]:
        """Count its blocks; how they lie, and the file block behind the last one it has."""
        layout, end = FileLayout(), 0
        try:
            for piece in self._image.pieces(ino, record):
                layout.add(piece)
                if not piece.block_no:
                    self.holes += piece.count
                    continue
                self.roles[role_of_piece(ino, record, piece)] += piece.count
                end = end if piece.level else piece.file_block + piece.count
        except Corrupt:
            self.damaged += 1
        return layout, end

    def _add_slack(self, record: InodeRecord, end: int) -> None:
        """What of the last block is behind the end of the file; none if that is a hole."""
        block_size = self._image.geometry.block_size
        slack = -record.size % block_size
        if slack and end == ceil_div(record.size, block_size):
            self.wasted += slack
            self.slack_files += 1

    def largest(self) -> list[tuple[int, int, int]]:
        """(inode, blocks, fragments) of those with the most blocks, most first."""
        return [(-ino, blocks, fragments) for blocks, ino, fragments in sorted(self._heap)[::-1]]


def _file_values(image: RawImage, ino: int, blocks: int, fragments: int) -> Values:
    record, _ = inode_record(image, ino)
    return {
        "ino": ino,
        **path_values(image, ino),
        "type": type_name(record.mode),
        "size": record.size,
        "blocks": blocks,
        "fragments": fragments,
    }
