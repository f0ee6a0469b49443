"""The recorder of storage: the protocol again, around any provider, that writes the history as a process sees it.

It changes nothing: same arguments, same results, same errors. Beside each operation stands what was asked and told, for the
checkers of ``history.storage_checkers``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar, cast

from factflow_infra.protocols import DEFAULT_CHUNK_SIZE
from factflow_infra_testing.history.operations import OK
from factflow_infra_testing.history.recording import Recorder, name_of, outcome_of
from factflow_infra_testing.history.storage_calls import StorageCall, Value, checksum_of, value_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

    from factflow_infra.protocols import Metadata, ObjectInfo, ObjectPage, StorageProtocol, StoredObject

T = TypeVar("T")


class RecordedStorage:
    """A storage provider whose calls are in the history. ``target`` is its kind, ``store`` tells those of one kind apart."""

    def __init__(self, provider: StorageProtocol, recorder: Recorder, target: str, store: str = "") -> None:
        self.provider = provider
        self._recorder = recorder
        self._target = target
        self._store = store or target

    def __getattr__(self, name: str) -> Any:
        return getattr(self.provider, name)  # what is on the class and not on the protocol, such as presign

    async def _recorded(
        self, kind: str, key: str, request: Awaitable[T], call: StorageCall, told: Callable[[T], None]
    ) -> T:
        recorder = self._recorder
        recorder.busy(f"{kind} {self._target}")
        operation = recorder.history.begin(recorder.time(), recorder.name, kind, self._target, key)
        operation.call = call
        try:
            result = await request
        except BaseException as error:
            recorder.history.finish(operation, recorder.time(), outcome_of(error), name_of(error))
            raise
        told(result)
        recorder.history.finish(operation, recorder.time(), OK)
        return result

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
        call = StorageCall(self._store, absent=bool(if_absent), match=_bare(if_match))
        sent: Any = data
        if isinstance(data, (bytes, bytearray)):
            call.value = _value(checksum_of(bytes(data)), content_type, metadata)
        elif hasattr(data, "__aiter__"):
            call.value = _value("", content_type, metadata)
            sent = _hashed(data, call)
        request = self.provider.write(
            key, sent, metadata, content_type=content_type, if_absent=if_absent, if_match=if_match
        )
        return await self._recorded("write", key, request, call, call.written)

    async def get(self, key: str) -> StoredObject:
        call = StorageCall(self._store)
        return await self._recorded("read", key, self.provider.get(key), call, lambda got: _told_whole(call, got))

    async def read(self, key: str) -> bytes:
        call = StorageCall(self._store)

        def told(data: bytes) -> None:
            call.value = Value(hashlib.sha256(data).hexdigest(), None)

        return await self._recorded("read", key, self.provider.read(key), call, told)

    def stream(
        self, key: str, *, start: int = 0, end: int | None = None, chunk_size: int = DEFAULT_CHUNK_SIZE
    ) -> AsyncIterator[bytes]:
        # Bad input is refused by the call itself, as by the provider's.
        pieces = self.provider.stream(key, start=start, end=end, chunk_size=chunk_size)
        call = StorageCall(self._store)
        digest = hashlib.sha256()
        whole = start == 0 and end is None
        how = "stream" if whole else f"stream [{start}:{'' if end is None else end}]"

        def told() -> None:
            call.value = Value(digest.hexdigest(), None) if whole else Value(None, None)

        return self._iterated(pieces, "read", key, how, call, digest.update, told)

    async def _iterated(
        self,
        items: AsyncIterator[T],
        kind: str,
        key: str,
        detail: str,
        call: StorageCall,
        seen: Callable[[T], None],
        told: Callable[[], None],
    ) -> AsyncIterator[T]:
        recorder = self._recorder
        recorder.busy(f"{kind} {self._target}")
        operation = recorder.history.begin(recorder.time(), recorder.name, kind, self._target, key, detail)
        operation.call = call
        try:
            async for item in items:
                seen(item)
                yield item
        except BaseException as error:
            recorder.history.finish(operation, recorder.time(), outcome_of(error), name_of(error))
            raise
        finally:
            close: Any = getattr(items, "aclose", None)
            if close is not None:
                await close()  # whoever stops half way gives back what the provider holds open
        told()
        recorder.history.finish(operation, recorder.time(), OK, detail)

    async def stat(self, key: str) -> ObjectInfo:
        call = StorageCall(self._store)
        return await self._recorded("stat", key, self.provider.stat(key), call, call.told)

    async def exists(self, key: str) -> bool:
        call = StorageCall(self._store)

        def told(found: bool) -> None:
            call.found = found

        return await self._recorded("stat", key, self.provider.exists(key), call, told)

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        call = StorageCall(self._store)
        names: list[str] = []

        def told() -> None:
            call.names = tuple(names)

        return self._iterated(self.provider.list(prefix), "list", prefix, "", call, names.append, told)

    async def list_page(
        self, prefix: str = "", *, delimiter: str | None = None, limit: int = 1000, after: str | None = None
    ) -> ObjectPage:
        call = StorageCall(self._store, after=after if isinstance(after, str) else "")

        def told(page: ObjectPage) -> None:
            if delimiter is None:
                call.names, call.whole = page.keys, page.next_after is None

        request = self.provider.list_page(prefix, delimiter=delimiter, limit=limit, after=after)
        return await self._recorded("list", prefix, request, call, told)

    async def copy(self, source: str, target: str) -> ObjectInfo:
        call = StorageCall(self._store, source=source)
        request = self.provider.copy(source, target)
        return await self._recorded("copy", f"{source} -> {target}", request, call, call.told)

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        call = StorageCall(self._store, match=_bare(if_match))
        request = self.provider.delete(key, if_match=if_match)
        await self._recorded("delete", key, request, call, lambda _: None)

    async def close(self) -> None:
        await self.provider.close()


def _told_whole(call: StorageCall, got: StoredObject) -> None:
    call.told(got.info)
    # What came, whatever the record says of it.
    call.value = Value(hashlib.sha256(got.data).hexdigest(), cast("Value", call.value).rest)


def _value(checksum: str, content_type: Any, metadata: Any) -> Value:
    """Of what may be bad input, which the provider refuses."""
    try:
        return value_of(checksum, content_type, metadata)
    except (TypeError, ValueError):
        return Value(None, None)


def _bare(etag: Any) -> str | None:
    return etag.strip('"') if isinstance(etag, str) else None


async def _hashed(data: AsyncIterable[bytes], call: StorageCall) -> AsyncIterator[bytes]:
    """``data`` as it passes; its digest is known when it has passed."""
    digest = hashlib.sha256()
    async for piece in data:
        if isinstance(cast("object", piece), (bytes, bytearray, memoryview)):
            digest.update(piece)
        yield piece
    call.value = Value(digest.hexdigest(), cast("Value", call.value).rest)
