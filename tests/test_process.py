"""Processes: descriptors, what fork and dup share, users, and the current directory.

What the host's kernel does is the oracle where it can be asked: see
`test_descriptors_are_given_out_and_shared_as_the_kernel_does`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vsfs
from tests.conftest import MakeFs
from tests.support.images import ALICE, BOB, ROOT, as_user, blank, errno_of, mount, sound
from tests.support.processes import Family
from vsfs.process import FIRST_FD, OPEN_MAX, Call

RDWR = os.O_RDWR | os.O_CREAT


def entries(fs: vsfs.FileSystem) -> dict[int, int]:
    """The open file table: handle to references."""
    return {file.handle: file.references for file in fs.volume.files}


# -- descriptors ------------------------------------------------------------------


def test_the_lowest_free_descriptor_is_taken_and_the_terminals_never(fs: vsfs.FileSystem) -> None:
    assert [fs.open("/f", RDWR) for _ in range(4)] == [3, 4, 5, 6]
    fs.close(5)
    fs.close(3)
    assert (fs.dup(4), fs.open("/f", os.O_RDONLY), fs.dup(4)) == (3, 5, 7)
    for terminal in range(FIRST_FD):
        assert errno_of(fs.close, terminal) == errno.EBADF
        assert errno_of(fs.dup2, 4, terminal) == errno.EBADF


def test_dup_shares_the_offset_and_a_second_open_does_not(fs: vsfs.FileSystem) -> None:
    first, other = fs.open("/f", RDWR), fs.open("/f", RDWR)
    second = fs.dup(first)
    fs.write(first, b"hello")
    assert fs.lseek(second, 0, os.SEEK_CUR) == 5
    assert fs.lseek(other, 0, os.SEEK_CUR) == 0
    fs.close(first)
    fs.write(second, b"!")
    assert fs.read(other, 10) == b"hello!"


def test_dup2_closes_what_was_there_and_leaves_equal_numbers_alone(fs: vsfs.FileSystem) -> None:
    first, second = fs.open("/f", RDWR), fs.open("/g", RDWR)
    assert entries(fs) == {1: 1, 2: 1}
    assert fs.dup2(first, second) == second
    assert entries(fs) == {1: 2}
    assert fs.fstat(second).st_ino == fs.stat("/f").st_ino
    assert fs.dup2(second, second) == second
    assert entries(fs) == {1: 2}
    assert fs.dup2(first, 100) == 100
    assert fs.open("/h", RDWR) == 5
    assert errno_of(fs.dup2, 77, 100) == errno.EBADF
    assert errno_of(fs.dup2, 77, 77) == errno.EBADF
    assert errno_of(fs.dup2, first, OPEN_MAX) == errno.EBADF
    assert errno_of(fs.dup2, first, -1) == errno.EBADF
    assert entries(fs) == {1: 3, 2: 1}


def test_a_process_has_only_so_many_descriptors_and_a_refused_open_makes_no_file(
    fs: vsfs.FileSystem,
) -> None:
    fd = fs.open("/f", RDWR)
    while fs.dup(fd) < OPEN_MAX - 1:
        pass
    assert errno_of(fs.open, "/new", RDWR) == errno.EMFILE
    assert errno_of(fs.dup, fd) == errno.EMFILE
    assert not fs.exists("/new")
    assert entries(fs) == {1: OPEN_MAX - FIRST_FD}
    fs.close(500)
    assert fs.open("/new", RDWR) == 500
    assert fs.fork().dup2(fd, 501) == 501


def test_descriptors_that_are_close_on_exec_close_in_execve(fs: vsfs.FileSystem) -> None:
    fs.close(fs.open("/program", RDWR, 0o755))
    stays, goes = fs.open("/f", RDWR), fs.open("/f", RDWR | os.O_CLOEXEC)
    copy = fs.dup(goes)  # the flag is the descriptor's, not the entry's
    child = fs.fork()
    assert [child.get_inheritable(fd) for fd in (stays, goes, copy)] == [True, False, True]
    child.execve("/program")
    assert errno_of(child.fstat, goes) == errno.EBADF
    assert child.fstat(stays).st_size == child.fstat(copy).st_size == 0
    assert fs.fstat(goes).st_size == 0  # its own are the child's business
    fs.set_inheritable(stays, False)
    fs.set_inheritable(goes, True)
    assert fs.dup2(stays, 50, inheritable=False) == 50
    fs.execve("/program")
    assert [errno_of(fs.fstat, fd) for fd in (stays, goes, copy, 50)] == [
        errno.EBADF, 0, 0, errno.EBADF,
    ]  # fmt: skip


def test_execve_wants_a_program_that_the_user_may_run(fs: vsfs.FileSystem) -> None:
    fs.close(fs.open("/text", RDWR, 0o644))
    fs.close(fs.open("/private", RDWR, 0o700))
    assert errno_of(fs.execve, "/") == errno.EACCES
    assert errno_of(fs.execve, "/text") == errno.EACCES
    assert errno_of(as_user(fs, ALICE).execve, "/private") == errno.EACCES
    assert errno_of(fs.execve, "/missing") == errno.ENOENT


def test_set_user_id_takes_effect_in_execve(fs: vsfs.FileSystem) -> None:
    fs.close(fs.open("/su", RDWR, 0o755))
    fs.chmod("/su", 0o6755)
    alice = as_user(fs, ALICE)
    alice.execve("/su")
    assert (alice.credentials.uid, alice.credentials.gid) == (0, 0)
    assert alice.credentials.groups == ALICE.groups


# -- fork and exit ------------------------------------------------------------------


def test_fork_shares_entries_and_so_offsets_and_nothing_else(fs: vsfs.FileSystem) -> None:
    fd = fs.open("/f", RDWR)
    fs.umask(0o077)
    fs.mkdir("/d")
    fs.chdir("/d")
    child = fs.fork()
    assert entries(fs) == {1: 2, 2: 2}  # the file, the current directory
    child.write(fd, b"child")
    fs.write(fd, b" parent")
    assert fs.pread(fd, 20, 0) == b"child parent"
    child.chdir("/")
    child.umask(0)
    child.close(fd)
    assert (fs.getcwd(), child.getcwd()) == ("/d", "/")
    assert (fs.umask(0), child.umask(0)) == (0o077, 0)
    assert fs.fstat(fd).st_size == 12
    assert child.open("/g", RDWR) == fd
    assert fs.dup(fd) == fd + 1


def test_exit_closes_everything_and_children_go_to_the_first_process(fs: vsfs.FileSystem) -> None:
    table = fs.process.table
    child = fs.fork()
    grandchild = child.fork()
    assert [(process.pid, process.parent) for process in table] == [(1, 0), (2, 1), (3, 2)]
    fd = child.open("/f", RDWR)
    child.mkdir("/d")
    child.chdir("/d")
    fs.unlink("/f")
    fs.rmdir("/d")
    assert len(sound(fs).inodes) > 1
    child.exit()
    assert entries(fs) == {}
    assert [(process.pid, process.parent) for process in table] == [(1, 0), (3, 1)]
    assert errno_of(child.read, fd, 1) == errno.EBADF
    assert errno_of(table.get, 2) == errno.ESRCH
    assert fs.fork().process.pid == 4  # pids are not used again
    assert table.get(3) is grandchild.process


def test_a_file_without_names_goes_with_the_last_process_that_has_it(fs: vsfs.FileSystem) -> None:
    free = fs.statvfs("/").f_bfree
    fd = fs.open("/f", RDWR)
    child = fs.fork()
    fs.write(fd, b"x" * 10_000)
    fs.unlink("/f")
    fs.close(fd)
    assert child.pread(fd, 3, 0) == b"xxx"
    assert fs.statvfs("/").f_bfree == free - 3
    child.exit()
    assert fs.statvfs("/").f_bfree == free


def test_unmounting_closes_what_all_processes_have_open() -> None:
    fs = mount(blank())
    fd = fs.open("/f", RDWR)
    child = fs.fork()
    fs.unmount()
    assert errno_of(child.read, fd, 1) == errno.EBADF
    assert errno_of(fs.read, fd, 1) == errno.EBADF


# -- the current directory ------------------------------------------------------------


def test_a_removed_current_directory_has_no_path_and_takes_no_names(fs: vsfs.FileSystem) -> None:
    fs.makedirs("/a/b")
    fs.chdir("/a/b")
    fs.rmdir("/a/b")
    assert errno_of(fs.getcwd) == errno.ENOENT
    assert errno_of(fs.open, "new", RDWR) == errno.ENOENT
    assert errno_of(fs.chdir, "..") == errno.ENOENT
    assert fs.stat(".").st_nlink == 0
    fs.chdir("/a")
    assert fs.getcwd() == "/a"
    assert list(entries(fs).values()) == [1]


def test_fchdir_goes_to_an_open_directory_wherever_it_was_moved(fs: vsfs.FileSystem) -> None:
    fs.makedirs("/a/b")
    fd = fs.open("/a/b", os.O_RDONLY | os.O_DIRECTORY)
    fs.rename("/a/b", "/c")
    fs.fchdir(fd)
    assert fs.getcwd() == "/c"
    assert errno_of(fs.fchdir, fs.open("/f", RDWR)) == errno.ENOTDIR
    assert errno_of(fs.fchdir, 99) == errno.EBADF


# -- users ----------------------------------------------------------------------------


def test_root_becomes_another_user_and_cannot_go_back(fs: vsfs.FileSystem) -> None:
    fs.close(fs.open("/secret", RDWR, 0o640))
    fs.chown("/secret", 0, 2000)
    fd = fs.open("/secret", RDWR)
    fs.setgroups([2000])
    fs.setgid(ALICE.gid)
    fs.setuid(ALICE.uid)
    assert fs.access("/secret", os.R_OK)  # by her group
    assert not fs.access("/secret", os.W_OK)
    assert fs.write(fd, b"x") == 1  # what is open stays open
    assert errno_of(fs.setuid, 0) == errno.EPERM
    assert errno_of(fs.setgid, 0) == errno.EPERM
    assert errno_of(fs.setgroups, []) == errno.EPERM
    fs.setuid(ALICE.uid)  # to nobody else, so it is allowed
    assert errno_of(as_user(fs, ROOT).setuid, -1) == errno.EINVAL
    assert fs.fork().credentials == fs.credentials


def test_each_process_has_a_user_of_its_own(fs: vsfs.FileSystem) -> None:
    fs.chmod("/", 0o777)
    child = fs.fork()
    child.setuid(BOB.uid)
    child.close(child.open("/bobs", RDWR))
    assert fs.stat("/bobs").st_uid == BOB.uid
    assert fs.credentials == ROOT
    assert errno_of(child.chmod, "/", 0) == errno.EPERM


# -- observers --------------------------------------------------------------------------


class Log:
    """Notes what it sees."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def enter(self, call: Call) -> None:
        self.seen.append(call)

    def leave(self, call: Call, result: object, error: BaseException | None) -> None:
        self.seen.append(error.errno if isinstance(error, OSError) else result)


