"""The faults of the broker and of the connections to it: a closed list, and where each is asked for.

Every one is legal behaviour of the real broker or of its network: a correct service survives them all. They meet
*exposed* clients only, those of the processes under test; the test's own (laboratory) connections meet none. The target
is the label of the queue or topic, the way the user wrote it. What is deliberately absent, because the real broker does
not do it: two copies of a message that was published once and confirmed, another order than first in, first out towards
one consumer, and (on RabbitMQ) a redelivery without its flag.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra_testing.search.kinds import FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra_testing.broker.queue_types import Profile
    from factflow_infra_testing.search.decisions import Decisions

DELIVERY_DELAYED: Final = "delivery-delayed"
CONFIRM_DELAYED: Final = "confirm-delayed"
REORDER: Final = "reorder"
DUPLICATE: Final = "duplicate"
PUBLISH_REFUSED: Final = "publish-refused"
PUBLISH_LOST: Final = "publish-lost"
CONFIRM_LOST: Final = "confirm-lost"
ACK_LOST: Final = "ack-lost"
RESET: Final = "reset"
MESSAGES_STRANDED: Final = "messages-stranded"
CONSUMER_PAUSED: Final = "consumer-paused"
HALF_OPEN: Final = "half-open"
FAILOVER: Final = "failover"
BROKER_RESTART: Final = "broker-restart"

DELAYS: Final = (0.0, 0.05, 1.0, 45.0)
"""Seconds by choice of ``delivery-delayed`` and ``confirm-delayed``. The longest is past the 30 s that a provider waits for an
answer unless told otherwise (at 30 s itself it would hang on a tie of timers which comes first), and before two missed heartbeats."""

FAILOVER_SECONDS: Final = 60.0
"""How long a host stays down."""

_DELAY_NAMES: Final = ("50 ms", "1 s", "45 s")

BROKER_FAULTS: Final[Mapping[str, FaultKind]] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            FaultKind(
                DELIVERY_DELAYED, _DELAY_NAMES, "a delivery, and all that follow it on the connection, come late", 0.1
            ),
            FaultKind(CONFIRM_DELAYED, _DELAY_NAMES, "the broker takes a message, but confirms it late", 0.1),
            FaultKind(
                REORDER,
                ("the next but one", "the third in turn", "the fourth in turn"),
                "of several consumers of a queue, another than the next in turn gets the message",
                0.1,
            ),
            FaultKind(
                DUPLICATE, (), "the test's message is there twice, as when its producer had to send it again", 0.1
            ),
            FaultKind(PUBLISH_REFUSED, (), "the broker refuses a message, and says so", 0.05),
            FaultKind(PUBLISH_LOST, (), "the connection is lost before the broker takes a message", 0.05),
            FaultKind(
                CONFIRM_LOST, (), "the broker takes a message, and the connection is lost before its confirm", 0.05
            ),
            FaultKind(
                ACK_LOST, (), "the connection is lost before an ack reaches the broker: the message comes again", 0.05
            ),
            FaultKind(
                RESET,
                ("before", "after"),
                "the connection is reset before a delivery reaches its consumer, or just after it",
                0.05,
            ),
            FaultKind(
                MESSAGES_STRANDED,
                (),
                "what a lost connection held of a queue stays locked until the broker restarts, where the broker does so",
                0.05,
            ),
            FaultKind(
                CONSUMER_PAUSED,
                (),
                "a consumer gets a delivery and then no news past its heartbeat: the broker gives the message to another",
                0.03,
            ),
            FaultKind(
                HALF_OPEN,
                ("the broker notices first", "the client notices first"),
                "the connection goes silent both ways at a delivery, until the heartbeats are missed",
                0.03,
            ),
            FaultKind(
                FAILOVER,
                (),
                "the broker's host that a connection is on goes down for a minute; its other host takes over",
                0.02,
            ),
            FaultKind(
                BROKER_RESTART,
                ("stopped", "crashed"),
                "the broker restarts: connections are lost, durable queues keep their persistent messages",
                0.02,
            ),
        )
    }
)
"""Every kind by name, mildest first."""


def faults_of(profile: Profile) -> tuple[str, ...]:
    """The kinds that can happen at all on this broker, mildest first."""
    return tuple(kind for kind in BROKER_FAULTS if profile.strands or kind != MESSAGES_STRANDED)


class FaultPoints:
    """Asks for the faults of one stage at a time, skipping what cannot happen in this run.

    All kinds of a stage are always asked for, so that the ordinals of one do not depend on the answer of another; the
    first that deviates happens.
    """

    __slots__ = ("_decisions", "at_ack", "at_delivery", "at_publish")

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self.at_publish = self._live(
            PUBLISH_REFUSED, PUBLISH_LOST, CONFIRM_LOST, CONFIRM_DELAYED, FAILOVER, BROKER_RESTART
        )
        self.at_delivery = self._live(DELIVERY_DELAYED, RESET, CONSUMER_PAUSED, HALF_OPEN, FAILOVER, BROKER_RESTART)
        self.at_ack = self._live(ACK_LOST)

    def _live(self, *kinds: str) -> tuple[tuple[str, int], ...]:
        return tuple(
            (kind, 1 + max(1, len(BROKER_FAULTS[kind].choices))) for kind in kinds if self._decisions.enabled(kind)
        )

    def ask(self, stage: tuple[tuple[str, int], ...], target: str) -> tuple[str, int]:
        """What happens at this point: a kind and its choice, or ``("", 0)``."""
        happens = ("", 0)
        for kind, choices in stage:
            choice = self._decisions.pick(choices, kind, target)
            if choice and not happens[1]:
                happens = (kind, choice)
        return happens
