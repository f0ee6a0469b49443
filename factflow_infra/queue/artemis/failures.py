"""What the broker says in ERROR frames, and what the operating system raises, as our errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra.errors import PublishRefusedError, QueueAuthenticationError, QueueConnectionError, QueueError
from factflow_infra.queue.causes import cause_text

if TYPE_CHECKING:
    from stompman import ErrorFrame

_MOST_SHOWN: Final = 300
_SECURITY: Final = ("Security Error", "AMQ229031", "AMQ229032", "AMQ229213", "does not have permission")
"""How Artemis says that a login is wrong or a permission lacks."""
_CLOSED: Final = "AMQ339010"
"""How it answers what came behind a frame that it refused, when it had closed the connection for that (ART-37)."""


class LostError(Exception):
    """The connection ended before the answer came: whether the broker did what was asked is unknown."""


class RefusedError(Exception):
    """The broker answered with an ERROR frame, and did not do what was asked. ``answers``: it is known to what.

    ``is_follower``: what was asked is not what it refused, but came behind that on the same connection.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.is_security = any(sign in text for sign in _SECURITY)
        self.is_follower = text.startswith(_CLOSED)
        self.answers = False


def refusal_of(frame: ErrorFrame) -> RefusedError:
    """What an ERROR frame says, in one bounded line."""
    body = frame.body.decode(errors="replace")
    parts = [text for text in (frame.headers.get("message", ""), body) if text]
    text = " ".join("; ".join(parts).split()) or "an ERROR frame without a text"
    return RefusedError(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…")


def connect_error(error: BaseException, *, endpoint: str, user: str | None) -> QueueError:
    """For a failed attempt to connect to ``endpoint`` (``host:port``)."""
    if isinstance(error, RefusedError):
        if error.is_security:
            return QueueAuthenticationError(
                f"Artemis at {endpoint} refused the login of user {user!r}; check user and password: {error}"
            )
        return QueueConnectionError(f"Artemis at {endpoint} refused the connection: {error}")
    if isinstance(error, TimeoutError):
        return QueueConnectionError(f"Artemis at {endpoint} did not answer in time")
    return QueueConnectionError(f"no connection to Artemis at {endpoint}: {cause_text(error)}")


def request_error(error: BaseException, what: str) -> QueueError:
    """For a failed request about ``what``: a subscription, say."""
    if isinstance(error, RefusedError) and error.is_security:
        return QueueAuthenticationError(f"no permission for {what}: {error}")
    return QueueConnectionError(f"{what}: {cause_text(error)}")


def refused_publish(error: RefusedError, what: str) -> QueueError:
    """For a message that the broker answered with ERROR: it does not hold it."""
    if error.is_security:
        return QueueAuthenticationError(f"{what}: no permission: {error}")
    if error.is_follower:
        return QueueConnectionError(
            f"{what}: not taken, as the broker closed the connection for another message: {error}"
        )
    # Mostly a full address or disk; STOMP has no codes to tell by.
    return PublishRefusedError(f"{what}: the broker refused it: {error}", retryable=True)
