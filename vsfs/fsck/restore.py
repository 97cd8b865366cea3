"""Directories whose inode is gone or wrong, known again by their first block.

A directory's first block says which directory it is: its `.` names the inode.  So
when the root's inode is destroyed, or an entry names a directory whose inode is,
a block without an owner that says so brings it back, with the names in that block.
What only the inode knew (mode, owner, times, further blocks) is lost.

An inode that was *freed* is another matter: link count 0 with a right checksum,
or never used.  Its directory was removed, and the entry is what a crash left.
"""

from __future__ import annotations

import functools
import stat
from typing import Any

from vsfs.device import Kind
from vsfs.errors import Corrupt
from vsfs.fsck.context import Check, CheckedInode, Entry, is_sealed
from vsfs.fsck.findings import Evidence, quoted, rule
from vsfs.fsck.pointers import attribute_pointer, walk
from vsfs.fsck.records import (
    Draft,
    entry_evidence,
    header,
    is_first_block,
    read_sector,
)
from vsfs.layout import (
    ATTRIBUTES_SIZE,
    DIRECT_POINTERS,
    DOT_SIZE,
    INDIRECT_LEVELS,
    INLINE_SIZE,
    ROOT_INO,
    SECTOR_SIZE,
    InodeRecord,
    decode_attributes_head,
    decode_inode,
    first_directory_block,
    seal_attributes,
    type_name,
)

