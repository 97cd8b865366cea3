"""Rules 711 to 714, and 202: the journal, each broken in one field."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest

import vsfs
from tests.fsck.trees import Repaired, place, safely
from tests.support.damage import Image
from tests.support.images import blank, image_of, mount
from tests.support.rawwalk import walk
from vsfs.device import MemoryDevice, RecordingDevice
from vsfs.errors import Corrupt
from vsfs.fsck import Finding, check, repair_safe
from vsfs.journal import Journal
from vsfs.layout import JournalHeader, encode_journal
from vsfs.validate import check_superblock

MOUNTED = 2
JOURNAL = 1  # feature_compat
RECOVER = 1  # feature_incompat


def put(fs: vsfs.FileSystem, path: str, content: bytes) -> None:
    fd = fs.open(path, os.O_CREAT | os.O_WRONLY)
    fs.write(fd, content)
    fs.close(fd)


def build(journal_blocks: int | None = 16) -> Image:
    """A small tree, cleanly unmounted."""
    fs = mount(blank(block_size=512, journal_blocks=journal_blocks))
    fs.mkdir("/d")
    put(fs, "/d/f", b"f" * 3000)
    fs.unmount()
    return Image(image_of(fs))


def blocks_of(image: Image) -> tuple[int, ...]:
    """The journal's blocks: the header, then the log."""
    device = MemoryDevice(image.data)
    superblock = check_superblock(device.read(0, 512), device.size)
    device.block_size = superblock.block_size
    return Journal(device, superblock.geometry).blocks


def crashed() -> Image:
    """A transaction waits that makes /new and removes /d/f; the image is as before it."""
    device = MemoryDevice(build().data)
    recorder = RecordingDevice(device)
    fs = mount(recorder)
    before = bytearray(device.image)
    recorder.accesses.clear()
    put(fs, "/new", b"n" * 9000)
    fs.unlink("/d/f")
    fs.sync()
    for access in recorder.accesses:
        if access.operation == "write":
            at = access.block_no * 512 + access.offset
            before[at : at + len(access.content)] = access.content
            if access.content.startswith(b"JRNL"):
                break
    return Image(before)


def test_an_image_with_a_journal_is_clean_and_the_journal_no_inode_of_anybody() -> None:
    report = check(MemoryDevice(build().data))
    assert report.findings == ()
    without = check(MemoryDevice(build(None).data))
    assert report.inodes == without.inodes
    assert report.blocks == without.blocks + 17


def test_a_transaction_that_waits_is_installed() -> None:
    image = crashed()
    done = Repaired(image)
    assert done.rules[0] == 711
    assert [number for number in done.rules if number < 700] == []
    assert done.names("/") == {b"d", b"new"}
    assert done.names("/d") == set()
    assert done.walk.content(done.ino("/new")) == b"n" * 9000
    finding = done.of(711)[0]
    assert place(image, finding) == blocks_of(image)[0] * 512 + 4
    assert finding.rule.is_safe


def test_it_is_what_a_mount_makes_of_it() -> None:
    checked = Repaired(crashed()).walk
    device = MemoryDevice(crashed().data)
    mount(device).unmount()
    mounted = walk(device.image)
    assert mounted.paths == checked.paths
    assert (mounted.free_blocks, mounted.free_inodes) == (checked.free_blocks, checked.free_inodes)


def test_preen_installs_it() -> None:
    image = crashed()
    report = safely(image)
    assert report.left == ()


def test_declined_the_transaction_waits_on_and_the_flag_stays() -> None:
    image = crashed()
    device = MemoryDevice(bytearray(image.data))
    report = check(device, decide=lambda finding: finding.rule.number != 711)
    assert 711 in [finding.rule.number for finding in report.left]
    report.write(device)
    after = Image(device.image)
    assert after.superblock("feature_incompat") == RECOVER
    assert after.superblock("state") == MOUNTED
    mounted = mount(MemoryDevice(device.image))
    assert set(mounted.listdir("/")) == {"d", "new"}


def test_the_transaction_of_an_unmount_leaves_a_clean_filesystem() -> None:
    device = MemoryDevice(build().data)
    recorder = RecordingDevice(device)
    fs = mount(recorder)
    fs.sync()
    state = bytearray(device.image)
    recorder.accesses.clear()
    fs.unmount()
    for access in recorder.accesses:
        if access.operation == "write":
            at = access.block_no * 512 + access.offset
            state[at : at + len(access.content)] = access.content
            if access.content.startswith(b"JRNL"):
                break
    assert Repaired(Image(state)).rules == [711]


def test_a_torn_transaction_is_none() -> None:
    image = crashed()
    image.flip(image.at(blocks_of(image)[2], 100), 3)
    done = Repaired(image)
    assert 711 not in done.rules
    assert done.names("/d") == {b"f"}


