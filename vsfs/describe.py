r"""An image described as plain values: what ``vsfs-inspect`` prints and --json emits.

Each ``describe_*`` function looks at one thing and returns dicts and lists of
str, int, bool and None, with the same keys whatever it finds; ``docs/INSPECT.md``
lists them.  A list that grows with the number of files is an iterator instead, to
be read once.  Nothing is printed here, and nothing above decides what bytes mean.

Damage is described, too: it is the value of a key ``damage``, a sentence or
None.  Only what makes the thing itself unreadable is raised, as
:class:`~vsfs.errors.Corrupt` or :class:`~vsfs.rawimage.NotThere`.

Names are bytes on the disk and text here: ``name`` is for reading, with \x
escapes for what is not UTF-8; ``name_hex`` then has the bytes, and is None where
``name`` encoded as UTF-8 gives them back.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import os
import stat
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from vsfs.device import BlockDevice
from vsfs.errors import Corrupt
from vsfs.layout import (
    DIRECT_POINTERS,
    FEATURES,
    INODE,
    INODE_SIZE,
    JOURNAL_INO,
    RECORD_HEADER_SIZE,
    STATE_CLEAN,
    STATE_MOUNTED,
    SUPERBLOCK,
    SUPERBLOCK_SIZE,
    TYPE_NAMES,
    DirectoryRecord,
    Field,
    InodeRecord,
    attribute_records,
    decode_inode,
    feature_names,
    fields,
    type_name,
    uuid_text,
)
from vsfs.rawimage import Piece, RawImage, Sector, WrongType, shown

Values = dict[str, Any]

MAX_RUNS: Final = 1000  # of a bitmap
MAX_BASE64: Final = 1 << 20  # bytes of a file's contents that --json gives

#: Which pointer of the inode leads to a block, by its slot.
THROUGH: Final = ("direct",) * DIRECT_POINTERS + (
    "single indirect",
    "double indirect",
    "triple indirect",
)
_STATES: Final = {STATE_CLEAN: "clean", STATE_MOUNTED: "mounted"}
_NEVER_FIELDS: Final = ("mounted_ns", "checked_ns")  # 0 until it happens
_TEXT_FIELDS: Final = ("magic", "label")

_fields_of = functools.cache(fields)  # asked for once for each inode of a dump

# -- single values ------------------------------------------------------------


def name_values(name: bytes, key: str = "name") -> Values:
    """`name` as two values: readable text, and hex if the text is not all of it."""
    text = shown(name)
    return {key: text, f"{key}_hex": None if text.encode() == name else name.hex()}


def time_text(time_ns: int) -> str:
    """ISO 8601 in UTC with nanoseconds, for any number of ns since 1970.

    >>> time_text(1), time_text(-(10**9))
    ('1970-01-01T00:00:00.000000001Z', '1969-12-31T23:59:59.000000000Z')
    """
    seconds, ns = divmod(time_ns, 10**9)
    # the calendar repeats every 400 years, so that no time is out of gmtime's range
    cycles, seconds = divmod(seconds, 146_097 * 86_400)
    utc = time.gmtime(seconds)
    return f"{utc.tm_year + 400 * cycles:04}-{time.strftime('%m-%dT%H:%M:%S', utc)}.{ns:09}Z"


def _device_text(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _mode_text(mode: int) -> str:
    return f"{mode:07o} {stat.filemode(mode)} {type_name(mode)}" if mode else "0"


def _bytes_text(raw: bytes) -> str:
    if not any(raw):
        return "all zero"
    return shown(raw.rstrip(b"\0"))


def _number(kind: str, raw: bytes) -> Any:
    """An integer or a list of them, of a type such as "u32" or "s8[4]"."""
    bits, is_array, _ = kind[1:].partition("[")
    one = int(bits) // 8
    found = [
        int.from_bytes(raw[at : at + one], "little", signed=kind[0] == "s")
        for at in range(0, len(raw), one)
    ]
    return found if is_array else found[0]


def _value_and_text(field: Field, raw: bytes) -> tuple[Any, str]:
    """One field's bytes as a JSON value and as people write it."""
    if field.type == "bytes":
        if field.name in _TEXT_FIELDS:
            text = shown(raw.rstrip(b"\0"))
            return text, text
        if field.name == "uuid":
            return uuid_text(raw), uuid_text(raw)
        return raw.hex(), _bytes_text(raw)
    value = _number(field.type, raw)
    return value, _number_text(field.name, value)


