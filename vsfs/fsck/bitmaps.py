"""Pass 5: both bitmaps, the free counts and the state (OSTEP 40.5, 42.2).

Relies on all passes before: ``check.inodes`` and ``check.blocks`` are who is in
use.  The bitmaps are a copy of that, made for quick allocation, and have no say.

Wrong bits in a row are one finding; a bitmap block with many scattered ones has
one for each kind, and all bits past the end of a bitmap are one.  Blocks that
agree cost a comparison of bytes.

What the repairs of the passes before have done to the bitmaps and the counts is no
fault, and is only finished here: the bits of blocks that they freed are cleared
without a finding, and a count that was right before them is made right again.

Where a repair was declined, something may still be in use that the passes took
for free: then no bit goes from 1 to 0, the free counts are left, and the state
does not become clean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from vsfs.device import Kind
from vsfs.fsck.context import Change, Check
from vsfs.fsck.findings import Evidence, Rule, rule
from vsfs.fsck.pointers import Owner, owners_of
from vsfs.layout import (
    RESERVED_INODES,
    ROOT_INO,
    ceil_div,
    decode_inode,
)

FREE_SPACE: Final = "OSTEP 40.5 Free Space Management"
_INODES_KNOW: Final = (
    "The inodes: the bitmap is a copy of what they say; its bits are cleared after them"
    " (commit stage 5)."
)

INODE_BIT_0 = rule(
    601,
    "inode-bit-missing",
    "The bit of an inode in use is 1, and so are those of inodes 0, 1 and 2.",
    "The inode: a bit of 0 would give its number away a second time.",
    FREE_SPACE,
    is_safe=True,
)
INODE_BIT_1 = rule(
    602, "inode-bit-stale", "The bit of a free inode is 0.", _INODES_KNOW, FREE_SPACE, is_safe=True
)
INODE_PAST_END = rule(
    603,
    "inode-bits-past-end",
    "All bits past the last inode are 1.",
    "The superblock, which says how many inodes there are.",
    FREE_SPACE,
    is_safe=True,
)
DATA_BIT_0 = rule(
    604,
    "data-bit-missing",
    "The bit of a block that an inode owns is 1.",
    "The inode's pointer: a bit of 0 would give the block away a second time.",
    "OSTEP 42.1 A Detailed Example",
    is_safe=True,
)
DATA_BIT_1 = rule(
    605,
    "data-bit-stale",
    "The bit of a data block that no inode owns is 0.",
    _INODES_KNOW,
    "OSTEP 42.1 A Detailed Example",
    is_safe=True,
)
DATA_PAST_END = rule(
    606,
    "data-bits-past-end",
    "All bits past the last data block are 1.",
    "The superblock, which says how many blocks there are.",
    FREE_SPACE,
    is_safe=True,
)
#: Rules about the bits themselves; those of all others change bits by the way.
BIT_RULES: Final = (INODE_BIT_0, INODE_BIT_1, INODE_PAST_END, DATA_BIT_0, DATA_BIT_1, DATA_PAST_END)
#: With more runs of one kind in a block of a bitmap, they are one finding.
_MOST_RUNS: Final = 16
#: Bytes of a bitmap's region behind what it needs that are looked at: such room
#: is not used, and in a hostile image it could be as large as the image.
_SURPLUS: Final = 1 << 20
_ONES: Final = re.compile("1+")


@dataclass(frozen=True, slots=True)
class Bitmap:
    """One of the two, and what it should hold."""

    name: str
    kind: Kind
    start: int
    end: int
    count: int
    per_block: int
    wanted: Callable[[int], bytes]  # index of a block -> what it should hold

    @property
    def blocks(self) -> int:
        """Blocks to look at."""
        surplus = max(_SURPLUS // (self.per_block // 8), 1)
        return min(self.end - self.start, ceil_div(self.count, self.per_block) + surplus)


class _Wrong(NamedTuple):
    """`bits` wrong ones from number `first` to `last`; all of them if they are in a row."""

    first: int
    last: int
    bits: int

    @property
    def is_run(self) -> bool:
        return self.bits == self.last - self.first + 1


@dataclass(slots=True)
class _Differences:
    """What is wrong with a bitmap, by kind."""

    missing: list[_Wrong]  # 0, should be 1
    stale: list[_Wrong]  # 1, should be 0
    past: _Wrong | None = None


def check_bitmaps(check: Check) -> None:
    """Compare both bitmaps with the inodes in use and the blocks they own."""
    may_free = not check.has_unrepaired
    for number in check.unused:
        check.blocks.clear(number)
    if may_free:
        check.follow_up(_bits_of_freed(check))
    inodes, blocks = inode_bitmap(check), data_bitmap(check)
    found = _differences(check, inodes)
    for wrong in found.missing:
        _report_inodes_in_use(check, inodes, wrong)
    for wrong in found.stale if may_free else ():
        _report_inodes_free(check, inodes, wrong)
    _report_past(check, inodes, INODE_PAST_END, found.past)
    found = _differences(check, blocks)
    start = check.geometry.data_start
    owners = owners_of(check, {start + w.first for w in found.missing}) if found.missing else {}
    for wrong in found.missing:
        _report_blocks_owned(check, blocks, wrong, owners.get(start + wrong.first))
    for wrong in found.stale if may_free else ():
        _report_blocks_free(check, blocks, wrong)
    _report_past(check, blocks, DATA_PAST_END, found.past)


def _bits_of_freed(check: Check) -> Iterator[Change]:
    """Changes that clear the bits of blocks which repairs have freed."""
    geometry = check.geometry
    masks: dict[int, bytearray] = {}
    for number in check.freed:
        if number not in check.blocks:
            index, bit = divmod(number, geometry.bits_per_block)
            mask = masks.setdefault(index, bytearray(geometry.block_size))
            mask[bit >> 3] |= 1 << (bit & 7)
    for index, mask in sorted(masks.items()):
        block_no = geometry.data_bitmap_start + index
        stale = int.from_bytes(mask, "little")
        stale &= int.from_bytes(check.overlay.block(block_no), "little")
        if stale:
            first, end = (stale & -stale).bit_length() - 1 >> 3, (stale.bit_length() + 7) // 8
            content = int.from_bytes(check.overlay.block(block_no)[first:end], "little")
            after = (content & ~(stale >> first * 8)).to_bytes(end - first, "little")
            yield Change(block_no, first, after, Kind.DATA_BITMAP)


def inode_bitmap(check: Check) -> Bitmap:
    """The inode bitmap, and what it should hold."""
    geometry = check.geometry
    per_block, count = geometry.bits_per_block, geometry.inode_count
    used: dict[int, bytearray] = {}
    for ino in (*range(RESERVED_INODES), *check.inodes):
        index, bit = divmod(ino, per_block)
        if index not in used:
            used[index] = bytearray(geometry.block_size)
        used[index][bit >> 3] |= 1 << (bit & 7)
    nothing = bytes(geometry.block_size)

    def wanted(index: int) -> bytes:
        content = bytes(used.get(index, nothing))
        covered = count - index * per_block
        return content if covered >= per_block else _filled(content, max(covered, 0))

    start, end = geometry.inode_bitmap_start, geometry.data_bitmap_start
    return Bitmap("inode bitmap", Kind.INODE_BITMAP, start, end, count, per_block, wanted)


def data_bitmap(check: Check) -> Bitmap:
    """The data bitmap, and what it should hold."""
    geometry = check.geometry
    start, end = geometry.data_bitmap_start, geometry.inode_table_start
    count, per_block = geometry.data_blocks, geometry.bits_per_block
    wanted = check.blocks.bits
    return Bitmap("data bitmap", Kind.DATA_BITMAP, start, end, count, per_block, wanted)


def _filled(content: bytes, covered: int) -> bytes:
    """The content with all bits from `covered` on set."""
    ones = ((1 << len(content) * 8) - 1) >> covered << covered
    return (int.from_bytes(content, "little") | ones).to_bytes(len(content), "little")


# -- what differs ---------------------------------------------------------------


def _differences(check: Check, bitmap: Bitmap) -> _Differences:
    found = _Differences([], [])
    for index in range(bitmap.blocks):
        content, wanted = check.overlay.block(bitmap.start + index), bitmap.wanted(index)
        if content == wanted:
            continue
        has, should = int.from_bytes(content, "little"), int.from_bytes(wanted, "little")
        first = index * bitmap.per_block
        inside = (1 << min(max(bitmap.count - first, 0), bitmap.per_block)) - 1
        _extend(found.missing, should & ~has & inside, first)
        _extend(found.stale, has & ~should, first)
        past = should & ~has & ~inside
        if past:
            lowest = first + (past & -past).bit_length() - 1
            last, bits = first + past.bit_length() - 1, past.bit_count()
            before = found.past or _Wrong(lowest, last, 0)
            found.past = _Wrong(before.first, last, before.bits + bits)
    return found


def _extend(found: list[_Wrong], bits: int, first: int) -> None:
    """Add the runs of ones in `bits`, of which bit 0 has the number `first`."""
    runs = [(m.start(), m.end()) for m in _ONES.finditer(f"{bits:b}"[::-1])]
    if len(runs) > _MOST_RUNS:
        count = bits.bit_count()
        found.append(_Wrong(first + runs[0][0], first + runs[-1][1] - 1, count))
        return
    for start, end in runs:
        run = _Wrong(first + start, first + end - 1, end - start)
        if found and found[-1].is_run and found[-1].last + 1 == run.first:
            before = found.pop()  # goes on from the block before
            run = _Wrong(before.first, run.last, before.bits + run.bits)
        found.append(run)


def _changes(check: Check, bitmap: Bitmap, wrong: _Wrong, *, to: int) -> Iterator[Change]:
    """Set or clear the wrong bits of one finding, and no others."""
    per_block = bitmap.per_block
    for index in range(wrong.first // per_block, wrong.last // per_block + 1):
        low = max(wrong.first - index * per_block, 0)
        high = min(wrong.last - index * per_block, per_block - 1)
        part = slice(low // 8, high // 8 + 1)
        content = check.overlay.block(bitmap.start + index)[part]
        has = int.from_bytes(content, "little")
        should = int.from_bytes(bitmap.wanted(index)[part], "little")
        mask = ((1 << high - low + 1) - 1) << low % 8
        new = has | should & mask if to else has & (should | ~mask)
        if new != has:
            after = new.to_bytes(len(content), "little")
            yield Change(bitmap.start + index, part.start, after, bitmap.kind)


# -- findings -------------------------------------------------------------------


def _bit(bitmap: Bitmap, number: int, value: int) -> Evidence:
    block, bit = divmod(number, bitmap.per_block)
    return Evidence(bitmap.name, bitmap.start + block, bit // 8, str(value), bit % 8)


def _in_words(thing: str, wrong: _Wrong, base: int = 0) -> str:
    """Which inodes or blocks it is about.

    >>> _in_words("inode", _Wrong(5, 5, 1)), _in_words("block", _Wrong(0, 9, 10), base=8)
    ('inode 5', 'blocks 8 to 17')
    >>> _in_words("inode", _Wrong(4, 5, 2)), _in_words("inode", _Wrong(5, 90, 30))
    ('inodes 4 and 5', '30 inodes from 5 to 90')
    """
    first, last = wrong.first + base, wrong.last + base
    if wrong.bits == 1:
        return f"{thing} {first}"
    if wrong.is_run:
        return f"{thing}s {first} {'and' if wrong.bits == 2 else 'to'} {last}"
    return f"{wrong.bits} {thing}s from {first} to {last}"


def _but(bitmap: Bitmap, wrong: _Wrong, value: int) -> str:
    its, bits, are = ("its", "bit", "is") if wrong.bits == 1 else ("their", "bits", "are")
    return f"but {its} {bits} in the {bitmap.name} {are} {value}"


def _repair(wrong: _Wrong, verb: str) -> str:
    return f"{verb} the bit" if wrong.bits == 1 else f"{verb} the {wrong.bits} bits"


def _report_inodes_in_use(check: Check, bitmap: Bitmap, wrong: _Wrong) -> None:
    ino = wrong.first
    inode = check.inodes.get(ino)
    are, what = ("is", "reserved") if wrong.bits == 1 else ("are", "in use")
    if wrong.bits > 1 and ino < ROOT_INO:
        what = "reserved" if wrong.last < ROOT_INO else "reserved or in use"
    if inode is None:  # 0 and 1; or the root, as long as nothing has made it anew
        expected = _inode_record(check, ino, "reserved, never given out")
    else:
        expected = check.inode_evidence(ino, "nlink", inode.record.nlink)
        if wrong.bits == 1:
            what = f"in use ({check.described(inode)})"
    check.report(
        INODE_BIT_0,
        f"{_in_words('inode', wrong)} {are} {what} {_but(bitmap, wrong, 0)}",
        found=_bit(bitmap, ino, 0),
        expected=expected,
        repair=_repair(wrong, "set"),
        changes=_changes(check, bitmap, wrong, to=1),
        ino=ino if inode is not None and wrong.bits == 1 else None,
    )


def _inode_record(check: Check, ino: int, value: str) -> Evidence:
    block, offset = check.geometry.inode_location(ino)
    return Evidence(f"inode {ino}", block, offset, value)


def _report_inodes_free(check: Check, bitmap: Bitmap, wrong: _Wrong) -> None:
    ino = wrong.first
    are = "is" if wrong.bits == 1 else "are"
    record = decode_inode(check.inode_bytes(ino))
    check.report(
        INODE_BIT_1,
        f"{_in_words('inode', wrong)} {are} free {_but(bitmap, wrong, 1)}",
        found=_bit(bitmap, ino, 1),
        expected=check.inode_evidence(ino, "nlink", record.nlink),
        repair=_repair(wrong, "clear"),
        changes=_changes(check, bitmap, wrong, to=0),
    )


def _report_blocks_owned(check: Check, bitmap: Bitmap, wrong: _Wrong, owner: Owner | None) -> None:
    start = check.geometry.data_start
    which = _in_words("block", wrong, start)
    verb = "belongs to" if wrong.bits == 1 else "belong to"
    if owner is None:  # found by no pointer: kept for a repair that was declined
        whom = "a file"
        expected = Evidence("inode table", check.geometry.inode_table_start, 0, "an owner")
    else:
        whom = check.named(owner.inode.ino)
        if wrong.bits > 1:
            whom = f"files, the first of them to {whom},"
        expected = owner.evidence
    check.report(
        DATA_BIT_0,
        f"{which} {verb} {whom} {_but(bitmap, wrong, 0)}",
        found=_bit(bitmap, wrong.first, 0),
        expected=expected,
        repair=_repair(wrong, "set"),
        changes=_changes(check, bitmap, wrong, to=1),
        ino=None if owner is None else owner.inode.ino,
    )


def _report_blocks_free(check: Check, bitmap: Bitmap, wrong: _Wrong) -> None:
    which = _in_words("block", wrong, check.geometry.data_start)
    verb = "belongs to" if wrong.bits == 1 else "belong to"
    table = check.geometry.inode_table_start
    value = f"no inode that points to block {check.geometry.data_start + wrong.first}"
    check.report(
        DATA_BIT_1,
        f"{which} {verb} no inode {_but(bitmap, wrong, 1)}",
        found=_bit(bitmap, wrong.first, 1),
        expected=Evidence("inode table", table, 0, value),
        repair=_repair(wrong, "clear"),
        changes=_changes(check, bitmap, wrong, to=0),
    )


def _report_past(check: Check, bitmap: Bitmap, which: Rule, wrong: _Wrong | None) -> None:
    if wrong is None:
        return
    field = "inode_count" if bitmap.kind is Kind.INODE_BITMAP else "block_count"
    value = getattr(check.geometry, field)
    bits = "bit is" if wrong.bits == 1 else "bits are"
    check.report(
        which,
        f"the {bitmap.name} has {bitmap.count} bits, and {wrong.bits} {bits} 0 past its end, "
        "where all are 1 so that nothing is allocated there",
        found=_bit(bitmap, wrong.first, 0),
        expected=check.superblock_evidence(field, value),
        repair=_repair(wrong, "set"),
        changes=_changes(check, bitmap, wrong, to=1),
    )
