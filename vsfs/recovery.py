"""Recovery: what a mount does first with an image that was not cleanly unmounted.

It is checked, and what a crash leaves is repaired, as ``fsck.vsfs -p`` does
(OSTEP 42.2); a file without names that was still open then is freed.  Damage that
no crash explains is for a person to decide about: the mount is refused.

Only a mount that needs it loads this module.
"""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from typing import Final

from vsfs.device import BlockDevice
from vsfs.errors import NeedsCheck, VsfsError
from vsfs.fsck import Finding, check, repair_safe
from vsfs.words import counted

log = logging.getLogger("vsfs")

#: Hundreds of a rule's number -> what was wrong, for one line of a log.
_KINDS: Final = {
    1: "in the superblock",
    2: "in inodes",
    3: "in directories",
    4: "in the tree",
    5: "in link counts",
    6: "in bitmaps",
}


def recover(device: BlockDevice, now_ns: int) -> None:
    """Repair on `device` what a crash leaves; log what was done in one line.

    Everything is durable at return.  Raises NeedsCheck (EUCLEAN), with nothing
    written, if something is wrong that a crash does not leave, and OSError (EIO)
    as the device does.
    """
    image = name_of(device)
    unsafe: list[Finding] = []

    def decide(finding: Finding) -> bool:
        if not repair_safe(finding):
            unsafe.append(finding)
        return repair_safe(finding)

    try:
        report = check(device, decide=decide, now_ns=now_ns)
    except VsfsError as error:
        raise _refusal(image, unsafe[0].problem if unsafe else str(error)) from error
    if report.left:
        raise _refusal(image, report.left[0].problem)
    report.write(device)
    log.warning("%s was not cleanly unmounted: %s", image, _summary(report.findings))


def name_of(device: BlockDevice) -> str:
    """The image's path, for messages."""
    path = getattr(device, "path", None)
    return path if isinstance(path, str) else "the image"


def _refusal(image: str, problem: str) -> NeedsCheck:
    where = shlex.quote(image) if image != "the image" else "IMAGE"
    return NeedsCheck(f"{image} was not cleanly unmounted, and {problem}; run: fsck.vsfs {where}")


def _summary(findings: tuple[Finding, ...]) -> str:
    """What was repaired, counted.

    That it was not cleanly unmounted (rules 7xx) is no problem of its own.
    """
    kinds = Counter(_KINDS.get(finding.rule.number // 100) for finding in findings)
    del kinds[None]
    number = kinds.total()
    if not number:
        return "nothing had to be repaired"
    parts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"repaired {counted(number, 'problem')} ({parts})"
