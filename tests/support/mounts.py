"""Real mounts: an image, the command that mounts it, and how to be rid of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vsfs.lock import mount_points
from vsfs.mkfs import format_image


def need_fuse() -> None:
    """Skip where there is no FUSE; in CI fail, since there it has to be."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        there = os.path.exists("/dev/fuse")
        reason = "this user may not use /dev/fuse" if there else "there is no /dev/fuse"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


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

    def __init__(self, image: Path, point: Path) -> None:
        self.image = image
        self.point = point

    @classmethod
    def make(cls, image: Path, point: Path, size: int, block_size: int = 4096) -> Mount:
        """A fresh image and a mount point for it, not yet mounted."""
        format_image(image, size, block_size=block_size)
        point.mkdir()
        return cls(image, point)

    @property
    def is_mounted(self) -> bool:
        return str(self.point) in mount_points(self.image)

    def mount(self, *options: str) -> None:
        """Mount it; fails the test with what the command said."""
        result = command("mount", *options, self.image, self.point)
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
