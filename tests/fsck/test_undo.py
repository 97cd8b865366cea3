"""Undo: a repair can be taken back, bit for bit, and nothing else can be done with it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fsck.test_write import (
    DAMAGES,
    NOW_NS,
    SOUND,
    damaged,
    files,
    last_part,
    many_at_once,
    repair,
)
from tests.support.images import errno_of
from tests.support.interrupted import sectors_of
from vsfs.device import FileDevice, MemoryDevice, RecordingDevice
from vsfs.fsck import check
from vsfs.fsck.undo import UndoMismatch, save, undo
from vsfs.layout import decode_superblock

BROKEN: Final = damaged(many_at_once)


def saved(path: Path, image: bytes = BROKEN) -> MemoryDevice:
    """A repaired image, with an undo file at `path`."""
    device = MemoryDevice(bytearray(image))
    report = check(device, now_ns=NOW_NS)
    save(path, device, report)
    assert device.image == image  # nothing is written before the undo file is
    report.write(device)
    return device


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_repair_is_taken_back_bit_for_bit(
    tmp_path: Path, damage: Callable[[bytearray], None]
) -> None:
    device = saved(tmp_path / "undo", damaged(damage))
    assert device.image != damaged(damage)
    assert undo(tmp_path / "undo", device) > 0
    assert device.image == damaged(damage)


def test_it_works_on_files(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(BROKEN)
    device = FileDevice(image)
    report = check(device, now_ns=NOW_NS)
    save(tmp_path / "undo", device, report)
    report.write(device)
    device.close()
    assert image.read_bytes() == repair(BROKEN)
    device = FileDevice(image)
    assert undo(tmp_path / "undo", device) == len(report.edits)
    device.close()
    assert image.read_bytes() == BROKEN


def test_a_repair_of_nothing_is_taken_back_too(tmp_path: Path) -> None:
    device = saved(tmp_path / "undo", SOUND)
    assert undo(tmp_path / "undo", device) == 0
    assert device.image == SOUND


def test_the_file_can_be_read(tmp_path: Path) -> None:
    device = saved(tmp_path / "undo")
    found = json.loads((tmp_path / "undo").read_text())
    assert found["format"] == "vsfs-undo"
    assert found["version"] == 1
    assert found["image_size"] == len(device.image)
    assert found["block_size"] == 512
    assert set(found["edits"][0]) == {"block", "offset", "kind", "before", "after"}


def test_an_undo_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "undo").write_text("precious")
    device = MemoryDevice(bytearray(BROKEN))
    report = check(device)
    assert errno_of(save, tmp_path / "undo", device, report) == errno.EEXIST
    assert (tmp_path / "undo").read_text() == "precious"


def test_an_undo_file_that_cannot_be_finished_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    device = MemoryDevice(bytearray(BROKEN))
    report = check(device)
    monkeypatch.setattr(os, "fsync", fail)
    assert errno_of(save, tmp_path / "undo", device, report) == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_second_undo_changes_nothing(tmp_path: Path) -> None:
    device = saved(tmp_path / "undo")
    undo(tmp_path / "undo", device)
    with pytest.raises(UndoMismatch, match="does not fit the image"):
        undo(tmp_path / "undo", device)
    assert device.image == BROKEN


def test_an_image_that_was_used_since_is_not_touched(tmp_path: Path) -> None:
    device = saved(tmp_path / "undo")
    edit = json.loads((tmp_path / "undo").read_text())["edits"][-2]
    device.image[edit["block"] * 512 + edit["offset"]] ^= 1
    before = bytes(device.image)
    with pytest.raises(UndoMismatch) as caught:
        undo(tmp_path / "undo", device)
    assert caught.value.errno == errno.EINVAL
    assert device.image == before


def test_an_image_of_another_size_is_not_touched(tmp_path: Path) -> None:
    saved(tmp_path / "undo")
    device = MemoryDevice(bytearray(512 * 1024))
    with pytest.raises(UndoMismatch, match="another size"):
        undo(tmp_path / "undo", device)
    assert not any(device.image)


def test_an_undo_that_is_interrupted_leaves_what_can_be_repaired(tmp_path: Path) -> None:
    device = RecordingDevice(saved(tmp_path / "undo"))
    repaired = bytes(device.below.image)  # type: ignore[attr-defined]
    finished = files(repaired)
    undo(tmp_path / "undo", device)
    state = bytearray(repaired)
    writes = [access for access in device.accesses if access.operation == "write"]
    assert decode_superblock(writes[0].content).state == 2
    for access in writes:
        for start, content in sectors_of(access, 512):
            state[start : start + 512] = content
        found = files(repair(state))
        assert set(finished.values()) <= set(found.values())
    assert state == BROKEN


# -- not an undo file ------------------------------------------------------------


def change(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | values))


def change_edit(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text())
    found["edits"][0] |= values
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "vsfs-undo"}',
        b'{"format": "vsfs-undo", "version": ' + b"9" * 5000 + b"}",
        b"\0" * 5000,
    ],
)
def test_what_is_no_undo_file_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "undo").write_bytes(content)
    device = MemoryDevice(bytearray(BROKEN))
    with pytest.raises(UndoMismatch, match="cannot be used to undo a repair"):
        undo(tmp_path / "undo", device)
    assert device.image == BROKEN


@pytest.mark.parametrize(
    "values",
    [
        {"version": 2},
        {"version": "1"},
        {"format": "other"},
        {"image_size": None},
        {"image_size": "262144"},
        {"block_size": 0},
        {"block_size": -512},
        {"block_size": 513},
        {"block_size": 1 << 70},
        {"block_size": 512.0},
        {"block_size": True},
        {"edits": None},
        {"edits": {}},
        {"edits": [None]},
        {"edits": [[]]},
        {"edits": [{}]},
    ],
)
def test_every_value_of_an_undo_file_is_checked(tmp_path: Path, values: dict[str, Any]) -> None:
    device = saved(tmp_path / "undo")
    before = bytes(device.image)
    change(tmp_path / "undo", **values)
    with pytest.raises(UndoMismatch, match="cannot be used to undo a repair"):
        undo(tmp_path / "undo", device)
    assert device.image == before


@pytest.mark.parametrize(
    "values",
    [
        {"block": -1},
        {"block": 1 << 80},
        {"block": 512},
        {"block": "1"},
        {"block": 1.0},
        {"block": True},
        {"block": 0},  # another kind of block
        {"offset": -1},
        {"offset": 512},
        {"offset": 1 << 80},
        {"offset": None},
        {"kind": "NONE"},
        {"kind": 3},
        {"kind": []},
        {"kind": "SUPERBLOCK"},
        {"before": "xy"},
        {"before": 5},
        {"before": ""},
        {"after": "0"},
        {"after": "00" * 600},
        {"before": "00" * 600, "after": "00" * 600},
    ],
)
def test_every_value_of_an_edit_is_checked(tmp_path: Path, values: dict[str, Any]) -> None:
    device = saved(tmp_path / "undo")
    before = bytes(device.image)
    change_edit(tmp_path / "undo", **values)
    with pytest.raises(UndoMismatch, match="cannot be used to undo a repair"):
        undo(tmp_path / "undo", device)
    assert device.image == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_damage_to_an_undo_file_is_a_sentence_or_harmless(
    tmp_path: Path, at: int, content: bytes
) -> None:
    path = tmp_path / "undo"
    if not path.exists():
        saved(path, damaged(last_part))
        path.rename(tmp_path / "sound")
    whole = bytearray((tmp_path / "sound").read_bytes())
    at %= len(whole)
    whole[at : at + len(content)] = content
    path.write_bytes(whole)
    device = MemoryDevice(bytearray(repair(damaged(last_part))))
    before = bytes(device.image)
    try:
        undo(path, device)
    except UndoMismatch as error:
        assert str(error)
        assert device.image == before


def test_a_missing_undo_file_is_an_error_of_open(tmp_path: Path) -> None:
    device = MemoryDevice(bytearray(BROKEN))
    assert errno_of(undo, tmp_path / "none", device) == errno.ENOENT
