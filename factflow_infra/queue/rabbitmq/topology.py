"""Which queues, exchanges and bindings an address needs on RabbitMQ, as data. Nothing here talks to a broker.

- A queue is a durable queue. A topic is a durable fanout exchange; each named subscription is a durable queue bound to
  it, each unnamed one an exclusive queue, which goes with its connection, or when nobody has used it for half an hour.
- A delayed message waits in a durable queue without consumers, one for each target and delay step, and expires into its
  target. These queues are quorum queues with at-least-once dead-lettering whatever ``queue_type`` says: a classic queue
  forgets what it expires before the target has confirmed it. They have no ``x-expires``: RabbitMQ would delete them with
  the messages in them, after a long stop of the broker for instance.
- A delayed message to a topic expires into a second exchange, bound to the topic's and to a queue of length 0: where
  nobody subscribes, at-least-once dead-lettering would else keep it until somebody does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.transport import DestinationKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.queue.transport import Address

QUORUM: Final = "quorum"
CLASSIC: Final = "classic"
SINK_QUEUE: Final = "factflow-.sink"
_UNUSED_EXPIRE_MS: Final = 30 * 60 * 1000
_SAFE_DELAYS_SINCE: Final = (3, 10)
"""From this version on quorum queues can expire messages, and dead-letter at least once."""
_DELIVERY_LIMIT_SINCE: Final = (4, 0)
"""From this version on quorum queues drop a message after 20 deliveries unless told otherwise."""


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue to declare."""

    name: str
    arguments: Mapping[str, Any] = field(hash=False)
    exclusive: bool = False

    @property
    def text(self) -> str:
        return f"queue {self.name!r}"


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """A durable fanout exchange to declare."""

    name: str

    @property
    def text(self) -> str:
        return f"exchange {self.name!r}"


@dataclass(frozen=True, slots=True)
class QueueBinding:
    queue: str
    exchange: str

    @property
    def text(self) -> str:
        return f"the binding of queue {self.queue!r} to exchange {self.exchange!r}"


@dataclass(frozen=True, slots=True)
class ExchangeBinding:
    """What reaches ``source`` reaches ``target``."""

    target: str
    source: str

    @property
    def text(self) -> str:
        return f"the binding of exchange {self.target!r} to exchange {self.source!r}"


Declaration = QueueSpec | ExchangeSpec | QueueBinding | ExchangeBinding


@dataclass(frozen=True, slots=True)
class Route:
    """How to publish: ``declarations`` have to exist first. ``mandatory``: no queue behind it is an error."""

    exchange: str
    routing_key: str
    mandatory: bool
    declarations: tuple[Declaration, ...]

    @property
    def text(self) -> str:
        return f"exchange {self.exchange!r}" if self.exchange else f"queue {self.routing_key!r}"


@dataclass(frozen=True, slots=True)
class Topology:
    """The plan of everything, for a broker of ``server_version`` and queues of ``queue_type``."""

    queue_type: str
    server_version: tuple[int, ...]
    naming: AmqpNamingStrategy = field(default_factory=AmqpNamingStrategy)

    def source(self, address: Address) -> tuple[QueueSpec, tuple[Declaration, ...]]:
        """The queue to consume from, and all that has to exist, that queue included."""
        queue = self._queue(address)
        if address.destination.kind is DestinationKind.QUEUE:
            return queue, (queue,)
        exchange = self.naming.encode(address.destination)
        return queue, (ExchangeSpec(exchange), queue, QueueBinding(queue.name, exchange))

    def counts_deliveries(self, queue: QueueSpec) -> bool:
        """Whether that queue tells how often it delivered a message."""
        return queue.arguments.get("x-queue-type") == QUORUM

    def route(self, address: Address, delay_ms: int) -> Route:
        """How to publish to ``address``: to its queue, or to the topic where it has no subscription."""
        whole_topic = address.destination.kind is DestinationKind.TOPIC and address.subscription is None
        if whole_topic:
            exchange = self.naming.encode(address.destination)
            if not delay_ms:
                return Route(exchange, "", mandatory=False, declarations=(ExchangeSpec(exchange),))
            return self._delayed_topic(exchange, delay_ms)
        target, needed = self.source(address)
        if not delay_ms:
            return Route("", target.name, mandatory=True, declarations=needed)
        waiting = self._waiting(target.name, delay_ms, exchange="", key=target.name, exclusive=target.exclusive)
        return Route("", waiting.name, mandatory=True, declarations=(*needed, waiting))

    def _queue(self, address: Address) -> QueueSpec:
        destination, subscription = address.destination, address.subscription
        name = self.naming.encode(destination)
        if destination.kind is DestinationKind.QUEUE:
            return QueueSpec(name, self._arguments())
        assert subscription is not None, "a topic is consumed from through a subscription"
        if address.durable:
            return QueueSpec(self.naming.subscription_queue(destination, subscription), self._arguments())
        own = self.naming.derived(name, "own", self.naming.encode_name(subscription))
        return QueueSpec(own, {"x-queue-type": CLASSIC, "x-expires": _UNUSED_EXPIRE_MS}, exclusive=True)

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {"x-queue-type": self.queue_type}
        if self.queue_type == QUORUM and self.server_version >= _DELIVERY_LIMIT_SINCE:
            arguments["x-delivery-limit"] = -1
        return arguments

    def _waiting(self, name: str, delay_ms: int, *, exchange: str, key: str | None, exclusive: bool) -> QueueSpec:
        arguments: dict[str, Any] = {
            "x-queue-type": CLASSIC,
            "x-message-ttl": delay_ms,
            "x-dead-letter-exchange": exchange,
        }
        if key is not None:
            arguments["x-dead-letter-routing-key"] = key
        if not exclusive and self.server_version >= _SAFE_DELAYS_SINCE:
            arguments |= {
                "x-queue-type": QUORUM,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            }
        return QueueSpec(self.naming.derived(name, "delay", str(delay_ms)), arguments, exclusive=exclusive)

    def _delayed_topic(self, topic: str, delay_ms: int) -> Route:
        hub = self.naming.derived(topic, "delayed")
        sink = QueueSpec(SINK_QUEUE, {"x-queue-type": CLASSIC, "x-max-length": 0})
        waiting = self._waiting(hub, delay_ms, exchange=hub, key=None, exclusive=False)
        return Route(
            "",
            waiting.name,
            mandatory=True,
            declarations=(
                ExchangeSpec(topic),
                ExchangeSpec(hub),
                ExchangeBinding(topic, hub),
                sink,
                QueueBinding(sink.name, hub),
                waiting,
            ),
        )
