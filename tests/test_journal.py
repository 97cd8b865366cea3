"""The journal: a crash leaves all of a transaction or none; nothing is too large for it."""

from __future__ import annotations

import errno
import logging
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import vsfs
from tests.support.damage import Image
from tests.support.images import KIB, blank, errno_of, fail_nth, image_of, mount, snapshot, sound
from tests.support.rawwalk import walk
from vsfs.buffer import Buffer
from vsfs.device import Access, Kind, MemoryDevice, RecordingDevice
from vsfs.errors import Corrupt, ImpossibleSize, NeedsCheck, TransactionFull
from vsfs.fsck import check
from vsfs.journal import (
    MIN_BLOCKS,
    Journal,
    default_blocks,
    max_blocks,
    require_possible,
)
from vsfs.layout import (
    FEATURE_INCOMPAT_RECOVER,
    JournalHeader,
    decode_inode,
    decode_journal,
    decode_superblock,
    encode_inode,
    encode_journal,
    encode_superblock,
    journal_room,
)
from vsfs.mkfs import plan
from vsfs.validate import check_superblock

MIB = 1024 * KIB
SECTOR = 512
Action = Callable[[vsfs.FileSystem], object]


def put(fs: vsfs.FileSystem, path: str, content: bytes = b"", offset: int = 0) -> None:
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    assert fs.pwrite(fd, content, offset) == len(content)
    fs.close(fd)


def get(fs: vsfs.FileSystem, path: str) -> bytes:
    fd = fs.open(path, os.O_RDONLY)
    content = fs.pread(fd, 1 << 30, 0)
    fs.close(fd)
    return content


def journaled(
    size: int = 256 * KIB, *, blocks: int = MIN_BLOCKS, inode_count: int | None = None
) -> MemoryDevice:
    """A fresh filesystem with blocks of 512 bytes and a journal."""
    return blank(size, block_size=512, inode_count=inode_count, journal_blocks=blocks)


def journal_of(image: bytes | bytearray) -> Journal:
    """The journal of an image, for reading it."""
    device = MemoryDevice(bytearray(image))
    superblock = check_superblock(device.read(0, SECTOR), device.size)
    device.block_size = superblock.block_size
    return Journal(device, superblock.geometry)


def prepared() -> MemoryDevice:
    """Some files and directories, cleanly unmounted."""
    device = journaled()
    with mount(device) as fs:
        fs.mkdir("/d")
        put(fs, "/a", b"a" * 700)
        put(fs, "/b", b"b" * 9000)
        put(fs, "/d/c", b"c" * 100)
    return device


def change(fs: vsfs.FileSystem) -> None:
    """A transaction with blocks of every kind."""
    fs.rename("/a", "/b")
    fs.rename("/d/c", "/c")
    fs.mkdir("/d/e")
    put(fs, "/f", b"f" * 8000)
    fs.symlink("x" * 600, "/d/link")


# -- crashes ------------------------------------------------------------------


def parts(access: Access, block_size: int) -> Iterator[tuple[int, bytes]]:
    """The sectors of a write: (where in the image, bytes)."""
    start = access.block_no * block_size + access.offset
    for at in range(0, len(access.content), SECTOR):
        yield start + at, access.content[at : at + SECTOR]


def crashes(before: bytes, accesses: list[Access], block_size: int) -> Iterator[bytes]:
    """The image after each write, with all before it; and with each write torn.

    Of a torn write only the first, only the last, or every other sector arrived.
    """
    image = bytearray(before)
    yield bytes(image)
    for access in accesses:
        if access.operation != "write":
            continue
        sectors = list(parts(access, block_size))
        for chosen in (sectors[:1], sectors[-1:], sectors[::2]):
            torn = bytearray(image)
            for at, content in chosen:
                torn[at : at + len(content)] = content
            yield bytes(torn)
        for at, content in sectors:
            image[at : at + len(content)] = content
        yield bytes(image)


def recorded(device: MemoryDevice, action: Action) -> tuple[bytes, list[Access], vsfs.FileSystem]:
    """The image before the commit of `action`, and the accesses of that commit."""
    recorder = RecordingDevice(device)
    fs = mount(recorder)
    before = bytes(device.image)
    recorder.accesses.clear()
    action(fs)
    fs.sync()
    return before, [*recorder.accesses], fs


def tree_of(image: bytes) -> dict[bytes, tuple[object, ...]]:
    """The tree that a mount of the image shows; the image is sound when it is unmounted."""
    device = MemoryDevice(bytearray(image))
    fs = mount(device)
    tree = snapshot(fs)
    fs.unmount()
    assert walk(device.image).findings == []
    return tree


