"""The volume: each operation happens wholly or not at all, and when it is durable."""

from __future__ import annotations

import errno
import logging
import os
import random
import stat
import struct
import threading
import time
import zlib
from collections.abc import Callable

import pytest

import vsfs
from tests.support.images import (
    KIB,
    Clock,
    blank,
    errno_of,
    image_of,
    mount,
    snapshot,
    sound,
)
from tests.support.rawwalk import walk
from vsfs.device import Access, FailingDevice, Kind, MemoryDevice, RecordingDevice
from vsfs.errors import Corrupt, ReadOnly
from vsfs.layout import LINK_MAX, MAX_TIME_NS, MIN_TIME_NS, ROOT_INO

FILE = stat.S_IFREG | 0o644
Action = Callable[[vsfs.FileSystem], object]


def put(fs: vsfs.FileSystem, path: str, content: bytes = b"", offset: int = 0) -> None:
    """Write `content` into a file, made if need be."""
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
    fs.pwrite(fd, content, offset)
    fs.close(fd)


def get(fs: vsfs.FileSystem, path: str) -> bytes:
    fd = fs.open(path, os.O_RDONLY)
    content = fs.read(fd, fs.fstat(fd).st_size)
    fs.close(fd)
    return content


def prepared() -> MemoryDevice:
    """A filesystem with something of everything, unmounted."""
    device = blank(512 * KIB, block_size=512)
    fs = mount(device)
    for path in ("/d", "/d/inner", "/empty", "/crowd"):
        fs.mkdir(path)
    for number in range(60):
        fs.link("/d/f", f"/crowd/{number:04}") if number else put(fs, "/d/f", b"f" * 700)
    put(fs, "/big", b"b" * 80 * KIB)
    put(fs, "/sparse", b"s", 9_000_000)
    put(fs, "/victim", b"v" * 10 * KIB)
    fs.symlink("t" * 600, "/long")
    fs.unmount()
    return device


OPERATIONS: dict[str, Action] = {
    "create": lambda fs: put(fs, "/d/new"),
    "create in a full sector": lambda fs: put(fs, "/crowd/" + "n" * 255),
    "mkdir": lambda fs: fs.mkdir("/d/new"),
    "symlink": lambda fs: fs.symlink("x" * 2000, "/d/new"),
    "short symlink": lambda fs: fs.symlink("x", "/d/new"),
    "mkfifo": lambda fs: fs.mkfifo("/d/new"),
    "link": lambda fs: fs.link("/big", "/crowd/big"),
    "unlink": lambda fs: fs.unlink("/victim"),
    "unlink a large file": lambda fs: fs.unlink("/big"),
    "unlink a sparse file": lambda fs: fs.unlink("/sparse"),
    "unlink one link": lambda fs: fs.unlink("/crowd/0030"),
    "rmdir": lambda fs: fs.rmdir("/empty"),
    "rename": lambda fs: fs.rename("/big", "/large"),
    "rename to a longer name": lambda fs: fs.rename("/crowd/0007", "/crowd/" + "n" * 255),
    "rename over a file": lambda fs: fs.rename("/big", "/victim"),
    "rename to another directory": lambda fs: fs.rename("/big", "/crowd/big"),
    "rename a directory": lambda fs: fs.rename("/d", "/crowd/d"),
    "rename a directory over an empty one": lambda fs: fs.rename("/d/inner", "/empty"),
    "truncate": lambda fs: fs.truncate("/big", 7 * KIB + 3),
    "truncate to nothing": lambda fs: fs.truncate("/sparse", 0),
    "grow": lambda fs: fs.truncate("/victim", 9_000_000),
    "append": lambda fs: put(fs, "/victim", b"w" * 20 * KIB, 10 * KIB),
    "write into a hole": lambda fs: put(fs, "/sparse", b"w" * 3 * KIB, 8_500_000),
    "chmod": lambda fs: fs.chmod("/big", 0o600),
    "utime": lambda fs: fs.utime("/big", ns=(1, 2)),
}


class Fault:
    """Fails the n-th access once it is armed; counts them."""

    def __init__(self, kinds: tuple[str, ...], nth: int) -> None:
        self.kinds = kinds
        self.nth = nth
        self.armed = False
        self.seen = 0

    def __call__(self, access: Access) -> bool:
        if not self.armed or access.operation not in self.kinds:
            return False
        self.seen += 1
        return self.seen == self.nth


