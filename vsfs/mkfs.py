"""Making a filesystem: a pure plan, then a write (OSTEP 40.2).

:func:`plan` turns sizes into a :class:`~vsfs.layout.Geometry` and touches
nothing; :func:`make` writes that plan on a device: a root directory with `.` and
`..`, a journal if one is wanted, and nothing else.  On a sparse file it leaves
holes where zeroes belong, so a terabyte takes no longer than 256 KiB.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vsfs.device import BlockDevice, FileDevice, Kind
from vsfs.errors import ImageBusy, ImpossibleSize
from vsfs.journal import JournalPlace, default_blocks, require_possible, write_journal
from vsfs.layout import (
    DEFAULT_BLOCK_SIZE,
    DIRECT_POINTERS,
    FEATURE_COMPAT_JOURNAL,
    INDIRECT_LEVELS,
    INLINE_SIZE,
    INODE_SIZE,
    LABEL_MAX,
    MAGIC,
    MAX_BLOCK_COUNT,
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    RESERVED_INODES,
    ROOT_INO,
    STATE_CLEAN,
    VERSION,
    Geometry,
    InodeRecord,
    Superblock,
    ceil_div,
    encode_inode,
    encode_superblock,
    first_directory_block,
    is_power_of_two,
)

if TYPE_CHECKING:
    from uuid import UUID

DEFAULT_IMAGE_SIZE: Final = 256 * 1024
#: One inode for each this many bytes of the image, as mke2fs does ...
DEFAULT_BYTES_PER_INODE: Final = 16 * 1024
#: ... and so many more, since small images hold small files: 80 at 256 KiB.
EXTRA_INODES: Final = 64
#: The inode table takes at most this share of the image unless asked to.
_TABLE_SHARE: Final = 4
#: Superblock, two bitmaps, an inode table and the root directory: a block each.
MIN_BLOCKS: Final = 5
#: The reserved ones, the root, and one to use.  Blocks of 512 bytes need two for that.
_FEWEST_INODES: Final = RESERVED_INODES + 1
#: An image is refused when this many bytes at either end are not all zero.
_LOOK_AT: Final = 64 * 1024
#: As a number of journal blocks: as many as suit the image.
DEFAULT_JOURNAL: Final = -1
_ZEROES: Final = 1024 * 1024  # bytes of zeroes written at a time


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells this filesystem from others, and who owns its root."""

    uuid: bytes
    label: str
    now_ns: int
    uid: int
    gid: int

    @classmethod
    def new(
        cls, *, label: str = "", identity: UUID | None = None, now_ns: int | None = None
    ) -> Identity:
        """A random UUID, the present, and the user who runs this.

        Raises ImpossibleSize (EINVAL) for a label over 32 bytes.
        """
        encode_label(label)
        return cls(
            uuid=identity.bytes if identity else _random_uuid(),
            label=label,
            now_ns=time.time_ns() if now_ns is None else now_ns,
            uid=os.geteuid(),
            gid=os.getegid(),
        )


