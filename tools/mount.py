"""mount.vsfs: mount an image, so that ordinary programs can use it.

The command returns once the mount is really there.  A child process answers the
kernel's requests; it ends, with everything written back, when the filesystem is
unmounted or when it gets SIGTERM or SIGINT.

Parent and child talk over one pipe: the child writes a line when the kernel has
mounted, or a sentence that says why it did not.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import logging.handlers
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Final

from vsfs.device import FileDevice
from vsfs.errors import VsfsError
from vsfs.lock import mount_points
from vsfs.mounting import COMMIT_INTERVAL
from vsfs.serving import Adapter, CannotMount
from vsfs.volume import Volume

from .help_text import RawHelpFormatter
from .messages import explain, fail

PROGRAM: Final = "mount.vsfs"
_MOUNTED: Final = b"mounted\n"
_FUSE_DEVICE: Final = "/dev/fuse"

#: The packages that can talk to libfuse, the one that is taken first where it is
#: installed at the head.
_BINDINGS: Final = ("llfuse", "fusepy")
_ATIME_RULES: Final = ("relatime", "noatime", "strictatime")
#: Options of mount(8) that the kernel enforces; passed on as they are.
_KERNEL_OPTIONS: Final = ("nosuid", "suid", "nodev", "dev", "noexec", "exec", "allow_other")
#: What mount(8) may say that is so anyway.
_IGNORED_OPTIONS: Final = ("rw", "defaults", "async", "auto", "noauto", "user", "nofail", "_netdev")


@dataclass
class Options:
    """The -o options, as the volume and libfuse want them."""

    read_only: bool = False
    sync: bool = False
    commit_interval: float = COMMIT_INTERVAL
    atime: str = "relatime"
    default_permissions: bool | None = None  # the adapter's choice
    binding: str | None = None
    trace: str | None = None
    cold: bool = False
    kernel: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, texts: list[str]) -> Options:
        """From the arguments of every -o; raises ValueError with a sentence."""
        options = cls()
        for word in ",".join(texts).split(","):
            if word:
                options._set(word)
        if options.cold and options.binding == "llfuse":
            raise ValueError("cold works with binding=fusepy only; leave binding=llfuse out")
        if options.cold:
            options.binding = "fusepy"
        return options

    def _set(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if name == "commit":
            self.commit_interval = _seconds(value)
        elif name == "binding":
            self.binding = _one_of(_BINDINGS, word, value)
        elif name == "trace":
            if not value:
                raise ValueError("trace= needs the name of a file, such as trace=accesses.jsonl")
            self.trace = value
        elif equals:
            raise ValueError(f"unknown option {word!r}; see {PROGRAM} --help")
        elif name == "ro":
            self.read_only = True
        elif name == "sync":
            self.sync = True
        elif name == "cold":
            self.cold = True
        elif name in _ATIME_RULES:
            self.atime = name
        elif name in ("default_permissions", "no_default_permissions"):
            self.default_permissions = name == "default_permissions"
        elif name in _KERNEL_OPTIONS:
            self.kernel.append(name)
        elif name not in _IGNORED_OPTIONS:
            raise ValueError(f"unknown option {name!r}; see {PROGRAM} --help")

    def for_libfuse(self, *, read_only: bool) -> dict[str, Any]:
        """The part that libfuse gets."""
        chosen: dict[str, Any] = dict.fromkeys(self.kernel, True)
        if self.default_permissions is not None:
            chosen["default_permissions"] = self.default_permissions
        if read_only:
            chosen["ro"] = True
        return chosen


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 24 * 3600:
        raise ValueError(
            f"commit={text} is no number of seconds; take one above 0, such as commit=5"
        )
    return seconds


def _one_of(choices: tuple[str, ...], word: str, value: str) -> str:
    if value not in choices:
        raise ValueError(f"{word} is not known; choose one of {', '.join(sorted(choices))}")
    return value


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Mount a VSFS image. Unmount it with umount or fusermount -u.",
        formatter_class=RawHelpFormatter,
        epilog="""\
options for -o, separated by commas:
  ro                   mount read-only
  sync                 each change is on the disk before its call returns
  commit=SECONDS       write changes at least this often (5)
  relatime             update access times as needed to tell read from unread (default)
  noatime              never update access times
  strictatime          update access times at each access
  allow_other          let other users in, too
  default_permissions  the kernel checks permissions (default, but for root's mount
                       without allow_other, where only root gets in, who may do all;
                       no_default_permissions: whoever gets in may do all)
  nosuid nodev noexec  as in mount(8)
  trace=FILE           write to FILE which call reads and writes which blocks, as JSON
                       lines (docs/SYSTEM_CALLS.md); vsfs-trace --read FILE draws it
  cold                 keep nothing in memory between calls, as OSTEP's figures
                       assume: slow, to be looked at with trace (binding=fusepy)
  binding=NAME         how to talk to libfuse: llfuse (default where it is
                       installed; faster) or fusepy
