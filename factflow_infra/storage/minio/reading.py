"""Getting an object: whole, or as a stream that goes on where the connection broke."""

from __future__ import annotations

import hashlib
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import CorruptObjectError, StorageIOError, StorageUnreachableError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.minio.calls import lost_sidecar
from factflow_infra.storage.minio.envelope import version_of
from factflow_infra.storage.minio.failures import BrokenBodyError, RequestError, code_of
from factflow_infra.storage.objects import StoredObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.response import StreamingBody

    from factflow_infra.storage.metadata import Record
    from factflow_infra.storage.minio.calls import Calls
    from factflow_infra.storage.minio.envelope import Version
    from factflow_infra.storage.objects import ObjectInfo


@dataclass(frozen=True, slots=True)
class Opened:
    """A version that is too large to be read in one go: its content is to be read from ``body``, or in ranges."""

    body: StreamingBody
    version: Version
    record: Record | None

    def stored(self, key: str, data: bytes, sha256: str) -> StoredObject:
        """What ``get`` gives of it. Raises ``CorruptObjectError``."""
        return _stored(key, self.version, self.record, data, sha256)


class OverwrittenError(Exception):
    """The key holds another version by now."""


def get(calls: Calls, key: str, large: int) -> StoredObject | Opened:
    """The content and the info of one version, from one GET; verified. Longer than ``large``: open, and not read.

    Content that does not match its checksum is asked for once more: it may have been damaged on its way.
    """
    attempt = 0
    doubted = False
    while True:
        attempt += 1
        body, version = open_range(calls, key, 0, None)
        try:
            with ExitStack() as stack:
                stack.callback(body.close)
                whole = version.size <= large
                data = body.read() if whole else b""
                found, record = calls.resolve(key, version)
                if found and not whole:
                    stack.pop_all()
                    return Opened(body, version, record)
        except BrokenBodyError as error:
            if attempt >= calls.max_attempts:
                raise broken(key, error) from error
            calls.pause(attempt)
            continue
        if not found:
            if attempt >= calls.max_attempts:
                raise lost_sidecar(key)
            continue
        try:
            return _stored(key, version, record, data, hashlib.sha256(data).hexdigest())
        except CorruptObjectError:
            if doubted:
                raise
            doubted = True


def _stored(key: str, version: Version, record: Record | None, data: bytes, sha256: str) -> StoredObject:
    _verify(key, record, len(data), sha256)
    info = version.info(key, record)
    if record is None:  # not ours: now that its content is here, so is its checksum
        info = replace(info, checksum=f"sha256:{sha256}")
    return StoredObject(data, info)


class Download:
    """A stream of one version. ``read`` blocks, one call at a time; ``close`` does not block, and may come in between."""

    def __init__(self, calls: Calls, key: str, start: int, end: int | None) -> None:
        self._calls = calls
        self._key = key
        self._position = start
        self._end = end
        self._lock = threading.Lock()
        self._closed = False
        self._body: StreamingBody | None = None
        self._version: Version | None = None
        self._record: Record | None = None
        self._hash = hashlib.sha256() if start == 0 else None

    def open(self) -> ObjectInfo:
        """What the version is that ``read`` will give. Raises ``ObjectNotFoundError``."""
        with self._lock:
            self._begin()
            assert self._version is not None
            return self._version.info(self._key, self._record)

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end, none behind it. What was read whole is verified there."""
        with self._lock:
            try:
                data = self._read(size)
            except BaseException:
                self._closed = True
                raise
            finally:
                if self._closed:
                    self._release()
        return data

    def close(self) -> None:
        self._closed = True
        if self._lock.acquire(blocking=False):  # else the reader closes it when it has done
            try:
                self._release()
            finally:
                self._lock.release()

    def _read(self, size: int) -> bytes:
        attempt = 0
        pieces: list[bytes] = []
        missing = size
        while missing:
            attempt += 1
            try:
                if self._body is None and not self._begin():
                    break
                assert self._body is not None
                while missing:
                    piece = self._body.read(missing)
                    if not piece:
                        break
                    pieces.append(piece)
                    missing -= len(piece)
                    self._position += len(piece)
                break
            except BrokenBodyError as error:
                self._release()
                if attempt >= self._calls.max_attempts:
                    raise broken(self._key, error) from error
                self._calls.pause(attempt)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._account(data, at_end=missing > 0)
        return data

    def _begin(self) -> bool:
        """Open the body at the position; not, if nothing lies there."""
        first = self._version is None
        for _ in range(self._calls.max_attempts):
            if not first and self._version is not None and self._position >= self._stop(self._version):
                return False
            if self._end is not None and self._position >= self._end:
                self._version, self._record = self._calls.current(self._key)
                return False
            try:
                body, version = open_range(self._calls, self._key, self._position, self._end)
            except EmptyRangeError as error:
                if not first:  # there were bytes at this position, and the version that stands there now is shorter
                    raise overwritten(self._key) from error.__cause__
                self._version, self._record = self._calls.current(self._key)
                return False
            if not first:
                if self._version is None or not version.same_as(self._version):
                    body.close()
                    raise overwritten(self._key)
                self._body = body
                return True
            try:
                found, record = self._calls.resolve(self._key, version)
            except BaseException:
                body.close()
                raise
            if found:
                self._body, self._version, self._record = body, version, record
                return True
            body.close()
        raise lost_sidecar(self._key)

    def _stop(self, version: Version) -> int:
        return version.size if self._end is None else min(self._end, version.size)

    def _account(self, data: bytes, *, at_end: bool) -> None:
        if self._hash is None or self._version is None:
            return
        self._hash.update(data)
        whole = self._end is None or self._end >= self._version.size
        if whole and (at_end or self._position >= self._version.size):
            _verify(self._key, self._record, self._position, self._hash.hexdigest())

    def _release(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


class EmptyRangeError(Exception):
    """The range begins at or behind the end."""


def open_range(calls: Calls, key: str, start: int, end: int | None) -> tuple[StreamingBody, Version]:
    arguments: dict[str, Any] = {}
    if start or end is not None:
        arguments["Range"] = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
    try:
        answer = calls.client.get_object(Bucket=calls.bucket, Key=calls.layout.object(key), **arguments)
    except RequestError as error:
        if code_of(error) in {"InvalidRange", "416"}:
            raise EmptyRangeError from error
        raise calls.error(error, key) from error
    return answer["Body"], version_of(key, cast("Mapping[str, Any]", answer))


def _verify(key: str, record: Record | None, size: int, sha256: str) -> None:
    if record is None:
        return
    if size != record.size:
        raise CorruptObjectError(f"object {shown(key)}: {size} bytes came, {record.size} were written")
    if record.checksum != f"sha256:{sha256}":
        raise CorruptObjectError(f"object {shown(key)}: its content does not match the checksum {record.checksum}")


def overwritten(key: str) -> StorageIOError:
    return StorageIOError(
        f"object {shown(key)} was overwritten while it was streamed, and the connection broke: "
        "stream it again from the start",
        retryable=True,
    )


def broken(key: str, error: BaseException) -> StorageUnreachableError:
    return StorageUnreachableError(f"object {shown(key)}: the connection broke each time it was read: {error}")
