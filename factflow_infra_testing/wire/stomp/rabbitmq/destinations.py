"""The destinations of RabbitMQ's plugin, as exchanges, routing keys and queues. Facts RST-10 to RST-12."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from factflow_infra.queue.destinations import QUEUE_PREFIX, TOPIC_PREFIX
from factflow_infra_testing.broker.exchanges import ExchangeKind
from factflow_infra_testing.wire.stomp.addresses import Target
from factflow_infra_testing.wire.stomp.errors import not_simulated
from factflow_infra_testing.wire.stomp.labels import address_label
from factflow_infra_testing.wire.stomp.rabbitmq.errors import channel_error, mistake

if TYPE_CHECKING:
    from factflow_infra_testing.broker.model import Broker
    from factflow_infra_testing.broker.sessions import Connection

TOPIC_EXCHANGE: Final = "amq.topic"
_EXCHANGES: Final = {
    TOPIC_EXCHANGE: ExchangeKind.TOPIC,
    "amq.direct": ExchangeKind.DIRECT,
    "amq.fanout": ExchangeKind.FANOUT,
    "amq.headers": ExchangeKind.HEADERS,
}
_SLASH: Final = "%2F"
_TYPES: Final = "/temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue"


class Kind(Enum):
    """Of a destination: a queue that it makes, one that must be there, or an exchange."""

    QUEUE = "queue"
    EXISTING = "existing queue"
    EXCHANGE = "exchange"


@dataclass(frozen=True, slots=True)
class Place:
    """A destination. ``exchange`` is empty but for exchanges; ``key``: the routing key, or the name of the queue."""

    kind: Kind
    exchange: str
    key: str


def place_of(destination: str, command: str) -> Place:
    """What ``destination`` is for ``command``. Raises ``StompError``: nothing."""
    if not destination:
        raise mistake("Invalid destination", "Destination cannot be blank\n")
    if "/" not in destination:
        return Place(Kind.QUEUE, "", _unescaped(destination))
    _, _, rest = destination.partition("/")
    kind, slash, rest = rest.partition("/")
    if destination.startswith("/amq/queue/"):
        return Place(Kind.EXISTING, "", _unescaped(rest.removeprefix("queue/")))
    names = [_unescaped(name) for name in rest.split("/")]
    if slash and not destination.partition("/")[0]:
        if kind == "reply-queue":
            return Place(Kind.EXISTING, "", rest)
        if kind == "temp-queue":
            raise mistake("Invalid destination", f"'{destination}' is not a valid destination for '{command}'\n")
        if kind in ("queue", "topic", "exchange"):
            if not names[0] or len(names) > (2 if kind == "exchange" else 1):
                raise mistake("Invalid destination", f"'/{rest}' is not a valid {kind} destination\n")
            if kind == "queue":
                return Place(Kind.QUEUE, "", names[0])
            if kind == "topic":
                return Place(Kind.EXCHANGE, TOPIC_EXCHANGE, names[0])
            return Place(Kind.EXCHANGE, names[0], names[1] if len(names) > 1 else "")
    raise mistake(
        "Unknown destination",
        f"'{destination}' is not a valid destination.\nValid destination types are: {_TYPES}.\n",
    )


def shown(exchange: str, key: str) -> str:
    """The destination that a MESSAGE has which came by ``exchange`` with the routing key ``key``."""
    return _written(exchange, _escaped(key))


def _written(exchange: str, key: str) -> str:
    if not exchange:
        return f"{QUEUE_PREFIX}{key}"
    return f"{TOPIC_PREFIX}{key}" if exchange == TOPIC_EXCHANGE else f"/exchange/{exchange}/{key}"


def _unescaped(name: str) -> str:
    """Nothing but a slash can be written by its number, and only in capitals."""
    return name.replace(_SLASH, "/")


def _escaped(name: str) -> str:
    """What the plugin writes by its number: more than it reads."""
    return "".join(chr(byte) if 32 <= byte <= 127 and byte not in b"/%" else f"%{byte:02X}" for byte in name.encode())


class Destinations:
    """The destinations of one simulated broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._temporary = 0
        for name, kind in _EXCHANGES.items():
            broker.declare_exchange(name, kind)

    def target(self, place: Place) -> Target:
        """Where a SEND goes; a queue is made if it is not there. Raises ``StompError``: no such exchange."""
        if place.kind is Kind.EXCHANGE:
            self._exchange(place.exchange)
        elif place.kind is Kind.QUEUE and place.key not in self._broker.queues:
            self._broker.declare_queue(place.key)
        return Target(place.exchange, place.key)

    def subscribe(self, place: Place, *, durable_id: str | None, connection: Connection) -> str:
        """The queue to consume, made if it is not there. Raises ``StompError``: no such queue, or exchange."""
        if place.kind is not Kind.EXCHANGE:
            if place.key not in self._broker.queues:
                if place.kind is Kind.EXISTING:
                    raise channel_error("NOT_FOUND", f"no queue '{place.key}' in vhost '/'")
                self._broker.declare_queue(place.key)
            return place.key
        self._exchange(place.exchange)
        label = _written(place.exchange, place.key.replace("/", _SLASH))  # as the client wrote it
        if durable_id is None:
            self._temporary += 1
            queue = f"stomp.gen-{self._temporary}"
            self._broker.declare_queue(queue, label=f"{label}#", durable=False, owner=connection, auto_delete=True)
        else:
            queue = self.durable_queue(place, durable_id)
            self._broker.declare_queue(queue, label=f"{label}#{durable_id}")
        self._broker.bind(queue, place.exchange, place.key)
        return queue

    @staticmethod
    def durable_queue(place: Place, durable_id: str) -> str:
        """The name of the queue behind a durable subscription: the real one is a hash of the same."""
        return f"stomp-subscription-{durable_id}-{place.exchange}-{place.key}"

    def _exchange(self, name: str) -> None:
        if name not in self._broker.exchanges:
            raise channel_error("NOT_FOUND", f"no exchange '{name}' in vhost '/'")
        if self._broker.exchanges[name].kind is ExchangeKind.HEADERS:
            raise not_simulated("way to match headers over STOMP")

    @staticmethod
    def label(destination: str) -> str:
        """What a plan calls what is sent to ``destination``."""
        if destination.startswith("/amq/queue/"):
            return destination.removeprefix("/amq/queue/")
        return address_label(destination)
