"""The benchmark's own parts: arithmetic, report, order, and that the floor answers right.

No test here looks at a time.
"""

from __future__ import annotations

import errno
import shutil
import stat
from pathlib import Path

import pytest
from rich.console import Console

from bench import client, figures, growth, report, rounds, source, systems
from bench.client import PHASES, Scale
from bench.figures import Figures
from bench.floor import Node, Tree
from bench.rounds import Measurement
from tests.support.images import errno_of

SMALL = Scale(files=7, megabytes=1, repeats=2)
BY_NAME = {phase.name: phase for phase in PHASES}


def measured(system: str, *rates: float, phase: str = "create") -> list[Measurement]:
    return [Measurement(phase, system, number, rate, 1.0, 0.0) for number, rate in enumerate(rates)]


# -- figures ------------------------------------------------------------------


def test_a_rate_is_the_median_of_the_rounds() -> None:
    assert Figures(measured("ext4", 5, 100, 6)).rate("create", "ext4") == 6


def test_a_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    found = Figures(measured("vsfs fusepy", 10, 20, 90) + measured("fuse2fs", 5, 20, 30))
    assert found.ratio("create", "vsfs fusepy", "fuse2fs") == 2


def test_rounds_that_only_one_system_finished_are_in_no_ratio() -> None:
    found = Figures(measured("vsfs fusepy", 10, 20) + measured("fuse2fs", 5))
    assert found.ratio("create", "vsfs fusepy", "fuse2fs") == 2
    assert found.ratio("create", "vsfs fusepy", "ext4") is None


def test_the_mean_of_the_ratios_is_the_geometric_one() -> None:
    found = Figures(
        measured("vsfs fusepy", 1)
        + measured("vsfs fusepy", 8, phase="unlink")
        + measured("ext4", 1)
        + measured("ext4", 2, phase="unlink")
    )
    assert found.mean_ratio("vsfs fusepy", "ext4") == 2
    assert figures.geometric_mean([]) is None


def test_the_budget_has_what_a_missed_target_leaves_to_the_filesystem() -> None:
    found = Figures(
        measured("vsfs llfuse", 10_000)  # 100 us
        + measured("fuse2fs", 8_000)  # 125 us, by 1.5 is 83.3
        + measured("floor llfuse", 20_000)  # 50 us
        + measured("vsfs llfuse", 10_000, phase="unlink")
        + measured("fuse2fs", 5_000, phase="unlink")
        + measured("floor llfuse", 20_000, phase="unlink")
    )
    table = report.budget(found, "vsfs llfuse")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["create", "83.3", "50.0", "33.3", "50.0"]
    ]


@pytest.mark.parametrize(
    ("system", "against", "phase", "minimum"),
    [
        ("vsfs fusepy", "fuse2fs", "create", 1.1),
        ("vsfs fusepy -j", "fuse2fs", None, 2.0),
        ("vsfs llfuse", "fuse2fs", None, 3.0),
        ("vsfs llfuse", "floor llfuse", "create", 0.75),
        ("vsfs llfuse", "floor fusepy", "create", None),
        ("vsfs llfuse", "ext4", "list", 0.9),
        ("vsfs llfuse", "ext4", "create", None),
        ("vsfs fusepy", "ext4", "list", None),
        ("fuse2fs", "ext4", "create", None),
    ],
)
def test_each_figure_has_the_target_of_its_binding(
    system: str, against: str, phase: str | None, minimum: float | None
) -> None:
    assert figures.minimum_for(system, against, phase) == minimum


def test_every_phase_with_a_target_of_its_own_exists() -> None:
    named = {name for some in figures.TARGETS.values() for one in some for name in one.phases or ()}
    assert named <= BY_NAME.keys()


# -- report -------------------------------------------------------------------


