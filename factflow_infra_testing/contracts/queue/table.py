"""The table of the queue behaviours, to which the modules beside this one add their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra.queue.messages import QueueMessage
from factflow_infra_testing.contracts.behaviours import Table

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.capabilities import QueueCapability
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment

QUEUE_BEHAVIOURS: Final[Table[QueueEnvironment, QueueCapability]] = Table()


def numbered(count: int, *, first: int = 0) -> list[QueueMessage]:
    """``count`` messages whose bodies are their numbers."""
    return [QueueMessage(body=str(n).encode()) for n in range(first, first + count)]


def ids(messages: list[QueueMessage]) -> list[str]:
    return [message.message_id for message in messages]
