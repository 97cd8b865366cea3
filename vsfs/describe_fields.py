"""The format itself as values: every structure with its fields, as layout.py declares them.

``docs/FORMAT.md``'s tables and the descriptions for other people's tools
(``docs/vsfs.ksy``, ``docs/vsfs.hexpat``) are made from it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from vsfs import layout
from vsfs.describe import Values
from vsfs.rawimage import NotThere


class Structure(NamedTuple):
    """A structure of the format: its declaration, and where it stands."""

    declaration: Any
    where: str


#: By name, in the order of docs/FORMAT.md.
STRUCTURES: Final = {
    "superblock": Structure(layout.SUPERBLOCK, "the first 512 bytes of block 0"),
    "inode": Structure(layout.INODE, "inode i: byte i*256 of the inode table"),
    "attributes": Structure(layout.ATTRIBUTES, "the start of an inode's attribute block"),
    "attribute": Structure(layout.ATTRIBUTE, "one behind the other in an attribute block"),
    "record": Structure(layout.RECORD, "a name: in the blocks of a directory"),
    "journal": Structure(layout.JOURNAL, "the start of the journal's first block"),
}


def describe_fields(name: str | None = None) -> Values:
    """The structures, or the one called `name`; raises NotThere (ENOENT)."""
    if name is not None and name not in STRUCTURES:
        raise NotThere(f"there is no structure {name!r}: there are {', '.join(STRUCTURES)}")
    chosen = STRUCTURES if name is None else {name: STRUCTURES[name]}
    return {
        "version": layout.VERSION,
        "structures": [
            {
                "name": each,
                "where": structure.where,
                "size": layout.packer(structure.declaration).size,
                "fields": field_rows(structure.declaration),
            }
            for each, structure in chosen.items()
        ],
    }


def field_rows(declaration: Any) -> list[Values]:
    """The fields of a structure: `offset`, `width` in bytes, `type`, `meaning`.

    A width that the record itself says is null, and `width_field` names the field
    that says it; the offset of what comes `behind` such a one counts from its end.
    Both are given as texts, too: "4 + name_length".
    """
    found, behind = [], None
    for field in layout.fields(declaration):
        width_field = None if field.width else f"{field.name}_length"
        found.append(
            {
                "name": field.name,
                "offset": field.offset,
                "behind": behind,
                "offset_text": f"{field.offset} + {behind}" if behind else str(field.offset),
                "width": field.width or None,
                "width_field": width_field,
                "width_text": width_field or str(field.width),
                "type": field.type,
                "meaning": field.meaning,
            }
        )
        behind = width_field or behind
    return found
