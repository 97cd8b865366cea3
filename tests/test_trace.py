"""The trace: every access, with its call and its role; OSTEP's figures from real runs."""

from __future__ import annotations

import os
import random

import pytest

import vsfs
from tests.support.images import blank, errno_of, image_of, mount
from tests.support.mounts import tree
from tests.support.rawwalk import walk
from tests.support.traces import BLOCK, book_image, book_reads, book_writes, later, traced
from vsfs.device import Kind, MemoryDevice, RecordingDevice
from vsfs.timeline import FIGURES, accesses_of, compare, timeline_of
from vsfs.trace import Event, Part, Recorder, Trace, totals_of
from vsfs.trace_json import BadTrace, lines_of, read_trace
from vsfs.trace_log import clean_copy
from vsfs.trace_replay import cold_totals
from vsfs.traced import TracedVolume


def calls(trace: Trace) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each call that accesses something: its name, and its accesses by role."""
    timeline = timeline_of(trace)
    return [
        (group.call.name, accesses_of(timeline, group)) for group in timeline.groups if group.rows
    ]


def touched(recorder: Recorder) -> set[str]:
    """The titles of all columns."""
    return {column.title for column in timeline_of(recorder.trace).columns}


# -- the book's figures --------------------------------------------------------


def test_figure_40_3_is_what_a_cold_read_does() -> None:
    fs, recorder = traced(book_image(with_bar=True), cold=True)
    book_reads(fs)
    assert FIGURES["40.3"] == calls(recorder.trace)
    assert (11, 3) == totals_of(recorder.trace.events)[0::2][:2]
    assert compare(timeline_of(recorder.trace), "40.3") == (True, ["the same as figure 40.3"])


def test_figure_40_4_is_what_a_cold_create_and_write_do_but_for_the_order_of_writes() -> None:
    """In the book's order a crash could leave a name that leads to no inode."""
    fs, recorder = traced(book_image(with_bar=False), cold=True)
    book_writes(fs)
    create, *writes = calls(recorder.trace)
    walked = [("read", f"{name} {part}") for name in ("root", "foo") for part in ("inode", "data")]
    assert create == (
        "create",
        [
            *walked,
            ("read", "inode bitmap"),
            ("read", "bar inode"),
            ("write", "bar inode"),
            ("write", "foo inode"),
            ("write", "inode bitmap"),
            ("write", "foo data"),
        ],
    )
    for block, write in enumerate(writes):
        assert write == (
            "write",
            [
                ("read", "bar inode"),
                ("read", "data bitmap"),
                ("write", f"bar data[{block}]"),
                ("write", "data bitmap"),
                ("write", "bar inode"),
            ],
        )
    assert [(name, sorted(accesses)) for name, accesses in FIGURES["40.4"]] == [
        (name, sorted(accesses)) for name, accesses in calls(recorder.trace)
    ]
    assert (12, 13) == totals_of(recorder.trace.events)[0::2][:2]
    same, (first, why) = compare(timeline_of(recorder.trace), "40.4")
    assert (True, "crash" in why) == (same, True)
    assert first == "the accesses of figure 40.4, those of calls 1, 2, 3 and 4 in another order:"


def test_compare_names_the_first_access_that_differs() -> None:
    fs, recorder = traced(book_image(with_bar=True))
    book_reads(fs)
    warm = timeline_of(recorder.trace)
    assert compare(warm, "40.3") == (
        False,
        ["call 1, open: without the read of root inode of figure 40.3"],
    )
    assert compare(warm, "40.4") == (False, ["call 1 is open, in figure 40.4 it is create"])
    fs, recorder = traced(book_image(with_bar=True), cold=True)
    fs.open("/foo/bar", os.O_RDONLY)
    assert compare(timeline_of(recorder.trace), "40.3") == (
        False,
        ["1 call with accesses, where figure 40.3 has 4"],
    )


def test_the_same_calls_on_a_cold_volume_are_counted_beside_the_warm_ones() -> None:
    cold, recorder = traced(book_image(with_bar=False), cold=True)
    book_writes(cold)
    warm, _ = traced(book_image(with_bar=False))
    book_writes(warm)
    assert isinstance(warm.volume, TracedVolume)
    assert totals_of(recorder.trace.events) == cold_totals(warm.volume.call_log)


@pytest.mark.parametrize("journal_blocks", [None, 16])
def test_calls_of_every_kind_can_be_made_once_more(journal_blocks: int | None) -> None:
    fs, _ = traced(blank(1 << 20, journal_blocks=journal_blocks))
    script(fs)
    assert isinstance(fs.volume, TracedVolume)
    assert cold_totals(fs.volume.call_log) is not None


