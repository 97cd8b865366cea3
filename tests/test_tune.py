"""tune: a journal comes and goes, a label changes; the plug may be pulled anywhere."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

import vsfs
from tests.support.damage import Image
from tests.support.images import (
    IDENTITY,
    KIB,
    blank,
    errno_of,
    fail_nth,
    image_of,
    mount,
    snapshot,
)
from tests.support.rawwalk import walk
from vsfs import tune
from vsfs.device import BlockDevice, MemoryDevice, RecordingDevice
from vsfs.errors import Corrupt, ImpossibleSize, NeedsCheck, NoSpace
from vsfs.fsck import check

NOW = IDENTITY.now_ns + 1
OTHER = UUID("12345678-1234-5678-1234-567812345678")
Change = Callable[[BlockDevice], object]

CHANGES: dict[str, Change] = {
    "label": lambda device: tune.set_label(device, "another"),
    "uuid": lambda device: tune.set_uuid(device, OTHER),
    "add": lambda device: tune.add_journal(device, NOW),
    "add a small one": lambda device: tune.add_journal(device, NOW, 16),
}
TAKING: dict[str, Change] = {"remove": lambda device: tune.remove_journal(device, NOW)}


def put(fs: vsfs.FileSystem, path: str, content: bytes) -> None:
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
    fs.write(fd, content)
    fs.close(fd)


def populated(*, fragmented: bool = False, journal_blocks: int | None = None) -> MemoryDevice:
    """Some files, cleanly unmounted; if `fragmented`, no two free blocks lie side by side."""
    device = blank(256 * KIB, block_size=512, inode_count=300, journal_blocks=journal_blocks)
    with mount(device) as fs:
        fs.mkdir("/d")
        put(fs, "/d/f", b"f" * 3000)
        if fragmented:
            fs.mkdir("/many")
            names = [f"/many/{number}" for number in range(240)]
            for name in names:
                put(fs, name, b"m" * 512)
            for name in names[::2]:
                fs.unlink(name)
            fs.sync()
            put(fs, "/full", bytes((fs.statvfs("/").f_bavail - 121) * 512))
    return device


def tree_of(device: MemoryDevice) -> dict[bytes, tuple[object, ...]]:
    fs = mount(MemoryDevice(bytearray(device.image)))
    return snapshot(fs)


@pytest.mark.parametrize("count", [None, 16, 17, 100])
@pytest.mark.parametrize("fragmented", [False, True], ids=["whole", "in pieces"])
def test_a_journal_is_added_and_taken_away(count: int | None, fragmented: bool) -> None:
    device = populated(fragmented=fragmented)
    before, tree = bytes(device.image), tree_of(device)
    added = tune.add_journal(device, NOW, count)
    assert added == (count or 32)  # a sixteenth of 512
    found = walk(device.image)
    assert found.findings == []
    assert len(found.journal) == added
    in_a_row = [*range(found.journal[0], found.journal[0] + added)] == list(found.journal)
    assert in_a_row != fragmented
    assert check(MemoryDevice(bytearray(device.image))).findings == ()
    assert tree_of(device) == tree
    with mount(device) as fs:
        assert fs.volume.journal is not None
        put(fs, "/new", b"n" * 5000)
        fs.unlink("/new")
    assert tune.remove_journal(device, NOW) == added + (added > 12)
    assert walk(device.image).findings == []
    assert check(MemoryDevice(bytearray(device.image))).findings == ()
    assert walk(device.image).free_blocks == walk(before).free_blocks
    assert tree_of(device).keys() == tree.keys()


def test_adding_and_taking_away_changes_only_what_the_superblock_says_and_free_blocks() -> None:
    device = populated()
    before = bytes(device.image)
    tune.add_journal(device, NOW)
    journal = set(walk(device.image).journal)
    tune.remove_journal(device, NOW)
    changed = {at // 512 for at in range(512, len(before)) if before[at] != device.image[at]}
    assert changed <= journal | {max(journal) + 1}


def test_every_change_leaves_the_rest_of_the_superblock() -> None:
    device = populated()
    before = tune.read_superblock(device)
    tune.set_label(device, "größe")
    tune.set_uuid(device, OTHER)
    after = tune.read_superblock(device)
    assert after.text_label == "größe"
    assert after.uuid == OTHER.bytes
    same: dict[str, Any] = {"label": before.label, "uuid": before.uuid, "checksum": before.checksum}
    assert after._replace(**same) == before


@pytest.mark.parametrize("label", ["x" * 33, "ü" * 17])
def test_a_label_that_is_too_long_changes_nothing(label: str) -> None:
    device = populated()
    before = bytes(device.image)
    with pytest.raises(ImpossibleSize, match="at most 32"):
        tune.set_label(device, label)
    assert device.image == before


# -- refused ------------------------------------------------------------------


def refused(device: MemoryDevice, change: Change, error: type[OSError], match: str) -> None:
    before = bytes(device.image)
    with pytest.raises(error, match=match) as caught:
        change(device)
    assert caught.value.errno
    assert "\n" not in str(caught.value)
    assert device.image == before


@pytest.mark.parametrize("count", [0, 15, 125, 10_000])
def test_an_impossible_size_is_refused(count: int) -> None:
    refused(populated(), lambda d: tune.add_journal(d, NOW, count), ImpossibleSize, "16 to 124")


def test_a_second_journal_is_refused_and_so_is_taking_away_none() -> None:
    refused(populated(journal_blocks=16), CHANGES["add"], tune.CannotTune, "already")
    refused(populated(), TAKING["remove"], tune.CannotTune, "no journal")


@pytest.mark.parametrize(("left", "advice"), [(10, "remove some files"), (20, "blocks=1")])
def test_a_full_image_is_refused_with_what_would_fit(left: int, advice: str) -> None:
    device = populated()
    with mount(device) as fs:
        put(fs, "/full", bytes((fs.statvfs("/").f_bavail - left - 3) * 512))
    free = tune.read_superblock(device).free_block_count
    assert abs(free - left) <= 3
    refused(
        device, CHANGES["add"], NoSpace, f"takes 33 blocks, and only {free} are free; .*{advice}"
    )
    if left == 20:
        assert tune.add_journal(device, NOW, free - 1) == free - 1
        assert walk(device.image).findings == []


@pytest.mark.parametrize("journal_blocks", [None, 16])
@pytest.mark.parametrize("name", [*CHANGES, *TAKING])
def test_what_was_not_cleanly_unmounted_is_refused(name: str, journal_blocks: int | None) -> None:
    fs = mount(populated(journal_blocks=journal_blocks))
    fs.mkdir("/new")
    fs.sync()
    device = MemoryDevice(bytearray(image_of(fs)))
    wrong = (journal_blocks is None) == (name in TAKING)
    error, match = (tune.CannotTune, "no journal") if wrong and name in TAKING else (
        NeedsCheck, "not cleanly unmounted")  # fmt: skip
    refused(device, (CHANGES | TAKING)[name], error, match)


@pytest.mark.parametrize("name", [*CHANGES])
def test_features_that_only_a_newer_writer_knows_are_refused(name: str) -> None:
    image = Image(populated().image)
    image.put_superblock(feature_ro_compat=4)
    refused(MemoryDevice(image.data), CHANGES[name], tune.CannotTune, "0x4")


def test_an_inode_1_that_is_not_zero_is_refused() -> None:
    image = Image(populated().image)
    image.put_inode(1, seal=False, uid=7)
    refused(MemoryDevice(image.data), CHANGES["add"], Corrupt, "inode 1")


def test_a_count_that_the_bitmap_does_not_have_is_refused() -> None:
    image = Image(populated(fragmented=True).image)
    free = image.superblock("free_block_count")
    for block in range(image.data_start, image.block_count):
        image.put_data_bit(block, 1)
    assert free > 40
    refused(MemoryDevice(image.data), CHANGES["add"], Corrupt, "free_block_count")


# -- crashes ------------------------------------------------------------------


def crashes(before: bytes, recorder: RecordingDevice) -> Iterator[bytes]:
    """After each prefix of the writes; and each single write of a stretch between barriers."""
    image = bytearray(before)
    durable = bytes(before)
    yield durable
    for access in recorder.accesses:
        if access.operation == "barrier":
            durable = bytes(image)
        if access.operation != "write":
            continue
        at = access.block_no * 512 + access.offset
        alone = bytearray(durable)
        for target in (image, alone):
            target[at : at + len(access.content)] = access.content
        yield bytes(image)
        yield bytes(alone)


@pytest.mark.parametrize("fragmented", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("name", [*CHANGES, *TAKING])
def test_a_crash_leaves_the_old_the_new_or_what_a_mount_repairs(
    name: str, fragmented: bool
) -> None:
    device = populated(fragmented=fragmented, journal_blocks=16 if name in TAKING else None)
    before, tree = bytes(device.image), tree_of(device)
    recorder = RecordingDevice(device)
    (CHANGES | TAKING)[name](recorder)
    old, new = walk(before), walk(device.image)
    seen = set()
    for image in crashes(before, recorder):
        for recover in (mount_and_unmount, preen):
            again = MemoryDevice(bytearray(image))
            recover(again)
            found = walk(again.image)
            assert found.findings == []
            assert found.journal in (old.journal, new.journal)
            assert found.free_blocks in (old.free_blocks, new.free_blocks)
            assert tree_of(again) == tree
            seen.add(found.journal)
    assert seen == {old.journal, new.journal}


def mount_and_unmount(device: MemoryDevice) -> None:
    mount(device).unmount()


def preen(device: MemoryDevice) -> None:
    """As ``fsck.vsfs -p``, which must not have to ask."""
    report = check(device, decide=lambda finding: finding.rule.is_safe)
    assert report.left == ()
    report.write(device)


@pytest.mark.parametrize("operation", ["read", "write", "barrier"])
@pytest.mark.parametrize("name", [*CHANGES, *TAKING])
def test_a_fault_at_any_access_is_reported_and_can_be_made_up_for(
    name: str, operation: str
) -> None:
    sound = populated(journal_blocks=16 if name in TAKING else None)
    for nth in range(1, 60):
        device = MemoryDevice(bytearray(sound.image))
        failed = errno_of((CHANGES | TAKING)[name], fail_nth(device, operation, nth))
        mount(device).unmount()
        assert walk(device.image).findings == []
        if not failed:
            break
        assert failed == errno.EIO
    assert 1 < nth < 59
