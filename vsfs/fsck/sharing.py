"""Pass 1, last part: blocks that two inodes claim, and what needs new blocks.

Only now is it known which blocks are free.  Whoever claimed a block first keeps
it; each other one gets a copy, so that all files survive, with the same bytes in
that place (e2fsck's pass 1D).  A copied indirect block brings claims of its own,
on all that it points to; each copy takes a free block, so that ends.

When the disk is too full for copies, the block stays shared and is told: both files
can then still be read.
"""

from __future__ import annotations

from collections import deque

from vsfs.device import Kind
from vsfs.fsck.blocks import follow_from
from vsfs.fsck.context import Change, Check, CheckedInode, in_words
from vsfs.fsck.findings import Evidence, rule
from vsfs.fsck.inode_fields import check_target
from vsfs.fsck.pointers import (
    Claim,
    Owner,
    Pointers,
    all_arrays,
    below,
    blocks_of,
    owners_of,
    pointer_evidence,
    set_pointers,
    walk,
)
from vsfs.fsck.records import is_first_block
from vsfs.fsck.restore import old_first_block
from vsfs.fsck.sizes import are_past_end, recheck_blocks
from vsfs.layout import ROOT_INO, SECTOR_SIZE, first_directory_block

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
    """Give every claim a copy of its block, and directories without blocks one.

    Claims for which no free block is left stay as they are: whoever shares a block
    then can be read as before, and nothing of either is changed: no names, either,
    and nothing below a shared indirect block.
    """
    owners = owners_of(check, _blocks_in(claims))
    claimants = {claim.inode.ino: claim.inode for claim in claims}
    for _ in range(2):  # once more, since the first may have freed blocks
        check.promised = _below_all(check, claims)
        claims, others = _settle_all(check, claims, owners)
        claimants |= {claim.inode.ino: claim.inode for claim in others}
        _finish_all(check, claimants, claims, owners)
        if not claims:
            break
    check.shared = _blocks_in(claims)
    claims = _cut_left(check, claims, owners)
    _settle_shared(check, claims)
    _finish_all(check, claimants, claims, owners)
    check.promised = _below_all(check, claims)
    for block_no in check.shared | check.promised:
        check.untouchable.update(
            (block_no, sector) for sector in range(0, check.geometry.block_size, SECTOR_SIZE)
        )
    for claim in claims:
        _report_left(check, claim, owners)
    check.contested.clear()
    for inode in claimants.values():
        if inode.is_directory:
            inode.blocks = _own_blocks(check, inode, owners)
    for inode in list(check.inodes.values()):
        if inode.is_directory and not inode.blocks and inode.ino not in claimants:
            _give_block(check, inode)


def _finish_all(
    check: Check, claimants: dict[int, CheckedInode], claims: list[Claim], owners: dict[int, Owner]
) -> None:
    """Take out of `claimants`, and finish, those whose blocks none of `claims` is about."""
    knotted = {claim.inode.ino for claim in claims}
    knotted |= {owners[block_no].inode.ino for block_no in _blocks_in(claims) & owners.keys()}
    for ino in claimants.keys() - knotted:
        _finish(check, claimants.pop(ino))


def _finish(check: Check, inode: CheckedInode) -> None:
    """Compare what had to wait until all blocks of an inode are its own."""
    recheck_blocks(check, inode)
    if not check_target(check, inode):  # a link that has lost a block
        _forget(check, inode)


def _forget(check: Check, inode: CheckedInode) -> None:
    """An inode was freed after its blocks were marked as its own."""
    del check.inodes[inode.ino]
    for array in all_arrays(check, inode, set()):
        for value in filter(None, array.values):
            check.release_block(value)


def _blocks_in(claims: list[Claim]) -> set[int]:
    """The blocks that claims are about."""
    return {claim.array.values[index] for claim in claims for index in claim.indexes}


def _below_all(check: Check, claims: list[Claim]) -> set[int]:
    """Every block that the indirect blocks among `claims` lead to.

    A block is followed once for each level at which it is an indirect one.
    """
    found: set[int] = set()
    followed: set[tuple[int, int]] = set()
    stack = [
        below(check, claim.array, i) for claim in claims if claim.array.level for i in claim.indexes
    ]
    while stack:
        array = stack.pop()
        blocks = set(filter(check.geometry.is_data_block, array.values))
        found |= blocks
        for index, value in enumerate(array.values) if array.level else ():
            if value in blocks and (value, array.level) not in followed:
                followed.add((value, array.level))
                stack.append(below(check, array, index))
    return found


# -- copies --------------------------------------------------------------------


