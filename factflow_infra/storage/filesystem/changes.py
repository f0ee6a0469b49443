"""Writing and deleting: the order of the steps in which an object and its sidecar change as one (S1, S2, S7).

write   1 the new content into a temporary file, synced
        2 under the key's lock: a new sidecar, with the new record and the one that stands, synced, renamed,
          and its folder synced: from here on either content has its record, whatever survives
        3 the temporary file renamed over the object: the one step at which both switch
        4 the folder synced: the write survives a power loss
delete  the object, the folder synced, then the sidecar: what may survive is a sidecar without an object, which is none
"""

from __future__ import annotations

import errno
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factflow_infra.errors import (
    CorruptObjectError,
    KeyConflictError,
    PreconditionFailedError,
    StorageError,
    WriteUnconfirmedError,
)
from factflow_infra.storage.filesystem import failures, steps, versions
from factflow_infra.storage.filesystem.locks import AbandonedError, HeldError, locked
from factflow_infra.storage.keys import SIDECAR_SUFFIX, shown
from factflow_infra.storage.metadata import Record, utc_from_ns

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from factflow_infra.storage.filesystem.tree import Tree

_ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a write brings beside its bytes, and what must hold for it to be made."""

    content_type: str
    metadata: dict[str, Any]
    if_absent: bool = False
    if_match: str | None = None


class Upload:
    """A write under way: ``append`` what comes, then ``make``; ``discard`` leaves nothing behind, at any time.

    Each method is a blocking call; they come one after the other.
    """

    def __init__(self, tree: Tree, key: str) -> None:
        self._tree = tree
        self.key = key
        *self._folders, self._name = key.split("/")
        self._digest = hashlib.sha256()
        self._size = 0
        self._synced = False
        self._parent: int | None = None
        self._file: int | None = None
        self._temporary: str | None = None
        self._first = False
        self._terms: Terms | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is anything to discard."""
        return self._file is not None

    def append(self, data: bytes) -> None:
        self._put(data)
        self._digest.update(data)

    def put_whole(self, data: bytes) -> None:
        """Write and sync everything there is to write; ``digest_whole`` may run meanwhile, on another thread."""
        self._put(data)
        assert self._file is not None
        steps.sync(self._file)
        self._synced = True

    def digest_whole(self, data: bytes) -> None:
        """The checksum of what ``put_whole`` writes."""
        self._digest.update(data)

    def _put(self, data: bytes) -> None:
        if self._file is None:
            self._begin()
        assert self._file is not None
        left = memoryview(data)
        while left:
            left = left[steps.write(self._file, left) :]
        self._size += len(data)

    @property
    def is_synced(self) -> bool:
        """Whether all its bytes are on the disk."""
        return self._synced

    def prepare(self, bring: Callable[[threading.Event], Terms], abandoned: threading.Event) -> None:
        """All that needs no lock: have ``bring`` append the rest and say the terms, and sync it. What is done is not done again."""
        if self._terms is None:
            self._terms = bring(abandoned)
        if self._file is None:
            self._begin()
        assert self._file is not None
        if not self._synced:
            steps.sync(self._file)
            self._synced = True

    def make(self, bring: Callable[[threading.Event], Terms], abandoned: threading.Event) -> Record:
        """``prepare`` it, make the object, and return its record; then ``discard``, whatever comes.

        But for ``HeldError``, where somebody else is changing the object: to be called again.
        """
        try:
            self.prepare(bring, abandoned)
            record = self._finish(abandoned)
        except HeldError:
            raise
        except BaseException:
            self.discard()
            raise
        self.discard()
        return record

    def _finish(self, abandoned: threading.Event) -> Record:
        """Make the object of what is prepared; what fails leaves the old object.

        ``abandoned`` is set when the caller is gone: up to the first rename, that makes an ``AbandonedError``.
        """
        assert self._file is not None
        terms = self._terms
        assert terms is not None
        found = steps.status(self._file)
        with locked(self._tree, self.key):
            if abandoned.is_set():
                raise AbandonedError
            previous = self._standing(terms)
            now = utc_from_ns(time.time_ns())
            created = now if previous is None else previous.created_at
            record = Record(
                size=self._size,
                checksum=f"sha256:{self._digest.hexdigest()}",
                content_type=terms.content_type,
                created_at=created,
                modified_at=max(now, created),
                metadata=terms.metadata,
                inode=found.st_ino,
                mtime_ns=found.st_mtime_ns,
            )
            self._switch(record, previous)
        return record

    def discard(self) -> None:
        """Close what is open; of a write that was not made, remove the temporary file and the folders made for it.

        Never raises for what the disk refuses: what made the write fail is the story.
        """
        failed = self._temporary is not None
        if self._parent is not None and self._temporary is not None:
            with suppress(OSError):
                steps.unlink(self._parent, self._temporary)
        for descriptor in (self._file, self._parent):
            if descriptor is not None:
                with suppress(OSError):
                    steps.close(descriptor)
        self._file = self._parent = self._temporary = None
        if failed:
            with suppress(OSError, StorageError):
                self._tree.prune(self._folders, self.key)

    def _begin(self) -> None:
        for _ in range(_ATTEMPTS):
            # A delete may remove a folder, empty until now, under our hands: then everything starts again from the root.
            with suppress(FileNotFoundError):
                parent = self._tree.make(self._folders, self.key)
                try:
                    self._file, self._temporary = _temporary(parent)
                except BaseException:
                    steps.close(parent)
                    raise
                self._parent = parent
                return
        raise BlockingIOError(errno.EBUSY, "its folder is removed as often as it is made")

    def _standing(self, terms: Terms) -> Record | None:
        """The record of the object that stands, checked against the terms."""
        assert self._parent is not None
        with versions.opened(self._parent, self._name, self.key) as version:
            if version is None:
                check_match(self.key, terms.if_match, None)
                self._clear_folder()
                self._first = True
                return None
            if terms.if_absent:
                raise PreconditionFailedError(f"{shown(self.key)} exists already: if_absent does not hold")
            try:
                record = version.record()
            except CorruptObjectError:
                if terms.if_match is not None:
                    raise
                return None  # nothing there is worth keeping a record of: the write mends the object
            check_match(self.key, terms.if_match, record)
            return record

    def _clear_folder(self) -> None:
        """Take away an empty folder that stands where the object is to be; one that holds anything is in the way."""
        assert self._parent is not None
        try:
            found = steps.status_at(self._parent, self._name)
        except FileNotFoundError:
            return
        if steps.is_directory(found):
            try:
                steps.remove_directory(self._parent, self._name)
            except FileNotFoundError:
                return
            except OSError as error:
                raise self._conflict() from error

    def _conflict(self) -> KeyConflictError:
        return KeyConflictError(
            f"cannot write {shown(self.key)}: there are objects below {shown(self.key + '/')}; on a filesystem a key "
            "cannot be both an object and the folder of others"
        )

    def _switch(self, record: Record, previous: Record | None) -> None:
        assert self._parent is not None
        assert self._temporary is not None
        sidecar = self._name + SIDECAR_SUFFIX
        self._put_sidecar(sidecar, versions.encode(record, previous))
        try:
            steps.sync(self._parent)
            steps.rename(self._parent, self._temporary, self._name)
        except OSError as error:
            if self._landed(record):
                raise unconfirmed("write", self.key, error) from error
            if self._first:
                with suppress(OSError):
                    steps.unlink(self._parent, sidecar)
            if isinstance(error, IsADirectoryError):  # a write below this key won the race
                raise self._conflict() from error
            raise
        self._temporary = None
        try:
            steps.sync(self._parent)
        except OSError as error:
            raise unconfirmed("write", self.key, error) from error

    def _put_sidecar(self, sidecar: str, raw: bytes) -> None:
        assert self._parent is not None
        descriptor, temporary = _temporary(self._parent)
        try:
            try:
                left = memoryview(raw)
                while left:
                    left = left[steps.write(descriptor, left) :]
                steps.sync(descriptor)
                steps.rename(self._parent, temporary, sidecar)
            finally:
                steps.close(descriptor)
        except BaseException:
            with suppress(OSError):
                steps.unlink(self._parent, temporary)
            raise

    def _landed(self, record: Record) -> bool:
        assert self._parent is not None
        with suppress(OSError):
            return steps.status_at(self._parent, self._name).st_ino == record.inode
        return False


