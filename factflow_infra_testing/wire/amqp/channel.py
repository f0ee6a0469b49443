"""A channel: its methods, and what it consumes. What is published on it is in ``publishing``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pamqp import commands
from pamqp.commands import Basic
from pamqp.commands import Channel as ChannelMethods

from factflow_infra_testing.broker.queues import Dispatch
from factflow_infra_testing.broker.settling import in_settling_order
from factflow_infra_testing.wire.amqp import declaring
from factflow_infra_testing.wire.amqp.arguments import QUORUM, VHOST
from factflow_infra_testing.wire.amqp.content import outgoing
from factflow_infra_testing.wire.amqp.errors import (
    ACCESS_REFUSED,
    CHANNEL_ERROR,
    COMMAND_INVALID,
    NOT_ALLOWED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    ChannelError,
    ConnectionFailedError,
    not_simulated,
)
from factflow_infra_testing.wire.amqp.frames import (
    answer,
    write_content,
    write_deliver,
    write_method,
)
from factflow_infra_testing.wire.amqp.publishing import Publishing
from factflow_infra_testing.wire.amqp.replies import (
    REPLY_TO,
    ReplyConsumer,
    consumer_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pamqp.base import Frame

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.model import Broker
    from factflow_infra_testing.broker.sessions import Consumer
    from factflow_infra_testing.wire.amqp.connection import AmqpConnection
    from factflow_infra_testing.wire.amqp.frontend import AmqpFrontEnd


class ChannelConsumer:
    """A consumer on a channel, and its tag."""

    __slots__ = ("channel", "consumer", "tag", "tag_bytes")

    def __init__(self, channel: Channel, tag: str) -> None:
        self.channel = channel
        self.tag = tag
        self.tag_bytes = tag.encode()
        self.consumer: Consumer | None = None

    def deliver(self, delivery: Delivery) -> None:
        """Called in the middle of the broker's work: note it for the flush that follows."""
        connection = self.channel.connection
        if not connection.outbox:
            connection.server.dirty.append(connection)
        connection.outbox.append((self, delivery))

    def cancelled(self) -> None:
        """The broker ended it: its queue was deleted."""
        channel = self.channel
        if channel.consumers.pop(self.tag, None) is not None and channel.connection.wants_cancel:
            channel.connection.send(write_method(channel.number, Basic.Cancel(consumer_tag=self.tag, nowait=True)))