""",
    )
    parser.add_argument("image", metavar="IMAGE", help="image file or block device")
    parser.add_argument("mount_point", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument("-o", dest="options", metavar="OPTIONS", action="append", default=[])
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground, log to stderr"
    )
    # mount(8) passes these to every helper
    parser.add_argument(
        "-n", "-s", "-v", "-w", dest="_", action="store_true", help=argparse.SUPPRESS
    )
    parser.add_argument("-r", dest="read_only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-t", dest="_type", help=argparse.SUPPRESS)
    return parser.parse_intermixed_args(argv)


class _CannotMount(Exception):
    """Its text is the sentence for the user."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = _arguments(argv)
    logging.basicConfig(format=f"{PROGRAM}: %(message)s", level=logging.INFO)
    try:
        options = Options.parse(arguments.options)
        options.read_only |= arguments.read_only
        mount_point = _checked_mount_point(arguments.mount_point)
        binding = _check_fuse(options.binding)
        volume = _open_volume(arguments.image, options)
        if options.trace is not None:
            _record(volume, options.trace)
    except (ValueError, _CannotMount) as error:
        return fail(PROGRAM, str(error))
    image = os.path.realpath(arguments.image)
    if arguments.foreground:
        return _serve(volume, image, mount_point, options, binding, report=None)
    return _serve_in_background(volume, image, mount_point, options, binding)


def _checked_mount_point(path: str) -> str:
    """The absolute path of an empty directory; raises _CannotMount."""
    try:
        names = os.listdir(path)
    except OSError as error:
        reasons = {
            errno.ENOENT: f"there is no directory {path}; make it with mkdir",
            errno.ENOTDIR: f"{path} is not a directory; give an empty directory",
            errno.EACCES: f"you may not look into {path}; check its permissions",
            errno.ENOTCONN: f"a mount on {path} lost its process; run: fusermount -u {path}",
        }
        reason = reasons.get(error.errno or 0, f"{path}: {error.strerror}")
        raise _CannotMount(reason) from None
    if names:
        raise _CannotMount(f"{path} is not empty; mount on an empty directory")
    return os.path.realpath(path)


def _check_fuse(wanted: str | None) -> str:
    """Choose the binding; raises _CannotMount if there is no FUSE, or not this one."""
    if not os.path.exists(_FUSE_DEVICE):
        raise _CannotMount(
            f"there is no {_FUSE_DEVICE}: this system has no FUSE; load the kernel's fuse "
            "module, or give the container the device"
        )
    if wanted != "fusepy":
        try:
            import llfuse  # noqa: F401, PLC0415  (late: only a mount needs it)
        except ImportError as error:
            if wanted == "llfuse":
                raise _CannotMount(_without_llfuse(error)) from None
        else:
            return "llfuse"
    try:
        import fuse  # noqa: F401, PLC0415  (late: it looks for libfuse when imported)
    except OSError:
        raise _CannotMount(_WITHOUT_LIBFUSE) from None
    return "fusepy"


_WITHOUT_LIBFUSE: Final = (
    "libfuse 2 is missing; install it with: apt install libfuse2 fuse3 "
    "(libfuse2t64 on newer Debian and Ubuntu)"
)


def _without_llfuse(error: ImportError) -> str:
    """Why llfuse cannot be used: it is not installed, or libfuse is not."""
    if not isinstance(error, ModuleNotFoundError):
        return _WITHOUT_LIBFUSE
    return (
        "llfuse is not installed; install it with: apt install libfuse-dev pkg-config gcc; "
        "pip install llfuse; or mount with -o binding=fusepy"
    )


def _open_volume(image: str, options: Options) -> Volume:
    """Open what `image` holds; read-only if it cannot be written, and say so."""
    try:
        device = _open_device(image, options)
    except OSError as error:
        raise _CannotMount(explain(error, image)) from None
    try:
        volume = _volume_type(options)(
            device,
            read_only=options.read_only,
            atime=options.atime,
            sync=options.sync,
            commit_interval=options.commit_interval,
        )
    except OSError as error:
        device.close()
        raise _CannotMount(explain(error, image)) from None
    if volume.read_only and not options.read_only:
        logging.warning("%s is mounted read-only: it cannot be written", image)
    return volume


def _volume_type(options: Options) -> type[Volume]:
    """A plain volume costs nothing for what is not asked for."""
    if options.cold:
        from vsfs.cold import ColdVolume  # noqa: PLC0415  (late: few ask for it)

        return ColdVolume
    if options.trace is not None:
        from vsfs.traced import TracedVolume  # noqa: PLC0415

        return TracedVolume
    return Volume


