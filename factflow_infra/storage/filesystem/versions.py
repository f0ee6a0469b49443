"""Which record belongs to which file: how an object and its sidecar are read as one, without a lock.

Two files cannot be replaced in one step. So the sidecar is replaced first, by one that holds *two* records, of the version
that is about to come and of the one that still stands; renaming the object is then the one step at which both switch.
A reader opens the object, then reads the sidecar, and takes the record that names the file it has open: by inode, which no
other version can have while the file is open (size and modification time must fit too: a file that another tool put here
may have been given a free inode). Where no record does (two writes came between, or the tree was restored from a backup and
has new inodes) it looks again, and what is then still unknown is decided by modification time and checksum.

- No sidecar: an object that another tool put there. Its metadata is ``{}``, its checksum is computed.
- A sidecar without an object: no object (a delete, or a first write, that a crash cut short).
- A sidecar that no checksum fits: the object is corrupt.
"""

from __future__ import annotations

import errno
import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import CorruptObjectError, StorageIOError
from factflow_infra.storage.filesystem import failures, steps
from factflow_infra.storage.keys import SIDECAR_SUFFIX, shown
from factflow_infra.storage.metadata import (
    DEFAULT_CONTENT_TYPE,
    MAX_METADATA_BYTES,
    Record,
    canonical_json,
    utc_from_ns,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Generator

READ_SIZE = 1024 * 1024
MAX_SIDECAR_BYTES = 2 * MAX_METADATA_BYTES + 64 * 1024
"""More than a sidecar takes: two records, which have little beside their metadata."""
_FORMAT = 1
_LOOKS = 64


@dataclass(slots=True)
class Version:
    """An object's file, open for reading, and the records that may be its own; ``own`` where the inode has told."""

    key: str
    descriptor: int
    found: os.stat_result
    records: tuple[Record, ...]
    own: Record | None
    foreign: bool
    kept: bool = False

    def keep(self) -> int:
        """The open file, which the caller closes from now on."""
        self.kept = True
        return self.descriptor

    def record(self) -> Record:
        """The record of this file; reads the file where only its checksum can tell. ``CorruptObjectError`` if none is."""
        if self.own is None:
            self.own = self.matching(self._checksum())
        return self.own

    def matching(self, checksum: str) -> Record:
        """The record of this file, whose whole content has this checksum; ``CorruptObjectError`` if there is none."""
        if self.foreign:
            changed = utc_from_ns(self.found.st_mtime_ns)
            record = Record(
                size=self.found.st_size,
                checksum=checksum,
                content_type=DEFAULT_CONTENT_TYPE,
                created_at=changed,
                modified_at=changed,
                metadata={},
            )
        elif self.own is not None and self.own.checksum == checksum:
            record = self.own
        else:
            fitting = [record for record in self.records if record.checksum == checksum]
            if not fitting:
                raise corrupt(self.key, checksum, self.records)
            record = next((one for one in fitting if one.inode == self.found.st_ino), fitting[0])
        return replace(record, inode=self.found.st_ino, mtime_ns=self.found.st_mtime_ns)

    def _checksum(self) -> str:
        steps.seek(self.descriptor, 0)
        digest = hashlib.sha256()
        while data := steps.read(self.descriptor, READ_SIZE):
            digest.update(data)
        return f"sha256:{digest.hexdigest()}"


def corrupt(key: str, checksum: str, records: tuple[Record, ...]) -> CorruptObjectError:
    known = " or ".join(record.checksum for record in records) or "no readable record"
    return CorruptObjectError(
        f"{shown(key)} is corrupt: its content has {checksum}, its sidecar {known}; "
        f"restore both files, or write the object anew (an object of another tool's has no {SIDECAR_SUFFIX} beside it)"
    )


@contextmanager
def opened(parent: int, name: str, key: str) -> Generator[Version | None, None, None]:
    """The current version of the object ``name`` in the open folder ``parent``; ``None`` if there is none."""
    version = _look(parent, name, key)
    try:
        yield version
    finally:
        if version is not None and not version.kept:
            steps.close(version.descriptor)


def encode(new: Record, previous: Record | None) -> bytes:
    """The sidecar that serves both before and after the object's rename."""
    former = None if previous is None else previous.as_json()
    return canonical_json({"factflow": _FORMAT, **new.as_json(), "previous": former}) + b"\n"


def decode(raw: bytes) -> tuple[Record, ...]:
    """The records of a sidecar, the newest first; none where it cannot be understood."""
    try:
        parsed: Any = json.loads(raw)
        if not isinstance(parsed, dict):
            return ()
        fields = cast("dict[str, Any]", parsed)
        newest = Record.from_json(fields)
        former = fields.get("previous")
        return (newest,) if former is None else (newest, Record.from_json(former))
    except (ValueError, RecursionError):
        return ()


def _look(parent: int, name: str, key: str) -> Version | None:
    before: tuple[int, int, bytes] | None = None
    for _ in range(_LOOKS):
        descriptor = _open_object(parent, name, key)
        if descriptor is None:
            return None
        keep = False
        try:
            found = steps.status(descriptor)
            if not steps.is_regular(found):
                if steps.is_directory(found):
                    return None
                raise failures.link_refused(key)
            raw = _sidecar(parent, name)
            if raw is None:
                # A delete takes the object away first: an object that still stands here never had a sidecar.
                if _stands(parent, name, found):
                    keep = True
                    return Version(key, descriptor, found, (), None, foreign=True)
                continue
            records = decode(raw)
            same = (found.st_size, found.st_mtime_ns)
            alike = [one for one in records if (one.size, one.mtime_ns) == same]
            own = next((one for one in alike if one.inode == found.st_ino), None)
            seen = (found.st_ino, found.st_mtime_ns, raw)
            if own is None and seen == before:  # nobody is writing: these files lie here as they are
                own = next(iter(alike), None)
            if own is not None or seen == before:
                keep = True
                return Version(key, descriptor, found, records, own, foreign=False)
            before = seen
        finally:
            if not keep:
                steps.close(descriptor)
    raise StorageIOError(f"{shown(key)} is replaced faster than it can be read: try again", retryable=True)


def _open_object(parent: int, name: str, key: str) -> int | None:
    try:
        return steps.open_file(parent, name)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a symbolic link; a socket
            raise failures.link_refused(key) from error
        raise


def _sidecar(parent: int, name: str) -> bytes | None:
    try:
        descriptor = steps.open_file(parent, name + SIDECAR_SUFFIX)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise failures.link_refused(name + SIDECAR_SUFFIX) from error
        raise
    try:
        found = steps.status(descriptor)
        if not steps.is_regular(found):
            raise failures.link_refused(name + SIDECAR_SUFFIX)
        if found.st_size > MAX_SIDECAR_BYTES:
            return b""  # which is no record either
        pieces: list[bytes] = []
        while data := steps.read(descriptor, READ_SIZE):
            pieces.append(data)
        return b"".join(pieces)
    finally:
        steps.close(descriptor)


def _stands(parent: int, name: str, found: os.stat_result) -> bool:
    try:
        there = steps.status_at(parent, name)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
