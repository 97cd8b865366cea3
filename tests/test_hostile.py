"""No image can hurt a reader: an error with an errno, in bounded work, and nothing else.

What fsck does with such images is in tests/fsck; what each layer does with one
damaged structure is in the tests of that layer.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from vsfs_tools import inspect

from tests.fsck.mutants import nth
from tests.support.broken import Broken, broken_images, unpacked
from tests.support.images import errno_of, mount
from tests.support.rawwalk import walk
from tests.support.readers import (
    CountingDevice,
    described,
    read_all,
    refused_by_mkfs,
    tried,
    use,
)
from vsfs.device import BlockDevice, MemoryDevice
from vsfs.mkfs import Identity, format_image

SEED: Final = 2
IN_CI: Final = 120
EACH: Final = 20
SECONDS: Final = 5.0  # for one reader and one image
READERS: Final[dict[str, Callable[[BlockDevice], object]]] = {
    "library": read_all,
    "changes": use,
    "inspect": described,
    "mkfs": refused_by_mkfs,
}


def read_hostile(data: bytes, reader: str) -> None:
    """One image through one reader; only a mount for writing may change it."""
    device = CountingDevice(data)
    started = time.process_time()
    tried(READERS[reader], device)
    assert time.process_time() - started < SECONDS
    assert device.largest <= 2 * max(len(data), 2**20), "more was read than there is"
    assert reader == "changes" or bytes(device.image) == data


@pytest.mark.parametrize("first", range(0, IN_CI, EACH))
@pytest.mark.parametrize("reader", READERS)
def test_a_broken_image_does_no_harm(reader: str, first: int) -> None:
    for number in range(first, first + EACH):
        _, broken = nth(SEED, number)
        try:
            read_hostile(broken.data, reader)
        except BaseException as error:
            error.add_note(f"image {number} of seed {SEED}: {broken.recipe}")
            raise


@pytest.mark.parametrize("image", broken_images(), ids=lambda image: image.name)
def test_a_broken_image_of_the_list_does_no_harm(image: Broken) -> None:
    for reader in READERS:
        read_hostile(image.data, reader)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 511, 512, 513, 4096, 100_000])
@pytest.mark.parametrize("content", ["zeroes", "noise", "magic"])
def test_what_is_no_image_does_no_harm(size: int, content: str) -> None:
    data = random.Random(size).randbytes(size) if content == "noise" else bytes(size)
    if content == "magic":
        data = (b"VSFS\x01" + random.Random(size).randbytes(size))[:size]
    for reader in READERS:
        read_hostile(data, reader)


@pytest.mark.parametrize("base", ["book", "tree"])
def test_an_image_cut_anywhere_does_no_harm(base: str) -> None:
    data = unpacked(f"base-{base}")
    for size in range(0, len(data), len(data) // 64):
        for reader in ("library", "inspect", "mkfs"):
            read_hostile(data[:size], reader)


def test_directories_that_share_a_block_are_damage_not_a_mixture() -> None:
    """Each has an index of the names; a change through one makes the other's wrong."""
    fs = mount(MemoryDevice(bytearray(unpacked("shared-by-directories"))))
    codes = set()
    for number in range(20):
        for directory in ("/leaf", "/dir/sub"):
            codes.add(errno_of(fs.mkfifo, f"{directory}/{number}-{directory[1]}"))
            codes.add(errno_of(fs.unlink, f"{directory}/{number - 1}-{directory[1]}"))
    assert codes <= {0, errno.ENOENT, errno.EUCLEAN, errno.EROFS}
    assert errno.EUCLEAN in codes


def test_mkfs_makes_a_sound_filesystem_over_anything(tmp_path: Path) -> None:
    """-F looks at nothing that is there."""
    path = tmp_path / "disk.img"
    for number in range(10):
        _, broken = nth(SEED, number)
        path.write_bytes(broken.data)
        if len(broken.data) < 16 * 1024:
            continue
        format_image(path, force=True, identity=Identity(bytes(16), "new", 0, 0, 0))
        assert walk(path.read_bytes()).findings == []


COMMANDS: Final = (
    ["super"],
    ["layout"],
    ["layout", "--owner"],
    ["bitmap"],
    ["tree"],
    ["fragments"],
    ["inode", "/"],
    ["inode", "7"],
    ["dir", "15"],
    ["path", "/dir/sub/leaf"],
    ["block", "0"],
    ["block", "43"],
    ["hexdump", "43"],
    ["cat", "7"],
    ["owner", "43"],
    ["names", "7"],
    ["where", "7", "50000"],
    ["ls", "-l", "--deleted"],
    ["stat", "7"],
    ["deleted"],
    ["usage"],
)


@pytest.mark.parametrize("number", range(12))
def test_the_inspect_command_never_fails_otherwise_than_by_a_sentence(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, broken = nth(SEED, number)
    path = tmp_path / "disk.img"
    path.write_bytes(broken.data)
    for command in COMMANDS:
        for options in ([], ["--json"]):
            assert inspect.main([*options, str(path), *command]) in (0, 1, 2)
            assert "Traceback" not in capsys.readouterr().err


def test_a_device_is_let_go_when_a_mount_fails() -> None:
    closed = []

    class Closing(MemoryDevice):
        def close(self) -> None:
            closed.append(True)

    assert isinstance(tried(read_all, Closing(bytearray(4096))), OSError)
    assert closed == [True]
