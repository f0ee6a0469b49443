"""The model tier's transport: the production engine straight on the simulated broker, without a wire.

Topology and guarantees are those of ``RabbitMqQueueProvider``: durable queues declared on publish and on consume, a fanout
exchange a topic, confirms, mandatory publishes to queues, delayed messages that join the tail of their queue when due.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from factflow_infra.errors import QueueConnectionError
from factflow_infra.queue.destinations import QUEUE_PREFIX, TOPIC_PREFIX
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, QueueMessage
from factflow_infra.queue.transport import Envelope
from factflow_infra_testing.broker.addresses import place_of
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.link import LinkConsumer
from factflow_infra_testing.simulation.links import SYN_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra.queue.transport import Address, Delivery
    from factflow_infra_testing.broker.addresses import Place
    from factflow_infra_testing.broker.entries import Delivery as BrokerDelivery
    from factflow_infra_testing.broker.link import Link
    from factflow_infra_testing.broker.server import SimulatedBroker

GOODBYE_SECONDS: Final = 5.0
"""How long ``close`` waits for the broker's answer."""

_SOURCE_HEADER: Final = DEAD_LETTER_HEADER_PREFIX + "source"
_SUBSCRIPTION_HEADER: Final = DEAD_LETTER_HEADER_PREFIX + "subscription"


class SimulatedDelivery:
    """One delivery, as the engine sees it."""

    __slots__ = ("_delivery", "_link", "delivery_count", "envelope", "redelivered", "undecodable")

    def __init__(self, link: Link, delivery: BrokerDelivery) -> None:
        self._link = link
        self._delivery = delivery
        self.redelivered = delivery.redelivered
        self.delivery_count = delivery.count
        payload = delivery.entry.message.payload
        if isinstance(payload, Envelope):
            self.envelope = payload
            self.undecodable: str | None = None
        else:
            body = payload if isinstance(payload, bytes) else repr(payload).encode()
            self.envelope = Envelope(QueueMessage(body=body, message_id=delivery.entry.message.key))
            self.undecodable = "it was not written by a provider"

    async def ack(self) -> None:
        self._link.ack(self._delivery)

    async def release(self) -> None:
        self._link.release(self._delivery)


class SimulatedConsumer:
    """A live consumer. ``close`` also gives back what is unsettled."""

    __slots__ = ("_consumer", "_link")

    def __init__(self, link: Link, consumer: LinkConsumer) -> None:
        self._link = link
        self._consumer = consumer

    async def cancel(self) -> None:
        if self._consumer.open:
            await self._ask(self._link.cancel)
            self._consumer.open = False

    async def close(self) -> None:
        self._consumer.open = False
        await self._ask(self._link.end)

    async def _ask(self, request: Callable[[LinkConsumer], asyncio.Future[None]]) -> None:
        try:
            await request(self._consumer)
        except QueueConnectionError:
            self._consumer.open = False  # with the connection went the consumer, and what it held


class SimulatedTransport:
    """One connection at a time of ``client``, on ``host``, to ``broker``. ``exposed``: it meets the run's faults.

    ``connect_timeout``: seconds, which the hosts of the broker share, as they do on the wire.
    """

    def __init__(
        self,
        broker: SimulatedBroker,
        client: str = "test",
        *,
        exposed: bool = False,
        host: str = "localhost",
        connect_timeout: float = SYN_TIMEOUT,
    ) -> None:
        self._broker = broker
        self._client = client
        self._exposed = exposed
        self._host = host
        self._patience = connect_timeout / len(broker.hosts)
        self._link: Link | None = None
        self._places: dict[Address, Place] = {}

    async def connect(self, on_lost: Callable[[Exception | None], None]) -> None:
        self._link = await self._broker.connect(
            self._client, on_lost, exposed=self._exposed, host=self._host, patience=self._patience
        )

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is None or not link.client_open:
            return
        goodbye = link.close()
        limit = asyncio.get_running_loop().call_later(GOODBYE_SECONDS, link.settle_calls)
        try:
            await goodbye
        finally:
            limit.cancel()

    def check(self, address: Address, message: QueueMessage | None, *, delay: float) -> None:
        """Nothing: what the protocols allow, the model can carry. Names are the naming strategy's concern."""

    async def publish(self, address: Address, envelope: Envelope, *, delay: float = 0.0) -> None:
        link = self._link
        if link is None:
            raise QueueConnectionError("There is no connection to the broker.")
        place = self._places.get(address)
        if place is None:
            place = self._places[address] = place_of(address)
        content = envelope.message
        headers = content.headers
        message = Message(
            content.message_id,
            envelope,
            size=len(content.body),
            client=self._client,
            source=source_of(headers) if headers else "",
            laboratory=not self._exposed,
        )
        await link.publish(place, message, delay)

    async def consume(
        self,
        address: Address,
        *,
        prefetch: int,
        concurrency: int,
        on_delivery: Callable[[Delivery], None],
        on_cancelled: Callable[[Exception | None], None],
    ) -> SimulatedConsumer:
        del concurrency  # no client library keeps anything back
        link = self._link
        if link is None:
            raise QueueConnectionError("There is no connection to the broker.")

        def received(delivery: BrokerDelivery) -> None:
            on_delivery(SimulatedDelivery(link, delivery))

        consumer = LinkConsumer(link, place_of(address), prefetch, received, on_cancelled)
        try:
            await link.consume(consumer)
        except asyncio.CancelledError:
            _abandon(link, consumer)
            raise
        return SimulatedConsumer(link, consumer)


def source_of(headers: Mapping[str, str]) -> str:
    """The label of the queue that a dead-lettered copy came from; empty for any other message."""
    source = headers.get(_SOURCE_HEADER, "").removeprefix(QUEUE_PREFIX)
    return f"{source}#{headers.get(_SUBSCRIPTION_HEADER, '')}" if source.startswith(TOPIC_PREFIX) else source


def _abandon(link: Link, consumer: LinkConsumer) -> None:
    """Take back a consumer that nobody waits for any more: nothing it was given may stay locked."""
    consumer.open = False
    if link.client_open:
        link.end(consumer).add_done_callback(_forget_error)


def _forget_error(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
