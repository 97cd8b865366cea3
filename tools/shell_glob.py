"""Patterns in the shell's words: ``rm /foo/*.txt``.

As in sh(1): ``*``, ``?`` and ``[...]`` stand for names that are there, of those with
a dot before them only for a pattern that has it too, and a pattern that fits
nothing stays as it is.
"""

from __future__ import annotations

import fnmatch
import glob
import posixpath

import vsfs

from .shell_commands import Session, is_directory
from .shell_words import Pattern


def expand(session: Session, name: str, words: list[str]) -> list[str]:
    """The words of command `name`, with names in the place of patterns.

    What ``put`` takes is on the host, and so is where ``get`` puts it.
    """
    expanded: list[str] = []
    with session.unobserved():
        for at, word in enumerate(words):
            is_last = at == len(words) - 1 and len(words) > 1
            if not isinstance(word, Pattern) or (name == "get" and is_last):
                expanded.append(word)
            elif name == "put" and not is_last:
                expanded += sorted(glob.glob(word.pattern)) or [word]
            else:
                expanded += _names(session.fs, word.pattern) or [word]
    return expanded


def _names(fs: vsfs.FileSystem, pattern: str) -> list[str]:
    """The paths that fit, in order; walks no further than there are components."""
    found = ["/" if pattern.startswith("/") else ""]
    for component in filter(None, pattern.split("/")):
        found = [path for folder in found for path in _below(fs, folder, component)]
    if pattern.endswith("/"):
        return [f"{path}/" for path in found if is_directory(fs, path)]
    return found


def _below(fs: vsfs.FileSystem, folder: str, component: str) -> list[str]:
    """Paths in a directory whose last name fits."""
    if not glob.has_magic(component) or component in (".", ".."):
        path = posixpath.join(folder, component)
        return [path] if fs.access(path, 0, follow_symlinks=False) else []
    try:
        names = fs.listdir(folder or ".")
    except OSError:  # no directory, or not to be read
        return []
    hidden = component.startswith(".")
    fitting = [name for name in names if hidden or not name.startswith(".")]
    return [
        posixpath.join(folder, name)
        for name in sorted(fitting)
        if fnmatch.fnmatchcase(name, component)
    ]
