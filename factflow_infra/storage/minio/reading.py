"""Getting an object whole, and what every way of getting one has in common."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import CorruptObjectError, StorageIOError, StorageUnreachableError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.minio.calls import lost_sidecar
from factflow_infra.storage.minio.envelope import version_of
from factflow_infra.storage.minio.failures import BrokenBodyError, RequestError, code_of
from factflow_infra.storage.objects import StoredObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.response import StreamingBody

    from factflow_infra.storage.metadata import Record
    from factflow_infra.storage.minio.calls import Calls
    from factflow_infra.storage.minio.envelope import Version


@dataclass(frozen=True, slots=True)
class Opened:
    """A version that is too large to be read in one go: its content is to be read from ``body``, or in ranges."""

    body: StreamingBody
    version: Version
    record: Record | None

    def stored(self, key: str, data: bytes, sha256: str) -> StoredObject:
        """What ``get`` gives of it. Raises ``CorruptObjectError``."""
        return _stored(key, self.version, self.record, data, sha256)


class OverwrittenError(Exception):
    """The key holds another version by now."""


def get(calls: Calls, key: str, large: int) -> StoredObject | Opened:
    """The content and the info of one version, from one GET; verified. Longer than ``large``: open, and not read.

    Content that does not match its checksum is asked for once more: it may have been damaged on its way.
    """
    attempt = 0
    doubted = False
    while True:
        attempt += 1
        body, version = open_range(calls, key, 0, None)
        try:
            with ExitStack() as stack:
                stack.callback(body.close)
                whole = version.size <= large
                data = body.read() if whole else b""
                found, record = calls.resolve(key, version)
                if found and not whole:
                    stack.pop_all()
                    return Opened(body, version, record)
        except BrokenBodyError as error:
            if attempt >= calls.max_attempts:
                raise broken(key, error) from error
            calls.pause(attempt)
            continue
        if not found:
            if attempt >= calls.max_attempts:
                raise lost_sidecar(key)
            continue
        try:
            return _stored(key, version, record, data, hashlib.sha256(data).hexdigest())
        except CorruptObjectError:
            if doubted:
                raise
            doubted = True


def _stored(key: str, version: Version, record: Record | None, data: bytes, sha256: str) -> StoredObject:
    verify(key, record, len(data), sha256)
    info = version.info(key, record)
    if record is None:  # not ours: now that its content is here, so is its checksum
        info = replace(info, checksum=f"sha256:{sha256}")
    return StoredObject(data, info)


class EmptyRangeError(Exception):
    """The range begins at or behind the end."""


def open_range(calls: Calls, key: str, start: int, end: int | None) -> tuple[StreamingBody, Version]:
    arguments: dict[str, Any] = {}
    if start or end is not None:
        arguments["Range"] = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
    try:
        answer = calls.client.get_object(Bucket=calls.bucket, Key=calls.layout.object(key), **arguments)
    except RequestError as error:
        if code_of(error) in {"InvalidRange", "416"}:
            raise EmptyRangeError from error
        raise calls.error(error, key) from error
    return answer["Body"], version_of(key, cast("Mapping[str, Any]", answer))


def verify(key: str, record: Record | None, size: int, sha256: str) -> None:
    if record is None:
        return
    if size != record.size:
        raise CorruptObjectError(f"object {shown(key)}: {size} bytes came, {record.size} were written")
    if record.checksum != f"sha256:{sha256}":
        raise CorruptObjectError(f"object {shown(key)}: its content does not match the checksum {record.checksum}")


def overwritten(key: str) -> StorageIOError:
    return StorageIOError(
        f"object {shown(key)} was overwritten while it was streamed, and the connection broke: "
        "stream it again from the start",
        retryable=True,
    )


def broken(key: str, error: BaseException) -> StorageUnreachableError:
    return StorageUnreachableError(f"object {shown(key)}: the connection broke each time it was read: {error}")