def is_atomic(image: bytes, action: Action, kinds: tuple[str, ...], nth: int, code: int) -> bool:
    """Run `action` with a fault: if it fails, nothing has changed and it works
    afterwards.  Returns whether the fault happened.
    """
    fault = Fault(kinds, nth)
    fs = mount(FailingDevice(MemoryDevice(bytearray(image)), fault, code))
    before = fs.statvfs("/").f_bfree, fs.statvfs("/").f_ffree
    fault.armed = True
    failed = errno_of(action, fs)
    fault.armed = False
    happened = fault.seen >= nth
    assert failed == (code if happened else 0)
    if happened:
        for fd in range(3, 5):  # a descriptor that the action did not come to close
            errno_of(fs.close, fd)
        assert (fs.statvfs("/").f_bfree, fs.statvfs("/").f_ffree) == before
        expected = mount(MemoryDevice(bytearray(image)))
        assert snapshot(fs) == snapshot(expected)
        action(fs)
        action(expected)
        assert snapshot(fs) == snapshot(expected)
    fs.unmount()
    assert walk(image_of(fs)).findings == []
    return happened


@pytest.fixture(scope="module")
def image() -> bytes:
    return bytes(prepared().image)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_fault_at_any_access_leaves_the_tree_as_it_was(
    image: bytes, name: str, code: int
) -> None:
    nth = 1
    while is_atomic(image, OPERATIONS[name], ("read", "write"), nth, code):
        nth += 1
    assert nth > 1 or name in ("chmod", "utime")  # something was read or written at all


@pytest.mark.parametrize("operation", ["write", "barrier"])
def test_a_fault_in_a_commit_loses_nothing_that_was_durable(image: bytes, operation: str) -> None:
    """The filesystem then is read-only, and what is in memory can still be read."""
    nth = 1
    while True:
        fault = Fault((operation,), nth)
        fs = mount(FailingDevice(MemoryDevice(bytearray(image)), fault))
        for name in ("create", "rmdir", "unlink", "rename to another directory"):
            OPERATIONS[name](fs)
        fault.armed = True
        failed = errno_of(fs.sync)
        fault.armed = False
        if not failed:
            break
        assert failed == errno.EIO
        assert errno_of(fs.mkdir, "/later") == errno.EROFS
        assert get(fs, "/crowd/big") == b"b" * 80 * KIB
        fs.unmount()
        found = walk(image_of(fs), mounted=True)  # what a mount would have to repair
        for path, content in ((b"/d/f", b"f" * 700), (b"/long", b"t" * 600)):
            assert found.content(found.paths[path]) == content
        names = {b"/big", b"/crowd/big"} & set(found.paths)
        assert names  # a renamed file has its old name, its new one, or both
        for path in names:
            assert found.content(found.paths[path]) == b"b" * 80 * KIB
        nth += 1
    assert nth > 4
    fs.unmount()


# -- when things are durable ------------------------------------------------------


def test_nothing_is_written_before_a_commit_is_asked_for(fs: vsfs.FileSystem) -> None:
    before = image_of(fs)
    fs.mkdir("/a")
    fs.symlink("x", "/b")
    assert image_of(fs) == before
    fs.sync()
    assert b"/a" in walk(image_of(fs), mounted=True).paths


@pytest.mark.parametrize("how", ["fsync", "sync", "unmount"])
def test_what_was_done_is_on_the_device_after(how: str) -> None:
    device = RecordingDevice(blank())
    fs = mount(device)
    put(fs, "/a", b"content")
    if how == "fsync":
        fd = fs.open("/a", os.O_RDONLY)
        fs.fsync(fd)
    elif how == "sync":
        fs.sync()
    else:
        fs.unmount()
    found = walk(image_of(fs), mounted=how != "unmount")
    assert found.findings == []
    assert found.content(found.paths[b"/a"]) == b"content"
    assert device.accesses[-1].operation == "barrier"
    fs.unmount()


def test_with_sync_every_operation_is_durable(make_fs: Callable[..., vsfs.FileSystem]) -> None:
    fs = make_fs(sync=True)
    fs.mkdir("/a")
    assert b"/a" in walk(image_of(fs), mounted=True).paths
    put(fs, "/a/b", b"content")
    assert b"/a/b" in walk(image_of(fs), mounted=True).paths


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_changes_become_durable_by_themselves_after_a_while() -> None:
    fs = mount(blank(), commit_interval=0.01)
    fs.mkdir("/a")
    assert eventually(lambda: b"/a" in walk(image_of(fs), mounted=True).paths)
    fs.unmount()


