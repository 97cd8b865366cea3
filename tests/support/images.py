"""Images in memory, and filesystems on them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import vsfs
from tests.support.rawwalk import Walk, walk
from vsfs.device import Access, FailingDevice, MemoryDevice
from vsfs.mkfs import Identity, make, plan

KIB = 1024
IDENTITY = Identity(uuid=bytes(range(16)), label="test", now_ns=10**18, uid=0, gid=0)
ROOT = vsfs.Credentials(0, 0)
ALICE = vsfs.Credentials(1000, 1000, frozenset({1000, 2000}))
BOB = vsfs.Credentials(1001, 1001)


class Clock:
    """Time in ns that passes one microsecond with each look."""

    def __init__(self) -> None:
        self.now_ns = IDENTITY.now_ns

    def __call__(self) -> int:
        self.now_ns += 1000
        return self.now_ns


def blank(
    size: int = 256 * KIB,
    *,
    block_size: int = 4096,
    inode_count: int | None = None,
    journal_blocks: int | None = None,
) -> MemoryDevice:
    """A freshly made filesystem in memory; with a journal if `journal_blocks` says so."""
    device = MemoryDevice(bytearray(size))
    geometry = plan(size, block_size=block_size, inode_count=inode_count)
    make(device, geometry, IDENTITY, journal_blocks=journal_blocks)
    return device


def mount(
    device: vsfs.BlockDevice, user: vsfs.Credentials = ROOT, **options: Any
) -> vsfs.FileSystem:
    """Mount it as `user`; commits only when asked to, unless `options` say otherwise."""
    options = {"commit_interval": None, "clock": Clock(), **options}
    return vsfs.FileSystem.open(device, credentials=user, **options)


def as_user(fs: vsfs.FileSystem, user: vsfs.Credentials) -> vsfs.FileSystem:
    """The same volume, seen by another user."""
    return vsfs.FileSystem(fs.volume, user)


def image_of(fs: vsfs.FileSystem) -> bytes:
    """The bytes below a filesystem that :func:`mount` gave."""
    device: Any = fs.volume.device
    while not isinstance(device, MemoryDevice):
        device = device.below
    return bytes(device.image)


def sound(fs: vsfs.FileSystem) -> Walk:
    """Sync a mounted filesystem; what its image then holds, which has no fault."""
    fs.sync()
    found = walk(image_of(fs), mounted=True)
    assert found.findings == []
    return found


def snapshot(fs: vsfs.FileSystem) -> dict[bytes, tuple[object, ...]]:
    """The tree as raw bytes hold it: path to type, links, size and contents."""
    found = sound(fs)
    tree: dict[bytes, tuple[object, ...]] = {}
    for path, ino in found.paths.items():
        inode = found.inodes[ino]
        content = None if inode.entries else found.content(ino)
        tree[path] = (ino, inode.mode, inode.nlink, inode.uid, inode.gid, inode.size, content)
    return tree


def fail_nth(
    device: vsfs.BlockDevice, operation: str, nth: int, code: int = errno.EIO
) -> FailingDevice:
    """A device on which only the `nth` access (from 1) of kind `operation` fails."""
    seen = 0

    def fails(access: Access) -> bool:
        nonlocal seen
        seen += access.operation == operation
        return access.operation == operation and seen == nth

    return FailingDevice(device, fails, code)


def errno_of(call: Callable[..., object], *args: Any, **kwargs: Any) -> int:
    """The errno with which `call` fails; 0 if it does not."""
    try:
        call(*args, **kwargs)
    except OSError as error:
        return error.errno or -1
    return 0
