"""vsfs-inspect: look at an image, at any level from the tree down to the bytes.

Opens the image for reading only.  A mounted one is synced first, so that it shows
the present.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from vsfs import describe
from vsfs.device import FileDevice
from vsfs.errors import Corrupt
from vsfs.layout import FEATURE_INCOMPAT_RECOVER
from vsfs.rawimage import NotThere, RawImage, WrongType

from .help_text import HelpFormatter, RawHelpFormatter
from .inspect_arguments import INODE, MAYBE_INODE, PROGRAM, Command, UsageError, locate
from .inspect_lookups import LOOKUPS
from .inspect_output import printer_for_stdout, safe
from .inspect_pictures import PICTURES, draw
from .inspect_progress import open_image
from .messages import explain, fail, run_to_end
from .present import wait_for_present

#: Commands that print while they walk, which is progress enough.
_PRINTED_ON_THE_WAY: Final = (None, "fragments", "tree")
_WHICH: Final = "[inode|data]"
_EPILOG: Final = """\
Without a command everything is shown: superblock, layout, both bitmaps, and every
inode in use. N is a decimal number, and a PATH starts with /. With --json each
command prints one JSON object instead, described in docs/INSPECT.md.

  vsfs-inspect disk.img layout
  vsfs-inspect disk.img inode /foo/bar
  vsfs-inspect disk.img block 8
"""

Values = dict[str, Any]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of usage and message."""
        self.exit(2, f"{PROGRAM}: {message}; see {PROGRAM} --help\n")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [--json] IMAGE [COMMAND ...]",
        description="Show what is in a VSFS image. It may be mounted; nothing is changed.",
        formatter_class=RawHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument("image", metavar="IMAGE", help="image file or block device")
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(
        prog=PROGRAM,
        dest="command",
        title="commands",
        description=_command_list(),
        help=argparse.SUPPRESS,
    )
    for name, command in _wanted(argv).items():
        if name is None:
            continue
        usage = f"{PROGRAM} IMAGE {name}"
        sub = commands.add_parser(
            name, prog=usage, description=command.help, formatter_class=HelpFormatter
        )
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if command.add is not None:
            command.add(sub)
        elif command.argument == _WHICH:
            sub.add_argument("which", nargs="?", choices=("inode", "data"))
        elif command.argument == MAYBE_INODE:
            sub.add_argument("what", nargs="?", metavar=INODE)
        elif command.argument:
            sub.add_argument("what", metavar=command.argument)
    return parser.parse_args(argv)


def _wanted(argv: list[str]) -> dict[str | None, Command]:
    """The command that is named; all where none is, for what argparse says then.

    To make the parsers of all takes a tenth of what a command takes.
    """
    words = [word for word in argv if not word.startswith("-")]
    name = words[1] if len(words) > 1 else None
    return {name: _COMMANDS[name]} if name in _COMMANDS else _COMMANDS


def _command_list() -> str:
    return "\n".join(
        f"{name:<10}{command.argument or '':<14}{command.help}"
        for name, command in _COMMANDS.items()
        if name is not None
    )


# -- commands -----------------------------------------------------------------


def _everything(image: RawImage, _: argparse.Namespace) -> Values:
    from vsfs.describe_layout import describe_image  # noqa: PLC0415  (late: one command needs it)

    return describe_image(image)


def _bitmaps(image: RawImage, arguments: argparse.Namespace) -> Values:
    chosen = [arguments.which] if arguments.which else ["inode", "data"]
    return {"bitmaps": [describe.describe_bitmap(image, which) for which in chosen]}


def _directory(image: RawImage, arguments: argparse.Namespace) -> Values:
    return describe.describe_directory(image, locate(image, arguments.what, follow=True))


def _fragments(image: RawImage, arguments: argparse.Namespace) -> Values:
    from vsfs.describe_fragments import describe_fragments  # noqa: PLC0415

    what = arguments.what
    return describe_fragments(image, None if what is None else locate(image, what, follow=True))


def _journal(image: RawImage, _: argparse.Namespace) -> Values:
    from vsfs.describe_journal import describe_journal  # noqa: PLC0415

    return describe_journal(image)


def _file(image: RawImage, arguments: argparse.Namespace) -> Values:
    return describe.describe_file(image, locate(image, arguments.what, follow=True))


def _cat(image: RawImage, arguments: argparse.Namespace) -> None:
    """The bytes of a file as they are."""
    ino = locate(image, arguments.what, follow=True)
    damage = image.inode_damage(ino)
    if damage:
        fail(PROGRAM, f"warning: inode {ino} is damaged: {safe(damage)}")
    sys.stdout.flush()
    for part in describe.content(image, ino):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


