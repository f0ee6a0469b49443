"""Uploads in parts: constant memory, and nothing left behind by one that does not come to its end.

S3 wants an object's metadata when the upload begins, and the checksum of a stream is known when it ends. S3's own checksums
do not help: a whole-object SHA-256 does not exist for parts, and older servers know none. Setting it afterwards by a copy
onto itself would show the object without it for a time. So the record is always a sidecar here (``envelope``): its name goes
in at the beginning, it is put once the last byte is known, and only then are the parts completed.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from factflow_infra.errors import InvalidObjectError, WriteUnconfirmedError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.minio import writing
from factflow_infra.storage.minio.envelope import referring_metadata
from factflow_infra.storage.minio.failures import RequestError, is_garbled
from factflow_infra.storage.minio.options import MAX_PARTS
from factflow_infra.storage.minio.pool import Token
from factflow_infra.storage.minio.signing import Content

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

    from factflow_infra.storage.minio.calls import Calls
    from factflow_infra.storage.minio.pool import WorkerPool
    from factflow_infra.storage.objects import ObjectInfo

MAX_PARALLEL = 4
"""Parts of one upload on their way at once; with the one that is being gathered, what a stream takes of memory."""


async def gather(data: AsyncIterable[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """``data`` in pieces of exactly ``size`` bytes, but for the last; at least one, which may be empty."""
    buffer = bytearray()
    given = False
    async for chunk in data:
        if not isinstance(cast("object", chunk), (bytes, bytearray, memoryview)):
            raise InvalidObjectError(f"the stream to write gave {shown(chunk)}, a {type(chunk).__name__}, not bytes")
        buffer += chunk
        while len(buffer) > size:  # not >=: the last piece is known to be the last
            given = True
            yield bytes(memoryview(buffer)[:size])
            del buffer[:size]
    if buffer or not given:
        yield bytes(buffer)


async def slices(data: bytes, size: int) -> AsyncIterator[memoryview]:
    """The same for content that is in memory already, without copying it."""
    view = memoryview(data)
    for start in range(0, len(data), size):
        yield view[start : start + size]


class MultipartUpload:
    """One upload: ``add`` parts, then ``complete``; or ``abandon`` it."""

    def __init__(self, pool: WorkerPool, calls: Calls, key: str, content_type: str, parallel: int) -> None:
        self._pool = pool
        self._calls = calls
        self._key = key
        self._content_type = content_type
        self._parallel = min(parallel, MAX_PARALLEL)
        self._token = Token()
        self._write_id = uuid4().hex
        self._upload_id: str | None = None
        self._creating: asyncio.Future[str] | None = None
        self._running: list[asyncio.Future[dict[str, Any]]] = []
        self._parts: list[dict[str, Any]] = []
        self._count = 0
        self._hash = hashlib.sha256()
        self._hashing: asyncio.Future[None] | None = None
        self._size = 0
        self._completing: asyncio.Future[ObjectInfo] | None = None

    async def begin(self) -> None:
        self._creating = self._pool.start(self._create)
        await asyncio.wait([self._creating])
        self._upload_id = self._creating.result()

    async def add(self, part: bytes | memoryview) -> None:
        """Send a part as soon as fewer than the limit are on their way. Raises what an earlier one has met."""
        self._count += 1
        if self._count > MAX_PARTS:
            raise InvalidObjectError(
                f"object {shown(self._key)}: more than {MAX_PARTS} parts: set a part_size above {len(part)} bytes"
            )
        self._size += len(part)
        await self._hashed()
        self._hashing = self._pool.start(self._hash.update, part)  # in order, while the part is on its way
        while len(self._running) >= self._parallel:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self._collect()
        self._collect()
        self._running.append(self._pool.start(self._send, self._count, part))

    async def complete(self, metadata: dict[str, Any], terms: writing.Terms) -> ObjectInfo:
        while self._running:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self._collect()
        await self._hashed()
        assert self._upload_id is not None
        upload = writing.Upload(
            upload_id=self._upload_id,
            write_id=self._write_id,
            parts=sorted(self._parts, key=lambda part: part["PartNumber"]),
            size=self._size,
            sha256=self._hash.hexdigest(),
        )
        self._completing = self._pool.start(
            writing.complete, self._calls, self._token, self._key, upload, self._content_type, metadata, terms
        )
        await asyncio.wait([self._completing])
        return self._completing.result()

    async def abandon(self) -> None:
        """Have the server forget the parts, unless they may have become the object.

        Waits for what is on its way: a part that arrives after the abort would stay for ever.
        """
        self._token.drop()
        jobs: list[asyncio.Future[Any]] = [*self._running]
        jobs += [job for job in (self._creating, self._completing) if job is not None]
        if jobs:
            await asyncio.wait(jobs)
        if self._creating is None or self._creating.exception() is not None:
            return
        if self._completing is not None:
            error = self._completing.exception()
            if error is None or isinstance(error, WriteUnconfirmedError):
                return
        job = self._pool.start(self._abort, self._creating.result())
        await asyncio.wait([job])
        job.result()

    async def _hashed(self) -> None:
        if self._hashing is not None:
            await asyncio.wait([self._hashing])
            self._hashing.result()

    def _collect(self) -> None:
        done = [job for job in self._running if job.done()]
        self._running = [job for job in self._running if not job.done()]
        self._parts += [job.result() for job in done]

    def _create(self) -> str:
        try:
            return self._calls.client.create_multipart_upload(
                Bucket=self._calls.bucket,
                Key=self._calls.layout.object(self._key),
                ContentType=self._content_type,
                Metadata=referring_metadata(self._write_id, self._calls.layout.root),
            )["UploadId"]
        except RequestError as error:
            raise self._calls.error(error, self._key) from error

    def _send(self, number: int, part: bytes | memoryview) -> dict[str, Any]:
        assert self._upload_id is not None
        attempt = 0
        while True:
            attempt += 1
            self._token.check()
            try:
                answer = self._calls.client.upload_part(
                    Bucket=self._calls.bucket,
                    Key=self._calls.layout.object(self._key),
                    UploadId=self._upload_id,
                    PartNumber=number,
                    Body=Content(bytes(part)),
                )
            except RequestError as error:
                if not is_garbled(error) or attempt >= self._calls.max_attempts:
                    raise self._calls.error(error, self._key) from error
                self._calls.pause(attempt)
            else:
                return {"PartNumber": number, "ETag": answer["ETag"]}

    def _abort(self, upload_id: str) -> None:
        try:
            self._calls.client.abort_multipart_upload(
                Bucket=self._calls.bucket, Key=self._calls.layout.object(self._key), UploadId=upload_id
            )
        except RequestError as error:
            raise self._calls.error(error, self._key) from error
