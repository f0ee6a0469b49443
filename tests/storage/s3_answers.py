"""Requests where S3 servers differ, each with its fact: asked of real servers and of simulated ones alike."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import botocore.auth
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER_ETAG = "0123456789abcdef0123456789abcdef"
SMALL = 100
PART = 5 * 1024 * 1024


@dataclass
class Asker:
    """Requests of one client on one bucket. ``wrong(**credentials)`` makes a client with others."""

    client: Any
    bucket: str
    wrong: Callable[..., Any]

    def put(self, key: str = "k", body: bytes = b"1", **arguments: Any) -> Any:
        return self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **arguments)

    def complete(self, key: str = "parts", sizes: tuple[int, ...] = (10,), **arguments: Any) -> Any:
        where = {"Bucket": self.bucket, "Key": key}
        upload = self.client.create_multipart_upload(**where)["UploadId"]
        parts = []
        for number, size in enumerate(sizes, 1):
            part = self.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=b"x" * size)
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        return self.client.complete_multipart_upload(
            **where, UploadId=upload, MultipartUpload={"Parts": parts}, **arguments
        )

    def copy(self, etag: str) -> Any:
        source = {"Bucket": self.bucket, "Key": "k"}
        return self.client.copy_object(Bucket=self.bucket, Key="copied", CopySource=source, CopySourceIfMatch=etag)

    def etag(self, key: str = "k") -> str:
        return self.client.head_object(Bucket=self.bucket, Key=key)["ETag"].strip('"')

    def altered(self) -> Any:
        """A put whose body is another one when it arrives."""

        def alter(request: Any, **_: Any) -> None:
            request.body = b"2"

        self.client.meta.events.register_first("before-send.s3.PutObject", alter, unique_id="alter")
        try:
            return self.put()
        finally:
            self.client.meta.events.unregister("before-send.s3.PutObject", alter, unique_id="alter")

    def skewed(self, method: str, **shift: int) -> Any:
        now = botocore.auth.get_current_datetime
        with patch.object(botocore.auth, "get_current_datetime", lambda *a, **k: now(*a, **k) + timedelta(**shift)):
            return getattr(self.wrong(), method)(Bucket=self.bucket, Key="k")


def answered(call: Callable[[], Any]) -> str:
    """``200``, or the status and the error code."""
    try:
        call()
    except ClientError as error:
        answer: Any = error.response
        return f"{answer['ResponseMetadata']['HTTPStatusCode']} {answer['Error'].get('Code')}"
    except LookupError as error:
        return f"crashes: {type(error).__name__}"  # bare moto, of an unknown upload
    return "200"


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


ZERO_SHA256 = base64.b64encode(bytes(32)).decode()

QUESTIONS: dict[str, Callable[[Asker], Any]] = {
    "put, If-None-Match: * on an existing key": lambda a: a.put(IfNoneMatch="*"),
    "put, If-Match with another etag": lambda a: a.put(IfMatch=OTHER_ETAG),
    "put, If-Match, bare": lambda a: a.put(IfMatch=a.etag()),
    "put, If-Match, in quotes": lambda a: a.put(IfMatch=f'"{a.etag()}"'),
    "put, If-Match on a missing key": lambda a: a.put("missing", IfMatch=OTHER_ETAG),
    "complete, If-None-Match: * on an existing key": lambda a: a.complete("k", IfNoneMatch="*"),
    "complete, If-Match with another etag": lambda a: a.complete("k", IfMatch=OTHER_ETAG),
    "delete, If-Match with another etag": lambda a: a.client.delete_object(
        Bucket=a.bucket, Key="deleted", IfMatch=OTHER_ETAG
    ),
    "copy, source If-Match with another etag": lambda a: a.copy(OTHER_ETAG),
    "copy, source If-Match": lambda a: a.copy(a.etag()),
    "wrong Content-MD5": lambda a: a.put(ContentMD5=_md5(b"another")),
    "Content-MD5 that is none": lambda a: a.put(ContentMD5="xyz"),
    "body other than signed": lambda a: a.altered(),
    "wrong CRC-32": lambda a: a.put(ChecksumCRC32="AAAAAA=="),
    "wrong SHA-256": lambda a: a.put(ChecksumSHA256=ZERO_SHA256),
    "key of 1,025 bytes": lambda a: a.put("x" * 1025),
    "part too small": lambda a: a.complete(sizes=(SMALL, 1)),
    "part of an unknown upload": lambda a: a.client.upload_part(
        Bucket=a.bucket, Key="k", UploadId="unknown", PartNumber=1, Body=b""
    ),
    "wrong secret": lambda a: a.wrong(aws_secret_access_key="wrong").get_object(Bucket=a.bucket, Key="k"),
    "unknown access key": lambda a: a.wrong(aws_access_key_id="nobody").get_object(Bucket=a.bucket, Key="k"),
    "wrong secret, HEAD": lambda a: a.wrong(aws_secret_access_key="wrong").head_object(Bucket=a.bucket, Key="k"),
    "clock an hour fast": lambda a: a.skewed("get_object", hours=1),
    "clock an hour slow": lambda a: a.skewed("get_object", hours=-1),
    "clock 14 minutes slow": lambda a: a.skewed("get_object", minutes=-14),
}
"""By name; ``k`` and ``deleted`` exist."""

CONDITIONS = tuple(name for name in QUESTIONS if "Match" in name)

COMMON = {
    "put, If-None-Match: * on an existing key": "412 PreconditionFailed",
    "put, If-Match with another etag": "412 PreconditionFailed",
    "put, If-Match, bare": "200",
    "put, If-Match, in quotes": "200",
    "complete, If-None-Match: * on an existing key": "412 PreconditionFailed",
    "complete, If-Match with another etag": "412 PreconditionFailed",
    "copy, source If-Match with another etag": "412 PreconditionFailed",
    "copy, source If-Match": "200",
    "wrong Content-MD5": "400 BadDigest",
    "Content-MD5 that is none": "400 InvalidDigest",
    "body other than signed": "400 XAmzContentSHA256Mismatch",
    "wrong CRC-32": "400 BadDigest",
    "wrong SHA-256": "400 BadDigest",
    "key of 1,025 bytes": "400 KeyTooLongError",
    "part too small": "400 EntityTooSmall",
    "part of an unknown upload": "404 NoSuchUpload",
    "wrong secret": "403 SignatureDoesNotMatch",
    "unknown access key": "403 InvalidAccessKeyId",
    "wrong secret, HEAD": "403 403",
    "clock an hour fast": "403 RequestTimeTooSkewed",
    "clock an hour slow": "403 RequestTimeTooSkewed",
    "clock 14 minutes slow": "200",
}

ANSWERS: dict[str, dict[str, str]] = {
    "aws": {
        **COMMON,
        "put, If-Match on a missing key": "404 NoSuchKey",
        "delete, If-Match with another etag": "412 PreconditionFailed",
    },
    "minio": {
        **COMMON,
        "put, If-Match on a missing key": "200",
        "delete, If-Match with another etag": "200",
    },
    "radosgw": {
        **COMMON,
        "put, If-Match, in quotes": "412 PreconditionFailed",
        "put, If-Match on a missing key": "412 PreconditionFailed",
        "complete, If-None-Match: * on an existing key": "200",
        "complete, If-Match with another etag": "200",
        "delete, If-Match with another etag": "200",
        "copy, source If-Match with another etag": "200",
        "wrong CRC-32": "200",
        "wrong SHA-256": "200",
        "key of 1,025 bytes": "400 InvalidObjectName",
    },
}
"""What each kind of server answers: of radosgw as it was observed, of the others as documented (docs/facts.md)."""


def ask_all(asker: Asker) -> dict[str, str]:
    answers = {}
    for name, question in QUESTIONS.items():
        asker.put("k", b"1")
        asker.put("deleted", b"1")
        answers[name] = answered(lambda question=question: question(asker))
    return answers