def _settle_all(
    check: Check, claims: list[Claim], owners: dict[int, Owner]
) -> tuple[list[Claim], list[Claim]]:
    """Copy the blocks of claims, and of those that follow from them.

    Returns the claims for which no block is left, and all that were looked at.
    """
    waiting, looked_at, left = deque(claims), list[Claim](), list[Claim]()
    while waiting:
        claim = waiting.popleft()
        looked_at.append(claim)
        indexes = [index for index in claim.indexes if _still_there(check, claim.array, index)]
        if claim.array.level:
            following, indexes = _take_unowned(check, claim, indexes)
            waiting += following
            if following and indexes:
                waiting.append(claim._replace(indexes=indexes))
                continue
        following, indexes = _copy(check, claim._replace(indexes=indexes), owners)
        waiting += following
        if indexes:
            left.append(claim._replace(indexes=indexes))
    return left, looked_at


def _copy(check: Check, claim: Claim, owners: dict[int, Owner]) -> tuple[list[Claim], list[int]]:
    """Give a claim copies of its blocks; the claims that follow, and what has got none."""
    inode, array, indexes = claim
    copies: dict[int, int] = {}
    for index in indexes:
        copy = check.allocate_block()
        if copy is None:
            break
        copies[index] = copy
    if not copies:
        return [], indexes
    blocks = [array.values[index] for index in copies]
    changes = [
        Change(copy, 0, bytes(check.overlay.block(array.values[index])), _kind(inode, array))
        for index, copy in copies.items()
    ]
    evidence = pointer_evidence(inode, array, next(iter(copies)))
    changes += set_pointers(check, inode, [(array, copies)])
    check.report(
        SHARED,
        _shared_in_words(check, inode, blocks, owners),
        found=evidence,
        expected=_owner_evidence(blocks[0], owners),
        repair=f"copy to {in_words('block', list(copies.values()))}, so that both files survive",
        changes=changes,
        ino=inode.ino,
    )
    left = [index for index in indexes if index not in copies]
    if not array.level:
        return [], left
    values = tuple(copies.get(index, value) for index, value in enumerate(array.values))
    copied = array._replace(values=values)
    claims = [
        claim
        for index in copies
        for claim in follow_from(check, inode, below(check, copied, index))
    ]
    owners.update(owners_of(check, _blocks_in(claims) - owners.keys()))
    return claims, left


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


def _still_there(check: Check, array: Pointers, index: int) -> bool:
    """Whether a pointer still leads where it did: another repair may have cut it off."""
    block_no, place = array.block_no, array.place(index)
    value = int.from_bytes(check.overlay.block(block_no)[place : place + 4], "little")
    return value == array.values[index]


def _kind(inode: CheckedInode, array: Pointers) -> Kind:
    if array.field == "attribute_block":
        return Kind.ATTRIBUTE
    if array.level:
        return Kind.INDIRECT
    return Kind.DIRECTORY if inode.is_directory else Kind.DATA


def _shared_in_words(
    check: Check, inode: CheckedInode, blocks: list[int], owners: dict[int, Owner]
) -> str:
    owner = owners.get(blocks[0])
    other = "another part of the same file"
    if owner is not None and owner.inode.ino != inode.ino:
        other = check.named(owner.inode.ino)
    verb = "belong" if len(blocks) > 1 else "belongs"
    return f"{in_words('block', blocks)} {verb} to {check.named(inode.ino)} and to {other}"


def _owner_evidence(block_no: int, owners: dict[int, Owner]) -> Evidence:
    """The other pointer to a block."""
    owner = owners.get(block_no)
    if owner is not None:
        return owner.evidence
    return Evidence(f"block {block_no}", block_no, 0, "a single owner")


# -- without room for a copy ------------------------------------------------------


def _cut_left(check: Check, claims: list[Claim], owners: dict[int, Owner]) -> list[Claim]:
    """Clear pointers to shared blocks that lie past a file's end; the claims that remain.

    Only where no shared block is an indirect one: that would cut another file, too.
    In a directory only if none is left then, since its blocks may be moved.
    """
    trees = {claim.inode.ino for claim in claims if claim.array.level}
    for block_no in check.shared:
        if block_no in owners and owners[block_no].array.level:
            trees.add(owners[block_no].inode.ino)
    claims_of: dict[int, list[Claim]] = {}
    for claim in claims:
        claims_of.setdefault(claim.inode.ino, []).append(claim)
    for ino, own in claims_of.items():
        inode = own[0].inode
        if ino not in trees and (not inode.is_directory or are_past_end(check, inode, own)):
            recheck_blocks(check, inode)
    remaining = []
    for claim in claims:
        indexes = [
            index
            for index in claim.indexes
            if _still_there(check, claim.array, index)
            and not _inherits(check, claim, index, owners)
        ]
        if indexes:
            remaining.append(claim._replace(indexes=indexes))
    return remaining


