"""Pass 3: each rule of the tree broken in one place, found there, and repaired."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fsck.trees import DIRECTORY, REGULAR, Repaired, image, place, safely
from tests.support.damage import Image
from tests.support.images import blank, image_of, mount
from vsfs.device import MemoryDevice
from vsfs.fsck import check

SIZES = pytest.mark.parametrize("block_size", [512, 4096])


# -- 401 and 402: one parent


def test_a_directory_stays_where_its_dotdot_leads() -> None:
    """What a crash leaves in the middle of a rename."""
    broken = image()
    at = broken.insert(broken.find("/d"), b"moved", broken.find("/a/b"), DIRECTORY)
    found = Repaired(broken)
    assert place(broken, found.only(401)) == at
    assert found.names("/a/b") == {b"c", b"h"}
    assert found.names("/d") == set()
    assert safely(broken).left == ()


def test_a_directory_whose_dotdot_was_written_is_moved() -> None:
    """What a crash leaves one stage later."""
    broken = image()
    old = broken.entry("/a/b")
    broken.insert(broken.find("/d"), b"moved", broken.find("/a/b"), DIRECTORY)
    broken.put_record(broken.entry("/a/b/.."), ino=broken.find("/d"))
    broken.put_inode(broken.find("/a"), nlink=2)
    broken.put_inode(broken.find("/d"), nlink=3)
    found = Repaired(broken)
    assert place(broken, found.only(401)) == old
    assert found.names("/d/moved") == {b"c", b"h"}
    assert safely(broken).left == ()


def test_two_directories_that_change_places_end_as_a_tree() -> None:
    """/a/b to /b, then /a to /b/a: after the new names, before the old ones go."""
    for dotdots in range(4):
        broken = image()
        a, b = broken.find("/a"), broken.find("/a/b")
        if dotdots & 1:
            broken.put_record(broken.entry("/a/.."), ino=b)
        if dotdots & 2:
            broken.put_record(broken.entry("/a/b/.."), ino=2)
        broken.insert(2, b"b", b, DIRECTORY)
        broken.insert(b, b"a", a, DIRECTORY)
        found = Repaired(broken)
        assert all(finding.rule.is_safe for finding in found.findings)
        assert set(found.walk.inodes) == set(broken.inodes())


def test_an_entry_for_the_root_is_removed() -> None:
    broken = image()
    at = broken.insert(broken.find("/d"), b"top", 2, DIRECTORY)
    found = Repaired(broken)
    assert place(broken, found.only(402)) == at
    assert found.names("/d") == set()


def test_an_entry_of_a_directory_for_itself_is_removed() -> None:
    broken = image()
    at = broken.insert(broken.find("/d"), b"self", broken.find("/d"), DIRECTORY)
    assert place(broken, Repaired(broken).only(401)) == at


# -- 403: `..`


@SIZES
@pytest.mark.parametrize("path", ["/a/b", "/a/b/c", "/"])
def test_dotdot_is_the_directory_with_the_entry(path: str, block_size: int) -> None:
    broken = image(block_size)
    at = broken.entry(path.rstrip("/") + "/..")
    for wrong in (broken.find("/d"), broken.find("/f"), 0, 1, 99, 2**32 - 1):
        broken.put_record(at, ino=wrong)
        found = Repaired(broken)
        assert place(broken, found.only(403)) == at
        assert found.is_as_before
        assert safely(broken).left == ()


# -- 404: cycles


def test_a_cycle_is_cut_and_named() -> None:
    """/a/b is moved into /a/b/c, its own child."""
    broken = image()
    b, c = broken.find("/a/b"), broken.find("/a/b/c")
    broken.remove("/a/b")
    broken.insert(c, b"round", b, DIRECTORY)
    broken.put_record(broken.at(broken.owned(b).data[0], 12), ino=c)
    broken.put_inode(broken.find("/a"), nlink=2)
    broken.put_inode(c, nlink=3)
    found = Repaired(broken)
    finding = found.of(404)[0]
    assert not finding.rule.is_safe
    assert found.names(f"/lost+found/#{min(b, c)}")
    assert {b, c} <= set(found.walk.paths.values())
    assert 405 not in found.rules


def test_what_hangs_on_a_cycle_stays_there() -> None:
    broken = image()
    a, b, c = broken.find("/a"), broken.find("/a/b"), broken.find("/a/b/c")
    broken.remove("/a")
    broken.insert(b, b"up", a, DIRECTORY)  # a cycle of /a and /a/b, with /a/b/c below
    found = Repaired(broken)
    assert found.ino(f"/lost+found/#{a}/b") == b
    assert found.ino(f"/lost+found/#{a}/b/c") == c


def test_a_directory_that_only_names_itself_is_a_cycle() -> None:
    broken = image()
    d = broken.find("/d")
    broken.remove("/d")
    broken.insert(d, b"self", d, DIRECTORY)
    found = Repaired(broken)
    assert 404 in found.rules
    assert found.ino(f"/lost+found/#{d}") == d


# -- 405 and 406: without a name


@SIZES
def test_a_file_without_a_name_goes_to_lost_and_found(block_size: int) -> None:
    broken = image(block_size)
    ino = broken.find("/a/b/h")
    broken.remove("/a/b/h")
    found = Repaired(broken)
    finding = found.of(405)[0]
    assert place(broken, finding) == broken.inode_at(ino) + 4
    assert set(found.rules) <= {405, 601, 604, 607, 608}
    assert found.ino(f"/lost+found/#{ino}") == ino
    lost_found = found.walk.inodes[found.ino("/lost+found")]
    assert (lost_found.mode, lost_found.uid, lost_found.nlink) == (0o40700, 0, 2)
    assert safely(broken).left == ()


def test_lost_and_found_is_no_inode_that_a_name_leads_to() -> None:
    """If the plug is pulled before that name is gone, it would be one of lost+found."""
    broken = image()
    free = broken.free_ino()
    broken.insert(broken.find("/d"), b"gone", free, REGULAR)
    broken.remove("/a/b/h")
    found = Repaired(broken)
    assert len(found.of(306)) == 1
    assert found.ino("/lost+found") > free
    assert safely(broken).left == ()


def test_a_directory_without_a_name_takes_along_what_is_below() -> None:
    broken = image()
    a = broken.find("/a")
    broken.remove("/a")
    broken.put_inode(2, nlink=4)
    found = Repaired(broken)
    assert len(found.of(405)) == 1
    assert found.names(f"/lost+found/#{a}") == {b"again", b"b", b"g"}
    assert 501 not in found.rules


def test_lost_and_found_is_used_if_it_is_there() -> None:
    broken = image()
    ino = broken.find("/a/b/h")
    broken.remove("/a/b/h")
    first = Repaired(broken)
    again = Image(first.after)
    again.remove(f"/lost+found/#{ino}")
    second = Repaired(again)
    second.only(405)
    assert second.names("/lost+found") == {b"#%d" % ino}


def test_a_file_called_lost_and_found_is_left_alone() -> None:
    broken = image()
    broken.remove("/a/b/h")
    broken.insert(2, b"lost+found", broken.find("/e"), REGULAR)
    broken.put_inode(broken.find("/e"), nlink=2)
    found = Repaired(broken)
    assert found.ino("/lost+found") == broken.find("/e")
    assert len(found.names("/lost+found~1")) == 1


def test_names_in_lost_and_found_are_new() -> None:
    broken = image()
    ino = broken.find("/a/b/h")
    broken.remove("/a/b/h")
    again = Image(Repaired(broken).after)
    again.remove(f"/lost+found/#{ino}")
    again.insert(again.find("/lost+found"), b"#%d" % ino, again.find("/e"), REGULAR)
    again.put_inode(again.find("/e"), nlink=2)
    found = Repaired(again)
    assert found.names("/lost+found") == {b"#%d" % ino, b"#%d~1" % ino}


def test_lost_and_found_grows_by_blocks_and_indirect_ones() -> None:
    fs = mount(blank(1024 * 1024, block_size=512, inode_count=1000))
    fs.mkdir("/d")
    for number in range(900):
        fs.symlink("x", f"/d/{number}")
    fs.unmount()
    broken = Image(image_of(fs))
    broken.remove("/d")
    d = broken.inodes()[1]  # its names are gone
    broken.put_inode(d, mode=0o100755, size=0, blocks=0, single=0, double=0)
    for index in range(12):
        broken.put_inode(d, **{f"direct{index}": 0})  # type: ignore[arg-type]
    broken.put_inode(2, nlink=2)
    found = Repaired(broken)
    assert len(found.names("/lost+found")) == 900
    size = found.walk.inodes[found.ino("/lost+found")].size
    assert size > 13 * 512
    assert found.walk.inodes[found.ino("/lost+found")].indirect_blocks == 1


def test_an_empty_file_without_a_name_is_freed() -> None:
    broken = image()
    ino = broken.find("/e")
    broken.remove("/e")
    found = Repaired(broken)
    assert place(broken, found.of(406)[0]) == broken.inode_at(ino) + 4
    assert ino not in found.walk.inodes
    assert b"lost+found" not in found.names("/")
    assert safely(broken).left == ()


def full(*, inodes: bool) -> Image:
    """A tree without a free block, or without a free inode."""
    fs = mount(blank(128 * 1024, block_size=512, inode_count=24))
    fs.mkdir("/d")
    fd = fs.open("/d/lost", os.O_CREAT | os.O_WRONLY)
    fs.write(fd, b"lost")
    fs.close(fd)
    if inodes:
        for number in range(19):
            fs.symlink("x", f"/{number}")
    else:
        fd = fs.open("/filler", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                fs.write(fd, bytes(512))
        except OSError:
            fs.close(fd)
    fs.unmount()
    return Image(image_of(fs))


@pytest.mark.parametrize("inodes", [False, True])
def test_without_room_for_lost_and_found_the_root_takes_the_name(inodes: bool) -> None:
    broken = full(inodes=inodes)
    ino = broken.find("/d/lost")
    broken.remove("/d/lost")
    found = Repaired(broken)
    assert "since /lost+found has no room" in found.only(405).text
    assert found.ino(f"/#{ino}") == ino


def fill(broken: Image, *directories: int) -> None:
    """Names for /filler in directories, until there is room for no more."""
    filler = broken.find("/filler")
    for directory in directories:
        with contextlib.suppress(ValueError):
            while True:
                name = b"%020d" % len(broken.entries(directory))
                broken.insert(directory, name, filler, REGULAR)
    records = [at for directory in directories for at in broken.entries(directory).values()]
    named = [broken.record(at, "ino") for at in records]
    broken.put_inode(filler, nlink=named.count(filler))


def without_name_and_room(*, fill_all: bool = False, owner: int = 0, uid: int = 0) -> Image:
    """/d/lost has lost its name, the disk and / are full; /d is some `owner`'s."""
    broken = full(inodes=False)
    directory, lost = broken.find("/d"), broken.find("/d/lost")
    broken.remove("/d/lost")
    fill(broken, 2, *[directory] * fill_all)
    broken.put_inode(directory, uid=owner)
    broken.put_inode(lost, uid=uid)
    return broken


