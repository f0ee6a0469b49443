"""The consumers of one connection: what the broker does when they subscribe, ask for more, settle and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.wire.pulsar.topics import PulsarError, id_of, position_of
from factflow_infra_testing.wire.pulsar.values import CUMULATIVE, ServerError, SubscriptionType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.sessions import Consumer, Session
    from factflow_infra_testing.wire.pulsar.session import Peer
    from factflow_infra_testing.wire.pulsar.topics import Subscription, Topics

MOST_UNACKED: Final = 50_000
"""Entries that a consumer may hold, before it is given no more."""
NOBODY_ASKED: Final = (1 << 64) - 1
"""The request id of what the broker says by itself."""
_COUNTED: Final = (SubscriptionType.SHARED, SubscriptionType.KEY_SHARED)
"""Subscriptions that take single messages back, and count that."""


class PulsarConsumer:
    """A consumer on a subscription. It has a session of its own, which holds what it has not acked."""

    def __init__(self, consumers: Consumers, number: int, name: str, kind: SubscriptionType) -> None:
        self.consumers = consumers
        self.number = number
        self.name = name
        self.type = kind
        self.subscription: Subscription
        self.holding: Session
        self.consumer: Consumer

    def deliver(self, delivery: Delivery) -> None:
        """Called in the middle of the broker's work: note it for the flush that follows."""
        self.subscription.held[delivery.entry.message.position] = delivery
        peer = self.consumers.peer
        if not peer.outbox:
            peer.server.dirty.append(peer)
        peer.outbox.append((self, delivery))

    def cancelled(self) -> None:
        """The broker ended it: its subscription is gone."""
        self.consumers.disconnect(self)


