"""One block described as plain values: whose it is, and its bytes with their meaning.

The second half of :mod:`vsfs.describe`, for ``vsfs-inspect IMAGE block N``.  What
a data block holds is known only to the inode that points to it, so the owner is
found first, by a walk over the inodes in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from vsfs.describe import (
    Values,
    bitmap_counts,
    field_value,
    field_values,
    inode_fields,
    inode_record,
)
from vsfs.describe_owner import owners_of
from vsfs.errors import Corrupt
from vsfs.layout import (
    ATTRIBUTE,
    ATTRIBUTE_HEADER_SIZE,
    ATTRIBUTES,
    ATTRIBUTES_SIZE,
    INODE_SIZE,
    JOURNAL,
    JOURNAL_HEADER_SIZE,
    RECORD,
    RECORD_HEADER_SIZE,
    SECTOR_SIZE,
    SUPERBLOCK,
    SUPERBLOCK_SIZE,
    AttributeRecord,
    DirectoryRecord,
    attribute_records,
    ceil_div,
    fields,
    get_pointers,
    record_size,
    type_name,
)
from vsfs.rawimage import RawImage, sector_records, shown
from vsfs.words import numbered, span

_ROW: Final = 8  # bytes of a bitmap that are described together
_UNIFORM: Final = (bytes(_ROW), b"\xff" * _ROW)


def describe_block(image: RawImage, block_no: int) -> Values:
    """Block `block_no`: its region and owners, and its bytes with their meaning.

    `parts` are in the order of their offsets, and empty where the bytes mean
    nothing to the filesystem.  Raises NotThere (ENOENT) past the last block.
    """
    data = image.block(block_no)
    region = image.geometry.region_of(block_no)
    in_use = image.block_in_use(block_no)
    owners = owners_of(image, [block_no])[block_no] if region.letter == "D" else []
    role = _role_of_block(region.name, owners, in_use=in_use)
    return {
        "block": block_no,
        "image_offset": block_no * image.geometry.block_size,
        "region": region.name,
        "letter": region.letter,
        "in_use": in_use,
        "role": role,
        "owners": owners,
        "damage": image.damage if block_no == 0 else _disagreement(role, owners, in_use=in_use),
        "parts": list(_parts(image, block_no, data, role, owners)),
        "hex": data.hex(),
    }


# -- owners -------------------------------------------------------------------


def _role_of_block(region: str, owners: list[Values], *, in_use: bool) -> str:
    """What a block is: its region, or in the data region what its owner says."""
    if region != "data region":
        return region
    if owners:
        return str(owners[0]["role"])
    return "lost" if in_use else "free"


def _disagreement(role: str, owners: list[Values], *, in_use: bool) -> str | None:
    """What the data bitmap and the inodes do not agree about."""
    if len(owners) > 1:
        inodes = ", ".join(f"inode {owner['ino']}" for owner in owners)
        return f"it is used more than once: by {inodes}"
    if role == "lost":
        return "its bit in the data bitmap is 1, but no sound inode in use points to it"
    if owners and not in_use:
        return f"its bit in the data bitmap is 0, but inode {owners[0]['ino']} uses it"
    return None


# -- parts --------------------------------------------------------------------


def _part(
    offset: int,
    size: int,
    title: str,
    decoded: Values | None = None,
    damage: str | None = None,
) -> Values:
    """A stretch of a block; the offsets of its fields count from its own start."""
    return {
        "offset": offset,
        "size": size,
        "title": title,
        "damage": damage,
        "fields": decoded or {},
    }


def _parts(
    image: RawImage, block_no: int, data: bytes, role: str, owners: list[Values]
) -> Iterator[Values]:
    """The bytes of a block taken apart, by what it is."""
    if block_no == 0:
        yield _part(0, SUPERBLOCK_SIZE, "superblock", field_values(SUPERBLOCK, data))
        if len(data) > SUPERBLOCK_SIZE:
            yield _part(SUPERBLOCK_SIZE, len(data) - SUPERBLOCK_SIZE, "not used")
    elif role == "inode bitmap":
        yield from _bitmap_parts(image, block_no, data, "inode")
    elif role == "data bitmap":
        yield from _bitmap_parts(image, block_no, data, "data")
    elif role == "inode table":
        yield from _inode_parts(image, block_no, data)
    elif role == "directory":
        yield from _directory_parts(block_no, data)
    elif role == "indirect":
        yield from _indirect_parts(data, owners[0])
    elif role == "journal":
        yield from _journal_parts(image, data, owners[0]["file_block"])
    elif role == "attributes":
        yield from _attribute_parts(data, block_no, owners[0]["ino"])


def _bitmap_parts(image: RawImage, block_no: int, data: bytes, which: str) -> Iterator[Values]:
    """64 bits a part; neighbours that are all 0 or all 1 are one."""
    counts = bitmap_counts(image, which)
    before = (block_no - counts["start"]) * image.geometry.bits_per_block
    valid = max(0, min(len(data) * 8, counts["count"] - before))
    rows = ceil_div(valid, _ROW * 8)

    def alike(index: int) -> int:
        row = data[index * _ROW : (index + 1) * _ROW]
        whole = (index + 1) * _ROW * 8 <= valid
        return row[0] if whole and row in _UNIFORM else -1 - index

    for _, group in groupby(range(rows), alike):
        indexes = list(group)
        first, size = indexes[0] * _ROW, len(indexes) * _ROW
        base = counts["first"] + before + first * 8
        title = _bits_title(data[first : first + size], valid - first * 8, base, which)
        yield _part(first, size, title)
    if rows * _ROW < len(data):
        yield _part(rows * _ROW, len(data) - rows * _ROW, "past the end")


def _bits_title(bits: bytes, valid: int, base: int, which: str) -> str:
    """What bits say, of which the first stands for number `base`.

    >>> _bits_title(bytes([0b00100111]), 8, 64, "inode")
    'inodes 64-71: 64-66, 69 in use'
    """
    count = min(len(bits) * 8, valid)
    numbers = [base + index for index in range(count) if bits[index // 8] >> index % 8 & 1]
    title = f"{numbered('inode' if which == 'inode' else 'block', base, count)}: "
    if not numbers:
        title += "free"
    elif len(numbers) == count:
        title += "in use"
    else:
        title += f"{_spans(numbers)} in use"
    return title if count == len(bits) * 8 else f"{title}; then past the end"


def _spans(numbers: Iterable[int]) -> str:
    """Ascending numbers as text.

    >>> _spans([0, 1, 2, 5])
    '0-2, 5'
    """
    pairs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in pairs]
    return ", ".join(span(run[0], len(run)) for run in runs)


def _inode_parts(image: RawImage, block_no: int, data: bytes) -> Iterator[Values]:
    """Inodes with their fields; neighbours that were never used are one part."""
    geometry = image.geometry
    base = (block_no - geometry.inode_table_start) * geometry.inodes_per_block
    count = max(0, min(geometry.inodes_per_block, geometry.inode_count - base))
    inodes = [data[at : at + INODE_SIZE] for at in range(0, count * INODE_SIZE, INODE_SIZE)]
    index = 0
    for used, group in groupby(inodes, any):
        run = len(list(group))
        if used:
            for each in range(index, index + run):
                yield _inode_part(image, base + each, each * INODE_SIZE)
        else:
            title = f"{numbered('inode', base + index, run)}: never used"
            yield _part(index * INODE_SIZE, run * INODE_SIZE, title)
        index += run
    if count < geometry.inodes_per_block:
        rest = count * INODE_SIZE
        yield _part(rest, len(data) - rest, "past the last inode")


def _inode_part(image: RawImage, ino: int, offset: int) -> Values:
    record, _ = inode_record(image, ino)
    what = type_name(record.mode) if image.inode_in_use(ino) else "free"
    decoded = inode_fields(image.inode_bytes(ino), record)
    return _part(offset, INODE_SIZE, f"inode {ino}: {what}", decoded, image.inode_damage(ino))


def _directory_parts(block_no: int, data: bytes) -> Iterator[Values]:
    """The records of each sector; damage ends only its own sector."""
    for sector in range(0, len(data), SECTOR_SIZE):
        found, damage = sector_records(data, block_no, sector)
        offset = sector
        for record in found:
            yield _record_part(data, record)
            offset = record.offset + record.record_length
        if damage:
            yield _part(offset, sector + SECTOR_SIZE - offset, "damaged", None, damage)


def _record_part(data: bytes, record: DirectoryRecord) -> Values:
    """A record: its header, its name, and what is behind it."""
    start, length = record.offset, record.record_length
    decoded = field_values(RECORD, data[start : start + length])
    used = RECORD_HEADER_SIZE
    if record.ino:
        used = record_size(len(record.name))
        decoded |= _name_fields(record.name, used)
    if length > used:
        decoded["slack"] = field_value(used, length - used, None, "", "room for another record")
    title = f"entry {shown(record.name)}" if record.ino else "free record"
    return _part(start, length, title, decoded)


def _name_fields(name: bytes, used: int) -> Values:
    """The name of a record that takes `used` bytes, and the padding behind it."""
    meaning = next(field.meaning for field in fields(RECORD) if field.name == "name")
    end = RECORD_HEADER_SIZE + len(name)
    text = shown(name)
    found = {"name": field_value(RECORD_HEADER_SIZE, len(name), text, text, meaning)}
    if end < used:
        found["padding"] = field_value(end, used - end, None, "", "up to a multiple of 4")
    return found


def _attribute_parts(data: bytes, block_no: int, ino: int) -> Iterator[Values]:
    """The header and one part for each extended attribute; damage ends them."""
    end, damage, found = ATTRIBUTES_SIZE, None, []
    try:
        for record in attribute_records(data, block_no, ino):
            found.append(_attribute_part(data, record))
            end = record.offset + record.size
    except Corrupt as error:
        damage = str(error)
    yield _part(0, ATTRIBUTES_SIZE, "attributes", field_values(ATTRIBUTES, data), damage)
    yield from found
    if end < len(data):
        yield _part(end, len(data) - end, "not used")


def _attribute_part(data: bytes, record: AttributeRecord) -> Values:
    start, name, value = record.offset, record.name, record.value
    decoded = field_values(ATTRIBUTE, data[start : start + record.size])
    meanings = {field.name: field.meaning for field in fields(ATTRIBUTE)}
    at = ATTRIBUTE_HEADER_SIZE
    for field, content in (("name", name), ("value", value)):
        text = shown(content)
        decoded[field] = field_value(at, len(content), text, text, meanings[field])
        at += len(content)
    if at < record.size:
        decoded["padding"] = field_value(at, record.size - at, None, "", "up to a multiple of 4")
    return _part(start, record.size, f"attribute {shown(name)}", decoded)


def _journal_parts(image: RawImage, data: bytes, file_block: int) -> Iterator[Values]:
    """The header with its block numbers, or one block of the log."""
    try:
        numbers = image.journal.header().block_numbers if image.journal else ()
        damage = None
    except Corrupt as error:
        numbers, damage = (), str(error)
    if file_block:
        title = "log: nothing of a transaction"
        if file_block <= len(numbers):
            title = f"log: the content that block {numbers[file_block - 1]} gets"
        yield _part(0, len(data), title)
        return
    size = JOURNAL_HEADER_SIZE
    yield _part(0, size, "journal header", field_values(JOURNAL, data[:size]), damage)
    end = size + 4 * len(numbers)
    if numbers:
        nouns = "block" if len(numbers) == 1 else "blocks"
        yield _part(size, end - size, f"the log belongs to {nouns} {_spans(numbers)}")
    if end < len(data):
        yield _part(end, len(data) - end, "not used")


def _indirect_parts(data: bytes, owner: Values) -> Iterator[Values]:
    """One part for each pointer; neighbouring holes are one."""
    per_block, level = len(data) // 4, owner["level"]
    pointers = get_pointers(data, 0, per_block)
    below = per_block ** (level - 1)  # file blocks that each pointer leads to
    for _, group in groupby(range(per_block), lambda index: pointers[index] and index + 1):
        indexes = list(group)
        first, count = indexes[0], len(indexes)
        title = f"{numbered('pointer', first, count)}: "
        where = span(owner["file_block"] + first * below, below * count)
        if not pointers[first]:
            title += "no block"
        elif level == 1:
            title += f"file block {where} is block {pointers[first]}"
        else:
            title += f"file blocks {where} through block {pointers[first]}"
        yield _part(first * 4, count * 4, title)
