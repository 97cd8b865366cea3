"""Pass 2: `.` and `..`, the first two records of a directory (OSTEP 40.4).

Their place is fixed, and `.` can only be the directory itself, so both can be written
anew.  What else stands in their sector stays where it is or, if it is in their way,
moves behind them.
"""

from __future__ import annotations

from typing import Final

from vsfs.fsck.chains import Gaps, entries_in
from vsfs.fsck.context import Check, CheckedInode, Entry
from vsfs.fsck.findings import Evidence, quoted, rule
from vsfs.fsck.records import (
    DOTS,
    DOTS_END,
    Draft,
    Header,
    dotdot_fits,
    header,
    name_at,
    read_sector,
)
from vsfs.layout import (
    DIRECTORY_TYPE,
    DOT_SIZE,
    RECORD_HEADER_SIZE,
    ROOT_INO,
    SECTOR_SIZE,
    DirectoryRecord,
    record_size,
)

DOT_RECORDS = rule(
    302,
    "dot-records",
    "The first two records of a directory are `.`, itself, and `..`, its parent.",
    "The inode: the block is its own, so `.` can only be that inode.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)

#: Fields, of five, that tell a damaged `.` or `..` from another record.
_ALIKE: Final = 3
#: Bytes shown of what stands in their place as a name, which may be noise.
_MOST_SHOWN: Final = 16


def read_first_sector(check: Check, inode: CheckedInode, gaps: Gaps) -> list[Entry]:
    """Rule 302, and the other records of the sector: rule 301."""
    block_no = inode.blocks[0]
    data = check.overlay.block(block_no)
    dot, dotdot = header(data, 0), header(data, DOT_SIZE)
    is_dot = dot[1:3] == (DOT_SIZE, 1) and name_at(data, 0, 1) == b"."
    is_dotdot = (
        dotdot.name_length == 2
        and name_at(data, DOT_SIZE, 2) == b".."
        and dotdot_fits(dotdot.length)
    )
    if is_dot and is_dotdot:
        if dot.ino != inode.ino:
            _report_dots(check, inode, Draft(check), dotdot.ino, [])
        start = DOT_SIZE + dotdot.length
        found, gap = read_sector(data, start, SECTOR_SIZE, check.is_in_use)
        if gap is not None:
            before = [record.offset for record in found if record.offset < gap.start]
            gaps.report(block_no, gap, before[-1] if before else DOT_SIZE)
        parent, types = dotdot.ino, (dot.file_type, dotdot.file_type)
    else:
        parent, found = _rebuild_first_sector(check, inode)
        types = (DIRECTORY_TYPE, DIRECTORY_TYPE)
    return [
        Entry(block_no, 0, inode.ino, types[0], b"."),
        Entry(block_no, DOT_SIZE, parent, types[1], b".."),
        *entries_in(block_no, found),
    ]


def _is_alike(check: Check, data: bytes | bytearray, name: bytes, ino: int | None) -> bool:
    """Whether what stands in the place of `.` or `..` was that, most of it still right."""
    offset = DOT_SIZE if name == b".." else 0
    found = header(data, offset)
    is_length = dotdot_fits(found.length) if offset else found.length == DOT_SIZE
    is_ino = check.is_in_use(found.ino, DIRECTORY_TYPE) if ino is None else found.ino == ino
    is_name = name_at(data, offset, len(name)) == name
    is_type = found.file_type == DIRECTORY_TYPE
    return is_length + is_ino + is_name + is_type + (found.name_length == len(name)) >= _ALIKE


def _rebuild_first_sector(check: Check, inode: CheckedInode) -> tuple[int, list[DirectoryRecord]]:
    """Make a first sector with `.`, `..` and the other sound records in it.

    Returns the parent that `..` now names, and the others.  They stay in their
    places, but those that stand in the way of the first two.
    """
    block_no = inode.blocks[0]
    data = check.overlay.block(block_no)
    has_dot = _is_alike(check, data, b".", inode.ino)
    has_dotdot = _is_alike(check, data, b"..", None)
    start = DOT_SIZE if has_dot or has_dotdot else 0
    if has_dotdot and dotdot_fits(header(data, DOT_SIZE).length):
        start += header(data, DOT_SIZE).length
    found, gap = read_sector(data, start, SECTOR_SIZE, check.is_in_use)
    parents = [header(data, DOT_SIZE).ino] if has_dotdot else []
    parents += [record.ino for record in found if record.ino and record.name == b".."]
    parents.append(check.parent_of(inode.ino))
    parent = next((p for p in parents if check.is_in_use(p, DIRECTORY_TYPE)), ROOT_INO)
    others = [record for record in found if record.ino and record.name not in DOTS]
    draft = Draft(check)
    kept, dropped = _place(draft, block_no, inode.ino, parent, others)
    lost = [quoted(record.name) for record in dropped]
    if (
        gap is not None
        and gap.kept is None
        and gap.end > DOTS_END
        and not (has_dotdot and gap.start == DOT_SIZE)
    ):
        lost.append(quoted(gap.lost) if gap.lost else "names in the broken part of the sector")
    if not _report_dots(check, inode, draft, parent, lost):
        check.untouchable.add((block_no, 0))
    return parent, kept


def _place(
    draft: Draft, block_no: int, ino: int, parent: int, others: list[DirectoryRecord]
) -> tuple[list[DirectoryRecord], list[DirectoryRecord]]:
    """Write `.`, `..` and other records into a first sector: those that fit, the rest."""
    kept = [record for record in others if record.offset >= DOTS_END]
    ends = [*(record.offset for record in kept), SECTOR_SIZE]
    dot = DirectoryRecord(0, ino, DOT_SIZE, DIRECTORY_TYPE, b".")
    dotdot = DirectoryRecord(DOT_SIZE, parent, ends[0] - DOT_SIZE, DIRECTORY_TYPE, b"..")
    draft.put_record(block_no, dot)
    draft.put_record(block_no, dotdot)
    for record, end in zip(kept, ends[1:], strict=True):
        draft.put_length(block_no, record.offset, end - record.offset)
    dropped = []
    for record in others:
        if record.offset >= DOTS_END:
            continue
        at = draft.find_slack(block_no, 0, record_size(len(record.name)))
        if at is None:
            dropped.append(record)
        else:
            moved = draft.add(block_no, at, record.ino, record.file_type, record.name)
            kept.append(record._replace(offset=moved.offset))
    return kept, dropped


def _report_dots(
    check: Check, inode: CheckedInode, draft: Draft, parent: int, lost: list[str]
) -> bool:
    """Rule 302: tell which of the two is wrong, and how."""
    ino, block_no = inode.ino, inode.blocks[0]
    data = check.overlay.block(block_no)
    dot = header(data, 0)
    is_dot = dot[:3] == (ino, DOT_SIZE, 1) and name_at(data, 0, 1) == b"."
    name, offset = (b"..", DOT_SIZE) if is_dot else (b".", 0)
    if draft.is_empty:  # all but the number is right
        draft.put_ino(block_no, 0, ino)
        repair = f"let it name inode {ino}"
    else:
        repair = f"write `.` for inode {ino} and `..` for inode {parent} there"
    found = _record_in_words(data, offset)
    first_block = check.inode_evidence(ino, "direct", f"{block_no}: its own first block")
    return draft.report(
        DOT_RECORDS,
        f"directory {check.named(ino)} should have {quoted(name)} at offset {offset} of its "
        f"first block, but there is {found}",
        found=Evidence(f"directory inode {ino}, record at {offset}", block_no, offset, found),
        expected=first_block,
        repair=repair,
        lost=", ".join(lost) or None,
        ino=ino,
    )


def _record_in_words(data: bytes | bytearray, offset: int) -> str:
    found: Header = header(data, offset)
    name = name_at(data, offset, min(found.name_length, SECTOR_SIZE - offset - RECORD_HEADER_SIZE))
    return f"inode {found.ino}, length {found.length}, name {quoted(name, _MOST_SHOWN)}"
