"""The open file table: handles, references, and how often an inode is open."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.images import errno_of
from tests.support.layers import Layers
from vsfs.inode import Inode
from vsfs.openfiles import OpenFileTable


@pytest.fixture
def table() -> OpenFileTable:
    return OpenFileTable()


@pytest.fixture
def inode() -> Inode:
    return Layers().new_file()


def test_handles_count_from_one_and_are_used_again(table: OpenFileTable, inode: Inode) -> None:
    assert [table.open(inode, 0).handle for _ in range(3)] == [1, 2, 3]
    table.close(2)
    assert [table.open(inode, 0).handle for _ in range(2)] == [2, 4]
    assert sorted(file.handle for file in table) == [1, 2, 3, 4]
    assert len(table) == 4


def test_each_open_has_an_offset_and_flags_of_its_own(table: OpenFileTable, inode: Inode) -> None:
    first, second = table.open(inode, os.O_RDONLY), table.open(inode, os.O_WRONLY)
    first.offset = 10
    assert (table.get(1).offset, second.offset) == (10, 0)
    assert table.get(2) is second


@pytest.mark.parametrize(
    ("flags", "readable", "writable"),
    [
        (os.O_RDONLY, True, False),
        (os.O_WRONLY, False, True),
        (os.O_RDWR, True, True),
        (os.O_WRONLY | os.O_APPEND, False, True),
        (os.O_RDONLY | os.O_TRUNC, True, False),
    ],
)
def test_flags_say_what_it_was_opened_for(
    table: OpenFileTable, inode: Inode, flags: int, readable: bool, writable: bool
) -> None:
    file = table.open(inode, flags)
    assert (file.readable, file.writable) == (readable, writable)


def test_an_inode_counts_its_openers(table: OpenFileTable, inode: Inode) -> None:
    handles = [table.open(inode, 0).handle for _ in range(3)]
    assert inode.open_count == 3
    assert [table.close(handle) for handle in handles] == [inode] * 3
    assert inode.open_count == 0


def test_a_shared_entry_goes_with_its_last_reference(table: OpenFileTable, inode: Inode) -> None:
    file = table.open(inode, 0)
    file.references += 1
    assert table.close(file.handle) is None
    assert table.get(file.handle) is file
    assert table.close(file.handle) is inode


@pytest.mark.parametrize("handle", [0, 1, -1, 99])
def test_a_handle_that_is_not_open_is_bad(table: OpenFileTable, handle: int) -> None:
    assert errno_of(table.get, handle) == errno.EBADF
    assert errno_of(table.close, handle) == errno.EBADF
