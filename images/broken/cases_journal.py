"""The journal: a crash that leaves a transaction in it, and its own damage."""

from __future__ import annotations

import stat

from registry import case

from tests.support.damage import Image

FILE = 1  # type code of directory records


def _changed(image: Image) -> Image:
    """The image after /long was removed and /dir/hard became /moved."""
    after = image.copy()
    long = image.find("/long")
    after.put_data_bit(image.get(long, "direct0"), 0)
    after.put_inode(long, mode=0, nlink=0, size=0, blocks=0, direct0=0)
    after.put_inode_bit(long, 0)
    after.remove("/long")
    after.insert(2, b"moved", image.find("/dir/hard"), FILE)
    after.remove("/dir/hard")
    after.put_superblock(
        free_block_count=image.superblock("free_block_count") + 1,
        free_inode_count=image.superblock("free_inode_count") + 1,
    )
    return after


@case("journal", "crash")
def crash_transaction_waits(image: Image) -> None:
    """A transaction was committed, and the crash came before any of it was installed."""
    image.commit(_changed(image))


@case("journal", "crash")
def crash_transaction_half_installed(image: Image) -> None:
    """The crash came when every other block of a committed transaction was installed."""
    after = _changed(image)
    image.commit(after)
    for number in image.journal_numbers(image.journal())[::2]:
        image.put_block(number, after.block(number))


@case("journal", "crash")
def crash_transaction_torn(image: Image) -> None:
    """The crash came while a transaction was written to the journal: part of its log is missing."""
    image.commit(_changed(image))
    image.put_block(image.journal()[2], bytes(image.block_size))


@case("journal")
def journal_header_zeroed(image: Image) -> None:
    """The journal's header is all zeroes."""
    image.put_block(image.journal()[0], bytes(image.block_size))


@case("journal")
def journal_header_too_many_blocks(image: Image) -> None:
    """The journal's header names more blocks than its log has."""
    image.put_word(image.at(image.journal()[0], 4), 100)


@case("journal")
def journal_names_itself(image: Image) -> None:
    """A transaction, its checksum right, would be installed over the journal's header."""
    image.commit(_changed(image))
    journal = image.journal()
    image.put_word(image.at(journal[0], 20 + 4), journal[0])
    image.seal_journal(journal)


@case("journal")
def journal_not_there(image: Image) -> None:
    """The superblock says that there is a journal, but inode 1 is all zeroes."""
    image.put(image.inode_at(1), bytes(256))


@case("journal")
def journal_is_a_directory(image: Image) -> None:
    """Inode 1, the journal, has the mode of a directory."""
    image.put_inode(1, mode=stat.S_IFDIR | 0o600)


@case("journal")
def journal_is_another_file(image: Image) -> None:
    """Inode 1, the journal, is a copy of the inode of /single: its blocks are those."""
    at = image.inode_at(image.find("/single"))
    image.put(image.inode_at(1), bytes(image.data[at : at + 256]))
    image.seal(1)


@case("journal")
def journal_pointer_out_of_the_image(image: Image) -> None:
    """The journal's fifth block is one that the image does not have."""
    image.put_inode(1, direct4=image.block_count + 7)


@case("journal")
def journal_shared_with_a_file(image: Image) -> None:
    """A block of /single is one of the journal's."""
    image.put_inode(image.find("/single"), direct3=image.journal()[5])


@case("journal")
def journal_flag_of_a_clean_image(image: Image) -> None:
    """The superblock says both: cleanly unmounted, and that the journal is to be replayed."""
    image.put_superblock(feature_incompat=1)


@case()
def journal_flag_without_a_journal(image: Image) -> None:
    """The superblock says that a journal is to be replayed; there is none."""
    image.put_superblock(feature_incompat=1)
