"""What a queue harness, or the provider behind it, can do. A behaviour that needs more is skipped, and says so."""

from __future__ import annotations

from enum import StrEnum


class QueueCapability(StrEnum):
    """Declared is promised: a declared capability that does not work is a failure, not a skip."""

    SEVER = "sever"
    """The harness can break the connection of one provider abruptly, which may connect again."""
    STALL = "stall"
    """The harness can make the connection of one provider fall silent, without a word to either end."""
    KILL = "kill"
    """The harness can make a provider fall silent for good, as a killed process does."""
    RESTART = "restart"
    """The harness can stop and start the broker. What was persistent is kept."""
    LOSE_CONFIRM = "lose-confirm"
    """The harness can have the broker take a message and lose its confirmation."""
    REFUSE = "refuse"
    """The harness can have the broker refuse a message."""
    INJECT = "inject"
    """The harness can put bytes into a queue that the provider cannot decode."""
    TOPICS = "topics"
    """Topics, with a copy to every subscription."""
    DURABLE_SUBSCRIPTIONS = "durable-subscriptions"
    """A named subscription of a topic outlives its members."""
    DELAY = "delay"
    """``publish(delay=...)``, and retries that wait in the broker."""
    BATCH = "batch"
    """``subscribe_batch``."""
    ORDERING_KEY = "ordering-key"
    """Messages of one ``ordering_key`` keep their order under concurrency."""
    DELIVERY_COUNT = "delivery-count"
    """The broker counts the deliveries of a message, across connections."""
    REDELIVERED_FLAG = "redelivered-flag"
    """Every message that a lost connection gives back is flagged; without it, the oldest at least."""
    REMEMBERS_DELIVERIES = "remembers-deliveries"
    """That a message was delivered before is known even when its last consumer has gone; Pulsar forgets it."""
    LARGE_MESSAGES = "large-messages"
    """Bodies of 4 MiB."""
    VIRTUAL_TIME = "virtual-time"
    """Waiting is free and timers are exact: timing is asserted to the millisecond."""


ALL_QUEUE_CAPABILITIES = frozenset(QueueCapability)
