"""fsync(2) and fdatasync(2)."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.images import errno_of, image_of
from tests.support.processes import LibraryProcess, Process, contents, put
from tests.support.rawwalk import walk


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_any_descriptor_of_a_file_will_do(fs: Process, call: str, flags: int) -> None:
    put(fs, "/f", b"contents")
    before = fs.stat("/f")
    fs.call(call, fs.open("/f", flags))
    assert fs.stat("/f") == before
    assert contents(fs, "/f") == b"contents"


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_what_was_synced_is_in_the_image(library: LibraryProcess, call: str) -> None:
    library.mkdir("/d")
    fd = library.open("/d/f", os.O_CREAT | os.O_WRONLY)
    library.write(fd, b"contents")
    library.call(call, fd)
    found = walk(image_of(library.fs), mounted=True)
    assert found.findings == []
    assert found.content(found.paths[b"/d/f"]) == b"contents"


def test_a_directory_can_be_synced(fs: Process) -> None:
    fs.mkdir("/d")
    put(fs, "/d/f")
    fs.fsync(fs.open("/d", os.O_RDONLY | os.O_DIRECTORY))
    assert fs.listdir("/d") == ["f"]


def test_a_file_without_a_name_can_be_synced(fs: Process) -> None:
    fd = fs.open("/f", os.O_CREAT | os.O_RDWR)
    fs.write(fd, b"contents")
    fs.unlink("/f")
    fs.fsync(fd)
    assert fs.pread(fd, 99, 0) == b"contents"


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_a_descriptor_that_is_not_open_is_bad(fs: Process, call: str) -> None:
    assert errno_of(fs.call, call, 999) == errno.EBADF


def test_nothing_needs_to_be_synced_on_a_read_only_filesystem(read_only_fs: Process) -> None:
    read_only_fs.fsync(read_only_fs.open("/file", os.O_RDONLY))
