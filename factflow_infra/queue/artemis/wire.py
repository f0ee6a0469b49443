"""Messages as STOMP headers on Artemis, and back.

What STOMP or Artemis has a header for goes there, so that other clients read it: content type, correlation id, and the
message's own headers under their names. The broker gives message ids and timestamps of its own (ART-21), so ours travel in
headers that start with ``factflow-wire-``, as does all that stompman's codec would change (carriage returns, NUL), and names
that mean something to the broker.

Messages of other producers are read generously: a missing message id is made from the broker's. ``undecodable`` is left for
what contradicts itself.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from factflow_infra.errors import InvalidMessageError
from factflow_infra.queue.messages import RESERVED_HEADER_PREFIX, QueueMessage
from factflow_infra.queue.timestamps import format_timestamp, parse_timestamp, utc_now
from factflow_infra.queue.transport import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stompman import MessageFrame

MAX_HEADER_CHARACTERS: Final = 40_000
"""All headers of one message. Artemis keeps them in two bytes a character, and refuses 100 KiB of them beside a large body
(AMQ339011); a retry or the dead-letter queue adds some."""
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
MAX_DELAY_SECONDS: Final = 10 * 365 * 24 * 3600.0

ID: Final = RESERVED_HEADER_PREFIX + "id"
TIMESTAMP: Final = RESERVED_HEADER_PREFIX + "timestamp"
CONTENT_TYPE: Final = RESERVED_HEADER_PREFIX + "content-type"
CORRELATION_ID: Final = RESERVED_HEADER_PREFIX + "correlation-id"
ORDERING_KEY: Final = RESERVED_HEADER_PREFIX + "ordering-key"
ATTEMPTS: Final = RESERVED_HEADER_PREFIX + "attempts"
DELIVERIES: Final = RESERVED_HEADER_PREFIX + "deliveries"
HEADERS: Final = RESERVED_HEADER_PREFIX + "headers"

_OWN_FIELDS: Final = frozenset({ID, CONTENT_TYPE, CORRELATION_ID, ORDERING_KEY})
_STANDARD: Final = frozenset(
    {
        *("destination", "destination-type", "subscription", "subscription-type", "id", "message-id", "ack", "receipt"),
        *("receipt-id", "transaction", "content-length", "content-type", "correlation-id", "timestamp", "expires"),
        *("persistent", "priority", "redelivered", "reply-to", "type", "selector", "session", "version", "heart-beat"),
        *("login", "passcode", "host", "server", "no-local", "client-id", "durable-subscription-name", "message"),
        *("durable-subscriber-name", "ttl", "accept-version", "consumer-window-size", "userid"),
    }
)
_BROKERS_OWN: Final = ("jms", "_amq", "amq", "_hq", "hornetq", "activemq", "m_")
"""How names begin, in any case, that Artemis gives a meaning or keeps back."""
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_MOST_DIGITS: Final = 15
_FOREIGN_FIELDS: Final = {"reply-to": "stomp-reply-to", "type": "stomp-type"}
"""Headers that other producers set and ``QueueMessage`` has no field for: readable under another name."""


def encode(envelope: Envelope) -> dict[str, str]:
    """The headers to send ``envelope`` with, those of its destination not included."""
    message = envelope.message
    odd: dict[str, str] = {}
    headers: dict[str, str] = {}
    for name, value in message.headers.items():
        (headers if _is_plain(name) and _CONTROL.search(value) is None else odd)[name] = value
    headers[TIMESTAMP] = format_timestamp(message.timestamp)
    # One at a time: what cannot stand in a header as it is goes with the odd ones.
    fields = {
        ID: message.message_id,
        ORDERING_KEY: message.ordering_key,
        "correlation-id": message.correlation_id,
        "content-type": None if message.content_type == DEFAULT_CONTENT_TYPE else message.content_type,
    }
    for name, value in fields.items():
        if value is None:
            continue
        if value and _CONTROL.search(value) is None:
            headers[name] = value
        else:
            odd[name if name in _OWN_FIELDS else RESERVED_HEADER_PREFIX + name] = value
    if odd:
        headers[HEADERS] = json.dumps(odd, ensure_ascii=False)
    if envelope.attempts:
        headers[ATTEMPTS] = str(envelope.attempts)
    if envelope.deliveries:
        headers[DELIVERIES] = str(envelope.deliveries)
    return headers


def check_headers(message: QueueMessage) -> None:
    """Raise ``InvalidMessageError`` where headers and ids together are too large for Artemis."""
    characters = len(message.message_id) + len(message.content_type) + len(message.correlation_id or "")
    characters += len(message.ordering_key or "")
    for name, value in message.headers.items():
        characters += len(name) + len(value) + 8
    # A character takes at most two units, and at most six in JSON: below this nothing needs counting.
    if characters * 6 <= MAX_HEADER_CHARACTERS // 2:
        return
    size = sum(_units(name) + _units(value) + 2 for name, value in encode(Envelope(message)).items())
    if size > MAX_HEADER_CHARACTERS:
        raise InvalidMessageError(
            f"message {message.message_id[:80]!r}: its headers and ids take {size:,} characters; Artemis carries at most "
            f"{MAX_HEADER_CHARACTERS:,} beside the body. Move large values into the body"
        )


def _units(text: str) -> int:
    """Characters as Java counts them, in UTF-16."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def check_delay(delay: float) -> None:
    """Raise ``InvalidMessageError`` for what is longer than a broker should be trusted with."""
    if delay > MAX_DELAY_SECONDS:
        raise InvalidMessageError(
            f"a delay must be from 0 to {MAX_DELAY_SECONDS:,.0f} seconds (10 years), got {delay!r}"
        )