@pytest.mark.parametrize(
    ("offset", "content"),
    [(0, b"JRNX"), (4, struct.pack("<I", 16)), (4, struct.pack("<I", 2**31))],
)
def test_a_header_that_is_none_is_written_anew(offset: int, content: bytes) -> None:
    image = build()
    header = image.at(blocks_of(image)[0], offset)
    image.put(header, content)
    done = Repaired(image)
    finding = done.only(712)
    assert place(image, finding) == header
    assert not finding.rule.is_safe
    mount(MemoryDevice(bytearray(done.after))).unmount()


def test_a_count_of_0_without_its_checksum_is_damage() -> None:
    """No crash leaves it, and a transaction may have been lost by it."""
    image = crashed()
    header = image.at(blocks_of(image)[0])
    image.put_word(header + 4, 0)
    finding = Repaired(image).of(712)[0]
    assert place(image, finding) == header + 16
    assert finding.lost


def test_a_file_to_which_a_damaged_inode_1_leads_is_not_written_over() -> None:
    image = build()
    file = walk(image.data).paths[b"/d/f"]
    at = image.inode_at(file)
    image.put(image.inode_at(1), bytes(image.data[at : at + 256]))
    image.put_inode(1, size=6 * 512)
    done = Repaired(image)
    assert {251, 712} <= set(done.rules)
    assert done.walk.content(done.ino("/d/f")) == b"f" * 3000


def test_a_header_is_checked_although_inode_1_had_to_be_repaired_first() -> None:
    image = build()
    image.put_block(blocks_of(image)[0], bytes(512))
    image.put_inode(1, triple=2**31)
    assert Repaired(image).rules == [220, 712]


@pytest.mark.parametrize("number", [512, 2**32 - 1, None, 1, 0])
def test_a_header_with_a_block_that_no_transaction_has_is_written_anew(number: int | None) -> None:
    image = crashed()
    own = blocks_of(image)
    number = own[5] if number is None else number
    log = [image.block(own[1]), image.block(own[2])]
    numbers = (1, number)
    image.put_block(own[0], encode_journal(JournalHeader(9, numbers), log))
    done = Repaired(image)
    (finding,) = done.of(712)
    assert place(image, finding) == image.at(own[0], 24)
    assert str(number) in finding.problem


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": 0o040700},
        {"size": 8000},
        {"size": 512 * 125},
        {"nlink": 0},
        {"mode": 0o120777},
    ],
    ids=str,
)
def test_an_inode_1_that_is_no_journal_is_given_up(fields: dict[str, Any]) -> None:
    image = build()
    image.put_inode(1, **fields)
    done = Repaired(image)
    assert 713 in done.rules
    assert not done.of(713)[0].rule.is_safe
    assert done.image.superblock("feature_compat") == 0
    assert not any(done.image.data[done.image.inode_at(1) : done.image.inode_at(1) + 256])
    assert done.names("/d") == {b"f"}


def test_the_blocks_of_a_journal_that_is_given_up_are_free() -> None:
    image = build()
    image.put_inode(1, mode=0o040700)
    done = Repaired(image)
    assert done.walk.free_blocks == walk(build(None).data).free_blocks


def test_the_replay_flag_without_a_journal_is_cleared() -> None:
    image = build(None)
    image.put_superblock(feature_incompat=RECOVER)
    done = Repaired(image)
    finding = done.only(714)
    assert place(image, finding) == 12
    assert done.image.superblock("feature_incompat") == 0


def test_the_replay_flag_of_a_clean_filesystem_is_cleared() -> None:
    image = build()
    image.put_superblock(feature_incompat=RECOVER)
    done = Repaired(image)
    finding = done.only(714)
    assert place(image, finding) == 12
    assert not finding.rule.is_safe
    assert done.image.superblock("feature_incompat") == 0
    image = crashed()
    image.put_superblock(state=7)
    done = Repaired(image)
    assert done.rules[0] == 711
    assert done.names("/") == {b"d", b"new"}


@pytest.mark.parametrize("rule", [712, 251])
def test_the_replay_flag_is_judged_although_the_journal_itself_is_damaged(rule: int) -> None:
    image = build()
    header = blocks_of(image)[0]
    if rule == 712:
        image.put(image.at(header), b"JRNX")
    else:
        image.put_inode(1, direct1=header)
    image.put_superblock(feature_incompat=RECOVER)
    assert Repaired(image).rules[:2] == [rule, 714]


