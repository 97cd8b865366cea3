"""What must hold for every image, however broken: the promises of fsck.vsfs.

:func:`examine` checks one broken image, repairs it, and raises AssertionError
where a promise is not kept.
"""

from __future__ import annotations

import stat
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Final

from tests.support.mutation import Mutant, Target, differences, untouched
from tests.support.rawwalk import Walk, walk
from tests.support.readers import CountingDevice, read_all
from vsfs.device import MemoryDevice
from vsfs.errors import Corrupt, NotVsfs, UnknownFeature
from vsfs.fsck import Finding, Report, check, repair_safe
from vsfs.layout import STATE_MOUNTED

NOW_NS: Final = 1_800_000_000 * 10**9
SECONDS: Final = 2.0  # of the processor, that a check may take for a small image
_NO_NAME: Final = (404, 405)  # rules
_BROKEN_NAMES: Final = range(300, 400)
_STATE_AT: Final = 68
_JOURNAL: Final = 1  # the bit of feature_compat
_RECOVER: Final = 1  # the bit of feature_incompat
#: Reads that a check may need for each block and inode of the image.
READS: Final = 10


class Subject(Target):
    """A sound image with what it holds, to compare with after a repair.

    `sound` is what the transaction that waits in its journal makes of it, if one does.
    """

    def __init__(self, data: bytes | bytearray, sound: bytes | None = None) -> None:
        super().__init__(data, sound)
        self.data = bytes(data)
        found = walk(data if sound is None else sound)
        assert found.findings == []
        self.walk: Walk = found
        self.contents = {ino: content(found, ino) for ino in self.inos}
        self.parts = {path: self._parts(path) for path in found.paths}

    def _parts(self, path: bytes) -> set[int]:
        """The inodes on the way to `path`, its own included."""
        pieces = path.split(b"/")
        return {self.walk.paths[b"/".join(pieces[:end])] for end in range(1, len(pieces) + 1)}


@dataclass(frozen=True)
class Outcome:
    """`status` is "clean", "repaired", "left" (not all of it) or "refused"."""

    status: str
    rules: tuple[int, ...] = ()
    seconds: float = 0.0
    reads: int = 0
    preen: str = ""  # what -p would do: "clean", "repairs" or "asks"


def content(found: Walk, ino: int) -> tuple[object, ...]:
    """What nobody may lose of an inode; holes and zeroes are the same."""
    inode = found.inodes[ino]
    about = (
        *(inode.mode, inode.uid, inode.gid, inode.mtime_ns, inode.device, inode.inline),
        attributes(found, ino),
    )
    if stat.S_ISDIR(inode.mode):
        return about
    blocks = []
    for file_block, block in sorted(inode.file_blocks.items()):
        start = block * found.block_size
        most = min(found.block_size, max(inode.size - file_block * found.block_size, 0))
        data = found.image[start : start + most]
        if any(data):
            blocks.append((file_block, data))
    return (*about, inode.size, tuple(blocks))


def attributes(found: Walk, ino: int) -> bytes:
    """The attributes of a sound inode, without what stands before them."""
    (table,) = struct.unpack_from("<I", found.image, 48)
    (block,) = struct.unpack_from("<I", found.image, table * found.block_size + ino * 256 + 140)
    start = block * found.block_size
    size = struct.unpack_from("<I", found.image, start + 8)[0] if block else 0
    return found.image[start + 16 : start + size]


def examine(subject: Subject, mutant: Mutant, *, with_preen: bool = True) -> Outcome:
    """Check and repair a broken image; raises AssertionError for a broken promise.

    `with_preen` also tries what ``-p`` would do.
    """
    data = mutant.data
    device = CountingDevice(data, limit=100_000)
    started = time.process_time()
    try:
        report = check(device, now_ns=NOW_NS)
    except (NotVsfs, UnknownFeature, Corrupt) as error:
        _may_refuse(subject, data, error)
        assert bytes(device.image) == data
        return Outcome("refused", (), time.process_time() - started, device.reads)
    seconds = time.process_time() - started
    assert bytes(device.image) == data, "a check wrote to the image"
    assert seconds < SECONDS, f"a check took {seconds:.2f} s"
    geometry = report.geometry
    most = READS * (geometry.block_count + geometry.inode_count + 100)
    assert device.reads < most, f"{device.reads} reads"
    _look_at(report)

    report.write(device)
    after = bytes(device.image)
    _is_undone(data, after, report)
    rules = tuple(sorted({finding.rule.number for finding in report.findings}))
    status = "left" if report.left else "repaired" if report.findings else "clean"
    preen = _preen(data) if with_preen else ""
    outcome = Outcome(status, rules, seconds, device.reads, preen)
    _second_check(report, after)
    if report.left:
        if _is_same_filesystem(subject, mutant, report):
            is_mounted = after[_STATE_AT] == STATE_MOUNTED
            found = walk(without_reserved(after), mounted=is_mounted, shared=True)
            is_unharmed(subject, mutant, found, report.left)
        return outcome
    reading = read_all(MemoryDevice(bytearray(after)))
    assert reading.errors == {}
    if _is_same_filesystem(subject, mutant, report):
        found = walk(without_reserved(after))
        assert found.findings == []
        assert len(reading.paths) == len(found.paths)
        is_unharmed(subject, mutant, found)
    return outcome


