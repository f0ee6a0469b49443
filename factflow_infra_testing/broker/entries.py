"""What moves through the broker: messages, their copies in queues (entries), and deliveries of those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.sessions import Consumer, Session


@dataclass(frozen=True, slots=True)
class Death:
    """Why and when a message was dead-lettered: ``rejected``, ``expired``, ``maxlen`` or ``delivery_limit``."""

    reason: str
    queue: str
    time: float
    exchange: str
    routing_key: str


class Message:
    """What was published: never changed, and shared by all its entries.

    ``payload`` is the front end's own and opaque here; ``key`` is the message id; ``size`` counts towards byte windows;
    ``ttl`` is in seconds; ``headers`` are what a headers exchange looks at; ``laboratory``: published by the test
    itself, which the faults of a publish do not meet.
    """

    __slots__ = (
        "client",
        "deaths",
        "exchange",
        "headers",
        "key",
        "laboratory",
        "payload",
        "persistent",
        "routing_key",
        "size",
        "source",
        "ttl",
    )

    def __init__(
        self,
        key: str,
        payload: Any,
        *,
        persistent: bool = True,
        size: int = 0,
        ttl: float | None = None,
        headers: Mapping[str, Any] | None = None,
        client: str = "",
        source: str = "",
        laboratory: bool = False,
        deaths: tuple[Death, ...] = (),
    ) -> None:
        self.key = key
        self.payload = payload
        self.persistent = persistent
        self.size = size
        self.ttl = ttl
        self.headers = headers
        self.client = client
        self.source = source
        self.laboratory = laboratory
        self.deaths = deaths
        self.exchange = ""
        self.routing_key = ""

    def again(self, *, laboratory: bool, deaths: tuple[Death, ...], ttl: float | None) -> Message:
        """The same content as a new message: a producer's second copy, or a dead letter."""
        return Message(
            self.key,
            self.payload,
            persistent=self.persistent,
            size=self.size,
            ttl=ttl,
            headers=self.headers,
            client=self.client,
            source=self.source,
            laboratory=laboratory,
            deaths=deaths,
        )


class Entry:
    """One copy of a message in one queue. ``serial`` is its place; ``returns`` how often it came back."""

    __slots__ = ("expires_at", "message", "redelivered", "returns", "serial")

    def __init__(self, serial: int, message: Message, expires_at: float | None) -> None:
        self.serial = serial
        self.message = message
        self.expires_at = expires_at
        self.returns = 0
        self.redelivered = False


class Delivery:
    """One delivery of an entry, unsettled while ``session.unacked`` holds it.

    ``count`` is 1 the first time, ``None`` where this broker reports no count.
    """

    __slots__ = ("consumer", "count", "entry", "queue", "redelivered", "session", "tag")

    def __init__(
        self, tag: int, entry: Entry, queue: Queue, session: Session, consumer: Consumer | None, count: int | None
    ) -> None:
        self.tag = tag
        self.entry = entry
        self.queue = queue
        self.session = session
        self.consumer = consumer
        self.redelivered = entry.redelivered
        self.count = count
