"""The MESSAGE frame that a message becomes on ActiveMQ Classic. Facts AMQ-1 and AMQ-13 to AMQ-15."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra.queue.destinations import QUEUE_PREFIX
from factflow_infra_testing.wire.stomp.content import content_of
from factflow_infra_testing.wire.stomp.frames import write

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.wire.stomp.subscriptions import Subscription

BROKERS_OWN: Final = frozenset(
    {
        *("destination", "receipt", "transaction", "content-length", "message-id", "timestamp", "subscription"),
        *("redelivered", "ack", "expires", "priority", "persistent", "AMQ_SCHEDULED_DELAY"),
    }
)
"""Headers of a SEND that do not come back as they are."""


def message_of(subscription: Subscription, delivery: Delivery) -> tuple[str, bytes]:
    """The id to ack ``delivery`` by, and its MESSAGE frame."""
    message = delivery.entry.message
    content = content_of(message, f"{QUEUE_PREFIX}{delivery.queue.name}")
    own, version = content.headers, subscription.connection.version
    dead = message.deaths[-1] if message.deaths else None
    message_id = f"ID:simulated:{content.number or delivery.entry.serial}:-1:1:1"
    headers = [
        ("message-id", message_id),
        ("destination", f"{QUEUE_PREFIX}{delivery.queue.name}" if dead else content.address),
        ("expires", "0" if dead else str(content.expires)),
        ("priority", own.get("priority", "4")),
        ("timestamp", str(content.timestamp)),
    ]
    if subscription.id != content.address or version != "1.0":
        headers.append(("subscription", subscription.id))
    if content.persistent:
        headers.append(("persistent", "true"))
    if delivery.redelivered:
        headers.append(("redelivered", "true"))
    headers += [(name, value) for name, value in own.items() if name not in BROKERS_OWN]
    if dead is not None:
        headers += [("original-destination", content.address), ("originalExpiration", str(content.expires))]
        if dead.reason == "expired":
            cause = f"java.lang.Throwable: Message Expired. Expiration:{content.expires}"
            headers.append(("dlqDeliveryFailureCause", cause))
    if "AMQ_SCHEDULED_DELAY" in own:
        headers.append(("scheduledJobId", message_id))
    key = f"{subscription.id}\0{message_id}"
    if subscription.acked and version == "1.2":
        key = f"ID:simulated:{subscription.connection.front_end.new_number()}"
        headers.append(("ack", key))
    body = content.body
    if content.text:
        body = body.decode("utf-8", "replace").encode()
    else:
        headers.append(("content-length", str(len(body))))
    return key, write("MESSAGE", headers, body, version=version)
