"""Which conditions the server honours: found out once, on hidden keys, before the first request that relies on one.

Servers that do not know a condition mostly ignore it (``docs/`` has a table), and a write that should have failed is done.
They also differ in whether an etag stands in quotes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from factflow_infra.errors import UnsupportedOperationError
from factflow_infra.storage.minio.failures import (
    RequestError,
    code_of,
    is_garbled,
    may_have_landed,
    status_of,
    translate,
)
from factflow_infra.storage.minio.pool import Token

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.storage.minio.calls import Calls
    from factflow_infra.storage.minio.pool import WorkerPool

_LOG = logging.getLogger("factflow_infra.storage")
_WRONG_ETAG = "0123456789abcdef0123456789abcdef"
_NOT_TAKEN = {"InvalidArgument", "InvalidRequest", "NotImplemented", "NotSupported", "UnsupportedOperation"}
"""Codes of a server that does not take the condition at all; any other refusal has another reason, and may pass."""
_BODY = b"factflow probes what this server honours; this object may be deleted"


class Condition(Enum):
    """A request and a condition on it; the value is how a message names it."""

    PUT_ABSENT = "if_absent on a write"
    PUT_MATCH = "if_match on a write"
    COMPLETE_ABSENT = "if_absent on a streamed write in parts"
    COMPLETE_MATCH = "if_match on a streamed write in parts"
    DELETE_MATCH = "if_match on a delete"
    COPY_SOURCE_MATCH = "a copy of just one version"


@dataclass(frozen=True, slots=True)
class Support:
    """What a probe found. ``quoted``: how the server wants etags in conditions."""

    honoured: bool
    quoted: bool = True

    def etag(self, etag: str) -> str:
        bare = etag.strip('"')
        # A bare ``*`` stands for any object, and would be no condition; in quotes it is an etag that none has.
        return f'"{bare}"' if self.quoted or bare == "*" else bare


class Conditions:
    """The findings of one provider."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._found: dict[Condition, Support] = {}
        self._lock: asyncio.Lock | None = None

    async def support(self, calls: Calls, condition: Condition) -> Support:
        """Whether ``condition`` is honoured. What keeps the probe from its answer is raised, and it is made again."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        if condition not in self._found:
            async with self._lock:
                if condition not in self._found:
                    found = await self._pool.run(Token(), probe, calls, condition)
                    self._found[condition] = found
        return self._found[condition]

    async def require(self, calls: Calls, condition: Condition) -> Support:
        """As ``support``; ``UnsupportedOperationError`` where the answer is no."""
        support = await self.support(calls, condition)
        if not support.honoured:
            raise UnsupportedOperationError(
                f"the server of bucket {calls.bucket!r} does not honour {condition.value}, so nothing was sent: "
                "use a server that does, or do without the condition"
            )
        return support


def probe(calls: Calls, condition: Condition) -> Support:
    """Ask the server with a request that must fail and one that must not. Blocks; leaves nothing behind."""
    for attempt in range(1, calls.max_attempts + 1):
        try:
            if condition in (Condition.PUT_ABSENT, Condition.COMPLETE_ABSENT):
                return Support(honoured=_Probe(calls, condition).absent())
            return _Probe(calls, condition).match()
        except RequestError as error:
            if attempt == calls.max_attempts or not (may_have_landed(error) or is_garbled(error)):
                raise translate(error, bucket=calls.bucket, what=f"finding out about {condition.value}") from error
            calls.pause(attempt)
    raise AssertionError("max_attempts is at least 1")


class _Probe:
    def __init__(self, calls: Calls, condition: Condition) -> None:
        self._client: Any = calls.client
        self._bucket = calls.bucket
        self._key = calls.layout.probe(uuid4().hex)
        self._send: Callable[..., object] = {
            Condition.PUT_ABSENT: self._put,
            Condition.PUT_MATCH: self._put,
            Condition.COMPLETE_ABSENT: self._complete,
            Condition.COMPLETE_MATCH: self._complete,
            Condition.DELETE_MATCH: self._delete,
            Condition.COPY_SOURCE_MATCH: self._copy,
        }[condition]
        # A write on a missing key with If-Match has succeeded on MinIO (#21526); a delete of one does no harm.
        self._on_missing = self._send in (self._put, self._complete)

    def absent(self) -> bool:
        try:
            self._put(self._key)
            return self._refuses(self._key, {"IfNoneMatch": "*"}) is True
        finally:
            self._clear(self._key)

    def match(self) -> Support:
        missing = f"{self._key}-missing"
        try:
            etag = self._put(self._key).strip('"')
            if self._refuses(self._key, self._match(_WRONG_ETAG)) is not True:
                return Support(honoured=False)
            if self._on_missing and self._refuses(missing, self._match(f'"{etag}"'), missing=True) is not True:
                return Support(honoured=False)
            for quoted in (True, False):
                if self._refuses(self._key, self._match(f'"{etag}"' if quoted else etag)) is False:
                    return Support(honoured=True, quoted=quoted)
            return Support(honoured=False)
        finally:
            self._clear(self._key, missing, f"{self._key}-copy")

    def _match(self, etag: str) -> dict[str, str]:
        return {"CopySourceIfMatch" if self._send == self._copy else "IfMatch": etag}

    def _refuses(self, key: str, condition: dict[str, str], *, missing: bool = False) -> bool | None:
        """Whether the server refuses for the condition's sake; ``None`` where it does not take conditions at all."""
        try:
            self._send(key, **condition)
        except RequestError as error:
            status = status_of(error)
            if status == 412 or (missing and status == 404):
                return True
            if status == 501 or code_of(error) in _NOT_TAKEN:
                return None
            raise
        return False

    def _put(self, key: str, **condition: str) -> str:
        return cast("str", self._client.put_object(Bucket=self._bucket, Key=key, Body=_BODY, **condition)["ETag"])

    def _complete(self, key: str, **condition: str) -> None:
        where = {"Bucket": self._bucket, "Key": key}
        upload = self._client.create_multipart_upload(**where)["UploadId"]
        try:
            part = self._client.upload_part(**where, UploadId=upload, PartNumber=1, Body=_BODY)
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            self._client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, **condition)
        except RequestError:
            self._client.abort_multipart_upload(**where, UploadId=upload)
            raise

    def _delete(self, key: str, **condition: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=key, **condition)

    def _copy(self, key: str, **condition: str) -> None:
        source = {"Bucket": self._bucket, "Key": key}
        self._client.copy_object(Bucket=self._bucket, Key=f"{key}-copy", CopySource=source, **condition)

    def _clear(self, *keys: str) -> None:
        for key in keys:
            try:
                self._client.delete_object(Bucket=self._bucket, Key=key)
            except RequestError as error:  # it stays, hidden: what the probe found counts
                _LOG.debug("a probe object could not be deleted: %s", error)