def _number_text(name: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(one) for one in value)
    if name in _NEVER_FIELDS and not value:
        return "never"
    if name.endswith("_ns"):
        return time_text(value)
    if name == "checksum":
        return f"{value:#x}" if value else "0"
    if name in FEATURES:
        return " ".join([f"{value:#x}", *feature_names(name, value)]) if value else "0"
    if name == "mode":
        return _mode_text(value)
    if name == "device":
        return _device_text(value)
    if name == "state":
        return f"{value} {_STATES.get(value, 'unknown')}"
    if name == "file_type":
        return f"{value} {TYPE_NAMES.get(value, 'unknown')}"
    return str(value)


def field_values(structure: Any, data: bytes) -> Values:
    """The fields of a structure: offset in it, size, value, text, meaning of each."""
    found = {}
    for field in _fields_of(structure):
        if not field.width:  # a directory record's name: only the record knows
            continue
        value, text = _value_and_text(field, data[field.offset : field.offset + field.width])
        found[field.name] = field_value(field.offset, field.width, value, text, field.meaning)
    return found


def field_value(offset: int, size: int, value: Any, text: str, meaning: str) -> Values:
    """What is said of one field; `offset` counts from its structure's start."""
    return {"offset": offset, "size": size, "value": value, "text": text, "meaning": meaning}


# -- superblock, bitmaps ------------------------------------------------------


def describe_raw_superblock(device: BlockDevice, damage: str) -> Values:
    """The superblock of an image that is too damaged to be opened.

    In the shape of :func:`describe_superblock`, but nothing could be counted.
    """
    head = device.read(0, SUPERBLOCK_SIZE)
    return {"damage": damage, "fields": field_values(SUPERBLOCK, head), "counted": None}


def describe_superblock(image: RawImage) -> Values:
    """Every field, and the free blocks and inodes that the bitmaps really have."""
    return {
        "damage": image.damage,
        "fields": field_values(SUPERBLOCK, image.block(0)),
        "counted": {
            "free_block_count": bitmap_counts(image, "data")["free"],
            "free_inode_count": bitmap_counts(image, "inode")["free"],
        },
    }


def bitmap_counts(image: RawImage, which: str) -> Values:
    """Place and counts of the "inode" or "data" bitmap."""
    geometry = image.geometry
    if which == "inode":
        start, end = geometry.inode_bitmap_start, geometry.data_bitmap_start
        first, count = 0, geometry.inode_count
    else:
        start, end = geometry.data_bitmap_start, geometry.inode_table_start
        first, count = geometry.data_start, geometry.data_blocks
    used = image.count_ones(start, 0, count)
    return {
        "bitmap": which,
        "start": start,
        "blocks": end - start,
        "first": first,
        "count": count,
        "used": used,
        "free": count - used,
    }


def describe_bitmap(image: RawImage, which: str) -> Values:
    """The "inode" or "data" bitmap: counts, and runs [first, count] of what is in use.

    Runs are of inode or block numbers, at most 1000; `complete` tells if those
    are all.
    """
    found = bitmap_counts(image, which)
    runs = list(islice(image.runs_of_ones(found["start"], found["count"]), MAX_RUNS + 1))
    found["runs"] = [[found["first"] + first, count] for first, count in runs[:MAX_RUNS]]
    found["complete"] = len(runs) <= MAX_RUNS
    return found


