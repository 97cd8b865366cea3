"""The same calls on VSFS and on the host's filesystem: same results, same tree.

Hypothesis makes up sequences of system calls.  Each runs on a ``FileSystem`` in
memory and, through ``os``, in a temporary directory of the same path; results
and errno have to agree.  Every few steps the image's bytes are read by a walk
that knows nothing of the library, and compared with the host's tree.

Run as root, the calls come from three users, so that permissions are compared,
too.  VSFS_TEST_EXAMPLES=20 looks 20 times as long, at other sequences each time.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.images import ROOT, as_user, blank, image_of, mount
from support.rawwalk import Walk, walk

import vsfs

IS_ROOT = os.geteuid() == 0
MOST_OPEN = 6
NOBODY = 65534

#: Users of a run as root: the host is called with their effective ids.
USERS = (
    [ROOT, vsfs.Credentials(NOBODY, NOBODY), vsfs.Credentials(1001, NOBODY)]
    if IS_ROOT
    else [vsfs.Credentials.of_process()]
)


def _protected(what: str) -> bool:
    """Whether Linux adds rules of its own (proc_sys_fs(5)) to those of POSIX."""
    setting = Path("/proc/sys/fs/protected_" + what)
    return setting.exists() and setting.read_text().strip() != "0"


HARDLINKS_PROTECTED = _protected("hardlinks")
STICKY_PROTECTED = any(_protected(what) for what in ("symlinks", "regular", "fifos"))

MODES = [0o755, 0o700, 0o777, 0o644, 0o600, 0o444, 0o000, 0o111, 0o4755, 0o2775, 0o6711, 0o2644]
if not STICKY_PROTECTED:
    MODES += [0o1777, 0o1755]
if not IS_ROOT:  # the walk over the host's tree must get everywhere
    MODES = [mode | 0o700 for mode in MODES]

NAMES = [b"a", b"b", b"c"] * 8 + [b".", b".."] + [b"\xff\xfe", b"LONG", b"TOO-LONG"]
paths = st.builds(
    lambda prefix, names, suffix: prefix + b"/".join(names) + suffix,
    st.sampled_from([b""] * 8 + [b"./", b"../", b"BASE/", b"a//"]),
    st.sampled_from([1, 1, 1, 2, 2, 3]).flatmap(
        lambda depth: st.lists(st.sampled_from(NAMES), min_size=depth, max_size=depth)
    ),
    st.sampled_from([b""] * 20 + [b"/", b"//", b"/.", b"/.."]),
)
users = st.integers(0, len(USERS) - 1) if IS_ROOT else st.just(0)
modes = st.sampled_from(MODES)
flags = st.builds(
    lambda how, more: how | sum(set(more)),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR]),
    st.lists(
        st.sampled_from([os.O_CREAT] * 4 + [os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW]),
        max_size=3,
    ),
) | st.sampled_from([os.O_DIRECTORY, os.O_DIRECTORY | os.O_NOFOLLOW])
contents = st.builds(
    lambda size, seed: bytes((seed + at * at // 7) & 0xFF for at in range(size)),
    st.sampled_from([0, 1, 3, 511, 512, 513, 1024, 4095, 4096, 4097, 7000, 20_000]),
    st.integers(0, 255),
)
#: Around the ends of blocks and of what direct, single, double and triple
#: indirect pointers reach with blocks of 512 bytes.
offsets = st.builds(
    lambda near, by: max(near + by, 0),
    st.sampled_from([0, 0, 512, 4096, 12 * 512, 12 * 4096, 140 * 512, 8_460_288]),
    st.sampled_from([-1, 0, 1, 100, 511]),
)
times_ns = st.integers(0, 2**32 * 10**9)
slots = st.integers(0, MOST_OPEN - 1)


class Pair:
    """A file open on both sides."""

    def __init__(self, fs: vsfs.FileSystem, ours: int, host: int) -> None:
        self.fs = fs
        self.ours = ours
        self.host = host


def outcome(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call returns, or the name of its errno."""
    try:
        return call(*args, **kwargs)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def plain(result: Any) -> Any:
    """A result without what must differ: inode numbers, a directory's size, times."""
    if isinstance(result, os.stat_result):
        size = None if stat.S_ISDIR(result.st_mode) else result.st_size
        return (oct(result.st_mode), result.st_nlink, result.st_uid, result.st_gid, size)
    return sorted(result) if isinstance(result, list) else result


