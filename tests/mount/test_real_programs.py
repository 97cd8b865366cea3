"""Real programs do on a mount what they do on ext4.

Each script runs on the kernel's ext4 and on VSFS, and has to succeed, print the
same and leave the same tree, also after unmounting and mounting again.  Where no
loop device may be mounted, the host's own filesystem stands in for ext4.  A program
that is not installed is skipped by name; those that Debian always has are in
test_programs.py, too, with more block sizes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounts import Ext4, Mount, tree

SIZE = 1024 * 1024 * 1024
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "TMPDIR": ".", "PYTHON": sys.executable}
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


def run(script: str, where: Path, **environment: str) -> tuple[int, str, str]:
    """Run a script in a directory: its exit status, and what it printed."""
    result = subprocess.run(
        ["bash", "-euc", f"umask 022; {script}"],
        cwd=where,
        env={**os.environ, **ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=200,
        check=False,
    )
    place = str(where)
    return (
        result.returncode,
        result.stdout.replace(place, "PLACE"),
        result.stderr.replace(place, "PLACE"),
    )


class Both:
    """An empty ext4 and an empty VSFS, both mounted."""

    def __init__(self, reference: Path, mount: Mount) -> None:
        self.reference = reference
        self.mount = mount

    def same(
        self,
        script: str,
        *,
        without_contents: Callable[[bytes], bool] = lambda _path: False,
        **environment: str,
    ) -> str:
        """Run it on both, which must come to the same; return what it printed."""
        started = time.time_ns() - 2 * 10**9  # some programs set whole seconds
        expected = run(script, self.reference, **environment)
        assert expected[0] == 0, expected[1] + expected[2]
        assert run(script, self.mount.point, **environment) == expected

        def left(where: Path) -> dict[str, str]:
            return tree(
                where,
                since_ns=started,
                blocks=self.reference.is_mount(),
                without_contents=without_contents,
            )

        assert left(self.mount.point) == left(self.reference)
        self.mount.again()
        assert left(self.mount.point) == left(self.reference)
        return expected[1]


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[Path]:
    """A directory on ext4, or else on whatever the host has."""
    point = tmp_path / "ext4"
    try:
        # as large: stress-ng fills a small one
        ext4 = Ext4.make(tmp_path / "ext4.img", point, SIZE)
    except OSError:
        point.mkdir(exist_ok=True)
        yield point
        return
    try:
        yield point
    finally:
        ext4.remove()


@pytest.fixture
def vsfs_mount(new_mount: Callable[..., Any]) -> Any:
    mount = new_mount(SIZE)
    mount.mount()
    return mount


@pytest.fixture
def both(reference: Path, vsfs_mount: Any) -> Both:
    return Both(reference, vsfs_mount)


def missing(programs: str) -> str:
    """Those of a list of programs that are not installed."""
    return ", ".join(name for name in programs.split() if shutil.which(name) is None)


def needs(programs: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(missing(programs)), reason=f"{missing(programs)} not installed")


def can_have_attributes(where: Path) -> bool:
    """Not every filesystem that stands in for ext4 keeps user attributes."""
    try:
        os.setxattr(where, "user.try", b"")
        os.removexattr(where, "user.try")
    except OSError:
        return False
    return True


# -- version control, databases, compilers ------------------------------------


@needs("git")
def test_git_clones_commits_collects_and_finds_nothing_wrong(both: Both) -> None:
    """Some of its files hold absolute paths, and the index inode numbers and times."""
    both.same(
        """
        git config --global --list; git init -q -b main repo; cd repo; git config pack.threads 1
        for i in $(seq 30); do seq $i 500 > file-$i; done; ln -s file-1 link; mkdir d; seq 9 > d/x
        chmod +x file-3; git add .; git commit -qm one; git gc -q
        git mv file-1 moved; seq 9 > file-2; git rm -q file-4; git commit -qam two; cd ..
        git clone -q repo copy; git clone -q --no-hardlinks --bare repo bare.git
        git -C copy fsck --full --strict; git -C bare.git fsck --full --strict
        cd copy; git checkout -q -b other HEAD~1; git status --short; seq 3 > d/y; git add d
        git stash -q; git stash pop -q; git commit -qm three; git rebase -q main; git gc -q
        git worktree add -q ../tree main~1; git -C ../tree status --short; git push -q origin other
        git log --format='%H %s' --all; git config --list --local; git fsck --full --strict
        """,
        without_contents=lambda path: (
            b"/logs/" in path or path.endswith((b"/index", b"/config", b"dir", b"tree/.git"))
        ),
        **QUIET_GIT,
    )


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_sqlite_keeps_its_integrity_in_every_journal_mode(mode: str, both: Both) -> None:
    """Two processes write to one database, and a third finds everything in it."""
    begin = """
