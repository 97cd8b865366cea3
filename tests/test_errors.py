"""Errors: each has an errno for programs and a sentence for people."""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import vsfs
from vsfs.errors import Corrupt, VsfsError, posix_error

WORDS: Final = "a word for each field of the error"


def subclasses(base: type[VsfsError]) -> Iterator[type[VsfsError]]:
    """`base` and all that is derived from it."""
    yield base
    for derived in base.__subclasses__():
        yield from subclasses(derived)


for _module in pkgutil.iter_modules(vsfs.__path__):
    if _module.name not in (
        "fuse_adapter",
        "fuse_callbacks",
        "llfuse_adapter",
    ):  # they need libfuse
        importlib.import_module(f"vsfs.{_module.name}")
ERRORS: Final = sorted(set(subclasses(VsfsError)), key=lambda kind: kind.__name__)


def made(kind: type[VsfsError]) -> VsfsError:
    """An error of this kind: numbers where it takes numbers, else words."""
    arguments: list[Any] = [
        7 if parameter.annotation in ("int", int) else WORDS
        for parameter in inspect.signature(kind).parameters.values()
    ]
    return kind(*arguments)


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_an_oserror_with_a_positive_errno(kind: type[VsfsError]) -> None:
    error = made(kind)
    assert isinstance(error, OSError)
    assert isinstance(error.errno, int)
    assert error.errno > 0
    assert error.errno == kind.code
    assert error.errno in errno.errorcode


@pytest.mark.parametrize("kind", ERRORS)
def test_a_docstring_starts_with_the_errno_of_its_error(kind: type[VsfsError]) -> None:
    if kind is not VsfsError:
        assert kind.__doc__ is not None
        named = re.match("E[A-Z]+", kind.__doc__)
        assert named is not None
        assert getattr(errno, named[0]) == kind.code


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_reads_as_one_sentence_without_its_number(kind: type[VsfsError]) -> None:
    text = str(made(kind))
    assert WORDS in text
    assert "\n" not in text
    assert "Errno" not in text
    assert not text.endswith(".")


def test_two_errors_of_the_same_errno_are_told_apart_by_their_classes() -> None:
    assert len({kind.__name__ for kind in ERRORS}) == len(ERRORS)
    assert {error.__name__ for error in ERRORS} >= {
        "CommitNeeded",
        "Corrupt",
        "ImageBusy",
        "ImpossibleSize",
        "NoSpace",
        "NotVsfs",
        "ReadOnly",
        "UnknownFeature",
    }


def test_damage_is_told_with_its_place_and_both_sides() -> None:
    error = Corrupt("inode 12", 3, 3072, "17 links", "at most 5")
    assert (error.structure, error.block, error.offset) == ("inode 12", 3, 3072)
    assert (error.found, error.expected) == ("17 links", "at most 5")
    assert error.errno == errno.EUCLEAN
    expected = "inode 12 (block 3, offset 3072) is damaged: found 17 links, expected at most 5"
    assert str(error) == expected


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EACCES])
@pytest.mark.parametrize("path", ["/no/such", b"/no/such", None])
def test_a_posix_error_is_what_os_would_raise(code: int, path: str | bytes | None) -> None:
    error = posix_error(code, path)
    assert (error.errno, error.strerror, error.filename) == (code, os.strerror(code), path)
    assert not isinstance(error, VsfsError)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOENT, FileNotFoundError),
        (errno.EEXIST, FileExistsError),
        (errno.ENOTDIR, NotADirectoryError),
        (errno.EISDIR, IsADirectoryError),
        (errno.EACCES, PermissionError),
        (errno.EPERM, PermissionError),
        (errno.EBADF, OSError),
    ],
)
def test_a_posix_error_has_the_class_that_python_has_for_it(
    code: int, expected: type[OSError]
) -> None:
    assert type(posix_error(code)) is expected


def test_a_missing_file_reads_as_it_does_on_the_host(tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as host:
        os.stat(path)
    ours = posix_error(errno.ENOENT, path)
    assert (type(ours), str(ours)) == (type(host.value), str(host.value))