class Consumers:
    """Those of one connection. ``handlers``: what to do for each command that is about them; they raise ``PulsarError``."""

    def __init__(self, peer: Peer, topics: Topics) -> None:
        self.peer = peer
        self._broker = peer.server.broker
        self._topics = topics
        self._consumers: dict[int, PulsarConsumer] = {}
        self.handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "subscribe": self._subscribe,
            "flow": self._flow,
            "ack": self._ack,
            "redeliver_unacknowledged_messages": self._redeliver,
            "unsubscribe": self._unsubscribe,
            "close_consumer": self._close_consumer,
            "seek": self._seek,
            "get_last_message_id": self._last_message_id,
            "consumer_stats": self._stats,
        }

    def label_of(self, number: int) -> str | None:
        """What the subscription of a consumer is called."""
        consumer = self._consumers.get(number)
        return None if consumer is None else consumer.subscription.queue.label

    def end(self) -> None:
        """The connection is gone; what they held goes back with it."""
        for consumer in self._consumers.values():
            consumer.subscription.consumers.pop(consumer, None)
            self._tell_active(consumer.subscription)
        self._consumers.clear()

    def _subscribe(self, fields: Mapping[str, Any]) -> None:
        number, request = fields["consumer_id"], fields["request_id"]
        if number not in self._consumers:
            try:
                kind = SubscriptionType(fields["subType"])
            except ValueError:
                raise PulsarError(ServerError.UNKNOWN, "there is no such type of subscription") from None
            consumer = PulsarConsumer(self, number, fields.get("consumer_name") or "", kind)
            subscription = self._topics.topic(fields["topic"]).subscription(fields["subscription"], fields)
            subscription.join(consumer)
            self._consumers[number] = consumer
            consumer.subscription = subscription
            broker = self._broker
            consumer.holding = broker.open_session(self.peer.connection)
            consumer.consumer = broker.consume(
                consumer.holding,
                subscription.queue.name,
                consumer.deliver,
                limit=MOST_UNACKED,
                cancelled=consumer.cancelled,
                permits=0,
            )
            self.peer.send("success", {"request_id": request})
            self._tell_active(subscription)
            return
        self.peer.send("success", {"request_id": request})

    def _tell_active(self, subscription: Subscription) -> None:
        if subscription.type is SubscriptionType.FAILOVER:
            for index, consumer in enumerate(subscription.consumers):
                news = {"consumer_id": consumer.number, "is_active": index == 0}
                consumer.consumers.peer.send("active_consumer_change", news)

    def _consumer(self, fields: Mapping[str, Any]) -> PulsarConsumer:
        consumer = self._consumers.get(fields["consumer_id"])
        if consumer is None:
            raise PulsarError(ServerError.METADATA, "Consumer not found")
        return consumer

    def _flow(self, fields: Mapping[str, Any]) -> None:
        consumer = self._consumers.get(fields["consumer_id"])
        if consumer is not None:
            self._broker.flow(consumer.consumer, fields["messagePermits"])

    def _ack(self, fields: Mapping[str, Any]) -> None:
        consumer = self._consumers.get(fields["consumer_id"])
        if consumer is None:
            return
        subscription, client = consumer.subscription, self.peer.client
        # Some of a batch only: without batch index acks the broker keeps no count of that.
        positions = [position_of(one) for one in fields.get("message_id", ()) if not one.get("ack_set")]
        held = next((subscription.held[position] for position in positions if position in subscription.held), None)
        if held is not None and self.peer.server.loses_ack(self.peer, held):
            return  # the whole list: it is one frame
        for position in positions:
            if fields["ack_type"] == CUMULATIVE:
                subscription.ack_up_to(self._broker, position, client)
            else:
                subscription.ack(self._broker, position, client)
        if "request_id" in fields:
            answer = {"consumer_id": consumer.number, "request_id": fields["request_id"]}
            self.peer.send("ack_response", answer)

    def _redeliver(self, fields: Mapping[str, Any]) -> None:
        consumer = self._consumers.get(fields["consumer_id"])
        if consumer is None:
            return
        own = list(consumer.holding.unacked.values())
        ids = fields.get("message_ids", ())
        if ids and consumer.type in _COUNTED:
            wanted = dict.fromkeys(position_of(message_id) for message_id in ids)
            own = [delivery for delivery in own if delivery.entry.message.position in wanted]
        self._broker.give_back(own)

    def _unsubscribe(self, fields: Mapping[str, Any]) -> None:
        consumer = self._consumer(fields)
        subscription = consumer.subscription
        if len(subscription.consumers) > 1:
            text = "Unconnected or shared consumer attempting to unsubscribe"
            raise PulsarError(ServerError.METADATA, text)
        self._drop(consumer)
        subscription.topic.unsubscribe(subscription)
        self.peer.send("success", {"request_id": fields["request_id"]})

    def _close_consumer(self, fields: Mapping[str, Any]) -> None:
        consumer = self._consumers.get(fields["consumer_id"])
        if consumer is not None:
            self._drop(consumer)
        self.peer.send("success", {"request_id": fields["request_id"]})

    def _drop(self, consumer: PulsarConsumer) -> None:
        self._consumers.pop(consumer.number, None)
        consumer.subscription.consumers.pop(consumer, None)
        # A message that it was meant to get, and that has not left, is not sent any more.
        self.peer.outbox[:] = [item for item in self.peer.outbox if item[0] is not consumer]
        self._broker.close_session(consumer.holding)
        self._tell_active(consumer.subscription)

    def disconnect(self, consumer: PulsarConsumer) -> None:
        """Have the client connect this consumer anew."""
        if self._consumers.get(consumer.number) is consumer:
            self._drop(consumer)
            self.peer.send("close_consumer", {"consumer_id": consumer.number, "request_id": NOBODY_ASKED})

    def _seek(self, fields: Mapping[str, Any]) -> None:
        subscription = self._consumer(fields).subscription
        for one in list(subscription.consumers):
            one.consumers.disconnect(one)
        topic = subscription.topic
        if "message_id" in fields:
            ledger, entry = position_of(fields["message_id"])
            after = (ledger, entry - 1) if ledger >= 0 else (ledger, entry)
        else:
            sooner = [
                message.position
                for message in topic.log.after()
                if message.payload.metadata["publish_time"] < fields.get("message_publish_time", 0)
            ]
            after = sooner[-1] if sooner else (-1, -1)
        self._broker.rewind(subscription.queue.name, topic.name, after)
        self.peer.send("success", {"request_id": fields["request_id"]})

    def _last_message_id(self, fields: Mapping[str, Any]) -> None:
        consumer = self._consumer(fields)
        log = consumer.subscription.topic.log
        last = log.last
        newest = next((message for message in log.after((last[0], last[1] - 1))), None)
        # A batch of one is a batch (PUL-54).
        count = 0 if newest is None else max(0, newest.payload.metadata.get("num_messages_in_batch", 0))
        answer = {
            "last_message_id": id_of(last, count=count),
            "consumer_mark_delete_position": id_of(consumer.subscription.mark_delete),
        }
        self.peer.send("get_last_message_id_response", {"request_id": fields["request_id"], **answer})

    def _stats(self, fields: Mapping[str, Any]) -> None:
        consumer = self._consumer(fields)
        queue = consumer.subscription.queue
        answer = {
            "consumerName": consumer.name,
            "availablePermits": max(0, consumer.consumer.permits or 0),
            "unackedMessages": consumer.consumer.held,
            "type": consumer.type.name.title(),
            "msgBacklog": self._broker.depth(queue.name),
        }
        self.peer.send("consumer_stats_response", {"request_id": fields["request_id"], **answer})

    def deliver(self, consumer: PulsarConsumer, delivery: Delivery) -> None:
        """Send a delivery to the client."""
        message = delivery.entry.message
        fields: dict[str, Any] = {"consumer_id": consumer.number, "message_id": id_of(message.position)}
        if consumer.type in _COUNTED and delivery.count is not None and delivery.count > 1:
            fields["redelivery_count"] = delivery.count - 1
        self.peer.send("message", fields, message.payload)
