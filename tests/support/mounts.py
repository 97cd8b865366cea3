"""Real mounts: an image, the command that mounts it, and how to be rid of it.

Also what such a mount is compared with: the kernel's ext4 in a file, and two
trees as text that must be the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vsfs.lock import mount_points
from vsfs.mkfs import format_image

#: The two ways of talking to libfuse; a mount's tests run over both.
BINDINGS = ("fusepy", "llfuse")
ON_MOUNTS = [pytest.param(binding, marks=pytest.mark.mount) for binding in BINDINGS]


def need_fuse() -> None:
    """Skip where there is no FUSE; in CI fail, since there it has to be."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        there = os.path.exists("/dev/fuse")
        reason = "this user may not use /dev/fuse" if there else "there is no /dev/fuse"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def need_binding(binding: str) -> None:
    """Skip where the optional binding is not installed."""
    if binding == "llfuse" and importlib.util.find_spec("llfuse") is None:
        pytest.skip("llfuse is not installed")


def command(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one of the installed commands and wait for it."""
    return subprocess.run(
        [sys.executable, "-m", f"vsfs_tools.{name}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Mount:
    """An image and where it is mounted, if it is."""

    def __init__(self, image: Path, point: Path, binding: str) -> None:
        self.image = image
        self.point = point
        self.binding = binding

    @classmethod
    def make(
        cls,
        image: Path,
        point: Path,
        binding: str,
        size: int,
        block_size: int = 4096,
        *,
        journal_blocks: int | None = None,
    ) -> Mount:
        """A fresh image and a mount point for it, not yet mounted."""
        format_image(image, size, block_size=block_size, journal_blocks=journal_blocks)
        point.mkdir()
        return cls(image, point, binding)

    @property
    def is_mounted(self) -> bool:
        return str(self.point) in mount_points(self.image)

    def mount(self, *options: str) -> None:
        """Mount it; fails the test with what the command said."""
        binding = f"binding={self.binding}"
        result = command("mount", "-o", binding, *options, self.image, self.point)
        assert (result.returncode, result.stdout) == (0, ""), result.stderr
        assert self.is_mounted

    def unmount(self) -> None:
        subprocess.run(["umount", self.point], check=True, timeout=60)
        assert not self.is_mounted

    def again(self, *options: str) -> None:
        """Unmount and mount."""
        self.unmount()
        self.mount(*options)

    def remove(self) -> None:
        """Unmount it lazily, so that not even a process that hangs in it keeps it."""
        for _ in range(50):
            if not mount_points(self.image):
                break
            subprocess.run(["umount", "-l", self.point], check=False, timeout=60)
            time.sleep(0.05)

    def server(self) -> int:
        """The process that serves the mount, from the lock that it holds."""
        inode = os.stat(self.image).st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return self._holder(inode, int(fields[4]))
        raise AssertionError("nobody holds the lock")

    def _holder(self, inode: int, locker: int) -> int:
        """The lock was taken before the fork, so find who still has the file open."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                for fd in (process / "fd").iterdir():
                    if fd.stat().st_ino == inode and int(process.name) != os.getpid():
                        return int(process.name)
            except OSError:
                continue
        return locker


class Ext4:
    """An ext4 of the kernel's in a sparse file, mounted through a loop device."""

    def __init__(self, point: Path) -> None:
        self.point = point

    @classmethod
    def make(cls, image: Path, point: Path, size: int) -> Ext4:
        """Format and mount it; OSError, with the reason, where that is not possible."""
        with open(image, "xb") as file:
            file.truncate(size)
        point.mkdir()
        # the block size of VSFS, so that st_blocks can be compared
        cls._run("mkfs.ext4", "-q", "-F", "-b", "4096", "-N", "200000", "-m", "0", image)
        cls._run("mount", "-t", "ext4", "-o", "loop", image, point)
        made = cls(point)
        try:
            (point / "lost+found").rmdir()
        except BaseException:
            made.remove()
            raise
        return made

    @staticmethod
    def _run(program: str, *arguments: object) -> None:
        found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
        if found is None:
            raise OSError(f"there is no {program}")
        result = subprocess.run(
            [found, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
        )
        if result.returncode != 0:
            raise OSError(f"{program}: {result.stderr.strip()}")

    def remove(self) -> None:
        """Unmount it, lazily if something hangs in it; the loop device then goes, too."""
        if subprocess.run(["umount", self.point], check=False, timeout=60).returncode != 0:
            subprocess.run(["umount", "-l", self.point], check=True, timeout=60)


def tree(
    top: str | os.PathLike[str],
    *,
    since_ns: int | None = None,
    blocks: bool = False,
    without_contents: Callable[[bytes], bool] = lambda _path: False,
    system: Any = os,
    read: Callable[[bytes], bytes] = lambda path: Path(os.fsdecode(path)).read_bytes(),
) -> dict[str, str]:
    """All that a tree is, by path: what two filesystems must agree on.

    Type and permissions, owners, links and which paths are one file, size, device,
    contents or target, extended attributes, and times of modification.  A time from
    `since_ns` on is only "new".  With `blocks`, st_blocks where every filesystem with
    blocks of 4 KiB needs the same.  `without_contents` picks files of which only the
    names matter.  `system` has ``os``'s calls, and `read` a file's bytes.
    """
    shown: dict[str, str] = {}
    first: dict[int, str] = {}  # inode number -> its first path
    start = os.fsencode(top)

    def show(path: bytes, name: str) -> str:
        status = system.lstat(path)
        parts = [stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"]
        is_new = since_ns is not None and status.st_mtime_ns >= since_ns
        parts.append(f"mtime {'new' if is_new else status.st_mtime_ns}")
        parts += _attributes(path, system)
        if stat.S_ISDIR(status.st_mode):
            return ", ".join(parts)
        parts.append(f"{status.st_nlink} links, {first.setdefault(status.st_ino, name)}")
        if stat.S_ISLNK(status.st_mode):
            parts.append(f"{status.st_size} bytes -> {system.readlink(path)!r}")
        elif stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
            parts.append(f"device {status.st_rdev}")
        elif stat.S_ISREG(status.st_mode) and not without_contents(path):
            parts.append(f"{status.st_size} bytes {hashlib.sha256(read(path)).hexdigest()}")
            # more needs indirect blocks, and attributes may have a block, too
            if blocks and status.st_size <= 12 * 4096 and not _attributes(path, system):
                parts.append(f"{status.st_blocks} blocks")
        return ", ".join(parts)

    def visit(directory: bytes) -> None:
        for entry in sorted(system.listdir(directory)):
            path = os.path.join(directory, entry)
            name = repr(os.path.relpath(path, start))
            shown[name] = show(path, name)
            if stat.S_ISDIR(system.lstat(path).st_mode):
                subdirectories[directory] = subdirectories.get(directory, 0) + 1
                visit(path)
        links = system.lstat(directory).st_nlink
        if links != 1:  # some hosts do not count
            assert links == 2 + subdirectories.get(directory, 0), directory

    subdirectories: dict[bytes, int] = {}
    shown["."] = show(start, ".")
    visit(start)
    return shown


def _attributes(path: bytes, system: Any) -> list[str]:
    """Extended attributes; a filesystem without them has none."""
    try:
        names = sorted(system.listxattr(path, follow_symlinks=False))
    except OSError:
        return []
    return [
        f"{name}={system.getxattr(path, name, follow_symlinks=False)!r}"
        for name in names
        if name != "security.selinux"  # the host's policy, not the user's
    ]
