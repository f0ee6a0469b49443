"""The values that queue providers take and give: messages, verdicts, batches, error handling, health."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from factflow_infra.errors import InvalidMessageError, InvalidSubscriptionError
from factflow_infra.queue.timestamps import utc_now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from factflow_infra.errors import InfraError

DEFAULT_DEAD_LETTER_QUEUE: Final = "/queue/dlq"
DEAD_LETTER_HEADER_PREFIX: Final = "factflow-dead-letter-"
"""Headers that a dead-lettered message carries: ``-reason``, ``-source``, ``-subscription``, ``-attempts``, ``-error``,
``-time``. They are dropped when the message is published again."""
RESERVED_HEADER_PREFIX: Final = "factflow-wire-"
"""What the providers themselves write on the wire (retry counts, what a broker's own fields cannot hold)."""


class MessageStatus(StrEnum):
    """What became of a message: ``ACCEPTED`` from ``publish``, the others are a handler's verdict."""

    ACCEPTED = "accepted"
    ACK = "ack"
    RETRY = "retry"
    REJECT = "reject"


class DeadLetterReason(StrEnum):
    """Why a message is in the dead-letter queue: the header ``factflow-dead-letter-reason``."""

    REJECTED = "rejected"
    RETRIES_EXHAUSTED = "retries-exhausted"
    DELIVERIES_EXHAUSTED = "deliveries-exhausted"
    UNDECODABLE = "undecodable"


_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


def new_message_id() -> str:
    """128 random bits as hex: what ``uuid4().hex`` gives, but for the fixed bits, in a third of the time."""
    return os.urandom(16).hex()


class _Generated:
    """Stands for a value that is made anew for each message."""

    def __repr__(self) -> str:
        return "<generated>"


_GENERATED: Final = cast("Any", _Generated())


@dataclass(frozen=True, slots=True, init=False)
class QueueMessage:
    """One message. ``timestamp`` is aware; ``ordering_key`` groups what must stay in order.

    ``destination``, ``delivery_count`` (1 the first time; 0 on a message that was not delivered) and ``redelivered`` are
    filled in on delivery and ignored by ``publish``. Raises ``InvalidMessageError`` for a wrong type or a value that no
    broker could carry.
    """

    body: bytes
    message_id: str
    headers: Mapping[str, str]
    content_type: str
    correlation_id: str | None
    timestamp: datetime
    ordering_key: str | None
    destination: str | None
    delivery_count: int
    redelivered: bool

    def __init__(  # by hand: the one that ``dataclass`` writes takes four times as long to fill a frozen object in
        self,
        body: bytes,
        message_id: str = _GENERATED,
        headers: Mapping[str, str] = _NO_HEADERS,
        content_type: str = "application/octet-stream",
        correlation_id: str | None = None,
        timestamp: datetime = _GENERATED,
        ordering_key: str | None = None,
        destination: str | None = None,
        delivery_count: int = 0,
        redelivered: bool = False,
    ) -> None:
        _set_body(self, body if type(body) is bytes else _checked_body(body))
        if message_id is _GENERATED:
            message_id = new_message_id()
        elif type(message_id) is not str or not message_id or not message_id.isascii():
            _check_text("message_id", message_id, empty=False)
        _set_message_id(self, message_id)
        _set_headers(self, headers if headers is _NO_HEADERS else _checked_headers(headers))
        if type(content_type) is not str or not content_type or not content_type.isascii():
            _check_text("content_type", content_type, empty=False)
        _set_content_type(self, content_type)
        if correlation_id is not None:
            _check_text("correlation_id", correlation_id, empty=True)
        _set_correlation_id(self, correlation_id)
        if timestamp is _GENERATED:
            timestamp = utc_now()
        elif not isinstance(cast("object", timestamp), datetime) or timestamp.utcoffset() is None:
            raise InvalidMessageError(f"timestamp must be a datetime with a time zone, got {timestamp!r}")
        _set_timestamp(self, timestamp)
        if ordering_key is not None:
            _check_text("ordering_key", ordering_key, empty=False)
        _set_ordering_key(self, ordering_key)
        _set_destination(self, destination)
        _set_delivery_count(self, delivery_count)
        _set_redelivered(self, redelivered)

    @classmethod
    def from_json(
        cls,
        obj: Any,
        *,
        message_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        correlation_id: str | None = None,
        timestamp: datetime | None = None,
        ordering_key: str | None = None,
    ) -> QueueMessage:
        """A message with ``obj`` as its JSON body (UTF-8) and content type ``application/json``.

        Raises ``InvalidMessageError`` where ``obj`` is no JSON value (NaN included).
        """
        try:
            body = json.dumps(obj, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidMessageError(f"the body is no JSON value: {error}") from error
        return cls(
            body=body,
            message_id=_GENERATED if message_id is None else message_id,
            headers=_NO_HEADERS if headers is None else headers,
            content_type="application/json",
            correlation_id=correlation_id,
            timestamp=_GENERATED if timestamp is None else timestamp,
            ordering_key=ordering_key,
        )

    def json(self) -> Any:
        """The body as a JSON value. Raises ``InvalidMessageError`` where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:  # the latter: nested thousands of levels deep
            raise InvalidMessageError(f"the body of message {self.message_id!r} is not JSON: {error}") from error

    def changed(self, **changes: Any) -> QueueMessage:
        """A copy with other values, unchecked: for providers, whose values come from a checked message."""
        copy = _new(QueueMessage)
        for name in _FIELDS:
            _set(copy, name, changes[name] if name in changes else getattr(self, name))
        return copy

    def delivered(self, destination: str, delivery_count: int, *, redelivered: bool) -> QueueMessage:
        """A copy with the fields of a delivery, unchecked: for providers, once for each message that they deliver."""
        copy = _new(QueueMessage)
        _set_body(copy, self.body)
        _set_message_id(copy, self.message_id)
        _set_headers(copy, self.headers)
        _set_content_type(copy, self.content_type)
        _set_correlation_id(copy, self.correlation_id)
        _set_timestamp(copy, self.timestamp)
        _set_ordering_key(copy, self.ordering_key)
        _set_destination(copy, destination)
        _set_delivery_count(copy, delivery_count)
        _set_redelivered(copy, redelivered)
        return copy

    @classmethod
    def decoded(
        cls,
        body: bytes,
        message_id: str,
        headers: dict[str, str],
        content_type: str,
        correlation_id: str | None,
        timestamp: datetime,
        ordering_key: str | None,
    ) -> QueueMessage:
        """One off the wire, unchecked: for providers that know their values to be right. ``headers`` is kept, not copied."""
        message = _new(cls)
        _set_body(message, body)
        _set_message_id(message, message_id)
        _set_headers(message, MappingProxyType(headers) if headers else _NO_HEADERS)
        _set_content_type(message, content_type)
        _set_correlation_id(message, correlation_id)
        _set_timestamp(message, timestamp)
        _set_ordering_key(message, ordering_key)
        _set_destination(message, None)
        _set_delivery_count(message, 0)
        _set_redelivered(message, False)
        return message

    def __reduce__(self) -> tuple[Any, ...]:
        values = [getattr(self, name) for name in _FIELDS]
        values[_FIELDS.index("headers")] = dict(self.headers)
        return (QueueMessage, tuple(values))

    def __hash__(self) -> int:
        return hash(self.message_id)


_new = object.__new__
_set = object.__setattr__
_FIELDS: Final = tuple(f.name for f in fields(QueueMessage))
# The slots' own setters: a frozen dataclass allows no other quick way to fill a copy in.
_setters: Final[list[Callable[[QueueMessage, Any], None]]] = [vars(QueueMessage)[name].__set__ for name in _FIELDS]
(
    _set_body,
    _set_message_id,
    _set_headers,
    _set_content_type,
    _set_correlation_id,
    _set_timestamp,
    _set_ordering_key,
    _set_destination,
    _set_delivery_count,
    _set_redelivered,
) = _setters

if TYPE_CHECKING:
    MessageHandler = Callable[[QueueMessage], Awaitable[MessageStatus | None]]
else:
    MessageHandler = "Callable[[QueueMessage], Awaitable[MessageStatus | None]]"


def _checked_body(body: object) -> bytes:
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise InvalidMessageError(
            f"body must be bytes, got {type(body).__name__}; QueueMessage.from_json(obj) encodes JSON"
        )
    return bytes(cast("bytes", body))


def _check_text(name: str, value: object, *, empty: bool) -> None:
    if not isinstance(value, str):
        raise InvalidMessageError(f"{name} must be a str, got {type(value).__name__}: {value!r}")
    if not value and not empty:
        raise InvalidMessageError(f"{name} must not be empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidMessageError(f"{name} holds a lone surrogate, which UTF-8 cannot carry: {value!r}") from error


def _checked_headers(headers: object) -> Mapping[str, str]:
    if not isinstance(headers, Mapping):
        raise InvalidMessageError(f"headers must be a mapping of str to str, got {type(headers).__name__}: {headers!r}")
    if not headers:
        return _NO_HEADERS
    copy: dict[str, str] = dict(cast("Mapping[str, str]", headers))
    for name, value in copy.items():
        if type(name) is not str or type(value) is not str or not name or not (name + value).isascii():
            _check_text("header name", name, empty=False)
            _check_text(f"header {name!r}", value, empty=True)
        if name.startswith(RESERVED_HEADER_PREFIX):
            raise InvalidMessageError(f"header {name!r}: names that start with {RESERVED_HEADER_PREFIX!r} are reserved")
    return MappingProxyType(copy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorHandling:
    """What a subscription does with messages whose handling fails.

    ``max_retries``: failed handlings (``RETRY``, an exception) that are retried, ``None`` without limit; the count travels
    with the message. ``retry_delay_seconds``: pause before each retry. ``dead_letter_queue``: ``/queue/dlq`` unless named.
    ``max_deliveries``: bound on all deliveries, those after a lost connection or a killed consumer included.
    Raises ``InvalidSubscriptionError``.
    """

    max_retries: int | None = 3
    retry_delay_seconds: float = 10.0
    dead_letter_queue: str | None = None
    max_deliveries: int | None = None

    def __post_init__(self) -> None:
        check_whole("max_retries", self.max_retries, least=0, optional=True)
        check_whole("max_deliveries", self.max_deliveries, least=1, optional=True)
        check_seconds("retry_delay_seconds", self.retry_delay_seconds)
        if self.dead_letter_queue is not None and not isinstance(cast("object", self.dead_letter_queue), str):
            raise InvalidSubscriptionError(f"dead_letter_queue must be a str or None, got {self.dead_letter_queue!r}")


def check_whole(name: str, value: object, *, least: int, optional: bool = False) -> None:
    """Raise ``InvalidSubscriptionError`` unless ``value`` is a whole number of at least ``least``."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidSubscriptionError(
            f"{name} must be a whole number from {least}{', or None' if optional else ''}, got {value!r}"
        )


def check_seconds(name: str, value: object) -> None:
    """Raise ``InvalidSubscriptionError`` unless ``value`` is a finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise InvalidSubscriptionError(f"{name} must be a finite number of seconds, 0 or more, got {value!r}")


class BatchStatus(StrEnum):
    """Of a ``publish_batch``: all, some or none were accepted."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BatchItemResult:
    """What became of one message of a ``publish_batch``: ``status`` is ``ACCEPTED``, or ``error`` says why not."""

    message_id: str
    status: MessageStatus | None = None
    error: InfraError | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a ``publish_batch``, a result for each message, in order."""

    results: tuple[BatchItemResult, ...]

    @property
    def status(self) -> BatchStatus:
        accepted = sum(result.error is None for result in self.results)
        if accepted == len(self.results):
            return BatchStatus.COMPLETE
        return BatchStatus.PARTIAL if accepted else BatchStatus.FAILED


@dataclass(frozen=True, slots=True, eq=False)
class BatchMessage:
    """A batch of delivered messages, iterable and sized, to be settled whole, in part or one by one."""

    messages: tuple[QueueMessage, ...]

    def __iter__(self) -> Iterator[QueueMessage]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


class SubscriptionStatus(StrEnum):
    """Of a subscription: live, paused by its owner, waiting for its connection, or closed."""

    ACTIVE = "active"
    PAUSED = "paused"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class HealthState(StrEnum):
    """``stalled``: connected, but held messages have made no progress for a long time."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """A provider's state, for a health endpoint. Ages are in seconds, ``None`` before the first message."""

    connected: bool
    health_state: HealthState
    last_message_age_seconds: float | None
    reconnect_attempts: int
    reconnect_in_progress: bool
    active_subscriptions: int
    subscription_states: Mapping[str, SubscriptionStatus]
