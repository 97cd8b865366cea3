"""Pass 3: one tree, and everything in it (OSTEP 42.2).

Relies on pass 2: ``check.entries`` has the entries of all directories, and each
names an inode in use.  Afterwards each directory has one parent, which its `..`
names, and each inode in use has a name that is reached from the root.

A directory's parent is the one that its `..` names, if that is among those that
have an entry for it and is reached from the root; so what a rename that was cut
off leaves, a directory in two places, ends in one of them.  All other entries for
it are removed.  Whatever is not reached gets a name in /lost+found.
"""

from __future__ import annotations

import itertools
import stat
from collections import deque

from vsfs.fsck.context import Check, CheckedInode, Entry
from vsfs.fsck.findings import Evidence, quoted, rule
from vsfs.fsck.lost_found import LostFound
from vsfs.fsck.records import Draft, entry_evidence
from vsfs.layout import JOURNAL_INO, ROOT_INO, type_name
from vsfs.words import counted

ONE_PARENT = rule(
    401,
    "one-parent",
    "A directory has one entry in one parent.",
    "The parent that its `..` names, or else the one by which it is first reached.",
    "OSTEP 39.14 Hard Links",
    is_safe=True,
)
ROOT_ENTRY = rule(
    402,
    "entry-for-root",
    "No entry but `.` and `..` names the root directory.",
    "The format: the root is below nothing.",
    "OSTEP 39.1 Files And Directories",
    is_safe=False,
)
PARENT = rule(
    403,
    "parent-entry",
    "`..` of a directory names the directory that has an entry for it.",
    "The entry in the parent: by it the directory was reached.",
    "OSTEP 39.12 Reading Directories",
    is_safe=True,
)
CYCLE = rule(
    404,
    "directory-cycle",
    "No directory is below itself.",
    "None of them: the one with the lowest number is taken out and becomes the topmost.",
    "OSTEP 42.2 FSCK",
    is_safe=False,
)
UNREACHED = rule(
    405,
    "unreached-inode",
    "Each inode in use has a name that is reached from the root.",
    "The inode: it has links and contents, which may be a file that somebody wants.",
    "OSTEP 42.2 FSCK",
    is_safe=True,
)
EMPTY_FILE = rule(
    406,
    "unreached-empty-file",
    "Each inode in use has a name that is reached from the root.",
    "The directories: nothing is lost with an empty file that nobody can open.",
    "OSTEP 42.2 FSCK",
    is_safe=True,
)


def check_tree(check: Check) -> None:
    """Make one tree of all directories, and give every inode in use a name."""
    tree = _Tree(check)
    reached = tree.grow(ROOT_INO)
    heads = _find_heads(tree)
    _remove_second_names(check, tree)
    _check_parents(check, tree)
    nameless = _find_nameless(check)
    for inode in nameless:
        if _is_empty_file(inode):
            _free(check, inode)
    lost_found = LostFound(check, reached)
    for head, below in heads.items():
        if _attach_directory(check, tree, lost_found, head):
            lost_found.add_places(below)
    for inode in nameless:
        if not _is_empty_file(inode):
            _attach_file(check, lost_found, inode)