def test_a_name_for_the_journal_is_removed() -> None:
    image = build()
    entry = image.entries(walk(image.data).paths[b"/d"])[b"f"]
    image.put_record(entry, ino=1)
    with pytest.raises(Corrupt, match="inode number 1"):
        mount(MemoryDevice(bytearray(image.data))).stat("/d/f")
    done = Repaired(image)
    (finding,) = done.of(305)
    assert "names inode 1; there are only 2 to" in finding.problem
    assert len(done.walk.journal) == 16


def test_a_transaction_is_installed_although_inode_1_is_damaged() -> None:
    """Its pointers lead to a whole transaction: that is evidence enough."""
    image = crashed()
    image.put_inode(1, seal=False, blocks=99, uid=5)
    done = Repaired(image)
    assert 711 in done.rules
    assert done.names("/") == {b"d", b"new"}
    assert len(done.walk.journal) == 16


def test_a_superblock_of_another_filesystem_is_not_installed() -> None:
    image = crashed()
    own = blocks_of(image)
    numbers = struct.unpack_from("<9I", image.block(own[0]), 20)
    assert numbers[0] == 0
    other = Image(image.block(own[1]) + bytes(image.data[512:]))
    other.put_superblock(block_count=500)
    log = [other.block(0), *(image.block(block) for block in own[2:5])]
    image.put_block(own[1], log[0])
    image.put_block(own[0], encode_journal(JournalHeader(9, numbers[:4]), log))
    with pytest.raises(Corrupt, match="the superblock in the journal"):
        mount(MemoryDevice(bytearray(image.data)))
    done = Repaired(image)
    (finding,) = done.of(712)
    assert place(image, finding) == image.at(own[1])
    assert done.names("/d") == {b"f"}


def test_a_flag_that_is_set_alone_is_no_fault() -> None:
    """A crash right after a mount: the flag is there, and nothing waits."""
    device = MemoryDevice(build().data)
    mount(device)
    done = Repaired(Image(device.image))
    assert [number for number in done.rules if number < 700] == []
    assert 711 not in done.rules
    assert done.image.superblock("feature_incompat") == 0


def test_an_inode_1_without_a_journal_is_zeroed_unasked() -> None:
    """As a tune.vsfs leaves it that was interrupted."""
    image = build()
    image.put_superblock(feature_compat=0, state=MOUNTED)
    report = safely(image)
    assert report.left == ()
    done = Repaired(image)
    assert 202 in done.rules
    assert done.walk.free_blocks == walk(build(None).data).free_blocks


def test_a_journal_block_that_a_file_claims_too_is_found() -> None:
    image = build()
    own = blocks_of(image)
    image.put_inode(4, direct0=own[3])
    done = Repaired(image)
    assert any(number // 100 == 2 for number in done.rules)
    assert done.names("/d") <= {b"f"}


def test_damage_in_a_replayed_block_is_found_after_the_replay() -> None:
    """What the log writes is judged, not what it replaces."""
    image = crashed()
    image.put_inode(4, seal=False, mode=0)  # /d/f, which the transaction frees
    done = Repaired(image)
    assert done.rules[0] == 711
    assert [number for number in done.rules if number < 700] == []


def test_repairs_after_a_replay_are_not_undone_by_another_replay() -> None:
    """Wherever the power goes while the repairs are written."""
    image = crashed()
    image.put_inode(3, seal=False, checksum=1)  # /d: in a block that the log has, too
    image.put_inode_bit(60, 1)  # beyond what the log has anything to say about
    device = MemoryDevice(bytearray(image.data))
    report = check(device)
    recorder = RecordingDevice(device)
    report.write(recorder)
    state = bytearray(image.data)
    for access in recorder.accesses:
        if access.operation != "write":
            continue
        at = access.block_no * 512 + access.offset
        state[at : at + len(access.content)] = access.content
        again = MemoryDevice(bytearray(state))
        mount(again).unmount()
        found = walk(again.image)
        assert [line for line in found.findings if "inode bitmap" not in line
                and "free inode count" not in line] == []  # fmt: skip
        last = check(again)
        assert all(repair_safe(finding) for finding in last.findings)


def test_all_is_undone_with_an_undo_file() -> None:
    from vsfs.fsck.write import take_back_edits

    image = crashed()
    device = MemoryDevice(bytearray(image.data))
    report = check(device)
    report.write(device)
    assert device.image != image.data
    take_back_edits(device, 512, report.edits)
    assert device.image == image.data


def test_findings_have_one_sentence_each() -> None:
    texts: list[Finding] = []
    wrong: tuple[dict[str, Any], ...] = ({"mode": 0o040700}, {"size": 512})
    for fields in wrong:
        image = build()
        image.put_inode(1, **fields)
        texts += check(MemoryDevice(image.data)).findings
    assert all("\n" not in finding.problem for finding in texts)
