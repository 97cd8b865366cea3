"""The shell's everyday commands: ls, cat, cp, mv, rm, mkdir, ln, stat, df, tree, ..."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import vsfs
from vsfs.copying import Copier, Keep, Tree, resolved
from vsfs.words import counted

from .inspect_output import Cell, Column, Span, safe
from .shell_commands import (
    CHUNK,
    BadUse,
    Group,
    Session,
    Trouble,
    exactly,
    inside,
    is_directory,
    number,
    octal,
    options,
    some,
)

COMMANDS: Final = Group("Files")

_SIX_MONTHS: Final = 182 * 24 * 60 * 60  # seconds; older files show their year, as in ls(1)
_MOST_DEEP: Final = 2048  # directories below each other in tree and rm; paths end before
_MARKS: Final = {stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_KIND_NAMES: Final = {
    stat.S_IFREG: "regular file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class _File(NamedTuple):
    """A file to list; `kind` is its type, as in st_mode."""

    name: str
    path: str
    ino: int
    kind: int


# -- looking ------------------------------------------------------------------


@COMMANDS.command(
    "ls [-a] [-d] [-i] [-l] [PATH...]",
    "list directories",
    "  -a names that begin with a dot, too; -d a directory itself, not what is in it\n"
    "  -i inode numbers; -l mode, links, uid, gid, size and time of last modification",
)
def ls(session: Session, words: list[str]) -> None:
    """Files first, then what is in each directory, as ls(1)."""
    chosen, paths = options(words, "adil")
    files: list[_File] = []
    folders: list[str] = []
    for path in paths or ["."]:
        status = session.fs.lstat(path)
        mode = status.st_mode
        leads = stat.S_ISLNK(mode) and "l" not in chosen and is_directory(session.fs, path)
        if (leads or stat.S_ISDIR(mode)) and "d" not in chosen:
            folders.append(path)
        else:
            files.append(_File(path, path, status.st_ino, stat.S_IFMT(mode)))
    _list(session, files, chosen)
    for at, folder in enumerate(folders):
        if len(paths) > 1:
            print("\n" * bool(at or files) + f"{safe(folder)}:")
        _list(session, _contents(session.fs, folder, everything="a" in chosen), chosen)


def _contents(fs: vsfs.FileSystem, folder: str, *, everything: bool) -> list[_File]:
    """What is in a directory; with `everything` names with a dot before them, too.

    A name's inode need not be looked at, so x on the directory is not needed.
    """
    with fs.scandir(folder) as entries:
        found = [
            _File(entry.name, entry.path, entry.inode(), entry.file_type()) for entry in entries
        ]
    if not everything:
        return sorted(file for file in found if not file.name.startswith("."))
    dots = [(name, posixpath.join(folder, name)) for name in (".", "..")]
    return [
        *(_File(name, path, fs.stat(path).st_ino, stat.S_IFDIR) for name, path in dots),
        *sorted(found),
    ]


def _list(session: Session, files: list[_File], chosen: set[str]) -> None:
    """Print a line for each file, its fields in columns to the right."""
    rows = [_ls_row(session, file, chosen) for file in files]
    widths = [max(map(len, column)) for column in zip(*(fields for fields, _ in rows), strict=True)]
    for fields, spans in rows:
        text = [field.rjust(width) + " " for field, width in zip(fields, widths, strict=True)]
        session.printer.line("".join(text), *spans)


def _ls_row(session: Session, file: _File, chosen: set[str]) -> tuple[list[str], list[Span]]:
    """The fields before the name, and the name."""
    row = [str(file.ino)] if "i" in chosen else []
    spans: list[Span] = [(safe(file.name), _MARKS.get(file.kind, ""))]
    if "l" in chosen:
        status = session.fs.lstat(file.path)
        is_device = file.kind in (stat.S_IFCHR, stat.S_IFBLK)
        device = f"{os.major(status.st_rdev)},{os.minor(status.st_rdev)}"
        row += [
            stat.filemode(status.st_mode),
            str(status.st_nlink),
            str(status.st_uid),
            str(status.st_gid),
            device if is_device else str(status.st_size),
            _ls_time(status.st_mtime),
        ]
        if stat.S_ISLNK(status.st_mode):
            spans.append(f" -> {safe(session.fs.readlink(file.path))}")
    return row, spans


def _ls_time(seconds: float) -> str:
    try:
        moment = time.localtime(seconds)
    except (OverflowError, ValueError, OSError):  # the year 10,000,000
        return f"@{int(seconds)}"
    is_recent = abs(time.time() - seconds) < _SIX_MONTHS
    return time.strftime("%b %e %H:%M" if is_recent else "%b %e  %Y", moment)


@COMMANDS.command("cat FILE...", "print the contents of files")
def cat(session: Session, words: list[str]) -> None:
    """Copy files to the output, as they are."""
    sys.stdout.flush()
    for path in some(words):
        fd = session.fs.open(path, os.O_RDONLY)
        try:
            if stat.S_ISDIR(session.fs.fstat(fd).st_mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            while content := session.fs.read(fd, CHUNK):
                sys.stdout.buffer.write(content)
        finally:
            session.fs.close(fd)
    sys.stdout.buffer.flush()


@COMMANDS.command("stat PATH...", "all that an inode says; of a link itself")
def stat_(session: Session, words: list[str]) -> None:
    """As stat(1), with the units written out."""
    for path in some(words):
        status = session.fs.lstat(path)
        mode = status.st_mode
        target = f" -> {safe(session.fs.readlink(path))}" if stat.S_ISLNK(mode) else ""
        rows = {
            "path": safe(path) + target,
            "inode": str(status.st_ino),
            "type": _KIND_NAMES.get(stat.S_IFMT(mode), "unknown"),
            "mode": f"0{stat.S_IMODE(mode):03o} {stat.filemode(mode)}",
            "links": str(status.st_nlink),
            "owner": f"uid {status.st_uid}, gid {status.st_gid}",
            "size": counted(status.st_size, "byte"),
            "blocks": f"{status.st_blocks * 512 // status.st_blksize} of {status.st_blksize} bytes",
            "accessed": _time_text(status.st_atime_ns),
            "modified": _time_text(status.st_mtime_ns),
            "changed": _time_text(status.st_ctime_ns),
        }
        for name, value in rows.items():
            session.printer.line((f"{name:<8}", "minor"), f"  {value}")


def _time_text(time_ns: int) -> str:
    seconds, ns = divmod(time_ns, 10**9)
    try:
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{ns:09}"
    except (OverflowError, ValueError, OSError):
        return f"{counted(seconds, 'second')} after 1970"


@COMMANDS.command("readlink PATH", "what a symbolic link says")
def readlink(session: Session, words: list[str]) -> None:
    """readlink(2)."""
    (path,) = exactly(words, 1)
    print(safe(session.fs.readlink(path)))


@COMMANDS.command("df", "blocks and inodes: all, used, free")
def df(session: Session, words: list[str]) -> None:
    """What statvfs says."""
    exactly(words, 0)
    found = session.fs.statvfs("/")
    columns = [Column(""), *(Column(name, right=True) for name in ("all", "used", "free", "use"))]
    rows: list[list[Cell]] = [
        [name, str(all_), str(all_ - free), str(free), f"{-(-100 * (all_ - free) // all_)}%"]
        for name, all_, free in (
            (f"blocks of {found.f_frsize}", found.f_blocks, found.f_bfree),
            ("inodes", found.f_files, found.f_ffree),
        )
    ]
    session.printer.table(columns, rows)


@COMMANDS.command("tree [PATH]", "all that is below a directory, with inode numbers")
def tree(session: Session, words: list[str]) -> None:
    """Draw it."""
    (top,) = exactly(words, 0, 1) or ["."]
    if not stat.S_ISDIR(session.fs.stat(top).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), top)
    session.printer.line(str(session.fs.stat(top).st_ino), " ", (safe(top), "directory"))
    middle, last, below, empty = session.printer.branches
    for path, name, depth_is_last in _walk(session.fs, top):
        status = session.fs.lstat(path)
        *above, is_last = depth_is_last
        lead = "".join(empty if ended else below for ended in above)
        spans: list[Span] = [(lead + (last if is_last else middle), "minor")]
        spans += [f"{status.st_ino} ", (safe(name), _MARKS.get(stat.S_IFMT(status.st_mode), ""))]
        if stat.S_ISLNK(status.st_mode):
            spans.append(f" -> {safe(session.fs.readlink(path))}")
        session.printer.line(*spans)


def _walk(fs: vsfs.FileSystem, top: str) -> Iterator[tuple[str, str, list[bool]]]:
    """(Path, name, for each level whether it is the last there) of all below `top`.

    A damaged image may have a directory twice: it is not entered a second time.
    """
    seen = {fs.stat(top).st_ino}
    levels = [(top, iter(_children(fs, top)))]
    ended: list[bool] = [False]
    while levels:
        folder, names = levels[-1]
        entry = next(names, None)
        if entry is None:
            levels.pop()
            ended.pop()
            continue
        name, ended[-1] = entry
        path = posixpath.join(folder, name)
        yield path, name, list(ended)
        status = fs.lstat(path)
        if stat.S_ISDIR(status.st_mode) and status.st_ino not in seen and len(levels) < _MOST_DEEP:
            seen.add(status.st_ino)
            levels.append((path, iter(_children(fs, path))))
            ended.append(False)


def _children(fs: vsfs.FileSystem, folder: str) -> list[tuple[str, bool]]:
    """Names in order, and whether each is the last."""
    names = sorted(fs.listdir(folder))
    return [(name, at == len(names)) for at, name in enumerate(names, 1)]


# -- moving about -------------------------------------------------------------


@COMMANDS.command("cd [PATH]", "change the current directory; to / without a path")
def cd(session: Session, words: list[str]) -> None:
    """chdir(2)."""
    (path,) = exactly(words, 0, 1) or ["/"]
    session.fs.chdir(path)


@COMMANDS.command("pwd", "print the current directory")
def pwd(session: Session, words: list[str]) -> None:
    """getcwd(3)."""
    exactly(words, 0)
    print(safe(session.fs.getcwd()))


# -- making and removing --------------------------------------------------------


@COMMANDS.command("echo [-n] TEXT...", "print words; `echo TEXT > FILE` makes a file")
def echo(_session: Session, words: list[str]) -> None:
    """Print the words with blanks between them."""
    newline = words[:1] != ["-n"]
    print(" ".join(words if newline else words[1:]), end="\n" if newline else "")


@COMMANDS.command("touch FILE...", "set the times to now; make what is not there")
def touch(session: Session, words: list[str]) -> None:
    """As touch(1)."""
    fs = session.fs
    for path in some(words):
        if not fs.exists(path):
            fs.close(fs.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
        fs.utime(path)


@COMMANDS.command("truncate SIZE FILE...", "cut files, or let them grow by a hole")
def truncate(session: Session, words: list[str]) -> None:
    """truncate(2); a file that is missing is made."""
    size, *paths = words if len(words) > 1 else some([])
    for path in paths:
        if not session.fs.exists(path):
            session.fs.close(session.fs.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
        session.fs.truncate(path, number(size))


@COMMANDS.command("mkdir [-p] PATH...", "make directories; -p with those above them")
def mkdir(session: Session, words: list[str]) -> None:
    """mkdir(2)."""
    chosen, paths = options(words, "p")
    for path in some(paths):
        if "p" in chosen:
            session.fs.makedirs(path, exist_ok=True)
        else:
            session.fs.mkdir(path)


@COMMANDS.command("rmdir PATH...", "remove empty directories")
def rmdir(session: Session, words: list[str]) -> None:
    """rmdir(2)."""
    for path in some(words):
        session.fs.rmdir(path)


@COMMANDS.command("rm [-f] [-r] PATH...", "remove names; -r also directories and all in them")
def rm(session: Session, words: list[str]) -> None:
    """unlink(2); -f does not mind what is not there."""
    chosen, paths = options(words, "fr")
    for path in some(paths):
        if posixpath.basename(path.rstrip("/")) in ("", ".", ".."):
            raise Trouble(f"{path}: this directory cannot be removed")
        try:
            status = session.fs.lstat(path)
        except FileNotFoundError:
            if "f" in chosen:
                continue
            raise
        if stat.S_ISDIR(status.st_mode) and "r" in chosen:
            _remove_tree(session.fs, path)
        else:
            session.fs.unlink(path)


def _remove_tree(fs: vsfs.FileSystem, top: str) -> None:
    """Remove a directory and all below it, the deepest first."""
    for path, _, _ in reversed(list(_walk(fs, top))):
        if stat.S_ISDIR(fs.lstat(path).st_mode):
            fs.rmdir(path)
        else:
            fs.unlink(path)
    fs.rmdir(top)


@COMMANDS.command("mv SOURCE... TARGET", "rename, or move into a directory")
def mv(session: Session, words: list[str]) -> None:
    """rename(2)."""
    for source, target in inside(session.fs, words):
        session.fs.rename(source, target)


@COMMANDS.command(
    "cp [-p] [-r] SOURCE... TARGET",
    "copy; -r directories too, -p with owners and times",
    "  Holes stay holes.  To copy from or to the host: put and get.",
)
def cp(session: Session, words: list[str]) -> None:
    """Copy within the image."""
    chosen, paths = options(words, "pr")
    fs = session.fs
    copier = Copier(fs, fs, Keep.POSSIBLE if "p" in chosen else Keep.MODE)
    for source, target in inside(fs, paths):
        status = fs.stat(source) if "r" not in chosen else fs.lstat(source)
        if stat.S_ISDIR(status.st_mode):
            if "r" not in chosen:
                raise Trouble(f"{source} is a directory; copy it with cp -r")
            _require_outside(fs, source, status.st_ino, target)
        _copy(session, copier, source, target, "p" in chosen)


def _copy(session: Session, copier: Copier, source: str, target: str, keep: bool) -> None:
    fs = session.fs
    whole = os.fsencode(source)
    if stat.S_ISREG(fs.stat(source).st_mode):
        if fs.exists(target) and fs.stat(target).st_ino == fs.stat(source).st_ino:
            raise Trouble(f"{source} and {target} are the same file")
        whole = resolved(fs, whole)
        copier.contents(os.fsencode(target), whole)
        if keep:
            entry, _ = next(iter(Tree(fs, whole, os.fsencode(target))))
            copier.attributes(entry)
        return
    copier.run(Tree(fs, whole, os.fsencode(target), is_trusted=False))


def _require_outside(fs: vsfs.FileSystem, source: str, ino: int, target: str) -> None:
    """Raise Trouble if `target` is below the directory `source`."""
    above = posixpath.dirname(target.rstrip("/")) or "."
    for _ in range(_MOST_DEEP):
        here = fs.stat(above).st_ino
        if here == ino:
            raise Trouble(f"{source} cannot be copied into itself, {target}")
        if here == fs.stat("/").st_ino:
            return
        above = posixpath.join(above, "..")


@COMMANDS.command(
    "ln [-s] SOURCE NAME",
    "give a file one more name; -s make a symbolic link to it",
    "  A hard link is a name like the first one: same inode, and the link count says how\n"
    "  many there are.  A symbolic link is a file of its own that holds a path.",
)
def ln(session: Session, words: list[str]) -> None:
    """link(2) or symlink(2)."""
    chosen, paths = options(words, "s")
    source, name = exactly(paths, 2)
    if is_directory(session.fs, name):
        name = posixpath.join(name, posixpath.basename(source.rstrip("/")))
    if "s" in chosen:
        session.fs.symlink(source, name)
    else:
        session.fs.link(source, name)


# -- attributes -----------------------------------------------------------------


@COMMANDS.command("chmod MODE FILE...", "set permissions, in octal: chmod 0644 /foo")
def chmod(session: Session, words: list[str]) -> None:
    """chmod(2)."""
    mode, *paths = words if len(words) > 1 else some([])
    for path in paths:
        session.fs.chmod(path, octal(mode))


@COMMANDS.command("chown UID[:GID] FILE...", "set the owner, by numbers: chown 1000:1000 /foo")
def chown(session: Session, words: list[str]) -> None:
    """chown(2)."""
    owner, *paths = words if len(words) > 1 else some([])
    uid, _, gid = owner.partition(":")
    if not (uid or gid) or not all(part.isdecimal() for part in (uid, gid) if part):
        raise BadUse(f"{owner!r} is no owner; write it as 1000, 1000:1000 or :1000")
    for path in paths:
        session.fs.chown(path, int(uid or -1), int(gid or -1))
