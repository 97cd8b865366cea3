"""A volume that says which call is running: what the trace and ``cold`` build on.

Every method of ``Volume`` is a call; one made by a system call of ``FileSystem``
belongs to that call (:class:`CallObserver`).  The lock is held for all of a call, so
that no other thread's access comes between.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import Any, Final

from vsfs.device import BlockDevice
from vsfs.directory import Directory
from vsfs.inode import Inode
from vsfs.openfiles import OpenFile
from vsfs.process import Call
from vsfs.trace import Recorder, Sink, Trace, TracedDevice
from vsfs.trace_log import CallLog, Ended
from vsfs.trace_roles import Names, Roles
from vsfs.volume import Volume

#: The calls, and what their first arguments are.
_CALLS: Final[dict[str, tuple[str, ...]]] = {
    "inode": ("ino",),
    "lookup": ("parent", "name"),
    "find": ("parent", "name"),
    "walk": ("names",),
    "readlink": ("ino",),
    "readdir": ("ino",),
    "mknod": ("parent", "name"),
    "mkdir": ("parent", "name"),
    "symlink": ("parent", "name"),
    "link": ("ino", "parent", "name"),
    "unlink": ("parent", "name"),
    "rmdir": ("parent", "name"),
    "rename": ("parent", "name", "parent", "name"),
    "setattr": ("ino",),
    "getxattr": ("ino",),
    "listxattr": ("ino",),
    "setxattr": ("ino",),
    "removexattr": ("ino",),
    "open": ("ino",),
    "read": ("handle", "number", "number"),
    "seek": ("handle", "number"),
    "write": ("handle", "content", "number"),
    "append": ("handle", "content"),
    "fsync": ("handle",),
    "release": ("handle",),
    "let_go": ("ino",),
    "sync": (),
    "close": (),
}
#: Calls by the names that people know.
_OF_A_WALK: Final = ("walk", "find", "lookup", "inode")
_GIVE_NONE: Final = ("walk", "find")  # where a name is not there
_SHOWN: Final = {
    "inode": "getattr",
    "mknod": "create",
    "close": "unmount",
    "walk": "lookup",
    "find": "lookup",
}


class TracedVolume(Volume):
    """A volume on a :class:`~vsfs.trace.TracedDevice`, with calls that have a begin and an end."""

    is_cold = False

    def __init__(self, device: BlockDevice, **options: Any) -> None:
        """As ``Volume``; `device` is wrapped."""
        self.traced = TracedDevice(device)
        self.names = Names()
        self.call_log: CallLog | None = None
        self._depth = 0
        self._number = 0  # of the call that began last
        self._is_in_method = False
        self.before_close: Callable[[], None] | None = None  # while all is still recorded
        self._request = ""  # the label of the call that a request is about
        self._has_made = False  # a file: then that is what it is about
        super().__init__(self.traced, **options)

    def record(self, sink: Sink | None = None) -> Recorder:
        """Begin to record; what came before is no part of it."""
        with self.lock:
            self.sync()
            self.call_log = None if self.is_cold else CallLog.of(self, self.traced.below)
            roles = Roles(self, self.traced.below, self.names)
            trace = Trace(self.geometry.block_size, self.is_cold)
            self.traced.recorder = Recorder(roles, trace, sink)
            return self.traced.recorder

    def stop_recording(self) -> None:
        """Record no more."""
        with self.lock:
            if self.traced.recorder is not None:
                self.traced.recorder.finish()
            self.traced.recorder = None

    # -- calls ----------------------------------------------------------------

    def call_begins(self, name: str, label: str) -> None:
        """A call begins; the caller holds the lock.  Those within it are part of it."""
        self._depth += 1
        if self._depth == 1:
            self._number += 1
            self.forget(name)
            if self.traced.recorder is not None:
                self.traced.recorder.begin(name, label)

    def call_ends(self, error: BaseException | None) -> None:
        """The call that began last has ended."""
        self.call_returns(_errno(error))

    def call_returns(self, code: int, *, is_request: bool = False) -> None:
        """As :meth:`call_ends`, with an errno or 0.

        A request of the kernel's is named after the call that it made last.
        """
        self._depth -= 1
        if self._depth == 0:
            label, self._request = self._request if is_request else "", ""
            self._has_made = False
            if self.traced.recorder is not None:
                self.traced.recorder.end(code, label)

    @property
    def is_in_call(self) -> bool:
        """Whether a call is running."""
        return self._depth > 0

    def forget(self, call: str) -> None:
        """What must not stay in memory from one call to the next: nothing here."""

    # -- names ----------------------------------------------------------------

    def _find(self, above: Inode, name: bytes) -> Inode | None:
        inode = super()._find(above, name)
        if inode is not None:
            self.names.learn(inode.ino, above.ino, name)
        return inode

    def _make(
        self, parent: int, name: bytes, mode: int, uid: int, gid: int, device: int = 0
    ) -> Inode:
        inode = super()._make(parent, name, mode, uid, gid, device)
        self.names.learn(inode.ino, parent, name)
        if self.traced.recorder is not None:
            self.traced.recorder.rename("open", "create")
        return inode

    def _move_entry(
        self,
        source: Directory,
        name: bytes,
        target: Directory,
        new_name: bytes,
        inode: Inode,
        *,
        replace: bool,
    ) -> None:
        super()._move_entry(source, name, target, new_name, inode, replace=replace)
        self.names.learn(inode.ino, target.inode.ino, new_name)

    def label(self, name: str, args: tuple[Any, ...]) -> str:
        """A call as text: ``read(/foo/bar, 4096, 0)``."""
        words: list[str] = []
        pending = 0
        for what, value in zip(_CALLS[name], args, strict=False):
            if what == "parent":
                pending = value
            elif what == "name":
                above = self._path(pending).rstrip("/")
                words.append(f"{above}/{value.decode('utf-8', 'backslashreplace')}")
            else:
                words.append(self._word(what, value))
        return f"{_SHOWN.get(name, name)}({', '.join(words)})"

    def _word(self, what: str, value: Any) -> str:
        if what == "ino":
            return self._path(value)
        if what == "handle":
            file = next((file for file in self.files if file.handle == value), None)
            return self._path(file.inode.ino) if file else f"handle {value}"
        if what == "content":
            return str(len(value))
        if what == "names":
            return "/" + b"/".join(value).decode("utf-8", "backslashreplace")
        return str(value)

    def _path(self, ino: int) -> str:
        return self.names.path(ino) or f"inode {ino}"


def _errno(error: BaseException | None) -> int:
    return error.errno or 0 if isinstance(error, OSError) else 0


def _as_call(name: str) -> Callable[..., Any]:
    """`Volume`'s method `name` as a call with a begin and an end."""
    method = getattr(Volume, name)

    @functools.wraps(method)
    def call(self: TracedVolume, /, *args: Any, **kwargs: Any) -> Any:
        if name == "walk":
            args = (list(args[0]),)  # an iterator could be walked only once
        with self.lock:
            if name == "close" and self.before_close is not None:
                before, self.before_close = self.before_close, None
                before()
            label = self.label(name, args) if self.traced.recorder is not None else ""
            if self.is_in_call and name not in _OF_A_WALK and not self._has_made:
                self._request, self._has_made = label, name == "mknod"
            self.call_begins(_SHOWN.get(name, name), label)
            is_inner, self._is_in_method = self._is_in_method, True
            error: BaseException | None = None
            result: Any = None
            try:
                result = method(self, *args, **kwargs)
                return result
            except BaseException as raised:
                error = raised
                raise
            finally:
                self._is_in_method = is_inner
                if self.call_log is not None and not is_inner:
                    handle = result.handle if isinstance(result, OpenFile) else 0
                    ended = Ended(_errno(error), handle)
                    self.call_log.add(self._number, name, args, kwargs, ended)
                is_missing = result is None and name in _GIVE_NONE
                self.call_returns(_errno(error) or (errno.ENOENT if is_missing else 0))

    return call


for _name in _CALLS:
    setattr(TracedVolume, _name, _as_call(_name))


class CallObserver:
    """Tells a traced volume of the system calls of a ``FileSystem``."""

    def __init__(self, volume: TracedVolume) -> None:
        self._volume = volume

    def enter(self, call: Call) -> None:
        """A system call begins."""
        name, args = call.name, call.args
        words = [_shown(arg) for arg in (args[:1] if name == "open" else args)]
        self._volume.call_begins(name, f"{name}({', '.join(words)})")

    def leave(self, _call: Call, _result: object, error: BaseException | None) -> None:
        """It has ended."""
        self._volume.call_ends(error)


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str | os.PathLike):
        return os.fspath(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bytes | bytearray | memoryview):
        return str(len(value))
    return "..."
