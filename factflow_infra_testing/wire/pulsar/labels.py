"""What topics and subscriptions of a provider are called in events, plans and reports: the way the user wrote them.

``orders``, ``/topic/news``, ``/topic/news#subscription``, the same on every tier. What no provider declares keeps its name.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from factflow_infra.errors import InfraError
from factflow_infra.queue.naming import PulsarNamingStrategy
from factflow_infra.queue.transport import DestinationKind

_NAMING: Final = PulsarNamingStrategy()


@lru_cache(maxsize=4096)
def topic_label(name: str) -> str:
    """The label of the topic ``name``."""
    try:
        destination = _NAMING.decode(name)
    except InfraError:
        return name
    return destination.name if destination.kind is DestinationKind.QUEUE else f"/topic/{destination.name}"


@lru_cache(maxsize=4096)
def subscription_label(topic: str, subscription: str) -> str:
    """The label of a subscription: of a queue, the queue's own."""
    label = topic_label(topic)
    return label if label != topic and not label.startswith("/topic/") else f"{label}#{subscription}"
