"""What a mount makes of a disk after a crash, as a second reader sees it.

:class:`Recovery` mounts a copy, which replays or repairs it, unmounts, checks it
and reads the tree.  What it finds depends on the disk alone, so it is asked once
for each disk, however many workloads lead there; and what it checks is
remembered, since thousands of crashes end in the same few trees.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import stat
import struct
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

import vsfs
from tests.support.crashes import Recorder
from tests.support.images import IDENTITY, ROOT
from tests.support.rawwalk import Walk, walk
from vsfs.device import MemoryDevice
from vsfs.errors import VsfsError
from vsfs.fsck import check
from vsfs.journal import Journal
from vsfs.validate import check_superblock

#: What fsck may say of a crashed filesystem with a journal, before any repair:
#: that it was not unmounted, and that a transaction waits, which it installs.
_BEFORE: Final = {701, 711}
#: A file without names that was open; a mount frees it.
_ORPHAN: Final = 206
_NOW_NS: Final = IDENTITY.now_ns

_REMEMBERED: Final = 20_000  # disks

R = TypeVar("R")

LOST_FOUND: Final = b"lost+found"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a recovered tree."""

    kind: str  # "f", "d", "l"
    content: bytes
    attributes: tuple[tuple[bytes, bytes], ...]
    names: dict[str, int] = field(default_factory=dict)  # of a directory


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came of a disk: `problems` is empty if the mount did what it should.

    `files` are by inode number, 2 being the root.
    """

    problems: tuple[str, ...]
    files: dict[int, Found]
    orphans: bool = False  # fsck found files without names before the mount


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without log lines: every mount of a crashed disk has some."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def has_journal(image: bytes | bytearray) -> bool:
    """Whether its superblock says so."""
    return bool(struct.unpack_from("<I", image, 8)[0] & 1)


def mount_quietly(device: vsfs.BlockDevice) -> vsfs.FileSystem:
    """Mount with a clock that stands still, so that equal trees are equal disks."""
    return vsfs.FileSystem.open(
        device, credentials=ROOT, commit_interval=None, clock=lambda: _NOW_NS, atime="noatime"
    )


class Recovery:
    """Mounts disks; remembers what it has checked, since most end in the same few."""

    def __init__(self) -> None:
        self._before: OrderedDict[bytes, tuple[tuple[str, ...], bool]] = OrderedDict()
        self._after: OrderedDict[bytes, tuple[tuple[str, ...], dict[int, Found]]] = OrderedDict()

    def recover(self, image: bytes | bytearray, *, look: bool = False) -> Recovered:
        """Mount a copy of `image`, unmount it, check it.

        With `look`, read it while it is mounted, too, and let fsck do the replay.
        """
        return self.recover_on(MemoryDevice(bytearray(image)), look=look)

    def recover_on(self, device: MemoryDevice, *, look: bool = False) -> Recovered:
        """:meth:`recover` on the device itself; a Recorder has the writes afterwards."""
        problems: tuple[str, ...] = ()
        orphans = False
        try:
            if has_journal(device.image):
                problems, orphans = self._before_mount(device.image)
                if look:
                    problems += _findings_before(device.image)[0]
            fs = mount_quietly(device)
            seen = tree_as_mounted(fs) if look else None
            fs.unmount()
        except VsfsError as error:
            return Recovered((*problems, f"the mount failed: {error}"), {}, orphans)
        except Exception as error:
            trace = "".join(traceback.format_exception(error)).rstrip()
            return Recovered((*problems, trace), {}, orphans)
        found, files = self._after_mount(device.image)
        problems += found
        if seen is not None and not problems and seen != files:
            problems = ("the mounted filesystem shows another tree than its image",)
        return Recovered(problems, files, orphans)

    def _before_mount(self, image: bytearray) -> tuple[tuple[str, ...], bool]:
        """What fsck finds wrong where a journal should need nothing but its replay."""
        device = MemoryDevice(bytearray(image))
        device.block_size = int.from_bytes(image[20:24], "little")
        if needs_replay(image):
            superblock = check_superblock(bytes(image[:512]), len(image))
            Journal(device, superblock.geometry).replay()
        plain = _with_blank_log(device.image)
        return _remembered(self._before, plain, _findings_before)

    def _after_mount(self, image: bytearray) -> tuple[tuple[str, ...], dict[int, Found]]:
        plain = _with_blank_log(image) if has_journal(image) else bytes(image)
        return _remembered(self._after, plain, _look_at)


def needs_replay(image: bytes | bytearray) -> bool:
    """Whether the superblock says that a transaction may wait."""
    return bool(struct.unpack_from("<I", image, 12)[0] & 1)


def _with_blank_log(image: bytes | bytearray) -> bytes:
    """The same disk with zeroes in the journal's log: nobody looks at it any more."""
    made = bytearray(image)
    (size,) = struct.unpack_from("<I", image, 20)
    for block in journal_blocks_of(image)[0][1:]:
        made[block * size : (block + 1) * size] = bytes(size)
    return bytes(made)


