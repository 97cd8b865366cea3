"""Every command, given something that is no image, says so in one sentence and changes nothing.

mkfs.vsfs, which writes over what it is given, has tests of its own; so has what fsck.vsfs
does with a damaged image.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from vsfs_tools import fsck, inspect, mount, tune

import vsfs
from tests.support.damage import Image
from tests.support.images import IDENTITY

BLOCK: Final = 4096
COMMANDS: Final[dict[str, tuple[Callable[[list[str]], int], tuple[str, ...]]]] = {
    "fsck -n": (fsck.main, ("-n",)),
    "fsck -p": (fsck.main, ("-p",)),
    "fsck -y": (fsck.main, ("-y",)),
    "inspect": (inspect.main, ()),
    "mount": (mount.main, ()),
    "tune -l": (tune.main, ("-l",)),
    "tune -j": (tune.main, ("-j",)),
}
MOUNT: Final = pytest.param("mount", marks=pytest.mark.mount)
ALL: Final = [MOUNT if name == "mount" else name for name in COMMANDS]
CONTENTS: Final = {
    "empty": b"",
    "one byte": b"V",
    "text": b"text, not a filesystem\n" * 1000,
    "magic and no more": b"VSFS",
    "ext4": bytes(1080) + b"\x53\xef" + bytes(2**20),
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    vsfs.format_image(path, identity=IDENTITY)
    return path


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str, object], str]:
    """Run a command; it must fail with one sentence about the image, which is returned."""

    def run(command: str, image: object) -> str:
        main, arguments = COMMANDS[command]
        point = tmp_path / "point"
        point.mkdir(exist_ok=True)
        more = (str(point),) if command == "mount" else ()
        assert main([*arguments, str(image), *more]) != 0
        shown = capsys.readouterr()
        (sentence,) = shown.err.splitlines()
        assert sentence.startswith((f"{command.partition(' ')[0]}.vsfs: ", "vsfs-inspect: "))
        assert str(image) in sentence
        return sentence

    return run


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_image_is_refused(
    tmp_path: Path, refused: Callable[[str, object], str], content: str, command: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENTS[content])
    refused(command, path)
    assert path.read_bytes() == CONTENTS[content]


@pytest.mark.parametrize("command", ALL)
def test_what_cannot_hold_an_image_is_refused(
    tmp_path: Path, refused: Callable[[str, object], str], command: str
) -> None:
    assert "no such file" in refused(command, tmp_path / "missing")
    assert "directory" in refused(command, tmp_path)
    os.mkfifo(tmp_path / "fifo")  # opening it for reading would wait for a writer
    assert "neither a file" in refused(command, tmp_path / "fifo")
    assert "neither a file" in refused(command, "/dev/null")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("command", [name for name in ALL if name != "inspect"])
def test_an_unknown_feature_is_refused(
    image: Path, refused: Callable[[str, object], str], command: str
) -> None:
    """But for vsfs-inspect, which shows what it knows."""
    broken = Image(image.read_bytes())
    broken.put_superblock(feature_incompat=1 << 31)
    image.write_bytes(broken.data)
    refused(command, image)
    assert image.read_bytes() == broken.data


@pytest.mark.parametrize("command", ["tune -l", "tune -j", MOUNT])
def test_an_image_cut_at_any_block_is_refused(
    image: Path, refused: Callable[[str, object], str], command: str
) -> None:
    whole = image.read_bytes()
    for blocks in range(len(whole) // BLOCK):
        image.write_bytes(whole[: blocks * BLOCK])
        refused(command, image)
        assert image.read_bytes() == whole[: blocks * BLOCK]
