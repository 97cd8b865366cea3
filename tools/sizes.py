"""Sizes as people write and read them: 256K, 1M, 1G."""

from __future__ import annotations

import argparse
from typing import Final

_UNITS: Final = ("", "K", "M", "G", "T")


def parse_size(text: str) -> int:
    """Bytes; K, M, G and T are powers of 1024.  Raises ValueError with a sentence.

    >>> parse_size("256K"), parse_size("1m"), parse_size("512")
    (262144, 1048576, 512)
    """
    number = text.upper().removesuffix("IB").removesuffix("B")
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number.removesuffix(unit) if unit else number
    if unit not in _UNITS or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is no size; write it as 262144, 256K, 1M or 1G")
    return int(digits) << 10 * _UNITS.index(unit)


def show_size(size: int) -> str:
    """The shortest exact form.

    >>> show_size(262144), show_size(2**40), show_size(1000)
    ('256 KiB', '1 TiB', '1000 bytes')
    """
    for power in range(len(_UNITS) - 1, 0, -1):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power} {_UNITS[power]}iB"
    return f"{size} bytes"


def journal_size(text: str) -> int:
    """The argument of ``-J blocks=COUNT``, as mke2fs has ``-J size=``, in blocks.

    Raises ArgumentTypeError with a sentence.

    >>> journal_size("blocks=64")
    64
    """
    name, _, number = text.partition("=")
    if name != "blocks" or not (number.isascii() and number.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size of a journal; write it as blocks=64")
    return int(number)
