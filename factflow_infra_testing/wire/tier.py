"""The wire tier of a simulation: which brokers listen in it, and the production providers that connect to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra.errors import SettingsError
from factflow_infra_testing.wire.protocols import protocol_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.simulation.session import SimulationSession

_ENGINE_ONLY: Final = frozenset({"options", "naming"})


class WireTier:
    """One a run. What the libraries need is imported when it is first asked for something."""

    def __init__(self, session: SimulationSession) -> None:
        self._session = session
        self._listening: dict[SimulatedBroker, None] = {}

    def uri(self, broker: SimulatedBroker) -> str:
        """Where any client in the simulation reaches ``broker``, which listens from now on."""
        return self._provider(broker).broker_uris(broker)[0]

    def queue(self, broker: SimulatedBroker, *, host: str, exposed: bool, options: Mapping[str, Any]) -> QueueProtocol:
        """The production provider for code on ``host``; ``exposed``: the test's own meets the faults too."""
        if wrong := sorted(_ENGINE_ONLY & options.keys()):
            raise SettingsError(
                f"{wrong[0]!r} is an option of tier 'model'; tier 'wire' takes the settings of QueueSettings"
            )
        module = self._provider(broker)
        with self._session.importing():
            return module.wire_provider(broker, host=host, exposed=exposed, options=options)

    def _provider(self, broker: SimulatedBroker) -> Any:
        protocol = protocol_of(broker.profile)
        with self._session.importing():
            module = protocol.provider
        if broker not in self._listening:
            module.listening(broker)
            self._listening[broker] = None
        return module
