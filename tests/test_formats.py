"""docs/vsfs.ksy and docs/vsfs.hexpat say what vsfs/layout.py does.

The first is interpreted here, as far as it goes, over images; the compiler of Kaitai
Struct needs Java or Node.js, and makes the same of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
import yaml

from tests.support.documents import ROOT
from tests.support.images import KIB, blank, image_of, mount
from vsfs import layout
from vsfs.describe_fields import STRUCTURES

DOCS: Final = ROOT / "docs"
KSY: Final = yaml.safe_load((DOCS / "vsfs.ksy").read_text("utf-8"))
HEXPAT: Final = (DOCS / "vsfs.hexpat").read_text("utf-8")


def test_both_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DOCS / "make_formats.py", tmp_path], check=True)
    for name in ("vsfs.ksy", "vsfs.hexpat"):
        made = (tmp_path / name).read_text("utf-8")
        assert made == (DOCS / name).read_text("utf-8"), f"{name}: run docs/make_formats.py"


# -- Kaitai Struct ------------------------------------------------------------


class Reader:
    """Reads bytes as the types of the description say."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        assert 0 <= size <= len(self.data) - self.at, "past the end"
        self.at += size
        return self.data[self.at - size : self.at]

    def type(self, name: str) -> SimpleNamespace:
        """All fields of one type, and its instances that are mere values."""
        found = SimpleNamespace()
        described = KSY["types"][name]
        for key, instance in described.get("instances", {}).items():
            setattr(found, key, instance["value"])
        for field in described["seq"]:
            setattr(found, field["id"], self.field(field, found))
        return found

    def field(self, field: dict[str, Any], found: SimpleNamespace) -> Any:
        if field.get("repeat") == "eos":
            values = []
            while self.at < len(self.data):
                values.append(self.one(field, found))
            return values
        if field.get("repeat") == "expr":
            count = evaluated(field["repeat-expr"], found)
            return [self.one(field, found) for _ in range(count)]
        return self.one(field, found)

    def one(self, field: dict[str, Any], found: SimpleNamespace) -> Any:
        kind: str = field.get("type", "")
        if number := re.fullmatch(r"([us])([1248])", kind):
            return int.from_bytes(self.take(int(number[2])), "little", signed=number[1] == "s")
        if "size" not in field:
            return self.type(kind)
        content = self.take(evaluated(field["size"], found))
        if kind == "str":
            return content.rstrip(bytes([field["pad-right"]])).decode(field["encoding"])
        return Reader(content).type(kind) if kind else content


def evaluated(expression: Any, names: SimpleNamespace) -> Any:
    return eval(str(expression), {}, vars(names))


def image_instances(data: bytes) -> SimpleNamespace:
    """The whole image as the description takes it apart."""
    found = SimpleNamespace(superblock=Reader(data).type("superblock"))
    for name, instance in KSY["instances"].items():
        if "value" in instance:
            setattr(found, name, evaluated(instance["value"], found))
        elif evaluated(instance.get("if", "True"), found):
            reader = Reader(data)
            reader.at = evaluated(instance["pos"], found)
            setattr(found, name, reader.field(instance, found))
    return found


def image_with_everything(**options: Any) -> bytes:
    fs = mount(blank(512 * KIB, **options))
    fs.mkdir("/dir")
    fs.symlink("dir", "/link")
    for name in ("/dir/a", "/dir/b", "/c"):
        fs.mkfifo(name)
    fs.unlink("/dir/a")
    fs.setxattr("/dir", "user.name", b"value")
    fs.setxattr("/dir", "user.other", b"more")
    fs.utime("/c", ns=(-5, 2**70))
    fs.unmount()
    return image_of(fs)


IMAGES: Final = {
    "default": image_with_everything(),
    "small blocks": image_with_everything(block_size=512),
    "journal": image_with_everything(journal_blocks=16),
}


def values_of(structure: Any, data: bytes) -> dict[str, Any]:
    """The fields of a structure by the layout."""
    found: dict[str, Any] = {}
    for field in layout.fields(structure):
        content = data[field.offset : field.offset + field.width]
        if field.type == "bytes":
            text = field.name in ("magic", "label")
            found[field.name] = content.rstrip(b"\0").decode() if text else content
            continue
        bits, is_array, _ = field.type[1:].partition("[")
        one, signed = int(bits) // 8, field.type[0] == "s"
        numbers = [
            int.from_bytes(content[at : at + one], "little", signed=signed)
            for at in range(0, field.width, one)
        ]
        found[field.name] = numbers if is_array else numbers[0]
    return found


@pytest.mark.parametrize("name", IMAGES)
def test_kaitai_reads_the_superblock_and_every_inode(name: str) -> None:
    data = IMAGES[name]
    found = image_instances(data)
    assert vars(found.superblock) == values_of(layout.SUPERBLOCK, data)
    geometry = layout.decode_superblock(data).geometry
    assert len(found.inodes) == geometry.inode_count
    for ino, inode in enumerate(found.inodes):
        block, offset = geometry.inode_location(ino)
        start = block * geometry.block_size + offset
        assert vars(inode) == values_of(layout.INODE, data[start : start + layout.INODE_SIZE])
    start = geometry.data_bitmap_start * geometry.block_size
    assert found.data_bitmap == data[start : start + len(found.data_bitmap)]


@pytest.mark.parametrize("name", IMAGES)
def test_kaitai_reads_directories_attributes_and_the_journal(name: str) -> None:
    data = IMAGES[name]
    found = image_instances(data)
    size = found.block_size
    for inode in found.inodes:
        if inode.mode >> 12 != 4:
            continue
        block = data[inode.direct[0] * size :][:size]
        records = Reader(block).type("directory_block").records
        expected = [(each.ino, each.name) for each in layout.records(block, inode.direct[0])]
        assert [(each.inode, each.name) for each in records] == expected
        if inode.attribute_block:
            block = data[inode.attribute_block * size :][:size]
            attributes = Reader(block).type("attribute_block").list.attributes
            pairs = [(each.name, each.value) for each in attributes]
            assert pairs == [(b"user.name", b"value"), (b"user.other", b"more")]
    assert any(inode.attribute_block for inode in found.inodes)
    if name == "journal":
        assert found.journal.head.magic == "JRNL"
        assert len(found.journal.block_numbers) == found.journal.head.count


def test_kaitai_has_the_codes_of_the_layout() -> None:
    types = {code: name.replace("_", " ") for code, name in KSY["enums"]["file_type"].items()}
    assert types == {0: "none", **layout.TYPE_NAMES}


# -- ImHex --------------------------------------------------------------------


@pytest.mark.parametrize("name", STRUCTURES)
def test_imhex_has_the_fields_of_the_layout(name: str) -> None:
    body = re.search(rf"^struct {name.title()} {{\n(.*?)^}};", HEXPAT, re.MULTILINE | re.DOTALL)
    assert body
    enums = dict(re.findall(r"^enum (\w+) : (u\d+)", HEXPAT, re.MULTILINE))
    found = []
    for kind, field, count in re.findall(r"^    (\w+) (\w+)(?:\[(\w+)\])? \[\[", body[1], re.M):
        width = {"char": 1, "u8": 1}.get(kind) or int(enums.get(kind, kind)[1:]) // 8
        repeat = int(count) if count.isdecimal() else 0 if count else 1
        found.append((field, width * repeat))
    fields = layout.fields(STRUCTURES[name].declaration)
    assert found == [(field.name, field.width) for field in fields]