def _inherits(check: Check, claim: Claim, index: int, owners: dict[int, Owner]) -> bool:
    """Whether the owner of a claimed block has lost it; then it is the claim's own."""
    block_no = claim.array.values[index]
    owner = owners.get(block_no)
    if owner is None or _still_there(check, owner.array, owner.at):
        return False
    owners[block_no] = Owner(claim.inode, claim.array, index)
    return True


def _settle_shared(check: Check, claims: list[Claim]) -> None:
    """Bring ``check.shared`` to what is left: free what nobody points to any more."""
    before, check.shared = check.shared, _blocks_in(claims)
    settled = before - check.shared
    for block_no in settled - owners_of(check, settled).keys():
        check.release_block(block_no)


def _report_left(check: Check, claim: Claim, owners: dict[int, Owner]) -> None:
    """Rule 251, where nothing can be done."""
    inode, array, indexes = claim
    blocks = [array.values[index] for index in indexes]
    check.report(
        SHARED,
        _shared_in_words(check, inode, blocks, owners),
        found=pointer_evidence(inode, array, indexes[0]),
        expected=_owner_evidence(blocks[0], owners),
        repair="no free block is left for a copy: free some space, then check again",
        ino=inode.ino,
        can_repair=False,
    )


def _own_blocks(check: Check, inode: CheckedInode, owners: dict[int, Owner]) -> list[int]:
    """The blocks of a directory, without those that hold the names of another one.

    None at all if that is its first.
    """
    blocks = blocks_of(check, inode)
    first = blocks[:1]
    is_own_first = bool(first) and is_first_block(check.overlay.block(first[0]), inode.ino)
    if check.shared.intersection(first) and not is_own_first:
        return []

    def is_own(block_no: int) -> bool:
        owner = owners.get(block_no)
        return block_no not in check.shared or owner is None or owner.inode is inode

    return first + [block_no for block_no in blocks[1:] if is_own(block_no)]


# -- directories without blocks ---------------------------------------------------


def _give_block(check: Check, inode: CheckedInode) -> None:
    """Rule 252: a directory that has lost all of its blocks gets its old one, or becomes empty."""
    ino, size = inode.ino, check.geometry.block_size
    evidence = check.inode_evidence(ino, "direct", 0)
    expected = check.inode_evidence(ino, "mode", f"{inode.record.mode:#o}, a directory")
    problem = f"directory {check.named(ino)} has no block"
    parent = check.parent_of(ino)
    block_no = old_first_block(check, ino, parent)
    more: list[Change] = []
    if block_no is not None:
        check.take_block(block_no)
        expected = Evidence(f"directory block {block_no}", block_no, 0, f"`.` is inode {ino}")
        repair = f"give it block {block_no}, which nobody owns and which begins with `.` for it"
        lost = "the names in its further blocks" if inode.record.size > size else None
    else:
        block_no = check.allocate_block()
        if block_no is None:
            _leave_without_block(check, inode, problem, evidence, expected)
            return
        content = bytes(first_directory_block(size, ino, parent))
        more.append(Change(block_no, 0, content, Kind.DIRECTORY))
        repair, lost = f"give it block {block_no}, without names", "the names in it"
    for array in walk(check, inode, set()):  # indirect blocks that lead to nothing
        for value in filter(None, array.values):
            check.release_block(value)
    inode.blocks = [block_no]
    check.update(
        NO_BLOCK,
        inode,
        problem,
        found=evidence,
        expected=expected,
        repair=repair,
        more=more,
        lost=lost,
        pointers=(block_no,) + (0,) * (len(inode.record.pointers) - 1),
        size=size,
        blocks=1 + (1 if inode.record.attribute_block else 0),
    )


def _leave_without_block(
    check: Check, inode: CheckedInode, problem: str, found: Evidence, expected: Evidence
) -> None:
    """Keep a directory that no block is left for; its name, owner and times are still there.

    Without a root nothing is: `restore_root` then ends the check.
    """
    if inode.ino == ROOT_INO:
        del check.inodes[ROOT_INO]
        return
    check.report(
        NO_BLOCK,
        problem,
        found=found,
        expected=expected,
        repair="no free block is left for it, so it stays as it is",
        lost="the names in it",
        ino=inode.ino,
        can_repair=False,
    )