def _remembered(known: OrderedDict[bytes, R], image: bytes, find: Callable[[bytes], R]) -> R:
    key = hashlib.blake2b(image, digest_size=16).digest()
    if key in known:
        known.move_to_end(key)
        return known[key]
    found = known[key] = find(image)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
    return found


def _findings_before(image: bytes | bytearray) -> tuple[tuple[str, ...], bool]:
    """What fsck says that it should not, and whether there are files without names."""
    report = check(MemoryDevice(bytearray(image)), now_ns=_NOW_NS)
    numbers = {finding.rule.number for finding in report.findings}
    allowed = {*_BEFORE, _ORPHAN}
    bad = [finding.text for finding in report.findings if finding.rule.number not in allowed]
    return tuple(f"fsck says before the mount: {text}" for text in bad), _ORPHAN in numbers


def _look_at(image: bytes) -> tuple[tuple[str, ...], dict[int, Found]]:
    """What both checkers say of an unmounted image, and its tree if they say nothing."""
    report = check(MemoryDevice(bytearray(image)), now_ns=_NOW_NS)
    problems = [f"fsck then says: {finding.text}" for finding in report.findings]
    walked = walk(image)
    problems += [f"rawwalk then says: {text}" for text in walked.findings]
    return tuple(problems), {} if problems else _files(walked)


def _files(walked: Walk) -> dict[int, Found]:
    files = {}
    for ino, inode in walked.inodes.items():
        if stat.S_ISDIR(inode.mode):
            names = {
                name.decode(): child
                for name, child in inode.entries.items()
                if name not in (b".", b"..")
            }
            files[ino] = Found("d", b"", _attributes(walked, ino), names)
        else:
            kind = "l" if stat.S_ISLNK(inode.mode) else "f"
            files[ino] = Found(kind, walked.content(ino), _attributes(walked, ino))
    return files


def _attributes(walked: Walk, ino: int) -> tuple[tuple[bytes, bytes], ...]:
    image, size = walked.image, walked.block_size
    (table,) = struct.unpack_from("<I", image, 48)
    (block,) = struct.unpack_from("<I", image, table * size + ino * 256 + 140)
    if not block:
        return ()
    data = image[block * size : (block + 1) * size]
    (end,) = struct.unpack_from("<I", data, 8)
    found, at = [], 16
    while at < end:
        name_size, _, value_size = struct.unpack_from("<BBH", data, at)
        start = at + 4 + name_size
        found.append((data[at + 4 : start], data[start : start + value_size]))
        at += (4 + name_size + value_size + 3) // 4 * 4
    return tuple(sorted(found))


def tree_as_mounted(fs: vsfs.FileSystem) -> dict[int, Found]:
    """The files of a mounted filesystem by inode number, through its own calls."""
    volume = fs.volume
    files: dict[int, Found] = {}
    waiting = [2]
    while waiting:
        ino = waiting.pop()
        if ino in files:
            continue
        inode = volume.inode(ino)
        pairs = [(name, volume.getxattr(ino, name)) for name in volume.listxattr(ino)]
        attributes = tuple(sorted(pairs))
        if inode.is_directory:
            names = {name.decode(): entry.ino for name, entry in volume.readdir(ino)}
            del names["."], names[".."]
            files[ino] = Found("d", b"", attributes, names)
            waiting += names.values()
        elif inode.is_symlink:
            files[ino] = Found("l", volume.readlink(ino), attributes)
        else:
            file = volume.open(ino, 0)
            files[ino] = Found("f", volume.read(file.handle, inode.size, 0), attributes)
            volume.release(file.handle)
    return files


def recovery_record(image: bytes | bytearray) -> Recorder:
    """A device with the record of what a mount and an unmount write on `image`."""
    recorder = Recorder(bytes(image))
    mount_quietly(recorder).unmount()
    return recorder


# -- the journal as a second reader sees it -----------------------------------------


def journal_blocks_of(image: bytes | bytearray) -> tuple[list[int], list[int]]:
    """The journal's blocks in their order, and the indirect block if there is one."""
    (size,) = struct.unpack_from("<I", image, 20)
    (table,) = struct.unpack_from("<I", image, 48)
    at = table * size + 256
    (length,) = struct.unpack_from("<Q", image, at + 16)
    pointers = struct.unpack_from("<13I", image, at + 80)
    count = length // size
    blocks = list(pointers[: min(count, 12)])
    if count > 12:
        blocks += struct.unpack_from(f"<{count - 12}I", image, pointers[12] * size)
    return blocks, [pointers[12]] if pointers[12] else []
