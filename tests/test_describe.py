"""What is said of an image, against facts computed from its bytes alone."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vsfs
from tests.support.images import blank, mount
from vsfs import describe, layout
from vsfs.describe_block import describe_block
from vsfs.describe_fragments import describe_fragments
from vsfs.describe_layout import MAX_CELLS, describe_image, describe_layout
from vsfs.device import MemoryDevice
from vsfs.rawimage import NotThere, RawImage, WrongType

Build = Callable[[vsfs.FileSystem], None]
BLOCK = 4096
TABLE = 3 * BLOCK  # byte of the default image where the inode table starts
FOO, BAR, LARGE, SPARSE, SOFT, LONG, NULL, SUB, CAFE, GONE = range(3, 13)


def put(fs: vsfs.FileSystem, path: str | bytes, content: bytes, offset: int = 0) -> None:
    fd = fs.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    fs.pwrite(fd, content, offset)
    fs.close(fd)


def build_sample(fs: vsfs.FileSystem) -> None:
    """One of each kind, as inodes 3 to 12; the last one is removed again."""
    fs.mkdir("/foo")
    put(fs, "/foo/bar", b"hello\n")
    put(fs, "/foo/large", bytes(range(256)) * 240)  # 15 blocks: 12 direct, 3 below one indirect
    put(fs, "/sparse", b"end", 100_000)
    fs.symlink("foo/bar", "/soft")
    fs.symlink("x" * 200, "/long")
    fs.mknod("/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    fs.mkdir("/foo/sub")
    fs.link("/foo/bar", "/hard")
    put(fs, b"/caf\xe9", b"")
    put(fs, "/gone", b"deleted")
    fs.unlink("/gone")


def image_with(build: Build = build_sample, **geometry: Any) -> MemoryDevice:
    device = blank(**geometry)
    with mount(device) as fs:
        build(fs)
    return device


def sample(**geometry: Any) -> RawImage:
    return RawImage(image_with(**geometry))


def inode_at(ino: int) -> int:
    return TABLE + ino * 256


def overwrite(device: MemoryDevice, offset: int, content: bytes) -> None:
    device.image[offset : offset + len(content)] = content


def reseal(device: MemoryDevice, ino: int) -> None:
    """Give a changed inode a checksum that fits again."""
    at = inode_at(ino)
    data = bytes(device.image[at : at + 252])
    checksum = zlib.crc32(struct.pack("<I", ino) + data)
    overwrite(device, at + 252, struct.pack("<I", checksum))


def values(decoded: dict[str, Any]) -> dict[str, Any]:
    return {name: field["value"] for name, field in decoded["fields"].items()}


# -- superblock, layout, bitmaps ----------------------------------------------


def test_the_superblock_is_described_as_its_bytes_say() -> None:
    device = image_with()
    found = values(describe.describe_superblock(RawImage(device)))
    raw = device.image
    assert found["magic"] == "VSFS"
    assert found["block_size"] == struct.unpack_from("<I", raw, 20)[0] == BLOCK
    assert found["block_count"] == struct.unpack_from("<Q", raw, 24)[0] == 64
    assert found["free_block_count"] == struct.unpack_from("<Q", raw, 56)[0]
    assert found["uuid"] == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert found["checksum"] == zlib.crc32(raw[:508])


def test_both_counts_of_free_space_are_given_and_agree_on_a_sound_image() -> None:
    image = sample()
    found = describe.describe_superblock(image)
    said = values(found)
    for name in ("free_block_count", "free_inode_count"):
        assert said[name] == found["counted"][name]


def test_a_count_is_of_the_bits_themselves() -> None:
    device = image_with()
    zeros = 80 - int.from_bytes(device.image[BLOCK : BLOCK + 10], "little").bit_count()
    device.image[BLOCK + 9] = 1  # inode 72
    found = describe.describe_superblock(RawImage(device))["counted"]
    assert found["free_inode_count"] == zeros - 1


def test_a_superblock_with_a_usable_geometry_is_described_with_its_damage() -> None:
    device = image_with()
    device.image[57] ^= 0x80  # free_block_count
    found = describe.describe_superblock(RawImage(device))
    assert "checksum" in found["damage"]
    assert values(found)["free_block_count"] > 2**15


def test_a_superblock_without_a_usable_geometry_is_refused() -> None:
    device = image_with()
    overwrite(device, 52, struct.pack("<I", 999))  # data_start
    with pytest.raises(vsfs.Corrupt):
        RawImage(device)
    found = describe.describe_raw_superblock(device, "why")
    assert (found["damage"], found["counted"]) == ("why", None)
    assert values(found)["data_start"] == 999


def test_the_default_layout_is_the_figure_of_the_book() -> None:
    found = describe_layout(RawImage(blank()))
    assert "".join(cell["letter"] for cell in found["cells"]) == "SidIIIII" + "D" * 56
    assert [cell["first"] for cell in found["cells"]] == list(range(64))
    assert [cell["used"] for cell in found["cells"][:9]] == [1, 1, 1, 3, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("size", [64 * 2**20, 2**30])
def test_the_picture_of_a_large_image_has_a_bounded_number_of_cells(size: int) -> None:
    class Zeroes(MemoryDevice):
        """An image that is too large for memory: only its head was written."""

        @property
        def size(self) -> int:
            return size

        def read(self, block_no: int, size: int, offset: int = 0, *_: Any) -> bytes:
            start = block_no * self.block_size + offset
            return bytes(self.image[start : start + size]).ljust(size, b"\0")

    geometry = vsfs.mkfs.plan(size)
    head = describe_head(geometry)
    found = describe_layout(RawImage(Zeroes(bytearray(head))))
    assert len(found["cells"]) <= MAX_CELLS
    assert sum(cell["count"] for cell in found["cells"]) == geometry.block_count
    assert [cell["letter"] for cell in found["cells"]] == sorted(
        (cell["letter"] for cell in found["cells"]), key="SidID".index
    )


def describe_head(geometry: layout.Geometry) -> bytes:
    """A superblock for `geometry`, taken from a small image."""
    superblock = layout.decode_superblock(blank().image)
    names = layout.Geometry.__slots__
    changed = {name: getattr(geometry, name) for name in names}
    return layout.encode_superblock(superblock._replace(**changed))


@pytest.mark.parametrize(("which", "block", "count"), [("inode", 1, 80), ("data", 2, 56)])
def test_the_runs_of_a_bitmap_are_its_ones(which: str, block: int, count: int) -> None:
    device = image_with()
    found = describe.describe_bitmap(RawImage(device), which)
    bits = int.from_bytes(device.image[block * BLOCK : (block + 1) * BLOCK], "little")
    ones = [found["first"] + bit for bit in range(count) if bits >> bit & 1]
    runs = [number for first, run in found["runs"] for number in range(first, first + run)]
    assert runs == ones
    assert (found["used"], found["free"]) == (len(ones), count - len(ones))
    assert found["complete"]


@given(st.binary(min_size=3 * 64, max_size=3 * 64), st.integers(1, 3 * 512))
def test_runs_of_ones_cross_the_blocks_of_a_bitmap(content: bytes, count: int) -> None:
    image = sample()
    image.block = lambda block: content[block * 64 : (block + 1) * 64]
    image.geometry = Bits()  # type: ignore[assignment]
    bits = int.from_bytes(content, "little")
    expected = [bit for bit in range(count) if bits >> bit & 1]
    runs = list(image.runs_of_ones(0, count))
    assert [bit for first, run in runs for bit in range(first, first + run)] == expected
    assert all(a + n < b for (a, n), (b, _) in pairwise(runs))
    assert image.count_ones(0, 0, count) == len(expected)


class Bits:
    bits_per_block = 512


# -- inodes -------------------------------------------------------------------


def test_an_inode_stands_where_the_book_says() -> None:
    found = describe.describe_inode(sample(), 10)["location"]
    assert (found["table_offset"], found["block"], found["offset"]) == (2560, 3, 2560)
    small = describe.describe_inode(sample(block_size=512), 10)["location"]
    start = small["table_start"]
    assert (small["block"], small["offset"]) == (start + 2560 // 512, 2560 % 512)


def test_an_inode_is_described_as_its_bytes_say() -> None:
    device = image_with()
    found = describe.describe_inode(RawImage(device), 4)
    at = inode_at(4)
    said = values(found)
    assert said["mode"] == struct.unpack_from("<I", device.image, at)[0] == 0o100644
    assert said["nlink"] == struct.unpack_from("<I", device.image, at + 4)[0] == 2
    assert said["size"] == struct.unpack_from("<Q", device.image, at + 16)[0] == 6
    assert said["mtime_ns"] == struct.unpack_from("<q", device.image, at + 40)[0]
    assert said["direct"] == list(struct.unpack_from("<12I", device.image, at + 80))
    assert found["path"] in ("/foo/bar", "/hard")
    assert found["type"] == "regular file"
    assert found["in_use"]
    assert not found["reserved"]


def test_every_field_of_the_format_is_described() -> None:
    found = describe.describe_inode(sample(), 2)["fields"]
    assert list(found) == [field.name for field in layout.fields(layout.INODE)]
    assert sum(field["size"] for field in found.values()) == 256


def test_a_mode_is_shown_in_octal_and_in_letters() -> None:
    found = describe.describe_inode(sample(), NULL)["fields"]
    assert found["mode"]["text"] == "0020644 crw-r--r-- character device"


def test_a_device_is_shown_as_major_and_minor() -> None:
    found = describe.describe_inode(sample(), NULL)["fields"]
    assert found["device"] == found["device"] | {"value": os.makedev(1, 3), "text": "1:3"}


def test_the_blocks_of_a_file_are_listed_with_their_roles() -> None:
    device = image_with()
    pieces = describe.describe_inode(RawImage(device), 5)["pieces"]
    direct = struct.unpack_from("<13I", device.image, inode_at(5) + 80)
    below = struct.unpack_from("<3I", device.image, direct[12] * BLOCK)
    summary = [(p["role"], p["through"], p["file_block"], p["block"], p["count"]) for p in pieces]
    assert summary == [
        ("data", "direct", 0, direct[0], 12),
        ("indirect", "single indirect", 12, direct[12], 1),
        ("data", "single indirect", 12, below[0], 3),
    ]


def test_holes_are_listed_up_to_the_end_of_the_file() -> None:
    pieces = describe.describe_inode(sample(), 6)["pieces"]
    summary = [(piece["role"], piece["file_block"], piece["count"]) for piece in pieces]
    assert summary == [("hole", 0, 12), ("indirect", 12, 1), ("hole", 12, 12), ("data", 24, 1)]


def test_a_file_with_three_levels_of_pointers_is_listed_whole() -> None:
    def build(fs: vsfs.FileSystem) -> None:
        put(fs, "/deep", b"x", (12 + 128 + 128**2 + 5) * 512)

    image = RawImage(image_with(build, block_size=512))
    pieces = describe.describe_inode(image, 3)["pieces"]
    levels = [piece["level"] for piece in pieces if piece["role"] == "indirect"]
    assert levels == [3, 2, 1]
    assert pieces[-1]["file_block"] == 12 + 128 + 128**2 + 5
    assert sum(p["count"] for p in pieces if p["role"] != "indirect") == 12 + 128 + 128**2 + 6


def test_a_long_link_has_its_target_in_a_block() -> None:
    found = describe.describe_inode(sample(), LONG)
    assert (found["target"], len(found["pieces"])) == ("x" * 200, 1)


def test_a_short_link_has_its_target_in_the_inode() -> None:
    found = describe.describe_inode(sample(), SOFT)
    assert (found["target"], found["pieces"]) == ("foo/bar", [])


def test_inodes_0_and_1_are_reserved() -> None:
    for ino in (0, 1):
        found = describe.describe_inode(sample(), ino)
        assert (found["reserved"], found["damage"], found["type"]) == (True, None, None)


def test_a_deleted_file_still_tells_what_it_was() -> None:
    image = sample()
    found = describe.describe_inode(image, GONE)
    assert (found["in_use"], found["path"], found["damage"]) == (False, None, None)
    assert b"".join(describe.content(image, GONE)) == b"deleted"


def test_past_the_last_inode_there_is_none() -> None:
    image = sample()
    describe.describe_inode(image, 79)
    with pytest.raises(NotThere, match="0 to 79"):
        describe.describe_inode(image, 80)


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (951_782_400 * 10**9 + 1, "2000-02-29T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (253_402_300_800 * 10**9, "10000-01-01T00:00:00.000000000Z"),
        (-62_135_596_801 * 10**9, "0000-12-31T23:59:59.000000000Z"),
    ],
)
def test_a_time_is_iso_8601_with_nanoseconds_in_any_year(time_ns: int, text: str) -> None:
    assert describe.time_text(time_ns) == text


@given(st.integers(layout.MIN_TIME_NS, layout.MAX_TIME_NS))
def test_every_time_that_an_inode_can_hold_has_a_text(time_ns: int) -> None:
    assert describe.time_text(time_ns).endswith("Z")


def test_a_time_beyond_64_bits_is_described_with_its_epoch() -> None:
    far = 2**64 + 7

    def build(fs: vsfs.FileSystem) -> None:
        put(fs, "/far", b"")
        fs.utime("/far", ns=(far, far))

    found = describe.describe_inode(RawImage(image_with(build)), 3)["fields"]
    assert found["mtime_ns"]["value"] == far


# -- damaged inodes -----------------------------------------------------------


def test_a_flipped_bit_is_told_and_hides_nothing() -> None:
    device = image_with()
    device.image[inode_at(2) + 32] ^= 1  # the root's atime
    image = RawImage(device)
    assert "checksum" in describe.describe_inode(image, 2)["damage"]
    entries = list(describe.describe_tree(image)["entries"])
    assert "checksum" in entries[0]["damage"]
    assert len(entries) == len(list(describe.describe_tree(sample())["entries"]))


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (80, struct.pack("<I", 64)),  # a pointer past the last block
        (80, struct.pack("<I", 2)),  # a pointer to the data bitmap
        (0, struct.pack("<I", 0o170000)),  # no file type
        (16, struct.pack("<Q", 2**63)),  # larger than any file
        (24, struct.pack("<Q", 2**40)),  # more blocks than there are
    ],
)
def test_a_damaged_inode_is_described_with_its_damage(offset: int, content: bytes) -> None:
    device = image_with()
    overwrite(device, inode_at(4) + offset, content)
    reseal(device, 4)
    image = RawImage(device)
    found = describe.describe_inode(image, 4)
    assert "inode 4 field" in found["damage"]
    assert found["pieces"] == []
    others = [one for one in describe_image(image)["inodes"] if one["ino"] != 4]
    assert all(one["damage"] is None for one in others)


def test_a_pointer_in_an_indirect_block_that_leaves_the_disk_is_damage() -> None:
    device = image_with()
    (indirect,) = struct.unpack_from("<I", device.image, inode_at(5) + 80 + 48)
    overwrite(device, indirect * BLOCK + 4, struct.pack("<I", 64))
    found = describe.describe_inode(RawImage(device), 5)
    assert f"(block {indirect}, offset 4)" in found["damage"]
    assert found["pieces"][0]["count"] == 12


def test_a_wrong_number_of_blocks_is_damage() -> None:
    device = image_with()
    overwrite(device, inode_at(5) + 24, struct.pack("<Q", 17))
    reseal(device, 5)
    assert "expected exactly 16" in describe.describe_inode(RawImage(device), 5)["damage"]


def test_pointers_that_loop_end() -> None:
    device = image_with()
    at = inode_at(5)
    (indirect,) = struct.unpack_from("<I", device.image, at + 128)
    overwrite(device, indirect * BLOCK, struct.pack("<I", indirect) * 1024)
    overwrite(device, at + 128, struct.pack("<3I", indirect, indirect, indirect))
    overwrite(device, at + 24, struct.pack("<Q", 56))
    reseal(device, 5)
    assert "damaged" in describe.describe_inode(RawImage(device), 5)["damage"]


def test_an_indirect_block_of_two_inodes_is_followed_from_one() -> None:
    device = image_with()
    large, sparse = inode_at(5), inode_at(6)
    overwrite(device, sparse + 128, bytes(device.image[large + 128 : large + 132]))
    reseal(device, 6)
    found = {one["ino"]: one for one in describe_image(RawImage(device))["inodes"]}
    assert found[5]["damage"] is None
    assert "inode 5 has" in found[6]["damage"]


def test_a_bit_and_its_inode_that_disagree_are_damage() -> None:
    device = image_with()
    device.image[BLOCK] &= ~(1 << 4)  # inode 4 is in use
    device.image[BLOCK + 9] |= 1  # inode 72 is not
    image = RawImage(device)
    assert "is 0, but it has 2 links" in describe.describe_inode(image, 4)["damage"]
    assert "never used" in describe.describe_inode(image, 72)["damage"]


@pytest.mark.parametrize("pointer", [2, 64, 2**32 - 1])
def test_pointers_of_a_deleted_file_are_checked_too(pointer: int) -> None:
    device = image_with()
    overwrite(device, inode_at(GONE) + 80, struct.pack("<I", pointer))
    reseal(device, GONE)
    with pytest.raises(vsfs.Corrupt):
        describe.content(RawImage(device), GONE)


# -- directories, tree, files -------------------------------------------------


def test_the_records_of_a_directory_are_those_on_the_disk() -> None:
    device = image_with()
    found = describe.describe_directory(RawImage(device), 2)
    sectors = list(found["sectors"])
    assert [sector["offset"] for sector in sectors] == list(range(0, BLOCK, 512))
    block = sectors[0]["block"] * BLOCK
    for record in (record for sector in sectors for record in sector["records"]):
        raw = struct.unpack_from("<IHBB", device.image, block + record["offset"])
        keys = ("inode", "record_length", "name_length", "file_type")
        assert raw == tuple(record[key] for key in keys)
        assert record["free"] == (raw[0] == 0)
    assert [record["free"] for record in sectors[1]["records"]] == [True]


def test_records_fill_every_sector() -> None:
    for sector in describe.describe_directory(sample(), 2)["sectors"]:
        assert sum(record["record_length"] for record in sector["records"]) == 512


def test_a_damaged_sector_hides_only_itself() -> None:
    def build(fs: vsfs.FileSystem) -> None:
        for number in range(60):
            put(fs, f"/{number:0100}", b"")

    device = image_with(build)
    image = RawImage(device)
    root = next(iter(describe.describe_directory(image, 2)["sectors"]))["block"]
    overwrite(device, root * BLOCK + 512 + 4, b"\x03\x00")  # a record length
    sectors = list(describe.describe_directory(RawImage(device), 2)["sectors"])
    assert [bool(sector["damage"]) for sector in sectors[:3]] == [False, True, False]
    assert f"(block {root}, offset 516)" in sectors[1]["damage"]
    entries = list(describe.describe_tree(RawImage(device))["entries"])
    assert 60 - 4 <= len(entries) - 1 < 60
    assert entries[0]["damage"]


def test_a_block_that_is_twice_in_a_directory_is_read_once() -> None:
    device = image_with()
    at = inode_at(2)
    pointer = bytes(device.image[at + 80 : at + 84])
    overwrite(device, at + 80, pointer * 12)
    overwrite(device, at + 16, struct.pack("<QQ", 12 * BLOCK, 12))
    reseal(device, 2)
    sectors = list(describe.describe_directory(RawImage(device), 2)["sectors"])
    assert [bool(sector["damage"]) for sector in sectors] == [False] * 8 + [True] * 11


def test_a_file_is_no_directory_and_a_directory_no_file() -> None:
    with pytest.raises(WrongType, match="regular file"):
        describe.describe_directory(sample(), 4)
    with pytest.raises(WrongType, match="directory"):
        describe.content(sample(), 2)


def test_the_tree_has_every_name_with_its_inode() -> None:
    device = image_with()
    entries = describe.describe_tree(RawImage(device))["entries"]
    root, *rest = ((one["depth"], one["directory"], one["ino"], one["name"]) for one in entries)
    with mount(device) as fs:
        expected = [(1, 2, fs.lstat(b"/" + name).st_ino, name) for name in fs.listdir(b"/")]
        expected += [
            (2, FOO, fs.lstat(b"/foo/" + name).st_ino, name) for name in fs.listdir(b"/foo")
        ]
    shown = [(*place, name.decode(errors="backslashreplace")) for *place, name in expected]
    assert root == (0, None, 2, "/")
    assert sorted(rest) == sorted(shown)


def test_a_directory_with_two_names_is_entered_once() -> None:
    device = image_with()
    (block,) = struct.unpack_from("<I", device.image, inode_at(FOO) + 80)
    at = device.image.index(struct.pack("<I", SUB), block * BLOCK)
    overwrite(device, at, struct.pack("<I", FOO))  # now /foo/sub is /foo itself
    entries = list(describe.describe_tree(RawImage(device))["entries"])
    loop = next(entry for entry in entries if entry["name"] == "sub")
    assert loop["damage"] == "a second name for this directory"
    assert len(entries) < 20


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"/foo/bar", b"/foo/bar"), (b"/hard", b"/foo/bar"), (b"/foo/../foo/./bar", b"/foo/bar")],
)
def test_a_path_is_resolved(path: bytes, name: bytes) -> None:
    image = sample()
    assert image.resolve(path) == image.resolve(name) == 4


def test_a_link_at_the_end_is_followed_only_when_asked() -> None:
    image = sample()
    assert image.resolve(b"/soft", follow=True) == 4
    assert image.resolve(b"/soft") != 4


def test_links_that_lead_to_each_other_end() -> None:
    def build(fs: vsfs.FileSystem) -> None:
        fs.symlink("b", "/a")
        fs.symlink("a", "/b")

    with pytest.raises(NotThere, match="symbolic links"):
        RawImage(image_with(build)).resolve(b"/a", follow=True)


@pytest.mark.parametrize("path", [b"/nope", b"/foo/nope", b"/foo/bar/x", b"/long"])
def test_a_path_that_leads_nowhere_is_not_there(path: bytes) -> None:
    with pytest.raises(NotThere):
        sample().resolve(path, follow=True)


def test_the_contents_of_files_are_those_that_were_written() -> None:
    image = sample()
    for path, expected in (
        (b"/foo/bar", b"hello\n"),
        (b"/foo/large", bytes(range(256)) * 240),
        (b"/sparse", bytes(100_000) + b"end"),
        (b"/long", b"x" * 200),
        (b"/soft", b"foo/bar"),
    ):
        assert b"".join(describe.content(image, image.resolve(path))) == expected


@given(st.binary(max_size=20))
def test_a_name_can_be_had_back_exactly(name: bytes) -> None:
    found = describe.name_values(name)
    exact = found["name_hex"]
    assert name == (found["name"].encode() if exact is None else bytes.fromhex(exact))


# -- blocks -------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [512, 4096])
def test_every_block_is_what_the_geometry_and_the_inodes_say(block_size: int) -> None:
    image = sample(block_size=block_size)
    geometry = image.geometry
    owners: dict[int, tuple[int, str]] = {}
    for one in describe_image(image)["inodes"]:
        for piece in one["pieces"]:
            first = piece["block"] or 0
            for block in range(first, first + piece["count"] if first else 0):
                owners[block] = (one["ino"], piece["role"])
    for block_no in range(geometry.block_count):
        found = describe_block(image, block_no)
        assert found["letter"] == geometry.region_of(block_no).letter
        assert found["damage"] is None
        assert bytes.fromhex(found["hex"]) == image.block(block_no)
        if block_no >= geometry.data_start:
            assert bool(found["owners"]) == found["in_use"] == (block_no in owners)
            for owner in found["owners"]:
                role = "data" if owner["role"] == "directory" else owner["role"]
                assert (owner["ino"], role) == owners[block_no]


@pytest.mark.parametrize("block_size", [512, 4096])
def test_the_parts_of_a_block_cover_it_without_overlap(block_size: int) -> None:
    image = sample(block_size=block_size)
    for block_no in range(image.geometry.block_count):
        parts = describe_block(image, block_no)["parts"]
        at = 0
        for part in parts:
            assert part["offset"] == at
            sizes = sum(field["size"] for field in part["fields"].values())
            assert not part["fields"] or sizes == part["size"]
            at += part["size"]
        assert at in (0, block_size)


def test_an_indirect_block_says_which_file_block_each_pointer_is_for() -> None:
    device = image_with()
    (block,) = struct.unpack_from("<I", device.image, inode_at(5) + 128)
    first = struct.unpack_from("<I", device.image, block * BLOCK)[0]
    found = describe_block(RawImage(device), block)
    assert found["owners"][0]["path"] == "/foo/large"
    titles = [part["title"] for part in found["parts"]]
    assert titles[0] == f"pointer 0: file block 12 is block {first}"
    assert titles[-1] == "pointers 3-1023: no block"


def test_a_bitmap_block_says_which_are_in_use_and_where_it_ends() -> None:
    titles = [part["title"] for part in describe_block(RawImage(blank()), 1)["parts"]]
    assert titles == [
        "inodes 0-63: 0-2 in use",
        "inodes 64-79: free; then past the end",
        "past the end",
    ]


def test_a_block_that_only_the_bitmap_knows_is_lost() -> None:
    device = image_with()
    device.image[2 * BLOCK + 6] |= 1 << 7  # block 8 + 55
    found = describe_block(RawImage(device), 63)
    assert (found["role"], found["owners"]) == ("lost", [])
    assert "no sound inode" in found["damage"]


def test_a_block_with_two_owners_names_both() -> None:
    device = image_with()
    overwrite(device, inode_at(4) + 80, bytes(device.image[inode_at(5) + 80 :][:4]))
    reseal(device, 4)
    (block,) = struct.unpack_from("<I", device.image, inode_at(4) + 80)
    found = describe_block(RawImage(device), block)
    assert [owner["ino"] for owner in found["owners"]] == [4, 5]
    assert "inode 4, inode 5" in found["damage"]


def test_past_the_last_block_there_is_none() -> None:
    with pytest.raises(NotThere, match="0 to 63"):
        describe_block(sample(), 64)


# -- fragments ----------------------------------------------------------------

MIB = 1 << 20


def fragments_of(image: RawImage, path: bytes) -> dict[str, Any]:
    """What is said of the file `path`."""
    (found,) = describe_fragments(image, image.resolve(path))["files"]
    return dict(found)


def write_in_pieces(fs: vsfs.FileSystem, paths: list[str], size: int, piece: int) -> None:
    """Let one file after the other grow by `piece` bytes until each has `size`."""
    fds = [fs.open(path, os.O_CREAT | os.O_WRONLY) for path in paths]
    for _ in range(size // piece):
        for fd in fds:
            assert fs.write(fd, bytes(piece)) == piece
    for fd in fds:
        fs.close(fd)


def runs_needed(blocks: int, per_block: int) -> int:
    """Direct blocks, and a run for each block of pointers that leads to data."""
    return 1 + -(-max(blocks - 12, 0) // per_block)


@pytest.mark.parametrize("piece", [BLOCK, 128 * 1024, 10 * MIB])
def test_a_file_written_in_order_lies_in_as_few_runs_as_its_pointers_allow(piece: int) -> None:
    size = 10 * MIB // piece * piece
    device = blank(64 * MIB)
    with mount(device) as fs:
        write_in_pieces(fs, ["/file"], size, piece)
    found = fragments_of(RawImage(device), b"/file")
    assert (4, 4, 1) == (found["run_count"], found["needed"], found["fragments"])
    assert runs_needed(size // BLOCK, 1024) == 4
    assert found["blocks"] == size // BLOCK + 4  # one single, one double, two below it


@pytest.mark.parametrize("block_size", [512, 1024, 4096, 65536])
def test_as_few_runs_as_possible_are_needed_at_any_block_size(block_size: int) -> None:
    device = blank(64 * MIB, block_size=block_size)
    with mount(device) as fs:
        write_in_pieces(fs, ["/file"], 10 * MIB, MIB)
    found = fragments_of(RawImage(device), b"/file")
    expected = runs_needed(10 * MIB // block_size, block_size // 4)
    assert (expected, expected, 1) == (found["run_count"], found["needed"], found["fragments"])


def write_backwards(fs: vsfs.FileSystem, paths: list[str], count: int, size: int) -> None:
    """Let files in turns get `count` blocks of `size` bytes, each before those they have."""
    fds = [fs.open(path, os.O_CREAT | os.O_WRONLY) for path in paths]
    for file_block in reversed(range(count)):
        for fd in fds:
            fs.pwrite(fd, bytes(size), file_block * size)
    for fd in fds:
        fs.close(fd)


def test_writers_that_take_turns_backwards_fragment_each_other() -> None:
    device = blank(8 * MIB)
    with mount(device) as fs:
        write_backwards(fs, ["/a", "/b"], 100, BLOCK)
    image = RawImage(device)
    for path in (b"/a", b"/b"):
        found = fragments_of(image, path)
        assert (100, 2) == (found["run_count"], found["needed"])
        assert found["fragments"] >= 99
    total = read_total(image)
    assert (3, 3, 2) == (total["files"], total["not_empty"], total["fragmented"])


def read_total(image: RawImage) -> dict[str, int]:
    found = describe_fragments(image)
    for _ in found["files"]:
        pass
    return dict(found["total"])


def test_the_runs_of_a_file_are_its_blocks_in_order() -> None:
    image = sample()
    found = fragments_of(image, b"/foo/large")
    direct = image.inode(LARGE).pointers[:12]
    assert found["runs"][0] == {"file_block": 0, "block": direct[0], "count": 12}
    assert found["runs"][1] == {"file_block": 12, "block": direct[0] + 13, "count": 3}
    assert (found["run_count"], found["complete"]) == (2, True)


def test_a_hole_ends_a_run_that_goes_on_behind_it() -> None:
    def build(fs: vsfs.FileSystem) -> None:
        put(fs, "/file", b"x")
        put(fs, "/file", b"x", 5 * BLOCK)

    found = fragments_of(RawImage(image_with(build)), b"/file")
    assert (2, 2, 1) == (found["run_count"], found["needed"], found["fragments"])
    assert [0, 5] == [run["file_block"] for run in found["runs"]]


def test_an_indirect_block_that_lies_elsewhere_makes_fragments() -> None:
    def build(fs: vsfs.FileSystem) -> None:
        put(fs, "/file", b"x", 12 * BLOCK)  # the indirect block, then a block of data
        put(fs, "/file", bytes(12 * BLOCK))  # in front of it in the file, behind it on the disk

    found = fragments_of(RawImage(image_with(build)), b"/file")
    assert (2, 2, 2) == (found["run_count"], found["needed"], found["fragments"])


def test_only_files_and_directories_are_listed_and_empty_files_have_no_run() -> None:
    image = sample()
    found = describe_fragments(image)
    files = {file["ino"]: file for file in found["files"]}
    assert [2, FOO, BAR, LARGE, SPARSE, SUB, CAFE] == sorted(files)
    assert (0, 0, 0, []) == tuple(
        files[CAFE][key] for key in ("run_count", "needed", "fragments", "runs")
    )
    assert (7, 6) == (found["total"]["files"], found["total"]["not_empty"])


@pytest.mark.parametrize("ino", [0, SOFT, NULL])
def test_what_has_no_runs_is_refused(ino: int) -> None:
    with pytest.raises(WrongType):
        describe_fragments(sample(), ino)


def test_only_the_first_runs_of_a_file_are_listed_and_all_are_counted() -> None:
    device = blank(8 * MIB, block_size=512)
    with mount(device) as fs:
        write_backwards(fs, ["/a", "/b"], 1200, 512)
    found = fragments_of(RawImage(device), b"/a")
    assert (1200, 1000, False) == (found["run_count"], len(found["runs"]), found["complete"])


def test_a_damaged_file_is_listed_with_its_damage_and_not_counted() -> None:
    device = image_with()
    overwrite(device, inode_at(LARGE) + 24, struct.pack("<Q", 3))  # blocks
    reseal(device, LARGE)
    overwrite(device, inode_at(BAR) + 80, struct.pack("<I", 2**31))  # a pointer
    found = describe_fragments(RawImage(device))
    files = {file["ino"]: file for file in found["files"]}
    assert "blocks" in files[LARGE]["damage"]
    assert "block" in files[BAR]["damage"]
    assert files[BAR]["runs"] == []
    assert found["total"]["files"] == 5
