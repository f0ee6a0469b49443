"""Making an object another one: put, complete, copy and delete, and what to believe when the answer is lost.

Each attempt has a write id of its own, in the object's metadata. So one look at the key says whether an attempt has
landed, whose object stands there now, and no id lands twice: a sidecar can go once its object has been replaced.

One thing that look cannot tell: of a key that held nothing, whether an attempt never landed, or landed and was deleted since. It
is made again then, as if after the delete.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from factflow_infra.errors import CorruptObjectError, PreconditionFailedError, StorageError, WriteUnconfirmedError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.metadata import Record
from factflow_infra.storage.minio.envelope import (
    MAX_INLINE,
    info_of,
    inline_metadata,
    record_text,
    referring_metadata,
)
from factflow_infra.storage.minio.failures import (
    RequestError,
    is_conflict,
    is_garbled,
    is_missing_key,
    is_precondition,
    may_have_landed,
)
from factflow_infra.storage.minio.signing import Content

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.storage.minio.calls import Calls
    from factflow_infra.storage.minio.envelope import Version
    from factflow_infra.storage.minio.pool import Token
    from factflow_infra.storage.objects import ObjectInfo

    Send = Callable[[str], str]
    """Sends one attempt under this write id, and returns the etag. Raises boto3's errors."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The condition on a write: header arguments for boto3, and which of the two it is. None by default."""

    if_absent: bool = False
    if_match: str | None = None
    """In the form that the server wants."""

    @property
    def arguments(self) -> dict[str, str]:
        if self.if_absent:
            return {"IfNoneMatch": "*"}
        return {} if self.if_match is None else {"IfMatch": self.if_match}


@dataclass(frozen=True, slots=True)
class Upload:
    """Content in parts that wait for their completion; the write id went into the object's metadata when it began."""

    upload_id: str
    write_id: str
    parts: list[dict[str, Any]]
    size: int
    sha256: str


def put(
    calls: Calls, token: Token, key: str, data: bytes, content_type: str, metadata: dict[str, Any], terms: Terms
) -> ObjectInfo:
    """Write ``data`` in one request."""
    checksum = hashlib.sha256(data).hexdigest()
    prior = None if terms.if_absent else calls.head(key)
    record = _record(_created(calls, key, prior), len(data), checksum, content_type, metadata)
    text = record_text(record)

    def send(write_id: str) -> str:
        token.check()
        answer = calls.client.put_object(
            Bucket=calls.bucket,
            Key=calls.layout.object(key),
            Body=Content(data, checksum),
            ContentType=content_type,
            Metadata=_travelling(calls, key, write_id, text),
            **terms.arguments,  # pyright: ignore[reportArgumentType] - header names as keys; the values are str
        )
        return answer["ETag"]

    return _Landing(calls, token, key, prior, terms).land(send, record, inline=len(text) <= MAX_INLINE)


def complete(
    calls: Calls,
    token: Token,
    key: str,
    upload: Upload,
    content_type: str,
    metadata: dict[str, Any],
    terms: Terms,
) -> ObjectInfo:
    """Make the parts of ``upload`` the object."""
    prior = None if terms.if_absent else calls.head(key)
    record = _record(_created(calls, key, prior), upload.size, upload.sha256, content_type, metadata)
    token.check()
    try:
        calls.put_sidecar(key, upload.write_id, record_text(record))
    except RequestError as error:
        calls.discard_unused(upload.write_id)
        raise calls.error(error, key) from error

    def send(_: str) -> str:
        token.check()
        answer = calls.client.complete_multipart_upload(
            Bucket=calls.bucket,
            Key=calls.layout.object(key),
            UploadId=upload.upload_id,
            MultipartUpload={"Parts": upload.parts},  # pyright: ignore[reportArgumentType] - built as it wants them
            **terms.arguments,  # pyright: ignore[reportArgumentType] - header names as keys; the values are str
        )
        return answer.get("ETag", "")

    landing = _Landing(calls, token, key, prior, terms, write_id=upload.write_id)
    return landing.land(send, record, inline=False)


