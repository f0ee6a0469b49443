"""A channel: what is published on it, what it consumes, and what it owes confirms for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pamqp import commands
from pamqp.commands import Basic
from pamqp.commands import Channel as ChannelMethods

from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.broker.queues import Dispatch
from factflow_infra_testing.broker.settling import in_settling_order
from factflow_infra_testing.wire.amqp import declaring
from factflow_infra_testing.wire.amqp.arguments import QUORUM, VHOST, type_name
from factflow_infra_testing.wire.amqp.content import Content, outgoing
from factflow_infra_testing.wire.amqp.errors import (
    ACCESS_REFUSED,
    CHANNEL_ERROR,
    COMMAND_INVALID,
    NO_ROUTE,
    NOT_ALLOWED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    UNEXPECTED_FRAME,
    ChannelError,
    ConnectionFailedError,
    not_simulated,
)
from factflow_infra_testing.wire.amqp.frames import (
    answer,
    read_header,
    write_confirm,
    write_content,
    write_deliver,
    write_method,
)
from factflow_infra_testing.wire.amqp.operations import publish_label
from factflow_infra_testing.wire.amqp.replies import (
    REPLY_TO,
    ReplyConsumer,
    addressed,
    consumer_for,
    is_reply_queue,
)
from factflow_infra_testing.wire.expirations import read_expiration

if TYPE_CHECKING:
    from collections.abc import Callable

    from pamqp.base import Frame

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.broker.model import Broker
    from factflow_infra_testing.broker.sessions import Consumer
    from factflow_infra_testing.wire.amqp.connection import AmqpConnection
    from factflow_infra_testing.wire.amqp.frontend import AmqpFrontEnd

MAX_MESSAGE_BYTES: Final = 134_217_728


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
        self._prefetch = 0
        self._confirms = False
        self._published = 0
        self._unconfirmed: dict[int, None] = {}
        self._acks: list[int] = []
        self._publish: Basic.Publish | None = None
        self._size = 0
        self._raw = b""
        self._properties: Basic.Properties | None = None
        self._body: list[bytes] = []
        self._arrived = 0

    # --- frames -----------------------------------------------------------------------------------------------------

    def take_method(self, index: int, method: Any) -> None:
        """A method frame arrives."""
        if self._publish is not None:
            raise ConnectionFailedError(UNEXPECTED_FRAME, "expected content frame, got a method frame instead")
        if index == Basic.Publish.index:
            self._begin_publish(method)
            return
        handler = _HANDLERS.get(index)
        if handler is None:
            if index >> 16 == commands.Tx.frame_id:
                raise not_simulated("transactions (tx)")
            raise ConnectionFailedError(COMMAND_INVALID, f"{method.name} is not for a server")
        reply = handler(self, method)
        if reply is not None and not getattr(method, "nowait", False):
            self.connection.send(write_method(self.number, reply))

    def take_header(self, payload: bytes) -> None:
        """A content header arrives."""
        if self._publish is None or self._properties is not None:
            raise ConnectionFailedError(UNEXPECTED_FRAME, "expected method frame, got content header frame instead")
        self._size, self._raw, self._properties = read_header(payload)
        if self._size > MAX_MESSAGE_BYTES:
            size, self._publish, self._properties = self._size, None, None
            raise ChannelError(
                PRECONDITION_FAILED,
                f"message size {size} is larger than configured max size {MAX_MESSAGE_BYTES}",
            )
        if not self._size:
            self._finish_publish()

    def take_body(self, payload: bytes) -> None:
        """A part of a body arrives."""
        if self._properties is None:
            raise ConnectionFailedError(UNEXPECTED_FRAME, "expected method frame, got content body frame instead")
        self._body.append(payload)
        self._arrived += len(payload)
        if self._arrived > self._size:
            raise ConnectionFailedError(
                UNEXPECTED_FRAME, f"content body of {self._arrived} bytes, the header said {self._size}"
            )
        if self._arrived == self._size:
            self._finish_publish()

    @property
    def publishing(self) -> bool:
        """Whether a message is half here."""
        return self._publish is not None

    # --- publishing -------------------------------------------------------------------------------------------------

    def _begin_publish(self, method: Basic.Publish) -> None:
        if method.immediate:
            raise ConnectionFailedError(NOT_IMPLEMENTED, "immediate=true")
        self._publish = method

    def _finish_publish(self) -> None:
        method, properties, raw = self._publish, self._properties, self._raw
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._publish = self._properties = None
        self._body, self._arrived = [], 0
        assert method is not None
        assert properties is not None
        exchange, key = str(method.exchange), str(method.routing_key)
        if exchange and exchange not in self.broker.exchanges:
            raise ChannelError(NOT_FOUND, f"no exchange '{exchange}' in vhost '{VHOST}'")
        if exchange and self.broker.exchanges[exchange].internal:
            raise ChannelError(ACCESS_REFUSED, f"cannot publish to internal exchange '{exchange}' in vhost '{VHOST}'")
        content = addressed(self, Content(raw, properties, body))
        message = self._message(content)
        answers = not exchange and is_reply_queue(key)
        self._published += 1
        tag = self._published if self._confirms else 0
        if tag:
            self._unconfirmed[tag] = None
        label = REPLY_TO if answers else publish_label(self, exchange, key)
        mandatory = bool(method.mandatory)
        self.connection.server.meet_publish(
            self.connection,
            label,
            message.key,
            lambda: (
                self.front_end.replies.answer(key, content) if answers else self.broker.publish(exchange, key, message)
            ),
            lambda outcome: self._answer_publish(tag, message, outcome, mandatory=mandatory),
        )

    def _message(self, content: Content) -> Message:
        properties, connection = content.properties, self.connection
        headers = properties.headers
        if headers:
            for name in ("CC", "BCC"):
                value = headers.get(name)
                if value is not None and not isinstance(value, list):
                    why = f'{{unacceptable_type_in_header,"{name}",{type_name(value)}}}'
                    raise ChannelError(PRECONDITION_FAILED, f"invalid message: {why}")
                if value:
                    raise not_simulated(f"sender-selected distribution (the header {name})")
        if properties.user_id and properties.user_id != connection.user:
            raise ChannelError(
                PRECONDITION_FAILED,
                f"user_id property set to '{properties.user_id}' but authenticated user was '{connection.user}'",
            )
        ttl = None
        if properties.expiration:
            try:
                ttl = read_expiration(properties.expiration)
            except ValueError as error:
                text = f"invalid expiration '{properties.expiration}': {error}"
                raise ChannelError(PRECONDITION_FAILED, text) from None
        return Message(
            content.key,
            content,
            persistent=properties.delivery_mode == 2,
            size=len(content.body),
            ttl=ttl,
            headers=content.headers,
            client=connection.client,
            source=content.source if headers else "",
            laboratory=not connection.exposed,
        )

    def _answer_publish(self, tag: int, message: Message, outcome: Outcome, *, mandatory: bool) -> None:
        connection = self.connection
        if connection.cut or not connection.server_open or not self.session.open:
            return
        if outcome is Outcome.UNROUTED and mandatory:
            returned = answer(
                Basic.Return,
                reply_code=NO_ROUTE,
                reply_text="NO_ROUTE",
                exchange=message.exchange,
                routing_key=message.routing_key,
            )
            content: Content = message.payload
            connection.send(write_method(self.number, returned))
            connection.send(write_content(self.number, content.raw, content.body, connection.frame_max))
        elif outcome is Outcome.UNROUTED and not message.exchange:
            connection.server.notice(
                f"a message to queue {message.routing_key!r} met none, and was dropped: without `mandatory` RabbitMQ confirms it all the same",
                connection.client,
            )
        if not tag:
            return
        if outcome is Outcome.REFUSED:
            self.flush_acks()
            self._unconfirmed.pop(tag, None)
            connection.send(write_confirm(self.number, tag, multiple=False, nack=True))
        else:
            self._acks.append(tag)
            connection.owe_acks(self)

    @property
    def unconfirmed(self) -> int:
        """Publishes that wait for their answer."""
        return len(self._unconfirmed)

    def flush_acks(self) -> None:
        """Send the acks that are owed, as few frames as their tags allow."""
        acks, self._acks = self._acks, []
        unconfirmed = self._unconfirmed
        for tag in acks:
            unconfirmed.pop(tag, None)
        if not acks:
            return
        oldest = next(iter(unconfirmed), self._published + 1)
        done = max((tag for tag in acks if tag < oldest), default=0)
        frames = [write_confirm(self.number, tag, multiple=False, nack=False) for tag in sorted(acks) if tag > oldest]
        if done:
            frames.insert(0, write_confirm(self.number, done, multiple=len(acks) > 1, nack=False))
        self.connection.put(b"".join(frames))

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
        self._confirms = True
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
        self.flush_acks()
        self._end_replies()
        self.consumers.clear()
        self._unconfirmed.clear()
        self._publish = self._properties = None
        self._body.clear()
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
