"""What waits to be applied to the broker: messages that were sent, and numbers in their headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from factflow_infra_testing.broker.outcomes import Outcome
from factflow_infra_testing.wire.stomp.errors import StompError

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Message
    from factflow_infra_testing.wire.stomp.addresses import Target
    from factflow_infra_testing.wire.stomp.connection import StompConnection

_LONGEST_NUMBER: Final = 18


class Applied(Protocol):
    """A part of a transaction. ``key``: what plans call it."""

    @property
    def key(self) -> str: ...

    def apply(self, connection: StompConnection) -> Outcome: ...


class Sending:
    """A message that was sent, and where it goes: published at once, or when its transaction is committed."""

    __slots__ = ("due", "message", "targets")

    def __init__(self, message: Message, targets: list[Target], due: float | None) -> None:
        self.message = message
        self.targets = targets
        self.due = due

    @property
    def key(self) -> str:
        return self.message.key

    def apply(self, connection: StompConnection) -> Outcome:
        broker = connection.server.broker
        outcome = Outcome.ROUTED
        for target in self.targets:
            if self.due is not None and self.due > broker.now:
                broker.schedule(self.due, target.exchange, target.key, self.message)
            elif broker.publish(target.exchange, target.key, self.message) is Outcome.REFUSED:
                outcome = Outcome.REFUSED
        return outcome


def whole(text: str, error: str) -> int:
    """The whole number that ``text`` is. Raises ``StompError`` with the message ``error``."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _LONGEST_NUMBER):
        raise StompError(error, f"no whole number: {text!r}")
    return int(text)