def _random_uuid() -> bytes:
    """A version 4 UUID (RFC 4122); importing `uuid` takes longer than all else here."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def encode_label(label: str) -> bytes:
    """The bytes of a label; raises ImpossibleSize (EINVAL) for more than 32."""
    encoded = label.encode()
    if len(encoded) > LABEL_MAX:
        raise ImpossibleSize(
            f"the label {label!r} has {len(encoded)} bytes; at most {LABEL_MAX} fit"
        )
    return encoded


def plan(
    image_size: int,
    *,
    block_size: int = DEFAULT_BLOCK_SIZE,
    inode_count: int | None = None,
    bytes_per_inode: int | None = None,
    journal_blocks: int | None = None,
) -> Geometry:
    """The geometry of a filesystem in `image_size` bytes.

    Inodes are rounded up to fill the last block of their table.  With neither
    `inode_count` nor `bytes_per_inode`, there is one for each 16 KiB and 64 more,
    but no more than fit in a quarter of the image:

    >>> plan(256 * 1024).inode_count, plan(2**30).inode_count
    (80, 65600)

    A journal has no part in it: its blocks are data blocks.  But with `journal_blocks`
    (see :func:`make`) they must be there.

    Raises ImpossibleSize (EINVAL).
    """
    if not (is_power_of_two(block_size) and MIN_BLOCK_SIZE <= block_size <= MAX_BLOCK_SIZE):
        raise ImpossibleSize(
            f"a block cannot have {block_size} bytes: "
            f"take a power of two from {MIN_BLOCK_SIZE} to {MAX_BLOCK_SIZE}"
        )
    block_count = image_size // block_size
    fewest = MIN_BLOCKS - 1 + ceil_div(_FEWEST_INODES, block_size // INODE_SIZE)
    if block_count < fewest:
        raise ImpossibleSize(
            f"{image_size} bytes are too small for a root directory: with blocks of "
            f"{block_size} bytes an image has at least {fewest * block_size} bytes"
        )
    if block_count > MAX_BLOCK_COUNT:
        raise ImpossibleSize(
            f"{image_size} bytes are too large: with blocks of {block_size} bytes an image "
            f"has at most {MAX_BLOCK_COUNT * block_size} bytes (2^32 blocks)"
        )
    wanted = _inodes_wanted(image_size, block_size, inode_count, bytes_per_inode)
    geometry = _place_regions(block_size, block_count, wanted)
    _blocks_of_journal(geometry, journal_blocks)
    return geometry


def _blocks_of_journal(geometry: Geometry, wanted: int | None) -> int:
    """Blocks of the journal to be made, 0 for none; raises ImpossibleSize (EINVAL)."""
    if wanted is None:
        return 0
    count = default_blocks(geometry) if wanted == DEFAULT_JOURNAL else wanted
    require_possible(geometry, count)
    return count


def _inodes_wanted(
    image_size: int, block_size: int, inode_count: int | None, bytes_per_inode: int | None
) -> int:
    if inode_count is not None:
        if inode_count <= RESERVED_INODES:
            raise ImpossibleSize(
                f"{inode_count} inodes are too few: the first {RESERVED_INODES} are taken"
            )
        return inode_count
    if bytes_per_inode is not None:
        if bytes_per_inode <= 0:
            raise ImpossibleSize(f"there cannot be an inode for each {bytes_per_inode} bytes")
        return max(image_size // bytes_per_inode, _FEWEST_INODES)
    wanted = image_size // DEFAULT_BYTES_PER_INODE + EXTRA_INODES
    whole_blocks = image_size // _TABLE_SHARE // block_size
    return max(min(wanted, whole_blocks * (block_size // INODE_SIZE)), _FEWEST_INODES)


def _place_regions(block_size: int, block_count: int, inodes_wanted: int) -> Geometry:
    """Lay the five regions end to end; the data bitmap covers what is left."""
    inodes_per_block = block_size // INODE_SIZE
    # numbers are 32 bits wide; the last table block may not round up beyond that
    inodes_wanted = min(inodes_wanted, 2**32 - inodes_per_block)
    table_blocks = ceil_div(inodes_wanted, inodes_per_block)
    inode_count = table_blocks * inodes_per_block
    inode_bitmap_blocks = ceil_div(inode_count, block_size * 8)
    rest = block_count - 1 - inode_bitmap_blocks - table_blocks
    if rest < 2:  # a block of data bitmap, a block of data
        raise ImpossibleSize(
            f"{inode_count} inodes take {table_blocks} of the image's {block_count} blocks, "
            "and leave none for data; ask for fewer inodes or a larger image"
        )
    data_bitmap_blocks = ceil_div(rest, block_size * 8 + 1)
    data_bitmap_start = 1 + inode_bitmap_blocks
    inode_table_start = data_bitmap_start + data_bitmap_blocks
    return Geometry(
        block_size=block_size,
        block_count=block_count,
        inode_count=inode_count,
        inode_bitmap_start=1,
        data_bitmap_start=data_bitmap_start,
        inode_table_start=inode_table_start,
        data_start=inode_table_start + table_blocks,
    )


def make(
    device: BlockDevice,
    geometry: Geometry,
    identity: Identity,
    *,
    journal_blocks: int | None = None,
) -> None:
    """Write a filesystem with an empty root directory; durable at return.

    With `journal_blocks` it has a journal of so many blocks, right behind the root
    directory; DEFAULT_JOURNAL leaves their number to us.  The superblock is written
    last, after a barrier: a half-made filesystem is none.

    Raises ImpossibleSize (EINVAL) for a journal that cannot be.
    """
    journal = place_journal(geometry, journal_blocks)
    device.block_size = geometry.block_size
    device.write(0, bytes(geometry.block_size), 0, Kind.SUPERBLOCK)
    device.barrier()
    _zero(device, geometry.inode_bitmap_start, geometry.data_start)
    _write_bitmap(
        device,
        Kind.INODE_BITMAP,
        geometry.inode_bitmap_start,
        geometry.data_bitmap_start,
        used=RESERVED_INODES,
        count=geometry.inode_count,
    )
    _write_bitmap(
        device,
        Kind.DATA_BITMAP,
        geometry.data_bitmap_start,
        geometry.inode_table_start,
        used=1 + (journal.total if journal else 0),
        count=geometry.data_blocks,
    )
    root = first_directory_block(geometry.block_size, ROOT_INO, ROOT_INO)
    device.write(geometry.data_start, root, 0, Kind.DIRECTORY, ROOT_INO)
    block, offset = geometry.inode_location(ROOT_INO)
    device.write(block, _root_inode(geometry, identity), offset, Kind.INODE_TABLE, ROOT_INO)
    if journal is not None:
        write_journal(device, geometry, journal, identity.now_ns)
    device.barrier()
    superblock = _superblock(geometry, identity, journal)
    device.write(0, encode_superblock(superblock), 0, Kind.SUPERBLOCK)
    device.barrier()


def place_journal(geometry: Geometry, journal_blocks: int | None) -> JournalPlace | None:
    """Where :func:`make` puts a journal: in a row behind the root directory's block.

    None if none is wanted; raises ImpossibleSize (EINVAL).
    """
    count = _blocks_of_journal(geometry, journal_blocks)
    if not count:
        return None
    first = geometry.data_start + 1
    return JournalPlace.of(tuple(range(first, first + count)), first + count)


def format_image(
    image: str | os.PathLike[str],
    size: int | None = None,
    *,
    force: bool = False,
    label: str = "",
    identity: Identity | None = None,
    block_size: int = DEFAULT_BLOCK_SIZE,
    inode_count: int | None = None,
    bytes_per_inode: int | None = None,
    journal_blocks: int | None = None,
) -> Geometry:
    """Make a filesystem in the file or block device `image`.

    A missing file is made with `size` bytes, 256 KiB by default; an existing one
    keeps its size unless a `size` is given.  Without `force`, one that holds
    anything is refused.  `identity` makes two runs give identical bytes.  With
    `journal_blocks` it has a journal (see :func:`make`).

    Raises ImpossibleSize (EINVAL), ImageBusy (EBUSY), or what ``open`` raises; a
    file that this call made is then removed again.
    """
    path = os.fspath(image)
    wanted = _wanted_size(path, size)
    geometry = plan(
        wanted,
        block_size=block_size,
        inode_count=inode_count,
        bytes_per_inode=bytes_per_inode,
        journal_blocks=journal_blocks,
    )
    identity = identity or Identity.new(label=label)
    made = not os.path.exists(path)
    if made:
        with open(path, "xb") as file:
            file.truncate(wanted)
    try:
        device = FileDevice(path)
        try:
            if not force:
                require_unused(device, path)
            device.resize(wanted)
            make(device, geometry, identity, journal_blocks=journal_blocks)
        finally:
            device.close()
    except BaseException:
        if made:
            os.unlink(path)
        raise
    return geometry


def plan_for(
    image: str | os.PathLike[str], size: int | None = None, *, force: bool = False, **sizes: Any
) -> Geometry:
    """What :func:`format_image` would make with the same arguments; writes nothing.

    Raises what it would raise.
    """
    path = os.fspath(image)
    geometry = plan(_wanted_size(path, size), **sizes)
    if os.path.exists(path) and not force:
        device = FileDevice(path, read_only=True)
        try:
            require_unused(device, path)
        finally:
            device.close()
    return geometry


def _wanted_size(path: str, size: int | None) -> int:
    """The size of the image to be, in bytes."""
    if size is not None:
        return size
    return _size_of(path) if os.path.exists(path) else DEFAULT_IMAGE_SIZE


def _size_of(path: str) -> int:
    device = FileDevice(path, read_only=True)
    try:
        return device.size
    finally:
        device.close()


def _zero(device: BlockDevice, first: int, end: int) -> None:
    """Make blocks `first` to `end - 1` read as zeroes."""
    start, stop = first * device.block_size, end * device.block_size
    if isinstance(device, FileDevice) and device.punch(start, stop - start):
        return
    zeroes = bytes(min(_ZEROES, stop - start))
    for at in range(start, stop, len(zeroes)):
        part = memoryview(zeroes)[: stop - at]
        block, offset = divmod(at, device.block_size)
        device.write(block, part, offset)


def _write_bitmap(
    device: BlockDevice, kind: Kind, start: int, end: int, *, used: int, count: int
) -> None:
    """Set the first `used` bits and all past the last; the rest is zero already."""
    bits_per_block = device.block_size * 8
    last, within = divmod(count, bits_per_block)
    blocks: dict[int, int] = {0: (1 << used) - 1}
    for block in range(last, end - start):
        ones = (1 << bits_per_block) - 1
        if block == last:
            ones &= ~((1 << within) - 1)
        blocks[block] = blocks.get(block, 0) | ones
    for block, bits in blocks.items():
        content = bits.to_bytes(device.block_size, "little")
        device.write(start + block, content, 0, kind)


def _root_inode(geometry: Geometry, identity: Identity) -> bytes:
    now = identity.now_ns
    pointers = (geometry.data_start,) + (0,) * (DIRECT_POINTERS + INDIRECT_LEVELS - 1)
    record = InodeRecord(
        mode=stat.S_IFDIR | 0o755,
        nlink=2,
        uid=identity.uid,
        gid=identity.gid,
        size=geometry.block_size,
        blocks=1,
        atime_ns=now,
        mtime_ns=now,
        ctime_ns=now,
        btime_ns=now,
        flags=0,
        generation=1,
        device=0,
        pointers=pointers,
        attribute_block=0,
        inline=bytes(INLINE_SIZE),
    )
    return encode_inode(ROOT_INO, record)


def _superblock(geometry: Geometry, identity: Identity, journal: JournalPlace | None) -> Superblock:
    now = identity.now_ns
    return Superblock(
        magic=MAGIC,
        version=VERSION,
        feature_compat=FEATURE_COMPAT_JOURNAL if journal else 0,
        feature_incompat=0,
        feature_ro_compat=0,
        block_size=geometry.block_size,
        block_count=geometry.block_count,
        inode_count=geometry.inode_count,
        inode_size=INODE_SIZE,
        inode_bitmap_start=geometry.inode_bitmap_start,
        data_bitmap_start=geometry.data_bitmap_start,
        inode_table_start=geometry.inode_table_start,
        data_start=geometry.data_start,
        free_block_count=geometry.data_blocks - 1 - (journal.total if journal else 0),
        free_inode_count=geometry.inode_count - RESERVED_INODES,
        state=STATE_CLEAN,
        uuid=identity.uuid,
        label=identity.label.encode(),
        created_ns=now,
        mounted_ns=0,
        written_ns=now,
        checked_ns=now,
        mount_count=0,
        reserved=b"",
        checksum=0,
    )


def require_unused(device: BlockDevice, image: str) -> None:
    """Raise ImageBusy (EBUSY) if `image` holds something that nobody should lose.

    That is a VSFS filesystem, or any byte but 0 in its first or last 64 KiB.
    """
    head = _bytes_at(device, 0, min(_LOOK_AT, device.size))
    if head.startswith(MAGIC):
        raise ImageBusy(
            f"{image} already holds a VSFS filesystem; "
            "-F makes a new one over it, and all its files are lost"
        )
    tail_start = max(device.size - _LOOK_AT, 0)
    tail = _bytes_at(device, tail_start, device.size - tail_start)
    if any(head) or any(tail):
        raise ImageBusy(
            f"{image} is not empty: it has other bytes than zero in its first or last 64 KiB; "
            "-F makes a filesystem over them"
        )


def _bytes_at(device: BlockDevice, start: int, size: int) -> bytes:
    block, offset = divmod(start, device.block_size)
    return device.read(block, size, offset)
