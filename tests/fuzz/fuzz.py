"""Run atheris: ``python -m tests.fuzz.fuzz [-max_total_time=60 ...]``, as libFuzzer has it.

New inputs go to build/fuzz/corpus and failures to build/fuzz/found-*; the first
failure ends it.  ``--keep-going`` notes each kind of failure once and goes on.  To
keep what reaches new code: ``-merge=1 tests/fuzz/corpus build/fuzz/corpus``.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
WORK: Final = Path("build/fuzz")
_MISSING: Final = """\
The fuzzer needs atheris (https://pypi.org/project/atheris), which has wheels for
x86-64 Linux: pip install 'vsfs-fuse[fuzz]'.  Elsewhere pip builds it, which needs
clang with libFuzzer (package clang).  What it found so far is tested without it:
pytest tests/fuzz"""


def keeping_on(run_one: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """`run_one`, but a failure is written to a file and told, each place once."""
    seen: set[tuple[str, int]] = set()

    def run(data: bytes) -> None:
        try:
            run_one(data)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = (last.filename, last.lineno or 0)
            if place not in seen:
                seen.add(place)
                path = WORK / f"found-{hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]}"
                path.write_bytes(data)
                print(f"{path}: {traceback.format_exc()}", file=sys.stderr, flush=True)

    return run


def main() -> int:
    """Fuzz until told to stop; the exit status is libFuzzer's."""
    try:
        import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        print(_MISSING, file=sys.stderr)
        return 1
    with atheris.instrument_imports(include=["vsfs"]):  # all of it, so nothing before
        from tests.fuzz.patches import run_one
        from tests.fuzz.seeds import write_seeds
    logging.disable()  # a mount tells of each damaged place
    (WORK / "corpus").mkdir(parents=True, exist_ok=True)
    arguments = [argument for argument in sys.argv[1:] if argument != "--keep-going"]
    if not any("merge=1" in argument for argument in arguments):
        write_seeds(WORK / "corpus")
        arguments = [
            "-max_len=512",
            "-timeout=20",
            "-rss_limit_mb=1024",
            f"-artifact_prefix={WORK}/found-",
            *arguments,
            f"{WORK}/corpus",
            str(CORPUS),
        ]
    run = keeping_on(run_one) if "--keep-going" in sys.argv else run_one
    command = f"{sys.executable} -m tests.fuzz.fuzz"  # with which a merge runs itself
    atheris.Setup([command, *arguments], run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
