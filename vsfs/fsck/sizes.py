"""Pass 1: size and block count of an inode, compared with what its pointers lead to.

Relies on ``blocks``, which has followed the pointers: what they lead to is the
inode's own then.  A directory's blocks are brought into a row here, since a
directory has no holes.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

from vsfs.fsck.context import Check, CheckedInode
from vsfs.fsck.findings import Evidence, rule
from vsfs.fsck.pointers import (
    Claim,
    Pointers,
    of_inode,
    pointer_evidence,
    set_pointers,
    walk,
)
from vsfs.layout import INLINE_SIZE, ceil_div
from vsfs.words import counted

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


@dataclass(slots=True)
class Found:
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


def recheck_blocks(check: Check, inode: CheckedInode) -> None:
    """Compare sizes and counts, once all blocks of the inode are its own."""
    compare(check, inode, _look_again(check, inode, end_of(check, inode)))


def are_past_end(check: Check, inode: CheckedInode, claims: list[Claim]) -> bool:
    """Whether all these pointers of an inode lie past its end, by its size and block count."""
    end = end_of(check, inode)
    owned = _look_again(check, inode, end).blocks + (1 if inode.record.attribute_block else 0)
    return (
        end is not None
        and inode.record.blocks != owned
        and all(min(claim.indexes) >= first_past(claim.array, end) for claim in claims)
    )


def _look_again(check: Check, inode: CheckedInode, end: int | None) -> Found:
    """What the pointers of an inode lead to, after the repairs so far."""
    found = Found()
    for array in walk(check, inode, set()):
        found.note(array, first_past(array, end), is_directory=inode.is_directory)
    return found


def compare(check: Check, inode: CheckedInode, found: Found) -> None:
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
    _check_count(check, inode, found.blocks + (1 if inode.record.attribute_block else 0))


def _check_count(check: Check, inode: CheckedInode, count: int) -> None:
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


def end_of(check: Check, inode: CheckedInode) -> int | None:
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


def first_past(array: Pointers, end: int | None) -> int:
    """Index of the first pointer that leads past the end, maybe behind the last."""
    count = len(array.values)
    if end is None:
        return count
    return min(max(ceil_div(end - array.file_block, array.span), 0), count)


# -- size and count ------------------------------------------------------------


def _check_size(check: Check, inode: CheckedInode, found: Found) -> None:
    """Bring size and pointers together; a directory's size comes later."""
    record, block_size = inode.record, check.geometry.block_size
    owned = found.blocks + (1 if record.attribute_block else 0)
    last = max(found.leaves, default=-1) if inode.is_directory else found.last
    size = (last + 1) * block_size
    which = None
    if end_of(check, inode) is None and not inode.is_directory:
        which, but = (
            SIZE_IMPOSSIBLE,
            f"its pointers can reach no more than {check.geometry.max_file_size}",
        )
        last_blocks = counted(last + 1, "block")
        expected = check.inode_evidence(inode.ino, "direct", f"pointers for {last_blocks}")
    elif found.past and size > record.size and record.blocks == owned and _may_grow(record.mode):
        array, indexes = found.past[0]
        which = SIZE_TOO_SMALL
        reach = "reaches" if record.blocks == 1 else "reach"
        but = f"its {counted(record.blocks, 'block')} {reach} up to byte {size}"
        expected = pointer_evidence(inode, array, indexes[0])
    if which is not None:
        check.update(
            which,
            inode,
            f"{check.named(inode.ino)} has a size of {record.size} bytes, but {but}",
            found=check.inode_evidence(inode.ino, "size", record.size),
            expected=expected,
            repair=f"set the size to {size}, the end of its last block",
            size=size,
        )
        found.past = _past(found.past, last + 1)
    if found.past:
        _cut_past(check, inode, found)


def _past(past: list[tuple[Pointers, list[int]]], end: int) -> list[tuple[Pointers, list[int]]]:
    """Those of some pointers that lead past file block `end`, too."""
    kept = [
        (array, [at for at in indexes if at >= first_past(array, end)]) for array, indexes in past
    ]
    return [(array, indexes) for array, indexes in kept if indexes]


def _may_grow(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _cut_past(check: Check, inode: CheckedInode, found: Found) -> None:
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


def _check_holes(check: Check, inode: CheckedInode, found: Found) -> None:
    """Bring a directory's blocks into a row without holes; note them in `inode`."""
    leaves = found.leaves
    holes = [at for at in range(len(leaves)) if at not in leaves]
    if holes:
        _fill_holes(check, inode, found, holes)
    inode.blocks = [leaves[at] for at in range(len(leaves))]


def _fill_holes(check: Check, inode: CheckedInode, found: Found, holes: list[int]) -> None:
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
