"""Inodes, their pointers, and blocks that two of them claim."""

from __future__ import annotations

import struct
import zlib

from registry import case, noise

from tests.support.damage import INODE, Image


@case()
def inode_checksum(image: Image) -> None:
    """A bit of a modification time is flipped, so the inode's checksum does not fit."""
    image.flip(image.inode_at(image.find("/direct")) + 42, 3)


@case()
def inode_checksum_wrong_size(image: Image) -> None:
    """A bit of a size is flipped, so the inode's checksum does not fit."""
    image.flip(image.inode_at(image.find("/direct")) + 17, 7)


@case()
def inode_links_and_times(image: Image) -> None:
    """The link count of /hello is 0 and its times are others; the checksum does not fit."""
    image.put_inode(image.find("/hello"), seal=False, nlink=0, mtime_ns=1, ctime_ns=2)


@case()
def inode_in_the_place_of_another(image: Image) -> None:
    """The record of /direct was written over that of /single."""
    at = image.inode_at(image.find("/direct"))
    image.put(image.inode_at(image.find("/single")), bytes(image.data[at : at + INODE]))


@case()
def inode_astray(image: Image) -> None:
    """The record of /direct stands in the place of inode 40; its own place is zeroes."""
    at = image.inode_at(image.find("/direct"))
    image.put(image.inode_at(40), bytes(image.data[at : at + INODE]))
    image.put(at, bytes(INODE))


@case()
def inode_records_exchanged(image: Image) -> None:
    """The records of /direct and /single have changed places."""
    first, second = (image.inode_at(image.find(path)) for path in ("/direct", "/single"))
    records = bytes(image.data[first : first + INODE]), bytes(image.data[second : second + INODE])
    image.put(second, records[0])
    image.put(first, records[1])


@case()
def inode_never_used_flipped(image: Image) -> None:
    """A bit of an inode that was never used is flipped."""
    image.flip(image.inode_at(50) + 21, 2)


@case()
def inode_table_block_zeroed(image: Image) -> None:
    """A block of the inode table is zeroes, with the inodes of /direct and /empty."""
    at = image.inode_at(image.find("/empty")) // 512 * 512
    image.put(at, bytes(512))


@case()
def inode_table_block_noise(image: Image) -> None:
    """A block of the inode table is random bytes, with the inodes of /direct and /empty."""
    at = image.inode_at(image.find("/empty")) // 512 * 512
    image.put(at, noise("table", 512))


@case()
def inode_of_directory_zeroed(image: Image) -> None:
    """The inode of /dir is zeroes; what is in the directory has lost its way to the root."""
    image.put(image.inode_at(image.find("/dir")), bytes(INODE))


@case()
def inode_mode_impossible(image: Image) -> None:
    """The type of /direct is 3, which is none."""
    image.put_inode(image.find("/direct"), mode=0o030644)


@case()
def inode_mode_high_bits(image: Image) -> None:
    """The mode of /direct has bits above those of types and permissions."""
    image.put_inode(image.find("/direct"), mode=0xBAD0000 | 0o100644)


@case()
def inode_size_huge(image: Image) -> None:
    """/direct has 2^63 bytes, more than any pointer reaches."""
    image.put_inode(image.find("/direct"), size=2**63)


@case()
def inode_size_short(image: Image) -> None:
    """/direct has 600 bytes, but pointers for 5 blocks."""
    image.put_inode(image.find("/direct"), size=600)


@case()
def inode_blocks_too_many(image: Image) -> None:
    """/direct counts 9 blocks and has 5."""
    image.put_inode(image.find("/direct"), blocks=9)


@case()
def inode_blocks_too_few(image: Image) -> None:
    """/double counts 2 blocks and has 154."""
    image.put_inode(image.find("/double"), blocks=2)


@case()
def inode_blocks_impossible(image: Image) -> None:
    """/direct counts 2^64 - 1 blocks."""
    image.put_inode(image.find("/direct"), blocks=2**64 - 1)


@case()
def inode_flags(image: Image) -> None:
    """/direct has flags, and none are defined."""
    image.put_inode(image.find("/direct"), flags=0x10)


@case()
def inode_device_of_file(image: Image) -> None:
    """A regular file has a device number."""
    image.put_inode(image.find("/direct"), device=0x103)


@case()
def inode_inline_of_file(image: Image) -> None:
    """The inline area of a regular file, which belongs to symbolic links, is not zeroes."""
    image.put_inode(image.find("/direct"), inline=b"leftover")


@case()
def inode_fifo_with_blocks(image: Image) -> None:
    """A fifo has a size and a block."""
    block = image.free_block()
    image.put_data_bit(block, 1)
    image.put_inode(image.find("/fifo"), size=512, blocks=1, direct0=block)
    image.put_superblock(free_block_count=image.superblock("free_block_count") - 1)


