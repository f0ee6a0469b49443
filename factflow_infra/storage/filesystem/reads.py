"""Reading: whole objects and ranges, each of one version, checked against its checksum (S3, S4)."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from factflow_infra.errors import CorruptObjectError, ObjectNotFoundError
from factflow_infra.storage.filesystem import steps, versions
from factflow_infra.storage.filesystem.changes import Terms, Upload
from factflow_infra.storage.filesystem.locks import AbandonedError
from factflow_infra.storage.keys import shown

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator

    from factflow_infra.storage.filesystem.tree import Tree
    from factflow_infra.storage.filesystem.versions import Version
    from factflow_infra.storage.metadata import Record

COPY_SIZE = 1024 * 1024
_PROBE = 4096


@contextmanager
def current(tree: Tree, key: str) -> Generator[Version, None, None]:
    """The current version of ``key``, open; ``ObjectNotFoundError`` if there is none."""
    *folders, name = key.split("/")
    with tree.opened(folders, key) as parent:
        if parent is None:
            raise missing(key)
        with versions.opened(parent, name, key) as version:
            if version is None:
                raise missing(key)
            yield version


def missing(key: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"there is no object under {shown(key)}")


def stat(tree: Tree, key: str) -> Record:
    with current(tree, key) as version:
        return version.record()


def exists(tree: Tree, key: str) -> bool:
    *folders, name = key.split("/")
    with tree.opened(folders, key) as parent:
        if parent is None:
            return False
        with versions.opened(parent, name, key) as version:
            return version is not None


def get(tree: Tree, key: str, abandoned: threading.Event) -> tuple[bytes, Record]:
    """The content and the record of one version; ``CorruptObjectError`` where they do not match."""
    with current(tree, key) as version:
        digest = hashlib.sha256()
        pieces: list[bytes] = []
        steps.seek(version.descriptor, 0)
        left = version.found.st_size
        # A read allocates what it asks for: the last one, which only finds the end, asks for little.
        while data := steps.read(version.descriptor, max(left, _PROBE)):
            if abandoned.is_set():
                raise AbandonedError
            digest.update(data)
            pieces.append(data)
            left -= len(data)
        record = version.matching(f"sha256:{digest.hexdigest()}")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), record


def copy(tree: Tree, source: str, upload: Upload, abandoned: threading.Event) -> Terms:
    """Append what ``source`` holds to ``upload``; its metadata and content type."""
    with current(tree, source) as version:
        digest = hashlib.sha256()
        steps.seek(version.descriptor, 0)
        while data := steps.read(version.descriptor, COPY_SIZE):
            if abandoned.is_set():
                raise AbandonedError
            digest.update(data)
            upload.append(data)
        record = version.matching(f"sha256:{digest.hexdigest()}")
    return Terms(content_type=record.content_type, metadata=record.metadata)


class Download:
    """One version of an object, read from ``start`` to ``end`` piece by piece.

    Read from its beginning to its end, it is checked against its checksum before the last piece is given; a part of an
    object cannot be checked.
    """

    def __init__(self, key: str, start: int, end: int | None) -> None:
        self._key = key
        self._start = start
        self._end = end
        self._digest = hashlib.sha256()
        self._descriptor: int | None = None
        self._record: Record | None = None
        self._left = 0
        self._whole = False

    def _open(self, tree: Tree) -> int:
        with current(tree, self._key) as version:
            self._record = version.record()
            size = version.found.st_size
            self._left = max((size if self._end is None else min(self._end, size)) - self._start, 0)
            self._whole = self._start == 0 and self._left == size
            steps.seek(version.descriptor, self._start)
            self._descriptor = version.keep()
        return self._descriptor

    def next(self, tree: Tree, count: int) -> bytes:
        """The next ``count`` bytes, fewer at the end, ``b""`` after it. The first call opens the object."""
        descriptor = self._open(tree) if self._descriptor is None else self._descriptor
        pieces: list[bytes] = []
        wanted = count = min(count, self._left)
        while wanted:
            data = steps.read(descriptor, wanted)
            if not data:  # the file was cut by another tool
                raise CorruptObjectError(f"{shown(self._key)} is corrupt: it ends {self._left} bytes before its end")
            pieces.append(data)
            wanted -= len(data)
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._left -= count
        if self._whole:
            self._digest.update(piece)
            assert self._record is not None
            checksum = f"sha256:{self._digest.hexdigest()}"
            if not self._left and checksum != self._record.checksum:
                raise versions.corrupt(self._key, checksum, (self._record,))
        return piece

    def close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            steps.close(descriptor)
