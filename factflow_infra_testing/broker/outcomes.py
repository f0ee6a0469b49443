"""What becomes of a publish, and of a message that a queue gives up."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from factflow_infra_testing.broker.entries import Death

if TYPE_CHECKING:
    from factflow_infra_testing.broker.entries import Message
    from factflow_infra_testing.broker.queues import Queue


class Outcome(Enum):
    """Of a publish: in at least one queue; in none because none is bound; refused by a full queue (a negative confirm)."""

    ROUTED = "routed"
    UNROUTED = "unrouted"
    REFUSED = "refused"


def dead_letter_of(message: Message, queue: Queue, reason: str, now: float) -> Message:
    """The dead letter of ``message``: the same content with one more death. It does not expire, and starts unflagged."""
    death = Death(reason, queue.name, now, message.exchange, message.routing_key)
    letter = message.again(laboratory=False, deaths=(*message.deaths, death), ttl=None)
    if reason == "delivery_limit":
        letter.source = queue.label
    return letter


def goes_round(message: Message, queue: Queue) -> bool:
    """Whether a dead letter comes back to a queue that it died in, and no consumer's reject is on the way: it is dropped."""
    for death in reversed(message.deaths):
        if death.reason == "rejected":
            return False
        if death.queue == queue.name:
            return True
    return False
