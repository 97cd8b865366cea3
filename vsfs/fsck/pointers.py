"""Block pointers where they stand: arrays of them in inodes and indirect blocks.

An inode has four arrays: its direct pointers, and single, double and triple
indirect with one pointer each.  An indirect block is one array.  Whoever follows
pointers keeps a stack of arrays and decides itself which to go down, since only
it knows which it believes (OSTEP 40.3, the multi-level index).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from vsfs.device import Kind
from vsfs.fsck.context import INODE_OFFSET, Change, Check, CheckedInode
from vsfs.fsck.findings import Evidence
from vsfs.layout import DIRECT_POINTERS, INDIRECT_LEVELS, decode_inode, get_pointers

_FIELDS = ("direct", "single_indirect", "double_indirect", "triple_indirect")


class Pointers(NamedTuple):
    """Pointers that lie together, from byte `offset` of a block on.

    With `level` 0 they lead to the file's blocks, otherwise to indirect blocks of
    so many levels; the first leads to file block `file_block`, each next one
    `span` blocks further.  `field` is set for those in the inode itself.
    """

    block_no: int
    offset: int
    level: int
    file_block: int
    span: int
    values: tuple[int, ...]
    field: str | None

    def place(self, index: int) -> int:
        """Byte offset in the block of pointer number `index`."""
        return self.offset + index * 4


class Claim(NamedTuple):
    """Pointers of `inode` that lead to blocks which were owned before."""

    inode: CheckedInode
    array: Pointers
    indexes: list[int]


class Owner(NamedTuple):
    """A pointer to a block, as the first one that leads there."""

    inode: CheckedInode
    array: Pointers
    at: int

    @property
    def evidence(self) -> Evidence:
        """The pointer, and where it stands."""
        return pointer_evidence(self.inode, self.array, self.at)


def of_inode(check: Check, inode: CheckedInode) -> list[Pointers]:
    """The four arrays in the inode, last one first: a stack to begin with."""
    block_no, start = check.geometry.inode_location(inode.ino)
    pointers, per_block = inode.record.pointers, check.geometry.pointers_per_block
    at = start + INODE_OFFSET["direct"]
    stack = [Pointers(block_no, at, 0, 0, 1, pointers[:DIRECT_POINTERS], _FIELDS[0])]
    file_block = DIRECT_POINTERS
    for level in range(1, INDIRECT_LEVELS + 1):
        at = start + INODE_OFFSET[_FIELDS[level]]
        value = pointers[DIRECT_POINTERS + level - 1]
        span = per_block**level
        stack.append(Pointers(block_no, at, level, file_block, span, (value,), _FIELDS[level]))
        file_block += span
    return stack[::-1]


def attribute_pointer(check: Check, inode: CheckedInode) -> Pointers:
    """The pointer to the attribute block, as an array of one."""
    block_no, start = check.geometry.inode_location(inode.ino)
    at = start + INODE_OFFSET["attribute_block"]
    return Pointers(block_no, at, 0, 0, 1, (inode.record.attribute_block,), "attribute_block")


def below(check: Check, array: Pointers, index: int) -> Pointers:
    """The array in the indirect block that pointer `index` leads to."""
    per_block = check.geometry.pointers_per_block
    block_no = array.values[index]
    file_block = array.file_block + index * array.span
    values = get_pointers(check.overlay.block(block_no), 0, per_block)
    span = array.span // per_block
    return Pointers(block_no, 0, array.level - 1, file_block, span, values, None)


def walk(check: Check, inode: CheckedInode, followed: set[int]) -> Iterator[Pointers]:
    """All arrays of an inode in file order, those in `followed` blocks left out.

    `followed` grows; it bounds the walk where indirect blocks are shared or form a
    loop.  Pointers out of the data region (whose repair was declined) are given as 0.
    """
    stack = of_inode(check, inode)
    while stack:
        array = _without_bad(check, stack.pop())
        yield array
        if not array.level:
            continue
        for index in range(len(array.values) - 1, -1, -1):
            value = array.values[index]
            if value and value not in followed:
                followed.add(value)
                stack.append(below(check, array, index))


def _without_bad(check: Check, array: Pointers) -> Pointers:
    """The array with 0 for each pointer that leads out of the data region."""
    start, end, values = check.geometry.data_start, check.geometry.block_count, array.values
    if max(values) < end and min(filter(None, values), default=start) >= start:
        return array
    kept = tuple(value if start <= value < end else 0 for value in values)
    return array._replace(values=kept)


def owners_of(check: Check, blocks: set[int]) -> dict[int, Owner]:
    """Which inode has each of `blocks` (absolute numbers), and where; the first of several."""
    owners: dict[int, Owner] = {}
    followed: set[int] = set()
    if not blocks:
        return owners
    for inode in check.inodes.values():
        for array in all_arrays(check, inode, followed):
            for value in blocks.intersection(array.values):
                owners.setdefault(value, Owner(inode, array, array.values.index(value)))
        if len(owners) == len(blocks):
            break
    return owners


def blocks_of(check: Check, inode: CheckedInode) -> list[int]:
    """The data blocks of an inode in file order, without holes."""
    arrays = walk(check, inode, set())
    return [value for array in arrays if array.level == 0 for value in array.values if value]


def all_arrays(check: Check, inode: CheckedInode, followed: set[int]) -> Iterator[Pointers]:
    """Like :func:`walk`, and the pointer to the attribute block at the end."""
    yield from walk(check, inode, followed)
    yield attribute_pointer(check, inode)


def runs(values: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Runs of consecutive blocks among pointers: (index, first block, count).

    >>> list(runs((0, 8, 9, 10, 0, 7)))
    [(1, 8, 3), (5, 7, 1)]
    """
    first = values[0]
    if first and values[-1] == first + len(values) - 1:
        if values == tuple(range(first, first + len(values))):  # the usual case, at C's speed
            yield 0, first, len(values)
            return
    elif not any(values):
        return
    index, count = 0, len(values)
    while index < count:
        first = values[index]
        end = index + 1
        if first:
            while end < count and values[end] == first + end - index:
                end += 1
            yield index, first, end - index
        index = end