def test_an_observer_sees_each_call_of_every_process_once(fs: vsfs.FileSystem) -> None:
    log = Log()
    fs.process.table.observers.append(log)
    child = fs.fork()
    log.seen.clear()
    assert child.open("/f", RDWR, 0o600) == 3
    fs.lstat("/f")  # which makes a stat of its own
    assert errno_of(fs.unlink, "/g") == errno.ENOENT
    assert log.seen[:2] == [Call(2, "open", ("/f", RDWR, 0o600), {}), 3]
    assert [seen.name for seen in log.seen if isinstance(seen, Call)] == ["open", "lstat", "unlink"]
    assert log.seen[-1] == errno.ENOENT


def test_errors_name_the_path_as_those_of_os_do(fs: vsfs.FileSystem) -> None:
    fs.makedirs("/a/b")
    with pytest.raises(OSError, match=r"\] Directory not empty: '/a'$") as failure:
        fs.rmdir("/a")
    assert failure.value.filename == "/a"


# -- against the kernel ---------------------------------------------------------------

FDS = st.integers(4, 9)  # 3 is the directory where it all happens
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("open"), st.sampled_from("ab"), st.sampled_from([RDWR, RDWR | os.O_APPEND])
        ),
        st.tuples(st.just("dup"), FDS),
        st.tuples(st.just("dup2"), FDS, FDS),
        st.tuples(st.just("close"), FDS),
        st.tuples(st.just("read"), FDS, st.integers(0, 5)),
        st.tuples(st.just("write"), FDS, st.binary(max_size=5)),
        st.tuples(st.just("lseek"), FDS, st.integers(0, 9), st.sampled_from([0, 1, 2])),
        st.tuples(st.just("ftruncate"), FDS, st.integers(0, 9)),
        st.tuples(st.just("unlink"), st.sampled_from("ab")),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """Processes of the host's kernel, in a folder."""
    family = Family(tmp_path_factory.mktemp("host"))
    yield family
    family.quit()


@given(steps=STEPS)
def test_descriptors_are_given_out_and_shared_as_the_kernel_does(
    kernel: Family, steps: list[tuple[Any, ...]]
) -> None:
    folder = tempfile.mkdtemp(dir=kernel.point)
    theirs = kernel.begin(os.path.basename(folder))
    fs = mount(blank())
    fs.mkdir("/home")
    fs.chdir("/home")
    assert fs.open(".", os.O_RDONLY) == FIRST_FD
    try:
        for name, *arguments in steps:
            expected = outcome(getattr(theirs, name), *arguments)
            assert (name, expected) == (name, outcome(getattr(fs, name), *arguments))
    finally:
        kernel.end()
        fs.unmount()


def outcome(call: Any, *arguments: Any) -> object:
    """What a call returns, or why it does not."""
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def test_unmounting_frees_a_file_without_names_that_a_child_has_open(make_fs: MakeFs) -> None:
    fs = make_fs()
    fs.fork().open("/f", RDWR)
    fs.unlink("/f")  # the fixture checks that nothing of it is left
