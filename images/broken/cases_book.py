"""OSTEP's homework, what a crash leaves, and what no checker sees."""

from __future__ import annotations

from registry import case

from tests.support.damage import Image

FILE, DIRECTORY = 1, 2  # type codes of directory records

# -- the homework of chapter 42 ------------------------------------------------


@case("book", "homework")
def homework_inode_bitmap_0(image: Image) -> None:
    """The inode of /m is in use, but its bit in the inode bitmap is 0."""
    image.put_inode_bit(image.find("/m"), 0)


@case("book", "homework")
def homework_inode_bitmap_1(image: Image) -> None:
    """A bit of the inode bitmap is 1, but that inode was never used."""
    image.put_inode_bit(image.free_ino(3), 1)


@case("book", "homework")
def homework_data_bitmap_0(image: Image) -> None:
    """The middle block of /foo/bar looks free: its bit in the data bitmap is 0."""
    image.put_data_bit(image.get(image.find("/foo/bar"), "direct1"), 0)


@case("book", "homework")
def homework_data_bitmap_1(image: Image) -> None:
    """A bit of the data bitmap is 1, but no inode owns that block."""
    image.put_data_bit(image.free_block(5), 1)


@case("book", "homework")
def homework_file_links_too_many(image: Image) -> None:
    """/m has two names, but its link count is 3."""
    image.put_inode(image.find("/m"), nlink=3)


@case("book", "homework")
def homework_file_links_too_few(image: Image) -> None:
    """/m has two names, but its link count is 1."""
    image.put_inode(image.find("/m"), nlink=1)


@case("book", "homework")
def homework_directory_links_too_many(image: Image) -> None:
    """/foo has one subdirectory, but a link count of 4."""
    image.put_inode(image.find("/foo"), nlink=4)


@case("book", "homework")
def homework_directory_links_too_few(image: Image) -> None:
    """/foo has one subdirectory, but a link count of 2."""
    image.put_inode(image.find("/foo"), nlink=2)


@case("book", "homework")
def homework_inode_without_entry(image: Image) -> None:
    """A regular file with a block is in use, and no directory names it."""
    image.remove("/foo/dir/file")


@case("book", "homework")
def homework_block_without_inode(image: Image) -> None:
    """/foo/bar points to a block that is free in the data bitmap; its own old block is lost."""
    image.put_inode(image.find("/foo/bar"), direct1=image.free_block(20))


@case("book", "homework")
def homework_file_becomes_directory(image: Image) -> None:
    """The inode of /foo/bar says that it is a directory; its contents are text."""
    image.put_inode(image.find("/foo/bar"), mode=0o040644)


@case("book", "homework")
def homework_directory_becomes_file(image: Image) -> None:
    """The inode of /foo/dir says that it is a regular file; its contents are records."""
    image.put_inode(image.find("/foo/dir"), mode=0o100755)


@case("book", "homework")
def homework_entry_to_free_inode(image: Image) -> None:
    """A name in /foo stands for an inode that was never used."""
    image.put_record(image.entry("/foo/bar"), ino=image.free_ino(10))


@case("book", "homework")
def homework_names_clash(image: Image) -> None:
    """Two files in /foo have the same name."""
    image.put_record(image.entry("/foo/bar"), name=b"dir")


@case("book", "homework")
def homework_dotdot_wrong(image: Image) -> None:
    """`..` of /foo/dir names /empty, not /foo."""
    image.put_record(image.entry("/foo/dir/.."), ino=image.find("/empty"))


# -- what a crash leaves ---------------------------------------------------------


@case("book", "crash")
def crash_not_unmounted(image: Image) -> None:
    """The superblock says that the filesystem is mounted; nothing else is wrong."""
    image.put_superblock(state=2)


@case("book", "crash")
def crash_create_without_entry(image: Image) -> None:
    """A file was being made: its inode is written, its name and its bits are not."""
    ino = image.find("/foo/dir/file")
    image.put_superblock(state=2)
    image.put_data_bit(image.get(ino, "direct0"), 0)
    image.put_inode_bit(ino, 0)
    image.remove("/foo/dir/file")


