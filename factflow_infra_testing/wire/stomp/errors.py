"""What goes wrong on a STOMP connection: all of it is told in an ERROR frame, and nearly all of it ends the connection."""

from __future__ import annotations


class StompError(Exception):
    """``message`` is the header of that name, ``details`` the body. ``closes``: the connection ends with it."""

    def __init__(self, message: str, details: str = "", *, closes: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.closes = closes


class MalformedError(StompError):
    """Bytes that are no frame."""


def not_simulated(what: str) -> StompError:
    """The real broker has it and the simulation has not: refused loudly, as passing it over would falsify the test."""
    return StompError(f"the simulated broker has no {what}")
