"""Storage providers with one fault each: what the storage contract must notice."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from factflow_infra.errors import (
    CorruptObjectError,
    InvalidKeyError,
    InvalidObjectError,
    ObjectNotFoundError,
    StorageError,
    StorageIOError,
)
from factflow_infra.storage.filesystem import FilesystemStorageProvider
from factflow_infra.storage.objects import StoredObject


class Store(FilesystemStorageProvider):
    """A provider to be made worse."""

    def __init__(self, root, **options):
        super().__init__(root, **options)
        self.root = Path(root)


class CommitsPartialStreams(Store):
    async def write(self, key, data, metadata=None, **options):
        if isinstance(data, bytes):
            return await super().write(key, data, metadata, **options)
        parts = []
        try:
            async for part in data:
                parts.append(part)  # noqa: PERF401 - what came before the error is kept: the mistake
        finally:
            info = await super().write(key, b"".join(parts), metadata, **options)
        return info


class IfAbsentLooksFirst(Store):
    async def write(self, key, data, metadata=None, *, if_absent=False, **options):
        if if_absent and await self.exists(key):
            return await super().write(key, data, metadata, if_absent=True, **options)
        await asyncio.sleep(0.01)
        return await super().write(key, data, metadata, **options)


class IfMatchIsNothing(Store):
    async def write(self, key, data, metadata=None, *, if_match=None, **options):
        del if_match
        return await super().write(key, data, metadata, **options)


class DeleteIsUnconditional(Store):
    async def delete(self, key, *, if_match=None):
        del if_match
        await super().delete(key)


class MetadataIsText(Store):
    async def write(self, key, data, metadata=None, **options):
        text = None if metadata is None else {key: str(value) for key, value in metadata.items()}
        return await super().write(key, data, text, **options)


class MetadataLater(Store):
    async def write(self, key, data, metadata=None, **options):
        info = await super().write(key, data, **options)
        if metadata is None:
            return info
        await asyncio.sleep(0.001)
        return await super().write(key, await self.read(key), metadata)


class MergesMetadata(Store):
    async def write(self, key, data, metadata=None, **options):
        old = dict((await self.stat(key)).metadata) if await self.exists(key) else {}
        return await super().write(key, data, {**old, **(metadata or {})}, **options)


class ListsByFolder(Store):
    async def list(self, prefix=""):
        keys = [key async for key in super().list(prefix)]
        for key in sorted(keys, key=lambda key: key.split("/")):
            yield key


class ListsBackwards(Store):
    async def list(self, prefix=""):
        for key in [key async for key in super().list(prefix)][::-1]:
            yield key


class ListsSidecars(Store):
    async def list(self, prefix=""):
        async for key in super().list(prefix):
            yield key
            yield f"{key}.meta.json"


class ListsLate(Store):
    _cached: dict[str, list[str]]

    async def list(self, prefix=""):
        cached = self.__dict__.setdefault("_cached", {})
        if prefix not in cached:
            cached[prefix] = [key async for key in super().list(prefix)]
        for key in cached[prefix]:
            yield key


class PrefixIsAFolder(Store):
    async def list(self, prefix=""):
        folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        async for key in super().list(folder):
            yield key


class PagesSkip(Store):
    async def list_page(self, prefix="", *, delimiter=None, limit=1000, after=None):
        page = await super().list_page(prefix, delimiter=delimiter, limit=limit, after=after)
        following = page.next_after
        return page if following is None else replace(page, next_after=following + "\U0010ffff")


class PagesCountKeysOnly(Store):
    async def list_page(self, prefix="", *, delimiter=None, limit=1000, after=None):
        return await super().list_page(prefix, delimiter=delimiter, limit=limit + 1, after=after)


class MissingIsEmpty(Store):
    async def get(self, key):
        try:
            return await super().get(key)
        except ObjectNotFoundError:
            info = await super().write("stub", b"")
            return StoredObject(b"", info)


class DeleteOfMissingFails(Store):
    async def delete(self, key, *, if_match=None):
        await self.stat(key)
        await super().delete(key, if_match=if_match)


class TrustsTheDisk(Store):
    async def get(self, key):
        info = await self.stat(key)
        return StoredObject((self.root / key).read_bytes(), info)


class NormalisesKeys(Store):
    async def write(self, key, data, metadata=None, **options):
        if isinstance(key, str):
            key = "/".join(part for part in key.split("/") if part not in {"", "."})
        return await super().write(key, data, metadata, **options)


class NormalisesUnicode(Store):
    async def write(self, key, data, metadata=None, **options):
        return await super().write(unicodedata.normalize("NFC", key), data, metadata, **options)


class CopyForgetsMetadata(Store):
    async def copy(self, source, target):
        return await super().write(target, await self.read(source))


class CopyDeletesFirst(Store):
    async def copy(self, source, target):
        await self.delete(target)
        return await super().copy(source, target)


class RangesAreInclusive(Store):
    def stream(self, key, *, start=0, end=None, chunk_size=1024 * 1024):
        return super().stream(key, start=start, end=None if end is None else end + 1, chunk_size=chunk_size)


class PiecesOfAnySize(Store):
    def stream(self, key, *, start=0, end=None, chunk_size=1024 * 1024):
        return super().stream(key, start=start, end=end, chunk_size=chunk_size + 1)


class StreamsWhatIsThereNow(Store):
    async def stream(self, key, *, start=0, end=None, chunk_size=1024 * 1024):
        while True:
            piece = (await self.read(key))[start : start + chunk_size]
            if not piece or (end is not None and start >= end):
                return
            yield piece
            start += chunk_size


class CloseIsNothing(Store):
    async def close(self):
        pass


class BlocksTheLoop(Store):
    async def write(self, key, data, metadata=None, **options):
        before = time.perf_counter()
        info = await super().write(key, data, metadata, **options)
        # The mistake; as long as shows on a machine that is busy otherwise, too.
        time.sleep(max(0.3, 6 * (time.perf_counter() - before)))  # noqa: ASYNC251
        return info


class AlwaysNew(Store):
    async def write(self, key, data, metadata=None, **options):
        info = await super().write(key, data, metadata, **options)
        return replace(info, created_at=datetime.now(UTC))


class EtagIsConstant(Store):
    async def stat(self, key):
        return replace(await super().stat(key), etag="constant")


class MakesItsRoot(Store):
    def __init__(self, root, **options):
        super().__init__(root, create_root=True, **options)


class OneErrorForAll(Store):
    async def write(self, key, data, metadata=None, **options):
        try:
            return await super().write(key, data, metadata, **options)
        except StorageError as error:
            raise StorageIOError(str(error)) from error


class ContentTypeIsLost(Store):
    async def write(self, key, data, metadata=None, *, content_type=None, **options):
        del content_type
        return await super().write(key, data, metadata, **options)


class NestedNumbersAreFloats(Store):
    async def write(self, key, data, metadata=None, **options):
        return await super().write(
            key, data, metadata and {name: floats(value) for name, value in metadata.items()}, **options
        )


def floats(value, depth=0):
    if isinstance(value, dict):
        return {name: floats(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [floats(inner, depth + 1) for inner in value]
    return float(value) if depth and type(value) is int else value


class BornOnce(Store):
    """The time of a key's first write outlives its object."""

    async def write(self, key, data, metadata=None, **options):
        info = await super().write(key, data, metadata, **options)
        return replace(info, created_at=self.__dict__.setdefault("_born", {}).setdefault(key, info.created_at))


