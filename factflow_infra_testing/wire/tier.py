"""The wire tier of a simulation: which brokers listen in it, and the production providers that connect to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.broker.server import SimulatedBroker
    from factflow_infra_testing.simulation.session import SimulationSession


class WireTier:
    """One a run. What the libraries need is imported when it is first asked for something."""

    def __init__(self, session: SimulationSession) -> None:
        self._session = session
        self._listening: dict[SimulatedBroker, None] = {}

    def uri(self, broker: SimulatedBroker) -> str:
        """Where any client in the simulation reaches ``broker``, which listens from now on."""
        with self._session.importing():
            from factflow_infra_testing.wire.amqp.provider import broker_uris, listening
        if broker not in self._listening:
            listening(broker)
            self._listening[broker] = None
        return broker_uris(broker)[0]

    def queue(self, broker: SimulatedBroker, *, host: str, exposed: bool, options: Mapping[str, Any]) -> QueueProtocol:
        """The production provider for code on ``host``; ``exposed``: the test's own meets the faults too."""
        self.uri(broker)
        with self._session.importing():
            from factflow_infra_testing.wire.amqp.provider import wire_provider
        return wire_provider(broker, host=host, exposed=exposed, options=options)
