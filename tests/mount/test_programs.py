"""Ordinary programs on a mount do what they do on the host's filesystem.

The host is the oracle: the same shell script runs in an ordinary directory and
on the mount, and both trees must then be the same.
"""

from __future__ import annotations

import mmap
import os
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

# type, permissions, links, owner, time of files, size of files, name, target
LISTING = (
    "find . -mindepth 1 "
    r"\( -type d -printf '%y %m %U %G %P\n' -o -printf '%y %m %n %U %G %s %T@ %P %l\n' \) "
    "| LC_ALL=C sort"
)
CHECKSUMS = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum"


def shell(script: str, where: Path) -> str:
    """Run a script in a directory; it must succeed."""
    result = subprocess.run(
        ["bash", "-euc", script],
        cwd=where,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def tree(where: Path) -> list[str]:
    return (shell(LISTING, where) + shell(CHECKSUMS, where)).splitlines()


SCRIPTS = {
    "copy and move": """
        mkdir -p a/b/c; cp -p /etc/passwd a/p; cp -rp a a2; mv a2/b a/moved; mv a/p p
        touch -d 2001-02-03T04:05:06.789 p; echo x >> a2/p; touch -r p a2/p
    """,
    "links": """
        date -d @0 -u > f; touch -d @5.123456789 f; ln f g; ln f h; rm f; ln -s h s; ln -s nowhere t
        ln -s "$(printf 'x%.0s' $(seq 300))" long; mv -T s s2; touch -h -d @7 s2 t long
    """,
    "permissions": """
        umask 027; mkdir d; echo 1 > d/f; chmod 4711 d/f; mkdir -m 1777 tmp; install -m 600 d/f tmp/g
        touch -d @9 d/f tmp/g; chmod g+s d; mkdir d/sub; if [ $(id -u) = 0 ]; then chown 12:34 tmp/g; fi
    """,
    "large and sparse": """
        seq 20000 > numbers; dd if=numbers of=part bs=1000 skip=3 count=50 status=none
        truncate -s 3M sparse; echo end >> sparse; cp --sparse=always sparse copy; rm sparse
        dd if=numbers of=copy bs=1 seek=5000 count=100 conv=notrunc status=none
        truncate -s 12345 numbers; touch -d @1 *
    """,
    "in place": r"""
        seq 1000 > f; sed -i 's/^5/five/' f; sort -R f | sort -n > g; head -n 10 f > h; tac h >> h.new
        mv h.new h; truncate -s 0 g; echo new > g; touch -d @2 f g h
    """,
    "names": r"""
        touch -d @3 -- '-dash' ' blank ' $'new\nline' 'ümlaut' $'\xff\xfe' "$(printf 'n%.0s' $(seq 255))"
        mkdir '...' '*'; touch -d @3 '.../?' '*/"'
    """,
    "tar": """
        mkdir src; cp -p /etc/passwd src/p; ln src/p src/q; ln -s p src/l; mkfifo src/ff
        touch -d @4 src/p src/ff; touch -h -d @4 src/l
        tar -cf - src | (mkdir out; tar -xpf - -C out); rm -r src
    """,
    "many names": """
        mkdir d; for i in $(seq 60); do echo $i > d/file-with-a-rather-long-name-$i; done
        for i in $(seq 1 2 60); do rm d/file-with-a-rather-long-name-$i; done
        for i in $(seq 1 20); do echo $i > d/x$i; done
        find d -name '*8' -delete; find d -type f -exec touch -d @6 {} +
    """,
    "devices": """
        mkfifo -m 640 ff; touch -d @8 ff
        if [ $(id -u) = 0 ]; then mknod -m 600 null c 1 3; mknod b b 7 200; touch -d @8 null b; fi
    """,
}


@pytest.mark.parametrize(
    ("block_size", "journal_blocks"), [(4096, 16), (512, None)], ids=["4096-journal", "512"]
)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_leaves_the_same_tree_as_on_the_host(
    name: str, block_size: int, journal_blocks: int | None, new_mount: Any, tmp_path: Path
) -> None:
    mount = new_mount(1024 * 1024, block_size, journal_blocks)
    mount.mount()
    host = tmp_path / "host"
    host.mkdir()
    shell(SCRIPTS[name], host)
    shell(SCRIPTS[name], mount.point)
    expected = tree(host)
    assert tree(mount.point) == expected
    mount.again()
    assert tree(mount.point) == expected


def test_two_processes_write_and_rename_at_once(mounted: Any) -> None:
    """Each keeps its own files whole, and neither sees half of the other's."""
    work = """
        for i in $(seq 30); do
            seq $i $((i + 500)) > {0}.tmp; mv {0}.tmp {0}; cmp -s {0} <(seq $i $((i + 500)))
        done
    """
    both = [
        subprocess.Popen(["bash", "-euc", work.replace("{0}", name)], cwd=mounted.point)
        for name in ("one", "two")
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert sorted(os.listdir(mounted.point)) == ["one", "two"]
    mounted.again()
    expected = "".join(f"{n}\n" for n in range(30, 531))
    assert (mounted.point / "one").read_text() == expected


def test_appends_of_two_processes_do_not_overwrite_each_other(mounted: Any) -> None:
    work = "for i in $(seq 200); do echo {0} >> log; done"
    both = [
        subprocess.Popen(["bash", "-euc", work.replace("{0}", name)], cwd=mounted.point)
        for name in ("a", "b")
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    lines = (mounted.point / "log").read_text().split()
    assert (lines.count("a"), lines.count("b")) == (200, 200)


def test_an_open_file_survives_its_last_name(mounted: Any) -> None:
    free = os.statvfs(mounted.point).f_bfree
    with open(mounted.point / "file", "w+b") as file:
        file.write(b"x" * 10_000)
        file.flush()
        os.unlink(mounted.point / "file")
        file.write(b"y" * 10_000)
        file.flush()
        file.seek(0)
        assert file.read() == b"x" * 10_000 + b"y" * 10_000
        assert os.statvfs(mounted.point).f_bfree == free - 5
    assert wait_for(lambda: os.statvfs(mounted.point).f_bfree == free)


def test_an_open_file_without_names_is_still_a_file(mounted: Any) -> None:
    """fstat, fchmod, fchown, futimens and ftruncate reach it, and nobody else sees it."""
    (mounted.point / "d").mkdir()
    with open(mounted.point / "d" / "file", "w+b", buffering=0) as file:
        file.write(b"contents")
        os.unlink(mounted.point / "d" / "file")
        assert os.listdir(mounted.point / "d") == []
        assert (os.fstat(file.fileno()).st_nlink, os.fstat(file.fileno()).st_size) == (0, 8)
        os.fchmod(file.fileno(), 0o640)
        os.utime(file.fileno(), ns=(5, 7))
        os.ftruncate(file.fileno(), 4)
        shown = os.fstat(file.fileno())
        assert (stat.S_IMODE(shown.st_mode), shown.st_size) == (0o640, 4)
        os.rmdir(mounted.point / "d")
        assert os.pread(file.fileno(), 100, 0) == b"cont"
    assert os.listdir(mounted.point) == []
    mounted.again()
    assert os.statvfs(mounted.point).f_ffree == 77


def test_a_rename_over_an_open_file_replaces_it_and_leaves_it_open(mounted: Any) -> None:
    old, new = mounted.point / "old", mounted.point / "new"
    old.write_text("old contents")
    with open(old, "rb") as file:
        new.write_text("new")
        os.rename(new, old)
        assert os.listdir(mounted.point) == ["old"]
        assert old.read_text() == "new"
        assert file.read() == b"old contents"
        assert os.fstat(file.fileno()).st_nlink == 0


def test_a_name_can_be_used_again_while_its_old_file_is_open(mounted: Any) -> None:
    path = mounted.point / "file"
    open_files = []
    for number in range(5):
        open_files.append(open(path, "w+"))  # noqa: SIM115  (all are open at once)
        open_files[-1].write(str(number))
        open_files[-1].flush()
        path.unlink()
    for number, file in enumerate(open_files):
        file.seek(0)
        assert file.read() == str(number)
        file.close()
    assert wait_for(lambda: os.statvfs(mounted.point).f_ffree == 77)


def test_the_other_name_of_an_unlinked_open_file_counts_one_link(mounted: Any) -> None:
    first, second = mounted.point / "first", mounted.point / "second"
    first.write_text("x")
    os.link(first, second)
    with open(first, "rb") as file:
        first.unlink()
        assert os.fstat(file.fileno()).st_nlink == 1
        assert second.stat().st_nlink == 1


def test_copies_and_archives_keep_extended_attributes(mounted: Any) -> None:
    file = mounted.point / "file"
    file.touch()
    os.setxattr(file, "user.comment", b"any\0bytes")
    os.setxattr(file, "user.empty", b"")
    shell("cp -a file copy; mkdir out; tar --xattrs -cf - file | tar --xattrs -xf - -C out",
          mounted.point)  # fmt: skip
    mounted.again()
    for path in (file, mounted.point / "copy", mounted.point / "out" / "file"):
        assert os.getxattr(path, "user.comment") == b"any\0bytes"
        assert sorted(os.listxattr(path)) == ["user.comment", "user.empty"]


def test_a_hard_link_shows_what_was_written_through_the_other_name(mounted: Any) -> None:
    first, second = mounted.point / "first", mounted.point / "second"
    first.write_text("short")
    os.link(first, second)
    assert second.read_text() == "short"
    first.write_text("a good deal longer")
    assert second.read_text() == "a good deal longer"
    os.chmod(second, 0o600)
    os.truncate(second, 3)
    assert (first.read_text(), stat.S_IMODE(first.stat().st_mode)) == ("a g", 0o600)
    assert (first.stat().st_ino, first.stat().st_nlink) == (second.stat().st_ino, 2)


def test_what_is_written_through_one_name_shows_through_the_other_with_both_open(
    mounted: Any,
) -> None:
    first, second = mounted.point / "first", mounted.point / "second"
    first.write_bytes(bytes(10_000))
    os.link(first, second)
    with open(first, "r+b", buffering=0) as one, open(second, "r+b", buffering=0) as two:
        assert one.read() == two.read() == bytes(10_000)
        for number in range(5):
            content = bytes([number + 1]) * 100
            os.pwrite(one.fileno(), content, number * 2000)
            assert os.pread(two.fileno(), 100, number * 2000) == content
            os.pwrite(two.fileno(), content[::-1], 9000)
            assert os.pread(one.fileno(), 100, 9000) == content[::-1]
        os.ftruncate(one.fileno(), 50)
        assert os.fstat(two.fileno()).st_size == 50
        assert os.pread(two.fileno(), 100, 0) == bytes([1]) * 50
        os.fchmod(two.fileno(), 0o600)
        assert stat.S_IMODE(os.fstat(one.fileno()).st_mode) == 0o600


def test_a_name_that_moves_takes_no_stale_pages_along(mounted: Any) -> None:
    """The kernel caches by path; a path that comes back must not bring old contents."""
    a, b, c = (mounted.point / name for name in "abc")
    a.write_text("old")
    os.link(a, b)
    a.read_text(), b.read_text()
    os.rename(a, c)
    c.write_text("new")
    os.rename(b, a)
    assert a.read_text() == "new"


def test_a_shared_mapping_is_written_back(mounted: Any) -> None:
    path = mounted.point / "mapped"
    path.write_bytes(bytes(10_000))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[5000:5005] = b"hello"
        view.flush()
    mounted.again()
    assert path.read_bytes()[4999:5006] == b"\0hello\0"


def test_a_full_disk_says_so_and_loses_nothing(mounted: Any) -> None:
    keep = mounted.point / "keep"
    keep.write_bytes(b"k" * 5000)
    free = os.statvfs(mounted.point).f_bfree
    for _ in range(5):
        with (
            pytest.raises(OSError, match="No space left"),
            open(mounted.point / "big", "wb") as big,
        ):
            big.write(bytes(300_000))
        assert os.statvfs(mounted.point).f_bfree == 0
        os.unlink(mounted.point / "big")
        assert wait_for(lambda: os.statvfs(mounted.point).f_bfree == free)
    mounted.again()
    assert keep.read_bytes() == b"k" * 5000


def test_a_full_inode_table_says_so_and_recovers(mounted: Any) -> None:
    for _ in range(3):
        names = [mounted.point / str(number) for number in range(77)]
        for name in names:
            name.touch()
        assert os.statvfs(mounted.point).f_ffree == 0
        with pytest.raises(OSError, match="No space left"):
            (mounted.point / "one-more").touch()
        for name in names:
            name.unlink()
        assert os.statvfs(mounted.point).f_ffree == 77


def test_a_directory_can_be_read_while_its_names_are_removed(mounted: Any) -> None:
    for number in range(70):
        (mounted.point / f"name-{number}").touch()
    for entry in os.scandir(mounted.point):
        os.unlink(entry.path)
    assert os.listdir(mounted.point) == []


def test_threads_that_stat_and_write_see_no_error(mounted: Any) -> None:
    (mounted.point / "file").write_text("0")
    errors: list[Exception] = []

    def work() -> None:
        try:
            for number in range(100):
                os.stat(mounted.point / "file")
                (mounted.point / f"t{threading.get_ident()}").write_text(str(number))
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []


def wait_for(condition: Any, seconds: float = 10) -> bool:
    """Some things happen a moment later: release(2) is not waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