_COMMANDS: Final[dict[str | None, Command]] = {
    None: Command(
        "everything",
        None,
        _everything,
        lambda report, values: report.image(values),
    ),
    "super": Command(
        "every field of the superblock",
        None,
        lambda image, _: describe.describe_superblock(image),
        lambda report, values: report.superblock(values),
    ),
    "layout": PICTURES["layout"],
    "bitmap": Command(
        "what is in use: both bitmaps, or one",
        _WHICH,
        _bitmaps,
        lambda report, values: report.bitmaps(values),
    ),
    "inode": PICTURES["inode"],
    "path": PICTURES["path"],
    "block": PICTURES["block"],
    "hexdump": PICTURES["hexdump"],
    "dir": Command(
        "the records of a directory, free ones too",
        "N|/PATH",
        _directory,
        lambda report, values: report.directory(values),
    ),
    "tree": Command(
        "all names with their inode numbers",
        None,
        lambda image, _: describe.describe_tree(image),
        lambda report, values: report.tree(values),
    ),
    "fragments": Command(
        "the runs of blocks that files and directories lie in",
        MAYBE_INODE,
        _fragments,
        lambda report, values: report.fragments(values),
    ),
    "journal": Command(
        "its header, and the transaction that waits in it",
        None,
        _journal,
        lambda report, values: report.journal(values),
    ),
    "cat": Command(
        "the bytes of a file; a deleted one has only its number",
        "N|/PATH",
        _file,
        lambda _report, _values: None,  # its bytes are written as they are
    ),
    **LOOKUPS,
}


# -- running ------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    try:
        return run_to_end(lambda: _inspect(arguments))
    except UsageError as error:
        return fail(PROGRAM, str(error), 2)
    except OSError as error:
        return fail(PROGRAM, safe(_sentence(error, arguments)))


def _inspect(arguments: argparse.Namespace) -> int:
    device = FileDevice(arguments.image, read_only=True)
    try:
        wait_for_present(PROGRAM, arguments.image)
        try:
            image = open_image(device, quiet=arguments.command in _PRINTED_ON_THE_WAY)
        except Corrupt as error:
            if arguments.command != "super":
                raise
            _emit(describe.describe_raw_superblock(device, str(error)), arguments)
            raise
        if image.damage and arguments.command not in (None, "super"):
            fail(PROGRAM, f"warning: {image.damage}")
        if arguments.command != "journal":
            _warn_of_transaction(image, arguments.image)
        _run(image, arguments)
    finally:
        device.close()
    sys.stdout.flush()
    return 0


def _warn_of_transaction(image: RawImage, path: str) -> None:
    """Say that the bytes are not yet what the next mount makes of them."""
    if not image.superblock.feature_incompat & FEATURE_INCOMPAT_RECOVER:
        return
    try:
        waiting = image.journal.waiting() if image.journal else None
    except Corrupt:
        return  # it is shown by the command about it
    if waiting is not None:
        fail(
            PROGRAM,
            f"warning: transaction {waiting.sequence} waits in the journal, and this is the state "
            f"before it; to see what it changes: {PROGRAM} {safe(path)} journal",
        )


def _run(image: RawImage, arguments: argparse.Namespace) -> None:
    if arguments.command == "cat" and not arguments.json:
        _cat(image, arguments)
        return
    values = _COMMANDS[arguments.command].describe(image, arguments)
    if getattr(arguments, "svg", None) is None:
        _emit(values, arguments)
        return
    if arguments.json:
        raise UsageError("--svg and --json are two outputs; ask for one of them")
    draw(values, arguments)


def _emit(values: Values, arguments: argparse.Namespace) -> None:
    """Print a description as JSON, or as text."""
    if arguments.json:
        _print_json(values)
        return
    from .inspect_text import Report  # noqa: PLC0415

    report = Report(printer_for_stdout(), os.path.basename(arguments.image))
    _COMMANDS[arguments.command].show(report, values)


def _print_json(values: Values) -> None:
    """One object; what is an iterator in it is written as it comes, an element a line."""
    import json  # noqa: PLC0415  (late, as rich: each kind of output loads what it needs)

    separator = "{\n"
    for key, value in values.items():
        print(f'{separator}  "{key}": ', end="")
        if isinstance(value, Iterator):
            print("[", end="")
            for index, element in enumerate(value):
                print(",\n    " if index else "\n    ", json.dumps(element), sep="", end="")
            print("\n  ]", end="")
        else:
            print(json.dumps(value, indent=2).replace("\n", "\n  "), end="")
        separator = ",\n"
    print("\n}")


def _sentence(error: OSError, arguments: argparse.Namespace) -> str:
    """What is wrong, where, and what to do."""
    text = explain(error, arguments.image)
    look = f"{PROGRAM} {arguments.image}"
    if isinstance(error, NotThere) and (getattr(arguments, "what", None) or "").startswith("/"):
        return f"{text}; to see what there is: {look} tree"
    if isinstance(error, WrongType):
        return f"{text}; to see it: {look} inode {error.ino}"
    if isinstance(error, Corrupt) and error.block:
        return f"{arguments.image}: {error}; to see its bytes: {look} block {error.block}"
    if isinstance(error, Corrupt) and arguments.command != "super":
        return f"{arguments.image}: {error}; to see all of it: {look} super"
    return text


if __name__ == "__main__":
    sys.exit(main())
