"""Pseudo-terminals, for what a command does only where somebody looks at it."""

from __future__ import annotations

import pty

import pytest


def open_terminal() -> tuple[int, int]:
    """Our end of a new terminal, and the command's; skips the test where there are none."""
    try:
        return pty.openpty()
    except OSError:
        pytest.skip("there are no pseudo-terminals here (is /dev/pts mounted?)")
