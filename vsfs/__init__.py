"""VSFS, the very simple file system of OSTEP, made real.

The public API::

    import os, vsfs

    vsfs.format_image("disk.img")
    with vsfs.FileSystem.open("disk.img") as fs:
        fs.mkdir("/foo")
        fd = fs.open("/foo/bar", os.O_CREAT | os.O_RDWR)
        fs.write(fd, b"hi")
        fs.close(fd)

:class:`FileSystem` has the calls of ``os``; :class:`Volume` is the layer below,
by inode number, for those who write an adapter.  The modules read in the order
of OSTEP's chapter 40: layout, device, buffer, bitmap, inode, blockmap,
directory, openfiles, volume, filesystem.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsfs.device import BlockDevice, FileDevice, MemoryDevice
    from vsfs.errors import (
        Corrupt,
        ImageBusy,
        ImpossibleSize,
        NoSpace,
        NotVsfs,
        ReadOnly,
        UnknownFeature,
        VsfsError,
    )
    from vsfs.filesystem import FileSystem
    from vsfs.layout import Geometry, Superblock
    from vsfs.mkfs import format_image
    from vsfs.process import Process
    from vsfs.results import DirEntry
    from vsfs.volume import Volume
    from vsfs.walk import Credentials

__version__ = "0.1.0"

__all__ = [
    "BlockDevice",
    "Corrupt",
    "Credentials",
    "DirEntry",
    "FileDevice",
    "FileSystem",
    "Geometry",
    "ImageBusy",
    "ImpossibleSize",
    "MemoryDevice",
    "NoSpace",
    "NotVsfs",
    "Process",
    "ReadOnly",
    "Superblock",
    "UnknownFeature",
    "Volume",
    "VsfsError",
    "format_image",
]

# Where each name comes from.  They are imported when first used, since a command
# that only looks at a superblock should not wait for the whole library.
_HOMES = {
    "device": ("BlockDevice", "FileDevice", "MemoryDevice"),
    "errors": (
        "Corrupt",
        "ImageBusy",
        "ImpossibleSize",
        "NoSpace",
        "NotVsfs",
        "ReadOnly",
        "UnknownFeature",
        "VsfsError",
    ),
    "filesystem": ("FileSystem",),
    "layout": ("Geometry", "Superblock"),
    "mkfs": ("format_image",),
    "process": ("Process",),
    "results": ("DirEntry",),
    "volume": ("Volume",),
    "walk": ("Credentials",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"vsfs.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'vsfs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