import sqlite3, sys
mode, first = sys.argv[1:]
c = sqlite3.connect("data.db", timeout=60)
assert c.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
"""
    write = """
for start in range(int(first), 1000, 200):
    with c:
        rows = [(n, "x" * n) for n in range(start, start + 100)]
        c.executemany("insert into t values (?, ?)", rows)
c.execute("delete from t")
c.rollback()
c.close()
"""
    check = """
print(c.execute("pragma integrity_check").fetchall(), c.execute("pragma journal_mode").fetchall())
print(c.execute("select count(*), sum(number), sum(length(text)) from t").fetchall())
"""
    printed = both.same(
        f"""
        $PYTHON -c '{begin}c.execute("create table t (number integer primary key, text)")' {mode} 0
        $PYTHON -c '{begin}{write}' {mode} 0 & $PYTHON -c '{begin}{write}' {mode} 100; wait $!
        $PYTHON -c '{begin}{check}' {mode} 0
        """,
        # whose turn it is to write differs from run to run
        without_contents=lambda path: path.endswith((b"/data.db", b"/data.db-journal")),
    )
    assert "[('ok',)]" in printed
    assert "(1000, 499500, 499500)" in printed


@needs("sqlite3")
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite3_makes_the_same_database_byte_for_byte(mode: str, both: Both) -> None:
    both.same(
        f"""
        sqlite3 db "pragma journal_mode={mode}; pragma page_size=4096; create table t (a, b);
          with recursive n(i) as (select 1 union all select i+1 from n where i < 3000)
          insert into t select i, printf('%d-%0*d', i, i % 300, i) from n;
          create index i on t (b); delete from t where a % 3 = 0;
          update t set b = a where a % 5 = 0; begin; delete from t; rollback;
          select count(*), sum(length(b)) from t;"
        sqlite3 db "vacuum; pragma integrity_check; select max(a) from t"; ls
        sqlite3 db .dump | cksum
        """
    )


@needs("gcc make ar")
def test_gcc_and_make_build_a_program_that_runs_there(both: Both) -> None:
    both.same(
        r"""
        for i in 1 2 3; do echo "int f$i(void) { return $i; }" > f$i.c; done
        echo 'int f1(void), f2(void), f3(void);
              int main(void) { return f1() + f2() + f3() - 6; }' > main.c
        printf 'prog: main.o lib.a\n\tgcc -o $@ $^\nlib.a: lib.a(f1.o f2.o f3.o)\n' > Makefile
        printf '.NOTPARALLEL:\nARFLAGS=rcD\n' >> Makefile
        make -j2; ./prog; touch f2.c; make -q && exit 1; make -W f2.c; ./prog
        size -A prog; gcc -O2 -shared -fPIC -o libf.so f1.c f2.c f3.c
        gcc -o dyn main.c -L. -lf -Wl,-rpath=.; ./dyn
        """,
        # ar notes when an archive's member was made
        without_contents=lambda path: path.endswith(b".a"),
    )


# -- copies and archives -------------------------------------------------------

#: A tree with everything that an archive may hold; its times do not depend on now.
ALL_KINDS = r"""
    mkdir -p src/a/b src/empty; seq 5000 > src/a/numbers; ln src/a/numbers src/a/b/hard
    ln -s ../numbers src/a/b/soft; ln -s "$(printf 'x%.0s' $(seq 200))" src/long; : > src/nothing
    truncate -s 1M src/sparse; printf end >> src/sparse; mkfifo -m 640 src/ff
    printf x > src/$'new\nline'; printf x > src/$'\xff'; chmod 4711 src/nothing
    chmod 1777 src/empty
    if [ $(id -u) = 0 ]; then chown -h 12:34 src/long src/a/b; mknod src/null c 1 3; fi
    find src -depth -exec touch -h -d 2001-02-03T04:05:06.789012345 {} +
