"""Filesystems in memory whose accesses are recorded."""

from __future__ import annotations

import os

import vsfs
from tests.support.images import ROOT, Clock, blank, mount
from vsfs.cold import ColdVolume
from vsfs.device import MemoryDevice
from vsfs.trace import Recorder
from vsfs.traced import CallObserver, TracedVolume

BLOCK = 4096


def later() -> Clock:
    """Times after those of the image, so that each change of one is a change."""
    clock = Clock()
    clock.now_ns += 10**9
    return clock


def traced(
    device: vsfs.BlockDevice, *, cold: bool = False, **options: object
) -> tuple[vsfs.FileSystem, Recorder]:
    """Mount it and record; commits only when asked to."""
    kind = ColdVolume if cold else TracedVolume
    volume = kind(device, clock=later(), commit_interval=None, **options)
    fs = vsfs.FileSystem(volume, ROOT)
    fs.process.table.observers.append(CallObserver(volume))
    return fs, volume.record()


def book_image(*, with_bar: bool) -> MemoryDevice:
    """The directory /foo of OSTEP's figures, and in it bar of three blocks if it is to be."""
    device = blank()
    with mount(device) as fs:
        fs.mkdir("/foo")
        if with_bar:
            fd = fs.open("/foo/bar", os.O_WRONLY | os.O_CREAT)
            fs.write(fd, b"bar" * BLOCK)
    return device


def book_reads(fs: vsfs.FileSystem) -> None:
    """The calls of figure 40.3."""
    fd = fs.open("/foo/bar", os.O_RDONLY)
    for _ in range(3):
        assert len(fs.read(fd, BLOCK)) == BLOCK


def book_writes(fs: vsfs.FileSystem) -> None:
    """The calls of figure 40.4."""
    fd = fs.open("/foo/bar", os.O_WRONLY | os.O_CREAT)
    for _ in range(3):
        fs.write(fd, bytes(BLOCK))