def journal_blocks(image: RawImage) -> tuple[int, ...]:
    """The blocks of a journal, its indirect block last; none if there is no sound one."""
    try:
        journal = image.journal
        indirect = image.inode(JOURNAL_INO).pointers[DIRECT_POINTERS]
    except Corrupt:
        return ()
    if journal is None:
        return ()
    return (*journal.blocks, indirect) if indirect else journal.blocks


# -- inodes -------------------------------------------------------------------


def describe_inode(image: RawImage, ino: int) -> Values:
    """Inode `ino`: where it stands, every field, where its contents are.

    A free one is described as far as its record still tells.  Raises NotThere
    (ENOENT) past the last inode.
    """
    record, is_usable = inode_record(image, ino)
    damage = image.inode_damage(ino)
    pieces: list[Piece] = []
    try:
        if is_usable:
            pieces.extend(image.pieces(ino, record))
    except Corrupt as error:
        damage = damage or str(error)
    return {
        "ino": ino,
        **path_values(image, ino),
        "location": _location(image, ino),
        "in_use": image.inode_in_use(ino),
        "reserved": ino <= JOURNAL_INO,
        "damage": damage,
        "type": type_name(record.mode) if record.mode else None,
        **target_values(image, ino, record if is_usable else None),
        "fields": inode_fields(image.inode_bytes(ino), record),
        "hex": image.inode_bytes(ino).hex(),
        "pieces": [_piece_values(piece) for piece in pieces],
        "attributes": _attribute_values(image, ino, record if is_usable else None),
    }


def _attribute_values(image: RawImage, ino: int, record: InodeRecord | None) -> Values | None:
    """The extended attributes of an inode; None where it has no block for them."""
    if record is None or not record.attribute_block:
        return None
    block, listed, damage = record.attribute_block, [], None
    try:
        for found in attribute_records(image.block(block), block, ino):
            value = {"value": shown(found.value), "value_hex": found.value.hex()}
            listed.append({**name_values(found.name, "name"), **value})
    except Corrupt as error:
        damage = str(error)
    return {"block": block, "damage": damage, "list": listed}


def inode_record(image: RawImage, ino: int) -> tuple[InodeRecord, bool]:
    """Inode `ino` decoded, and whether its numbers can be followed."""
    try:
        return image.inode(ino), True
    except Corrupt:
        return decode_inode(image.inode_bytes(ino)), False


def path_values(image: RawImage, ino: int) -> Values:
    """A path of inode `ino`, both values None if no name leads to it."""
    path = image.path(ino) if ino > JOURNAL_INO else None
    return {"path": None, "path_hex": None} if path is None else name_values(path, "path")


def _location(image: RawImage, ino: int) -> Values:
    """Where inode `ino` stands: byte of the table, block, offset in it (OSTEP 40.3).

    And its bit in the inode bitmap: block, byte in it, bit of that byte.
    """
    block, offset = image.geometry.inode_location(ino)
    bit = dict(zip(("block", "byte", "bit"), image.geometry.inode_bit(ino), strict=True))
    return {
        "table_start": image.geometry.inode_table_start,
        "block_size": image.geometry.block_size,
        "table_offset": ino * INODE_SIZE,
        "block": block,
        "offset": offset,
        "image_offset": block * image.geometry.block_size + offset,
        "bit": bit,
    }


def target_values(image: RawImage, ino: int, record: InodeRecord | None) -> Values:
    """What a symbolic link names; None for anything else."""
    target = None
    if record is not None and stat.S_ISLNK(record.mode):
        with contextlib.suppress(Corrupt):  # its blocks are described, and their damage
            target = image.target(ino, record)
    return {"target": None, "target_hex": None} if target is None else name_values(target, "target")


def inode_fields(data: bytes, record: InodeRecord) -> Values:
    """The fields of an inode; its times with their epochs added."""
    found = field_values(INODE, data)
    for name in ("atime_ns", "mtime_ns", "ctime_ns", "btime_ns"):
        time_ns = getattr(record, name)
        found[name]["value"], found[name]["text"] = time_ns, time_text(time_ns)
    return found


