"""RabbitMQ as a ``Transport``, on aio-pika. The engine above it has the delivery semantics and owns reconnecting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra.errors import (
    InvalidMessageError,
    QueueConnectionError,
    UnroutableError,
)
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.rabbitmq import wire
from factflow_infra.queue.rabbitmq.consuming import RabbitMqConsumer, start_consumer
from factflow_infra.queue.rabbitmq.declaring import Declarer
from factflow_infra.queue.rabbitmq.delays import delay_step
from factflow_infra.queue.rabbitmq.publishing import ExchangeGoneError, NackedError, Publisher
from factflow_infra.queue.rabbitmq.session import RabbitMqOptions, Session, open_session
from factflow_infra.queue.rabbitmq.topology import Route, Topology
from factflow_infra.queue.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.queue.messages import QueueMessage
    from factflow_infra.queue.transport import Address, Consumer, Delivery, Envelope

_REMEMBERED: Final = 10_000


class _Live:
    """What belongs to one connection, and is forgotten with it."""

    def __init__(self, session: Session, topology: Topology) -> None:
        self.session = session
        self.topology = topology
        self.declarer = Declarer(session)
        # A missing exchange closes the channel it was published on: topics get one apart from queues.
        self.to_queues = Publisher(session)
        self.to_topics = Publisher(session)
        self.routes: dict[tuple[Address, int], Route] = {}
        self.routing: Shared[tuple[Address, int], Route] = Shared()
        self.consumers: dict[RabbitMqConsumer, None] = {}

    def forget_consumer(self, consumer: RabbitMqConsumer) -> None:
        self.consumers.pop(consumer, None)


class RabbitMqTransport:
    """One RabbitMQ connection at a time. See ``factflow_infra.queue.transport.Transport`` for what each method promises."""

    def __init__(self, options: RabbitMqOptions) -> None:
        self._options = options
        self._naming = AmqpNamingStrategy()
        self._live: _Live | None = None
        self._mend_headers = False
        self._checked: set[Address] = set()

    async def connect(self, on_lost: Callable[[Exception | None], None]) -> None:
        if self._live is not None:
            await self.close()
        session = await open_session(self._options, mend_headers=self._mend_headers)
        live = self._live = _Live(session, Topology(self._options.queue_type, session.server_version, self._naming))

        def lost(error: Exception | None) -> None:
            # A message that the client cannot read ends the connection, and would end the next one as well.
            self._mend_headers = self._mend_headers or live.session.unreadable
            if self._live is live:
                self._live = None
            on_lost(error)

        session.watch(lost)

    async def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            # Closing a channel is answered: acks written before it have arrived then.
            await live.session.close(*(consumer.close for consumer in live.consumers))

    def check(self, address: Address, message: QueueMessage | None, *, delay: float) -> None:
        if address not in self._checked:
            self._naming.destination(address.destination.text)
            if address.subscription is not None:
                self._naming.check_subscription(address.destination, address.subscription)
            if len(self._checked) >= _REMEMBERED:
                self._checked.clear()
            self._checked.add(address)
        if delay:
            try:
                delay_step(delay)
            except ValueError as error:
                raise InvalidMessageError(str(error)) from None
        if message is not None:
            wire.check_headers(message)

    async def publish(self, address: Address, envelope: Envelope, *, delay: float = 0.0) -> None:
        live = self._connected()
        step = delay_step(delay) if delay else 0
        route = live.routes.get((address, step))
        if route is None:
            route = await self._declared(live, address, step)
        publisher = live.to_topics if route.exchange else live.to_queues
        try:
            await publisher.publish(route, envelope)
        except (UnroutableError, ExchangeGoneError, NackedError) as error:
            if isinstance(error, NackedError) and route.exchange:
                raise  # some subscriptions may have got it
            # Deleted behind our back, or (a quorum queue's nack) about to be: declare it again, and publish again, once.
            # It surely was not taken before.
            live.declarer.forget(route.declarations)
            live.routes.pop((address, step), None)
            route = await self._declared(live, address, step)
            try:
                await publisher.publish(route, envelope)
            except ExchangeGoneError as again:
                raise UnroutableError(f"{route.text} is deleted as soon as it is declared: {again}") from again

    async def consume(
        self,
        address: Address,
        *,
        prefetch: int,
        concurrency: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
    ) -> Consumer:
        del concurrency  # the client keeps nothing back
        live = self._connected()
        queue, needed = live.topology.source(address)
        # Whoever consumes again may do so because the queue is gone.
        live.declarer.forget(needed)
        await live.declarer.ensure(needed)
        consumer = await start_consumer(
            live.session,
            queue.name,
            prefetch=prefetch,
            counted=live.topology.counts_deliveries(queue),
            on_delivery=on_delivery,
            on_cancelled=on_cancelled,
            on_closed=live.forget_consumer,
        )
        live.consumers[consumer] = None
        return consumer

    def _connected(self) -> _Live:
        live = self._live
        if live is None or live.session.lost:
            raise QueueConnectionError("not connected to RabbitMQ")
        return live

    async def _declared(self, live: _Live, address: Address, step: int) -> Route:
        return await live.routing.result((address, step), lambda: self._declare(live, address, step))

    async def _declare(self, live: _Live, address: Address, step: int) -> Route:
        route = live.topology.route(address, step)
        await live.declarer.ensure(route.declarations)
        if len(live.routes) >= _REMEMBERED:
            live.routes.clear()
        live.routes[address, step] = route
        return route
