"""Messages as AMQP 0-9-1 properties and headers, and back.

What AMQP has a field for goes there, so that other clients read it: message id, content type, correlation id, timestamp
(whole seconds), headers. What those fields cannot hold exactly (microseconds, more than 255 bytes, an empty correlation
id, header names that RabbitMQ or the client would change) travels in headers that start with ``factflow-wire-``.

Messages of other producers are read generously: header values of any AMQP type become text, a missing message id is made
from the content. ``undecodable`` is left for what contradicts itself or is not AMQP.
"""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, cast

from pamqp.commands import Basic

from factflow_infra.errors import InvalidMessageError
from factflow_infra.queue.messages import RESERVED_HEADER_PREFIX, QueueMessage
from factflow_infra.queue.timestamps import format_timestamp, parse_timestamp, utc_now
from factflow_infra.queue.transport import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORT_STRING_BYTES: Final = 255
"""What an AMQP short string holds: property values, names of queues and exchanges."""
HEADER_NAME_BYTES: Final = 128
"""The client cuts longer header names off without an error."""
MAX_HEADER_BYTES: Final = 96 * 1024
"""All headers and properties of one message, encoded: they must fit into one frame (128 KiB by default), with room for
what a retry or the dead-letter queue adds."""
DELIVERY_COUNT_HEADER: Final = "x-delivery-count"
PERSISTENT: Final = 2
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"

ID: Final = RESERVED_HEADER_PREFIX + "id"
TIMESTAMP: Final = RESERVED_HEADER_PREFIX + "timestamp"
CONTENT_TYPE: Final = RESERVED_HEADER_PREFIX + "content-type"
CORRELATION_ID: Final = RESERVED_HEADER_PREFIX + "correlation-id"
ORDERING_KEY: Final = RESERVED_HEADER_PREFIX + "ordering-key"
ATTEMPTS: Final = RESERVED_HEADER_PREFIX + "attempts"
DELIVERIES: Final = RESERVED_HEADER_PREFIX + "deliveries"
HEADERS: Final = RESERVED_HEADER_PREFIX + "headers"
UNDECODABLE: Final = RESERVED_HEADER_PREFIX + "undecodable"

_FIRST_YEAR_WITHOUT_SECONDS: Final = 2106
"""From here on clients take an AMQP timestamp for milliseconds."""
_MOST_COUNTED: Final = 10**15
"""More deliveries than there can have been; a count near the greatest number that AMQP has could not be raised any more."""
_BROKER_HEADERS: Final = (
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
    "x-opt-",
)
"""Written by RabbitMQ itself when it redelivers or dead-letters."""
_FOREIGN_FIELDS: Final = {
    "content_encoding": "amqp-content-encoding",
    "reply_to": "amqp-reply-to",
    "message_type": "amqp-type",
    "app_id": "amqp-app-id",
}
"""Properties that other producers set and ``QueueMessage`` has no field for: readable as headers."""


def fits_short_string(text: str) -> bool:
    """Whether ``text`` can be an AMQP property value or name."""
    return len(text) * 4 <= SHORT_STRING_BYTES or len(text.encode()) <= SHORT_STRING_BYTES


def encode(envelope: Envelope, amqp_id: str | None = None) -> Basic.Properties:
    """The properties to publish ``envelope`` with; ``amqp_id`` where the message id cannot or must not be used as such."""
    message = envelope.message
    headers: dict[str, Any] = {}
    if message.headers:
        _encode_headers(message.headers, headers)
    if amqp_id is not None:
        headers[ID] = message.message_id
    timestamp = message.timestamp
    headers[TIMESTAMP] = format_timestamp(timestamp)
    content_type: str | None = message.content_type
    if not fits_short_string(message.content_type):
        headers[CONTENT_TYPE], content_type = content_type, None
    correlation_id = message.correlation_id
    if correlation_id is not None and (not correlation_id or not fits_short_string(correlation_id)):
        headers[CORRELATION_ID], correlation_id = correlation_id, None
    if message.ordering_key is not None:
        headers[ORDERING_KEY] = message.ordering_key
    if envelope.attempts:
        headers[ATTEMPTS] = envelope.attempts
    if envelope.deliveries:
        headers[DELIVERIES] = envelope.deliveries
    return Basic.Properties(
        content_type=content_type,
        correlation_id=correlation_id,
        delivery_mode=PERSISTENT,
        headers=headers,
        message_id=message.message_id if amqp_id is None else amqp_id,
        timestamp=timestamp if 1970 < timestamp.year < _FIRST_YEAR_WITHOUT_SECONDS else None,
    )


def check_headers(message: QueueMessage) -> None:
    """Raise ``InvalidMessageError`` where headers and properties together are too large for AMQP."""
    characters = len(message.message_id) + len(message.content_type) + len(message.correlation_id or "")
    characters += len(message.ordering_key or "")
    for name, value in message.headers.items():
        characters += len(name) + len(value) + 8
    # A character takes at most four bytes, and at most six in JSON: below this nothing needs measuring.
    if characters * 6 <= MAX_HEADER_BYTES // 2:
        return
    size = len(encode(Envelope(message), "0" * SHORT_STRING_BYTES).marshal())
    if size > MAX_HEADER_BYTES:
        raise InvalidMessageError(
            f"message {message.message_id[:80]!r}: its headers and ids take {size:,} bytes; RabbitMQ carries at most "
            f"{MAX_HEADER_BYTES:,} beside the body. Move large values into the body"
        )


