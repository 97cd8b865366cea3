"""What the calls return: stat results and directory entries as ``os`` has them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import AnyStr, Final, Generic, Protocol

from vsfs.inode import Inode

_ST_BLOCK: Final = 512  # unit of st_blocks, whatever the block size


def stat_result(inode: Inode, block_size: int) -> os.stat_result:
    """What stat(2) says of `inode`."""
    times = (inode.atime_ns, inode.mtime_ns, inode.ctime_ns)
    # The fields in the order of structseq, those without an index last.
    return os.stat_result(
        (
            inode.mode,
            inode.ino,
            0,  # st_dev
            inode.nlink,
            inode.uid,
            inode.gid,
            inode.size,
            *(time // 10**9 for time in times),
            *(time / 1e9 for time in times),
            *times,
            block_size,
            inode.blocks * (block_size // _ST_BLOCK),
            inode.device,
        )
    )


class StatFunction(Protocol):
    """``FileSystem.stat``, as far as a directory entry needs it."""

    def __call__(self, path: str | bytes, *, follow_symlinks: bool) -> os.stat_result:
        """The attributes of what `path` names."""


class DirEntry(Generic[AnyStr]):
    """What :meth:`FileSystem.scandir` gives, as ``os.DirEntry``."""

    def __init__(
        self, stat_of: StatFunction, directory: AnyStr, name: AnyStr, ino: int, mode: int
    ) -> None:
        self.name: AnyStr = name
        self.path: AnyStr = os.path.join(directory, name)
        self._stat_of = stat_of
        self._ino = ino
        self._mode = mode

    def inode(self) -> int:
        """Its inode number."""
        return self._ino

    def file_type(self) -> int:
        """Its type, as in st_mode; known without looking at its inode."""
        return stat.S_IFMT(self._mode)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self._mode)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory, or a link to one."""
        return stat.S_ISDIR(self._target_mode(follow_symlinks))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file, or a link to one."""
        return stat.S_ISREG(self._target_mode(follow_symlinks))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Its attributes."""
        return self._stat_of(self.path, follow_symlinks=follow_symlinks)

    def _target_mode(self, follow_symlinks: bool) -> int:
        if not (follow_symlinks and self.is_symlink()):
            return self._mode
        try:
            return self.stat().st_mode
        except FileNotFoundError:
            return 0

    def __fspath__(self) -> AnyStr:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class ScandirIterator(Generic[AnyStr]):
    """Iterator and context manager over the entries of a directory."""

    def __init__(self, entries: Iterator[DirEntry[AnyStr]]) -> None:
        self._entries: Iterator[DirEntry[AnyStr]] = entries

    def __iter__(self) -> ScandirIterator[AnyStr]:
        return self

    def __next__(self) -> DirEntry[AnyStr]:
        return next(self._entries)

    def __enter__(self) -> ScandirIterator[AnyStr]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held open; for those who call it as on ``os.scandir``."""
