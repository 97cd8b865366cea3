"""Checking and repairing an image (OSTEP 42.2, e2fsck's passes).

The usual sequence::

    report = check(device, decide=lambda finding: finding.rule.is_safe)
    for finding in report.findings: print(finding.text)
    report.write(device)              # until here the image is as it was

:func:`check` runs the passes in this order, each on what the ones before have
repaired in memory:

====  =================  ====================================================
 0    ``superblock``     magic, version, geometry, the image's size
 0    ``journal``        a transaction that waits is installed
 1    ``inodes``         each inode by itself: type, size, pointers
 1    ``sharing``        blocks that two inodes claim
 2    ``directories``    records, names, ``.``, what each entry names
 3    ``tree``           one parent for each directory; what nobody names
 4    ``links``          link counts
 5    ``bitmaps``        both bitmaps
 5    ``state``          free counts, and whether all is well
====  =================  ====================================================

Nothing read from the image is trusted, and nothing makes the check run for
longer than the image is large: an indirect block is followed once, a directory
entered once, a copy made only while there are free blocks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from vsfs.device import BlockDevice
from vsfs.fsck.bitmaps import check_bitmaps
from vsfs.fsck.context import Check, Decide
from vsfs.fsck.directories import check_directories
from vsfs.fsck.findings import Edit, Evidence, Finding, Rule, all_rules
from vsfs.fsck.inodes import check_inodes
from vsfs.fsck.journal import check_journal, replay_journal
from vsfs.fsck.links import check_links
from vsfs.fsck.overlay import Overlay
from vsfs.fsck.sharing import check_sharing
from vsfs.fsck.state import check_state
from vsfs.fsck.superblock import check_superblock
from vsfs.fsck.tree import check_tree
from vsfs.fsck.write import write_edits
from vsfs.layout import JOURNAL_INO, Geometry, Superblock

__all__ = [
    "Edit",
    "Evidence",
    "Finding",
    "Report",
    "Rule",
    "all_rules",
    "check",
    "repair_all",
    "repair_safe",
]


def repair_all(_finding: Finding) -> bool:
    """Decide for every repair, as ``-y`` does."""
    return True


def repair_safe(finding: Finding) -> bool:
    """Decide for the repairs that need no question, as ``-p`` and a mount do."""
    return finding.rule.is_safe


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found, and the repairs that were decided for.

    `inodes` and `blocks` count those in use after the repairs, reserved inodes
    not included.
    """

    findings: tuple[Finding, ...]
    superblock: Superblock
    edits: tuple[Edit, ...]
    inodes: int
    directories: int
    blocks: int

    @property
    def geometry(self) -> Geometry:
        """Where everything is, by the superblock as repaired."""
        return self.superblock.geometry

    @property
    def left(self) -> tuple[Finding, ...]:
        """The findings whose repair was declined."""
        return tuple(finding for finding in self.findings if not finding.is_repaired)

    def write(self, device: BlockDevice) -> None:
        """Write the accepted repairs to `device`; durable at return.

        In an order in which a crash at any point leaves an image that a further
        check can repair.  Raises OSError (EIO) as the device does.
        """
        write_edits(device, self.geometry, self.edits)


def check(device: BlockDevice, *, decide: Decide = repair_all, now_ns: int | None = None) -> Report:
    """Check the image on `device`, which is only read.

    `decide` is asked for each finding in turn whether to repair it.  Raises
    NotVsfs (EINVAL) if no filesystem can be found in the image, UnknownFeature
    (EOPNOTSUPP) if it needs a newer version, Corrupt (EUCLEAN) if too little of
    it is left or a repair was declined without which no check is possible, and
    OSError (EIO) if the image cannot be read.
    """
    overlay = Overlay(device)
    now_ns = time.time_ns() if now_ns is None else now_ns
    state = check_superblock(overlay, decide, now_ns)
    replay_journal(state)
    claims = check_inodes(state)
    check_sharing(state, claims)
    check_journal(state)
    for run in (check_directories, check_tree, check_links, check_bitmaps, check_state):
        run(state)
    return _report(state)


def _report(state: Check) -> Report:
    return Report(
        findings=tuple(state.findings),
        superblock=state.superblock,
        edits=tuple(state.overlay.edits),
        inodes=len(state.inodes.keys() - {JOURNAL_INO}),
        directories=sum(inode.is_directory for inode in state.inodes.values()),
        blocks=state.blocks.used,
    )
