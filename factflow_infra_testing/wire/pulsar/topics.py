"""Topics and subscriptions on the simulated broker: a topic is an exchange with a log, a subscription a queue behind it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.broker.entries import NOWHERE, Message
from factflow_infra_testing.broker.queues import Dispatch
from factflow_infra_testing.wire.pulsar.content import group_of, keys_of, source_label
from factflow_infra_testing.wire.pulsar.labels import subscription_label, topic_label
from factflow_infra_testing.wire.pulsar.values import EARLIEST, ServerError, SubscriptionType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.entries import Delivery, Entry, Position
    from factflow_infra_testing.broker.logs import Log
    from factflow_infra_testing.broker.model import Broker
    from factflow_infra_testing.broker.outcomes import Outcome
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.wire.pulsar.consuming import PulsarConsumer
    from factflow_infra_testing.wire.pulsar.frames import Content
    from factflow_infra_testing.wire.pulsar.session import PulsarProducer

_TOPIC: Final = re.compile(r"(?P<domain>persistent|non-persistent)://(?P<namespace>[-=:.\w]+/[-=:.\w]+)/.+", re.ASCII)
_TOP: Final = 1 << 63
"""Positions are sent as unsigned: earliest is -1, latest the largest signed number."""
_DISPATCH: Final = {
    SubscriptionType.EXCLUSIVE: Dispatch.SINGLE,
    SubscriptionType.FAILOVER: Dispatch.SINGLE,
    SubscriptionType.SHARED: Dispatch.IN_TURN,
    SubscriptionType.KEY_SHARED: Dispatch.STICKY,
}


class PulsarError(Exception):
    """A request that the broker refuses. ``code`` is what the client is told beside the text."""

    def __init__(self, code: ServerError, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Subscription:
    """A cursor on a topic. ``held`` knows the last delivery of each position that was given to a consumer and not acked."""

    def __init__(self, topic: Topic, name: str, queue: Queue, *, durable: bool) -> None:
        self.topic = topic
        self.name = name
        self.queue = queue
        self.durable = durable
        self.type = SubscriptionType.EXCLUSIVE
        self.consumers: dict[PulsarConsumer, None] = {}
        self.held: dict[Position, Delivery] = {}

    def join(self, consumer: PulsarConsumer) -> None:
        """Let ``consumer`` in. Raises ``PulsarError`` where the subscription is taken, or of another type."""
        if self.consumers:
            if self.type is not consumer.type:
                raise PulsarError(ServerError.CONSUMER_BUSY, "Subscription is of different type")
            if self.type is SubscriptionType.EXCLUSIVE:
                raise PulsarError(ServerError.CONSUMER_BUSY, "Exclusive consumer is already connected")
        self.type = consumer.type
        self.queue.dispatch = _DISPATCH[consumer.type]
        if self.queue.dispatch is Dispatch.SINGLE:
            self.queue.recall(float("inf"))  # only subscriptions that several may share delay
        self.consumers[consumer] = None

    def ack(self, broker: Broker, position: Position, client: str) -> None:
        """The message at ``position`` is done, whoever holds it."""
        delivery = self.held.pop(position, None)
        if delivery is None or not broker.ack(delivery):
            broker.ack_ready(self.queue, lambda entry: entry.message.position == position, client=client)

    def ack_up_to(self, broker: Broker, position: Position, client: str) -> None:
        """All up to and with ``position`` are done."""
        for one in [held for held in self.held if held <= position]:
            self.ack(broker, one, client)
        broker.ack_ready(self.queue, lambda entry: entry.message.position <= position, client=client)

    @property
    def mark_delete(self) -> Position:
        """The last position before which nothing is left to do."""
        left: list[Entry] = [*self.queue, *(item[2] for item in self.queue.waiting)]
        positions = [entry.message.position for entry in left] + list(self.held)
        if not positions:
            return self.topic.log.last
        segment, index = min(positions)
        return segment, index - 1


class Topic:
    """A persistent topic. ``label`` is its name the way the user of a provider wrote it."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.name = name
        self.label = topic_label(name)
        self._broker = broker
        self._exchange = broker.declare_exchange(name, label=self.label, logged=True)
        self.producers: dict[str, PulsarProducer] = {}
        self.subscriptions: dict[str, Subscription] = {}

    @property
    def log(self) -> Log:
        log = self._exchange.log
        assert log is not None
        return log

    def publish(self, content: Content, *, client: str, laboratory: bool, due: float | None) -> tuple[Message, Outcome]:
        """Keep a message, and give it to every subscription. ``due``: in the broker's time."""
        keys = keys_of(content)
        message = Message(
            keys[0],
            content,
            size=len(content.raw),
            client=client,
            source=source_label(content),
            laboratory=laboratory,
            due=due,
            group=group_of(content),
            keys=keys,
        )
        return message, self._broker.publish(self.name, "", message)

    def subscription(self, name: str, request: Mapping[str, Any]) -> Subscription:
        """The subscription called ``name``, made as ``request`` says if it is not there."""
        found = self.subscriptions.get(name)
        if found is not None and found.queue.alive:
            return found
        broker, durable = self._broker, request.get("durable", True)
        queue = broker.declare_queue(
            f"{self.name}#{name}",
            label=subscription_label(self.name, name),
            durable=durable,
            auto_delete=not durable,
        )
        broker.bind(queue.name, self.name)
        start = request.get("start_message_id")
        if start is not None:
            at = position_of(start)
            if at > NOWHERE and start.get("batch_index", -1) >= 0:
                at = (at[0], at[1] - 1)  # the rest of its batch may not have been read
            broker.rewind(queue.name, self.name, at)
        elif request.get("initialPosition") == EARLIEST:
            broker.rewind(queue.name, self.name, NOWHERE)
        found = self.subscriptions[name] = Subscription(self, name, queue, durable=durable)
        return found

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription, and what it had left to do."""
        self.subscriptions.pop(subscription.name, None)
        self._broker.delete_queue(subscription.queue.name)


class Topics:
    """The topics of one broker. ``namespaces``: those that there are."""

    def __init__(self, broker: Broker, namespaces: frozenset[str] = frozenset({"public/default"})) -> None:
        self.broker = broker
        self.namespaces = namespaces
        self._topics: dict[str, Topic] = {}
        self._names = 0

    def check(self, name: str) -> None:
        """Raise ``PulsarError`` for a name that no topic can have here."""
        match = _TOPIC.fullmatch(name)
        if match is None:
            raise PulsarError(ServerError.INVALID_TOPIC_NAME, f"Invalid topic name: {name[:200]!r}")
        if match["domain"] != "persistent":
            raise PulsarError(ServerError.NOT_ALLOWED, "non-persistent topics are not simulated")
        if match["namespace"] not in self.namespaces:
            raise PulsarError(ServerError.TOPIC_NOT_FOUND, "Namespace not found")

    def topic(self, name: str) -> Topic:
        """The topic called ``name``, made if it is not there. Raises ``PulsarError``."""
        self.check(name)
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = Topic(self.broker, name)
        return found

    def names(self, namespace: str) -> list[str]:
        """The topics in a namespace."""
        return [name for name in self._topics if name.startswith(f"persistent://{namespace}/")]

    def new_producer_name(self) -> str:
        """A name for a producer whose client chose none."""
        self._names += 1
        return f"standalone-0-{self._names}"


def position_of(message_id: Mapping[str, Any]) -> Position:
    """Where in the log a message id points to; the latest one behind everything."""
    ledger, entry = message_id["ledgerId"], message_id["entryId"]
    return NOWHERE if ledger >= _TOP or entry >= _TOP else (ledger, entry)


def id_of(position: Position, *, count: int = 0) -> dict[str, Any]:
    """A position as the protocol has it; ``count``: the messages of its batch, the last of which is meant."""
    ledger, entry = position
    mask = (1 << 64) - 1
    found: dict[str, Any] = {"ledgerId": ledger & mask, "entryId": entry & mask}
    return {**found, "batch_index": count - 1, "batch_size": count} if count else found
