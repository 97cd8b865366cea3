"""Pass 1: the attribute block of an inode.

An attribute block has its own checksum and says whose it is, so damage in it is
always found; what comes back is the attributes up to the first that is broken.
"""

from __future__ import annotations

from vsfs.device import Kind
from vsfs.errors import Corrupt
from vsfs.fsck.blocks import POINTER_RANGE
from vsfs.fsck.context import Change, Check, CheckedInode
from vsfs.fsck.findings import Evidence, quoted, rule
from vsfs.fsck.pointers import Claim, attribute_pointer
from vsfs.layout import (
    ATTRIBUTES_MAGIC,
    ATTRIBUTES_SIZE,
    NAMESPACES,
    attribute_records,
    decode_attributes_head,
    encode_attributes,
    seal_attributes,
)
from vsfs.words import counted

ATTRIBUTES = rule(
    211,
    "attribute-block",
    "An attribute block names its inode, and its attributes fill the bytes it says.",
    "The attributes that can be read up to the first that breaks a rule.",
    "OSTEP 40.3 The Inode",
    is_safe=False,
)


def check_attribute_pointer(check: Check, inode: CheckedInode) -> None:
    """Rule 220 for the pointer to the attribute block."""
    geometry, pointer = check.geometry, inode.record.attribute_block
    if not pointer or geometry.is_data_block(pointer):
        return
    start, end = geometry.data_start, geometry.block_count
    accepted = check.update(
        POINTER_RANGE,
        inode,
        f"{check.named(inode.ino)} has its attributes in block {pointer}, "
        f"but the data region has blocks {start} to {end - 1}",
        found=check.inode_evidence(inode.ino, "attribute_block", pointer),
        expected=check.superblock_evidence("data_start", f"data in blocks {start} to {end - 1}"),
        repair="clear the pointer",
        lost="its extended attributes",
        attribute_block=0,
    )
    inode.cuts.append(accepted)


def check_attributes(check: Check, inode: CheckedInode) -> list[Claim]:
    """Rule 211: the attribute block names this inode and can be read.

    Marks the block as owned; one that was owned before is a claim, returned.
    """
    block_no = inode.record.attribute_block
    if not block_no:
        return []
    data = bytes(check.overlay.block(block_no))
    kept, damage = _read(data, inode.ino, block_no)
    number = block_no - check.geometry.data_start
    is_taken = number in check.blocks
    if damage is None:
        check.blocks.mark(number)
        return [Claim(inode, attribute_pointer(check, inode), [0])] if is_taken else []
    if kept and not is_taken:
        check.blocks.mark(number)
        _rewrite(check, inode, kept, damage)
    else:
        _drop(check, inode, damage)
    return []


def _read(data: bytes, ino: int, block_no: int) -> tuple[dict[bytes, bytes], Corrupt | None]:
    """The attributes up to the first that breaks a rule, and which rule that is."""
    damage: Corrupt | None
    try:
        found = list(attribute_records(data, block_no, ino))
    except Corrupt as error:
        damage = _told(error, data)
        if error.offset == 4 and _is_of(data, block_no, decode_attributes_head(data)[1]):
            return {}, damage
        return _read_on(data, ino, block_no), damage
    kept: dict[bytes, bytes] = {}
    damage = None
    for record in found:
        expected = _broken_rule(record.name, kept)
        if expected is None:
            kept[record.name] = record.value
        elif damage is None:
            at, name = record.offset, quoted(record.name)
            damage = Corrupt("attribute block", block_no, at, name, expected)
    return kept, damage


def _in_words(damage: Corrupt) -> str:
    is_plural = damage.found.startswith(("zeroes", "the bytes"))
    return f"{damage.found} {'stand' if is_plural else 'stands'} instead of {damage.expected}"


def _told(damage: Corrupt, data: bytes) -> Corrupt:
    """What is wrong with the head of an attribute block, with the name of the field."""
    found, expected = damage.found, damage.expected
    if damage.offset == 0:
        found = f"the bytes {data[:4].hex(' ')}" if any(data[:4]) else "zeroes"
        expected = f'the letters "{ATTRIBUTES_MAGIC.decode()}"'
    elif damage.offset == 8:
        found, expected = f"a size of {found} bytes", f"one of {expected}"
    elif damage.offset == 12:
        found, expected = f"the checksum {found}", f"{expected}, which its bytes give"
    return Corrupt(damage.structure, damage.block, damage.offset, found, expected)


def _broken_rule(name: bytes, others: dict[bytes, bytes]) -> str | None:
    """What the name of an attribute should be, and is not; None if it may be so."""
    if name in others:
        return "each name once"
    if not name.startswith(NAMESPACES) or name in NAMESPACES:
        return "a name in one of the namespaces"
    return None


def _is_of(data: bytes, block_no: int, owner: int) -> bool:
    """Whether it is the sound attribute block of another inode."""
    try:
        return bool(list(attribute_records(data, block_no, owner)))
    except Corrupt:
        return False


def _read_on(data: bytes, ino: int, block_no: int) -> dict[bytes, bytes]:
    """What can be read if the head is wrong, or behind it."""
    magic, _, size, _ = decode_attributes_head(data)
    if magic != ATTRIBUTES_MAGIC:
        return {}
    patched = bytearray(data)
    seal_attributes(patched, ino, min(max(size, ATTRIBUTES_SIZE), len(data)))
    kept: dict[bytes, bytes] = {}
    try:
        for record in attribute_records(patched, block_no, ino):
            if _broken_rule(record.name, kept) is None:
                kept[record.name] = record.value
    except Corrupt:
        pass
    return kept


def _rewrite(check: Check, inode: CheckedInode, kept: dict[bytes, bytes], damage: Corrupt) -> None:
    block_no = inode.record.attribute_block
    content = bytes(encode_attributes(inode.ino, kept, check.geometry.block_size))
    check.report(
        ATTRIBUTES,
        f"{check.named(inode.ino)} has its attributes in block {block_no}, where "
        f"{_in_words(damage)}",
        found=Evidence("attribute block", block_no, damage.offset, damage.found),
        expected=check.inode_evidence(inode.ino, "attribute_block", block_no),
        repair=f"write the block anew with the {counted(len(kept), 'attribute')} that can be read",
        changes=[Change(block_no, 0, content, Kind.ATTRIBUTE)],
        lost="extended attributes behind those, if there were any",
        ino=inode.ino,
    )


def _drop(check: Check, inode: CheckedInode, damage: Corrupt) -> None:
    block_no = inode.record.attribute_block
    check.update(
        ATTRIBUTES,
        inode,
        f"{check.named(inode.ino)} has its attributes in block {block_no}, but there "
        f"{_in_words(damage)}",
        found=Evidence(f"block {block_no}", block_no, damage.offset, damage.found),
        expected=check.inode_evidence(inode.ino, "attribute_block", block_no),
        repair="clear the pointer to it",
        lost="its extended attributes",
        attribute_block=0,
        blocks=max(inode.record.blocks - 1, 0),
    )
