"""Where a byte of a file stands: from its offset to a byte of the image (OSTEP 40.3).

The way is the one that every read goes: offset to file block, then from pointer to
pointer.  Each pointer on it is given with the place of its own bytes.
"""

from __future__ import annotations

import stat
from typing import Final

from vsfs.blockmap import pointer_path
from vsfs.describe import THROUGH, Values, inode_record, path_values
from vsfs.layout import (
    DIRECT_POINTERS,
    INLINE_SIZE,
    INODE,
    InodeRecord,
    fields,
    get_pointers,
    type_name,
)
from vsfs.rawimage import NotThere, RawImage, WrongType

_OFFSETS: Final = {field.name: field.offset for field in fields(INODE)}
_INDIRECT: Final = ("single_indirect", "double_indirect", "triple_indirect")


def describe_where(image: RawImage, ino: int, offset: int) -> Values:
    """The pointers from inode `ino` to byte `offset` of its contents, and its place.

    `steps` has each pointer on the way: the block and offset where it stands, and its
    value; a hole ends it with 0, damage with what is no data block.  Of a short
    symbolic link the byte is in the inode itself.  Raises NotThere (ENOENT) past what
    pointers reach, WrongType (EINVAL) for what has no contents.
    """
    record, _ = inode_record(image, ino)
    _require_contents(ino, record)
    geometry = image.geometry
    file_block, within = divmod(offset, geometry.block_size)
    found = {
        "ino": ino,
        **path_values(image, ino),
        "type": type_name(record.mode),
        "size": record.size,
        "offset": offset,
        "block_size": geometry.block_size,
        "pointers_per_block": geometry.pointers_per_block,
        "past_the_end": offset >= record.size,
        "damage": image.inode_damage(ino),
        "inline": stat.S_ISLNK(record.mode) and record.size <= INLINE_SIZE,
        "file_block": file_block,
        "offset_in_block": within,
        "through": None,
        "entries": [],
        "steps": [],
        "block": None,
        "image_offset": None,
    }
    return found | (_in_inode(image, ino, offset) if found["inline"] else _way(image, ino, found))


def _require_contents(ino: int, record: InodeRecord) -> None:
    kind = stat.S_IFMT(record.mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        what = type_name(record.mode) if record.mode else "free inode"
        raise WrongType(ino, f"inode {ino} has no contents: it is a {what}")


def _in_inode(image: RawImage, ino: int, offset: int) -> Values:
    """The place of a byte of a short link's target."""
    if offset >= INLINE_SIZE:
        raise NotThere(f"a target of up to {INLINE_SIZE} bytes stands in the inode, and ends there")
    block, start = image.geometry.inode_location(ino)
    at = start + _OFFSETS["inline"] + offset
    place = block * image.geometry.block_size + at
    return {"offset_in_block": at, "block": block, "image_offset": place}


def _way(image: RawImage, ino: int, found: Values) -> Values:
    """The pointers to a file block, one after the other, and where they end."""
    geometry, file_block = image.geometry, found["file_block"]
    if file_block >= geometry.max_file_blocks:
        last = geometry.max_file_blocks - 1
        raise NotThere(f"no pointer reaches file block {file_block}: the last one is {last}")
    slot, entries = pointer_path(file_block, geometry.pointers_per_block)
    block, start = geometry.inode_location(ino)
    field, at = _slot_field(slot)
    pointer = get_pointers(image.block(block), (start + at) // 4, 1)[0]
    steps = [_step(image, f"inode {ino}", field, block, start + at, pointer)]
    for entry in entries:
        if not geometry.is_data_block(pointer):
            break
        block = pointer
        pointer = get_pointers(image.block(block), entry, 1)[0]
        steps.append(
            _step(image, f"block {block}", f"entry {entry}", block, entry * 4, pointer),
        )
    place: Values = {"through": THROUGH[slot], "entries": list(entries), "steps": steps}
    if geometry.is_data_block(pointer):
        at = pointer * geometry.block_size + found["offset_in_block"]
        return place | {"block": pointer, "image_offset": at}
    if pointer:
        step = steps[-1]
        expected = f"0 or a block from {geometry.data_start} to {geometry.block_count - 1}"
        place["damage"] = (
            f"{step['field']} of {step['structure']} is {pointer}, expected {expected}"
        )
    return place


def _slot_field(slot: int) -> tuple[str, int]:
    """Name and offset in the inode of its pointer number `slot`."""
    if slot < DIRECT_POINTERS:
        return f"direct[{slot}]", _OFFSETS["direct"] + slot * 4
    name = _INDIRECT[slot - DIRECT_POINTERS]
    return name, _OFFSETS[name]


def _step(
    image: RawImage, structure: str, field: str, block: int, offset: int, pointer: int
) -> Values:
    return {
        "structure": structure,
        "field": field,
        "block": block,
        "offset": offset,
        "image_offset": block * image.geometry.block_size + offset,
        "pointer": pointer,
    }
