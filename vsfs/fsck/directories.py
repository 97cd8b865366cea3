"""Pass 2: what stands in directories (OSTEP 40.4).

Relies on pass 1: every inode in ``check.inodes`` has a possible type, and a
directory's ``blocks`` are all its blocks in file order, its own alone.  Collects
``check.entries`` for the passes to come.

For each directory in turn: the chain of records in each 512-byte sector (``chains``),
`.` and `..` (``dots``), whether each entry leads to an inode in use, and the names of
those that do.  That may bring back directories whose type is wrong or whose inode is gone; they
join the others.
Then, all of them being known: names that stand twice, and the types in entries.
Where `..` leads is a matter of the tree (pass 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from vsfs.fsck.chains import Gaps, entries_in
from vsfs.fsck.context import Check, CheckedInode, Entry
from vsfs.fsck.dots import read_first_sector
from vsfs.fsck.entry_types import raw_blocks
from vsfs.fsck.findings import Evidence, Rule, quoted, rule
from vsfs.fsck.records import (
    DOTS,
    Draft,
    Names,
    entry_evidence,
    read_sector,
    type_code,
)
from vsfs.fsck.restore import restore_directory, restore_root, restore_type
from vsfs.layout import (
    DIRECTORY_TYPE,
    DOT_SIZE,
    INODE_SIZE,
    JOURNAL_INO,
    ROOT_INO,
    SECTOR_SIZE,
    TYPE_NAMES,
    decode_inode,
)
from vsfs.words import counted

EXTRA_DOTS = rule(
    303,
    "extra-dots",
    "`.` and `..` stand at a directory's beginning, and nowhere else.",
    "The first two records: their place is fixed.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)
NAME = rule(
    304,
    "entry-name",
    "A name has 1 to 255 bytes, none of them `/` or NUL.",
    "The format: no path could lead to such a name.",
    "OSTEP 39.1 Files And Directories",
    is_safe=False,
)
ENTRY_RANGE = rule(
    305,
    "entry-inode",
    "An entry names an inode from 2 to the last one.",
    "The superblock, which says how many inodes there are; 0 and 1 are never a file's.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)
ENTRY_FREE = rule(
    306,
    "entry-to-free-inode",
    "An inode that an entry names is in use.",
    "The inode: it is written before the first entry for it, and freed before the last one goes.",
    "OSTEP 42.2 FSCK",
    is_safe=True,
)
ENTRY_WIPED = rule(
    312,
    "entry-to-wiped-inode",
    "An inode that an entry names was written before the entry.",
    "The inode: a crash leaves none of zeroes here, so something has overwritten it.",
    "OSTEP 42.2 FSCK",
    is_safe=False,
)
ENTRY_TYPE = rule(
    307,
    "entry-type",
    "The file type in an entry is that of the inode.",
    "The inode: the entry only repeats it, so that a listing need not read inodes.",
    "OSTEP 40.4 Directory Organization",
    is_safe=True,
)
# Safe for two inodes, too: `mv a b` and then a new `a`, in one transaction, may take
# the old `a` out of one block (stage 4, as it loses a name to a rename) and put the new
# one into another (stage 3).  A crash between the two leaves both in use under one name.
# To remove a hard link and to make another file of its name does the same within stage 3.
DOUBLE_NAME = rule(
    311,
    "double-name",
    "A name stands once in a directory.",
    "Neither: a crash while a name was removed here and made there leaves both.",
    "OSTEP 39.14 Hard Links",
    is_safe=True,
)

#: Entries of one directory that break one rule are told one by one up to here,
#: and in one finding if they are more.
_MOST_TOLD: Final = 8


def check_directories(check: Check) -> None:
    """Check all directories, and fill ``check.entries``.

    Raises Corrupt (EUCLEAN) if there is no root and none can be made.
    """
    restore_root(check)
    directories = [inode for _, inode in sorted(check.inodes.items()) if inode.is_directory]
    read_anew = check.has_unrepaired
    for inode in directories:  # grows while directories come back
        if read_anew:
            _use_what_is_there(check, inode)
        check.entries[inode.ino] = _read(check, inode)
        directories += _check_targets(check, inode)
        _check_names(check, inode)
    for inode in directories:
        _check_double_names(check, inode)
        _check_types(check, inode)


def _use_what_is_there(check: Check, inode: CheckedInode) -> None:
    """After a repair of its pointers was declined, read the blocks that it does have.

    Where pass 1 would have put a copy or a new block, nothing stands; nothing is
    changed in such a directory.
    """
    there = list(raw_blocks(check, decode_inode(check.inode_bytes(inode.ino)).pointers, set()))
    if set(inode.blocks) <= set(there):
        return
    inode.blocks = there
    for block_no in there:
        check.untouchable.update(
            (block_no, sector) for sector in range(0, check.geometry.block_size, SECTOR_SIZE)
        )


def _read(check: Check, inode: CheckedInode) -> list[Entry]:
    """All entries of a directory, its chains repaired; `.` and `..` come first."""
    if not inode.blocks:  # and it got none
        check.untouchable.add((0, 0))
        places = ((0, inode.ino, b"."), (DOT_SIZE, check.parent_of(inode.ino), b".."))
        return [Entry(0, offset, ino, DIRECTORY_TYPE, name) for offset, ino, name in places]
    gaps = Gaps(check, inode)
    entries = read_first_sector(check, inode, gaps)
    for index, block_no in enumerate(inode.blocks):
        for sector in range(0 if index else SECTOR_SIZE, check.geometry.block_size, SECTOR_SIZE):
            end = sector + SECTOR_SIZE
            found, gap = read_sector(check.overlay.block(block_no), sector, end, check.is_in_use)
            if gap is not None:
                gaps.note(block_no, found, gap)
            elif gaps.whole:
                gaps.flush()
            entries += entries_in(block_no, found)
    gaps.flush()
    return entries


# -- entries, one by one -------------------------------------------------------------


class _Told(NamedTuple):
    """What is wrong with one entry."""

    problem: str
    found: Evidence
    expected: Evidence
    repair: str
    lost: str | None = None


def _report_each(
    check: Check,
    rule: Rule,
    inode: CheckedInode,
    entries: list[Entry],
    change: Callable[[Draft, Entry], None],
    tell: Callable[[Entry], _Told],
) -> None:
    """Report entries of a directory that break a rule; if they are many, together."""
    groups = [entries] if len(entries) > _MOST_TOLD else [[entry] for entry in entries]
    for group in groups:
        draft = Draft(check)
        told = tell(group[0])
        for entry in group:
            change(draft, entry)
        many = len(group) > 1
        also = f", and {counted(len(group) - 1, 'more entry')} of that directory likewise"
        draft.report(
            rule,
            told.problem + also * many,
            found=told.found,
            expected=told.expected,
            repair=told.repair + ", and so with the others" * many,
            lost=told.lost,
            ino=inode.ino,
        )


def _where(check: Check, inode: CheckedInode, entry: Entry) -> str:
    """An entry in words."""
    return f"{quoted(entry.name)} in directory {check.named(inode.ino)}"


def _check_names(check: Check, inode: CheckedInode) -> None:
    """Rules 303 and 304: `.` and `..` elsewhere, and impossible names."""
    entries = check.entries[inode.ino]
    extra, nameless, illegal = list[Entry](), list[Entry](), list[Entry]()
    for entry in entries[2:]:
        name = entry.name
        if name in DOTS:
            extra.append(entry)
        elif not name:
            nameless.append(entry)
        elif b"/" in name or b"\0" in name:
            illegal.append(entry)
    if extra:
        first = entries[0]
        expected = Evidence("first record", first.block_no, first.offset, "`.`, and then `..`")
        _remove(check, EXTRA_DOTS, inode, extra, lambda entry: _Told(
            f"{_where(check, inode, entry)} stands a second time",
            entry_evidence(inode.ino, entry, "name", quoted(entry.name)),
            expected,
            "remove it",
        ))  # fmt: skip
    if nameless:
        _remove(check, NAME, inode, nameless, lambda entry: _Told(
            f"an entry of directory {check.named(inode.ino)} for inode {entry.ino} has no name",
            entry_evidence(inode.ino, entry, "name_length", 0),
            entry_evidence(inode.ino, entry, "inode", entry.ino),
            "remove it",
        ))  # fmt: skip
    if illegal:
        _rename(check, NAME, inode, illegal, lambda entry: _Told(
            f"{_where(check, inode, entry)} has a `/` or NUL in its name",
            entry_evidence(inode.ino, entry, "name", quoted(entry.name)),
            entry_evidence(inode.ino, entry, "name_length", "other bytes"),
            "remove it",
        ))  # fmt: skip


def _remove(
    check: Check,
    rule: Rule,
    inode: CheckedInode,
    entries: list[Entry],
    tell: Callable[[Entry], _Told],
) -> None:
    """Report entries, and take them out."""
    _report_each(check, rule, inode, entries, Draft.remove, tell)
    gone = {id(entry) for entry in entries}
    check.entries[inode.ino] = [e for e in check.entries[inode.ino] if id(e) not in gone]


def _rename(
    check: Check,
    rule: Rule,
    inode: CheckedInode,
    entries: list[Entry],
    tell: Callable[[Entry], _Told],
) -> None:
    """Report entries, and give them unused names of the same length.

    Where there is no such name the entry is removed: its inode is then found by
    pass 3.
    """
    names = Names(check.entries[inode.ino])
    new: dict[int, bytes] = {}
    gone = []
    for entry in entries:
        name = names.take(entry.name.replace(b"/", b"_").replace(b"\0", b"_"))
        if name is None or name in DOTS:
            gone.append(entry)
        else:
            new[id(entry)] = name
    renamed = [entry for entry in entries if id(entry) in new]

    def tell_new(entry: Entry) -> _Told:
        told = tell(entry)
        verb = told.repair.replace("remove", "rename")
        return told._replace(repair=f"{verb} to {quoted(new[id(entry)])}")

    def tell_gone(entry: Entry) -> _Told:
        return tell(entry)._replace(repair="remove it: no name of its length is left")

    def change(draft: Draft, entry: Entry) -> None:
        draft.put_name(entry.block_no, entry.offset, new[id(entry)])

    if renamed:
        _report_each(check, rule, inode, renamed, change, tell_new)
        for entry in renamed:
            entry.name = new[id(entry)]
    if gone:
        _remove(check, rule, inode, gone, tell_gone)


def _check_targets(check: Check, inode: CheckedInode) -> list[CheckedInode]:
    """Rules 305, 306 and 312: what entries name; gives the directories that came back."""
    impossible, free, wiped = list[Entry](), list[Entry](), list[Entry]()
    restored: list[CheckedInode] = []
    for entry in check.entries[inode.ino][2:]:
        target = check.inodes.get(entry.ino) if entry.ino != JOURNAL_INO else None
        is_for_directory = entry.file_type == DIRECTORY_TYPE
        if target is not None:
            if is_for_directory and not target.is_directory:
                named = entry_evidence(inode.ino, entry, "file_type", "2, a directory")
                if restore_type(check, target, named):
                    restored.append(target)
        elif not ROOT_INO <= entry.ino < check.geometry.inode_count:
            impossible.append(entry)
        elif is_for_directory and (back := restore_directory(check, inode, entry)) is not None:
            restored.append(back)
        else:
            (wiped if _is_wiped(check, entry.ino) else free).append(entry)
            check.named_but_free.add(entry.ino)
    if impossible:
        last = check.geometry.inode_count - 1
        expected = check.superblock_evidence("inode_count", f"inodes 2 to {last}")
        _remove(check, ENTRY_RANGE, inode, impossible, lambda entry: _Told(
            f"{_where(check, inode, entry)} names inode {entry.ino}; there are only 2 to {last}",
            entry_evidence(inode.ino, entry, "inode", entry.ino),
            expected,
            "remove it",
            "the name",
        ))  # fmt: skip
    if wiped:
        _remove(check, ENTRY_WIPED, inode, wiped, lambda entry: _Told(
            f"{_where(check, inode, entry)} names inode {entry.ino}, which is marked as in use "
            "and has nothing but zeroes",
            entry_evidence(inode.ino, entry, "inode", entry.ino),
            check.inode_evidence(entry.ino, "nlink", "0, as all of the inode"),
            "remove it",
            "the file: its inode was overwritten",
        ))  # fmt: skip
    if free:
        _remove(check, ENTRY_FREE, inode, free, lambda entry: _Told(
            f"{_where(check, inode, entry)} names inode {entry.ino}, which "
            + ("a repair above has cleared" if _is_cleared(check, entry.ino) else "is free"),
            entry_evidence(inode.ino, entry, "inode", entry.ino),
            _freedom(check, entry.ino),
            "remove it",
        ))  # fmt: skip
    return restored


def _is_cleared(check: Check, ino: int) -> bool:
    """Whether it is free since this check freed it."""
    before, after = check.original_inode_bytes(ino), check.inode_bytes(ino)
    return bool(decode_inode(before).nlink) and not decode_inode(after).nlink


def _is_wiped(check: Check, ino: int) -> bool:
    """Whether an inode was in use once, and has only zeroes now (but for rule 214)."""
    return bool(check.inode_bit(ino)) and check.original_inode_bytes(ino).count(0) >= INODE_SIZE - 1


def _freedom(check: Check, ino: int) -> Evidence:
    """That an inode is free, as evidence."""
    nlink = decode_inode(check.inode_bytes(ino)).nlink
    return check.inode_evidence(
        ino, "nlink", f"{nlink}, free" if not nlink else "free, as repaired"
    )


# -- entries, all together ------------------------------------------------------------


def _check_double_names(check: Check, inode: CheckedInode) -> None:
    """Rule 311: of two entries with one name the second is removed, or renamed."""
    entries = check.entries[inode.ino]
    first: dict[bytes, Entry] = {}
    again = [entry for entry in entries if first.setdefault(entry.name, entry) is not entry]
    if not again:
        return

    def tell(entry: Entry) -> _Told:
        other = first[entry.name]
        both = f"both times for inode {entry.ino}"
        if other.ino != entry.ino:
            both = f"for inode {other.ino} and for inode {entry.ino}"
        return _Told(
            f"the name {quoted(entry.name)} stands twice in directory {check.named(inode.ino)}, "
            f"{both}",
            entry_evidence(inode.ino, entry, "name", quoted(entry.name)),
            entry_evidence(inode.ino, other, "name", quoted(other.name)),
            "remove the second",
        )

    same = [entry for entry in again if first[entry.name].ino == entry.ino]
    others = [entry for entry in again if first[entry.name].ino != entry.ino]
    if same:
        _remove(check, DOUBLE_NAME, inode, same, tell)
    if others:
        _rename(check, DOUBLE_NAME, inode, others, tell)


def _check_types(check: Check, inode: CheckedInode) -> None:
    """Rule 307: the file types in entries."""
    inodes = check.inodes
    right: dict[int, int] = {}
    wrong = []
    for index, entry in enumerate(check.entries[inode.ino]):
        code = DIRECTORY_TYPE if index < 2 else type_code(inodes[entry.ino].record.mode)
        if entry.file_type != code:
            wrong.append(entry)
            right[id(entry)] = code
    if not wrong:
        return

    def change(draft: Draft, entry: Entry) -> None:
        draft.put_type(entry.block_no, entry.offset, right[id(entry)])

    def tell(entry: Entry) -> _Told:
        target = inodes.get(entry.ino, inode)
        said, code = TYPE_NAMES.get(entry.file_type), right[id(entry)]
        return _Told(
            f"the entry {_where(check, inode, entry)} says that inode {target.ino} is "
            f"{f'a {said}' if said else 'of a type that there is not'}, but by its mode it is a "
            f"{TYPE_NAMES[code]}",
            entry_evidence(
                inode.ino, entry, "file_type", f"{entry.file_type}, {said or 'no type'}"
            ),
            check.inode_evidence(
                target.ino, "mode", f"{target.record.mode:#o}, {TYPE_NAMES[code]}"
            ),
            f"set the type in the entry to {code}, {TYPE_NAMES[code]}",
        )

    _report_each(check, ENTRY_TYPE, inode, wrong, change, tell)
    for entry in wrong:
        entry.file_type = right[id(entry)]
