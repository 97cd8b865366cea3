"""Pass 1, second half: the blocks that each inode owns.

Checks that pointers lead into the data region, that none lies past the file's
end, and that size, block count and pointers agree.  Collects which blocks are
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
from dataclasses import dataclass, field
from typing import Final

from vsfs.fsck.context import Check, CheckedInode, counted
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
    walk,
)
from vsfs.fsck.usage import Usage
from vsfs.layout import INLINE_SIZE, ceil_div, get_pointers

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
PAST_END = rule(
    223,
    "pointer-past-end",
    "No pointer is set for a part of the file past its end.",
    "The size and the block count, which agree: the inode is written whole, and a crash can "
    "leave an indirect block that is newer or older.",
    "OSTEP 42.1 A Detailed Example",
    is_safe=True,
)
SIZE_TOO_SMALL = rule(
    224,
    "size-too-small",
    "A file's size covers all of its blocks.",
    "The pointers and the block count, which agree against the size.",
    "OSTEP 40.3 The Inode",
    is_safe=False,
)
SIZE_IMPOSSIBLE = rule(
    225,
    "size-impossible",
    "A file is no larger than its pointers could reach; a directory has whole blocks.",
    "The pointers: the size cannot be.",
    "OSTEP 40.3 The Inode",
    is_safe=False,
)
BLOCK_COUNT = rule(
    226,
    "block-count",
    "The block count is the number of blocks that the inode owns: data, indirect, attributes.",
    "The pointers: the count only repeats what can be counted.",
    "OSTEP 42.2 FSCK",
    is_safe=True,
)
DIRECTORY_SIZE = rule(
    227,
    "directory-size",
    "A directory's size is that of its blocks: it has no holes.",
    "The pointers: a block that is not there holds no names.",
    "OSTEP 40.4 Directory Organization",
    is_safe=True,
)
DIRECTORY_HOLE = rule(
    228,
    "directory-hole",
    "A directory has no holes.",
    "The pointers: the blocks that are left hold the names that are left.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)

#: An indirect block with more bad pointers than this, and more bad ones than good
#: ones, is not believed to be one.
_BAD_POINTERS: Final = 4


@dataclass(slots=True)
class _Found:
    """What the walk through one inode's pointers has met."""

    blocks: int = 0  # owned, and claimed
    last: int = -1  # the last file block, or the first below the last indirect block
    leaves: dict[int, int] = field(default_factory=dict)  # a directory's, by file block
    slots: dict[int, tuple[Pointers, int]] = field(default_factory=dict)  # where they stand
    indirect: set[int] = field(default_factory=set)
    past: list[tuple[Pointers, list[int]]] = field(default_factory=list)  # past the end
    claims: list[Claim] = field(default_factory=list)

    def note(self, array: Pointers, past: int, *, is_directory: bool) -> None:
        """Count an array; from index `past` on it leads past the file's end."""
        values = array.values
        self.blocks += len(values) - values.count(0)
        if any(values[past:]):
            self.past.append((array, [at for at in range(past, len(values)) if values[at]]))
        used = next((at for at in range(len(values) - 1, -1, -1) if values[at]), None)
        if used is not None:
            self.last = max(self.last, array.file_block + used * array.span)
        if is_directory and not array.level:
            for index, value in enumerate(values):
                self.slots[array.file_block + index] = (array, index)
                if value:
                    self.leaves[array.file_block + index] = value


def find_contested(check: Check, inodes: Iterable[CheckedInode]) -> set[int]:
    """The blocks to which more than one pointer of `inodes` leads, bad ones left out."""
    start, end = check.geometry.data_start, check.geometry.block_count
    owned = Usage(check.blocks.count, check.blocks.per_block)
    contested: set[int] = set()
    for inode in inodes:
        stack = [attribute_pointer(check, inode), *of_inode(check, inode)]
        while stack:
            array = stack.pop()
            for index, first, count in runs(array.values):
                for at in range(index, index + count) if array.level else ():
                    value = array.values[at]
                    if start <= value < end and value - start not in owned:
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
    found = _follow(check, inode, of_inode(check, inode), _end(check, inode))
    if not found.claims:
        _compare(check, inode, found)
    return found.claims


def follow_from(check: Check, inode: CheckedInode, array: Pointers) -> list[Claim]:
    """Check and own what an indirect block leads to, `array` in it; its claims."""
    return _follow(check, inode, [array], None).claims


def recheck_blocks(check: Check, inode: CheckedInode) -> None:
    """Compare sizes and counts, once all blocks of the inode are its own."""
    _compare(check, inode, _look_again(check, inode, _end(check, inode)))


def _look_again(check: Check, inode: CheckedInode, end: int | None) -> _Found:
    """What the pointers of an inode lead to, after the repairs so far."""
    found = _Found()
    for array in walk(check, inode, set()):
        found.note(array, _first_past(array, end), is_directory=inode.is_directory)
    return found


