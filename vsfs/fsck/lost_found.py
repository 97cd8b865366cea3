"""``/lost+found``: where inodes get a name that have none.

Each is named ``#N`` after its inode number.  The directory is made when it is
first needed, for root's eyes only, and grows by blocks.  When there is no inode
or block left for that, the root directory takes the name if there is room, or else
any other directory: one of root's or of the inode's owner, so that nobody else can
remove it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from vsfs.device import Kind
from vsfs.fsck.context import Check, CheckedInode, Entry
from vsfs.fsck.findings import Evidence, Rule, printable
from vsfs.fsck.records import Draft, Names, type_code
from vsfs.fsck.restore import make_directory
from vsfs.layout import (
    DIRECTORY_TYPE,
    DOT_SIZE,
    ROOT_INO,
    SECTOR_SIZE,
    decode_inode,
    empty_directory_block,
    first_directory_block,
    record_size,
)

NAME: Final = b"lost+found"
_PERMISSIONS: Final = 0o700  # what is there may be anybody's
_ROOT_UID: Final = 0
#: Bytes that are looked for; enough for `#` with a number and for the directory's
#: own name, and always the same, so that a sector without them is not looked at again.
_ROOM: Final = record_size(len(b"#4294967295~9"))


class LostFound:
    """The directory /lost+found of an image, which may not exist yet.

    `reached` are the directories that the root leads to, the nearest first.
    """

    def __init__(self, check: Check, reached: list[int]) -> None:
        self._check = check
        #: Owner -> directories of the owner that may have room, the best one first.
        self._others: dict[int, deque[int]] = {}
        self.add_places(reached)
        self._directory: CheckedInode | None = None
        self._is_found = False
        self._path = b"/" + NAME
        self._names: Names | None = None
        self._names_elsewhere: dict[int, Names] = {}
        self._from: dict[int, int] = {}  # directory -> sector where to look for room

    def add_places(self, reached: list[int]) -> None:
        """Let directories take names that the root leads to now, when all before are full."""
        for ino in reached:
            owner = self._check.inodes[ino].record.uid
            self._others.setdefault(owner, deque()).append(ino)

    def attach(
        self,
        rule: Rule,
        inode: CheckedInode,
        problem: str,
        found: Evidence,
        expected: Evidence,
        cut: tuple[Entry, ...] = (),
    ) -> bool:
        """Report that nobody names `inode`, and give it a name; whether that was done.

        `cut` are entries that are taken out with it.  An inode that gets no name
        is noted in ``check.adrift``.
        """
        for place in (self._in_lost_found, self._in_root, self._in_another):
            draft = Draft(self._check)
            for entry in cut:
                draft.remove(entry)
            repair = place(draft, inode)
            if repair is not None:
                break
            draft.drop()
        else:
            draft = Draft(self._check)
            repair = "no inode or block is left to name it in /lost+found; free some and try again"
        accepted = draft.report(
            rule,
            problem,
            found=found,
            expected=expected,
            repair=repair,
            ino=inode.ino,
            can_repair=not draft.is_empty,
        )
        if not accepted:
            self._check.adrift.add(inode.ino)
        return accepted

    # -- three places -------------------------------------------------------------

    def _in_lost_found(self, draft: Draft, inode: CheckedInode) -> str | None:
        """Name the inode in /lost+found; the repair in words, None without room."""
        directory, made = self._find(), ""
        if directory is None:
            directory = self._make(draft)
            if directory is None:
                return None
            place = f"inode {directory.ino}, block {directory.blocks[0]}"
            made = f"make {printable(self._path)} ({place}), and "
        names = self._names or Names(self._check.entries.get(directory.ino, []))
        name = names.unused(b"#%d" % inode.ino)
        if not self._enter(draft, directory, name, inode):
            return None
        draft.then.append(lambda: names.taken.add(name))
        self._names = names if self._directory is not None else None
        return f"{made}name it {printable(name)} in {printable(self._path)}"

    def _in_root(self, draft: Draft, inode: CheckedInode) -> str | None:
        """The same for the root directory, which does not grow."""
        name = self._name_elsewhere(draft, ROOT_INO, inode)
        if name is None:
            return None
        return f"name it {printable(name)} in the root directory, since /lost+found has no room"

    def _in_another(self, draft: Draft, inode: CheckedInode) -> str | None:
        """The same for any other directory that is root's or the inode's owner's."""
        for owner in dict.fromkeys((_ROOT_UID, inode.record.uid)):
            places = self._others.get(owner, deque())
            while places:
                name = self._name_elsewhere(draft, places[0], inode)
                if name is not None:
                    where = f"directory {self._check.named(places[0])}"
                    return (
                        f"name it {printable(name)} in {where}, since /lost+found and the root "
                        "directory have no room"
                    )
                places.popleft()  # full for good: no directory loses names any more
        return None

    def _name_elsewhere(self, draft: Draft, ino: int, inode: CheckedInode) -> bytes | None:
        """Name the inode in directory `ino` as it is: the name, or None without room."""
        names = self._names_of(ino)
        name = names.unused(b"#%d" % inode.ino)
        if not self._enter(draft, self._check.inodes[ino], name, inode, may_grow=False):
            return None
        draft.then.append(lambda: names.taken.add(name))
        return name

    def _names_of(self, ino: int) -> Names:
        if ino not in self._names_elsewhere:
            self._names_elsewhere[ino] = Names(self._check.entries[ino])
        return self._names_elsewhere[ino]

    # -- the directory --------------------------------------------------------------

    def _find(self) -> CheckedInode | None:
        """The directory, if the root has one of that name."""
        if not self._is_found:
            self._is_found = True
            check = self._check
            for entry in check.entries[ROOT_INO][2:]:
                if entry.name == NAME or entry.name.startswith(NAME + b"~"):
                    inode = check.inodes[entry.ino]
                    if inode.is_directory:
                        self._directory = inode
                        self._path = b"/" + entry.name
                        break
        return self._directory

    def _make(self, draft: Draft) -> CheckedInode | None:
        """Make the directory; None if there is no room for it."""
        check, root = self._check, self._check.inodes[ROOT_INO]
        ino = draft.take_ino()
        block_no = draft.take_block() if ino is not None else None
        if ino is None or block_no is None:
            return None
        content = first_directory_block(check.geometry.block_size, ino, ROOT_INO)
        draft.put_block(block_no, content, Kind.DIRECTORY)
        inode = make_directory(draft, ino, block_no, _PERMISSIONS)
        inode.blocks = [block_no]
        names = self._names_of(ROOT_INO)
        name = names.unused(NAME)
        self._path = b"/" + name

        def accept() -> None:
            check.inodes[ino] = inode
            check.entries[ino] = [
                Entry(block_no, 0, ino, DIRECTORY_TYPE, b"."),
                Entry(block_no, DOT_SIZE, ROOT_INO, DIRECTORY_TYPE, b".."),
            ]
            names.taken.add(name)
            self._directory = inode

        draft.then.append(accept)
        return inode if self._enter(draft, root, name, inode) else None

    # -- entering a name ---------------------------------------------------------------

    def _enter(
        self,
        draft: Draft,
        directory: CheckedInode,
        name: bytes,
        child: CheckedInode,
        *,
        may_grow: bool = True,
    ) -> bool:
        """Give `child` a name in `directory`, which grows by a block if needed."""
        check = self._check
        place = self._find_room(draft, directory)
        if place is None and may_grow:
            place = _grow(draft, directory)
        if place is None:
            return False
        entry = draft.add(*place, child.ino, type_code(child.record.mode), name)
        draft.then.append(lambda: check.entries[directory.ino].append(entry))
        if child.is_directory:
            draft.add_link(directory)
            if child.ino in check.entries:  # not one that is just being made
                dotdot = check.entries[child.ino][1]
                draft.put_ino(dotdot.block_no, dotdot.offset, directory.ino)
                draft.then.append(lambda: setattr(dotdot, "ino", directory.ino))
        return True

    def _find_room(self, draft: Draft, directory: CheckedInode) -> tuple[int, int] | None:
        """The record of a directory with room behind it: its block and offset.

        Sectors that were full are not looked at again: this directory loses no
        names any more.
        """
        per_block = self._check.geometry.block_size // SECTOR_SIZE
        first, end = self._from.get(directory.ino, 0), len(directory.blocks) * per_block
        for sector in range(first, end):
            block_no = directory.blocks[sector // per_block]
            at = draft.find_slack(block_no, sector % per_block * SECTOR_SIZE, _ROOM)
            if at is not None:
                return block_no, at
            self._from[directory.ino] = sector + 1
        return None


def _grow(draft: Draft, directory: CheckedInode) -> tuple[int, int] | None:
    """Give a directory one more block; the free record at its beginning."""
    on_disk = decode_inode(draft.check.inode_bytes(directory.ino))
    if on_disk.pointers != directory.record.pointers:  # a repair of them was declined
        return None
    block_no = draft.take_block()
    if block_no is None or not draft.append_block(directory, block_no):
        return None
    block_size = draft.check.geometry.block_size
    draft.put_block(block_no, empty_directory_block(block_size), Kind.DIRECTORY)
    draft.then.append(lambda: directory.blocks.append(block_no))
    return block_no, 0
