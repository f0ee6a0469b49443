"""The production provider in a simulation: ``ArtemisQueueProvider`` on stompman, connected over the simulated network."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.wire.links import lay_links
from factflow_infra_testing.wire.stomp.dialects import DIALECTS
from factflow_infra_testing.wire.stomp.frontend import EXPOSED_PORT, PORT, StompFrontEnd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra.queue.settings import QueueSettings
    from factflow_infra_testing.broker.server import SimulatedBroker


def listening(broker: SimulatedBroker) -> StompFrontEnd:
    """A front end of ``broker``, reachable at its hosts."""
    front_end = StompFrontEnd(broker)
    front_end.listen(*broker.hosts)
    return front_end


def broker_uris(broker: SimulatedBroker, *, exposed: bool = False) -> list[str]:
    """Where a client in the simulation finds ``broker``. ``exposed``: the test's own client meets the faults as well."""
    port = EXPOSED_PORT if exposed else PORT
    dialect = DIALECTS[broker.profile.name]
    return [f"stomp://{dialect.user}:{dialect.password}@{host}:{port}" for host in broker.hosts]


def wire_provider(broker: SimulatedBroker, *, host: str, exposed: bool, options: Mapping[str, Any]) -> QueueProtocol:
    """The production provider for code on ``host``. ``options`` are settings of ``QueueSettings``, such as ``prefetch``."""
    from factflow_infra.queue.artemis import ArtemisQueueProvider

    lay_links(broker, host)
    uri = ",".join(broker_uris(broker, exposed=exposed))
    return ArtemisQueueProvider(_settings(uri, tuple(sorted(options.items()))))


@lru_cache(maxsize=64)
def _settings(uri: str, values: tuple[tuple[str, Any], ...]) -> QueueSettings:
    # Checking them takes longer than a whole run of three messages.
    from factflow_infra.queue.settings import QueueSettings

    return QueueSettings(uri=uri, **dict(values))
