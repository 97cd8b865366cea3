"""Kill the process of a mount at some moment, and look at what is left.

The kernel keeps what the process had written, so the image is as after a crash of
the machine that lost no write: the record of the crash tests, cut at one place.
What is new here is all around it: real programs, the kernel's caches, the two
bindings, the lock, a dead mount point.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import kill_programs
from tests.support.damage import Image
from tests.support.kill_programs import FIO_BYTE, GIT, byte_of, row_of
from tests.support.mounts import Mount, command

#: What free blocks hold at first; no program writes it, so no file may ever show it.
JUNK: Final = 0xEE
_SIZE: Final = 32 * 1024 * 1024
_SECONDS: Final = 60  # for anything
_LOST_FOUND: Final = "lost+found"
_BLOCK_SIZES: Final = (512, 1024, 4096)

Promises = list[list[object]]


@dataclass(frozen=True, slots=True)
class Round:
    """One mount to be killed; all but the moment follows from `seed`."""

    program: str
    journal: bool
    binding: str
    seed: int

    @property
    def mode(self) -> str:
        """What it is called in a table."""
        return "journal" if self.journal else "no journal"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it: how many promises were kept, and what was wrong."""

    promises: int
    problems: tuple[str, ...]


def play(plan: Round, folder: Path, longest: float = 1.5) -> Result:
    """One round in an empty `folder`, within `longest` seconds of work.

    The image as the kill left it stays there as ``killed.img``.
    """
    chance = random.Random(f"{plan.program} {plan.journal} {plan.seed}")
    mount = _new_mount(plan, folder, chance)
    try:
        mount.mount()
        problems = _work_and_kill(plan, mount, folder / "ledger", chance.random() * longest)
        shutil.copyfile(mount.image, folder / "killed.img")
        promises = read_ledger(folder / "ledger")
        problems += _recover(mount, by_fsck=chance.random() < 0.5)
        if not problems:
            problems += list(broken_promises(plan, mount.point, promises))
            problems += _is_sound(mount)
    finally:
        mount.remove()
    return Result(len(promises), tuple(problems))


def _new_mount(plan: Round, folder: Path, chance: random.Random) -> Mount:
    """A fresh image, with junk in its free blocks."""
    blocks = chance.choice((16, 64, 500)) if plan.journal else None
    size = chance.choice(_BLOCK_SIZES)
    if blocks is not None and blocks > size // 8:
        blocks = 16
    mount = Mount.make(
        folder / "disk.img", folder / "mnt", plan.binding, _SIZE, size, journal_blocks=blocks
    )
    image = Image(mount.image.read_bytes())
    first = image.free_block()
    junk = bytes([JUNK]) * (len(image.data) - first * size)
    with open(mount.image, "r+b") as file:  # behind the journal nothing is in use
        file.seek(first * size)
        file.write(junk)
    return mount


