"""The system calls of the filesystem provider, straight on the object tree of a pyfakefs filesystem.

The code under test sees one disk: what the provider does through here, ``open`` and ``pathlib`` see through pyfakefs, and
the other way round. pyfakefs alone would do (the provider runs on it unchanged), but it resolves every path as text, and a
patched call also inspects the stack: 9 ms for an overwrite that takes 0.2 ms here. Three things are also as the kernel has
them, and not so in pyfakefs: a descriptor means a file, not a path; a folder that was removed takes no new files; and
``flock`` excludes. Each call that a disk may fail is a step of ``DiskWatch`` (``watch.py``), which also learns what is
not synced.

Not simulated: permissions, as for root. Only what ``factflow_infra.storage.filesystem.steps`` calls is here.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.owners import current_owner
from factflow_infra_testing.storage.watch import (
    CREATE,
    LIST,
    LOCK,
    MKDIR,
    OPEN,
    READ,
    RENAME,
    RMDIR,
    SYNC,
    UNLINK,
    WRITE,
    DiskWatch,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from factflow_infra_testing.simulation.owners import Owner

FIRST_DESCRIPTOR = 1_000_000
"""Far above what the real system and pyfakefs give out, so that a mix-up fails with EBADF."""

_fake_file: Any = None

_LOCK_STEP = 0.001
_LOCK_PATIENCE = 600_000


@dataclass(slots=True)
class _Open:
    node: Any
    flags: int
    owner: Owner | None
    position: int = 0
    locked: bool = False


class _Entry:
    """What ``os.scandir`` gives, as far as it is used."""

    __slots__ = ("_mode", "name")

    def __init__(self, name: str, mode: int) -> None:
        self.name = name
        self._mode = mode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        _only_nofollow(follow_symlinks)
        return stat.S_ISDIR(self._mode)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        _only_nofollow(follow_symlinks)
        return stat.S_ISREG(self._mode)


class _Scan(list[_Entry]):
    def __enter__(self) -> Iterator[_Entry]:
        return iter(self)

    def __exit__(self, *_: object) -> None:
        self.clear()


class DiskOs:
    """Stands in for ``os`` in the provider's module of steps. ``filesystem`` is a ``FakeFilesystem``.

    ``watch`` sees each operation; what it is to learn of changes reaches it through the hooks of ``watched``.
    """

    O_RDONLY, O_WRONLY, O_RDWR = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
    O_CREAT, O_EXCL, O_TRUNC = os.O_CREAT, os.O_EXCL, os.O_TRUNC
    SEEK_SET = os.SEEK_SET
    stat_result = os.stat_result
    PathLike = os.PathLike
    fspath = staticmethod(os.fspath)

    def __init__(self, filesystem: Any, watch: DiskWatch | None = None) -> None:
        self.watch = watch or DiskWatch()
        self._filesystem = filesystem
        self._open: dict[int, _Open] = {}
        self._next = FIRST_DESCRIPTOR
        self._locks: dict[int, int] = {}
        self.path = _Paths()

    def reset(self) -> None:
        """Forget what is open, as when all processes have ended."""
        self._open.clear()
        self._locks.clear()
        self._next = FIRST_DESCRIPTOR

    @property
    def descriptors(self) -> int:
        """How many descriptors are open: for tests that look for leaks."""
        return len(self._open)

    def urandom(self, count: int) -> bytes:
        return os.urandom(count)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is None:
            self.watch.step_at(OPEN, path)
            return self._add(self._walk(path), flags)
        folder = self._folder(dir_fd)
        node = folder.entries.get(path)
        self.watch.step(CREATE if node is None and flags & os.O_CREAT else OPEN, folder, path)
        if node is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT, path)
            self._check_attached(folder, path)
            node = _new_file(self._filesystem, path, mode)
            folder.add_entry(node)
            _touch(folder)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise _error(errno.EEXIST, path)
        kind = node.st_mode
        if flags & os.O_DIRECTORY and not stat.S_ISDIR(kind):
            raise _error(errno.ENOTDIR, path)
        if stat.S_ISLNK(kind):
            raise _error(errno.ELOOP, path)
        if stat.S_ISDIR(kind) and flags & (os.O_WRONLY | os.O_RDWR):
            raise _error(errno.EISDIR, path)
        return self._add(node, flags)

    def dup(self, descriptor: int) -> int:
        self.watch.step(OPEN, self._entry(descriptor).node)
        return self._add(self._entry(descriptor).node, self._entry(descriptor).flags)

    def close(self, descriptor: int) -> None:
        closed = self._entry(descriptor)
        del self._open[descriptor]
        if closed.locked:
            self._unlock(closed, descriptor)

    def read(self, descriptor: int, count: int) -> bytes:
        entry = self._entry(descriptor)
        if stat.S_ISDIR(entry.node.st_mode):
            raise _error(errno.EISDIR)
        self.watch.step(READ, entry.node)
        data: bytes = (entry.node.byte_contents or b"")[entry.position : entry.position + count]
        entry.position += len(data)
        return data

    def write(self, descriptor: int, data: memoryview | bytes) -> int:
        entry = self._entry(descriptor)
        if not entry.flags & (os.O_WRONLY | os.O_RDWR):
            raise _error(errno.EBADF)
        most = self.watch.step(WRITE, entry.node)
        old: bytes = entry.node.byte_contents or b""
        start = old[: entry.position].ljust(entry.position, b"\0")
        piece = bytes(data[:most] if most else data)
        with self.watch.told():
            entry.node.set_contents(start + piece + old[entry.position + len(piece) :])
        self.watch.model.write(entry.node, entry.position, piece, old)
        entry.position += len(piece)
        _touch(entry.node)
        return len(piece)

    def lseek(self, descriptor: int, position: int, _whence: int) -> int:
        self._entry(descriptor).position = position
        return position

    def fsync(self, descriptor: int) -> None:
        node = self._entry(descriptor).node
        try:
            self.watch.step(SYNC, node)
        except OSError:
            self.watch.model.fail_sync(node)
            raise
        self.watch.synced(node)

    def fstat(self, descriptor: int) -> Any:
        return self._entry(descriptor).node.stat_result.copy()

    def stat(self, name: str, *, dir_fd: int, follow_symlinks: bool = True) -> Any:
        _only_nofollow(follow_symlinks)
        node = self._folder(dir_fd).entries.get(name)
        if node is None:
            raise _error(errno.ENOENT, name)
        return node.stat_result.copy()

    def mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int) -> None:
        folder = self._folder(dir_fd)
        self.watch.step(MKDIR, folder, name)
        if name in folder.entries:
            raise _error(errno.EEXIST, name)
        self._check_attached(folder, name)
        folder.add_entry(_new_folder(self._filesystem, name, mode))
        _touch(folder)

    def rmdir(self, name: str, *, dir_fd: int) -> None:
        folder = self._folder(dir_fd)
        self.watch.step(RMDIR, folder, name)
        node = folder.entries.get(name)
        if node is None:
            raise _error(errno.ENOENT, name)
        if not stat.S_ISDIR(node.st_mode):
            raise _error(errno.ENOTDIR, name)
        if node.entries:
            raise _error(errno.ENOTEMPTY, name)
        folder.remove_entry(name)
        _touch(folder)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        folder = self._folder(dir_fd)
        self.watch.step(UNLINK, folder, name)
        node = folder.entries.get(name)
        if node is None:
            raise _error(errno.ENOENT, name)
        if stat.S_ISDIR(node.st_mode):
            raise _error(errno.EISDIR, name)
        folder.remove_entry(name)
        _touch(folder)

    def rename(self, name: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        folder, there = self._folder(src_dir_fd), self._folder(dst_dir_fd)
        self.watch.step(RENAME, there, target)
        node, old = folder.entries.get(name), there.entries.get(target)
        if node is None:
            raise _error(errno.ENOENT, name)
        if node is old:
            return
        if old is not None:
            _check_replaceable(node, old, target)
        with self.watch.as_one():
            if old is not None:
                there.remove_entry(target)
            folder.remove_entry(name, recursive=False)
            node.name = target
            there.add_entry(node)
        _touch(folder)
        _touch(there)

    def scandir(self, descriptor: int) -> _Scan:
        self.watch.step(LIST, self._folder(descriptor))
        return _Scan(_Entry(name, node.st_mode) for name, node in self._folder(descriptor).entries.items())

    def flock(self, descriptor: int, operation: int) -> None:
        """Wait, as virtual time goes by, until nobody else holds the file's lock. The dead hold none."""
        entry = self._entry(descriptor)
        if operation & fcntl.LOCK_UN:
            self._unlock(entry, descriptor)
            return
        self.watch.step(LOCK, entry.node)
        for _ in range(_LOCK_PATIENCE):
            holder = self._open.get(self._locks.get(entry.node.st_ino, descriptor))
            if holder is None or holder is entry or (holder.owner is not None and not holder.owner.alive):
                self._locks[entry.node.st_ino] = descriptor
                entry.locked = True
                return
            if operation & fcntl.LOCK_NB:
                raise _error(errno.EWOULDBLOCK)
            time.sleep(_LOCK_STEP)
        raise _error(errno.EDEADLK)

    def _unlock(self, entry: _Open, descriptor: int) -> None:
        if entry.locked and self._locks.get(entry.node.st_ino) == descriptor:
            del self._locks[entry.node.st_ino]
        entry.locked = False

    def _add(self, node: Any, flags: int) -> int:
        if flags & os.O_DIRECTORY and not stat.S_ISDIR(node.st_mode):
            raise _error(errno.ENOTDIR, node.name)
        descriptor = self._next
        self._next += 1
        self._open[descriptor] = _Open(node, flags, current_owner())
        return descriptor

    def _entry(self, descriptor: int) -> _Open:
        try:
            return self._open[descriptor]
        except KeyError:
            raise _error(errno.EBADF) from None

    def _folder(self, descriptor: int) -> Any:
        node = self._entry(descriptor).node
        if not stat.S_ISDIR(node.st_mode):
            raise _error(errno.ENOTDIR)
        return node

    def _walk(self, path: str) -> Any:
        node: Any = self._filesystem.root_dir
        for name in path.split("/"):
            if not name:
                continue
            if not stat.S_ISDIR(node.st_mode):
                raise _error(errno.ENOTDIR, path)
            node = node.entries.get(name)
            if node is None:
                raise _error(errno.ENOENT, path)
            if stat.S_ISLNK(node.st_mode):
                return self._filesystem.resolve(path)
        return node

    def _check_attached(self, folder: Any, name: str) -> None:
        """A folder that was removed while it was open takes no new entries."""
        if folder is self._filesystem.root_dir:
            return
        parent = folder.parent_dir() if folder.parent_dir is not None else None
        if parent is None or parent.entries.get(folder.name) is not folder:
            raise _error(errno.ENOENT, name)


