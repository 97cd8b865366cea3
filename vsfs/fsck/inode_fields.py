"""Pass 1: what an inode's fields must be, apart from its pointers.

What an inode is when its type cannot be right is told by its contents (a
directory's first name is `.`, itself) and by the directory entries that name it,
which repeat the type.
"""

from __future__ import annotations

import stat
from typing import Any, Final

from vsfs.errors import Corrupt
from vsfs.fsck.context import INODE_OFFSET, Check, CheckedInode
from vsfs.fsck.entry_types import named_types
from vsfs.fsck.findings import rule
from vsfs.layout import (
    DIRECTORY_TYPE,
    INLINE_SIZE,
    MODE_OF_TYPE,
    ROOT_INO,
    TARGET_MAX,
    TYPE_NAMES,
    TYPE_OF_MODE,
    records,
    type_name,
)
from vsfs.words import counted

MODE = rule(
    204,
    "inode-mode",
    "A mode has one of seven file types, and permissions in its lower 12 bits.",
    "The entry that names the inode, or else its contents: they tell the type, too.",
    "OSTEP 39.16 Permission Bits And Access Control Lists",
    is_safe=False,
)
TYPE = rule(
    205,
    "inode-type",
    "What an inode holds is what its type says.",
    "The contents and the entry that names it, which agree against the mode.",
    "OSTEP 42.2 FSCK",
    is_safe=False,
)
TARGET = rule(
    209,
    "link-target",
    "A symbolic link's target has 1 to 4095 bytes, all of them there, and no NUL.",
    "The format: a link without a target leads nowhere.",
    "OSTEP 39.15 Symbolic Links",
    is_safe=False,
)
SPECIAL_SIZE = rule(
    210,
    "special-file",
    "A device, fifo or socket has no contents.",
    "The type: the bytes of such a file are not on the disk.",
    "OSTEP 39.1 Files And Directories",
    is_safe=False,
)
UNUSED_FIELD = rule(
    208,
    "unused-field",
    "Flags, the inline area and the device number are zero where a type has no use for them.",
    "The format: nothing reads them.",
    "OSTEP 40.3 The Inode",
    is_safe=False,
)

_MODE_BITS: Final = 0o177777
#: A record with a wrong checksum is no inode if more of its pointers are bad.
_BAD_POINTERS: Final = 2


def check_fields(check: Check, inode: CheckedInode) -> bool:
    """Repair all fields but the pointers; whether the inode stays in use."""
    if not _check_mode(check, inode):
        return False
    _check_type(check, inode)
    if not check_target(check, inode):
        return False
    _check_special(check, inode)
    _check_unused(check, inode)
    return True


def field_at(offset: int) -> str:
    """The field in which a byte of an inode is."""
    return next(name for name, start in reversed(INODE_OFFSET.items()) if start <= offset)


def is_plausible(check: Check, inode: CheckedInode) -> bool:
    """Whether bytes with a wrong checksum can still be this inode."""
    geometry, record = check.geometry, inode.record
    pointers = [p for p in (*record.pointers, record.attribute_block) if p]
    bad = sum(not geometry.is_data_block(pointer) for pointer in pointers)
    if bad > _BAD_POINTERS and bad * 2 > len(pointers):
        return False
    return has_type(record.mode) or what_it_can_be(check, inode) is not None


def has_type(mode: int) -> bool:
    """Whether a mode has one of the seven file types."""
    return stat.S_IFMT(mode) in TYPE_OF_MODE


def types_in_entries(check: Check, ino: int) -> set[int]:
    """The file types that directory entries give `ino`; the root needs no entry."""
    if check.named_types is None:
        check.named_types = named_types(check)
    types = check.named_types.get(ino, set())
    return types | {DIRECTORY_TYPE} if ino == ROOT_INO else types


def looks_like_directory(check: Check, inode: CheckedInode) -> bool:
    """Whether the inode's first block begins with `.` that is the inode itself."""
    first = inode.record.pointers[0]
    if not check.geometry.is_data_block(first):
        return False
    try:
        record = next(records(check.overlay.block(first), first))
    except Corrupt:
        return False
    return record.name == b"." and record.ino == inode.ino


def what_it_can_be(check: Check, inode: CheckedInode) -> int | None:
    """The file type (of a mode) that contents or entries tell; None if they don't."""
    if looks_like_directory(check, inode):
        return stat.S_IFDIR
    types = types_in_entries(check, inode.ino)
    return MODE_OF_TYPE.get(min(types)) if types else None


def _retype(inode: CheckedInode, file_type: int) -> int:
    """The inode's mode with another file type."""
    return file_type | stat.S_IMODE(inode.record.mode)


def _check_mode(check: Check, inode: CheckedInode) -> bool:
    """Rule 204; what no evidence gives a type is freed."""
    ino, mode = inode.ino, inode.record.mode
    if has_type(mode) and mode <= _MODE_BITS:
        return True
    evidence = check.inode_evidence(ino, "mode", f"{mode:#o}")
    if has_type(mode):
        check.update(
            MODE,
            inode,
            f"{check.named(ino)} has the mode {mode:#o}, which has more than 16 bits",
            found=evidence,
            expected=check.inode_evidence(ino, "mode", "a type and 12 bits of permissions"),
            repair=f"set the mode to {mode & _MODE_BITS:#o}",
            mode=mode & _MODE_BITS,
        )
        return True
    file_type = what_it_can_be(check, inode)
    if file_type is None and inode.record.blocks:
        file_type = stat.S_IFREG  # whatever it was, its bytes are kept
    problem = (
        f"{check.named(ino)} has the mode {mode:#o}, and {stat.S_IFMT(mode):#o} is no file type"
    )
    if file_type is None:
        check.update(
            MODE,
            inode,
            problem,
            found=evidence,
            expected=check.inode_evidence(ino, "blocks", "no contents, and no entry names it"),
            repair="free the inode",
            nlink=0,
        )
        return False
    mode = _retype(inode, file_type)
    check.update(
        MODE,
        inode,
        problem,
        found=evidence,
        expected=check.inode_evidence(ino, "direct", f"contents of a {type_name(mode)}"),
        repair=f"make it a {type_name(mode)}",
        mode=mode,
    )
    return True


