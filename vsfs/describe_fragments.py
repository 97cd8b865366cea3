"""How files lie on the disk: their runs, and how many the format asks for.

What ``filefrag`` tells of other filesystems, with one difference that comes from
pointers: the best place of an indirect block is in front of the blocks it leads
to, so even a file that lies perfectly is data, pointers, data (OSTEP 40.3, 41).

Of each file with blocks three numbers are given.  Its *runs* are stretches of
file blocks that lie in a row on the disk.  Its *needed runs* are those it would
have if all its blocks lay in a row, each indirect block in front of what it leads
to.  Its *fragments* are the stretches that all its blocks form, indirect ones
included, read in that order: 1 when it lies perfectly.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Final

from vsfs.describe import Values, inode_record, path_values
from vsfs.errors import Corrupt
from vsfs.layout import JOURNAL_INO, InodeRecord, type_name
from vsfs.rawimage import Piece, RawImage, WrongType

MAX_FILE_RUNS: Final = 1000  # of one file that are listed; all are counted
_TOTALS: Final = ("files", "not_empty", "fragmented", "blocks", "runs", "needed", "fragments")


class FileLayout:
    """The pieces of one file, counted as they come; memory stays bounded."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []  # [file block, block, count], the first ones
        self.run_count = 0
        self.needed = 0
        self.fragments = 0
        self._next_file_block = self._next_block = -1  # what would continue the last run
        self._next_own = -1  # ... and the last block of any kind
        self._is_cut = True  # by a hole, or by an indirect block

    def add(self, piece: Piece) -> None:
        """The next piece, in file order."""
        if not piece.block_no:
            self._is_cut = True
            return
        self.fragments += piece.block_no != self._next_own
        self._next_own = piece.block_no + piece.count
        if piece.level:
            self._is_cut = True
        else:
            self._add_run(piece)

    def _add_run(self, piece: Piece) -> None:
        self.needed += self._is_cut
        self._is_cut = False
        follows = (piece.file_block, piece.block_no) == (self._next_file_block, self._next_block)
        if not follows:
            self.run_count += 1
            if self.run_count <= MAX_FILE_RUNS:
                self.runs.append([piece.file_block, piece.block_no, piece.count])
        elif self.run_count <= MAX_FILE_RUNS:
            self.runs[-1][2] += piece.count
        self._next_file_block = piece.file_block + piece.count
        self._next_block = piece.block_no + piece.count


def describe_fragments(image: RawImage, ino: int | None = None) -> Values:
    """How each regular file and directory lies on the disk, or inode `ino` alone.

    `files` is to be read first, and once: `total` has its numbers when that is
    done.  Raises WrongType (EINVAL) if `ino` is of another type, Corrupt (EUCLEAN)
    if its inode cannot be read, NotThere (ENOENT).
    """
    if ino is not None:
        _require_blocks(ino, image.inode(ino))
    total = dict.fromkeys(_TOTALS, 0)
    inodes = image.inodes_in_use() if ino is None else iter([ino])
    return {"files": _files(image, inodes, total), "total": total}


def _require_blocks(ino: int, record: InodeRecord) -> None:
    if not _is_listed(record):
        what = type_name(record.mode) if record.mode else "free inode"
        raise WrongType(ino, f"inode {ino} is neither a file nor a directory but a {what}")


def _is_listed(record: InodeRecord) -> bool:
    return stat.S_ISREG(record.mode) or stat.S_ISDIR(record.mode)


def _files(image: RawImage, inodes: Iterator[int], total: dict[str, int]) -> Iterator[Values]:
    """One after the other in the order of inode numbers, and added up in `total`."""
    for ino in inodes:
        record, is_usable = inode_record(image, ino)
        if ino <= JOURNAL_INO or not _is_listed(record):
            continue
        values = _file(image, ino, record if is_usable else None)
        yield values
        if values["damage"] is None:
            total["files"] += 1
            total["not_empty"] += values["fragments"] > 0
            total["fragmented"] += values["fragments"] > 1
            for key in ("blocks", "runs", "needed", "fragments"):
                total[key] += values["run_count" if key == "runs" else key]


def _file(image: RawImage, ino: int, record: InodeRecord | None) -> Values:
    """One file, as far as its pointers can be followed; None is a damaged inode."""
    layout, damage = FileLayout(), image.inode_damage(ino)
    try:
        for piece in image.pieces(ino, record) if record else ():
            layout.add(piece)
    except Corrupt as error:
        damage = damage or str(error)
    return {
        "ino": ino,
        **path_values(image, ino),
        "damage": damage,
        "blocks": record.blocks if record else 0,
        "run_count": layout.run_count,
        "needed": layout.needed,
        "fragments": layout.fragments,
        "runs": [
            {"file_block": file_block, "block": block, "count": count}
            for file_block, block, count in layout.runs
        ],
        "complete": layout.run_count <= MAX_FILE_RUNS,
    }
