"""Pass 2: what stands in directories (OSTEP 40.4).

Relies on pass 1: every inode in ``check.inodes`` has a possible type, and a
directory's ``blocks`` are all its blocks in file order, its own alone.  Collects
``check.entries`` for the passes to come.

For each directory in turn: the chain of records in each 512-byte sector, `.` and
`..`, whether each entry leads to an inode in use, and the names of those that do.
That may bring back directories whose type is wrong or whose inode is gone; they
join the others.
Then, all of them being known: names that stand twice, and the types in entries.
Where `..` leads is a matter of the tree (pass 3).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from vsfs.fsck.context import Check, CheckedInode, Entry, counted
from vsfs.fsck.findings import Evidence, Rule, printable, rule
from vsfs.fsck.records import (
    DOT_SIZE,
    DOTS,
    DOTS_END,
    Draft,
    Gap,
    Header,
    Names,
    dotdot_fits,
    entry_evidence,
    header,
    is_legal,
    name_at,
    quoted,
    read_sector,
    type_code,
)
from vsfs.fsck.restore import restore_directory, restore_root, restore_type
from vsfs.layout import (
    DIRECTORY_TYPE,
    FREE_INO,
    RECORD_HEADER_SIZE,
    ROOT_INO,
    SECTOR_SIZE,
    TYPE_NAMES,
    DirectoryRecord,
    InodeRecord,
    decode_inode,
    get_pointers,
    record_size,
)

RECORD = rule(
    301,
    "directory-record",
    "The records of a 512-byte sector of a directory fill it exactly.",
    "The records before and behind the broken one: they fit each other.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)
DOT_RECORDS = rule(
    302,
    "dot-records",
    "The first two records of a directory are `.`, itself, and `..`, its parent.",
    "The inode: the block is its own, so `.` can only be that inode.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)
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
#: Fields, of five, that tell a damaged `.` or `..` from another record.
_ALIKE: Final = 3


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
    there = list(_raw_blocks(check, decode_inode(check.inode_bytes(inode.ino)).pointers, set()))
    if set(inode.blocks) <= set(there):
        return
    inode.blocks = there
    for block_no in there:
        check.untouchable.update(
            (block_no, sector) for sector in range(0, check.geometry.block_size, SECTOR_SIZE)
        )


# -- the records -------------------------------------------------------------------


def _read(check: Check, inode: CheckedInode) -> list[Entry]:
    """All entries of a directory, its chains repaired; `.` and `..` come first."""
    if not inode.blocks:  # and it got none
        check.untouchable.add((0, 0))
        places = ((0, inode.ino, b"."), (DOT_SIZE, check.parent_of(inode.ino), b".."))
        return [Entry(0, offset, ino, DIRECTORY_TYPE, name) for offset, ino, name in places]
    gaps = _Gaps(check, inode)
    entries = _read_first_sector(check, inode, gaps)
    for index, block_no in enumerate(inode.blocks):
        for sector in range(0 if index else SECTOR_SIZE, check.geometry.block_size, SECTOR_SIZE):
            end = sector + SECTOR_SIZE
            found, gap = read_sector(check.overlay.block(block_no), sector, end, check.is_in_use)
            if gap is not None:
                gaps.note(block_no, found, gap)
            elif gaps.whole:
                gaps.flush()
            entries += _entries(block_no, found)
    gaps.flush()
    return entries


def _entries(block_no: int, found: list[DirectoryRecord]) -> Iterator[Entry]:
    return (
        Entry(block_no, record.offset, record.ino, record.file_type, record.name)
        for record in found
        if record.ino
    )


class _Gaps:
    """Rule 301, for one directory: broken records, told sector by sector.

    Sectors one after the other that hold no records at all (`whole`) are told
    together: some other file's block, or a wiped one.
    """

    def __init__(self, check: Check, inode: CheckedInode) -> None:
        self.check = check
        self.inode = inode
        self.whole: list[tuple[int, Gap]] = []

    def note(self, block_no: int, found: list[DirectoryRecord], gap: Gap) -> None:
        """A sector with a gap among its records `found`."""
        if not found and gap.end - gap.start == SECTOR_SIZE:
            self.whole.append((block_no, gap))
            return
        self.flush()
        before = [record.offset for record in found if record.offset < gap.start]
        self.report(block_no, gap, before[-1] if before else None)

    def report(self, block_no: int, gap: Gap, before: int | None) -> None:
        """One broken record, with the record at `before` ahead of it in its sector."""
        draft = Draft(self.check)
        length = gap.end - gap.start
        lost = None
        if gap.kept is not None:
            draft.put_length(block_no, gap.start, length)
            repair = f"set the length to {length}, up to the next sound record"
            if length == SECTOR_SIZE - gap.start % SECTOR_SIZE:
                repair = f"set the length to {length}, up to the end of the sector"
        else:
            if before is None:
                draft.put_length(block_no, gap.start, length)
                draft.put_ino(block_no, gap.start, FREE_INO)
            else:
                draft.put_length(block_no, before, gap.end - before)
            repair = f"make the {length} bytes from there on free space"
            content = self.check.overlay.block(block_no)[gap.start : gap.end]
            if any(content):  # zeroes were no name
                lost = f"the name {quoted(gap.lost)}" if gap.lost else "the names in these bytes"
        accepted = draft.report(
            RECORD,
            f"directory {self.check.named(self.inode.ino)} has a broken record: "
            f"{gap.found} as its length",
            found=self._evidence(block_no, gap),
            expected=self._expected(block_no, gap, before),
            repair=repair,
            lost=lost,
            ino=self.inode.ino,
        )
        if not accepted:
            self.check.untouchable.add((block_no, gap.start - gap.start % SECTOR_SIZE))

    def flush(self) -> None:
        """Tell of the sectors without any records."""
        if not self.whole:
            return
        draft = Draft(self.check)
        for block_no, gap in self.whole:
            draft.put_ino(block_no, gap.start, FREE_INO)
            draft.put_length(block_no, gap.start, SECTOR_SIZE)
        block_no, gap = self.whole[0]
        count = len(self.whole)
        accepted = draft.report(
            RECORD,
            f"directory {self.check.named(self.inode.ino)} has {counted(count, 'sector')} "
            "without a sound record",
            found=self._evidence(block_no, gap),
            expected=self._expected(block_no, gap, None),
            repair=f"make {'it' if count == 1 else 'them'} free space",
            lost="the names that were there",
            ino=self.inode.ino,
        )
        if not accepted:
            self.check.untouchable.update((number, gap.start) for number, gap in self.whole)
        self.whole = []

    def _evidence(self, block_no: int, gap: Gap) -> Evidence:
        what = f"directory inode {self.inode.ino}, record at {gap.start}, length"
        return Evidence(what, block_no, gap.at, gap.found)

    def _expected(self, block_no: int, gap: Gap, before: int | None) -> Evidence:
        """The record before or behind, whose chain the broken one interrupts."""
        if gap.end % SECTOR_SIZE:
            return Evidence("next sound record", block_no, gap.end, gap.expected)
        if before is not None:
            return Evidence("record before", block_no, before, gap.expected)
        return Evidence("sector", block_no, gap.start - gap.start % SECTOR_SIZE, gap.expected)


# -- `.` and `..` -------------------------------------------------------------------


def _read_first_sector(check: Check, inode: CheckedInode, gaps: _Gaps) -> list[Entry]:
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
        *_entries(block_no, found),
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
        f"directory {check.named(ino)} should have {printable(name)!r} at offset {offset} of its "
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
    return f"inode {found.ino}, length {found.length}, name {quoted(name)}"


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
            "",
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
        return tell(entry)._replace(repair=f"rename it to {quoted(new[id(entry)])}")

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
        target = check.inodes.get(entry.ino)
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
            f"{_where(check, inode, entry)} names inode {entry.ino}, which is free",
            entry_evidence(inode.ino, entry, "inode", entry.ino),
            _freedom(check, entry.ino),
            "remove it",
        ))  # fmt: skip
    return restored


def _is_wiped(check: Check, ino: int) -> bool:
    """Whether an inode was in use once, and has only zeroes now."""
    return bool(check.inode_bit(ino)) and not any(check.original_inode_bytes(ino))


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
        return _Told(
            f"{_where(check, inode, entry)} stands there twice, for inodes "
            f"{other.ino} and {entry.ino}",
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
        target, name = inodes.get(entry.ino), TYPE_NAMES.get(entry.file_type, "of no type")
        return _Told(
            f"{_where(check, inode, entry)} is {name} by its entry, and inode {entry.ino} is a "
            f"{TYPE_NAMES[right[id(entry)]]}",
            entry_evidence(inode.ino, entry, "file_type", entry.file_type),
            check.inode_evidence(
                entry.ino if target else inode.ino,
                "mode",
                f"{(target or inode).record.mode:#o}",
            ),
            f"set the type in the entry to {right[id(entry)]}",
        )

    _report_each(check, ENTRY_TYPE, inode, wrong, change, tell)
    for entry in wrong:
        entry.file_type = right[id(entry)]


# -- for pass 1 -------------------------------------------------------------------------


def named_types(check: Check) -> dict[int, set[int]]:
    """Inode -> the file types under which directories name it, as far as can be read.

    For pass 1, to know what an inode is that contradicts itself.  Reads all
    records with the type of a directory, and of their blocks each sector whose
    records are sound.  `.` and `..` are left out.
    """
    found: dict[int, set[int]] = {}
    seen: set[int] = set()
    for record in _directory_records(check):
        for block_no in _raw_blocks(check, record.pointers, seen):
            data = check.overlay.block(block_no)
            for sector in range(0, len(data), SECTOR_SIZE):
                _note_types(data, sector, found)
    return found


def _directory_records(check: Check) -> Iterator[InodeRecord]:
    """Every inode record that says directory and in use."""
    geometry = check.geometry
    for ino in range(ROOT_INO, geometry.inode_count):
        block_no, offset = geometry.inode_location(ino)
        record = decode_inode(check.overlay.block(block_no), offset)
        if record.nlink and stat.S_ISDIR(record.mode):
            yield record


def _note_types(data: bytes | bytearray, sector: int, found: dict[int, set[int]]) -> None:
    """Note the types in a sector, if all of it is sound."""
    entries, gap = read_sector(data, sector, sector + SECTOR_SIZE, lambda *_: True)
    if gap is not None or not all(is_legal(entry.name) for entry in entries if entry.ino):
        return
    for entry in entries:
        if entry.ino and entry.name not in DOTS and entry.file_type in TYPE_NAMES:
            found.setdefault(entry.ino, set()).add(entry.file_type)


def _raw_blocks(check: Check, pointers: tuple[int, ...], seen: set[int]) -> Iterator[int]:
    """The blocks of a file as they can be followed, in order; those in `seen` left out."""
    geometry = check.geometry
    levels = [0] * (len(pointers) - 3) + [1, 2, 3]
    stack = [*zip(levels, pointers, strict=True)][::-1]
    while stack:
        level, block_no = stack.pop()
        if block_no in seen or not geometry.is_data_block(block_no):
            continue
        seen.add(block_no)
        if not level:
            yield block_no
            continue
        below = get_pointers(check.overlay.block(block_no), 0, geometry.pointers_per_block)
        stack += [(level - 1, pointer) for pointer in reversed(below) if pointer]
