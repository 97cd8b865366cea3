"""Pass 1: records of inodes that stand in the place of another.

A checksum of an inode includes its number, so a record that a disk or a program has
written to a wrong place has a wrong checksum there.  A CRC can be turned around: it
tells the one number for which it is right.  If that is an inode of this filesystem,
the record is that inode's.
"""

from __future__ import annotations

from vsfs.device import Kind
from vsfs.fsck.context import INODE_OFFSET, Change, Check, CheckedInode
from vsfs.fsck.crc import find_first_word
from vsfs.fsck.findings import Evidence, rule
from vsfs.fsck.inode_fields import is_plausible, types_in_entries
from vsfs.layout import INODE_SIZE, ROOT_INO, InodeRecord, decode_inode

STRAY = rule(
    213,
    "stray-inode",
    "An inode stands in the place of its number, which its checksum includes.",
    "The checksum: it is right for the other number, so this was written as that inode.",
    "OSTEP 45.4 A New Problem: Misdirected Writes",
    is_safe=False,
)


def settle_strays(check: Check, doubtful: dict[int, bytes]) -> dict[int, InodeRecord]:
    """Rule 213: put records back in their own places, or clear them.

    `doubtful` are the inodes with a wrong checksum; those that need nothing more
    are taken out.  Returns the inodes that are in their places again.
    """
    strays = {ino: own for ino, data in doubtful.items() if (own := _own_number(check, ino, data))}
    coming = set(strays.values())
    back: dict[int, InodeRecord] = {}
    for ino, own in strays.items():
        data = doubtful[ino]
        there = _sound_record(check, own) if own in back or own not in doubtful else None
        changes, lost = [], None
        if ino not in coming:  # or else the place gets its own record again
            changes = _cleared(check, ino)
            lost = f"what inode {ino} was" if check.inode_bit(ino) else None
        if there is None:
            changes.append(Change(*check.geometry.inode_location(own), data, Kind.INODE_TABLE))
        if _report(check, ino, own, data, there, changes, lost) and there is None:
            back[own] = decode_inode(data)
    for ino in (*strays, *back):
        doubtful.pop(ino, None)
    return back


def _own_number(check: Check, ino: int, data: bytes) -> int | None:
    """The inode that the record is by its checksum; None if there is no such inode."""
    checksum = int.from_bytes(data[-4:], "little")
    own = find_first_word(ino.to_bytes(4, "little") + data[:-4], checksum)
    if not ROOT_INO <= own < check.geometry.inode_count:
        return None
    inode = CheckedInode(own, decode_inode(data), is_sealed=True)
    return own if inode.record.nlink and is_plausible(check, inode) else None


def _sound_record(check: Check, own: int) -> str | None:
    """What the record's own place holds that is to stay there; None if nothing is.

    A free inode there stays, too, unless an entry names it: then it was put to use
    by the record that has gone astray.
    """
    data = check.inode_bytes(own)
    if not any(data):
        return None
    if decode_inode(data).nlink:
        return f"inode {own} itself"
    return None if types_in_entries(check, own) else f"inode {own}, which is free"


def _cleared(check: Check, ino: int) -> list[Change]:
    """Changes that make an inode one that was never used."""
    block_no, offset = check.geometry.inode_location(ino)
    zeroes = Change(block_no, offset, bytes(INODE_SIZE), Kind.INODE_TABLE)
    return [zeroes, *check.inode_bits_cleared([ino])]


def _report(
    check: Check,
    ino: int,
    own: int,
    data: bytes,
    there: str | None,
    changes: list[Change],
    lost: str | None,
) -> bool:
    """One record that has gone astray; `there` is what stands in its own place."""
    block_no, offset = check.geometry.inode_location(ino)
    checksum = f"{decode_inode(data).checksum:#010x}"
    where = f"there is {there}" if there else "there is no sound inode"
    place = Evidence(
        f"inode {ino} field checksum", block_no, offset + INODE_OFFSET["checksum"], checksum
    )
    return check.report(
        STRAY,
        f"in the place of {check.named(ino)} stands a record that was written as "
        f"{check.named(own)}: for that number its checksum is right; in its own place {where}",
        found=place,
        expected=Evidence(f"inode {own}", *check.geometry.inode_location(own), there or "none"),
        repair=f"clear the place of inode {ino}" if there else f"put it back as inode {own}",
        lost=lost,
        changes=changes,
        ino=ino,
    )
