"""Consumers and their deliveries. Each consumer has a channel of its own: closing it gives back all that it held.

A reject puts a message behind the others of a quorum queue, and whatever the broker still has on its way is then in front of
it; a channel that closes returns all that it held in order, to the head (RMQ-4, RMQ-6, RMQ-41). So what a cancelled consumer gives
back is gathered: where nothing else of its channel is unsettled, closing that is how it goes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

from factflow_infra.errors import QueueConnectionError, QueueError, SubscriptionClosedError
from factflow_infra.queue.causes import cause_text
from factflow_infra.queue.rabbitmq import wire
from factflow_infra.queue.rabbitmq.failures import cancellations, is_foreign

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiormq import Channel
    from aiormq.abc import DeliveredMessage
    from pamqp.commands import Basic

    from factflow_infra.queue.rabbitmq.session import Session
    from factflow_infra.queue.transport import Delivery, Envelope


class RabbitMqDelivery:
    """One delivery, on the channel of its consumer."""

    __slots__ = (
        "_channel",
        "_consumer",
        "_settled",
        "_tag",
        "delivery_count",
        "envelope",
        "redelivered",
        "undecodable",
    )

    def __init__(self, message: DeliveredMessage, consumer: RabbitMqConsumer, *, counted: bool) -> None:
        properties = message.header.properties
        self._consumer = consumer
        self._channel = consumer.channel
        delivery = cast("Basic.Deliver", message.delivery)
        self._tag = cast("int", delivery.delivery_tag)
        self._settled = False
        self.envelope: Envelope
        self.undecodable: str | None
        self.envelope, self.undecodable = wire.decode(properties, message.body)
        self.redelivered = bool(delivery.redelivered)
        self.delivery_count: int | None = wire.delivery_count(properties) if counted else None

    async def ack(self) -> None:
        """Settle for good: written to the broker, which does not answer acks."""
        channel = self._settle()
        before = cancellations()
        try:
            await channel.basic_ack(self._tag, wait=False)
        except (Exception, asyncio.CancelledError) as error:
            self._failed(error, before)
            raise
        self._consumer.unsettled -= 1

    async def release(self) -> None:
        """Give back: at its old place in a classic queue; in a quorum queue behind the others, or with all that a consumer
        held when it was cancelled and that nobody handles, at the head.
        """
        channel = self._settle()
        if self._consumer.cancelling:
            self._consumer.gather(self)
        else:
            await self.reject(channel)

    async def reject(self, channel: Channel) -> None:
        """Give back this one alone."""
        before = cancellations()
        try:
            await channel.basic_reject(self._tag, requeue=True, wait=False)
        except (Exception, asyncio.CancelledError) as error:
            self._failed(error, before)
            raise
        self._consumer.unsettled -= 1

    @property
    def tag(self) -> int:
        """Its number on the channel."""
        return self._tag

    def _settle(self) -> Channel:
        # A second ack of one tag would make the broker close the channel, and give back all that it holds.
        if self._settled:
            raise SubscriptionClosedError(f"message {self.envelope.message.message_id!r} is settled already")
        if self._channel.is_closed:
            raise QueueConnectionError(
                f"message {self.envelope.message.message_id!r}: its channel is closed; the broker delivers it again"
            )
        self._settled = True
        return self._channel

    def _failed(self, error: BaseException, before: int) -> None:
        if is_foreign(error, before):
            raise QueueConnectionError(
                f"message {self.envelope.message.message_id!r} could not be settled: {cause_text(error)}"
            ) from error


class RabbitMqConsumer:
    """A consumer on a channel of its own. Made by ``start_consumer``. ``unsettled``: how many deliveries were not acked or
    rejected yet; ``cancelling``: whether it is to take no more.
    """

    def __init__(
        self,
        session: Session,
        channel: Channel,
        queue: str,
        on_cancelled: Callable[[Exception | None], None],
        on_closed: Callable[[RabbitMqConsumer], None],
    ) -> None:
        self._session = session
        self.channel = channel
        self.unsettled = 0
        self.cancelling = False
        self._queue = queue
        self._on_cancelled = on_cancelled
        self._on_closed = on_closed
        self._tag: str | None = None
        self._ended = False
        self._gathered: list[RabbitMqDelivery] = []
        self._silent = asyncio.Event()

    async def start(self, prefetch: int, on_delivery: Callable[[Delivery], None], *, counted: bool) -> None:
        channel = self.channel
        cast("Any", channel).closing.add_done_callback(self._channel_closed)
        channel.on_consumer_cancel_callbacks.add(self._cancelled_by_broker)

        async def receive(message: DeliveredMessage) -> None:
            self.unsettled += 1
            on_delivery(RabbitMqDelivery(message, self, counted=counted))

        await self._request(lambda: channel.basic_qos(prefetch_count=prefetch))
        started = await self._request(lambda: channel.basic_consume(self._queue, receive))
        self._tag = started.consumer_tag

    async def cancel(self) -> None:
        """Take no more deliveries; those held stay ackable."""
        if self.cancelling:
            return
        self.cancelling = True
        tag, self._tag = self._tag, None
        try:
            if tag is not None and not (self.channel.is_closed or self._session.lost):
                await self._request(lambda: self.channel.basic_cancel(tag))
        except QueueError:
            await self.close()
        finally:
            self._silent.set()

    def gather(self, delivery: RabbitMqDelivery) -> None:
        """Give back a delivery once no more can come."""
        self._gathered.append(delivery)
        if len(self._gathered) == 1:
            self._session.spawn(self._return_gathered())

    async def _return_gathered(self) -> None:
        await self._silent.wait()
        await asyncio.sleep(0)  # for those who go on now, and give back what they held longest
        gathered, self._gathered = self._gathered, []
        if len(gathered) == self.unsettled:
            await self.close()
            return
        with contextlib.suppress(QueueError):  # the channel is gone then, and what it held has gone back
            for delivery in sorted(gathered, key=lambda one: one.tag):
                await delivery.reject(self.channel)

    async def close(self) -> None:
        """Close the channel: what is unsettled goes back, and acks written before arrive before."""
        self._ended = self.cancelling = True
        tag, self._tag = self._tag, None
        channel = self.channel
        # A quorum queue loses acks that it is still working off when their channel closes: messages that were acked
        # come again. Whatever it answers, it answers after them. What it does not answer is no reason to stay open.
        requests: list[Callable[[], Awaitable[Any]]] = [lambda: channel.basic_qos(prefetch_count=1), channel.close]
        if tag is not None:
            requests.insert(0, lambda: channel.basic_cancel(tag))
        for request in requests:
            if not (channel.is_closed or self._session.lost):
                with contextlib.suppress(QueueError):
                    await self._request(request)
        self._silent.set()

    async def _request(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await self._session.request(call, f"consumer of queue {self._queue!r}")

    def _cancelled_by_broker(self, _frame: Basic.Cancel) -> None:
        self._report(
            QueueConnectionError(f"queue {self._queue!r} was deleted, or its consumer cancelled, by the broker")
        )
        self._session.spawn(self.close())

    def _channel_closed(self, closing: asyncio.Future[Any]) -> None:
        self._on_closed(self)
        error = None if closing.cancelled() else closing.exception()
        if not self._session.lost:
            reason = QueueConnectionError(f"the channel that consumes {self._queue!r} was closed: {cause_text(error)}")
            reason.__cause__ = error
            self._report(reason)

    def _report(self, reason: Exception) -> None:
        if not self._ended:
            self._ended = True
            self._on_cancelled(reason)


async def start_consumer(
    session: Session,
    queue: str,
    *,
    prefetch: int,
    counted: bool,
    on_delivery: Callable[[Delivery], None],
    on_cancelled: Callable[[Exception | None], None],
    on_closed: Callable[[RabbitMqConsumer], None],
) -> RabbitMqConsumer:
    """A live consumer of ``queue``. ``counted``: whether that queue counts deliveries. ``on_closed``: its channel is closed,
    however that came. On failure nothing stays open.
    """
    channel = await session.channel(confirms=False)
    consumer = RabbitMqConsumer(session, channel, queue, on_cancelled, on_closed)
    try:
        await consumer.start(prefetch, on_delivery, counted=counted)
    except BaseException:
        session.spawn(consumer.close())
        raise
    return consumer
