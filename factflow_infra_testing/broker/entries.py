"""What moves through the broker: messages, their copies in queues (entries), and deliveries of those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.broker.sessions import Consumer, Session

Position = tuple[int, int]
"""Where a message stands in a topic's log: the number of the segment, and the index in it."""
NOWHERE: Final[Position] = (-1, -1)
"""Before everything; also of what is in no log."""


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
    itself, which the faults of a publish do not meet. ``due``: when it may be delivered, where the broker delays by itself.
    ``group``: what a sticky queue goes by. ``keys``: the ids of all messages in it, where it is a batch. ``position``: where
    in its topic's log it stands.
    """

    __slots__ = (
        "client",
        "deaths",
        "due",
        "exchange",
        "group",
        "headers",
        "key",
        "keys",
        "laboratory",
        "payload",
        "persistent",
        "position",
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
        due: float | None = None,
        group: str | bytes | None = None,
        keys: tuple[str, ...] = (),
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
        self.due = due
        self.group = group
        self.keys = keys or (key,)
        self.position: Position = NOWHERE
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
            due=self.due,
            group=self.group,
            keys=self.keys,
        )


class Entry:
    """One copy of a message in one queue. ``serial`` is its own; ``place`` orders what comes back to its queue;
    ``returns``: how often it came back, as the broker counts; ``delivered``: it was delivered before, whatever the broker knows of it.
    """

    __slots__ = ("delivered", "expires_at", "message", "place", "redelivered", "returns", "serial")

    def __init__(self, serial: int, message: Message, expires_at: float | None) -> None:
        self.serial = self.place = serial
        self.message = message
        self.expires_at = expires_at
        self.returns = 0
        self.redelivered = False
        self.delivered = False


class Delivery:
    """One delivery of an entry, unsettled while ``session.unacked`` holds it.

    ``count`` is 1 the first time, ``None`` where this broker reports no count. ``size``: the bytes that it counts towards
    its consumer's window.
    """

    __slots__ = ("consumer", "count", "entry", "queue", "redelivered", "session", "size", "tag")

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
        self.size = entry.message.size
