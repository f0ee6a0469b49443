"""Single requests, and reading what they answer. Everything here blocks and runs on a worker thread."""

from __future__ import annotations

import logging
import random
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from factflow_infra.errors import BucketNotFoundError, CorruptObjectError
from factflow_infra.storage.keys import shown
from factflow_infra.storage.minio.envelope import (
    MAX_SIDECAR_BYTES,
    Version,
    record_of_sidecar,
    sidecar_metadata,
    version_of,
)
from factflow_infra.storage.minio.failures import (
    BrokenBodyError,
    RequestError,
    code_of,
    is_garbled,
    is_missing_key,
    may_have_landed,
    status_of,
    translate,
)
from factflow_infra.storage.minio.signing import Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from factflow_infra.errors import StorageError
    from factflow_infra.storage.metadata import Record
    from factflow_infra.storage.minio.layout import Layout

_LOG = logging.getLogger("factflow_infra.storage")

_BACKOFF_SECONDS = 0.05
_BACKOFF_LIMIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Calls:
    """A client and the part of a bucket that it is used for."""

    client: S3Client
    layout: Layout
    max_attempts: int

    @property
    def bucket(self) -> str:
        return self.layout.bucket

    def error(self, error: BaseException, key: str) -> StorageError:
        """Our error for a request on ``key`` that surely changed nothing."""
        return translate(error, bucket=self.bucket, what=f"object {shown(key)}")

    def head(self, key: str) -> Version | None:
        """What HEAD says; ``None`` if there is no such object, or no such bucket. Raises our errors."""
        try:
            answer = self.client.head_object(Bucket=self.bucket, Key=self.layout.object(key))
        except RequestError as error:
            if is_missing_key(error):
                return None
            raise self.error(self._with_reason(error, key), key) from error
        return version_of(key, cast("Mapping[str, Any]", answer))

    def check_bucket(self) -> None:
        """Raise ``BucketNotFoundError`` where there is none: a HEAD of an object does not say which of the two is missing."""
        try:
            self.client.head_bucket(Bucket=self.bucket)
        except RequestError as error:
            if status_of(error) == 404:
                raise BucketNotFoundError(
                    f"bucket {self.bucket!r} does not exist: create it, or correct the URI"
                ) from error
            if status_of(error) == 403:
                return  # it exists; listing it is not ours
            raise translate(error, bucket=self.bucket, what="a request") from error

    def sidecar(self, key: str, version: Version) -> Record | None:
        """The record of a version that has it outside; ``None`` if it has gone, as it does when the key is overwritten."""
        location = self._location(key, version)
        attempt = 0
        doubted = False
        while True:
            attempt += 1
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=location)
            except RequestError as error:
                if is_missing_key(error):
                    return None
                raise self.error(error, key) from error
            try:
                with closing(answer["Body"]) as body:  # its own ``with`` gives what does not check the length
                    content = body.read() if answer["ContentLength"] <= MAX_SIDECAR_BYTES else b""
                return record_of_sidecar(key, cast("Mapping[str, Any]", answer), content)
            except BrokenBodyError as error:
                if attempt >= self.max_attempts:
                    raise self.error(error, key) from error
            except CorruptObjectError:
                if doubted:  # twice is no accident of the way
                    raise
                doubted = True
            self.pause(attempt)

    def put_sidecar(self, key: str, write_id: str, text: str) -> None:
        """Raises boto3's errors; it may be repeated at will, for its name is used once."""
        body = text.encode()
        attempt = 0
        while True:
            attempt += 1
            try:
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=self.layout.sidecar(write_id),
                    Body=Content(body),
                    ContentType="application/json",
                    Metadata=sidecar_metadata(body, self.layout.object(key)),
                )
            except RequestError as error:
                if attempt >= self.max_attempts or not (may_have_landed(error) or is_garbled(error)):
                    raise
                self.pause(attempt)
            else:
                return

    def discard_sidecar(self, key: str, version: Version) -> None:
        """Remove the sidecar, if there is one, of a version that has been replaced."""
        if version.has_sidecar:
            self._discard(self._location(key, version))

    def discard_unused(self, write_id: str) -> None:
        """Remove the sidecar of an attempt that has failed."""
        self._discard(self.layout.sidecar(write_id))

    def _discard(self, location: str) -> None:
        # One that stays is named by nobody and hidden, so failure is no error.
        try:
            self.client.delete_object(Bucket=self.bucket, Key=location)
        except RequestError as error:
            _LOG.debug("a sidecar that is no longer needed could not be deleted: %s", error)

    def _location(self, key: str, version: Version) -> str:
        assert version.write_id is not None
        assert version.sidecar_root is not None
        return self.layout.sidecar_of(key, version.sidecar_root, version.write_id)

    def current(self, key: str) -> tuple[Version, Record | None]:
        """A version and its record. Raises ``ObjectNotFoundError``; between HEAD and sidecar it may be overwritten."""
        for _ in range(self.max_attempts):
            version = self.head(key)
            if version is None:
                self.check_bucket()
                raise self.not_found(key)
            found, record = self.resolve(key, version)
            if found:
                return version, record
        raise lost_sidecar(key)

    def resolve(self, key: str, version: Version) -> tuple[bool, Record | None]:
        """Whether the version's record could be had, and it. Not, if its sidecar has gone: then look at the key again.

        Raises ``CorruptObjectError``. An object that is not ours has none.
        """
        if version.damage is not None:
            raise version.damage
        if not version.has_sidecar:
            return True, version.record
        record = self.sidecar(key, version)
        return record is not None, record

    def not_found(self, key: str) -> StorageError:
        answer: Any = {"Error": {"Code": "NoSuchKey"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
        return self.error(ClientError(answer, "HeadObject"), key)

    def pause(self, attempt: int) -> None:
        """Wait before another attempt, as botocore's standard mode does: ``attempt`` is 1 after the first.

        On this worker's thread, which botocore's own retries block just so, and never on the event loop.
        """
        # Jitter, not a secret. ``time.sleep`` is looked up late, so that a simulated clock serves.
        time.sleep(random.random() * min(_BACKOFF_SECONDS * 2**attempt, _BACKOFF_LIMIT_SECONDS))  # noqa: S311

    def _with_reason(self, error: BaseException, key: str) -> BaseException:
        """HEAD answers have no body: of a bare 400 or 403 only a GET says whether credentials or permission are wrong."""
        if code_of(error) not in {"400", "401", "403"}:
            return error
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.layout.object(key), Range="bytes=0-0")
        except RequestError as reason:
            return error if is_missing_key(reason) else reason
        answer["Body"].close()
        return error


def lost_sidecar(key: str) -> CorruptObjectError:
    return CorruptObjectError(
        f"object {shown(key)}: the sidecar with its metadata and checksum is missing, although the object names it"
    )
