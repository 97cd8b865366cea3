"""The FUSE adapter as a translator, without a mount."""

from __future__ import annotations

import errno
import os
from ctypes.util import find_library
from types import SimpleNamespace
from typing import Any

import pytest

from vsfs.device import MemoryDevice
from vsfs.mkfs import Identity, make, plan
from vsfs.volume import Volume

if os.environ.get("CI") or find_library("fuse"):
    from vsfs import fuse_adapter
else:
    pytest.skip("libfuse 2 is not installed", allow_module_level=True)


@pytest.fixture
def adapter() -> Any:
    device = MemoryDevice(bytearray(256 * 1024))
    make(device, plan(256 * 1024), Identity.new())
    return fuse_adapter.FuseAdapter(Volume(device, commit_interval=None))


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse_adapter, "_user", lambda: (1000, 100))


def opened(adapter: Any, path: str, flags: int = os.O_RDWR) -> SimpleNamespace:
    fi = SimpleNamespace(fh=0, flags=flags, keep_cache=None, direct_io=None)
    adapter("open", path, fi)
    return fi


def create(adapter: Any, path: str) -> SimpleNamespace:
    fi = SimpleNamespace(fh=0, flags=os.O_RDWR, keep_cache=None)
    adapter("create", path, 0o100644, fi)
    return fi


def test_new_files_belong_to_whoever_asks(adapter: Any) -> None:
    create(adapter, "/file")
    attributes = adapter("getattr", "/file", None)
    assert (attributes["st_uid"], attributes["st_gid"]) == (1000, 100)


def test_names_keep_every_byte(adapter: Any) -> None:
    name = bytes(b for b in range(1, 256) if b != ord("/"))
    create(adapter, "/" + name.decode("latin-1"))
    assert name in adapter.volume.readdir(2)[-1]


def test_an_errno_reaches_the_kernel_as_it_is(adapter: Any) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)) as caught:
        adapter("getattr", "/missing", None)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("no errno"), KeyError(1)])
def test_anything_else_becomes_eio_and_a_line_in_the_log(
    error: Exception, adapter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_path: str) -> None:
        raise error

    adapter.readlink = broken
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
        adapter("readlink", "/x")
    assert caught.value.errno == errno.EIO
    assert "readlink failed" in caplog.text


def test_pages_are_kept_while_only_this_path_changes_the_file(adapter: Any) -> None:
    fi = create(adapter, "/a")
    adapter("write", None, b"one", 0, fi)
    adapter("release", None, fi)
    again = opened(adapter, "/a")
    assert again.keep_cache
    adapter("release", None, again)
    assert opened(adapter, "/a").keep_cache


def test_pages_are_dropped_after_a_write_through_another_name(adapter: Any) -> None:
    adapter("release", None, create(adapter, "/a"))
    adapter("link", "/b", "/a")
    other = opened(adapter, "/b")
    adapter("write", None, b"one", 0, other)
    assert not opened(adapter, "/a").keep_cache


def test_pages_are_dropped_after_changes_while_both_names_were_open(adapter: Any) -> None:
    first = create(adapter, "/a")
    adapter("link", "/b", "/a")
    second = opened(adapter, "/b")
    adapter("write", None, b"one", 0, first)
    adapter("write", None, b"two", 0, second)
    for fi in (first, second):
        adapter("release", None, fi)
    assert not opened(adapter, "/a").keep_cache
    assert not opened(adapter, "/b").keep_cache


def test_pages_are_dropped_after_a_truncation(adapter: Any) -> None:
    fi = create(adapter, "/a")
    adapter("write", None, b"one", 0, fi)
    adapter("release", None, fi)
    adapter("truncate", "/a", 1, None)
    assert not opened(adapter, "/a").keep_cache


def test_a_path_that_was_renamed_over_is_not_trusted(adapter: Any) -> None:
    for path in ("/a", "/b"):
        adapter("release", None, create(adapter, path))
        adapter("release", None, opened(adapter, path))
    adapter("rename", "/a", "/b")
    assert not opened(adapter, "/b").keep_cache


def test_nothing_is_trusted_after_a_directory_moved(adapter: Any) -> None:
    adapter("mkdir", "/d", 0o755)
    adapter("release", None, create(adapter, "/d/a"))
    adapter("rename", "/d", "/e")
    adapter("mkdir", "/d", 0o755)
    assert not opened(adapter, "/e/a").keep_cache


def hidden(number: int) -> str:
    return f"/.fuse_hidden{number:016x}"


def test_what_libfuse_hides_is_unlinked_at_the_next_call(adapter: Any) -> None:
    fi = create(adapter, "/a")
    adapter("rename", "/a", hidden(1))
    assert adapter("getattr", hidden(1), None)["st_nlink"] == 0 + 1  # libfuse takes one off
    assert [name for name, _ in adapter.volume.readdir(2)] == [b".", b".."]
    adapter("release", None, fi)
    adapter("unlink", hidden(1))
    assert adapter.volume.statistics().free_inodes == 77


def test_a_rename_over_a_hidden_file_is_one_operation(adapter: Any) -> None:
    fi = create(adapter, "/target")
    adapter("release", None, create(adapter, "/new"))
    adapter("rename", "/target", hidden(1))
    assert [name for name, _ in adapter.volume.readdir(2)][2:] == [b"target", b"new"]
    adapter("rename", "/new", "/target")
    assert [name for name, _ in adapter.volume.readdir(2)][2:] == [b"target"]
    assert adapter("getattr", hidden(1), None)["st_nlink"] == 0 + 1
    adapter("release", None, fi)
    adapter("unlink", hidden(1))


def test_a_file_that_is_not_open_may_be_called_so(adapter: Any) -> None:
    adapter("release", None, create(adapter, "/a"))
    adapter("rename", "/a", hidden(1))
    assert adapter("getattr", hidden(1), None)["st_nlink"] == 1


def test_the_unlink_that_waits_is_done_before_the_mount_ends(adapter: Any) -> None:
    create(adapter, "/a")
    adapter("rename", "/a", hidden(1))
    device = adapter.volume.device
    adapter("destroy", "/")
    assert [name for name, _ in Volume(device, read_only=True).readdir(2)] == [b".", b".."]


def test_a_failed_last_commit_is_remembered(adapter: Any) -> None:
    create(adapter, "/a")

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    adapter.volume.device.write = no_space
    adapter("destroy", "/")
    assert isinstance(adapter.failure, OSError)
