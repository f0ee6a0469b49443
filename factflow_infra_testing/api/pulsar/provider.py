"""The production provider in a simulation: ``PulsarQueueProvider`` and the library's Python half, on the client's stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from factflow_infra_testing.api.pulsar.client import Listening
from factflow_infra_testing.wire.pulsar.frontend import PORT, PulsarFrontEnd

if TYPE_CHECKING:
    from factflow_infra_testing.broker.server import SimulatedBroker

EXPOSED_PORT: Final = 6651
"""In a simulation: whoever connects here meets the faults, the test itself included."""


def listening(broker: SimulatedBroker, host: str, *, exposed: bool = False, client: str = "") -> PulsarFrontEnd:
    """A front end of ``broker``, which clients in the simulation reach at ``host``.

    On ``PORT`` the test's own clients meet no faults unless ``exposed``, on ``EXPOSED_PORT`` all do. ``client``: what whoever
    connects is called, whichever process it is.
    """
    front_end = PulsarFrontEnd(broker, url=f"pulsar://{host}:{PORT}")
    attach(front_end, host, exposed=exposed, client=client)
    return front_end


def attach(front_end: PulsarFrontEnd, host: str, *, exposed: bool = False, client: str = "") -> None:
    """Have ``front_end`` reached at ``host`` as well."""
    loop: Any = front_end.server.loop
    loop.network.services[host, PORT] = Listening(front_end=front_end, exposed=exposed, client=client)
    loop.network.services[host, EXPOSED_PORT] = Listening(front_end=front_end, exposed=True, client=client)
