"""CONNECT on ActiveMQ Classic. Facts AMQ-12, AMQ-16 and AMQ-17."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from factflow_infra_testing.wire.stomp.errors import StompError
from factflow_infra_testing.wire.stomp.login import VERSIONS, Login

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.wire.stomp.classic.destinations import Destinations
    from factflow_infra_testing.wire.stomp.connection import StompConnection

SERVER: Final = "ActiveMQ/5.17.2"
_PATIENCE: Final = 3
"""How many of its intervals a client may be silent."""
_MOST_DIGITS: Final = 9


def log_in(connection: StompConnection, headers: Mapping[str, str]) -> Login:
    """Take a CONNECT. Raises ``StompError``: version, credentials, heart-beats, or a client id that is in use."""
    asked = headers.get("accept-version", "1.0")
    version = next((one for one in VERSIONS if one in asked.split(",")), None)
    if version is None:
        raise StompError(f"Invalid Protocol version[{asked}], supported versions are: [{', '.join(VERSIONS)}]")
    beats = headers.get("heart-beat", "0,0")
    sends, expects = _numbers(beats)
    user = headers.get("login")
    users = connection.front_end.users
    if user is None or users.get(user) != headers.get("passcode"):
        text = f"User name [{'null' if user is None else user}] or password is invalid."
        raise StompError(text, text)
    client_id = headers.get("client-id")
    if client_id is not None:
        clients = cast("Destinations", connection.front_end.destinations).clients
        other = clients.get(client_id)
        if other is not None:
            raise StompError(f"Broker: localhost - Client: {client_id} already connected from {other.client}")
        clients[client_id] = connection
    return Login(
        version, "accept-version" in headers, client_id, expects / 1000, _PATIENCE * sends / 1000, f"{expects},{sends}"
    )


def welcome(login: Login, session: int, receipt: str | None) -> list[tuple[str, str]]:
    """The headers of CONNECTED."""
    return [
        *(("server", SERVER), ("heart-beat", login.heart_beat or "0,0")),
        *(("session", f"ID:simulated-{session}"), ("version", login.version)),
        *(() if receipt is None else (("response-id", receipt), ("receipt-id", receipt))),
    ]


def ended(connection: StompConnection) -> None:
    """``connection`` is gone, and its client id is free."""
    clients = cast("Destinations", connection.front_end.destinations).clients
    if connection.client_id is not None and clients.get(connection.client_id) is connection:
        del clients[connection.client_id]


def _numbers(beats: str) -> tuple[int, int]:
    parts = beats.split(",")
    if len(parts) != 2 or not all(one.isascii() and one.isdecimal() and len(one) <= _MOST_DIGITS for one in parts):
        raise StompError(f"Invalid heart-beat header:{beats}")
    return int(parts[0]), int(parts[1])
