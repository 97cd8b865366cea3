"""Pass 5, last part: the free counts and the state in the superblock (OSTEP 40.5).

Relies on ``bitmaps``, which has made the bitmaps right.  A count that was right, or
that agreed with a bitmap as it was, is no fault of its own: it follows the bits
without a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vsfs.device import Kind
from vsfs.fsck.bitmaps import BIT_RULES, FREE_SPACE, Bitmap, data_bitmap, inode_bitmap
from vsfs.fsck.context import Check
from vsfs.fsck.findings import Edit, Evidence, rule
from vsfs.layout import (
    FEATURE_INCOMPAT_RECOVER,
    RESERVED_INODES,
    STATE_CLEAN,
    STATE_MOUNTED,
    ceil_div,
)

FREE_BLOCKS = rule(
    607,
    "free-block-count",
    "In a clean image the superblock's free_block_count is the number of free data blocks.",
    "The data bitmap: the count sums it up.",
    FREE_SPACE,
    is_safe=True,
)
FREE_INODES = rule(
    608,
    "free-inode-count",
    "In a clean image the superblock's free_inode_count is the number of free inodes.",
    "The inode bitmap: the count sums it up.",
    FREE_SPACE,
    is_safe=True,
)
NOT_UNMOUNTED = rule(
    701,
    "not-cleanly-unmounted",
    "The state is 1 (clean) while nobody has the image mounted.",
    "This check: it has compared everything with everything.",
    "OSTEP 42.2 Solution #1: The File System Checker",
    is_safe=True,
)
STATE_VALUE = rule(
    702,
    "state-value",
    "The state is 1 (clean) or 2 (mounted).",
    "This check: it has compared everything with everything.",
    "OSTEP 42.2 Solution #1: The File System Checker",
    is_safe=False,
)


def check_state(check: Check) -> None:
    """Compare free counts and state with what the check has left.

    The last pass.  In state 2 the counts are a hint (FORMAT 3.4), and are put
    right together with the state.  With a repair declined, the image is left in
    state 2, so that nobody mounts it, and the counts as they are.  A clean image
    is not changed; after any repair `checked_ns` is the time of the check.
    """
    stored = check.stored_superblock()
    left = _free_counts(check)
    wrong = [name for name, most in _limits(check) if getattr(stored, name) > most]
    if stored.state == STATE_CLEAN and not check.has_unrepaired:
        wrong = [name for name in left if getattr(stored, name) != left[name]]
    for name in wrong:
        if getattr(stored, name) in _right_before(check, name, left[name]):
            check.follow_up(check.superblock_changes(**{name: left[name]}))
        else:
            _report_count(check, name, getattr(stored, name), left[name])
    if stored.state == STATE_MOUNTED:
        _report_not_unmounted(check, left)
    elif stored.state != STATE_CLEAN:
        _report_state_value(check, stored.state, left)
    _seal(check)
    check.superblock = check.stored_superblock()


def _limits(check: Check) -> tuple[tuple[str, int], tuple[str, int]]:
    """What the counts can be at most, in any state."""
    geometry = check.geometry
    inodes = geometry.inode_count - RESERVED_INODES
    return ("free_block_count", geometry.data_blocks), ("free_inode_count", inodes)


def _free_counts(check: Check) -> dict[str, int]:
    """Free blocks and inodes: what is in use subtracted, or the bits that are 0."""
    geometry = check.geometry
    if check.has_unrepaired:
        inodes, blocks = inode_bitmap(check), data_bitmap(check)
        return {
            "free_block_count": _zeroes(blocks, check.overlay.block),
            "free_inode_count": min(
                _zeroes(inodes, check.overlay.block), geometry.inode_count - RESERVED_INODES
            ),
        }
    reserved = sum(ino not in check.inodes for ino in range(RESERVED_INODES))
    return {
        "free_block_count": geometry.data_blocks - check.blocks.used,
        "free_inode_count": geometry.inode_count - reserved - len(check.inodes),
    }


def _right_before(check: Check, name: str, left: int) -> tuple[int, int]:
    """What a count could be before the check and be right: with the repairs it follows.

    That is `left` without what repairs of other rules have done to the bitmap, and
    the bits that were 0: a count that agreed with the bitmap is no fault of its own.
    """
    is_blocks = name == "free_block_count"
    bitmap = data_bitmap(check) if is_blocks else inode_bitmap(check)
    done = _more_zeroes(bitmap.kind, check.overlay.edits)
    for finding in check.findings:
        if finding.is_repaired and finding.rule in BIT_RULES:
            done -= _more_zeroes(bitmap.kind, finding.edits)
    block_size = check.geometry.block_size
    return left - done, _zeroes(
        bitmap, lambda block_no: check.overlay.below.read(block_no, block_size)
    )


def _more_zeroes(kind: Kind, edits: Iterable[Edit]) -> int:
    """By how many bits more are 0 in a bitmap after `edits`."""
    return sum(
        int.from_bytes(edit.before).bit_count() - int.from_bytes(edit.after).bit_count()
        for edit in edits
        if edit.kind is kind
    )


def _zeroes(bitmap: Bitmap, block: Callable[[int], bytes | bytearray]) -> int:
    """Bits of a bitmap that are 0, its blocks being what `block` gives."""
    zeroes = 0
    for index in range(ceil_div(bitmap.count, bitmap.per_block)):
        covered = min(bitmap.count - index * bitmap.per_block, bitmap.per_block)
        bits = int.from_bytes(block(bitmap.start + index), "little")
        zeroes += covered - (bits & ((1 << covered) - 1)).bit_count()
    return zeroes


def _report_count(check: Check, name: str, found: int, counted: int) -> None:
    is_blocks = name == "free_block_count"
    which, what = (FREE_BLOCKS, "data blocks") if is_blocks else (FREE_INODES, "inodes")
    bitmap = data_bitmap(check) if is_blocks else inode_bitmap(check)
    as_now = (
        ", as repaired" if any(_more_zeroes(bitmap.kind, f.edits) for f in check.findings) else ""
    )
    bits = "bit is" if counted == 1 else "bits are"
    check.report(
        which,
        f"the superblock counts {found} free {what}, but {counted} {bits} 0 in the "
        f"{bitmap.name}{as_now}",
        found=check.superblock_evidence(name, found),
        expected=Evidence(bitmap.name, bitmap.start, 0, f"{counted} {bits} 0"),
        repair=f"set {name} to {counted}",
        changes=check.superblock_changes(**{name: counted}),
    )


def _report_not_unmounted(check: Check, left: dict[str, int]) -> None:
    repairable = not check.has_unrepaired
    check.report(
        NOT_UNMOUNTED,
        "the image was not cleanly unmounted: its state is still 2 (mounted)",
        found=check.superblock_evidence("state", STATE_MOUNTED),
        expected=Evidence("superblock", 0, 0, "an image that nobody has mounted"),
        repair=(
            f"set it to 1 (clean), with {left['free_block_count']} free blocks and "
            f"{left['free_inode_count']} free inodes"
            if repairable
            else "it stays so until everything else is repaired"
        ),
        changes=check.superblock_changes(state=STATE_CLEAN, **left, **_recovered(check))
        if repairable
        else (),
        can_repair=repairable,
    )


def _recovered(check: Check) -> dict[str, int]:
    """Nothing waits in the journal any more, once a check is through."""
    flags = check.stored_superblock().feature_incompat
    return {"feature_incompat": flags & ~FEATURE_INCOMPAT_RECOVER}


def _report_state_value(check: Check, state: int, left: dict[str, int]) -> None:
    new, words, counts = STATE_CLEAN, "clean", left
    if check.has_unrepaired:
        new, words, counts = STATE_MOUNTED, "mounted, until everything else is repaired", {}
    else:
        counts = counts | _recovered(check)
    check.report(
        STATE_VALUE,
        f"the superblock's state is {state}, which means nothing",
        found=check.superblock_evidence("state", state),
        expected=Evidence("superblock", 0, 0, "a filesystem that is clean or mounted"),
        repair=f"set it to {new} ({words})",
        changes=check.superblock_changes(state=new, **counts),
    )


def _seal(check: Check) -> None:
    """Note when the check was, or that something is left; only if there are repairs.

    Belongs to no finding: it is what any repair has for a consequence.
    """
    if not check.overlay.edits:
        return
    state = {"state": STATE_MOUNTED} if check.has_unrepaired else {}
    check.follow_up(check.superblock_changes(**state))
