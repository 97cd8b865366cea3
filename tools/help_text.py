"""How wide --help is.

argparse finds that out with ``shutil``, whenever an argument is added.  That brings two
libraries for compression along, 5 ms for a command that takes 50.
"""

from __future__ import annotations

import argparse
import os
from typing import Final

_NO_TERMINAL: Final = 80  # columns
_MARGIN: Final = 2
_STDOUT: Final = 1


class HelpFormatter(argparse.HelpFormatter):
    """argparse's own; its width is ``$COLUMNS``, the terminal's, or 80 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - _MARGIN)


class RawHelpFormatter(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The same, which leaves the lines of description and epilog as they are."""


def _columns() -> int:
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    try:
        return os.get_terminal_size(_STDOUT).columns or _NO_TERMINAL
    except OSError:  # closed, or no terminal
        return _NO_TERMINAL
