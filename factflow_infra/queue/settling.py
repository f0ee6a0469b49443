"""What becomes of a message once it is handled, or before it is: decisions only, no I/O.

The counts travel with the message. ``attempts`` are failed handlings, which ``max_retries`` bounds. ``deliveries`` are all of
them, those after a lost connection or a killed consumer included, which ``max_deliveries`` bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra.queue.causes import quoted
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, DeadLetterReason, MessageStatus
from factflow_infra.queue.timestamps import format_timestamp
from factflow_infra.queue.transport import Envelope

if TYPE_CHECKING:
    from datetime import datetime

    from factflow_infra.queue.messages import ErrorHandling
    from factflow_infra.queue.transport import Address

MAX_ERROR_LENGTH: Final = 500
"""Characters of ``factflow-dead-letter-error``."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Handled: tell the broker so."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Publish ``envelope`` to ``address`` after ``delay`` seconds; ack the original only when that is confirmed."""

    address: Address
    envelope: Envelope
    delay: float = 0.0


Decision = Ack | Copy

ACK: Final = Ack()


def deliveries(envelope: Envelope, *, redelivered: bool, counted: int | None) -> int:
    """How often the message has been delivered, this time included, as far as that can be known.

    ``counted``: the broker's count for this copy. One that does not count can still say that it was not the first.
    """
    this_copy = (2 if redelivered else 1) if counted is None else max(counted, 2 if redelivered else 1)
    return max(envelope.deliveries, envelope.attempts) + this_copy


@dataclass(frozen=True, slots=True)
class Rules:
    """One subscription's rules. ``source`` is its own address, ``name`` what it is called."""

    source: Address
    name: str
    errors: ErrorHandling
    dead_letters: Address

    def before(
        self, envelope: Envelope, *, redelivered: bool, counted: int | None, undecodable: str | None, now: datetime
    ) -> Decision | None:
        """What to do instead of handling; ``None``: handle it."""
        if undecodable is not None:
            return self._dead_letter(DeadLetterReason.UNDECODABLE, envelope, envelope.attempts, undecodable, now)
        most = self.errors.max_deliveries
        if most is None:
            return None
        count = deliveries(envelope, redelivered=redelivered, counted=counted)
        if count > most:
            return self._dead_letter(
                DeadLetterReason.DELIVERIES_EXHAUSTED,
                envelope,
                envelope.attempts,
                f"delivered {count - 1} times without being settled; max_deliveries is {most}",
                now,
            )
        if counted is None and redelivered:
            # Only a count that travels with the message survives the next crash.
            return Copy(self.source, Envelope(envelope.message, envelope.attempts, count - 1))
        return None

    def after(self, envelope: Envelope, count: int, outcome: object, now: datetime) -> Decision:
        """What to do after handling. ``outcome``: what the handler returned, or the exception that it raised."""
        if outcome is None or outcome is MessageStatus.ACK:
            return ACK
        if outcome is MessageStatus.REJECT:
            return self._dead_letter(
                DeadLetterReason.REJECTED, envelope, envelope.attempts, "the handler returned REJECT", now
            )
        attempts = envelope.attempts + 1
        if self.errors.max_retries is None or attempts <= self.errors.max_retries:
            return Copy(self.source, Envelope(envelope.message, attempts, count), self.errors.retry_delay_seconds)
        return self._dead_letter(DeadLetterReason.RETRIES_EXHAUSTED, envelope, attempts, describe(outcome), now)

    def _dead_letter(
        self, reason: DeadLetterReason, envelope: Envelope, attempts: int, error: str, now: datetime
    ) -> Copy:
        message = envelope.message
        source, target = self.source.destination, self.dead_letters.destination
        if source.kind is target.kind and source.name == target.name:
            # Who consumes the dead-letter queue and fails: there is nowhere else to go, and the first death is the one
            # worth knowing. The pause keeps it from going round in circles.
            return Copy(self.source, Envelope(message), self.errors.retry_delay_seconds)
        facts = {
            "reason": reason.value,
            "source": source.text,
            "subscription": self.name,
            "attempts": str(attempts),
            "error": quoted(error, MAX_ERROR_LENGTH),
            "time": format_timestamp(now),
        }
        headers = dict(message.headers)
        headers.update((DEAD_LETTER_HEADER_PREFIX + name, value) for name, value in facts.items())
        return Copy(self.dead_letters, Envelope(message.changed(headers=MappingProxyType(headers))))


def describe(outcome: object) -> str:
    """Why a handling failed, in one line."""
    if outcome is MessageStatus.RETRY:
        return "the handler returned RETRY"
    if isinstance(outcome, BaseException):
        try:
            text = str(outcome)
        except Exception as error:  # noqa: BLE001  # a __str__ of the service's own, which may fail in any way
            text = f"(its message cannot be shown: {type(error).__name__})"
        return f"{type(outcome).__qualname__}: {text}" if text else type(outcome).__qualname__
    if outcome is MessageStatus.ACCEPTED:
        return "the handler returned ACCEPTED, which is no verdict; return ACK, RETRY, REJECT or None"
    return (
        f"the handler returned a {type(outcome).__qualname__}, which is no verdict; return ACK, RETRY, REJECT or None"
    )