def test_without_a_whole_log_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    fs, _ = traced(book_image(with_bar=True))
    assert isinstance(fs.volume, TracedVolume)
    fs.open("/foo/bar", os.O_RDONLY)
    fs.volume.record()
    assert cold_totals(fs.volume.call_log) is None  # a file is open
    monkeypatch.setattr("vsfs.trace_log.MOST_STEPS", 3)
    fs, _ = traced(book_image(with_bar=True))
    assert isinstance(fs.volume, TracedVolume)
    book_reads(fs)
    assert cold_totals(fs.volume.call_log) is None


def test_a_copy_is_as_an_unmount_would_leave_it_now() -> None:
    """Also of a cold volume, whose counts are old until then, and while files are open."""
    for cold in (False, True):
        device = book_image(with_bar=False)
        fs, _ = traced(device, cold=cold)
        book_writes(fs)
        fs.sync()
        copy = clean_copy(fs.volume, device)
        assert copy is not None
        assert walk(copy).findings == []


def test_close_and_dup_of_a_cold_volume_need_no_disk() -> None:
    fs, recorder = traced(book_image(with_bar=True), cold=True)
    fd = fs.open("/foo/bar", os.O_RDONLY)
    fs.close(fs.dup(fd))
    fs.close(fd)
    assert ["open"] == [name for name, _ in calls(recorder.trace)]


# -- what is recorded ----------------------------------------------------------


def script(fs: vsfs.FileSystem) -> None:
    """Calls of every kind, some of which fail."""
    choice = random.Random(40)
    for number in range(60):
        directory = f"/d{choice.randrange(4)}"
        path = f"{directory}/f{choice.randrange(6)}"
        other = f"/d{choice.randrange(4)}/g{choice.randrange(3)}"
        match number % 10:
            case 0:
                errno_of(fs.mkdir, directory)
            case 1 | 2 | 3:
                write(fs, path, choice.randbytes(choice.randrange(1, 60_000)))
            case 4:
                errno_of(fs.truncate, path, choice.randrange(90_000))
            case 5:
                errno_of(fs.rename, path, other)
            case 6:
                errno_of(fs.symlink, "f" * choice.choice([5, 200]), f"{other}-link")
            case 7:
                errno_of(fs.setxattr, path, "user.x", choice.randbytes(100))
            case 8:
                errno_of(fs.link, path, f"{other}-hard")
            case _:
                errno_of(fs.unlink, path)


def write(fs: vsfs.FileSystem, path: str, content: bytes) -> None:
    try:
        fd = fs.open(path, os.O_RDWR | os.O_CREAT)
    except OSError:
        return
    errno_of(fs.write, fd, content)
    fs.lseek(fd, 0, os.SEEK_SET)
    fs.read(fd, 10_000)
    fs.close(fd)


def test_every_access_of_the_device_is_in_the_trace() -> None:
    device = RecordingDevice(blank(1 << 20))
    fs, recorder = traced(device)
    before = len(device.accesses)
    script(fs)
    fs.sync()
    told = [event.operation for event in recorder.trace.events]
    seen = [access.operation for access in device.accesses[before:]]
    # the recorder itself reads what a block of the inode table held before a write
    assert [name for name in told if name != "read"] == [name for name in seen if name != "read"]
    assert 0 <= seen.count("read") - told.count("read") <= told.count("write")


@pytest.mark.parametrize("journal_blocks", [None, 16])
def test_tracing_changes_nothing_on_the_disk(journal_blocks: int | None) -> None:
    plain = mount(blank(1 << 20, journal_blocks=journal_blocks), clock=later())
    fs, _ = traced(blank(1 << 20, journal_blocks=journal_blocks))
    for each in (plain, fs):
        script(each)
        each.sync()
    assert image_of(plain) == image_of(fs)


@pytest.mark.parametrize(("block_size", "journal_blocks"), [(4096, None), (512, None), (4096, 16)])
def test_a_cold_volume_does_what_a_warm_one_does(
    block_size: int, journal_blocks: int | None
) -> None:
    plain_image, cold_image = (
        blank(1 << 20, block_size=block_size, journal_blocks=journal_blocks) for _ in range(2)
    )
    fs = mount(plain_image)
    cold, _ = traced(cold_image, cold=True)
    for each in (fs, cold):
        script(each)
        each.unmount()
    assert walk(cold_image.image).findings == []
    fs, again = mount(plain_image), mount(cold_image)
    assert shown(fs) == shown(again)


def shown(fs: vsfs.FileSystem) -> dict[str, str]:
    def read(path: bytes) -> bytes:
        return fs.pread(fs.open(path, os.O_RDONLY), 1 << 20, 0)

    return tree("/", since_ns=0, system=fs, read=read)