def copy(
    calls: Calls, token: Token, source: str, target: str, version: Version, record: Record, etag: str
) -> ObjectInfo:
    """Copy ``version`` of ``source``, whose record is ``record``, on the server. ``etag``: in the form that it wants.

    Raises ``PreconditionFailedError`` if the source holds another version by now.
    """
    prior = calls.head(target)
    sha256 = record.checksum.removeprefix("sha256:")
    created = _created(calls, target, prior)
    record = _record(created, version.size, sha256, record.content_type, record.metadata)
    text = record_text(record)

    def send(write_id: str) -> str:
        token.check()
        answer = calls.client.copy_object(
            Bucket=calls.bucket,
            Key=calls.layout.object(target),
            CopySource={"Bucket": calls.bucket, "Key": calls.layout.object(source)},
            CopySourceIfMatch=etag,
            MetadataDirective="REPLACE",
            ContentType=record.content_type,
            Metadata=_travelling(calls, target, write_id, text),
        )
        return answer["CopyObjectResult"].get("ETag", "")

    return _Landing(calls, token, target, prior, Terms()).land(send, record, inline=len(text) <= MAX_INLINE)


def delete(calls: Calls, token: Token, key: str, if_match: str | None) -> None:
    """Remove the object; ``if_match`` in the form that the server wants."""
    prior = calls.head(key)
    if prior is None:
        calls.check_bucket()
        if if_match is not None:
            raise PreconditionFailedError(f"object {shown(key)} does not exist, so if_match={if_match!r} does not hold")
        return
    doubt: BaseException | None = None
    for attempt in range(1, calls.max_attempts + 1):
        token.check()
        try:
            arguments: dict[str, Any] = {} if if_match is None else {"IfMatch": if_match}
            calls.client.delete_object(Bucket=calls.bucket, Key=calls.layout.object(key), **arguments)
            break
        except RequestError as error:
            if not may_have_landed(error):
                if doubt is not None:
                    raise _unconfirmed(key) from error
                if is_missing_key(error) and if_match is None:
                    break
                raise _refused(calls, error, key, conditional=if_match is not None) from error
            doubt = error
            seen = _look(calls, key, doubt)
            if seen is None and if_match is None:
                break  # gone, by whomever
            if not _unchanged(seen, prior):
                # Written anew, after this delete or over what it never reached: an ``if_match`` of that write may even prove
                # that nothing was deleted before it. And deleting again could take what came after.
                calls.discard_sidecar(key, prior)
                raise _unconfirmed(key) from error
            if attempt == calls.max_attempts:
                raise _unconfirmed(key) from error
            calls.pause(attempt)
    calls.discard_sidecar(key, prior)


