"""What differs between brokers, as data: one row a profile, each value with the fact behind it (``docs/facts.md``; NA-1 and its
neighbours say that a broker has no such thing, or that its front end refuses it).

A broker has *queue types*, each with its own way of taking messages back; a profile says which types there are and
which one a plain and an exclusive queue get. A new broker is a new row: the state machine has no subclasses.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from factflow_infra.errors import SettingsError
from factflow_infra_testing.broker.queue_types import Flags, Place, Profile, QueueType, Turns

if TYPE_CHECKING:
    from collections.abc import Mapping


_CLASSIC: Final = QueueType(
    name="classic",
    nack=Place.ORIGINAL,
    nack_limited=Place.ORIGINAL,
    lost=Place.ORIGINAL,
    nack_flags=Flags.ALL,
    end_flags=Flags.ALL,
    lost_flags=Flags.ALL,
    crash_flags=Flags.KEPT,
    counts=False,
    limits=False,
    keeps_transient=False,
    turns=Turns.LINGER,
    limit_widens=False,
    forgets_counts=False,
    restart_forgets=False,
    delay_slack=None,
    due=Place.TAIL,
    expires_anywhere=False,
    serves_first=True,
    by_consumer=False,
    sheds_first=True,
    hands_on=False,
    limits_auto_ack=False,
    exclusive=True,
    transient=True,
    auto_delete=True,
    evidence=MappingProxyType(
        {
            "nack": "RMQ-1",
            "nack_limited": "RMQ-1",
            "lost": "RMQ-2",
            "nack_flags": "RMQ-1",
            "end_flags": "RMQ-2",
            "lost_flags": "RMQ-2",
            "crash_flags": "RMQ-11",
            "counts": "RMQ-3",
            "limits": "RMQ-3",
            "keeps_transient": "RMQ-9",
            "turns": "RMQ-19",
            "limit_widens": "RMQ-3",
            "forgets_counts": "RMQ-3",
            "restart_forgets": "RMQ-11",
            "delay_slack": "RMQ-17",
            "due": "RMQ-17",
            "expires_anywhere": "RMQ-17",
            "serves_first": "RMQ-57",
            "by_consumer": "RMQ-44",
            "sheds_first": "RMQ-45",
            "hands_on": "RMQ-47",
            "limits_auto_ack": "RMQ-48",
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
    nack_flags=Flags.ALL,
    end_flags=Flags.ALL,
    lost_flags=Flags.ALL,
    crash_flags=Flags.ALL,
    counts=True,
    limits=True,
    keeps_transient=True,
    turns=Turns.LEAVE,
    limit_widens=True,
    forgets_counts=False,
    restart_forgets=False,
    delay_slack=None,
    due=Place.TAIL,
    expires_anywhere=False,
    serves_first=True,
    by_consumer=True,
    sheds_first=False,
    hands_on=True,
    limits_auto_ack=True,
    exclusive=False,
    transient=False,
    auto_delete=False,
    evidence=MappingProxyType(
        {
            "nack": "RMQ-4",
            "nack_limited": "RMQ-5",
            "lost": "RMQ-6",
            "nack_flags": "RMQ-7",
            "end_flags": "RMQ-7",
            "lost_flags": "RMQ-7",
            "crash_flags": "RMQ-10",
            "counts": "RMQ-7",
            "limits": "RMQ-8",
            "keeps_transient": "RMQ-10",
            "turns": "RMQ-19",
            "limit_widens": "RMQ-22",
            "forgets_counts": "RMQ-7",
            "restart_forgets": "RMQ-10",
            "delay_slack": "RMQ-17",
            "due": "RMQ-17",
            "expires_anywhere": "RMQ-17",
            "serves_first": "RMQ-57",
            "by_consumer": "RMQ-44",
            "sheds_first": "RMQ-45",
            "hands_on": "RMQ-47",
            "limits_auto_ack": "RMQ-48",
            "exclusive": "RMQ-13",
            "transient": "RMQ-13",
            "auto_delete": "RMQ-13",
        }
    ),
)

_RABBITMQ_TYPES: Final = MappingProxyType({"classic": _CLASSIC, "quorum": _QUORUM})


def _rabbitmq(name: str, default_type: str, evidence: Mapping[str, str] = MappingProxyType({})) -> Profile:
    return Profile(
        name=name,
        queue_types=_RABBITMQ_TYPES,
        default_type=default_type,
        exclusive_type="classic",
        heartbeat=60.0,
        strands=False,
        delivery_attempts=None,
        dead_letter_queue=None,
        expiry_queue=None,
        buries_transient=True,
        schedules_in_queues=False,
        evidence=MappingProxyType(
            {
                "queue_types": "RMQ-13",
                "default_type": "RMQ-13",
                "exclusive_type": "RMQ-13",
                "heartbeat": "RMQ-21",
                "strands": "RMQ-2",
                "delivery_attempts": "RMQ-3",
                "dead_letter_queue": "RMQ-15",
                "expiry_queue": "RMQ-15",
                "buries_transient": "RMQ-15",
                "schedules_in_queues": "RMQ-17",
                **evidence,
            }
        ),
    )


_SUBSCRIPTION: Final = QueueType(
    name="subscription",
    nack=Place.ORIGINAL,
    nack_limited=Place.ORIGINAL,
    lost=Place.ORIGINAL,
    nack_flags=Flags.ALL,
    end_flags=Flags.NONE,
    lost_flags=Flags.NONE,
    crash_flags=Flags.NONE,
    counts=True,
    limits=False,
    keeps_transient=True,
    turns=Turns.LINGER,
    limit_widens=False,
    forgets_counts=True,
    restart_forgets=False,
    delay_slack=1.0,
    due=Place.ORIGINAL,
    expires_anywhere=False,
    serves_first=False,
    by_consumer=False,
    sheds_first=True,
    hands_on=True,
    limits_auto_ack=False,
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
            "nack_flags": "PUL-42",
            "end_flags": "PUL-10",
            "lost_flags": "PUL-10",
            "crash_flags": "PUL-11",
            "turns": "PUL-44",
            "limit_widens": "PUL-42",
            "expires_anywhere": "PUL-43",
            "serves_first": "PUL-43",
            "by_consumer": "PUL-41",
            "sheds_first": "NA-1",
            "hands_on": "PUL-50",
            "limits_auto_ack": "NA-3",
            "forgets_counts": "PUL-10",
            "restart_forgets": "PUL-11",
            "delay_slack": "PUL-3",
            "due": "PUL-45",
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
    strands=False,
    delivery_attempts=None,
    dead_letter_queue=None,
    expiry_queue=None,
    buries_transient=True,
    schedules_in_queues=True,
    evidence=MappingProxyType(
        {
            "queue_types": "PUL-46",
            "default_type": "PUL-46",
            "exclusive_type": "PUL-46",
            "heartbeat": "PUL-47",
            "strands": "PUL-41",
            "delivery_attempts": "PUL-42",
            "dead_letter_queue": "PUL-42",
            "expiry_queue": "PUL-43",
            "buries_transient": "PUL-43",
            "schedules_in_queues": "PUL-45",
        }
    ),
)

_ARTEMIS_QUEUE: Final = QueueType(
    name="queue",
    nack=Place.ORIGINAL,
    nack_limited=Place.ORIGINAL,
    lost=Place.ORIGINAL,
    nack_flags=Flags.NONE,
    end_flags=Flags.NONE,
    lost_flags=Flags.OLDEST,
    crash_flags=Flags.NONE,
    counts=False,
    limits=True,
    keeps_transient=False,
    turns=Turns.RING,
    limit_widens=False,
    forgets_counts=False,
    restart_forgets=False,
    delay_slack=0.0,
    due=Place.HEAD,
    expires_anywhere=True,
    serves_first=False,
    by_consumer=False,
    sheds_first=True,
    hands_on=True,
    limits_auto_ack=False,
    exclusive=True,
    transient=True,
    auto_delete=True,
    evidence=MappingProxyType(
        {
            "nack": "ART-2",  # there is no nack: a provider gives a message back by ending its subscription
            "nack_limited": "ART-2",
            "lost": "ART-3",
            "nack_flags": "ART-2",
            "end_flags": "ART-2",
            "lost_flags": "ART-3",
            "crash_flags": "ART-26",
            "counts": "ART-3",
            "limits": "ART-5",
            "keeps_transient": "ART-18",
            "turns": "ART-28",
            "limit_widens": "ART-5",
            "forgets_counts": "ART-26",
            "restart_forgets": "ART-26",
            "delay_slack": "ART-30",
            "due": "ART-30",
            "expires_anywhere": "ART-29",
            "serves_first": "ART-29",
            "by_consumer": "ART-35",
            "sheds_first": "NA-1",
            "hands_on": "NA-2",
            "limits_auto_ack": "ART-34",
            "exclusive": "ART-10",
            "transient": "ART-10",
            "auto_delete": "ART-10",
        }
    ),
)

_ARTEMIS: Final = Profile(
    name="artemis",
    queue_types=MappingProxyType({"queue": _ARTEMIS_QUEUE}),
    default_type="queue",
    exclusive_type="queue",
    heartbeat=60.0,
    strands=True,
    delivery_attempts=10,
    dead_letter_queue="DLQ",
    expiry_queue="ExpiryQueue",
    buries_transient=True,
    schedules_in_queues=True,
    evidence=MappingProxyType(
        {
            "queue_types": "ART-10",
            "default_type": "ART-10",
            "exclusive_type": "ART-10",
            "heartbeat": "ART-31",
            "strands": "ART-4",
            "delivery_attempts": "ART-5",
            "dead_letter_queue": "ART-5",
            "expiry_queue": "ART-29",
            "buries_transient": "ART-29",
            "schedules_in_queues": "ART-30",
        }
    ),
)

_CLASSIC_QUEUE: Final = QueueType(
    name="queue",
    nack=Place.ORIGINAL,
    nack_limited=Place.ORIGINAL,
    lost=Place.RETURNED,
    nack_flags=Flags.ALL,
    end_flags=Flags.ALL,
    lost_flags=Flags.ALL,
    crash_flags=Flags.NONE,
    counts=False,
    limits=True,
    keeps_transient=False,
    turns=Turns.STAND,
    limit_widens=False,
    forgets_counts=False,
    restart_forgets=True,
    delay_slack=None,
    due=Place.TAIL,
    expires_anywhere=False,
    serves_first=False,
    by_consumer=False,
    sheds_first=True,
    hands_on=True,
    limits_auto_ack=False,
    exclusive=True,
    transient=True,
    auto_delete=True,
    evidence=MappingProxyType(
        {
            "nack": "AMQ-1",  # nothing comes back by a NACK: the message is dead
            "nack_limited": "AMQ-1",
            "lost": "AMQ-3",
            "nack_flags": "AMQ-1",
            "end_flags": "AMQ-2",
            "lost_flags": "AMQ-2",
            "crash_flags": "AMQ-20",
            "counts": "AMQ-4",
            "limits": "AMQ-4",
            "keeps_transient": "AMQ-20",
            "turns": "AMQ-9",
            "limit_widens": "AMQ-4",
            "forgets_counts": "AMQ-2",
            "restart_forgets": "AMQ-20",
            "delay_slack": "AMQ-14",
            "due": "AMQ-14",
            "expires_anywhere": "AMQ-15",
            "serves_first": "AMQ-15",
            "by_consumer": "AMQ-3",
            "sheds_first": "NA-1",
            "hands_on": "NA-2",
            "limits_auto_ack": "AMQ-21",
            "exclusive": "AMQ-10",
            "transient": "AMQ-10",
            "auto_delete": "AMQ-10",
        }
    ),
)

_CLASSIC_SUBSCRIPTION: Final = replace(
    _CLASSIC_QUEUE,
    name="subscription",
    lost=Place.ORIGINAL,
    end_flags=Flags.NONE,
    lost_flags=Flags.NONE,
    evidence=MappingProxyType(
        {**_CLASSIC_QUEUE.evidence, "lost": "AMQ-11", "end_flags": "AMQ-11", "lost_flags": "AMQ-11"}
    ),
)

_ACTIVEMQ_CLASSIC: Final = Profile(
    name="activemq-classic",
    queue_types=MappingProxyType({"queue": _CLASSIC_QUEUE, "subscription": _CLASSIC_SUBSCRIPTION}),
    default_type="queue",
    exclusive_type="queue",
    heartbeat=60.0,
    strands=False,
    delivery_attempts=None,
    dead_letter_queue="ActiveMQ.DLQ",
    expiry_queue="ActiveMQ.DLQ",
    buries_transient=False,
    schedules_in_queues=False,
    evidence=MappingProxyType(
        {
            "queue_types": "AMQ-11",
            "default_type": "AMQ-10",
            "exclusive_type": "AMQ-10",
            "heartbeat": "AMQ-17",
            "strands": "AMQ-2",
            "delivery_attempts": "AMQ-4",
            "dead_letter_queue": "AMQ-1",
            "expiry_queue": "AMQ-15",
            "buries_transient": "AMQ-1",
            "schedules_in_queues": "AMQ-14",
        }
    ),
)

_RABBITMQ_STOMP: Final = _rabbitmq("rabbitmq-stomp", "classic", {"default_type": "RST-1", "heartbeat": "RST-16"})

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "activemq-classic": _ACTIVEMQ_CLASSIC,
        "artemis": _ARTEMIS,
        "rabbitmq-classic": _rabbitmq("rabbitmq-classic", "classic"),
        "rabbitmq-quorum": _rabbitmq("rabbitmq-quorum", "quorum"),
        "rabbitmq-stomp": _RABBITMQ_STOMP,
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
