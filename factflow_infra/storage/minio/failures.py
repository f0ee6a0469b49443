"""What a failed request means: whether it may have been carried out all the same, and which error says so to the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, no OSError
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from factflow_infra.errors import (
    BucketNotFoundError,
    InvalidObjectError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageAuthenticationError,
    StorageError,
    StorageFullError,
    StorageIOError,
    StoragePermissionError,
    StorageUnreachableError,
    ThrottledError,
    UnsupportedOperationError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

RequestError = (BotoCoreError, ClientError)
"""What boto3 raises for a request that failed."""

BrokenBodyError = (ConnectionError, HTTPClientError, IncompleteReadError, HTTPError, OSError)
"""What reading a body raises when the connection is lost. botocore repeats requests, but never the reading of a body."""

_AUTHENTICATION = {
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "MissingSecurityHeader",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_THROTTLED = {
    "BandwidthLimitExceeded",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
}
_FULL = {
    "InsufficientStorage",
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}
_REFUSED = {"EntityTooLarge", "InvalidArgument", "InvalidRequest", "KeyTooLongError", "MetadataTooLarge"}
_MISSING_KEY = {"NoSuchKey", "NoSuchVersion", "404"}
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted"}
_GARBLED = {"BadDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}


def code_of(error: BaseException) -> str:
    """S3's error code; the bare status where the answer had no body (every HEAD); empty where there was no answer."""
    if isinstance(error, ClientError):
        return str(cast("Any", error.response).get("Error", {}).get("Code", ""))
    return ""


def status_of(error: BaseException) -> int:
    """The HTTP status; 0 where there was no answer."""
    if isinstance(error, ClientError):
        return int(cast("Any", error.response).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return 0


def is_missing_key(error: BaseException) -> bool:
    return code_of(error) in _MISSING_KEY


def is_precondition(error: BaseException) -> bool:
    """A condition did not hold."""
    return status_of(error) == 412


def is_conflict(error: BaseException) -> bool:
    """Another conditional write was under way; nothing was changed, and the same request may succeed now."""
    return code_of(error) in _CONFLICT


def is_garbled(error: BaseException) -> bool:
    """What reached the server was not what was sent; nothing was changed, and the same request may succeed now."""
    return code_of(error) in _GARBLED


def may_have_landed(error: BaseException) -> bool:
    """Whether the server may have carried the request out, or may yet do so, although it failed for us."""
    if isinstance(error, ClientError):
        return _answer_is_open(status_of(error), code_of(error))
    return _exception_is_open(error)


def veto_blind_retry(
    response: tuple[Any, Mapping[str, Any]] | None = None,
    caught_exception: BaseException | None = None,
    operation: Any = None,
    **_: object,
) -> None:
    """A ``needs-retry`` handler for what changes an object: ends the call where the request may have been carried out.

    botocore would send the same request again, and could so undo what someone else has written since, or fail on a
    condition that its own first attempt has made false. So the writer looks first, and then tries again itself. The
    failure is raised from here: a returned ``False`` is a veto for the botocore of 2026, and for those before it a retry
    without delay or end.
    """
    if caught_exception is not None:
        if _exception_is_open(caught_exception):
            raise caught_exception
    elif response is not None:
        answer, parsed = response
        if _answer_is_open(int(answer.status_code), str(parsed.get("Error", {}).get("Code", ""))):
            raise ClientError(cast("Any", parsed), operation.name)


def _answer_is_open(status: int, code: str) -> bool:
    # A 5xx without a code that we know may come from a proxy that lost the server in the middle of the request.
    return status >= 500 and not (status == 501 or code in _THROTTLED or code in _FULL)


def _exception_is_open(error: BaseException) -> bool:
    if isinstance(error, (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)):
        return False
    if isinstance(error, SSLError):
        return not _is_handshake(error)
    # Whatever else the HTTP client reports came after the request had begun; the rest is botocore's own, before it.
    return isinstance(error, HTTPClientError)


def _is_handshake(error: SSLError) -> bool:
    return any(sign in str(error) for sign in ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "HANDSHAKE"))


def translate(error: BaseException, *, bucket: str, what: str) -> StorageError:
    """The error for a request that surely changed nothing. ``what`` names it: ``object 'a/b'``."""
    if isinstance(error, ClientError):
        return _of_answer(error, bucket, what)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)):
        return StorageAuthenticationError(
            f"{what} in bucket {bucket!r}: no usable credentials were found: set FACTFLOW_STORAGE_ACCESS_KEY and "
            "FACTFLOW_STORAGE_SECRET_KEY, or what AWS' default credential chain reads"
        )
    if isinstance(error, ParamValidationError):
        return InvalidObjectError(f"{what} in bucket {bucket!r}: S3 cannot take this request: {error}")
    if isinstance(error, SSLError) and _is_handshake(error):
        return StorageUnreachableError(
            f"{what} in bucket {bucket!r}: no TLS connection with the endpoint; check its certificate, and whether it "
            f"speaks TLS: {error}",
            retryable=False,
        )
    if isinstance(error, BrokenBodyError):
        return StorageUnreachableError(f"{what} in bucket {bucket!r}: no answer from the endpoint: {error}")
    return StorageIOError(f"{what} in bucket {bucket!r}: {type(error).__name__}: {error}")


def _of_answer(error: ClientError, bucket: str, what: str) -> StorageError:
    code, status = code_of(error), status_of(error)
    where = f"{what} in bucket {bucket!r}"
    if code == "NoSuchBucket":
        return BucketNotFoundError(f"bucket {bucket!r} does not exist: create it, or correct the URI")
    if code in _GARBLED:
        return StorageIOError(
            f"{where}: the content was damaged on its way ({code}); nothing was changed", retryable=True
        )
    if code == "NoSuchUpload":
        return StorageIOError(
            f"{where}: the server has dropped the unfinished upload, as a lifecycle rule or somebody's clean-up does; "
            "nothing was changed: write it again",
            retryable=True,
        )
    if code in _MISSING_KEY or status == 404:
        return ObjectNotFoundError(f"{where} does not exist")
    if status == 412:
        return PreconditionFailedError(f"{where}: the condition did not hold; nothing was changed")
    if code in _CONFLICT:
        return StorageIOError(f"{where}: another write was under way each time; nothing was changed", retryable=True)
    if code in _FULL or status == 507:
        return StorageFullError(f"{where}: no space is left, or the quota is used up ({code})")
    if code in _AUTHENTICATION or status == 401:
        return StorageAuthenticationError(f"{where}: the server does not accept the credentials ({code})")
    if code in _THROTTLED or status in (429, 503):
        return ThrottledError(f"{where}: the server asked to slow down ({code}), and the attempts are used up")
    if status == 403:
        return StoragePermissionError(f"{where}: permission denied ({code}): check the policy of these credentials")
    if status == 501 or code == "NotImplemented":
        return UnsupportedOperationError(f"{where}: the server does not carry out what was asked ({code})")
    if code in _REFUSED:
        return InvalidObjectError(f"{where}: the server refused the request ({code}): {_message(error)}")
    if status in (301, 307):
        return StorageIOError(f"{where}: the bucket is in another region or at another endpoint; set the region")
    return StorageIOError(
        f"{where}: the server failed with {status} {code}: {_message(error)}",
        retryable=status >= 500 or code == "RequestTimeout",
    )


def _message(error: ClientError) -> str:
    return str(cast("Any", error.response).get("Error", {}).get("Message", "")) or "no reason was given"
