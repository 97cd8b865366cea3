"""Superblock, size of the image, and bitmaps."""

from __future__ import annotations

from registry import case, noise

from tests.support.damage import Image


@case()
def superblock_zeroed(image: Image) -> None:
    """Block 0 is all zeroes."""
    image.put_block(0, bytes(512))


@case("book")
def superblock_zeroed_book(image: Image) -> None:
    """Block 0 is all zeroes, in an image of the default size and block size."""
    image.put_block(0, bytes(4096))


@case()
def superblock_noise(image: Image) -> None:
    """Block 0 is random bytes."""
    image.put_block(0, noise("superblock", 512))


@case()
def superblock_magic(image: Image) -> None:
    """The magic has a flipped bit, all else is right."""
    image.flip(2, 4)


@case()
def superblock_checksum(image: Image) -> None:
    """A bit of the label is flipped, so the checksum does not fit."""
    image.flip(90, 1)


@case()
def superblock_version(image: Image) -> None:
    """A bit of the version is flipped, so the checksum does not fit."""
    image.flip(4, 1)


@case()
def superblock_features(image: Image) -> None:
    """A bit of feature_incompat is flipped, so the checksum does not fit."""
    image.flip(12, 6)


@case()
def superblock_checksum_of_much(image: Image) -> None:
    """Five bytes of the label are others, so the checksum does not fit."""
    image.put_superblock(seal=False, label=b"other")


@case()
def superblock_checksum_of_geometry(image: Image) -> None:
    """A bit of block_count is flipped, so the checksum does not fit."""
    image.flip(24, 5)


@case()
def superblock_block_size(image: Image) -> None:
    """block_size is 1024 instead of 512, with a checksum to match."""
    image.put_superblock(block_size=1024)


@case()
def superblock_block_size_impossible(image: Image) -> None:
    """block_size is 513, with a checksum to match."""
    image.put_superblock(block_size=513)


@case()
def superblock_block_count_huge(image: Image) -> None:
    """block_count is 2^32, with a checksum to match; the image has 512 blocks."""
    image.put_superblock(block_count=2**32)


@case()
def superblock_inode_count_huge(image: Image) -> None:
    """inode_count is 2^32 - 1, with a checksum to match."""
    image.put_superblock(inode_count=2**32 - 1)


@case()
def superblock_inode_table_moved(image: Image) -> None:
    """inode_table_start is one block too far, with a checksum to match."""
    image.put_superblock(inode_table_start=image.table + 1)


@case()
def superblock_data_start_low(image: Image) -> None:
    """data_start lies within the inode table, with a checksum to match."""
    image.put_superblock(data_start=image.data_start - 10)


@case()
def superblock_bitmaps_overlap(image: Image) -> None:
    """Both bitmaps start in block 1, with a checksum to match."""
    image.put_superblock(data_bitmap_start=1)


@case()
def superblock_inode_size(image: Image) -> None:
    """inode_size is 128, with a checksum to match."""
    image.put_superblock(inode_size=128)


@case()
def superblock_free_counts(image: Image) -> None:
    """The superblock counts one free block too many and one free inode too few."""
    image.put_superblock(
        free_block_count=image.superblock("free_block_count") + 1,
        free_inode_count=image.superblock("free_inode_count") - 1,
    )


@case()
def superblock_free_counts_impossible(image: Image) -> None:
    """More blocks and inodes are free than there are."""
    image.put_superblock(free_block_count=2**64 - 1, free_inode_count=2**32 - 1)


@case()
def superblock_state(image: Image) -> None:
    """The state is 77: neither clean nor mounted."""
    image.put_superblock(state=77)


@case("book")
def image_truncated_behind_the_last_file(image: Image) -> None:
    """The image file lost its last 100 KiB; no block there was in use."""
    del image.data[-100 * 1024 :]


@case()
def image_truncated(image: Image) -> None:
    """The image file lost its second half, and with it blocks of files and a directory."""
    del image.data[119 * 1024 :]


@case("book")
def image_truncated_within_a_block(image: Image) -> None:
    """The image file lost 1000 bytes, so its last block is not whole."""
    del image.data[-1000:]


# -- bitmaps -----------------------------------------------------------------------


@case()
def inode_bitmap_wiped(image: Image) -> None:
    """The inode bitmap is all zeroes."""
    image.put_block(image.inode_bitmap, bytes(512))


@case()
def inode_bitmap_full(image: Image) -> None:
    """The inode bitmap is all ones."""
    image.put_block(image.inode_bitmap, b"\xff" * 512)


@case()
def inode_bitmap_reserved(image: Image) -> None:
    """The bits of inodes 0, 1 and 2 are 0."""
    for ino in range(3):
        image.put_inode_bit(ino, 0)


@case()
def inode_bitmap_past_the_end(image: Image) -> None:
    """A bit behind the last inode is 0, as if there was one more inode."""
    image.put_inode_bit(image.inode_count, 0)


@case()
def data_bitmap_wiped(image: Image) -> None:
    """The data bitmap is all zeroes."""
    image.put_block(image.data_bitmap, bytes(512))


@case()
def data_bitmap_full(image: Image) -> None:
    """The data bitmap is all ones: the disk looks full."""
    image.put_block(image.data_bitmap, b"\xff" * 512)


@case()
def data_bitmap_noise(image: Image) -> None:
    """The data bitmap is random bytes."""
    image.put_block(image.data_bitmap, noise("bitmap", 512))


@case()
def data_bitmap_past_the_end(image: Image) -> None:
    """Bits behind the last block are 0."""
    image.put_data_bit(image.block_count, 0)
    image.put_data_bit(image.block_count + 1000, 0)


@case()
def bitmaps_exchanged(image: Image) -> None:
    """Each bitmap stands where the other one should."""
    contents = image.block(image.inode_bitmap), image.block(image.data_bitmap)
    image.put_block(image.inode_bitmap, contents[1])
    image.put_block(image.data_bitmap, contents[0])
