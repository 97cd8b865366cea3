"""A directory and an inode as ``ls -l`` and ``stat`` show them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from vsfs.describe import Values, inode_record, name_values, path_values, target_values, time_text
from vsfs.describe_deleted import deleted_in
from vsfs.errors import Corrupt
from vsfs.layout import INODE_SIZE, InodeRecord, decode_inode, type_name
from vsfs.rawimage import NotThere, RawImage

_TIMES = ("atime", "mtime", "ctime", "btime")


def describe_status(image: RawImage, ino: int) -> Values:
    """What stat(2) tells of inode `ino`, in use or free; its blocks are the image's.

    Raises NotThere (ENOENT) past the last inode.
    """
    record, is_usable = inode_record(image, ino)
    return {
        "ino": ino,
        **path_values(image, ino),
        "in_use": image.inode_in_use(ino),
        "damage": image.inode_damage(ino),
        **_status(record),
        **target_values(image, ino, record if is_usable else None),
    }


def _status(record: InodeRecord) -> Values:
    times = {name: getattr(record, f"{name}_ns") for name in _TIMES}
    return {
        "type": type_name(record.mode) if record.mode else None,
        "mode": record.mode,
        "mode_text": stat.filemode(record.mode) if record.mode else "?---------",
        "nlink": record.nlink,
        "uid": record.uid,
        "gid": record.gid,
        "size": record.size,
        "blocks": record.blocks,
        "device": [os.major(record.device), os.minor(record.device)],
        "generation": record.generation,
        **{f"{name}_ns": time_ns for name, time_ns in times.items()},
        **{f"{name}_text": time_text(time_ns) for name, time_ns in times.items()},
    }


def describe_list(image: RawImage, ino: int, *, deleted: bool = False) -> Values:
    """The names of directory `ino` in the order of the disk, or inode `ino` alone.

    With `deleted`, names that were removed and are still to be read are among
    `deleted`.  Raises NotThere (ENOENT), Corrupt (EUCLEAN) for a damaged inode.
    """
    record = image.inode(ino)
    is_directory = stat.S_ISDIR(record.mode)
    return {
        "ino": ino,
        **path_values(image, ino),
        "directory": is_directory,
        "entries": _entries(image, ino, record) if is_directory else _alone(image, ino),
        "deleted": deleted_in(image, ino) if deleted and is_directory else iter(()),
    }


def _alone(image: RawImage, ino: int) -> Iterator[Values]:
    path = image.path(ino)
    yield _entry(image, b"" if path is None else path, ino)


def _entries(image: RawImage, ino: int, record: InodeRecord) -> Iterator[Values]:
    """One after the other; damage is an entry without a name."""
    try:
        for sector in image.sectors(ino, record):
            for entry in sector.records:
                if entry.ino:
                    image.remember(ino, entry.name, entry.ino)
                    yield _entry(image, entry.name, entry.ino)
            if sector.damage:
                yield _damaged(sector.damage)
    except Corrupt as error:
        yield _damaged(str(error))


def _entry(image: RawImage, name: bytes, ino: int) -> Values:
    try:
        return {**name_values(name), **describe_status(image, ino)}
    except NotThere as error:
        return {**_damaged(str(error)), **name_values(name), "ino": ino}


def _damaged(damage: str) -> Values:
    """An entry of which only the damage can be told."""
    nothing = dict.fromkeys(("name", "name_hex", "ino", "path", "path_hex", "in_use"))
    status = dict.fromkeys(_status(decode_inode(bytes(INODE_SIZE))))
    return {**nothing, "damage": damage, **status, "target": None, "target_hex": None}
