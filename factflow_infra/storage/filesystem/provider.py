"""``FilesystemStorageProvider``: the storage contract on a folder."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar, cast, runtime_checkable

from factflow_infra.errors import InvalidObjectError, SettingsError
from factflow_infra.protocols import DEFAULT_CHUNK_SIZE
from factflow_infra.storage.filesystem import changes, failures, leftovers, listing, locks, reads, steps
from factflow_infra.storage.filesystem.changes import Terms, Upload
from factflow_infra.storage.filesystem.tree import Tree, check_names
from factflow_infra.storage.filesystem.workers import Workers
from factflow_infra.storage.keys import shown, validate_key, validate_position, validate_prefix
from factflow_infra.storage.metadata import (
    validate_age,
    validate_conditions,
    validate_content_type,
    validate_metadata,
    validate_page,
    validate_range,
)
from factflow_infra.storage.objects import ObjectInfo, ObjectPage, StoredObject

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from types import TracebackType
    from typing import Self

    from factflow_infra.storage.metadata import Record
    from factflow_infra.storage.objects import Metadata

T = TypeVar("T")

_LIST_BATCH = 1000
LARGE = 256 * 1024
"""Bytes from which computing the checksum beside the disk's work is worth two more jobs."""
_BYTES = (bytes, bytearray, memoryview)


@runtime_checkable
class _Closable(Protocol):
    async def aclose(self) -> None: ...