def _check_type(check: Check, inode: CheckedInode) -> None:
    """Rule 205: where the contents cannot be of the type, and an entry says another."""
    ino, record = inode.ino, inode.record
    contradiction = _contradiction(check, inode)
    if contradiction is None:
        return
    types = types_in_entries(check, ino) - {TYPE_OF_MODE[stat.S_IFMT(record.mode)]}
    if not types:
        return
    code = min(types)
    mode = _retype(inode, MODE_OF_TYPE[code])
    check.update(
        TYPE,
        inode,
        f"{check.named(ino)} has the type {type_name(record.mode)}, but {contradiction}, "
        f"and its entry says {TYPE_NAMES[code]}",
        found=check.inode_evidence(ino, "mode", f"{record.mode:#o}"),
        expected=check.inode_evidence(ino, "direct", contradiction),
        repair=f"make it a {TYPE_NAMES[code]}",
        mode=mode,
    )


def _contradiction(check: Check, inode: CheckedInode) -> str | None:
    """Why the contents cannot be those of the inode's type; None if they can."""
    record = inode.record
    kind = stat.S_IFMT(record.mode)
    if kind == stat.S_IFDIR:
        is_one = looks_like_directory(check, inode)
        return None if is_one else "its first block does not begin with `.` for itself"
    if kind == stat.S_IFLNK:
        is_long = record.size > TARGET_MAX
        return f"its {counted(record.size, 'byte')} are too long for a target" if is_long else None
    if kind != stat.S_IFREG and (record.size or any(record.pointers)):
        return f"it has {counted(record.size, 'byte')}"
    return None


def check_target(check: Check, inode: CheckedInode) -> bool:
    """Rule 209; a link without a target is freed."""
    record = inode.record
    if not stat.S_ISLNK(record.mode):
        return True
    target = _target(check, inode)
    length = target.find(b"\0") if target is not None and b"\0" in target else record.size
    if target is not None and 0 < length == record.size:
        return True
    evidence = check.inode_evidence(inode.ino, "size", record.size)
    if target and length > 0:
        where = "inline" if record.size <= INLINE_SIZE else "direct"
        is_moved = (length <= INLINE_SIZE) != (record.size <= INLINE_SIZE)
        if not is_moved:
            check.update(
                TARGET,
                inode,
                f"{check.named(inode.ino)} is a symbolic link of {counted(record.size, 'byte')}, "
                f"but its target ends after {length}",
                found=evidence,
                expected=check.inode_evidence(inode.ino, where, target[:length].decode("latin-1")),
                repair=f"set the size to {length}",
                size=length,
            )
            return True
    check.update(
        TARGET,
        inode,
        f"{check.named(inode.ino)} is a symbolic link of {counted(record.size, 'byte')}, "
        "and has no such target",
        found=evidence,
        expected=check.inode_evidence(inode.ino, "inline", "1 to 4095 bytes without NUL"),
        repair="free the inode",
        lost="the link",
        nlink=0,
    )
    return False


def _target(check: Check, inode: CheckedInode) -> bytes | None:
    """The target as the size gives it; None if that cannot be, or a block is missing."""
    record, geometry = inode.record, check.geometry
    if not 0 < record.size <= TARGET_MAX:
        return None
    if record.size <= INLINE_SIZE:
        return record.inline[: record.size]
    found = b""
    for pointer in record.pointers:
        if len(found) >= record.size or not geometry.is_data_block(pointer):
            break
        found += check.overlay.block(pointer)
    return found[: record.size] if len(found) >= record.size else None


def _check_special(check: Check, inode: CheckedInode) -> None:
    """Rule 210: sizes of devices, fifos and sockets."""
    record = inode.record
    if not record.size or stat.S_IFMT(record.mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        return
    check.update(
        SPECIAL_SIZE,
        inode,
        f"{check.named(inode.ino)} is a {type_name(record.mode)}, "
        f"but has a size of {counted(record.size, 'byte')}",
        found=check.inode_evidence(inode.ino, "size", record.size),
        expected=check.inode_evidence(inode.ino, "mode", type_name(record.mode)),
        repair="set the size to 0",
        size=0,
    )


def _check_unused(check: Check, inode: CheckedInode) -> None:
    """Rule 208: fields that this type has no use for."""
    record = inode.record
    is_link, is_device = (
        stat.S_ISLNK(record.mode),
        (stat.S_ISCHR(record.mode) or stat.S_ISBLK(record.mode)),
    )
    used = record.size if is_link and record.size <= INLINE_SIZE else 0
    inline = record.inline[:used].ljust(INLINE_SIZE, b"\0")
    wanted: dict[str, Any] = {
        "flags": 0,
        "device": record.device if is_device else 0,
        "inline": inline,
    }
    for name, value in wanted.items():
        found = getattr(record, name)
        if found == value:
            continue
        shown = found if isinstance(found, int) else "bytes that are not zero"
        check.update(
            UNUSED_FIELD,
            inode,
            f"{check.named(inode.ino)} is a {type_name(record.mode)}, "
            f"but its field {name} holds {shown}",
            found=check.inode_evidence(inode.ino, name, shown),
            expected=check.inode_evidence(inode.ino, "mode", type_name(record.mode)),
            repair="set it to zero",
            **{name: value},
        )