def _is_same_filesystem(subject: Subject, mutant: Mutant, report: Report) -> bool:
    """Whether the regions are where they were, though the image may have been cut off.

    If not, the superblock was changed and its checksum fits: this is another
    filesystem, as far as anybody can tell.
    """
    image, geometry = subject.image, report.geometry
    blocks = min(image.block_count, len(mutant.data) // image.block_size)
    return (
        image.block_size == geometry.block_size
        and image.inode_count == geometry.inode_count
        and image.inode_bitmap == geometry.inode_bitmap_start
        and image.data_bitmap == geometry.data_bitmap_start
        and image.table == geometry.inode_table_start
        and image.data_start == geometry.data_start
        and geometry.block_count == blocks
    )


def _may_refuse(subject: Subject, data: bytes, error: OSError) -> None:
    """Only an image whose superblock was hit, or that was cut, may be refused."""
    hit = subject.data[:512] != data[:512] or len(data) < len(subject.data)
    hit = hit or "no block is left for a new one" in str(error)  # the root, on a full disk
    assert hit, f"refused without need: {error}"
    assert str(error)


def _look_at(report: Report) -> None:
    """Each finding is told whole, and is at a place in the image."""
    for finding in report.findings:
        assert finding.text
        assert finding.text.isprintable(), f"control characters: {finding.text!r}"
        for evidence in (finding.found, finding.expected):
            assert 0 <= evidence.offset < max(report.geometry.block_size, 512), finding
            # where an image was cut off, the first block that is not there is named
            assert 0 <= evidence.block_no <= report.geometry.block_count, finding
            assert evidence.bit is None or 0 <= evidence.bit < 8
            assert len(evidence.value) < 1000, finding


def _is_undone(before: bytes, after: bytes, report: Report) -> None:
    """The edits are exactly what was written; backwards, they give the old bytes."""
    size = report.geometry.block_size
    image = bytearray(before)
    for edit in report.edits:
        at = edit.block_no * size + edit.offset
        assert image[at : at + len(edit.before)] == edit.before
        assert len(edit.before) == len(edit.after)
        image[at : at + len(edit.after)] = edit.after
    assert bytes(image) == after, "what was written is not what the edits say"
    for edit in reversed(report.edits):
        at = edit.block_no * size + edit.offset
        image[at : at + len(edit.before)] = edit.before
    assert bytes(image) == before


def _second_check(report: Report, after: bytes) -> None:
    """After all was repaired it finds nothing; what was left may look different then."""
    again = check(MemoryDevice(bytearray(after)), now_ns=NOW_NS)
    if not report.left:
        assert [finding.text for finding in again.findings] == [], "a second check found more"


def _preen(data: bytes) -> str:
    """What ``-p`` does: nothing is written if something would have to be asked."""
    device = MemoryDevice(bytearray(data))
    try:
        report = check(device, decide=repair_safe, now_ns=NOW_NS)
    except (NotVsfs, UnknownFeature, Corrupt):
        return "asks"  # without a superblock or a root there is nothing to check
    if report.left:
        return "asks"
    if not report.findings:
        return "clean"
    report.write(device)
    assert check(MemoryDevice(device.image), now_ns=NOW_NS).findings == ()
    return "repairs"


def without_reserved(data: bytes) -> bytes:
    """The image with zeroes where the format says zero, and a program leaves it alone.

    One that stays "mounted" since not all could be repaired gets the flag that a crash
    of a mount with a journal leaves.
    """
    (block_size,) = struct.unpack_from("<I", data, 20)
    head = bytearray(data[:508])
    head[8:12] = bytes((head[8] & _JOURNAL, 0, 0, 0))  # features that a reader may ignore
    if head[8] and head[_STATE_AT] == STATE_MOUNTED:
        head[12] |= _RECOVER
    head[156:508] = bytes(352)
    crc = struct.pack("<I", zlib.crc32(head))
    if zlib.crc32(data[:508]) != struct.unpack_from("<I", data, 508)[0]:
        crc = data[508:512]
    return bytes(head) + crc + bytes(block_size - 512) + data[block_size:]


def is_unharmed(
    subject: Subject, mutant: Mutant, found: Walk, left: tuple[Finding, ...] = ()
) -> None:
    """What the damage did not touch is as it was, and has a name.

    On a full disk there may be no room for one, which a finding that is `left` says.
    """
    sound = untouched(subject, mutant.data)
    named = set(found.paths.values())
    told = _told_nameless(subject, mutant, left)
    nameless = {subject.walk.paths[path] for path, parts in subject.parts.items() if parts & told}
    for ino in sorted(sound):
        inode = subject.walk.inodes[ino]
        if stat.S_ISREG(inode.mode) and not inode.size:
            continue  # an empty file that lost its name may be freed
        assert ino in found.inodes, f"inode {ino} was not damaged, and is gone"
        assert ino in named or ino in nameless, f"inode {ino} was not damaged, and has no name"
        assert subject.contents[ino] == content(found, ino), f"inode {ino} was not damaged"
    for path, parts in subject.parts.items():
        if parts <= sound and not parts & told:
            assert subject.walk.paths[path] == found.paths.get(path), f"{path!r} was not damaged"


def _told_nameless(subject: Subject, mutant: Mutant, left: tuple[Finding, ...]) -> set[int]:
    """The inodes of which findings say that they stay without a name, or that it is broken.

    The latter by the block of the name, which was damaged and stays so.
    """
    told = {finding.ino for finding in left if finding.rule.number in _NO_NAME}
    blocks = differences(subject.data, mutant.data, subject.image.block_size)
    blocks &= {finding.found.block_no for finding in left if finding.rule.number in _BROKEN_NAMES}
    image = subject.image
    records = [at for at in subject.records if at // image.block_size in blocks]
    names = {image.record(at, "ino") for at in records if image.name(at) not in (b".", b"..")}
    return {ino for ino in told | names if ino}


def was_hit(subject: Subject, data: bytes) -> bool:
    """Whether any byte differs."""
    return bool(differences(subject.data, data, 512)) or len(data) != len(subject.data)
