"""What destinations are called on Artemis, and how they are subscribed to. Nothing here talks to a broker.

- A queue is an ANYCAST address of its full name, ``/queue/name``, with the queue of that name; a topic is a MULTICAST
  address, ``/topic/name``. Nothing has to be declared: the broker makes them when they are first used, if the type is said
  each time (ART-10, ART-12).
- A named subscription of a topic is a durable one, whose queue is called ``factflow.<subscription>/topic/<name>``. A retry
  goes to that queue alone by its fully qualified name, without a type: with the topic's, it would reach every subscription
  right after a publish to the topic (ART-13).
- An unnamed one is a temporary queue of the broker's, which goes with its connection and whose name nobody learns. Its
  retries go to an address of its own, ``factflow.own.<id>``, that it subscribes to in the same way: so nothing is left on the
  broker by a process that was killed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from factflow_infra.queue.artemis.session import CLIENT_ID
from factflow_infra.queue.destinations import canonical
from factflow_infra.queue.transport import DestinationKind

if TYPE_CHECKING:
    from factflow_infra.queue.transport import Address

ANYCAST: Final = "ANYCAST"
MULTICAST: Final = "MULTICAST"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a SEND goes. ``routing_type`` ``None``: a fully qualified name, which is sent to without one."""

    destination: str
    routing_type: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """What a SUBSCRIBE takes from. ``durable_name``: of a durable subscription."""

    destination: str
    routing_type: str
    durable_name: str | None = None


@lru_cache(maxsize=4096)
def route_of(address: Address) -> Route:
    """How to publish to ``address``: to its queue, or to the topic where it has no subscription."""
    destination, subscription = canonical(address.destination), address.subscription
    if address.destination.kind is DestinationKind.QUEUE:
        return Route(destination, ANYCAST)
    if subscription is None:
        return Route(destination, MULTICAST)
    if address.durable:
        return Route(f"{destination}::{CLIENT_ID}.{_durable_name(destination, subscription)}", None)
    return Route(_own_address(subscription), MULTICAST)


def sources_of(address: Address) -> tuple[Source, ...]:
    """What to subscribe to, the one that most messages come from first."""
    destination, subscription = canonical(address.destination), address.subscription
    if address.destination.kind is DestinationKind.QUEUE:
        return (Source(destination, ANYCAST),)
    assert subscription is not None, "a topic is consumed from through a subscription"
    if address.durable:
        return (Source(destination, MULTICAST, _durable_name(destination, subscription)),)
    return Source(destination, MULTICAST), Source(_own_address(subscription), MULTICAST)


def _durable_name(topic: str, subscription: str) -> str:
    # Durable queues have one space of names, whatever their topic. A quoted name holds no slash, a topic begins with one.
    return quote(subscription, safe="") + topic


def _own_address(subscription: str) -> str:
    # Without the slash that every destination of a service begins with: nobody else's.
    return f"{CLIENT_ID}.own.{quote(subscription, safe='')}"