@case("book", "crash")
def crash_create_empty_without_entry(image: Image) -> None:
    """An empty file was being made: its inode is written, its name is not."""
    ino = image.find("/foo/dir/file")
    image.put_superblock(state=2)
    image.put_data_bit(image.get(ino, "direct0"), 0)
    image.put_inode(ino, size=0, blocks=0, direct0=0)
    image.remove("/foo/dir/file")


@case("book", "crash")
def crash_unlink_before_entry(image: Image) -> None:
    """A file was being removed: its inode has no links left, its name is still there."""
    image.put_superblock(state=2)
    image.put_inode(image.find("/foo/dir/file"), nlink=0)


@case("book", "crash")
def crash_open_orphan(image: Image) -> None:
    """A file was removed while it was open: no name, no links, still allocated."""
    image.put_superblock(state=2)
    image.put_inode(image.find("/foo/dir/file"), nlink=0)
    image.remove("/foo/dir/file")


@case("book", "crash")
def crash_rename_both_names(image: Image) -> None:
    """A file was being moved from /foo/dir to /empty: both names are there, one link."""
    image.put_superblock(state=2)
    image.insert(image.find("/empty"), b"file", image.find("/foo/dir/file"), FILE)


@case("book", "crash")
def crash_rename_directory_both_names(image: Image) -> None:
    """A directory was being moved from /foo to /empty: both names are there, `..` is new."""
    directory, new = image.find("/foo/dir"), image.find("/empty")
    image.put_superblock(state=2)
    image.put_record(image.entry("/foo/dir/.."), ino=new)
    image.put_inode(new, nlink=3)
    image.put_inode(image.find("/foo"), nlink=2)
    image.insert(new, b"dir", directory, DIRECTORY)


@case("book", "crash")
def crash_truncate_before_bitmap(image: Image) -> None:
    """A file was cut: the inode is written, the bits of its old blocks are still 1."""
    ino = image.find("/foo/bar")
    image.put_superblock(state=2)
    image.put_inode(ino, size=0, blocks=0, direct0=0, direct1=0, direct2=0)


@case("tree", "crash")
def crash_truncate_before_indirect(image: Image) -> None:
    """A file was cut to 13 blocks: the inode is new, its indirect block still has them all."""
    image.put_superblock(state=2)
    image.put_inode(image.find("/single"), size=13 * 512, blocks=14)


@case("book", "crash")
def crash_counts_and_bitmaps(image: Image) -> None:
    """The last write of a commit is missing: bitmaps and free counts are those before it."""
    ino = image.find("/foo/bar")
    image.put_superblock(
        state=2,
        free_block_count=image.superblock("free_block_count") + 3,
        free_inode_count=image.superblock("free_inode_count") + 1,
    )
    image.put_inode_bit(ino, 0)
    for name in ("direct0", "direct1", "direct2"):
        image.put_data_bit(image.get(ino, name), 0)


# -- what no checker can see -----------------------------------------------------


@case("book", "unseen")
def unseen_flipped_bit_in_data(image: Image) -> None:
    """A bit of a file's contents is flipped: VSFS keeps no checksums of data."""
    image.flip(image.at(image.get(image.find("/foo/bar"), "direct1"), 100), 3)


@case("book", "unseen")
def unseen_blocks_swapped(image: Image) -> None:
    """Two blocks of two files have changed places."""
    one = image.get(image.find("/foo/bar"), "direct0")
    two = image.get(image.find("/m"), "direct0")
    contents = image.block(one), image.block(two)
    image.put_block(one, contents[1])
    image.put_block(two, contents[0])


@case("book", "unseen")
def unseen_another_name(image: Image) -> None:
    """/foo/bar is called /foo/baz: one legal name is as good as another."""
    image.put_record(image.entry("/foo/bar"), name=b"baz")