def message_number(frame: MessageFrame) -> str:
    """What the broker calls the message, on every delivery of it (ART-21)."""
    return frame.headers["message-id"].rpartition(",")[2]


def decode(frame: MessageFrame) -> tuple[Envelope, str | None]:
    """The envelope of a delivery, and why it could not be decoded (then with what could be saved), or ``None``."""
    headers = cast("dict[str, str]", frame.headers)
    try:
        return (_decode_own if TIMESTAMP in headers else _decode_foreign)(headers, frame), None
    except (ValueError, TypeError, RecursionError) as error:  # the last: of JSON that is nested too deep
        reason = str(error)
    message_id = headers.get(ID) or _brokers_id(headers, frame)
    return Envelope(QueueMessage(body=frame.body, message_id=message_id)), reason


@lru_cache(maxsize=4096)
def _is_plain(name: str) -> bool:
    """Whether stompman and Artemis leave a header of that name alone."""
    folded = name.lower()
    return _PLAIN_NAME.fullmatch(name) is not None and folded not in _STANDARD and not folded.startswith(_BROKERS_OWN)


@lru_cache(maxsize=4096)
def _is_messages_own(name: str) -> bool:
    """Whether a header of that name is the message's own, not the broker's or this module's."""
    return not (name in _STANDARD or name.startswith(RESERVED_HEADER_PREFIX) or name.lower().startswith(_BROKERS_OWN))


def _others(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if _is_messages_own(name)}


def _decode_own(headers: dict[str, str], frame: MessageFrame) -> Envelope:
    odd = _odd(headers.get(HEADERS))
    own = _others(headers)
    own.update((name, value) for name, value in odd.items() if not name.startswith(RESERVED_HEADER_PREFIX))
    message = QueueMessage(
        body=frame.body,
        message_id=headers.get(ID) or odd.get(ID) or _brokers_id(headers, frame),
        headers=own,
        content_type=odd.get(CONTENT_TYPE) or headers.get("content-type") or DEFAULT_CONTENT_TYPE,
        correlation_id=odd.get(CORRELATION_ID, headers.get("correlation-id")),
        timestamp=parse_timestamp(headers[TIMESTAMP]),
        ordering_key=odd.get(ORDERING_KEY, headers.get(ORDERING_KEY)),
    )
    return Envelope(message, attempts=_count(headers, ATTEMPTS), deliveries=_count(headers, DELIVERIES))


def _decode_foreign(headers: dict[str, str], frame: MessageFrame) -> Envelope:
    own = {name: value for name, value in _others(headers).items() if name}
    for field, header in _FOREIGN_FIELDS.items():
        if headers.get(field):
            own.setdefault(header, headers[field])
    message = QueueMessage(
        body=frame.body,
        message_id=_brokers_id(headers, frame),
        headers=own,
        content_type=headers.get("content-type") or DEFAULT_CONTENT_TYPE,
        correlation_id=headers.get("correlation-id"),
        timestamp=utc_now(),
    )
    return Envelope(message)


def _brokers_id(headers: Mapping[str, str], frame: MessageFrame) -> str:
    # Its number alone would begin anew on a broker whose disk was replaced.
    return f"artemis-{message_number(frame)}-{headers.get('timestamp', '0')}"


def _odd(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    odd: Any = json.loads(text)
    if not isinstance(odd, dict):
        raise TypeError(f"header {HEADERS} holds no JSON object")
    return cast("dict[str, str]", odd)


def _count(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "0")
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    raise ValueError(f"header {name} must be a whole number from 0, got {text!r}")