def pointer_evidence(
    inode: CheckedInode, array: Pointers, index: int, value: object = None
) -> Evidence:
    """A pointer as evidence; `value` says it in words where its number is not enough."""
    shown = str(array.values[index] if value is None else value)
    if array.field is not None:
        element = f"{array.field}[{index}]" if array.field == "direct" else array.field
        structure = f"inode {inode.ino} field {element}"
    else:
        structure = f"indirect block {array.block_no} of inode {inode.ino}, pointer {index}"
    return Evidence(structure, array.block_no, array.place(index), shown)


def set_pointers(
    check: Check, inode: CheckedInode, wanted: list[tuple[Pointers, dict[int, int]]]
) -> list[Change]:
    """Changes that give pointers new values: for some arrays, index -> block.

    Those in the inode change it in memory, too, and its checksum with it.
    """
    changes: list[Change] = []
    in_inode: dict[int, int] = {}
    attribute_block: dict[str, Any] = {}
    for array, new in wanted:
        if array.field == "attribute_block":
            attribute_block["attribute_block"] = new[0]
        elif array.field is not None:
            first = 0 if array.field == "direct" else DIRECT_POINTERS + array.level - 1
            in_inode |= {first + index: value for index, value in new.items()}
        else:
            changes += [
                Change(array.block_no, array.place(i), v.to_bytes(4, "little"), Kind.INDIRECT)
                for i, v in new.items()
            ]
    if in_inode or attribute_block:
        on_disk = decode_inode(check.inode_bytes(inode.ino)).pointers
        pointers = _replaced(inode.record.pointers, in_inode)
        inode.record = inode.record._replace(pointers=pointers, **attribute_block)
        pointers = _replaced(on_disk, in_inode)
        changes += check.inode_changes(inode, pointers=pointers, **attribute_block)
    return changes


def _replaced(pointers: tuple[int, ...], new: dict[int, int]) -> tuple[int, ...]:
    return tuple(new.get(index, pointer) for index, pointer in enumerate(pointers))
