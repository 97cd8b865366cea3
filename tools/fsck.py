"""fsck.vsfs: check an image, say what is wrong in it, and repair it.

Everything is checked in memory first; the image is written once, when all
questions are answered.  Exit statuses are those of fsck(8).
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from vsfs.device import FileDevice, Kind
from vsfs.errors import Corrupt, VsfsError
from vsfs.layout import STATE_CLEAN, SUPERBLOCK_SIZE, Superblock
from vsfs.validate import check_superblock

from .fsck_outcome import Mode, Outcome, Status
from .help_text import RawHelpFormatter
from .inspect_output import printer_for_stdout, safe
from .messages import explain, fail
from .present import wait_for_present

if TYPE_CHECKING:
    from vsfs.fsck import Finding

    from .fsck_text import Text

PROGRAM: Final = "fsck.vsfs"
_BROKEN_PIPE: Final = 141  # what a shell reports of a program that SIGPIPE ended
_EPILOG: Final = """\
Without -n, -p and -y it asks about each repair. The image is written only after the
last question, and Ctrl-C leaves it as it was.

exit status, as fsck(8): 0 no problems, 1 problems repaired, 4 problems left,
8 the check failed, 16 wrong usage, 32 stopped by the user; sums of these are possible.

  fsck.vsfs -n disk.img             what is wrong, and the bytes that would change
  fsck.vsfs -z undo disk.img        ask about each repair, and be able to go back:
  fsck.vsfs --undo undo disk.img
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of usage and message."""
        self.exit(Status.USAGE, f"{PROGRAM}: {message}; see {PROGRAM} --help\n")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-n | -p | -y] [-f] [-v] [--json] [-z UNDO | --undo UNDO] IMAGE",
        description="Check a VSFS image, explain what is wrong, and repair it.",
        formatter_class=RawHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument("image", metavar="IMAGE", help="image file or block device")
    for mode, text in (
        (Mode.SHOW, "change nothing; show all that is wrong, with the bytes to change"),
        (Mode.SAFE, "repair what a crash leaves; if anything else is wrong, change nothing"),
        (Mode.ALL, "repair everything without asking"),
    ):
        parser.add_argument(
            mode.value, dest="modes", action="append_const", const=mode, default=[], help=text
        )
    parser.add_argument(
        "-a", dest="modes", action="append_const", const=Mode.SAFE, help=argparse.SUPPRESS
    )  # what fsck(8) says for -p
    parser.add_argument("-f", dest="force", action="store_true",
                        help="with -p: check also what is marked clean")  # fmt: skip
    parser.add_argument("-v", dest="verbose", action="store_true",
                        help="also the rules, the evidence and why it is believed")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-z", dest="undo_file", metavar="UNDO",
                        help="keep in this new file what the repairs overwrite")  # fmt: skip
    parser.add_argument("--undo", metavar="UNDO",
                        help="take the repairs back that this file is from")  # fmt: skip
    parser.add_argument("-C", dest="_", metavar="FD", help=argparse.SUPPRESS)  # fsck(8) passes it
    arguments = parser.parse_args(argv)
    _check_combination(parser, arguments)
    return arguments


def _check_combination(parser: _Parser, arguments: argparse.Namespace) -> None:
    """Settle `arguments.mode`; end with status 16 for what makes no sense."""
    modes = set(arguments.modes)
    if len(modes) > 1:
        parser.error("give only one of -n, -p and -y")
    arguments.mode = modes.pop() if modes else Mode.ASK
    if arguments.undo is not None:
        if arguments.modes or arguments.undo_file is not None or arguments.json:
            parser.error("--undo goes with an image and nothing else")
        return
    if arguments.mode is Mode.SHOW and arguments.undo_file is not None:
        parser.error("-n changes nothing, so there is nothing to keep with -z")
    if arguments.mode is Mode.ASK and (arguments.json or not sys.stdin.isatty()):
        why = "--json" if arguments.json else "without a terminal it"
        parser.error(f"{why} cannot ask questions; use -n, -p or -y")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = _arguments(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # as `| head` does; keep the exit from flushing into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return int(Status.CANCELLED)
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else arguments.image
        return fail(PROGRAM, safe(explain(error, named)), Status.FAILED)
    return int(status)


def _run(arguments: argparse.Namespace) -> Status:
    if arguments.undo is not None:
        return _take_back(arguments)
    if arguments.undo_file is not None and os.path.lexists(arguments.undo_file):
        raise VsfsError(f"{arguments.undo_file} is there already; give -z the name of a new file")
    reads_only = arguments.mode is Mode.SHOW
    device = FileDevice(arguments.image, read_only=reads_only)
    try:
        outcome, text = Outcome(arguments.image, arguments.mode), _text(arguments)
        if arguments.mode is Mode.SAFE and not arguments.force:
            outcome.skipped = _marked_clean(device)
        if outcome.skipped is None:
            if reads_only:
                outcome.mounted = wait_for_present(PROGRAM, arguments.image)
            try:
                _check(device, outcome, text)
            except KeyboardInterrupt:
                fail(PROGRAM, safe(f"{arguments.image}: stopped; nothing was changed"))
                raise
            _repair(device, outcome, arguments.undo_file)
        _show(outcome, text, arguments)
    finally:
        device.close()
    return outcome.status


def _text(arguments: argparse.Namespace) -> Text:
    from .fsck_text import Text  # noqa: PLC0415  (late: see _marked_clean)

    shows_edits = arguments.mode is Mode.SHOW
    return Text(printer_for_stdout(), verbose=arguments.verbose, edits=shows_edits)


def _marked_clean(device: FileDevice) -> Superblock | None:
    """The superblock if it is sound and says that the filesystem is.

    At every start of a system that is all there is to do, so nothing more than
    this is loaded for it.
    """
    head = device.read(0, min(SUPERBLOCK_SIZE, device.size), 0, Kind.SUPERBLOCK)
    try:
        superblock = check_superblock(head, device.size)
    except VsfsError:  # which the check will tell
        return None
    return superblock if superblock.state == STATE_CLEAN else None


# -- checking -----------------------------------------------------------------


class _Decisions:
    """Answers the check's questions by the mode; notes all it was asked.

    `findings` has them with the answers, also where the check then cannot go on.
    """

    def __init__(self, mode: Mode, text: Text) -> None:
        self.findings: list[Finding] = []
        self._mode = mode
        self._text = text
        self._is_asking = mode is Mode.ASK

    def __call__(self, finding: Finding) -> bool:
        answer = self._decide(finding)
        self.findings.append(dataclasses.replace(finding, is_repaired=answer))
        return answer

    def _decide(self, finding: Finding) -> bool:
        if self._mode is Mode.SAFE:
            return finding.rule.is_safe
        if self._mode is Mode.ASK:
            self._text.finding(finding, has_question=self._is_asking)
            return not self._is_asking or self._ask(finding)
        return True

    def _ask(self, finding: Finding) -> bool:
        question = f"  {safe(finding.repair)}? (y)es, (n)o, (a)ll: "
        while True:
            try:
                answer = input(question).strip().lower()
            except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C
                print()
                raise KeyboardInterrupt from None
            if answer in ("y", "yes", "n", "no", "a", "all"):
                self._is_asking = answer[0] != "a"
                return answer[0] != "n"


def _check(device: FileDevice, outcome: Outcome, text: Text) -> None:
    """Find out what is wrong with `device`, and what is to be repaired."""
    from vsfs.fsck import check  # noqa: PLC0415  (late: see _marked_clean)

    decisions = _Decisions(outcome.mode, text)
    try:
        report = check(device, decide=decisions)
    except OSError as error:
        if not (decisions.findings or isinstance(error, Corrupt)):
            raise
        outcome.findings, outcome.error = tuple(decisions.findings), error
        return
    outcome.set_report(report)


def _repair(device: FileDevice, outcome: Outcome, undo_file: str | None) -> None:
    """Write what was decided for, all or nothing with -p; keep the way back before."""
    report = outcome.report
    is_refused = outcome.mode is Mode.SAFE and outcome.first_declined is not None
    if report is None or not report.edits or outcome.mode is Mode.SHOW or is_refused:
        return
    if undo_file is not None:
        from vsfs.fsck.undo import save  # noqa: PLC0415

        try:
            save(undo_file, device, report)
        except OSError as error:
            reason = error.strerror or str(error)
            outcome.error = VsfsError(f"cannot write {undo_file}: {reason}; nothing was changed")
            return
    outcome.is_begun = True
    try:
        report.write(device)
        outcome.is_written = True
    except (OSError, KeyboardInterrupt) as error:
        reason = "stopped" if isinstance(error, KeyboardInterrupt) else str(error)
        outcome.error = VsfsError(f"not all repairs were written ({reason}); run it once more")


# -- undoing ------------------------------------------------------------------


def _take_back(arguments: argparse.Namespace) -> Status:
    from vsfs.fsck.undo import undo  # noqa: PLC0415

    device = FileDevice(arguments.image)
    try:
        undo(arguments.undo, device)
    except OSError as error:
        if error.filename is None:
            raise
        raise VsfsError(f"cannot read {error.filename}: {error.strerror}") from error
    finally:
        device.close()
    print(safe(f"{arguments.image}: the repairs that {arguments.undo} is from are taken back"))
    return Status.CLEAN


# -- showing ------------------------------------------------------------------


def _show(outcome: Outcome, text: Text, arguments: argparse.Namespace) -> None:
    """Print what no question has shown yet, and the last line."""
    if arguments.json:
        from .fsck_json import document  # noqa: PLC0415

        print(document(outcome))
    else:
        text.outcome(outcome)
    sys.stdout.flush()  # before what stderr says about it
    if outcome.error is not None:
        fail(PROGRAM, safe(_sentence(outcome, outcome.error)))


def _sentence(outcome: Outcome, error: OSError) -> str:
    """Why the check, or the repair, did not come to its end."""
    if outcome.is_declined:
        return f"{outcome.image}: without this repair nothing else can be checked"
    if isinstance(error, Corrupt):
        return f"{outcome.image}: {error}; too much is lost for a repair, take a copy of the image"
    return explain(error, outcome.image)


if __name__ == "__main__":
    sys.exit(main())
