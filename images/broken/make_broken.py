"""Make the broken images again: ``python images/broken/make_broken.py [DIR]``.

Whoever runs this, and when and where, gets the same images; the compressed files
may differ where another zlib packs them.  They are made from the five sound images
base-*.img.gz, which stay as they are while the program changes how it lays out
files; ``--bases`` makes those again, too.  For each image NAME.img.gz there is

- NAME.txt, a text: what is wrong, what fsck.vsfs says at the first check, and
  that it has nothing to say at the second.  Written only with ``--reports``:
  read what has changed before you commit it.
- a line in README.md.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.support

import cases_book  # noqa: F401  each declares its cases
import cases_inodes  # noqa: F401
import cases_journal  # noqa: F401
import cases_names  # noqa: F401
import cases_superblock  # noqa: F401
from bases import bases
from registry import CASES, KINDS

from tests.support.broken import expectation, unpacked
from tests.support.damage import Image

HERE: Final = Path(__file__).parent
_BASES: Final = {
    "book": "64 blocks of 4096 bytes, as in OSTEP's chapter 40; a few files and directories",
    "tree": "512 blocks of 512 bytes, so that small files need indirect blocks; every type of file",
    "full": "`tree` with no block left",
    "small": "128 blocks of 512 bytes; for the tests that break it at random",
    "journal": "`small` with a journal of 16 blocks",
}


def images() -> dict[str, bytes]:
    """Every broken image by its name."""
    sound = {name: unpacked(f"base-{name}") for name in _BASES}
    made: dict[str, bytes] = {}
    for case in CASES:
        image = Image(sound[case.base])
        case.break_it(image)
        assert case.name not in made
        assert image.data != sound[case.base], f"{case.name} is not broken"
        made[case.name] = bytes(image.data)
    return made


def readme() -> str:
    """The list of all images."""
    lines = [
        "# Broken images",
        "",
        f"{len(CASES)} images with something wrong, for `fsck.vsfs` and everything else that reads",
        "images.  Beside each NAME.img.gz, NAME.txt has what `fsck.vsfs` says.  Try one:",
        "",
        "```",
        "gunzip -k homework-data-bitmap-0.img.gz",
        "fsck.vsfs -n homework-data-bitmap-0.img",
        "```",
        "",
        "`make_broken.py` makes all of this again from the functions in `cases_*.py`.",
        "",
        "Sound images are what they are made from:",
        "",
        "| image | what it is |",
        "|---|---|",
        *(f"| `base-{name}` | {what} |" for name, what in _BASES.items()),
    ]
    for kind, what in KINDS.items():
        lines += ["", f"## {kind.capitalize()}", "", f"{what}.", ""]
        lines += ["| image | made from | what is wrong |", "|---|---|---|"]
        lines += [
            f"| `{case.name}` | {case.base} | {case.description} |"
            for case in CASES
            if case.kind == kind
        ]
    return "\n".join(lines) + "\n"


def write_image(path: Path, content: bytes) -> None:
    """Write `content` compressed, without a time; a file that holds it already stays."""
    if not path.exists() or gzip.decompress(path.read_bytes()) != content:
        path.write_bytes(gzip.compress(content, 9, mtime=0))


def write(directory: Path, *, with_reports: bool) -> None:
    """Write all but the sound images into `directory`."""
    made = images()
    for name, content in made.items():
        write_image(directory / f"{name}.img.gz", content)
    (directory / "README.md").write_text(readme())
    for case in CASES if with_reports else ():
        head = f"{case.description}\nmade from {case.base}, kind: {case.kind}\n\n"
        text = head + expectation(made[case.name])
        (directory / f"{case.name}.txt").write_text(text)


def main() -> None:
    """Write the images into a directory, by default the one this script is in."""
    parser = argparse.ArgumentParser(description="Make the broken images of VSFS.")
    parser.add_argument("directory", nargs="?", type=Path, default=HERE)
    parser.add_argument(
        "--reports", action="store_true", help="also write what fsck.vsfs says now as expected"
    )
    parser.add_argument("--bases", action="store_true", help="make the sound images anew first")
    arguments = parser.parse_args()
    if arguments.bases:
        for name, content in bases().items():
            write_image(HERE / f"base-{name}.img.gz", content)
    arguments.directory.mkdir(parents=True, exist_ok=True)
    write(arguments.directory, with_reports=arguments.reports)


if __name__ == "__main__":
    main()