class Channel:
    """One channel of ``connection``. Methods raise ``ChannelError`` or ``ConnectionFailedError``."""

    def __init__(self, connection: AmqpConnection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.front_end: AmqpFrontEnd = connection.front_end
        self.broker: Broker = connection.server.broker
        self.session = self.broker.open_session(connection.connection)
        self.last_queue = ""
        self.closing = False
        self.consumers: dict[str, ChannelConsumer] = {}
        self.reply_consumer: ReplyConsumer | None = None
        self.publishing = Publishing(self)
        self._prefetch = 0

    # --- frames -----------------------------------------------------------------------------------------------------

    def take_method(self, index: int, method: Any) -> None:
        """A method frame arrives."""
        if self.publishing.under_way:
            raise self.publishing.unexpected()
        if index == Basic.Publish.index:
            self.publishing.begin(method)
            return
        handler = _HANDLERS.get(index)
        if handler is None:
            if index >> 16 == commands.Tx.frame_id:
                raise not_simulated("transactions (tx)")
            raise ConnectionFailedError(COMMAND_INVALID, f"{method.name} is not for a server")
        reply = handler(self, method)
        if reply is not None and not getattr(method, "nowait", False):
            self.connection.send(write_method(self.number, reply))

    # --- consuming --------------------------------------------------------------------------------------------------

    def deliver(self, to: ChannelConsumer, delivery: Delivery) -> None:
        """Send a delivery."""
        message = delivery.entry.message
        properties, body = outgoing(message, delivery.count)
        connection = self.connection
        connection.send(
            write_deliver(
                self.number,
                to.tag_bytes,
                delivery.tag,
                message.exchange,
                message.routing_key,
                redelivered=delivery.redelivered,
            )
            + write_content(self.number, properties, body, connection.frame_max)
        )

    def queue_named(self, name: str) -> str:
        """``name``, or that of the queue declared last. Raises ``ChannelError`` where there is neither."""
        if not name and not self.last_queue:
            raise ChannelError(NOT_FOUND, "no previously declared queue")
        return name or self.last_queue

    def consume(self, method: Any) -> None:
        if method.queue == REPLY_TO:
            tag = method.consumer_tag or self.connection.new_consumer_tag()
            self.reply_consumer = consumer_for(self, method, tag)
            if not method.nowait:
                self.connection.send(write_method(self.number, Basic.ConsumeOk(consumer_tag=tag)))
            return
        queue = declaring.find_queue(self, method.queue)
        tag = method.consumer_tag or self.connection.new_consumer_tag()
        if tag in self.consumers:
            raise ConnectionFailedError(NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'")
        if method.arguments:
            name = min(method.arguments)
            raise not_simulated(f"consumer argument {name!r}")
        if self.session.limit and queue.type.name == QUORUM:
            text = f"queue '{queue.name}' in vhost '{VHOST}' does not support global qos"
            raise ConnectionFailedError(NOT_IMPLEMENTED, text)
        exclusive = method.exclusive and queue.type.name != QUORUM  # which gives anybody a consumer (RMQ-42)
        in_exclusive_use = self.front_end.exclusive.get(queue)
        if (in_exclusive_use is not None and in_exclusive_use.active) or (
            exclusive and (queue.consumers or queue.dispatch is Dispatch.SINGLE)
        ):
            raise ChannelError(ACCESS_REFUSED, f"queue '{queue.name}' in vhost '{VHOST}' in exclusive use")
        to = self.consumers[tag] = ChannelConsumer(self, tag)
        if not method.nowait:
            self.connection.send(write_method(self.number, Basic.ConsumeOk(consumer_tag=tag)))
        to.consumer = self.broker.consume(
            self.session,
            queue.name,
            to.deliver,
            limit=self._prefetch,
            auto_ack=method.no_ack,
            cancelled=to.cancelled,
            name=tag,
        )
        if exclusive:
            self.front_end.exclusive[queue] = to.consumer

    def cancel(self, method: Any) -> Frame:
        if self.reply_consumer is not None and self.reply_consumer.tag == method.consumer_tag:
            self._end_replies()
        to = self.consumers.pop(method.consumer_tag, None)
        if to is not None and to.consumer is not None:
            self.broker.cancel(to.consumer)
            self.connection.server.flush()  # what it was given already is on its way before the answer
        return Basic.CancelOk(consumer_tag=method.consumer_tag)

    def get(self, method: Any) -> Frame | None:
        queue = declaring.find_queue(self, method.queue)
        if queue.dispatch is Dispatch.SINGLE and queue.type.name == QUORUM:
            raise ChannelError(
                RESOURCE_LOCKED,
                f"cannot obtain access to locked queue '{queue.name}' in vhost '{VHOST}'. basic.get operations are not "
                "supported by quorum queues with single active consumer",
            )
        others = len(queue) - 1
        delivery = self.broker.get(self.session, queue.name, auto_ack=method.no_ack)
        if delivery is None:
            return Basic.GetEmpty()
        counts_expired = queue.type.name == QUORUM and not method.no_ack  # what expires behind it (RMQ-49)
        left = others if counts_expired else len(queue)
        message = delivery.entry.message
        got = answer(
            Basic.GetOk,
            delivery_tag=delivery.tag,
            redelivered=delivery.redelivered,
            exchange=message.exchange,
            routing_key=message.routing_key,
            message_count=left,
        )
        properties, body = outgoing(message, delivery.count, always_counted=True)
        self.connection.send(
            write_method(self.number, got) + write_content(self.number, properties, body, self.connection.frame_max)
        )
        return None

    def qos(self, method: Any) -> Frame:
        if method.prefetch_size:
            raise ConnectionFailedError(NOT_IMPLEMENTED, f"prefetch_size!=0 ({method.prefetch_size})")
        if not method.global_:
            self._prefetch = method.prefetch_count
        limit = (
            method.prefetch_count if method.global_ else 0
        )  # one for new consumers ends that of the channel (RMQ-56)
        if limit != self.session.limit:
            self.broker.limit_session(self.session, limit)
        return Basic.QosOk()

    # --- settling ---------------------------------------------------------------------------------------------------

    def ack(self, method: Any) -> None:
        meant = self._meant(method.delivery_tag, multiple=method.multiple)
        server = self.connection.server
        # All at once or not at all: the frame arrives, or it does not.
        if not any(server.loses_ack(self.connection, delivery) for delivery in meant):
            for delivery in in_settling_order(meant):
                self.broker.ack(delivery)

    def nack(self, method: Any) -> None:
        self._give_back(self._meant(method.delivery_tag, multiple=method.multiple), requeue=method.requeue)

    def reject(self, method: Any) -> None:
        self._give_back(self._meant(method.delivery_tag, multiple=False), requeue=method.requeue)

    def recover(self, method: Any) -> Frame | None:
        if not method.requeue:
            raise ConnectionFailedError(NOT_IMPLEMENTED, "requeue=false")
        self._give_back(list(self.session.unacked.values()), requeue=True)
        return Basic.RecoverOk() if isinstance(method, Basic.Recover) else None

    def _give_back(self, deliveries: list[Delivery], *, requeue: bool) -> None:
        if requeue and len(deliveries) > 1:
            self.broker.give_back_in_turn(deliveries)
            return
        for delivery in in_settling_order(deliveries):
            self.broker.nack(delivery, requeue=requeue)

    def _meant(self, tag: int, *, multiple: bool) -> list[Delivery]:
        unacked = self.session.unacked
        if multiple and not tag:
            return list(unacked.values())
        delivery = unacked.get(tag)
        if delivery is None:  # also where several are meant, of which some are there (RMQ-51)
            raise ChannelError(PRECONDITION_FAILED, f"unknown delivery tag {tag}")
        if not multiple:
            return [delivery]
        return [delivery for number, delivery in unacked.items() if number <= tag]

    # --- the channel itself -----------------------------------------------------------------------------------------

    def confirm_select(self, _: Any) -> Frame:
        self.publishing.confirms = True
        return commands.Confirm.SelectOk()

    def flow(self, method: Any) -> Frame:
        if not method.active:
            raise ConnectionFailedError(NOT_IMPLEMENTED, "active=false")
        return ChannelMethods.FlowOk(active=True)

    def reopened(self, _: Any) -> Frame:
        raise ConnectionFailedError(CHANNEL_ERROR, "second 'channel.open' seen")

    def _end_replies(self) -> None:
        if self.reply_consumer is not None:
            self.front_end.replies.removed(self.reply_consumer)
            self.reply_consumer = None

    def end(self) -> None:
        """It is closed: consumers end, what is unsettled goes back. Idempotent."""
        self.publishing.end()
        self._end_replies()
        self.consumers.clear()
        self.broker.close_session(self.session)


_HANDLERS: Final[dict[int, Callable[[Channel, Any], Frame | None]]] = {
    Basic.Ack.index: Channel.ack,
    Basic.Nack.index: Channel.nack,
    Basic.Reject.index: Channel.reject,
    Basic.Recover.index: Channel.recover,
    Basic.RecoverAsync.index: Channel.recover,
    Basic.Qos.index: Channel.qos,
    Basic.Consume.index: Channel.consume,
    Basic.Cancel.index: Channel.cancel,
    Basic.Get.index: Channel.get,
    commands.Confirm.Select.index: Channel.confirm_select,
    ChannelMethods.Flow.index: Channel.flow,
    ChannelMethods.Open.index: Channel.reopened,
    commands.Exchange.Declare.index: declaring.exchange_declare,
    commands.Exchange.Delete.index: declaring.exchange_delete,
    commands.Exchange.Bind.index: declaring.exchange_bind,
    commands.Exchange.Unbind.index: declaring.exchange_unbind,
    commands.Queue.Declare.index: declaring.queue_declare,
    commands.Queue.Bind.index: declaring.queue_bind,
    commands.Queue.Unbind.index: declaring.queue_unbind,
    commands.Queue.Purge.index: declaring.queue_purge,
    commands.Queue.Delete.index: declaring.queue_delete,
}
