"""What topics and subscriptions of a provider are called in events, plans and reports: the way the user wrote them.

``orders``, ``/topic/news``, ``/topic/news#subscription``, the same on every tier. The topic of a subscription's retries has the
name of the subscription, and a reader's is ``/topic/news#``. What no provider declares keeps its name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from factflow_infra.errors import InfraError
from factflow_infra.queue.naming import PulsarNamingStrategy
from factflow_infra.queue.transport import DestinationKind

_RETRY: Final = re.compile(r"persistent://[^/]+/[^/]+/retry\.(?P<topic>[^@]+)@(?P<subscription>.+)")
_PREFIX: Final = re.compile(r"persistent://(?P<tenant>[^/]+)/(?P<namespace>[^/]+)/")
_READER: Final = "reader-"


@lru_cache(maxsize=4096)
def topic_label(name: str) -> str:
    """The label of the topic ``name``."""
    if (retry := _RETRY.fullmatch(name)) is not None:
        return f"/topic/{unquote(retry['topic'])}#{unquote(retry['subscription'])}"
    prefix = _PREFIX.match(name)
    if prefix is None:
        return name
    try:
        destination = PulsarNamingStrategy(**prefix.groupdict()).decode(name)
    except InfraError:
        return name
    return destination.name if destination.kind is DestinationKind.QUEUE else f"/topic/{destination.name}"


@lru_cache(maxsize=4096)
def subscription_label(topic: str, subscription: str) -> str:
    """The label of a subscription: of a queue, the queue's own."""
    label = topic_label(topic)
    if label != topic and (not label.startswith("/topic/") or "#" in label):
        return label
    return f"{label}#{'' if subscription.startswith(_READER) else subscription}"
