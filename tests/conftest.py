"""Fixtures: filesystems in memory whose image is checked when the test ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

import vsfs
from tests.support.crash_order import watched_mounts
from tests.support.images import ALICE, ROOT, as_user, blank, image_of, mount
from tests.support.rawwalk import walk

# By default each run makes the same examples.  VSFS_TEST_EXAMPLES=20 makes 20
# times as many, others each time; a failure prints how to repeat it.
MORE = int(os.environ.get("VSFS_TEST_EXAMPLES", "0"))
settings.register_profile(
    "vsfs",
    max_examples=100 * (MORE or 1),
    derandomize=not MORE,
    database=None,
    deadline=None,
    print_blob=True,
)
settings.load_profile("vsfs")

MakeFs = Callable[..., vsfs.FileSystem]


@pytest.fixture(scope="session", autouse=True)
def _order_of_writes() -> Iterator[list[str]]:
    """What the filesystems of all tests have written in a wrong order."""
    with watched_mounts() as violations:
        yield violations


@pytest.fixture(autouse=True)
def _order_is_right(_order_of_writes: list[str]) -> Iterator[None]:
    """Every write of every test would leave a good disk, if the plug were pulled after it."""
    yield
    found, _order_of_writes[:] = list(_order_of_writes), []
    assert found == []


@pytest.fixture
def make_fs() -> Iterator[MakeFs]:
    """Makes filesystems in memory; each is unmounted and checked at the end."""
    made: list[vsfs.FileSystem] = []

    def make_one(
        size: int = 256 * 1024,
        *,
        user: vsfs.Credentials = ROOT,
        block_size: int = 4096,
        inode_count: int | None = None,
        **options: Any,
    ) -> vsfs.FileSystem:
        device = blank(size, block_size=block_size, inode_count=inode_count)
        made.append(mount(device, user, **options))
        return made[-1]

    yield make_one
    for fs in made:
        fs.unmount()
        assert walk(image_of(fs)).findings == []


@pytest.fixture
def fs(make_fs: MakeFs) -> vsfs.FileSystem:
    """A filesystem of the default size, used by root."""
    return make_fs()


@pytest.fixture
def small_fs(make_fs: MakeFs) -> vsfs.FileSystem:
    """One with blocks of 512 bytes, whose files soon need indirect blocks."""
    return make_fs(block_size=512)


@pytest.fixture
def alice_fs(make_fs: MakeFs) -> vsfs.FileSystem:
    """One whose root anybody may write to, used by somebody who is not root."""
    fs = make_fs()
    fs.chmod("/", 0o777)
    return as_user(fs, ALICE)


@pytest.fixture(params=[512, 1024, 4096, 65536])
def any_fs(request: pytest.FixtureRequest, make_fs: MakeFs) -> vsfs.FileSystem:
    """One for each of several block sizes."""
    block_size: int = request.param
    return make_fs(max(256 * 1024, 64 * block_size), block_size=block_size)
