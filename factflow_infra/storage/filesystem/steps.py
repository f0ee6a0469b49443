"""Every call to the operating system that the filesystem provider makes: one function, one plain call.

Nothing else in this package touches ``os`` or ``fcntl``, so whoever wants to see, count, delay or fail each step (a crash
model, a simulated disk) has one place to stand. Names are always relative to an open directory, and no call follows a
symbolic link but the one that opens the root: a path cannot be swapped for a link between a check and its use.
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOFOLLOW_DIRECTORY = _DIRECTORY | os.O_NOFOLLOW
# Non-blocking, or opening a FIFO that somebody left here would wait for its other end.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

_TEMPORARY = ".factflow-"


def open_root(path: str) -> int:
    """The root may be reached through symbolic links: it is the operator's choice, not a key's."""
    return os.open(path, _DIRECTORY)


def open_directory(parent: int, name: str) -> int:
    return os.open(name, _NOFOLLOW_DIRECTORY, dir_fd=parent)


def open_file(parent: int, name: str) -> int:
    return os.open(name, _READ, dir_fd=parent)


def create_file(parent: int, name: str) -> int:
    return os.open(name, _CREATE, 0o666, dir_fd=parent)


def open_lock(parent: int, name: str) -> int:
    return os.open(name, _LOCK, 0o666, dir_fd=parent)


def lock(descriptor: int) -> None:
    """Wait for the exclusive lock of an open lock file; closing it, or dying, gives the lock back."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file, if nobody holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_directory(parent: int, name: str) -> None:
    os.mkdir(name, 0o777, dir_fd=parent)


def remove_directory(parent: int, name: str) -> None:
    os.rmdir(name, dir_fd=parent)


def read(descriptor: int, count: int) -> bytes:
    return os.read(descriptor, count)


def write(descriptor: int, data: memoryview) -> int:
    return os.write(descriptor, data)


def seek(descriptor: int, position: int) -> None:
    os.lseek(descriptor, position, os.SEEK_SET)


def sync(descriptor: int) -> None:
    """Have a file's content, or a directory's entries, survive a power loss."""
    os.fsync(descriptor)


def rename(parent: int, name: str, target: str) -> None:
    """Replace ``target`` by ``name``, both in one directory, atomically."""
    os.rename(name, target, src_dir_fd=parent, dst_dir_fd=parent)


def unlink(parent: int, name: str) -> None:
    os.unlink(name, dir_fd=parent)


def close(descriptor: int) -> None:
    os.close(descriptor)


def duplicate(descriptor: int) -> int:
    return os.dup(descriptor)


def status(descriptor: int) -> os.stat_result:
    return os.fstat(descriptor)


def status_at(parent: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=parent, follow_symlinks=False)


def entries(descriptor: int) -> Iterator[tuple[str, bool]]:
    """The names in an open directory, in no order, each with whether it is a directory.

    Only directories and regular files are told: links, devices and pipes are none of ours.
    """
    with os.scandir(descriptor) as scan:
        for entry in scan:
            if entry.is_dir(follow_symlinks=False):
                yield entry.name, True
            elif entry.is_file(follow_symlinks=False):
                yield entry.name, False


def unique_name() -> str:
    """A name for a temporary file, in the namespace that no key can have."""
    return f"{_TEMPORARY}{os.urandom(8).hex()}.tmp"


def is_temporary(name: str) -> bool:
    """Whether ``name`` is one of ``unique_name``."""
    return name.startswith(_TEMPORARY) and name.endswith(".tmp")


def is_regular(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)


def is_directory(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode)


def absolute(path: str | os.PathLike[str]) -> str:
    """``path`` from the filesystem's root on; ``TypeError`` for what is no path, ``ValueError`` for an empty one or NUL."""
    text = os.fspath(path)
    if not isinstance(cast("object", text), str):
        raise TypeError("a path given as bytes")
    if not text or "\0" in text:
        raise ValueError("an empty path, or one with NUL")
    return os.path.abspath(text)  # noqa: PTH100 - one module owns the calls, and they are plain ones


def split_root(path: str) -> tuple[str, str]:
    return os.path.split(path)