class ClockOfLastYear(Store):
    async def stat(self, key):
        return aged(await super().stat(key))

    async def get(self, key):
        got = await super().get(key)
        return replace(got, info=aged(got.info))

    async def write(self, key, data, metadata=None, **options):
        return aged(await super().write(key, data, metadata, **options))


def aged(info):
    year = timedelta(days=365)
    return replace(info, created_at=info.created_at - year, modified_at=info.modified_at - year)


class CorruptWithoutKey(Store):
    async def get(self, key):
        try:
            return await super().get(key)
        except CorruptObjectError:
            raise CorruptObjectError("not the expected checksum") from None


class CopiesWhatIsThere(Store):
    async def copy(self, source, target):
        await self.stat(source)
        return await super().write(target, (self.root / source).read_bytes())


class CopiesThroughLinks(Store):
    async def copy(self, source, target):
        path = self.root / source
        if path.exists() and path.is_relative_to(self.root) and source != target:
            return await super().write(target, path.read_bytes())
        return await super().copy(source, target)


class ReadsThroughFolderLinks(Store):
    async def get(self, key):
        path = self.root / key
        if path.parent.is_symlink() and path.is_file():
            return StoredObject(path.read_bytes(), await super().write("stub", b""))
        return await super().get(key)


class WritesThroughLinks(Store):
    async def write(self, key, data, metadata=None, **options):
        path = self.root / key
        if path.parent.is_symlink():
            path.write_bytes(data)
        return await super().write(key, data, metadata, **options)