class _Tree:
    """Which entry holds each directory, as it is found out from the root on.

    `subdirectories` are a directory's entries that name directories.  `chosen` is
    the entry by which a directory was reached, `parents` in which directory that is.
    """

    def __init__(self, check: Check) -> None:
        self.check = check
        inodes = check.inodes
        self.subdirectories: dict[int, list[Entry]] = {
            ino: [entry for entry in entries[2:] if inodes[entry.ino].is_directory]
            for ino, entries in check.entries.items()
        }
        #: Directories that have an entry in the directory which their `..` names.
        self._agreed = {
            entry.ino
            for ino, entries in self.subdirectories.items()
            for entry in entries
            if self.dotdot(entry.ino) == ino
        }
        self.parents: dict[int, int] = {}
        self.chosen: dict[int, Entry] = {}
        #: Head of a cycle -> the directory in the cycle that names it, and how: these
        #: entries go when the head gets a new name.
        self.closing: dict[int, tuple[int, list[Entry]]] = {}

    def dotdot(self, ino: int) -> int:
        """The inode that `..` of a directory names."""
        return self.check.entries[ino][1].ino

    def grow(self, head: int) -> list[int]:
        """Reach all that is below `head`, a directory without a parent so far; it and those.

        Entries that `..` agrees with are followed first.  Of the others, those for
        directories that agree with no entry at all come next; the rest only when
        nothing else leads on.
        """
        before = len(self.parents)
        self.parents[head] = head
        fresh, later, last = deque([head]), deque[tuple[int, Entry]](), deque[tuple[int, Entry]]()
        while fresh or later or last:
            if not fresh:
                parent, entry = (later or last).popleft()
                self._reach(parent, entry, fresh)
                continue
            parent = fresh.popleft()
            for entry in self.subdirectories[parent]:
                if self.dotdot(entry.ino) == parent:
                    self._reach(parent, entry, fresh)
                elif entry.ino not in self.parents:
                    (last if entry.ino in self._agreed else later).append((parent, entry))
        count = len(self.parents) - before
        return list(itertools.islice(reversed(self.parents), count))[::-1]

    def _reach(self, parent: int, entry: Entry, fresh: deque[int]) -> None:
        if entry.ino not in self.parents:
            self.parents[entry.ino] = parent
            self.chosen[entry.ino] = entry
            fresh.append(entry.ino)


# -- one parent for each directory --------------------------------------------------------


def _find_heads(tree: _Tree) -> dict[int, list[int]]:
    """The topmost of the directories that the root does not reach, each with all below it.

    First those that no directory names.  What then remains is below a cycle, in
    which the lowest number is made the topmost.
    """
    unreached = [ino for ino in sorted(tree.subdirectories) if ino not in tree.parents]
    holder: dict[int, int] = {}  # unreached directory -> one that names it
    for ino in unreached:
        for entry in tree.subdirectories[ino]:
            holder.setdefault(entry.ino, ino)
    heads = {ino: tree.grow(ino) for ino in unreached if ino not in holder}
    for ino in unreached:
        if ino in tree.parents:
            continue
        head = min(_cycle_above(ino, holder))
        above = holder[head]
        entries = [entry for entry in tree.subdirectories[above] if entry.ino == head]
        tree.closing[head] = above, entries
        heads[head] = tree.grow(head)
    return heads


def _cycle_above(ino: int, holder: dict[int, int]) -> list[int]:
    """The directories in a circle that one comes to from `ino` by going up."""
    seen: dict[int, None] = {}
    while ino not in seen:
        seen[ino] = None
        ino = holder[ino]
    path = list(seen)
    return path[path.index(ino) :]


def _remove_second_names(check: Check, tree: _Tree) -> None:
    """Rules 401 and 402: entries for directories that are held by another one."""
    closing = {id(entry) for _, entries in tree.closing.values() for entry in entries}
    for ino, entries in tree.subdirectories.items():
        gone = []
        for entry in entries:
            if tree.chosen.get(entry.ino) is entry or id(entry) in closing:
                continue
            gone.append(entry)
            _remove_second_name(check, tree, ino, entry)
        if gone:
            _forget(check, ino, gone)


def _remove_second_name(check: Check, tree: _Tree, ino: int, entry: Entry) -> None:
    where = f"{quoted(entry.name)} in directory {check.named(ino)}"
    found = entry_evidence(ino, entry, "inode", entry.ino)
    draft = Draft(check)
    draft.remove(entry)
    if entry.ino == ROOT_INO:
        root = check.entries[ROOT_INO][1]
        draft.report(
            ROOT_ENTRY,
            f"{where} names inode 2, the root directory",
            found=found,
            expected=entry_evidence(ROOT_INO, root, "inode", root.ino),
            repair="remove it",
            ino=ino,
        )
        return
    other, parent = tree.chosen.get(entry.ino), tree.parents[entry.ino]
    if other is None:  # a head, to be named in /lost+found
        expected = check.inode_evidence(entry.ino, "nlink", "one name")
        holder = "lost+found"
    else:
        expected = entry_evidence(parent, other, "inode", other.ino)
        holder = check.named(parent)
    draft.report(
        ONE_PARENT,
        f"{where} names directory inode {entry.ino}, which is {quoted(other.name)} in "
        f"{holder} already"
        if other is not None
        else f"{where} names directory inode {entry.ino}, which is above it",
        found=found,
        expected=expected,
        repair="remove it",
        ino=ino,
    )


