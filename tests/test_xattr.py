"""Extended attributes: the block that holds them, and who may use which."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vsfs
from tests.support.images import ALICE, as_user, blank, errno_of, image_of, mount, sound
from tests.support.rawwalk import walk
from vsfs.device import RecordingDevice
from vsfs.errors import Corrupt, NoSpace
from vsfs.layout import attribute_records, encode_attributes

names = st.builds(
    lambda space, rest: space + rest,
    st.sampled_from([b"user.", b"trusted.", b"security."]),
    st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name),
)


def touch(fs: vsfs.FileSystem, path: str) -> None:
    fs.close(fs.open(path, os.O_CREAT | os.O_WRONLY))


@pytest.fixture
def with_file(fs: vsfs.FileSystem) -> vsfs.FileSystem:
    touch(fs, "/f")
    return fs


def test_a_value_is_what_was_set(with_file: vsfs.FileSystem) -> None:
    with_file.setxattr("/f", "user.comment", b"\0any\xff bytes")
    with_file.setxattr("/f", "user.empty", b"")
    assert with_file.getxattr("/f", "user.comment") == b"\0any\xff bytes"
    assert with_file.getxattr("/f", b"user.empty") == b""
    assert sorted(with_file.listxattr("/f")) == ["user.comment", "user.empty"]


def test_the_block_has_the_bytes_of_the_format(with_file: vsfs.FileSystem) -> None:
    with_file.setxattr("/f", "user.b", b"second")
    with_file.setxattr("/f", "user.a", b"1st")
    ino = with_file.stat("/f").st_ino
    with_file.sync()
    image = image_of(with_file)
    (block,) = struct.unpack_from("<I", image, 3 * 4096 + ino * 256 + 140)
    body = (
        struct.pack("<BBH", 6, 0, 3) + b"user.a1st" + bytes(3)
        + struct.pack("<BBH", 6, 0, 6) + b"user.bsecond"
    )  # fmt: skip
    head = struct.pack("<4sII", b"ATTR", ino, 16 + len(body))
    checksum = struct.pack("<I", zlib.crc32(head + bytes(4) + body))
    expected = head + checksum + body
    assert image[block * 4096 : (block + 1) * 4096] == expected.ljust(4096, b"\0")


def test_an_inode_owns_a_block_only_while_it_has_attributes(with_file: vsfs.FileSystem) -> None:
    free = with_file.statvfs().f_bfree
    with_file.setxattr("/f", "user.a", b"1")
    with_file.setxattr("/f", "user.b", b"2")
    assert (with_file.stat("/f").st_blocks, with_file.statvfs().f_bfree) == (8, free - 1)
    with_file.removexattr("/f", "user.a")
    with_file.removexattr("/f", "user.b")
    assert (with_file.stat("/f").st_blocks, with_file.statvfs().f_bfree) == (0, free)


def test_deleting_the_file_frees_its_attributes(with_file: vsfs.FileSystem) -> None:
    free = with_file.statvfs().f_bfree
    with_file.setxattr("/f", "user.a", b"1")
    with_file.sync()
    with_file.unlink("/f")
    assert with_file.statvfs().f_bfree == free


def test_a_committed_block_is_never_changed_in_place() -> None:
    device = RecordingDevice(blank())
    fs = mount(device)
    touch(fs, "/f")
    fs.setxattr("/f", "user.a", b"1")
    fs.sync()
    before = fs.volume.inode(3).attribute_block
    device.accesses.clear()
    fs.setxattr("/f", "user.a", b"2")
    fs.sync()
    assert before not in {access.block_no for access in device.accesses}
    assert fs.volume.inode(3).attribute_block != before
    fs.unmount()


def test_a_failed_change_leaves_the_old_set(with_file: vsfs.FileSystem) -> None:
    with_file.setxattr("/f", "user.a", b"old")
    too_much = bytes(4096 - 16 - 4 - 6 - 4 - 6 - 3)
    assert errno_of(with_file.setxattr, "/f", "user.b", too_much) == errno.ENOSPC
    assert with_file.listxattr("/f") == ["user.a"]
    sound(with_file)


def test_the_set_may_fill_the_block_to_its_last_byte(with_file: vsfs.FileSystem) -> None:
    value = bytes(4096 - 16 - 4 - 6)
    with_file.setxattr("/f", "user.a", value)
    assert with_file.getxattr("/f", "user.a") == value
    assert errno_of(with_file.setxattr, "/f", "user.a", value + b"x") == errno.ENOSPC


def test_without_a_free_block_nothing_changes(with_file: vsfs.FileSystem) -> None:
    fd = with_file.open("/big", os.O_CREAT | os.O_WRONLY)
    while with_file.statvfs().f_bfree:
        with_file.write(fd, bytes(4096))
    assert errno_of(with_file.setxattr, "/f", "user.a", b"1") == errno.ENOSPC
    assert with_file.listxattr("/f") == []


@pytest.mark.parametrize(
    ("name", "flags", "code"),
    [
        ("user.old", os.XATTR_CREATE, errno.EEXIST),
        ("user.new", os.XATTR_REPLACE, errno.ENODATA),
        ("system.posix_acl_access", 0, errno.EOPNOTSUPP),
        ("comment", 0, errno.EOPNOTSUPP),
        ("user.", 0, errno.EINVAL),
        ("user." + "x" * 251, 0, errno.ERANGE),
    ],
)
def test_a_bad_name_or_flag_has_its_errno(
    name: str, flags: int, code: int, with_file: vsfs.FileSystem
) -> None:
    with_file.setxattr("/f", "user.old", b"1")
    assert errno_of(with_file.setxattr, "/f", name, b"", flags) == code
    assert with_file.listxattr("/f") == ["user.old"]


def test_a_name_of_255_bytes_is_allowed(with_file: vsfs.FileSystem) -> None:
    with_file.setxattr("/f", "user." + "x" * 250, b"1")
    assert with_file.getxattr("/f", "user." + "x" * 250) == b"1"


def test_a_value_of_more_than_65535_bytes_is_too_big(make_fs: Callable[..., Any]) -> None:
    fs = make_fs(64 * 65536, block_size=65536)
    touch(fs, "/f")
    assert errno_of(fs.setxattr, "/f", "user.a", bytes(65536)) == errno.E2BIG


def test_a_set_that_does_not_fit_is_told_with_its_size(with_file: vsfs.FileSystem) -> None:
    with_file.setxattr("/f", "user.a", bytes(2000))
    with pytest.raises(NoSpace, match=r"would take 5040 bytes, and all .* a block of 4096"):
        with_file.setxattr("/f", "user.b", bytes(3000))
    assert with_file.listxattr("/f") == ["user.a"]


@pytest.mark.parametrize("call", ["getxattr", "removexattr"])
def test_what_is_not_there_is_enodata(call: str, with_file: vsfs.FileSystem) -> None:
    assert errno_of(getattr(with_file, call), "/f", "user.none") == errno.ENODATA


def test_a_change_updates_ctime_only(with_file: vsfs.FileSystem) -> None:
    before = with_file.stat("/f")
    with_file.setxattr("/f", "user.a", b"1")
    after = with_file.stat("/f")
    assert after.st_ctime_ns > before.st_ctime_ns
    assert (after.st_atime_ns, after.st_mtime_ns) == (before.st_atime_ns, before.st_mtime_ns)


def test_symbolic_links_have_trusted_but_no_user_attributes(with_file: vsfs.FileSystem) -> None:
    with_file.symlink("f", "/l")
    with_file.setxattr("/l", "trusted.a", b"link", follow_symlinks=False)
    with_file.setxattr("/l", "user.a", b"file")
    assert with_file.getxattr("/f", "user.a") == b"file"
    assert with_file.listxattr("/l", follow_symlinks=False) == ["trusted.a"]
    assert errno_of(with_file.setxattr, "/l", "user.a", b"", follow_symlinks=False) == errno.EPERM


def test_only_root_sees_and_sets_trusted_attributes(with_file: vsfs.FileSystem) -> None:
    with_file.setxattr("/f", "trusted.a", b"1")
    with_file.setxattr("/f", "user.a", b"1")
    alice = as_user(with_file, ALICE)
    assert alice.listxattr("/f") == ["user.a"]
    assert errno_of(alice.getxattr, "/f", "trusted.a") == errno.ENODATA
    assert errno_of(alice.setxattr, "/f", "trusted.a", b"") == errno.EPERM
    assert errno_of(alice.setxattr, "/f", "security.a", b"") == errno.EPERM


def test_user_attributes_follow_the_permissions_of_the_file(with_file: vsfs.FileSystem) -> None:
    with_file.setxattr("/f", "user.a", b"1")
    with_file.chmod("/f", 0o604)
    alice = as_user(with_file, ALICE)
    assert alice.getxattr("/f", "user.a") == b"1"
    assert errno_of(alice.setxattr, "/f", "user.a", b"2") == errno.EACCES
    with_file.chmod("/f", 0o600)
    assert errno_of(alice.getxattr, "/f", "user.a") == errno.EACCES


def test_attributes_survive_a_new_mount() -> None:
    device = blank()
    fs = mount(device)
    fs.mkdir("/d")
    fs.setxattr("/d", "user.a", b"1")
    fs.unmount()
    fs = mount(device)
    assert fs.getxattr("/d", "user.a") == b"1"
    fs.unmount()
    assert walk(bytes(device.image)).findings == []


@given(st.lists(st.tuples(names, st.none() | st.binary(max_size=60)), max_size=25))
def test_any_sequence_agrees_with_a_dict(changes: list[tuple[bytes, bytes | None]]) -> None:
    fs = mount(blank())
    touch(fs, "/f")
    model: dict[bytes, bytes] = {}
    for number, (name, value) in enumerate(changes):
        if value is None:
            expected = 0 if model.pop(name, None) is not None else errno.ENODATA
            assert errno_of(fs.removexattr, "/f", name) == expected
        else:
            fs.setxattr("/f", name, value)
            model[name] = value
        if number % 4 == 3:
            fs.sync()
    assert {os.fsencode(name): fs.getxattr("/f", name) for name in fs.listxattr("/f")} == model
    fs.unmount()
    assert walk(image_of(fs)).findings == []


@given(st.dictionaries(names, st.binary(max_size=50), max_size=8), st.data())
def test_a_damaged_block_raises_nothing_but_corrupt(
    attributes: dict[bytes, bytes], data: st.DataObject
) -> None:
    block = encode_attributes(7, attributes, 1024)
    assert {r.name: r.value for r in attribute_records(block, 9, 7)} == attributes
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] ^= data.draw(st.integers(1, 255))
    try:
        list(attribute_records(block, 9, 7))
    except Corrupt as error:
        assert error.block == 9
        assert 0 <= error.offset < 1024


def test_a_damaged_block_is_named(with_file: vsfs.FileSystem) -> None:
    with_file.setxattr("/f", "user.a", b"1")
    ino = with_file.stat("/f").st_ino
    with_file.unmount()
    device: Any = with_file.volume.device
    (block,) = struct.unpack_from("<I", device.image, 3 * 4096 + ino * 256 + 140)
    device.image[block * 4096 + 20] ^= 1
    fs = mount(device, read_only=True)
    with pytest.raises(
        Corrupt, match=rf"attribute block of inode {ino} \(block {block}, offset 12"
    ):
        fs.listxattr("/f")
    device.image[block * 4096 + 20] ^= 1
