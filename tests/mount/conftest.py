"""Real mounts: made by the command, always unmounted at the end of a test.

A test runs over each of the two bindings, which must not differ.

Where there is no FUSE, CI fails and everybody else skips with the reason.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounts import BINDINGS, Mount, command, need_binding, need_fuse

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs FUSE."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.mount)


@pytest.fixture(autouse=True)
def _needs_fuse() -> None:
    need_fuse()


@pytest.fixture(params=BINDINGS)
def binding(request: pytest.FixtureRequest) -> str:
    """What the mounts of a test talk to libfuse by."""
    name: str = request.param
    need_binding(name)
    return name


@pytest.fixture
def new_mount(tmp_path: Path, binding: str) -> Iterator[Callable[..., Mount]]:
    """Make images of a given size and give them a mount point, not yet mounted."""
    made: list[Mount] = []

    def make(
        size: int = 256 * 1024, block_size: int = 4096, journal_blocks: int | None = None
    ) -> Mount:
        image, point = tmp_path / f"disk{len(made)}.img", tmp_path / f"mnt{len(made)}"
        made.append(
            Mount.make(image, point, binding, size, block_size, journal_blocks=journal_blocks)
        )
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
def run(binding: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of the project by its module's name."""

    def run_one(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        chosen = ("-o", f"binding={binding}") if name == "mount" else ()
        return command(name, *chosen, *arguments)

    return run_one
