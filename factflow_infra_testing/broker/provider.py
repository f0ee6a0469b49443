"""``SimulatedQueueProvider``: the production queue engine on the simulated broker, the model tier."""

from __future__ import annotations

from dataclasses import replace
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
_OF_THE_ENGINE: Final = frozenset(
    {"reconnect_base", "reconnect_cap", "connect_timeout", "publish_timeout", "prefetch", "max_message_bytes"}
)
"""The settings of ``QueueSettings`` that say the same here."""
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
        super().__init__(SimulatedTransport(broker, client, exposed=exposed, host=host), naming, options)


def model_provider(
    broker: SimulatedBroker, settings: Mapping[str, Any], *, client: str, exposed: bool, host: str
) -> SimulatedQueueProvider:
    """A provider with those of the ``settings`` of ``QueueSettings`` that the engine heeds, so that a test may change its tier.

    Besides ``naming`` and ``options`` as above. ``heartbeat`` is taken and means nothing: there are no frames. Raises ``SettingsError`` for others.
    """
    if not settings:
        return SimulatedQueueProvider(broker, client=client, exposed=exposed, host=host)
    given = {name: value for name, value in settings.items() if name != _OF_FRAMES}
    changed = {name: given.pop(name) for name in _OF_THE_ENGINE & given.keys()}
    if wrong := sorted(given.keys() - {"naming", "options"}):
        raise SettingsError(
            f"tier 'model' has no setting {wrong[0]!r}; it has {', '.join(sorted(_OF_THE_ENGINE))}, and `options=EngineOptions(...)`. "
            "Settings of a connection are for the tiers 'wire' and 'api'"
        )
    if changed:
        given["options"] = replace(given.get("options", _DEFAULT_OPTIONS), **changed)
    return SimulatedQueueProvider(broker, client=client, exposed=exposed, host=host, **given)