def test_an_unlinked_open_file_of_a_cold_volume_can_be_read_and_goes_at_its_close() -> None:
    device = book_image(with_bar=True)
    fs, _ = traced(device, cold=True)
    fd = fs.open("/foo/bar", os.O_RDONLY)
    fs.unlink("/foo/bar")
    assert fs.read(fd, 3) == b"bar"
    fs.close(fd)
    fs.unmount()
    assert walk(device.image).findings == []
    with mount(device) as again:
        assert again.volume.statistics().free_inodes == 76


def test_a_crash_of_a_cold_volume_leaves_what_the_next_mount_repairs() -> None:
    """The superblock's counts are those of the mount, and nothing else is wrong."""
    device = book_image(with_bar=False)
    fs, _ = traced(device, cold=True)
    book_writes(fs)
    crashed = MemoryDevice(bytearray(device.image))
    with mount(crashed) as again:
        assert again.stat("/foo/bar").st_size == 3 * BLOCK
    assert walk(crashed.image).findings == []


def test_an_indirect_block_and_the_data_below_it_have_their_roles() -> None:
    fs, recorder = traced(blank(1 << 20, block_size=512))
    fd = fs.open("/big", os.O_RDWR | os.O_CREAT)
    for block in (0, 12, 139, 140 + 128):
        fs.pwrite(fd, b"x", block * 512)
    fs.sync()
    assert {"big data[0]", "big data[12]", "big data[139]", "big data[268]"} <= touched(recorder)
    assert "big indirect" in touched(recorder)


def test_attributes_directories_of_several_blocks_and_the_journal_have_their_roles() -> None:
    fs, recorder = traced(blank(1 << 20, block_size=512, journal_blocks=64))
    fs.mkdir("/many")
    for number in range(40):
        fs.mkdir(f"/many/{number:040}")
    fs.setxattr("/many", "user.x", b"1")
    fs.sync()
    assert {"journal", "many attribute", "many data[0]", "many data[2]"} <= touched(recorder)


def test_a_write_of_one_block_of_inodes_tells_which_of_them_changed() -> None:
    fs, recorder = traced(blank())
    fs.mkdir("/foo")
    fs.sync()
    (event,) = (
        event
        for event in recorder.trace.events
        if event.operation == "write" and event.parts[-1].kind == Kind.INODE_TABLE
    )
    inodes = [part for part in event.parts if part.kind == Kind.INODE_TABLE]
    assert [("/", 3), ("/foo", 3)] == [(part.path, part.block) for part in inodes]


def test_one_name_for_two_files_is_told_apart_by_the_path() -> None:
    fs, recorder = traced(blank())
    for directory in ("/a", "/b"):
        fs.mkdir(directory)
        fs.open(f"{directory}/same", os.O_CREAT)
    fs.sync()
    assert {"/a/same inode", "/b/same inode", "a inode"} <= touched(recorder)


def test_a_call_that_fails_is_recorded_with_its_errno() -> None:
    fs, recorder = traced(book_image(with_bar=False))
    errno_of(fs.open, "/foo/none", os.O_RDONLY)
    (call,) = recorder.trace.calls
    assert ("open(/foo/none)", 2) == (call.label, call.errno)


def test_calls_by_inode_number_are_named_by_path() -> None:
    fs, recorder = traced(book_image(with_bar=True))
    volume = fs.volume
    foo = volume.lookup(2, b"foo")
    bar = volume.lookup(foo.ino, b"bar")
    file = volume.open(bar.ino, os.O_RDWR)
    volume.read(file.handle, 10, 4096)
    volume.write(file.handle, b"abc", 0)
    volume.rename(foo.ino, b"bar", 2, b"baz")
    volume.release(file.handle)
    assert [
        "lookup(/foo)",
        "lookup(/foo/bar)",
        "open(/foo/bar)",
        "read(/foo/bar, 10, 4096)",
        "write(/foo/bar, 3, 0)",
        "rename(/foo/bar, /baz)",
        "release(/baz)",
    ] == [call.label for call in recorder.trace.calls]


def test_by_block_what_lies_in_one_block_is_one_column_in_the_order_of_the_disk() -> None:
    fs, recorder = traced(book_image(with_bar=True), cold=True)
    book_reads(fs)
    roles, blocks = timeline_of(recorder.trace), timeline_of(recorder.trace, "block")
    titles = [column.title for column in blocks.columns]
    numbers = [int(column.first.removeprefix("block ")) for column in blocks.columns]
    assert (sorted(numbers), "block 3 inode table") == (numbers, titles[0])
    assert [g.call for g in roles.groups] == [g.call for g in blocks.groups]
    by_role = [row.operation for group in roles.groups for row in group.rows]
    by_block = [row.operation for group in blocks.groups for row in group.rows]
    assert by_role == by_block
    inode_rows = [row for group in blocks.groups for row in group.rows if row.columns == (0,)]
    assert 3 + 3 * 2 == len(inode_rows)  # of /, foo and bar; of bar in each read


