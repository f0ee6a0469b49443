"""The faults of S3 and of the way to it: a closed list, and where each strikes.

They strike below botocore's retries, which therefore run as they do in production, in virtual time. Every one is something
that S3, a proxy before it or the network does; the simulated server stays consistent, because S3 is. A plan aims them by
operation and key: ``Fault("s3-answer-lost", "PutObject invoices/1.json", 2)`` is the second such request. Requests of the
laboratory meet none.

What is deliberately absent: a request that is carried out after its client has been told of a timeout. S3 may do that, and
no client without conditions can survive it, so it would find nothing but itself. While a client still waits, or has been
killed meanwhile, requests are carried out late (``s3-slow``).
"""

from __future__ import annotations

import re
import time
from contextvars import Context, copy_context
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.search.kinds import FaultKind
from factflow_infra_testing.simulation.entropy import active_world
from factflow_infra_testing.simulation.owners import OWNER, Owner
from factflow_infra_testing.storage.budgets import ABSORBED, SURFACING
from factflow_infra_testing.storage.s3_requests import SERVER_HOST, CutBody, RawBody, error_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.storage.s3_profiles import S3Profile
    from factflow_infra_testing.storage.s3_requests import Call, Forward, Request

    Note = Callable[[str, str], None]
    """Takes the target and the name of a fault that strikes."""

SLOW: Final = "s3-slow"
PAGE_SHORT: Final = "s3-page-short"
THROTTLED: Final = "s3-throttled"
ERROR: Final = "s3-error"
REFUSED: Final = "s3-refused"
CONFLICT: Final = "s3-conflict"
REQUEST_LOST: Final = "s3-request-lost"
ANSWER_LOST: Final = "s3-answer-lost"
BODY_CUT: Final = "s3-body-cut"
BODY_CORRUPT: Final = "s3-body-corrupt"
UPLOAD_GONE: Final = "s3-upload-gone"
CREDENTIALS: Final = "s3-credentials"

SLOW_SECONDS: Final = (0.0, 0.05, 1.0, 30.0)
"""By choice of ``s3-slow``; all within the provider's read timeout."""

S3_FAULTS: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        kind.kind: replace(kind, part="s3")
        for kind in (
            FaultKind(
                SLOW,
                ("50 ms", "1 s", "30 s"),
                "S3 carries a request out late, even if the process that sent it is killed meanwhile",
                0.1,
            ),
            FaultKind(PAGE_SHORT, (), "a page of a listing ends after one name: what changes meanwhile is seen", 0.1),
            FaultKind(THROTTLED, (), "S3 asks to slow down (503 SlowDown)", 0.05, ABSORBED),
            FaultKind(ERROR, (), "S3 fails (500 InternalError), and has not carried the request out", 0.05, ABSORBED),
            FaultKind(REFUSED, (), "nobody listens at S3's endpoint", 0.05, ABSORBED),
            FaultKind(
                CONFLICT,
                (),
                "S3 refuses a conditional write because another was under way (409), where its profile does so",
                0.05,
                ABSORBED,
            ),
            FaultKind(
                REQUEST_LOST,
                ("reset", "timeout"),
                "the connection to S3 is lost before a request is carried out",
                0.05,
                ABSORBED,
            ),
            FaultKind(
                ANSWER_LOST,
                ("reset", "timeout", "500"),
                "S3 carries a request out, and its answer is lost",
                0.05,
                ABSORBED,
            ),
            FaultKind(
                BODY_CUT,
                ("reset", "short"),
                "the content of an object breaks off half way to its reader",
                0.05,
                ABSORBED,
            ),
            FaultKind(
                BODY_CORRUPT,
                (),
                "a bit of an object's content flips on its way: to the reader unnoticed, to S3 it is refused",
                0.05,
                SURFACING,
            ),
            FaultKind(
                UPLOAD_GONE, (), "S3 has dropped an unfinished upload, as a lifecycle rule does", 0.05, SURFACING
            ),
            FaultKind(
                CREDENTIALS, (), "the credentials have expired (ExpiredToken), until they are renewed", 0.03, SURFACING
            ),
        )
    }
)
"""Every kind by name, mildest first."""

_ALWAYS = (SLOW, THROTTLED, ERROR, REFUSED, REQUEST_LOST, ANSWER_LOST, CREDENTIALS)
_ALSO: Mapping[str, tuple[str, ...]] = {
    "ListObjectsV2": (PAGE_SHORT,),
    "GetObject": (BODY_CUT, BODY_CORRUPT),
    "PutObject": (BODY_CORRUPT,),
    "UploadPart": (BODY_CORRUPT, UPLOAD_GONE),
    "CompleteMultipartUpload": (UPLOAD_GONE,),
}
_CONDITIONAL = ("PutObject", "CompleteMultipartUpload")


