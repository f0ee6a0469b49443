"""ActiveMQ Classic's destinations: ``/queue/name``, ``/topic/name``, and any other text as the name of a queue. Facts AMQ-10 to AMQ-12.

On the pure broker a topic is a fanout exchange with a queue for each of its subscriptions. Who a client id belongs to is kept here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from factflow_infra.queue.destinations import QUEUE_PREFIX, TOPIC_PREFIX
from factflow_infra_testing.broker.queues import QueueOptions
from factflow_infra_testing.wire.stomp.addresses import Target
from factflow_infra_testing.wire.stomp.errors import StompError, not_simulated
from factflow_infra_testing.wire.stomp.labels import address_label, temporary_label

if TYPE_CHECKING:
    from factflow_infra_testing.broker.model import Broker
    from factflow_infra_testing.broker.sessions import Connection
    from factflow_infra_testing.wire.stomp.connection import StompConnection

_NOT_SIMULATED: Final = (
    *(("/temp-queue/", "temporary queues"), ("/temp-topic/", "temporary topics")),
    *(("/remote-temp-queue/", "temporary queues"), ("/remote-temp-topic/", "temporary topics")),
)
_SPECIAL: Final = (
    (",", "composite destinations"),
    ("*", "wildcards"),
    (">", "wildcards"),
    ("?", "destination options"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A destination: a topic or a queue called ``name``."""

    topic: bool
    name: str

    @property
    def shown(self) -> str:
        """The destination as the broker writes it."""
        return f"{TOPIC_PREFIX if self.topic else QUEUE_PREFIX}{self.name}"


class Destinations:
    """The destinations of one simulated broker. ``clients``: the open connection of each client id."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._temporary = 0
        self.clients: dict[str, StompConnection] = {}

    def place(self, destination: str) -> Place:
        """What ``destination`` is, made if it is not there. Raises ``StompError``: it is nothing, or not simulated."""
        for prefix, what in _NOT_SIMULATED:
            if destination.startswith(prefix):
                raise not_simulated(what)
        for special, what in _SPECIAL:
            if special in destination:
                raise not_simulated(f"{what} ({special!r} in {destination!r})")
        topic = destination.startswith(TOPIC_PREFIX)
        name = destination.removeprefix(TOPIC_PREFIX if topic else QUEUE_PREFIX)
        if not name:
            raise StompError(f"Invalid destination name: a {'topic' if topic else 'queue'} without one")
        if name.startswith("ActiveMQ.Advisory."):
            raise not_simulated("advisory topics")
        place = Place(topic, name)
        if topic:
            if place.shown not in self._broker.exchanges:
                self._broker.declare_exchange(place.shown)
        elif name not in self._broker.queues:
            self._broker.declare_queue(name)
        return place

    def target(self, place: Place) -> Target:
        """Where a SEND goes."""
        return Target(place.shown, "") if place.topic else Target("", place.name)

    def subscribe(self, place: Place, *, connection: Connection) -> tuple[str, bool]:
        """The queue to consume, and whether it ends with the subscription."""
        if not place.topic:
            return place.name, False
        self._temporary += 1
        queue = f"{place.shown}#{self._temporary}"
        label, none = temporary_label(place.shown), QueueOptions()
        self._broker.declare_queue(queue, label=label, durable=False, owner=connection, options=none)
        self._broker.bind(queue, place.shown)
        return queue, True

    def subscribe_durably(self, place: Place, client_id: str, name: str) -> str:
        """The queue behind a durable subscription. Raises ``StompError``: somebody has it, or it is one of a queue."""
        if not place.topic:
            raise StompError("Invalid Subscription: cannot durably subscribe to a Queue destination!", closes=False)
        queue = durable_queue(client_id, name)
        found = self._broker.queues.get(queue)
        label = f"{place.shown}#{name}"
        if found is not None and found.consumers:
            text = f"Durable consumer is in use for client: {client_id} and subscriptionName: {name}"
            raise StompError(text, closes=False)
        if found is not None and found.label != label:
            raise not_simulated(f"moving the durable subscription {name!r} to another topic")
        if found is None:
            self._broker.declare_queue(queue, label=label, queue_type="subscription")
            self._broker.bind(queue, place.shown)
        return queue

    def unsubscribe_durably(self, client_id: str, name: str) -> None:
        """End a durable subscription. Raises ``StompError``: there is none, or somebody has it."""
        queue = self._broker.queues.get(durable_queue(client_id, name))
        if queue is None:
            text = f"No durable subscription exists for clientID: {client_id} and subscriptionName: {name}"
            raise StompError(text, closes=False)
        if queue.consumers:
            raise StompError("Durable consumer is in use", closes=False)
        self._broker.delete_queue(queue.name)

    @staticmethod
    def label(destination: str) -> str:
        """What a plan calls what is sent to ``destination``."""
        return address_label(destination)


def durable_queue(client_id: str, name: str) -> str:
    """The name, on the pure broker, of the queue behind a durable subscription."""
    return f"{client_id}::{name}"
