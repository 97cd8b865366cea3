"""mkfs.vsfs: what it makes, what it prints, and what it refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest
from vsfs_tools.mkfs import main

import vsfs
from tests.support.rawwalk import walk

UUID = "0ea75a09-4f7d-4c1b-9d1f-6a3c5be0a2d1"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run it; it must refuse with one sentence, which is returned."""
    assert main([str(argument) for argument in arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (sentence,) = shown.err.splitlines()
    assert sentence.startswith("mkfs.vsfs: ")
    return sentence


def test_a_new_image_has_256_kib_and_osteps_regions(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(image), "-U", UUID]) == 0
    assert image.stat().st_size == 256 * 1024
    assert capsys.readouterr().out.splitlines() == [
        f"{image}: VSFS made, 256 KiB = 64 blocks of 4096 bytes, 80 inodes",
        "  S  block  0     superblock",
        "  i  block  1     inode bitmap",
        "  d  block  2     data bitmap",
        "  I  blocks 3-7   inode table   80 inodes of 256 bytes, 16 in a block",
        "  D  blocks 8-63  data region   56 blocks for files and directories",
        f"  UUID {UUID}",
    ]


def test_the_journal_stands_among_the_regions(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "15 changed blocks fit into a transaction; its pointers in block 25"
    for arguments in (["-j"], ["-J", "blocks=16"]):
        assert main([str(image), "-U", UUID, "-F", *arguments]) == 0
        assert capsys.readouterr().out.splitlines()[-3:] == [
            "  D  blocks 8-63  data region   56 blocks for files and directories",
            f"  J  blocks 9-24  journal       {note}",
            f"  UUID {UUID}",
        ]
        found = walk(image.read_bytes())
        assert found.findings == []
        assert found.journal == (*range(9, 25),)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["-J", "blocks=15"],
            "a journal cannot have 15 blocks: with blocks of 4096 bytes it has 16",
        ),
        (["-J", "blocks=2000"], "a journal cannot have 2000 blocks"),
        (["-J", "blocks=54"], "leaves no room for files in the image, whose data region has 56"),
        (["-j", "40K"], "leaves no room for files"),
        (["-j", "-n", "40K"], "leaves no room for files"),
    ],
)
def test_a_journal_that_cannot_be_is_refused(
    image: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refused(capsys, image, *arguments)
    assert not image.exists()


def test_a_size_of_a_journal_needs_its_word(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(image), "-J", "20"])
    assert "write it as blocks=64" in capsys.readouterr().err


