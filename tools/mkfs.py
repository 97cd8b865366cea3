"""mkfs.vsfs: make a filesystem in an image."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Final
from uuid import UUID

from vsfs.errors import NoSpace
from vsfs.layout import INODE_SIZE, Geometry
from vsfs.lock import mount_points
from vsfs.mkfs import Identity, format_image, plan_for

from .messages import explain, fail
from .sizes import parse_size, show_size

PROGRAM: Final = "mkfs.vsfs"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Make a VSFS filesystem in an image file or on a block device.",
        epilog="Without -N and -i there is one inode for each 16 KiB and 64 more (80 in "
        "256 KiB), in at most a quarter of the image. Inodes fill whole blocks. "
        "SOURCE_DATE_EPOCH and -U make two runs give identical bytes.",
    )
    parser.add_argument("image", metavar="IMAGE", help="a missing file is made")
    parser.add_argument(
        "size",
        metavar="SIZE",
        nargs="?",
        type=_size,
        help="such as 256K, 1M, 1G (256K for a new file; an existing one keeps its size)",
    )
    parser.add_argument("-b", dest="block_size", metavar="BYTES", type=_size, default=4096,
                        help="block size: 512 to 65536, a power of two (4096)")  # fmt: skip
    parser.add_argument("-N", dest="inodes", metavar="COUNT", type=int, help="number of inodes")
    parser.add_argument("-i", dest="bytes_per_inode", metavar="BYTES", type=_size,
                        help="one inode for each BYTES of the image")  # fmt: skip
    parser.add_argument("-L", dest="label", metavar="LABEL", default="", help="at most 32 bytes")
    parser.add_argument("-U", dest="uuid", metavar="UUID", type=_uuid, help="not a random one")
    parser.add_argument("-d", dest="directory", metavar="DIR", help="fill it with the files in DIR")
    parser.add_argument(
        "-n", dest="dry_run", action="store_true", help="only show what would be done"
    )
    parser.add_argument("-F", dest="force", action="store_true", help="also over what is there")
    parser.add_argument("-q", dest="quiet", action="store_true", help="print nothing")
    return parser.parse_intermixed_args(argv)  # SIZE may come after options


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no UUID; uuidgen makes one") from None


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = _arguments(argv)
    try:
        now_ns = _source_date_epoch()
        identity = Identity.new(label=arguments.label, identity=arguments.uuid, now_ns=now_ns)
        _check_paths(arguments)
        geometry = _make(arguments, identity, stable_times=now_ns is not None)
    except ValueError as error:
        return fail(PROGRAM, str(error))
    except OSError as error:
        named = error.filename if isinstance(error.filename, str | bytes) else None
        return fail(PROGRAM, explain(error, os.fsdecode(named or arguments.image)))
    if not arguments.quiet:
        print(summary(arguments, geometry, identity))
    return 0


def _check_paths(arguments: argparse.Namespace) -> None:
    """Raise ValueError with a sentence for an image or a folder that cannot be used."""
    mounted = mount_points(arguments.image)
    if mounted:
        raise ValueError(f"{arguments.image} is mounted on {mounted[0]}; unmount it first")
    above = os.path.dirname(arguments.image)
    if above and not os.path.isdir(above):
        raise ValueError(f"there is no directory {above} to make {arguments.image} in")
    if arguments.directory is not None and not os.path.isdir(arguments.directory):
        raise ValueError(f"-d needs a directory, and {arguments.directory} is none")


def _source_date_epoch() -> int | None:
    """The reproducible-builds convention: seconds since 1970, as ns."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return None
    # the superblock has 63 bits for nanoseconds, which last until 2262
    if not (text.isascii() and text.isdigit() and int(text) * 10**9 < 2**63):
        raise ValueError(
            f"SOURCE_DATE_EPOCH is {text!r}; it must be a number of seconds since 1970, before 2262"
        )
    return int(text) * 10**9


def _make(arguments: argparse.Namespace, identity: Identity, *, stable_times: bool) -> Geometry:
    sizes = {
        "block_size": arguments.block_size,
        "inode_count": arguments.inodes,
        "bytes_per_inode": arguments.bytes_per_inode,
    }
    if arguments.dry_run:
        return plan_for(arguments.image, arguments.size, force=arguments.force, **sizes)
    is_new = not os.path.exists(arguments.image)
    geometry = format_image(
        arguments.image, arguments.size, force=arguments.force, identity=identity, **sizes
    )
    if arguments.directory is not None:
        try:
            _fill(arguments, identity, stable_times=stable_times)
        except BaseException:
            if is_new:
                os.unlink(arguments.image)
            raise
    return geometry


def _fill(arguments: argparse.Namespace, identity: Identity, *, stable_times: bool) -> None:
    # late: without -d nothing but the format is needed
    from vsfs.filesystem import FileSystem  # noqa: PLC0415
    from vsfs.populate import Populator  # noqa: PLC0415
    from vsfs.walk import Credentials  # noqa: PLC0415

    options: dict[str, Any] = {"clock": lambda: identity.now_ns} if stable_times else {}
    with FileSystem.open(arguments.image, credentials=Credentials(0, 0), **options) as fs:
        try:
            Populator(fs, arguments.directory, stable_times=stable_times).run()
        except NoSpace as error:
            raise NoSpace(
                f"the files in {arguments.directory} do not fit into {arguments.image}: {error}; "
                "make it larger, or ask for more inodes with -N"
            ) from None


def summary(arguments: argparse.Namespace, geometry: Geometry, identity: Identity) -> str:
    """What was made: the sizes, and the regions with their block numbers."""
    size = geometry.block_count * geometry.block_size
    would = "would be made" if arguments.dry_run else "made"
    lines = [
        (
            f"{arguments.image}: VSFS {would}, {show_size(size)} = {geometry.block_count} blocks "
            f"of {geometry.block_size} bytes, {geometry.inode_count} inodes"
        )
    ]
    notes = {
        "I": (
            f"{geometry.inode_count} inodes of {INODE_SIZE} bytes, "
            f"{geometry.inodes_per_block} in a block"
        ),
        "D": f"{geometry.data_blocks} blocks for files and directories",
    }
    spans = [_span(region.start, region.count) for region in geometry.regions]
    width = max(map(len, spans))
    for region, span in zip(geometry.regions, spans, strict=True):
        note = notes.get(region.letter, "")
        lines.append(f"  {region.letter}  {span:<{width}}  {region.name:<13} {note}".rstrip())
    lines.append(f"  UUID {UUID(bytes=identity.uuid)}" + _label(identity.label))
    return "\n".join(lines)


def _span(start: int, count: int) -> str:
    return f"block  {start}" if count == 1 else f"blocks {start}-{start + count - 1}"


def _label(label: str) -> str:
    return f", label {label!r}" if label else ""


if __name__ == "__main__":
    sys.exit(main())
