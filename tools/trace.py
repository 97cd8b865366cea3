"""vsfs-trace: run a command on a mounted image, and draw what its calls did to the disk.

The image is mounted on a directory of its own, in which the command runs; ``mount.vsfs
-o trace`` does the recording.  Whatever happens, the image is unmounted at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Final, NoReturn

from vsfs.lock import mount_points, wait_for_writer
from vsfs.trace_json import BadTrace, read_trace

from .inspect_output import printer_for_stdout, safe
from .messages import fail, run_to_end
from .timeline_output import add_arguments, show

PROGRAM: Final = "vsfs-trace"
_BAD_USE: Final = 2
_CANNOT_RUN: Final = 126  # as in sh
_NOT_FOUND: Final = 127


class _Failed(Exception):
    """Its text is the sentence for the user."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s [OPTIONS] IMAGE -- COMMAND...\n       %(prog)s [OPTIONS] --read FILE",
        description="Mount IMAGE on a directory of its own, run COMMAND in it, unmount, and draw "
        "every read and write of the disk as OSTEP's figures 40.3 and 40.4 do. The exit status "
        "is that of COMMAND.",
    )
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="image file or block device")
    parser.add_argument("command", metavar="COMMAND", nargs="*", help="a program and its arguments")
    parser.add_argument("--read", metavar="FILE", help="draw what mount.vsfs -o trace=FILE wrote")
    parser.add_argument(
        "--cold",
        action="store_true",
        help="keep nothing in memory between calls, as the figures assume",
    )
    add_arguments(parser)
    return parser


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    words = sys.argv[1:] if argv is None else argv
    at = words.index("--") if "--" in words else len(words)
    parser = _parser()
    arguments = parser.parse_intermixed_args(words[:at])
    arguments.command += words[at + 1 :]
    if (arguments.read is None) == (arguments.image is None):
        parser.error("give an IMAGE and a COMMAND, or --read FILE")
    if arguments.image is not None and not arguments.command:
        parser.error(f"which COMMAND? write it behind --, such as: {PROGRAM} disk.img -- ls -l")
    if arguments.read is not None and arguments.cold:
        parser.error("--cold is for recording; what --read shows was recorded already")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status, or our own."""
    arguments = _arguments(argv)
    try:
        return run_to_end(lambda: _main(arguments))
    except _Failed as error:
        return fail(PROGRAM, safe(str(error)), error.status)


def _main(arguments: argparse.Namespace) -> int:
    if arguments.read is not None:
        _draw(arguments.read, arguments)
        return 0
    with _orderly_end():
        folder = tempfile.mkdtemp(prefix="vsfs-trace-")
        trace, point = os.path.join(folder, "trace.jsonl"), os.path.join(folder, "mnt")
        try:
            os.mkdir(point)
            status = _run_mounted(arguments, point, trace)
            _draw(trace, arguments)
            return status
        finally:
            _remove(trace, point, folder)


def _draw(path: str, how: argparse.Namespace) -> None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            trace = read_trace(file)
    except OSError as error:
        raise _Failed(f"cannot read {path}: {error.strerror}") from None
    except BadTrace as error:
        raise _Failed(f"{path}: {error}; give a file that mount.vsfs -o trace=FILE wrote") from None
    try:
        show(printer_for_stdout(), trace, how)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _Failed(f"cannot write {how.svg}: {error.strerror}") from None


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGTERM and SIGHUP end this as an exception does, so that nothing stays mounted."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


# -- the mount -------------------------------------------------------------------


def _run_mounted(arguments: argparse.Namespace, point: str, trace: str) -> int:
    """Mount, run the command, unmount; returns the command's exit status."""
    options = f"trace={trace}" + (",cold" if arguments.cold else "")
    mounting = [sys.executable, "-m", "vsfs_tools.mount", "-o", options, arguments.image, point]
    try:
        mounted = subprocess.run(mounting, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
        if mounted.returncode != 0:
            raise _Failed(mounted.stderr.strip().removeprefix("mount.vsfs: "))
        sys.stderr.write(mounted.stderr)  # warnings
        return _run(arguments.command, point)
    finally:
        _unmount(arguments.image, point)


def _run(command: list[str], directory: str) -> int:
    """Run the command in `directory`; its exit status, 128 and the number for a signal's."""
    try:
        process = subprocess.Popen(command, cwd=directory)  # noqa: S603  (that is what we are for)
    except FileNotFoundError:
        raise _Failed(f"there is no command {command[0]}", _NOT_FOUND) from None
    except OSError as error:
        raise _Failed(f"cannot run {command[0]}: {error.strerror}", _CANNOT_RUN) from None
    try:
        status = process.wait()
    except BaseException:  # it has had the Ctrl-C, too; a SIGTERM is handed on
        process.terminate()
        process.wait()
        raise
    return status if status >= 0 else 128 - status


def _unmount(image: str, point: str) -> None:
    """Unmount, also below a process that stays, and wait for the last commit."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # this is what Ctrl-C asks for
    try:
        for how in (["umount"], ["fusermount", "-u"], ["umount", "-l"], ["fusermount", "-uz"]):
            if point not in mount_points(image):
                break
            with contextlib.suppress(FileNotFoundError):
                subprocess.run([*how, point], capture_output=True, check=False)  # noqa: S603
        with contextlib.suppress(FileNotFoundError):
            wait_for_writer(image)
    except OSError as error:
        fail(PROGRAM, f"warning: {error}")
    finally:
        signal.signal(signal.SIGINT, before)


def _remove(trace: str, point: str, folder: str) -> None:
    """Remove what was made, one by one: what is still mounted must not be emptied."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(trace)
    try:
        os.rmdir(point)
        os.rmdir(folder)
    except OSError as error:
        fail(PROGRAM, f"warning: {folder} is left behind: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
