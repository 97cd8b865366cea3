"""The commands of vsfs-inspect that show structures: layout, inode, path, block.

Each imports what it needs when it is called: start-up is to stay light.
"""

from __future__ import annotations

import argparse
import os
from typing import Final

from vsfs.rawimage import RawImage

from .inspect_arguments import INODE, Command, UsageError, Values, locate, number


def _layout_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--owner", action="store_true", help="list who uses each block")


def _layout(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_layout import describe_layout  # noqa: PLC0415

    return describe_layout(image, owners=arguments.owner)


def _inode_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar=INODE)


def _inode(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe import describe_inode  # noqa: PLC0415

    return describe_inode(image, locate(image, arguments.what))


def _path_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="/PATH")


def _path(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_path import describe_path  # noqa: PLC0415

    if not arguments.what.startswith("/"):
        raise UsageError(f"{arguments.what!r} is no path, which starts with /")
    return describe_path(image, os.fsencode(arguments.what))


def _block(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_block import describe_block  # noqa: PLC0415

    return describe_block(image, number(arguments.what, "no block number in decimal"))


PICTURES: Final[dict[str, Command]] = {
    "layout": Command(
        "the blocks as OSTEP's figure draws them, and the inode table",
        "[--owner]",
        _layout,
        lambda report, values: report.layout(values),
        _layout_words,
    ),
    "inode": Command(
        "an inode: where it stands, every field, its blocks",
        INODE,
        _inode,
        lambda report, values: report.inode(values),
        _inode_words,
    ),
    "path": Command(
        "a walk along a path, and each block that it reads",
        "/PATH",
        _path,
        lambda report, values: report.path(values),
        _path_words,
    ),
    "block": Command(
        "a block: whose it is, and its bytes with their meaning",
        "N",
        _block,
        lambda report, values: report.block(values),
    ),
}
