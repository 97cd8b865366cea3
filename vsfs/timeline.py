"""The timeline: a trace as OSTEP's figures 40.3 and 40.4 draw it.

A :class:`Column` for each structure, or for each block, a :class:`Row` for each
access, time downwards, in a :class:`Group` for each call.  Nothing is drawn here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from vsfs.device import Kind
from vsfs.trace import Event, Part, Totals, Trace, TracedCall, totals_of
from vsfs.words import counted, numbered

#: Pieces of one file that have columns of their own; those of more share one.
MOST_PIECES: Final = 8
#: Blocks that have columns of their own; where there are more, those of one access share one.
MOST_BLOCKS: Final = 64
#: What a column can be: a structure of the disk, or a block.
VIEWS: Final = ("role", "block")

_BITMAPS: Final = {Kind.DATA_BITMAP: "data", Kind.INODE_BITMAP: "inode"}
_OF_FILES: Final = {Kind.DIRECTORY: 0, Kind.DATA: 1, Kind.INDIRECT: 2, Kind.ATTRIBUTE: 3}
_OTHERS: Final = {Kind.SUPERBLOCK: "superblock", Kind.JOURNAL: "journal"}


class Column(NamedTuple):
    """A structure or block: its title in two words, as ("bar", "data[0]")."""

    first: str
    second: str

    @property
    def title(self) -> str:
        """Both words."""
        return f"{self.first} {self.second}".strip()


class Row(NamedTuple):
    """An access: `columns` are the indexes of those that it touches."""

    operation: str
    columns: tuple[int, ...]


class Group(NamedTuple):
    """A call and its accesses; `times` the same call was made without any in a row."""

    call: TracedCall
    rows: tuple[Row, ...]
    times: int = 1


@dataclass(frozen=True, slots=True)
class Timeline:
    """A trace arranged for drawing."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    totals: Totals
    cold_totals: Totals | None
    is_cold: bool
    dropped: int


def timeline_of(trace: Trace, by: str = "role") -> Timeline:
    """Arrange a trace, with a column for each structure, or for each block (:data:`VIEWS`)."""
    naming: _Naming | _Numbering = _Naming(trace.events)
    if by == "block":
        naming = _Numbering(trace.events)
    columns = naming.columns()
    index = {column: at for at, column in enumerate(columns)}
    rows: dict[int, list[Row]] = defaultdict(list)
    for event in trace.events:
        if event.parts:
            touched = {index[column] for part in event.parts for column in naming.touched(part)}
            rows[event.call].append(Row(event.operation, tuple(sorted(touched))))
    groups = (Group(call, tuple(rows[call.number])) for call in trace.calls)
    return Timeline(
        tuple(columns),
        tuple(_joined(groups)),
        totals_of(trace.events),
        trace.cold_totals,
        trace.is_cold,
        trace.dropped,
    )


def _joined(groups: Iterable[Group]) -> Iterator[Group]:
    """Put equal calls in a row that access nothing together."""
    waiting: Group | None = None
    for group in groups:
        if waiting is not None:
            same = waiting.call.label == group.call.label and not group.rows
            if same and not waiting.rows and waiting.call.errno == group.call.errno:
                waiting = waiting._replace(times=waiting.times + 1)
                continue
            yield waiting
        waiting = group
    if waiting is not None:
        yield waiting


class _Naming:
    """Gives each part of an access its column."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._parts = list(dict.fromkeys(part for event in events for part in event.parts))
        self._order: dict[int, int] = {}  # inode -> how many came before it
        self._paths: dict[int, str | None] = {}
        self._pieces: dict[tuple[Kind, int], set[tuple[int | None, int]]] = defaultdict(set)
        for part in self._parts:
            self._order.setdefault(part.ino, len(self._order))
            self._paths[part.ino] = part.path or self._paths.get(part.ino)
            self._pieces[part.kind, part.ino].add((part.file_block, part.blocks))
        self._ambiguous = self._find_ambiguous()

    def _find_ambiguous(self) -> set[str]:
        """Last names that several inodes have."""
        inos: dict[str, set[int]] = defaultdict(set)
        for ino, path in self._paths.items():
            inos[(path or "").rpartition("/")[2]].add(ino)
        return {name for name, having in inos.items() if len(having) > 1}

    def name(self, ino: int) -> str:
        """What an inode is called: its last name, or its path if others have that, too."""
        path = self._paths.get(ino)
        if path is None:
            return f"inode {ino}"
        name = path.rpartition("/")[2]
        return "root" if path == "/" else path if name in self._ambiguous else name

    def touched(self, part: Part) -> list[Column]:
        """The columns of a part."""
        return [self.column(part)]

    def column(self, part: Part) -> Column:
        """The column of a part."""
        if part.kind in _BITMAPS:
            return Column(_BITMAPS[part.kind], "bitmap")
        if part.kind in _OTHERS:
            return Column(_OTHERS[part.kind], "")
        if part.kind == Kind.INODE_TABLE:
            return Column(self.name(part.ino), "inode") if part.ino else Column("inode", "table")
        return Column(self.name(part.ino), self._piece(part))

    def _piece(self, part: Part) -> str:
        if part.kind not in (Kind.DATA, Kind.DIRECTORY):
            return part.kind.label
        pieces = self._pieces[part.kind, part.ino]
        is_small = part.kind == Kind.DIRECTORY and pieces <= {(0, 1), (None, 1)}
        if is_small or part.file_block is None or len(pieces) > MOST_PIECES:
            return "data"
        last = part.file_block + part.blocks - 1
        return f"data[{part.file_block}{f'-{last}' if part.blocks > 1 else ''}]"

    def columns(self) -> list[Column]:
        """All columns, in the order of the book's figures."""
        ordered = sorted(self._parts, key=self._key)
        return list(dict.fromkeys(self.column(part) for part in ordered))

    def _key(self, part: Part) -> tuple[int, ...]:
        if part.kind in _BITMAPS:
            return (0, list(_BITMAPS).index(part.kind))
        if part.kind in _OTHERS:
            return (3, list(_OTHERS).index(part.kind))
        order = self._order[part.ino]
        if part.kind == Kind.INODE_TABLE:
            return (1, order)
        return (2, order, _OF_FILES[part.kind], part.file_block or 0)


