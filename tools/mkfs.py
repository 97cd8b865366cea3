"""mkfs.vsfs: make a filesystem in an image."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from vsfs.errors import ImpossibleSize, NoSpace
from vsfs.layout import INODE_SIZE, MAX_BLOCK_COUNT, RESERVED_INODES, Geometry, ceil_div, uuid_text
from vsfs.lock import mount_points
from vsfs.mkfs import DEFAULT_JOURNAL, Identity, format_image, place_journal, plan, plan_for
from vsfs.words import counted

from .help_text import HelpFormatter
from .messages import explain, fail
from .sizes import journal_size, parse_size, show_size

if TYPE_CHECKING:
    from uuid import UUID

    from vsfs.populate import Needs

PROGRAM: Final = "mkfs.vsfs"
#: Sizes that are asked for are whole MiB from here on.
_LARGE: Final = 64 * 2**20


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Make a VSFS filesystem in an image file or on a block device.",
        epilog="Without -N and -i there is one inode for each 16 KiB and 64 more (80 in "
        "256 KiB), in at most a quarter of the image. Inodes fill whole blocks. "
        "SOURCE_DATE_EPOCH and -U make two runs give identical bytes.",
        formatter_class=HelpFormatter,
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
    parser.add_argument("-j", dest="journal", action="store_const", const=DEFAULT_JOURNAL,
                        help="with a journal, so that no crash does harm")  # fmt: skip
    parser.add_argument("-J", dest="journal", metavar="blocks=COUNT", type=journal_size,
                        help="with a journal of so many blocks")  # fmt: skip
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
    from uuid import UUID  # noqa: PLC0415  (late, since few need it)

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
        geometry, needs = _make(arguments, identity, stable_times=now_ns is not None)
    except ValueError as error:
        return fail(PROGRAM, str(error))
    except OSError as error:
        named = error.filename if isinstance(error.filename, str | bytes) else None
        return fail(PROGRAM, explain(error, os.fsdecode(named or arguments.image)))
    if not arguments.quiet:
        print(summary(arguments, geometry, identity, needs))
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


def _make(
    arguments: argparse.Namespace, identity: Identity, *, stable_times: bool
) -> tuple[Geometry, Needs | None]:
    """Do it, or with -n only find out what would be done: the sizes, and what -d takes."""
    image, sizes = arguments.image, _sizes(arguments)
    geometry = plan_for(image, arguments.size, force=arguments.force, **sizes)
    needs = None
    if arguments.directory is not None:
        needs = _measure(arguments, geometry)
    if arguments.dry_run:
        return geometry, needs
    is_new = not os.path.exists(image)
    format_image(image, arguments.size, force=arguments.force, identity=identity, **sizes)
    if needs is not None:
        try:
            _fill(arguments, identity, stable_times=stable_times)
        except BaseException:
            if is_new:
                os.unlink(image)
            raise
    return geometry, needs


def _sizes(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "block_size": arguments.block_size,
        "inode_count": arguments.inodes,
        "bytes_per_inode": arguments.bytes_per_inode,
        "journal_blocks": arguments.journal,
    }


# populate is imported late: without -d nothing but the format is needed


def _measure(arguments: argparse.Namespace, geometry: Geometry) -> Needs:
    """What the files for -d take; raises NoSpace (ENOSPC), before anything is written."""
    from vsfs.populate import measure, room  # noqa: PLC0415

    with _about_the_files(arguments):
        needs = measure(arguments.directory, geometry, image=arguments.image)
    if needs.fit(geometry, arguments.journal):
        return needs
    inodes, blocks = needs.missing(geometry, arguments.journal)
    free_inodes, free_blocks = room(geometry, arguments.journal)
    wanted, there = [], []
    if inodes:
        wanted.append(counted(needs.inodes, "inode"))
        there.append(str(free_inodes))
    if blocks:
        wanted.append(f"{counted(needs.blocks, 'block')} of {geometry.block_size} bytes")
        there.append(str(free_blocks))
    raise NoSpace(
        f"the files in {arguments.directory} do not fit into {arguments.image}: they take "
        f"{' and '.join(wanted)}, and it has {' and '.join(there)}; "
        + _advice(arguments, geometry, needs)
    )


def _advice(arguments: argparse.Namespace, geometry: Geometry, needs: Needs) -> str:
    """What to ask for instead, so that the files fit."""
    sizes = _sizes(arguments)
    with_inodes = sizes | {"inode_count": needs.inodes + RESERVED_INODES}
    more_inodes = f"-N {with_inodes['inode_count']}"
    missing_inodes, missing_blocks = needs.missing(geometry, arguments.journal)
    if not missing_blocks:
        image_size = geometry.block_count * geometry.block_size
        if _fits(needs, image_size, with_inodes):
            return f"ask for more inodes with {more_inodes}"
    # a larger image has more inodes, unless their number was given
    elif arguments.inodes is None or not missing_inodes:
        size = _smallest_size(needs, sizes)
        if size is not None:
            return f"make it larger, with a SIZE of at least {size}"
    size = _smallest_size(needs, with_inodes)
    if size is None:
        return "no image with blocks of this size has room for them"
    return f"make it larger, with a SIZE of at least {size} and {more_inodes}"


def _fits(needs: Needs, image_size: int, sizes: dict[str, Any]) -> bool:
    try:
        return needs.fit(plan(image_size, **sizes), sizes["journal_blocks"])
    except ImpossibleSize:
        return False


def _smallest_size(needs: Needs, sizes: dict[str, Any]) -> str | None:
    """The smallest SIZE that is enough, to the KiB, or to the MiB for a large image."""
    block_size: int = sizes["block_size"]
    size = (needs.blocks + 1) * block_size
    unit = max(2**10, block_size) if size < _LARGE else 2**20
    fits = start = ceil_div(size, unit)
    while not _fits(needs, fits * unit, sizes):
        fits *= 2
        if fits * unit > 2 * MAX_BLOCK_COUNT * block_size:
            return None
    too_small = fits // 2 if fits > start else start - 1
    while fits - too_small > 1:
        middle = (fits + too_small) // 2
        if _fits(needs, middle * unit, sizes):
            fits = middle
        else:
            too_small = middle
    return f"{fits * unit // 2**20}M" if unit == 2**20 else f"{fits * unit // 2**10}K"


def _fill(arguments: argparse.Namespace, identity: Identity, *, stable_times: bool) -> None:
    from vsfs.populate import fill  # noqa: PLC0415

    clock = (lambda: identity.now_ns) if stable_times else None
    with _about_the_files(arguments):
        fill(arguments.image, arguments.directory, clock=clock, stable_times=stable_times)


@contextlib.contextmanager
def _about_the_files(arguments: argparse.Namespace) -> Iterator[None]:
    """Errors while the files for -d are measured or copied, as sentences of the command."""
    from vsfs.copying import CannotCopy  # noqa: PLC0415

    try:
        yield
    except CannotCopy as error:
        raise ValueError(f"{arguments.image} cannot be filled: {error}") from error
    except NoSpace as error:  # they did fit when they were measured
        raise NoSpace(
            f"the files in {arguments.directory} do not fit into {arguments.image} any more "
            f"({error}); try again when nothing changes them"
        ) from error


def summary(
    arguments: argparse.Namespace,
    geometry: Geometry,
    identity: Identity,
    needs: Needs | None = None,
) -> str:
    """What was made: the sizes, the regions with their block numbers, what -d took."""
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
        "D": f"{counted(geometry.data_blocks, 'block')} for files and directories",
    }
    spans = [_span(region.start, region.count) for region in geometry.regions]
    width = max(map(len, spans))
    for region, span in zip(geometry.regions, spans, strict=True):
        note = notes.get(region.letter, "")
        lines.append(f"  {region.letter}  {span:<{width}}  {region.name:<13} {note}".rstrip())
    journal = place_journal(geometry, arguments.journal)
    if journal is not None:
        span = _span(journal.blocks[0], len(journal.blocks))
        pointers = f"; its pointers in block {journal.indirect}" if journal.indirect else ""
        lines.append(
            f"  J  {span:<{width}}  {'journal':<13} "
            f"{journal.capacity} changed blocks fit into a transaction{pointers}"
        )
    lines.append(f"  UUID {uuid_text(identity.uuid)}" + _label(identity.label))
    if needs is not None:
        lines.append(_filling(arguments, needs))
    return "\n".join(lines)


def _filling(arguments: argparse.Namespace, needs: Needs) -> str:
    take = "would take" if arguments.dry_run else "take"
    text = (
        f"  the files in {arguments.directory} {take} {counted(needs.inodes, 'inode')} "
        f"and {counted(needs.blocks, 'block')}"
    )
    if needs.left_out is not None:
        text += f"; {os.fsdecode(needs.left_out)} is the image itself and is left out"
    return text


def _span(start: int, count: int) -> str:
    return f"block  {start}" if count == 1 else f"blocks {start}-{start + count - 1}"


def _label(label: str) -> str:
    return f", label {label!r}" if label else ""


if __name__ == "__main__":
    sys.exit(main())
