"""The sample images are what their script makes, and show what they are said to show.

The facts are read with ``struct`` at the offsets of docs/FORMAT.md.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.rawwalk import walk

IMAGES: Final = Path(__file__).parent.parent / "images"
NAMES: Final = ("textbook", "foo-bar", "links", "indirect", "full")
BLOCK: Final = 4096


def image(name: str) -> bytes:
    return (IMAGES / f"{name}.img").read_bytes()


def block(data: bytes, number: int) -> bytes:
    return data[number * BLOCK : (number + 1) * BLOCK]


def number_at(data: bytes, code: str, offset: int) -> int:
    number: int = struct.unpack_from(f"<{code}", data, offset)[0]
    return number


def inode(data: bytes, ino: int) -> bytes:
    start = 3 * BLOCK + ino * 256
    return data[start : start + 256]


def pointers(raw: bytes) -> tuple[int, ...]:
    """The 15 block pointers of an inode without the zeroes behind the last."""
    found = struct.unpack_from("<15I", raw, 80)
    while found and not found[-1]:
        found = found[:-1]
    return found


def names(sectors: bytes) -> dict[bytes, int]:
    """Name and inode of each record of a directory block."""
    found = {}
    at = 0
    while at < len(sectors):
        ino, length, name_length, _ = struct.unpack_from("<IHBB", sectors, at)
        if ino:
            found[sectors[at + 8 : at + 8 + name_length]] = ino
        at += length
    return found


def ones(bitmap: bytes) -> int:
    return int.from_bytes(bitmap, "little").bit_count()


def nlink(raw: bytes) -> int:
    return number_at(raw, "I", 4)


def size(raw: bytes) -> int:
    return number_at(raw, "Q", 16)


def blocks(raw: bytes) -> int:
    return number_at(raw, "Q", 24)


def test_the_script_makes_the_images_bit_for_bit(tmp_path: Path) -> None:
    """As another user might: another time zone, umask and hash seed."""
    subprocess.run(
        [sys.executable, IMAGES / "make_images.py", tmp_path],
        check=True,
        env=os.environ | {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "1"},
        umask=0o077,
    )
    assert {f"{name}.img" for name in NAMES} == {path.name for path in tmp_path.iterdir()}
    for name in NAMES:
        made = (tmp_path / f"{name}.img").read_bytes()
        assert made == image(name), f"{name}.img differs: run images/make_images.py"


def test_every_image_here_is_made_by_the_script() -> None:
    assert {f"{name}.img" for name in NAMES} <= {path.name for path in IMAGES.glob("*.img")}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_a_sound_filesystem_of_the_default_size(name: str) -> None:
    data = image(name)
    assert len(data) == 64 * BLOCK
    assert data[:4] == b"VSFS"
    assert (number_at(data, "I", 20), number_at(data, "Q", 24)) == (BLOCK, 64)
    assert number_at(data, "I", 68) == 1, "clean"
    assert name.encode() == data[88:120].rstrip(b"\0")
    assert walk(data).findings == []


def test_textbook_is_fresh() -> None:
    data = image("textbook")
    assert number_at(data, "I", 152) == 0, "never mounted"
    assert block(data, 1)[:10] == b"\x07" + bytes(9)
    assert block(data, 2)[:7] == b"\x01" + bytes(6)
    assert (nlink(inode(data, 2)), pointers(inode(data, 2))) == (2, (8,))
    assert names(block(data, 8)) == {b".": 2, b"..": 2}
    assert not any(data[9 * BLOCK :])


def test_foo_bar_is_ostep_s_example() -> None:
    data = image("foo-bar")
    assert pointers(inode(data, 2)) == (8,)
    assert names(block(data, 8)) == {b".": 2, b"..": 2, b"foo": 3}
    assert pointers(inode(data, 3)) == (9,)
    assert names(block(data, 9)) == {b".": 3, b"..": 2, b"bar": 4}
    assert (size(inode(data, 4)), pointers(inode(data, 4))) == (3 * BLOCK, (10, 11, 12))
    for number in range(3):
        first, *_, last = block(data, 10 + number).decode("ascii").splitlines()
        assert f"/foo/bar: block {number}, byte {number * BLOCK}" == first.rstrip(".")
        assert f"/foo/bar: block {number}, byte {(number + 1) * BLOCK - 64}" == last.rstrip(".")


def test_links_has_three_names_for_one_inode() -> None:
    data = image("links")
    root = names(block(data, 8))
    (directory,) = pointers(inode(data, root[b"dir"]))
    assert root[b"file"] == root[b"hard"] == names(block(data, directory))[b"hard"] == 3
    assert nlink(inode(data, 3)) == 3


def test_links_has_symbolic_links_of_each_kind() -> None:
    data = image("links")
    root = names(block(data, 8))
    soft, inline, long, dangling = (
        inode(data, root[name]) for name in (b"soft", b"inline-108", b"block-109", b"dangling")
    )
    assert soft[144 : 144 + size(soft)] == b"file"
    assert (size(inline), blocks(inline), pointers(inline)) == (108, 0, ())
    assert inline[144:252] == b"./" * 52 + b"file"
    assert (size(long), blocks(long), pointers(long)) == (109, 1, (11,))
    assert not any(long[144:252])
    assert block(data, 11)[:109] == b"/" + b"./" * 52 + b"file"
    target = dangling[144 : 144 + size(dangling)]
    assert target == b"nowhere"
    assert target not in root


def test_indirect_has_a_file_past_the_direct_pointers() -> None:
    data = image("indirect")
    long = inode(data, names(block(data, 8))[b"long"])
    assert (size(long), blocks(long)) == (14 * BLOCK, 15)
    assert pointers(long) == (*range(9, 21), 21)
    assert block(data, 21) == struct.pack("<2I", 22, 23).ljust(BLOCK, b"\0")
    assert block(data, 23).startswith(b"/long: block 13, byte 53248.")


def test_indirect_has_a_file_of_holes_that_is_twice_indirect() -> None:
    data = image("indirect")
    sparse = inode(data, names(block(data, 8))[b"sparse"])
    assert (size(sparse), blocks(sparse)) == ((12 + 1024) * BLOCK + 8, 4)
    assert pointers(sparse) == (24, *[0] * 12, 25)
    assert block(data, 25) == struct.pack("<I", 26).ljust(BLOCK, b"\0")
    assert block(data, 26) == struct.pack("<I", 27).ljust(BLOCK, b"\0")
    assert block(data, 27) == b"the end\n".ljust(BLOCK, b"\0")


def test_full_has_not_a_block_left() -> None:
    data = image("full")
    assert number_at(data, "Q", 56) == 0, "free blocks"
    assert ones(block(data, 2)) == 8 * BLOCK
    root = names(block(data, 8))
    lengths = [size(inode(data, root[b"file-%d" % number])) for number in range(7)]
    assert lengths == [10 * BLOCK] * 5 + [5 * BLOCK, 0]


def test_full_still_has_inodes() -> None:
    data = image("full")
    assert number_at(data, "I", 64) == 70
    assert 8 * BLOCK - ones(block(data, 1)) == 70
