"""The queue contract: the rows, and what a harness is made of."""

from __future__ import annotations

from factflow_infra_testing.contracts.queue import (
    batches,
    dead_lettering,
    delivering,
    handlers,
    limiting,
    naming,
    ordering,
    publish_batches,
    publishing,
    reconnecting,
    retrying,
    round_trips,
    stopping,
    subscribing,
    topics,
    validation,
)
from factflow_infra_testing.contracts.queue.capabilities import ALL_QUEUE_CAPABILITIES, QueueCapability
from factflow_infra_testing.contracts.queue.environment import (
    PlainQueueBackend,
    QueueBackend,
    QueueEnvironment,
    QueueHarness,
    exercise_queue,
)
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS

__all__ = [
    "ALL_QUEUE_CAPABILITIES",
    "QUEUE_BEHAVIOURS",
    "PlainQueueBackend",
    "QueueBackend",
    "QueueCapability",
    "QueueEnvironment",
    "QueueHarness",
    "exercise_queue",
]

# Importing them adds their rows to the table.
_ROWS = (
    publishing,
    publish_batches,
    delivering,
    retrying,
    dead_lettering,
    batches,
    ordering,
    subscribing,
    topics,
    limiting,
    round_trips,
    stopping,
    reconnecting,
    naming,
    validation,
    handlers,
)
