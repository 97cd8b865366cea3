"""vsfs-inspect on an image that is mounted right now shows the present."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_it_shows_a_change_made_a_moment_before(mounted: Any, run: Run) -> None:
    for number in range(5):
        (mounted.point / f"file{number}").write_text(f"contents {number}")
        shown = run("inspect", mounted.image, "cat", f"/file{number}")
        assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"contents {number}", "")


def test_its_counts_are_those_of_df(mounted: Any, run: Run) -> None:
    (mounted.point / "directory").mkdir()
    (mounted.point / "file").write_bytes(bytes(100_000))
    (mounted.point / "gone").touch()
    (mounted.point / "gone").unlink()
    shown = json.loads(run("inspect", "--json", mounted.image, "super").stdout)
    counts = os.statvfs(mounted.point)
    assert shown["fields"]["free_block_count"]["value"] == counts.f_bfree
    assert shown["fields"]["free_inode_count"]["value"] == counts.f_ffree


def test_it_waits_for_a_mount_that_is_ending(mounted: Any, run: Run) -> None:
    for number in range(5):
        (mounted.point / f"file{number}").touch()
        mounted.unmount()
        assert f"file{number}" in run("inspect", mounted.image, "tree").stdout
        mounted.mount()


def test_it_tells_what_a_command_changed(mounted: Any, run: Run, tmp_path: Path) -> None:
    (mounted.point / "first").write_text("1")
    subprocess.run(["sync", mounted.point], check=True)
    saved = shutil.copy(mounted.image, tmp_path / "saved.img")
    (mounted.point / "second").write_text("12")
    (mounted.point / "first").unlink()
    told = run("inspect", mounted.image, "diff", "--since", saved).stdout
    assert "- /first removed: regular file, inode 3 is free" in told
    assert "- /second made: regular file, 2 bytes, inode 4" in told
    shown = run("inspect", mounted.image, "recover", "3", tmp_path / "first")
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "first").read_text() == "1"


def test_it_leaves_the_mount_and_the_image_alone(mounted: Any, run: Run) -> None:
    (mounted.point / "file").touch()
    os.sync()
    run("inspect", mounted.image)
    before = mounted.image.read_bytes()
    for words in (["layout"], ["inode", "/file"], ["block", "3"], ["bitmap"]):
        assert run("inspect", mounted.image, *words).returncode == 0
    assert mounted.image.read_bytes() == before
    assert mounted.is_mounted
