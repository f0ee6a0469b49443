"""The simulated server: moto's store behind the checks that moto lacks, as the profile of the bucket has them.

moto takes any signature, a wrong Content-MD5 or SHA-256, keys above 1,024 bytes, and conditions on the source of a copy or
on completing an upload as if they held. What real servers answer instead is in ``docs/facts.md``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from zlib import crc32

from factflow_infra_testing.storage.s3_profiles import BARE, IGNORED
from factflow_infra_testing.storage.s3_requests import RawBody, body_of, error_answer, header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from factflow_infra_testing.storage.s3_profiles import S3Profile
    from factflow_infra_testing.storage.s3_requests import Call, Request

MAX_SKEW_SECONDS: Final = 15 * 60
MAX_KEY_BYTES: Final = 1024
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
_WRITES = ("PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
_UPLOAD_ID = re.compile(rb"<UploadId>(.*?)</UploadId>")
_INITIATED = re.compile(rb"<Initiated>(.*?)</Initiated>")
_OF_UPLOADS = ("UploadPart", "CompleteMultipartUpload")
_EMPTY_SHA256 = hashlib.sha256().hexdigest()


class Store(Protocol):
    """What holds the objects."""

    def answer(self, request: Request) -> Any: ...
    def etag(self, bucket: str, key: str) -> str | None:
        """The bare etag of the object that stands there now."""
        ...

    def knows_upload(self, call: Call, request: Request) -> bool:
        """Whether the upload that ``request`` is about is under way, or has become the object that stands there."""
        ...


class S3Server:
    """Answers requests, one after the other. ``credentials``: the secret of each access key."""

    def __init__(self, store: Store, credentials: Mapping[str, str], profile_of: Callable[[str], S3Profile]) -> None:
        self._store = store
        self._credentials = credentials
        self._profile_of = profile_of
        # Real servers decide a condition and act on it in one step; moto in several, which threads could come between.
        self._lock = threading.Lock()
        self._begun: dict[bytes, str] = {}

    def answer(self, call: Call, request: Request) -> Any:
        """The answer to a request that ``authenticate`` let pass."""
        profile = self._profile_of(call.bucket)
        with self._lock:
            refusal = self._check(call, request, profile)
            if refusal is not None:
                return refusal
            answer = self._store.answer(request)
            answer.headers["date"] = formatdate(time.time(), usegmt=True)
            if call.operation in ("CreateMultipartUpload", "ListMultipartUploads") and answer.status_code < 300:
                answer.raw = RawBody(self._dated(call, answer.raw.read()))
        return _styled(call, answer, profile)

    def _dated(self, call: Call, body: bytes) -> bytes:
        """The answer with the time when each upload began: moto has all of them begin in 2010."""
        if call.operation == "CreateMultipartUpload":
            found = _UPLOAD_ID.search(body)
            if found is not None:
                self._begun[found[1]] = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            return body
        uploads = (_UPLOAD_ID.search(part) for part in body.split(b"<Upload>")[1:])
        times = iter([self._begun.get(found[1], "") if found else "" for found in uploads])
        return _INITIATED.sub(lambda found: f"<Initiated>{next(times) or found[1].decode()}</Initiated>".encode(), body)

    # Who asks.

    def authenticate(self, request: Request, *, skew_allowed: bool = False) -> Any:
        """The refusal of a request as its client sent it; ``None`` lets it pass.

        ``skew_allowed``: the client's clock may be as wrong as it likes.
        """
        given = header(request, "Authorization")
        if given is None:
            if "X-Amz-Signature=" in request.url:
                return None  # a presigned URL: nothing in the simulation fetches one
            return error_answer(request, 403, "AccessDenied", "Access Denied")
        found = _AUTHORIZATION.fullmatch(given)
        if found is None:
            return error_answer(request, 400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
        access_key, scope, signed, signature = found.groups()
        secret = self._credentials.get(access_key)
        if secret is None:
            return error_answer(request, 403, "InvalidAccessKeyId", "The access key is not known.")
        stamp = header(request, "X-Amz-Date") or ""
        if not hmac.compare_digest(_signature(request, secret, scope, signed.split(";"), stamp), signature):
            return error_answer(request, 403, "SignatureDoesNotMatch", "The signature does not match.")
        sent = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if not skew_allowed and abs(sent - time.time()) > MAX_SKEW_SECONDS:
            return error_answer(request, 403, "RequestTimeTooSkewed", "The difference of the times is too large.")
        return None

    # What is asked.

    def _check(self, call: Call, request: Request, profile: S3Profile) -> Any:
        if len(call.key.encode()) > MAX_KEY_BYTES:
            return error_answer(request, 400, profile.long_key, "Your key is too long")
        if call.operation in _WRITES:
            refusal = _check_body(request, profile)
            if refusal is not None:
                return refusal
        if call.operation in _OF_UPLOADS and not self._store.knows_upload(call, request):
            return error_answer(request, 404, "NoSuchUpload", "The specified upload does not exist.")
        return self._check_conditions(call, request, profile)

    def _check_conditions(self, call: Call, request: Request, profile: S3Profile) -> Any:
        complete = call.operation == "CompleteMultipartUpload"
        rows: list[tuple[str, str, tuple[str, str]]] = []
        if call.operation in ("PutObject", "CompleteMultipartUpload"):
            here = (call.bucket, call.key)
            rows.append(("If-None-Match", profile.complete_absent if complete else profile.put_absent, here))
            rows.append(("If-Match", profile.complete_match if complete else profile.put_match, here))
        elif call.operation == "DeleteObject":
            rows.append(("If-Match", profile.delete_match, (call.bucket, call.key)))
        elif call.operation == "CopyObject":
            source = unquote(header(request, "x-amz-copy-source") or "").lstrip("/").partition("/")
            rows.append(("x-amz-copy-source-if-match", profile.copy_match, (source[0], source[2])))
        for name, support, (bucket, key) in rows:
            wanted = header(request, name)
            if wanted is None:
                continue
            del request.headers[name]  # decided here: moto knows some of them, each in its own way
            if support == IGNORED:
                continue
            refusal = _condition(request, name, wanted, self._store.etag(bucket, key), support, profile, call)
            if refusal is not None:
                return refusal
        return None


def _condition(
    request: Request, name: str, wanted: str, etag: str | None, support: str, profile: S3Profile, call: Call
) -> Any:
    failed = error_answer(request, 412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
    if name == "If-None-Match":
        return failed if etag is not None else None
    if etag is None:
        if call.operation == "DeleteObject" or not profile.missing_match:
            return None
        code = "PreconditionFailed" if profile.missing_match == 412 else "NoSuchKey"
        return error_answer(request, profile.missing_match, code, "The specified key does not exist.")
    bare = wanted.strip('"')
    holds = wanted == "*" or (bare == etag and (support != BARE or wanted == bare))
    return None if holds else failed


def _check_body(request: Request, profile: S3Profile) -> Any:
    body = body_of(request)
    claimed = header(request, "X-Amz-Content-SHA256") or ""
    if re.fullmatch("[0-9a-f]{64}", claimed) and hashlib.sha256(body).hexdigest() != claimed:
        return error_answer(request, 400, "XAmzContentSHA256Mismatch", "The 'x-amz-content-sha256' does not match.")
    digest = header(request, "Content-MD5")
    if digest is not None and profile.checks_md5:
        try:
            well_formed = len(b64decode(digest, validate=True)) == 16
        except ValueError:
            well_formed = False
        if not well_formed:
            return error_answer(request, 400, "InvalidDigest", "The Content-MD5 you specified is not valid.")
        if b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() != digest:
            return error_answer(request, 400, "BadDigest", "The Content-MD5 did not match what we received.")
    if profile.checks_checksums:
        for name, compute in _CHECKSUMS.items():
            given = header(request, f"x-amz-checksum-{name}")
            if given is not None and b64encode(compute(body)).decode() != given:
                return error_answer(request, 400, "BadDigest", f"The {name.upper()} did not match what we received.")
    return None


_CHECKSUMS: Mapping[str, Callable[[bytes], bytes]] = {
    "crc32": lambda body: crc32(body).to_bytes(4, "big"),
    "sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "sha256": lambda body: hashlib.sha256(body).digest(),
}


def _signature(request: Request, secret: str, scope: str, signed: list[str], stamp: str) -> str:
    """The signature that ``request`` should have: AWS' Signature Version 4, written from its documentation."""
    parts = urlsplit(request.url)
    canonical = "\n".join(
        (
            request.method,
            quote(unquote(parts.path) or "/", safe="/-_.~"),
            "&".join(
                f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}"
                for k, v in sorted(parse_qsl(parts.query, keep_blank_values=True))
            ),
            *(f"{name}:{' '.join(_header_value(request, name, parts.netloc).split())}" for name in signed),
            "",
            ";".join(signed),
            header(request, "X-Amz-Content-SHA256") or _EMPTY_SHA256,
        )
    )
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def _header_value(request: Request, name: str, host: str) -> str:
    value = header(request, name)
    return host if value is None and name == "host" else value or ""


def _styled(call: Call, answer: Any, profile: S3Profile) -> Any:
    """The answer in the ways of the profile."""
    if answer.status_code >= 300:
        return answer
    if profile.capital_metadata:
        _rename(answer.headers, (name for name in list(answer.headers) if name.lower().startswith("x-amz-meta-")))
    if call.operation == "CompleteMultipartUpload" and not profile.etag_of_complete:
        answer.raw = RawBody(re.sub(rb"<ETag>.*?</ETag>", b"<ETag></ETag>", answer.raw.read()))
    return answer


def _rename(headers: Any, names: Iterable[str]) -> None:
    for name in names:
        value = headers[name]
        del headers[name]
        prefix, rest = name[:11], name[11:]
        headers[prefix + "-".join(word.capitalize() for word in rest.split("-"))] = value
