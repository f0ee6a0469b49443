"""What a client's frames are called in plans, and whom they are about: ``publish orders``, ``ack orders``, ``open worker``.

What is about no queue is about the process that sent it. Frames that are not here (heartbeats, the login) meet no fault of
their own: a connection that ends while it is made is the fault ``connect-cut``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands
from pamqp.commands import Basic, Exchange, Queue

from factflow_infra_testing.wire.amqp.labels import exchange_label, queue_label
from factflow_infra_testing.wire.amqp.replies import REPLY_TO, is_reply_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.wire.amqp.channel import Channel


def publish_label(channel: Channel, exchange: str, key: str) -> str:
    """What a message published to ``exchange`` with ``key`` is about."""
    if exchange:
        return exchange_label(exchange)
    queue = channel.broker.queues.get(key)
    return queue_label(key) if queue is None else queue.label


def _published(channel: Channel, method: Any) -> str:
    return publish_label(channel, method.exchange, method.routing_key)


def _settled(channel: Channel, method: Any) -> str:
    unacked = channel.session.unacked
    delivery = unacked.get(method.delivery_tag)
    if delivery is None:  # all of them, or up to a tag that is settled already: about the queue of the oldest
        delivery = next(iter(unacked.values()), None)
    return "" if delivery is None else delivery.queue.label


def _queue(channel: Channel, method: Any) -> str:
    name = method.queue or channel.last_queue
    if is_reply_queue(name):
        return REPLY_TO
    queue = channel.broker.queues.get(name)
    return queue_label(name) if queue is None else queue.label


def _cancelled(channel: Channel, method: Any) -> str:
    to = channel.consumers.get(method.consumer_tag)
    return "" if to is None or to.consumer is None else to.consumer.queue.label


def _exchange(_: Channel, method: Any) -> str:
    return exchange_label(method.exchange)


def _client(channel: Channel, _: Any) -> str:
    return channel.connection.client.partition("/")[0]


_Row = tuple[str, "Callable[[Channel, Any], str]"]

_OPERATIONS: Final[Mapping[int, _Row]] = MappingProxyType(
    {
        Basic.Publish.index: ("publish", _published),
        Basic.Ack.index: ("ack", _settled),
        Basic.Nack.index: ("nack", _settled),
        Basic.Reject.index: ("nack", _settled),
        Basic.Consume.index: ("subscribe", _queue),
        Basic.Cancel.index: ("unsubscribe", _cancelled),
        Basic.Get.index: ("get", _queue),
        Queue.Declare.index: ("declare", _queue),
        Queue.Bind.index: ("bind", _queue),
        Exchange.Declare.index: ("declare", _exchange),
        Basic.Qos.index: ("qos", _client),
        commands.Confirm.Select.index: ("confirms", _client),
        commands.Channel.Close.index: ("close", _client),
    }
)


def named(channel: Channel, index: int, method: Any) -> tuple[str, str]:
    """Operation and label of a method; two empty texts where it meets no fault."""
    row = _OPERATIONS.get(index)
    if row is None:
        return "", ""
    label = row[1](channel, method)
    return (row[0], label) if label else ("", "")
