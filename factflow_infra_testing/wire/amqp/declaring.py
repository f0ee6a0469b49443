"""``exchange.*`` and ``queue.*``: each method as a function of the front end and a channel; it gives the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pamqp.commands import Exchange as ExchangeMethods
from pamqp.commands import Queue as QueueMethods

from factflow_infra_testing.broker.errors import RefusalCode, RefusedError
from factflow_infra_testing.broker.exchanges import ExchangeKind
from factflow_infra_testing.broker.queues import Dispatch
from factflow_infra_testing.wire.amqp.arguments import (
    ALTERNATE,
    CLASSIC,
    QUORUM,
    VHOST,
    alternate_exchange,
    check_match,
    check_same_arguments,
    check_same_queue,
    inequivalent,
    read_arguments,
)
from factflow_infra_testing.wire.amqp.errors import (
    ACCESS_REFUSED,
    CODES,
    COMMAND_INVALID,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    ChannelError,
    ConnectionFailedError,
)
from factflow_infra_testing.wire.amqp.frames import answer
from factflow_infra_testing.wire.amqp.labels import exchange_label, queue_label
from factflow_infra_testing.wire.amqp.replies import check_declared, is_reply_queue

if TYPE_CHECKING:
    from pamqp.base import Frame

    from factflow_infra_testing.broker.exchanges import Exchange
    from factflow_infra_testing.broker.queues import Queue
    from factflow_infra_testing.wire.amqp.channel import Channel

SYSTEM_EXCHANGES: Final = {
    "amq.direct": ExchangeKind.DIRECT,
    "amq.fanout": ExchangeKind.FANOUT,
    "amq.topic": ExchangeKind.TOPIC,
    "amq.headers": ExchangeKind.HEADERS,
    "amq.match": ExchangeKind.HEADERS,
}


def refused(error: RefusedError) -> ChannelError:
    """The broker's own refusals, as they stand on the wire."""
    text = f"{error.text} in vhost '{VHOST}'" if error.code is not RefusalCode.NOT_IMPLEMENTED else error.text
    return ChannelError(CODES[error.code.value], text)


def find_queue(channel: Channel, name: str) -> Queue:
    """The queue that a method means; ``""`` is the one that this channel declared last. Raises ``ChannelError``."""
    queue = channel.broker.queues.get(channel.queue_named(name))
    if queue is None:
        raise ChannelError(NOT_FOUND, f"no queue '{channel.queue_named(name)}' in vhost '{VHOST}'")
    check_access(channel, queue)
    return queue


def check_access(channel: Channel, queue: Queue) -> None:
    if queue.owner is not None and queue.owner is not channel.session.connection:
        raise locked(queue.name)


def locked(name: str) -> ChannelError:
    return ChannelError(
        RESOURCE_LOCKED,
        f"cannot obtain exclusive access to locked queue '{name}' in vhost '{VHOST}'. It could be originally declared on "
        "another connection or the exclusive property value does not match that of the original declaration.",
    )


def find_exchange(channel: Channel, name: str) -> Exchange:
    """Raises ``ChannelError``: there is none, or it is the default one, which nothing can be done to."""
    _not_the_default(name)
    exchange = channel.broker.exchanges.get(name)
    if exchange is None:
        raise ChannelError(NOT_FOUND, f"no exchange '{name}' in vhost '{VHOST}'")
    return exchange


def _not_the_default(name: str) -> None:
    if not name:
        raise ChannelError(ACCESS_REFUSED, "operation not permitted on the default exchange")


# --- exchanges ----------------------------------------------------------------------------------------------------------


