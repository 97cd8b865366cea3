"""What is measured: how each filesystem is formatted, mounted and unmounted.

Each gets an image of its own, of the same size and in the same folder, and is
mounted as its users do: no option that its manual does not set by itself.  Mounts
stay in the foreground, so that the benchmark knows when they have ended.
"""

from __future__ import annotations

import abc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_REPOSITORY: Final = Path(__file__).parent.parent
_PATIENCE: Final = 30.0  # seconds until a mount must be there, or gone
_STEP: Final = 0.005


class Unavailable(Exception):
    """A system cannot be measured here; its text says why."""


class System(abc.ABC):
    """One filesystem under test; `name` is its column."""

    name = ""
    binding: str | None = None  # of Python's FUSE bindings

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder / self.name.replace(" ", "-")
        self.folder.mkdir(exist_ok=True)
        self.image = self.folder / "image"
        self.mount_point = self.folder / "mnt"
        self.mount_point.mkdir(exist_ok=True)
        self.megabytes = megabytes

    @abc.abstractmethod
    def check(self) -> None:
        """Raise Unavailable if it cannot be measured here."""

    @abc.abstractmethod
    def format(self) -> None:
        """Make a fresh image."""

    @abc.abstractmethod
    def mount(self) -> None:
        """Mount, and return when it is there; raises Unavailable."""

    def unmount(self) -> None:
        """Unmount, and return when the last byte is in the image."""
        if os.path.ismount(self.mount_point):
            command = ["umount"] if os.geteuid() == 0 else ["fusermount", "-u"]
            _run(*command, self.mount_point)

    def process_id(self) -> int | None:
        """The process that serves the mount; None where the kernel does."""
        return None

    def _fresh_image(self) -> None:
        self.image.unlink(missing_ok=True)
        with self.image.open("wb") as image:
            image.truncate(self.megabytes << 20)


class Served(System):
    """One that a process of its own serves, through FUSE."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        super().__init__(folder, megabytes)
        self.serve_from = self.folder  # the directory in which its server starts
        self.server: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def serve_command(self) -> Sequence[str | Path]:
        """The command that mounts, and ends when it is unmounted."""

    def mount(self) -> None:
        """Start the server, and return when the mount is there; raises Unavailable."""
        log = self.folder / "log"
        with log.open("wb") as output:
            self.server = subprocess.Popen(
                self.serve_command(), stdout=output, stderr=output, cwd=self.serve_from
            )
        deadline = time.monotonic() + _PATIENCE
        while not os.path.ismount(self.mount_point):
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(log.read_text(errors="replace").strip() or "it does not mount")
            time.sleep(_STEP)

    def unmount(self) -> None:
        """Unmount, and return when the server has ended."""
        super().unmount()
        if self.server is not None:
            self.server.wait(_PATIENCE)
            self.server = None

    def process_id(self) -> int | None:
        """The server."""
        return self.server.pid if self.server else None


class Vsfs(Served):
    """VSFS as `mount.vsfs` mounts it by default, on a chosen binding."""

    def __init__(self, folder: Path, megabytes: int, binding: str, *, journal: bool) -> None:
        self.binding = binding
        self.journal = journal
        self.inodes: int | None = None  # mkfs's choice
        self.name = f"vsfs {binding}" + (" -j" if journal else "")
        super().__init__(folder, megabytes)

    def check(self) -> None:
        """The binding may be missing, and so may mkfs's -j."""
        if not _has_binding(self.binding):
            raise Unavailable(f"{self.binding} is not installed")
        if self.binding != "fusepy" and not _mount_knows_bindings():
            raise Unavailable(f"mount.vsfs knows no -o binding={self.binding} yet")
        try:
            self.format()
        except subprocess.CalledProcessError as error:
            text = error.stderr.decode(errors="replace").strip().splitlines()
            raise Unavailable(text[-1] if text else "mkfs.vsfs failed") from None

    def format(self) -> None:
        """mkfs.vsfs with its defaults; -j where a journal is wanted."""
        self.image.unlink(missing_ok=True)
        options = ["-j"] if self.journal else []
        options += ["-N", str(self.inodes)] if self.inodes else []
        _run(*tool("mkfs"), *options, self.image, f"{self.megabytes}M")

    def serve_command(self) -> Sequence[str | Path]:
        """mount.vsfs, in the foreground."""
        chosen = ["-o", f"binding={self.binding}"] if _mount_knows_bindings() else []
        return [*tool("mount"), "-f", *chosen, self.image, self.mount_point]


