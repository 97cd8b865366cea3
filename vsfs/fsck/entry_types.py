"""What directories say of inodes before either was checked: for pass 1.

A directory entry repeats the type of its inode, so an inode that contradicts itself
can be told what it is.  Nothing is repaired here, and only what is sound believed.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from vsfs.fsck.context import Check, may_be_used
from vsfs.fsck.records import DOTS, is_legal, read_sector
from vsfs.layout import (
    ROOT_INO,
    SECTOR_SIZE,
    TYPE_NAMES,
    InodeRecord,
    decode_inode,
    get_pointers,
)


def named_types(check: Check) -> dict[int, set[int]]:
    """Inode -> the file types under which directories name it, as far as can be read.

    For pass 1, to know what an inode is that contradicts itself.  Reads all
    records with the type of a directory, and of their blocks each sector whose
    records are sound.  `.` and `..` are left out.
    """
    found: dict[int, set[int]] = {}
    seen: set[int] = set()
    for record in _directory_records(check):
        for block_no in raw_blocks(check, record.pointers, seen):
            data = check.overlay.block(block_no)
            for sector in range(0, len(data), SECTOR_SIZE):
                _note_types(data, sector, found)
    return found


def _directory_records(check: Check) -> Iterator[InodeRecord]:
    """Every inode record that says directory and in use."""
    geometry = check.geometry
    for ino in range(ROOT_INO, geometry.inode_count):
        block_no, offset = geometry.inode_location(ino)
        record = decode_inode(check.overlay.block(block_no), offset)
        if may_be_used(ino, record) and stat.S_ISDIR(record.mode):
            yield record


def _note_types(data: bytes | bytearray, sector: int, found: dict[int, set[int]]) -> None:
    """Note the types in a sector, if all of it is sound."""
    entries, gap = read_sector(data, sector, sector + SECTOR_SIZE, lambda *_: True)
    if gap is not None or not all(is_legal(entry.name) for entry in entries if entry.ino):
        return
    for entry in entries:
        if entry.ino and entry.name not in DOTS and entry.file_type in TYPE_NAMES:
            found.setdefault(entry.ino, set()).add(entry.file_type)


def raw_blocks(check: Check, pointers: tuple[int, ...], seen: set[int]) -> Iterator[int]:
    """The blocks of a file as they can be followed, in order; those in `seen` left out."""
    geometry = check.geometry
    levels = [0] * (len(pointers) - 3) + [1, 2, 3]
    stack = [*zip(levels, pointers, strict=True)][::-1]
    while stack:
        level, block_no = stack.pop()
        if block_no in seen or not geometry.is_data_block(block_no):
            continue
        seen.add(block_no)
        if not level:
            yield block_no
            continue
        below = get_pointers(check.overlay.block(block_no), 0, geometry.pointers_per_block)
        stack += [(level - 1, pointer) for pointer in reversed(below) if pointer]