def decode(properties: Basic.Properties, body: bytes) -> tuple[Envelope, str | None]:
    """The envelope of a delivery, and why it could not be decoded (then with what could be saved), or ``None``."""
    table = cast("dict[str, Any]", properties.headers or {})
    try:
        return _decode(properties, table, body), None
    except (ValueError, TypeError, RecursionError) as error:  # the last: of JSON that is nested too deep
        reason = str(error)
    if isinstance(table.get(UNDECODABLE), str):
        reason = table[UNDECODABLE]
    message_id = properties.message_id or content_id(properties, body)
    return Envelope(QueueMessage(body=body, message_id=message_id)), reason


def delivery_count(properties: Basic.Properties) -> int:
    """1 the first time, as quorum queues count."""
    value = (properties.headers or {}).get(DELIVERY_COUNT_HEADER, 0)
    return value + 1 if isinstance(value, int) else 1


def content_id(properties: Basic.Properties, body: bytes) -> str:
    """An id for a message that has none: the same for every delivery of it, so that a redelivery is recognised."""
    digest = blake2b(body, digest_size=16)
    headers = {
        name: value for name, value in (properties.headers or {}).items() if not name.startswith(_BROKER_HEADERS)
    }
    fields = [properties.correlation_id, properties.timestamp, properties.message_type, properties.app_id]
    digest.update(json.dumps([headers, fields], default=str, sort_keys=True).encode())
    return f"content-{digest.hexdigest()}"


@lru_cache(maxsize=4096)
def is_plain_name(name: str) -> bool:
    """Whether the client and RabbitMQ leave a header of that name alone.

    ``CC`` and ``BCC`` would route copies elsewhere, ``x-`` is the broker's own, longer names are cut off.
    """
    return len(name.encode()) <= HEADER_NAME_BYTES and not name.startswith(("x-", "X-")) and name not in {"CC", "BCC"}


def _encode_headers(headers: Mapping[str, str], table: dict[str, Any]) -> None:
    odd: dict[str, str] = {}
    for name, value in headers.items():
        (table if is_plain_name(name) else odd)[name] = value
    if odd:
        table[HEADERS] = json.dumps(odd, ensure_ascii=False)


def _decode(properties: Basic.Properties, table: dict[str, Any], body: bytes) -> Envelope:
    if UNDECODABLE in table:
        raise ValueError(table[UNDECODABLE])
    if TIMESTAMP in table:
        return _decode_own(properties, table, body)
    headers = {
        name: value if type(value) is str else as_text(value)
        for name, value in table.items()
        if name and not name.startswith((RESERVED_HEADER_PREFIX, *_BROKER_HEADERS))
    }
    for field, header in _FOREIGN_FIELDS.items():
        if value := getattr(properties, field):
            headers.setdefault(header, value)
    message = QueueMessage(
        body=body,
        message_id=properties.message_id or content_id(properties, body),
        headers=headers,
        content_type=properties.content_type or DEFAULT_CONTENT_TYPE,
        correlation_id=properties.correlation_id,
        timestamp=properties.timestamp or utc_now(),
    )
    return Envelope(message)


def _decode_own(properties: Basic.Properties, table: dict[str, Any], body: bytes) -> Envelope:
    headers: dict[str, str] = {
        name: value if type(value) is str else as_text(value)
        for name, value in table.items()
        if not name.startswith((RESERVED_HEADER_PREFIX, "x-"))
    }
    if HEADERS in table:
        odd = json.loads(_text(table, HEADERS) or "")
        if not isinstance(odd, dict):
            raise ValueError(f"header {HEADERS} holds no JSON object")
        headers.update(cast("dict[str, str]", odd))
    message_id = _text(table, ID) or properties.message_id or content_id(properties, body)
    correlation_id = _text(table, CORRELATION_ID)
    message = QueueMessage(
        body=body,
        message_id=message_id,
        headers=headers,
        content_type=_text(table, CONTENT_TYPE) or properties.content_type or DEFAULT_CONTENT_TYPE,
        correlation_id=properties.correlation_id if correlation_id is None else correlation_id,
        timestamp=parse_timestamp(_text(table, TIMESTAMP) or ""),
        ordering_key=_text(table, ORDERING_KEY),
    )
    return Envelope(message, attempts=_count(table, ATTEMPTS), deliveries=_count(table, DELIVERIES))


def _text(table: dict[str, Any], name: str) -> str | None:
    value = table.get(name)
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"header {name} must be text, got {type(value).__name__}")


def _count(table: dict[str, Any], name: str) -> int:
    value = table.get(name, 0)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_COUNTED:
        return value
    raise ValueError(f"header {name} must be a whole number from 0, below {_MOST_COUNTED}, got {value!r}")


def as_text(value: Any) -> str:
    """An AMQP header value of another producer as text: bytes that are not UTF-8 as base64, tables and lists as JSON."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case bytes() | bytearray():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return b64encode(value).decode()
        case datetime():
            return value.isoformat()
        case dict() | list():
            return json.dumps(value, default=as_text, ensure_ascii=False)
        case _:
            return str(value)
