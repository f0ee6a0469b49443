"""What differs between brokers, as data: one row a profile, each value with the fact behind it (``docs/facts.md``).

A broker has *queue types*, each with its own way of taking messages back; a profile says which types there are and
which one a plain and an exclusive queue get. A new broker is a new row: the state machine has no subclasses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra.errors import SettingsError

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


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueType:
    """How one type of queue treats its messages. ``evidence`` maps each field to its fact in ``docs/facts.md``.

    ``nack``: place of a message that a consumer gave back; ``nack_limited``: the same where the queue has a delivery
    limit. ``lost``: place of the unacked messages of a session that ended. ``counts``: deliveries report how often the
    message came back. ``limits``: a queue may have a delivery limit. ``keeps_transient``: transient messages survive a
    restart. ``crash_flags``: after a crash every message that was kept is flagged as redelivered. ``keeps_turn``: a
    consumer that a delivery leaves without room joins the end of the line all the same, and leaves it only when its turn
    comes and it still has none. ``limit_widens``: a nack past the delivery limit gives its consumer room for two.
    ``counts_lost``: what came back because its session ended counts as well. ``forgets_counts``: the counts are gone with the
    last consumer. ``delay_slack``: messages with a due time wait in the queue, and may come so many seconds too early;
    ``None``: this broker delays nothing by itself.
    ``exclusive``, ``transient``, ``auto_delete``: queues of this type may be so.
    """

    name: str
    nack: Place
    nack_limited: Place
    lost: Place
    counts: bool
    limits: bool
    keeps_transient: bool
    crash_flags: bool
    keeps_turn: bool
    limit_widens: bool
    counts_lost: bool
    forgets_counts: bool
    delay_slack: float | None
    exclusive: bool
    transient: bool
    auto_delete: bool
    evidence: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A broker: its queue types by name, and which a queue gets that does not say.

    ``heartbeat``: seconds after which a silent peer is given up. ``unflagged_redelivery``: a message may legally come
    again without the flag.
    """

    name: str
    queue_types: Mapping[str, QueueType]
    default_type: str
    exclusive_type: str
    heartbeat: float
    unflagged_redelivery: bool
    evidence: Mapping[str, str] = field(repr=False)

    def queue_type(self, name: str | None = None, *, exclusive: bool = False) -> QueueType:
        """The row for a queue: of the type ``name``, or of this profile's own choice. Raises ``KeyError``."""
        if name is None:
            name = self.exclusive_type if exclusive else self.default_type
        return self.queue_types[name]


_CLASSIC: Final = QueueType(
    name="classic",
    nack=Place.ORIGINAL,
    nack_limited=Place.ORIGINAL,
    lost=Place.ORIGINAL,
    counts=False,
    limits=False,
    keeps_transient=False,
    crash_flags=True,
    keeps_turn=True,
    limit_widens=False,
    counts_lost=True,
    forgets_counts=False,
    delay_slack=None,
    exclusive=True,
    transient=True,
    auto_delete=True,
    evidence=MappingProxyType(
        {
            "nack": "RMQ-1",
            "nack_limited": "RMQ-1",
            "lost": "RMQ-2",
            "counts": "RMQ-3",
            "limits": "RMQ-3",
            "keeps_transient": "RMQ-9",
            "crash_flags": "RMQ-11",
            "keeps_turn": "RMQ-19",
            "limit_widens": "RMQ-3",
            "counts_lost": "RMQ-2",
            "forgets_counts": "RMQ-3",
            "delay_slack": "RMQ-17",
            "exclusive": "RMQ-13",
            "transient": "RMQ-13",
            "auto_delete": "RMQ-14",
        }
    ),
)

