"""The adapter for llfuse as a translator, without a mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from vsfs.device import MemoryDevice
from vsfs.mkfs import Identity, make, plan
from vsfs.volume import Volume

llfuse = pytest.importorskip("llfuse", reason="llfuse is not installed", exc_type=ImportError)

from vsfs.llfuse_adapter import LlfuseAdapter  # noqa: E402  (behind the check for llfuse)

ROOT = 1  # the node
FREE_INODES = 77
FIELDS = ("atime", "mtime", "mode", "uid", "gid", "size")
ALICE = SimpleNamespace(uid=1000, gid=100)


@pytest.fixture
def adapter() -> Any:
    device = MemoryDevice(bytearray(256 * 1024))
    make(device, plan(256 * 1024), Identity.new())
    return LlfuseAdapter(Volume(device, commit_interval=None))


def create(adapter: Any, name: bytes, content: bytes = b"") -> int:
    """Make a file and close it; its node, of which the kernel knows once."""
    handle, entry = adapter.create(ROOT, name, 0o100644, os.O_RDWR, ALICE)
    if content:
        adapter.write(handle, 0, content)
    adapter.release(handle)
    node: int = entry.st_ino
    return node


def lookup(adapter: Any, name: bytes) -> Any:
    return adapter.lookup(ROOT, name, ALICE)


def refusal(call: Callable[..., object], *args: Any) -> int:
    with pytest.raises(llfuse.FUSEError) as caught:
        call(*args)
    code: int = caught.value.errno
    return code


def free_inodes(adapter: Any) -> int:
    count: int = adapter.volume.statistics().free_inodes
    return count


def names(adapter: Any) -> list[bytes]:
    return [name for name, _ in adapter.volume.readdir(2)][2:]


def change(adapter: Any, node: int, **changes: int) -> Any:
    new = SimpleNamespace(**{f"st_{name}": value for name, value in changes.items()})
    given = {name.removesuffix("_ns") for name in changes}
    fields = SimpleNamespace(**{f"update_{name}": name in given for name in FIELDS})
    return adapter.setattr(node, new, fields, None, ALICE)


def test_new_files_belong_to_whoever_asks(adapter: Any) -> None:
    create(adapter, b"file")
    assert (lookup(adapter, b"file").st_uid, lookup(adapter, b"file").st_gid) == (1000, 100)


def test_names_keep_every_byte(adapter: Any) -> None:
    name = bytes(b for b in range(1, 256) if b != ord("/"))
    create(adapter, name)
    assert names(adapter) == [name]


def test_the_root_is_node_1_and_inode_2(adapter: Any) -> None:
    shown = adapter.getattr(ROOT, ALICE)
    assert (shown.st_ino, shown.st_nlink) == (2, 2)
    made = adapter.mkdir(ROOT, b"d", 0o755, ALICE)
    assert adapter.volume.lookup(2, b"d").ino == made.st_ino


def test_all_names_of_a_file_are_one_node(adapter: Any) -> None:
    node = create(adapter, b"a")
    assert adapter.link(node, ROOT, b"b", ALICE).st_ino == node
    for name in (b"a", b"b"):
        assert (lookup(adapter, name).st_ino, lookup(adapter, name).st_nlink) == (node, 2)


def test_attributes_are_those_of_the_inode(adapter: Any) -> None:
    node = create(adapter, b"a", b"x" * 5000)
    inode, shown = adapter.volume.inode(node), adapter.getattr(node, ALICE)
    assert (shown.st_mode, shown.st_size, shown.st_blocks) == (0o100644, 5000, 16)
    assert (shown.st_atime_ns, shown.st_mtime_ns) == (inode.atime_ns, inode.mtime_ns)
    assert (shown.st_ctime_ns, shown.generation) == (inode.ctime_ns, inode.generation)


@pytest.mark.parametrize("time_ns", [-1, -(2**63) - 7, 2**63, 253_402_300_800 * 10**9 + 1])
def test_times_before_1970_and_far_behind_it_keep_their_nanoseconds(
    adapter: Any, time_ns: int
) -> None:
    node = create(adapter, b"a")
    assert change(adapter, node, mtime_ns=time_ns).st_mtime_ns == time_ns
    assert adapter.getattr(node, ALICE).st_mtime_ns == time_ns


def test_only_what_was_given_is_changed(adapter: Any) -> None:
    node = create(adapter, b"a", b"12345")
    before = adapter.getattr(node, ALICE)
    after = change(adapter, node, mode=0o107600, size=3, atime_ns=9)
    assert (after.st_mode, after.st_size, after.st_atime_ns) == (0o107600, 3, 9)
    assert (after.st_uid, after.st_gid) == (1000, 100)
    owned = change(adapter, node, gid=7)
    assert (owned.st_uid, owned.st_gid, owned.st_size) == (before.st_uid, 7, 3)


def test_that_a_name_is_missing_is_kept_by_the_kernel(adapter: Any) -> None:
    answer = lookup(adapter, b"missing")
    assert answer.st_ino == 0
    assert answer.entry_timeout >= 3600


def test_an_errno_reaches_the_kernel_as_it_is(adapter: Any) -> None:
    assert refusal(adapter.unlink, ROOT, b"missing", ALICE) == errno.ENOENT
    assert refusal(lookup, adapter, b"n" * 256) == errno.ENAMETOOLONG
    assert refusal(adapter.readlink, ROOT, ALICE) == errno.EINVAL


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("no errno"), KeyError(1)])
def test_anything_else_becomes_eio_and_a_line_in_the_log(
    error: Exception, adapter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_ino: int) -> None:
        raise error

    adapter.volume.readlink = broken
    assert refusal(adapter.readlink, 5, ALICE) == errno.EIO
    assert "readlink failed" in caplog.text


def test_the_kernel_is_told_not_to_ask_for_flush(adapter: Any) -> None:
    assert refusal(adapter.flush, 1) == errno.ENOSYS


# -- what the kernel knows -------------------------------------------------------


def test_a_file_without_names_goes_when_the_kernel_forgets_it(adapter: Any) -> None:
    node = create(adapter, b"a", b"x")
    lookup(adapter, b"a")
    adapter.unlink(ROOT, b"a", ALICE)
    assert names(adapter) == []
    adapter.forget([(node, 1)])
    assert adapter.getattr(node, ALICE).st_nlink == 0
    assert free_inodes(adapter) == FREE_INODES - 1
    adapter.forget([(node, 1)])
    assert free_inodes(adapter) == FREE_INODES


@pytest.mark.parametrize("last", ["close", "forget"])
def test_an_open_file_without_names_needs_neither_opener_nor_kernel(
    adapter: Any, last: str
) -> None:
    node = create(adapter, b"a", b"contents")
    handle = adapter.open(node, os.O_RDONLY, ALICE)
    adapter.unlink(ROOT, b"a", ALICE)
    adapter.volume.sync()
    if last == "close":
        adapter.forget([(node, 1)])
        assert adapter.read(handle, 0, 100) == b"contents"
    else:
        adapter.release(handle)
        assert adapter.getattr(node, ALICE).st_size == 8
    assert free_inodes(adapter) == FREE_INODES - 1
    if last == "close":
        adapter.release(handle)
    else:
        adapter.forget([(node, 1)])
    assert free_inodes(adapter) == FREE_INODES


def test_a_file_with_another_name_is_not_kept_for_the_kernel(adapter: Any) -> None:
    node = create(adapter, b"a")
    adapter.link(node, ROOT, b"b", ALICE)
    adapter.unlink(ROOT, b"a", ALICE)
    assert adapter.volume.inode(node).open_count == 0
    adapter.forget([(node, 2)])
    assert lookup(adapter, b"b").st_nlink == 1


def test_a_bug_while_forgetting_is_logged_and_ends_no_mount(
    adapter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node, other = create(adapter, b"a"), create(adapter, b"b")

    def broken(ino: int) -> None:
        raise ValueError(ino)

    adapter.volume.let_go = broken
    adapter.forget([(node, 1), (other, 1)])
    assert caplog.text.count("forget failed") == 2


def test_what_a_rename_replaces_stays_until_it_is_forgotten(adapter: Any) -> None:
    old, new = create(adapter, b"old", b"1"), create(adapter, b"new", b"2")
    adapter.rename(ROOT, b"new", ROOT, b"old", ALICE)
    assert names(adapter) == [b"old"]
    assert adapter.getattr(old, ALICE).st_nlink == 0
    adapter.forget([(old, 1)])
    assert free_inodes(adapter) == FREE_INODES - 1
    assert lookup(adapter, b"old").st_ino == new


def test_a_rename_to_another_name_of_the_same_file_keeps_both(adapter: Any) -> None:
    node = create(adapter, b"a")
    adapter.link(node, ROOT, b"b", ALICE)
    adapter.rename(ROOT, b"a", ROOT, b"b", ALICE)
    assert names(adapter) == [b"a", b"b"]
    assert adapter.volume.inode(node).open_count == 0


def test_a_removed_directory_stays_until_it_is_forgotten(adapter: Any) -> None:
    node = adapter.mkdir(ROOT, b"d", 0o755, ALICE).st_ino
    adapter.rmdir(ROOT, b"d", ALICE)
    assert adapter.getattr(node, ALICE).st_nlink == 0
    assert lookup(adapter, b"d").st_ino == 0
    adapter.forget([(node, 1)])
    assert free_inodes(adapter) == FREE_INODES


def test_a_removal_that_fails_keeps_nothing_open(adapter: Any) -> None:
    node = adapter.mkdir(ROOT, b"d", 0o755, ALICE).st_ino
    adapter.mkdir(node, b"sub", 0o755, ALICE)
    other = adapter.mkdir(ROOT, b"other", 0o755, ALICE).st_ino
    assert refusal(adapter.rmdir, ROOT, b"d", ALICE) == errno.ENOTEMPTY
    assert refusal(adapter.unlink, ROOT, b"d", ALICE) == errno.EISDIR
    assert refusal(adapter.rename, ROOT, b"other", ROOT, b"d", ALICE) == errno.ENOTEMPTY
    assert [adapter.volume.inode(ino).open_count for ino in (node, other)] == [0, 0]


def test_a_number_that_is_used_again_has_another_generation(adapter: Any) -> None:
    node = create(adapter, b"a")
    before = lookup(adapter, b"a").generation
    adapter.unlink(ROOT, b"a", ALICE)
    adapter.forget([(node, 2)])
    adapter.volume.sync()
    assert create(adapter, b"b") == node
    assert lookup(adapter, b"b").generation == before + 1


def test_what_is_still_known_at_the_end_is_freed(adapter: Any) -> None:
    create(adapter, b"a", b"x")
    adapter.unlink(ROOT, b"a", ALICE)
    device = adapter.volume.device
    adapter.finish()
    assert adapter.failure is None
    assert Volume(device, read_only=True).statistics().free_inodes == FREE_INODES


def fill(adapter: Any, handle: int) -> int:
    """Write until nothing fits any more; how much did."""
    size = 0
    while adapter.statfs(ALICE).f_bfree:
        size += adapter.write(handle, size, b"x" * 4096)
    assert refusal(adapter.write, handle, size, b"x") == errno.ENOSPC
    return size


def test_what_the_kernel_has_still_to_forget_counts_as_free(adapter: Any) -> None:
    before = adapter.statfs(ALICE)
    node = create(adapter, b"a", b"x" * 20_000)
    handle = adapter.open(node, os.O_RDONLY, ALICE)
    adapter.unlink(ROOT, b"a", ALICE)
    shown = adapter.statfs(ALICE)
    assert (shown.f_bfree, shown.f_ffree) == (before.f_bfree - 5, before.f_ffree - 1)
    adapter.release(handle)
    shown = adapter.statfs(ALICE)
    assert (shown.f_bfree, shown.f_ffree) == (before.f_bfree, before.f_ffree)
    assert (shown.f_bavail, shown.f_favail) == (before.f_bavail, before.f_favail)


def test_what_the_kernel_has_still_to_forget_goes_when_space_is_needed(adapter: Any) -> None:
    old, entry = adapter.create(ROOT, b"old", 0o100644, os.O_RDWR, ALICE)
    size = fill(adapter, old)
    adapter.release(old)
    adapter.unlink(ROOT, b"old", ALICE)
    assert adapter.getattr(entry.st_ino, ALICE).st_size == size
    new, _ = adapter.create(ROOT, b"new", 0o100644, os.O_RDWR, ALICE)
    assert adapter.write(new, 0, bytes(size)) == size
    assert refusal(adapter.getattr, entry.st_ino, ALICE) == errno.ESTALE
    adapter.forget([(entry.st_ino, 1)])
    assert adapter._gone == set()


def test_an_open_file_without_names_stays_even_when_space_is_needed(adapter: Any) -> None:
    old, _ = adapter.create(ROOT, b"old", 0o100644, os.O_RDWR, ALICE)
    fill(adapter, old)
    adapter.unlink(ROOT, b"old", ALICE)
    new, _ = adapter.create(ROOT, b"new", 0o100644, os.O_RDWR, ALICE)
    assert refusal(adapter.write, new, 0, b"x") == errno.ENOSPC
    assert adapter.read(old, 0, 4) == b"xxxx"


def test_a_number_that_had_to_be_used_again_is_the_new_file(adapter: Any) -> None:
    nodes = [create(adapter, b"%d" % number) for number in range(FREE_INODES)]
    for number in range(FREE_INODES):
        adapter.unlink(ROOT, b"%d" % number, ALICE)
    again = create(adapter, b"new")
    assert again in nodes
    assert lookup(adapter, b"new").st_nlink == adapter.getattr(again, ALICE).st_nlink == 1
    adapter.forget([(node, 1) for node in nodes])
    assert adapter.getattr(again, ALICE).st_nlink == 1
    assert free_inodes(adapter) == FREE_INODES - 1


# -- directories, attributes -------------------------------------------------------


def read_on(adapter: Any, handle: int, offset: int, count: int) -> list[tuple[bytes, int]]:
    """Take some entries, as llfuse does: it lets the rest go."""
    entries = adapter.readdir(handle, offset)
    return [(name, following) for name, _, following in (next(entries) for _ in range(count))]


def test_a_listing_goes_on_where_it_stopped_whatever_happens_between(adapter: Any) -> None:
    for name in (b"a", b"b", b"c"):
        create(adapter, name)
    handle = adapter.opendir(ROOT, ALICE)
    first = read_on(adapter, handle, 0, 3)
    adapter.unlink(ROOT, b"a", ALICE)
    create(adapter, b"d")
    rest = [name for name, _, _ in adapter.readdir(handle, first[-1][1])]
    assert [name for name, _ in first] + rest == [b".", b"..", b"a", b"b", b"c"]
    assert {name for name, _, _ in adapter.readdir(handle, 0)} == {b".", b"..", b"b", b"c", b"d"}
    adapter.releasedir(handle)


def test_a_listing_has_numbers_and_types(adapter: Any) -> None:
    node = adapter.symlink(ROOT, b"link", b"target", ALICE).st_ino
    handle = adapter.opendir(ROOT, ALICE)
    shown = {name: (entry.st_ino, entry.st_mode) for name, entry, _ in adapter.readdir(handle, 0)}
    assert shown == {b".": (2, 0o40000), b"..": (2, 0o40000), b"link": (node, 0o120000)}


def test_attributes_are_set_read_listed_and_removed(adapter: Any) -> None:
    node = create(adapter, b"a")
    assert refusal(adapter.getxattr, node, b"security.capability", ALICE) == errno.ENODATA
    assert refusal(adapter.getxattr, node, b"user.a") == errno.ENODATA  # llfuse gives no context
    adapter.setxattr(node, b"user.a", b"1", ALICE)
    adapter.setxattr(node, b"security.capability", b"2", ALICE)
    assert adapter.getxattr(node, b"security.capability", ALICE) == b"2"
    assert set(adapter.listxattr(node, ALICE)) == {b"user.a", b"security.capability"}
    adapter.removexattr(node, b"user.a", ALICE)
    assert list(adapter.listxattr(node, ALICE)) == [b"security.capability"]


def test_statfs_has_all_counts(adapter: Any) -> None:
    shown = adapter.statfs(ALICE)
    assert (shown.f_bsize, shown.f_blocks, shown.f_files, shown.f_namemax) == (4096, 56, 80, 255)
    assert (shown.f_bfree, shown.f_bavail, shown.f_ffree) == (55, 55, FREE_INODES)
