"""The path walk, and who may do what (OSTEP 39.15, 40.4; path_resolution(7)).

A path is walked one component at a time: look the name up in the current
directory, check that the user may search there, go on with what it names.
Symbolic links on the way are followed, at most 40 of them.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final

from vsfs.errors import posix_error
from vsfs.inode import Inode
from vsfs.layout import ROOT_INO
from vsfs.volume import Volume

_MAX_LINKS: Final = 40  # as in Linux
_PATH_MAX: Final = 4096  # bytes, with the NUL that ends it in C

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user: who owns what it makes, and what it may do.  Root may do all."""

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    @classmethod
    def of_process(cls) -> Credentials:
        """Those of this process."""
        return cls(os.geteuid(), os.getegid(), frozenset(os.getgroups()))

    @property
    def is_root(self) -> bool:
        """Whether it passes every check."""
        return self.uid == 0

    def in_group(self, gid: int) -> bool:
        """Whether it is a member of group `gid`."""
        return gid == self.gid or gid in self.groups

    def owns(self, inode: Inode) -> bool:
        """Whether it may do what only the owner may."""
        return self.uid in (0, inode.uid)

    def may(self, inode: Inode, wanted: int) -> bool:
        """Whether the permission bits allow `wanted` (R_OK, W_OK, X_OK together)."""
        mode = inode.mode
        if self.is_root:  # runs a file only if somebody may
            return not (wanted & os.X_OK) or inode.is_directory or bool(mode & 0o111)
        if self.uid == inode.uid:
            mode >>= 6
        elif self.in_group(inode.gid):
            mode >>= 3
        return not (wanted & ~mode & 0o7)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the last component of a path is, or would be.

    `inode` is None where `parent` has no such name.  `wants_directory` notes a
    trailing slash.
    """

    parent: Inode
    name: bytes
    inode: Inode | None
    wants_directory: bool
    path: str | bytes


class Walker:
    """Resolves paths on a volume for one user; `current` is its directory."""

    def __init__(self, volume: Volume, credentials: Credentials) -> None:
        self.volume = volume
        self.credentials = credentials
        self.current = ROOT_INO

    # -- resolving ------------------------------------------------------------

    def find(self, path: StrPath, *, follow: bool = True) -> Inode:
        """The inode that `path` names.

        A symbolic link is followed with `follow`, or before a slash.  Raises
        ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG.
        """
        place = self.place(path, follow=follow or os.fsencode(path).endswith(b"/"))
        if place.inode is None:
            raise posix_error(errno.ENOENT, place.path)
        if place.wants_directory and not place.inode.is_directory:
            raise posix_error(errno.ENOTDIR, place.path)
        return place.inode

    def place(self, path: StrPath, *, follow: bool = True) -> Place:
        """Where the last component of `path` is; only that one may be missing.

        A symbolic link there is followed only with `follow`: what makes, removes
        or moves a name means the link itself, even before a slash.
        """
        shown = os.fspath(path)
        whole = _checked(path, shown)
        components = _split(whole)
        wants_directory = whole.endswith(b"/")
        inode = self._inode(ROOT_INO if whole.startswith(b"/") else self.current)
        parent, name, links = inode, b".", 0
        while components:
            name = components.pop()
            if not inode.is_directory:
                raise posix_error(errno.ENOTDIR, shown)
            self.require(inode, os.X_OK, shown)
            parent = inode
            child = self._lookup(parent, name, shown)
            if child is None:
                if components:
                    raise posix_error(errno.ENOENT, shown)
                return Place(parent, name, None, wants_directory, shown)
            if child.is_symlink and (components or follow):
                links += 1
                if links > _MAX_LINKS:
                    raise posix_error(errno.ELOOP, shown)
                target = self.volume.readlink(child.ino)
                if not components:
                    wants_directory = wants_directory or target.endswith(b"/")
                components += _split(target)
                inode = self._inode(ROOT_INO) if target.startswith(b"/") else parent
                name = b"."
                continue
            inode = child
        return Place(parent, name, inode, wants_directory, shown)

    def _inode(self, ino: int) -> Inode:
        return self.volume.inode(ino)

    def _lookup(self, parent: Inode, name: bytes, shown: str | bytes) -> Inode | None:
        try:
            return self.volume.lookup(parent.ino, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise posix_error(errno.ENAMETOOLONG, shown) from None
            raise

    def existing_place(self, path: StrPath) -> Place:
        """The place of something that is to be removed or moved, not followed."""
        place = self.place(path, follow=False)
        if place.inode is None:
            raise posix_error(errno.ENOENT, place.path)
        return place

    def new_place(self, path: StrPath, *, directory: bool = False) -> Place:
        """The place for a new name; raises EEXIST, and ENOENT for `new/`.

        A new directory may be given with a slash behind it.
        """
        place = self.place(path, follow=False)
        if place.inode is not None:
            raise posix_error(errno.EEXIST, place.path)
        if place.wants_directory and not directory:
            raise posix_error(errno.ENOENT, place.path)
        self.require_change(place)
        return place

    # -- permissions ----------------------------------------------------------

    def require(self, inode: Inode, wanted: int, path: str | bytes | None) -> None:
        """Raise EACCES unless the user may do `wanted` (R_OK, W_OK, X_OK)."""
        if not self.credentials.may(inode, wanted):
            raise posix_error(errno.EACCES, path)

    def require_owner(self, inode: Inode, path: str | bytes | None) -> None:
        """Raise EPERM unless the user owns `inode`, or is root."""
        if not self.credentials.owns(inode):
            raise posix_error(errno.EPERM, path)

    def require_change(self, place: Place) -> None:
        """Raise EACCES unless names may be added and removed at `place`."""
        self.require(place.parent, os.W_OK | os.X_OK, place.path)

    def require_removal(self, place: Place) -> None:
        """Like :meth:`require_change`; EPERM where the sticky bit protects it."""
        self.require_change(place)
        if (
            place.inode is not None
            and place.parent.mode & stat.S_ISVTX
            and not self.credentials.owns(place.inode)
            and not self.credentials.owns(place.parent)
        ):
            raise posix_error(errno.EPERM, place.path)

    def check_rename(self, old: Place, new: Place) -> None:
        """All that rename(2) checks before it looks at links and emptiness."""
        if {old.name, new.name} & {b".", b".."}:
            raise posix_error(errno.EBUSY, old.path)
        if old.inode is None:
            raise posix_error(errno.ENOENT, old.path)
        if (old.wants_directory or new.wants_directory) and not old.inode.is_directory:
            raise posix_error(errno.ENOTDIR, old.path)
        if new.inode is old.inode:
            return  # two names of one file: nothing will change
        self.require_removal(old)
        if new.inode is None:
            self.require_change(new)
        else:
            self.require_removal(new)
        if old.inode.is_directory and old.parent is not new.parent:
            # its `..` will change
            self.require(old.inode, os.W_OK, old.path)


def _checked(path: StrPath, shown: str | bytes) -> bytes:
    whole = os.fsencode(path)
    if not whole:
        raise posix_error(errno.ENOENT, shown)
    if b"\0" in whole:
        raise ValueError("embedded null byte")  # as os does
    if len(whole) >= _PATH_MAX:
        raise posix_error(errno.ENAMETOOLONG, shown)
    return whole


def _split(path: bytes) -> list[bytes]:
    """The components of a path, last one first, so that pop() walks it.

    >>> _split(b"/foo//bar/")
    [b'bar', b'foo']
    """
    return [component for component in reversed(path.split(b"/")) if component]
