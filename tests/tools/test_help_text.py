"""--help folds at the same column as argparse's own formatter does."""

from __future__ import annotations

import argparse

import pytest
from vsfs_tools.help_text import HelpFormatter, RawHelpFormatter

WORDS = "one two three four five six seven eight nine ten " * 8


def help_of(formatter: type[argparse.HelpFormatter]) -> str:
    parser = argparse.ArgumentParser(
        prog="tool", description=WORDS, epilog="as\n  it is", formatter_class=formatter
    )
    parser.add_argument("word", help=WORDS)
    return parser.format_help()


@pytest.mark.parametrize("columns", ["40", "80", "133", "0", "", "no number"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (HelpFormatter, argparse.HelpFormatter),
        (RawHelpFormatter, argparse.RawDescriptionHelpFormatter),
    ],
)
def test_help_is_as_wide_as_argparse_makes_it(
    ours: type[argparse.HelpFormatter],
    theirs: type[argparse.HelpFormatter],
    columns: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert help_of(ours) == help_of(theirs)
