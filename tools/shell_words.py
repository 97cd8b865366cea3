r"""A line of the shell as words: quotes, comments, `;`, and `>` for a file.

A small part of what sh(1) knows, and nothing is taken for text by mistake: what
this shell does not have is refused.

* blanks separate words; `'...'` and `"..."` keep them together, `\` one character;
* `#` begins a comment, `;` ends a command;
* `*`, `?` and `[...]` stand for names (``shell_glob``);
* `> FILE` and `>> FILE` send what a command prints to a file of the image.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: Operators of sh that stand alone as a word.
_UNKNOWN: Final = {"|", "||", "&", "&&", "<", "<<", "2>", "&>"}
_TOKEN: Final = re.compile(
    r"""
    (?P<blank>[ \t\r]+)
    | (?P<comment>\#[^\n]*)
    | (?P<operator>>>|>|;|\n)
    | (?P<word>(?: \\. | '[^']*' | "(?:\\.|[^"\\])*" | [^\s;>'"\\] )+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_PIECE: Final = re.compile(r"""\\(.)|'([^']*)'|"((?:\\.|[^"\\])*)"|(.)""", re.DOTALL)


class BadLine(ValueError):
    """A line that is no command; the text says why."""


class Unfinished(BadLine):
    """With another line it may be one: a quote is open, or a backslash ends it."""


class Pattern(str):
    """A word with a wildcard outside of quotes; `pattern` is it for ``fnmatch``.

    What was quoted is in brackets there, and so means itself.
    """

    pattern: str

    def __new__(cls, text: str, pattern: str) -> Pattern:
        """`text` is the word without its quotes."""
        word = super().__new__(cls, text)
        word.pattern = pattern
        return word


class Token(NamedTuple):
    """A word without its quotes, or an operator."""

    text: str
    is_operator: bool


@dataclass
class CommandLine:
    """One command: its words, and where its output goes if not to the terminal."""

    words: list[str] = field(default_factory=list)
    output: str | None = None
    append: bool = False


def parse(text: str) -> list[CommandLine]:
    r"""The commands of a line, or of several.  Raises BadLine.

    >>> [command.words for command in parse("cd /foo; cat 'a b' # so")]
    [['cd', '/foo'], ['cat', 'a b']]
    >>> parse("echo hi >> /f")
    [CommandLine(words=['echo', 'hi'], output='/f', append=True)]
    """
    commands = [CommandLine()]
    tokens = iter(split(text))
    for token in tokens:
        command = commands[-1]
        if not token.is_operator:
            command.words.append(token.text)
        elif token.text in (";", "\n"):
            commands.append(CommandLine())
        else:
            target = next(tokens, Token("", True))
            if target.is_operator:
                raise BadLine(f"{token.text!r} needs the name of a file behind it")
            command.output, command.append = target.text, token.text == ">>"
    for command in commands:
        if command.output is not None and not command.words:
            raise BadLine("'>' needs a command before it")
    return [command for command in commands if command.words]


def split(text: str) -> list[Token]:
    """The words and operators of a text.  Raises BadLine."""
    tokens = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            what = "a quote is not closed" if text[at] in "'\"" else "nothing is behind the '\\'"
            raise Unfinished(f"{what}: {text[at : at + 20]!r}")
        at = found.end()
        if found["operator"]:
            tokens.append(Token(found["operator"], True))
        elif found["word"]:
            if found["word"] in _UNKNOWN:
                raise BadLine(f"this shell has no {found['word']!r}; quote it if you mean the text")
            tokens.append(Token(_word(found["word"]), False))
    return tokens


def _word(typed: str) -> str:
    """A word without its quotes; a Pattern if wildcards are outside of them."""
    text = _PIECE.sub(_unquoted, typed)
    pattern = _PIECE.sub(lambda piece: piece[4] or glob.escape(_unquoted(piece)), typed)
    return Pattern(text, pattern) if glob.has_magic(_PIECE.sub(r"\4", typed)) else text


def _unquoted(piece: re.Match[str]) -> str:
    escaped, single, double, plain = piece.groups()
    if escaped == "\n":
        return ""  # the line goes on
    if double is not None:
        return re.sub(r'\\(["\\])', r"\1", double)
    return next(text for text in (escaped, single, plain) if text is not None)
