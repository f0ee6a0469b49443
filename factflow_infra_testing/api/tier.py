"""The API tier of a simulation: which brokers are reached through it, and the production providers on it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.simulation.session import SimulationSession


class ApiTier:
    """One a run. What the libraries need is imported when it is first asked for something."""

    def __init__(self, session: SimulationSession) -> None:
        self._session = session
        self._listening: dict[SimulatedBroker, None] = {}

    def uri(self, broker: SimulatedBroker) -> str:
        """Where the library's client reaches ``broker`` in the simulation, from now on."""
        with self._session.importing():
            import certifi

            from factflow_infra_testing.api.pulsar.provider import broker_uri, listening

            import_module("pulsar.asyncio")  # not in the middle of a run
            certifi.where()  # the client asks for it, and it lies on the real disk
        if broker not in self._listening:
            listening(broker, broker.profile.name)
            self._listening[broker] = None
        return broker_uri(broker)

    def queue(self, broker: SimulatedBroker, *, exposed: bool, options: Mapping[str, Any]) -> QueueProtocol:
        """The production provider; ``exposed``: the test's own meets the faults too."""
        self.uri(broker)
        with self._session.importing():
            from factflow_infra_testing.api.pulsar.provider import api_provider
        return api_provider(broker, exposed=exposed, options=options)
