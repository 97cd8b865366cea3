"""Large programs on a mount: each does there what it does on the host.

A program that is not installed is skipped by name; those that Debian always has
are in test_programs.py.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SIZE = 64 * 1024 * 1024
QUIET_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def large(new_mount: Callable[..., Any]) -> Any:
    mount = new_mount(SIZE)
    mount.mount()
    return mount


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def shell(script: str, where: Path, **environment: str) -> str:
    """Run a script in a directory; it must succeed."""
    result = subprocess.run(
        ["bash", "-euc", script],
        cwd=where,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@needs("git")
def test_git_commits_clones_and_finds_nothing_wrong(large: Any, tmp_path: Path) -> None:
    script = """
        git init -q -b main repo; cd repo
        for i in $(seq 30); do seq $i 500 > file-$i; done; git add .; git commit -qm one
        git mv file-1 moved; seq 9 > file-2; git commit -qam two; git gc -q
        cd ..; git clone -q repo copy; git -C copy fsck --full --strict
        git -C copy checkout -q -b other HEAD~1; git -C copy status --short
        git -C copy log --format=%H --all
    """
    expected = shell(script, tmp_path, **QUIET_GIT)
    assert shell(script, large.point, **QUIET_GIT) == expected
    large.again()
    assert shell("git -C copy fsck --full; git -C copy status --short", large.point) == ""


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_sqlite_keeps_its_integrity_in_every_journal_mode(mode: str, large: Any) -> None:
    path = large.point / "data.db"

    def rows(connection: sqlite3.Connection) -> Any:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        return connection.execute("select count(*), sum(number) from t").fetchone()

    with_file = sqlite3.connect(path)
    assert with_file.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
    with_file.execute("create table t (number integer primary key, text)")
    for start in range(0, 1000, 100):
        with with_file:
            values = ((n, "x" * n) for n in range(start, start + 100))
            with_file.executemany("insert into t values (?, ?)", values)
    second = sqlite3.connect(path)  # two connections see the same
    assert rows(with_file) == rows(second) == (1000, 499500)
    with_file.execute("delete from t")
    with_file.rollback()
    with_file.close()
    second.close()
    large.again()
    third = sqlite3.connect(path)
    assert rows(third) == (1000, 499500)
    third.close()


@needs("gcc", "make")
def test_gcc_and_make_build_a_program_that_runs_there(large: Any) -> None:
    script = r"""
        for i in 1 2 3; do echo "int f$i(void) { return $i; }" > f$i.c; done
        echo 'int f1(void), f2(void), f3(void);
              int main(void) { return f1() + f2() + f3() - 6; }' > main.c
        printf 'prog: main.o f1.o f2.o f3.o\n\tgcc -o $@ $^\n' > Makefile
        make -s -j2; ./prog; touch f2.c; make -q && exit 1; make -s; ./prog; make -q
    """
    shell(script, large.point)


@needs("rsync")
def test_rsync_copies_everything_and_then_finds_nothing_to_do(large: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shell(
        """
        mkdir -p a/b; seq 5000 > a/numbers; ln a/numbers a/b/hard; ln -s ../numbers a/b/soft
        truncate -s 1M sparse; touch -d 2001-02-03T04:05:06.789 a/numbers; mkfifo ff; touch gone
        """,
        source,
    )
    copy = f"rsync -aHX --delete --itemize-changes {source}/ copy/"
    shell(copy, large.point)
    assert shell(copy, large.point) == ""
    (source / "gone").unlink()
    assert shell(copy, large.point).splitlines()[0] == "*deleting   gone"
    large.again()
    assert shell(copy, large.point) == ""


@needs("vim")
def test_vim_edits_a_file(large: Any) -> None:
    shell("printf 'one\\ntwo\\n' > f; vim -es -u NONE -c '%s/two/2/' -c wq f", large.point)
    assert (large.point / "f").read_text() == "one\n2\n"


@needs("flock")
def test_locks_exclude_one_another(large: Any) -> None:
    script = """
        exec 9> lock; flock -x 9
        flock -n lock true && exit 1
        flock -u 9; flock -n lock true
    """
    shell(script, large.point)


@needs("python3")
def test_posix_locks_exclude_other_processes(large: Any) -> None:
    script = """
import fcntl, os, sys
file = open("lock", "w"); fcntl.lockf(file, fcntl.LOCK_EX)
if os.fork() == 0:
    try:
        fcntl.lockf(open("lock", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os._exit(0)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    shell(f"python3 -c '{script}'", large.point)


def test_thousands_of_files_are_made_found_and_removed(large: Any) -> None:
    shell(
        """
        mkdir many; cd many; for d in 1 2 3; do mkdir $d; (cd $d; seq 1000 | xargs touch); done
        test $(find . -type f | wc -l) = 3000; find 1 -name '*7*' -delete
        test $(find . -type f | wc -l) = 2729; rm -rf 1 2; cd ..; rm -rf many; test -z "$(ls)"
        """,
        large.point,
    )
    assert os.statvfs(large.point).f_ffree == os.statvfs(large.point).f_files - 3


@needs("fio")
def test_fio_reads_what_it_wrote(large: Any) -> None:
    job = (
        "fio --name=v --directory=. --rw=randwrite --bs=4k --size=8m --numjobs=2 --do_verify=1 "
        "--verify=crc32c --verify_fatal=1 --fsync=64 --randseed=7 --group_reporting"
    )
    shell(job, large.point)


@needs("stress-ng")
@pytest.mark.slow
def test_stress_ng_finds_no_failure(large: Any) -> None:
    shell(
        "stress-ng --temp-path . --timeout 5s --verify --hdd 1 --hdd-bytes 4m --dentry 1 "
        "--dentries 200 --rename 1 --link 1 --symlink 1 --dir 1 --dir-dirs 100 --fallocate 0",
        large.point,
    )
