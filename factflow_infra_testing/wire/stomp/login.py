"""CONNECT on Artemis: versions, credentials and heart-beats. What was agreed on has the same form on every broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.wire.stomp.errors import StompError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS: Final = ("1.2", "1.1", "1.0")
SERVER: Final = "ActiveMQ-Artemis/2.44.0 ActiveMQ Artemis Messaging Engine"
SHORTEST: Final = 500
"""Milliseconds: Artemis sends no heart-beats more often, and expects none (ART-22)."""
UNPROMISED: Final = 30_000
PATIENCE: Final = 60.0
"""Seconds of silence that a client without heart-beats may keep (ART-31)."""
_MOST_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Login:
    """What was agreed on. ``asked``: the client named versions. ``sends_every``: seconds between the broker's heart-beats, 0
    for none. ``patience``: seconds of silence after which it gives the client up, 0 for never. ``heart_beat``: the broker's header, ``None``
    where the client sent none.
    """

    version: str
    asked: bool
    client_id: str | None
    sends_every: float
    patience: float
    heart_beat: str | None


def welcome(login: Login, session: int, receipt: str | None) -> list[tuple[str, str]]:
    """The headers of CONNECTED."""
    headers = [("version", login.version)] if login.asked else []
    headers.append(("session", f"{session:08x}"))
    if login.version != "1.0":
        headers.append(("server", SERVER))
    if login.heart_beat is not None:
        headers.append(("heart-beat", login.heart_beat))
    if receipt is not None:
        headers.append(("receipt-id", receipt))
    return headers


def log_in(headers: Mapping[str, str], users: Mapping[str, str]) -> Login:
    """Take a CONNECT. Raises ``StompError``: no common version, a wrong password, unreadable heart-beats."""
    asked = headers.get("accept-version", "1.0")
    version = next((one for one in VERSIONS if one in asked.split(",")), None)
    if version is None:
        raise StompError(
            f"AMQ339002 Stomp versions not supported {asked}", "Supported protocol versions are v1.0 v1.1 v1.2"
        )
    user = headers.get("login")
    if user is None or users.get(user) != headers.get("passcode"):
        text = f"Security Error occurred: User name [{'null' if user is None else user}] or password is invalid"
        raise StompError(text, text)
    beats = headers.get("heart-beat")
    if beats is None:
        return Login(version, "accept-version" in headers, headers.get("client-id"), 0.0, PATIENCE, None)
    sends, expects = _numbers(beats)
    interval = max(expects, SHORTEST) if expects else 0
    promised = max(sends, SHORTEST) if sends else UNPROMISED
    patience = 2 * promised / 1000 if sends else PATIENCE
    return Login(
        version,
        "accept-version" in headers,
        headers.get("client-id"),
        interval / 1000,
        patience,
        f"{interval},{promised}",
    )


def _numbers(beats: str) -> tuple[int, int]:
    parts = beats.split(",")
    if len(parts) != 2:
        raise StompError(f"Incorrect heartbeat header {beats}")
    for part in parts:
        if not (part.isascii() and part.isdecimal() and len(part) <= _MOST_DIGITS):
            raise StompError(f'For input string: "{part}"')
    return int(parts[0]), int(parts[1])
