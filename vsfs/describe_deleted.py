"""What was removed and can still be read: names in slack, inodes, and their blocks.

Removing a name gives its record to the one before it, and freeing an inode leaves its
pointers (docs/FORMAT.md, sections 6 and 8).  So a removed file can be had back until
its number or its blocks are given to others.  All of this is guesswork on bytes that
mean nothing any more: what is found is told with its place, and never trusted.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vsfs.describe import Values, inode_record, name_values, path_values, time_text
from vsfs.describe_owner import owners_of
from vsfs.errors import Corrupt
from vsfs.layout import (
    INODE_SIZE,
    RECORD,
    RECORD_HEADER_SIZE,
    RESERVED_INODES,
    SECTOR_SIZE,
    TYPE_NAMES,
    DirectoryRecord,
    InodeRecord,
    packer,
    record_size,
    type_name,
)
from vsfs.rawimage import Piece, RawImage, Sector, WrongType

MAX_REUSED: Final = 1000  # blocks with a new owner that are listed
_unpack = packer(RECORD).unpack_from

# -- names --------------------------------------------------------------------


def deleted_in(image: RawImage, ino: int) -> Iterator[Values]:
    """The removed names that can still be read in directory `ino`, by their places.

    Of a directory that was itself removed, only in blocks that are still free.
    """
    record, is_usable = inode_record(image, ino)
    if not is_usable or not stat.S_ISDIR(record.mode):
        return
    is_alive = image.inode_in_use(ino)
    reader = image if is_alive else image.apart()
    try:
        for sector in reader.sectors(ino, record):
            if sector.block_no and (is_alive or not image.block_in_use(sector.block_no)):
                for entry in _removed(image, sector):
                    yield _name(image, ino, sector, entry)
    except Corrupt:
        return


def _removed(image: RawImage, sector: Sector) -> Iterator[DirectoryRecord]:
    """Records in the slack of a sector, and the names of its free records."""
    data = image.block(sector.block_no)
    for record in sector.records:
        start, end = record.offset, record.offset + record.record_length
        if record.ino:
            start += record_size(len(record.name))
        elif _is_name(record.name) and record_size(len(record.name)) <= record.record_length:
            yield record
            start += record_size(len(record.name))
        yield from _remains(image, data, start, end)


def _remains(image: RawImage, data: bytes, start: int, end: int) -> Iterator[DirectoryRecord]:
    """What looks like records between two offsets of a block, both multiples of 4."""
    sector_end = (start // SECTOR_SIZE + 1) * SECTOR_SIZE
    while start + RECORD_HEADER_SIZE < end:
        ino, length, name_length, file_type = _unpack(data, start)
        size = record_size(name_length)
        name = data[start + RECORD_HEADER_SIZE : start + RECORD_HEADER_SIZE + name_length]
        is_record = (
            RESERVED_INODES <= ino < image.geometry.inode_count
            and file_type in TYPE_NAMES
            and length % 4 == 0
            and size <= length <= sector_end - start
            and start + size <= end
            and _is_name(name)
        )
        if is_record:
            yield DirectoryRecord(start, ino, length, file_type, name)
        start += size if is_record else 4


def _is_name(name: bytes) -> bool:
    return bool(name) and b"/" not in name and b"\0" not in name


def _name(image: RawImage, directory: int, sector: Sector, entry: DirectoryRecord) -> Values:
    """A removed name; `state` is what became of the inode that it stood for."""
    return {
        **name_values(entry.name),
        "ino": entry.ino or None,
        "type": TYPE_NAMES.get(entry.file_type),
        "state": _state(image, entry),
        "directory": directory,
        "directory_path": path_values(image, directory)["path"],
        "block": sector.block_no,
        "offset": entry.offset,
    }


def _state(image: RawImage, entry: DirectoryRecord) -> str:
    """What became of the inode: a word for it; reused is by another type of file."""
    if not entry.ino:
        return "unknown"
    record, _ = inode_record(image, entry.ino)
    if not record.mode:
        return "never used"
    if type_name(record.mode) != TYPE_NAMES.get(entry.file_type):
        return "reused"
    return "in use" if image.inode_in_use(entry.ino) else "free"


# -- inodes -------------------------------------------------------------------


def describe_deleted(image: RawImage) -> Values:
    """Free inodes that still have a file, and removed names; both are iterators.

    `names` come from every directory, removed ones too; they are to be read first
    where both are wanted together.
    """
    return {"inodes": _inodes(image), "names": _all_names(image)}


def free_inodes(image: RawImage) -> Iterator[int]:
    """The inodes whose bit is 0 and whose record was used once."""
    geometry = image.geometry
    per_block, nothing = geometry.inodes_per_block, bytes(INODE_SIZE)
    blank = bytes(geometry.block_size)
    for first in range(0, geometry.inode_count, per_block):
        data = image.block(geometry.inode_table_start + first // per_block)
        if data == blank:
            continue
        for index in range(min(per_block, geometry.inode_count - first)):
            ino = first + index
            if data[index * INODE_SIZE : (index + 1) * INODE_SIZE] == nothing:
                continue
            if ino >= RESERVED_INODES and not image.inode_in_use(ino):
                yield ino


def _all_names(image: RawImage) -> Iterator[Values]:
    for inos in (image.inodes_in_use(), free_inodes(image)):
        for ino in inos:
            yield from deleted_in(image, ino)


def _inodes(image: RawImage) -> Iterator[Values]:
    for ino in free_inodes(image):
        record, is_usable = inode_record(image, ino)
        remains = remains_of(image, ino, record) if is_usable else Remains([], None)
        yield {
            "ino": ino,
            "type": type_name(record.mode),
            "mode_text": stat.filemode(record.mode),
            "size": record.size,
            "ctime_ns": record.ctime_ns,
            "ctime_text": time_text(record.ctime_ns),
            "blocks": remains.count,
            "reused": sum(1 for block in remains.blocks() if image.block_in_use(block)),
            "damage": remains.damage if is_usable else image.inode_damage(ino),
        }


@dataclass(frozen=True, slots=True)
class Remains:
    """The blocks that the pointers of a free inode reach, as far as they can be followed.

    `damage` says where they end; None if they reach all.
    """

    pieces: list[Piece]
    damage: str | None

    @property
    def count(self) -> int:
        """Blocks of any kind."""
        return sum(piece.count for piece in self.pieces if piece.block_no)

    def blocks(self) -> Iterator[int]:
        """Their numbers."""
        for piece in self.pieces:
            if piece.block_no:
                yield from range(piece.block_no, piece.block_no + piece.count)


def remains_of(image: RawImage, ino: int, record: InodeRecord) -> Remains:
    """Where the contents of a free inode were.

    Pointers are not followed through a block that has a new owner: what stands in it
    are no pointers of this file.
    """
    pieces: list[Piece] = []
    try:
        for piece in image.apart().pieces(ino, record):
            if piece.level and image.block_in_use(piece.block_no):
                return Remains(pieces, f"block {piece.block_no}, which had pointers, was reused")
            pieces.append(piece)
    except Corrupt as error:
        if image.geometry.is_data_block(error.block) and image.block_in_use(error.block):
            return Remains(pieces, f"block {error.block}, which had pointers, was reused")
        return Remains(pieces, str(error))
    return Remains(pieces, None)


# -- recovering ---------------------------------------------------------------


def describe_recovery(image: RawImage, ino: int) -> Values:
    """What of the contents of free inode `ino` can be had back, and what not.

    `reused` lists blocks whose bits are 1 again, with whoever has them now; their old
    contents are gone.  A block that is free may have been another file's in between:
    nothing on the disk tells.  Raises WrongType (EINVAL) for an inode in use or what
    was no file, NotThere (ENOENT), Corrupt (EUCLEAN).
    """
    record = image.inode(ino)
    _require_deleted(image, ino, record)
    remains = remains_of(image, ino, record)
    reused = sorted({block for block in remains.blocks() if image.block_in_use(block)})
    owners = owners_of(image, reused[:MAX_REUSED])
    return {
        "ino": ino,
        "type": type_name(record.mode),
        "size": record.size,
        "damage": remains.damage,
        "blocks": remains.count,
        "reused_count": len(reused),
        "reused": [
            {"block": block, "owners": owners[block], "file_block": _file_block(remains, block)}
            for block in reused[:MAX_REUSED]
        ],
    }


def _file_block(remains: Remains, block: int) -> int | None:
    """Which file block stood in `block`; None for pointers."""
    for piece in remains.pieces:
        if piece.block_no and piece.block_no <= block < piece.block_no + piece.count:
            return None if piece.level else piece.file_block + block - piece.block_no
    return None


def _require_deleted(image: RawImage, ino: int, record: InodeRecord) -> None:
    if image.inode_in_use(ino):
        raise WrongType(ino, f"inode {ino} is in use: its contents are there, not to be recovered")
    if not (stat.S_ISREG(record.mode) or stat.S_ISLNK(record.mode)):
        what = f"was a {type_name(record.mode)}" if record.mode else "was never used"
        raise WrongType(ino, f"inode {ino} has no contents to recover: it {what}")


def recovered(image: RawImage, ino: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of the contents of free inode `ino` that nobody has overwritten.

    What is left out is holes, and blocks that were reused.  Errors as
    :func:`describe_recovery`.
    """
    record = image.inode(ino)
    _require_deleted(image, ino, record)
    if stat.S_ISLNK(record.mode) and record.size <= len(record.inline):
        yield 0, record.inline[: record.size]
        return
    block_size = image.geometry.block_size
    for piece in remains_of(image, ino, record).pieces:
        if piece.level or not piece.block_no:
            continue
        for index in range(piece.count):
            block, offset = piece.block_no + index, (piece.file_block + index) * block_size
            if offset < record.size and not image.block_in_use(block):
                yield offset, image.block(block)[: record.size - offset]