def test_a_figure_is_marked_as_reached_or_not() -> None:
    found = Figures(measured("vsfs fusepy", 10) + measured("fuse2fs", 5) + measured("ext4", 40))
    table = report.ratios(found, "vsfs fusepy")
    assert table.heads == ("phase", "x fuse2fs", "x ext4")
    assert [cell.marked for cell in table.rows[0]] == ["create", "2.00 (>= 1.1) ✓", "0.25"]
    slow = report.ratios(
        Figures(measured("vsfs fusepy", 5) + measured("fuse2fs", 5)), "vsfs fusepy"
    )
    assert slow.rows[0][1].marked == "1.00 (>= 1.1) ✗"
    assert report.reached(slow).endswith("0 of 2 targets reached")


def test_a_target_that_the_floor_misses_too_is_told_apart() -> None:
    systems = ("vsfs fusepy", 5), ("fuse2fs", 10), ("floor fusepy", 7)
    found = Figures([one for name, rate in systems for one in measured(name, rate)])
    table = report.ratios(found, "vsfs fusepy")
    assert table.heads[-1] == "the floor x fuse2fs"
    assert table.rows[0][-1].text == "0.70"
    assert [row[1].beyond for row in table.rows] == [True, True]
    assert not table.rows[0][2].beyond
    assert report.reached(table).endswith(
        "0 of 3 targets reached; 2 of the others not even by the floor"
    )


def test_what_was_not_measured_is_a_dash() -> None:
    found = Figures(measured("fuse2fs", 5) + measured("ext4", 3, phase="unlink"))
    assert report.rates(found).rows[0][2].text == "-"


def test_limits_are_checked_in_both_directions() -> None:
    table = report.growth({"lookup": 0.95, "MiB of a mount, files touched": 61.0})
    assert [row[1].reached for row in table.rows] == [True, False]


def test_start_up_times_are_compared_with_what_they_start_with() -> None:
    table = report.startup({"python -c 'import construct'": 50.0, "vsfs-inspect super": 75.0})
    assert table.rows[1][2].marked == "1.50 x python -c 'import construct' (<= 1.6) ✓"


def test_a_table_in_markdown_has_as_many_columns_in_each_line() -> None:
    table = report.library({"volume create": 20.04})
    lines = report.markdown(table).splitlines()
    assert lines[2:] == ["| operation | us |", "| --- | ---: |", "| volume create | 20.0 |"]


def test_a_table_is_shown_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(Console(width=80), report.library({"volume create": 20.04}))
    assert ["volume", "create", "20.0"] in map(str.split, capsys.readouterr().out.splitlines())


def test_the_document_is_changed_between_the_markers_only(tmp_path: Path) -> None:
    document = tmp_path / "PERFORMANCE.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.put_into_document(document, "new\n")
    assert document.read_text() == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    document.write_text("no markers")
    with pytest.raises(ValueError, match="markers"):
        report.put_into_document(document, "new")


def test_the_resident_size_is_read_from_proc() -> None:
    assert growth.resident_mib("Name:\tx\nVmRSS:\t   30720 kB\n") == 30


# -- order --------------------------------------------------------------------


def test_a_phase_comes_with_all_that_it_needs() -> None:
    names = [phase.name for phase in rounds.wanted_phases(["rm -rf", "unlink"])]
    assert names == ["create", "write 4 KiB", "rename", "unlink", "tar -x", "git clone", "rm -rf"]
    assert rounds.wanted_phases([]) == list(PHASES)


def test_what_a_phase_needs_comes_before_it() -> None:
    names = list(BY_NAME)
    for phase in PHASES:
        for needed in filter(None, (phase.needs, client.ALSO_NEEDED.get(phase.name))):
            assert names.index(needed) < names.index(phase.name)


def test_each_round_starts_with_another_system(tmp_path: Path) -> None:
    some = systems.all_systems(tmp_path, 1)
    orders = [rounds.in_turn(some, number) for number in range(len(some))]
    assert {order[0].name for order in orders} == {system.name for system in some}
    assert all(sorted(map(id, order)) == sorted(map(id, some)) for order in orders)


# -- workload -----------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("source")
    source.make(folder, 12)
    return folder


def test_the_source_tree_is_the_same_each_time() -> None:
    assert source.tree(30) == source.tree(30)
    assert len({path for path, _ in source.tree(30)}) == 30


