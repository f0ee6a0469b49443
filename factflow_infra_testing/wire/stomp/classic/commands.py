"""What the commands of an open session do on ActiveMQ Classic. Most mistakes are answered with an ERROR, and the session goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.wire.stomp.content import Content
from factflow_infra_testing.wire.stomp.errors import StompError, not_simulated
from factflow_infra_testing.wire.stomp.handling import handlers
from factflow_infra_testing.wire.stomp.sending import Sending, whole
from factflow_infra_testing.wire.stomp.subscriptions import AUTO, CLIENT, INDIVIDUAL, Subscription

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Delivery
    from factflow_infra_testing.wire.stomp.classic.destinations import Destinations
    from factflow_infra_testing.wire.stomp.connection import StompConnection
    from factflow_infra_testing.wire.stomp.frames import Frame

PREFETCH: Final = 1000
DURABLE_PREFETCH: Final = 100
_SEND_ERROR: Final = "Invalid header of SEND"
_SEND_NOT_SIMULATED: Final = (
    *("JMSXGroupID", "JMSXGroupSeq", "transformation", "AMQ_SCHEDULED_REPEAT", "AMQ_SCHEDULED_PERIOD"),
    *("AMQ_SCHEDULED_CRON", "CamelJmsDestinationName"),
)
_PREFETCH_OPTION: Final = "activemq.prefetchSize"
_DURABLE_OPTION: Final = "activemq.subscriptionName"


class Settling:
    """An ACK in a transaction. ``key``: the id that it named."""

    __slots__ = ("deliveries", "key", "subscription")

    def __init__(self, key: str, subscription: Subscription, deliveries: dict[str, Delivery]) -> None:
        self.key = key
        self.subscription = subscription
        self.deliveries = deliveries

    def apply(self, connection: StompConnection) -> Outcome:
        for delivery in self.deliveries.values():
            if delivery.consumer is not None:  # whose room was given back by the ACK
                delivery.consumer.held += 1
            connection.server.broker.ack(delivery)
        return Outcome.ROUTED

    def undo(self, connection: StompConnection) -> None:
        """The transaction is aborted: what was acked in it can be acked again."""
        connection.held.update({key: (self.subscription, one) for key, one in self.deliveries.items()})


def _destinations(connection: StompConnection) -> Destinations:
    return cast("Destinations", connection.front_end.destinations)


def mistake(message: str) -> StompError:
    """What a client is told that may go on."""
    return StompError(message, f"org.apache.activemq.transport.stomp.ProtocolException: {message}", closes=False)


def unknown(command: str) -> StompError:
    """The answer to a command that there is not."""
    return StompError(f"Unknown STOMP action: {command}")


def stranger(command: str) -> StompError:
    """The answer to a command before CONNECT."""
    del command
    return mistake("Not connected.")


def error_headers(error: StompError, frame: Frame | None, length: int) -> list[tuple[str, str]]:
    """The headers of an ERROR beside its message."""
    del error, length
    headers = [("content-type", "text/plain")]
    if frame is not None and "receipt" in frame.headers:
        headers.append(("receipt-id", frame.headers["receipt"]))
    return headers


def send(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    destination = headers.get("destination")
    if destination is None:
        raise mistake("SEND received without a Destination specified!")
    transaction = _transaction(connection, frame)
    if "" in headers:
        raise StompError(_SEND_ERROR, "a header without a name")
    for name in _SEND_NOT_SIMULATED:
        if name in headers:
            raise not_simulated(f"meaning for the header {name}")
    whole(headers.get("priority", "4"), _SEND_ERROR)
    destinations = _destinations(connection)
    place = destinations.place(destination)
    now, wall = connection.server.broker.now, time.time()
    expires = whole(headers.get("expires", "0"), _SEND_ERROR)
    due = None
    if "AMQ_SCHEDULED_DELAY" in headers:
        delay = whole(headers["AMQ_SCHEDULED_DELAY"], _SEND_ERROR)
        if delay < 0:
            raise StompError(_SEND_ERROR, f"AMQ_SCHEDULED_DELAY must be 0 or more, got {delay}")
        due = now + delay / 1000
    content = Content(
        connection.front_end.new_number(),
        place.shown,
        None,
        headers,
        frame.body,
        text="content-length" not in headers,
        persistent=headers.get("persistent") == "true",
        timestamp=int(wall * 1000),
        expires=expires,
    )
    message = Message(
        content.key,
        content,
        persistent=content.persistent,
        size=content.size,
        ttl=max(expires / 1000 - wall, 0.0) if expires else None,
        client=connection.client,
        source=content.source,
        laboratory=not connection.exposed,
    )
    sending = Sending(message, [destinations.target(place)], due)
    if transaction is not None:
        transaction.append(sending)
        connection.receipt(frame)
        return
    connection.publish([sending], destinations.label(destination), frame)


def subscribe(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    destination = headers.get("destination")
    name = headers.get("id")
    if name is None and connection.version != "1.0":
        raise mistake("SUBSCRIBE received without a subscription id!")
    if not destination:
        raise mistake("Invalid empty or 'null' Destination header")
    if headers.get("selector"):
        raise not_simulated("selectors")
    for option in headers:
        if option.startswith("activemq.") and option not in (_PREFETCH_OPTION, _DURABLE_OPTION):
            raise not_simulated(f"option {option}")
    destinations = _destinations(connection)
    place = destinations.place(destination)
    name = place.shown if name is None else name
    if name in connection.subscriptions:
        raise not_simulated(f"second subscription of one id ({name!r})")
    durable_name = headers.get(_DURABLE_OPTION)
    prefetch = PREFETCH if durable_name is None else DURABLE_PREFETCH
    if _PREFETCH_OPTION in headers:
        prefetch = whole(headers[_PREFETCH_OPTION], f"Invalid {_PREFETCH_OPTION}")
    if durable_name is None:
        queue, temporary = destinations.subscribe(place, connection=connection.connection)
    else:
        queue, temporary = destinations.subscribe_durably(place, _client_id(connection), durable_name), False
    ack_mode = headers.get("ack", AUTO)
    if ack_mode not in (CLIENT, INDIVIDUAL):
        ack_mode = AUTO
    subscription = Subscription(connection, name, ack_mode=ack_mode, queue=queue, temporary=temporary)
    connection.subscriptions[name] = subscription
    connection.receipt(frame)
    subscription.consumer = connection.server.broker.consume(
        subscription.session,
        queue,
        subscription.deliver,
        limit=0 if ack_mode == AUTO else prefetch,
        auto_ack=ack_mode == AUTO,
        cancelled=subscription.cancelled,
        permits=0 if prefetch == 0 else None,
        weigh=subscription.weigh,
    )


def unsubscribe(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    name, destination = headers.get("id"), headers.get("destination")
    if name is None:
        if connection.version != "1.0":
            raise mistake("UNSUBSCRIBE received without a subscription id!")
        if not destination:
            raise mistake("Must specify the subscriptionId or the destination you are unsubscribing from")
        name = _destinations(connection).place(destination).shown
    durable_name = headers.get(_DURABLE_OPTION)
    if durable_name is not None:
        _destinations(connection).unsubscribe_durably(_client_id(connection), durable_name)
        connection.receipt(frame)
        return
    subscription = connection.subscriptions.get(name)
    if subscription is None:
        raise mistake("No subscription matched.")
    connection.end_subscription(subscription, forget=False)
    connection.receipt(frame)


def acknowledge(connection: StompConnection, frame: Frame) -> None:
    """ACK, and NACK, which has the message dead-lettered at once (AMQ-1)."""
    headers, nacks = frame.headers, frame.command == "NACK"
    if nacks and connection.version == "1.0":
        raise mistake("NACK received but connection is in v1.0 mode.")
    key, shown = _held_key(connection, frame)
    transaction = _transaction(connection, frame)
    known = connection.held.get(key)
    if known is None:
        raise mistake(f"Unexpected {frame.command} received for message-id [{shown}]")
    subscription, delivery = known
    cumulative = subscription.ack_mode == CLIENT and not nacks
    meant = {key: delivery}
    if cumulative:
        meant = {
            other: one
            for other, (owner, one) in connection.held.items()
            if owner is subscription and one.tag <= delivery.tag
        }
    server = connection.server
    if any(server.loses_ack(connection, one) for one in meant.values()):
        return
    for other in meant:
        del connection.held[other]
    if transaction is not None and nacks:
        raise mistake("Poison ack cannot be transacted")
    connection.receipt(frame)
    if transaction is not None:
        transaction.append(Settling(headers.get("id", key), subscription, meant))
        for one in meant.values():
            if one.consumer is not None and one.tag in one.session.unacked:
                server.broker.widen(one.consumer)
        return
    for one in meant.values():
        if nacks:
            server.broker.nack(one, requeue=False)
        else:
            server.broker.ack(one)


def begin(connection: StompConnection, frame: Frame) -> None:
    name = frame.headers.get("transaction")
    if not name:
        raise mistake("Must specify the transaction you are beginning")
    if name in connection.transactions:
        raise mistake(f"The transaction was already started: {name}")
    connection.transactions[name] = []
    connection.receipt(frame)


def commit(connection: StompConnection, frame: Frame) -> None:
    parts = _ended_transaction(connection, frame, "Must specify the transaction you are committing")
    sendings = [part for part in parts if isinstance(part, Sending)]
    settlings = [part for part in parts if isinstance(part, Settling)]
    if sendings:
        label = _destinations(connection).label(sendings[0].message.payload.address)
        connection.publish([*sendings, *settlings], label, frame)
        return
    connection.receipt(frame)
    for settling in settlings:
        settling.apply(connection)


def abort(connection: StompConnection, frame: Frame) -> None:
    parts = _ended_transaction(connection, frame, "Must specify the transaction you are committing")
    for part in parts:
        if isinstance(part, Settling):
            part.undo(connection)
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


def _client_id(connection: StompConnection) -> str:
    # Who names no client id has one that nobody else can have.
    return f"ID:{connection.client}" if connection.client_id is None else connection.client_id


def _held_key(connection: StompConnection, frame: Frame) -> tuple[str, str]:
    """The key of what an ACK or NACK names, and the message id that an error about it shows."""
    headers, command = frame.headers, frame.command
    if connection.version == "1.2":
        if "id" not in headers:
            what = "a ack id for acknowledge" if command == "ACK" else "an ack header to acknowledge"
            raise mistake(f"{command} received without {what}!")
        return headers["id"], "null"
    message_id, name = headers.get("message-id"), headers.get("subscription")
    if name is None and connection.version == "1.1":
        raise mistake(f"{command} received without a subscription id for acknowledge!")
    if message_id is None:
        raise mistake(f"{command} received without a message-id to acknowledge!")
    if name is not None:
        return f"{name}\0{message_id}", message_id
    key = next((key for key in connection.held if key.endswith(f"\0{message_id}")), "")
    return key, message_id


def _transaction(connection: StompConnection, frame: Frame) -> list[Sending | Settling] | None:
    """What the transaction that a frame names has so far. Raises ``StompError``: it was not begun."""
    name = frame.headers.get("transaction")
    if name is None:
        return None
    if name not in connection.transactions:
        raise mistake(f"Invalid transaction id: {name}")
    return connection.transactions[name]


def _ended_transaction(connection: StompConnection, frame: Frame, unnamed: str) -> list[Sending | Settling]:
    name = frame.headers.get("transaction")
    if not name:
        raise mistake(unnamed)
    if name not in connection.transactions:
        raise mistake(f"Invalid transaction id: {name}")
    return connection.transactions.pop(name)