class FilesystemStorageProvider:
    """Objects as plain files below ``root``, each with its sidecar ``<object>.meta.json`` (S1-S10).

    ``root``: the folder; relative paths are taken from the current folder now. ``create_root``: make it, on first use, if
    it is missing; else that is ``BucketNotFoundError``. ``max_concurrency``: jobs at once in the loop's default executor.

    Any number of providers and processes may use one root at once, on a filesystem with POSIX renames and ``flock``. Calls
    of one provider that wait for a key are served in order, with no thread held meanwhile. Of
    ``a`` and ``a/b`` only one can be an object (``KeyConflictError``); a segment has at most 255 UTF-8 bytes, the last one
    245. Files that other tools put there, without a sidecar, are objects with empty metadata.
    """

    def __init__(self, root: str | os.PathLike[str], *, create_root: bool = False, max_concurrency: int = 16) -> None:
        if (
            not isinstance(cast("object", max_concurrency), int)
            or isinstance(max_concurrency, bool)
            or max_concurrency < 1
        ):
            raise SettingsError(f"max_concurrency must be a whole number from 1, not {shown(max_concurrency)}")
        try:
            path = steps.absolute(root)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"the root must be the path of a folder, not {shown(root)}: {error}") from error
        self._tree = Tree(path)
        self._create_root = create_root
        self._workers = Workers(max_concurrency)

    def __repr__(self) -> str:
        return f"FilesystemStorageProvider({self._tree.root!r})"

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
        """Store ``data`` under ``key``; once this returns, it survives a power loss.

        Raises ``PreconditionFailedError``, ``KeyConflictError``, ``WriteUnconfirmedError`` (made, but perhaps not durable),
        and the errors of the disk; whatever an iterator raises, with nothing written.
        """
        self._check(key)
        validate_conditions(if_absent=if_absent, if_match=if_match)
        terms = Terms(
            content_type=validate_content_type(content_type),
            metadata=validate_metadata(metadata),
            if_absent=if_absent,
            if_match=if_match,
        )
        whole = _whole(data)
        with self._workers.operation():
            if whole is None:
                record = await self._write_stream(key, cast("AsyncIterable[bytes]", data), terms)
            else:
                record = await self._write_whole(key, whole, terms)
        return record.info(key)

    async def get(self, key: str) -> StoredObject:
        """The content and the info of one version. ``ObjectNotFoundError``, ``CorruptObjectError``."""
        self._check(key)
        with self._workers.operation():
            data, record = await self._run("read", key, lambda tree, abandoned: reads.get(tree, key, abandoned))
        return StoredObject(data, record.info(key))

    async def read(self, key: str) -> bytes:
        return (await self.get(key)).data

    def stream(
        self, key: str, *, start: int = 0, end: int | None = None, chunk_size: int = DEFAULT_CHUNK_SIZE
    ) -> AsyncIterator[bytes]:
        """The bytes from ``start`` up to, not including, ``end``, as a slice would cut them, in pieces of ``chunk_size``.

        All of one version. Read as a whole it is checked before its last piece; a part of an object cannot be.
        """
        self._check(key)
        validate_range(start, end, chunk_size)
        return self._stream(key, start, end, chunk_size)

    async def stat(self, key: str) -> ObjectInfo:
        """What is known of the object. Reads its content only where the sidecar cannot tell whose it is."""
        self._check(key)
        with self._workers.operation():
            record = await self._run("stat", key, lambda tree, _: reads.stat(tree, key))
        return record.info(key)

    async def exists(self, key: str) -> bool:
        self._check(key)
        with self._workers.operation():
            return await self._run("stat", key, lambda tree, _: reads.exists(tree, key))

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """The keys that begin with ``prefix``, in UTF-8 byte order, in constant memory."""
        return self._list(validate_prefix(prefix))

    async def list_page(
        self, prefix: str = "", *, delimiter: str | None = None, limit: int = 1000, after: str | None = None
    ) -> ObjectPage:
        """At most ``limit`` keys and common prefixes, those after ``after``."""
        validate_prefix(prefix)
        validate_position(after)
        validate_page(delimiter, limit)
        with self._workers.operation():
            return await self._run("list", prefix, lambda tree, _: listing.page(tree, prefix, delimiter, limit, after))

    async def copy(self, source: str, target: str) -> ObjectInfo:
        """Make ``target`` hold what ``source`` holds, metadata included, all or nothing."""
        self._check(source)
        self._check(target)
        with self._workers.operation():
            async with self._upload(target) as upload:
                record = await self._make(
                    "copy", source, upload, functools.partial(reads.copy, self._tree, source, upload)
                )
        return record.info(target)

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Delete the object, durably. A missing one is no error, but with ``if_match``."""
        self._check(key)
        validate_conditions(if_absent=False, if_match=if_match)
        with self._workers.operation():
            job = functools.partial(
                self._job, "delete", key, functools.partial(changes.delete, key=key, if_match=if_match)
            )
            await self._workers.run_in_turn(locks.stripe(key), job, None)

    async def remove_leftovers(self, *, older_than: float) -> int:
        """Remove what processes that died left behind and that has not changed for ``older_than`` seconds; how many files.

        Temporary files and sidecars without an object: none is ever listed or read. What a living write holds is left alone. For
        a now and then, when the clocks of all who use the root agree to within ``older_than``; an hour is a good age.
        """
        validate_age(older_than)
        with self._workers.operation():
            return await self._run("tidy", "", lambda tree, abandoned: leftovers.remove(tree, older_than, abandoned))

    async def close(self) -> None:
        """Take no more calls, and wait for those that run. Idempotent."""
        await self._workers.close()
        self._tree.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @staticmethod
    def _check(key: str) -> None:
        check_names(validate_key(key))

    async def _run(self, action: str, key: str, job: Callable[[Tree, threading.Event], T]) -> T:
        return await self._workers.run(functools.partial(self._job, action, key, job))

    def _job(self, action: str, key: str, job: Callable[[Tree, threading.Event], T], abandoned: threading.Event) -> T:
        if abandoned.is_set():
            raise locks.AbandonedError
        with failures.explained(action, key):
            if self._create_root:
                self._tree.create_root()
                self._create_root = False
            return job(self._tree, abandoned)

    @asynccontextmanager
    async def _upload(self, key: str) -> AsyncGenerator[Upload, None]:
        """An upload of which nothing stays where it fails."""
        upload = Upload(self._tree, key)
        try:
            yield upload
        except GeneratorExit:
            raise  # the loop is gone, and nothing can be awaited: the temporary file stays, and is never listed
        except BaseException:
            if upload.is_open:
                await self._workers.run_to_end(lambda _: upload.discard())
            raise

    async def _make(self, action: str, key: str, upload: Upload, bring: Callable[[threading.Event], Terms]) -> Record:
        job = functools.partial(self._job, action, key, lambda _, abandoned: upload.make(bring, abandoned))
        ready = functools.partial(self._job, action, key, lambda _, abandoned: upload.prepare(bring, abandoned))
        return await self._workers.run_in_turn(locks.stripe(upload.key), job, None if upload.is_synced else ready)

    async def _write_whole(self, key: str, data: bytes, terms: Terms) -> Record:
        async with self._upload(key) as upload:
            if len(data) < LARGE:
                return await self._make("write", key, upload, functools.partial(_bring, upload, data, terms))
            # The checksum is computed while the disk takes the bytes. Both must have ended before anything is discarded: a job
            # that is still writing would write to a descriptor that is closed, or is another file's by then. So a failure, or a
            # cancellation, of one waits for the other.
            results = await asyncio.gather(
                self._run("write", key, lambda _tree, _abandoned: upload.put_whole(data)),
                self._run("write", key, lambda _tree, _abandoned: upload.digest_whole(data)),
                return_exceptions=True,
            )
            _raise_first(results)
            return await self._make("write", key, upload, lambda _: terms)

    async def _write_stream(self, key: str, data: AsyncIterable[bytes], terms: Terms) -> Record:
        waiting: list[bytes] = []
        size = 0
        try:
            async with self._upload(key) as upload:
                async for piece in data:
                    waiting.append(_piece(piece))
                    size += len(waiting[-1])
                    if size >= DEFAULT_CHUNK_SIZE:
                        whole, waiting, size = b"".join(waiting), [], 0
                        await self._run("write", key, functools.partial(_append, upload=upload, data=whole))
                return await self._make(
                    "write", key, upload, functools.partial(_bring, upload, b"".join(waiting), terms)
                )
        except GeneratorExit:
            raise
        except BaseException:
            if isinstance(data, _Closable):
                await data.aclose()
            raise

    async def _stream(self, key: str, start: int, end: int | None, chunk_size: int) -> AsyncIterator[bytes]:
        download = reads.Download(key, start, end)
        try:
            while True:
                with self._workers.operation():
                    piece = await self._run("read", key, lambda tree, _: download.next(tree, chunk_size))
                if not piece:
                    return
                yield piece
        finally:
            download.close()

    async def _list(self, prefix: str) -> AsyncIterator[str]:
        walk = listing.Walk(self._tree, prefix)
        while True:
            with self._workers.operation():
                keys = await self._run("list", prefix, lambda _tree, _abandoned: walk.take(_LIST_BATCH))
            for key in keys:
                yield key
            if len(keys) < _LIST_BATCH:
                return


def _append(_tree: Tree, abandoned: threading.Event, *, upload: Upload, data: bytes) -> None:
    if not abandoned.is_set():
        upload.append(data)


def _bring(upload: Upload, data: bytes, terms: Terms, _abandoned: threading.Event) -> Terms:
    upload.append(data)
    return terms


def _raise_first(results: tuple[BaseException | None, ...]) -> None:
    for result in results:
        if result is not None:
            raise result


def _whole(data: object) -> bytes | None:
    """``data`` as bytes that nobody changes any more; ``None`` for an asynchronous iterable."""
    if isinstance(data, _BYTES):
        return bytes(cast("bytes", data))
    if isinstance(data, AsyncIterable):
        return None
    hint = ": encode it first" if isinstance(data, str) else ""
    raise InvalidObjectError(
        f"data must be bytes or an asynchronous iterable of bytes, not {type(data).__name__}{hint}"
    )


def _piece(piece: object) -> bytes:
    if isinstance(piece, _BYTES):
        return bytes(cast("bytes", piece))
    raise InvalidObjectError(f"an iterator of data must give bytes, not {type(piece).__name__}")
