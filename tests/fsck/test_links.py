"""Pass 4: link counts that disagree with the entries."""

from __future__ import annotations

import pytest

from tests.fsck.trees import REGULAR, Repaired, crowded, image, place, safely

PATHS = ["/", "/a", "/a/b/c", "/f", "/a/g", "/e", "/s"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("change", [-1, 1, 2**31])
def test_a_link_count_is_that_of_the_entries(path: str, change: int) -> None:
    broken = image()
    ino = broken.find(path)
    right = broken.get(ino, "nlink")
    if right + change == 0:
        pytest.skip("an inode without links is free")
    broken.put_inode(ino, nlink=right + change)
    found = Repaired(broken)
    finding = found.only(501)
    assert place(broken, finding) == broken.inode_at(ino) + 4
    assert finding.found.value == str(right + change)
    assert finding.expected.value.startswith("1 entry" if right == 1 else f"{right} entries")
    assert found.is_as_before
    assert safely(broken).left == ()


@pytest.mark.parametrize("path", ["/f", "/a/b"])
def test_the_other_evidence_is_the_first_entry(path: str) -> None:
    broken = image()
    ino, at = broken.find(path), broken.entry(path)
    broken.put_inode(ino, nlink=9)
    expected = Repaired(broken).only(501).expected
    assert broken.at(expected.block_no, expected.offset) == at


def test_a_new_entry_counts() -> None:
    broken = image()
    broken.insert(broken.find("/d"), b"more", broken.find("/f"), REGULAR)
    found = Repaired(broken)
    assert "has a link count of 2, but 3 entries name it" in found.only(501).text
    assert found.walk.inodes[broken.find("/f")].nlink == 3


@pytest.mark.slow
def test_more_links_than_vsfs_makes_are_counted() -> None:
    broken = crowded(65_534, 5)
    for number in range(3):
        broken.insert(2, b"more%d" % number, broken.find("/f"), REGULAR)
    found = Repaired(broken)
    assert "65538 entries name it, more than the 65535" in found.only(501).text
    assert found.walk.inodes[broken.find("/f")].nlink == 65_538
