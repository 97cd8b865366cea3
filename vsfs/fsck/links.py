"""Pass 4: link counts (OSTEP 39.14 and 42.2).

Relies on pass 3: every inode in use is reached, and ``check.entries`` is all there
is.  An inode's link count only repeats how many entries name it, so the entries
are right.  A directory is named by its entry, by its own `.` and by `..` of each
directory in it; the root by its `.` and `..`, and by the same `..`.
"""

from __future__ import annotations

from vsfs.fsck.context import Check, CheckedInode, Entry
from vsfs.fsck.findings import Evidence, quoted, rule
from vsfs.layout import JOURNAL_INO, LINK_MAX, ROOT_INO
from vsfs.words import counted

LINKS = rule(
    501,
    "link-count",
    "An inode's link count is the number of entries that name it.",
    "The entries: the count only repeats what they say.",
    "OSTEP 39.14 Hard Links",
    is_safe=True,
)


def check_links(check: Check) -> None:
    """Compare each inode's link count with the entries that name it."""
    counts, first = _count(check)
    for ino, inode in sorted(check.inodes.items()):
        # as if it had got a name; the journal counts as named
        count = counts[ino] + (ino in check.adrift or ino == JOURNAL_INO)
        if inode.record.nlink != count:
            _report(check, inode, count, first.get(ino))


def _count(check: Check) -> tuple[dict[int, int], dict[int, tuple[int, Entry]]]:
    """Links of each inode in use, and where each is named first: directory and entry."""
    inodes = check.inodes
    counts = dict.fromkeys(inodes, 0)
    first: dict[int, tuple[int, Entry]] = {}
    for directory, entries in check.entries.items():
        counts[directory] += 2 if directory == ROOT_INO else 1  # its `.`; the root's `..`, too
        for entry in entries[2:]:
            counts[entry.ino] += 1
            first.setdefault(entry.ino, (directory, entry))
            if inodes[entry.ino].is_directory:
                counts[directory] += 1  # its `..`
    return counts, first


def _report(check: Check, inode: CheckedInode, count: int, first: tuple[int, Entry] | None) -> None:
    """Rule 501."""
    ino, nlink = inode.ino, inode.record.nlink
    also = f", more than the {LINK_MAX} that VSFS makes" if count > LINK_MAX else ""
    names = "name" if count != 1 else "names"
    check.update(
        LINKS,
        inode,
        f"{check.named(ino)} has a link count of {nlink}, "
        f"but {counted(count, 'entry')} {names} it{also}",
        found=check.inode_evidence(ino, "nlink", nlink),
        expected=_entries_evidence(check, inode, count, first),
        repair=f"set the count to {count}",
        nlink=count,
    )


def _entries_evidence(
    check: Check, inode: CheckedInode, count: int, first: tuple[int, Entry] | None
) -> Evidence:
    """The entries that name an inode, with the place of the first."""
    if first is None:  # the root, or what got no name
        first = inode.ino, check.entries.get(inode.ino, check.entries[ROOT_INO])[0]
    directory, entry = first
    what = f"directory inode {directory}, entry {quoted(entry.name)}"
    value = counted(count, "entry")
    if inode.is_directory:
        value += ", with `.` and each `..`"
    return Evidence(what, entry.block_no, entry.offset, value)
