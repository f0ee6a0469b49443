"""Consumers and their deliveries. Each consumer has a channel of its own: closing it gives back all that it held."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, cast

from factflow_infra.errors import QueueConnectionError, QueueError, SubscriptionClosedError
from factflow_infra.queue.rabbitmq import wire
from factflow_infra.queue.rabbitmq.failures import cancellations, cause_text, is_foreign

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiormq import Channel
    from aiormq.abc import DeliveredMessage
    from pamqp.commands import Basic

    from factflow_infra.queue.rabbitmq.session import Session
    from factflow_infra.queue.transport import Delivery, Envelope

MAX_PREFETCH: Final = 65_535


class RabbitMqDelivery:
    """One delivery, on the channel of its consumer."""

    __slots__ = ("_channel", "_settled", "_tag", "delivery_count", "envelope", "redelivered", "undecodable")

    def __init__(self, message: DeliveredMessage, channel: Channel, *, counted: bool) -> None:
        properties = message.header.properties
        self._channel = channel
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

    async def release(self) -> None:
        """Give back: at its old place in a classic queue, behind the others in a quorum queue."""
        channel = self._settle()
        before = cancellations()
        try:
            await channel.basic_reject(self._tag, requeue=True, wait=False)
        except (Exception, asyncio.CancelledError) as error:
            self._failed(error, before)
            raise

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
    """A consumer on a channel of its own. Made by ``start_consumer``."""

    def __init__(
        self,
        session: Session,
        channel: Channel,
        queue: str,
        on_cancelled: Callable[[Exception | None], None],
        on_closed: Callable[[RabbitMqConsumer], None],
    ) -> None:
        self._session = session
        self._channel = channel
        self._queue = queue
        self._on_cancelled = on_cancelled
        self._on_closed = on_closed
        self._tag: str | None = None
        self._ended = False

    async def start(self, prefetch: int, on_delivery: Callable[[Delivery], None], *, counted: bool) -> None:
        channel = self._channel
        cast("Any", channel).closing.add_done_callback(self._channel_closed)
        channel.on_consumer_cancel_callbacks.add(self._cancelled_by_broker)

        async def receive(message: DeliveredMessage) -> None:
            on_delivery(RabbitMqDelivery(message, channel, counted=counted))

        await self._request(lambda: channel.basic_qos(prefetch_count=min(prefetch, MAX_PREFETCH)))
        started = await self._request(lambda: channel.basic_consume(self._queue, receive))
        self._tag = started.consumer_tag

    async def cancel(self) -> None:
        """Take no more deliveries; those held stay ackable."""
        tag, self._tag = self._tag, None
        if tag is None or self._channel.is_closed or self._session.lost:
            return
        try:
            await self._request(lambda: self._channel.basic_cancel(tag))
        except QueueError:
            await self.close()

    async def close(self) -> None:
        """Close the channel: what is unsettled goes back, and acks written before arrive before."""
        self._ended = True
        tag, self._tag = self._tag, None
        channel = self._channel
        if channel.is_closed or self._session.lost:
            return
        with contextlib.suppress(QueueError):  # the channel is gone then, and what it held has gone back
            # A quorum queue loses acks that it is still working off when their channel closes: messages that were acked
            # come again. Whatever it answers, it answers after them.
            if tag is not None:
                await self._request(lambda: channel.basic_cancel(tag))
            await self._request(lambda: channel.basic_qos(prefetch_count=1))
            await self._request(channel.close)

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
