"""tune.vsfs: change a filesystem that is there, or list what its superblock says."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from typing import Final
from uuid import UUID, uuid4

import vsfs
from vsfs import tune
from vsfs.device import BlockDevice, FileDevice, Kind
from vsfs.layout import (
    FEATURE_COMPAT_JOURNAL,
    FEATURES,
    INODE_SIZE,
    JOURNAL_INO,
    RESERVED_INODES,
    STATE_CLEAN,
    Superblock,
    feature_names,
)
from vsfs.lock import mount_points
from vsfs.validate import check_inode
from vsfs.words import counted

from .help_text import RawHelpFormatter
from .inspect_output import PlainPrinter, safe
from .messages import explain, fail
from .present import wait_for_present
from .sizes import journal_size, show_size

PROGRAM: Final = "tune.vsfs"
_EPILOG: Final = """\
The image must not be mounted, but for -l alone. What is changed is whole or not at
all, wherever the power goes: at worst the next mount repairs it by itself.

  tune.vsfs -j disk.img             give it a journal
  tune.vsfs -O ^journal disk.img    take it away again
  tune.vsfs -L photos -U random disk.img
"""


@dataclasses.dataclass
class _Change:
    """What is asked for; None leaves a thing as it is."""

    journal: bool | None = None
    journal_blocks: int | None = None
    label: str | None = None
    uuid: UUID | None = None

    @property
    def is_any(self) -> bool:
        return self != _Change()


def _arguments(argv: list[str] | None) -> tuple[argparse.Namespace, _Change]:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Change a VSFS filesystem that is not mounted: its journal, label or UUID.",
        formatter_class=RawHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument("image", metavar="IMAGE", help="image file or block device")
    parser.add_argument("-j", dest="journal", action="store_true", help="add a journal")
    parser.add_argument("-J", dest="journal_blocks", metavar="blocks=COUNT", type=journal_size,
                        help="add a journal of so many blocks")  # fmt: skip
    parser.add_argument("-O", dest="feature", metavar="[^]FEATURE", choices=("journal", "^journal"),
                        help="add (journal) or take away (^journal) a feature")  # fmt: skip
    parser.add_argument("-L", dest="label", metavar="LABEL", help="at most 32 bytes; '' for none")
    parser.add_argument("-U", dest="uuid", metavar="UUID", type=_uuid, help="a UUID, or random")
    parser.add_argument(
        "-l", dest="list", action="store_true", help="list what the superblock says"
    )
    arguments = parser.parse_args(argv)
    adds = arguments.journal or arguments.journal_blocks is not None
    if adds and arguments.feature == "^journal":
        parser.error("-O ^journal takes the journal away that -j would add")
    adds = adds or arguments.feature == "journal"
    removes = arguments.feature == "^journal"
    change = _Change(
        journal=True if adds else False if removes else None,
        journal_blocks=arguments.journal_blocks,
        label=arguments.label,
        uuid=arguments.uuid,
    )
    if not change.is_any and not arguments.list:
        parser.error("say what to change, or -l to list what there is")
    return arguments, change


def _uuid(text: str) -> UUID:
    if text == "random":
        return uuid4()
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no UUID; uuidgen makes one, and random takes any"
        ) from None


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments, change = _arguments(argv)
    try:
        if change.is_any:
            _require_unmounted(arguments.image)
            _make(arguments.image, change)
        if arguments.list:
            _list(arguments.image)
    except ValueError as error:
        return fail(PROGRAM, str(error))
    except OSError as error:
        return fail(PROGRAM, safe(explain(error, arguments.image)))
    return 0


def _require_unmounted(image: str) -> None:
    """Raise ValueError with a sentence if `image` is mounted."""
    mounted = mount_points(image)
    if mounted:
        raise ValueError(f"{image} is mounted on {mounted[0]}; unmount it first")


def _make(image: str, change: _Change) -> None:
    """Make the changes; raises as the functions of ``vsfs.tune``."""
    now_ns = time.time_ns()
    if change.journal is False:
        _recover(image)
    device = FileDevice(image)
    try:
        if change.journal is False:
            count = tune.remove_journal(device, now_ns)
            are = "is" if count == 1 else "are"
            print(f"{image}: the journal is gone, and {counted(count, 'block')} {are} free again")
        elif change.journal:
            count = tune.add_journal(device, now_ns, change.journal_blocks)
            print(f"{image}: it has a journal of {counted(count, 'block')} now")
        if change.label is not None:
            tune.set_label(device, change.label)
            print(f"{image}: its label is {change.label!r} now")
        if change.uuid is not None:
            tune.set_uuid(device, change.uuid)
            print(f"{image}: its UUID is {change.uuid} now")
    finally:
        device.close()


def _recover(image: str) -> None:
    """Have a journal replayed before it is taken away: what waits in it is the users'."""
    device = FileDevice(image, read_only=True)
    try:
        superblock = tune.read_superblock(device)
    finally:
        device.close()
    if not tune.is_clean(superblock):
        vsfs.FileSystem.open(image, commit_interval=None).unmount()


# -- listing -------------------------------------------------------------------


def _list(image: str) -> None:
    device = FileDevice(image, read_only=True)
    try:
        wait_for_present(PROGRAM, image)
        superblock = tune.read_superblock(device)
        journal = _journal_text(device, superblock)
    finally:
        device.close()
    printer = PlainPrinter()
    rows = _rows(superblock, journal)
    width = max(map(len, rows))
    for name, value in rows.items():
        printer.line(f"{name + ':':<{width + 2}} {safe(value)}")


def _rows(superblock: Superblock, journal: str) -> dict[str, str]:
    geometry = superblock.geometry
    size = superblock.block_size
    return {
        "label": superblock.text_label or "(none)",
        "UUID": str(UUID(bytes=superblock.uuid)),
        "features": " ".join(_features(superblock)) or "(none)",
        "state": "clean"
        if superblock.state == STATE_CLEAN
        else "mounted, or not cleanly unmounted",
        "size": f"{show_size(superblock.block_count * size)} = {superblock.block_count} blocks "
        f"of {size} bytes",
        "data blocks": f"{geometry.data_blocks}, of which {superblock.free_block_count} are free",
        "inodes": f"{superblock.inode_count} of {INODE_SIZE} bytes, of which "
        f"{superblock.free_inode_count} are free ({RESERVED_INODES} are taken by the format)",
        "journal": journal,
        "made": _time_text(superblock.created_ns),
        "last mounted": _time_text(superblock.mounted_ns),
        "last written": _time_text(superblock.written_ns),
        "last checked": _time_text(superblock.checked_ns),
        "mounts": str(superblock.mount_count),
    }


def _features(superblock: Superblock) -> list[str]:
    return [name for field in FEATURES for name in feature_names(field, getattr(superblock, field))]


def _journal_text(device: BlockDevice, superblock: Superblock) -> str:
    if not superblock.feature_compat & FEATURE_COMPAT_JOURNAL:
        return "none; tune.vsfs -j adds one"
    geometry = superblock.geometry
    block, offset = geometry.inode_location(JOURNAL_INO)
    data = device.read(block, INODE_SIZE, offset, Kind.INODE_TABLE, JOURNAL_INO)
    blocks = check_inode(JOURNAL_INO, data, geometry).size // geometry.block_size
    return f"{counted(blocks, 'block')}; vsfs-inspect IMAGE journal shows it"


def _time_text(time_ns: int) -> str:
    if not time_ns:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_ns // 10**9))


if __name__ == "__main__":
    sys.exit(main())