def _compare(check: Check, inode: CheckedInode, found: _Found) -> None:
    """Bring size, pointers and count together."""
    _check_size(check, inode, found)
    if inode.is_directory:
        _check_holes(check, inode, found)
        if not inode.blocks:  # it gets one, or has to go: see `sharing`
            return
        _check_directory_size(check, inode)
        found = _look_again(check, inode, len(inode.blocks))
        if found.past:  # indirect blocks that closing a hole has emptied
            _cut_past(check, inode, found)
    check_count(check, inode, found.blocks + (1 if inode.record.attribute_block else 0))


def check_count(check: Check, inode: CheckedInode, count: int) -> None:
    """Compare the block count with `count`, the blocks that the inode owns."""
    record = inode.record
    if record.blocks == count:
        return
    if inode.cuts:
        check.follow_cuts(inode, blocks=count)
        return
    expected = check.inode_evidence(inode.ino, "direct", f"{counted(count, 'block')} reached")
    empty = _empty_indirect(check, inode) if count < record.blocks else None
    also = ""
    if empty is not None:
        also = f": its indirect block {empty} is empty"
        expected = Evidence(f"indirect block {empty} of inode {inode.ino}", empty, 0, "no pointer")
    check.update(
        BLOCK_COUNT,
        inode,
        f"{check.named(inode.ino)} has a block count of {record.blocks}, "
        f"but its pointers lead to {counted(count, 'block')}{also}",
        found=check.inode_evidence(inode.ino, "blocks", record.blocks),
        expected=expected,
        repair=f"set the count to {count}",
        blocks=count,
    )


def _empty_indirect(check: Check, inode: CheckedInode) -> int | None:
    """The first indirect block of an inode that was found without a pointer; None if none was."""
    arrays = (array for array in walk(check, inode, set()) if array.field is None)
    changed = check.overlay.changed
    found = (a.block_no for a in arrays if not any(a.values) and a.block_no not in changed)
    return next(found, None)


def _end(check: Check, inode: CheckedInode) -> int | None:
    """The number of file blocks within the size; None if the size cannot be."""
    record, geometry = inode.record, check.geometry
    block_size = geometry.block_size
    if stat.S_ISLNK(record.mode) and record.size <= INLINE_SIZE:
        return 0
    if record.size > geometry.max_file_size:
        return None
    if inode.is_directory and (
        not record.size
        or record.size % block_size
        or record.size // block_size > geometry.data_blocks
    ):
        return None
    return ceil_div(record.size, block_size)


# -- following pointers -------------------------------------------------------


def _follow(check: Check, inode: CheckedInode, stack: list[Pointers], end: int | None) -> _Found:
    """Walk through arrays and all below; repair bad pointers, mark blocks as owned."""
    found = _Found(indirect={array.block_no for array in stack if array.field is None})
    while stack:
        array = stack.pop()
        array = _check_range(check, inode, array)
        array = _check_loop(check, inode, array, found)
        if array.level:
            array = _check_indirect(check, inode, array)
        found.note(array, _first_past(array, end), is_directory=inode.is_directory)
        again = _mark(check, inode, array, found)
        if not array.level:
            continue
        for index in range(len(array.values) - 1, -1, -1):
            if array.values[index] and index not in again:
                found.indirect.add(array.values[index])
                stack.append(below(check, array, index))
    return found


def _first_past(array: Pointers, end: int | None) -> int:
    """Index of the first pointer that leads past the end, maybe behind the last."""
    count = len(array.values)
    if end is None:
        return count
    return min(max(ceil_div(end - array.file_block, array.span), 0), count)


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


def _check_loop(check: Check, inode: CheckedInode, array: Pointers, found: _Found) -> Pointers:
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
    return f"{bad} of its {used} pointers lead out of the data region, the first to {next(wrong)}"


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


def _mark(check: Check, inode: CheckedInode, array: Pointers, found: _Found) -> set[int]:
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


# -- size and count ------------------------------------------------------------


def _check_size(check: Check, inode: CheckedInode, found: _Found) -> None:
    """Bring size and pointers together; a directory's size comes later."""
    record, block_size = inode.record, check.geometry.block_size
    owned = found.blocks + (1 if record.attribute_block else 0)
    last = max(found.leaves, default=-1) if inode.is_directory else found.last
    size = (last + 1) * block_size
    if _end(check, inode) is None and not inode.is_directory:
        check.update(
            SIZE_IMPOSSIBLE,
            inode,
            f"{check.named(inode.ino)} has a size of {record.size} bytes, and its pointers can "
            f"reach no more than {check.geometry.max_file_size}",
            found=check.inode_evidence(inode.ino, "size", record.size),
            expected=check.inode_evidence(
                inode.ino, "direct", f"pointers for {counted(last + 1, 'block')}"
            ),
            repair=f"set the size to {size}, the end of its last block",
            size=size,
        )
    elif found.past and size > record.size and record.blocks == owned and _may_grow(record.mode):
        array, indexes = found.past[0]
        check.update(
            SIZE_TOO_SMALL,
            inode,
            f"{check.named(inode.ino)} has a size of {record.size} bytes, but its "
            f"{counted(record.blocks, 'block')} reach up to byte {size}",
            found=check.inode_evidence(inode.ino, "size", record.size),
            expected=pointer_evidence(inode, array, indexes[0]),
            repair=f"set the size to {size}, the end of its last block",
            size=size,
        )
        found.past = _past(found.past, last + 1)
    if found.past:
        _cut_past(check, inode, found)


