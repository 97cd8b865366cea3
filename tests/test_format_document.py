"""docs/FORMAT.md says what vsfs/layout.py does.

The parts of the document between ``<!-- generated: ... -->`` and ``<!-- end -->``
are written by ``python -m tests.test_format_document``.  A test that fails because
one of them is out of date shows what it should be.
"""

from __future__ import annotations

import datetime
import functools
import re
import shutil
import struct
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.documents import ROOT, Document, generated
from vsfs import describe_fields, layout, mkfs
from vsfs.layout import Field, Geometry
from vsfs.volume import SYMLINK_MAX

TEXTBOOK: Final = ROOT / "images" / "textbook.img"

STRUCTURES: Final[dict[str, Any]] = {
    name: structure.declaration for name, structure in describe_fields.STRUCTURES.items()
}

_HEAD: Final = "| # | offset | width | type | name | meaning |"


# -- the generated parts ------------------------------------------------------


def field_table(structure: Any) -> str:
    """The fields of a structure as a markdown table."""
    lines = [_HEAD, "|---|---|---|---|---|---|"]
    for number, row in enumerate(describe_fields.field_rows(structure), 1):
        width = f"`{row['width_field']}`" if row["width_field"] else row["width"]
        cells = (number, row["offset_text"], width, row["type"], f"`{row['name']}`", row["meaning"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def fixed_fields(name: str) -> list[Field]:
    """The fields whose offsets are known: up to the first one of variable length."""
    found = layout.fields(STRUCTURES[name])
    variable = [index for index, field in enumerate(found) if not field.width]
    return found[: variable[0] + 1] if variable else found


def limits_table() -> str:
    """The largest file and the largest volume for every block size."""
    lines = [
        "| block size | largest file (bytes) | about | largest volume |",
        "|---|---|---|---|",
    ]
    size = layout.MIN_BLOCK_SIZE
    while size <= layout.MAX_BLOCK_SIZE:
        geometry = Geometry(size, layout.MAX_BLOCK_COUNT, 16, 1, 2, 3, 4)
        largest = geometry.max_file_size
        lines.append(
            f"| {size} | {largest} | {_about(largest)} | {_about(layout.MAX_BLOCK_COUNT * size)} |"
        )
        size *= 2
    return "\n".join(lines) + "\n"


def _about(size: int) -> str:
    for exponent, unit in ((50, "PiB"), (40, "TiB"), (30, "GiB")):
        if size >= 1 << exponent:
            return f"{size >> exponent} {unit}"
    raise AssertionError(size)


def example() -> str:
    """The bytes that a fresh image has, and what they mean."""
    image = TEXTBOOK.read_bytes()
    root = 3 * 4096 + 2 * 256
    parts = [
        "Block 0, the superblock:",
        _fenced(_hexdump(image, 0, 512)),
        _fenced(_annotated(image, 0, layout.SUPERBLOCK)),
        "Block 1, the inode bitmap: 07 is bits 0, 1 and 2; bit 80 and all behind are past the end:",
        _fenced(_hexdump(image, 4096, 32)),
        "Block 2, the data bitmap: bit 0 is block 8; bit 56 would be block 64, past the end:",
        _fenced(_hexdump(image, 2 * 4096, 32)),
        "Block 3, the inode table: inode 2, the root directory, is 2 * 256 = 512 bytes into it:",
        _fenced(_hexdump(image, root, 256)),
        _fenced(_annotated(image, root, layout.INODE)),
        "Block 8, the first data block: the root directory, its first two sectors:",
        _fenced(_hexdump(image, 8 * 4096, 528)),
        _fenced(_records(image, 8 * 4096, 528)),
    ]
    return "\n\n".join(parts) + "\n"


def _fenced(lines: Iterator[str]) -> str:
    return "\n".join(("```", *(line.rstrip() for line in lines), "```"))


def _hexdump(image: bytes, start: int, size: int) -> Iterator[str]:
    """Lines as `hexdump -C` prints them."""
    before, folded = b"", False
    for at in range(start, start + size, 16):
        row = image[at : at + 16]
        if row == before:
            if not folded:
                yield "*"
            folded = True
            continue
        before, folded = row, False
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        yield f"{at:08x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}  |{text}|"
    yield f"{start + size:08x}"


def _annotated(image: bytes, start: int, structure: Any) -> Iterator[str]:
    for field in layout.fields(structure):
        at = start + field.offset
        content = image[at : at + field.width]
        yield f"{at:08x}  {_shortened(content):<26}  {field.name} = {_value(field, content)}"


def _shortened(content: bytes) -> str:
    return content.hex(" ") if len(content) <= 8 else content[:7].hex(" ") + " ..."


def _value(field: Field, content: bytes) -> str:
    """The value of a field as a person writes it."""
    if field.name == "uuid":
        return str(uuid.UUID(bytes=content))
    if field.type == "bytes":
        text = content.rstrip(b"\0").decode()
        return f'"{text}"' if text else "zeroes"
    size = int(re.sub(r"[us](\d+).*", r"\1", field.type)) // 8
    numbers = [
        int.from_bytes(content[at : at + size], "little", signed=field.type[0] == "s")
        for at in range(0, len(content), size)
    ]
    if len(numbers) > 1:
        return ", ".join(map(str, numbers))
    (number,) = numbers
    if field.name == "checksum":
        return f"{number:#010x}"
    if field.name == "mode":
        return f"{number:07o} (octal)"
    if field.name.endswith("_ns") and number:
        when = datetime.datetime.fromtimestamp(number // 10**9, datetime.UTC)
        return f"{number} ({when:%Y-%m-%dT%H:%M:%SZ})"
    return str(number)


def _records(image: bytes, start: int, size: int) -> Iterator[str]:
    at = start
    while at < start + size:
        ino, length, name_length, file_type = struct.unpack_from("<IHBB", image, at)
        name = image[at + 8 : at + 8 + name_length]
        shown = image[at : at + 8 + name_length].hex(" ")
        meaning = f'inode {ino}, type {file_type}, "{name.decode()}"' if ino else "a free record"
        yield f"{at:08x}  {shown:<29}  {length} bytes: {meaning}"
        at += length


DOCUMENT: Final = Document(
    "FORMAT.md",
    generated(
        {
            **{
                f"{name} fields": functools.partial(field_table, structure)
                for name, structure in STRUCTURES.items()
            },
            "limits": limits_table,
            "example": example,
        }
    ),
    __name__,
)


# -- what is held -------------------------------------------------------------


def parsed_tables() -> list[list[Field]]:
    """The tables of fields that stand in the document, in their order."""
    tables: list[list[Field]] = []
    lines = iter(DOCUMENT.text.splitlines())
    for line in lines:
        if line != _HEAD:
            continue
        next(lines)  # the line of dashes
        rows: list[Field] = []
        for row in lines:
            if not row.startswith("|"):
                break
            number, offset, width, kind, name, meaning = (c.strip() for c in row[1:-1].split("|"))
            assert int(number) == len(rows) + 1
            bytes_wide = int(width) if width.isdecimal() else 0
            rows.append(Field(name.strip("`"), int(offset.split()[0]), bytes_wide, kind, meaning))
        tables.append(rows)
    return tables


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_table_of_fields_is_that_of_the_layout(name: str) -> None:
    expected = layout.fields(STRUCTURES[name])
    found = parsed_tables()[list(STRUCTURES).index(name)]
    assert expected == found, f"the table should be\n\n{field_table(STRUCTURES[name])}"


def test_the_document_is_up_to_date() -> None:
    DOCUMENT.check()


def test_the_document_describes_this_version() -> None:
    title = DOCUMENT.text.splitlines()[0]
    assert f"# The VSFS on-disk format, version {layout.VERSION}" == title


def test_the_table_of_type_codes_is_that_of_the_layout() -> None:
    _, _, rest = DOCUMENT.text.partition("| `file_type` | what |\n|---|---|\n")
    rows = re.findall(r"^\| (\d) \| ([^|]*) \|$", rest.partition("\n\n")[0], re.MULTILINE)
    documented = {int(code): what for code, what in rows}
    assert documented == layout.TYPE_NAMES


@pytest.mark.parametrize(
    ("constant", "row"),
    [
        (layout.NAME_MAX, "| name | 255 bytes |"),
        (layout.LINK_MAX, "| links of a file | 65535 |"),
        (SYMLINK_MAX, "| target of a symbolic link | 4095 bytes"),
        (layout.INLINE_SIZE, "| target of a symbolic link | 4095 bytes, 108 of them inline |"),
        (layout.LABEL_MAX, "| label | 32 bytes |"),
        (mkfs.MIN_BLOCKS, "| blocks | 5 to 2^32 |"),
        (layout.RESERVED_INODES, "| inodes | 3 to 2^32 - 1 |"),
        (layout.SECTOR_SIZE // layout.record_size(1), "| names in a directory | 42 in"),
    ],
)
def test_the_table_of_limits_has_the_limits_of_the_code(constant: int, row: str) -> None:
    assert str(constant) in row
    assert f"\n{row}" in DOCUMENT.text


def c_listing() -> str:
    """The C of the document."""
    match = re.search(r"```c\n(.*?)```", DOCUMENT.text, re.DOTALL)
    assert match
    return match[1]


def c_fields(name: str) -> list[tuple[str, int, str]]:
    """Name, width and type of each member of ``struct vsfs_<name>``."""
    body = re.search(rf"struct vsfs_{name} {{.*?\n(.*?)\n}};", c_listing(), re.DOTALL)
    assert body
    members = []
    for signed, bits, member, count in re.findall(
        r"^    (u?int)(\d+)_t +(\w+)(?:\[(\d*)\])?;", body[1], re.MULTILINE
    ):
        width = int(bits) // 8 * (int(count or 0) if count or member == "name" else 1)
        kind = signed[0].replace("i", "s") + bits
        members.append((member.rstrip("_"), width, kind))
    return members


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_c_structures_have_the_fields_of_the_layout(name: str) -> None:
    expected = [
        (field.name, field.width, field.type.replace("bytes", "u8").partition("[")[0])
        for field in fixed_fields(name)
    ]
    assert expected == c_fields(name)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_structures_compile_to_the_offsets_of_the_layout(tmp_path: Path) -> None:
    lines = [c_listing(), "#include <stddef.h>"]
    for name in STRUCTURES:
        for field in fixed_fields(name):
            member = "inline_" if field.name == "inline" else field.name
            place = f"offsetof(struct vsfs_{name}, {member})"
            lines.append(f'_Static_assert({place} == {field.offset}, "{name}.{member}");')
    source = tmp_path / "format.c"
    source.write_text("\n".join(lines) + "\n")
    result = subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


if __name__ == "__main__":
    DOCUMENT.write()
