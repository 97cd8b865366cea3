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
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import vsfs
from tests.support.images import ROOT, as_user, blank, image_of, mount
from tests.support.rawwalk import Walk, walk

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

NAMES = [b"a", b"b", b"c", b"d", b"e"] * 5 + [b"\xff\xfe", b"LONG", b"TOO-LONG"]


class Where(NamedTuple):
    """How to choose a path when the step runs, from what there is then."""

    kind: str  # "file", "directory", "any": one that exists; "new": beside one; "wild"
    number: int  # which of those that exist
    names: list[bytes]
    prefix: bytes
    suffix: bytes


def where(*kinds: str) -> st.SearchStrategy[Where]:
    """Paths of these kinds; now and then wild ones, slashes and dots."""
    return st.builds(
        Where,
        st.sampled_from([*kinds * 3, "wild"]),
        st.integers(0, 30),
        st.lists(st.sampled_from([*NAMES, b".", b".."]), min_size=1, max_size=3),
        st.sampled_from([b""] * 8 + [b"./", b"BASE/", b"a/../", b"a//../"]),
        st.sampled_from([b""] * 25 + [b"/", b"//", b"/.", b"/.."]),
    )


anywhere = where("any")
files = where("file", "file", "file", "any", "new")
new_names = where("new", "new", "new", "any")
directories = where("directory", "directory", "any")
users = st.sampled_from([0, 0, 0, *range(len(USERS))])
modes = st.sampled_from(MODES)
flags = st.builds(
    lambda how, more: how | sum(set(more)),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR]),
    st.lists(
        st.sampled_from([os.O_CREAT] * 5 + [os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW]),
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
times_ns = st.tuples(*[st.integers(0, 2**32 * 10**9)] * 2)
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
        journal=st.sampled_from([None, None, 16, 30]),
    )
    def start(
        self, shape: tuple[int, int], check_every: int, sync: bool, journal: int | None
    ) -> None:
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
        self.device = blank(kib * 1024, block_size=block_size, journal_blocks=journal)
        self.host_counts_subdirectories = True
        self.mount()
        root = as_user(self.fs[0], ROOT)
        root.makedirs(os.fsdecode(self.base))
        os.makedirs(self.base)
        for directory in (self.top, self.top + b"/1", self.base):
            root.chown(directory, USERS[-1].uid, USERS[-1].gid)
            os.chown(directory, USERS[-1].uid, USERS[-1].gid)
            os.chmod(directory, 0o755)
        self.host_counts_subdirectories = os.stat(self.base).st_nlink == 2
        self.above = {os.stat(path).st_ino for path in (self.top, self.top + b"/1", self.base)}
        self.enter()
        for path in (b"a", b"a/b", b"b"):
            self.both(0, "mkdir", path, 0o777)
        self.both(0, "symlink", b"a", b"c")
        for path in (b"d", b"a/e"):
            self.both(0, "open", path, os.O_CREAT | os.O_RDWR, 0o666)

    def mount(self) -> None:
        first = mount(self.device, USERS[0], **self.options)
        self.fs = [first, *(as_user(first, user) for user in USERS[1:])]

    def enter(self) -> None:
        os.chdir(self.base)
        for fs in self.fs:
            fs.chdir(self.base)

    # -- one call on both sides -----------------------------------------------

    def path(self, chosen: Where) -> bytes:
        """The path that was chosen, from the present tree."""
        existing = self.existing()
        names = b"/".join(chosen.names)
        if chosen.kind == "wild":
            path = names
        else:
            kind = {"new": "directory"}.get(chosen.kind, chosen.kind)
            fitting = [path for path in existing if self.is_kind(path, kind)] or [b"."]
            path = fitting[chosen.number % len(fitting)]
        if chosen.kind == "new":
            path += b"/" + chosen.names[0]
        path = (chosen.prefix + path + chosen.suffix).replace(b"BASE", self.base)
        return path.replace(b"TOO-LONG", b"m" * 256).replace(b"LONG", b"n" * 255)

    def existing(self) -> list[bytes]:
        """All paths below the base directory, and itself."""
        found = [b"."]
        for directory, below, others in os.walk(self.base):
            start = os.path.relpath(directory, self.base)
            found += [os.path.normpath(start + b"/" + name) for name in below + others]
        return sorted(found)

    def is_kind(self, path: bytes, kind: str) -> bool:
        path = self.base + b"/" + path
        if kind == "file":
            return os.path.isfile(path)
        return kind == "any" or os.path.isdir(path)

    def inside(self, path: bytes) -> bool:
        """Whether the host's call will stay below the temporary directory."""
        parent = os.path.dirname(path.rstrip(b"/"))
        real = os.path.realpath(path), os.path.realpath(parent or b".")
        return all(place.startswith(self.top + b"/1") for place in real)

    def is_above(self, path: bytes) -> bool:
        """Whether it is a directory that every user goes through to get anywhere."""
        status = outcome(os.stat, (path,), {})
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
        args = tuple(self.path(arg) if isinstance(arg, Where) else arg for arg in args)
        given = args[1:] if name == "symlink" else args  # the link's text goes nowhere
        given = () if name in ("write", "pwrite") else given
        if not all(self.inside(arg) for arg in given if isinstance(arg, bytes)):
            return None
        fs = next((arg.fs for arg in args if isinstance(arg, Pair)), self.fs[user])
        ours_args = tuple(arg.ours if isinstance(arg, Pair) else arg for arg in args)
        host_args: tuple[Any, ...] = tuple(
            arg.host if isinstance(arg, Pair) else arg for arg in args
        )
        ours = outcome(getattr(fs, name), ours_args, kwargs)
        if ours == "ENOSPC":  # not a thing has changed, as the next look at the trees says
            self.check()
            return None
        if name in ("write", "pwrite") and isinstance(ours, int):
            fd, content, *offset = host_args
            host_args = (fd, content[:ours], *offset)  # all that fits
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

    @rule(user=users, path=new_names, mode=modes)
    def mkdir(self, user: int, path: Where, mode: int) -> None:
        self.both(user, "mkdir", path, mode)

    @rule(user=users, path=directories)
    def rmdir(self, user: int, path: Where) -> None:
        self.both(user, "rmdir", path)

    @rule(user=users, path=files)
    def unlink(self, user: int, path: Where) -> None:
        self.both(user, "unlink", path)

    @rule(user=users, old=anywhere, new=anywhere | new_names)
    def rename(self, user: int, old: Where, new: Where) -> None:
        self.both(user, "rename", old, new)

    @rule(user=users, old=files, new=files | new_names)
    def rename_file(self, user: int, old: Where, new: Where) -> None:
        self.both(user, "rename", old, new)

    @rule(user=users, src=files, dst=new_names)
    def link(self, user: int, src: Where, dst: Where) -> None:
        path = self.path(src)
        if HARDLINKS_PROTECTED and USERS[user].uid:
            status = outcome(os.lstat, (path,), {})
            if not isinstance(status, os.stat_result) or status.st_uid != USERS[user].uid:
                return
        self.both(user, "link", path, dst, follow_symlinks=False)

    @rule(user=users, text=anywhere | new_names, path=new_names)
    def symlink(self, user: int, text: Where, path: Where) -> None:
        self.both(user, "symlink", text, path)

    @rule(user=users, path=new_names)
    def mkfifo(self, user: int, path: Where) -> None:
        self.both(user, "mkfifo", path, 0o644)

    @rule(user=users, where=directories, count=st.integers(5, 30))
    def crowd(self, user: int, where: Where, count: int) -> None:
        """Many names, so that a directory has several blocks."""
        directory = self.path(where)
        for number in range(count):
            name = b"/crowd%d" % number + b"-" * (number * 7)
            self.run(user, "symlink", b"text", directory + name)
        self.step()

    @rule(user=users, where=directories, first=st.integers(0, 9), step=st.integers(1, 3))
    def disperse(self, user: int, where: Where, first: int, step: int) -> None:
        directory = self.path(where)
        for number in range(first, 30, step):
            name = b"/crowd%d" % number + b"-" * (number * 7)
            self.run(user, "unlink", directory + name)
        self.step()

    # -- rules: attributes and looking ----------------------------------------

    @rule(user=users, path=anywhere, mode=modes)
    def chmod(self, user: int, path: Where, mode: int) -> None:
        if not self.is_above(self.path(path)):
            self.both(user, "chmod", path, mode)

    @rule(user=users, path=anywhere, ids=st.tuples(*[st.sampled_from([-1, 0, 1001, NOBODY])] * 2))
    def lchown(self, user: int, path: Where, ids: tuple[int, int]) -> None:
        if not self.is_above(self.path(path)):
            self.both(user, "lchown", path, *ids)

    @rule(
        user=users,
        where=anywhere,
        ns=st.none() | times_ns,
        follow=st.booleans(),
    )
    def utime(self, user: int, where: Where, ns: tuple[int, int] | None, follow: bool) -> None:
        path = self.path(where)
        given = {"ns": ns} if ns else {}
        inside = self.inside(path)  # this reads links, which sets their atime
        done = self.run(user, "utime", path, follow_symlinks=follow, **given)
        if done is None and ns and inside:
            host = outcome(os.stat, (path,), {"follow_symlinks": follow})
            ours = outcome(self.fs[0].stat, (path,), {"follow_symlinks": follow})
            if isinstance(host, os.stat_result):
                assert (host.st_atime_ns, host.st_mtime_ns) == (ours.st_atime_ns, ours.st_mtime_ns)
        self.step()

    @rule(user=users, path=files, size=offsets)
    def truncate(self, user: int, path: Where, size: int) -> None:
        self.both(user, "truncate", path, size)

    @rule(user=users, path=anywhere, name=st.sampled_from(["stat", "lstat", "readlink", "listdir"]))
    def look(self, user: int, path: Where, name: str) -> None:
        self.both(user, name, path)

    @rule(user=users, path=anywhere, mode=st.integers(0, 7))
    def access(self, user: int, path: Where, mode: int) -> None:
        self.both(user, "access", path, mode)

    # -- rules: open files ----------------------------------------------------

    @rule(user=users, where=files, flags=flags, mode=modes)
    def open(self, user: int, where: Where, flags: int, mode: int) -> None:
        path = self.path(where)
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

    @rule(user=users, where=directories, name=new_names)
    def work_elsewhere(self, user: int, where: Where, name: Where) -> None:
        """Paths that start at another current directory."""
        path = self.path(where)
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