def findings(image: bytes) -> list[int]:
    """The rules that a check finds broken, but for what every crash leaves: pass 6."""
    found = check(MemoryDevice(bytearray(image))).findings
    return [finding.rule.number for finding in found if finding.rule.number < 700]


def test_every_crash_of_a_commit_leaves_the_old_tree_or_the_new_one() -> None:
    before, accesses, fs = recorded(prepared(), change)
    new, old = snapshot(fs), tree_of(before)
    seen = []
    for image in crashes(before, accesses, 512):
        assert findings(image) == []
        tree = tree_of(image)
        assert tree in (old, new)
        seen.append(tree == new)
    assert seen == sorted(seen)  # once it is there, it stays
    assert not seen[0]
    assert seen[-1]


def test_a_check_instead_of_a_mount_gives_the_same_trees() -> None:
    before, accesses, fs = recorded(prepared(), change)
    new, old = snapshot(fs), tree_of(before)
    for image in crashes(before, accesses, 512):
        device = MemoryDevice(bytearray(image))
        report = check(device)
        report.write(device)
        assert report.left == ()
        found = walk(device.image)
        assert found.findings == []
        assert found.paths.keys() in (old.keys(), new.keys())
        assert check(MemoryDevice(device.image)).findings == ()


def test_a_crash_while_replaying_or_checking_does_no_harm() -> None:
    before, accesses, fs = recorded(prepared(), change)
    new = snapshot(fs)
    at = next(index for index, access in enumerate(accesses) if is_header(access))
    image = list(crashes(before, accesses[: at + 1], 512))[-1]
    for recover in (mount, lambda device: check(device).write(device)):
        recorder = RecordingDevice(MemoryDevice(bytearray(image)))
        recover(recorder)
        states = list(crashes(image, recorder.accesses, 512))
        assert len(states) > 10
        for state in states:
            assert set(findings(state)) <= {607, 608}  # the counts come last
            assert tree_of(state) == new


def is_header(access: Access) -> bool:
    """Whether an access writes the header of a transaction that is not empty."""
    content = access.content
    return content.startswith(b"JRNL") and struct.unpack_from("<I", content, 4) != (0,)


