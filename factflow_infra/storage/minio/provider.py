"""``MinioStorageProvider``: the storage contract, S1-S10, on S3, MinIO and what speaks their protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from factflow_infra.errors import InvalidObjectError, PreconditionFailedError, StorageIOError
from factflow_infra.protocols import DEFAULT_CHUNK_SIZE
from factflow_infra.storage.keys import shown, validate_position, validate_prefix
from factflow_infra.storage.metadata import (
    validate_age,
    validate_conditions,
    validate_content_type,
    validate_metadata,
    validate_page,
    validate_range,
)
from factflow_infra.storage.minio import leftovers, listing, ranges, streaming, writing
from factflow_infra.storage.minio.calls import Calls
from factflow_infra.storage.minio.client import make_client, prepare
from factflow_infra.storage.minio.conditions import Condition, Conditions
from factflow_infra.storage.minio.download import Download
from factflow_infra.storage.minio.failures import RequestError
from factflow_infra.storage.minio.layout import Layout
from factflow_infra.storage.minio.multipart import MultipartUpload, gather, slices
from factflow_infra.storage.minio.options import MAX_PART_SIZE, MAX_PARTS, S3Options
from factflow_infra.storage.minio.pool import Token, WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType
    from typing import Concatenate, ParamSpec, Self

    from mypy_boto3_s3 import S3Client

    from factflow_infra.storage.objects import Metadata, ObjectInfo, ObjectPage, StoredObject

    P = ParamSpec("P")

T = TypeVar("T")

MAX_PRESIGN_SECONDS = 7 * 24 * 3600
_PRESIGNED = {"GET": "get_object", "PUT": "put_object", "HEAD": "head_object", "DELETE": "delete_object"}


class MinioStorageProvider:
    """Objects in ``bucket``, below ``prefix`` where one is given. ``StorageProtocol`` says what each method promises.

    Nothing is sent before the first call. Conditions (``if_absent``, ``if_match``) are the server's, and are tried out on a
    hidden key before they are first relied on; a server that ignores one gets ``UnsupportedOperationError``. ``created_at``
    survives overwriting as long as the writers do not race. An object that something else has put there can be read: its
    ``checksum`` is empty until ``get`` has computed it, its ``metadata`` is S3's. Ranges that leave something out are not
    verified against the checksum, which is that of the whole.

    ``client``: a boto3 S3 client to use in place of one made from ``options``; it is not closed, and gets a handler that
    keeps it from repeating writes blindly.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        options: S3Options | None = None,
        client: S3Client | None = None,
    ) -> None:
        self._layout = Layout.of(bucket, prefix)
        self._options = options or S3Options()
        self._given = client
        self._calls: Calls | None = None
        self._connecting: asyncio.Lock | None = None
        self._pool = WorkerPool(self._options.max_concurrency)
        self._turns = streaming.Turns()
        self._conditions = Conditions(self._pool)

    def __repr__(self) -> str:
        endpoint = "" if self._options.endpoint_url is None else f", endpoint={self._options.endpoint_url!r}"
        return f"{type(self).__name__}({self._layout.bucket!r}, prefix={self._layout.root!r}{endpoint})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def write(
        self,
        key: str,
        data: bytes | AsyncIterable[bytes],
        metadata: Metadata | None = None,
        *,
        content_type: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> ObjectInfo:
        self._layout.object(key)
        plain = validate_metadata(metadata)
        kind = validate_content_type(content_type)
        validate_conditions(if_absent=if_absent, if_match=if_match)
        with self._pool.operation():
            if isinstance(data, (bytes, bytearray, memoryview)):
                return await self._write_bytes(key, bytes(data), plain, kind, if_absent, if_match)
            if not isinstance(cast("object", data), AsyncIterable):
                hint = ": encode it first" if isinstance(data, str) else ""
                raise InvalidObjectError(
                    f"data must be bytes or an asynchronous iterable of bytes, not {type(data).__name__}{hint}"
                )
            return await self._write_stream(key, data, plain, kind, if_absent, if_match)

    async def get(self, key: str) -> StoredObject:
        self._layout.object(key)
        with self._pool.operation():
            return await ranges.get(
                self._pool,
                await self._connected(),
                key,
                large=self._options.multipart_threshold,
                size=self._options.part_size,
                parallel=self._options.max_concurrency,
            )

    async def read(self, key: str) -> bytes:
        return (await self.get(key)).data

    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None, chunk_size: int = DEFAULT_CHUNK_SIZE
    ) -> AsyncIterator[bytes]:
        """The content from ``start`` to before ``end``, in pieces of ``chunk_size`` bytes but for the last; one version.

        Where the connection breaks it goes on behind the last byte; ``StorageIOError`` (retryable) if the object has been
        overwritten by then. What is streamed whole is verified, and ``CorruptObjectError`` comes in place of the end.
        """
        self._layout.object(key)
        validate_range(start, end, chunk_size)
        async with aclosing(
            streaming.stream(self._pool, self._turns, self._connected, key, start, end, chunk_size)
        ) as pieces:
            async for piece in pieces:
                yield piece

    async def stat(self, key: str) -> ObjectInfo:
        self._layout.object(key)
        with self._pool.operation():
            version, record = await self._run(Calls.current, key)
            return version.info(key, record)

    async def exists(self, key: str) -> bool:
        self._layout.object(key)
        with self._pool.operation():
            return await self._run(_exists, key)

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        validate_prefix(prefix)
        position: str | None = ""
        while position is not None:
            with self._pool.operation():
                found = await self._run(listing.chunk, prefix, None, listing.PAGE_KEYS, position)
            for entry in found.entries:
                yield entry.name
            position = found.position

    async def list_page(
        self, prefix: str = "", *, delimiter: str | None = None, limit: int = 1000, after: str | None = None
    ) -> ObjectPage:
        validate_prefix(prefix)
        validate_position(after)
        validate_page(delimiter, limit)
        with self._pool.operation():
            return await self._run(listing.page, prefix, delimiter, limit, after)

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """Copy content and metadata of one version, on the server where it can do that and hold to the version."""
        self._layout.object(source)
        self._layout.object(target)
        with self._pool.operation():
            calls = await self._connected()
            for _ in range(self._options.max_attempts):
                version, record = await self._run(Calls.current, source)
                if record is None or version.size > MAX_PART_SIZE:
                    return await self._copy_through(source, target)
                support = await self._conditions.support(calls, Condition.COPY_SOURCE_MATCH)
                if not support.honoured:
                    return await self._copy_through(source, target)
                token, etag = Token(), support.etag(version.etag)
                try:
                    return await self._pool.run(
                        token, writing.copy, calls, token, source, target, version, record, etag
                    )
                except PreconditionFailedError:
                    continue  # the source has been overwritten since
            raise StorageIOError(
                f"object {shown(source)} was overwritten each time it was to be copied; nothing was changed",
                retryable=True,
            )

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._layout.object(key)
        validate_conditions(if_absent=False, if_match=if_match)
        with self._pool.operation():
            calls = await self._connected()
            etag = None
            if if_match is not None:
                etag = (await self._conditions.require(calls, Condition.DELETE_MATCH)).etag(if_match)
            token = Token()
            await self._pool.run(token, writing.delete, calls, token, key, etag)

    async def presign(
        self, key: str, *, expires_seconds: int = 3600, method: Literal["GET", "PUT", "HEAD", "DELETE"] = "GET"
    ) -> str:
        """A URL that lets anyone who has it do ``method`` with the object for ``expires_seconds``, at most seven days.

        It is a secret while it lasts. An object that is put through one has no record: no checksum, S3's metadata.
        """
        self._layout.object(key)
        if not isinstance(cast("object", method), str) or method not in _PRESIGNED:
            raise InvalidObjectError(f"method must be one of {', '.join(_PRESIGNED)}, not {shown(method)}")
        whole = isinstance(cast("object", expires_seconds), int) and not isinstance(expires_seconds, bool)
        if not whole or not 0 < expires_seconds <= MAX_PRESIGN_SECONDS:
            raise InvalidObjectError(
                f"expires_seconds must be a whole number from 1 to {MAX_PRESIGN_SECONDS}, not {shown(expires_seconds)}"
            )
        with self._pool.operation():
            return await self._run(_presign, key, _PRESIGNED[method], expires_seconds)

    async def remove_leftovers(self, *, older_than: float) -> int:
        """Remove what processes that died left behind and that has not changed for ``older_than`` seconds; how many things.

        Unfinished uploads below this provider's prefix, whoever began them, unless a part came since; and hidden objects
        that are no longer needed. None is ever listed or read. Choose an age that no live write reaches between two of its
        requests: an hour is a good one.
        """
        validate_age(older_than)
        with self._pool.operation():
            return await self._run(leftovers.remove, older_than)

    async def close(self) -> None:
        await self._pool.close()
        calls, self._calls = self._calls, None
        if calls is not None and self._given is None:
            calls.client.close()

    async def _connected(self) -> Calls:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        if self._calls is None:
            async with self._connecting:
                if self._calls is None:
                    self._calls = await self._pool.run(Token(), self._connect)
        return self._calls

    def _connect(self) -> Calls:
        client = self._given
        if client is None:
            client = make_client(self._options)
        else:
            prepare(client)
        return Calls(client, self._layout, self._options.max_attempts)

    async def _run(self, function: Callable[Concatenate[Calls, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._pool.run(Token(), function, await self._connected(), *args, **kwargs)

    async def _terms(self, if_absent: bool, if_match: str | None, *, parts: bool) -> writing.Terms:
        calls = await self._connected()
        if if_absent:
            await self._conditions.require(calls, Condition.COMPLETE_ABSENT if parts else Condition.PUT_ABSENT)
            return writing.Terms(if_absent=True)
        if if_match is not None:
            condition = Condition.COMPLETE_MATCH if parts else Condition.PUT_MATCH
            return writing.Terms(if_match=(await self._conditions.require(calls, condition)).etag(if_match))
        return writing.Terms()

    async def _write_bytes(
        self, key: str, data: bytes, metadata: dict[str, Any], content_type: str, if_absent: bool, if_match: str | None
    ) -> ObjectInfo:
        conditional = if_absent or if_match is not None
        # Fewer servers honour conditions on parts than on a put, so these go up in one request as long as S3 takes it.
        if len(data) > (MAX_PART_SIZE if conditional else self._options.multipart_threshold):
            size = max(self._options.part_size, -(-len(data) // MAX_PARTS))
            pieces = slices(data, size)
            return await self._write_parts(key, pieces, metadata, content_type, if_absent, if_match)
        terms = await self._terms(if_absent, if_match, parts=False)
        token = Token()
        calls = await self._connected()
        return await self._pool.run(token, writing.put, calls, token, key, data, content_type, metadata, terms)

    async def _write_stream(
        self,
        key: str,
        data: AsyncIterable[bytes],
        metadata: dict[str, Any],
        content_type: str,
        if_absent: bool,
        if_match: str | None,
    ) -> ObjectInfo:
        async with aclosing(gather(data, self._options.part_size)) as pieces:
            first = await anext(pieces)
            second = await anext(pieces, None)
            if second is None:
                return await self._write_bytes(key, first, metadata, content_type, if_absent, if_match)

            async def all_pieces() -> AsyncIterator[bytes]:
                yield first
                yield second
                async for piece in pieces:
                    yield piece

            return await self._write_parts(key, all_pieces(), metadata, content_type, if_absent, if_match)

    async def _write_parts(
        self,
        key: str,
        pieces: AsyncIterator[bytes] | AsyncIterator[memoryview],
        metadata: dict[str, Any],
        content_type: str,
        if_absent: bool,
        if_match: str | None,
    ) -> ObjectInfo:
        terms = await self._terms(if_absent, if_match, parts=True)
        upload = MultipartUpload(self._pool, await self._connected(), key, content_type, self._options.max_concurrency)
        try:
            await upload.begin()
            async for piece in pieces:
                await upload.add(piece)
            return await upload.complete(metadata, terms)
        except Exception:
            await asyncio.wait([self._pool.spawn(upload.abandon())])
            raise
        except BaseException:  # cancelled: the caller goes now, ``close`` waits for the rest
            self._pool.spawn(upload.abandon())
            raise

    async def _copy_through(self, source: str, target: str) -> ObjectInfo:
        """Copy by reading and writing: for objects that are not ours or too large, and servers that ignore the version."""
        download = Download(await self._connected(), source, 0, None)
        try:
            info = await self._pool.run(Token(), download.open)
            pieces = self._pieces(download, self._options.part_size)
            return await self._write_stream(target, pieces, dict(info.metadata), info.content_type, False, None)
        finally:
            download.close()

    async def _pieces(self, download: Download, size: int) -> AsyncIterator[bytes]:
        while piece := await self._pool.run(Token(), download.read, size):
            yield piece


def _exists(calls: Calls, key: str) -> bool:
    if calls.head(key) is not None:
        return True
    calls.check_bucket()
    return False


def _presign(calls: Calls, key: str, operation: str, expires_seconds: int) -> str:
    try:
        return calls.client.generate_presigned_url(
            operation,
            Params={"Bucket": calls.bucket, "Key": calls.layout.object(key)},
            ExpiresIn=expires_seconds,
        )
    except RequestError as error:
        raise calls.error(error, key) from error
