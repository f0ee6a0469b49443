"""Publishes with receipts: every message is persistent, and the broker's RECEIPT has come before the call returns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from stompman import SendFrame

from factflow_infra.errors import PublishUnconfirmedError, QueueConnectionError
from factflow_infra.queue.artemis import wire
from factflow_infra.queue.artemis.failures import LostError, RefusedError, refused_publish
from factflow_infra.queue.causes import cause_text

if TYPE_CHECKING:
    from factflow_infra.queue.artemis.session import Session
    from factflow_infra.queue.artemis.topology import Route
    from factflow_infra.queue.transport import Envelope


async def publish(session: Session, route: Route, envelope: Envelope, delay: float) -> None:
    """Return once the broker has the message on its disk. Raises as ``Transport.publish``."""
    what = f"message {envelope.message.message_id[:80]!r} to {route.destination!r}"
    if session.lost:
        raise QueueConnectionError(f"{what}: not connected to Artemis at {session.endpoint}")
    try:
        # A SEND without a receipt counts as done when it is written, and is lost with the connection; one that is not
        # persistent is lost with the broker, receipt or not (ART-18).
        await session.answered(send_frame(route, envelope, delay))
    except LostError as error:
        raise PublishUnconfirmedError(
            f"{what}: the connection was lost before the broker confirmed it: {cause_text(error)}"
        ) from error
    except RefusedError as error:
        raise refused_publish(error, what) from error


def send_frame(route: Route, envelope: Envelope, delay: float) -> SendFrame:
    """The SEND, without its receipt."""
    headers = wire.encode(envelope)
    body = envelope.message.body
    headers["destination"] = route.destination
    if route.routing_type is not None:
        headers["destination-type"] = route.routing_type
    headers["persistent"] = "true"
    # Without it the broker takes the body for text (ART-19).
    headers["content-length"] = str(len(body))
    if delay:
        headers["AMQ_SCHEDULED_DELAY"] = str(math.ceil(delay * 1000))
    return SendFrame(headers=cast("Any", headers), body=body)