_QUORUM: Final = QueueType(
    name="quorum",
    nack=Place.TAIL,
    nack_limited=Place.RETURNED,
    lost=Place.RETURNED,
    counts=True,
    limits=True,
    keeps_transient=True,
    crash_flags=False,
    keeps_turn=False,
    limit_widens=True,
    counts_lost=True,
    forgets_counts=False,
    delay_slack=None,
    exclusive=False,
    transient=False,
    auto_delete=False,
    evidence=MappingProxyType(
        {
            "nack": "RMQ-4",
            "nack_limited": "RMQ-5",
            "lost": "RMQ-6",
            "counts": "RMQ-7",
            "limits": "RMQ-8",
            "keeps_transient": "RMQ-10",
            "crash_flags": "RMQ-10",
            "keeps_turn": "RMQ-19",
            "limit_widens": "RMQ-22",
            "counts_lost": "RMQ-7",
            "forgets_counts": "RMQ-7",
            "delay_slack": "RMQ-17",
            "exclusive": "RMQ-13",
            "transient": "RMQ-13",
            "auto_delete": "RMQ-13",
        }
    ),
)

_RABBITMQ_TYPES: Final = MappingProxyType({"classic": _CLASSIC, "quorum": _QUORUM})


def _rabbitmq(name: str, default_type: str) -> Profile:
    return Profile(
        name=name,
        queue_types=_RABBITMQ_TYPES,
        default_type=default_type,
        exclusive_type="classic",
        heartbeat=60.0,
        unflagged_redelivery=False,
        evidence=MappingProxyType(
            {
                "queue_types": "RMQ-13",
                "default_type": "RMQ-13",
                "exclusive_type": "RMQ-13",
                "heartbeat": "RMQ-21",
                "unflagged_redelivery": "RMQ-2",
            }
        ),
    )


_SUBSCRIPTION: Final = QueueType(
    name="subscription",
    nack=Place.ORIGINAL,
    nack_limited=Place.ORIGINAL,
    lost=Place.ORIGINAL,
    counts=True,
    limits=False,
    keeps_transient=True,
    crash_flags=False,
    keeps_turn=True,
    limit_widens=False,
    counts_lost=True,
    forgets_counts=True,
    delay_slack=1.0,
    exclusive=True,
    transient=True,
    auto_delete=True,
    evidence=MappingProxyType(
        {
            "nack": "PUL-40",
            "nack_limited": "PUL-40",
            "lost": "PUL-41",
            "counts": "PUL-42",
            "limits": "PUL-42",
            "keeps_transient": "PUL-43",
            "crash_flags": "PUL-42",
            "keeps_turn": "PUL-44",
            "limit_widens": "PUL-42",
            "counts_lost": "PUL-42",
            "forgets_counts": "PUL-42",
            "delay_slack": "PUL-45",
            "exclusive": "PUL-46",
            "transient": "PUL-46",
            "auto_delete": "PUL-46",
        }
    ),
)

_PULSAR: Final = Profile(
    name="pulsar",
    queue_types=MappingProxyType({"subscription": _SUBSCRIPTION}),
    default_type="subscription",
    exclusive_type="subscription",
    heartbeat=60.0,
    unflagged_redelivery=False,
    evidence=MappingProxyType(
        {
            "queue_types": "PUL-46",
            "default_type": "PUL-46",
            "exclusive_type": "PUL-46",
            "heartbeat": "PUL-47",
            "unflagged_redelivery": "PUL-42",
        }
    ),
)

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "rabbitmq-classic": _rabbitmq("rabbitmq-classic", "classic"),
        "rabbitmq-quorum": _rabbitmq("rabbitmq-quorum", "quorum"),
        "pulsar": _PULSAR,
    }
)
"""The known brokers by name. ``rabbitmq`` is short for ``rabbitmq-quorum``, what the provider declares by default."""

_ALIASES: Final[Mapping[str, str]] = MappingProxyType({"rabbitmq": "rabbitmq-quorum"})


def profile_named(name: str | Profile) -> Profile:
    """The profile called ``name``. Raises ``SettingsError`` that lists the known ones."""
    if isinstance(name, Profile):
        return name
    profile = PROFILES.get(_ALIASES.get(name, name))
    if profile is None:
        known = ", ".join(sorted((*PROFILES, *_ALIASES)))
        raise SettingsError(f"There is no simulated broker called {name!r}; known profiles: {known}.")
    return profile
