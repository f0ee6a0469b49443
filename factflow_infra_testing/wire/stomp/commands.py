"""What the commands of an open session do on Artemis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.wire.stomp.addresses import QUALIFIED, TYPES
from factflow_infra_testing.wire.stomp.content import Content
from factflow_infra_testing.wire.stomp.errors import StompError, not_simulated
from factflow_infra_testing.wire.stomp.handling import handlers
from factflow_infra_testing.wire.stomp.sending import Sending, whole
from factflow_infra_testing.wire.stomp.subscriptions import ACK_MODES, AUTO, CLIENT, Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.wire.stomp.addresses import Addresses, Target
    from factflow_infra_testing.wire.stomp.connection import StompConnection
    from factflow_infra_testing.wire.stomp.frames import Frame

DEFAULT_WINDOW: Final = 10_240
_UNLIMITED: Final = -1
_SEND_ERROR: Final = "AMQ339031 Error handling send"
_UNKNOWN_HEADERS: Final = (
    *("JMSXGroupID", "JMSXGroupSeq", "AMQ_SCHEDULED_REPEAT", "AMQ_SCHEDULED_PERIOD", "AMQ_SCHEDULED_CRON"),
    *("_AMQ_GROUP_ID", "_AMQ_LVQ_NAME", "_AMQ_SCHED_DELIVERY"),
)


def _addresses(connection: StompConnection) -> Addresses:
    return cast("Addresses", connection.front_end.destinations)


def _route(connection: StompConnection, destination: str, routing_type: str | None) -> list[Target]:
    """Where a SEND goes, which for a qualified name depends on the last one (ART-13)."""
    address, qualified, _ = destination.partition(QUALIFIED)
    whole = bool(qualified) and connection.last_route == (address, routing_type)
    if not whole:
        connection.last_route = None if qualified else (address, routing_type)
    return _addresses(connection).targets(destination, routing_type, whole=whole)


def send(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    destination = headers.get("destination")
    if not destination:
        raise StompError(_SEND_ERROR, "no destination")
    routing_type = _routing_type(headers, "destination-type", _SEND_ERROR)
    for name in _UNKNOWN_HEADERS:
        if name in headers:
            raise not_simulated(f"meaning for the header {name}")
    if headers.get("priority", "4") != "4":
        _whole(headers["priority"])
        raise not_simulated(f"priorities (priority:{headers['priority']})")
    front_end = connection.front_end
    now = connection.server.broker.now
    wall = time.time()
    expires = _whole(headers.get("expires", "0"))
    content = Content(
        front_end.new_number(),
        destination.partition(QUALIFIED)[0],
        routing_type,
        headers,
        frame.body,
        text="content-length" not in headers,
        persistent=headers.get("persistent", "").lower() == "true",
        timestamp=int(wall * 1000),
        expires=expires,
    )
    due = None
    if "AMQ_SCHEDULED_DELAY" in headers:
        due = now + _whole(headers["AMQ_SCHEDULED_DELAY"]) / 1000
    if "AMQ_SCHEDULED_TIME" in headers:
        due = now + _whole(headers["AMQ_SCHEDULED_TIME"]) / 1000 - wall
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
    _addresses(connection).provide(destination, routing_type)
    sending = Sending(message, _route(connection, destination, routing_type), due)
    transaction = headers.get("transaction")
    if transaction is not None:
        # Where it goes is settled now. What is sent in a transaction that was not begun is answered, and lost (ART-33).
        sending.targets = _addresses(connection).now(sending.targets)
        connection.transactions.get(transaction, []).append(sending)
        connection.receipt(frame)
        return
    connection.publish([sending], _addresses(connection).label(destination), frame)


def subscribe(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    destination = headers.get("destination")
    if not destination:
        raise StompError("AMQ339016 Error creating subscription", "no destination")
    routing_type = _routing_type(headers, "subscription-type", "AMQ339016 Error creating subscription")
    ack_mode = headers.get("ack", AUTO)
    if ack_mode not in ACK_MODES:
        raise StompError(f"ack must be one of {', '.join(ACK_MODES)}, got {ack_mode!r}")
    if headers.get("selector"):
        raise not_simulated("selectors")
    if headers.get("no-local") == "true":
        raise not_simulated("no-local subscriptions")
    window = _window(headers.get("consumer-window-size"), ack_mode)
    name = headers.get("id") or f"subscription/{destination}"
    if name in connection.subscriptions:
        raise StompError(f"There already is a subscription for: {name}. Use unique subscription IDs")
    addresses = _addresses(connection)
    addresses.provide(destination, routing_type)
    durable_name = headers.get("durable-subscription-name", headers.get("durable-subscriber-name"))
    queue, temporary = addresses.subscribe(
        destination, client_id=connection.client_id, durable_name=durable_name, connection=connection.connection
    )
    subscription = Subscription(connection, name, ack_mode=ack_mode, queue=queue, temporary=temporary)
    connection.subscriptions[name] = subscription
    connection.receipt(frame)
    subscription.consumer = connection.server.broker.consume(
        subscription.session,
        queue,
        subscription.deliver,
        window=window,
        auto_ack=ack_mode == AUTO,
        cancelled=subscription.cancelled,
        weigh=subscription.weigh,
    )


def unsubscribe(connection: StompConnection, frame: Frame) -> None:
    headers = frame.headers
    name = headers.get("id")
    durable_name = headers.get("durable-subscription-name", headers.get("durable-subscriber-name"))
    if name is None:
        if connection.version == "1.2" or "destination" not in headers:
            raise StompError("AMQ339037 Must specify the subscription's id")
        name = f"subscription/{headers['destination']}"
    subscription = connection.subscriptions.get(name)
    if subscription is None and durable_name is None:
        raise StompError(f"Cannot unsubscribe as no subscription exists for id: {name}")
    if subscription is not None:
        connection.end_subscription(subscription)
    if durable_name is not None:
        queue = connection.server.broker.queues.get(f"{connection.client_id}.{durable_name}")
        if queue is not None:
            if queue.consumers:
                raise StompError(f"AMQ339017 Error unsubscribing {name}")
            connection.server.broker.delete_queue(queue.name)
    connection.receipt(frame)


def acknowledge(connection: StompConnection, frame: Frame) -> None:
    """ACK and NACK: Artemis makes no difference between them (ART-1), nor takes notice of a transaction (ART-7)."""
    headers = frame.headers
    if frame.command == "NACK" and connection.version == "1.0":
        raise unknown("NACK")
    if connection.version == "1.2":
        name = headers.get("id")
        if name is None:
            raise StompError("AMQ339039 No id header in ACK/NACK frame.")
    else:
        if connection.version == "1.1" and "subscription" not in headers:
            raise StompError("AMQ339037 Must specify the subscription's id", closes=False)
        name = headers.get("message-id", "")
    closes = connection.version == "1.2"
    known = connection.held.get(name)
    if known is None:
        consumer, comma, number = name.partition(",")
        if comma and consumer.isdecimal() and number.isdecimal():
            raise StompError(f"AMQ339025 failed to ack because no message with id {name}", closes=closes)
        raise StompError(f"AMQ339018 Error acknowledging message {name}", closes=closes)
    subscription, delivery = known
    if subscription.ack_mode == CLIENT:
        meant = [one for one in subscription.session.unacked.values() if one.tag <= delivery.tag]
    else:
        meant = [delivery]
    server = connection.server
    # All at once or not at all: the frame arrives, or it does not.
    if any(server.loses_ack(connection, one) for one in meant):
        return
    connection.forget_held(name, subscription, meant)
    connection.receipt(frame)
    for one in meant:
        server.broker.ack(one)


def begin(connection: StompConnection, frame: Frame) -> None:
    name = frame.headers.get("transaction")
    if not name:
        raise StompError("AMQ339032 Need a transaction id to begin")
    if name in connection.transactions:
        raise StompError(f"Transaction already started: {name}")
    connection.transactions[name] = []
    connection.receipt(frame)


def commit(connection: StompConnection, frame: Frame) -> None:
    name = frame.headers.get("transaction")
    if not name:
        raise StompError("AMQ339030 transaction header is mandatory to COMMIT a transaction")
    sendings = connection.transactions.pop(name, None)
    if sendings is None:
        raise StompError(f"AMQ339013 Error committing {name}")
    if sendings:
        connection.publish(sendings, _addresses(connection).label(sendings[0].message.payload.address), frame)
    else:
        connection.receipt(frame)


def abort(connection: StompConnection, frame: Frame) -> None:
    name = frame.headers.get("transaction")
    if not name:
        raise StompError("AMQ339030 transaction header is mandatory to ABORT a transaction")
    if connection.transactions.pop(name, None) is None:
        raise StompError(f"No transaction started: {name}")
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


def unknown(command: str) -> StompError:
    """The answer to a command that there is not."""
    return StompError(f"AMQ339029 Unsupported command {command}")


def stranger(command: str) -> StompError:
    """The answer to a command before CONNECT."""
    return StompError("a session begins with CONNECT", f"got {command}")


def error_headers(error: StompError, frame: Frame | None, length: int) -> list[tuple[str, str]]:
    """The headers of an ERROR beside its message."""
    headers = [("content-type", "text/plain")]
    if frame is not None and "receipt" in frame.headers:
        headers.append(("receipt-id", frame.headers["receipt"]))
    headers.append(("content-length", str(length)))
    if error.message.startswith("AMQ339002"):
        headers.append(("version", "1.0,1.1,1.2"))
    return headers


def _routing_type(headers: Mapping[str, str], name: str, error: str) -> str | None:
    routing_type = headers.get(name)
    if routing_type is not None and routing_type not in TYPES:
        raise StompError(error, f"{name} must be {' or '.join(TYPES)}, got {routing_type!r}")
    return routing_type


def _whole(text: str) -> int:
    return whole(text, _SEND_ERROR)


def _window(text: str | None, ack_mode: str) -> int:
    """The broker model's window: 0 is none, and one byte lets one message out at a time."""
    if text is None:
        return 0 if ack_mode == AUTO else DEFAULT_WINDOW
    window = whole(text, f'For input string "{text}"')
    if window >= 1 << 31:
        raise StompError(f'For input string "{text}"')
    if window < _UNLIMITED:
        raise not_simulated(f"windows that let nothing out (consumer-window-size:{text})")
    return 0 if window == _UNLIMITED else max(window, 1)
