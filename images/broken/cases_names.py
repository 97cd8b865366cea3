"""Directory records, the tree they form, and its link counts."""

from __future__ import annotations

from registry import case, noise

from tests.support.damage import Image

FILE, DIRECTORY = 1, 2  # type codes of directory records


@case()
def record_length_zero(image: Image) -> None:
    """A record in /dir has length 0: a reader that trusts it never ends."""
    image.put_record(image.entry("/dir/file"), length=0)


@case()
def record_length_odd(image: Image) -> None:
    """A record in /dir has a length that is no multiple of 4."""
    image.put_record(image.entry("/dir/file"), length=18)


@case()
def record_length_over_the_sector(image: Image) -> None:
    """A record in /dir reaches over the end of its sector."""
    image.put_record(image.entry("/dir/file"), length=1024)


@case()
def record_length_short(image: Image) -> None:
    """A record is shorter than its name."""
    image.put_record(image.entry("/described"), length=12)


@case()
def record_name_empty(image: Image) -> None:
    """A record in /dir has a name of 0 bytes."""
    image.put_record(image.entry("/dir/file"), name_length=0)


@case()
def record_name_with_slash(image: Image) -> None:
    """A name has a slash in it, so that no path reaches it."""
    image.put_record(image.entry("/dir/file"), name=b"f/le")


@case()
def record_name_with_nul(image: Image) -> None:
    """A name has a NUL in it."""
    image.put_record(image.entry("/dir/file"), name=b"fi\0e")


@case()
def record_name_to_fool_a_terminal(image: Image) -> None:
    """A name has a line feed and an escape sequence in it, which is allowed; 5 links are not."""
    image.put_inode(image.find("/described"), nlink=5)
    image.put_record(image.entry("/described"), name=b"a\n\x1b[2Jbbb")


@case()
def record_name_longer_than_record(image: Image) -> None:
    """A record in /dir says that its name has 255 bytes."""
    image.put_record(image.entry("/dir/hard"), name_length=255)


@case()
def record_type_wrong(image: Image) -> None:
    """The record of /hello says that it is a fifo."""
    image.put_record(image.entry("/hello"), file_type=5)


@case()
def record_type_impossible(image: Image) -> None:
    """The record of /hello has a type that is none."""
    image.put_record(image.entry("/hello"), file_type=200)


@case()
def record_inode_impossible(image: Image) -> None:
    """A name in /dir stands for inode 999999."""
    image.put_record(image.entry("/dir/file"), ino=999999)


@case()
def record_inode_reserved(image: Image) -> None:
    """A name in /dir stands for inode 1, which is reserved."""
    image.put_record(image.entry("/dir/file"), ino=1)


@case()
def record_inode_another(image: Image) -> None:
    """/dir/file stands for the inode of /single; its own has no name left."""
    image.put_record(image.entry("/dir/file"), ino=image.find("/single"))


@case()
def directory_sector_zeroed(image: Image) -> None:
    """The only sector of /dir/sub/deep is zeroes: `.`, `..` and a file's name are gone."""
    image.put_block(image.get(image.find("/dir/sub/deep"), "direct0"), bytes(512))


@case()
def directory_sector_noise(image: Image) -> None:
    """The only sector of /dir is random bytes."""
    block = image.get(image.find("/dir"), "direct0")
    image.put_block(block, noise("directory", 512))


@case()
def directory_middle_block_noise(image: Image) -> None:
    """One of the blocks of /names is random bytes; the names in the others are well."""
    block = image.get(image.find("/names"), "direct5")
    image.put_block(block, noise("names", 512))


@case("book")
def directory_second_sector_noise(image: Image) -> None:
    """A sector of /foo that has no names in it is random bytes; the first one is well."""
    block = image.get(image.find("/foo"), "direct0")
    image.put_block(block, noise("sector", 512), 1024)


@case()
def dot_missing(image: Image) -> None:
    """/dir has no `.`: the record is free."""
    image.put_record(image.entry("/dir/."), ino=0)


@case()
def dot_wrong(image: Image) -> None:
    """`.` of /dir names /leaf."""
    image.put_record(image.entry("/dir/."), ino=image.find("/leaf"))


@case()
def dot_renamed(image: Image) -> None:
    """`.` of /dir is called `x`."""
    image.put_record(image.entry("/dir/."), name=b"x")


@case()
def dotdot_missing(image: Image) -> None:
    """/leaf has no `..`: its record has become part of `.`."""
    image.put_record(image.entry("/leaf/."), length=512)


@case()
def dotdot_of_root(image: Image) -> None:
    """`..` of the root names /dir."""
    image.put_record(image.entry("/.."), ino=image.find("/dir"))


@case()
def dotdot_to_a_file(image: Image) -> None:
    """`..` of /dir/sub names a regular file."""
    image.put_record(image.entry("/dir/sub/.."), ino=image.find("/hello"))


