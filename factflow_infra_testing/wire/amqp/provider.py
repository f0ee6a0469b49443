"""The production provider in a simulation: ``RabbitMqQueueProvider`` on aio-pika, connected over the simulated network."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import SettingsError
from factflow_infra_testing.broker.link import LATENCY
from factflow_infra_testing.wire.amqp.frontend import EXPOSED_PORT, PORT, AmqpFrontEnd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra.queue.settings import QueueSettings
    from factflow_infra_testing.broker.server import SimulatedBroker

_ENGINE_ONLY: Final = frozenset({"options", "naming"})


def listening(broker: SimulatedBroker) -> AmqpFrontEnd:
    """A front end of ``broker``, reachable at the host that is called as its profile is."""
    front_end = AmqpFrontEnd(broker)
    front_end.listen(broker.profile.name)
    return front_end


def broker_uri(broker: SimulatedBroker, *, exposed: bool = False) -> str:
    """Where a client in the simulation finds ``broker``. ``exposed``: the test's own client meets the faults as well."""
    return f"amqp://guest:guest@{broker.profile.name}:{EXPOSED_PORT if exposed else PORT}/"


def wire_provider(broker: SimulatedBroker, *, host: str, exposed: bool, options: Mapping[str, Any]) -> QueueProtocol:
    """The production provider for code on ``host``. ``options`` are settings of ``QueueSettings``, such as ``prefetch``."""
    from factflow_infra.queue.rabbitmq import RabbitMqQueueProvider

    if wrong := sorted(_ENGINE_ONLY & options.keys()):
        raise SettingsError(
            f"{wrong[0]!r} is an option of tier 'model'; tier 'wire' takes the settings of QueueSettings"
        )
    loop: Any = broker.loop
    name = broker.profile.name
    for one, other in ((host, name), (name, host)):
        if not loop.network.links.get(one, other).latency:
            loop.network.links.set(one, other, latency=LATENCY)
    settings: dict[str, Any] = {"queue_type": broker.profile.default_type, **options}
    uri = broker_uri(broker, exposed=exposed)
    return RabbitMqQueueProvider(_settings(uri, tuple(sorted(settings.items()))))


@lru_cache(maxsize=64)
def _settings(uri: str, values: tuple[tuple[str, Any], ...]) -> QueueSettings:
    # Checking them takes longer than a whole run of three messages.
    from factflow_infra.queue.settings import QueueSettings

    return QueueSettings(uri=uri, **dict(values))