"""


@needs("tar")
def test_tar_packs_and_unpacks_the_same(both: Both) -> None:
    both.same(
        ALL_KINDS
        + """
        tar --sort=name --sparse -cf all.tar src; tar -tvf all.tar; tar -df all.tar
        mkdir out; tar -xpf all.tar -C out; diff -r --no-dereference src/a out/src/a; rm all.tar
        tar --sort=name -cf - src | gzip -n > all.tgz; tar -xzf all.tgz --one-top-level=second
        inc="tar --sort=name --listed-incremental=list -cf -"; $inc src | tar -t > full
        sleep 0.05; touch -d 2001-02-04 src/nothing; echo x > src/a/new  # ext4's clock has ticks
        $inc src | tar -t; rm list
        """,
        without_contents=lambda path: path.endswith((b".tgz", b"/full")),
    )


@needs("rsync")
def test_rsync_copies_everything_and_then_finds_nothing_to_do(both: Both) -> None:
    printed = both.same(
        ALL_KINDS
        + """
        copy="rsync -aHX --delete --itemize-changes src/ copy/"; $copy; echo again; $copy
        echo later
        rm src/nothing; echo x >> src/a/numbers; mv src/sparse src/a; touch -d 2001-02-04 src/a src
        $copy; rsync -aHS --delete --numeric-ids copy/ holes/; rsync -aH --inplace src/a/ copy/a/
        $copy
        touch -d @7 copy holes
        """
    )
    assert "again\nlater\n" in printed


@needs("cp rsync tar setfattr")
def test_copies_keep_extended_attributes(both: Both) -> None:
    if not can_have_attributes(both.reference):
        pytest.skip("there is no ext4, and the host's filesystem keeps no user attributes")
    both.same(
        r"""
        mkdir d; echo x > f; setfattr -n user.text -v "$(printf 'v%.0s' $(seq 1000))" f
        setfattr -n user.empty f; setfattr -n user.bytes -v 0x00ff00 d
        if [ $(id -u) = 0 ]; then setfattr -n trusted.t -v 1 f; fi
        touch -d @5 f d; cp -a f g; cp -a d e; cp f plain; touch -d @5 plain; mkdir rs tr
        rsync -aX f d rs
        tar --xattrs --xattrs-include='*' -cf - f d | tar --xattrs --xattrs-include='*' -xf - -C tr
        setfattr -x user.text g; setfattr -x user.text f
        getfattr -d -e hex -m - f g d e plain | sort; touch -d @5 rs tr
        """
    )


def test_cp_makes_holes_and_copies_of_copies_are_the_same(both: Both) -> None:
    both.same(
        """
        truncate -s 4M sparse; for at in 0 1 500 1000; do
            seq 1000 | dd of=sparse bs=4k seek=$at conv=notrunc status=none; done
        cp --sparse=always sparse always; cp --sparse=never sparse never; cp always auto
        cp --sparse=always never again; cmp sparse always; cmp never again; cmp auto sparse
        test $(stat -c %b always) -lt 200; test $(stat -c %b again) -lt 200
        test $(stat -c %b never) -ge 8192; cp -l always hard; cp -s never soft; cp -u sparse always
        cp -a hard archive; cp --backup=numbered sparse auto; cp --remove-destination soft hard
        touch -d @5 archive
        """
    )


# -- editors and single calls ---------------------------------------------------


def test_sed_edits_in_place(both: Both) -> None:
    both.same(
        r"""
        seq 3000 > f; chmod 640 f; ln f hard; ln -s f soft; sed -i 's/^5/five/' f; head -n 3 hard
        sed -i.bak '/7/d' f; sed -i --follow-symlinks 1d soft; sed -n '$=' f hard f.bak soft
        if [ $(id -u) = 0 ]; then chown 12:34 f; sed -i 1d f; fi
        """
    )


@needs("vim")
def test_vim_edits_a_file(both: Both) -> None:
    both.same(
        r"""
        printf 'one\ntwo\n' > f; chmod 4750 f; ln f hard; ln -s f soft
        vim -es -u NONE -c '%s/two/2/' -c wq f; cat hard
        vim -es -u NONE -c 'set backup backupcopy=no' -c '%s/one/1/' -c wq f; cat hard soft
        vim -es -u NONE -c 'set backupcopy=auto' -c 'normal ggOzero' -c wq soft; cat f hard
        vim -es -u NONE -c 'normal ione' -c 'w new' -c 'q!'; ls -A | grep -v '~$'
        """
    )


def test_dd_overwrites_appends_and_skips(both: Both) -> None:
    both.same(
        """
        seq 5000 > in; cp in f; dd if=in of=f bs=777 seek=3 skip=2 count=4 conv=notrunc status=none
        dd if=in of=f bs=100 count=5 oflag=append conv=notrunc,fsync status=none; cp f g
        dd if=in of=g bs=1000 seek=7 count=1 status=none; cp g h
        dd if=/dev/zero of=h bs=1 seek=100000 count=0 status=none; cp in holes
        { cat in; head -c 40000 /dev/zero; cat in; } | dd of=holes bs=4k conv=sparse status=none
        dd if=in of=direct bs=4k oflag=direct iflag=fullblock count=5 status=none
        dd if=direct of=back iflag=direct bs=4k status=none; cmp -n 20480 in back
        dd if=in of=sync oflag=sync,nofollow bs=5k status=none
        dd if=in of=in2 conv=excl status=none
        dd if=in of=in2 conv=excl status=none 2>&1 && exit 1; test -f in2
        """
    )


def test_shared_mappings_are_seen_by_others_and_written_back(both: Both) -> None:
    script = """
