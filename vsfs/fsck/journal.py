"""The journal: replayed before anything else is looked at, and checked itself.

A committed transaction that waits in the log belongs to the filesystem: without
it, the other passes would judge a state that was never meant to be seen
(OSTEP 42.3).  So it is installed first, in memory like every repair.  Whether
inode 1 is a journal at all is known after pass 1, and checked then, the flag with it.
"""

from __future__ import annotations

import contextlib

from vsfs.device import Kind
from vsfs.errors import Corrupt
from vsfs.fsck.context import Change, Check
from vsfs.fsck.findings import Evidence, rule
from vsfs.fsck.inodes import restore_byte
from vsfs.fsck.pointers import all_arrays
from vsfs.journal import Journal, Waiting, journal_blocks
from vsfs.layout import (
    FEATURE_COMPAT_JOURNAL,
    FEATURE_INCOMPAT_RECOVER,
    INODE_SIZE,
    JOURNAL_INO,
    STATE_CLEAN,
    JournalHeader,
    encode_journal,
)
from vsfs.words import counted

_TAUGHT = "OSTEP 42.3 Journaling (or Write-Ahead Logging)"

REPLAY = rule(
    711,
    "journal-replay",
    "No committed transaction waits in the journal of a clean filesystem.",
    "The journal: its header has a right checksum, so the transaction is whole.",
    _TAUGHT,
    is_safe=True,
)
HEADER = rule(
    712,
    "journal-header",
    "A journal begins with a header that names blocks of the filesystem, or none and has the "
    "checksum of that.",
    "The filesystem as it is: what such a header says cannot be followed.",
    _TAUGHT,
    is_safe=False,
)
NO_JOURNAL = rule(
    713,
    "journal-inode",
    "Inode 1 is a file of whole blocks when the superblock says that there is a journal.",
    "Inode 1: what is not there cannot be used. tune.vsfs -j makes a new one.",
    _TAUGHT,
    is_safe=False,
)
RECOVER = rule(
    714,
    "journal-flag",
    "The flag that a journal is to be replayed is set only where there is one, in a filesystem "
    "that is mounted or was not cleanly unmounted.",
    "The other flag, and the state: at an unmount both change at once.",
    _TAUGHT,
    is_safe=False,
)


def replay_journal(check: Check) -> None:
    """Install what waits in the journal; the superblock may be another one then.

    A header that cannot be followed is left to :func:`check_journal`: it may be the
    block of a file to which a damaged inode 1 leads.
    """
    if not check.has_journal:
        return
    restore_byte(check, JOURNAL_INO)
    journal = _find(check)
    if journal is None:
        return
    try:
        waiting = _waiting(check, journal)
    except Corrupt:
        return
    if waiting is not None:
        _replay(check, journal, waiting)


def _check_flag(check: Check) -> None:
    """Rule 714, with the superblock as a replay and a repair of inode 1 leave it."""
    superblock = check.superblock
    if not superblock.feature_incompat & FEATURE_INCOMPAT_RECOVER:
        return
    if not check.has_journal:
        _report_flag(check, "there is none", "feature_compat", "no journal")
    elif superblock.state == STATE_CLEAN and not _is_replay_declined(check):
        _report_flag(check, "the filesystem was cleanly unmounted", "state", "1 (clean)")


def _is_replay_declined(check: Check) -> bool:
    """Whether a transaction is left in the journal, for which the flag is needed."""
    return any(finding.rule is REPLAY and not finding.is_repaired for finding in check.findings)


def _waiting(check: Check, journal: Journal) -> Waiting | None:
    """The transaction to replay; raises Corrupt for a header that no crash leaves.

    Without the flag nothing is replayed, and its block numbers may be old ones.  A
    wrong checksum with blocks is what a torn write leaves.  Without them the header is
    in one sector, and a transaction may be lost if its count was made 0.
    """
    header = journal.header()
    if not header.block_numbers and journal.log(header) is None:
        raise Corrupt(
            "journal header",
            journal.blocks[0],
            16,
            f"no blocks, and the checksum {header.checksum:#010x}",
            "a checksum that fits",
        )
    return (
        journal.waiting() if check.superblock.feature_incompat & FEATURE_INCOMPAT_RECOVER else None
    )


def _find(check: Check) -> Journal | None:
    """The journal, if it can be followed.

    Of a damaged inode 1 only if a whole transaction is where it points to: then it
    surely is one.
    """
    with contextlib.suppress(Corrupt):
        return Journal(check.overlay, check.geometry)
    with contextlib.suppress(Corrupt):
        journal = Journal(check.overlay, check.geometry, check=False)
        if journal.waiting() is not None:
            return journal
    return None


