"""S3 storage providers with one fault each: what the storage contract must notice where it takes a server's faults to show."""

from __future__ import annotations

from botocore.exceptions import ClientError, HTTPClientError

from factflow_infra.errors import (
    PreconditionFailedError,
    StorageAuthenticationError,
    StorageError,
    StorageIOError,
    StorageUnreachableError,
    ThrottledError,
    WriteUnconfirmedError,
)
from factflow_infra.storage.minio import MinioStorageProvider
from factflow_infra.storage.objects import StoredObject


class Store(MinioStorageProvider):
    """A provider to be made worse."""

    def put(self, key, data, **condition):
        self._given.put_object(Bucket=self._layout.bucket, Key=key, Body=data, **condition)


class RetriesBlindly(Store):
    """Sends a conditional write again whose answer was lost, and takes its own object for another's."""

    async def write(self, key, data, metadata=None, *, if_absent=False, if_match=None, **options):
        if not if_absent and if_match is None:
            return await super().write(key, data, metadata, **options)
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": f'"{if_match}"'}
        for _ in range(2):
            try:
                self.put(key, data, **condition)
            except HTTPClientError:
                continue
            except ClientError as error:
                raise PreconditionFailedError(str(error)) from error
            break
        return await self.stat(key)


class LostIsWritten(Store):
    """Takes a write whose answer was lost for done, and never looks: here it had no metadata yet."""

    async def write(self, key, data, metadata=None, **options):
        try:
            self.put(key, data)
        except HTTPClientError:
            return None
        return await super().write(key, data, metadata, **options)


class LostIsUnreachable(Store):
    """Says of a write whose answer was lost that it surely failed."""

    async def write(self, key, data, metadata=None, **options):
        del metadata, options
        try:
            self.put(key, data)
        except HTTPClientError as error:
            raise StorageUnreachableError(str(error)) from error
        return await self.stat(key)


class LostDeleteFailed(Store):
    """Says of a delete whose answer was lost that it surely failed."""

    async def delete(self, key, *, if_match=None):
        del if_match
        try:
            self._given.delete_object(Bucket=self._layout.bucket, Key=key)
        except HTTPClientError as error:
            raise StorageUnreachableError(str(error)) from error


class LostCopyFailed(Store):
    """Says of a copy whose answer was lost that it surely failed."""

    async def copy(self, source, target):
        try:
            self.put(target, await self.read(source))
        except HTTPClientError as error:
            raise StorageUnreachableError(str(error)) from error
        return await self.stat(target)


class TrustsTheWire(Store):
    async def get(self, key):
        answer = self._given.get_object(Bucket=self._layout.bucket, Key=key)
        return StoredObject(answer["Body"].read(), await self.stat(key))


def confusing(kind, into):
    """A provider that raises ``into`` for ``kind``."""

    class Confusing(Store):
        async def stat(self, key):
            try:
                return await super().stat(key)
            except kind as error:
                raise into from error

        async def delete(self, key, *, if_match=None):
            try:
                await super().delete(key, if_match=if_match)
            except kind as error:
                raise into from error

    Confusing.__name__ = f"Confuses{kind.__name__}"
    return Confusing


class OnePageOnly(Store):
    async def list(self, prefix=""):
        for key in (await self.list_page(prefix, limit=100)).keys:
            yield key


class KeysAreFolders(Store):
    async def write(self, key, data, metadata=None, **options):
        parent = key.rpartition("/")[0]
        if parent and await self.exists(parent):
            raise StorageIOError(f"{parent!r} is no folder")
        return await super().write(key, data, metadata, **options)


MUTANTS = {
    RetriesBlindly: ("s7-own-success-is-recognised",),
    LostIsWritten: ("s1-lost-answer-is-success-or-said-to-be-unconfirmed",),
    LostIsUnreachable: ("s1-lost-answer-is-success-or-said-to-be-unconfirmed",),
    LostDeleteFailed: ("s1-lost-answer-of-any-change-is-told-truly",),
    LostCopyFailed: ("s1-lost-answer-of-any-change-is-told-truly",),
    TrustsTheWire: ("s3-corruption-in-transit-is-found",),
    confusing(StorageUnreachableError, StorageIOError("no answer")): ("s10-unreachable-endpoint-is-retryable",),
    confusing(StorageAuthenticationError, StorageIOError("403")): ("s10-wrong-credentials-are-told-apart",),
    confusing(ThrottledError, ThrottledError("slow down", retryable=False)): ("s10-throttling-is-retryable",),
    confusing(StorageError, WriteUnconfirmedError("nobody knows")): ("s10-denied-change-changes-nothing",),
    OnePageOnly: ("s5-long-listing-is-complete",),
    KeysAreFolders: ("s6-key-may-be-a-prefix-of-another",),
}
"""Each mutant, and the behaviours that must fail on it."""
