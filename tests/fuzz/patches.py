"""An input of the fuzzer: a few changes to a small sound image.

A fuzzer that makes whole images spends its life on the superblock's checksum.
So an input is

====  ======================================================================
byte
0     bit 0: checksums are made right again after the changes; bit 1: the image
      is read through the library, vsfs-inspect and mkfs, too
then  changes, each: where it is (two bytes, little-endian, modulo the size of
      the image), how many bytes (one byte, up to 31), and those bytes
====  ======================================================================

An input that ends within a change is one that has fewer bytes there.
"""

from __future__ import annotations

import functools
import struct
import zlib
from typing import Final

from tests.support.broken import unpacked
from tests.support.damage import INODE, Image
from tests.support.examine import Subject, examine
from tests.support.mutation import Mutant
from tests.support.readers import CountingDevice, described, read_all, refused_by_mkfs, tried, use

SEAL: Final = 1
READ: Final = 2
_LONGEST: Final = 31


@functools.cache
def subject() -> Subject:
    """The image that all inputs change."""
    return Subject(unpacked("base-small"))


def changes(data: bytes) -> list[tuple[int, bytes]]:
    """The changes that an input asks for: where, and the bytes."""
    found, at = [], 1
    while at + 3 < len(data):
        (where,) = struct.unpack_from("<H", data, at)
        size = data[at + 2] & _LONGEST
        found.append((where, data[at + 3 : at + 3 + size]))
        at += 3 + size
    return found


def encoded(flags: int, wanted: list[tuple[int, bytes]]) -> bytes:
    """The input that asks for these changes."""
    parts = [bytes((flags,))]
    for where, content in wanted:
        for start in range(0, len(content), _LONGEST):
            part = content[start : start + _LONGEST]
            parts.append(struct.pack("<HB", where + start, len(part)) + part)
    return b"".join(parts)


def decoded(data: bytes) -> Mutant:
    """The image that an input means."""
    image = subject().image.copy()
    flags = data[0] if data else 0
    wanted = changes(data)
    touched: set[int] = set()
    for where, content in wanted:
        start = where % len(image.data)
        image.put(start, content)
        touched.update(range(start, start + len(content)))
    if flags & SEAL:
        seal(image, touched)
    recipe = tuple(f"{len(content)} bytes at {where}" for where, content in wanted)
    return Mutant(bytes(image.data), ("fuzzed",) * len(wanted), recipe)


def seal(image: Image, touched: set[int]) -> None:
    """Make the checksums right of what was touched: superblock, inodes, attributes."""
    if any(at < 512 for at in touched):
        image.seal_superblock()
    table = image.inode_at(0)
    inos = {(at - table) // INODE for at in touched}
    for ino in inos & set(range(2, image.inode_count)):
        image.seal(ino)
    for owned in subject().owned.values():
        for block in owned.attribute:
            start = image.at(block)
            if touched & set(range(start, start + image.block_size)):
                size = min(image.word(start + 8), image.block_size)
                image.put_word(start + 12, 0)
                image.put_word(start + 12, zlib.crc32(image.data[start : start + size]))


def run_one(data: bytes) -> None:
    """Everything with one input; raises where something is not as promised."""
    broken = decoded(data)
    if data and data[0] & READ:
        for reader in (read_all, described, use, refused_by_mkfs):
            device = CountingDevice(broken.data)
            tried(reader, device)
            assert device.largest <= 2 * max(len(broken.data), 2**20)
    else:
        examine(subject(), broken)
