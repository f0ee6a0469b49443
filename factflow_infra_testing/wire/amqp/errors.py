"""What goes wrong on an AMQP connection, with RabbitMQ's reply codes: a soft error ends the channel, a hard one all."""

from __future__ import annotations

from typing import Final

NO_ROUTE: Final = 312
ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406
FRAME_ERROR: Final = 501
SYNTAX_ERROR: Final = 502
COMMAND_INVALID: Final = 503
CHANNEL_ERROR: Final = 504
UNEXPECTED_FRAME: Final = 505
NOT_ALLOWED: Final = 530
NOT_IMPLEMENTED: Final = 540

NAMES: Final = {
    NO_ROUTE: "NO_ROUTE",
    ACCESS_REFUSED: "ACCESS_REFUSED",
    NOT_FOUND: "NOT_FOUND",
    RESOURCE_LOCKED: "RESOURCE_LOCKED",
    PRECONDITION_FAILED: "PRECONDITION_FAILED",
    FRAME_ERROR: "FRAME_ERROR",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    COMMAND_INVALID: "COMMAND_INVALID",
    CHANNEL_ERROR: "CHANNEL_ERROR",
    UNEXPECTED_FRAME: "UNEXPECTED_FRAME",
    NOT_ALLOWED: "NOT_ALLOWED",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
}
CODES: Final = {name: code for code, name in NAMES.items()}
_LONGEST_TEXT: Final = 255
_LEFT_OUT: Final = "..."


class AmqpError(Exception):
    """An error that the client is told of. ``code`` is the reply code; ``text`` follows its name on the wire."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{NAMES[code]} - {text}")
        self.code = code

    @property
    def reply_text(self) -> str:
        """What stands in the frame: at most 255 bytes, the last three of them dots where something is left out (RMQ-55)."""
        text = str(self).encode()
        if len(text) <= _LONGEST_TEXT:
            return str(self)
        return text[: _LONGEST_TEXT - len(_LEFT_OUT)].decode(errors="ignore") + _LEFT_OUT


class ChannelError(AmqpError):
    """Ends the channel."""


class ConnectionFailedError(AmqpError):
    """Ends the connection."""


def not_simulated(what: str) -> ConnectionFailedError:
    """RabbitMQ has it and the simulation has not: refused loudly, as passing it over would falsify the test."""
    return ConnectionFailedError(NOT_IMPLEMENTED, f"the simulated broker has no {what}")
