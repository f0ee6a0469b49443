"""CONNECT on RabbitMQ's plugin. Facts RST-15 and RST-16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra_testing.wire.stomp.login import VERSIONS, Login
from factflow_infra_testing.wire.stomp.rabbitmq.errors import mistake, processing_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.wire.stomp.connection import StompConnection

SERVER: Final = "RabbitMQ/3.10.8"
SHORTEST: Final = 1000
"""Milliseconds between heart-beats, in either direction."""
_PATIENCE: Final = 3
"""How many of its intervals a client may be silent."""
_MOST_DIGITS: Final = 9


def log_in(connection: StompConnection, headers: Mapping[str, str]) -> Login:
    """Take a CONNECT. Raises ``StompError``: version, credentials, virtual host, or heart-beats."""
    asked = headers.get("accept-version", "1.0")
    version = next((one for one in VERSIONS if one in asked.split(",")), None)
    if version is None:
        raise mistake("Version mismatch", "Supported versions are 1.0,1.1,1.2\n")
    users = connection.front_end.users
    user = headers.get("login", next(iter(users)))
    password = headers.get("passcode", users.get(user) if "login" not in headers else None)
    host = headers.get("host", "/")
    # The one virtual host there is has the names of the simulated machines too: stompman always sends that.
    if host not in ("/", *connection.server.hosts):
        raise mistake("Bad CONNECT", f"Virtual host '{host}' access denied")
    if users.get(user) != password:
        raise mistake("Bad CONNECT", f"Access refused for user '{user}'\n")
    sends, expects = (max(number, SHORTEST) if number else 0 for number in _numbers(headers.get("heart-beat", "0,0")))
    return Login(
        version, "accept-version" in headers, None, expects / 1000, _PATIENCE * sends / 1000, f"{expects},{sends}"
    )


def welcome(login: Login, session: int, receipt: str | None) -> list[tuple[str, str]]:
    """The headers of CONNECTED."""
    del receipt  # a CONNECT gets none
    return [
        *(("server", SERVER), ("session", f"session-{session}")),
        *(("heart-beat", login.heart_beat or "0,0"), ("version", login.version)),
    ]


def _numbers(beats: str) -> tuple[int, int]:
    parts = beats.split(",")
    if len(parts) != 2 or not all(one.isascii() and one.isdecimal() and len(one) <= _MOST_DIGITS for one in parts):
        raise processing_error()
    return int(parts[0]), int(parts[1])