def test_a_commit_is_the_log_the_header_the_blocks_and_the_clearing() -> None:
    """With a barrier behind each but the last, whose loss does no harm."""
    device = prepared()
    journal = journal_of(device.image)
    _, accesses, _ = recorded(device, lambda fs: fs.mkdir("/new"))
    groups: list[list[Access]] = [[]]
    for access in accesses:
        if access.operation == "barrier":
            groups.append([])
        elif access.operation == "write":
            groups[-1].append(access)
    log, header, install, clearing = groups
    assert [access.kind for access in log] == [Kind.JOURNAL]
    assert log[0].block_no == journal.blocks[1]
    assert [(access.block_no, is_header(access)) for access in header] == [
        (journal.blocks[0], True)
    ]
    assert not {access.block_no for access in install} & set(journal.blocks)
    numbers = decode_journal(header[0].content.ljust(512, b"\0"), 0).block_numbers
    written = [
        access.block_no + index for access in install for index in range(len(access.content) // 512)
    ]
    assert written == list(numbers)
    (clear,) = clearing
    assert clear.block_no == journal.blocks[0]
    assert len(clear.content) <= SECTOR  # so never half of it


def test_file_data_is_durable_before_the_header() -> None:
    _, accesses, _ = recorded(prepared(), lambda fs: put(fs, "/new", b"n" * 5000))
    at = next(index for index, access in enumerate(accesses) if is_header(access))
    data = [
        index
        for index, access in enumerate(accesses)
        if access.operation == "write" and access.kind == Kind.DATA
    ]
    barrier = max(i for i, access in enumerate(accesses[:at]) if access.operation == "barrier")
    assert data
    assert max(data) < barrier


def committed(image: bytes, accesses: list[Access]) -> bytearray:
    """The image right after the commit point: the header is there, nothing is installed."""
    at = next(index for index, access in enumerate(accesses) if is_header(access))
    return bytearray(list(crashes(image, accesses[: at + 1], 512))[-1])


@pytest.fixture
def waiting() -> bytes:
    """An image with a committed transaction that is not installed."""
    before, accesses, _ = recorded(prepared(), change)
    return bytes(committed(before, accesses))


@pytest.fixture
def changed() -> dict[bytes, tuple[object, ...]]:
    return snapshot(recorded(prepared(), change)[2])


def test_a_transaction_with_a_wrong_byte_in_its_log_was_not_committed(waiting: bytes) -> None:
    """So a header that a crash tore away from its log, or from itself, does no harm."""
    before, _, _ = recorded(prepared(), change)
    journal = journal_of(waiting)
    assert journal.waiting() is not None
    for where in (
        journal.blocks[0] * 512 + 8,  # the sequence
        journal.blocks[0] * 512 + 16,  # the checksum
        journal.blocks[0] * 512 + 20,  # the first block number
        journal.blocks[1] * 512,
        journal.blocks[2] * 512 + 511,
    ):
        torn = bytearray(waiting)
        torn[where] ^= 1
        assert journal_of(torn).waiting() is None
        assert tree_of(bytes(torn)) == tree_of(before)


def test_a_log_block_with_a_checksum_of_its_own_in_place_of_another_is_noticed(
    waiting: bytes,
) -> None:
    """What ends with its own CRC-32 leaves a CRC-32 as it is, whatever it holds."""
    image = Image(waiting)
    own = journal_of(waiting).blocks
    header = decode_journal(image.block(own[0]), own[0])
    for index, number in enumerate(header.block_numbers):
        other = image.copy()
        if number == 0:
            superblock = decode_superblock(image.block(own[1 + index]))
            other.put_block(own[1 + index], encode_superblock(superblock._replace(mount_count=9)))
        elif image.table <= number < image.data_start:
            ino = (number - image.table) * 2
            record = decode_inode(image.block(own[1 + index]))
            other.put_block(own[1 + index], encode_inode(ino, record._replace(uid=9)))
        else:
            continue
        assert other.data != image.data
        assert journal_of(other.data).waiting() is None


def test_the_next_log_over_a_clearing_that_was_lost_does_no_harm() -> None:
    """The clearing has no barrier: its block may be old when the next log is new."""
    device = prepared()
    recorder = RecordingDevice(device)
    fs = mount(recorder)
    recorder.accesses.clear()
    change(fs)
    fs.sync()
    header = next(access for access in recorder.accesses if is_header(access))
    after_first = bytearray(device.image)
    for at, content in parts(header, 512):
        after_first[at : at + len(content)] = content
    first = snapshot(fs)
    recorder.accesses.clear()
    put(fs, "/later", b"l" * 3000)
    fs.sync()
    until = next(index for index, access in enumerate(recorder.accesses) if is_header(access))
    for image in crashes(bytes(after_first), recorder.accesses[:until], 512):
        assert findings(image) == []
        assert tree_of(image) == first


def test_sequence_numbers_go_on_after_a_mount() -> None:
    device = prepared()
    fs = mount(device)
    first = journal_of(device.image)
    fs.mkdir("/new")
    fs.unmount()
    header = decode_journal(bytes(Image(device.image).block(first.blocks[0])), 0)
    assert header.sequence > 3
    mount(device).unmount()
    after = decode_journal(bytes(Image(device.image).block(first.blocks[0])), 0)
    assert after.sequence > header.sequence


def replayed(image: bytes) -> bytes:
    """What docs/FORMAT.md says a replay makes of an image: nothing of vsfs is used here."""
    (block_size,) = struct.unpack_from("<I", image, 20)
    assert struct.unpack_from("<2I", image, 8) == (1, 1)  # journal, recover
    (table,) = struct.unpack_from("<I", image, 48)
    inode = table * block_size + 256
    (size,) = struct.unpack_from("<Q", image, inode + 16)
    own = list(struct.unpack_from("<12I", image, inode + 80))
    (single,) = struct.unpack_from("<I", image, inode + 128)
    if single:
        own += struct.unpack_from(f"<{block_size // 4}I", image, single * block_size)
    own = own[: size // block_size]
    blocks = [image[at * block_size : (at + 1) * block_size] for at in own]
    magic, count, sequence, checksum = struct.unpack_from("<4sIQI", blocks[0])
    assert magic == b"JRNL"
    assert count < len(own)
    numbers = struct.unpack_from(f"<{count}I", blocks[0], 20)
    found = zlib.crc32(struct.pack("<4sIQI", magic, count, sequence, 0))
    found = zlib.crc32(blocks[0][20 : 20 + 4 * count], found)
    for content in blocks[1 : 1 + count]:
        found = zlib.crc32(content[::-1], found)
    after = bytearray(image)
    if count and found == checksum:
        assert list(numbers) == sorted(set(numbers) - set(own))
        for number, content in zip(numbers, blocks[1:], strict=False):
            after[number * block_size : (number + 1) * block_size] = content
    head = struct.pack("<4sIQI", magic, 0, sequence, 0)
    head = head[:16] + struct.pack("<I", zlib.crc32(head))
    after[own[0] * block_size : own[0] * block_size + 20] = head
    return bytes(after)


def test_a_replay_is_what_the_document_says(waiting: bytes) -> None:
    device = MemoryDevice(bytearray(waiting))
    superblock = check_superblock(device.read(0, SECTOR), device.size)
    device.block_size = superblock.block_size
    assert Journal(device, superblock.geometry).replay() > 5
    assert device.image == replayed(waiting)
    assert device.image != waiting


# -- mounting -----------------------------------------------------------------


def test_a_mount_for_reading_shows_what_waits_and_writes_nothing(
    waiting: bytes, changed: dict[bytes, tuple[object, ...]]
) -> None:
    device = MemoryDevice(bytearray(waiting))
    for read_only_device in (False, True):
        device.read_only = read_only_device
        fs = mount(device, read_only=True)
        assert set(fs.listdir("/")) == {"b", "c", "d", "f"}
        assert get(fs, "/b") == b"a" * 700
        assert get(fs, "/f") == b"f" * 8000
        assert (
            fs.statvfs("/").f_bfree == mount(MemoryDevice(bytearray(waiting))).statvfs("/").f_bfree
        )
        fs.unmount()
        assert device.image == waiting
    assert tree_of(waiting) == changed


def test_a_mount_says_that_it_replayed(waiting: bytes, caplog: pytest.LogCaptureFixture) -> None:
    count = len(journal_of(waiting).waiting().blocks)  # type: ignore[union-attr]
    mount(MemoryDevice(bytearray(waiting))).unmount()
    (line,) = caplog.messages
    assert line == f"the filesystem was not cleanly unmounted; {count} blocks replayed"


def test_the_flag_stands_while_the_filesystem_is_mounted() -> None:
    device = journaled()

    def flags() -> int:
        return check_superblock(device.read(0, SECTOR, 0), device.size).feature_incompat

    device.block_size = 512
    assert flags() == 0
    fs = mount(device)
    assert flags() == FEATURE_INCOMPAT_RECOVER
    fs.mkdir("/a")
    fs.sync()
    assert flags() == FEATURE_INCOMPAT_RECOVER
    fs.unmount()
    assert flags() == 0


def test_a_clean_image_is_not_replayed_whatever_its_log_holds(waiting: bytes) -> None:
    """As after an unmount whose clearing of the header was lost."""
    image = Image(waiting)
    image.put_superblock(feature_incompat=0, state=1)
    assert b"/a" in tree_of(bytes(image.data))


def test_a_file_that_was_open_and_deleted_is_freed_by_the_next_mount() -> None:
    device = prepared()
    fs = mount(device)
    free = fs.statvfs("/").f_bfree
    fd = fs.open("/b", os.O_RDWR)
    fs.unlink("/b")
    fs.write(fd, b"x" * 20_000)
    fs.sync()
    again = MemoryDevice(bytearray(device.image))
    fs = mount(again)
    assert fs.statvfs("/").f_bfree > free
    fs.unmount()
    assert walk(again.image).findings == []


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((10_000,), "block 10000"), ((2**32 - 1,), "block 4294967295"), ((0, None), "journal's")],
)
def test_a_header_that_no_crash_leaves_is_refused(
    numbers: tuple[int | None, ...], message: str
) -> None:
    image = Image(journaled().image)
    image.put_superblock(feature_incompat=FEATURE_INCOMPAT_RECOVER, state=2)
    own = journal_of(image.data).blocks
    chosen = tuple(own[3] if number is None else number for number in numbers)
    log = [image.block(block) for block in own[1 : 1 + len(chosen)]]
    image.put_block(own[0], encode_journal(JournalHeader(7, chosen), log))
    with pytest.raises(Corrupt, match=message):
        journal_of(image.data).waiting()
    before = bytes(image.data)
    device = MemoryDevice(image.data)
    with pytest.raises(Corrupt):
        mount(device)
    assert device.image == before


