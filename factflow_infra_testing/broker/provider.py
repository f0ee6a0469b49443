"""``SimulatedQueueProvider``: the production queue engine on the simulated broker, the model tier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.options import EngineOptions
from factflow_infra_testing.broker.transport import SimulatedTransport

if TYPE_CHECKING:
    from factflow_infra.queue.naming import NamingStrategy
    from factflow_infra_testing.broker.server import SimulatedBroker

_DEFAULT_OPTIONS: Final = EngineOptions()
_NAMING: Final = AmqpNamingStrategy()


class SimulatedQueueProvider(QueueProvider):
    """A ``QueueProtocol`` on ``broker``: delivery semantics are the production engine's, only the wire is left out.

    ``client`` names its connections in events and reports, and is what ``SimulatedBroker.drop_client`` takes.
    ``exposed``: it meets the faults of the run; the test's own providers do not. ``host``: its machine.
    """

    def __init__(
        self,
        broker: SimulatedBroker,
        *,
        client: str = "test",
        exposed: bool = False,
        host: str = "localhost",
        naming: NamingStrategy = _NAMING,
        options: EngineOptions = _DEFAULT_OPTIONS,
    ) -> None:
        super().__init__(SimulatedTransport(broker, client, exposed=exposed, host=host), naming, options)