class DiskFcntl:
    """Stands in for ``fcntl`` beside a ``DiskOs``."""

    LOCK_EX, LOCK_SH, LOCK_NB, LOCK_UN = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB, fcntl.LOCK_UN

    def __init__(self, disk: DiskOs) -> None:
        self.flock = disk.flock


class _Paths:
    """``os.path``, without a current folder: everything relative is below ``/``."""

    @staticmethod
    def abspath(path: str) -> str:
        return os.path.normpath(f"/{path}") if not path.startswith("/") else os.path.normpath(path)

    split = staticmethod(os.path.split)


def _check_replaceable(node: Any, old: Any, target: str) -> None:
    is_folder = stat.S_ISDIR(node.st_mode)
    if stat.S_ISDIR(old.st_mode) != is_folder:
        raise _error(errno.ENOTDIR if is_folder else errno.EISDIR, target)
    if is_folder and old.entries:
        raise _error(errno.ENOTEMPTY, target)


def _new_file(filesystem: Any, name: str, mode: int) -> Any:
    return _nodes().FakeFile(name, stat.S_IFREG | (mode & ~0o022), b"", filesystem=filesystem)


def _new_folder(filesystem: Any, name: str, mode: int) -> Any:
    return _nodes().FakeDirectory(name, mode & ~0o022, filesystem=filesystem)


def _nodes() -> Any:
    global _fake_file  # noqa: PLW0603 - loaded on first use
    if _fake_file is None:
        _fake_file = importlib.import_module("pyfakefs.fake_file")
    return _fake_file


def _touch(node: Any) -> None:
    node.stat_result._st_mtime_ns = time.time_ns()  # noqa: SLF001 - exact; the public setter takes a float


def _only_nofollow(follow_symlinks: bool) -> None:
    if follow_symlinks:
        raise NotImplementedError("the simulated disk follows no symbolic link here: neither does the provider")


def _error(code: int, name: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), name)
