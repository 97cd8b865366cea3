"""What changed between two images, structure by structure and field by field.

For ``vsfs-inspect A diff B``.  The groups are those of the disk: superblock, bitmaps,
inodes; then what the data blocks are: directories, files, pointers, attributes, the
journal, and blocks that nobody has any more.  The story in front says in words what
all of it comes to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from vsfs.compare import Comparison
from vsfs.describe import Values, field_values
from vsfs.describe_diff_blocks import attribute_changes, journal_changes, other_blocks
from vsfs.describe_diff_files import directory_changes, file_changes, pointer_changes
from vsfs.describe_diff_inodes import bit_runs, field_changes, inode_change
from vsfs.describe_diff_story import story
from vsfs.layout import SUPERBLOCK
from vsfs.rawimage import RawImage

MAX_LISTED: Final = 1000  # of each group; how many more there are is told

_GROUPS: Final = (
    "inode_bitmap",
    "data_bitmap",
    "inodes",
    "directories",
    "files",
    "pointers",
    "attributes",
    "journal",
    "other",
)


def describe_diff(before: RawImage, after: RawImage) -> Values:
    """Every difference of two images, grouped by structure; each group is bounded.

    A group is a `list` and the number `left_out` of it.  Where the geometries differ
    only the superblocks can be compared, and `comparable` is false.
    """
    comparison = Comparison(before, after)
    head = {
        "comparable": comparison.is_possible,
        "superblock": field_changes(
            field_values(SUPERBLOCK, before.block(0)), field_values(SUPERBLOCK, after.block(0))
        ),
    }
    if not comparison.is_possible:
        return {"changed_blocks": None, "changed_runs": _group(()), "story": [], **head} | {
            name: _group(()) for name in _GROUPS
        }
    inodes = [inode_change(comparison, ino) for ino in comparison.inodes]
    groups: dict[str, list[Any]] = {
        "inode_bitmap": bit_runs(comparison, "inode"),
        "data_bitmap": bit_runs(comparison, "data"),
        "inodes": inodes,
        "directories": directory_changes(comparison),
        "files": file_changes(comparison),
        "pointers": pointer_changes(comparison),
        "attributes": [*attribute_changes(comparison)],
        "journal": [*journal_changes(comparison)],
        "other": [*other_blocks(comparison)],
    }
    spans = comparison.changed.spans
    told = story(inodes, groups["directories"], groups["files"], groups["attributes"])
    return {
        "changed_blocks": comparison.changed.count,
        "changed_runs": _group([start, end - start] for start, end in spans),
        "story": told[:MAX_LISTED],
        **head,
        **{name: _group(groups[name]) for name in _GROUPS},
    }


def _group(items: Iterable[Any]) -> Values:
    """The first of `items`, and how many more there are."""
    everything = list(items)
    return {"list": everything[:MAX_LISTED], "left_out": max(len(everything) - MAX_LISTED, 0)}
