"""What queues and exchanges of a provider are called in events, plans and reports: the way the user wrote them.

``orders``, ``/topic/news``, ``/topic/news#subscription``. A queue that only delays has the name of its target, so that a plan
means the same on every tier. What no provider declares keeps its own name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from factflow_infra.errors import InfraError
from factflow_infra.queue.naming import AmqpNamingStrategy

_NAMING: Final = AmqpNamingStrategy()
_DELAY: Final = re.compile(r"-\.delay\.\d+$")
_BEHIND_TOPIC: Final = re.compile(r"(?P<topic>.+?)-\.(?P<label>sub|own)\.(?P<subscription>.*)$")
_HUB: Final = re.compile(r"-\.delayed$")


@lru_cache(maxsize=4096)
def queue_label(name: str) -> str:
    """The label of the queue ``name``."""
    target = _DELAY.sub("", name)
    hub = _HUB.sub("", target)
    try:
        if hub != target:
            return f"/topic/{_NAMING.decode_name(hub)}"
        match = _BEHIND_TOPIC.fullmatch(target)
        if match is None:
            return _NAMING.decode_name(target)
        subscription = "" if match["label"] == "own" else _NAMING.decode_name(match["subscription"])
        return f"/topic/{_NAMING.decode_name(match['topic'])}#{subscription}"
    except InfraError:
        return name


@lru_cache(maxsize=4096)
def exchange_label(name: str) -> str:
    """The label of the exchange ``name``."""
    try:
        return f"/topic/{_NAMING.decode_name(_HUB.sub('', name))}"
    except InfraError:
        return name
