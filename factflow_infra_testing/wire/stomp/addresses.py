"""Artemis' addresses: what a destination of SEND or SUBSCRIBE means, and what it creates. Facts ART-10 to ART-16, ART-32 to ART-34.

An address has routing types. ANYCAST: one queue of the same name, whose consumers compete. MULTICAST: a queue for each
subscription. ``address::queue`` names one queue of an address. On the pure broker an address is a fanout exchange over its
MULTICAST queues; queues have the names that Artemis gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.wire.stomp.errors import StompError, not_simulated
from factflow_infra_testing.wire.stomp.labels import address_label, queue_label, temporary_label

if TYPE_CHECKING:
    from factflow_infra_testing.broker.model import Broker
    from factflow_infra_testing.broker.sessions import Connection

ANYCAST: Final = "ANYCAST"
MULTICAST: Final = "MULTICAST"
TYPES: Final = (ANYCAST, MULTICAST)
QUALIFIED: Final = "::"
_SPECIAL: Final = ("*", "#", "?")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes: to an exchange, or (with an empty ``exchange``) to the queue ``key``. ``label``: of the address."""

    exchange: str
    key: str


class Addresses:
    """The addresses of one simulated broker: their routing types, in the order in which they were given."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._types: dict[str, dict[str, None]] = {}
        self._temporary = 0
        for name in (broker.profile.dead_letter_queue, broker.profile.expiry_queue):
            if name is not None:
                self._types[name] = {ANYCAST: None}

    def provide(self, destination: str, routing_type: str | None) -> None:
        """Create what ``destination`` needs, as Artemis does on SEND and SUBSCRIBE."""
        address, qualified, queue = destination.partition(QUALIFIED)
        for special in _SPECIAL:
            if special in address:
                raise not_simulated(f"wildcard addresses ({special!r} in {destination!r})")
        effective = MULTICAST if routing_type is None else routing_type
        types = self._types.setdefault(address, {})
        types.setdefault(effective)
        if address not in self._broker.exchanges:
            self._broker.declare_exchange(address, label=address_label(address))
        if qualified:
            if queue not in self._broker.queues:
                self._broker.declare_queue(queue, label=queue_label(queue))
                if effective == MULTICAST:
                    self._broker.bind(queue, address)
                elif queue != address:
                    raise not_simulated(f"several ANYCAST queues on one address ({destination!r})")
        elif effective == ANYCAST and address not in self._broker.queues:
            self._broker.declare_queue(address, label=address_label(address))

    def targets(self, destination: str, routing_type: str | None, *, whole: bool) -> list[Target]:
        """Where a SEND goes. ``whole``: though ``destination`` names one queue, to all of its address."""
        address, qualified, queue = destination.partition(QUALIFIED)
        if qualified and not whole:
            return [Target("", queue)]
        found: list[Target] = []
        types = self._types[address]
        if routing_type != ANYCAST and MULTICAST in types:
            found.append(Target(address, ""))
        if routing_type != MULTICAST and ANYCAST in types and address in self._broker.queues:
            found.append(Target("", address))
        return found

    def now(self, targets: list[Target]) -> list[Target]:
        """The queues that ``targets`` are now, whoever subscribes later."""
        exchanges = self._broker.exchanges
        return [
            one
            for target in targets
            for one in (
                [Target("", binding.queue.name) for binding in exchanges[target.exchange].bindings]
                if target.exchange
                else [target]
            )
        ]

    def subscribe(
        self, destination: str, *, client_id: str | None, durable_name: str | None, connection: Connection
    ) -> tuple[str, bool]:
        """The queue to consume, which exists now, and whether it ends with the subscription."""
        address, qualified, queue = destination.partition(QUALIFIED)
        if qualified:
            return queue, False
        if tuple(self._types[address]) != (MULTICAST,):
            if address not in self._broker.queues:
                raise StompError(f"AMQ339016 Error creating subscription: AMQ229017: Queue {address} does not exist")
            return address, False
        if durable_name is not None:
            if client_id is None:
                raise StompError("AMQ339016 Error creating subscription: no client-id in CONNECT")
            queue = f"{client_id}.{durable_name}"
            if queue not in self._broker.queues:
                self._broker.declare_queue(queue, label=queue_label(queue))
                self._broker.bind(queue, address)
            return queue, False
        self._temporary += 1
        queue = f"{address}#{self._temporary}"
        self._broker.declare_queue(queue, label=temporary_label(address), durable=False, owner=connection)
        self._broker.bind(queue, address)
        return queue, True

    @staticmethod
    def label(destination: str) -> str:
        """What a plan calls what is sent to ``destination``."""
        address, qualified, queue = destination.partition(QUALIFIED)
        return queue_label(queue) if qualified else address_label(address)