def _piece_values(piece: Piece) -> Values:
    role = "indirect" if piece.level else "data" if piece.block_no else "hole"
    return {
        "role": role,
        "through": THROUGH[piece.slot],
        "level": piece.level,
        "file_block": piece.file_block,
        "block": piece.block_no or None,
        "count": piece.count,
    }


# -- directories and files ----------------------------------------------------


def describe_directory(image: RawImage, ino: int) -> Values:
    """The sectors of a directory and their records, free ones too.

    Raises WrongType (EINVAL) for what is no directory, Corrupt (EUCLEAN) for a
    damaged inode.
    """
    record = image.inode(ino)
    if not stat.S_ISDIR(record.mode):
        raise WrongType(ino, f"inode {ino} is no directory but a {_type_text(record)}")
    return {
        "ino": ino,
        **path_values(image, ino),
        "size": record.size,
        "damage": image.inode_damage(ino),
        "sectors": _sectors(image, ino, record),
    }


def _sectors(image: RawImage, ino: int, record: InodeRecord) -> Iterator[Values]:
    """The sectors one at a time; where they cannot go on, the last one says why."""
    try:
        for sector in image.sectors(ino, record):
            yield _sector_values(image, sector)
    except Corrupt as error:
        yield _sector_values(image, Sector(0, 0, 0, (), str(error)))


def _sector_values(image: RawImage, sector: Sector) -> Values:
    data = image.block(sector.block_no)
    return {
        "file_block": sector.file_block,
        "block": sector.block_no or None,
        "offset": sector.offset,
        "damage": sector.damage,
        "records": [_record_values(data, record) for record in sector.records],
    }


def _record_values(data: bytes, record: DirectoryRecord) -> Values:
    """One directory record; a free one still shows the name it had."""
    return {
        "offset": record.offset,
        "inode": record.ino,
        "free": record.ino == 0,
        "record_length": record.record_length,
        "name_length": data[record.offset + RECORD_HEADER_SIZE - 2],
        "file_type": record.file_type,
        "type": TYPE_NAMES.get(record.file_type),
        "slack": record.slack,
        **name_values(record.name[: record.record_length - RECORD_HEADER_SIZE]),
    }


def _type_text(record: InodeRecord) -> str:
    return type_name(record.mode) if record.mode else "free inode"


def describe_tree(image: RawImage) -> Values:
    """Every name from the root on, going into directories first."""
    return {"entries": _tree_entries(image)}


def _tree_entries(image: RawImage) -> Iterator[Values]:
    for node in image.tree():
        yield {
            "depth": node.depth,
            "directory": node.parent or None,
            "ino": node.ino,
            **name_values(node.name),
            "type": type_name(node.record.mode) if node.record else None,
            **target_values(image, node.ino, node.record),
            "is_last": node.is_last,
            "damage": node.damage,
        }


def content(image: RawImage, ino: int) -> Iterator[bytes]:
    """The bytes of a regular file or symbolic link, in parts.

    Raises WrongType (EINVAL) at once for anything else, Corrupt (EUCLEAN) for a
    damaged inode at once, for a damaged indirect block on the way.
    """
    record = image.inode(ino)
    if not (stat.S_ISREG(record.mode) or stat.S_ISLNK(record.mode)):
        raise WrongType(ino, f"inode {ino} is no file but a {_type_text(record)}")
    return image.content(ino, record)


def describe_file(image: RawImage, ino: int) -> Values:
    """The first MiB of a file as base64; errors as :func:`content`."""
    found = b""
    for part in content(image, ino):
        found += part
        if len(found) > MAX_BASE64:
            break
    return {
        "ino": ino,
        **path_values(image, ino),
        "size": image.inode(ino).size,
        "damage": image.inode_damage(ino),
        "base64": binascii.b2a_base64(found[:MAX_BASE64], newline=False).decode(),
        "complete": len(found) <= MAX_BASE64,
    }
