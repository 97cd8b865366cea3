"""A source tree that is the same on every machine, as a tar file and a git repository.

Shaped as source trees are: a few hundred files, most of them some kilobytes, in
directories of directories; text that compresses.
"""

from __future__ import annotations

import os
import random
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Final

_SEED: Final = 39
_WORDS: Final = ("inode", "bitmap", "block", "struct", "static", "return", "if", "int", "size")
_TIME: Final = 1_700_000_000  # of every file and commit
_FILES_IN_EACH: Final = 10


def make(folder: Path, files: int) -> None:
    """Write `source.tar` and the bare repository `source.git` into `folder`."""
    archive = folder / "source.tar"
    with tarfile.open(archive, "w") as tar:
        for name, content in tree(files):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), _TIME, 0o644
            tar.addfile(member, BytesIO(content))
    _make_repository(archive, folder / "source.git", folder / "source")


def tree(files: int) -> list[tuple[str, bytes]]:
    """Path and content of each of `files` files; the same at each call."""
    chooser = random.Random(_SEED)
    found = []
    for number in range(files):
        directory = number // _FILES_IN_EACH
        path = f"part{directory // 8}/module{directory}/source_{number:04d}.c"
        size = min(int(chooser.lognormvariate(8.3, 1.0)), 256 * 1024)  # 4 KB in the middle
        text = " ".join(chooser.choices(_WORDS, k=size // 6 + 1))
        found.append((path, text[:size].encode()))
    return found


def _make_repository(archive: Path, repository: Path, scratch: Path) -> None:
    scratch.mkdir()
    environment = os.environ | {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (
            ("NAME", "bench"),
            ("EMAIL", "bench@localhost"),
            ("DATE", f"{_TIME} +0"),
        )
    }

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", scratch, *arguments], check=True, env=environment)

    subprocess.run(["tar", "-xf", archive, "-C", scratch], check=True)
    git("-c", "init.defaultBranch=main", "init", "-q")
    git("add", "-A")
    git("-c", "commit.gpgsign=false", "commit", "-q", "-m", "a source tree")
    git("clone", "-q", "--bare", str(scratch), str(repository))