@case()
def inode_never_used_but_allocated(image: Image) -> None:
    """Three inodes in a row have the bit 1 and are all zeroes."""
    for _ in range(3):
        image.put_inode_bit(image.free_ino(4), 1)


@case()
def inode_reserved_in_use(image: Image) -> None:
    """Inodes 0 and 1, which belong to nobody, hold copies of /hello."""
    at = image.inode_at(image.find("/hello"))
    for ino in (0, 1):
        image.put(image.inode_at(ino), bytes(image.data[at : at + INODE]))
        image.seal(ino)


@case()
def inode_free_with_links(image: Image) -> None:
    """A file that was removed has a link count again: bit 0, no name, no block of its own."""
    ino = image.free_ino(4)
    image.put_inode(ino, mode=0o100600, nlink=1, size=0)


@case()
def root_zeroed(image: Image) -> None:
    """The inode of the root directory is zeroes."""
    image.put(image.inode_at(2), bytes(INODE))


@case()
def root_is_a_file(image: Image) -> None:
    """The root is a regular file."""
    image.put_inode(2, mode=0o100755)


@case()
def root_without_links(image: Image) -> None:
    """The root's link count is 0, as if it was free."""
    image.put_inode(2, nlink=0)


@case()
def root_block_lost(image: Image) -> None:
    """The root's only pointer is 0."""
    image.put_inode(2, direct0=0)


# -- symbolic links ----------------------------------------------------------------


@case()
def symlink_without_target(image: Image) -> None:
    """A symbolic link with an empty target."""
    image.put_inode(image.find("/short"), size=0, inline=b"")


@case()
def symlink_too_long(image: Image) -> None:
    """A symbolic link of 1 MiB, with one block."""
    image.put_inode(image.find("/long"), size=2**20)


@case()
def symlink_padding(image: Image) -> None:
    """Behind the target of a short symbolic link there are bytes, not zeroes."""
    image.put_inode(image.find("/short"), inline=b"hello" + b"x" * 20)


@case()
def symlink_with_nul(image: Image) -> None:
    """The target of a symbolic link has a NUL in it."""
    image.put_inode(image.find("/short"), inline=b"he\0lo")


@case()
def symlink_hole(image: Image) -> None:
    """A long symbolic link has a hole where its target should be."""
    ino = image.find("/long")
    image.put_data_bit(image.get(ino, "direct0"), 0)
    image.put_inode(ino, direct0=0, blocks=0)
    image.put_superblock(free_block_count=image.superblock("free_block_count") + 1)


# -- pointers ------------------------------------------------------------------------


@case()
def pointer_out_of_the_image(image: Image) -> None:
    """/direct points to block 100000; there are 512."""
    image.put_inode(image.find("/direct"), direct2=100000)


@case()
def pointer_into_inode_table(image: Image) -> None:
    """/direct points to a block of the inode table: writing the file would destroy inodes."""
    image.put_inode(image.find("/direct"), direct2=image.table + 1)


@case()
def pointer_past_the_end_of_the_file(image: Image) -> None:
    """/direct has a block behind its end."""
    block = image.free_block()
    image.put_data_bit(block, 1)
    image.put_inode(image.find("/direct"), direct9=block, blocks=6)
    image.put_superblock(free_block_count=image.superblock("free_block_count") - 1)


@case()
def pointer_to_indirect_out_of_the_image(image: Image) -> None:
    """The single indirect pointer of /single leads out of the image."""
    image.put_inode(image.find("/single"), single=image.block_count)


@case()
def indirect_noise(image: Image) -> None:
    """The indirect block of /single is random bytes."""
    block = image.get(image.find("/single"), "single")
    image.put_block(block, noise("indirect", 512))


@case()
def indirect_zeroed(image: Image) -> None:
    """The indirect block of /single is zeroes: eight blocks of the file are lost."""
    image.put_block(image.get(image.find("/single"), "single"), bytes(512))


@case()
def indirect_points_to_itself(image: Image) -> None:
    """An entry of the single indirect block of /single leads to that block."""
    block = image.get(image.find("/single"), "single")
    image.put_word(image.at(block, 2 * 4), block)


@case()
def indirect_points_to_all_of_itself(image: Image) -> None:
    """Every entry of the triple indirect block of /sparse leads to that block."""
    block = image.get(image.find("/sparse"), "triple")
    image.put_block(block, struct.pack("<I", block) * 128)


@case()
def indirect_loop(image: Image) -> None:
    """The lowest indirect block of /double leads back to the double indirect one."""
    double = image.get(image.find("/double"), "double")
    below = image.word(image.at(double))
    image.put_word(image.at(below, 3 * 4), double)


