"""``SimulatedQueueProvider``: the production queue engine on the simulated broker, the model tier."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import SettingsError
from factflow_infra.queue.engine import QueueProvider
from factflow_infra.queue.naming import AmqpNamingStrategy
from factflow_infra.queue.options import EngineOptions
from factflow_infra_testing.broker.transport import SimulatedTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.queue.naming import NamingStrategy
    from factflow_infra_testing.broker.server import SimulatedBroker

_DEFAULT_OPTIONS: Final = EngineOptions()
_NAMING: Final = AmqpNamingStrategy()
_SETTINGS: Final = frozenset(option.name for option in fields(EngineOptions))
_OF_FRAMES: Final = "heartbeat"


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
        transport = SimulatedTransport(
            broker, client, exposed=exposed, host=host, connect_timeout=options.connect_timeout
        )
        super().__init__(transport, naming, options)


def model_provider(
    broker: SimulatedBroker, settings: Mapping[str, Any], *, client: str, exposed: bool, host: str
) -> SimulatedQueueProvider:
    """A provider with ``settings`` that are fields of ``EngineOptions``, as those of ``QueueSettings`` are that the engine heeds.

    ``heartbeat`` is taken and means nothing, so that a test may change its tier: there are no frames. Raises ``SettingsError`` for others.
    """
    if not settings:
        return SimulatedQueueProvider(broker, client=client, exposed=exposed, host=host)
    given = {name: value for name, value in settings.items() if name != _OF_FRAMES}
    if wrong := sorted(given.keys() - _SETTINGS):
        raise SettingsError(
            f"tier 'model' has no setting {wrong[0]!r}; it has {', '.join(sorted(_SETTINGS))}. "
            "Settings of a connection are for the tiers 'wire' and 'api'"
        )
    return SimulatedQueueProvider(broker, client=client, exposed=exposed, host=host, options=EngineOptions(**given))
