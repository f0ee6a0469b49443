"""Unnamed subscriptions of topics: a reader, and what waits in this process.

Such a subscription lives with its subscriber, and Pulsar's durable ones do not: one whose process was killed would keep
messages for nobody, until the backlog quota of its namespace stops the producers. A reader leaves nothing behind. It settles
nothing either, so what is given back, retried or not yet due waits here, as long as the subscription lives.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import QueueConnectionError, SubscriptionClosedError
from factflow_infra.queue.pulsar import wire
from factflow_infra.queue.pulsar.client import library, made_reader
from factflow_infra.queue.pulsar.consuming import Room, divide
from factflow_infra.queue.pulsar.failures import request_error, result_of
from factflow_infra.queue.pulsar.session import ANSWER_SECONDS, CLOSE_TIMEOUT_SECONDS, quietly

LEAST_QUEUE: Final = 2
"""A reader that begins after a message loses the permit for that message (PUL-26)."""

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.queue.pulsar import client
    from factflow_infra.queue.pulsar.session import Session
    from factflow_infra.queue.transport import Delivery, Envelope


class Waiting:
    """A message of the subscription, and how often it was delivered."""

    __slots__ = ("delivered", "envelope", "undecodable")

    def __init__(self, envelope: Envelope, undecodable: str | None = None) -> None:
        self.envelope = envelope
        self.undecodable = undecodable
        self.delivered = 0


class Ephemeral:
    """One unnamed subscription, across its consumers and connections."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.last: client.MessageId | None = None
        """The last message that was read: the next reader begins after it."""
        self.waiting: deque[Waiting] = deque()
        self.consumer: EphemeralConsumer | None = None

    def put(self, message: Waiting, delay: float = 0.0) -> None:
        """Have ``message`` delivered after ``delay`` seconds."""
        if delay > 0.0:
            asyncio.get_running_loop().call_later(delay, self.put, message)
            return
        self.waiting.append(message)
        if self.consumer is not None:
            self.consumer.arrived()


class EphemeralDelivery:
    """One delivery of a message of an unnamed subscription."""

    __slots__ = ("_consumer", "_settled", "delivery_count", "envelope", "message", "undecodable")

    def __init__(self, consumer: EphemeralConsumer, message: Waiting) -> None:
        message.delivered += 1
        self._consumer = consumer
        self._settled = False
        self.message = message
        self.envelope = message.envelope
        self.undecodable = message.undecodable
        self.delivery_count: int | None = message.delivered

    @property
    def redelivered(self) -> bool:
        return self.delivery_count != 1

    async def ack(self) -> None:
        self._settle()

    async def release(self) -> None:
        self._settle()
        self._consumer.subscription.put(self.message)

    def _settle(self) -> None:
        if self._settled:
            raise SubscriptionClosedError(f"message {self.envelope.message.message_id!r} is settled already")
        self._consumer.settled(self)
        self._settled = True


class EphemeralConsumer:
    """A live consumer of an unnamed subscription. Made by ``start_ephemeral``."""

    def __init__(
        self,
        session: Session,
        subscription: Ephemeral,
        hand: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
        on_closed: Callable[[EphemeralConsumer], None],
    ) -> None:
        self.subscription = subscription
        self._session = session
        self._room = Room(hand)
        self._on_delivery = on_delivery
        self._on_cancelled = on_cancelled
        self._on_closed = on_closed
        self._unsettled: dict[EphemeralDelivery, None] = {}
        self._taking = True
        self._ended = False
        self._reader: client.Reader | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._handing: asyncio.Task[None] | None = None

    async def start(self, queue: int) -> None:
        session, subscription = self._session, self.subscription
        begin: Any = library().MessageId.latest if subscription.last is None else subscription.last
        self._reader = await session.request(
            lambda: made_reader(session.client.create_reader(subscription.topic, begin, receiver_queue_size=queue)),
            f"a reader of {subscription.topic}",
        )
        session.add(self._reader)
        if subscription.consumer is not None:
            await subscription.consumer.close()
        subscription.consumer = self
        loop = asyncio.get_running_loop()
        self._reading = session.receive(self._read(self._reader), "factflow-pulsar-read")
        self._handing = loop.create_task(self._hand_out(), name="factflow-pulsar-hand-out")

    async def _read(self, reader: client.Reader) -> None:
        subscription = self.subscription
        try:
            while self._taking:
                message = await reader.read_next()
                if self._ended:
                    return  # the next reader begins before it
                subscription.last = message.message_id()
                envelope, due, undecodable = wire.decode(message)
                subscription.put(Waiting(envelope, undecodable), 0.0 if due is None else due - time.time())
                while subscription.waiting and not self._ended:
                    self._emptied = asyncio.get_running_loop().create_future()
                    await self._emptied
        except Exception as error:  # noqa: BLE001 - whatever the client raises ends this consumer
            if not self._ended and not self._session.lost:
                self._on_cancelled(request_error(error, "a reader") if result_of(error) is not None else error)

    async def _hand_out(self) -> None:
        waiting = self.subscription.waiting
        while True:
            await self._room.claim()
            while not (waiting and self._taking):
                self._arrived = asyncio.get_running_loop().create_future()
                await self._arrived
            delivery = EphemeralDelivery(self, waiting.popleft())
            self._unsettled[delivery] = None
            if not waiting:
                _wake(self._emptied)
            self._on_delivery(delivery)

    def arrived(self) -> None:
        _wake(self._arrived)

    def settled(self, delivery: EphemeralDelivery) -> None:
        if self._ended or self._session.lost:
            raise QueueConnectionError("the consumer of this message is gone; it is delivered again")
        del self._unsettled[delivery]
        self._room.free()

    async def cancel(self) -> None:
        """Hand out no more; what is read meanwhile waits in the subscription."""
        self._taking = False

    async def close(self) -> None:
        """Close the reader; what is unsettled waits in the subscription, before all others."""
        if self._ended:
            return
        self._put_back()
        self._on_closed(self)
        try:
            if self._reader is not None and not self._session.lost:
                closing = asyncio.ensure_future(quietly(self._reader.close()))
                await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_SECONDS)
                if self._reading is not None:
                    await asyncio.wait([self._reading], timeout=ANSWER_SECONDS)
                self._session.forget(self._reader)
        finally:
            _wake(self._emptied)

    def lost(self) -> None:
        """Its session is over: what is unsettled waits in the subscription."""
        if not self._ended:
            self._put_back()

    def _put_back(self) -> None:
        self._taking, self._ended = False, True
        subscription = self.subscription
        if subscription.consumer is self:
            subscription.consumer = None
        subscription.waiting.extendleft(reversed([delivery.message for delivery in self._unsettled]))
        _wake(self._emptied)
        if self._handing is not None:
            self._handing.cancel()


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


async def start_ephemeral(
    session: Session,
    subscription: Ephemeral,
    *,
    prefetch: int,
    concurrency: int,
    on_delivery: Callable[[Delivery], None],
    on_cancelled: Callable[[Exception | None], None],
    on_closed: Callable[[EphemeralConsumer], None],
) -> EphemeralConsumer:
    """A live consumer of ``subscription``. A reader needs a queue (PUL-5), and one message waits beside it:
    a ``prefetch`` of less than 3 is passed by as much.
    """
    hand, queue = divide(prefetch, concurrency, batches=True)
    consumer = EphemeralConsumer(session, subscription, hand, on_delivery, on_cancelled, on_closed)
    try:
        await consumer.start(max(queue, LEAST_QUEUE))
    except BaseException:
        session.start(consumer.close(), "factflow-pulsar-close-reader")
        raise
    return consumer
