"""What each block holds, against what was put there."""

from __future__ import annotations

import os
import struct
from collections import Counter
from itertools import pairwise

import pytest

from tests.test_describe import (
    BLOCK,
    GONE,
    LARGE,
    SPARSE,
    TABLE,
    image_with,
    inode_at,
    overwrite,
    put,
    reseal,
    sample,
)
from vsfs.describe_block import describe_block
from vsfs.describe_layout import describe_layout
from vsfs.describe_uses import STATES, stretches
from vsfs.device import MemoryDevice
from vsfs.rawimage import RawImage


def states(image: RawImage) -> dict[int, str]:
    """What the layout says of each data block."""
    found, _ = stretches(image)
    return {one.first + at: one.state for one in found for at in range(one.count)}


def test_the_state_of_a_block_is_what_the_block_says_of_itself() -> None:
    image = sample()
    for block, state in states(image).items():
        assert describe_block(image, block)["role"] == state


def test_stretches_fill_the_data_region_without_gaps() -> None:
    for image in (sample(), RawImage(torn())):
        found, _ = stretches(image)
        assert found[0].first == image.geometry.data_start
        for one, following in pairwise(found):
            assert one.first + one.count == following.first
        assert found[-1].first + found[-1].count == image.geometry.block_count


def torn() -> MemoryDevice:
    """/sparse has /foo/large's first block; that block's bit, and one of nobody's, are wrong."""
    device = image_with()
    direct = inode_at(LARGE) + 80
    first = struct.unpack_from("<I", device.image, direct)[0]
    data = inode_at(SPARSE) + 80
    overwrite(device, data, struct.pack("<I", first))
    blocks = struct.unpack_from("<I", device.image, inode_at(SPARSE) + 24)[0]
    overwrite(device, inode_at(SPARSE) + 24, struct.pack("<I", blocks + 1))
    reseal(device, SPARSE)
    device.image[2 * BLOCK + 6] |= 1  # block 8 + 48
    bit = first + 1 - 8
    device.image[2 * BLOCK + bit // 8] &= ~(1 << bit % 8)
    return device


def test_damage_has_states_of_its_own() -> None:
    device = torn()
    first = struct.unpack_from("<I", device.image, inode_at(LARGE) + 80)[0]
    found = states(RawImage(device))
    assert found[first] == "shared"
    assert found[first + 1] == "unmarked"
    assert found[56] == "lost"


def test_what_an_unreadable_inode_had_is_lost_and_that_is_said() -> None:
    device = image_with()
    before = Counter(states(RawImage(device)).values())
    overwrite(device, inode_at(LARGE) + 80, struct.pack("<I", 999))
    image = RawImage(device)
    assert Counter(states(image).values())["lost"] == 16
    assert before["lost"] == 0
    assert f"inode {LARGE} " in describe_layout(image)["damage"]


@pytest.mark.parametrize("block_size", [512, 4096])
def test_what_a_folded_picture_holds_adds_up(block_size: int) -> None:
    def build(fs: object) -> None:
        for name in range(30):
            put(fs, f"/{name}", os.urandom(name * 3000))  # type: ignore[arg-type]

    image = RawImage(image_with(build, size=4 * 2**20, block_size=block_size))
    found = describe_layout(image)
    holds = [cell["holds"] for cell in found["cells"] if cell["holds"]]
    for state, count in Counter(states(image).values()).items():
        assert sum(hold[state] for hold in holds) == count
    assert found["regions"][-1]["holds"] == {
        state: sum(hold[state] for hold in holds) for state in STATES
    }
    for cell in found["cells"]:
        if cell["holds"]:
            assert sum(cell["holds"].values()) == cell["count"]
            assert cell["count"] - cell["holds"]["free"] == cell["used"]


def test_the_owners_are_listed_with_their_paths() -> None:
    image = sample()
    owners = describe_layout(image, owners=True)["owners"]
    assert owners["complete"]
    listed = {
        owner["first"] + at: (owner["path"], owner["role"])
        for owner in owners["list"]
        for at in range(owner["count"])
    }
    for block in range(8, 64):
        said = describe_block(image, block)["owners"]
        assert listed.get(block) == ((said[0]["path"], said[0]["role"]) if said else None)


def test_the_close_up_shows_sixteen_inodes_a_block() -> None:
    table = describe_layout(sample())["inode_table"]
    assert table["complete"]
    assert [block["block"] for block in table["blocks"]] == [3, 4, 5, 6, 7]
    assert {len(block["inodes"]) for block in table["blocks"]} == {16}
    inodes = table["blocks"][0]["inodes"]
    assert inodes[:6] == [
        "reserved", "reserved", "directory", "directory", "regular file", "regular file",
    ]  # fmt: skip
    assert inodes[GONE] == "deleted"
    assert inodes[15] == "free"


def test_a_damaged_inode_is_marked_in_the_close_up() -> None:
    device = image_with()
    device.image[TABLE + LARGE * 256 + 17] ^= 1
    table = describe_layout(RawImage(device))["inode_table"]
    assert table["blocks"][0]["inodes"][LARGE] == "damaged"


def test_of_a_long_table_the_blocks_with_inodes_in_use_are_shown() -> None:
    image = RawImage(image_with(size=2**20, inode_count=1000))
    table = describe_layout(image)["inode_table"]
    assert not table["complete"]
    assert [block["first"] for block in table["blocks"]] == [0]