def test_what_a_journal_takes_is_counted_for_the_files(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_bytes(b"x" * 4096 * 50)  # 51 with its indirect block
    assert main(["-q", str(image), "-d", str(tmp_path / "dir")]) == 0
    image.unlink()
    arguments = [image, "-j", "-d", tmp_path / "dir"]
    sentence = refused(capsys, *arguments)
    assert "take 51 blocks of 4096 bytes, and it has 38" in sentence
    size = sentence.split()[-1]
    assert not image.exists()
    assert main(["-q", *map(str, arguments), size]) == 0
    assert walk(image.read_bytes()).findings == []


def test_quiet_prints_nothing(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", str(image)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("size", "expected"), [("1M", 2**20), ("512K", 2**19), ("300000", 300000)])
def test_size_is_the_size_of_a_new_file(size: str, expected: int, image: Path) -> None:
    assert main(["-q", str(image), size]) == 0
    assert image.stat().st_size == expected


def test_an_existing_file_keeps_its_size_unless_told_otherwise(image: Path) -> None:
    image.write_bytes(bytes(1_000_000))
    assert main(["-q", str(image)]) == 0
    assert image.stat().st_size == 1_000_000
    assert main(["-q", "-F", str(image), "2M"]) == 0
    assert image.stat().st_size == 2 * 2**20


def test_a_large_image_stays_sparse(image: Path) -> None:
    assert main(["-q", str(image), "1T"]) == 0
    assert image.stat().st_blocks * 512 < 200_000


def test_force_over_old_contents_leaves_nothing_of_them_in_the_metadata(image: Path) -> None:
    image.write_bytes(b"\xff" * 256 * 1024)
    assert main(["-q", "-F", "-U", UUID, str(image)]) == 0
    with vsfs.FileSystem.open(image) as fs:
        assert fs.listdir("/") == []
        assert fs.statvfs().f_bfree == 55
    assert image.read_bytes()[512:4096] == bytes(4096 - 512)


def test_a_filesystem_is_refused_without_force(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["-q", str(image)])
    before = image.read_bytes()
    assert "already holds a VSFS filesystem" in refused(capsys, image)
    assert image.read_bytes() == before
    assert main(["-q", "-F", str(image)]) == 0


@pytest.mark.parametrize("where", [0, 65535, 400_000 - 65536, 399_999])
def test_other_bytes_at_either_end_are_refused_without_force(
    where: int, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(400_000)
    content[where] = 1
    image.write_bytes(content)
    assert "not empty" in refused(capsys, image)
    assert image.read_bytes() == content


def test_bytes_in_the_middle_are_not_looked_at(image: Path) -> None:
    content = bytearray(400_000)
    content[70_000] = 1
    image.write_bytes(content)
    assert main(["-q", str(image)]) == 0


def test_an_image_in_use_is_refused_even_with_force(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsfs.lock.WAIT_SECONDS", 0.05)
    main(["-q", str(image)])
    with vsfs.FileSystem.open(image):
        assert "in use by another process" in refused(capsys, "-F", image)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["10K"], "at least 20480 bytes"),
        (["-b", "65536"], "at least 327680 bytes"),
        (["17T"], "2^32 blocks"),
        (["-b", "512", "3T"], "2^32 blocks"),
        (["-b", "1000"], "power of two from 512 to 65536"),
        (["-b", "128K", "1G"], "power of two from 512 to 65536"),
        (["-N", "3"], "too few"),
        (["-N", "5000"], "none for data"),
        (["-L", "x" * 33], "at most 32"),
        (["-L", "ü" * 17], "at most 32"),
    ],
)
def test_impossible_sizes_are_refused_with_the_limit_and_no_file_is_left(
    arguments: list[str], says: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, image, *arguments)
    assert not image.exists()


@pytest.mark.parametrize("arguments", [["12Q"], ["-b", "x"], ["-U", "no"], ["-N", "many"], []])
def test_bad_words_on_the_command_line_end_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "disk.img"] if arguments else [])
    assert "error: " in capsys.readouterr().err


def test_what_holds_no_blocks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "directory" in refused(capsys, tmp_path)
    assert "neither a file nor a block device" in refused(capsys, tmp_path / "fifo")
    assert "neither a file nor a block device" in refused(capsys, "/dev/null")
    assert "no directory" in refused(capsys, tmp_path / "no" / "disk.img")


