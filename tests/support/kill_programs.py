"""Programs at work on a mount when its process is killed.

Run as a script in the mount's directory: ``kill_programs.py NAME SEED LEDGER``.
The ledger is a file on another filesystem.  What is durable is noted there after
fsync has returned, and what is about to change before it does, one JSON list a line:

    ["durable", name, size]   this file has so many of its bytes, see `byte_of`
    ["touched", name]         it may have changed, or be gone, from here on
    ["commit", hash]          of git
    ["row", number, method]   of SQLite

It ends, with status 0, when the mount is gone.  Nothing of the project is
imported, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any

NAMES = ("churn", "git", "sqlite3", "fio")
_SIZES = (1, 600, 5000, 40_000)
#: How a transaction of SQLite is made durable: PRAGMA journal_mode and synchronous.
_METHODS = {"delete": "extra", "persist": "full", "wal": "full"}
FIO_BYTE = 0xA5
GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.fsync=all")


class Ledger:
    """What has been promised, in a file that no mount of ours holds."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, *what: object) -> None:
        os.write(self._fd, json.dumps(what).encode() + b"\n")


def byte_of(name: str) -> int:
    """What a file is full of, from the number with which its name begins: 1 to 200."""
    return 1 + int(os.path.basename(name).partition(".")[0]) % 200


def row_of(number: int) -> str:
    """What row `number` of the database holds."""
    return f"{number} " * (number % 700)


def sync_directory(path: str) -> None:
    """Have the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def put(name: str, size: int, *, flags: int = os.O_CREAT, durable: bool = True) -> None:
    """Write `size` bytes of a file."""
    fd = os.open(name, os.O_WRONLY | flags, 0o644)
    try:
        os.write(fd, bytes([byte_of(name)]) * size)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


# -- the programs -----------------------------------------------------------------


def churn(ledger: Ledger, chance: random.Random) -> None:
    """Make, change, move and remove files; some of it is made durable."""
    for directory in "abc":
        os.mkdir(directory)
    files: list[str] = []
    number = 0
    while True:
        number += 1
        name = f"{chance.choice('abc')}/{number}.0"
        size = chance.choice(_SIZES)
        put(name, size, durable=bool(number % 2))
        if number % 2:
            ledger.note("durable", name, size)
        files.append(name)
        if number % 3 == 0 or len(files) > 60:
            change = chance.choice((_append, _cut_off, _move, _remove))
            change(ledger, files, chance)


def _append(ledger: Ledger, files: list[str], chance: random.Random) -> None:
    name = chance.choice(files)
    ledger.note("touched", name)
    put(name, chance.choice(_SIZES), flags=os.O_APPEND, durable=False)


def _cut_off(ledger: Ledger, files: list[str], chance: random.Random) -> None:
    name = chance.choice(files)
    ledger.note("touched", name)
    os.truncate(name, chance.choice(_SIZES) // 2)


def _move(ledger: Ledger, files: list[str], chance: random.Random) -> None:
    """To another directory; after an fsync of that it is there."""
    old = files.pop(chance.randrange(len(files)))
    number, _, times = os.path.basename(old).partition(".")
    new = f"{chance.choice('abc')}/{number}.{int(times) + 1}"
    ledger.note("touched", old)
    size = os.stat(old).st_size
    is_whole = chance.random() < 0.5
    if is_whole:
        put(old, size, durable=False)
    os.rename(old, new)
    sync_directory(os.path.dirname(new))
    if is_whole:
        ledger.note("durable", new, size)
    files.append(new)


def _remove(ledger: Ledger, files: list[str], chance: random.Random) -> None:
    name = files.pop(chance.randrange(len(files)))
    ledger.note("touched", name)
    os.unlink(name)


def git(ledger: Ledger, chance: random.Random) -> None:
    """Commit changes; a commit counts when its reference is durable, too."""
    run_git("init", "-q", "-b", "main")
    number = 0
    while True:
        number += 1
        for file in chance.sample("abcdef", 3):
            with open(file, "w") as text:
                text.writelines(f"{number} {line}\n" for line in range(chance.randrange(500)))
        run_git("add", "-A")
        run_git("commit", "-q", "-m", str(number))
        sync_directory(".git/refs/heads")
        ledger.note("commit", run_git("rev-parse", "HEAD").strip())


def run_git(*arguments: str) -> str:
    """Run a command of git; OSError (EIO) if it fails."""
    done = subprocess.run([*GIT, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(errno.EIO, done.stderr)
    return done.stdout


def sqlite(ledger: Ledger, chance: random.Random) -> None:
    """Insert rows, a transaction each, in a way that makes them durable."""
    method, synchronous = chance.choice(sorted(_METHODS.items()))
    database = sqlite3.connect("rows.db", isolation_level=None)
    database.execute(f"PRAGMA journal_mode={method}")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, content TEXT)")
    number = 0
    while True:
        number += 1
        database.execute("INSERT INTO row VALUES (?, ?)", (number, row_of(number)))
        ledger.note("row", number, method)


def fio(ledger: Ledger, chance: random.Random) -> None:
    """Random writes, some of them followed by fsync, beside a file that is durable."""
    put("1.0", 100_000)
    sync_directory(".")
    ledger.note("durable", "1.0", 100_000)
    subprocess.run(
        [
            *("fio", "--name=load", "--filename=load", "--rw=randwrite", "--bsrange=512-64k"),
            *("--size=4m", "--fallocate=none", "--time_based", "--runtime=60"),
            *(f"--fsync={chance.choice((1, 8, 64))}", f"--buffer_pattern={FIO_BYTE:#x}"),
        ],
        capture_output=True,
        check=True,
    )


PROGRAMS: dict[str, Callable[[Ledger, random.Random], None]] = {
    "churn": churn,
    "git": git,
    "sqlite3": sqlite,
    "fio": fio,
}


def is_gone() -> bool:
    """Whether the mount that this process stands in has lost its server."""
    try:
        os.listdir(".")
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def main(arguments: list[str]) -> Any:
    """Run a program until the mount is gone."""
    name, seed, path = arguments
    with contextlib.suppress(BrokenPipeError):
        try:
            PROGRAMS[name](Ledger(path), random.Random(seed))
        except (OSError, sqlite3.Error, subprocess.CalledProcessError):
            if not is_gone():
                raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
