"""What changed in bitmaps and inodes, bit by bit and field by field."""

from __future__ import annotations

from vsfs.compare import Comparison
from vsfs.describe import Values, inode_fields, inode_record, name_values
from vsfs.layout import JOURNAL_INO, type_name
from vsfs.rawimage import RawImage

# -- fields -------------------------------------------------------------------


def field_changes(before: Values, after: Values) -> list[Values]:
    """The fields that differ, as :func:`field_values` gave them; arrays by element."""
    found = []
    for name, old in before.items():
        new = after[name]
        if old["value"] == new["value"]:
            continue
        if not isinstance(old["value"], list):
            found.append(_change(name, old["offset"], old, new))
            continue
        width = old["size"] // len(old["value"])
        for index, (was, now) in enumerate(zip(old["value"], new["value"], strict=True)):
            if was != now:
                place = old["offset"] + index * width
                found.append(_change(f"{name}[{index}]", place, _plain(was), _plain(now)))
    return found


def _plain(value: int) -> Values:
    return {"value": value, "text": str(value)}


def _change(name: str, offset: int, old: Values, new: Values) -> Values:
    return {
        "field": name,
        "offset": offset,
        "before": old["value"],
        "after": new["value"],
        "before_text": old["text"],
        "after_text": new["text"],
    }


# -- bitmaps ------------------------------------------------------------------


def bit_runs(comparison: Comparison, which: str) -> list[Values]:
    """Neighbours that changed alike together, with the place of the first one's bit."""
    geometry = comparison.after.geometry
    end = geometry.inode_count if which == "inode" else geometry.block_count
    place = geometry.inode_bit if which == "inode" else geometry.data_bit
    found: list[Values] = []
    for number, block, is_allocated in comparison.bits(which):
        last = found[-1] if found else None
        if (
            last is not None
            and last["allocated"] == is_allocated
            and last["first"] + last["count"] == number
            and number != end
        ):
            last["count"] += 1
            continue
        _, byte, bit = place(number)
        found.append(
            {
                "first": number,
                "count": 1,
                "allocated": is_allocated,
                "past_the_end": number >= end,
                "block": block,
                "byte": byte,
                "bit": bit,
            }
        )
    return found


# -- inodes -------------------------------------------------------------------


def inode_change(comparison: Comparison, ino: int) -> Values:
    """What became of an inode, and every field that differs."""
    before, after = comparison.before, comparison.after
    (old, _), (new, _) = inode_record(before, ino), inode_record(after, ino)
    was, now = before.inode_in_use(ino), after.inode_in_use(ino)
    block, offset = after.geometry.inode_location(ino)
    event = "changed" if now else "changed, though free"
    if was != now:
        event = "allocated" if now else "freed"
    elif ino > JOURNAL_INO and was and old.generation != new.generation:
        event = "given to another file"
    return {
        "ino": ino,
        "event": event,
        "type_before": type_name(old.mode) if old.mode else None,
        "type": type_name(new.mode) if new.mode else None,
        **_paths(before, ino, "path_before", is_there=was),
        **_paths(after, ino, "path", is_there=now),
        "block": block,
        "offset": offset,
        "fields": field_changes(
            inode_fields(before.inode_bytes(ino), old), inode_fields(after.inode_bytes(ino), new)
        ),
    }


def _paths(image: RawImage, ino: int, key: str, *, is_there: bool) -> Values:
    path = image.path(ino) if is_there else None
    return {key: None, f"{key}_hex": None} if path is None else name_values(path, key)