def test_by_block_an_access_marks_each_block_or_if_there_are_many_all_in_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fs, recorder = traced(book_image(with_bar=True))
    fd = fs.open("/foo/bar", os.O_RDONLY)
    fs.read(fd, 3 * BLOCK)
    (row,) = timeline_of(recorder.trace, "block").groups[-1].rows
    assert 3 == len(row.columns)
    monkeypatch.setattr("vsfs.timeline.MOST_BLOCKS", 4)
    timeline = timeline_of(recorder.trace, "block")
    (row,) = timeline.groups[-1].rows
    (column,) = (timeline.columns[at] for at in row.columns)
    assert column.first.startswith("blocks ")


def test_a_block_that_was_first_one_thing_and_then_another_is_called_both() -> None:
    parts = [Part(Kind.DIRECTORY, 9), Part(Kind.DATA, 9)]
    trace = Trace(BLOCK, events=[Event(1, "write", (part,)) for part in parts])
    (column,) = timeline_of(trace, "block").columns
    assert "block 9 directory, data" == column.title


def test_equal_calls_in_a_row_that_access_nothing_are_shown_once() -> None:
    fs, recorder = traced(book_image(with_bar=False))
    for _ in range(3):
        fs.stat("/")
    (group,) = timeline_of(recorder.trace).groups
    assert (3, ()) == (group.times, group.rows)


def test_a_trace_without_room_counts_what_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsfs.trace.MOST_EVENTS", 5)
    fs, recorder = traced(book_image(with_bar=True), cold=True)
    book_reads(fs)
    assert (5, 12) == (len(recorder.trace.events), recorder.trace.dropped)  # 3 barriers, too


# -- JSON lines ----------------------------------------------------------------


def test_a_trace_read_back_is_the_same() -> None:
    fs, recorder = traced(blank(1 << 20, journal_blocks=16))
    script(fs)
    fs.unmount()
    assert recorder.trace == read_trace(lines_of(recorder.trace))


def test_a_trace_that_was_cut_off_is_read_up_to_there() -> None:
    fs, recorder = traced(book_image(with_bar=True), cold=True)
    book_reads(fs)
    *lines, last = lines_of(recorder.trace)
    whole = read_trace(lines)
    assert whole == read_trace([*lines, last[: len(last) // 2]])


def bad_lines() -> list[list[str]]:
    fs, recorder = traced(book_image(with_bar=True), cold=True)
    book_reads(fs)
    head, call, access, *_ = lines_of(recorder.trace)
    wrong = ["null", "[]", "{}", "1", '"x"', "no JSON", head, access.replace("3", "-3")]
    wrong += [
        access.replace('"read"', '"dance"'),
        access.replace('"call": 1', '"call": 2'),
        access.replace("inode table", "table"),
        access.replace('"ino": 2', '"ino": 1e400'),
        call.replace('"errno": 0', '"errno": "0"'),
        call.replace('"open"', "5"),
        "[" * 100_000,
    ]
    return [[head, call, line, access] for line in wrong] + [[call], [], [access], ["{}"]]


def test_what_is_no_trace_is_refused_with_its_line() -> None:
    for lines in bad_lines():
        with pytest.raises(BadTrace, match=r"line \d+ is not|there is no trace"):
            read_trace(lines)


def test_a_damaged_trace_is_refused_or_read_never_more() -> None:
    fs, recorder = traced(book_image(with_bar=True), cold=True)
    book_reads(fs)
    text = "\n".join(lines_of(recorder.trace))
    choice = random.Random(3)
    for _ in range(300):
        at = choice.randrange(len(text))
        broken = text[:at] + chr(choice.randrange(32, 127)) + text[at + 1 :]
        try:
            timeline_of(read_trace(broken.splitlines()))
        except BadTrace:
            continue


def test_columns_stand_in_the_books_order() -> None:
    fs, recorder = traced(book_image(with_bar=False), cold=True)
    book_writes(fs)
    fs.unmount()
    expected = (
        "data bitmap, inode bitmap, root inode, foo inode, bar inode, root data, foo data, "
        "bar data[0], bar data[1], bar data[2], superblock"
    )
    titles = [column.title for column in timeline_of(recorder.trace).columns]
    assert expected == ", ".join(titles)
