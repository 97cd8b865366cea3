"""The same tree further down: what a long path costs (OSTEP 40.7).

:func:`move_down` puts everything of a filesystem below ``/1/2/3``, and a process of a
:class:`DeeperTable` goes that way at the begin of each absolute path: its ``/foo``
is ``/1/2/3/foo``.  Unlike after a chroot(2), the directories above are walked, so
they are read, and it takes the right to search them.
"""

from __future__ import annotations

import os
import stat
from itertools import count

from vsfs.filesystem import FileSystem
from vsfs.inode import Inode
from vsfs.layout import ROOT_INO
from vsfs.process import Process, ProcessTable
from vsfs.volume import Volume
from vsfs.walk import Credentials, Walker


def move_down(fs: FileSystem, levels: int) -> list[bytes]:
    """Put all that is in the root directory below `levels` new ones; their names.

    `fs` is root's.  The last of them has the permissions that the root directory had.
    Raises NoSpace (ENOSPC).
    """
    moved = fs.listdir(b"/")
    first = next(name for number in count(1) if (name := b"%d" % number) not in moved)
    names = [first, *(b"%d" % level for level in range(2, levels + 1))][:levels]
    top = b"/"
    for name in names:
        top = os.path.join(top, name)
        fs.mkdir(top, 0o755)
    for name in moved if names else ():
        fs.rename(b"/" + name, os.path.join(top, name))
    root = fs.stat("/")
    fs.chown(top, root.st_uid, root.st_gid)
    fs.chmod(top, stat.S_IMODE(root.st_mode))
    return names


class _DeeperWalker(Walker):
    """Begins absolute paths where `names` lead to."""

    def __init__(self, volume: Volume, credentials: Credentials, names: list[bytes]) -> None:
        super().__init__(volume, credentials)
        self._names = names

    def _inode(self, ino: int) -> Inode:
        inode = super()._inode(ino)
        if ino == ROOT_INO:
            for name in self._names:
                self.require(inode, os.X_OK, None)
                inode = self.volume.lookup(inode.ino, name)
        return inode


class DeeperTable(ProcessTable):
    """Processes whose root directory is the one that `names` lead to."""

    def __init__(self, names: list[bytes]) -> None:
        super().__init__()
        self._names = names

    def add(self, volume: Volume, credentials: Credentials, parent: int = 0) -> Process:
        """As of ``ProcessTable``."""
        process = super().add(volume, credentials, parent)
        process.walker = _DeeperWalker(volume, credentials, self._names)
        return process
