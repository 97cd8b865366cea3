"""What a CRC-32 knows beyond "something is wrong": which byte, if it is only one.

A CRC is linear: the difference between the checksum that was stored and the one
that the bytes have depends only on what was changed, not on the bytes.  Damage
within one byte of a sector has one of about 130,000 differences out of 2^32, so
it can be recognized and taken back (as ECC memory does), and a match by chance is
one in 30,000.
"""

from __future__ import annotations

import functools
import zlib
from typing import Final, NamedTuple

_POLYNOMIAL: Final = 0xEDB88320  # zlib's, reflected


class _Tables(NamedTuple):
    """For one step of the CRC over a byte."""

    step: tuple[int, ...]  # byte -> difference in the register behind it
    byte_of: dict[int, int]  # the inverse
    byte_of_top: tuple[int, ...]  # top eight bits of the difference -> byte


@functools.cache
def _tables() -> _Tables:
    step = []
    for byte in range(256):
        register = byte
        for _ in range(8):
            register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
        step.append(register)
    tops = {register >> 24: byte for byte, register in enumerate(step)}
    byte_of = {register: byte for byte, register in enumerate(step)}
    return _Tables(tuple(step), byte_of, tuple(tops[top] for top in range(256)))


def find_wrong_byte(data: bytes, checksum: int) -> tuple[int, int] | None:
    """The one byte of `data` that, changed, would give it this CRC-32.

    As (index, xor): what to xor into it.  None if no single byte does, or if the
    checksum is right.

    >>> find_wrong_byte(b"VSFX", zlib.crc32(b"VSFS"))
    (3, 11)
    """
    difference = zlib.crc32(data) ^ checksum
    if not difference:
        return None
    byte_of = _tables().byte_of
    for index in range(len(data) - 1, -1, -1):
        if difference in byte_of:
            return index, byte_of[difference]
        difference = _back(difference)
    return None


def find_first_word(data: bytes, checksum: int) -> int:
    """The one number of 32 bits, little-endian, with which as its start `data` has this CRC-32.

    There always is one: four bytes of data and the register's four determine each
    other.

    >>> find_first_word(b"....SFS!", zlib.crc32(b"VSFSSFS!")).to_bytes(4, "little")
    b'VSFS'
    """
    difference = zlib.crc32(data) ^ checksum
    for _ in data:
        difference = _back(difference)
    return int.from_bytes(data[:4], "little") ^ difference


def _back(difference: int) -> int:
    """A difference in the register as it was one byte before, a byte that is the same."""
    step, _, byte_of_top = _tables()
    low = byte_of_top[difference >> 24]
    # undo `register = step[low byte] ^ register >> 8`
    return (difference ^ step[low]) << 8 | low
