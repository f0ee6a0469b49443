"""A message as a broker keeps it, and the MESSAGE frame that it becomes on Artemis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.queue.destinations import QUEUE_PREFIX, TOPIC_PREFIX
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, RESERVED_HEADER_PREFIX
from factflow_infra.queue.transport import Envelope
from factflow_infra_testing.wire.stomp.frames import write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.entries import Delivery, Message
    from factflow_infra_testing.wire.stomp.subscriptions import Subscription

_ID: Final = RESERVED_HEADER_PREFIX + "id"
_SOURCE: Final = DEAD_LETTER_HEADER_PREFIX + "source"
_SUBSCRIPTION: Final = DEAD_LETTER_HEADER_PREFIX + "subscription"
BROKERS_OWN: Final = frozenset(
    {
        *("destination", "content-length", "message-id", "timestamp", "persistent", "priority", "expires"),
        *("correlation-id", "reply-to", "AMQ_SCHEDULED_DELAY", "AMQ_SCHEDULED_TIME", "JMSXGroupID"),
    }
)
"""Headers of a SEND that do not come back as they are."""
_ROUTING_TYPES: Final = {"MULTICAST": "0", "ANYCAST": "1"}


@dataclass(slots=True)
class Content:
    """``number``: the broker's own id. ``text``: it came without a content-length. ``headers``: those of the SEND.

    ``timestamp`` and ``expires`` are in milliseconds since 1970; ``expires`` 0: never.
    """

    number: int
    address: str
    routing_type: str | None
    headers: Mapping[str, str]
    body: bytes
    text: bool
    persistent: bool
    timestamp: int
    expires: int = 0

    @property
    def key(self) -> str:
        """What events and histories call it: the provider's message id, or the broker's."""
        return self.headers.get(_ID) or f"artemis-{self.number}"

    @property
    def source(self) -> str:
        """The label of the queue that a provider dead-lettered this copy from; empty for any other message."""
        source = self.headers.get(_SOURCE, "").removeprefix(QUEUE_PREFIX)
        return f"{source}#{self.headers.get(_SUBSCRIPTION, '')}" if source.startswith(TOPIC_PREFIX) else source

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def envelope(self) -> Envelope:
        """The message as a provider reads it."""
        from stompman import MessageFrame

        from factflow_infra.queue.artemis import wire

        headers: Any = {"message-id": f"0,{self.number}", "timestamp": str(self.timestamp), **self.headers}
        return wire.decode(MessageFrame(headers=headers, body=self.body))[0]


def content_of(message: Message, queue: str) -> Content:
    """The content of any message: one that another tier, or a test, put into ``queue`` is written out first."""
    payload = message.payload
    if isinstance(payload, Content):
        return payload
    headers: Mapping[str, str] = {}
    if isinstance(payload, Envelope):
        from factflow_infra.queue.artemis import wire

        headers, body = wire.encode(payload), payload.message.body
    else:
        body = payload if isinstance(payload, bytes) else repr(payload).encode()
    return Content(0, queue, None, headers, body, text=False, persistent=message.persistent, timestamp=0)


def message_of(subscription: Subscription, delivery: Delivery) -> tuple[str, bytes]:
    """The id to ack ``delivery`` by, and its MESSAGE frame."""
    consumer, version = subscription.number, subscription.connection.version
    message = delivery.entry.message
    content = content_of(message, delivery.queue.name)
    own = content.headers
    number = content.number or delivery.entry.serial
    message_id = f"{consumer},{number}"
    dead = message.deaths[-1] if message.deaths else None
    headers = [("subscription", subscription.id)]
    if not content.text:
        headers.append(("content-length", str(len(content.body))))
    headers += [("message-id", message_id), ("destination", delivery.queue.name if dead else content.address)]
    if "correlation-id" in own:
        headers.append(("correlation-id", own["correlation-id"]))
    headers += [
        ("expires", "0" if dead else str(content.expires)),
        ("redelivered", "true" if delivery.redelivered else "false"),
        ("priority", "4"),
        ("persistent", "true" if content.persistent else "false"),
    ]
    if "reply-to" in own:
        headers.append(("reply-to", own["reply-to"]))
    headers.append(("timestamp", str(content.timestamp)))
    headers += [(name, value) for name, value in own.items() if name not in BROKERS_OWN]
    if dead is not None:
        headers += [
            ("_AMQ_ORIG_ADDRESS", content.address),
            ("_AMQ_ORIG_QUEUE", dead.queue),
            ("_AMQ_ORIG_MESSAGE_ID", str(number)),
        ]
        if content.routing_type is not None:
            headers.append(("_AMQ_ORIG_ROUTING_TYPE", _ROUTING_TYPES[content.routing_type]))
    if content.routing_type is not None and version != "1.0":
        headers.append(("destination-type", content.routing_type))
    if subscription.acked and version == "1.2":
        headers.append(("ack", message_id))
    body = content.body
    if content.text:
        body = body.decode("utf-8", "replace").encode()
        if body and version != "1.0":
            headers.append(("content-length", str(len(body))))
    return message_id, write("MESSAGE", headers, body, version=version)
