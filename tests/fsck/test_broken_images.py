"""The broken images of images/broken/: what a check says of each, and what it leaves."""

from __future__ import annotations

import gzip
import importlib
import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.fsck.mutants import subject
from tests.support.broken import (
    BROKEN,
    NOW_NS,
    Broken,
    broken_images,
    expectation,
    repaired,
    unpacked,
)
from tests.support.damage import SECTOR
from tests.support.examine import Subject, examine
from tests.support.mutation import Mutant, differences
from tests.support.rawwalk import walk
from vsfs.device import MemoryDevice
from vsfs.errors import VsfsError
from vsfs.fsck import all_rules, check, repair_safe

IMAGES: Final = broken_images()
BASES: Final = ("book", "full", "journal", "small", "tree")

#: Images whose damage is not where the finding is, and why that is right.
TOLD_ELSEWHERE: Final = {
    "homework-inode-without-entry": "an entry that is not there has no place",
    "unconnected-directory": "an entry that is not there has no place",
    "unconnected-on-a-full-disk": "an entry that is not there has no place",
    "record-inode-another": "the entry is believed; its old inode has no name",
    "indirect-level-exchanged": "two sound pointers; wrong is what stands where they lead",
    "superblock-checksum-of-much": "a checksum does not tell which bytes before it are wrong",
}


def ids(image: Broken) -> str:
    return image.name


def of_kind(*kinds: str) -> list[Broken]:
    return [image for image in IMAGES if image.kind in kinds]


def test_the_script_makes_the_images_bit_for_bit(tmp_path: Path) -> None:
    """As another user might: another time zone, umask and hash seed."""
    subprocess.run(
        [sys.executable, BROKEN / "make_broken.py", tmp_path],
        check=True,
        env=os.environ | {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "1"},
        umask=0o077,
    )
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {f"{image.name}.img.gz" for image in IMAGES} | {"README.md"}
    assert (tmp_path / "README.md").read_text() == (BROKEN / "README.md").read_text()
    for name in made - {"README.md"}:
        content = gzip.decompress((tmp_path / name).read_bytes())
        assert content == gzip.decompress((BROKEN / name).read_bytes()), f"{name} differs"


def test_every_image_has_a_text_and_the_reverse() -> None:
    images = {path.name.removesuffix(".img.gz") for path in BROKEN.glob("*.img.gz")}
    assert images == {image.name for image in IMAGES} | {f"base-{name}" for name in BASES}


def test_there_are_as_many_as_promised() -> None:
    counts = Counter(image.kind for image in IMAGES)
    assert len(IMAGES) >= 150
    assert counts["homework"] >= 12
    assert counts["unseen"] >= 5


@pytest.mark.parametrize("base", BASES)
def test_a_base_is_sound(base: str) -> None:
    data = unpacked(f"base-{base}")
    assert walk(data).findings == []
    assert expectation(data) == "first check:\nclean\n\nsecond check:\nclean\n"


def test_a_base_has_the_tree_that_its_script_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though not in the same blocks: those are the program's affair."""
    monkeypatch.syspath_prepend(BROKEN)
    made = importlib.import_module("bases").bases()
    assert set(made) == set(BASES)
    for base, data in made.items():
        stored, new = subject(base), Subject(data)
        assert stored.walk.paths == new.walk.paths
        for ino, about in new.contents.items():  # without the time, which is the clock's
            assert (*stored.contents[ino][:3], *stored.contents[ino][4:]) == (
                *about[:3],
                *about[4:],
            )


@pytest.mark.parametrize("image", IMAGES, ids=ids)
def test_the_checks_say_what_the_text_says(image: Broken) -> None:
    assert image.expected == expectation(image.data)


@pytest.mark.parametrize("image", IMAGES, ids=ids)
def test_the_promises_hold(image: Broken) -> None:
    """Nothing untouched is harmed, the repair can be undone, and the rest is sound."""
    broken = Mutant(image.data, (image.kind,), (image.description,))
    outcome = examine(subject(image.base), broken)
    wanted = {
        "unseen": {"clean"},
        "sound": {"clean"},
        "refused": {"refused"},
        "crash": {"repaired"},
    }.get(image.kind, {"repaired", "left"})
    assert outcome.status in wanted
    if image.kind == "crash":
        assert outcome.preen == "repairs"