def _past(past: list[tuple[Pointers, list[int]]], end: int) -> list[tuple[Pointers, list[int]]]:
    """Those of some pointers that lead past file block `end`, too."""
    kept = [
        (array, [at for at in indexes if at >= _first_past(array, end)]) for array, indexes in past
    ]
    return [(array, indexes) for array, indexes in kept if indexes]


def _may_grow(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _cut_past(check: Check, inode: CheckedInode, found: _Found) -> None:
    """Clear the pointers past the end; the blocks behind them are nobody's then."""
    array, indexes = found.past[0]
    blocks = {array.values[index] for array, indexes in found.past for index in indexes}
    size, count = inode.record.size, counted(len(blocks), "block")
    wanted = [  # what stands in an indirect block that goes can stay as it is
        (array, dict.fromkeys(indexes, 0))
        for array, indexes in found.past
        if array.field is not None or array.block_no not in blocks
    ]
    evidence = pointer_evidence(inode, array, indexes[0])
    check.report(
        PAST_END,
        f"{check.named(inode.ino)} has {counted(size, 'byte')}, and {count} past its end",
        found=evidence,
        expected=check.inode_evidence(inode.ino, "size", size),
        repair=f"clear the pointers and free {count}",
        changes=set_pointers(check, inode, wanted),
        ino=inode.ino,
    )
    for block_no in blocks:
        check.release_block(block_no)
    found.blocks -= len(blocks)
    for at in [at for at in found.leaves if at * check.geometry.block_size >= size]:
        del found.leaves[at]


# -- directories ---------------------------------------------------------------


def _check_holes(check: Check, inode: CheckedInode, found: _Found) -> None:
    """Bring a directory's blocks into a row without holes; note them in `inode`."""
    leaves = found.leaves
    holes = [at for at in range(len(leaves)) if at not in leaves]
    if holes:
        _fill_holes(check, inode, found, holes)
    inode.blocks = [leaves[at] for at in range(len(leaves))]


def _fill_holes(check: Check, inode: CheckedInode, found: _Found, holes: list[int]) -> None:
    """Move the last blocks of a directory into its holes: their order is free."""
    leaves, slots, first = found.leaves, found.slots, holes[0]
    new: dict[int, int] = {}  # file block -> disk block
    for hole in holes:
        if hole not in slots:  # no indirect block there that could hold a pointer
            for at in [at for at in leaves if at > hole]:
                new[at] = 0
                check.release_block(leaves.pop(at))
                found.blocks -= 1
            break
        last = max(leaves)
        if last > hole:
            new[hole], new[last] = leaves[last], 0
            leaves[hole] = leaves.pop(last)
    array, index = slots.get(first, (of_inode(check, inode)[-1], 0))
    evidence = pointer_evidence(inode, array, index, "0")
    wanted: dict[tuple[int, int], tuple[Pointers, dict[int, int]]] = {}
    for at, value in new.items():
        array, index = slots[at]
        wanted.setdefault((array.block_no, array.offset), (array, {}))[1][index] = value
    check.report(
        DIRECTORY_HOLE,
        f"directory {check.named(inode.ino)} has blocks behind its block {first}, "
        "but no pointer for that one",
        found=evidence,
        expected=check.inode_evidence(inode.ino, "size", inode.record.size),
        repair="close the gap with its last blocks",
        changes=set_pointers(check, inode, list(wanted.values())),
        lost="the names in the missing block",
        ino=inode.ino,
    )


def _check_directory_size(check: Check, inode: CheckedInode) -> None:
    """Compare a directory's size with its blocks."""
    count, size = len(inode.blocks), inode.record.size
    right = count * check.geometry.block_size
    if size != right and inode.cuts:
        check.follow_cuts(inode, size=right)
    elif size != right:
        check.update(
            DIRECTORY_SIZE,
            inode,
            f"directory {check.named(inode.ino)} has a size of {size} bytes, "
            f"but {counted(count, 'block')} of {check.geometry.block_size} bytes",
            found=check.inode_evidence(inode.ino, "size", size),
            expected=check.inode_evidence(inode.ino, "direct", counted(count, "block")),
            repair=f"set the size to {right}",
            size=right,
        )
