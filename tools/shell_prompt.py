"""The shell at a terminal: a prompt with history, and completion by the Tab key.

The only module that needs prompt_toolkit.
"""

from __future__ import annotations

import os
import posixpath
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from vsfs.what_if import AXES

from .inspect_output import safe
from .messages import fail
from .shell_commands import Session
from .shell_run import PROGRAM, prompt_text, run
from .shell_strace import open_flags
from .shell_words import BadLine, Unfinished, parse

#: Commands whose words are no paths, and what they can be.
_FIXED_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "strace": ("on", "off"),
    "what-if": tuple(AXES),
    "as": (),
    "close": (),
    "dup": (),
}
_ENDS_A_WORD: Final = " \t;>"


def interact(session: Session) -> int:
    """Read commands until the end of the input; return 0."""
    prompt: PromptSession[str] = PromptSession(
        history=_history(), completer=ShellCompleter(session), complete_while_typing=False
    )
    print(f"{PROGRAM} {session.image}: `help` lists the commands, Ctrl-D leaves")
    while not session.is_over:
        try:
            commands = parse(_read(prompt, session))
        except EOFError:
            break
        except KeyboardInterrupt:
            continue  # the line is given up, as in a shell
        except BadLine as error:
            fail(PROGRAM, safe(str(error)))
            continue
        try:
            run(session, commands)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
    return 0


def _read(prompt: PromptSession[str], session: Session) -> str:
    """A line, or more of them while a quote is open."""
    text = prompt.prompt(prompt_text(session))
    while True:
        try:
            parse(text)
        except Unfinished:
            text += "\n" + prompt.prompt("> ")
            continue
        except BadLine:
            pass  # told by the caller
        return text


def _history() -> History:
    """What was typed before, in the place for such things; only in memory where it can't be."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(home) / "vsfs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "shell_history"
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


class ShellCompleter(Completer):
    """Completes names of commands, and paths inside the image; of the host for ``put``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._host = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """What could stand where the cursor is."""
        command = document.text_before_cursor.rpartition(";")[2].lstrip()
        before, word = _last_word(command)
        words = before.split()
        if not words or words[0] == "help":
            names = [name for group in self._session.groups for name in group.commands]
            return _matching(word, names)
        if words[0] in _FIXED_WORDS:
            return _matching(word, _FIXED_WORDS[words[0]])
        if words[0] == "open" and len(words) == 2:
            at = word.rpartition("|")
            return _matching(at[2], open_flags())
        on_host = (words[0] == "put" and len(words) == 1) or (words[0] == "get" and len(words) > 1)
        if on_host:
            return self._host.get_completions(Document(word), event)
        return self._paths(word)

    def _paths(self, word: str) -> Iterable[Completion]:
        folder, name = posixpath.split(word)
        found = []
        with self._session.unobserved():
            fs = self._session.fs
            try:
                for child in sorted(fs.listdir(folder or ".")):
                    if child.startswith(name) and (name or not child.startswith(".")):
                        is_directory = stat.S_ISDIR(fs.lstat(posixpath.join(folder, child)).st_mode)
                        end = "/" if is_directory else ""
                        found.append(
                            Completion(_escaped(child) + end, -len(name), display=safe(child) + end)
                        )
            except OSError:
                return []
        return found


def _last_word(text: str) -> tuple[str, str]:
    """What is before the word that is being typed, and that word."""
    at = max(text.rfind(char) for char in _ENDS_A_WORD) + 1
    return text[:at], text[at:]


def _matching(word: str, names: Iterable[str]) -> list[Completion]:
    return [Completion(name, -len(word)) for name in sorted(names) if name.startswith(word)]


def _escaped(name: str) -> str:
    """A name as it is to be typed."""
    return "".join(f"\\{char}" if char in " \t'\"\\;>#" else char for char in name)