def exchange_declare(channel: Channel, method: Any) -> Frame:
    name = method.exchange
    if method.passive:
        find_exchange(channel, name)
        return ExchangeMethods.DeclareOk()
    _not_the_default(name)
    try:
        kind = ExchangeKind(method.exchange_type)
    except ValueError:
        raise ConnectionFailedError(COMMAND_INVALID, f"unknown exchange type '{method.exchange_type}'") from None
    known = channel.broker.exchanges.get(name)
    if known is None:
        if name.startswith("amq."):
            raise ChannelError(ACCESS_REFUSED, f"exchange name '{name}' contains reserved prefix 'amq.*'")
        alternate = alternate_exchange(name, method.arguments or {})
        made = channel.broker.declare_exchange(
            name, kind, label=exchange_label(name), durable=method.durable, auto_delete=method.auto_delete
        )
        made.alternate, made.internal = alternate, method.internal
        return ExchangeMethods.DeclareOk()
    for argument, asked, current in (
        ("type", kind.value, known.kind.value),
        ("durable", method.durable, known.durable),
        ("auto_delete", method.auto_delete, known.auto_delete),
        ("internal", method.internal, known.internal),
    ):
        if asked != current:
            raise inequivalent("exchange", name, argument, _quoted(asked), _quoted(current))
    current = {} if known.alternate is None else {ALTERNATE: known.alternate}
    check_same_arguments("exchange", name, (ALTERNATE,), method.arguments or {}, current)
    return ExchangeMethods.DeclareOk()


def exchange_delete(channel: Channel, method: Any) -> Frame:
    name = method.exchange
    _not_the_default(name)
    if name in SYSTEM_EXCHANGES:
        raise ChannelError(ACCESS_REFUSED, f"deletion of system exchange '{name}' in vhost '{VHOST}' not allowed")
    exchange = channel.broker.exchanges.get(name)
    if exchange is not None and method.if_unused and exchange.used:
        raise ChannelError(PRECONDITION_FAILED, f"exchange '{name}' in vhost '{VHOST}' in use")
    channel.broker.delete_exchange(name)
    return ExchangeMethods.DeleteOk()


def exchange_bind(channel: Channel, method: Any) -> Frame:
    source, target = find_exchange(channel, method.source), find_exchange(channel, method.destination)
    if source.kind is ExchangeKind.HEADERS:
        check_match(method.arguments or {})
    source.forward(target, method.routing_key, method.arguments or {})
    return ExchangeMethods.BindOk()


def exchange_unbind(channel: Channel, method: Any) -> Frame:
    _not_the_default(method.source)
    _not_the_default(method.destination)
    exchanges = channel.broker.exchanges
    source, target = exchanges.get(method.source), exchanges.get(method.destination)
    if source is not None and target is not None:
        had = source.used
        source.unforward(target, method.routing_key, method.arguments or {})
        _delete_if_left(channel, source, had=had)
    return ExchangeMethods.UnbindOk()


def _delete_if_left(channel: Channel, exchange: Exchange, *, had: bool) -> None:
    if exchange.auto_delete and had and not exchange.used:
        channel.broker.delete_exchange(exchange.name)


# --- queues -------------------------------------------------------------------------------------------------------------


def queue_declare(channel: Channel, method: Any) -> Frame:
    name = method.queue
    if is_reply_queue(name):
        check_declared(channel.front_end, name)
        return QueueMethods.DeclareOk(queue=name, message_count=0, consumer_count=1)
    queue = find_queue(channel, name) if method.passive else _declared(channel, name, method)
    channel.last_queue = queue.name
    count = _consumer_count(channel, queue)
    return answer(QueueMethods.DeclareOk, queue=queue.name, message_count=len(queue), consumer_count=count)


def _consumer_count(channel: Channel, queue: Queue) -> int:
    """How many consumers RabbitMQ counts: on a quorum queue (RMQ-43) also those that are cancelled and still hold something, as
    each message does that was got.
    """
    count = len(queue.consumers)
    if queue.dispatch is Dispatch.SINGLE and queue.type.name == QUORUM:
        count = min(count, 1)  # those that stand by are not counted
    if queue.type.name != QUORUM or not queue.unacked:
        return count
    sessions = [session for connection in channel.broker.connections for session in connection.sessions]
    held = [one for session in sessions for one in session.unacked.values() if one.queue is queue]
    cancelled = {one.consumer.serial for one in held if one.consumer is not None and not one.consumer.active}
    return count + len(cancelled) + sum(one.consumer is None for one in held)