class Fuse2fs(Served):
    """The C program of e2fsprogs on ext2."""

    name = "fuse2fs"

    def check(self) -> None:
        """It is a package of its own."""
        for program in ("fuse2fs", "mke2fs"):
            if _program(program) is None:
                raise Unavailable(f"{program} is missing (apt install fuse2fs e2fsprogs)")

    def format(self) -> None:
        """mke2fs with its defaults for ext2."""
        self._fresh_image()
        _run(_program("mke2fs") or "mke2fs", "-q", "-F", "-t", "ext2", self.image)

    def serve_command(self) -> Sequence[str | Path]:
        """fuse2fs in the foreground, with its own default options."""
        return [_program("fuse2fs") or "fuse2fs", "-f", self.image, self.mount_point]


class Floor(Served):
    """The filesystem in memory that does next to nothing, on a chosen binding."""

    def __init__(self, folder: Path, megabytes: int, binding: str) -> None:
        self.binding = binding
        self.name = f"floor {binding}"
        super().__init__(folder, megabytes)
        self.serve_from = _REPOSITORY  # where the package is that it is part of

    def check(self) -> None:
        """The binding may be missing."""
        if not _has_binding(self.binding):
            raise Unavailable(f"{self.binding} is not installed")

    def format(self) -> None:
        """Nothing: it has no image."""

    def serve_command(self) -> Sequence[str | Path]:
        """A module in this folder."""
        return [sys.executable, "-m", f"bench.floor_{self.binding}", self.mount_point]


class Ext4(System):
    """The kernel's ext4 on a loop device: what there is without FUSE."""

    name = "ext4"

    def check(self) -> None:
        """Only root has loop devices."""
        if os.geteuid() != 0:
            raise Unavailable("a loop device needs root")
        self.format()
        self.mount()
        self.unmount()

    def format(self) -> None:
        """mke2fs; nothing is left to be initialized in the background while others run."""
        self._fresh_image()
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        _run(_program("mke2fs") or "mke2fs", "-q", "-F", "-t", "ext4", "-E", lazy, self.image)

    def mount(self) -> None:
        """By mount -o loop; the kernel serves."""
        try:
            _run("mount", "-o", "loop", self.image, self.mount_point)
        except subprocess.CalledProcessError as error:
            raise Unavailable(error.stderr.decode(errors="replace").strip()) from None


def all_systems(folder: Path, megabytes: int) -> list[System]:
    """Every column of the table, VSFS first."""
    bindings = ("fusepy", "llfuse")
    return [
        *(
            Vsfs(folder, megabytes, binding, journal=journal)
            for binding in bindings
            for journal in (False, True)
        ),
        Fuse2fs(folder, megabytes),
        *(Floor(folder, megabytes, binding) for binding in bindings),
        Ext4(folder, megabytes),
    ]


def available(systems: Sequence[System]) -> tuple[list[System], list[str]]:
    """Those that can be measured here, and a note on each of the others."""
    found, notes = [], []
    for system in systems:
        try:
            system.check()
            found.append(system)
        except Unavailable as reason:
            notes.append(f"{system.name} is left out: {reason}")
    return found, notes


def tool(name: str) -> list[str]:
    """The command line of a VSFS command, as it is installed for this interpreter."""
    return [sys.executable, "-m", f"vsfs_tools.{name}"]


def _mount_knows_bindings() -> bool:
    shown = subprocess.run([*tool("mount"), "--help"], capture_output=True, check=False, cwd="/")
    return b"binding=" in shown.stdout


def _has_binding(binding: str | None) -> bool:
    module = "fuse" if binding == "fusepy" else binding
    command = [sys.executable, "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0


def _program(name: str) -> str | None:
    """A program, also where only root's PATH has it."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, cwd="/")