class DeletesThroughLinks(Store):
    async def delete(self, key, *, if_match=None):
        path = self.root / key
        if path.parent.is_symlink():
            path.unlink()
        await super().delete(key, if_match=if_match)


class ListsThroughLinks(Store):
    async def list(self, prefix=""):
        async for key in super().list(prefix):
            yield key
        for path in (self.root / prefix).glob("*/secret"):
            yield str(path.relative_to(self.root))


class LooksForItsRootFirst(Store):
    async def read(self, key):
        [_ async for _ in self.list("")]
        return await super().read(key)


class KeepsReservedNames(Store):
    async def write(self, key, data, metadata=None, **options):
        if isinstance(key, str):
            key = key.replace(".factflow", "_factflow")
        return await super().write(key, data, metadata, **options)


class ListsAnyPrefix(Store):
    async def list(self, prefix=""):
        try:
            async for key in super().list(prefix):
                yield key
        except ValueError:
            return


class CloseDropsTheRest(Store):
    """One write runs at a time, and ``close`` turns away those that wait for their turn."""

    async def write(self, key, data, metadata=None, **options):
        async with self.__dict__.setdefault("_turn", asyncio.Lock()):
            return await super().write(key, data, metadata, **options)


class OneCallAtATime(Store):
    async def write(self, key, data, metadata=None, **options):
        async with self.__dict__.setdefault("_turn", asyncio.Lock()):
            return await super().write(key, data, metadata, **options)

    async def stream(self, key, *, start=0, end=None, chunk_size=1024 * 1024):
        async with self.__dict__.setdefault("_turn", asyncio.Lock()):
            async for piece in super().stream(key, start=start, end=end, chunk_size=chunk_size):
                yield piece


class TurnsTheCrowdAway(Store):
    _running = 0

    async def write(self, key, data, metadata=None, **options):
        if self._running >= 64:
            raise StorageIOError("too many at once", retryable=True)
        self._running += 1
        try:
            return await super().write(key, data, metadata, **options)
        finally:
            self._running -= 1


class OneBufferForAll(Store):
    async def write(self, key, data, metadata=None, **options):
        if isinstance(data, bytes):
            self._buffer = data
            await asyncio.sleep(0)
            data = self._buffer
        return await super().write(key, data, metadata, **options)


class StreamsHoldTheirSlot(Store):
    _slots = 8

    async def stream(self, key, *, start=0, end=None, chunk_size=1024 * 1024):
        if not self._slots:
            await asyncio.Event().wait()
        self._slots -= 1
        async for piece in super().stream(key, start=start, end=end, chunk_size=chunk_size):
            yield piece
        self._slots += 1


class UnfinishedExists(Store):
    _begun = frozenset()

    async def write(self, key, data, metadata=None, **options):
        self._begun = self._begun | {key}
        try:
            return await super().write(key, data, metadata, **options)
        finally:
            self._begun = self._begun - {key}

    async def exists(self, key):
        return key in self._begun or await super().exists(key)


class ForgetsTheCause(Store):
    async def copy(self, source, target):
        try:
            return await super().copy(source, target)
        except StorageError as error:
            raise type(error)(str(error)) from None


class AnyErrorIsFullToo(Store):
    async def delete(self, key, *, if_match=None):
        try:
            await super().delete(key, if_match=if_match)
        except StorageError as error:
            raise StorageIOError(str(error)) from error


