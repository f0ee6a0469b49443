"""Direct reply-to: a pseudo-queue whose consumer gets the answers to what its channel has asked, past all queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.wire.amqp.arguments import VHOST
from factflow_infra_testing.wire.amqp.content import Content
from factflow_infra_testing.wire.amqp.errors import NOT_FOUND, PRECONDITION_FAILED, ChannelError
from factflow_infra_testing.wire.amqp.frames import write_content, write_deliver

if TYPE_CHECKING:
    from factflow_infra_testing.wire.amqp.channel import Channel
    from factflow_infra_testing.wire.amqp.frontend import AmqpFrontEnd

REPLY_TO: Final = "amq.rabbitmq.reply-to"
_PREFIX: Final = f"{REPLY_TO}."


def is_reply_queue(name: str) -> bool:
    return name == REPLY_TO or name.startswith(_PREFIX)


class ReplyConsumer:
    """The consumer of the pseudo-queue on ``channel``. ``address`` is what its questions carry in place of the name."""

    def __init__(self, channel: Channel, tag: str) -> None:
        self.channel = channel
        self.tag = tag
        self.address = channel.front_end.replies.added(self)

    def take(self, content: Content) -> None:
        """Send an answer."""
        channel, connection = self.channel, self.channel.connection
        tag = channel.session.last_tag + 1  # which the next delivery has as well
        deliver = write_deliver(channel.number, self.tag.encode(), tag, "", self.address, redelivered=False)
        connection.send(deliver + write_content(channel.number, content.raw, content.body, connection.frame_max))


class Replies:
    """The reply consumers of a front end, by address."""

    def __init__(self) -> None:
        self._consumers: dict[str, ReplyConsumer] = {}
        self._count = 0

    def added(self, consumer: ReplyConsumer) -> str:
        self._count += 1
        address = f"{_PREFIX}g1h{self._count:016d}"
        self._consumers[address] = consumer
        return address

    def removed(self, consumer: ReplyConsumer) -> None:
        self._consumers.pop(consumer.address, None)

    def answer(self, address: str, content: Content) -> Outcome:
        """Send an answer to whom it is for, if anybody waits there. No queue takes it, so a mandatory one is returned as well."""
        consumer = self._consumers.get(address)
        if consumer is not None and consumer.channel.session.open and not consumer.channel.closing:
            consumer.take(content)
        return Outcome.UNROUTED

    def __contains__(self, address: str) -> bool:
        return address == REPLY_TO or address in self._consumers


def check_declared(front_end: AmqpFrontEnd, name: str) -> None:
    """A declaration of the pseudo-queue, or of an address, only asks whether it is there."""
    if name not in front_end.replies:
        raise ChannelError(NOT_FOUND, f"no queue '{name}' in vhost '{VHOST}'")


def consumer_for(channel: Channel, method: Any, tag: str) -> ReplyConsumer:
    """The reply consumer that ``basic.consume`` asks for. Raises ``ChannelError``."""
    if not method.no_ack:
        raise ChannelError(PRECONDITION_FAILED, "reply consumer cannot acknowledge")
    if channel.reply_consumer is not None:
        raise ChannelError(PRECONDITION_FAILED, "reply consumer already set")
    return ReplyConsumer(channel, tag)


def addressed(channel: Channel, content: Content) -> Content:
    """A message as it is routed: one that asks has the address of the channel's reply consumer. Raises ``ChannelError``."""
    properties = content.properties
    if properties.reply_to != REPLY_TO:
        return content
    if channel.reply_consumer is None:
        raise ChannelError(PRECONDITION_FAILED, "fast reply consumer does not exist")
    properties.reply_to = channel.reply_consumer.address
    return Content(properties.marshal(), properties, content.body)
