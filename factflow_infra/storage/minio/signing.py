"""How requests are signed: with the server's time, and without hashing a body a second time.

A machine whose clock is wrong: S3 refuses signatures that are more than 15 minutes off, and says what time it is. AWS' SDKs for
other languages then sign with the server's time and try again; botocore does not, so it is done here. The difference is
kept for each client, and measured anew where the server refuses again: the clock has been set since.

A body whose SHA-256 is known is signed with that, which spares hashing it twice; and so the server checks the very checksum that is
in the record.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import botocore.auth
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

SIGNATURE = "s3v4"
OUR_SIGNATURE = "factflow-s3v4"
TOLERATED_SECONDS = 300.0
"""Differences below this are not worth a correction: S3 takes up to 900."""
_CODE = "RequestTimeTooSkewed"
_CONTEXT = "factflow_skew"
_SHA256 = "factflow_sha256"
_ATTRIBUTE = "_factflow_skew"


class Content(BytesIO):
    """A body to send: ``content``, and its SHA-256 in hexadecimal where it is known.

    A file, for botocore makes one of bytes; but the HTTP client reads and sends 16 KiB of a file at a time, so the request gets
    the bytes themselves when it is made.
    """

    def __init__(self, content: bytes, sha256: str | None = None) -> None:
        super().__init__(content)
        self.content = content
        self.sha256 = sha256


class Skew:
    """How far the server's clock is ahead of this machine's, in seconds; 0 until it has complained."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def choose(self, signature_version: Any = None, context: dict[str, Any] | None = None, **_: object) -> str | None:
        """A ``choose-signer`` handler: our signer, which is told how wrong the clock is."""
        if signature_version != SIGNATURE or context is None:
            return None
        context[_CONTEXT] = self.seconds
        return OUR_SIGNATURE

    def learn(
        self, response: tuple[Any, Mapping[str, Any]] | None = None, attempts: int = 1, **_: object
    ) -> float | None:
        """A ``needs-retry`` handler: 0, which is "at once", where the refusal has told something new."""
        if response is None:
            return None
        answer, parsed = response
        code = str(parsed.get("Error", {}).get("Code", ""))
        if code != _CODE and not (code == "403" and int(answer.status_code) == 403):  # a HEAD's answer has no code
            return None
        try:
            server = parsedate_to_datetime(str(answer.headers["date"])).timestamp()
        except (KeyError, ValueError, TypeError):
            return None
        found = server - time.time()
        if abs(found - self.seconds) <= TOLERATED_SECONDS or attempts > 2:
            return None
        self.seconds = found if abs(found) > TOLERATED_SECONDS else 0.0
        return 0


class _Signer(S3SigV4Auth):
    _signed: Any = None

    def add_auth(self, request: Any) -> None:
        self._signed = None
        cast("Any", super()).add_auth(request)

    def headers_to_sign(self, request: Any) -> Any:
        """Which headers, as botocore says: it asks twice for each request, and nothing changes in between."""
        if self._signed is None:
            self._signed = cast("Any", super()).headers_to_sign(request)
        return self._signed

    def payload(self, request: Any) -> str:
        """What is signed of the body: its SHA-256 where it is known already, else what botocore would sign."""
        known: str | None = request.context.get(_SHA256)
        return known or cast("Any", super()).payload(request)

    def _modify_request_before_signing(self, request: Any) -> None:
        if shift := request.context.get(_CONTEXT, 0.0):
            stamp = datetime.strptime(request.context["timestamp"], SIGV4_TIMESTAMP).replace(tzinfo=UTC)
            request.context["timestamp"] = (stamp + timedelta(seconds=shift)).strftime(SIGV4_TIMESTAMP)
        cast("Any", super())._modify_request_before_signing(request)  # noqa: SLF001 - the step that may be overridden


def sign_our_way(client: S3Client) -> None:
    """Have ``client`` sign as this module says; a second call changes nothing."""
    if getattr(client, _ATTRIBUTE, None) is not None:
        return
    # botocore finds signers by name in this table: an entry of our own is what it offers for others.
    cast("dict[str, Any]", botocore.auth.AUTH_TYPE_MAPS).setdefault(OUR_SIGNATURE, _Signer)
    skew = Skew()
    setattr(client, _ATTRIBUTE, skew)
    events = cast("Any", client.meta.events)
    events.register_first("choose-signer.s3", skew.choose, unique_id="factflow-signer")
    events.register_first("needs-retry.s3", skew.learn, unique_id="factflow-skew-learner")
    events.register_first("request-created.s3", _unwrap, unique_id="factflow-content")


def _unwrap(request: Any, **_: object) -> None:
    body = request.data
    if isinstance(body, Content):
        request.data = body.content
        request.context[_SHA256] = body.sha256


def skew_of(client: S3Client) -> Skew:
    """What ``sign_our_way`` has put there."""
    return cast("Skew", getattr(client, _ATTRIBUTE))
