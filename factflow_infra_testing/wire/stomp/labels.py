"""What destinations and queues are called in events, plans and reports: the way the user of a provider wrote them.

``orders`` for ``/queue/orders``, ``/topic/news``, ``/topic/news#desk`` for the queue behind a subscription. What no provider
names keeps its own name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from factflow_infra.queue.destinations import QUEUE_PREFIX, TOPIC_PREFIX

_DURABLE: Final = re.compile(r"[^./]*\.(?P<subscription>[^/]*)(?P<topic>/topic/.+)")


@lru_cache(maxsize=4096)
def address_label(address: str) -> str:
    """The label of an address that is sent or subscribed to."""
    return address.removeprefix(QUEUE_PREFIX)


@lru_cache(maxsize=4096)
def queue_label(queue: str) -> str:
    """The label of a queue with a name of its own: a durable subscription's, mostly."""
    match = _DURABLE.fullmatch(queue)
    return address_label(queue) if match is None else f"{match['topic']}#{unquote(match['subscription'])}"


def temporary_label(address: str) -> str:
    """The label of the queue of a subscription that is not durable."""
    return f"{address}#" if address.startswith(TOPIC_PREFIX) else f"{address_label(address)}#"
