"""Pass 1: each inode by itself (OSTEP 40.3).

An inode's own record decides whether it is in use: it has links and a possible
type.  The inode bitmap only repeats that, and is compared at the end.  Inodes
with a wrong checksum come after all others, so that of two that claim one block
the sound one has it first.

Checked here: reserved inodes, checksums, types, and fields that must be zero or
in a range; for pointers and sizes see ``blocks``.  What an inode is when its type
cannot be right is told by its contents (a directory's first name is `.`, itself)
and by the directory entry that names it, which repeats the type.
"""

from __future__ import annotations

from collections.abc import Iterator

from vsfs.device import Kind
from vsfs.fsck.attributes import check_attribute_pointer, check_attributes
from vsfs.fsck.blocks import check_blocks, find_contested
from vsfs.fsck.context import Change, Check, CheckedInode, is_sealed, may_be_used
from vsfs.fsck.crc import find_wrong_byte
from vsfs.fsck.findings import Evidence, rule
from vsfs.fsck.inode_fields import check_fields, field_at, is_plausible, types_in_entries
from vsfs.fsck.pointers import Claim, all_arrays
from vsfs.fsck.strays import settle_strays
from vsfs.layout import (
    FREE_INO,
    INODE_SIZE,
    JOURNAL_INO,
    ROOT_INO,
    InodeRecord,
    ceil_div,
    decode_inode,
    inode_checksum,
    type_name,
)
from vsfs.words import counted

CHECKSUM = rule(
    201,
    "inode-checksum",
    "An inode's checksum fits its number and its other 252 bytes.",
    "The other fields: each of them is possible now, and what is possible is kept.",
    "OSTEP 45.3 Detecting Corruption: The Checksum",
    is_safe=False,
)
RESERVED = rule(
    202,
    "reserved-inode",
    "Inode 0 is never used and 1 is the journal's: without one, all their bytes are zero.",
    "The superblock: tune.vsfs makes a journal before it says there, and takes it away after.",
    "OSTEP 40.3 The Inode",
    is_safe=True,
)
NOT_AN_INODE = rule(
    203,
    "not-an-inode",
    "An inode in use has a file type, and fields that fit it.",
    "The checksum: it says that these bytes were not written as this inode.",
    "OSTEP 40.3 The Inode",
    is_safe=False,
)
ORPHAN = rule(
    206,
    "orphan",
    "An inode without links is free.",
    "The link count: the file was deleted while a program had it open, and the power went.",
    "OSTEP 39.10 Removing Files",
    is_safe=True,
)
LOST_LINKS = rule(
    207,
    "lost-link-count",
    "An inode that an entry names has links.",
    "The entry: the inode's checksum is wrong, so its 0 was not written by a removal.",
    "OSTEP 42.2 FSCK",
    is_safe=False,
)

WRONG_BYTE = rule(
    212,
    "inode-byte",
    "An inode's checksum fits its number and its other 252 bytes.",
    "The checksum: with another value of one byte it is right, and only with that.",
    "OSTEP 45.3 Detecting Corruption: The Checksum",
    is_safe=False,
)

UNUSED = rule(
    214,
    "unused-inode",
    "An inode that was never used is all zeroes.",
    "Its other bytes: in an inode that was ever used more than one is not zero.",
    "OSTEP 40.3 The Inode",
    is_safe=False,
)


def check_inodes(check: Check) -> list[Claim]:
    """Find the inodes in use, and repair each by itself.

    Fills ``check.inodes`` and ``check.blocks``; returns the claims on blocks that
    have another owner already.
    """
    claims: list[Claim] = []
    doubtful: dict[int, bytes] = {}
    freed: list[CheckedInode] = []
    check.contested = find_contested(check, _with_links(check))
    for ino, data in _records(check):
        if ino == FREE_INO or (ino == JOURNAL_INO and not check.has_journal):
            _check_reserved(check, ino, data)
        elif not is_sealed(ino, data):
            doubtful[ino] = data
        else:
            claims += _check_sealed(check, ino, decode_inode(data), freed)
    for ino, record in settle_strays(check, doubtful).items():
        claims += _check_sealed(check, ino, record, freed)
    noise: list[CheckedInode] = []
    for ino, data in doubtful.items():
        claims += _check_doubtful(check, ino, data, freed, noise)
    for run in _neighbours(noise):
        _clear(check, run)
    _free_blocks(check, freed)
    return claims


def _free_blocks(check: Check, freed: list[CheckedInode]) -> None:
    """Let the blocks of inodes that were freed be nobody's, where nobody else has them."""
    followed: set[int] = set()
    geometry = check.geometry
    for inode in freed:
        for array in all_arrays(check, inode, followed):
            blocks = filter(geometry.is_data_block, array.values)
            check.freed.update(block_no - geometry.data_start for block_no in blocks)