class CancellationLeavesHalf(Store):
    async def write(self, key, data, metadata=None, **options):
        if isinstance(data, bytes) and await self.exists(key):
            await super().write(key, data[: len(data) // 2], metadata, **options)
        return await super().write(key, data, metadata, **options)


class SwallowsCancellation(Store):
    """Cancelled, it makes up for nothing, and holds its turn for ever."""

    async def read(self, key):
        lock = self.__dict__.setdefault("_turn", asyncio.Lock())
        await lock.acquire()
        data = await super().read(key)
        lock.release()
        return data


class SharesMetadata(Store):
    """Remembers what it was given, and gives it back."""

    async def write(self, key, data, metadata=None, **options):
        info = await super().write(key, data, metadata, **options)
        self.__dict__.setdefault("_given", {})[key] = metadata
        return info

    async def stat(self, key):
        info = await super().stat(key)
        return replace(info, metadata=self.__dict__.get("_given", {}).get(key) or info.metadata)


class HalfTheMetadata(Store):
    async def write(self, key, data, metadata=None, **options):
        if len(repr(metadata)) > 1 << 19:
            raise InvalidObjectError("metadata is too large")
        return await super().write(key, data, metadata, **options)


class TypesOfAnyLength(Store):
    async def write(self, key, data, metadata=None, *, content_type=None, **options):
        kind = content_type[:255] if isinstance(content_type, str) else content_type
        return await super().write(key, data, metadata, content_type=kind, **options)


class LongStreamsAreUnconditional(Store):
    async def write(self, key, data, metadata=None, *, if_match=None, **options):
        if not isinstance(data, bytes):
            if_match = None
        return await super().write(key, data, metadata, if_match=if_match, **options)


class ShortKeysOnly(Store):
    async def write(self, key, data, metadata=None, **options):
        if len(key.encode()) > 1000:
            raise InvalidKeyError(f"{key!r} is too long")
        return await super().write(key, data, metadata, **options)


class FoldersReplaceObjects(Store):
    async def write(self, key, data, metadata=None, **options):
        parent = key.rpartition("/")[0]
        if parent and (self.root / parent).is_file():
            await super().delete(parent)
        return await super().write(key, data, metadata, **options)


class KeepsFolders(Store):
    async def delete(self, key, *, if_match=None):
        await super().delete(key, if_match=if_match)
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        ((self.root / key).parent / ".factflow-keep").touch()


class ListsByNumber(Store):
    async def list(self, prefix=""):
        number = 0
        while number < len(keys := [key async for key in super().list(prefix)]):
            yield keys[number]
            number += 1


class MixesWriters(Store):
    """Data first, then the metadata, each as soon as it can."""

    async def write(self, key, data, metadata=None, **options):
        await super().write(key, data, **options)
        await asyncio.sleep(1 / (2 + (metadata or {}).get("n", 0)))
        return await super().write(key, await self.read(key), metadata)


class WritesBehind(Store):
    """Says that it has written what it is about to write."""

    async def write(self, key, data, metadata=None, **options):
        self._behind = asyncio.get_running_loop().call_later(
            1, lambda: asyncio.ensure_future(super(WritesBehind, self).write(key, data, metadata, **options))
        )

    async def close(self):
        self._behind.cancel()
        await super().close()


MUTANTS = {
    CommitsPartialStreams: (
        "s8-stream-of-what-is-not-bytes-writes-nothing",
        "s8-failing-stream-writes-nothing",
        "s8-cancelled-stream-writes-nothing",
    ),
    IfAbsentLooksFirst: ("s7-if-absent-has-one-winner",),
    IfMatchIsNothing: (
        "s7-conditions-are-checked",
        "s7-if-match-replaces-what-was-read",
        "s7-if-match-loses-no-update",
    ),
    DeleteIsUnconditional: (
        "s7-conditions-are-kept-or-refused",
        "s7-conditional-delete-deletes-what-was-read",
    ),
    MetadataIsText: (
        "s3-what-is-no-json-object-is-refused",
        "s3-metadata-comes-back-exactly",
    ),
    MetadataLater: ("s1-readers-see-old-or-new-and-never-a-mix",),
    MergesMetadata: ("s1-overwrite-replaces-data-and-metadata",),
    ListsByFolder: ("s5-listing-is-in-utf8-byte-order",),
    ListsBackwards: ("s5-listing-is-in-utf8-byte-order",),
    ListsSidecars: ("s5-listing-hides-what-is-no-object",),
    ListsLate: ("s5-listing-sees-every-finished-write",),
    PrefixIsAFolder: ("s5-prefix-is-a-prefix-of-text",),
    PagesSkip: ("s5-pages-are-full-and-end",),
    PagesCountKeysOnly: (
        "s5-paging-is-consistent-under-changes",
        "s5-pages-are-full-and-end",
        "s5-delimiter-folds-what-lies-below",
    ),
    MissingIsEmpty: ("s4-missing-key-is-said-to-be-missing",),
    DeleteOfMissingFails: ("s4-delete-removes",),
    TrustsTheDisk: ("s3-corruption-at-rest-is-found",),
    NormalisesKeys: ("s6-bad-keys-are-refused",),
    NormalisesUnicode: ("s6-weird-keys-work",),
    CopyForgetsMetadata: ("s4-copy-copies-everything",),
    CopyDeletesFirst: ("s4-failed-copy-leaves-the-target", "s4-copy-onto-itself-changes-nothing"),
    RangesAreInclusive: (
        "s8-bad-ranges-are-refused",
        "s8-ranges-are-slices",
    ),
    PiecesOfAnySize: ("s8-pieces-have-the-size-asked-for",),
    StreamsWhatIsThereNow: ("s8-stream-is-of-one-version",),
    CloseIsNothing: ("s9-calls-after-close-raise",),
    BlocksTheLoop: ("s9-loop-runs-beside-the-calls",),
    AlwaysNew: ("s3-times-follow-the-writes",),
    EtagIsConstant: (
        "s1-write-then-read",
        "s3-info-is-true",
    ),
    MakesItsRoot: ("s10-missing-root-is-named",),
    OneErrorForAll: ("s10-full-disk-changes-nothing", "s7-if-absent-creates-once"),
    ContentTypeIsLost: ("s1-refused-data-writes-nothing", "s3-info-is-true", "s8-stream-is-written"),
    SharesMetadata: ("s3-caller-cannot-change-what-was-written",),
    HalfTheMetadata: ("s3-limits-are-those-of-the-contract",),
    TypesOfAnyLength: ("s3-limits-are-those-of-the-contract",),
    LongStreamsAreUnconditional: ("s7-conditions-are-kept-or-refused",),
    ShortKeysOnly: ("s6-long-keys-work",),
    FoldersReplaceObjects: ("s6-conflicting-keys-destroy-nothing",),
    KeepsFolders: ("s4-emptied-prefix-can-be-a-key",),
    ListsByNumber: ("s5-changes-while-listing-hide-nothing-else",),
    MixesWriters: ("s1-concurrent-writers-leave-one-whole-object",),
    WritesBehind: ("s2-written-object-outlives-its-provider",),
    NestedNumbersAreFloats: ("s3-metadata-comes-back-exactly",),
    BornOnce: ("s3-times-follow-the-writes",),
    ClockOfLastYear: ("s3-info-is-true",),
    CorruptWithoutKey: ("s3-corruption-at-rest-is-found",),
    CopiesWhatIsThere: ("s3-corruption-is-not-copied-as-good",),
    CopiesThroughLinks: ("s6-symlinks-lead-nowhere",),
    ReadsThroughFolderLinks: ("s6-symlinks-lead-nowhere",),
    WritesThroughLinks: ("s6-symlinks-lead-nowhere",),
    DeletesThroughLinks: ("s6-symlinks-lead-nowhere",),
    ListsThroughLinks: ("s6-symlinks-lead-nowhere",),
    LooksForItsRootFirst: ("s6-bad-keys-are-refused",),
    KeepsReservedNames: ("s6-bad-keys-are-refused",),
    ListsAnyPrefix: ("s5-bad-listings-are-refused",),
    CloseDropsTheRest: ("s9-close-waits-for-what-is-running",),
    OneCallAtATime: ("s8-stream-can-be-copied-into-a-write",),
    TurnsTheCrowdAway: ("s9-many-calls-at-once",),
    OneBufferForAll: ("s1-concurrent-writes-of-many-keys",),
    StreamsHoldTheirSlot: ("s8-abandoned-stream-holds-nothing",),
    UnfinishedExists: ("s5-listing-hides-what-is-no-object",),
    ForgetsTheCause: ("s10-denied-change-changes-nothing",),
    AnyErrorIsFullToo: ("s10-missing-root-is-named",),
    CancellationLeavesHalf: ("s9-cancelled-write-is-old-or-new",),
    SwallowsCancellation: ("s9-cancelled-calls-leave-the-provider-usable",),
}
"""Each mutant, and the behaviours that must fail on it."""