@case()
def dot_twice(image: Image) -> None:
    """/dir has a second `.`, which names /leaf."""
    image.insert(image.find("/dir"), b".", image.find("/leaf"), DIRECTORY)


@case()
def names_clash_one_inode(image: Image) -> None:
    """/hello stands twice in the root, both times for the same inode."""
    image.put_record(image.entry("/hard"), name=b"hello"[:4])
    image.insert(2, b"hell", image.find("/hello"), FILE)


@case()
def directory_size_odd(image: Image) -> None:
    """The size of /dir is no multiple of the block size."""
    image.put_inode(image.find("/dir"), size=700)


@case()
def directory_size_zero(image: Image) -> None:
    """The size of /dir is 0, but it has a block with names."""
    image.put_inode(image.find("/dir"), size=0)


@case()
def directory_size_too_long(image: Image) -> None:
    """The size of /dir is three blocks, but it has one."""
    image.put_inode(image.find("/dir"), size=3 * 512)


@case()
def directory_hole(image: Image) -> None:
    """/names has a hole where its fourth block was; the names there are lost."""
    ino = image.find("/names")
    image.put_data_bit(image.get(ino, "direct3"), 0)
    image.put_inode(ino, direct3=0, blocks=image.get(ino, "blocks") - 1)
    image.put_superblock(free_block_count=image.superblock("free_block_count") + 1)


# -- the tree ------------------------------------------------------------------------


@case()
def directory_with_two_parents(image: Image) -> None:
    """/dir/sub has a second name in /leaf; its `..` says /dir."""
    image.insert(image.find("/leaf"), b"second", image.find("/dir/sub"), DIRECTORY)


@case()
def directory_with_two_names(image: Image) -> None:
    """/leaf has two names in the root, so `..` cannot tell which one is right."""
    image.insert(2, b"twin", image.find("/leaf"), DIRECTORY)


@case()
def directory_cycle(image: Image) -> None:
    """/dir has moved into its own subdirectory: nothing leads there from the root."""
    directory, deep = image.find("/dir"), image.find("/dir/sub/deep")
    image.insert(deep, b"up", directory, DIRECTORY)
    image.put_record(image.entry("/dir/.."), ino=deep)
    image.put_inode(deep, nlink=3)
    image.remove("/dir")
    image.put_inode(2, nlink=image.get(2, "nlink") - 1)


@case()
def directory_names_its_parent(image: Image) -> None:
    """An entry in /dir/sub/deep leads back up to /dir."""
    image.insert(image.find("/dir/sub/deep"), b"up", image.find("/dir"), DIRECTORY)


@case()
def directory_names_the_root(image: Image) -> None:
    """An entry in /dir names the root directory."""
    image.insert(image.find("/dir"), b"root", 2, DIRECTORY)


@case()
def directory_names_itself(image: Image) -> None:
    """An entry in /dir names /dir."""
    image.insert(image.find("/dir"), b"me", image.find("/dir"), DIRECTORY)


@case()
def unconnected_directory(image: Image) -> None:
    """Nothing names /dir any more; all that is below it hangs in the air."""
    image.remove("/dir")


@case()
def unconnected_files(image: Image) -> None:
    """A fifo, a symbolic link, a device and an empty file have lost their names."""
    for path in ("/fifo", "/short", "/null", "/empty"):
        image.remove(path)


@case()
def unconnected_and_lost_found_taken(image: Image) -> None:
    """A file has lost its name, and /lost+found, where it would go, is a file, too."""
    image.insert(2, b"lost+found", image.find("/empty"), FILE)
    image.remove("/empty")
    image.remove("/single")


@case("full")
def unconnected_on_a_full_disk(image: Image) -> None:
    """A file has lost its name, and there is no block for a directory /lost+found."""
    image.remove("/single")


# -- links ---------------------------------------------------------------------------


@case()
def links_of_many(image: Image) -> None:
    """Every link count is 1."""
    for ino in image.inodes():
        image.put_inode(ino, nlink=1)


@case()
def links_huge(image: Image) -> None:
    """The link count of /hello is 2^32 - 1."""
    image.put_inode(image.find("/hello"), nlink=2**32 - 1)


# -- accidents -----------------------------------------------------------------------


@case()
def accident_first_blocks_overwritten(image: Image) -> None:
    """The first 2 KiB are zeroes: superblock, both bitmaps, inodes 0 and 1."""
    image.put(0, bytes(2048))


@case()
def accident_disk_of_text(image: Image) -> None:
    """Somebody wrote a text over blocks 30 to 60 of the image."""
    image.put_block(30, (b"to whom it may concern: " * 800)[: 30 * 512])


@case()
def accident_one_bit_in_each_block(image: Image) -> None:
    """A bit is flipped in each block of the image."""
    for block, chance in enumerate(noise("bits", image.block_count)):
        image.flip(image.at(block, chance * 2 % image.block_size), chance % 8)
