"""The images in images/broken/, and what a check says about one, as text."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vsfs.device import MemoryDevice
from vsfs.errors import VsfsError
from vsfs.fsck import Report, check

BROKEN: Final = Path(__file__).parents[2] / "images" / "broken"
NOW_NS: Final = 1_800_000_000 * 10**9


@dataclass(frozen=True)
class Broken:
    """A broken image of the list; `expected` is what the checks should say."""

    name: str
    description: str
    base: str
    kind: str
    expected: str

    @property
    def data(self) -> bytes:
        return unpacked(self.name)


def unpacked(name: str) -> bytes:
    """The bytes of images/broken/NAME.img.gz."""
    return gzip.decompress((BROKEN / f"{name}.img.gz").read_bytes())


def broken_images() -> list[Broken]:
    """All of them, by name."""
    found = []
    for path in sorted(BROKEN.glob("*.txt")):
        head, _, expected = path.read_text().partition("\n\n")
        description, made = head.splitlines()
        base, _, kind = made.removeprefix("made from ").partition(", kind: ")
        found.append(Broken(path.stem, description, base, kind, expected))
    return found


def repaired(data: bytes) -> tuple[Report, bytes]:
    """Check an image and accept every repair; the report, and the image then."""
    device = MemoryDevice(bytearray(data))
    report = check(device, now_ns=NOW_NS)
    report.write(device)
    return report, bytes(device.image)


def expectation(data: bytes) -> str:
    """What a first and a second check say, with all repairs accepted."""
    try:
        report, after = repaired(data)
    except VsfsError as error:
        return f"first check:\nrefused ({type(error).__name__}): {error}\n"
    safe = all(finding.rule.is_safe for finding in report.findings)
    preen = "" if not report.findings else f"-p: {'repairs it' if safe else 'asks for fsck.vsfs'}\n"
    again, _ = repaired(after)
    return f"first check:\n{listing(report)}{preen}\nsecond check:\n{listing(again)}"


def listing(report: Report) -> str:
    """The findings, one line each."""
    if not report.findings:
        return "clean\n"
    return "".join(
        f"{finding.rule.number} {finding.rule.name}: {finding.text}"
        f"{'' if finding.is_repaired else ' (left)'}\n"
        for finding in report.findings
    )