def both_apply(user: int, host: object, ours: object) -> bool:
    """Whether two errors may stand for one another: POSIX leaves it open which of
    several that apply is returned.
    """
    if not (isinstance(host, str) and isinstance(ours, str)):
        return False
    permission = {"EACCES", "EPERM"}
    return (
        "ENAMETOOLONG" in (host, ours)  # rename("longer", "b/..")
        or {host, ours} == {"EISDIR", "ENOTEMPTY"}  # a file to the directory that it is in
        or (USERS[user].uid != 0 and bool({host, ours} & permission))
    )


class AgainstHost(RuleBasedStateMachine):
    """VSFS and the host's filesystem, in step."""

    fs: list[vsfs.FileSystem]

    @initialize(
        shape=st.sampled_from([(512, 256), (512, 96), (1024, 256), (4096, 256), (4096, 1024)]),
        check_every=st.sampled_from([1, 4, 12]),
        sync=st.booleans(),
    )
    def start(self, shape: tuple[int, int], check_every: int, sync: bool) -> None:
        block_size, kib = shape
        self.check_every = check_every
        self.steps = 0
        self.agreed = True
        self.options: dict[str, Any] = {"sync": sync}
        self.open_files: list[Pair] = []
        self.old_umask = os.umask(0o022)
        self.old_directory = os.getcwd()
        self.top = os.fsencode(os.path.realpath(tempfile.mkdtemp(prefix="vsfs-")))
        os.chmod(self.top, 0o755)
        self.base = self.top + b"/1/2"
        self.device = blank(kib * 1024, block_size=block_size)
        self.host_counts_subdirectories = True
        self.mount()
        self.fs[0].makedirs(os.fsdecode(self.base))
        os.makedirs(self.base)
        for directory in (self.top, self.top + b"/1", self.base):
            self.fs[0].chown(directory, USERS[-1].uid, USERS[-1].gid)
            os.chown(directory, USERS[-1].uid, USERS[-1].gid)
            os.chmod(directory, 0o755)
        self.host_counts_subdirectories = os.stat(self.base).st_nlink == 2
        self.above = {os.stat(path).st_ino for path in (self.top, self.top + b"/1", self.base)}
        self.enter()
        for path in (b"a", b"a/b", b"b"):
            self.both(0, "mkdir", path, 0o777)
        self.both(0, "symlink", b"a", b"c")

    def mount(self) -> None:
        first = mount(self.device, USERS[0], **self.options)
        self.fs = [first, *(as_user(first, user) for user in USERS[1:])]

    def enter(self) -> None:
        os.chdir(self.base)
        for fs in self.fs:
            fs.chdir(self.base)

    # -- one call on both sides -----------------------------------------------

    def spelled(self, path: bytes) -> bytes:
        """A path with what is too long to be printed in each failure."""
        path = path.replace(b"TOO-LONG", b"m" * 256).replace(b"LONG", b"n" * 255)
        return path.replace(b"BASE", self.base)

    def inside(self, path: bytes) -> bool:
        """Whether the host's call will stay below the temporary directory."""
        parent = os.path.dirname(path.rstrip(b"/"))
        real = os.path.realpath(path), os.path.realpath(parent or b".")
        return all(place.startswith(self.top + b"/1") for place in real)

    def is_above(self, path: bytes) -> bool:
        """Whether it is a directory that every user goes through to get anywhere."""
        status = outcome(os.stat, (self.spelled(path),), {})
        return isinstance(status, os.stat_result) and status.st_ino in self.above

    def as_host(self, user: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call through ``os``, by the user."""
        who = USERS[user]
        if not who.uid or not IS_ROOT:
            return outcome(getattr(os, name), args, kwargs)
        os.setgroups([])
        os.setegid(who.gid)
        os.seteuid(who.uid)
        try:
            return outcome(getattr(os, name), args, kwargs)
        finally:
            os.seteuid(0)
            os.setegid(0)

    def both(self, user: int, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call both, then look at the trees now and then.  Returns the host's result."""
        host = self.run(user, name, *args, **kwargs)
        self.step()
        return host

    def run(self, user: int, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call both; the results agree.  Returns the host's, or None for no call."""
        if name not in ("write", "pwrite"):
            args = tuple(self.spelled(arg) if isinstance(arg, bytes) else arg for arg in args)
        given = args[1:] if name == "symlink" else args  # the link's text goes nowhere
        given = () if name in ("write", "pwrite") else given
        if not all(self.inside(arg) for arg in given if isinstance(arg, bytes)):
            return None
        fs = next((arg.fs for arg in args if isinstance(arg, Pair)), self.fs[user])
        ours_args = tuple(arg.ours if isinstance(arg, Pair) else arg for arg in args)
        host_args = tuple(arg.host if isinstance(arg, Pair) else arg for arg in args)
        ours = outcome(getattr(fs, name), ours_args, kwargs)
        if ours == "ENOSPC":  # not a thing has changed, as the next look at the trees says
            self.check()
            return None
        if name in ("write", "pwrite") and isinstance(ours, int):
            host_args = (host_args[0], host_args[1][:ours], *host_args[2:])  # all that fits
        if name == "access":
            kwargs["effective_ids"] = True
        host = self.as_host(user, name, host_args, kwargs)
        if name == "open" and isinstance(ours, int) and isinstance(host, int):
            self.open_files.append(Pair(fs, ours, host))
            host = ours
        where = f"{name}{args}{kwargs} by {USERS[user]}: host {plain(host)!r}, ours {plain(ours)!r}"
        if self.host_counts_subdirectories or not isinstance(host, os.stat_result):
            self.agreed = plain(host) == plain(ours) or both_apply(user, host, ours)
            assert self.agreed, where
        return host

    def step(self) -> None:
        self.steps += 1
        for pair in self.open_files:
            assert plain(os.fstat(pair.host)) == plain(pair.fs.fstat(pair.ours))
            if stat.S_ISREG(os.fstat(pair.host).st_mode):
                host = os.lseek(pair.host, 0, os.SEEK_CUR)
                assert host == pair.fs.lseek(pair.ours, 0, os.SEEK_CUR)
        if self.steps % self.check_every == 0:
            self.check()

    # -- comparing the trees --------------------------------------------------

    def check(self) -> None:
        self.fs[0].sync()
        found = walk(image_of(self.fs[0]), mounted=True)
        self.compare(found)
        unnamed = {
            pair.fs.fstat(pair.ours).st_ino
            for pair in self.open_files
            if pair.fs.fstat(pair.ours).st_nlink == 0
        }
        assert unnamed == found.orphans

    def compare(self, found: Walk) -> None:
        assert found.findings == []
        ours: dict[bytes, object] = {}
        same_file: dict[int, list[bytes]] = {}
        for path, ino in found.paths.items():
            if not path.startswith(self.top):
                continue
            inode = found.inodes[ino]
            same_file.setdefault(ino, []).append(path)
            is_file = stat.S_ISREG(inode.mode) or stat.S_ISLNK(inode.mode)
            content = found.content(ino) if is_file else b""
            ours[path] = (oct(inode.mode), inode.uid, inode.gid, content)
        host, host_files = self.host_tree()
        differing = {path for path in {*host, *ours} if host.get(path) != ours.get(path)}
        assert not differing, [(path, host.get(path), ours.get(path)) for path in differing]
        assert sorted(map(sorted, host_files.values())) == sorted(map(sorted, same_file.values()))

    def host_tree(self) -> tuple[dict[bytes, object], dict[int, list[bytes]]]:
        tree: dict[bytes, object] = {}
        same_file: dict[int, list[bytes]] = {}
        waiting = [self.top]
        while waiting:
            path = waiting.pop()
            status = os.lstat(path)
            content = b""
            if stat.S_ISDIR(status.st_mode):
                waiting += [path + b"/" + name for name in os.listdir(path)]
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            tree[path] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
            same_file.setdefault(status.st_ino, []).append(path)
        return tree, same_file

    # -- rules: names ---------------------------------------------------------

    @rule(user=users, path=paths, mode=modes)
    def mkdir(self, user: int, path: bytes, mode: int) -> None:
        self.both(user, "mkdir", path, mode)

    @rule(user=users, path=paths)
    def rmdir(self, user: int, path: bytes) -> None:
        self.both(user, "rmdir", path)

    @rule(user=users, path=paths)
    def unlink(self, user: int, path: bytes) -> None:
        self.both(user, "unlink", path)

    @rule(user=users, old=paths, new=paths)
    def rename(self, user: int, old: bytes, new: bytes) -> None:
        self.both(user, "rename", old, new)

    @rule(user=users, src=paths, dst=paths)
    def link(self, user: int, src: bytes, dst: bytes) -> None:
        src = self.spelled(src)
        if HARDLINKS_PROTECTED and USERS[user].uid:
            status = outcome(os.lstat, (src,), {})
            if not isinstance(status, os.stat_result) or status.st_uid != USERS[user].uid:
                return
        self.both(user, "link", src, dst, follow_symlinks=False)

    @rule(user=users, text=paths | st.sampled_from([b"LONG", b"LONG/LONG"]), path=paths)
    def symlink(self, user: int, text: bytes, path: bytes) -> None:
        self.both(user, "symlink", text, path)

    @rule(user=users, path=paths)
    def mkfifo(self, user: int, path: bytes) -> None:
        self.both(user, "mkfifo", path, 0o644)

    @rule(user=users, directory=paths, count=st.integers(1, 30))
    def crowd(self, user: int, directory: bytes, count: int) -> None:
        """Many names, so that a directory has several blocks."""
        for number in range(count):
            self.both(user, "mkdir", directory + b"/crowd%d" % number + b"-" * (number * 7), 0o755)

    @rule(user=users, directory=paths, first=st.integers(0, 30), step=st.integers(1, 3))
    def disperse(self, user: int, directory: bytes, first: int, step: int) -> None:
        for number in range(first, 30, step):
            self.both(user, "rmdir", directory + b"/crowd%d" % number + b"-" * (number * 7))

    # -- rules: attributes and looking ----------------------------------------

    @rule(user=users, path=paths, mode=modes)
    def chmod(self, user: int, path: bytes, mode: int) -> None:
        if not self.is_above(path):
            self.both(user, "chmod", path, mode)

    @rule(user=users, path=paths, ids=st.tuples(*[st.sampled_from([-1, 0, 1001, NOBODY])] * 2))
    def lchown(self, user: int, path: bytes, ids: tuple[int, int]) -> None:
        if not self.is_above(path):
            self.both(user, "lchown", path, *ids)

    @rule(user=users, path=paths, ns=st.none() | st.tuples(times_ns, times_ns), follow=st.booleans())
    def utime(self, user: int, path: bytes, ns: tuple[int, int] | None, follow: bool) -> None:
        path = self.spelled(path)
        given = {"ns": ns} if ns else {}
        inside = self.inside(path)  # this reads links, which sets their atime
        done = self.run(user, "utime", path, follow_symlinks=follow, **given)
        if done is None and ns and inside:
            host = outcome(os.stat, (path,), {"follow_symlinks": follow})
            ours = outcome(self.fs[0].stat, (path,), {"follow_symlinks": follow})
            if isinstance(host, os.stat_result):
                assert (host.st_atime_ns, host.st_mtime_ns) == (ours.st_atime_ns, ours.st_mtime_ns)
        self.step()

    @rule(user=users, path=paths, size=offsets)
    def truncate(self, user: int, path: bytes, size: int) -> None:
        self.both(user, "truncate", path, size)

    @rule(user=users, path=paths, name=st.sampled_from(["stat", "lstat", "readlink", "listdir"]))
    def look(self, user: int, path: bytes, name: str) -> None:
        self.both(user, name, path)

    @rule(user=users, path=paths, mode=st.integers(0, 7))
    def access(self, user: int, path: bytes, mode: int) -> None:
        self.both(user, "access", path, mode)

    # -- rules: open files ----------------------------------------------------

    @rule(user=users, path=paths, flags=flags, mode=modes)
    def open(self, user: int, path: bytes, flags: int, mode: int) -> None:
        path = self.spelled(path)
        status = outcome(os.stat, (path,), {}) if self.inside(path) else None
        if isinstance(status, os.stat_result) and stat.S_ISFIFO(status.st_mode):
            return  # the host's would wait for somebody at the other end
        if len(self.open_files) == MOST_OPEN:
            self.close(0)
        self.both(user, "open", path, flags, mode)

    @rule(slot=slots)
    @precondition(lambda self: self.open_files)
    def close(self, slot: int) -> None:
        pair = self.open_files.pop(slot % len(self.open_files))
        self.both(0, "close", pair)

    def pair(self, slot: int) -> Pair:
        return self.open_files[slot % len(self.open_files)]

    def owner(self, pair: Pair) -> int:
        return self.fs.index(pair.fs)

    @rule(slot=slots, content=contents)
    @precondition(lambda self: self.open_files)
    def write(self, slot: int, content: bytes) -> None:
        pair = self.pair(slot)
        self.both(self.owner(pair), "write", pair, content)

    @rule(slot=slots, content=contents, offset=offsets)
    @precondition(lambda self: self.open_files)
    def pwrite(self, slot: int, content: bytes, offset: int) -> None:
        pair = self.pair(slot)
        self.both(self.owner(pair), "pwrite", pair, content, offset)

    @rule(slot=slots, size=offsets)
    @precondition(lambda self: self.open_files)
    def read(self, slot: int, size: int) -> None:
        pair = self.pair(slot)
        self.both(self.owner(pair), "read", pair, size)

    @rule(slot=slots, size=offsets, offset=offsets)
    @precondition(lambda self: self.open_files)
    def pread(self, slot: int, size: int, offset: int) -> None:
        pair = self.pair(slot)
        self.both(self.owner(pair), "pread", pair, size, offset)

    @rule(slot=slots, offset=st.integers(-5000, 5000) | offsets, whence=st.integers(0, 2))
    @precondition(lambda self: self.open_files)
    def lseek(self, slot: int, offset: int, whence: int) -> None:
        pair = self.pair(slot)
        if stat.S_ISREG(os.fstat(pair.host).st_mode):
            self.both(self.owner(pair), "lseek", pair, offset, whence)

    @rule(slot=slots, size=offsets)
    @precondition(lambda self: self.open_files)
    def ftruncate(self, slot: int, size: int) -> None:
        pair = self.pair(slot)
        self.both(self.owner(pair), "ftruncate", pair, size)

    @rule(slot=slots, mode=modes, user=users)
    @precondition(lambda self: self.open_files)
    def fchmod(self, slot: int, mode: int, user: int) -> None:
        pair = self.pair(slot)
        if os.fstat(pair.host).st_ino not in self.above:
            self.both(self.owner(pair), "chmod", pair, mode)

    @rule(slot=slots)
    @precondition(lambda self: self.open_files)
    def fsync(self, slot: int) -> None:
        self.both(0, "fsync", self.pair(slot))

    # -- rules: the whole filesystem ------------------------------------------

    @rule()
    def sync(self) -> None:
        self.fs[0].sync()

    @rule(user=users, path=paths, name=paths)
    def work_elsewhere(self, user: int, path: bytes, name: bytes) -> None:
        """Paths that start at another current directory."""
        path = self.spelled(path)
        if self.both(user, "chdir", path) is None and self.inside(path):
            self.both(user, "mkdir", name, 0o755)
            self.both(user, "stat", name)
            assert os.getcwd() == self.fs[user].getcwd()
        self.enter()

    @rule()
    def remount(self) -> None:
        self.close_all()
        self.mount()
        self.enter()

    def close_all(self) -> None:
        """Unmount, with files open or not: the bytes are sound and the tree equal."""
        for pair in self.open_files:
            os.close(pair.host)
        self.open_files.clear()
        self.fs[0].unmount()
        self.compare(walk(self.device.image))

    def teardown(self) -> None:
        try:
            if self.agreed:  # else the call that differed is what has to be reported
                self.check()
                self.close_all()
        finally:
            for pair in self.open_files:
                os.close(pair.host)
            os.chdir(self.old_directory)
            os.umask(self.old_umask)
            shutil.rmtree(self.top)


TestAgainstHost = AgainstHost.TestCase
TestAgainstHost.settings = settings(settings.default, stateful_step_count=40)
