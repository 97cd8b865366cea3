"""The overlay: repairs on top of an image that stays as it is."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.images import errno_of
from vsfs.device import Kind, MemoryDevice, RecordingDevice
from vsfs.fsck.overlay import Overlay

SIZE = 8 * 512
IMAGE = bytes(i * 7 & 0xFF for i in range(SIZE))

edits = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 511), st.binary(min_size=1, max_size=40)),
    max_size=20,
)


@given(edits, st.integers(0, SIZE - 1), st.integers(0, SIZE))
def test_it_reads_as_the_image_with_all_edits(
    changes: list[tuple[int, int, bytes]], start: int, size: int
) -> None:
    below = MemoryDevice(bytearray(IMAGE))
    overlay, model = Overlay(below), bytearray(IMAGE)
    for block_no, offset, content in changes:
        after = content[: 512 - offset]
        edit = overlay.plan(block_no, offset, after, Kind.DATA)
        at = block_no * 512 + offset
        assert (edit is None) == (model[at : at + len(after)] == after)
        if edit is not None:
            assert edit.before == model[at : at + len(after)]
            overlay.apply(edit)
        model[at : at + len(after)] = after
    size = min(size, SIZE - start)
    assert overlay.read(start // 512, size, start % 512) == model[start : start + size]
    assert all(overlay.block(n) == model[n * 512 : n * 512 + 512] for n in range(8))
    assert below.image == IMAGE


def test_edits_are_kept_in_their_order() -> None:
    overlay = Overlay(MemoryDevice(bytearray(IMAGE)))
    for after in (b"a", b"b", b"c"):
        edit = overlay.plan(1, 5, after, Kind.DATA)
        assert edit is not None
        overlay.apply(edit)
    assert [edit.after for edit in overlay.edits] == [b"a", b"b", b"c"]
    assert overlay.edits[1].before == b"a"


def test_an_edit_that_was_planned_on_other_bytes_is_a_mistake() -> None:
    overlay = Overlay(MemoryDevice(bytearray(IMAGE)))
    first = overlay.plan(1, 5, b"ab", Kind.DATA)
    second = overlay.plan(1, 6, b"cd", Kind.DATA)
    assert first is not None
    assert second is not None
    overlay.apply(first)
    with pytest.raises(AssertionError):
        overlay.apply(second)


def test_an_edit_stays_within_its_block() -> None:
    overlay = Overlay(MemoryDevice(bytearray(IMAGE)))
    with pytest.raises(AssertionError):
        overlay.plan(0, 510, b"abc", Kind.DATA)


def test_blocks_get_new_numbers_with_a_new_size() -> None:
    overlay = Overlay(MemoryDevice(bytearray(IMAGE)))
    assert overlay.block(1) == IMAGE[512:1024]
    overlay.set_block_size(1024)
    assert overlay.block(1) == IMAGE[1024:2048]
    assert overlay.read(1, 10, 5) == IMAGE[1029:1039]


def test_blocks_keep_their_numbers_once_there_are_edits() -> None:
    overlay = Overlay(MemoryDevice(bytearray(IMAGE)))
    edit = overlay.plan(0, 0, b"x", Kind.SUPERBLOCK)
    assert edit is not None
    overlay.apply(edit)
    with pytest.raises(AssertionError):
        overlay.set_block_size(1024)


def test_a_block_that_was_read_lately_is_not_read_again() -> None:
    device = RecordingDevice(MemoryDevice(bytearray(IMAGE)))
    overlay = Overlay(device)
    overlay.block(3)
    overlay.block(3)
    assert len(device.accesses) == 1


def test_what_lies_past_the_end_is_an_error_of_the_device() -> None:
    overlay = Overlay(MemoryDevice(bytearray(IMAGE)))
    assert errno_of(overlay.block, 8) == errno.EIO
    assert errno_of(overlay.read, 7, 513) == errno.EIO


def test_nobody_writes_through_it() -> None:
    overlay = Overlay(MemoryDevice(bytearray(IMAGE)))
    assert overlay.read_only
    with pytest.raises(AssertionError):
        overlay.write(0, b"x")
