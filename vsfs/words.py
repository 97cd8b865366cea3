"""Numbers in sentences: how many there are of a thing, and which ones.

Below all layers: whatever makes text for people uses it, so that nobody reads "1 files".
"""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "block"), counted(0, "block"), counted(3, "more entry")
    ('1 block', '0 blocks', '3 more entries')
    """
    return f"{count} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """More than one of a thing.

    >>> plural("inode"), plural("directory")
    ('inodes', 'directories')
    """
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def span(first: int, count: int) -> str:
    """`count` numbers in a row, from `first` on.

    >>> span(5, 1), span(5, 4)
    ('5', '5-8')
    """
    return f"{first}-{first + count - 1}" if count > 1 else str(first)


def numbered(noun: str, first: int, count: int) -> str:
    """Things by their numbers in a row, from `first` on.

    >>> numbered("block", 5, 1), numbered("block", 5, 4), numbered("entry", 0, 2)
    ('block 5', 'blocks 5-8', 'entries 0-1')
    """
    return f"{noun if count == 1 else plural(noun)} {span(first, count)}"
