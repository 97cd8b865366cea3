"""Readers of an image that may be mounted: how they come to see the present."""

from __future__ import annotations

import os

from vsfs.lock import wait_for_writer

from .messages import fail


def wait_for_present(program: str, image: str) -> list[str]:
    """Return when the image shows the present: wait for a writer, sync a mount.

    Gives the mount points.  Raises ImageBusy (EBUSY) when a writer that has no
    mount does not finish.
    """
    mounted = wait_for_writer(image)
    if not mounted:
        return []
    try:
        fd = os.open(mounted[0], os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        reason = error.strerror or str(error)
        fail(
            program, f"warning: cannot sync {mounted[0]} ({reason}); this may be a few seconds old"
        )
    return mounted
