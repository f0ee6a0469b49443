"""The production provider in a simulation: ``PulsarQueueProvider`` and the library's Python half, on the client's stand-in."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.api.pulsar.client import Listening
from factflow_infra_testing.wire.pulsar.frontend import PORT, PulsarFrontEnd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra.queue.settings import QueueSettings
    from factflow_infra_testing.broker.server import SimulatedBroker

EXPOSED_PORT: Final = 6651
"""In a simulation: whoever connects here meets the faults, the test itself included."""


def listening(broker: SimulatedBroker, host: str, *, exposed: bool = False, client: str = "") -> PulsarFrontEnd:
    """A front end of ``broker``, which clients in the simulation reach at ``host``, and at the broker's own hosts.

    On ``PORT`` the test's own clients meet no faults unless ``exposed``, on ``EXPOSED_PORT`` all do. ``client``: what whoever
    connects is called, whichever process it is.
    """
    front_end = PulsarFrontEnd(broker)
    for there in dict.fromkeys((host, *broker.hosts)):
        attach(front_end, there, exposed=exposed, client=client)
    return front_end


def attach(front_end: PulsarFrontEnd, host: str, *, exposed: bool = False, client: str = "") -> None:
    """Have ``front_end`` reached at ``host`` as well."""
    loop: Any = front_end.server.loop
    loop.network.services[host, PORT] = Listening(front_end=front_end, exposed=exposed, client=client)
    loop.network.services[host, EXPOSED_PORT] = Listening(front_end=front_end, exposed=True, client=client)


def broker_uri(broker: SimulatedBroker, *, exposed: bool = False) -> str:
    """Where a client in the simulation finds ``broker``. ``exposed``: the test's own client meets the faults as well."""
    port = EXPOSED_PORT if exposed else PORT
    return "pulsar://" + ",".join(f"{host}:{port}" for host in broker.hosts)


def api_provider(broker: SimulatedBroker, *, exposed: bool, options: Mapping[str, Any]) -> QueueProtocol:
    """The production provider. ``options`` are settings of ``QueueSettings``, such as ``prefetch``."""
    from factflow_infra.queue.pulsar import PulsarQueueProvider

    return PulsarQueueProvider(_settings(broker_uri(broker, exposed=exposed), tuple(sorted(options.items()))))


@lru_cache(maxsize=64)
def _settings(uri: str, values: tuple[tuple[str, Any], ...]) -> QueueSettings:
    from factflow_infra.queue.settings import QueueSettings

    return QueueSettings(uri=uri, **dict(values))