@case()
def indirect_data_as_pointers(image: Image) -> None:
    """The single indirect pointer of /single leads to the first block of its text."""
    ino = image.find("/single")
    image.put_inode(ino, single=image.get(ino, "direct0"))


@case()
def indirect_level_exchanged(image: Image) -> None:
    """The single and the double indirect pointer of /double have changed places."""
    ino = image.find("/double")
    image.put_inode(ino, single=image.get(ino, "double"), double=image.get(ino, "single"))


# -- attributes ----------------------------------------------------------------------


@case()
def attributes_checksum(image: Image) -> None:
    """A bit of an attribute's value is flipped, so the block's checksum does not fit."""
    image.flip(image.at(image.get(image.find("/described"), "attribute"), 40), 2)


@case()
def attributes_of_another(image: Image) -> None:
    """The attribute block of /described says that it is that of /single."""
    _put_attributes(image, ino=image.find("/single"))


@case()
def attributes_not_there(image: Image) -> None:
    """The attribute pointer of /direct leads to a block of zeroes."""
    block = image.free_block()
    image.put_data_bit(block, 1)
    image.put_inode(image.find("/direct"), attribute=block, blocks=6)
    image.put_superblock(free_block_count=image.superblock("free_block_count") - 1)


@case()
def attributes_size(image: Image) -> None:
    """The attribute block of /described says that more bytes are in use than it has."""
    _put_attributes(image, size=5000)


@case()
def attributes_pointer(image: Image) -> None:
    """The attribute pointer of /described leads to block 3, in the inode table."""
    image.put_inode(image.find("/described"), attribute=3)


@case()
def attributes_shared(image: Image) -> None:
    """/direct points to the attribute block of /described."""
    block = image.get(image.find("/described"), "attribute")
    image.put_inode(image.find("/direct"), attribute=block, blocks=6)


def _put_attributes(image: Image, *, ino: int | None = None, size: int | None = None) -> None:
    """Change the head of the attribute block of /described, and its checksum."""
    at = image.at(image.get(image.find("/described"), "attribute"))
    if ino is not None:
        image.put_word(at + 4, ino)
    if size is not None:
        image.put_word(at + 8, size)
    image.put_word(at + 12, 0)
    image.put_word(at + 12, zlib.crc32(image.data[at : at + min(image.word(at + 8), 512)]))


# -- shared blocks ---------------------------------------------------------------------


@case()
def shared_by_two_files(image: Image) -> None:
    """/direct and /single both claim the same block."""
    block = image.get(image.find("/single"), "direct3")
    old = image.get(image.find("/direct"), "direct1")
    image.put_inode(image.find("/direct"), direct1=block)
    image.put_data_bit(old, 0)
    image.put_superblock(free_block_count=image.superblock("free_block_count") + 1)


@case("full")
def shared_on_a_full_disk(image: Image) -> None:
    """/direct and /single both claim the same block, and there is no free one for a copy."""
    block = image.get(image.find("/single"), "direct3")
    image.put_inode(image.find("/direct"), direct5=block, size=6 * 512, blocks=6)


@case()
def shared_within_a_file(image: Image) -> None:
    """Two pointers of /direct lead to the same block."""
    ino = image.find("/direct")
    old = image.get(ino, "direct1")
    image.put_inode(ino, direct1=image.get(ino, "direct0"))
    image.put_data_bit(old, 0)
    image.put_superblock(free_block_count=image.superblock("free_block_count") + 1)


@case()
def shared_by_file_and_directory(image: Image) -> None:
    """/direct claims the block of directory /dir."""
    image.put_inode(image.find("/direct"), direct1=image.get(image.find("/dir"), "direct0"))


@case()
def shared_by_directories(image: Image) -> None:
    """/leaf and /dir/sub claim the same block, so /leaf is full of what is not its own."""
    image.put_inode(image.find("/leaf"), direct0=image.get(image.find("/dir/sub"), "direct0"))


@case()
def shared_indirect(image: Image) -> None:
    """/single and /double claim the same single indirect block, and all below it."""
    image.put_inode(image.find("/single"), single=image.get(image.find("/double"), "single"))


@case()
def shared_data_and_indirect(image: Image) -> None:
    """/direct claims the indirect block of /single as data."""
    image.put_inode(image.find("/direct"), direct1=image.get(image.find("/single"), "single"))


@case()
def shared_by_many(image: Image) -> None:
    """Six files have the same first block."""
    block = image.get(image.find("/hello"), "direct0")
    for path in ("/direct", "/single", "/double", "/sparse", "/dir/file"):
        image.put_inode(image.find(path), direct0=block)
