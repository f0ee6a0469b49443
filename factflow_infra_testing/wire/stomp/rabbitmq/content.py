"""The MESSAGE frame that a message becomes on RabbitMQ's plugin. Fact RST-13."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra.queue.destinations import QUEUE_PREFIX
from factflow_infra_testing.wire.stomp.content import content_of
from factflow_infra_testing.wire.stomp.frames import write
from factflow_infra_testing.wire.stomp.rabbitmq.destinations import shown

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.wire.stomp.subscriptions import Subscription

BROKERS_OWN: Final = frozenset(
    {"destination", "content-length", "message-id", "redelivered", "subscription", "ack", "reply-to"}
)
"""Headers of a SEND that do not come back as they are."""
NAMED: Final = "T_"
"""Begins the tag of a subscription that has an id; ``Q_`` that of one that has not, before its destination."""


def message_of(subscription: Subscription, delivery: Delivery) -> tuple[str, bytes]:
    """The id to ack ``delivery`` by, and its MESSAGE frame."""
    message = delivery.entry.message
    content = content_of(message, f"{QUEUE_PREFIX}{delivery.queue.name}")
    own, version = content.headers, subscription.connection.version
    message_id = f"{subscription.id}@@session-{subscription.connection.number}@@{delivery.tag}"
    headers = [
        ("destination", shown(message.exchange, message.routing_key)),
        ("message-id", message_id),
        ("redelivered", "true" if delivery.redelivered else "false"),
    ]
    if subscription.id.startswith(NAMED):
        headers.append(("subscription", subscription.id.removeprefix(NAMED)))
    if subscription.acked and version == "1.2":
        headers.append(("ack", message_id))
    headers += [(name, value) for name, value in own.items() if name not in BROKERS_OWN]
    if "reply-to" in own:
        reply_to = own["reply-to"]
        headers.append(("reply-to", reply_to if reply_to.startswith("/") else f"/reply-queue/{reply_to}"))
    if content.body:
        headers.append(("content-length", str(len(content.body))))
    return message_id, write("MESSAGE", headers, content.body, version=version)
