"""What README.md shows is what the commands print.

Its ``console`` blocks are run, in order, in one directory.  With VSFS_WRITE_README
set, the outputs are written into the file instead of compared.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
#: What differs from run to run: where it stands, and what a reader sees instead.
MASKS = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "0ea75a09-4f7d-4c1b-9d1f-6a3c5be0a2d1"),
    (r"(?<= )[A-Z][a-z]{2} [ 0-9]\d (\d\d:\d\d| \d{4})(?= )", "Nov 25 12:00"),
    (r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d+)?", r"2026-11-25\g<1>12:00:00.000000000"),
    (r"\(\d{19}\)", "(1795608000000000000)"),
    (r"(?<=[ug]id              )\d+ +(?=owner|group)", "1000".ljust(33)),
    (r"(?<=  )[0-9a-f]{2}( [0-9a-f]{2}){3}(?= +[ug]id)", "e8 03 00 00"),
    (r"(?<=  )[0-9a-f]{2}( [0-9a-f]{2}){7}(?=  [amcb]time_ns)", "00 80 d9 63 f6 47 eb 18"),
    (r"(?<=  )[0-9a-f]{2}( [0-9a-f]{2}){3}(?= +checksum)", "df 59 37 5f"),
    (r"(-[rwx-]{9} \d+) \S+ \S+", r"\1 you you"),
    (r"(d[rwx-]{9} \d+) \S+ \S+", r"\1 you you"),
    (r"0x[0-9a-f]{8}", "0x5f3759df"),
)  # fmt: skip


def masked(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "/home/you")
    for pattern, shown in MASKS:
        text = re.sub(pattern, shown, text)
    return text


def commands(block: str) -> list[str]:
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def wrappers(folder: Path) -> str:
    """A PATH on which the project's commands are those of this Python."""
    folder.mkdir()
    for name, module in (
        ("mkfs.vsfs", "mkfs"),
        ("mount.vsfs", "mount"),
        ("fsck.vsfs", "fsck"),
        ("vsfs-inspect", "inspect"),
        ("vsfs-shell", "shell"),
    ):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vsfs_tools.{module} "$@"\n')
        script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def played(block: str, folder: Path, path: str) -> str:
    """The block with the outputs that its commands have now."""
    shown = []
    for line in commands(block):
        result = subprocess.run(
            ["bash", "-c", f"umask 022; {line}"],
            cwd=folder,
            env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0 or line.startswith("fsck.vsfs"), result.stdout
        shown.append(f"$ {line}\n{masked(result.stdout, folder)}")
    return "".join(shown)


def test_the_readme_shows_what_the_commands_print(tmp_path: Path) -> None:
    text = README.read_text()
    path = wrappers(tmp_path / "bin")
    work = tmp_path / "work"
    work.mkdir()
    try:
        actual = BLOCK.sub(lambda match: f"```console\n{played(match[1], work, path)}```", text)
    finally:
        if (work / "mnt").is_mount():
            subprocess.run(["umount", "-l", work / "mnt"], check=False)
    if os.environ.get("VSFS_WRITE_README"):
        README.write_text(actual)
    assert README.read_text() == actual


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout == "['bar'] 2\n"
