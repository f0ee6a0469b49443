"""Where an engine's addresses lie on the simulated broker: the same topology that ``RabbitMqQueueProvider`` makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from factflow_infra.queue.naming import AmqpNamingStrategy, PulsarNamingStrategy
from factflow_infra.queue.pulsar.topics import QUEUE_SUBSCRIPTION
from factflow_infra.queue.transport import DestinationKind

if TYPE_CHECKING:
    from factflow_infra.queue.transport import Address
    from factflow_infra_testing.broker.model import Broker
    from factflow_infra_testing.broker.sessions import Connection


_NAMING = AmqpNamingStrategy()
_PULSAR_NAMING = PulsarNamingStrategy()


@dataclass(frozen=True, slots=True)
class Place:
    """An address on the broker. ``queue`` is empty for a topic as a whole, ``exchange`` for a plain queue.

    ``label`` is what faults, events and reports call it: the bare name of a queue, ``/topic/name`` for a topic,
    ``/topic/name#subscription`` for the queue behind a subscription, ``/topic/name#`` behind an unnamed one.
    ``durable=False``: that queue is exclusive and dies with its connection.
    """

    queue: str
    exchange: str
    label: str
    durable: bool

    def declare(self, broker: Broker, connection: Connection) -> None:
        """Make sure that it exists: durable queue, fanout exchange, binding."""
        if self.exchange and self.exchange not in broker.exchanges:
            broker.declare_exchange(self.exchange)
        if not self.queue or self.queue in broker.queues:
            return
        if self.durable:
            broker.declare_queue(self.queue, label=self.label)
        else:
            broker.declare_queue(self.queue, label=self.label, durable=False, owner=connection)
        if self.exchange:
            broker.bind(self.queue, self.exchange)


def label_of(address: Address) -> str:
    """What faults, events and reports call ``address``: see ``Place``."""
    name = address.destination.name
    if address.destination.kind is DestinationKind.QUEUE:
        return name
    if not address.durable:
        return f"/topic/{name}#"
    return f"/topic/{name}" if address.subscription is None else f"/topic/{name}#{address.subscription}"


def place_of(address: Address) -> Place:
    """Where ``address`` lies on the broker."""
    label = label_of(address)
    if address.destination.kind is DestinationKind.QUEUE:
        return Place(label, "", label, durable=True)
    exchange = f"/topic/{address.destination.name}"
    if address.durable and address.subscription is None:
        return Place("", exchange, label, durable=True)
    return Place(f"{exchange}#{address.subscription or ''}", exchange, label, durable=address.durable)


def wire_names_of(address: Address) -> tuple[str, ...]:
    """The names of the queue behind ``address`` where a production provider declared it, over AMQP or on Pulsar."""
    destination, subscription = address.destination, address.subscription
    if destination.kind is DestinationKind.QUEUE:
        return _NAMING.encode(destination), f"{_PULSAR_NAMING.encode(destination)}#{QUEUE_SUBSCRIPTION}"
    if subscription is None:
        return ()
    return (
        _NAMING.subscription_queue(destination, subscription),
        f"{_PULSAR_NAMING.encode(destination)}#{subscription}",
    )