class _Landing:
    """One write, over its attempts."""

    def __init__(
        self, calls: Calls, token: Token, key: str, prior: Version | None, terms: Terms, write_id: str | None = None
    ) -> None:
        self._calls = calls
        self._token = token
        self._key = key
        self._prior = prior
        self._terms = terms
        self._write_id = write_id
        self._tried: set[str] = set()

    def land(self, send: Send, record: Record, *, inline: bool) -> ObjectInfo:
        etag = self._attempts(send, inline=inline) or self._etag()
        if self._prior is not None:
            self._calls.discard_sidecar(self._key, self._prior)
        return info_of(self._key, record, etag.strip('"'))

    def _etag(self) -> str:
        """Radosgw tells none of an object that came in parts. One that has been replaced since needs none that matches."""
        seen = self._calls.head(self._key)
        return seen.etag if seen is not None and seen.write_id in self._tried else f"replaced-{uuid4().hex}"

    def _attempts(self, send: Send, *, inline: bool) -> str:
        doubt: BaseException | None = None
        attempt = 0
        while True:
            attempt += 1
            write_id = self._write_id or uuid4().hex
            self._tried.add(write_id)
            last = attempt >= self._calls.max_attempts
            try:
                return send(write_id)
            except StorageError as error:  # the sidecar could not be put: this attempt was not sent
                if doubt is not None:
                    raise _unconfirmed(self._key) from error
                raise
            except RequestError as error:
                if may_have_landed(error):
                    doubt = error
                    found = self._found(doubt)
                    if found is not None:
                        return found.etag
                    if last:
                        raise _unconfirmed(self._key) from doubt
                elif doubt is not None:
                    # After an open attempt this one was refused: most likely because that one had landed.
                    found = self._found(doubt)
                    if found is None:
                        raise _unconfirmed(self._key) from error
                    return found.etag
                else:
                    again = (is_conflict(error) or is_garbled(error)) and not last
                    if not inline and not (again and self._write_id is not None):
                        self._calls.discard_unused(write_id)
                    if not again:
                        conditional = bool(self._terms.arguments)
                        raise _refused(self._calls, error, self._key, conditional=conditional) from error
            self._calls.pause(attempt)

    def _found(self, doubt: BaseException) -> Version | None:
        """Our own object, if it stands there; ``None`` if nothing has changed; else nobody can say."""
        seen = _look(self._calls, self._key, doubt)
        if seen is not None and seen.write_id in self._tried:
            return seen
        if not _unchanged(seen, self._prior):
            raise _unconfirmed(self._key) from doubt
        return None


def _look(calls: Calls, key: str, doubt: BaseException) -> Version | None:
    """What stands there after an open attempt."""
    try:
        return calls.head(key)
    except StorageError as error:
        raise _unconfirmed(key) from (error.__cause__ or doubt)


def _unchanged(seen: Version | None, prior: Version | None) -> bool:
    return prior is None if seen is None else seen.same_as(prior)


def _unconfirmed(key: str) -> WriteUnconfirmedError:
    return WriteUnconfirmedError(
        f"object {shown(key)}: the server's answer was lost: what was asked for has been done or has not, never in part; "
        "look at the object, or do the same again"
    )


def _refused(calls: Calls, error: BaseException, key: str, *, conditional: bool) -> StorageError:
    """Our error for an attempt that surely changed nothing."""
    if conditional and (is_precondition(error) or is_missing_key(error)):
        return PreconditionFailedError(
            f"object {shown(key)} in bucket {calls.bucket!r}: if_absent or if_match did not hold; nothing was changed"
        )
    return calls.error(error, key)


def _travelling(calls: Calls, key: str, write_id: str, text: str) -> dict[str, str]:
    """The object metadata that carries the record, or leads to the sidecar, which is put first."""
    if len(text) <= MAX_INLINE:
        return inline_metadata(write_id, text)
    try:
        calls.put_sidecar(key, write_id, text)
    except RequestError as error:
        raise calls.error(error, key) from error
    return referring_metadata(write_id, calls.layout.root)


def _created(calls: Calls, key: str, prior: Version | None) -> datetime | None:
    """When the key was first written, as far as it can be told: a damaged record may be overwritten too."""
    if prior is None or prior.damage is not None:
        return None
    if not prior.has_sidecar:
        return prior.record.created_at if prior.record is not None else prior.last_modified
    try:
        record = calls.sidecar(key, prior)
    except CorruptObjectError:
        return None
    return None if record is None else record.created_at


def _record(created: datetime | None, size: int, sha256: str, content_type: str, metadata: dict[str, Any]) -> Record:
    """The record of a write that is made now. Both times are this machine's: S3's have whole seconds only."""
    now = datetime.fromtimestamp(time.time(), UTC)
    created = created or now
    return Record(
        size=size,
        checksum=f"sha256:{sha256}",
        content_type=content_type,
        created_at=created,
        modified_at=max(now, created),
        metadata=metadata,
    )
