"""Consumers and their deliveries.

One long-lived task receives, and is never cancelled while its consumer lives: a cancelled ``receive()`` swallows a message
(PUL-8). It receives only while there is room, so that what was received and what waits in the client together are never more than
``prefetch`` (PUL-4). The client's queue is as large as that leaves beside ``concurrency``, up to a bound, because popping from a
queue is three times as fast as waiting for a callback; where nothing is left, there is no queue, and several tasks receive.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import QueueConnectionError, SubscriptionClosedError
from factflow_infra.queue.pulsar import wire
from factflow_infra.queue.pulsar.client import acknowledge, library, receive
from factflow_infra.queue.pulsar.failures import request_error, result_of
from factflow_infra.queue.pulsar.session import ANSWER_SECONDS, CLOSE_TIMEOUT_SECONDS, quietly

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from factflow_infra.queue.pulsar import client
    from factflow_infra.queue.pulsar.session import Session
    from factflow_infra.queue.pulsar.topics import Source
    from factflow_infra.queue.transport import Delivery, Envelope

MAX_QUEUE: Final = 100
MIN_HAND: Final = 20
"""Messages of a large ``prefetch`` for which there is room in hand, however few are handled at once."""
MAX_RECEIVES: Final = 16
"""Receives at once where there is no queue."""
NACK_DELAY_MS: Final = 100
"""The least that the client allows (PUL-7)."""
MAX_EARLY_SECONDS: Final = 2.0
"""How much too early the broker may deliver what was delayed (PUL-3): 1 s, and some for clocks that differ."""

Place = tuple[int, int, int, int]


class Room:
    """How many messages may be in hand. Who waits goes on in the order in which he came."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def claim(self) -> None:
        if self._left:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def close(self) -> None:
        """Let all who wait go on, and find out."""
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)

    def free(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._left += 1


class PulsarDelivery:
    """One delivery, on the consumer that received it."""

    __slots__ = ("_consumer", "_message", "_settled", "delivery_count", "due", "envelope", "place", "undecodable")

    def __init__(self, consumer: _Receiver, message: client.Message, place: Place) -> None:
        self._consumer = consumer
        self._message = message
        self._settled = False
        self.place = place
        self.envelope: Envelope
        self.undecodable: str | None
        self.due: float | None
        self.envelope, self.due, self.undecodable = wire.decode(message)
        # A lower bound: the broker counts neither lost nor closed consumers, and forgets (PUL-10).
        self.delivery_count: int | None = message.redelivery_count() + 1

    @property
    def redelivered(self) -> bool:
        return self.delivery_count != 1

    async def ack(self) -> None:
        """Settle for good. The client writes it within 100 ms, or when the consumer closes, and does not tell (PUL-9)."""
        self._settle()
        await self._consumer.settle(self.place, acknowledge(self._consumer.handle, self._message))

    async def release(self) -> None:
        """Give back: it comes again after ``NACK_DELAY_MS``."""
        self._settle()
        await self._consumer.settle(self.place, self._consumer.handle.negative_acknowledge(self._message))

    def _settle(self) -> None:
        if self._settled:
            raise SubscriptionClosedError(f"message {self.envelope.message.message_id!r} is settled already")
        self._consumer.check()
        self._settled = True


class _Receiver:
    """Receives from one of the client's consumers."""

    def __init__(self, owner: PulsarConsumer, handle: client.Consumer, *, queued: bool, beside: bool) -> None:
        self.handle = handle
        self._owner = owner
        self._queued = queued
        self._beside = beside
        self._held: dict[Place, None] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, receives: int) -> None:
        session = self._owner.session
        self.tasks += [session.receive(self._receive(), "factflow-pulsar-receive") for _ in range(receives)]

    async def _receive(self) -> None:
        owner, handle, room, beside = self._owner, self.handle, self._owner.room, self._beside
        try:
            while owner.taking:
                if not beside:
                    await room.claim()
                    if not owner.taking:
                        return
                message = await receive(handle, owner.session)
                if beside:
                    await room.claim()
                if not self._take(message):
                    room.free()
        except Exception as error:  # noqa: BLE001 - whatever the client raises ends this consumer
            owner.failed(error)

    def _take(self, message: client.Message) -> bool:
        """Whether ``message`` is held from now on."""
        owner = self._owner
        if owner.ended:
            return False
        at = message.message_id()
        place = (at.ledger_id(), at.entry_id(), at.partition(), at.batch_index())
        if place[3] >= 0 and not self._queued:
            owner.batched()
            return False
        if place in self._held:
            # The client was cut off and has connected again: what it held comes once more, and is held already.
            return False
        self._held[place] = None
        if not owner.taking:
            return True  # it goes back when the consumer closes
        delivery = PulsarDelivery(self, message, place)
        if delivery.due is not None and (early := delivery.due - time.time()) > 0.0:
            asyncio.get_running_loop().call_later(min(early, MAX_EARLY_SECONDS), owner.deliver, delivery)
        else:
            owner.deliver(delivery)
        return True

    def check(self) -> None:
        if self._owner.ended or self._owner.session.lost:
            raise QueueConnectionError("the consumer of this message is gone; the broker delivers it again")

    async def settle(self, place: Place, call: Awaitable[None]) -> None:
        try:
            await call
        except Exception as error:
            if result_of(error) is None:
                raise
            raise request_error(error, "settling a message") from error
        finally:
            if self._held.pop(place, self) is not self:
                self._owner.room.free()


