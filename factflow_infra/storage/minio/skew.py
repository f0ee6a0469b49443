"""A machine whose clock is wrong: S3 refuses signatures that are more than 15 minutes off, and says what time it is.

AWS' SDKs for other languages then sign with the server's time and try again; botocore does not, so it is done here. The
difference is kept for each client, and measured anew where the server refuses again: the clock has been set since.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

import botocore.auth
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

SIGNATURE = "s3v4"
SKEWED_SIGNATURE = "factflow-s3v4"
TOLERATED_SECONDS = 300.0
"""Differences below this are not worth a correction: S3 takes up to 900."""
_CODE = "RequestTimeTooSkewed"
_CONTEXT = "factflow_skew"
_ATTRIBUTE = "_factflow_skew"


class Skew:
    """How far the server's clock is ahead of this machine's, in seconds; 0 until it has complained."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def choose(self, signature_version: Any = None, context: dict[str, Any] | None = None, **_: object) -> str | None:
        """A ``choose-signer`` handler: our signer where the clock is known to be wrong."""
        if signature_version != SIGNATURE or context is None or not self.seconds:
            return None
        context[_CONTEXT] = self.seconds
        return SKEWED_SIGNATURE

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


class _SkewedAuth(S3SigV4Auth):
    """Signs with the server's time."""

    def _modify_request_before_signing(self, request: Any) -> None:
        shift = timedelta(seconds=request.context.get(_CONTEXT, 0.0))
        stamp = datetime.strptime(request.context["timestamp"], SIGV4_TIMESTAMP).replace(tzinfo=UTC)
        request.context["timestamp"] = (stamp + shift).strftime(SIGV4_TIMESTAMP)
        cast("Any", super())._modify_request_before_signing(request)  # noqa: SLF001 - the step that may be overridden


def correct_skew(client: S3Client) -> None:
    """Have ``client`` sign with the server's time once that has refused its own; a second call changes nothing."""
    if getattr(client, _ATTRIBUTE, None) is not None:
        return
    # botocore finds signers by name in this table: an entry of our own is what it offers for others.
    cast("dict[str, Any]", botocore.auth.AUTH_TYPE_MAPS).setdefault(SKEWED_SIGNATURE, _SkewedAuth)
    skew = Skew()
    setattr(client, _ATTRIBUTE, skew)
    events = cast("Any", client.meta.events)
    events.register_first("choose-signer.s3", skew.choose, unique_id="factflow-skew-signer")
    events.register_first("needs-retry.s3", skew.learn, unique_id="factflow-skew-learner")


def skew_of(client: S3Client) -> Skew:
    """What ``correct_skew`` has put there."""
    return cast("Skew", getattr(client, _ATTRIBUTE))
