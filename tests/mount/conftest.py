"""Real mounts: made by the command, always unmounted at the end of a test.

Where there is no FUSE, CI fails and everybody else skips with the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vsfs.lock import mount_points
from vsfs.mkfs import format_image

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs FUSE."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.mount)


@pytest.fixture(autouse=True)
def _needs_fuse() -> None:
    if not os.path.exists("/dev/fuse"):
        reason = "there is no /dev/fuse"
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


@pytest.fixture
def new_mount(tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Make images of a given size and give them a mount point, not yet mounted."""
    made: list[Mount] = []

    def make(size: int = 256 * 1024, block_size: int = 4096) -> Mount:
        image, point = tmp_path / f"disk{len(made)}.img", tmp_path / f"mnt{len(made)}"
        format_image(image, size, block_size=block_size)
        point.mkdir()
        mount = Mount(image, point)
        made.append(mount)
        return mount

    yield make
    for mount in made:
        # lazily, so that not even a process that hangs in it keeps it
        for _ in range(50):
            if not mount_points(mount.image):
                break
            subprocess.run(["umount", "-l", mount.point], check=False, timeout=60)
            time.sleep(0.05)


@pytest.fixture
def mounted(new_mount: Callable[..., Mount]) -> Mount:
    """A fresh 256 KiB image, mounted."""
    mount = new_mount()
    mount.mount()
    return mount


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of the project by its module's name."""
    return command
