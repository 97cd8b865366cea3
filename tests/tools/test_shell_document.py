"""docs/SYSTEM_CALLS.md shows what the shell prints.

Its sessions are run, in the document's order, on one small image;
``python -m tests.tools.test_shell_document`` writes them again.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import time
from collections.abc import Iterator
from typing import Final
from unittest import mock

import pytest
from vsfs_tools.shell_commands import Session
from vsfs_tools.shell_run import new_session, prompt_text, run_script
from vsfs_tools.timeline_svg import svg_of

from tests.support.documents import Document, console, generated, parts_of
from tests.support.images import blank, mount
from tests.support.traces import book_image, traced
from vsfs.timeline import timeline_of

#: What is typed; an empty line ends what is shown together.
SESSIONS: Final[dict[str, str]] = {
    "descriptors": """\
open /foo O_RDWR|O_CREAT 0644
write 3 'hello, disk\\n'
read 3 5
lseek 3 0 SEEK_SET
read 3 5
fds
""",
    "opens": """\
open /foo O_RDONLY
read 4 3
oft
""",
    "dup": """\
dup 4
read 5 3
dup2 3 9
oft
close 9
close 5
oft
""",
    "fork": """\
fork
ps
oft
as 2
read 4 4
close 3
open /bar O_WRONLY|O_CREAT 0600
as 1
read 4 4
oft
""",
    "exec": """\
as 2
open /foo O_RDONLY|O_CLOEXEC
fds
echo '#!/bin/sh' > /program
chmod 0755 /program
execve /program
fds
exit
ps
""",
    "unlink": """\
close 3
close 4
echo 'soon gone' > /temporary
open /temporary O_RDONLY
df
rm /temporary
ls
fstat 3
read 3 100
df
close 3
df
""",
    "hard": """\
mkdir /d
ln /foo /d/same
ls -li / /d
mkdir /d/e
ls -ld /d
rm /foo
cat /d/same
stat /d/same
ln /d /loop
""",
    "symbolic": """\
ln -s /d/same /link
ls -li /
cat /link
stat /link
rm /d/same
cat /link
""",
    "permissions": """\
mkdir /home
echo 'not for all' > /home/secret
chmod 0640 /home/secret
open /home/secret O_RDONLY
fork
as 3
setuid 1000 1000
read 3 20
open /home/secret O_RDONLY
touch /home/mine
exit
chmod 0644 /home
fork
as 4
setuid 1000 1000
ls /home
ls -l /home
cat /home/secret
exit
""",
    "strace": """\
strace on
cat /home/secret
echo more >> /home/secret
strace off
""",
}


#: The timelines: whether /foo/bar is there, whether the volume is cold, what is typed.
TIMELINES: Final[dict[str, tuple[bool, bool, str]]] = {
    "figure 40.3": (
        True,
        True,
        """\
trace on
open /foo/bar O_RDONLY
read 3 4096
read 3 4096
read 3 4096
trace off
timeline --compare 40.3
""",
    ),
    "by block": (
        True,
        True,
        """\
trace on
open /foo/bar O_RDONLY
read 3 4096
trace off
timeline --by block
""",
    ),
    "figure 40.4": (
        False,
        True,
        """\
trace on
open /foo/bar O_WRONLY|O_CREAT 0644
write 3 %(block)s
write 3 %(block)s
write 3 %(block)s
trace off
timeline --compare 40.4
""",
    ),
    "with memory": (
        False,
        False,
        """\
trace on
open /foo/bar O_WRONLY|O_CREAT 0644
write 3 %(block)s
write 3 %(block)s
write 3 %(block)s
fsync 3
trace off
timeline
""",
    ),
}
#: What is compared on the image with /foo/bar.
WHAT_IFS: Final[dict[str, str]] = {
    "what-if atime": "what-if atime write=through 'cat /foo/bar; cat /foo/bar'\n",
    "what-if writes": "what-if cache write journal "
    "'mkdir /d; echo one > /d/log; echo two >> /d/log; echo three >> /d/log'\n",
    "what-if depth": "what-if depth cache=none 'open /foo/bar O_RDONLY'\n",
    "what-if cache": "what-if cache depth=8 'cat /foo/bar; cat /foo/bar'\n",
}
PICTURES: Final = {"timeline-40.3.svg": "figure 40.3", "timeline-40.4.svg": "figure 40.4"}


@contextlib.contextmanager
def _captured() -> Iterator[io.BytesIO]:
    """Both outputs together, as a terminal shows them."""
    shown = io.BytesIO()
    text = io.TextIOWrapper(shown, "utf-8", "backslashreplace", write_through=True)
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield shown
    text.detach()


def play(session: Session, typed: str) -> str:
    """What is on the screen when somebody has typed these lines."""
    with _captured() as shown:
        for line in typed.splitlines():
            print(prompt_text(session) + line)
            run_script(session, line)
        return shown.getvalue().decode()


@functools.cache
def sessions() -> dict[str, str]:
    """Every session as it is in the document."""
    with mock.patch.dict(os.environ, {"TZ": "UTC"}):
        time.tzset()
        fs = mount(blank())
        session = new_session(fs, "disk.img")
        played = {name: play(session, typed) for name, typed in SESSIONS.items()}
        fs.unmount()
    time.tzset()
    return {name: console(shown) for name, shown in played.items()}


@functools.cache
def timelines() -> dict[str, tuple[str, str]]:
    """Every timeline as it is in the document, and as a picture."""
    played = {}
    with mock.patch.dict(os.environ, {"COLUMNS": "100"}):
        for name, (with_bar, cold, typed) in TIMELINES.items():
            fs, _ = traced(book_image(with_bar=with_bar), cold=cold)
            session = new_session(fs, "disk.img")
            shown = play(session, typed.replace("%(block)s", "bar." * 1024))
            shown = re.sub(r"^(.{60}).{41,}$", r"\1...", shown, flags=re.MULTILINE)
            assert session.recorder is not None
            picture = svg_of(timeline_of(session.recorder.trace))
            played[name] = (console(shown), picture)
    return played


@functools.cache
def what_ifs() -> dict[str, str]:
    """Every comparison as it is in the document."""
    fs, _ = traced(book_image(with_bar=True))
    session = new_session(fs, "disk.img")
    return {name: console(play(session, typed)) for name, typed in WHAT_IFS.items()}


DOCUMENT: Final = Document(
    "SYSTEM_CALLS.md",
    generated(
        {
            **parts_of(SESSIONS, lambda name: sessions()[name]),
            **parts_of(TIMELINES, lambda name: timelines()[name][0]),
            **parts_of(WHAT_IFS, lambda name: what_ifs()[name]),
        }
    ),
    __name__,
    parts_of(PICTURES, lambda file: timelines()[PICTURES[file]][1]),
)


def test_the_document_is_up_to_date() -> None:
    DOCUMENT.check()


@pytest.mark.parametrize("file", PICTURES)
def test_a_picture_is_up_to_date(file: str) -> None:
    DOCUMENT.check_picture(file)


if __name__ == "__main__":
    DOCUMENT.write()