def _record(volume: Volume, path: str) -> None:
    """Write a trace of `volume` to `path` from now on; raises _CannotMount."""
    from vsfs.trace_json import call_lines, head_line, totals_line  # noqa: PLC0415
    from vsfs.trace_replay import cold_totals  # noqa: PLC0415
    from vsfs.traced import TracedVolume  # noqa: PLC0415

    assert isinstance(volume, TracedVolume)
    try:
        # each line is in the file when it is written: the process may be killed
        file = open(path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115  (to its end)
    except OSError as error:
        volume.close()
        raise _CannotMount(f"cannot write the trace to {path}: {error.strerror}") from None
    recorder = volume.record(
        lambda call, events: file.writelines(f"{line}\n" for line in call_lines(call, events))
    )
    print(head_line(recorder.trace), file=file)

    def say_what_memory_saved() -> None:
        totals = cold_totals(volume.call_log)
        if totals is not None:
            print(totals_line(totals), file=file)

    volume.before_close = say_what_memory_saved


def _open_device(image: str, options: Options) -> FileDevice:
    if not options.read_only:
        try:
            return FileDevice(image)
        except VsfsError:
            raise
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
    device = FileDevice(image, read_only=True)
    try:
        device.lock_shared()
    except BaseException:
        device.close()
        raise
    return device


def _serve_in_background(
    volume: Volume, image: str, mount_point: str, options: Options, binding: str
) -> int:
    """Fork a child that serves; return when it has mounted, or why it has not."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.setsid()
            os.chdir("/")
            status = _serve(volume, image, mount_point, options, binding, report=writer)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    if answer == _MOUNTED and mount_points(image):
        return 0
    os.waitpid(child, 0)
    return fail(PROGRAM, answer.decode(errors="replace").strip() or f"cannot mount {image}")


def _serve(
    volume: Volume,
    image: str,
    mount_point: str,
    options: Options,
    binding: str,
    report: int | None,
) -> int:
    """Serve until unmounted; `report` is the pipe to the parent, if there is one."""
    with tempfile.TemporaryFile() as complaints:
        stderr = _redirect_stderr(complaints)

        def mounted() -> None:
            _restore_stderr(stderr, complaints)
            if report is not None:
                _detach(report)
            logging.info("%s is mounted on %s (by %s)", image, mount_point, binding)

        adapter = _adapter(binding, volume, mounted)
        try:
            adapter.serve(image, mount_point, options.for_libfuse(read_only=volume.read_only))
        except CannotMount:
            return _report_failure(adapter, mount_point, stderr, complaints, report)
    return 1 if adapter.failure else 0


def _adapter(binding: str, volume: Volume, mounted: Callable[[], None]) -> Adapter:
    """What translates between the volume and libfuse."""
    if binding == "llfuse":
        from vsfs.llfuse_adapter import LlfuseAdapter  # noqa: PLC0415  (late: needs llfuse)

        return LlfuseAdapter(volume, mounted)
    if type(volume) is not Volume:
        from vsfs.fuse_trace import TracedFuseAdapter  # noqa: PLC0415

        return TracedFuseAdapter(volume, mounted)
    from vsfs.fuse_adapter import FuseAdapter  # noqa: PLC0415  (late: needs libfuse)

    return FuseAdapter(volume, mounted)


def _redirect_stderr(complaints: IO[bytes]) -> int:
    """Let libfuse complain into a file; return a copy of the real stderr."""
    sys.stderr.flush()
    copy = os.dup(2)
    os.dup2(complaints.fileno(), 2)
    return copy


def _restore_stderr(copy: int, complaints: IO[bytes]) -> None:
    os.dup2(copy, 2)
    os.close(copy)  # whoever waits for the end of our stderr must not wait for the mount's
    complaints.seek(0)
    os.write(2, complaints.read())


def _detach(report: int) -> None:
    """The child goes on alone: tell the parent, leave its terminal."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    with contextlib.suppress(OSError):
        root = logging.getLogger()
        root.handlers[:] = [logging.handlers.SysLogHandler("/dev/log")]
        root.handlers[0].setFormatter(logging.Formatter(f"{PROGRAM}: %(message)s"))
    os.write(report, _MOUNTED)
    os.close(report)


def _report_failure(
    adapter: Adapter, mount_point: str, stderr: int, complaints: IO[bytes], report: int | None
) -> int:
    """Say why libfuse did not mount, and mark the image clean again."""
    adapter.finish()
    complaints.seek(0)
    text = complaints.read().decode(errors="replace").strip()
    os.dup2(stderr, 2)
    os.close(stderr)
    message = f"cannot mount on {mount_point}: {_advice(text)}"
    if report is None:
        return fail(PROGRAM, message)
    os.write(report, message.encode())
    return 1


def _advice(text: str) -> str:
    """What libfuse wrote, and what to do about it, as one sentence."""
    if "user_allow_other" in text:
        return "allow_other needs the line user_allow_other in /etc/fuse.conf, or root"
    if "fusermount" in text and ("not found" in text or "No such file" in text):
        return "the program fusermount is missing; install it with: apt install fuse3"
    if "ermission denied" in text or "not permitted" in text:
        return "FUSE mounts are not permitted here; try as root, or check the rights of /dev/fuse"
    return text.splitlines()[-1] if text else "libfuse gave no reason"


if __name__ == "__main__":
    sys.exit(main())
