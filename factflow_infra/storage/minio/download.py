"""Reading an object on and on, on a thread: it goes on where the connection broke, and gives one version."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from factflow_infra.storage.minio import reading
from factflow_infra.storage.minio.calls import lost_sidecar
from factflow_infra.storage.minio.failures import BrokenBodyError
from factflow_infra.storage.minio.pool import AbandonedError

if TYPE_CHECKING:
    from botocore.response import StreamingBody

    from factflow_infra.storage.metadata import Record
    from factflow_infra.storage.minio.calls import Calls
    from factflow_infra.storage.minio.envelope import Version
    from factflow_infra.storage.objects import ObjectInfo


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
        """The next ``size`` bytes, fewer at the end, none behind it. What was read whole is verified there.

        Raises ``AbandonedError`` once it is closed.
        """
        with self._lock:
            if self._closed:
                raise AbandonedError
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
                    raise reading.broken(self._key, error) from error
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
                body, version = reading.open_range(self._calls, self._key, self._position, self._end)
            except reading.EmptyRangeError as error:
                if not first:  # there were bytes at this position, and the version that stands there now is shorter
                    raise reading.overwritten(self._key) from error.__cause__
                self._version, self._record = self._calls.current(self._key)
                return False
            if not first:
                if self._version is None or not version.same_as(self._version):
                    body.close()
                    raise reading.overwritten(self._key)
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
            reading.verify(self._key, self._record, self._position, self._hash.hexdigest())

    def _release(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
