"""The commands of vsfs-inspect that show structures: layout, inode, path, block.

Each imports what it needs when it is called: start-up is to stay light.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from typing import Final

from vsfs.errors import VsfsError
from vsfs.rawimage import RawImage

from .inspect_arguments import INODE, PROGRAM, Command, UsageError, Values, locate, number


def _svg_word(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svg", metavar="FILE", help="draw it into FILE; - is standard output")


def _layout_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--owner", action="store_true", help="list who uses each block")
    _svg_word(parser)


def _layout(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_layout import describe_layout  # noqa: PLC0415

    return describe_layout(image, owners=arguments.owner)


def _inode_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar=INODE)
    _svg_word(parser)


def _inode(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe import describe_inode  # noqa: PLC0415

    return describe_inode(image, locate(image, arguments.what))


def _path_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="/PATH")
    _svg_word(parser)


def _path(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_path import describe_path  # noqa: PLC0415

    if not arguments.what.startswith("/"):
        raise UsageError(
            f"{arguments.what!r} is no path, which starts with /; see {PROGRAM} --help"
        )
    return describe_path(image, os.fsencode(arguments.what))


def _block(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_block import describe_block  # noqa: PLC0415

    return describe_block(image, number(arguments.what, "no block number in decimal"))


def draw(values: Values, arguments: argparse.Namespace) -> None:
    """Write the picture that --svg asks for.

    Raises UsageError where that would overwrite the image, or be a second output;
    OSError, with the file's name, where it cannot be written.
    """
    from .inspect_svg_inode import draw_inode  # noqa: PLC0415
    from .inspect_svg_layout import draw_layout  # noqa: PLC0415
    from .inspect_svg_path import draw_path  # noqa: PLC0415

    drawers = {"layout": draw_layout, "inode": draw_inode, "path": draw_path}
    picture = drawers[arguments.command](values, os.path.basename(arguments.image))
    if arguments.svg == "-":
        sys.stdout.write(picture)
        return
    if os.path.exists(arguments.svg) and os.path.samefile(arguments.svg, arguments.image):
        raise UsageError(f"--svg would overwrite the image {arguments.image}; name another file")
    try:
        with open(arguments.svg, "w", encoding="utf-8") as file:
            file.write(picture)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotWritten(f"{arguments.svg} cannot be written: {reason}") from error


class NotWritten(VsfsError):
    """EIO: the picture cannot be written where it was asked for."""

    code = errno.EIO


PICTURES: Final[dict[str, Command]] = {
    "layout": Command(
        "the blocks as OSTEP's figure draws them, and the inode table",
        "[--owner] ...",
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
    "hexdump": Command(
        "the bytes of a block as hexdump -C prints them, and its fields",
        "N",
        _block,
        lambda report, values: report.hexdump(values),
    ),
}