@pytest.mark.parametrize(("owner", "file_owner"), [(0, 0), (0, 7), (7, 7)])
def test_without_room_in_the_root_another_directory_takes_the_name(
    owner: int, file_owner: int
) -> None:
    broken = without_name_and_room(owner=owner, uid=file_owner)
    found = Repaired(broken)
    assert "in directory inode 3 (/d), since /lost+found and the root" in found.only(405).text
    assert found.names("/d") == {b"#4"}


@pytest.mark.parametrize(("fill_all", "owner"), [(True, 0), (False, 7)])
def test_without_any_room_it_is_said_and_nothing_is_lost(*, fill_all: bool, owner: int) -> None:
    """Of another user no directory is taken: that one could remove the file."""
    device = MemoryDevice(bytearray(without_name_and_room(fill_all=fill_all, owner=owner).data))
    report = check(device)
    assert [finding.rule.number for finding in report.left] == [405]
    assert report.left[0].edits == ()
    report.write(device)
    assert [f.rule.number for f in check(device).findings] == [405]


def test_a_declined_name_does_not_make_a_wrong_link_count() -> None:
    broken = image()
    broken.remove("/a/b/h")
    report = check(MemoryDevice(bytearray(broken.data)), decide=lambda finding: False)
    assert [finding.rule.number for finding in report.findings] == [405]


