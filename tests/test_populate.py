"""mkfs.vsfs -d with real trees: all of them arrives, or nothing is left behind."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import shutil
import socket
import stat
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import vsfs_tools.mkfs
from hypothesis import given
from hypothesis import strategies as st
from vsfs_tools.mkfs import main
from vsfs_tools.sizes import parse_size

import vsfs
from tests.support.images import blank, image_of, mount, sound
from tests.support.mounts import tree
from tests.support.rawwalk import walk
from vsfs.copying import CannotCopy, Copier
from vsfs.errors import NoSpace, NotVsfs
from vsfs.mkfs import format_image, plan
from vsfs.populate import (
    Needs,
    Populator,
    directory_blocks,
    file_blocks,
    fill,
    measure,
    room,
)

KIB, MIB = 2**10, 2**20
WANTED_FILES = 3000
LARGEST_FILE = 256 * KIB


def files_of_python() -> Iterator[tuple[Path, Path]]:
    """Source files that every machine has: (where one is, its path in the copy).

    The standard library, and the packages that the tests need.
    """
    for name in ("stdlib", "purelib"):
        top = Path(sysconfig.get_path(name))
        for directory, folders, names in os.walk(top):
            # another Python's packages may lie in there, of any size
            folders[:] = sorted(set(folders) - {"site-packages", "dist-packages"})
            for path in (Path(directory, file) for file in sorted(names)):
                if path.is_file() and path.stat().st_size <= LARGEST_FILE:
                    yield path, Path(name) / path.relative_to(top)


def add_oddities(top: Path) -> None:
    """What a source tree seldom has, on top of it."""
    names = sorted(path for path in top.rglob("*.py") if not path.is_symlink())
    for number, path in enumerate(names[::10]):
        path.chmod(0o400 | number * 0o13 % 0o10000)
        os.utime(path, ns=(number * 10**15 + 1, number * 10**15 - 5))  # the first before 1970
    (top / "links").mkdir()
    for number, path in enumerate(names[::20]):
        os.link(path, top / "links" / f"hard-{number}")
        os.symlink(f"../{path.relative_to(top)}", top / "links" / f"soft-{number}")
        os.symlink("nowhere/" * (number % 400 + 1), path.with_suffix(".dangling"))
    odd = top / "odd"
    odd.mkdir(mode=0o1777)
    (odd / ("n" * 255)).touch()
    Path(os.fsdecode(os.fsencode(odd) + b"/\xff\n\x01 ")).write_text("any byte")
    (odd / "empty" / "a" / "b" / "c").mkdir(parents=True, mode=0o2750)
    os.mkfifo(odd / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(odd, os.O_RDONLY)  # a short path: sun_path has 108 bytes
        try:
            listening.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
    with open(odd / "sparse", "wb") as file:
        for at in (0, 100_000, 30 * MIB):
            file.seek(at)
            file.write(b"between holes")
        file.truncate(40 * MIB)
    (odd / "large").write_bytes(os.urandom(5 * MIB))  # into the double indirect block
    with contextlib.suppress(OSError):  # not every host has them
        os.setxattr(names[0], "user.comment", b"\0any")
        os.setxattr(odd, "user.of.a.directory", b"x" * 200)
    if os.geteuid() == 0:
        os.mknod(odd / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(odd / "empty", 12, 34)
        os.chown(top / "links" / "soft-1", 2**32 - 2, 70_000, follow_symlinks=False)
    for path in (odd, top / "links", top):  # last, since their names have changed
        os.utime(path, ns=(10**18 + 3, 10**18 + 123_456_789))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("populate") / "source"
    for number, (path, place) in enumerate(files_of_python()):
        if number == WANTED_FILES:
            break
        (top / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, top / place)
    add_oddities(top)
    return top


def tree_in(fs: vsfs.FileSystem) -> dict[str, str]:
    def read(path: bytes) -> bytes:
        fd = fs.open(path, os.O_RDONLY)
        try:
            return fs.pread(fd, fs.fstat(fd).st_size, 0)
        finally:
            fs.close(fd)

    return tree("/", system=fs, read=read)


@pytest.mark.parametrize("block_size", [1024, 4096])
def test_d_copies_a_source_tree_of_thousands_of_files_exactly(
    block_size: int, source: Path, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    expected = tree(source)
    assert len(expected) > 2500
    options = ["-q", "-b", str(block_size), "-i", "16K", "-d", str(source)]
    geometry = plan(128 * MIB, block_size=block_size, bytes_per_inode=16 * KIB)
    needs = measure(source, geometry)
    assert main([*options, str(image), "128M"]) == 0
    assert tree(source) == expected  # nothing was done to the original
    found = walk(image.read_bytes())
    assert found.findings == []
    inodes, blocks = room(geometry)
    assert needs == Needs(inodes - found.free_inodes, blocks - found.free_blocks)
    assert len(found.paths) == len(expected)
    with vsfs.FileSystem.open(image, read_only=True, credentials=vsfs.Credentials(0, 0)) as fs:
        assert tree_in(fs) == expected
        assert fs.stat("/odd/sparse").st_blocks * 512 < 64 * KIB
        for path in (b"/odd/sparse", b"/odd/large"):
            host = os.fsencode(source) + path
            assert found.content(fs.stat(path).st_ino) == Path(os.fsdecode(host)).read_bytes()


def test_files_are_announced_in_sorted_order_once_each(source: Path, make_fs: Any) -> None:
    fs = make_fs(64 * MIB)
    seen: list[bytes] = []
    Populator(fs, source / "odd", on_file=seen.append).run()
    assert sorted(seen) == sorted(os.fsencode(path) for path in (source / "odd").rglob("*"))
    assert seen == sorted(seen, key=lambda path: path.split(b"/"))


def test_a_hard_link_to_a_file_outside_counts_only_the_names_inside(
    tmp_path: Path, make_fs: Any
) -> None:
    (tmp_path / "outside").write_text("x")
    (tmp_path / "in").mkdir()
    os.link(tmp_path / "outside", tmp_path / "in" / "one")
    os.link(tmp_path / "outside", tmp_path / "in" / "two")
    fs = make_fs()
    Populator(fs, tmp_path / "in").run()
    assert (fs.stat("/one").st_nlink, fs.stat("/one").st_ino) == (2, fs.stat("/two").st_ino)


def test_a_tree_may_be_deeper_than_pythons_stack(folder: Path, make_fs: Any) -> None:
    depth = 150
    (folder / "/".join("d" * depth)).mkdir(parents=True)
    fs = make_fs(4 * MIB)
    usual = sys.getrecursionlimit()  # so many real directories would take pytest's cleaning down
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        Populator(fs, folder).run()
        needs = measure(folder, fs.volume.geometry)
    finally:
        sys.setrecursionlimit(usual)
    assert fs.listdir("/" + "/".join("d" * (depth - 1))) == ["d"]
    assert needs == Needs(depth, depth)


# -- what is measured beforehand -----------------------------------------------


names = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(1, 255)).map(
        lambda drawn: str(drawn[0]).encode().ljust(drawn[1], b"x")[:255]
    ),
    unique=True,
    max_size=300,
)


@given(names, st.sampled_from([512, 1024, 4096, 65536]), st.booleans())
def test_directory_blocks_is_what_a_directory_takes(
    names: list[bytes], block_size: int, sort: bool
) -> None:
    if sort:
        names.sort()
    fs = mount(blank(256 * max(block_size, 4096), block_size=block_size, inode_count=8))
    fs.mkdir("/d")
    fs.mknod("/file")
    for name in names:
        fs.link("/file", b"/d/" + name)
    expected = fs.stat("/d").st_size // block_size
    assert directory_blocks(names, block_size) == expected


def test_directory_blocks_of_a_large_directory_is_what_it_takes() -> None:
    """Where sectors with some room outnumber those that are tried for a name."""
    names = sorted(str(number * 7919 % 10_007).encode() * 40 for number in range(3000))
    names = [name[: 20 + number * 31 % 230] + str(number).encode()
             for number, name in enumerate(names)]  # fmt: skip
    fs = mount(blank(8 * MIB, block_size=1024, inode_count=4))
    fs.mknod("/file")
    for name in names:
        fs.link("/file", b"/" + name)
    assert directory_blocks([b"file", *names], 1024) == fs.stat("/").st_size // 1024


#: With blocks of 512 bytes: direct, single, double and triple indirect ones.
PLACES = [0, 12 * 512, 140 * 512, (140 + 128**2) * 512]


@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.integers(-3000, 300_000), st.integers(1, 80_000)),
        max_size=8,
    ),
    st.sampled_from([512, 4096]),
)
def test_file_blocks_is_what_a_file_with_holes_takes(
    drawn: list[tuple[int, int, int]], block_size: int
) -> None:
    fs = mount(blank(4 * MIB, block_size=block_size))
    fd = fs.open("/file", os.O_CREAT | os.O_WRONLY)
    stretches: list[tuple[int, int]] = []
    end = 0
    for place, distance, size in sorted(drawn):
        start = max(place + distance, end)
        end = start + size
        stretches.append((start, end))
        assert fs.pwrite(fd, bytes(size), start) == size
    assert file_blocks(stretches, fs.volume.geometry) * block_size == fs.fstat(fd).st_blocks * 512


@pytest.mark.parametrize("block_size", [512, 1024, 4096, 65536])
def test_what_is_measured_is_what_is_taken(block_size: int, source: Path, make_fs: Any) -> None:
    fs = make_fs(
        64 * MIB if block_size < 65536 else 256 * MIB, block_size=block_size, inode_count=4000
    )
    inodes, blocks = room(fs.volume.geometry)
    Populator(fs, source / "odd").run()
    counts = fs.statvfs()
    expected = Needs(inodes - counts.f_ffree, blocks - counts.f_bfree)
    assert measure(source / "odd", fs.volume.geometry) == expected


# -- what does not fit ---------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What mkfs.vsfs says when it refuses: one line, that names the program."""
    assert main([*map(str, arguments)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("mkfs.vsfs: ")
    assert shown.err.count("\n") == 1
    return shown.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def test_a_tree_may_fill_the_last_inode_and_one_more_is_refused(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = plan(MIB, inode_count=200).inode_count - 3  # without 0, 1 and the root
    for number in range(count):
        (folder / str(number)).touch()
    arguments = ("-q", "-N", 200, "-d", folder, image, "1M")
    assert main([*map(str, arguments)]) == 0
    found = walk(image.read_bytes())
    assert (found.findings, found.free_inodes) == ([], 0)
    image.unlink()
    (folder / "one-more").touch()
    assert refused(capsys, *arguments) == (
        f"mkfs.vsfs: the files in {folder} do not fit into {image}: they take {count + 1} inodes, "
        f"and it has {count}; ask for more inodes with -N {count + 4}\n"
    )
    assert not image.exists()


def test_a_tree_may_fill_the_last_block_and_one_more_byte_is_refused(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_bytes(b"x" * 4096 * 54)  # 56 without the root's and the indirect one
    assert main(["-q", "-d", str(folder), str(image)]) == 0
    found = walk(image.read_bytes())
    assert (found.findings, found.free_blocks) == ([], 0)
    image.unlink()
    (folder / "file").write_bytes(b"x" * (4096 * 54 + 1))
    assert refused(capsys, "-d", folder, image) == (
        f"mkfs.vsfs: the files in {folder} do not fit into {image}: they take 56 blocks of 4096 "
        "bytes, and it has 55; make it larger, with a SIZE of at least 260K\n"
    )
    assert not image.exists()


@pytest.mark.parametrize(
    ("files", "size_of_each", "options"),
    [
        (1, 3 * MIB, []),
        (1, 3 * MIB, ["-b", "512"]),
        (1, 3 * MIB, ["-b", "64K"]),
        (700, 0, []),
        (700, 0, ["-N", "16"]),
        (700, 3000, ["-N", "16"]),
        (700, 3000, ["-i", "1M"]),
        (700, 3000, []),
        (2, 100 * MIB, []),
    ],
)
def test_what_a_refusal_advises_is_enough_and_nothing_less_is(
    files: int,
    size_of_each: int,
    options: list[str],
    folder: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(files):
        (folder / str(number)).write_bytes(bytes(size_of_each))
    size = "512K" if "64K" in options else "256K"
    message = refused(capsys, "-n", "-d", folder, *options, image, size)
    words = message.split()
    wanted = words[words.index("least") + 1] if "least" in words else size
    more = ["-N", words[words.index("-N") + 1]] if "-N" in words else []
    attempt = ["-n", "-q", "-d", str(folder), *options, *more, str(image)]
    assert main([*attempt, wanted]) == 0
    if "least" in words:
        unit = MIB if wanted.endswith("M") else max(4 * KIB, 64 * KIB * ("64K" in options))
        assert refused(capsys, *attempt, parse_size(wanted) - unit)


def test_nothing_is_written_when_the_files_do_not_fit(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "big").write_bytes(b"x" * 300_000)
    before = os.urandom(256 * KIB)
    image.write_bytes(before)
    refused(capsys, "-F", "-d", folder, image)
    assert image.read_bytes() == before


def test_thousands_of_files_that_do_not_fit_leave_no_image(
    source: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "do not fit" in refused(capsys, "-d", source, image)
    assert "do not fit" in refused(capsys, "-N", 1000, "-d", source, image, "128M")
    assert not image.exists()


def test_a_file_that_was_there_holds_no_half_made_filesystem_after_a_refusal(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the same command, with fewer files, works the next time."""
    (folder / "big").write_bytes(b"x" * 300_000)
    image.write_bytes(bytes(256 * KIB))
    refused(capsys, "-d", folder, image)
    (folder / "big").unlink()
    assert main(["-q", "-d", str(folder), str(image)]) == 0


def give_attributes(path: Path, monkeypatch: pytest.MonkeyPatch, **values: bytes) -> None:
    """Attributes for a host file, pretended where the host's filesystem has no room for them."""
    names = [f"user.{name}" for name in values]
    try:
        for name, value in zip(names, values.values(), strict=True):
            os.setxattr(path, name, value)
    except OSError:
        real_list, real_get = os.listxattr, os.getxattr

        def listxattr(asked: Any, **options: Any) -> list[str]:
            is_ours = os.fspath(asked) == os.fsencode(path)
            return names if is_ours else real_list(asked, **options)

        def getxattr(asked: Any, name: str, **options: Any) -> bytes:
            is_ours = os.fspath(asked) == os.fsencode(path)
            return values[name[5:]] if is_ours else real_get(asked, name, **options)

        monkeypatch.setattr(os, "listxattr", listxattr)
        monkeypatch.setattr(os, "getxattr", getxattr)


def test_an_attribute_that_does_not_fit_into_a_block_is_named(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    give_attributes(folder / "file", monkeypatch, comment=b"x" * 2000)
    assert refused(capsys, "-b", 1024, "-d", folder, image) == (
        f"mkfs.vsfs: {image} cannot be filled: {folder}/file has attributes of 2032 bytes "
        "(user.comment is the largest), and all must fit into a block of 1024; "
        "-b 2048 makes them fit\n"
    )
    assert not image.exists()
    assert main(["-q", "-b", "2048", "-d", str(folder), str(image)]) == 0
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        assert fs.getxattr("/file", "user.comment") == b"x" * 2000


def test_of_several_attributes_the_largest_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    give_attributes(folder / "file", monkeypatch, a=b"x" * 400, b=b"x" * 40_000, c=b"x" * 60_000)
    with pytest.raises(CannotCopy, match=r"\(user\.c is the largest\).*; no block is enough"):
        measure(folder, plan(8 * MIB, block_size=65536))


def test_attributes_are_checked_when_they_are_copied_too(
    folder: Path, make_fs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    give_attributes(folder / "file", monkeypatch, comment=b"x" * 5000)
    with pytest.raises(CannotCopy, match=r"user\.comment"):
        Populator(make_fs(), folder).run()


def test_a_file_larger_than_block_pointers_reach_is_named(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(folder / "large", "wb") as file:
        file.truncate(2**31)
    message = refused(capsys, "-b", 512, "-d", folder, image)
    assert f"{folder}/large is too large: it has 2147483648 bytes" in message
    assert main(["-q", "-d", str(folder), str(image)]) == 0
    assert walk(image.read_bytes()).findings == []


def test_an_image_that_lies_in_the_folder_is_not_copied_into_itself(folder: Path) -> None:
    (folder / "file").touch()
    image = folder / "disk.img"
    assert main(["-q", "-d", str(folder), str(image), "1M"]) == 0
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        assert fs.listdir("/") == ["file"]


def test_an_image_in_the_folder_is_known_by_any_of_its_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sub").mkdir()
    image = folder / "sub" / "disk.img"
    image.write_bytes(bytes(MIB))
    os.link(image, folder / "sub" / "second")
    (folder / "soft").symlink_to("sub/disk.img")
    (folder / "sub" / "other.img").write_bytes(bytes(KIB))
    assert main(["-d", str(folder), str(folder / "soft")]) == 0
    shown = capsys.readouterr().out
    assert "is the image itself and is left out" in shown
    assert f"{folder}/sub/" in shown
    found = walk(image.read_bytes())
    assert found.findings == []
    assert sorted(found.paths) == [b"", b"/soft", b"/sub", b"/sub/other.img"]


# -- a tree that changes while it is copied ------------------------------------


def after_format(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Have `action` happen between measuring and copying."""

    def format_and_act(*arguments: Any, **options: Any) -> Any:
        geometry = format_image(*arguments, **options)
        action()
        return geometry

    monkeypatch.setattr(vsfs_tools.mkfs, "format_image", format_and_act)


def test_a_directory_that_vanishes_is_named_and_no_image_is_left(
    folder: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def replace() -> None:
        (folder / "sub" / "file").unlink()
        (folder / "sub").rmdir()
        (folder / "sub").write_text("x" * 8 * MIB)

    (folder / "sub").mkdir()
    (folder / "sub" / "file").touch()
    after_format(monkeypatch, replace)
    message = refused(capsys, "-d", folder, image)
    assert f"the files in {folder} do not fit into {image} any more" in message
    assert not image.exists()


@pytest.mark.parametrize("force", [[], ["-F"]])
def test_a_file_that_vanishes_is_named_and_the_image_that_was_there_is_unused(
    force: list[str],
    folder: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b"):
        (folder / name).write_bytes(b"x" * 50_000)
    image.write_bytes(bytes(256 * KIB) if not force else b"old" * 100_000)
    real = Copier.contents

    def contents(copier: Copier, path: bytes, source: bytes, how: int) -> None:
        if path == b"/b":
            (folder / "b").unlink()
        real(copier, path, source, how)

    with monkeypatch.context() as patch:
        patch.setattr(Copier, "contents", contents)
        assert refused(capsys, *force, "-d", folder, image) == (
            f"mkfs.vsfs: {image} cannot be filled: {folder}/b vanished while it was being copied; "
            "try again when nothing changes the files\n"
        )
    with pytest.raises(NotVsfs):
        vsfs.FileSystem.open(image)
    assert main(["-q", "-d", str(folder), str(image)]) == 0
    with vsfs.FileSystem.open(image, read_only=True) as fs:
        assert fs.listdir("/") == ["a"]


def test_a_file_that_cannot_be_read_is_named_before_anything_is_written(
    folder: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.open

    def no_access(path: Any, *arguments: Any, **options: Any) -> int:
        if path == os.fsencode(folder / "new\nline"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *arguments, **options)

    (folder / "new\nline").touch()
    before = os.urandom(256 * KIB)
    image.write_bytes(before)
    monkeypatch.setattr(os, "open", no_access)
    message = refused(capsys, "-F", "-d", folder, image)
    assert r"/new\nline' cannot be read by you; try as root, or leave it out" in message
    assert image.read_bytes() == before


def test_any_other_error_of_a_file_is_told_with_its_name(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Copier._stretch

    def fails(*arguments: Any) -> None:
        real(*arguments)
        raise OSError(errno.EIO, "Input/output error")

    (folder / "file").write_text("x")
    monkeypatch.setattr(Copier, "_stretch", fails)
    message = refused(capsys, "-d", folder, image)
    assert f"{folder}/file cannot be copied: Input/output error" in message
    assert not image.exists()


def test_a_full_disk_below_the_image_is_not_blamed_on_a_file(
    folder: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (folder / "file").write_text("x")
    monkeypatch.setattr(Copier, "_stretch", no_space)
    message = refused(capsys, "-d", folder, image)
    assert message == f"mkfs.vsfs: {image}: no space is left on the disk that it lies on\n"
    assert not image.exists()


def test_a_file_that_becomes_shorter_ends_in_a_hole(
    folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pread

    def shorter(fd: int, size: int, offset: int) -> bytes:
        is_file = os.readlink(f"/proc/self/fd/{fd}") == str(folder / "file")
        return b"" if is_file and offset else real(fd, 5000 if is_file else size, offset)

    (folder / "file").write_bytes(b"x" * 20_000)
    monkeypatch.setattr(os, "pread", shorter)
    assert main(["-q", "-d", str(folder), str(image)]) == 0
    found = walk(image.read_bytes())
    assert found.findings == []
    assert found.content(found.paths[b"/file"]) == (b"x" * 5000).ljust(20_000, b"\0")


def test_while_it_is_filled_an_image_has_no_superblock(folder: Path, image: Path) -> None:
    """So the end of the process, at any time, leaves no half-filled filesystem."""
    for number in range(1200):  # more than are committed together
        (folder / str(number)).touch()
    format_image(image, 8 * MIB, inode_count=2000)
    seen: set[bytes] = set()

    def look(path: bytes) -> None:
        if path.endswith((b"/0", b"99")):
            with open(image, "rb") as file:
                seen.add(file.read(4096))

    fill(image, folder, on_file=look)
    assert seen == {bytes(4096)}
    found = walk(image.read_bytes())
    assert found.findings == []
    assert len(found.paths) == 1201


def test_an_interrupted_fill_leaves_an_image_that_looks_unused(folder: Path, image: Path) -> None:
    def interrupt(_path: bytes) -> None:
        raise KeyboardInterrupt

    (folder / "file").touch()
    format_image(image, MIB)
    with pytest.raises(KeyboardInterrupt):
        fill(image, folder, on_file=interrupt)
    format_image(image)  # which refuses an image in use, or one that holds anything


def test_fill_raises_nospace_when_it_is_asked_for_too_much(folder: Path, image: Path) -> None:
    (folder / "big").write_bytes(b"x" * 300_000)
    format_image(image)
    with pytest.raises(NoSpace):
        fill(image, folder)
    with pytest.raises(NotVsfs):
        vsfs.FileSystem.open(image)


def test_what_was_copied_is_used_as_any_other_filesystem(source: Path, make_fs: Any) -> None:
    fs = make_fs(64 * MIB)
    Populator(fs, source / "odd").run()
    fs.unlink("/large")
    fs.mkdir("/empty/a/new")
    fs.rename("/sparse", "/empty/a/new/sparse")
    sound(fs)
    assert walk(image_of(fs), mounted=True).free_blocks > 15_000
