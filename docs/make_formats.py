#!/usr/bin/env python3
"""Write the format for other people's tools: vsfs.ksy (Kaitai Struct), vsfs.hexpat (ImHex).

    python docs/make_formats.py [FOLDER]

Every structure, field and code in them comes from vsfs/layout.py; only how the
structures hang together stands here.  A test makes both again and compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vsfs.describe_fields import STRUCTURES, field_rows
from vsfs.layout import (
    JOURNAL_INO,
    MAGIC,
    RECORD_HEADER_SIZE,
    ROOT_INO,
    SECTOR_SIZE,
    STATE_CLEAN,
    STATE_MOUNTED,
    TYPE_NAMES,
)

Values = dict[str, Any]

HERE: Final = Path(__file__).parent
_NOTE: Final = "made from vsfs/layout.py by docs/make_formats.py; docs/FORMAT.md explains it"
_STATES: Final = {STATE_CLEAN: "clean", STATE_MOUNTED: "mounted"}
_TEXTS: Final = ("magic", "label")  # bytes that are text
#: (structure, field) -> the enumeration that names its values.
_ENUMS: Final = {("record", "file_type"): "file_type", ("superblock", "state"): "state"}


def _codes() -> dict[str, dict[int, str]]:
    """The enumerations: name -> code -> name of the code."""
    types = {code: name.replace(" ", "_") for code, name in TYPE_NAMES.items()}
    return {"file_type": {0: "none", **types}, "state": _STATES}


# -- Kaitai Struct ------------------------------------------------------------

_KSY_HEAD: Final = """\
# {note}
meta:
  id: vsfs
  title: VSFS, the very simple file system of OSTEP
  file-extension: img
  license: MIT
  endian: le
doc: |
  An image: five regions, whose places the superblock tells. Blocks of the data region
  mean what the inode says that points to them: open them as directory_block,
  indirect_block, attribute_block or journal_block.
seq:
  - id: superblock
    type: superblock
instances:
  block_size:
    value: superblock.block_size
  inode_bitmap:
    pos: superblock.inode_bitmap_start * block_size
    size: (superblock.data_bitmap_start - superblock.inode_bitmap_start) * block_size
  data_bitmap:
    pos: superblock.data_bitmap_start * block_size
    size: (superblock.inode_table_start - superblock.data_bitmap_start) * block_size
  inodes:
    pos: superblock.inode_table_start * block_size
    type: inode
    repeat: expr
    repeat-expr: superblock.inode_count
  root:
    doc: the first block of the root directory
    pos: inodes[{root}].direct[0] * block_size
    size: block_size
    type: directory_block
  journal:
    doc: the first block of the journal
    if: inodes[{journal}].direct[0] != 0
    pos: inodes[{journal}].direct[0] * block_size
    size: block_size
    type: journal_block
types:
  directory_block:
    doc: records that fill each sector of {sector} bytes exactly
    seq:
      - id: records
        type: record
        repeat: eos
  indirect_block:
    seq:
      - id: pointers
        type: u4
        repeat: eos
  attribute_block:
    seq:
      - id: head
        type: attributes
      - id: list
        size: head.size - head_size
        type: attribute_list
    instances:
      head_size:
        value: {attributes}
  attribute_list:
    seq:
      - id: attributes
        type: attribute
        repeat: eos
  journal_block:
    seq:
      - id: head
        type: journal
      - id: block_numbers
        type: u4
        repeat: expr
        repeat-expr: head.count
"""

#: What follows the fields of a structure, up to the next one.
_KSY_TAILS: Final = {
    "record": f"""\
      - id: slack
        size: record_length - {RECORD_HEADER_SIZE} - name_length
        doc: room for another record; a removed name may still be read here
""",
    "attribute": """\
      - id: padding
        size: (4 - (name_length + value_length) % 4) % 4
        doc: up to a multiple of 4