# -- any graph


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=14),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 99)), max_size=5),
    st.sets(st.integers(1, 7), max_size=4),
)
def test_any_graph_of_directories_becomes_a_tree(
    edges: list[tuple[int, int]], dotdots: list[tuple[int, int]], removed: set[int]
) -> None:
    broken, directories = grown()
    for index in removed:
        parent = broken.record(broken.at(broken.owned(directories[index]).data[0], 12), "ino")
        for name, at in broken.entries(parent).items():
            if broken.record(at, "ino") == directories[index] and name not in (b".", b".."):
                broken.put_record(at, ino=0)
    for number, (parent, child) in enumerate(edges):
        broken.insert(directories[parent], b"edge%d" % number, directories[child], DIRECTORY)
    for index, wrong in dotdots:
        broken.put_record(broken.at(broken.owned(directories[index]).data[0], 12), ino=wrong)
    before = set(broken.inodes())
    found = Repaired(broken)
    assert before <= set(found.walk.paths.values())


def grown() -> tuple[Image, list[int]]:
    """Eight directories, the root among them, some in each other."""
    if not _GROWN:
        fs = mount(blank(256 * 1024, inode_count=64))
        paths = ["/", "/1", "/1/2", "/1/2/3", "/4", "/4/5", "/4/6", "/7"]
        for path in paths[1:]:
            fs.mkdir(path)
        fs.unmount()
        sound = Image(image_of(fs))
        _GROWN.append((sound, [sound.find(path) for path in paths]))
    sound, inos = _GROWN[0]
    return sound.copy(), inos


_GROWN: list[tuple[Image, list[int]]] = []
