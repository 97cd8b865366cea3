"""Taking a repair back: a file that says what it replaced.

The usual sequence::

    report = check(device)
    save("disk.undo", device, report)      # before anything is written
    report.write(device)
    ...
    undo("disk.undo", device)              # the image as it was, bit for bit

The file is JSON, so that it can be read: block, offset, the bytes before and
after as hexadecimal digits, for each edit in the order of the repairs.  Like an
image it may come from a stranger: each number is checked before it is used, and
nothing is written unless the image holds, at every place, what the repair wrote.
"""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any, Final

from vsfs.device import BlockDevice, Kind
from vsfs.errors import VsfsError
from vsfs.fsck.findings import Edit
from vsfs.fsck.write import ImageChanged, take_back_edits
from vsfs.layout import MAX_BLOCK_SIZE, MIN_BLOCK_SIZE, SUPERBLOCK_SIZE, is_power_of_two

if TYPE_CHECKING:
    from vsfs.fsck import Report

_FORMAT: Final = "vsfs-undo"
_VERSION: Final = 1
_MOST_BYTES: Final = 1 << 30  # of an undo file; a repair of a 256 KiB image has a few KiB


class UndoMismatch(VsfsError):
    """EINVAL: the undo file does not belong to the image, or is no undo file."""

    code = errno.EINVAL


def save(path: str | os.PathLike[str], device: BlockDevice, report: Report) -> None:
    """Write a new file `path` that can take back ``report.write(device)``.

    Durable at return, its name too.  Raises FileExistsError (EEXIST) rather than
    write over a file, and OSError as ``open`` and ``write`` do; a half-written
    file is removed.
    """
    name = os.fspath(path)
    content = json.dumps(
        {
            "format": _FORMAT,
            "version": _VERSION,
            "image_size": device.size,
            "block_size": report.geometry.block_size,
            "edits": [_as_json(edit) for edit in report.edits],
        },
        indent=1,
    )
    with open(name, "x", encoding="ascii") as file:
        try:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(name)
            raise
    _sync_folder(os.path.dirname(name) or ".")


def undo(path: str | os.PathLike[str], device: BlockDevice) -> int:
    """Take back the repair that the undo file `path` is about; durable at return.

    Returns how many edits it had.  Raises UndoMismatch (EINVAL), with nothing
    written, if the file is no undo file or the image does not hold what the repair
    wrote, and OSError as ``open`` and the device do.
    """
    name = os.fspath(path)
    found = _read(name)
    _require(found.get("image_size") == device.size, name, "it is about an image of another size")
    block_size = found.get("block_size")
    if type(block_size) is not int or not _is_block_size(block_size):
        raise _bad(name, "its block size is impossible")
    edits = _edits(name, found.get("edits"), block_size, device.size)
    try:
        take_back_edits(device, block_size, edits)
    except ImageChanged as error:
        raise UndoMismatch(
            f"{name} does not fit the image, which was changed since it was repaired, or whose "
            "repair was not finished; nothing was written"
        ) from error
    return len(edits)


def _as_json(edit: Edit) -> dict[str, Any]:
    return {
        "block": edit.block_no,
        "offset": edit.offset,
        "kind": edit.kind.name,
        "before": edit.before.hex(),
        "after": edit.after.hex(),
    }


def _sync_folder(folder: str) -> None:
    """Make a new name in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- an untrusted file ------------------------------------------------------------


def _bad(name: str, why: str) -> UndoMismatch:
    return UndoMismatch(f"{name} cannot be used to undo a repair: {why}")


def _require(condition: bool, name: str, why: str) -> None:
    if not condition:
        raise _bad(name, why)


def _is_block_size(size: int) -> bool:
    return MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE and is_power_of_two(size)


def _is_number(value: object) -> bool:
    """Whether it is an integer from 0 on; JSON's `true` is none."""
    return type(value) is int and value >= 0


def _read(name: str) -> dict[str, Any]:
    """The outermost object of the file, of a version that is known."""
    with open(name, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    _require(len(content) <= _MOST_BYTES, name, "it is too large")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _bad(name, "it is no JSON") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise _bad(name, "it is no undo file of fsck.vsfs")
    _require(found.get("version") == _VERSION, name, "it was made by another version")
    return found


def _edits(name: str, found: object, block_size: int, image_size: int) -> list[Edit]:
    if not isinstance(found, list):
        raise _bad(name, "it has no list of edits")
    return [_edit(name, index, item, block_size, image_size) for index, item in enumerate(found)]


def _edit(name: str, index: int, item: object, block_size: int, image_size: int) -> Edit:
    """One edit, which lies within one block of the image."""
    try:
        if not isinstance(item, dict):
            raise TypeError
        block_no, offset = item["block"], item["offset"]
        before, after = bytes.fromhex(item["before"]), bytes.fromhex(item["after"])
        kind = Kind[item["kind"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(name, f"edit {index} is none") from error
    if not (_is_number(block_no) and _is_number(offset) and before):
        raise _bad(name, f"edit {index} is none")
    fits = len(before) == len(after) and offset + len(after) <= block_size
    _require(fits, name, f"edit {index} does not lie within a block")
    is_inside = (block_no + 1) * block_size <= image_size
    _require(is_inside, name, f"edit {index} lies behind the end of the image")
    is_superblock = block_no == 0 and offset + len(after) <= SUPERBLOCK_SIZE
    _require(is_superblock == (kind is Kind.SUPERBLOCK), name, f"edit {index} is none")
    _require(is_superblock or block_no > 0, name, f"edit {index} is none")
    return Edit(block_no, offset, before, after, kind)
