"""Pass 1, second half: the blocks that each inode owns.

Checks that pointers lead into the data region and indirect blocks hold such, and
has ``sizes`` compare size and block count with them.  Collects which blocks are
owned (``check.blocks``), a directory's blocks in file order, and the *claims* on
blocks that are owned already, for ``sharing``.

An indirect block is followed from the first pointer that leads to it and from no
other, so the work is bounded by the image's size however pointers are knotted.  One
that is *contested*, since some other pointer leads there too, is not followed or
changed at all before ``sharing``: it may be somebody's data.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import Final

from vsfs.fsck.context import Check, CheckedInode
from vsfs.fsck.findings import Evidence, rule
from vsfs.fsck.pointers import (
    Claim,
    Pointers,
    attribute_pointer,
    below,
    of_inode,
    pointer_evidence,
    runs,
    set_pointers,
)
from vsfs.fsck.sizes import Found, compare, end_of, first_past
from vsfs.fsck.usage import Usage
from vsfs.layout import INDIRECT_LEVELS, get_pointers
from vsfs.words import counted

POINTER_RANGE = rule(
    220,
    "pointer-range",
    "A pointer is 0 or the number of a block in the data region.",
    "The superblock, which says where the data region is: no other block can be a file's.",
    "OSTEP 40.3 The Inode",
    is_safe=False,
)
NOT_INDIRECT = rule(
    221,
    "indirect-block",
    "An indirect block holds pointers and nothing else.",
    "The superblock: most of what stands there cannot be block numbers, so it is something else.",
    "OSTEP 40.3 The Multi-Level Index",
    is_safe=False,
)
INDIRECT_LOOP = rule(
    222,
    "indirect-loop",
    "No pointer of a file leads back to an indirect block of the same file.",
    "The pointer on the way there: it is the one by which the block was first reached.",
    "OSTEP 40.3 The Multi-Level Index",
    is_safe=False,
)
#: An indirect block with more bad pointers than this, and more bad ones than good
#: ones, is not believed to be one.
_BAD_POINTERS: Final = 4


def find_contested(check: Check, inodes: Iterable[CheckedInode]) -> set[int]:
    """The blocks to which more than one pointer of `inodes` leads, bad ones left out.

    Each block is followed once for each level at which it is an indirect one.
    """
    start, end = check.geometry.data_start, check.geometry.block_count
    owned = Usage(check.blocks.count, check.blocks.per_block)
    followed = [Usage(owned.count, owned.per_block) for _ in range(INDIRECT_LEVELS)]
    contested: set[int] = set()
    for inode in inodes:
        stack = [attribute_pointer(check, inode), *of_inode(check, inode)]
        while stack:
            array = stack.pop()
            for index, first, count in runs(array.values):
                for at in range(index, index + count) if array.level else ():
                    value = array.values[at]
                    if start <= value < end and not followed[array.level - 1].mark(value - start):
                        stack.append(below(check, array, at))
                low, high = max(first, start), min(first + count, end)
                if low < high:
                    contested.update(start + n for n in owned.mark(low - start, high - low))
    return contested


def check_blocks(check: Check, inode: CheckedInode) -> list[Claim]:
    """Check the pointers, the size and the block count of an inode of a possible type.

    Returns its claims on blocks with another owner.  With such, sizes and counts
    wait for :func:`recheck_blocks`.
    """
    found = _follow(check, inode, of_inode(check, inode), end_of(check, inode))
    if not found.claims:
        compare(check, inode, found)
    return found.claims


def follow_from(check: Check, inode: CheckedInode, array: Pointers) -> list[Claim]:
    """Check and own what an indirect block leads to, `array` in it; its claims."""
    return _follow(check, inode, [array], None).claims


# -- following pointers -------------------------------------------------------


def _follow(check: Check, inode: CheckedInode, stack: list[Pointers], end: int | None) -> Found:
    """Walk through arrays and all below; repair bad pointers, mark blocks as owned."""
    found = Found(indirect={array.block_no for array in stack if array.field is None})
    while stack:
        array = stack.pop()
        array = _check_range(check, inode, array)
        array = _check_loop(check, inode, array, found)
        if array.level:
            array = _check_indirect(check, inode, array)
        found.note(array, first_past(array, end), is_directory=inode.is_directory)
        again = _mark(check, inode, array, found)
        if not array.level:
            continue
        for index in range(len(array.values) - 1, -1, -1):
            if array.values[index] and index not in again:
                found.indirect.add(array.values[index])
                stack.append(below(check, array, index))
    return found


def _check_range(check: Check, inode: CheckedInode, array: Pointers) -> Pointers:
    """Clear pointers that lead out of the data region; one finding for an array."""
    start, end = check.geometry.data_start, check.geometry.block_count
    values = array.values
    if not _used_and_bad(check, values)[1]:
        return array
    bad = [index for index, value in enumerate(values) if value and not start <= value < end]
    first = bad[0]
    many = f" and {counted(len(bad) - 1, 'more pointer')} there" if len(bad) > 1 else ""
    where = "the image ends" if values[first] >= end else "that is metadata"
    evidence = pointer_evidence(inode, array, first)
    kind = "a block of the file" if array.level == 0 else "an indirect block"
    accepted = check.report(
        POINTER_RANGE,
        f"{check.named(inode.ino)} points to block {values[first]} as {kind}{many}, "
        f"but the data region has blocks {start} to {end - 1}: {where}",
        found=evidence,
        expected=check.superblock_evidence("data_start", f"data in blocks {start} to {end - 1}"),
        repair="clear the pointer" if len(bad) == 1 else f"clear these {len(bad)} pointers",
        changes=set_pointers(check, inode, [(array, dict.fromkeys(bad, 0))]),
        lost=_lost_part(check, inode, array, bad),
        ino=inode.ino,
    )
    inode.cuts.append(accepted)
    return _cleared(array, bad)


def _lost_part(
    check: Check, inode: CheckedInode, array: Pointers, indexes: list[int]
) -> str | None:
    """Which part of the file becomes a hole with these pointers; None past its end."""
    first = array.file_block + indexes[0] * array.span
    if stat.S_IFMT(inode.record.mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        return None
    if first * check.geometry.block_size >= inode.record.size:
        return None
    if array.level == 0 and len(indexes) == 1:
        return f"block {first} of the file"
    return f"blocks of the file from block {first} on"


def _check_loop(check: Check, inode: CheckedInode, array: Pointers, found: Found) -> Pointers:
    """Clear pointers to indirect blocks of the same inode."""
    values = array.values
    if found.indirect.isdisjoint(values):
        return array
    bad = [index for index, value in enumerate(values) if value in found.indirect]
    value = values[bad[0]]
    what = "itself" if value == array.block_no and array.field is None else f"block {value}"
    accepted = check.report(
        INDIRECT_LOOP,
        f"{check.named(inode.ino)} has {what if what != 'itself' else f'block {value}'} as an "
        f"indirect block, and a pointer further down leads to {what} again",
        found=pointer_evidence(inode, array, bad[0]),
        expected=check.inode_evidence(inode.ino, "blocks", "each block once"),
        repair="clear the pointer" if len(bad) == 1 else f"clear these {len(bad)} pointers",
        changes=set_pointers(check, inode, [(array, dict.fromkeys(bad, 0))]),
        lost=_lost_part(check, inode, array, bad),
        ino=inode.ino,
    )
    inode.cuts.append(accepted)
    return _cleared(array, bad)


def _check_indirect(check: Check, inode: CheckedInode, array: Pointers) -> Pointers:
    """Clear pointers to blocks that cannot be indirect blocks; one finding for an array."""
    used = [index for index, value in enumerate(array.values) if value]
    bad = [index for index in used if not _is_indirect(check, array, index)]
    if not bad:
        return array
    start, end = check.geometry.data_start, check.geometry.block_count
    block_no = array.values[bad[0]]
    which = f"block {block_no} as an indirect block"
    if len(bad) > 1:
        more = counted(len(bad) - 1, "more block")
        which = f"block {block_no} and {more} as indirect blocks"
    accepted = check.report(
        NOT_INDIRECT,
        f"{check.named(inode.ino)} has {which}, but {_why_not_indirect(check, array, bad[0])}",
        found=pointer_evidence(inode, array, bad[0]),
        expected=Evidence(
            f"block {block_no}",
            block_no,
            _first_bad(check, array, bad[0]) * 4,
            f"pointers to blocks {start} to {end - 1}, or 0",
        ),
        repair="clear the pointer to it" if len(bad) == 1 else f"clear these {len(bad)} pointers",
        changes=set_pointers(check, inode, [(array, dict.fromkeys(bad, 0))]),
        lost=_lost_part(check, inode, array, bad),
        ino=inode.ino,
    )
    inode.cuts.append(accepted)
    return _cleared(array, bad)


def _is_indirect(check: Check, array: Pointers, index: int) -> bool:
    """Whether the block behind a pointer can be an indirect block.

    Of one that is contested nothing is believed that would have to be repaired.
    """
    values = below(check, array, index).values
    used, bad = _used_and_bad(check, values)
    if array.values[index] not in check.contested:
        return bad <= _BAD_POINTERS or bad <= used - bad
    return _is_sound_tree(check, array.values[index], array.level)


def _is_sound_tree(check: Check, block_no: int, level: int) -> bool:
    """Whether a block has good pointers alone, and so have all for `level` levels below."""
    found = check.sound_trees.get((block_no, level))
    if found is None:
        values = get_pointers(check.overlay.block(block_no), 0, check.geometry.pointers_per_block)
        found = not _used_and_bad(check, values)[1] and (
            level == 1 or all(_is_sound_tree(check, v, level - 1) for v in values if v)
        )
        check.sound_trees[block_no, level] = found
    return found


def _used_and_bad(check: Check, values: tuple[int, ...]) -> tuple[int, int]:
    """How many pointers are not 0, and how many lead out of the data region."""
    start, end = check.geometry.data_start, check.geometry.block_count
    used = len(values) - values.count(0)
    if max(values) < end and min(filter(None, values), default=start) >= start:
        return used, 0
    return used, sum(value != 0 and not start <= value < end for value in values)


def _why_not_indirect(check: Check, array: Pointers, index: int) -> str:
    under = below(check, array, index)
    used, bad = _used_and_bad(check, under.values)
    if not bad:
        return "what it points to are no indirect blocks, and another file has it, too"
    wrong = (v for v in under.values if v and not check.geometry.is_data_block(v))
    which = f"all its {used} pointers" if bad == used > 1 else f"{bad} of its {used} pointers"
    return f"{which} lead out of the data region, the first to {next(wrong)}"


def _first_bad(check: Check, array: Pointers, index: int) -> int:
    """Where in the block behind a pointer the first bad one stands; 0 if none does."""
    values = below(check, array, index).values
    bad = (at for at, v in enumerate(values) if v and not check.geometry.is_data_block(v))
    return next(bad, 0)


def _cleared(array: Pointers, indexes: list[int]) -> Pointers:
    """The array with some of its pointers 0."""
    gone = set(indexes)
    kept = tuple(0 if index in gone else value for index, value in enumerate(array.values))
    return array._replace(values=kept)


def _mark(check: Check, inode: CheckedInode, array: Pointers, found: Found) -> set[int]:
    """Mark what an array points to as owned; give the indexes that were owned before."""
    data_start = check.geometry.data_start
    again: set[int] = set()
    contested = check.contested if array.level else set()
    for index, first, count in runs(array.values) if not array.level else _single(array.values):
        if first in contested:
            again.add(index)
            continue
        twice = check.blocks.mark(first - data_start, count)
        again.update(index + number + data_start - first for number in twice)
    if again:
        found.claims.append(Claim(inode, array, sorted(again)))
    return again


def _single(values: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Like ``runs``, each block a run of its own."""
    return ((index, value, 1) for index, value in enumerate(values) if value)