def _records(check: Check) -> Iterator[tuple[int, bytes]]:
    """Every inode whose bytes are not all zero."""
    geometry = check.geometry
    per_block, zeroes = geometry.inodes_per_block, bytes(geometry.block_size)
    for index in range(ceil_div(geometry.inode_count, per_block)):
        block = check.overlay.block(geometry.inode_table_start + index)
        if block == zeroes:
            continue
        first = index * per_block
        for ino in range(first, min(first + per_block, geometry.inode_count)):
            data = bytes(block[(ino - first) * INODE_SIZE : (ino - first + 1) * INODE_SIZE])
            if any(data):
                yield ino, data


def _with_links(check: Check) -> Iterator[CheckedInode]:
    """Every inode that may be in use, as it stands."""
    for ino, data in _records(check):
        record = decode_inode(data)
        if may_be_used(ino, record):
            yield CheckedInode(ino, record, is_sealed=True)


def _check_reserved(check: Check, ino: int, data: bytes) -> None:
    """Rule 202: inodes 0 and 1 are zero."""
    block_no, offset = check.geometry.inode_location(ino)
    at = next(index for index, byte in enumerate(data) if byte)
    what = {FREE_INO: "is never used", JOURNAL_INO: "is kept for a journal, which there is none of"}
    check.report(
        RESERVED,
        f"inode {ino} {what[ino]}, but its bytes are not all zero",
        found=Evidence(f"inode {ino}", block_no, offset + at, f"{data[at]:#04x}"),
        expected=check.superblock_evidence("feature_compat", "no journal"),
        repair="clear it",
        changes=[Change(block_no, offset, bytes(INODE_SIZE), Kind.INODE_TABLE)],
    )


def _check_sealed(
    check: Check, ino: int, record: InodeRecord, freed: list[CheckedInode]
) -> list[Claim]:
    """An inode whose checksum is right: in use, free, or an orphan.

    It joins `freed` if a repair frees it.
    """
    inode = CheckedInode(ino, record, is_sealed=True)
    if may_be_used(ino, record):
        return _check_used(check, inode, freed)
    if ino != ROOT_INO and check.inode_bit(ino):
        block_no, byte, bit = check.geometry.inode_bit(ino)
        what = f"a {type_name(record.mode)} with {counted(record.blocks, 'block')}"
        check.report(
            ORPHAN,
            f"inode {ino} ({what}) has no links, but its bit in the inode bitmap is 1",
            found=Evidence("inode bitmap", block_no, byte, "1", bit),
            expected=check.inode_evidence(ino, "nlink", 0),
            repair="free it: it was deleted while open",
            changes=check.inode_bits_cleared([ino]),
            ino=ino,
        )
        freed.append(inode)
    return []


# -- inodes with a wrong checksum ----------------------------------------------


def _check_doubtful(
    check: Check, ino: int, data: bytes, freed: list[CheckedInode], noise: list[CheckedInode]
) -> list[Claim]:
    """An inode whose checksum is wrong: what is possible in it is kept.

    It joins `noise` if nothing is.
    """
    sound = restore_byte(check, ino)
    if sound is not None:
        return _check_sealed(check, ino, sound, freed)
    if data.count(0) == len(data) - 1:
        _report_unused(check, ino, data)
        return []
    record = decode_inode(data)
    inode = CheckedInode(ino, record, is_sealed=False)
    if not record.nlink:
        if not (types_in_entries(check, ino) and is_plausible(check, inode)):
            _report_checksum(check, inode)
            return []
        check.update(
            LOST_LINKS,
            inode,
            f"{check.named(ino)} has no links, but an entry names it, and its checksum is wrong",
            found=check.inode_evidence(ino, "nlink", 0),
            expected=check.inode_evidence(ino, "checksum", f"{record.checksum:#010x}"),
            repair="count it as in use",
            nlink=1,
        )
    if not is_plausible(check, inode):
        noise.append(inode)
        return []
    claims = _check_used(check, inode, freed)
    _report_checksum(check, inode)
    return claims