class PulsarConsumer:
    """A live consumer: of a queue, or of a topic's subscription and its retries. Made by ``start_consumer``."""

    def __init__(
        self,
        session: Session,
        *,
        hand: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
        on_batch: Callable[[], None],
        on_closed: Callable[[PulsarConsumer], None],
    ) -> None:
        self.session = session
        self.room = Room(hand)
        self.taking = True
        self.ended = False
        self._on_delivery = on_delivery
        self._on_cancelled = on_cancelled
        self._on_batch = on_batch
        self._on_closed = on_closed
        self._receivers: list[_Receiver] = []

    async def add(self, source: Source, consumer_type: Any, *, queue: int, receives: int, beside: bool) -> None:
        """Receive from ``source`` too. ``beside``: its one receive under way needs no room."""
        session, pulsar = self.session, library()
        position = pulsar.InitialPosition.Earliest if source.earliest else pulsar.InitialPosition.Latest
        handle = await session.request(
            lambda: session.client.subscribe(
                source.topic,
                source.subscription,
                consumer_type=consumer_type,
                initial_position=position,
                receiver_queue_size=queue,
                negative_ack_redelivery_delay_ms=NACK_DELAY_MS,
            ),
            f"a consumer of {source.topic}",
        )
        session.add(handle)
        receiver = _Receiver(self, handle, queued=queue > 0, beside=beside)
        self._receivers.append(receiver)
        receiver.start(receives)

    def deliver(self, delivery: PulsarDelivery) -> None:
        if not self.ended:
            self._on_delivery(delivery)

    def batched(self) -> None:
        """A batch came where there is no queue: the client has dropped the rest of it (PUL-5). Begin anew, with a queue."""
        if not self.ended:
            self._on_batch()
            self._report(
                QueueConnectionError("a producer sends batches; consuming again, with a queue that holds them")
            )

    def failed(self, error: Exception) -> None:
        if not self.ended and not self.session.lost:
            reason = request_error(error, "a consumer") if result_of(error) is not None else error
            reason.__cause__ = error if reason is not error else None
            self._report(reason)

    def _report(self, reason: Exception) -> None:
        self._on_cancelled(reason)

    async def cancel(self) -> None:
        """Receive no more. Permits cannot be taken back: what still comes waits here until ``close`` (PUL-4)."""
        self.taking = False

    async def close(self) -> None:
        """Close: acks written before arrive before, and what is unsettled goes back."""
        if self.ended:
            return
        self.taking = False
        self.ended = True
        self._on_closed(self)
        try:
            if self._receivers and not self.session.lost:
                closing = [asyncio.ensure_future(quietly(receiver.handle.close())) for receiver in self._receivers]
                # Left behind where the broker does not answer: the end of their requests ends them.
                await asyncio.wait(closing, timeout=CLOSE_TIMEOUT_SECONDS)
            self.room.close()
            tasks = [task for receiver in self._receivers for task in receiver.tasks]
            if tasks:
                await asyncio.wait(tasks, timeout=ANSWER_SECONDS)
            for receiver in self._receivers:
                self.session.forget(receiver.handle)
        finally:
            self.lost()

    def lost(self) -> None:
        """Its session is over: end what waits for room. What receives ends by itself."""
        self.taking = False
        self.ended = True
        self.room.close()


async def start_consumer(
    session: Session,
    sources: Sequence[Source],
    *,
    prefetch: int,
    concurrency: int,
    batches: bool,
    consumer_type: Any,
    on_delivery: Callable[[Delivery], None],
    on_cancelled: Callable[[Exception | None], None],
    on_batch: Callable[[], None],
    on_closed: Callable[[PulsarConsumer], None],
) -> PulsarConsumer:
    """A live consumer of the first of ``sources``, and of the retries in the others, of which each may have one message more
    than ``prefetch`` waiting. ``batches``: whether somebody sends batches, so that a queue is needed: a ``prefetch`` of 1 is
    passed by one then. On failure nothing stays open.
    """
    hand, queue = divide(prefetch, concurrency, batches=batches)
    consumer = PulsarConsumer(
        session,
        hand=hand,
        on_delivery=on_delivery,
        on_cancelled=on_cancelled,
        on_batch=on_batch,
        on_closed=on_closed,
    )
    try:
        receives = 1 if queue else min(hand, MAX_RECEIVES)
        await consumer.add(sources[0], consumer_type, queue=queue, receives=receives, beside=False)
        for retries in sources[1:]:
            await consumer.add(retries, consumer_type, queue=0, receives=1, beside=True)
    except BaseException:
        session.start(consumer.close(), "factflow-pulsar-close-consumer")
        raise
    return consumer


def divide(prefetch: int, concurrency: int, *, batches: bool) -> tuple[int, int]:
    """How many messages may be in hand, and how many may wait in the client's queue.

    The client asks for more once half of its queue is free, so that a broker serves a small one in small pieces. In hand are
    those whose ordering key is busy, and those whose retry is on its way, too, and once they fill it all others wait: half of
    ``prefetch`` is for them, of a large one twice ``concurrency``, and ``MIN_HAND`` at least.
    """
    large = prefetch - max(2 * concurrency, MIN_HAND)
    queue = max(min(max(large, prefetch // 2), prefetch - concurrency, MAX_QUEUE), 1 if batches else 0)
    return max(prefetch - queue, 1), queue
