"""Writing the repairs, in an order that survives a pulled plug (OSTEP 42.2, 42.3).

A check ends with edits in memory.  They reach the image in these stages, with a
barrier behind each; within a stage any of them may be missing after a crash:

=====  =====================================================================
first  the superblock as it will be, but with state 2 (mounted): from here on
       no mount takes the image for sound
0      blocks that are new to their owner: copies of shared blocks, new
       directory and indirect blocks
1      inodes, indirect and attribute blocks
2      directory blocks
3      bitmaps
last   the superblock, with the state that the check decided for
=====  =====================================================================

A transaction that waits in the journal comes before all that, as a mount replays it:
its blocks, a barrier, and then the journal's header, which has nothing waiting any
more.  The superblock as it will be says so too, hence a crash on the way leaves one
that is replayed, or one that is checked; never half of the repairs and a replay
over them.

So a pointer never leads to a copy that is not there yet, a name is never made
for an inode that is not there yet, and whatever is missing is one more fault of
the kind that the check has just repaired.

Whole sectors are written, since a disk writes those whole or not at all: an inode
and its checksum, or two records of a directory, never part.  What is new in a
block that is to be taken back (``undo``) goes in the opposite order of stages.
"""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from vsfs.device import BlockDevice, Kind
from vsfs.errors import VsfsError
from vsfs.fsck.findings import Edit
from vsfs.layout import (
    MAGIC,
    SECTOR_SIZE,
    STATE_CLEAN,
    STATE_MOUNTED,
    SUPERBLOCK_SIZE,
    Geometry,
    decode_superblock,
    encode_superblock,
)

_STAGE: Final = {
    Kind.DATA: 0,
    Kind.INODE_TABLE: 1,
    Kind.INDIRECT: 1,
    Kind.ATTRIBUTE: 1,
    Kind.DIRECTORY: 2,
    Kind.INODE_BITMAP: 3,
    Kind.DATA_BITMAP: 3,
    Kind.JOURNAL: 4,  # of an undo: else it comes first, see _replay
}
#: Kinds of which a block that an edit replaces as a whole had another use before.
_MAY_BE_NEW: Final = frozenset((Kind.DATA, Kind.INDIRECT, Kind.ATTRIBUTE, Kind.DIRECTORY))


class ImageChanged(VsfsError):
    """ESTALE: the image does not hold any more what was checked."""

    code = errno.ESTALE


class _Part(NamedTuple):
    """Whole sectors of one block, to be written in one piece."""

    stage: int
    block_no: int
    offset: int
    content: bytes
    kind: Kind


def write_edits(device: BlockDevice, geometry: Geometry, edits: Sequence[Edit]) -> None:
    """Write `edits`, in the order in which they were accepted; durable at return.

    Raises ImageChanged (ESTALE), with nothing written, if the image does not hold
    what they replace, and OSError (EIO) as the device does.
    """
    _write(device, geometry.block_size, edits, is_undo=False)


def take_back_edits(device: BlockDevice, block_size: int, edits: Sequence[Edit]) -> None:
    """Write what `edits` replaced, the last one first; durable at return.

    Raises as :func:`write_edits` does, if the image does not hold what they wrote.
    """
    reverse = [
        Edit(edit.block_no, edit.offset, edit.after, edit.before, edit.kind)
        for edit in reversed(edits)
    ]
    _write(device, block_size, reverse, is_undo=True)


def _write(device: BlockDevice, block_size: int, edits: Sequence[Edit], *, is_undo: bool) -> None:
    if not edits:
        return
    device.block_size = block_size
    contents = _apply(device, edits)
    if not is_undo:
        replay, edits = _replay(edits)
        if replay:
            _install(device, block_size, replay)
            contents = _apply(device, edits)
    old = device.read(0, SUPERBLOCK_SIZE, 0, Kind.SUPERBLOCK)
    new = bytes(contents.pop(0)[:SUPERBLOCK_SIZE]) if 0 in contents else old
    parts = sorted(_parts(block_size, edits, contents), key=lambda part: part.stage)
    if is_undo:
        parts.reverse()
    # the geometry that the repairs are made for; an undo ends with another one
    opening = _opened(old if is_undo else new) if parts else None
    if opening is not None and not _says_mounted(old, opening):
        _write_superblock(device, opening)
        old = opening
    stage = None
    for part in parts:
        if stage not in (None, part.stage):
            device.barrier()
        stage = part.stage
        device.write(part.block_no, part.content, part.offset, part.kind)
    if parts:
        device.barrier()
    if new != old:
        _write_superblock(device, new)


