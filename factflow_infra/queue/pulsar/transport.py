"""Pulsar as a ``Transport``, on ``pulsar.asyncio``. The engine above it has the delivery semantics and owns reconnecting."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import InvalidMessageError, PublishRefusedError, QueueConnectionError
from factflow_infra.queue.naming import PulsarNamingStrategy
from factflow_infra.queue.pulsar import wire
from factflow_infra.queue.pulsar.client import library
from factflow_infra.queue.pulsar.consuming import NACK_DELAY_MS, start_consumer
from factflow_infra.queue.pulsar.ephemeral import Ephemeral, EphemeralConsumer, Waiting, start_ephemeral
from factflow_infra.queue.pulsar.failures import result_of
from factflow_infra.queue.pulsar.publishing import Line, Publisher
from factflow_infra.queue.pulsar.session import open_session
from factflow_infra.queue.pulsar.topics import Topics
from factflow_infra.queue.shared import Shared
from factflow_infra.queue.transport import DestinationKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from factflow_infra.queue.messages import QueueMessage
    from factflow_infra.queue.pulsar.client import PulsarOptions
    from factflow_infra.queue.pulsar.consuming import PulsarConsumer
    from factflow_infra.queue.pulsar.session import Session
    from factflow_infra.queue.pulsar.topics import Source
    from factflow_infra.queue.transport import Address, Consumer, Delivery, Envelope

_REMEMBERED: Final = 10_000


class _Live:
    """What belongs to one session, and is forgotten with it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.publisher = Publisher(session)
        self.lines: dict[Address, Line] = {}
        self.opening: Shared[Address, Line] = Shared()
        self.consumers: dict[PulsarConsumer | EphemeralConsumer, None] = {}

    def forget_consumer(self, consumer: PulsarConsumer | EphemeralConsumer) -> None:
        self.consumers.pop(consumer, None)


class PulsarTransport:
    """One Pulsar client at a time. See ``factflow_infra.queue.transport.Transport`` for what each method promises."""

    def __init__(self, options: PulsarOptions) -> None:
        self._options = options
        self._naming = PulsarNamingStrategy(tenant=options.tenant, namespace=options.namespace)
        self._topics = Topics(self._naming)
        self._live: _Live | None = None
        self._batched: dict[Source, None] = {}
        self._ephemeral: weakref.WeakKeyDictionary[Address, Ephemeral] = weakref.WeakKeyDictionary()

    async def connect(self, on_lost: Callable[[Exception | None], None]) -> None:
        if self._live is not None:
            await self.close()
        session = await open_session(self._options)
        live = self._live = _Live(session)

        def lost(error: Exception | None) -> None:
            if self._live is live:
                self._live = None
            on_lost(error)
            live.publisher.abort()
            for consumer in live.consumers:
                consumer.lost()

        session.watch(lost)

    async def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            await live.session.close(*(consumer.close for consumer in live.consumers))
            live.publisher.abort()
            for consumer in live.consumers:
                consumer.lost()

    def check(self, address: Address, message: QueueMessage | None, *, delay: float) -> None:
        if address.subscription is not None:
            self._naming.check_subscription(address.destination, address.subscription)
        if delay > wire.MAX_DELAY_SECONDS:
            raise InvalidMessageError(f"a delay of {delay!r} s is too long; at most {wire.MAX_DELAY_SECONDS:,.0f} s")
        if message is not None:
            wire.check(message)

    def publish(self, address: Address, envelope: Envelope, *, delay: float = 0.0) -> Awaitable[None]:
        live = self._connected()
        line = live.lines.get(address)
        if line is None or line.closed:
            return self._publish_first(live, address, envelope, delay)
        return live.publisher.publish(line, address, envelope, delay)

    async def _publish_first(self, live: _Live, address: Address, envelope: Envelope, delay: float) -> None:
        if not address.durable:
            subscription = self._ephemeral.get(address)
            if subscription is None:
                raise PublishRefusedError(f"the unnamed subscription of {address.destination.text!r} is gone")
            subscription.put(Waiting(envelope), delay)
            return
        line = live.lines.get(address)
        while line is None or line.closed:
            line = await live.opening.result(address, lambda: self._open(live, address))
        await live.publisher.publish(line, address, envelope, delay)

    async def _open(self, live: _Live, address: Address) -> Line:
        keeper = self._topics.keeper(address)
        if keeper is not None:
            await self._keep(live, keeper)
        line = await live.publisher.line(self._topics.target(address))
        if len(live.lines) >= _REMEMBERED:
            live.lines.clear()
        live.lines[address] = line
        return line

    async def consume(
        self,
        address: Address,
        *,
        prefetch: int,
        concurrency: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
    ) -> Consumer:
        live = self._connected()
        if address.destination.kind is DestinationKind.TOPIC and not address.durable:
            subscription = self._ephemeral.get(address)
            if subscription is None:
                subscription = self._ephemeral[address] = Ephemeral(self._naming.encode(address.destination))
            reading = await start_ephemeral(
                live.session,
                subscription,
                prefetch=prefetch,
                concurrency=concurrency,
                on_delivery=on_delivery,
                on_cancelled=on_cancelled,
                on_closed=live.forget_consumer,
            )
            live.consumers[reading] = None
            return reading
        sources = self._topics.sources(address)
        consumer = await start_consumer(
            live.session,
            sources,
            prefetch=prefetch,
            concurrency=concurrency,
            batches=sources[0] in self._batched,
            consumer_type=self._consumer_type(),
            on_delivery=on_delivery,
            on_cancelled=on_cancelled,
            on_batch=lambda: self._batched.update({sources[0]: None}),
            on_closed=live.forget_consumer,
        )
        live.consumers[consumer] = None
        return consumer

    def _connected(self) -> _Live:
        live = self._live
        if live is None or live.session.lost:
            raise QueueConnectionError("not connected to Pulsar")
        return live

    def _consumer_type(self) -> Any:
        types = library().ConsumerType
        return types.KeyShared if self._options.key_shared else types.Shared

    async def _keep(self, live: _Live, source: Source) -> None:
        """Make the subscription that keeps what is published (PUL-1): by a consumer that takes nothing (PUL-2)."""
        session = live.session

        async def make() -> None:
            try:
                consumer = await session.client.subscribe(
                    source.topic,
                    source.subscription,
                    consumer_type=self._consumer_type(),
                    initial_position=library().InitialPosition.Earliest,
                    receiver_queue_size=0,
                    negative_ack_redelivery_delay_ms=NACK_DELAY_MS,
                )
            except Exception as error:
                if result_of(error) == "ConsumerBusy":
                    return  # it has consumers of another kind, so it exists
                raise
            await consumer.close()

        await session.request(make, f"the subscription of {source.topic}")