@pytest.mark.parametrize(("flag", "state"), [(0, 1), (FEATURE_INCOMPAT_RECOVER, 2)])
def test_a_count_of_0_is_mounted_whatever_its_checksum_and_the_header_written_anew(
    flag: int, state: int
) -> None:
    image = Image(prepared().image)
    image.put_superblock(feature_incompat=flag, state=state)
    at = image.at(journal_of(image.data).blocks[0], 16)
    image.put_word(at, int.from_bytes(image.data[at : at + 4], "little") ^ 1)
    device = MemoryDevice(image.data)
    assert 712 in [finding.rule.number for finding in check(device).findings]
    expected = tree_of(bytes(image.data))
    mount(device).unmount()
    assert not check(device).findings
    assert tree_of(bytes(device.image)) == expected


def test_without_the_flag_a_mount_for_writing_wants_a_header_and_one_for_reading_none() -> None:
    image = Image(prepared().image)
    image.put_block(journal_of(image.data).blocks[0], bytes(512))
    device = MemoryDevice(image.data)
    with pytest.raises(Corrupt, match="journal header"):
        mount(device)
    assert "a" in mount(device, read_only=True).listdir("/")


def test_more_blocks_than_the_log_has_are_refused() -> None:
    image = Image(journaled().image)
    own = journal_of(image.data).blocks
    header = encode_journal(JournalHeader(7, tuple(range(50, 66))), [])
    image.put_block(own[0], header)
    with pytest.raises(Corrupt, match="16 blocks, expected at most 15"):
        journal_of(image.data).waiting()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": 0o040700}, "a regular file"),
        ({"size": 1000}, "whole blocks"),
        ({"size": 512}, "2 to 124"),
        ({"size": 512 * 200}, "2 to 124"),
        ({"single": 0}, "block 0 as indirect"),
        ({"direct3": 0}, "block 0"),
        ({"direct3": "direct2"}, "twice"),
    ],
)
def test_an_inode_1_that_is_no_journal_is_refused(fields: dict[str, Any], message: str) -> None:
    image = Image(journaled().image)
    values = {
        name: image.get(1, value) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    image.put_inode(1, **values)
    with pytest.raises(Corrupt, match=message):
        mount(MemoryDevice(image.data))


def test_damage_met_while_mounted_has_the_next_mount_check(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = prepared()
    image = Image(device.image)
    image.put_inode(walk(device.image).paths[b"/a"], seal=False, checksum=1)
    device = MemoryDevice(image.data)
    fs = mount(device)
    put(fs, "/before")
    with pytest.raises(Corrupt):
        fs.stat("/a")
    assert errno_of(fs.mkdir, "/later") == errno.EROFS
    fs.unmount()
    superblock = check_superblock(bytes(device.image[:SECTOR]), device.size)
    assert (superblock.state, superblock.feature_incompat) == (2, 0)
    with pytest.raises(NeedsCheck):
        mount(device)
    report = check(device)
    report.write(device)
    assert "before" in mount(device).listdir("/")


def test_a_full_transaction_does_not_keep_damage_from_being_noted() -> None:
    device = prepared()
    fs = mount(device)
    cache = fs.volume.cache
    for number in range(100):
        put(fs, f"/{number}")
        if len(cache._dirty.keys() | cache._expected) + 2 >= journal_of(device.image).capacity:
            break
    else:
        pytest.fail("the transaction never became full")
    cache.limit = 1  # not even room for what is there
    fs.volume.meet_damage(Corrupt("inode 9", 1, 0, "a", "b"))
    superblock = check_superblock(bytes(device.image[:SECTOR]), device.size)
    assert (superblock.state, superblock.feature_incompat) == (2, 0)


@pytest.mark.parametrize("operation", ["write", "barrier"])
def test_a_fault_in_a_commit_leaves_the_old_tree_or_the_new_one(operation: str) -> None:
    before, _, fs = recorded(prepared(), change)
    new, old = snapshot(fs), tree_of(before)
    kinds = set()
    for nth in range(1, 40):
        device = MemoryDevice(bytearray(prepared().image))
        failing = fail_nth(device, operation, 10_000)
        fs = mount(failing)
        change(fs)
        failing.fails = fail_nth(device, operation, nth).fails
        failed = errno_of(fs.sync)
        if not failed:
            break
        assert failed == errno.EIO
        assert errno_of(fs.mkdir, "/later") == errno.EROFS
        assert errno_of(fs.sync) == errno.EIO
        fs.unmount()
        tree = tree_of(bytes(device.image))
        assert tree in (old, new)
        kinds.add(tree == new)
    assert nth > 2
    assert kinds == {False, True}


# -- sizes --------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [512, 1024, 4096, 65536])
def test_the_longest_journal_is_what_one_header_can_name(block_size: int) -> None:
    most = 1 + (block_size - 20) // 4
    geometry = plan(max(2 * most * block_size, 4 * MIB), block_size=block_size)
    assert max_blocks(geometry) == most == 1 + journal_room(block_size)
    require_possible(geometry, most)
    for wrong in (most + 1, MIN_BLOCKS - 1, 0, -5, 2**40):
        with pytest.raises(ImpossibleSize, match=f"cannot have {wrong} blocks"):
            require_possible(geometry, wrong)


@pytest.mark.parametrize(
    ("size", "block_size", "expected"),
    [
        (256 * KIB, 4096, 16),
        (16 * MIB, 4096, 256),
        (2**40, 4096, 1020),
        (16 * MIB, 512, 124),
        (2**40, 65536, 16380),
    ],
)
def test_by_default_a_journal_has_a_sixteenth_of_the_image(
    size: int, block_size: int, expected: int
) -> None:
    assert default_blocks(plan(size, block_size=block_size)) == expected


def test_the_longest_journal_takes_transactions_of_its_length() -> None:
    device = journaled(MIB, blocks=124, inode_count=700)
    sizes: list[int] = []
    with mount(device) as fs:
        spy_on_commits(fs, sizes)
        for number in range(600):
            put(fs, f"/{number}", b"x")
    assert 118 <= max(sizes) <= 123
    assert walk(device.image).findings == []


def spy_on_commits(fs: vsfs.FileSystem, sizes: list[int]) -> None:
    """Note how many blocks each transaction has, which is no more than its limit."""
    cache = fs.volume.cache
    write_back = cache.write_back

    def note(buffers: list[Buffer]) -> None:
        sizes.append(len(buffers))
        assert cache.limit is None or len(buffers) <= cache.limit
        write_back(buffers)

    cache.write_back = note


# -- operations that are large for the journal ----------------------------------

OPERATIONS: dict[str, Action] = {
    "create": lambda fs: put(fs, "/d/new"),
    "create in a full directory": lambda fs: put(fs, "/crowd/" + "n" * 255),
    "mkdir": lambda fs: fs.mkdir("/crowd/" + "n" * 255),
    "symlink": lambda fs: fs.symlink("x" * 4000, "/d/new"),
    "link": lambda fs: fs.link("/big", "/crowd/" + "n" * 255),
    "unlink": lambda fs: fs.unlink("/big"),
    "rmdir": lambda fs: fs.rmdir("/empty"),
    "rename": lambda fs: fs.rename("/big", "/crowd/" + "n" * 255),
    "rename over a file": lambda fs: fs.rename("/crowd/0001", "/big"),
    "rename a directory": lambda fs: fs.rename("/d/sub", "/crowd/" + "n" * 255),
    "rename over a directory": lambda fs: fs.rename("/d/sub", "/empty"),
    "truncate": lambda fs: fs.truncate("/big", 700),
    "grow": lambda fs: fs.truncate("/big", 9_000_000),
    "append": lambda fs: put(fs, "/big", b"w" * 30 * KIB, 200 * KIB),
    "write far out": lambda fs: put(fs, "/d/file", b"w", 9_000_000),
    "setxattr": lambda fs: fs.setxattr("/big", "user.a", b"x" * 400),
    "chmod": lambda fs: fs.chmod("/big", 0o600),
}


@pytest.fixture(scope="module")
def crowded() -> bytes:
    """A tree with a directory that is full and a file of many blocks, in pieces."""
    device = journaled(2 * MIB, blocks=124, inode_count=700)
    with mount(device) as fs:
        for name in ("/d", "/d/sub", "/empty", "/crowd"):
            fs.mkdir(name)
        put(fs, "/d/file", b"d")
        number = 0
        while fs.stat("/crowd").st_size < 14 * 512:  # through an indirect block
            put(fs, f"/crowd/{number:04}")
            number += 1
        for at in range(0, 200 * KIB, 20 * KIB):
            put(fs, "/big", b"b" * 20 * KIB, at)
            put(fs, "/other", b"o" * 3 * KIB, at // 5)
    assert walk(device.image).findings == []
    return bytes(device.image)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_fits_or_changes_nothing_whatever_the_journal_holds(
    crowded: bytes, name: str
) -> None:
    """From a transaction of one block on; what 15 blocks cannot hold is done in steps."""
    action = OPERATIONS[name]
    expected = mount(MemoryDevice(bytearray(crowded)))
    before = snapshot(expected)
    action(expected)
    after = snapshot(expected)
    worked = False
    for limit in range(1, 17):
        fs = mount(MemoryDevice(bytearray(crowded)))
        fs.volume.cache.limit = limit
        spy_on_commits(fs, [])
        failed = errno_of(action, fs)
        assert failed in (0, errno.ENOSPC)
        assert not (failed and worked), f"{limit} blocks are too few, {limit - 1} were enough"
        worked = not failed
        for fd in (3, 4):  # one that the action did not come to close
            errno_of(fs.close, fd)
        fs.volume.cache.limit = 40
        if not failed:
            assert same_tree(snapshot(fs), after)
        elif name not in ("append", "truncate", "write far out", "create", *STEPS):
            assert snapshot(fs) == before
        assert limit < MIN_BLOCKS - 1 or worked
        fs.unmount()
        assert walk(image_of(fs)).findings == []


#: What makes a file before it writes to it.
STEPS = ("create in a full directory",)


def same_tree(
    found: dict[bytes, tuple[object, ...]], expected: dict[bytes, tuple[object, ...]]
) -> bool:
    return found == expected


def large_image(pieces: int = 2) -> MemoryDevice:
    """Blocks of 512 bytes, more blocks of bitmap than the journal has, and /huge in all of them.

    Every other 100 blocks belong to /huge, so that it has many pieces.
    """
    device = journaled(16 * MIB)
    with mount(device) as fs:
        geometry = fs.volume.geometry
        assert geometry.inode_table_start - geometry.data_bitmap_start == 8
        part = 50 * KIB
        fds = [fs.open(name, os.O_CREAT | os.O_WRONLY) for name in ("/huge", "/other")][:pieces]
        for at in range(0, 6 * MIB, part):
            for fd in fds:
                assert fs.pwrite(fd, b"h" * part, at) == part
        for fd in fds:
            fs.close(fd)
        put(fs, "/small", b"s")
    assert walk(device.image).findings == []
    return device


@pytest.fixture(scope="module")
def large() -> bytes:
    return bytes(large_image().image)


LARGE: dict[str, Action] = {
    "unlink": lambda fs: fs.unlink("/huge"),
    "truncate": lambda fs: fs.truncate("/huge", 5),
    "truncate to a part": lambda fs: fs.truncate("/huge", 1_000_001),
    "rename over it": lambda fs: fs.rename("/small", "/huge"),
    "open and truncate": lambda fs: fs.close(fs.open("/huge", os.O_WRONLY | os.O_TRUNC)),
}


@pytest.mark.parametrize("limit", [15, 11, 10])
@pytest.mark.parametrize("name", LARGE)
def test_a_huge_file_goes_in_steps_that_each_fit(large: bytes, name: str, limit: int) -> None:
    device = MemoryDevice(bytearray(large))
    fs = mount(device)
    fs.volume.cache.limit = limit
    sizes: list[int] = []
    spy_on_commits(fs, sizes)
    LARGE[name](fs)
    fs.unmount()
    found = walk(device.image)
    assert found.findings == []
    reference = mount(MemoryDevice(bytearray(large)))
    LARGE[name](reference)
    reference.volume.cache.limit = 100
    assert snapshot(reference).keys() == found.paths.keys()
    if b"/huge" in found.paths:
        size = reference.stat("/huge").st_size
        assert len(found.content(found.paths[b"/huge"])) == size


@pytest.mark.parametrize("name", ["unlink", "truncate", "rename over it"])
def test_a_crash_between_the_steps_leaves_a_sound_filesystem(large: bytes, name: str) -> None:
    """After the first step the name is gone, or the file is shorter: never a mix."""
    device = MemoryDevice(bytearray(large))
    recorder = RecordingDevice(device)
    fs = mount(recorder)
    fs.volume.cache.limit = {"unlink": 8, "truncate": 7, "rename over it": 8}[name]
    before = bytes(device.image)
    recorder.accesses.clear()
    LARGE[name](fs)
    fs.sync()
    commits = [index for index, access in enumerate(recorder.accesses) if is_header(access)]
    assert len(commits) > 1
    image = bytearray(before)
    for index, access in enumerate(recorder.accesses):
        if access.operation != "write":
            continue
        for at, content in parts(access, 512):
            image[at : at + len(content)] = content
        if index not in commits:
            continue
        again = MemoryDevice(bytearray(image))
        mounted = mount(again)
        names = set(mounted.listdir("/"))
        assert "other" in names
        if "huge" in names:
            content = get(mounted, "/huge")
            assert set(content) <= set(b"h") or content == b"s"
        mounted.unmount()
        assert walk(again.image).findings == []
        assert set(findings(bytes(image))) <= {206, 602, 605, 607, 608}


def test_one_write_of_many_mebibytes_is_done_in_steps() -> None:
    device = journaled(16 * MIB)
    content = os.urandom(6 * MIB)
    sizes: list[int] = []
    with mount(device) as fs:
        spy_on_commits(fs, sizes)
        fd = fs.open("/file", os.O_CREAT | os.O_RDWR)
        assert fs.write(fd, content) == len(content)
        assert fs.pread(fd, len(content), 0) == content
        assert len(sizes) > 5
    assert walk(device.image).findings == []
    with mount(device) as fs:
        assert get(fs, "/file") == content


def test_a_write_that_runs_out_of_space_says_how_much_there_is() -> None:
    device = journaled(2 * MIB)
    with mount(device) as fs:
        free = fs.statvfs("/").f_bavail * 512
        fd = fs.open("/file", os.O_CREAT | os.O_RDWR)
        written = fs.write(fd, bytes(3 * MIB))
        assert free - 40 * 512 < written < free
        assert fs.fstat(fd).st_size == written
        assert errno_of(fs.write, fd, bytes(512)) == errno.ENOSPC
    assert walk(device.image).findings == []


def test_a_directory_grows_and_empties_with_the_smallest_journal() -> None:
    device = journaled(4 * MIB, inode_count=1000)
    with mount(device) as fs:
        fs.mkdir("/d")
        names = [f"/d/a-name-of-some-length-{number:05}" for number in range(900)]
        for name in names:
            put(fs, name)
        assert len(fs.listdir("/d")) == 900
        sound(fs)
        for name in names:
            fs.unlink(name)
        assert fs.stat("/d").st_size < 900
        fs.rmdir("/d")
    assert walk(device.image).findings == []


def test_a_large_directory_is_removed_in_steps() -> None:
    """A directory keeps empty blocks between others; rmdir then frees all of them."""
    device = journaled(4 * MIB)
    with mount(device) as fs:
        fs.mkdir("/d")
        names = [f"/d/{number:0250}" for number in range(300)]
        for name in names:
            put(fs, name)
        for name in names[1:]:
            fs.unlink(name)
        fs.unlink(names[0])
        fs.volume.cache.limit = 10
        fs.rmdir("/d")
    assert walk(device.image).findings == []


def test_deleting_while_open_and_closing_is_done_in_steps(large: bytes) -> None:
    device = MemoryDevice(bytearray(large))
    with mount(device) as fs:
        fs.volume.cache.limit = 10
        fd = fs.open("/huge", os.O_RDWR)
        fs.unlink("/huge")
        assert fs.pread(fd, 10, 5_000_000) == b"h" * 10
        fs.close(fd)
    assert walk(device.image).findings == []


def test_an_operation_that_can_never_fit_raises_enospc_once(crowded: bytes) -> None:
    fs = mount(MemoryDevice(bytearray(crowded)))
    fs.volume.cache.limit = 2
    with pytest.raises(TransactionFull) as caught:
        fs.mkdir("/new")
    assert caught.value.errno == errno.ENOSPC
    assert "new" not in fs.listdir("/")


def test_reading_needs_no_room_in_the_transaction(crowded: bytes) -> None:
    """An access time is worth a commit, but never an error."""
    fs = mount(MemoryDevice(bytearray(crowded)), atime="strictatime")
    for number in range(60):
        assert get(fs, f"/crowd/{number:04}") == b""
    sound(fs)


def test_without_damage_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vsfs")
    device = prepared()
    mount(device).unmount()
    assert caplog.messages == []


def test_a_directory_shrinks_in_steps_that_a_small_journal_has_room_for() -> None:
    """Each of its blocks is in another block of the bitmap, and all become empty at once."""
    names = [f"/d/{number:0255}" for number in range(16)]  # a block for each
    with mount(blank(34 * MIB, block_size=512, journal_blocks=16)) as fs:
        fs.mkdir("/d")
        for number in range(16):
            put(fs, f"/{number}", bytes(2 * MIB))
        fd = fs.open("/rest", os.O_CREAT | os.O_WRONLY)
        while not errno_of(fs.write, fd, bytes(64 * KIB)):
            pass
        for number in range(16):  # one free block behind each
            fs.truncate(f"/{number}", 2 * MIB - 512)
        for name in names:
            fs.link("/0", name)
        assert fs.stat("/d").st_size == 16 * 512
        for name in names:
            fs.unlink(name)
        assert fs.stat("/d").st_size < 16 * 512
        for _ in range(8):
            fs.link("/0", "/d/short")
            fs.unlink("/d/short")
        assert fs.stat("/d").st_size == 512
    assert walk(image_of(fs)).findings == []