def _work_and_kill(plan: Round, mount: Mount, ledger: Path, delay: float) -> list[str]:
    """Start the program, wait until something is durable and then a moment, and kill."""
    program = subprocess.Popen(
        [sys.executable, "-S", kill_programs.__file__, plan.program, str(plan.seed), str(ledger)],
        cwd=mount.point,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        begun = time.monotonic()
        while not ledger.exists() or not ledger.stat().st_size:
            if program.poll() is not None or time.monotonic() - begun > _SECONDS:
                os.killpg(program.pid, signal.SIGKILL)
                return [f"the program did not begin: {program.communicate()[1]}"]
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(mount.server(), signal.SIGKILL)
        _, said = program.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        return ["the program hangs in the dead mount"]
    return [] if program.returncode == 0 else [f"the program failed: {said}"]


def _recover(mount: Mount, *, by_fsck: bool) -> list[str]:
    """Unmount what is dead, let fsck -p or the next mount recover; mounted afterwards."""
    unmounted = subprocess.run(
        ["umount", mount.point], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if unmounted.returncode:
        return [f"the dead mount cannot be unmounted: {unmounted.stderr}"]
    if by_fsck:
        preened = command("fsck", "-p", mount.image)
        if preened.returncode not in (0, 1):
            return [f"fsck -p ends with {preened.returncode}: {preened.stdout}{preened.stderr}"]
        checked = command("fsck", "-n", "-f", mount.image)
        if checked.returncode:
            return [f"after fsck -p, fsck says: {checked.stdout}{checked.stderr}"]
    mounted = command("mount", "-o", f"binding={mount.binding}", mount.image, mount.point)
    if mounted.returncode or not mount.is_mounted:
        return [f"it cannot be mounted again: {mounted.stderr}"]
    return []


def _is_sound(mount: Mount) -> list[str]:
    """Use it once more, unmount it, check it."""
    (mount.point / "afterwards").write_text("it works")
    mount.unmount()
    checked = command("fsck", "-n", "-f", mount.image)
    if checked.returncode:
        return [f"after the mount, fsck says: {checked.stdout}{checked.stderr}"]
    return []


# -- what was promised -----------------------------------------------------------


def read_ledger(path: Path) -> Promises:
    """What the program noted."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def broken_promises(plan: Round, top: Path, promises: Promises) -> Iterator[str]:
    """What the mount at `top` does not keep of what was promised."""
    match plan.program:
        case "git":
            yield from _git_problems(plan, top, promises)
        case "sqlite3":
            yield from _sqlite_problems(top, promises)
        case _:
            yield from _file_problems(top, promises)


def _file_problems(top: Path, promises: Promises) -> Iterator[str]:
    sizes: dict[str, int] = {}
    for verb, name, *rest in promises:
        assert isinstance(name, str)
        if verb == "durable":
            (size,) = rest
            assert isinstance(size, int)
            sizes[name] = size
        else:
            sizes.pop(name, None)
    for name, size in sizes.items():
        path = top / name
        if not path.is_file():
            yield f"{name} was fsynced and is gone"
        elif path.read_bytes() != bytes([byte_of(name)]) * size:
            yield f"{name} was fsynced and has other contents"
    for path in top.rglob("*"):
        if path.is_file() and _LOST_FOUND not in path.parts:
            own = FIO_BYTE if path.name == "load" else byte_of(path.name)
            foreign = set(path.read_bytes()) - {0, own}
            if foreign:
                where = path.relative_to(top)
                yield f"{where} has the bytes {sorted(foreign)}, never written to it"


def _git_problems(plan: Round, top: Path, promises: Promises) -> Iterator[str]:
    heads = top / ".git" / "refs" / "heads"
    for lock in top.joinpath(".git").rglob("*.lock"):
        target = lock.with_suffix("")
        if target.parent == heads and not target.exists() and not plan.journal:
            lock.rename(target)  # a rename of which half is there
        else:
            lock.unlink()
    (_, last) = promises[-1]
    for arguments in (
        ("fsck", "--strict", "--no-dangling", "--no-progress"),
        ("merge-base", "--is-ancestor", str(last), "HEAD"),
        ("log", "--stat", "-p", str(last)),
    ):
        done = subprocess.run(
            [*GIT, *arguments], cwd=top, capture_output=True, text=True, errors="replace",
            timeout=_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            yield f"git {' '.join(arguments)}: {done.stderr or done.returncode}"


def _sqlite_problems(top: Path, promises: Promises) -> Iterator[str]:
    database = sqlite3.connect(top / "rows.db")
    try:
        ((found,),) = database.execute("PRAGMA integrity_check").fetchall()
        if found != "ok":
            yield f"SQLite's integrity_check says: {found}"
        rows = dict(database.execute("SELECT number, content FROM row"))
    except sqlite3.Error as error:
        yield f"SQLite says: {error}"
        return
    finally:
        database.close()
    for _, number, method in promises:
        if number not in rows:
            yield f"row {number} was committed (journal_mode={method}) and is gone"
    for number, content in rows.items():
        if content != row_of(number):
            yield f"row {number} has other contents"