def restore_byte(check: Check, ino: int) -> InodeRecord | None:
    """Rule 212: the inode as it was before one of its bytes changed, if that is all."""
    data, number = check.inode_bytes(ino), ino.to_bytes(4, "little")
    body, stored = data[:-4], int.from_bytes(data[-4:], "little")
    wrong = find_wrong_byte(number + body, stored)
    if wrong is None:
        return None
    at, change = wrong[0] - len(number), wrong[1]
    if at < 0:  # in the number: this is some other inode
        return None
    sound = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
    record = decode_inode(sound)
    if not is_plausible(check, CheckedInode(ino, record, is_sealed=True)):
        return None
    block_no, offset = check.geometry.inode_location(ino)
    field = field_at(at)
    check.report(
        WRONG_BYTE,
        f"{check.named(ino)} has a wrong checksum, but with {sound[at]:#04x} instead of "
        f"{data[at]:#04x} as byte {at}, in its field {field}, the checksum is right",
        found=Evidence(f"inode {ino} field {field}", block_no, offset + at, f"{data[at]:#04x}"),
        expected=check.inode_evidence(ino, "checksum", f"{stored:#010x}"),
        repair="set that byte",
        changes=[Change(block_no, offset + at, sound[at : at + 1], Kind.INODE_TABLE)],
        ino=ino,
    )
    return record


def _report_unused(check: Check, ino: int, data: bytes) -> None:
    """Rule 214: one byte that stands among zeroes."""
    block_no, offset = check.geometry.inode_location(ino)
    at = next(index for index, byte in enumerate(data) if byte)
    check.report(
        UNUSED,
        f"inode {ino} is all zeroes but for its byte {at}, which is {data[at]:#04x}",
        found=Evidence(
            f"inode {ino} field {field_at(at)}", block_no, offset + at, f"{data[at]:#04x}"
        ),
        expected=Evidence(f"inode {ino}", block_no, offset, "zeroes, as all of its other bytes"),
        repair="set that byte to zero",
        changes=[Change(block_no, offset + at, b"\0", Kind.INODE_TABLE)],
        ino=ino,
    )


def _report_checksum(check: Check, inode: CheckedInode) -> None:
    """Rule 201, when all other fields are as they shall be."""
    ino = inode.ino
    data = check.inode_bytes(ino)
    found, right = decode_inode(data).checksum, inode_checksum(ino, data)
    block_no, offset = check.geometry.inode_location(ino)
    inode.is_sealed = True
    if found == right:  # which proves all that was repaired
        return
    check.report(
        CHECKSUM,
        f"{check.named(ino)} has the checksum {found:#010x}, but its bytes give {right:#010x}",
        found=check.inode_evidence(ino, "checksum", f"{found:#010x}"),
        expected=Evidence(f"inode {ino}", block_no, offset, f"bytes that give {right:#010x}"),
        repair="set the checksum, since every other field is possible",
        changes=check.inode_changes(inode),
        ino=ino,
    )


def _neighbours(inodes: list[CheckedInode]) -> Iterator[list[CheckedInode]]:
    """Inodes, in order, in runs of consecutive numbers."""
    run: list[CheckedInode] = []
    for inode in inodes:
        if run and run[-1].ino + 1 != inode.ino:
            yield run
            run = []
        run.append(inode)
    if run:
        yield run


def _clear(check: Check, run: list[CheckedInode]) -> None:
    """Rule 203: what cannot be inodes, one after the other, become free ones."""
    ino, last, record = run[0].ino, run[-1].ino, run[0].record
    changes: list[Change] = []
    for inode in run:
        inode.is_sealed = True
        inode.record = inode.record._replace(nlink=0)
        changes += check.inode_changes(inode, nlink=0)
    if len(run) == 1:
        which, what = f"inode {ino}", f"what inode {ino} was"
        problem = (
            f"{check.named(ino)} has a wrong checksum, the mode {record.mode:#o} and pointers that "
            "lead nowhere: this is no inode"
        )
    else:
        which = f"inodes {ino} {'and' if len(run) == 2 else 'to'} {last}"
        what = f"what {which} were"
        problem = (
            f"{which} have wrong checksums, and modes and pointers that make no sense, the first "
            f"of them the mode {record.mode:#o}: these are no inodes"
        )
    check.report(
        NOT_AN_INODE,
        problem,
        found=check.inode_evidence(ino, "mode", f"{record.mode:#o}"),
        expected=check.inode_evidence(ino, "checksum", f"{record.checksum:#010x}"),
        repair="clear it" if len(run) == 1 else "clear them",
        lost=what,
        changes=[*changes, *check.inode_bits_cleared(inode.ino for inode in run)],
        ino=ino if len(run) == 1 else None,
    )


# -- inodes in use ---------------------------------------------------------------


def _check_used(check: Check, inode: CheckedInode, freed: list[CheckedInode]) -> list[Claim]:
    """All that the inode's fields must be; it is in use from then on, unless freed."""
    if not check_fields(check, inode):
        freed.append(inode)
        return []
    check.inodes[inode.ino] = inode
    check_attribute_pointer(check, inode)
    return check_blocks(check, inode) + check_attributes(check, inode)
