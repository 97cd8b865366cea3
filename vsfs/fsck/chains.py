"""Pass 2: chains of records that are broken (OSTEP 40.4).

The records of a directory fill each 512-byte sector exactly.  Where they don't, the
records before and behind the broken one are kept, and what cannot be one becomes
free space.
"""

from __future__ import annotations

from collections.abc import Iterator

from vsfs.fsck.context import Check, CheckedInode, Entry
from vsfs.fsck.findings import Evidence, quoted, rule
from vsfs.fsck.records import Draft, Gap
from vsfs.layout import FREE_INO, SECTOR_SIZE, DirectoryRecord
from vsfs.words import counted

RECORD = rule(
    301,
    "directory-record",
    "The records of a 512-byte sector of a directory fill it exactly.",
    "The records before and behind the broken one: they fit each other.",
    "OSTEP 40.4 Directory Organization",
    is_safe=False,
)


def entries_in(block_no: int, found: list[DirectoryRecord]) -> Iterator[Entry]:
    """The entries among the records of a sector; the others are free."""
    return (
        Entry(block_no, record.offset, record.ino, record.file_type, record.name)
        for record in found
        if record.ino
    )


class Gaps:
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
