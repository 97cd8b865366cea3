"""What one run of fsck.vsfs came to, before anybody puts it into words or JSON."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vsfs.layout import RESERVED_INODES, Geometry, Superblock

if TYPE_CHECKING:
    from vsfs.fsck import Finding, Report

_UNCOUNTED_INODES: Final = RESERVED_INODES - 1  # 0 and 1; the root counts as any other

#: Rules that a mounted image breaks rightly: it is in use, and so are deleted files
#: that are open, with their blocks.
_BROKEN_WHILE_MOUNTED: Final = frozenset(("not-cleanly-unmounted", "orphan", "data-bit-stale"))


class Status(enum.IntFlag):
    """Exit statuses of fsck(8); several may apply, and are then added."""

    CLEAN = 0
    REPAIRED = 1
    LEFT = 4
    FAILED = 8
    USAGE = 16
    CANCELLED = 32


class Mode(enum.Enum):
    """Who decides about the repairs; the value is the option."""

    SHOW = "-n"
    SAFE = "-p"
    ALL = "-y"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Usage:
    """Inodes and data blocks in use, of how many; reserved inodes are in use."""

    inodes: int
    inode_count: int
    blocks: int
    block_count: int

    def __str__(self) -> str:
        return f"{self.inodes}/{self.inode_count} inodes, {self.blocks}/{self.block_count} blocks"


@dataclass(slots=True)
class Outcome:
    """The findings of one run, and what became of them.

    `report` is None if nothing was checked: because the superblock in `skipped`
    says clean, or because of `error`.  `error` with a report is a failure to
    write.  `is_begun` and `is_written` are about the repairs, all of them together.
    `mounted` is where the image is mounted; it was then only read.
    """

    image: str
    mode: Mode
    findings: tuple[Finding, ...] = ()
    report: Report | None = None
    skipped: Superblock | None = None
    error: OSError | None = None
    is_begun: bool = False
    is_written: bool = False
    mounted: list[str] = field(default_factory=list)

    def set_report(self, report: Report) -> None:
        """The check came to its end; what is right in a mounted image is no finding."""
        self.report, self.findings = report, report.findings
        if self.mounted:
            self.findings = tuple(
                finding
                for finding in report.findings
                if finding.rule.name not in _BROKEN_WHILE_MOUNTED
            )

    def is_repaired(self, finding: Finding) -> bool:
        """Whether its repair is on the image now."""
        return self.is_written and finding.is_repaired

    @property
    def repaired(self) -> int:
        """How many problems were repaired."""
        return sum(map(self.is_repaired, self.findings))

    @property
    def first_declined(self) -> Finding | None:
        """The first problem whose repair was not wanted, or is not possible."""
        return next((finding for finding in self.findings if not finding.is_repaired), None)

    @property
    def status(self) -> Status:
        """The exit status."""
        status = Status.CLEAN
        if self.repaired:
            status |= Status.REPAIRED
        if self.repaired < len(self.findings):
            status |= Status.LEFT
        if self.error is not None and not self.is_declined:
            status |= Status.FAILED
        return status

    @property
    def is_declined(self) -> bool:
        """Whether the check ended early because a repair was not wanted."""
        return self.report is None and self.first_declined is not None

    @property
    def geometry(self) -> Geometry | None:
        """Where everything is, if that is known."""
        superblock = self.skipped if self.report is None else self.report.superblock
        return None if superblock is None else superblock.geometry

    @property
    def usage(self) -> Usage | None:
        """What is in use: as counted, or without a check as the superblock says."""
        if self.report is not None:
            inodes, blocks = self.report.inodes + _UNCOUNTED_INODES, self.report.blocks
            geometry = self.report.geometry
        elif self.skipped is not None:
            geometry = self.skipped.geometry
            inodes = geometry.inode_count - self.skipped.free_inode_count
            blocks = geometry.data_blocks - self.skipped.free_block_count
        else:
            return None
        return Usage(inodes, geometry.inode_count, blocks, geometry.data_blocks)