def test_a_dry_run_writes_nothing(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-n", str(image), "1G"]) == 0
    assert "would be made" in capsys.readouterr().out
    assert not image.exists()
    image.write_bytes(b"x" * 256 * 1024)
    assert "not empty" in refused(capsys, "-n", image)
    assert main(["-n", "-F", str(image)]) == 0
    assert image.read_bytes() == b"x" * 256 * 1024


def test_options_set_inodes_block_size_and_label(image: Path) -> None:
    assert main(["-q", "-b", "1024", "-N", "9", "-L", "my disk", str(image), "1M"]) == 0
    with vsfs.FileSystem.open(image) as fs:
        assert fs.volume.geometry.inode_count == 12  # rounded up to fill a block
        assert fs.volume.geometry.block_size == 1024
        assert fs.volume.superblock.text_label == "my disk"
    assert main(["-q", "-F", "-i", "2048", str(image)]) == 0
    with vsfs.FileSystem.open(image) as fs:
        assert fs.volume.geometry.inode_count == 512


def test_the_root_directory_belongs_to_whoever_ran_it(image: Path) -> None:
    main(["-q", str(image)])
    with vsfs.FileSystem.open(image) as fs:
        root = fs.stat("/")
        assert (root.st_uid, root.st_gid) == (os.geteuid(), os.getegid())
        assert (root.st_ino, root.st_nlink, stat.S_IMODE(root.st_mode)) == (2, 2, 0o755)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with some of everything."""
    folder = tmp_path / "folder"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "file").write_text("contents")
    os.chmod(folder / "file", 0o4751)
    os.link(folder / "file", folder / "sub" / "hard")
    os.symlink("../file", folder / "sub" / "soft")
    os.symlink("d/" * 150, folder / "long")
    os.mkfifo(folder / "fifo", 0o640)
    with open(folder / "sparse", "wb") as file:
        file.truncate(200_000)
        file.seek(100_000)
        file.write(b"middle")
    (folder / b"\xff\xfe".decode(errors="surrogateescape")).touch()
    os.chmod(folder / "sub", 0o1777)
    with contextlib.suppress(OSError):  # a host without them
        os.setxattr(folder / "file", "user.comment", b"kept")
    for name in ("file", "sparse", "sub/deep", "sub"):
        os.utime(folder / name, ns=(10**18 + 1, 10**18 + 7))
    return folder


def test_d_fills_it_with_everything_a_folder_holds(image: Path, folder: Path) -> None:
    assert main(["-q", "-d", str(folder), str(image)]) == 0
    with vsfs.FileSystem.open(image) as fs:
        for path in (folder, *folder.rglob("*")):
            inside = "/" + str(path.relative_to(folder))
            ours, theirs = fs.lstat(inside), os.lstat(path)
            for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
                assert getattr(ours, field) == getattr(theirs, field), (inside, field)
            if not stat.S_ISDIR(theirs.st_mode):
                assert (ours.st_nlink, ours.st_size) == (theirs.st_nlink, theirs.st_size)
        assert fs.stat("/file").st_ino == fs.stat("/sub/hard").st_ino
        assert fs.listxattr("/file") == os.listxattr(folder / "file")
        assert fs.readlink("/long") == "d/" * 150
        assert fs.stat("/sparse").st_blocks * 512 < 100_000
        fd = fs.open("/sparse", os.O_RDONLY)
        assert fs.read(fd, 200_000) == (folder / "sparse").read_bytes()
        assert len(fs.listdir("/")) == len(os.listdir(folder))


def test_d_says_when_the_folder_does_not_fit_and_leaves_no_file(
    image: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "big").write_bytes(b"x" * 300_000)
    assert "do not fit" in refused(capsys, "-d", folder, image)
    assert not image.exists()
    for number in range(20):
        (folder / str(number)).touch()
    sentence = refused(capsys, "-N", "5", "-d", folder, image, "1M")
    assert sentence.endswith("they take 29 inodes, and it has 13; ask for more inodes with -N 32")


def test_a_dry_run_with_d_says_what_the_files_would_take(
    image: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-n", "-d", str(folder), str(image)]) == 0
    shown = capsys.readouterr().out
    assert not image.exists()
    assert main(["-d", str(folder), str(image)]) == 0
    made = capsys.readouterr().out
    with vsfs.FileSystem.open(image) as fs:
        free = fs.statvfs()
    words = f"{77 - free.f_ffree} inodes and {55 - free.f_bfree} blocks"
    assert shown.splitlines()[-1] == f"  the files in {folder} would take {words}"
    assert made.splitlines()[-1] == f"  the files in {folder} take {words}"


def test_a_dry_run_with_d_refuses_what_does_not_fit(
    image: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "big").write_bytes(b"x" * 300_000)
    expected = refused(capsys, "-d", folder, image)
    assert refused(capsys, "-n", "-d", folder, image) == expected


def test_d_needs_a_directory(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "-d needs a directory" in refused(capsys, "-d", "/no/such", image)
    assert not image.exists()


def test_two_runs_with_source_date_epoch_and_uuid_are_identical(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    images = [tmp_path / "one.img", tmp_path / "two.img"]
    for image in images:
        assert main(["-q", "-U", UUID, "-d", str(folder), str(image)]) == 0
        for path in folder.rglob("*"):  # somebody reads the folder in between
            if path.is_file() and not path.is_symlink():
                path.read_bytes()
    assert images[0].read_bytes() == images[1].read_bytes()


@pytest.mark.parametrize("text", ["yesterday", "-1", "", "1.5", "9223372037"])
def test_a_source_date_epoch_that_is_no_time_is_refused(
    text: str, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert "number of seconds" in refused(capsys, image)


def test_a_full_host_disk_is_one_sentence(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", no_space)
    assert "no space is left on the disk that it lies on" in refused(capsys, image)
    assert not image.exists()
