"""tune.vsfs: what it changes, what it prints, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from vsfs_tools.tune import main

import vsfs
from tests.support.images import IDENTITY, ROOT, Clock
from tests.support.rawwalk import walk
from tests.tools.test_inspect import build_waiting

UUID = "0ea75a09-4f7d-4c1b-9d1f-6a3c5be0a2d1"
LISTING = """\
label:         test
UUID:          00010203-0405-0607-0809-0a0b0c0d0e0f
features:      (none)
state:         clean
size:          256 KiB = 64 blocks of 4096 bytes
data blocks:   56, of which 55 are free
inodes:        80 of 256 bytes, of which 77 are free (3 are taken by the format)
journal:       none; tune.vsfs -j adds one
made:          2001-09-09 01:46:40 UTC
last mounted:  never
last written:  2001-09-09 01:46:40 UTC
last checked:  2001-09-09 01:46:40 UTC
mounts:        0
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    vsfs.format_image(path, identity=IDENTITY)
    return path


def tune(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run it; it must succeed in silence on stderr. What it printed."""
    assert main([str(argument) for argument in arguments]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run it; it must refuse with one sentence, which is returned."""
    assert main([str(argument) for argument in arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (sentence,) = shown.err.splitlines()
    assert sentence.startswith("tune.vsfs: ")
    return sentence


def usage(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run it with arguments that make no sense: exit status 2, and why."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def facts(listing: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in listing.splitlines())
    return {name: value.strip() for name, value in pairs}


def test_the_superblock_is_listed(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = image.read_bytes()
    assert tune(capsys, "-l", image) == LISTING
    assert image.read_bytes() == before


def test_a_journal_is_added_and_taken_away(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(capsys, "-j", image) == f"{image}: it has a journal of 16 blocks now\n"
    assert walk(image.read_bytes()).findings == []
    listed = facts(tune(capsys, "-l", image))
    assert listed["features"] == "journal"
    assert listed["journal"].startswith("16 blocks")
    assert listed["data blocks"] == "56, of which 38 are free"
    out = tune(capsys, "-O", "^journal", image)
    assert out == f"{image}: the journal is gone, and 17 blocks are free again\n"
    assert walk(image.read_bytes()).findings == []
    assert facts(tune(capsys, "-l", image))["features"] == "(none)"


@pytest.mark.parametrize("how", [("-J", "blocks=20"), ("-O", "journal", "-J", "blocks=20")])
def test_a_journal_of_a_given_size_is_added(
    image: Path, capsys: pytest.CaptureFixture[str], how: tuple[str, ...]
) -> None:
    tune(capsys, *how, image)
    assert len(walk(image.read_bytes()).journal) == 20


def test_all_changes_are_made_by_one_command(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tune(capsys, "-j", "-L", "photos", "-U", UUID, "-l", image)
    assert out.splitlines()[:3] == [
        f"{image}: it has a journal of 16 blocks now",
        f"{image}: its label is 'photos' now",
        f"{image}: its UUID is {UUID} now",
    ]
    listed = facts("\n".join(out.splitlines()[3:]))
    assert (listed["label"], listed["UUID"]) == ("photos", UUID)
    tune(capsys, "-L", "", "-U", "random", image)
    listed = facts(tune(capsys, "-l", image))
    assert listed["label"] == "(none)"
    assert listed["UUID"] != UUID


def test_a_label_with_a_newline_is_listed_on_one_line(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(capsys, "-L", "a\nb", image)
    assert facts(tune(capsys, "-l", image))["label"] == r"a\nb"


def test_what_waits_in_a_journal_is_in_place_before_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "journal.img"
    build_waiting(image)
    assert "not cleanly unmounted" in refused(capsys, "-L", "x", image)
    tune(capsys, "-O", "^journal", image)
    found = walk(image.read_bytes())
    assert found.findings == []
    assert b"/new/bar" in found.paths
    assert found.journal == ()


def test_a_journal_that_was_added_works(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune(capsys, "-j", image)
    with vsfs.FileSystem.open(image, credentials=ROOT, clock=Clock()) as fs:
        for number in range(30):
            fs.close(fs.open(f"/{number}", os.O_CREAT | os.O_WRONLY))
    found = walk(image.read_bytes())
    assert found.findings == []
    assert len(found.paths) == 31


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-O", "^journal"), "disk.img: it has no journal"),
        (("-J", "blocks=12"), "a journal cannot have 12 blocks: with blocks of 4096 bytes"),
        (("-J", "blocks=55"), "leaves no room for files"),
        (("-L", "x" * 33), "has 33 bytes; at most 32 fit"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(
    image: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    before = image.read_bytes()
    assert sentence in refused(capsys, *arguments, image)
    assert image.read_bytes() == before


def test_a_second_journal_is_refused(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune(capsys, "-j", image)
    assert "has a journal already; -O ^journal takes that away" in refused(capsys, "-j", image)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "say what to change, or -l"),
        (("-j", "-O", "^journal"), "takes the journal away that -j would add"),
        (("-J", "20"), "write it as blocks=64"),
        (("-U", "nonsense"), "uuidgen makes one"),
        (("-O", "extents"), "invalid choice"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(
    image: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    assert sentence in usage(capsys, *arguments, image)


@pytest.mark.parametrize("content", [b"", b"no filesystem" * 100])
def test_what_is_no_image_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    for arguments in (("-j",), ("-l",), ("-O", "^journal")):
        assert "not a VSFS image" in refused(capsys, *arguments, path)
    assert path.read_bytes() == content
    assert "no such file" in refused(capsys, "-j", tmp_path / "missing")


def test_an_image_in_use_is_refused(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsfs.lock.WAIT_SECONDS", 0.1)
    with vsfs.FileSystem.open(image):
        assert "in use by another process" in refused(capsys, "-j", image)
    monkeypatch.setattr("vsfs_tools.tune.mount_points", lambda _: ["/mnt"])
    assert "is mounted on /mnt; unmount it first" in refused(capsys, "-j", image)


@pytest.mark.mount
def test_a_mounted_image_can_be_listed_but_not_changed(
    mounted_with_journal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    mount = mounted_with_journal
    (mount.point / "file").write_text("x")
    listed = facts(tune(capsys, "-l", mount.image))
    assert listed["features"] == "journal recover"
    assert listed["state"].startswith("mounted")
    assert " of which 37 are free" in listed["data blocks"]  # it was synced first
    assert "is mounted on" in refused(capsys, "-O", "^journal", mount.image)


@pytest.fixture
def mounted_with_journal(tmp_path: Path) -> Any:
    from tests.support.mounts import Mount, need_fuse

    need_fuse()
    mount = Mount.make(tmp_path / "disk.img", tmp_path / "mnt", "fusepy", 256 * 1024)
    assert main(["-j", str(mount.image)]) == 0
    mount.mount()
    yield mount
    mount.unmount()
    mount.remove()
