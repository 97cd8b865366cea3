"""vsfs-shell: use a filesystem in an image, without FUSE and without root.

Reads commands from a terminal, a file, stdin or ``-c``.  ``shell_run`` runs them;
what they do is in modules of their own, each with a ``Group``.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from typing import Final

import vsfs
from vsfs.cold import ColdVolume
from vsfs.traced import TracedVolume

from .inspect_output import safe
from .messages import explain, fail, run_to_end
from .shell_run import PROGRAM, new_session, run_script

_BAD_USE: Final = 2


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Use the VSFS filesystem in an image, call by call. Needs neither FUSE nor "
        "root. Without SCRIPT and -c it reads commands from the terminal, or from stdin.",
        epilog="The command `help` lists the commands.",
    )
    parser.add_argument("image", metavar="IMAGE", help="image file or block device")
    parser.add_argument("script", metavar="SCRIPT", nargs="?", help="a file of commands")
    parser.add_argument(
        "-c", dest="commands", metavar="COMMANDS", help="run these, such as 'ls; df'"
    )
    parser.add_argument(
        "-k", "--keep-going", action="store_true", help="go on after a command that fails"
    )
    parser.add_argument("-r", "--read-only", action="store_true", help="change nothing")
    parser.add_argument(
        "-u", "--user", metavar="UID[:GID]", type=_user, help="act for this user, 0 for root"
    )
    parser.add_argument(
        "--cold",
        action="store_true",
        help="keep nothing in memory between calls, as OSTEP's figures 40.3 and 40.4 assume",
    )
    arguments = parser.parse_intermixed_args(argv)  # SCRIPT may come after options
    if arguments.script is not None and arguments.commands is not None:
        parser.error("give a SCRIPT or -c, not both")
    return arguments


def _user(text: str) -> vsfs.Credentials:
    uid, _, gid = text.partition(":")
    if not uid.isdecimal() or (gid and not gid.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no user; write it as 1000 or 1000:1000")
    return vsfs.Credentials(int(uid), int(gid or uid))


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = _arguments(argv)
    return run_to_end(lambda: _main(arguments))


def _main(arguments: argparse.Namespace) -> int:
    try:
        text = _script(arguments)
    except OSError as error:
        return fail(PROGRAM, f"{arguments.script}: {error.strerror}", _BAD_USE)
    try:
        fs = _open(arguments)
    except OSError as error:
        return fail(PROGRAM, safe(_cannot_open(error, arguments.image)))
    session = new_session(fs, arguments.image)
    try:
        with fs:
            if text is None:
                from .shell_prompt import interact  # noqa: PLC0415  (late: only a terminal needs it)

                return interact(session)
            return run_script(session, text, keep_going=arguments.keep_going)
    except ImportError as error:
        if error.name != "prompt_toolkit":
            raise
        return fail(
            PROGRAM,
            "typing commands needs prompt_toolkit; run pip install 'vsfs-fuse[shell]', "
            "or give the commands with -c, in a file, or on stdin",
        )
    except BrokenPipeError:
        raise
    except OSError as error:  # of the last commit
        return fail(PROGRAM, safe(explain(error, arguments.image)))


def _open(arguments: argparse.Namespace) -> vsfs.FileSystem:
    """The filesystem, such that its accesses can be recorded."""
    device = vsfs.FileDevice(arguments.image, read_only=arguments.read_only)
    kind = ColdVolume if arguments.cold else TracedVolume
    try:
        return vsfs.FileSystem(kind(device, read_only=arguments.read_only), arguments.user)
    except BaseException:
        device.close()
        raise


def _script(arguments: argparse.Namespace) -> str | None:
    """The commands to run; None if somebody is to type them."""
    if arguments.commands is not None:
        return str(arguments.commands)
    if arguments.script is not None:
        with open(arguments.script, "rb") as script:
            return os.fsdecode(script.read())
    if sys.stdin.isatty():
        return None
    return os.fsdecode(sys.stdin.buffer.read())


def _cannot_open(error: OSError, image: str) -> str:
    text = explain(error, image)
    if error.errno in (errno.EACCES, errno.EROFS):
        text += f"; to only look, run: {PROGRAM} -r {image}"
    return text


if __name__ == "__main__":
    sys.exit(main())