@case("book", "unseen")
def unseen_inodes_exchanged(image: Image) -> None:
    """/m and /foo/bar have changed inodes; each still has as many names as links."""
    m, bar = image.find("/m"), image.find("/foo/bar")
    image.put_record(image.entry("/m"), ino=bar)
    image.put_record(image.entry("/foo/bar"), ino=m)


@case("book", "unseen")
def unseen_mtime(image: Image) -> None:
    """A file's modification time is wrong, with a checksum to match."""
    image.put_inode(image.find("/m"), mtime_ns=0)


@case("book", "unseen")
def unseen_permissions(image: Image) -> None:
    """A file is set-user-ID and writable for all, with a checksum to match."""
    image.put_inode(image.find("/m"), mode=0o104777)


@case("book", "unseen")
def unseen_size_within_block(image: Image) -> None:
    """A file ends some bytes early, in the block where it did end."""
    image.put_inode(image.find("/m"), size=9)


@case("tree", "unseen")
def unseen_hole(image: Image) -> None:
    """The last block of /direct has become a hole, and nobody remembers the block."""
    ino = image.find("/direct")
    image.put_data_bit(image.get(ino, "direct4"), 0)
    image.put_inode(ino, direct4=0, blocks=4)
    image.put_superblock(free_block_count=image.superblock("free_block_count") + 1)


@case("tree", "unseen")
def unseen_link_target(image: Image) -> None:
    """A symbolic link leads somewhere else, with a checksum to match."""
    image.put_inode(image.find("/short"), inline=b"empty")


@case("tree", "unseen")
def unseen_slack(image: Image) -> None:
    """The bytes behind the names of a directory, which mean nothing, are noise."""
    at = image.entry("/leaf/..")
    image.put(at + 12, b"\xa5" * (512 - 24))


# -- odd, and allowed ------------------------------------------------------------


@case("book", "sound")
def sound_image_longer(image: Image) -> None:
    """There are bytes behind the last block of the filesystem."""
    image.data += b"not of this filesystem\n" * 40


@case("tree", "sound")
def sound_empty_indirect(image: Image) -> None:
    """/direct has an indirect block without a pointer in it, within its size."""
    ino, block = image.find("/direct"), image.free_block()
    image.put_data_bit(block, 1)
    image.put_block(block, bytes(512))
    image.put_inode(ino, single=block, blocks=6, size=20 * 512)
    image.put_superblock(free_block_count=image.superblock("free_block_count") - 1)


@case("book", "sound")
def sound_old_inode(image: Image) -> None:
    """A free inode still has its last contents, as a removed file leaves them."""
    ino = image.find("/foo/dir/file")
    image.put_data_bit(image.get(ino, "direct0"), 0)
    image.put_inode_bit(ino, 0)
    image.put_inode(ino, nlink=0)
    image.remove("/foo/dir/file")
    image.put_superblock(
        free_block_count=image.superblock("free_block_count") + 1,
        free_inode_count=image.superblock("free_inode_count") + 1,
    )


@case("book", "sound")
def sound_unknown_compatible_feature(image: Image) -> None:
    """A feature that an old program may ignore."""
    image.put_superblock(feature_compat=0x80)


# -- nothing to check ------------------------------------------------------------


@case("book", "refused")
def refused_newer_version(image: Image) -> None:
    """Version 2 of the format."""
    image.put_superblock(version=2)


@case("book", "refused")
def refused_unknown_feature(image: Image) -> None:
    """A feature that a program must know to touch the image."""
    image.put_superblock(feature_incompat=4)


@case("book", "refused")
def refused_unknown_feature_for_writers(image: Image) -> None:
    """A feature that a program must know to write to the image; a repair is a write."""
    image.put_superblock(feature_ro_compat=4)


@case("book", "refused")
def refused_empty(image: Image) -> None:
    """A file without a byte."""
    image.data.clear()


@case("book", "refused")
def refused_zeroes(image: Image) -> None:
    """All zeroes: nothing tells that this was a filesystem."""
    image.data[:] = bytes(len(image.data))
