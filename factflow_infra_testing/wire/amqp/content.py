"""What was published, kept byte for byte; and what the broker writes into it on the way out: counts, and deaths."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from pamqp import commands, encode

from factflow_infra.queue.destinations import QUEUE_PREFIX, TOPIC_PREFIX
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX
from factflow_infra.queue.rabbitmq import wire
from factflow_infra.queue.transport import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.entries import Death, Message

DELIVERY_COUNT: Final = "x-delivery-count"
_HEADERS: Final = 0x2000
_BEFORE_HEADERS: Final = (0x8000, 0x4000)
_SOURCE: Final = DEAD_LETTER_HEADER_PREFIX + "source"
_SUBSCRIPTION: Final = DEAD_LETTER_HEADER_PREFIX + "subscription"
_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Where the broker's clock begins: a simulated broker counts seconds of its run."""


class Content:
    """Properties (as they came, and read) and body of a published message."""

    __slots__ = ("body", "properties", "raw")

    def __init__(self, raw: bytes, properties: commands.Basic.Properties, body: bytes) -> None:
        self.raw = raw
        self.properties = properties
        self.body = body

    @property
    def headers(self) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", self.properties.headers or {})

    @property
    def key(self) -> str:
        """The message id: what events and histories call it."""
        own = self.headers.get(wire.ID)
        if isinstance(own, str):
            return own
        return self.properties.message_id or wire.content_id(self.properties, self.body)

    @property
    def source(self) -> str:
        """The label of the queue that a provider dead-lettered this copy from; empty for any other message."""
        headers = self.headers
        source = str(headers.get(_SOURCE, "")).removeprefix(QUEUE_PREFIX)
        return f"{source}#{headers.get(_SUBSCRIPTION, '')}" if source.startswith(TOPIC_PREFIX) else source

    @property
    def envelope(self) -> Envelope:
        """The message as a provider reads it."""
        return wire.decode(self.properties, self.body)[0]

    def with_headers(self, added: Mapping[str, Any], *, expires: bool = True) -> bytes:
        """The properties with some headers more, or other; without ``expires`` their expiration is left out."""
        properties = self.properties
        known = self.headers
        if (expires or properties.expiration is None) and not any(name in known for name in added):
            return _spliced(self.raw, added)
        fields: dict[str, Any] = {name: getattr(properties, name) for name in properties.attributes()}
        fields["headers"] = {**known, **added}
        if not expires:
            fields["expiration"] = None
        return _marshalled(commands.Basic.Properties(**fields))


def content_of(message: Message) -> Content:
    """The content of any message: one that another tier, or a test, put into the queue is written out first."""
    payload = message.payload
    if isinstance(payload, Content):
        return payload
    if isinstance(payload, Envelope):
        properties = wire.encode(payload)
        return Content(_marshalled(properties), properties, payload.message.body)
    body = payload if isinstance(payload, bytes) else repr(payload).encode()
    properties = commands.Basic.Properties(message_id=message.key)
    return Content(_marshalled(properties), properties, body)


def outgoing(message: Message, count: int | None, *, always_counted: bool = False) -> tuple[bytes, bytes]:
    """Properties and body of a delivery. ``count`` is 1 the first time, ``None`` where the queue does not count."""
    content = content_of(message)
    added: dict[str, Any] = {}
    if count is not None and (count > 1 or always_counted):
        added[DELIVERY_COUNT] = count - 1
    if message.deaths:
        added |= _death_headers(message.deaths, content)
    if not added:
        return content.raw, content.body
    return content.with_headers(added, expires=not message.deaths), content.body


def _death_headers(deaths: tuple[Death, ...], content: Content) -> dict[str, Any]:
    """The newest first; further deaths of one reason in one queue are counted, and come to the front."""
    table: list[dict[str, Any]] = []
    expiration = content.properties.expiration
    for position, death in enumerate(deaths):
        known = next((one for one in table if (one["queue"], one["reason"]) == (death.queue, death.reason)), None)
        if known is not None:
            known["count"] += 1
            table.remove(known)
            table.insert(0, known)
            continue
        entry: dict[str, Any] = {
            "count": 1,
            "reason": death.reason,
            "queue": death.queue,
            "time": datetime.fromtimestamp(_EPOCH.timestamp() + int(death.time), UTC),
            "exchange": death.exchange,
            "routing-keys": [death.routing_key],
        }
        if position == 0 and expiration:
            entry["original-expiration"] = expiration
        table.insert(0, entry)
    first = deaths[0]
    return {
        "x-death": table,
        "x-first-death-exchange": first.exchange,
        "x-first-death-queue": first.queue,
        "x-first-death-reason": first.reason,
    }


def _spliced(raw: bytes, added: Mapping[str, Any]) -> bytes:
    """Put header entries in front of those that are there, and leave every other byte alone."""
    flags = int.from_bytes(raw[:2], "big")
    at = 2
    for flag in _BEFORE_HEADERS:
        if flags & flag:
            at += 1 + raw[at]
    table = encode.field_table(dict(added))[4:]
    if flags & _HEADERS:
        (length,) = struct.unpack_from(">I", raw, at)
        rest = raw[at + 4 :]
    else:
        length, rest = 0, raw[at:]
    return b"".join(
        [struct.pack(">H", flags | _HEADERS), raw[2:at], struct.pack(">I", length + len(table)), table, rest]
    )


def _marshalled(properties: commands.Basic.Properties) -> bytes:
    return properties.marshal()