def _declared(channel: Channel, name: str, method: Any) -> Queue:
    broker, arguments = channel.broker, dict(method.arguments or {})
    known = broker.queues.get(name)
    if known is not None:
        _check_same(channel, known, method, arguments)
        return known
    if name.startswith("amq."):
        raise ChannelError(ACCESS_REFUSED, f"queue name '{name}' contains reserved prefix 'amq.*'")
    wanted = read_arguments(name, arguments)
    # A plain queue is a classic one on any profile: the type is the client's to say, as it is on RabbitMQ.
    queue_type = wanted.queue_type or CLASSIC
    name = name or channel.front_end.new_queue_name()
    try:
        queue = broker.declare_queue(
            name,
            label=queue_label(name),
            queue_type=queue_type,
            durable=_durable(method),
            owner=channel.session.connection if method.exclusive else None,
            auto_delete=method.auto_delete,
            options=wanted.options,
        )
    except RefusedError as error:
        raise refused(error) from error
    if wanted.single:
        queue.dispatch = Dispatch.SINGLE
    channel.front_end.arguments[name] = (queue, arguments)
    return queue


def _durable(method: Any) -> bool:
    """An exclusive queue never is, whatever its client says (RMQ-16)."""
    return method.durable and not method.exclusive


def _check_same(channel: Channel, queue: Queue, method: Any, arguments: dict[str, Any]) -> None:
    name = queue.name
    if (queue.owner is not None) != method.exclusive:
        raise locked(name)
    check_access(channel, queue)
    for argument, asked, current in (
        ("durable", _durable(method), queue.durable),
        ("auto_delete", method.auto_delete, queue.auto_delete),
    ):
        if asked != current:
            raise inequivalent("queue", name, argument, _quoted(asked), _quoted(current))
    registered = channel.front_end.arguments.get(name)
    if registered is not None and registered[0] is queue:
        check_same_queue(name, queue.type.name, arguments, registered[1])
        return
    # Declared by another tier, or by a test, which give no arguments.
    wanted = read_arguments(name, arguments)
    if (wanted.queue_type or CLASSIC) != queue.type.name or wanted.options != queue.options:
        raise inequivalent("queue", name, "x-queue-type", f"'{wanted.queue_type}'", f"'{queue.type.name}'")


def _quoted(value: Any) -> str:
    return f"'{str(value).lower() if isinstance(value, bool) else value}'"


def queue_bind(channel: Channel, method: Any) -> Frame:
    exchange = find_exchange(channel, method.exchange)
    queue = find_queue(channel, method.queue)
    if exchange.kind is ExchangeKind.HEADERS:
        check_match(method.arguments or {})
    exchange.bind(queue, _binding_key(channel, method), method.arguments or {})
    return QueueMethods.BindOk()


def queue_unbind(channel: Channel, method: Any) -> Frame:
    _not_the_default(method.exchange)
    queue = channel.broker.queues.get(channel.queue_named(method.queue))
    exchange = channel.broker.exchanges.get(method.exchange)
    if queue is not None and exchange is not None:
        check_access(channel, queue)
        had = exchange.used
        exchange.unbind(queue, _binding_key(channel, method), method.arguments or {})
        _delete_if_left(channel, exchange, had=had)
    return QueueMethods.UnbindOk()


def _binding_key(channel: Channel, method: Any) -> str:
    # Without a queue's name and a key, the name of the queue that was declared last is the key as well.
    return channel.queue_named("") if not method.queue and not method.routing_key else method.routing_key


def queue_purge(channel: Channel, method: Any) -> Frame:
    queue = find_queue(channel, method.queue)
    return QueueMethods.PurgeOk(message_count=channel.broker.purge(queue.name))


def queue_delete(channel: Channel, method: Any) -> Frame:
    name = channel.queue_named(method.queue)
    queue = channel.broker.queues.get(name)
    if queue is None:
        return QueueMethods.DeleteOk(message_count=0)
    check_access(channel, queue)
    for asked, flag in ((method.if_unused, "if-unused"), (method.if_empty, "if-empty")):
        if asked and queue.type.name == QUORUM:
            raise ConnectionFailedError(
                NOT_IMPLEMENTED,
                f"cannot delete queue '{name}' in vhost '{VHOST}'. queue.delete operations with {flag} flag set are not "
                "supported by quorum queues",
            )
    if method.if_unused and queue.consumers:
        raise ChannelError(PRECONDITION_FAILED, f"queue '{name}' in vhost '{VHOST}' in use")
    if method.if_empty and len(queue):
        raise ChannelError(PRECONDITION_FAILED, f"queue '{name}' in vhost '{VHOST}' not empty")
    return QueueMethods.DeleteOk(message_count=channel.broker.delete_queue(name))
