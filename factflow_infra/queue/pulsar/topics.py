"""Where a destination is on Pulsar: a topic, and a subscription on it.

A queue is a topic with one durable subscription that all its consumers share. A topic is a topic. A named subscription of it is a
durable subscription of that name, and the topic of its retries beside it, which is read as a queue is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from factflow_infra.queue.transport import DestinationKind

if TYPE_CHECKING:
    from factflow_infra.queue.naming import PulsarNamingStrategy
    from factflow_infra.queue.transport import Address

QUEUE_SUBSCRIPTION: Final = "factflow"
"""The one subscription of a queue."""


class Source(NamedTuple):
    """A topic to receive from. ``earliest``: whether a new subscription begins at the oldest message, or at the next."""

    topic: str
    subscription: str
    earliest: bool


class Topics:
    """The topics and subscriptions of addresses. Pure."""

    def __init__(self, naming: PulsarNamingStrategy) -> None:
        self._naming = naming

    def target(self, address: Address) -> str:
        """The topic to publish to, so that it reaches ``address`` and nobody else."""
        if address.subscription is not None and address.durable:
            return self._naming.retry_topic(address.destination, address.subscription)
        return self._naming.encode(address.destination)

    def keeper(self, address: Address) -> Source | None:
        """The subscription that must exist before anything is published to ``address``, or the message may be lost."""
        if address.destination.kind is DestinationKind.TOPIC and address.subscription is None:
            return None
        return Source(self.target(address), QUEUE_SUBSCRIPTION, earliest=True)

    def sources(self, address: Address) -> list[Source]:
        """What a consumer of ``address`` receives from."""
        topic = self._naming.encode(address.destination)
        if address.destination.kind is DestinationKind.QUEUE or address.subscription is None:
            return [Source(topic, QUEUE_SUBSCRIPTION, earliest=True)]
        own = Source(topic, address.subscription, earliest=False)
        return [own, Source(self.target(address), QUEUE_SUBSCRIPTION, earliest=True)]