def test_a_failed_commit_in_the_background_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    fault = Fault(("write",), 1)
    fs = mount(FailingDevice(blank(), fault), commit_interval=0.01)
    fault.armed = True
    with caplog.at_level(logging.ERROR, "vsfs"):
        fs.mkdir("/a")
        assert eventually(lambda: fs.volume.cache.failed)
        assert eventually(lambda: "now read-only" in caplog.text)
    with pytest.raises(ReadOnly):
        fs.mkdir("/b")
    fs.unmount()


def test_data_is_written_before_the_inode_and_the_inode_before_the_name() -> None:
    device = RecordingDevice(blank(256 * KIB, block_size=512))
    fs = mount(device)

    def follow(*blocks: int) -> bool:
        """Whether each of the blocks was written a barrier after the one before it."""
        changes = [access for access in device.accesses if access.operation != "read"]
        barriers = 0
        written: dict[int, int] = {}
        for access in changes:
            barriers += access.operation == "barrier"
            for block in range(access.block_no, access.block_no + -(-access.size // 512)):
                written.setdefault(block, barriers)
        times = [written[block] for block in blocks]
        return times == sorted(set(times))

    fs.sync()
    device.accesses.clear()
    put(fs, "/file", b"x" * 10 * KIB)
    fs.sync()
    inode = fs.volume.lookup(ROOT_INO, b"file")
    table, _ = fs.volume.geometry.inode_location(inode.ino)
    names = fs.volume.inode(ROOT_INO).pointers[0]
    assert follow(inode.pointers[0], table, names)
    device.accesses.clear()
    fs.unlink("/file")
    fs.sync()
    assert follow(table, names, fs.volume.geometry.data_bitmap_start)
    fs.unmount()


def test_an_fsync_of_bytes_within_a_block_waits_for_two_barriers() -> None:
    device = RecordingDevice(blank(256 * KIB))
    fs = mount(device)
    fd = fs.open("/log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    fs.write(fd, b"first")
    fs.fsync(fd)
    device.accesses.clear()
    fs.write(fd, b"second")
    fs.fsync(fd)
    assert [access.operation for access in device.accesses] == ["write", "barrier"] * 2


def test_space_that_was_freed_is_used_again_by_committing_first(
    make_fs: Callable[..., vsfs.FileSystem],
) -> None:
    fs = make_fs(64 * KIB, block_size=512)
    put(fs, "/full", b"x" * 64 * KIB)
    assert fs.statvfs("/").f_bfree == 0
    fs.unlink("/full")
    fs.mkdir("/a")
    put(fs, "/b", b"y" * 10 * KIB)
    assert get(fs, "/b") == b"y" * 10 * KIB


# -- mounting -----------------------------------------------------------------------


def test_mounting_says_so_on_the_disk_and_unmounting_takes_it_back() -> None:
    device = blank()
    (before,) = struct.unpack_from("<I", device.image, 152)
    fs = mount(device)
    assert walk(device.image, mounted=True).findings == []
    fs.unmount()
    assert walk(device.image).findings == []
    assert struct.unpack_from("<I", device.image, 152) == (before + 1,)
    (mounted_ns,) = struct.unpack_from("<q", device.image, 128)
    assert mounted_ns > 10**18


def test_unmounting_twice_does_nothing_more() -> None:
    device = blank()
    fs = mount(device)
    fs.unmount()
    before = bytes(device.image)
    fs.unmount()
    assert device.image == before


def test_a_read_only_mount_writes_nothing() -> None:
    image = bytes(prepared().image)
    device = RecordingDevice(MemoryDevice(bytearray(image)))
    fs = mount(device, read_only=True, atime="strictatime")
    assert get(fs, "/d/f") == b"f" * 700
    fs.readlink("/long")
    fs.listdir("/crowd")
    for name, action in OPERATIONS.items():
        assert errno_of(action, fs) == errno.EROFS, name
    fs.sync()
    fs.unmount()
    assert image_of(fs) == image
    assert not [access for access in device.accesses if access.operation != "read"]


def edit_superblock(device: MemoryDevice, offset: int, content: bytes) -> None:
    device.image[offset : offset + len(content)] = content
    device.image[508:512] = zlib.crc32(device.image[:508]).to_bytes(4, "little")


def test_after_a_crash_the_free_counts_are_counted_anew(caplog: pytest.LogCaptureFixture) -> None:
    device = prepared()
    edit_superblock(device, 68, struct.pack("<I", 2))  # mounted
    edit_superblock(device, 56, struct.pack("<QI", 1, 1))  # free blocks and inodes
    with caplog.at_level(logging.WARNING, "vsfs"):
        fs = mount(device)
    assert "not cleanly unmounted" in caplog.text
    sound(fs)
    fs.unmount()
    assert walk(device.image).findings == []


def test_an_unknown_feature_for_writers_allows_reading_only() -> None:
    device = prepared()
    edit_superblock(device, 16, struct.pack("<I", 1 << 30))
    fs = mount(device)
    assert get(fs, "/d/f") == b"f" * 700
    assert errno_of(fs.mkdir, "/a") == errno.EROFS
    fs.unmount()


def test_what_is_no_filesystem_is_refused() -> None:
    with pytest.raises(vsfs.NotVsfs):
        mount(MemoryDevice(bytearray(256 * KIB)))
    with pytest.raises(vsfs.NotVsfs):
        mount(MemoryDevice(bytearray(0)))
    device = prepared()
    edit_superblock(device, 12, struct.pack("<I", 1 << 30))
    with pytest.raises(vsfs.UnknownFeature):
        mount(device)


def test_a_root_that_is_no_directory_is_damage() -> None:
    device = blank()
    (start,) = struct.unpack_from("<I", device.image, 48)
    at = start * 4096 + 2 * 256
    device.image[at : at + 4] = struct.pack("<I", FILE)
    checksum = zlib.crc32(struct.pack("<I", 2) + device.image[at : at + 252])
    device.image[at + 252 : at + 256] = struct.pack("<I", checksum)
    with pytest.raises(Corrupt, match="the root"):
        mount(device)


def test_files_left_open_are_freed_by_unmounting(fs: vsfs.FileSystem) -> None:
    fs.open("/a", os.O_CREAT | os.O_WRONLY)
    fs.write(fs.open("/b", os.O_CREAT | os.O_WRONLY), b"x" * 5000)
    fs.unlink("/a")
    fs.unlink("/b")
    fs.unmount()
    found = walk(image_of(fs))
    assert found.findings == []
    assert set(found.inodes) == {2}


# -- calls by inode number ----------------------------------------------------------


@pytest.fixture
def volume(fs: vsfs.FileSystem) -> vsfs.Volume:
    return fs.volume


def test_names_that_cannot_be_are_refused(volume: vsfs.Volume) -> None:
    for name, code in (
        (b"", errno.EINVAL),
        (b"a/b", errno.EINVAL),
        (b"a\0b", errno.EINVAL),
        (b"n" * 256, errno.ENAMETOOLONG),
        (b".", errno.EEXIST),
        (b"..", errno.EEXIST),
    ):
        assert errno_of(volume.mkdir, ROOT_INO, name, 0o755, 0, 0) == code, name
    volume.mkdir(ROOT_INO, b"n" * 255, 0o755, 0, 0)


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (stat.S_IFDIR | 0o755, errno.EPERM),
        (stat.S_IFLNK | 0o777, errno.EINVAL),
        (0o644, errno.EINVAL),
        (0o110644, errno.EINVAL),
    ],
)
def test_mknod_makes_files_and_special_files_only(
    volume: vsfs.Volume, mode: int, code: int
) -> None:
    assert errno_of(volume.mknod, ROOT_INO, b"new", mode, 0, 0) == code


@pytest.mark.parametrize("wrong", [-1, 2**32])
def test_ids_and_devices_have_32_bits(volume: vsfs.Volume, wrong: int) -> None:
    assert errno_of(volume.mknod, ROOT_INO, b"new", FILE, wrong, 0) == errno.EINVAL
    assert errno_of(volume.mknod, ROOT_INO, b"new", FILE, 0, wrong) == errno.EINVAL
    device = stat.S_IFCHR | 0o600
    assert errno_of(volume.mknod, ROOT_INO, b"new", device, 0, 0, wrong) == errno.EINVAL
    assert errno_of(volume.setattr, ROOT_INO, uid=wrong) == errno.EINVAL
    assert errno_of(volume.lookup, ROOT_INO, b"new") == errno.ENOENT
    inode = volume.mknod(ROOT_INO, b"largest", FILE, 2**32 - 1, 2**32 - 1)
    assert (inode.uid, inode.gid) == (2**32 - 1,) * 2


def test_a_name_in_a_file_or_a_removed_directory_cannot_be_made(volume: vsfs.Volume) -> None:
    file = volume.mknod(ROOT_INO, b"file", FILE, 0, 0)
    assert errno_of(volume.mkdir, file.ino, b"x", 0o755, 0, 0) == errno.ENOTDIR
    gone = volume.mkdir(ROOT_INO, b"gone", 0o755, 0, 0)
    handle = volume.open(gone.ino, os.O_DIRECTORY).handle
    volume.rmdir(ROOT_INO, b"gone")
    for call, args in (
        (volume.mkdir, (gone.ino, b"x", 0o755, 0, 0)),
        (volume.link, (file.ino, gone.ino, b"x")),
        (volume.rename, (ROOT_INO, b"file", gone.ino, b"x")),
    ):
        assert errno_of(call, *args) == errno.ENOENT
    volume.release(handle)


def test_a_file_without_names_cannot_be_linked_again(volume: vsfs.Volume) -> None:
    file = volume.mknod(ROOT_INO, b"file", FILE, 0, 0)
    handle = volume.open(file.ino, os.O_RDWR).handle
    volume.unlink(ROOT_INO, b"file")
    assert errno_of(volume.link, file.ino, ROOT_INO, b"again") == errno.ENOENT
    volume.release(handle)


def test_a_file_has_at_most_so_many_links(volume: vsfs.Volume) -> None:
    file = volume.mknod(ROOT_INO, b"file", FILE, 0, 0)
    file.nlink = LINK_MAX
    assert errno_of(volume.link, file.ino, ROOT_INO, b"one-more") == errno.EMLINK
    file.nlink = 1


def test_sizes_are_for_regular_files(volume: vsfs.Volume) -> None:
    fifo = volume.mknod(ROOT_INO, b"fifo", stat.S_IFIFO | 0o644, 0, 0)
    file = volume.mknod(ROOT_INO, b"file", FILE, 0, 0)
    assert errno_of(volume.setattr, ROOT_INO, size=0) == errno.EISDIR
    assert errno_of(volume.setattr, fifo.ino, size=0) == errno.EINVAL
    assert errno_of(volume.setattr, file.ino, size=-1) == errno.EINVAL
    assert errno_of(volume.setattr, file.ino, size=2**63) == errno.EFBIG
    assert errno_of(volume.setattr, file.ino, size=9, mode=0, uid=-1) == errno.EINVAL
    assert (file.size, file.mode) == (0, FILE)


def test_times_beyond_what_the_disk_holds_are_its_ends(volume: vsfs.Volume) -> None:
    inode = volume.setattr(ROOT_INO, atime_ns=-(2**80), mtime_ns=2**80)
    assert (inode.atime_ns, inode.mtime_ns) == (MIN_TIME_NS, MAX_TIME_NS)


def test_a_set_group_id_directory_hands_on_its_group(volume: vsfs.Volume) -> None:
    parent = volume.mkdir(ROOT_INO, b"team", 0o2775, 1, 50)
    volume.setattr(parent.ino, mode=0o2775)
    file = volume.mknod(parent.ino, b"file", FILE, 7, 8)
    below = volume.mkdir(parent.ino, b"dir", 0o755, 7, 8)
    link = volume.symlink(parent.ino, b"link", b"x", 7, 8)
    assert (file.uid, file.gid, file.mode) == (7, 50, FILE)
    assert (below.gid, below.mode) == (50, stat.S_IFDIR | 0o2755)
    assert link.gid == 50


def test_dot_and_dotdot_can_neither_be_removed_nor_renamed(volume: vsfs.Volume) -> None:
    below = volume.mkdir(ROOT_INO, b"d", 0o755, 0, 0)
    assert errno_of(volume.rmdir, below.ino, b".") == errno.EINVAL
    assert errno_of(volume.rmdir, below.ino, b"..") == errno.ENOTEMPTY
    assert errno_of(volume.unlink, below.ino, b"..") == errno.EISDIR
    assert errno_of(volume.rename, below.ino, b".", ROOT_INO, b"x") == errno.EBUSY
    assert errno_of(volume.rename, ROOT_INO, b"d", below.ino, b"..") in (errno.EBUSY, errno.EINVAL)


def test_calls_check_what_a_path_walk_would_have_checked(volume: vsfs.Volume) -> None:
    file = volume.mknod(ROOT_INO, b"file", FILE, 0, 0)
    below = volume.mkdir(ROOT_INO, b"d", 0o755, 0, 0)
    for call, args, code in (
        (volume.readlink, (file.ino,), errno.EINVAL),
        (volume.symlink, (ROOT_INO, b"l", b"", 0, 0), errno.ENOENT),
        (volume.symlink, (ROOT_INO, b"l", b"t" * 4096, 0, 0), errno.ENAMETOOLONG),
        (volume.link, (below.ino, ROOT_INO, b"l"), errno.EPERM),
        (volume.unlink, (ROOT_INO, b"missing"), errno.ENOENT),
        (volume.rmdir, (ROOT_INO, b"missing"), errno.ENOENT),
        (volume.rename, (ROOT_INO, b"missing", ROOT_INO, b"l"), errno.ENOENT),
        (volume.lookup, (file.ino, b"x"), errno.ENOTDIR),
        (volume.readdir, (file.ino,), errno.ENOTDIR),
    ):
        assert errno_of(call, *args) == code, (call, args)


def test_statistics_count_what_was_freed_at_once(volume: vsfs.Volume) -> None:
    before = volume.statistics()
    volume.mkdir(ROOT_INO, b"d", 0o755, 0, 0)
    during = volume.statistics()
    assert (during.free_blocks, during.free_inodes) == (
        before.free_blocks - 1,
        before.free_inodes - 1,
    )
    volume.rmdir(ROOT_INO, b"d")
    assert volume.statistics() == before


def test_readdir_gives_types_and_the_dots(volume: vsfs.Volume) -> None:
    below = volume.mkdir(ROOT_INO, b"d", 0o755, 0, 0)
    volume.symlink(below.ino, b"l", b"x", 0, 0)
    names = {name: (e.ino, e.file_type) for name, e in volume.readdir(below.ino)}
    assert names == {b".": (below.ino, 2), b"..": (ROOT_INO, 2), b"l": (below.ino + 1, 7)}


def test_handles_are_checked(volume: vsfs.Volume) -> None:
    for call, args in (
        (volume.read, (9, 1, 0)),
        (volume.write, (9, b"x", 0)),
        (volume.append, (9, b"x")),
        (volume.fsync, (9,)),
        (volume.release, (9,)),
    ):
        assert errno_of(call, *args) == errno.EBADF
    handle = volume.open(ROOT_INO, os.O_RDONLY).handle
    assert errno_of(volume.read, handle, 1, 0) == errno.EISDIR
    volume.release(handle)


def test_parents_that_go_in_a_circle_are_damage_not_an_endless_loop() -> None:
    device = blank()
    fs = mount(device)
    for path in ("/a", "/a/b", "/a/b/c", "/other"):
        fs.mkdir(path)
    fs.sync()
    a, b = (fs.stat(path).st_ino for path in ("/a", "/a/b"))
    fs.chdir("/a/b/c")
    a_index = fs.volume.inode(a)
    b_ino = struct.pack("<I", b)
    (block,) = {run.block for run in fs.volume.blockmap.runs(a_index, 0, 1)}
    fs.unmount()
    device.image[block * 4096 + 12 : block * 4096 + 16] = b_ino  # `..` of /a is /a/b
    fs = mount(device, read_only=False)
    with pytest.raises(Corrupt, match="a loop"):
        fs.rename("/other", "/a/b/c/x")
    fs.chdir("/a/b/c")
    with pytest.raises(Corrupt):
        fs.getcwd()
    fs.unmount()


# -- access times -------------------------------------------------------------------


def atime_moves(fs: vsfs.FileSystem, action: Action, path: str) -> bool:
    before = fs.lstat(path).st_atime_ns
    action(fs)
    return fs.lstat(path).st_atime_ns > before


DAY_NS = 24 * 60 * 60 * 10**9
READS: list[tuple[str, Action]] = [
    ("/file", lambda fs: get(fs, "/file")),
    ("/dir", lambda fs: fs.listdir("/dir")),
    ("/link", lambda fs: fs.readlink("/link")),
]


@pytest.mark.parametrize(("path", "read"), READS, ids=["read", "readdir", "readlink"])
@pytest.mark.parametrize("atime", ["relatime", "noatime", "strictatime"])
def test_an_access_is_noted_by_the_rule_of_the_mount(
    make_fs: Callable[..., vsfs.FileSystem], path: str, read: Action, atime: str
) -> None:
    clock = Clock()
    fs = make_fs(atime=atime, clock=clock)
    put(fs, "/file", b"content")
    fs.mkdir("/dir")
    fs.symlink("x", "/link")
    moves = [atime_moves(fs, read, path) for _ in range(2)]
    clock.now_ns += DAY_NS
    moves.append(atime_moves(fs, read, path))
    assert (
        moves
        == {
            "relatime": [True, False, True],
            "noatime": [False] * 3,
            "strictatime": [True] * 3,
        }[atime]
    )


# -- threads ------------------------------------------------------------------------


def test_threads_may_use_one_volume(make_fs: Callable[..., vsfs.FileSystem]) -> None:
    fs = make_fs(4096 * KIB, commit_interval=0.001)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(40):
                path = f"/{number}-{step % 7}"
                put(fs, path, bytes([number]) * 3000)
                assert get(fs, path) == bytes([number]) * 3000
                fs.rename(path, path + "x")
                fs.unlink(path + "x")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert fs.listdir("/") == []


def test_many_inodes_do_not_stay_in_memory(make_fs: Callable[..., vsfs.FileSystem]) -> None:
    fs = make_fs(1024 * KIB, block_size=1024, atime="noatime")
    fs.volume.inodes.capacity = 10
    for number in range(60):
        put(fs, f"/{number}", b"%d" % number)
    fs.sync()
    for number in range(60):
        assert get(fs, f"/{number}") == b"%d" % number
        assert fs.stat(f"/{number}").st_nlink == 1
    fs.volume.inode(ROOT_INO)
    assert not fs.volume.inodes.is_crowded


def test_names_of_many_directories_do_not_stay_in_memory(
    make_fs: Callable[..., vsfs.FileSystem],
) -> None:
    """An index that was dropped is built again from the blocks, changed or not."""
    fs = make_fs(1024 * KIB, block_size=1024)
    fs.volume.inodes.names = 20
    fs.volume.inodes._trim_indexes()  # lets the new bound hold
    model: dict[str, set[str]] = {f"/d{number}": set() for number in range(8)}
    for path in model:
        fs.mkdir(path)
    directories = [fs.volume.inode(fs.stat(path).st_ino) for path in model]
    chooser = random.Random(40)
    for step in range(220):
        in_use = list(model)[step // 55 * 2 :][:2]
        path, name = chooser.choice(in_use), f"n{step}"
        if chooser.random() < 0.4 or not model[path]:
            fs.mknod(f"{path}/{name}")
        else:
            source = path
            path = chooser.choice(in_use)
            old = model[source].pop()
            fs.rename(f"{source}/{old}", f"{path}/{name}")
        model[path].add(name)
        assert set(fs.listdir(path)) == model[path]
    held = [len(directory.index) for directory in directories if directory.index is not None]
    assert sum(held) < 20 + 2 * max(held) < sum(map(len, model.values()))
    assert {path: set(fs.listdir(path)) for path in model} == model


def test_more_changed_inodes_than_memory_should_hold_make_a_commit(fs: vsfs.FileSystem) -> None:
    """Otherwise none could be forgotten, and each call would look through all of them."""
    fs.volume.inodes.capacity = 10
    for number in range(50):
        fs.mknod(f"/{number}")
        assert not fs.volume.inodes.is_overdue
    assert len(fs.listdir("/")) == 50


def test_an_orphan_that_cannot_be_freed_keeps_nothing_else_from_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fs = mount(device := blank())
    fd = fs.open("/orphan", os.O_CREAT | os.O_WRONLY)
    fs.write(fd, b"x" * 4096)
    fs.sync()
    fs.unlink("/orphan")
    fs.mkdir("/kept")
    monkeypatch.setattr(fs.volume.blockmap, "free_all", _damaged)
    fs.unmount()
    again = mount(device, read_only=True)
    assert again.listdir("/") == ["kept"]
    assert again.volume.superblock.state == 2  # whoever mounts it next has to look


def _damaged(_inode: object) -> None:
    raise Corrupt("inode 3", 3, 768, "damage", "none")


# -- where files are placed ----------------------------------------------------------


def block_of(fs: vsfs.FileSystem, path: str) -> int:
    """The first block of a file."""
    return fs.volume.inode(fs.stat(path).st_ino).pointers[0]


def two_directories(fs: vsfs.FileSystem) -> None:
    """/near and /far, with much between and a hole in front of each."""
    for path in ("/near", "/far"):
        put(fs, f"{path}-hole", b"x" * 4096)
        fs.mkdir(path)
        put(fs, f"{path}-file", b"x" * 4096 * 12)
    for path in ("/near-hole", "/far-hole"):
        fs.unlink(path)
    put(fs, "/near/empty")
    put(fs, "/far/empty")
    fs.sync()


def test_on_a_fresh_image_blocks_and_inodes_are_given_out_in_order(fs: vsfs.FileSystem) -> None:
    """As in the book's pictures."""
    for number in range(10):
        put(fs, f"/{number}", b"x")
        assert (fs.stat(f"/{number}").st_ino, block_of(fs, f"/{number}")) == (
            3 + number,
            9 + number,
        )
    fs.mkdir("/directory")
    assert block_of(fs, "/directory") == 19


@pytest.mark.parametrize("mounted_afresh", [False, True])
def test_what_is_new_goes_near_its_directory(mounted_afresh: bool) -> None:
    fs = mount(device := blank(1024 * KIB))
    two_directories(fs)
    if mounted_afresh:
        fs.unmount()
        fs = mount(device)
    behind = block_of(fs, "/far")
    put(fs, "/far/new", b"x")
    put(fs, "/far/empty", b"x")
    fs.mkdir("/far/directory")
    fs.symlink("x" * 1000, "/far/link")
    placed = [block_of(fs, f"/far/{name}") for name in ("new", "empty", "directory")]
    placed.append(fs.volume.lookup(fs.stat("/far").st_ino, b"link").pointers[0])
    assert placed == list(range(behind + 13, behind + 17))
    put(fs, "/near-new", b"x")
    assert block_of(fs, "/near-new") == block_of(fs, "/") + 1  # that hole is the nearest
    fs.unmount()
    assert walk(bytes(device.image)).findings == []


def test_a_place_costs_no_read_but_of_the_bitmap() -> None:
    with mount(device := blank(1024 * KIB)) as fs:
        two_directories(fs)
    recording = RecordingDevice(device)
    with mount(recording) as fs:
        fd = fs.open("/far/empty", os.O_WRONLY)
        recording.accesses.clear()
        fs.write(fd, b"x" * 4096)
        assert [(access.operation, access.kind) for access in recording.accesses] == [
            ("read", Kind.DATA_BITMAP),
            ("write", Kind.DATA),
        ]


def test_a_truncated_file_is_written_where_it_was() -> None:
    with mount(device := blank(1024 * KIB)) as fs:
        two_directories(fs)
        put(fs, "/far/file", b"x" * 5000)
        before = block_of(fs, "/far/file")
    with mount(device) as fs:
        fs.truncate("/far/file", 0)
        fs.sync()
        put(fs, "/far/file", b"x" * 5000)
        assert block_of(fs, "/far/file") == before


def test_a_directory_that_grows_among_its_files_doubles_in_place(
    make_fs: Callable[..., vsfs.FileSystem],
) -> None:
    fs = make_fs(4096 * KIB, block_size=512, inode_count=1100)
    for number in range(1000):
        put(fs, f"/{number:050}", b"x")
    root = fs.volume.inode(ROOT_INO)
    runs = fs.volume.blockmap.runs(root, 0, root.size // 512)
    assert sum(run.count for run in runs) > 100
    assert len(runs) < 20


# -- inodes that somebody knows ------------------------------------------------------


def test_an_inode_without_names_stays_while_it_is_known(
    make_fs: Callable[..., vsfs.FileSystem],
) -> None:
    fs = make_fs()
    volume = fs.volume
    free = volume.statistics()
    put(fs, "/a", b"x" * 5000)
    ino = fs.stat("/a").st_ino
    volume.known = {ino}
    fs.unlink("/a")
    volume.sync()
    assert volume.held.keys() == {ino}
    assert volume.inode(ino).nlink == 0
    volume.let_go(ino)
    assert volume.statistics() == free
    assert not volume.held


def test_a_known_inode_that_was_open_stays_at_its_last_close(
    make_fs: Callable[..., vsfs.FileSystem],
) -> None:
    fs = make_fs()
    fd = fs.open("/a", os.O_CREAT | os.O_RDWR)
    ino = fs.fstat(fd).st_ino
    fs.volume.known = {ino}
    fs.unlink("/a")
    assert not fs.volume.held
    fs.close(fd)
    assert fs.volume.held.keys() == {ino}
    fs.volume.close()
    assert not fs.volume.held


def test_an_unlink_that_fails_holds_nothing(make_fs: Callable[..., vsfs.FileSystem]) -> None:
    fs = make_fs()
    put(fs, "/a", b"x")
    inode = fs.volume.lookup(ROOT_INO, b"a")
    fs.volume.known = {inode.ino}
    fs.volume.cache.begin()
    fs.volume._drop_link(inode, 0)
    fs.volume.cache.rollback()
    assert (inode.nlink, inode.open_count, fs.volume.held) == (1, 0, {})