FLIPPED = rule(
    308,
    "directory-type",
    "What begins with `.` for itself and is named as a directory is a directory.",
    "The entry and the contents, which agree against the inode's type.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)
LOST_DIRECTORY = rule(
    309,
    "lost-directory",
    "An entry that says directory names the inode of one.",
    "The entry and the block whose `.` is that inode: they agree, and the inode is destroyed.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)
ROOT = rule(
    310,
    "root-directory",
    "Inode 2 is the root directory.",
    "The format: every path starts there.",
    "OSTEP 40.6 Access Paths: Reading and Writing",
    is_safe=False,
)


# -- a wrong type ------------------------------------------------------------------


def restore_type(check: Check, inode: CheckedInode, expected: Evidence) -> bool:
    """Rule 308: make an inode a directory if its contents are one; whether they are.

    `expected` is where it is named as a directory.
    """
    record, block_size = inode.record, check.geometry.block_size
    first = record.pointers[0]
    if not first or not record.size or record.size % block_size:
        return False
    if not is_first_block(check.overlay.block(first), inode.ino):
        return False
    blocks = [
        block_no
        for array in walk(check, inode, set())
        if not array.level
        for block_no in array.values
        if block_no
    ]
    if len(blocks) * block_size != record.size:
        return False
    inode.blocks = blocks
    check.update(
        FLIPPED,
        inode,
        f"{check.named(inode.ino)} is a {type_name(record.mode)}, but it is named as a directory, "
        f"and its first block {first} begins with `.` for itself",
        found=check.inode_evidence(inode.ino, "mode", f"{record.mode:#o}"),
        expected=expected,
        repair="make it a directory",
        mode=stat.S_IFDIR | stat.S_IMODE(record.mode),
        device=0,
        inline=bytes(INLINE_SIZE),
    )
    return True


# -- a destroyed inode --------------------------------------------------------------


def restore_directory(check: Check, directory: CheckedInode, entry: Entry) -> CheckedInode | None:
    """Rule 309: bring back the directory that `entry` of `directory` names.

    None if its inode was freed, or no block without an owner begins as its first.
    """
    ino = entry.ino
    if not _is_destroyed(check, ino):
        return None
    block_no = old_first_block(check, ino, directory.ino)
    if block_no is None:
        return None
    draft = Draft(check)
    inode = make_directory(draft, ino, block_no, 0o700)
    expected = Evidence(f"directory block {block_no}", block_no, 0, f"`.` is inode {ino}")
    draft.report(
        LOST_DIRECTORY,
        f"{check.named(directory.ino)} names directory {quoted(entry.name)}, inode {ino}, "
        f"which is destroyed, but block {block_no}, which nobody owns, is its first block",
        found=entry_evidence(directory.ino, entry, "inode", ino),
        expected=expected,
        repair=f"make inode {ino} a directory with that block",
        lost="its mode, owner and times, and the names in its further blocks",
        ino=ino,
    )
    _own(check, inode, block_no)
    return inode


def _is_destroyed(check: Check, ino: int) -> bool:
    """Whether the bytes of an inode that is not in use are not those of a free one.

    Zeroes are what an inode is before its first use, and what is left of a wiped
    one; then the bitmap tells.
    """
    data = check.original_inode_bytes(ino)
    if not any(data):
        return bool(check.inode_bit(ino))
    return decode_inode(data).nlink != 0 or not is_sealed(ino, data)


def old_first_block(check: Check, ino: int, parent: int) -> int | None:
    """The block without an owner that was most likely the first one of directory `ino`.

    One whose `..` is `parent`, if there is such; of several that with the most names
    of inodes in use.  None if no block begins with `.` for that inode.
    """
    start = check.geometry.data_start
    blocks = [b for b in _lost_blocks(check).get(ino, ()) if b - start not in check.blocks]

    def likeliness(block_no: int) -> tuple[bool, int]:
        agrees = header(check.overlay.block(block_no), DOT_SIZE).ino == parent
        return agrees, _names_in_use(check, block_no)

    return max(blocks, key=likeliness, default=None)


def _names_in_use(check: Check, block_no: int) -> int:
    """The entries of a directory block that name inodes in use."""
    data = check.overlay.block(block_no)
    sectors = range(0, len(data), SECTOR_SIZE)
    found = (
        record
        for start in sectors
        for record in read_sector(data, start, start + SECTOR_SIZE, lambda *_: True)[0]
    )
    return sum(record.ino in check.inodes for record in found)


def _lost_blocks(check: Check) -> dict[int, list[int]]:
    """Blocks without an owner that begin as first blocks of directories that have none.

    Inode -> such blocks, those with a bit of 1 first.  Reads all blocks without
    an owner, once.
    """
    if check.lost_directories is None:
        geometry, in_use, others = check.geometry, dict[int, list[int]](), dict[int, list[int]]()
        for number in range(geometry.data_blocks):
            if number in check.blocks:
                continue
            block_no = geometry.data_start + number
            data = check.overlay.block(block_no)
            ino = header(data, 0).ino
            if ino in check.inodes and check.inodes[ino].blocks:
                continue
            if ROOT_INO <= ino < geometry.inode_count and is_first_block(data, ino):
                bitmap, byte, bit = geometry.data_bit(block_no)
                is_used = check.overlay.block(bitmap)[byte] >> bit & 1
                (in_use if is_used else others).setdefault(ino, []).append(block_no)
        for ino, blocks in others.items():
            in_use.setdefault(ino, []).extend(blocks)
        check.lost_directories = in_use
    return check.lost_directories


def make_directory(draft: Draft, ino: int, block_no: int, permissions: int) -> CheckedInode:
    """The inode of a directory that has one block; its owner is root.

    Takes both for the draft's finding.
    """
    check = draft.check
    before = check.inode_bytes(ino)
    generation = decode_inode(before).generation + 1 if is_sealed(ino, before) else 1
    now_ns = check.now_ns
    record = InodeRecord(
        mode=stat.S_IFDIR | permissions,
        nlink=2,
        uid=0,
        gid=0,
        size=check.geometry.block_size,
        blocks=1,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        btime_ns=now_ns,
        flags=0,
        generation=generation & 0xFFFFFFFF,
        device=0,
        pointers=(block_no,) + (0,) * (DIRECT_POINTERS + INDIRECT_LEVELS - 1),
        attribute_block=0,
        inline=bytes(INLINE_SIZE),
    )
    inode = CheckedInode(ino, record, is_sealed=True)
    draft.set(inode, **_all_fields(record))
    check.take_ino(ino)
    check.take_block(block_no)
    return inode


def _all_fields(record: InodeRecord) -> dict[str, Any]:
    values = record._asdict()
    del values["checksum"]
    return values


def _own(check: Check, inode: CheckedInode, block_no: int) -> None:
    """Note a directory with its one block as in use."""
    inode.blocks = [block_no]
    check.inodes[inode.ino] = inode
    check.blocks.mark(block_no - check.geometry.data_start)


# -- the root ------------------------------------------------------------------------


def restore_root(check: Check) -> None:
    """Rule 310: see to it that inode 2 is a directory in use.

    Raises Corrupt (EUCLEAN) if that is declined or no block is left for it: no name
    can be followed then.
    """
    root = check.inodes.get(ROOT_INO)
    expected = check.superblock_evidence("inode_table_start", "inode 2 is the root directory")
    if root is not None and (root.is_directory or restore_type(check, root, expected)):
        return
    draft = Draft(check)
    lost = "the root's mode, owner and times, and the names in its further blocks"
    if root is not None and not _move(draft, root):
        lost += f", and the {type_name(root.record.mode)} in its place"
    block_no = old_first_block(check, ROOT_INO, ROOT_INO)
    if block_no is not None:
        repair = f"make it one with block {block_no}, which begins with `.` and `..` for it"
    else:
        block_no = draft.take_block()
        if block_no is None:
            raise _no_root(check, "no directory, and no block is left for a new one")
        size = check.geometry.block_size
        draft.put_block(block_no, first_directory_block(size, ROOT_INO, ROOT_INO), Kind.DIRECTORY)
        repair = f"make it an empty one with block {block_no}"
    inode = make_directory(draft, ROOT_INO, block_no, 0o755)
    mode = decode_inode(check.inode_bytes(ROOT_INO)).mode
    what = "not in use" if root is None else f"a {type_name(root.record.mode)}"
    accepted = draft.report(
        ROOT,
        f"inode 2, the root directory, is {what}",
        found=check.inode_evidence(ROOT_INO, "mode", f"{mode:#o}"),
        expected=expected,
        repair=repair,
        lost=lost,
        ino=ROOT_INO,
    )
    if not accepted:
        raise _no_root(check, "no directory, and its repair was declined")
    _own(check, inode, block_no)
    check.forget_names()


def _no_root(check: Check, found: str) -> Corrupt:
    block_no, offset = check.geometry.inode_location(ROOT_INO)
    return Corrupt("root directory (inode 2)", block_no, offset, found, "a directory in use")


def _move(draft: Draft, inode: CheckedInode) -> bool:
    """Give what stands in inode 2, and is no directory, another number.

    If no inode is free it is given up, and its blocks with it: False.
    """
    check = draft.check
    ino = draft.take_ino()
    if ino is None:
        draft.then.append(functools.partial(_give_up, check, inode))
        return False
    moved = CheckedInode(ino, inode.record, is_sealed=True)
    draft.set(moved, **_all_fields(inode.record))
    attributes = inode.record.attribute_block
    if attributes:  # the block says whose it is
        data = bytearray(check.overlay.block(attributes))
        size = decode_attributes_head(data)[2]
        if ATTRIBUTES_SIZE <= size <= len(data):
            seal_attributes(data, ino, size)
            draft.put_block(attributes, data, Kind.ATTRIBUTE)
    draft.then.append(lambda: check.inodes.update({ino: moved}))
    return True


def _give_up(check: Check, inode: CheckedInode) -> None:
    """Let all blocks of an inode be nobody's."""
    for array in (*walk(check, inode, set()), attribute_pointer(check, inode)):
        for block_no in filter(None, array.values):
            check.release_block(block_no)
