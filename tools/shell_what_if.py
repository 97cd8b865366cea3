"""The shell's what-if: what the same commands cost under other settings (OSTEP 40.7)."""

from __future__ import annotations

import contextlib
import os
from typing import Final

import vsfs
from vsfs.trace_log import MOST_BYTES, clean_copy
from vsfs.traced import TracedVolume
from vsfs.what_if import AXES, Outcome, Setting, alternatives, measure, setting_of

from .shell_commands import BadUse, Group, Session, Trouble, some
from .what_if_output import json_of, show_table

COMMANDS: Final = Group("What the disk would see")

Choice = tuple[Setting, dict[str, tuple[str, ...]]]


@COMMANDS.command(
    "what-if [--json] [SETTING...] COMMANDS",
    "count what COMMANDS read and write under each setting",
    "  COMMANDS is one word, as in: what-if cache journal 'mkdir /d; ls /d'\n"
    "  They run on copies of the image in memory, once for each setting; the image stays as\n"
    "  it is, and what they print is not shown. A SETTING is one of\n"
    + "".join(f"    {axis:<8} {', '.join(values)}\n" for axis, values in AXES.items())
    + "  The name alone tries all its values, one at a time, as does NAME=VALUE,VALUE with those;\n"
    "  NAME=VALUE sets it for all rows. With no name to try, all are tried. journal is at\n"
    "  first as the image has it. depth puts the tree below /1/2/... so that /foo is\n"
    "  /1/2/foo for depth 3. A sync at the end counts, mounting and unmounting do not.",
)
def what_if(session: Session, words: list[str]) -> None:
    """Compare settings."""
    as_json = "--json" in words[:-1]
    *chosen, commands = some([word for word in words if word != "--json" or not as_json])
    volume = session.fs.volume
    base, varied = _choice(chosen, setting_of(volume))
    if commands.partition("=")[0] in AXES:
        raise BadUse(f"{commands!r} is a setting; put the commands behind it, in quotes")
    outcomes = _measure(session, alternatives(base, varied), commands)
    if as_json:
        print(json_of(outcomes))
    else:
        show_table(session.printer, outcomes)


def _choice(words: list[str], base: Setting) -> Choice:
    """What all rows have, and what is tried; raises BadUse."""
    varied: dict[str, tuple[str, ...]] = {}
    fixed: dict[str, str] = {}
    for word in words:
        axis, equals, text = word.partition("=")
        values = tuple(text.split(",")) if equals else AXES.get(axis, ())
        if axis not in AXES:
            raise BadUse(f"{axis!r} is no setting; there are {', '.join(AXES)}")
        for value in values:
            if value not in AXES[axis]:
                raise BadUse(f"{value!r} is not a value of {axis}: {', '.join(AXES[axis])}")
        if len(values) == 1:
            fixed[axis] = values[0]
        else:
            varied[axis] = values
    varied = varied or {axis: values for axis, values in AXES.items() if axis not in fixed}
    return base._replace(**fixed), varied


def _measure(session: Session, settings: list[Setting], commands: str) -> list[Outcome]:
    """What each setting costs; raises Trouble if already the first does not work."""
    image = _copy(session)
    with session.unobserved():
        directory = session.fs.getcwd()
    outcomes: list[Outcome] = []
    with open(os.devnull, "w", encoding="utf-8") as nowhere:

        def run(fs: vsfs.FileSystem) -> bool:
            with contextlib.redirect_stdout(nowhere):
                return session.play(fs, commands) == 0

        for setting in settings:
            outcomes.append(
                measure(
                    image,
                    setting,
                    run,
                    session.fs.credentials,
                    session.fs.volume.clock,
                    directory,
                )
            )
            if outcomes[0].trouble:
                raise Trouble(f"there is nothing to compare: {outcomes[0].trouble}")
    return outcomes


def _copy(session: Session) -> bytes:
    """The image as a clean unmount would leave it now; all so far is written first."""
    volume = session.fs.volume
    if not isinstance(volume, TracedVolume):
        raise Trouble("this filesystem was not opened for tracing")
    with volume.lock:
        volume.sync()
        image = clean_copy(volume, volume.traced.below)
    if image is None:
        raise Trouble(
            f"no copy can be made of an image of more than {MOST_BYTES >> 20} MiB, "
            "nor of one opened with -r whose journal must be replayed"
        )
    return image
