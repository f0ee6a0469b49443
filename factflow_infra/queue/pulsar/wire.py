"""Messages as Pulsar messages with properties, and back.

Headers are properties under their own names. What ``QueueMessage`` has a field for and Pulsar has none travels in properties
that start with ``factflow-wire-``. The ordering key is the message's key as well, the timestamp its event time, for others to
read. Properties hold any text (PUL-20).

Messages of other producers are read generously: their id is their place in the topic, which every delivery of them has.
``undecodable`` is left for what contradicts itself or is not text.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from factflow_infra.errors import InvalidMessageError
from factflow_infra.queue.messages import RESERVED_HEADER_PREFIX, QueueMessage
from factflow_infra.queue.timestamps import format_timestamp, parse_timestamp
from factflow_infra.queue.transport import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import MappingProxyType

    from factflow_infra.queue.pulsar.client import Message

ID: Final = RESERVED_HEADER_PREFIX + "id"
TIMESTAMP: Final = RESERVED_HEADER_PREFIX + "timestamp"
CONTENT_TYPE: Final = RESERVED_HEADER_PREFIX + "content-type"
CORRELATION_ID: Final = RESERVED_HEADER_PREFIX + "correlation-id"
ORDERING_KEY: Final = RESERVED_HEADER_PREFIX + "ordering-key"
ATTEMPTS: Final = RESERVED_HEADER_PREFIX + "attempts"
DELIVERIES: Final = RESERVED_HEADER_PREFIX + "deliveries"
DUE: Final = RESERVED_HEADER_PREFIX + "due"
"""When a delayed message is due, in milliseconds since 1970."""
CONTENT_TYPE_OF_BYTES: Final = "application/octet-stream"

MAX_BYTES: Final = 5 * 1024 * 1024 - 128 * 1024
"""Body and properties together: what a broker takes by default (5 MiB, PUL-18), with room for what a retry or the
dead-letter queue adds."""
MAX_DELAY_SECONDS: Final = 10 * 365 * 24 * 3600.0
_MOST_DIGITS: Final = 15
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def check(message: QueueMessage) -> None:
    """Raise ``InvalidMessageError`` for what is too large for Pulsar."""
    texts = len(message.message_id) + len(message.content_type) + len(message.correlation_id or "")
    key = message.ordering_key or ""  # it goes twice, as the message's key too
    size = len(message.body) + (texts + 2 * len(key)) * 4
    for name, value in message.headers.items():
        size += (len(name) + len(value)) * 4 + 8
    if size <= MAX_BYTES:
        return
    size = (
        len(message.body)
        + len(key.encode())
        + sum(
            len(text.encode()) + 4 for name, value in properties_of(Envelope(message)).items() for text in (name, value)
        )
    )
    if size > MAX_BYTES:
        raise InvalidMessageError(
            f"message {message.message_id[:80]!r} takes {size:,} bytes; Pulsar carries at most {MAX_BYTES:,}. Store large "
            "bodies elsewhere, and send where they are"
        )


def properties_of(envelope: Envelope) -> dict[str, str]:
    """The properties to send ``envelope`` with."""
    message = envelope.message
    # ``dict(...)`` of a mapping proxy, which the headers of every message are, takes six times as long.
    properties = cast("MappingProxyType[str, str]", message.headers).copy()
    properties[ID] = message.message_id
    properties[TIMESTAMP] = format_timestamp(message.timestamp)
    if message.content_type != CONTENT_TYPE_OF_BYTES:
        properties[CONTENT_TYPE] = message.content_type
    if message.correlation_id is not None:
        properties[CORRELATION_ID] = message.correlation_id
    if message.ordering_key is not None:
        properties[ORDERING_KEY] = message.ordering_key
    if envelope.attempts:
        properties[ATTEMPTS] = str(envelope.attempts)
    if envelope.deliveries:
        properties[DELIVERIES] = str(envelope.deliveries)
    return properties


def event_time(message: QueueMessage) -> int | None:
    """Milliseconds since 1970, or ``None`` for what Pulsar cannot say: 0 and before."""
    milliseconds = (message.timestamp - _EPOCH) // _MILLISECOND
    return milliseconds if milliseconds > 0 else None


def decode(message: Message) -> tuple[Envelope, float | None, str | None]:
    """The envelope, when it is due (seconds since 1970) where it was delayed, and why it could not be decoded, or ``None``."""
    body = message.data()
    reason: str
    try:
        properties = message.properties()
        due = properties.get(DUE)
        if TIMESTAMP not in properties:
            return Envelope(_foreign(message, body, properties)), None, None
        return _own(body, properties), None if due is None else _count(properties, DUE) / 1000, None
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error)
    return Envelope(QueueMessage(body=body, message_id=place_id(message))), None, reason


def place_id(message: Message) -> str:
    """An id for a message that has none: its place in the topic, the same for every delivery."""
    place = message.message_id()
    return f"pulsar-{place.ledger_id()}-{place.entry_id()}-{place.partition()}-{place.batch_index()}"


def _foreign(message: Message, body: bytes, properties: Mapping[str, str]) -> QueueMessage:
    milliseconds = message.event_timestamp() or message.publish_timestamp()
    return QueueMessage(
        body=body,
        message_id=place_id(message),
        headers={
            name: value for name, value in properties.items() if name and not name.startswith(RESERVED_HEADER_PREFIX)
        },
        timestamp=_EPOCH + milliseconds * _MILLISECOND,
        ordering_key=message.ordering_key() or message.partition_key() or None,
    )


def _own(body: bytes, properties: Mapping[str, str]) -> Envelope:
    headers = {name: value for name, value in properties.items() if not name.startswith(RESERVED_HEADER_PREFIX)}
    message_id = properties.get(ID, "")
    content_type = properties.get(CONTENT_TYPE, CONTENT_TYPE_OF_BYTES)
    ordering_key = properties.get(ORDERING_KEY)
    # The client gives text only, decoded from UTF-8: what may be wrong with it is that it is empty.
    good = message_id and content_type and ordering_key != "" and "" not in headers
    message = (QueueMessage.decoded if good else QueueMessage)(
        body,
        message_id,
        headers,
        content_type,
        properties.get(CORRELATION_ID),
        parse_timestamp(properties[TIMESTAMP]),
        ordering_key,
    )
    if ATTEMPTS in properties or DELIVERIES in properties:
        return Envelope(message, _count(properties, ATTEMPTS), _count(properties, DELIVERIES))
    return Envelope(message)


def _count(properties: Mapping[str, Any], name: str) -> int:
    text = properties.get(name)
    if text is None:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    raise ValueError(f"property {name} must be a whole number from 0, got {text[:80]!r}")
