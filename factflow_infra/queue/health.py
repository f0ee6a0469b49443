"""One word for how a provider does, from what its parts say."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from factflow_infra.queue.messages import HealthState, QueueHealth, SubscriptionStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from factflow_infra.queue.connection import ConnectionKeeper


class SubscriptionFacts:
    """What health needs to know of one subscription. ``last_progress``: loop time of the last message begun."""

    __slots__ = ("held", "last_progress", "name", "status")

    def __init__(self, name: str, status: SubscriptionStatus, held: int, last_progress: float | None) -> None:
        self.name = name
        self.status = status
        self.held = held
        self.last_progress = last_progress


def health_of(
    connection: ConnectionKeeper | None,
    subscriptions: Iterable[SubscriptionFacts],
    *,
    last_message: float | None,
    now: float,
    stall_after: float,
) -> QueueHealth:
    """The health at loop time ``now``. ``last_message``: when the last message of any subscription was begun."""
    states: dict[str, SubscriptionStatus] = {}
    stalled = False
    for facts in subscriptions:
        name, number = facts.name, 1
        while name in states:  # members of one group in one provider
            number += 1
            name = f"{facts.name} #{number}"
        states[name] = facts.status
        stalled |= bool(facts.held) and facts.last_progress is not None and now - facts.last_progress > stall_after
    connected = connection is not None and connection.connected
    reconnecting = connection is not None and connection.reconnecting
    if reconnecting and not connected:
        state = HealthState.RECONNECTING
    elif not connected or SubscriptionStatus.RECONNECTING in states.values():
        state = HealthState.DEGRADED
    else:
        state = HealthState.STALLED if stalled else HealthState.HEALTHY
    return QueueHealth(
        connected=connected,
        health_state=state,
        last_message_age_seconds=None if last_message is None else max(0.0, now - last_message),
        reconnect_attempts=connection.attempts if connection is not None and not connected else 0,
        reconnect_in_progress=reconnecting,
        active_subscriptions=sum(status is SubscriptionStatus.ACTIVE for status in states.values()),
        subscription_states=MappingProxyType(states),
    )