class S3Faults:
    """Stands between the exposed clients and the server of one run.

    ``abort_upload(bucket, key, upload_id)`` drops an upload on the server; ``read_timeout`` in seconds is the clients'.
    """

    def __init__(
        self,
        decisions: Decisions,
        *,
        read_timeout: float = 60.0,
        abort_upload: Callable[[Call, Request], None],
        note: Note | None = None,
    ) -> None:
        self._decisions = decisions
        self._read_timeout = read_timeout
        self._abort_upload = abort_upload
        self._note = note

    def carry(self, call: Call, request: Request, forward: Forward, profile: S3Profile) -> Any:
        """The answer to ``request``; or botocore's error is raised. All kinds are asked for, and the first one strikes."""
        struck, choice = self._ask(call, request, profile)
        if not choice:
            return forward(request)
        if self._note is not None:
            self._note(call.target, S3_FAULTS[struck].describe(choice))
        return getattr(self, "_" + struck.removeprefix("s3-").replace("-", "_"))(call, request, forward, choice)

    def _ask(self, call: Call, request: Request, profile: S3Profile) -> tuple[str, int]:
        kinds = (*_ALWAYS, *_ALSO.get(call.operation, ()))
        if (
            profile.conflicts
            and call.operation in _CONDITIONAL
            and ("If-Match" in request.headers or "If-None-Match" in request.headers)
        ):
            kinds = (*kinds, CONFLICT)
        happens = ("", 0)
        target = call.target
        for kind in kinds:
            choice = self._decisions.pick(1 + max(1, len(S3_FAULTS[kind].choices)), kind, target)
            if choice and not happens[1]:
                happens = (kind, choice)
        return happens

    # One method a kind, by its name.

    def _slow(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call
        world = active_world()
        if world is None:
            return forward(request)
        # The server's own doing: it goes on where the process that sent the request does not.
        outcome: list[Any] = []

        def carry_out() -> None:
            if not outcome:
                outcome.append(forward(request))

        seconds = SLOW_SECONDS[choice]
        context = Context()
        context.run(OWNER.set, Owner(SERVER_HOST, host=SERVER_HOST))
        world.loop.call_later(seconds, carry_out, context=context)
        time.sleep(seconds)
        carry_out()  # at the same instant the loop may not have come to it yet
        return outcome[0]

    def _page_short(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call, choice
        # The signature was checked before: what is forwarded is for the store alone.
        request.url = re.sub(r"([?&]max-keys=)\d+", r"\g<1>1", request.url)
        return forward(request)

    def _throttled(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call, forward, choice
        return error_answer(request, 503, "SlowDown", "Please reduce your request rate.")

    def _error(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call, forward, choice
        return error_answer(request, 500, "InternalError", "We encountered an internal error. Please try again.")

    def _refused(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call, forward, choice
        from botocore.exceptions import EndpointConnectionError

        raise EndpointConnectionError(endpoint_url=request.url)

    def _conflict(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call, forward, choice
        return error_answer(request, 409, "ConditionalRequestConflict", "A conflicting operation occurred.")

    def _request_lost(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call, forward
        raise self._loss(request, timeout=choice == 2)

    def _answer_lost(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call
        answer = forward(request)
        if choice == 3:
            return error_answer(request, 500, "InternalError", "We encountered an internal error. Please try again.")
        answer.raw.close()
        raise self._loss(request, timeout=choice == 2)

    def _loss(self, request: Request, *, timeout: bool) -> Exception:
        from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

        if not timeout:
            return ConnectionClosedError(endpoint_url=request.url)
        if active_world() is not None:
            time.sleep(self._read_timeout)
        return ReadTimeoutError(endpoint_url=request.url)

    def _body_cut(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call
        answer = forward(request)
        if answer.status_code < 300:
            content = answer.raw.read()
            if content:
                answer.raw = CutBody(content[: len(content) // 2], reset=choice == 1)
        return answer

    def _body_corrupt(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del choice
        if call.operation != "GetObject":
            return error_answer(
                request, 400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match."
            )
        answer = forward(request)
        if answer.status_code < 300:
            content = bytearray(answer.raw.read())
            if content:
                content[len(content) // 2] ^= 1
            answer.raw = RawBody(bytes(content))
        return answer

    def _upload_gone(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del choice
        self._abort_upload(call, request)
        return forward(request)

    def _credentials(self, call: Call, request: Request, forward: Forward, choice: int) -> Any:
        del call, forward, choice
        return error_answer(request, 400, "ExpiredToken", "The provided token has expired.")


def as_server(forward: Forward, request: Request) -> Any:
    """Carry ``request`` out with the server's own clock in force."""
    context = copy_context()
    context.run(OWNER.set, Owner(SERVER_HOST, host=SERVER_HOST))
    return context.run(forward, request)