class _Numbering:
    """Gives each part of an access the columns of its blocks."""

    def __init__(self, events: Iterable[Event]) -> None:
        parts = dict.fromkeys(part for event in events for part in event.parts)
        self._kinds: dict[tuple[int, int], dict[str, None]] = defaultdict(dict)
        self._is_split = sum(part.blocks for part in parts) <= MOST_BLOCKS
        for part in parts:
            for run in self._runs(part):
                self._kinds[run][part.kind.label] = None

    def _runs(self, part: Part) -> list[tuple[int, int]]:
        """(First block, count) of each column of a part."""
        if not self._is_split:
            return [(part.block, part.blocks)]
        return [(part.block + at, 1) for at in range(part.blocks)]

    def touched(self, part: Part) -> list[Column]:
        """The columns of a part."""
        return [self._column(*run) for run in self._runs(part)]

    def _column(self, block: int, blocks: int) -> Column:
        """Its number, and what it is or what it was one after the other."""
        return Column(numbered("block", block, blocks), ", ".join(self._kinds[block, blocks]))

    def columns(self) -> list[Column]:
        """All columns, in the order of the disk."""
        return [self._column(*run) for run in sorted(self._kinds)]


# -- the book's figures --------------------------------------------------------

Access = tuple[str, str]  # operation, title of the column


def _accesses(text: str) -> list[Access]:
    """From ``read root inode, write bar data[0]``."""
    words = (access.partition(" ") for access in text.split(", "))
    return [(operation, title) for operation, _, title in words]


_WALK: Final = "read root inode, read root data, read foo inode, read foo data"
#: OSTEP's figures: for each call its name and its accesses, in the book's order.
FIGURES: Final[dict[str, list[tuple[str, list[Access]]]]] = {
    "40.3": [
        ("open", _accesses(f"{_WALK}, read bar inode")),
        *(
            ("read", _accesses(f"read bar inode, read bar data[{block}], write bar inode"))
            for block in range(3)
        ),
    ],
    "40.4": [
        (
            "create",
            _accesses(
                f"{_WALK}, read inode bitmap, write inode bitmap, write foo data, "
                "read bar inode, write bar inode, write foo inode"
            ),
        ),
        *(
            (
                "write",
                _accesses(
                    "read bar inode, read data bitmap, write data bitmap, "
                    f"write bar data[{block}], write bar inode"
                ),
            )
            for block in range(3)
        ),
    ],
}

_WHY: Final = (
    "VSFS writes what is pointed to before what points to it, and bitmaps last, "
    "so that a crash between two writes can be repaired"
)


def accesses_of(timeline: Timeline, group: Group) -> list[Access]:
    """The accesses of a call, as the figures have them."""
    return [
        (row.operation, timeline.columns[column].title)
        for row in group.rows
        for column in row.columns
    ]


def compare(timeline: Timeline, figure: str) -> tuple[bool, list[str]]:
    """Whether a timeline has the accesses of `figure`, and sentences that say how.

    Calls without accesses, and the unmount at the end, are in no figure.
    """
    calls = [
        (group.call.name, accesses_of(timeline, group))
        for group in timeline.groups
        if group.rows and group.call.name != "unmount"
    ]
    expected = FIGURES[figure]
    if calls == expected:
        return True, [f"the same as figure {figure}"]
    reordered = []
    for number, (ours, books) in enumerate(zip(calls, expected, strict=False), 1):
        if ours[0] != books[0] or sorted(ours[1]) != sorted(books[1]):
            return False, [_first_difference(figure, number, ours, books)]
        if ours[1] != books[1]:
            reordered.append(number)
    if len(calls) != len(expected):
        how_many = counted(len(calls), "call")
        text = f"{how_many} with accesses, where figure {figure} has {len(expected)}"
        return False, [text]
    which = f"calls {', '.join(map(str, reordered[:-1]))} and {reordered[-1]}"
    if len(reordered) == 1:
        which = f"call {reordered[0]}"
    return True, [f"the accesses of figure {figure}, those of {which} in another order:", _WHY]


def _first_difference(
    figure: str, number: int, ours: tuple[str, list[Access]], books: tuple[str, list[Access]]
) -> str:
    """What is different in call `number`."""
    if ours[0] != books[0]:
        return f"call {number} is {ours[0]}, in figure {figure} it is {books[0]}"
    left = list(ours[1])
    for access in books[1]:
        if access not in left:
            return f"call {number}, {ours[0]}: without the {_text(access)} of figure {figure}"
        left.remove(access)
    return f"call {number}, {ours[0]}: a {_text(left[0])} that figure {figure} does not have"


def _text(access: Access) -> str:
    return f"{access[0]} of {access[1]}"
