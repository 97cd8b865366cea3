"""Pass 1, last part: blocks that two inodes claim, and what needs new blocks.

Only now is it known which blocks are free.  Whoever claimed a block first keeps
it; each other one gets a copy, so that all files survive, with the same bytes in
that place (e2fsck's pass 1D).  A copied indirect block brings claims of its own,
on all that it points to; each copy takes a free block, so that ends.
"""

from __future__ import annotations

from collections import deque

from vsfs.device import Kind
from vsfs.fsck.blocks import follow_from, recheck_blocks
from vsfs.fsck.context import Change, Check, CheckedInode, counted
from vsfs.fsck.findings import Evidence, rule
from vsfs.fsck.inode_fields import check_target
from vsfs.fsck.pointers import (
    Claim,
    Pointers,
    all_arrays,
    below,
    owners_of,
    pointer_evidence,
    set_pointers,
    walk,
)
from vsfs.layout import first_directory_block

SHARED = rule(
    251,
    "shared-block",
    "A block belongs to one file, and stands in it once.",
    "Both pointers: nothing says which is right, so both files keep the bytes.",
    "OSTEP 42.2 FSCK",
    is_safe=False,
)
NO_BLOCK = rule(
    252,
    "directory-without-block",
    "A directory has at least one block, which begins with `.` and `..`.",
    "The inode's type: it is a directory, if an empty one.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)


def check_sharing(check: Check, claims: list[Claim]) -> None:
    """Give every claim a copy of its block, and empty directories a block."""
    waiting = deque(claims)
    owners = owners_of(check, {claim.array.values[i] for claim in claims for i in claim.indexes})
    check.promised = _below_all(check, claims)
    while waiting:
        waiting += _settle(check, waiting.popleft(), owners)
    check.contested.clear()
    check.promised.clear()
    for inode in {claim.inode.ino: claim.inode for claim in claims}.values():
        recheck_blocks(check, inode)
        if not check_target(check, inode):  # a link that has lost a block
            _forget(check, inode)
    for inode in list(check.inodes.values()):
        if inode.is_directory and not inode.blocks:
            _give_block(check, inode)


def _below_all(check: Check, claims: list[Claim]) -> set[int]:
    """Every block that the indirect blocks among `claims` lead to."""
    found: set[int] = set()
    stack = [
        below(check, claim.array, i) for claim in claims if claim.array.level for i in claim.indexes
    ]
    while stack:
        array = stack.pop()
        fresh = {value for value in array.values if check.geometry.is_data_block(value)} - found
        found |= fresh
        if array.level:
            stack += [below(check, array, i) for i, v in enumerate(array.values) if v in fresh]
    return found


# -- copies --------------------------------------------------------------------


def _settle(check: Check, claim: Claim, owners: dict[int, int]) -> list[Claim]:
    """Copy the blocks of a claim; give the claims that the copies bring with them."""
    inode, array, _ = claim
    indexes = [index for index in claim.indexes if _still_there(check, claim, index)]
    if array.level:
        claims, indexes = _take_unowned(check, claim, indexes)
        if claims or not indexes:
            return [*claims, Claim(inode, array, indexes)] if indexes else claims
    if not indexes:
        return []
    copies: dict[int, int] = {}
    for index in indexes:
        copy = check.allocate_block()
        if copy is None:
            break
        copies[index] = copy
    missing = [index for index in indexes if index not in copies]
    blocks = [array.values[index] for index in indexes]
    changes = [
        Change(copy, 0, bytes(check.overlay.block(array.values[index])), _kind(inode, array))
        for index, copy in copies.items()
    ]
    new = {index: copies.get(index, 0) for index in indexes}
    evidence = pointer_evidence(inode, array, indexes[0])
    changes += set_pointers(check, inode, [(array, new)])
    check.report(
        SHARED,
        f"{_in_words(blocks)} {'belong' if len(blocks) > 1 else 'belongs'} to "
        f"{check.named(inode.ino)} and to {_owner_in_words(check, inode, owners.get(blocks[0]))}",
        found=evidence,
        expected=Evidence(f"block {blocks[0]}", blocks[0], 0, "a single owner"),
        repair=_repair_in_words(list(copies.values()), len(missing)),
        changes=changes,
        lost=f"{counted(len(missing), 'block')} of the file, for want of space"
        if missing
        else None,
        ino=inode.ino,
    )
    if not array.level:
        return []
    values = tuple(new.get(index, value) for index, value in enumerate(array.values))
    copied = array._replace(values=values)
    claims = [
        claim
        for index in copies
        for claim in follow_from(check, inode, below(check, copied, index))
    ]
    fresh = {claim.array.values[i] for claim in claims for i in claim.indexes}
    owners.update(owners_of(check, fresh - owners.keys()))
    return claims


def _take_unowned(check: Check, claim: Claim, indexes: list[int]) -> tuple[list[Claim], list[int]]:
    """Own contested indirect blocks that turned out to be nobody's data.

    Returns the claims that follow from what they point to, and what is left.
    """
    inode, array, _ = claim
    claims: list[Claim] = []
    left: list[int] = []
    for index in indexes:
        if check.blocks.mark(array.values[index] - check.geometry.data_start):
            left.append(index)
        else:
            claims += follow_from(check, inode, below(check, array, index))
    return claims, left


def _forget(check: Check, inode: CheckedInode) -> None:
    """An inode was freed after its blocks were marked as its own."""
    del check.inodes[inode.ino]
    for array in all_arrays(check, inode, set()):
        for value in filter(None, array.values):
            check.release_block(value)


def _still_there(check: Check, claim: Claim, index: int) -> bool:
    """Whether a pointer still leads where it did: another repair may have cut it off."""
    block_no, place = claim.array.block_no, claim.array.place(index)
    value = int.from_bytes(check.overlay.block(block_no)[place : place + 4], "little")
    return value == claim.array.values[index]


def _kind(inode: CheckedInode, array: Pointers) -> Kind:
    if array.field == "attribute_block":
        return Kind.ATTRIBUTE
    if array.level:
        return Kind.INDIRECT
    return Kind.DIRECTORY if inode.is_directory else Kind.DATA


def _in_words(blocks: list[int]) -> str:
    """Block numbers for a sentence, at most three of them.

    >>> _in_words([20]), _in_words([20, 21]), _in_words([20, 21, 22, 23, 30])
    ('block 20', 'blocks 20 and 21', 'blocks 20, 21, 22 and 2 more')
    """
    if len(blocks) == 1:
        return f"block {blocks[0]}"
    if len(blocks) <= 3:
        return f"blocks {', '.join(map(str, blocks[:-1]))} and {blocks[-1]}"
    return f"blocks {', '.join(map(str, blocks[:3]))} and {len(blocks) - 3} more"


def _owner_in_words(check: Check, inode: CheckedInode, owner: int | None) -> str:
    if owner == inode.ino or owner is None:
        return "another part of the same file"
    return check.named(owner)


def _repair_in_words(copies: list[int], missing: int) -> str:
    parts = []
    if copies:
        parts.append(f"copy to {_in_words(copies)}, so that both files survive")
    if missing:
        parts.append("no free block is left for a copy, so clear the pointer")
    return "; ".join(parts)


# -- directories without blocks ---------------------------------------------------


def _give_block(check: Check, inode: CheckedInode) -> None:
    """Rule 252: a directory that has lost all of its blocks becomes an empty one."""
    block_no = check.allocate_block()
    evidence = check.inode_evidence(inode.ino, "direct", 0)
    expected = check.inode_evidence(inode.ino, "mode", f"{inode.record.mode:#o}, a directory")
    problem = f"directory {check.named(inode.ino)} has no block"
    if block_no is None:
        del check.inodes[inode.ino]
        check.update(
            NO_BLOCK,
            inode,
            problem,
            found=evidence,
            expected=expected,
            repair="free the inode, since no block is left to give it",
            lost="the names in it",
            nlink=0,
        )
        return
    size = check.geometry.block_size
    content = bytes(first_directory_block(size, inode.ino, check.parent_of(inode.ino)))
    inode.blocks = [block_no]
    for array in walk(check, inode, set()):  # indirect blocks that lead to nothing
        for value in filter(None, array.values):
            check.release_block(value)
    check.update(
        NO_BLOCK,
        inode,
        problem,
        found=evidence,
        expected=expected,
        repair=f"give it block {block_no}, without names",
        more=[Change(block_no, 0, content, Kind.DIRECTORY)],
        lost="the names in it",
        pointers=(block_no,) + (0,) * (len(inode.record.pointers) - 1),
        size=size,
        blocks=1 + (1 if inode.record.attribute_block else 0),
    )
