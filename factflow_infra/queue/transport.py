"""What a broker must offer to the queue engine: the seam between what is the same on every broker and what is not.

The engine (``factflow_infra.queue.engine``) has the delivery semantics: verdicts and settling, retries, dead-lettering,
concurrency, ordering, batches, stopping, reconnecting, health. A transport has the broker's own ways: connections,
topology, names, confirms, acks. One transport a broker; the simulated broker's model tier is one too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from factflow_infra.queue.messages import QueueMessage


class DestinationKind(StrEnum):
    QUEUE = "queue"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Destination:
    """A parsed destination: ``name`` without its ``/queue/`` or ``/topic/`` prefix, ``text`` as the caller wrote it."""

    kind: DestinationKind
    name: str
    text: str


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Address:
    """Where messages are sent to or taken from.

    A queue, or a topic as a whole (``subscription`` is ``None``, to publish to), or the queue behind one subscription
    of a topic: to consume from, and to publish a retry to that must reach nobody else. ``durable=False`` is the queue of
    an unnamed subscription: it lives with its subscriber and has a unique, generated name.
    """

    destination: Destination
    subscription: str | None = None
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and the counts that travel with it.

    ``attempts``: failed handlings so far. ``deliveries``: deliveries of earlier copies, for brokers that do not count.
    """

    message: QueueMessage
    attempts: int = 0
    deliveries: int = 0


class Delivery(Protocol):
    """One delivery of one message on one connection."""

    @property
    def envelope(self) -> Envelope:
        """With the message as it was published (the engine fills in the delivery fields)."""
        ...

    @property
    def redelivered(self) -> bool:
        """The broker's own flag."""
        ...

    @property
    def delivery_count(self) -> int | None:
        """1 the first time, as the broker counts deliveries of this copy; ``None`` where it does not count."""
        ...

    @property
    def undecodable(self) -> str | None:
        """Why the message could not be decoded (``envelope`` then has what could be saved), else ``None``."""
        ...

    async def ack(self) -> None:
        """Settle for good. Raises ``QueueConnectionError`` where the connection of this delivery is gone."""
        ...

    async def release(self) -> None:
        """Give the message back to the broker, untouched. Raises as ``ack``."""
        ...


class Consumer(Protocol):
    """A live consumer on a connection."""

    async def cancel(self) -> None:
        """Take no more deliveries; those held stay ackable. Idempotent; no error where the connection is gone."""
        ...

    async def close(self) -> None:
        """``cancel``, and give back all that is unsettled. Idempotent; no error where the connection is gone."""
        ...


class Transport(Protocol):
    """One broker connection at a time. Errors are those of ``factflow_infra.errors``; foreign cancellation is translated."""

    async def connect(self, on_lost: Callable[[Exception | None], None]) -> None:
        """Connect anew; calls ``on_lost`` at most once for this connection, when it is lost and not closed by ``close``.

        Raises ``QueueConnectionError``, ``QueueAuthenticationError``, or ``SettingsError`` for what the client cannot use.
        """
        ...

    async def close(self) -> None:
        """Close the connection: unsettled deliveries go back. Idempotent, bounded in time, never raises."""
        ...

    def check(self, address: Address, message: QueueMessage | None, *, delay: float) -> None:
        """Raise for what this broker cannot carry, before any I/O (``InvalidDestinationError``, ``InvalidMessageError``)."""
        ...

    def publish(self, address: Address, envelope: Envelope, *, delay: float = 0.0) -> Awaitable[None]:
        """Await what it returns: until the broker has confirmed. The queue behind ``address`` is declared when needed.

        Raises ``QueueConnectionError`` (surely not taken), ``PublishUnconfirmedError`` (unknown), ``PublishRefusedError``.
        When cancelled: the outcome is unknown.
        """
        ...

    async def consume(
        self,
        address: Address,
        *,
        prefetch: int,
        concurrency: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
    ) -> Consumer:
        """Return once the consumer is live. ``on_delivery`` is called in delivery order, and must not block.

        ``prefetch``: the most messages that may be held and unsettled, those included that wait in the client library.
        ``concurrency``: so many of them must be able to be in hand at once; the rest may wait in the client library.

        ``on_cancelled``: the broker or a channel error ended this consumer while the connection lives; what it held is
        gone back. The engine consumes again, with backoff.
        """
        ...
