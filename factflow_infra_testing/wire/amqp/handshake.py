"""Login: ``connection.start`` to ``connection.open-ok``, and what the two sides agree on."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from pamqp.commands import Connection as ConnectionMethods

from factflow_infra_testing.wire.amqp.errors import (
    ACCESS_REFUSED,
    COMMAND_INVALID,
    NOT_ALLOWED,
    SYNTAX_ERROR,
    ConnectionFailedError,
    not_simulated,
)
from factflow_infra_testing.wire.amqp.frames import write_method

if TYPE_CHECKING:
    from factflow_infra_testing.wire.amqp.connection import AmqpConnection

FRAME_MAX: Final = 131_072
FRAME_MIN: Final = 4_096
CHANNEL_MAX: Final = 2_047
HEARTBEAT_SECONDS: Final = 60
VERSION: Final = "3.10.8"
"""The RabbitMQ that the profiles were checked against: clients choose their topology by it."""
SERVER_PROPERTIES: Final[dict[str, Any]] = {
    "capabilities": {
        "publisher_confirms": True,
        "exchange_exchange_bindings": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "connection.blocked": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
        "direct_reply_to": True,
    },
    "cluster_name": "factflow-simulation",
    "information": "A simulated broker: factflow-infra-testing",
    "platform": "Python",
    "product": "RabbitMQ",
    "version": VERSION,
}
"""Without ``consumer_priorities``, which are not simulated."""


class Handshake:
    """The login of one connection: takes the client's methods in their order."""

    def __init__(self, connection: AmqpConnection) -> None:
        self._connection = connection
        self._frame_max = FRAME_MAX
        self._heartbeat = 0
        self._expected = ConnectionMethods.StartOk.index
        self.channel_max = CHANNEL_MAX

    def start(self) -> None:
        """Greet."""
        self._connection.send(_greeting())

    def take(self, index: int, method: Any) -> None:
        """Raises ``ConnectionFailedError``: refused, or out of order."""
        if index != self._expected:
            raise ConnectionFailedError(COMMAND_INVALID, f"{method.name} is not expected now")
        if index == ConnectionMethods.StartOk.index:
            self._log_in(method)
        elif index == ConnectionMethods.TuneOk.index:
            self._tune(method)
        else:
            self._open(method)

    def _log_in(self, method: Any) -> None:
        if method.mechanism != "PLAIN":
            raise not_simulated(f"authentication mechanism {method.mechanism[:40]!r}, it has PLAIN")
        response: Any = method.response
        if isinstance(response, str):
            response = response.encode()
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise ConnectionFailedError(SYNTAX_ERROR, "the PLAIN response is not of three parts")
        user = parts[1].decode(errors="replace")
        if self._connection.front_end.users.get(user) != parts[2].decode(errors="replace"):
            raise ConnectionFailedError(
                ACCESS_REFUSED,
                "Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
            )
        self._connection.user = user
        properties = cast("dict[str, Any]", method.client_properties or {})
        capabilities = properties.get("capabilities")
        if isinstance(capabilities, dict):
            known = cast("dict[str, Any]", capabilities)
            self._connection.wants_cancel = bool(known.get("consumer_cancel_notify"))
        self._expected = ConnectionMethods.TuneOk.index
        self._send(ConnectionMethods.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT_SECONDS))

    def _tune(self, method: Any) -> None:
        for name, value, most in (
            ("channel_max", method.channel_max, CHANNEL_MAX),
            ("frame_max", method.frame_max, FRAME_MAX),
        ):
            if value > most or value == 0:
                shown = f"{value} is higher than the maximum allowed value ({most})" if value else "0 (no limit)"
                what = f"negotiated {name} = {shown}"
                raise ConnectionFailedError(NOT_ALLOWED, what)
        if method.frame_max < FRAME_MIN:
            raise ConnectionFailedError(
                NOT_ALLOWED,
                f"negotiated frame_max = {method.frame_max} is lower than the minimum allowed value ({FRAME_MIN})",
            )
        self.channel_max = method.channel_max
        self._frame_max = method.frame_max
        self._heartbeat = method.heartbeat
        self._expected = ConnectionMethods.Open.index

    def _open(self, method: Any) -> None:
        if method.virtual_host != "/":
            raise ConnectionFailedError(NOT_ALLOWED, f"vhost {method.virtual_host[:200]} not found")
        self._send(ConnectionMethods.OpenOk())
        self._connection.opened(
            frame_max=self._frame_max, heartbeat=float(self._heartbeat), channel_max=self.channel_max
        )

    def _send(self, method: Any) -> None:
        self._connection.send(write_method(0, method))


@cache
def _greeting() -> bytes:
    start = ConnectionMethods.Start(server_properties=SERVER_PROPERTIES, mechanisms="PLAIN", locales="en_US")
    return write_method(0, start)