def _forget(check: Check, ino: int, gone: list[Entry]) -> None:
    """Take entries out of what is known of a directory."""
    ids = {id(entry) for entry in gone}
    check.entries[ino] = [entry for entry in check.entries[ino] if id(entry) not in ids]


def _check_parents(check: Check, tree: _Tree) -> None:
    """Rule 403: `..` of every directory that has a parent."""
    for ino, parent in tree.parents.items():
        dotdot = check.entries[ino][1]
        if dotdot.ino == parent or (parent == ino and ino != ROOT_INO):
            continue  # heads get theirs with their name
        if ino == ROOT_INO:
            expected = check.superblock_evidence("inode_table_start", "the root is inode 2")
        else:
            entry = tree.chosen[ino]
            expected = entry_evidence(parent, entry, "inode", entry.ino)
        draft = Draft(check)
        draft.put_ino(dotdot.block_no, dotdot.offset, parent)
        right = f"the directory with an entry for it is {check.named(parent)}"
        if ino == ROOT_INO:
            right = "nothing is above the root, whose `..` is the root itself"
        draft.report(
            PARENT,
            f"`..` of directory {check.named(ino)} names inode {dotdot.ino}, but {right}",
            found=entry_evidence(ino, dotdot, "inode", dotdot.ino),
            expected=expected,
            repair=f"let it name inode {parent}",
            ino=ino,
        )
        dotdot.ino = parent


# -- names for the nameless ------------------------------------------------------------------


def _find_nameless(check: Check) -> list[CheckedInode]:
    """Inodes in use, no directories, that no entry names."""
    named = {entry.ino for entries in check.entries.values() for entry in entries[2:]}
    return [
        inode
        for ino, inode in sorted(check.inodes.items())
        if ino not in named and not inode.is_directory and ino != JOURNAL_INO
    ]


def _is_empty_file(inode: CheckedInode) -> bool:
    """Whether it is a regular file with nothing in it, attributes included."""
    record = inode.record
    is_owner = record.blocks or record.attribute_block or any(record.pointers)
    return stat.S_ISREG(record.mode) and not record.size and not is_owner


def _no_entry(check: Check) -> Evidence:
    """All directories, as evidence that none names an inode."""
    root = check.entries[ROOT_INO][0]
    return Evidence("all directories from the root on", root.block_no, 0, "no entry")


def _free(check: Check, inode: CheckedInode) -> None:
    """Rule 406."""
    check.update(
        EMPTY_FILE,
        inode,
        f"inode {inode.ino} is in use (an empty regular file), but no entry names it",
        found=check.inode_evidence(inode.ino, "nlink", inode.record.nlink),
        expected=_no_entry(check),
        repair="free it",
        nlink=0,
    )
    del check.inodes[inode.ino]


def _attach_file(check: Check, lost_found: LostFound, inode: CheckedInode) -> None:
    """Rule 405 for what is no directory."""
    lost_found.attach(
        UNREACHED,
        inode,
        _nameless_in_words(inode),
        check.inode_evidence(inode.ino, "nlink", inode.record.nlink),
        _no_entry(check),
    )


def _nameless_in_words(inode: CheckedInode) -> str:
    kind, blocks = type_name(inode.record.mode), counted(inode.record.blocks, "block")
    return f"inode {inode.ino} is in use ({kind}, {blocks}), but no entry names it"


def _attach_directory(check: Check, tree: _Tree, lost_found: LostFound, head: int) -> bool:
    """Rules 404 and 405 for a directory, and with it all that is below; whether it was done."""
    inode = check.inodes[head]
    if head not in tree.closing:
        return lost_found.attach(
            UNREACHED,
            inode,
            _nameless_in_words(inode),
            check.inode_evidence(head, "nlink", inode.record.nlink),
            _no_entry(check),
        )
    above, closing = tree.closing[head]
    is_attached = lost_found.attach(
        CYCLE,
        inode,
        f"directory inode {head} is below itself: directory inode {above} names it "
        f"{quoted(closing[0].name)}, and the root leads to neither",
        entry_evidence(above, closing[0], "inode", head),
        _no_entry(check),
        cut=tuple(closing),
    )
    _forget(check, above, closing)
    return is_attached