def run_all(directory: Path, sources: Path) -> None:
    scale = Scale(SMALL.files, SMALL.megabytes, SMALL.repeats, str(sources))
    units = {phase.name: client.run(phase, str(directory), scale)["units"] for phase in PHASES}
    assert units["create"] == units["unlink"] == SMALL.files
    assert units["stat warm"] == units["list"] == 2 * SMALL.files
    assert units["tar -x"] == 12
    assert units["git clone"] > 12
    assert units["sequential read cold"] == pytest.approx(1.048576)
    assert [path.name for path in directory.iterdir()] == ["large"]


def test_the_workload_runs_on_the_hosts_filesystem(tmp_path: Path, sources: Path) -> None:
    run_all(tmp_path, sources)


def test_a_filesystem_that_loses_a_byte_has_no_figure(tmp_path: Path) -> None:
    for name in ("create", "write 4 KiB"):
        client.run(BY_NAME[name], str(tmp_path), SMALL)
    (tmp_path / SMALL.names[3]).write_bytes(client.content_of(3)[:-1] + b"x")
    with pytest.raises(RuntimeError, match="does not hold what was written"):
        client.run(BY_NAME["read 4 KiB warm"], str(tmp_path), SMALL)


@pytest.mark.mount
@pytest.mark.parametrize("binding", ["fusepy", "llfuse"])
def test_the_workload_runs_on_the_floor(binding: str, tmp_path: Path, sources: Path) -> None:
    floor = systems.Floor(tmp_path, 1, binding)
    try:
        floor.check()
    except systems.Unavailable as reason:
        pytest.skip(str(reason))
    floor.mount()
    try:
        run_all(floor.mount_point, sources)
    finally:
        floor.unmount()


# -- the floor ----------------------------------------------------------------


@pytest.fixture
def tree() -> Tree:
    return Tree()


def test_the_floor_keeps_what_is_written(tree: Tree) -> None:
    node = tree.make(tree.root, b"file", stat.S_IFREG | 0o644, 1, 2)
    assert node.write(b"abc", 5) == 3
    assert node.read(100, 0) == b"\0\0\0\0\0abc"
    assert (node.read(2, 6), node.read(9, 8)) == (b"bc", b"")
    node.truncate(6)
    node.truncate(8)
    assert (node.read(100, 4), node.attributes["st_size"]) == (b"\0a\0\0", 8)
    assert tree.find(tree.root, b"file") is node


def test_the_floor_refuses_what_every_filesystem_refuses(tree: Tree) -> None:
    directory = tree.make(tree.root, b"d", stat.S_IFDIR | 0o755, 0, 0)
    tree.make(directory, b"file", stat.S_IFREG, 0, 0)
    assert errno_of(lambda: tree.make(tree.root, b"d", stat.S_IFREG, 0, 0)) == errno.EEXIST

    def removing(parent: Node, name: bytes, *, directory: bool) -> int:
        return errno_of(lambda: tree.remove(parent, name, directory=directory))

    assert removing(tree.root, b"d", directory=True) == errno.ENOTEMPTY
    assert removing(tree.root, b"d", directory=False) == errno.EISDIR
    assert removing(directory, b"file", directory=True) == errno.ENOTDIR
    assert removing(directory, b"missing", directory=False) == errno.ENOENT


def test_the_floor_renames_over_a_name_and_counts_links(tree: Tree) -> None:
    one = tree.make(tree.root, b"one", stat.S_IFDIR | 0o755, 0, 0)
    two = tree.make(tree.root, b"two", stat.S_IFDIR | 0o755, 0, 0)
    inner = tree.make(one, b"inner", stat.S_IFDIR | 0o755, 0, 0)
    tree.make(two, b"inner", stat.S_IFDIR | 0o755, 0, 0)
    tree.rename(one, b"inner", two, b"inner")
    assert (one.children, two.children) == ({}, {b"inner": inner})
    assert [node.attributes["st_nlink"] for node in (tree.root, one, two)] == [4, 2, 3]
    tree.rename(two, b"inner", two, b"inner")
    assert two.children == {b"inner": inner}