""",
}


def ksy() -> str:
    """The description for Kaitai Struct."""
    head = _KSY_HEAD.format(
        note=_NOTE,
        root=ROOT_INO,
        journal=JOURNAL_INO,
        sector=SECTOR_SIZE,
        attributes=sum(row["width"] for row in field_rows(STRUCTURES["attributes"].declaration)),
    )
    return head + "".join((*map(_ksy_type, STRUCTURES), *_ksy_enums()))


def _ksy_type(name: str) -> str:
    structure = STRUCTURES[name]
    lines = [f"  {name}:", f"    doc: {_quoted(structure.where)}", "    seq:"]
    for row in field_rows(structure.declaration):
        lines.append(f"      - id: {row['name']}")
        lines += [f"        {line}" for line in _ksy_field(name, row)]
        lines.append(f"        doc: {_quoted(row['meaning'])}")
    return "\n".join(lines) + "\n" + _KSY_TAILS.get(name, "")


def _quoted(text: str) -> str:
    """A string of YAML."""
    return "'" + text.replace("'", "''") + "'"


def _ksy_field(structure: str, row: Values) -> Iterator[str]:
    """The lines that give a field its type and width."""
    kind, _, array = row["type"].partition("[")
    if kind == "bytes":
        width = row["width"] or row["width_field"]
        yield f"size: {width}"
        if row["name"] in _TEXTS:
            yield "type: str"
            yield "encoding: UTF-8"
            yield "pad-right: 0"
        return
    yield f"type: {kind[0]}{int(kind[1:]) // 8}"
    if array:
        yield "repeat: expr"
        yield f"repeat-expr: {array.rstrip(']')}"
    if (structure, row["name"]) in _ENUMS:
        yield f"enum: {_ENUMS[structure, row['name']]}"


def _ksy_enums() -> Iterator[str]:
    yield "enums:\n"
    for name, codes in _codes().items():
        yield f"  {name}:\n"
        for code, word in codes.items():
            yield f"    {code}: {word}\n"


# -- ImHex --------------------------------------------------------------------

_HEXPAT_HEAD: Final = """\
// {note}
#pragma description VSFS, the very simple file system of OSTEP
#pragma endian little
#pragma magic [ {magic} ] @ 0x00
#pragma array_limit 0x100000
#pragma pattern_limit 0x1000000
"""

_HEXPAT_TAIL: Final = """
struct Directory {{
    Record records[while($ < addressof(this) + size)];
}};

Superblock superblock @ 0x00;
u64 size = superblock.block_size;

u8 inode_bitmap[(superblock.data_bitmap_start - superblock.inode_bitmap_start) * size]
    @ superblock.inode_bitmap_start * size;
u8 data_bitmap[(superblock.inode_table_start - superblock.data_bitmap_start) * size]
    @ superblock.data_bitmap_start * size;
Inode inodes[superblock.inode_count] @ superblock.inode_table_start * size;

Directory root @ inodes[{root}].direct[0] * size;
if (inodes[{journal}].direct[0] != 0) {{
    Journal journal @ inodes[{journal}].direct[0] * size;
    u32 journal_block_numbers[journal.count] @ inodes[{journal}].direct[0] * size + sizeof(journal);
}}
"""

_HEXPAT_TAILS: Final = {
    "record": f"    padding[record_length - {RECORD_HEADER_SIZE} - name_length];\n",
    "attribute": "    padding[(4 - (name_length + value_length) % 4) % 4];\n",
}


def hexpat() -> str:
    """The pattern for ImHex."""
    parts = [_HEXPAT_HEAD.format(note=_NOTE, magic=MAGIC.hex(" ").upper())]
    for name, codes in _codes().items():
        width = "u8" if name == "file_type" else "u32"
        words = "".join(f"    {word} = {code},\n" for code, word in codes.items())
        parts.append(f"\nenum {_camel(name)} : {width} {{\n{words}}};\n")
    parts += map(_hexpat_struct, STRUCTURES)
    return "".join((*parts, _HEXPAT_TAIL.format(root=ROOT_INO, journal=JOURNAL_INO)))


def _hexpat_struct(name: str) -> str:
    structure = STRUCTURES[name]
    lines = [f"\n// {structure.where}", f"struct {_camel(name)} {{"]
    for row in field_rows(structure.declaration):
        meaning = row["meaning"].replace('"', "'")
        lines.append(f'    {_hexpat_field(name, row)} [[comment("{meaning}")]];')
    return "\n".join(lines) + "\n" + _HEXPAT_TAILS.get(name, "") + "};\n"


def _hexpat_field(structure: str, row: Values) -> str:
    kind, _, array = row["type"].partition("[")
    if kind == "bytes":
        text = row["name"] in (*_TEXTS, "name")
        width = row["width"] or row["width_field"]
        return f"{'char' if text else 'u8'} {row['name']}[{width}]"
    if (structure, row["name"]) in _ENUMS:
        kind = _camel(_ENUMS[structure, row["name"]])
    return f"{kind} {row['name']}" + (f"[{array}" if array else "")


def _camel(name: str) -> str:
    return name.title().replace("_", "")


def main(argv: list[str]) -> None:
    """Write both into a folder, docs/ unless another is named."""
    folder = Path(argv[0]) if argv else HERE
    (folder / "vsfs.ksy").write_text(ksy(), encoding="utf-8")
    (folder / "vsfs.hexpat").write_text(hexpat(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
