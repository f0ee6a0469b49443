"""Getting a large object in ranges, several at once: S3 limits each connection, and hashing need not wait for the last byte.

All ranges are of one version: each answer says which one it is of. A stream does not come this way, for one connection gives one
version to its end, whatever is written meanwhile, and ranges cannot.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from factflow_infra.errors import CorruptObjectError
from factflow_infra.storage.assembly import Assembly
from factflow_infra.storage.minio import reading
from factflow_infra.storage.minio.failures import BrokenBodyError
from factflow_infra.storage.minio.pool import Token

if TYPE_CHECKING:
    from botocore.response import StreamingBody

    from factflow_infra.storage.minio.calls import Calls
    from factflow_infra.storage.minio.pool import WorkerPool
    from factflow_infra.storage.minio.reading import Opened
    from factflow_infra.storage.objects import StoredObject

MAX_PARALLEL = 4
"""Ranges of one object on their way at once."""
PIECE = 1024 * 1024
"""Bytes read from a connection at a time: what the processor's cache holds until they have been copied."""


async def get(pool: WorkerPool, calls: Calls, key: str, *, large: int, size: int, parallel: int) -> StoredObject:
    """The content and the info of one version; verified. What is longer than ``large`` comes in ranges of ``size`` bytes.

    An object that is overwritten meanwhile is got anew, and so, once, is one that does not match its checksum.
    """
    doubted = False
    for attempt in range(1, calls.max_attempts + 1):
        found = await pool.run(Token(), reading.get, calls, key, large)
        if not isinstance(found, reading.Opened):
            return found
        ranges = _Ranges(pool, calls, key, found, size, min(parallel, MAX_PARALLEL))
        try:
            data, sha256 = await ranges.collect()
        except reading.OverwrittenError as error:
            if attempt == calls.max_attempts:
                raise reading.overwritten(key) from error
            continue
        try:
            return found.stored(key, data, sha256)
        except CorruptObjectError:
            if doubted or attempt == calls.max_attempts:
                raise
            doubted = True
    raise AssertionError("max_attempts is at least 1")


class _Ranges:
    """One version on its way. Its first range is read from the answer that told its size."""

    def __init__(self, pool: WorkerPool, calls: Calls, key: str, opened: Opened, size: int, parallel: int) -> None:
        self._pool = pool
        self._calls = calls
        self._key = key
        self._version = opened.version
        self._body: StreamingBody | None = opened.body
        self._starts = range(0, opened.version.size, size)
        self._size = size
        self._parallel = parallel
        self._token = Token()
        self._assembly = Assembly(opened.version.size)

    async def collect(self) -> tuple[bytes, str]:
        """All bytes, and their SHA-256. Raises ``OverwrittenError``, and our errors of the connection."""
        starts = iter(self._starts)
        running: dict[asyncio.Future[None], int] = {}
        there: dict[int, None] = {}
        hashing: asyncio.Future[None] | None = None
        try:
            while self._assembly.hashed < self._version.size:
                while len(running) < self._parallel and (start := next(starts, None)) is not None:
                    running[self._pool.start(self._fetch, start)] = start
                end = self._assembly.hashed
                while end in there:
                    end = self._end(end)
                if hashing is None and end > self._assembly.hashed:
                    hashing = self._pool.start(self._assembly.hash_to, end)
                jobs: list[asyncio.Future[Any]] = [*running, *([] if hashing is None else [hashing])]
                await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
                for job in [job for job in running if job.done()]:
                    job.result()
                    there[running.pop(job)] = None
                if hashing is not None and hashing.done():
                    hashing.result()
                    hashing = None
        except BaseException:
            self._token.drop()  # the jobs end by themselves, soon, and the pool waits for them
            raise
        return self._assembly.take(), self._assembly.sha256()

    def _end(self, start: int) -> int:
        return min(start + self._size, self._version.size)

    def _fetch(self, start: int) -> None:
        """Put one range in its place; where the connection breaks, go on behind the last byte."""
        body: StreamingBody | None = None
        if start == 0:
            body, self._body = self._body, None
        position, end = start, self._end(start)
        attempt = 0
        while position < end:
            attempt += 1
            try:
                if body is None:
                    body = self._open(position, end)
                with body:
                    while position < end:
                        self._token.check()
                        piece = body.read(min(PIECE, end - position))
                        if not piece:
                            raise OSError("the answer ended before its end")
                        self._assembly.put(position, piece)
                        position += len(piece)
            except BrokenBodyError as error:
                body = None
                if attempt >= self._calls.max_attempts:
                    raise reading.broken(self._key, error) from error
                self._calls.pause(attempt)

    def _open(self, start: int, end: int) -> StreamingBody:
        self._token.check()
        try:
            body, version = reading.open_range(self._calls, self._key, start, end)
        except reading.EmptyRangeError as error:
            raise reading.OverwrittenError from error
        if not version.same_as(self._version):
            body.close()
            raise reading.OverwrittenError
        return body
