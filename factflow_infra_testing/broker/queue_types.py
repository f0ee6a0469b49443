"""What can differ between brokers, and between the types of queue that one of them has."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Place(StrEnum):
    """Where in its queue a message stands that came back."""

    ORIGINAL = "original"
    """Where it stood: in front of everything that was published after it."""
    RETURNED = "returned"
    """In front of all that was not delivered yet, behind what came back before it."""
    TAIL = "tail"
    """Behind everything."""
    HEAD = "head"
    """In front of everything, and for good: where it comes back to as well."""


class Back(StrEnum):
    """Why a message comes back."""

    NACKED = "nacked"
    """Its consumer gave it back."""
    ENDED = "ended"
    """Its session was closed in an orderly way, and the connection goes on."""
    LOST = "lost"
    """Its connection ended, with a goodbye or without, or the broker was stopped."""
    CRASHED = "crashed"
    """The broker crashed."""


class Flags(StrEnum):
    """Which of the messages that a session gives back are flagged as redelivered, and counted."""

    NONE = "none"
    OLDEST = "oldest"
    """That which it was given first."""
    ALL = "all"
    KEPT = "kept"
    """All, and of the queue even what was never delivered."""


class Turns(StrEnum):
    """How consumers of one queue take turns."""

    LEAVE = "leave"
    """Whoever has no room leaves the line, and joins its end when it has room again."""
    LINGER = "linger"
    """As ``LEAVE``, but a delivery that leaves no room still puts its consumer at the end; it leaves when its turn comes."""
    RING = "ring"
    """All stand in a ring for good; whoever has no room is passed over. Who comes or goes has it begin anew at the oldest."""
    STAND = "stand"
    """All stand in line for good; whoever has no room is passed over and keeps its place, a delivery puts it at the end."""


_BACK: Final = tuple(Back)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueType:
    """How one type of queue treats its messages. ``evidence`` maps each field to its fact in ``docs/facts.md``.

    ``nack``: place of a message that a consumer gave back; ``nack_limited``: the same where the queue has a delivery
    limit. ``lost``: place of the unacked messages of a session that ended. ``nack_flags``, ``end_flags``, ``lost_flags``,
    ``crash_flags``: which of them are flagged, for each ``Back``. ``counts``: deliveries report how often the
    message came back. ``limits``: a queue may have a delivery limit. ``keeps_transient``: transient messages survive a
    restart. ``turns``: whose turn it is. ``limit_widens``: a nack past the delivery limit gives its consumer room for two.
    ``forgets_counts``: the counts are gone with the
    last consumer. ``restart_forgets``: after a restart all is as if it had never been delivered, in the order in which it was sent. ``delay_slack``: messages with a due time wait in the queue, and may come so many seconds too early;
    ``None``: this broker delays nothing by itself. ``due``: place of such a message when its time has come.
    ``expires_anywhere``: a message expires wherever in the queue it stands, not only at the head.
    ``serves_first``: what may not wait, with a time to live of 0 or in a queue of length 0, goes to a consumer that has room all the same.
    ``by_consumer``: what a session gives back of several consumers comes back consumer by consumer, in the order of their names, and what
    it is given at once comes so as well.
    ``sheds_first``: a queue that has too many messages, since some came back, gives up its oldest before it delivers, not after.
    ``hands_on``: when a single active consumer is cancelled, what waits goes to the next one at once. ``limits_auto_ack``: a consumer
    that acks nothing has a limit too, and its room back as soon as it was given something.
    ``exclusive``, ``transient``, ``auto_delete``: queues of this type may be so.
    """

    name: str
    nack: Place
    nack_limited: Place
    lost: Place
    nack_flags: Flags
    end_flags: Flags
    lost_flags: Flags
    crash_flags: Flags
    counts: bool
    limits: bool
    keeps_transient: bool
    turns: Turns
    limit_widens: bool
    forgets_counts: bool
    restart_forgets: bool
    delay_slack: float | None
    due: Place
    expires_anywhere: bool
    serves_first: bool
    by_consumer: bool
    sheds_first: bool
    hands_on: bool
    limits_auto_ack: bool
    exclusive: bool
    transient: bool
    auto_delete: bool
    evidence: Mapping[str, str] = field(repr=False)

    def flags(self, back: Back) -> Flags:
        """Which messages are flagged that come back for the reason ``back``."""
        return (self.nack_flags, self.end_flags, self.lost_flags, self.crash_flags)[_BACK.index(back)]

    @property
    def honest(self) -> bool:
        """Whether no message comes again without its flag, or with a lower count than before."""
        return not (self.forgets_counts or self.restart_forgets) and not {
            self.nack_flags,
            self.end_flags,
            self.lost_flags,
            self.crash_flags,
        } & {
            Flags.NONE,
            Flags.OLDEST,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A broker: its queue types by name, and which a queue gets that does not say.

    ``heartbeat``: seconds after which a silent peer is given up. ``strands``: what a lost connection held may stay locked until
    the broker restarts.
    ``delivery_attempts``: how often a message is delivered before it goes to ``dead_letter_queue``, unless its queue
    says otherwise; ``expiry_queue``: where what expires goes. ``None``: no limit, no such queue. ``buries_transient``: transient
    messages go to those queues as well; else they are dropped.
    ``schedules_in_queues``: a delayed message waits in the queues that it was routed to when it was sent; else it is
    routed when it is due.
    """

    name: str
    queue_types: Mapping[str, QueueType]
    default_type: str
    exclusive_type: str
    heartbeat: float
    strands: bool
    delivery_attempts: int | None
    dead_letter_queue: str | None
    expiry_queue: str | None
    buries_transient: bool
    schedules_in_queues: bool
    evidence: Mapping[str, str] = field(repr=False)

    def queue_type(self, name: str | None = None, *, exclusive: bool = False) -> QueueType:
        """The row for a queue: of the type ``name``, or of this profile's own choice. Raises ``KeyError``."""
        if name is None:
            name = self.exclusive_type if exclusive else self.default_type
        return self.queue_types[name]