@pytest.mark.parametrize("image", of_kind("homework", "damage"), ids=ids)
def test_a_finding_is_where_the_damage_is(image: Broken) -> None:
    """The first finding names a byte that was changed: found, expected or repaired."""
    before, after = subject(image.base).data, image.data
    report, _ = repaired(after)
    size = report.geometry.block_size
    named: set[int] = set()
    for finding in report.findings:
        for evidence in (finding.found, finding.expected):
            start = evidence.block_no * size + evidence.offset
            named.update(range(start, start + (1 if evidence.bit is not None else 8)))
        for edit in finding.edits:
            start = edit.block_no * size + edit.offset
            named.update(range(start, start + len(edit.after)))
    changed = {
        at
        for sector in differences(before, after, SECTOR)
        for at in range(sector * SECTOR, min((sector + 1) * SECTOR, len(after)))
        if before[at] != after[at]
    }
    if image.name in TOLD_ELSEWHERE:
        assert not changed & named, "take it from the list"
    else:
        assert changed & named or len(before) != len(after)


@pytest.mark.parametrize("image", of_kind("damage", "homework", "crash"), ids=ids)
def test_a_declined_repair_leaves_the_image_and_is_told_again(image: Broken) -> None:
    device = MemoryDevice(bytearray(image.data))
    try:
        report = check(device, decide=lambda finding: False, now_ns=NOW_NS)
    except VsfsError:
        return  # without a superblock there is nothing to check
    assert report.findings
    assert report.left == report.findings
    report.write(device)
    assert device.image == image.data


@pytest.mark.parametrize("image", of_kind("damage", "homework"), ids=ids)
def test_any_half_of_the_repairs_can_be_declined(image: Broken) -> None:
    """A check after that, with all repairs accepted, ends as clean as ever."""
    device = MemoryDevice(bytearray(image.data))
    turns = itertools.cycle((len(image.name) % 2 == 0, len(image.name) % 2 == 1))
    try:
        check(device, decide=lambda _: next(turns), now_ns=NOW_NS).write(device)
    except VsfsError:
        return  # without a superblock or a root there is nothing to check
    report, after = repaired(bytes(device.image))
    again, _ = repaired(after)
    assert [finding.text for finding in again.findings] == [finding.text for finding in report.left]


@pytest.mark.parametrize(
    "image",
    [image for image in of_kind("damage") if image.name.startswith("superblock-")],
    ids=ids,
)
def test_a_superblock_is_made_what_it_was(image: Broken) -> None:
    """Also where its checksum fits the wrong numbers: what it describes is believed."""
    _, after = repaired(image.data)
    found = walk(after)
    assert found.findings == []
    assert found.paths == subject(image.base).walk.paths


def test_preen_asks_before_the_names_of_destroyed_inodes_go() -> None:
    """A crash never leaves an inode of zeroes that is marked as used and has a name."""
    device = MemoryDevice(bytearray(unpacked("inode-table-block-zeroed")))
    report = check(device, decide=repair_safe, now_ns=NOW_NS)
    assert report.left != ()


def test_every_rule_has_an_image() -> None:
    broken: set[int] = set()
    for image in IMAGES:
        for line in image.expected.splitlines():
            number = line.split(" ")[0]
            if number.isdigit():
                broken.add(int(number))
    missing = {rule.number for rule in all_rules()} - broken
    assert not missing


def test_preen_of_homework_is_what_a_crash_leaves_or_asks() -> None:
    for image in of_kind("homework"):
        device = MemoryDevice(bytearray(image.data))
        report = check(device, decide=repair_safe, now_ns=NOW_NS)
        unsafe = [finding for finding in report.findings if not finding.rule.is_safe]
        assert list(report.left) == unsafe
