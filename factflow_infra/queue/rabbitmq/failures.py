"""What aio-pika, aiormq and the operating system raise, as our errors."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelLockedResource,
    ChannelPreconditionFailed,
    ProbableAuthenticationError,
)

from factflow_infra.errors import (
    QueueAuthenticationError,
    QueueConnectionError,
    QueueError,
    TopologyMismatchError,
)
from factflow_infra.queue.causes import cause_text

if TYPE_CHECKING:
    from factflow_infra.queue.rabbitmq.handshake import Refusal

_ACCESS_REFUSED: Final = 403
_NOT_ALLOWED: Final = 530
_MISMATCH: Final = re.compile(r"inequivalent arg '(?P<property>[^']*)' for (?P<kind>queue|exchange) '(?P<name>[^']*)'")
_VALUES: Final = re.compile(r"received (?P<ours>.*?) but current is (?P<theirs>.*)$")


def connect_error(error: BaseException, *, endpoint: str, user: str, vhost: str, refusal: Refusal | None) -> QueueError:
    """For a failed attempt to connect to ``endpoint`` (``host:port``). ``refusal``: what the broker said, if it did."""
    said = f": {refusal.text}" if refusal and refusal.text else ""
    if isinstance(error, ProbableAuthenticationError) or (refusal and refusal.code == _ACCESS_REFUSED):
        return QueueAuthenticationError(
            f"RabbitMQ at {endpoint} refused the login of user {user!r}; check user and password{said}"
        )
    if refusal and refusal.code == _NOT_ALLOWED:
        return QueueAuthenticationError(
            f"RabbitMQ at {endpoint} refused virtual host {vhost!r} to user {user!r}; create it, or grant permission{said}"
        )
    if refusal is not None:
        return QueueConnectionError(f"RabbitMQ at {endpoint} refused the connection ({refusal.code}){said}")
    if isinstance(error, TimeoutError):
        return QueueConnectionError(f"RabbitMQ at {endpoint} did not answer in time")
    return QueueConnectionError(f"no connection to RabbitMQ at {endpoint}: {cause_text(error)}")


def topology_error(error: BaseException, what: str) -> QueueError:
    """For a failed declaration of ``what`` (``queue 'x'``), or another request about it."""
    text = cause_text(error)
    if isinstance(error, ChannelPreconditionFailed):
        match = _MISMATCH.search(text)
        if match is None:
            return TopologyMismatchError(f"{what} cannot be declared as configured: {text}")
        values = _VALUES.search(text)
        detail = f" is {values['theirs']}, we declare {values['ours']}" if values else " differs"
        return TopologyMismatchError(
            f"{match['kind']} {match['name']!r} exists with other properties: {match['property']}{detail}. Delete it, or "
            "change the settings to match"
        )
    if isinstance(error, ChannelAccessRefused):
        return QueueAuthenticationError(f"no permission for {what}: {text}")
    if isinstance(error, ChannelLockedResource):
        return QueueConnectionError(f"{what} is locked by another connection: {text}")
    return QueueConnectionError(f"{what}: {text}")


def is_foreign(error: BaseException, cancelling: int) -> bool:
    """Whether ``error`` came from the client library, though it may be a ``CancelledError``.

    The library ends what waits on a lost connection by cancelling it. ``cancelling`` is the task's count before the call:
    where it has not grown, nobody asked this task to stop.
    """
    if isinstance(error, asyncio.CancelledError):
        return cancellations() == cancelling
    # Futures of a connection that ended without a reason are failed with a bare ``Exception``.
    return isinstance(error, (AMQPError, ChannelInvalidStateError, OSError)) or type(error) is Exception


def cancellations() -> int:
    """How often the current task has been asked to stop."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