def check_journal(check: Check) -> None:
    """Rules 712 to 714, when inode 1 is repaired and no block is another file's."""
    if check.has_journal:
        _check_inode(check)
    _check_flag(check)


def _check_inode(check: Check) -> None:
    """Rule 713, and 712 where it holds."""
    inode = check.inodes.get(JOURNAL_INO)
    try:
        if inode is not None:
            journal_blocks(inode.record, check.geometry, check.overlay.block)
            _check_header(check)
            return
        found = check.inode_evidence(JOURNAL_INO, "nlink", 0)
        problem = "it is not in use"
    except Corrupt as error:
        found = Evidence("inode 1", error.block, error.offset, error.found)
        problem = f"it has {error.found} instead of {error.expected}"
    flags = check.superblock.feature_compat
    block_no, offset = check.geometry.inode_location(JOURNAL_INO)
    check.report(
        NO_JOURNAL,
        f"the superblock says that inode 1 holds a journal, but {problem}",
        found=found,
        expected=check.superblock_evidence("feature_compat", f"{flags:#x}"),
        repair="go on without a journal",
        changes=[
            Change(block_no, offset, bytes(INODE_SIZE), Kind.INODE_TABLE),
            *check.superblock_changes(
                feature_compat=flags & ~FEATURE_COMPAT_JOURNAL,
                feature_incompat=check.superblock.feature_incompat & ~FEATURE_INCOMPAT_RECOVER,
            ),
        ],
        lost="the transaction that waited in it, if one did",
    )
    check.superblock = check.stored_superblock()
    if inode is not None:
        del check.inodes[JOURNAL_INO]
        for array in all_arrays(check, inode, set()):
            for block_no in filter(None, array.values):
                check.release_block(block_no)


def _check_header(check: Check) -> None:
    """Rule 712."""
    journal = Journal(check.overlay, check.geometry, check=False)
    try:
        _waiting(check, journal)
    except Corrupt as error:
        _report_header(check, journal, error)


def _report_flag(check: Check, but: str, field: str, value: str) -> None:
    flags = check.superblock.feature_incompat
    check.report(
        RECOVER,
        f"the superblock says that a journal is to be replayed, but also that {but}",
        found=check.superblock_evidence("feature_incompat", f"{flags:#x}"),
        expected=check.superblock_evidence(field, value),
        repair="clear the flag",
        changes=check.superblock_changes(feature_incompat=flags & ~FEATURE_INCOMPAT_RECOVER),
    )
    check.superblock = check.stored_superblock()


def _report_header(check: Check, journal: Journal, error: Corrupt) -> None:
    header = encode_journal(JournalHeader(0, ()), [])
    structure = f"the {error.structure.removeprefix('the ')}"
    check.report(
        HEADER,
        f"{structure} is damaged: it has {error.found}, and should have {error.expected}",
        found=Evidence(error.structure, error.block, error.offset, error.found),
        expected=check.inode_evidence(
            JOURNAL_INO, "direct", f"the header in block {journal.blocks[0]}"
        ),
        repair="write an empty header",
        # written behind the inodes, of which one may have to give this block up first; of
        # the kind JOURNAL only a replay is, which comes before all else
        changes=[Change(journal.blocks[0], 0, header, Kind.DIRECTORY)],
        lost="the transaction that waited in it, if one did",
    )


def _replay(check: Check, journal: Journal, waiting: Waiting) -> None:
    """Rule 711."""
    header = encode_journal(JournalHeader(waiting.sequence, ()), [])
    count = counted(len(waiting.blocks), "block")
    size = check.geometry.block_size
    check.report(
        REPLAY,
        f"transaction {waiting.sequence} was committed, and its {count} may not be in their places",
        found=Evidence("journal header", journal.blocks[0], 4, str(len(waiting.blocks))),
        expected=check.superblock_evidence("feature_incompat", "a journal to be replayed"),
        repair=f"install the {count} from the journal",
        changes=[
            *(
                Change(block_no, 0, content[:size], _kind(check, block_no))
                for block_no, content in waiting.blocks
            ),
            Change(journal.blocks[0], 0, header, Kind.JOURNAL),
        ],
    )
    check.superblock = check.stored_superblock()


def _kind(check: Check, block_no: int) -> Kind:
    """What a block holds, by its region; of data blocks it does not matter."""
    kinds = (Kind.SUPERBLOCK, Kind.INODE_BITMAP, Kind.DATA_BITMAP, Kind.INODE_TABLE, Kind.DIRECTORY)
    region = check.geometry.region_of(block_no)
    return kinds[check.geometry.regions.index(region)]