def _replay(edits: Sequence[Edit]) -> tuple[Sequence[Edit], Sequence[Edit]]:
    """Split what installs a transaction, and all before it, from the other repairs."""
    ends = [at for at, edit in enumerate(edits, 1) if edit.kind == Kind.JOURNAL]
    end = ends[-1] if ends else 0
    return edits[:end], edits[end:]


def _install(device: BlockDevice, block_size: int, edits: Sequence[Edit]) -> None:
    """Write what waits in the journal to its places, then the journal's header."""
    parts = sorted(
        _parts(block_size, edits, _apply(device, edits)),
        key=lambda part: part.kind == Kind.JOURNAL,
    )
    barred = False
    for part in parts:
        if part.kind == Kind.JOURNAL and not barred:
            device.barrier()
            barred = True
        device.write(part.block_no, part.content, part.offset, part.kind)
    device.barrier()


def _write_superblock(device: BlockDevice, content: bytes) -> None:
    device.write(0, content, 0, Kind.SUPERBLOCK)
    device.barrier()


def _apply(device: BlockDevice, edits: Iterable[Edit]) -> dict[int, bytearray]:
    """The blocks that `edits` change, as they will be; compares what is there now."""
    contents: dict[int, bytearray] = {}
    for edit in edits:
        if edit.block_no not in contents:
            block = device.read(edit.block_no, device.block_size, 0, edit.kind)
            contents[edit.block_no] = bytearray(block)
        content, end = contents[edit.block_no], edit.offset + len(edit.before)
        if content[edit.offset : end] != edit.before:
            raise ImageChanged(
                f"the image was changed since it was read: block {edit.block_no}, offset "
                f"{edit.offset} has other bytes; nothing was written, check it again"
            )
        content[edit.offset : end] = edit.after
    return contents


def _parts(
    block_size: int, edits: Iterable[Edit], contents: dict[int, bytearray]
) -> Iterator[_Part]:
    """The sectors that change, joined where they are neighbours of one block."""
    sectors: dict[int, set[int]] = {}
    kinds: dict[int, Kind] = {}
    new: set[int] = set()
    for edit in edits:
        last = edit.offset + len(edit.after) - 1
        sectors.setdefault(edit.block_no, set()).update(
            range(edit.offset // SECTOR_SIZE, last // SECTOR_SIZE + 1)
        )
        kinds[edit.block_no] = edit.kind
        if len(edit.after) == block_size and edit.kind in _MAY_BE_NEW:
            new.add(edit.block_no)
    for block_no, content in sorted(contents.items()):
        stage = 0 if block_no in new else _STAGE.get(kinds[block_no], 0)
        for first, end in _runs(sorted(sectors[block_no])):
            part = bytes(content[first * SECTOR_SIZE : end * SECTOR_SIZE])
            yield _Part(stage, block_no, first * SECTOR_SIZE, part, kinds[block_no])


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbours as (first, end).

    >>> list(_runs([1, 2, 3, 7]))
    [(1, 4), (7, 8)]
    """
    first = end = -1
    for number in numbers:
        if number != end:
            if end >= 0:
                yield first, end
            first = number
        end = number + 1
    if end >= 0:
        yield first, end


def _is_sound(superblock: bytes) -> bool:
    """Whether it is one, with a right checksum."""
    checksum = int.from_bytes(superblock[-4:], "little")
    return superblock.startswith(MAGIC) and zlib.crc32(superblock[:-4]) == checksum


def _opened(superblock: bytes) -> bytes | None:
    """The superblock with state 2; None if it is none, and says nothing anyway."""
    if not _is_sound(superblock):
        return None
    return encode_superblock(decode_superblock(superblock)._replace(state=STATE_MOUNTED))


def _says_mounted(old: bytes, opening: bytes) -> bool:
    """Whether the superblock on the disk does what the opening one is for."""
    stored, wanted = decode_superblock(old), decode_superblock(opening)
    same = stored.geometry == wanted.geometry
    same = same and stored.feature_incompat == wanted.feature_incompat
    return _is_sound(old) and stored.state != STATE_CLEAN and same
