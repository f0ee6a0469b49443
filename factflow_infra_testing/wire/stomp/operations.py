"""What a client's frames are called in plans, and whom they are about: ``publish orders``, ``ack orders``, ``begin worker``.

What is about no queue is about the process that sent it. The login meets no fault of its own: a connection that ends while
it is made is the fault ``connect-cut``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.wire.stomp.connection import StompConnection
    from factflow_infra_testing.wire.stomp.frames import Frame


def _destination(connection: StompConnection, frame: Frame) -> str:
    return connection.front_end.destinations.label(frame.headers.get("destination", ""))


def _settled(connection: StompConnection, frame: Frame) -> str:
    headers = frame.headers
    known = connection.held.get(headers.get("id", headers.get("message-id", "")))
    return "" if known is None else known[1].queue.label


def _subscribed(connection: StompConnection, frame: Frame) -> str:
    durable = frame.headers.get("durable-subscription-name")
    if durable is not None:
        return connection.front_end.destinations.label(f"::{connection.client_id}.{durable}")
    return _destination(connection, frame)


def _unsubscribed(connection: StompConnection, frame: Frame) -> str:
    subscription = connection.subscriptions.get(frame.headers.get("id", ""))
    return "" if subscription is None or subscription.consumer is None else subscription.consumer.queue.label


def _client(connection: StompConnection, _: Frame) -> str:
    return connection.client.partition("/")[0]


_Row = tuple[str, "Callable[[StompConnection, Frame], str]"]

_OPERATIONS: Final[Mapping[str, _Row]] = MappingProxyType(
    {
        "SEND": ("publish", _destination),
        "ACK": ("ack", _settled),
        "NACK": ("nack", _settled),
        "SUBSCRIBE": ("subscribe", _subscribed),
        "UNSUBSCRIBE": ("unsubscribe", _unsubscribed),
        "BEGIN": ("begin", _client),
        "COMMIT": ("commit", _client),
        "ABORT": ("abort", _client),
        "DISCONNECT": ("close", _client),
    }
)


def named(connection: StompConnection, frame: Frame) -> tuple[str, str]:
    """Operation and label of a frame; two empty texts where it meets no fault."""
    row = _OPERATIONS.get(frame.command)
    if row is None:
        return "", ""
    label = row[1](connection, frame)
    return (row[0], label) if label else ("", "")
