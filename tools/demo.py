"""The demo without FUSE: the main job through the Python API, shown as typed."""

from __future__ import annotations

import code
import hashlib
import os
import sys
import tempfile
from typing import Final

import vsfs

from . import inspect

_STORY: Final = (
    ("Format: 64 blocks of 4 KiB", 'vsfs.format_image("disk.img")'),
    ("Open it. Calls are those of Python's os module", 'fs = vsfs.FileSystem.open("disk.img")'),
    ("", 'fs.stat("/").st_ino'),
    ("", 'fs.statvfs("/").f_bfree, fs.statvfs("/").f_ffree'),
    ("Use it: directories, files, links", 'fs.mkdir("/docs")'),
    ("", 'fd = fs.open("/docs/hello.txt", os.O_CREAT | os.O_RDWR)'),
    ("", 'fs.write(fd, b"hello, world\\n")'),
    ("", "fs.pread(fd, 5, 7)"),
    ("", "fs.close(fd)"),
    ("", 'fs.link("/docs/hello.txt", "/hello")'),
    ("", 'fs.symlink("docs/hello.txt", "/short-cut")'),
    ("", 'fs.rename("/docs/hello.txt", "/docs/greeting.txt")'),
    ("", 'fs.stat("/hello").st_nlink, fs.readlink("/short-cut")'),
    ("More than 12 blocks: needs the single indirect block",
     'numbers = "".join(f"{n}\\n" for n in range(20000)).encode()'),
    ("", 'fd = fs.open("/numbers.txt", os.O_CREAT | os.O_WRONLY)'),
    ("", "fs.write(fd, numbers)"),
    ("", "fs.close(fd)"),
    ("", 'sorted(fs.listdir("/"))'),
    ("", 'fs.statvfs("/").f_bfree, fs.statvfs("/").f_ffree'),
    ("Unmount, open again: everything is still there", "fs.unmount()"),
    ("", 'fs = vsfs.FileSystem.open("disk.img")'),
    ("", 'fd = fs.open("/numbers.txt", os.O_RDONLY)'),
    ("", "sha256(fs.read(fd, 10**6)) == sha256(numbers)"),
    ("", "fs.close(fd)"),
    ("", "fs.unmount()"),
)  # fmt: skip


def main() -> int:
    """Tell the story; return the exit status."""
    console = code.InteractiveInterpreter(
        {"vsfs": vsfs, "os": os, "sha256": lambda content: hashlib.sha256(content).hexdigest()}
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for comment, line in _STORY:
            if comment:
                print(f"\n# {comment}")
            print(f">>> {line}", flush=True)
            console.runsource(line, symbol="single")
        print("\n# Look inside: every structure on the disk\n$ vsfs-inspect disk.img", flush=True)
        return inspect.main(["disk.img"])


if __name__ == "__main__":
    sys.exit(main())
