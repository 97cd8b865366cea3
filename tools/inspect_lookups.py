"""The commands of vsfs-inspect that look things up, compare, and dig out."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final

from vsfs.device import FileDevice
from vsfs.errors import Corrupt
from vsfs.rawimage import NotThere, RawImage

from .inspect_arguments import (
    INODE,
    MAYBE_INODE,
    PROGRAM,
    Command,
    UsageError,
    Values,
    locate,
    number,
)
from .present import wait_for_present

if TYPE_CHECKING:
    from .inspect_text import Report

# Each command imports what it needs when it is called: start-up is to stay light.


def _owner(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_owner import describe_owner  # noqa: PLC0415

    return describe_owner(image, number(arguments.what, "no block number in decimal"))


def _names(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_owner import describe_names  # noqa: PLC0415

    return describe_names(image, locate(image, arguments.what))


def _where_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar=INODE)
    parser.add_argument("offset", metavar="OFFSET", help="byte of the file, from 0")


def _where(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_where import describe_where  # noqa: PLC0415

    offset = number(arguments.offset, "no offset in decimal bytes")
    return describe_where(image, locate(image, arguments.what), offset)


def _diff_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", metavar="OTHER", help="an image that came after IMAGE")
    parser.add_argument("--since", metavar="FILE", help="a copy of IMAGE from an earlier moment")


def _diff(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_diff import describe_diff  # noqa: PLC0415

    if (arguments.what is None) == (arguments.since is None):
        raise UsageError(f"diff takes either OTHER or --since FILE; see {PROGRAM} --help")
    path = arguments.what or arguments.since
    device = FileDevice(path, read_only=True)
    try:
        wait_for_present(PROGRAM, path)
        try:
            other = RawImage(device)
        except Corrupt as error:
            raise NotThere(f"{path} cannot be compared: {error}") from error
        if arguments.since is not None:
            return describe_diff(other, image)
        return describe_diff(image, other)
    finally:
        device.close()


def _usage(image: RawImage, _: argparse.Namespace) -> Values:
    from vsfs.describe_usage import describe_usage  # noqa: PLC0415

    return describe_usage(image)


def _fields_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", metavar="STRUCTURE")


def _fields(_: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_fields import describe_fields  # noqa: PLC0415

    return describe_fields(arguments.what)


def _list_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-l", dest="long", action="store_true", help="mode, links, owner, size")
    parser.add_argument("--deleted", action="store_true", help="removed names, too")
    parser.add_argument("what", nargs="?", metavar=INODE, default="/")


def _list(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_list import describe_list  # noqa: PLC0415

    ino = locate(image, arguments.what)
    return {"long": arguments.long, **describe_list(image, ino, deleted=arguments.deleted)}


def _show_list(report: Report, values: Values) -> None:
    _show("ls -l" if values["long"] else "ls")(report, values)


def _status(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_list import describe_status  # noqa: PLC0415

    return describe_status(image, locate(image, arguments.what))


def _deleted(image: RawImage, _: argparse.Namespace) -> Values:
    from vsfs.describe_deleted import describe_deleted  # noqa: PLC0415

    return describe_deleted(image)


def _recover_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="write over a file OUT")
    parser.add_argument("what", metavar="N", help="the number of a free inode")
    parser.add_argument("out", metavar="OUT", help="the file to write")


def _recover(image: RawImage, arguments: argparse.Namespace) -> Values:
    """Write OUT, sparse where nothing can be had back; the description says what was."""
    from vsfs.describe_deleted import describe_recovery, recovered  # noqa: PLC0415

    ino = number(arguments.what, "no inode number in decimal")
    values = describe_recovery(image, ino)
    parts = recovered(image, ino)
    first = next(parts, None)
    if first is None and values["blocks"]:
        raise NotThere(f"nothing of inode {ino} is left: its blocks were reused")
    written = 0
    with _new_file(arguments.out, arguments.image, force=arguments.force) as file:
        for offset, content in itertools.chain(() if first is None else (first,), parts):
            file.seek(offset)
            written += file.write(content)
        file.truncate(values["size"])
    return {**values, "out": arguments.out, "written": written}


def _new_file(path: str, image: str, *, force: bool) -> BinaryIO:
    """Opened for writing; one that is there only by `force`, and never the image itself."""
    if force and os.path.exists(path) and os.path.samefile(path, image):
        raise UsageError(f"{path} is the image itself; choose another file to write to")
    try:
        return open(path, "wb" if force else "xb")
    except FileExistsError as error:
        raise UsageError(f"{path} exists; choose another file, or write over it with -f") from error


def _show(name: str) -> Callable[[Report, Values], None]:
    """Prints what the command `name` describes."""

    def show(report: Report, values: Values) -> None:
        from .inspect_lookups_text import PRINTERS  # noqa: PLC0415

        report.by(PRINTERS[name], values)

    return show


LOOKUPS: Final[dict[str | None, Command]] = {
    "owner": Command(
        "who uses a block: inode, role, and every path",
        "N",
        _owner,
        _show("owner"),
    ),
    "names": Command(
        "every name of an inode, and where its record stands",
        INODE,
        _names,
        _show("names"),
    ),
    "where": Command(
        "from a byte of a file to the byte of the image",
        "PATH OFFSET",
        _where,
        _show("where"),
        _where_words,
    ),
    "diff": Command(
        "what changed up to OTHER; --since FILE: since that copy",
        "OTHER",
        _diff,
        _show("diff"),
        _diff_words,
    ),
    "ls": Command(
        "names of a directory; -l: as ls -l; --deleted: removed ones",
        MAYBE_INODE,
        _list,
        _show_list,
        _list_words,
    ),
    "stat": Command(
        "an inode as stat(1) shows it",
        INODE,
        _status,
        _show("stat"),
    ),
    "deleted": Command(
        "removed names and free inodes that can still be read",
        None,
        _deleted,
        _show("deleted"),
    ),
    "recover": Command(
        "write to OUT what a free inode's pointers still reach",
        "N OUT",
        _recover,
        _show("recover"),
        _recover_words,
    ),
    "usage": Command(
        "what fills the disk: by region, role and file",
        None,
        _usage,
        _show("usage"),
    ),
    "fields": Command(
        "the format: every field of every structure",
        "[STRUCTURE]",
        _fields,
        _show("fields"),
        _fields_words,
    ),
}
