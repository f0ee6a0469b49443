"""The network between a process and a simulated broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from factflow_infra_testing.broker.lanes import LATENCY

if TYPE_CHECKING:
    from factflow_infra_testing.broker.server import SimulatedBroker


def lay_links(broker: SimulatedBroker, host: str) -> None:
    """Have what goes between ``host`` and the hosts of ``broker`` take as long as in the model tier, unless told otherwise."""
    loop: Any = broker.loop
    links = loop.network.links
    for there in broker.hosts:
        for one, other in ((host, there), (there, host)):
            if not links.get(one, other).latency:
                links.set(one, other, latency=LATENCY)