import mmap, os
fd = os.open("f", os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, 20000)
view = mmap.mmap(fd, 20000)
private = mmap.mmap(fd, 20000, flags=mmap.MAP_PRIVATE)
view[4090:4100] = b"0123456789"
private[0:3] = b"own"
print(os.pread(fd, 10, 4090), open("f", "rb").read()[4090:4100], os.pread(fd, 3, 0))
os.pwrite(fd, b"written", 9000)
print(view[9000:9007], private[9000:9007])
if os.fork() == 0:
    view[15000:15005] = b"child"
    os._exit(0)
os.wait()
print(view[15000:15005])
view.flush()
os.ftruncate(fd, 30000)
other = mmap.mmap(os.open("f", os.O_RDWR), 30000)
other[29990:] = b"up to last"
print(os.stat("f").st_size, view[15000:15005])
os.rename("f", "g")
view[0:5] = b"moved"
os.unlink("g")
view[0:5] = b"again"
print(os.pread(fd, 5, 0))
new = os.open("kept", os.O_CREAT | os.O_RDWR)
os.write(new, view[:])
kept = mmap.mmap(new, 20000)
os.close(new)
kept[19995:] = b"last."
"""
    both.same(f"$PYTHON -c '{script}'; cksum kept")


# -- locks ------------------------------------------------------------------------


@needs("flock")
def test_flock_excludes_and_shares(both: Both) -> None:
    both.same(
        """
        exec 9> lock; flock -x 9; flock -n lock true || echo excluded
        flock -u 9; flock -n lock true && echo free; flock -s 9; flock -ns lock echo shared
        flock -nx lock true || echo excluded; flock -w 1 -x lock true || echo waited
        echo 0 > n; for i in $(seq 8); do
            (flock 8; n=$(cat n); echo $((n + 1)) > n) 8> l & done; wait; cat n
        """
    )


def test_posix_locks_exclude_by_ranges_and_are_released_at_the_end(both: Both) -> None:
    script = """
