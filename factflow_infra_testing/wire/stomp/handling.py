"""The commands of an open session, by name: what all brokers do alike, around what each does in its own way."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from factflow_infra_testing.wire.stomp.connection import StompConnection
    from factflow_infra_testing.wire.stomp.frames import Frame

Handler: TypeAlias = "Callable[[StompConnection, Frame], None]"


def handlers(
    *,
    send: Handler,
    subscribe: Handler,
    unsubscribe: Handler,
    acknowledge: Handler,
    begin: Handler,
    commit: Handler,
    abort: Handler,
) -> Mapping[str, Handler]:
    """What to call for each command of a client. ``acknowledge`` is for ACK and NACK."""
    return MappingProxyType(
        {
            "SEND": send,
            "SUBSCRIBE": subscribe,
            "UNSUBSCRIBE": unsubscribe,
            "ACK": acknowledge,
            "NACK": acknowledge,
            "BEGIN": begin,
            "COMMIT": commit,
            "ABORT": abort,
            "DISCONNECT": _disconnect,
        }
    )


def _disconnect(connection: StompConnection, frame: Frame) -> None:
    connection.receipt(frame)
    connection.say_goodbye()
