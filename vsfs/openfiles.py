"""The open file table (OSTEP 39.4).

Each successful open makes an entry: which inode, how it was opened, the current
offset.  Descriptors of processes refer to entries, and several may share one
(after fork or dup); the entry goes away with its last reference.

In memory only.  An inode that is open stays, even after its last name is gone:
the last close frees it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

from vsfs.errors import posix_error
from vsfs.inode import Inode

#: Reading leaves the access time alone; only Linux has it.
O_NOATIME: Final = getattr(os, "O_NOATIME", 0)


class OpenFile:
    """One entry of the table; `offset` in bytes, `flags` as open(2) got them."""

    __slots__ = ("flags", "handle", "inode", "names", "offset", "references")

    def __init__(self, handle: int, inode: Inode, flags: int) -> None:
        self.handle = handle
        self.inode = inode
        self.flags = flags
        self.offset = 0
        self.references = 1
        self.names: list[bytes] | None = None  # of an open directory: when it was opened

    @property
    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class OpenFileTable:
    """All open files of a volume, by handle; handles start at 1 and are reused."""

    def __init__(self) -> None:
        self._files: dict[int, OpenFile] = {}
        self._free_handles: list[int] = []

    def open(self, inode: Inode, flags: int) -> OpenFile:
        """A new entry with one reference; the inode counts one more opener."""
        handle = self._free_handles.pop() if self._free_handles else len(self._files) + 1
        file = self._files[handle] = OpenFile(handle, inode, flags)
        inode.open_count += 1
        return file

    def get(self, handle: int) -> OpenFile:
        """The entry of `handle`; raises EBADF."""
        file = self._files.get(handle)
        if file is None:
            raise posix_error(errno.EBADF)
        return file

    def share(self, handle: int) -> None:
        """One more descriptor refers to the entry, as after fork and dup."""
        self.get(handle).references += 1

    def close(self, handle: int) -> Inode | None:
        """Drop one reference; return the inode if that was the entry's last."""
        file = self.get(handle)
        file.references -= 1
        if file.references:
            return None
        del self._files[handle]
        self._free_handles.append(handle)
        file.inode.open_count -= 1
        return file.inode

    def __iter__(self) -> Iterator[OpenFile]:
        return iter(self._files.values())

    def __len__(self) -> int:
        return len(self._files)
