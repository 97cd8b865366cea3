"""Real mounts: made by the command, always unmounted at the end of a test.

Where there is no FUSE, CI fails and everybody else skips with the reason.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Mount, command, need_fuse

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs FUSE."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.mount)


@pytest.fixture(autouse=True)
def _needs_fuse() -> None:
    need_fuse()


@pytest.fixture
def new_mount(tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Make images of a given size and give them a mount point, not yet mounted."""
    made: list[Mount] = []

    def make(size: int = 256 * 1024, block_size: int = 4096) -> Mount:
        image, point = tmp_path / f"disk{len(made)}.img", tmp_path / f"mnt{len(made)}"
        made.append(Mount.make(image, point, size, block_size))
        return made[-1]

    yield make
    for mount in made:
        mount.remove()


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
