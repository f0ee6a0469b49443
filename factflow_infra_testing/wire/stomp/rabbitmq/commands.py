"""What the commands of an open session do on RabbitMQ's plugin. All subscriptions of a connection are consumers of one channel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.wire.expirations import read_expiration
from factflow_infra_testing.wire.stomp.content import Content
from factflow_infra_testing.wire.stomp.errors import StompError, not_simulated
from factflow_infra_testing.wire.stomp.handling import handlers
from factflow_infra_testing.wire.stomp.rabbitmq.content import NAMED
from factflow_infra_testing.wire.stomp.rabbitmq.destinations import Destinations, Kind, place_of, shown
from factflow_infra_testing.wire.stomp.rabbitmq.errors import channel_error, missing, mistake, processing_error
from factflow_infra_testing.wire.stomp.sending import Sending, whole
from factflow_infra_testing.wire.stomp.subscriptions import ACK_MODES, AUTO, CLIENT, Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.wire.stomp.connection import StompConnection
    from factflow_infra_testing.wire.stomp.frames import Frame

_UNNAMED: Final = "Q_"
_FLAGS: Final = {"true": True, "false": False}


def _destinations(connection: StompConnection) -> Destinations:
    return cast("Destinations", connection.front_end.destinations)


def unknown(command: str) -> StompError:
    """The answer to a command that there is not."""
    return StompError("Bad command", f'Could not interpret command "{command}"\n')


def stranger(command: str) -> StompError:
    """The answer to a command before CONNECT."""
    del command
    return mistake("Illegal command", "You must log in using CONNECT first")


def error_headers(error: StompError, frame: Frame | None, length: int) -> list[tuple[str, str]]:
    """The headers of an ERROR beside its message."""
    del error, frame
    return [("content-type", "text/plain"), ("version", "1.0,1.1,1.2"), ("content-length", str(length))]


def send(connection: StompConnection, frame: Frame) -> None:
    if "message-id" in frame.headers:
        raise mistake("Invalid header", "'message-id' is not allowed on 'SEND'.\n")
    if "destination" not in frame.headers:
        raise missing("SEND", "destination")
    if not _put_off(connection, frame):
        _send(connection, frame)


def _send(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    destination = headers["destination"]
    destinations = _destinations(connection)
    target = destinations.target(place_of(destination, "SEND"))
    if headers.get("reply-to", "").startswith("/temp-queue/"):
        raise not_simulated("temporary queues")
    for name in ("priority", "timestamp"):
        if name in headers:
            _number(headers[name])
    if headers.get("user-id", connection.user) != connection.user:
        text = f"user_id property set to '{headers['user-id']}' but authenticated user was '{connection.user}'"
        raise channel_error("PRECONDITION_FAILED", text)
    ttl = None
    if "expiration" in headers:
        try:
            ttl = read_expiration(headers["expiration"])
        except ValueError as error:
            text = f"invalid expiration '{headers['expiration']}': {error}"
            raise channel_error("PRECONDITION_FAILED", text) from None
    content = Content(
        connection.front_end.new_number(),
        shown(target.exchange, target.key),
        None,
        headers,
        frame.body,
        text=False,
        persistent=_flag(headers, "persistent"),
        timestamp=int(time.time() * 1000),
    )
    message = Message(
        content.key,
        content,
        persistent=content.persistent,
        size=content.size,
        ttl=ttl,
        client=connection.client,
        source=content.source,
        laboratory=not connection.exposed,
    )
    connection.publish([Sending(message, [target], None)], destinations.label(destination), frame)


def subscribe(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    destination = headers.get("destination")
    if destination is None:
        raise missing("SUBSCRIBE", "destination")
    place = place_of(destination, "SUBSCRIBE")
    ack_mode = headers.get("ack", AUTO)
    if ack_mode not in ACK_MODES:
        raise processing_error()
    prefetch = _number(headers.get("prefetch-count", "0"))
    name = headers.get("id")
    durable = _durable(headers)
    if durable and name is None:
        raise mistake("Missing Header", "Header 'id' is required for durable subscriptions")
    for option in headers:
        if option.startswith("x-") or (option in ("exclusive", "auto-delete") and _flag(headers, option)):
            raise not_simulated(f"queues with {option}")
    if place.kind is not Kind.EXCHANGE and "durable" in headers and not durable:
        raise not_simulated("queues that are not durable")
    tag = f"{_UNNAMED}{destination}" if name is None else f"{NAMED}{name}"
    if tag in connection.subscriptions:
        connection.receipt(frame)
        raise StompError(
            "Duplicated subscription identifier", f"A subscription identified by '{tag}' already exists.\n"
        )
    try:
        queue = _destinations(connection).subscribe(
            place, durable_id=name if durable else None, connection=connection.connection
        )
    except StompError:
        connection.receipt(frame)  # which comes though the channel is closed
        raise
    if connection.channel is None:
        connection.channel = connection.server.broker.open_session(connection.connection)
    subscription = _Subscription(
        connection, tag, ack_mode=ack_mode, queue=queue, temporary=False, session=connection.channel
    )
    connection.subscriptions[tag] = subscription
    connection.receipt(frame)
    subscription.consumer = connection.server.broker.consume(
        connection.channel,
        queue,
        subscription.deliver,
        limit=0 if ack_mode == AUTO else prefetch,
        auto_ack=ack_mode == AUTO,
        cancelled=subscription.cancelled,
        weigh=subscription.weigh,
    )


class _Subscription(Subscription):
    """Tells the client when its queue is deleted."""

    __slots__ = ()

    def cancelled(self) -> None:
        del self.connection.subscriptions[self.id]
        self.connection.tell_cancelled(self.id.removeprefix(NAMED))


def unsubscribe(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    name, destination = headers.get("id"), headers.get("destination")
    if name is None and destination is None:
        raise mistake("Missing destination or id", "UNSUBSCRIBE must include a 'destination' or 'id' header")
    tag = f"{_UNNAMED}{destination}" if name is None else f"{NAMED}{name}"
    subscription = connection.subscriptions.get(tag)
    if subscription is None:
        what = f"destination='{destination}'" if name is None else f"id='{name}'"
        text = f'UNSUBSCRIBE must refer to an existing subscription.\nSubscription to "{what}" not found.\n'
        raise mistake("No subscription found", text)
    del connection.subscriptions[tag]
    broker = connection.server.broker
    if subscription.consumer is not None:
        broker.cancel(subscription.consumer)
    if _durable(headers):
        broker.delete_queue(subscription.queue)
    connection.receipt(frame)


def acknowledge(connection: StompConnection, frame: Frame) -> None:
    """ACK, and NACK, which gives back unless it says ``requeue:false`` (RST-1)."""
    headers, command = frame.headers, frame.command
    header = "id" if connection.version == "1.2" else "message-id"
    message_id = headers.get(header)
    if message_id is None:
        raise mistake("Missing header", f'"{command}" must include the "{header}" header\n')
    parts = message_id.rsplit("@@", 2)
    if len(parts) != 3:
        raise mistake("Invalid header", f'"{command}" must include a valid "{header}" header\n')
    _number(parts[2])
    if parts[0] not in connection.subscriptions:
        raise mistake("Subscription not found", f'Message with id "{message_id}" has no subscription')
    if not _put_off(connection, frame):
        _acknowledge(connection, frame, message_id, parts[0])


def _acknowledge(connection: StompConnection, frame: Frame, message_id: str, tag: str) -> None:
    known = connection.held.get(message_id)
    if known is None:
        connection.receipt(frame)
        number = message_id.rpartition("@@")[2]
        raise channel_error("PRECONDITION_FAILED", f"unknown delivery tag {number}")
    delivery = known[1]
    meant: dict[str, Delivery] = {message_id: delivery}
    subscription = connection.subscriptions.get(tag)
    if subscription is not None and subscription.ack_mode == CLIENT:
        meant = {key: one for key, (_, one) in connection.held.items() if one.tag <= delivery.tag}
    server = connection.server
    if any(server.loses_ack(connection, one) for one in meant.values()):
        return
    for key in meant:
        del connection.held[key]
    connection.receipt(frame)
    if frame.command == "ACK":
        for one in meant.values():
            server.broker.ack(one)
    elif frame.headers.get("requeue") != "false":
        server.broker.give_back(meant.values())
    else:
        for one in meant.values():
            server.broker.nack(one, requeue=False)


def begin(connection: StompConnection, frame: Frame) -> None:
    connection.transactions[_transaction(frame)] = []
    connection.receipt(frame)


def commit(connection: StompConnection, frame: Frame) -> None:
    frames = _ended(connection, frame)
    connection.receipt(frame)
    for one in frames:  # each is answered now, as if it came now (RST-7)
        if one.command == "SEND":
            _send(connection, one)
        else:
            message_id = one.headers["id" if connection.version == "1.2" else "message-id"]
            _acknowledge(connection, one, message_id, message_id.rsplit("@@", 2)[0])


def abort(connection: StompConnection, frame: Frame) -> None:
    _ended(connection, frame)
    connection.receipt(frame)


HANDLERS: Final = handlers(
    send=send,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    acknowledge=acknowledge,
    begin=begin,
    commit=commit,
    abort=abort,
)


def _transaction(frame: Frame) -> str:
    name = frame.headers.get("transaction")
    if name is None:
        raise missing(frame.command, "transaction")
    return name


def _invalid(name: str) -> StompError:
    return mistake("Bad transaction", f'Invalid transaction identifier: "{name}"\n')


def _ended(connection: StompConnection, frame: Frame) -> list[Frame]:
    name = _transaction(frame)
    if name not in connection.transactions:
        raise _invalid(name)
    return connection.transactions.pop(name)


def _put_off(connection: StompConnection, frame: Frame) -> bool:
    """Keep a frame for the end of its transaction, if it is in one; its receipt comes then, too."""
    name = frame.headers.get("transaction")
    if name is None:
        return False
    if name not in connection.transactions:
        raise _invalid(name)
    connection.transactions[name].append(frame)
    return True


def _number(text: str) -> int:
    try:
        return whole(text, "Processing error")
    except StompError:
        raise processing_error() from None


def _flag(headers: Mapping[str, str], name: str) -> bool:
    if name not in headers:
        return False
    if headers[name] not in _FLAGS:
        raise processing_error()
    return _FLAGS[headers[name]]


def _durable(headers: Mapping[str, str]) -> bool:
    return _flag(headers, "durable") or _flag(headers, "persistent")