import fcntl, os, struct
file = open("lock", "w+")
file.write("x" * 100); file.flush()
def attempt(kind, size, start):
    pid = os.fork()
    if pid == 0:
        try:
            fcntl.lockf(open("lock", "r+"), kind | fcntl.LOCK_NB, size, start)
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
print([attempt(fcntl.LOCK_EX, 5, start) for start in (0, 1, 5, 14, 15)])
fcntl.lockf(file, fcntl.LOCK_SH, 10, 5)
print(attempt(fcntl.LOCK_SH, 5, 5), attempt(fcntl.LOCK_EX, 5, 5))
fcntl.lockf(file, fcntl.LOCK_UN, 3, 5)
print(attempt(fcntl.LOCK_EX, 3, 5), attempt(fcntl.LOCK_EX, 4, 5))
open("lock").close()  # any close of the file drops them all
print(attempt(fcntl.LOCK_EX, 0, 0))
whole = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0) + bytes(8)
fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
open("lock").close()  # but not one of the open file
print(attempt(fcntl.LOCK_EX, 0, 0))
"""
    both.same(f"$PYTHON -c '{script}'")


# -- many files, and stress ---------------------------------------------------------


def test_ten_thousand_files_are_made_found_and_removed(both: Both) -> None:
    both.same(
        """
        mkdir many; cd many; for d in 0 1 2 3; do mkdir $d; (cd $d; seq 2500 | xargs touch); done
        find . -type f | wc -l; find 0 -name '*7*' -delete; find . -type f | wc -l; ls 0 | cksum
        find 1 -delete; mv 2 moved; rm -rf moved 3; mkdir one; cd one; seq 1000 | xargs touch
        ls | sed -n '1~3p' | xargs rm; ls | grep 99 | while read f; do mv -n $f new-$f; done
        """
    )
    run("rm -rf many", both.mount.point)
    free = os.statvfs(both.mount.point)
    assert (free.f_ffree, os.listdir(both.mount.point)) == (free.f_files - 3, [])


@needs("fio")
def test_fio_reads_what_it_wrote(both: Both) -> None:
    """With requests of every size, two jobs, and the page cache in between."""
    both.same(
        """
        common="--directory=. --numjobs=2 --randseed=7"
        common="$common --do_verify=1 --verify=crc32c --verify_fatal=1"
        fio $common --name=v --rw=randwrite --bsrange=1k-64k --size=4m --fsync=64 > log
        fio $common --name=d --rw=randrw --bs=4k --direct=1 --size=2m --ioengine=psync >> log
        fio $common --name=m --rw=randwrite --bs=4k --size=2m --ioengine=mmap >> log
        grep -o 'err= [0-9]*' log; rm log
        """,
        without_contents=lambda path: True,
    )


#: Those of stress-ng that use files, except for those that judge what libfuse 2 does
#: not have: fallocate(2) (fsize, fpunch, file-ioctl) and FIEMAP (fiemap).
STRESSORS = """
    access chdir chmod chown copy-file dentry dir dirdeep dirmany dup fcntl filename flock
    fstat getdent hdd io iomix link lockf lockofd mknod mmap open rename revio seek sendfile
    symlink sync-file touch utime xattr
"""


@needs("stress-ng")
@pytest.mark.slow
def test_stress_ng_finds_no_failure(both: Both) -> None:
    """All at once for some seconds, judged by what they say: a failure may exit with 0."""
    limits = "--hdd-bytes 4m --dentries 200 --dir-dirs 100 --iomix-bytes 4m --revio-bytes 4m"
    limits += " --copy-file-bytes 128m --sync-file-bytes 4m"  # or the reference gets full
    stressors = " ".join(f"--{name} 1" for name in STRESSORS.split())
    printed = both.same(
        f"""
        stress-ng --temp-path . --timeout 2s --verify {limits} {stressors} > log 2>&1 || echo $?
        grep -E '(fail|warn|error):' log || true; rm log; ls -A
        """
    )
    assert printed == ""
    free = os.statvfs(both.mount.point)
    assert (free.f_ffree, free.f_bfree) == (free.f_files - 3, free.f_blocks - 1)
