"""What-if: the same calls under other settings cost what OSTEP 40.7 and 42.3 say."""

from __future__ import annotations

import os

import pytest

import vsfs
from tests.support.images import ROOT, blank, mount
from tests.support.rawwalk import walk
from tests.support.traces import BLOCK, book_image, book_reads, later
from tests.test_trace import script, shown
from vsfs.device import Kind, MemoryDevice
from vsfs.small import SMALL_BLOCKS, SmallVolume
from vsfs.what_if import AXES, Blocks, Outcome, Program, Setting, alternatives, measure

COLD = Setting(cache="none").possible()


def cost(
    setting: Setting,
    program: Program,
    image: MemoryDevice | None = None,
    user: vsfs.Credentials = ROOT,
) -> Outcome:
    """What a program costs on an image, by default the one with /foo/bar."""
    image = image or book_image(with_bar=True)
    before = bytes(image.image)
    outcome = measure(before, setting, program, user, later())
    assert before == image.image
    return outcome


def opens(fs: vsfs.FileSystem) -> bool:
    """Opens /foo/bar."""
    fs.open("/foo/bar", os.O_RDONLY)
    return True


def reads(fs: vsfs.FileSystem) -> bool:
    """The calls of figure 40.3."""
    book_reads(fs)
    return True


def writes(fs: vsfs.FileSystem) -> bool:
    """Five writes to one inode."""
    fd = fs.open("/foo/bar", os.O_WRONLY)
    for _ in range(5):
        fs.write(fd, b"x" * BLOCK)
    return True


def written(outcome: Outcome, *kinds: Kind) -> int:
    return sum(outcome.blocks.get(kind, Blocks()).written for kind in kinds)


def test_each_alternative_differs_from_the_base_in_one_setting() -> None:
    base, *others = alternatives(Setting(), AXES)
    assert {} == base.differences(Setting())
    assert sum(map(len, AXES.values())) - len(AXES) == len(others)
    for other in others:
        differences = other.differences(base)
        assert len(differences) == 1 or {"cache": "none", "write": "through"} == differences


def test_without_access_times_reading_writes_nothing() -> None:
    for cache in AXES["cache"]:
        outcome = cost(Setting(atime="noatime", cache=cache).possible(), reads)
        assert (0, 0) == (outcome.totals.writes, outcome.totals.barriers)
    assert 3 == cost(COLD._replace(atime="strictatime"), reads).totals.writes  # figure 40.3


def test_each_directory_on_a_path_costs_two_reads_without_a_cache() -> None:
    costs = [cost(COLD._replace(depth=depth), opens) for depth in AXES["depth"]]
    assert [5 + 2 * deeper for deeper in range(8)] == [cost.totals.reads for cost in costs]
    assert {0} == {cost.totals.writes for cost in costs}


def test_what_was_written_later_is_written_once() -> None:
    back, through = cost(Setting(), writes), cost(Setting(write="through"), writes)
    assert (1, 5) == (written(back, Kind.INODE_TABLE), written(through, Kind.INODE_TABLE))
    assert written(back, Kind.DATA) == written(through, Kind.DATA) == 5


@pytest.mark.parametrize("write", AXES["write"])
def test_a_journal_writes_metadata_twice_and_data_once(write: str) -> None:
    without, with_one = (cost(Setting(write=write, journal=on), writes) for on in ("off", "on"))
    metadata = [kind for kind in Kind if kind not in (Kind.DATA, Kind.JOURNAL)]
    commits = with_one.totals.barriers // 3
    twice = 2 * written(without, *metadata) + 2 * commits  # its header: to commit, to clear
    assert twice == written(with_one, *metadata, Kind.JOURNAL)
    assert written(without, Kind.DATA) == written(with_one, Kind.DATA)


def test_a_journal_that_the_image_has_can_be_taken_away() -> None:
    image = blank(1 << 20, journal_blocks=16)

    def makes(fs: vsfs.FileSystem) -> bool:
        fs.mkdir("/d")
        return True

    assert written(cost(Setting(journal="on"), makes, image), Kind.JOURNAL)
    assert not written(cost(Setting(journal="off"), makes, image), Kind.JOURNAL)


def test_a_larger_cache_reads_less() -> None:
    def twice(fs: vsfs.FileSystem) -> bool:
        return opens(fs) and opens(fs)

    large, small, none = (
        cost(Setting(cache=cache, depth="8").possible(), twice).totals.reads
        for cache in AXES["cache"]
    )
    assert large < small < none
    assert cost(Setting(depth="8"), opens).totals.reads == large


def test_the_tree_further_down_is_the_same_tree() -> None:
    """For its user too, and by symbolic links, and for a child."""
    image = book_image(with_bar=True)
    with mount(image) as fs:
        fs.mkdir("/1")  # the first name that the levels would take
        fs.symlink("/foo/bar", "/link")
        fs.chmod("/", 0o1777)

    def program(fs: vsfs.FileSystem) -> bool:
        child = fs.fork()
        child.chdir("/foo")
        assert ["1", "foo", "link"] == sorted(fs.listdir("/"))
        assert 3 * BLOCK == fs.stat("/link").st_size == child.stat("bar").st_size
        assert 0o41777 == fs.stat("/").st_mode
        fs.mkdir("/mine")
        with pytest.raises(PermissionError):
            fs.mkdir("/foo/mine")
        return True

    for depth in ("1", "2", "8"):
        assert "" == cost(Setting(depth=depth), program, image, vsfs.Credentials(7, 7)).trouble


def test_what_has_no_room_or_fails_says_so() -> None:
    image = blank(64 << 10)
    with mount(image) as fs:
        fd = fs.open("/full", os.O_WRONLY | os.O_CREAT)
        while fs.statvfs("/").f_bfree > 1:
            fs.write(fd, bytes(BLOCK))
    costs = [
        cost(Setting(**setting), lambda _: True, image)
        for setting in ({"journal": "on"}, {"depth": "8"}, {})
    ]
    assert "a journal of" in costs[0].trouble
    assert "free" in costs[1].trouble or "space" in costs[1].trouble
    assert "" == costs[2].trouble
    assert "a command failed" == cost(Setting(), lambda _: False).trouble


@pytest.mark.parametrize(("block_size", "journal_blocks"), [(4096, None), (512, None), (4096, 16)])
def test_a_volume_with_little_memory_does_what_any_does(
    block_size: int, journal_blocks: int | None
) -> None:
    images = [
        blank(1 << 21, block_size=block_size, journal_blocks=journal_blocks) for _ in range(2)
    ]
    small = SmallVolume(images[1], clock=later(), commit_interval=None)
    for fs in (mount(images[0]), vsfs.FileSystem(small, ROOT)):
        script(fs)
        fs.unmount()
    assert walk(images[1].image).findings == []
    assert shown(mount(images[0])) == shown(mount(images[1]))


def test_a_volume_with_little_memory_keeps_few_clean_blocks() -> None:
    image = blank(1 << 20, block_size=512)
    with mount(image) as fs:
        for number in range(20):
            fs.mkdir(f"/{number}")
    volume = SmallVolume(image, read_only=True)
    fs = vsfs.FileSystem(volume, ROOT)
    for number in range(20):
        fs.stat(f"/{number}/.")
    kept = [block for block in range(volume.geometry.block_count) if volume.cache.cached(block)]
    assert len(kept) <= SMALL_BLOCKS