def _temporary(parent: int) -> tuple[int, str]:
    """A new file, open for writing, and its name. It is locked until it is closed, so that its writer is known to live."""
    name = steps.unique_name()
    descriptor = steps.create_file(parent, name)
    try:
        steps.lock(descriptor)
    except BaseException:
        with suppress(OSError):
            steps.unlink(parent, name)
        steps.close(descriptor)
        raise
    return descriptor, name


def delete(tree: Tree, abandoned: threading.Event, *, key: str, if_match: str | None) -> None:
    """Delete the object ``key``, durably, and the folders that are empty then. A missing one is no error.

    ``HeldError`` where somebody else is changing it.
    """
    *folders, name = key.split("/")
    with locked(tree, key), tree.opened(folders, key) as parent:
        if abandoned.is_set():
            raise AbandonedError
        if parent is None:
            check_match(key, if_match, None)
            return
        there = _is_there(parent, name, key)
        if if_match is not None:
            with versions.opened(parent, name, key) as version:
                check_match(key, if_match, None if version is None else version.record())
        _remove(parent, name, key, there=there)
    with suppress(OSError, StorageError):
        tree.prune(folders, key)


def _is_there(parent: int, name: str, key: str) -> bool:
    try:
        found = steps.status_at(parent, name)
    except FileNotFoundError:
        return False
    if steps.is_regular(found) or steps.is_directory(found):
        return steps.is_regular(found)
    raise failures.link_refused(key)


def _remove(parent: int, name: str, key: str, *, there: bool) -> None:
    if there:
        with suppress(FileNotFoundError):  # another tool was faster
            steps.unlink(parent, name)
        try:
            steps.sync(parent)
        except OSError as error:
            raise unconfirmed("delete", key, error) from error
    with suppress(OSError):  # the object is gone; a sidecar without one is none
        steps.unlink(parent, name + SIDECAR_SUFFIX)


def check_match(key: str, if_match: str | None, record: Record | None) -> None:
    """``PreconditionFailedError`` unless ``if_match`` is ``None`` or the etag of ``record``."""
    if if_match is None:
        return
    if record is None:
        raise PreconditionFailedError(f"{shown(key)} does not exist: if_match={shown(if_match)} does not hold")
    if record.etag != if_match:
        raise PreconditionFailedError(
            f"{shown(key)} has changed: if_match={shown(if_match)} does not hold, its etag is {record.etag!r}"
        )


def unconfirmed(action: str, key: str, error: OSError) -> WriteUnconfirmedError:
    """The change is made, and whether it would survive a power loss cannot be known."""
    return WriteUnconfirmedError(
        f"the {action} of {shown(key)} could not be synced ({error.strerror or error}): "
        "after a power loss the object may be the old one or the new one, whole"
    )
