"""The folders below the root: reached without following a link, made durably, removed when empty.

A folder is opened segment by segment, each relative to the one before, so neither a key nor a link, planted at whatever
moment, leads outside the root (S6).

An object is only as durable as the folders above it (S2). That a folder exists does not say that its own entry was ever
synced: another process may have made it a moment ago and died. So the first time a provider writes into a folder it syncs
the folder's parent, and remembers having done so *by keeping the folder open*: while it is open its inode cannot be given
to another folder, so the memory cannot be wrong, whoever removes and makes folders meanwhile.
"""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from factflow_infra.errors import InvalidKeyError, KeyConflictError
from factflow_infra.storage.filesystem import failures, steps
from factflow_infra.storage.keys import SIDECAR_SUFFIX, shown

if TYPE_CHECKING:
    from collections.abc import Generator

MAX_NAME_BYTES = 255
_REMEMBERED = 64


def check_names(key: str) -> None:
    """Refuse, before any I/O, segments that filesystems cannot hold: 255 bytes, less the sidecar's suffix at the end."""
    *folders, name = key.split("/")
    for segment, room in [
        *((folder, MAX_NAME_BYTES) for folder in folders),
        (name, MAX_NAME_BYTES - len(SIDECAR_SUFFIX)),
    ]:
        if len(segment.encode()) > room:
            raise InvalidKeyError(
                f"storage key {shown(key)}: the segment {shown(segment)} has {len(segment.encode())} UTF-8 bytes; "
                f"a filesystem holds at most {room} here"
            )


class Tree:
    """The folder tree of one provider. Safe to use from several threads."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._durable: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._guard = threading.Lock()

    def close(self) -> None:
        with self._guard:
            for descriptor in self._durable.values():
                steps.close(descriptor)
            self._durable.clear()

    def create_root(self) -> None:
        """Make the root folder and those above it, durably, if they are missing."""
        path, missing = self.root, list[str]()
        while True:
            try:
                parent = steps.open_root(path)
                break
            except FileNotFoundError:
                path, name = steps.split_root(path)
                missing.append(name)
        try:
            while missing:
                name = missing.pop()
                with suppress(FileExistsError):
                    steps.make_directory(parent, name)
                steps.sync(parent)
                child = steps.open_root(f"{path.rstrip('/')}/{name}")
                path = f"{path.rstrip('/')}/{name}"
                steps.close(parent)
                parent = child
        finally:
            steps.close(parent)

    @contextmanager
    def opened_root(self) -> Generator[int, None, None]:
        try:
            descriptor = steps.open_root(self.root)
        except OSError as error:
            raise failures.root_missing(self.root, error) from error
        try:
            yield descriptor
        finally:
            steps.close(descriptor)

    @contextmanager
    def opened(self, folders: list[str], key: str, *, refuse_links: bool = True) -> Generator[int | None, None, None]:
        """The folder at ``folders`` open, or ``None`` where there is none: a file in its place counts as none.

        A link in its place is an error, for the sake of its message, or counts as none too: it is never followed.
        """
        with self.opened_root() as root:
            current = root
            try:
                for name in folders:
                    try:
                        child = steps.open_directory(current, name)
                    except FileNotFoundError:
                        yield None
                        return
                    except OSError as error:
                        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                            raise
                        if refuse_links:
                            _refuse_link(current, name, key)
                        yield None
                        return
                    if current != root:
                        steps.close(current)
                    current = child
                yield current
            finally:
                if current != root:
                    steps.close(current)

    def make(self, folders: list[str], key: str) -> int:
        """The folder at ``folders``, open, made durably where it or one above it was missing. The caller closes it.

        ``FileNotFoundError`` if one of them was removed meanwhile.
        """
        try:
            current = steps.open_root(self.root)
        except OSError as error:
            raise failures.root_missing(self.root, error) from error
        try:
            for name in folders:
                child = self._make_one(current, name, key)
                try:
                    self._make_durable(current, child)
                except BaseException:
                    steps.close(child)
                    raise
                steps.close(current)
                current = child
        except BaseException:
            steps.close(current)
            raise
        return current

    def _make_one(self, parent: int, name: str, key: str) -> int:
        try:
            try:
                return steps.open_directory(parent, name)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    steps.make_directory(parent, name)
                return steps.open_directory(parent, name)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            _refuse_link(parent, name, key)
            raise KeyConflictError(
                f"cannot write {shown(key)}: the object at its segment {shown(name)} is in the way; on a filesystem "
                "a key cannot be both an object and the folder of others"
            ) from error

    def _make_durable(self, parent: int, child: int) -> None:
        found = steps.status(child)
        identity = (found.st_dev, found.st_ino)
        with self._guard:
            if identity in self._durable:
                self._durable.move_to_end(identity)
                return
        steps.sync(parent)
        kept = steps.duplicate(child)
        with self._guard:
            surplus = kept if identity in self._durable else None
            if surplus is None:
                self._durable[identity] = kept
                if len(self._durable) > _REMEMBERED:
                    _, surplus = self._durable.popitem(last=False)
        if surplus is not None:
            steps.close(surplus)

    def prune(self, folders: list[str], key: str) -> None:
        """Remove the folder at ``folders`` and those above it, as far as they are empty.

        A folder in which anything lies, a temporary file included, is not empty: a write that has begun keeps it. One that
        is about to begin finds the folder gone and makes it anew.
        """
        for depth in range(len(folders), 0, -1):
            with self.opened(folders[: depth - 1], key) as parent:
                if parent is None:
                    continue
                try:
                    steps.remove_directory(parent, folders[depth - 1])
                except FileNotFoundError:
                    continue
                except OSError:
                    return  # not empty, or not ours to remove: an empty folder is no part of any promise


def _refuse_link(parent: int, name: str, key: str) -> None:
    with suppress(FileNotFoundError):
        found = steps.status_at(parent, name)
        if not steps.is_regular(found) and not steps.is_directory(found):
            raise failures.link_refused(key)
