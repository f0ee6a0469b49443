"""Storage providers with one fault each: what the storage contract must notice."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from factflow_infra.errors import ObjectNotFoundError, StorageError, StorageIOError
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
        time.sleep(0.3)  # noqa: ASYNC251 - the mistake
        return await super().write(key, data, metadata, **options)


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


MUTANTS = {
    CommitsPartialStreams: ("s8-failing-stream-writes-nothing", "s8-cancelled-stream-writes-nothing"),
    IfAbsentLooksFirst: ("s7-if-absent-has-one-winner",),
    IfMatchIsNothing: ("s7-if-match-replaces-what-was-read", "s7-if-match-loses-no-update"),
    DeleteIsUnconditional: ("s7-conditional-delete-deletes-what-was-read",),
    MetadataIsText: ("s3-metadata-comes-back-exactly",),
    MetadataLater: ("s1-readers-see-old-or-new-and-never-a-mix",),
    MergesMetadata: ("s1-overwrite-replaces-data-and-metadata",),
    ListsByFolder: ("s5-listing-is-in-utf8-byte-order",),
    ListsBackwards: ("s5-listing-is-in-utf8-byte-order",),
    ListsSidecars: ("s5-listing-hides-what-is-no-object",),
    ListsLate: ("s5-listing-sees-every-finished-write",),
    PrefixIsAFolder: ("s5-prefix-is-a-prefix-of-text",),
    PagesSkip: ("s5-pages-are-full-and-end",),
    PagesCountKeysOnly: ("s5-pages-are-full-and-end", "s5-delimiter-folds-what-lies-below"),
    MissingIsEmpty: ("s4-missing-key-is-said-to-be-missing",),
    DeleteOfMissingFails: ("s4-delete-removes",),
    TrustsTheDisk: ("s3-corruption-at-rest-is-found",),
    NormalisesKeys: ("s6-bad-keys-are-refused",),
    NormalisesUnicode: ("s6-weird-keys-work",),
    CopyForgetsMetadata: ("s4-copy-copies-everything",),
    CopyDeletesFirst: ("s4-failed-copy-leaves-the-target", "s4-copy-onto-itself-changes-nothing"),
    RangesAreInclusive: ("s8-ranges-are-slices",),
    PiecesOfAnySize: ("s8-pieces-have-the-size-asked-for",),
    StreamsWhatIsThereNow: ("s8-stream-is-of-one-version",),
    CloseIsNothing: ("s9-calls-after-close-raise",),
    BlocksTheLoop: ("s9-loop-runs-beside-the-calls",),
    AlwaysNew: ("s3-times-follow-the-writes",),
    EtagIsConstant: ("s3-info-is-true",),
    MakesItsRoot: ("s10-missing-root-is-named",),
    OneErrorForAll: ("s10-full-disk-changes-nothing", "s7-if-absent-creates-once"),
    ContentTypeIsLost: ("s3-info-is-true", "s8-stream-is-written"),
}
"""Each mutant, and the behaviours that must fail on it."""
