"""The production provider in a simulation: ``RabbitMqQueueProvider`` on aio-pika, connected over the simulated network."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from factflow_infra.errors import SettingsError
from factflow_infra_testing.broker.lanes import LATENCY
from factflow_infra_testing.wire.amqp.frontend import EXPOSED_PORT, PORT, AmqpFrontEnd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra.queue.settings import QueueSettings
    from factflow_infra_testing.broker.server import SimulatedBroker

_ENGINE_ONLY: Final = frozenset({"options", "naming"})


def listening(broker: SimulatedBroker) -> AmqpFrontEnd:
    """A front end of ``broker``, reachable at its hosts."""
    front_end = AmqpFrontEnd(broker)
    front_end.listen(*broker.hosts)
    return front_end


def broker_uris(broker: SimulatedBroker, *, exposed: bool = False) -> list[str]:
    """Where a client in the simulation finds ``broker``. ``exposed``: the test's own client meets the faults as well."""
    port = EXPOSED_PORT if exposed else PORT
    return [f"amqp://guest:guest@{host}:{port}/" for host in broker.hosts]


def wire_provider(broker: SimulatedBroker, *, host: str, exposed: bool, options: Mapping[str, Any]) -> QueueProtocol:
    """The production provider for code on ``host``. ``options`` are settings of ``QueueSettings``, such as ``prefetch``."""
    from factflow_infra.queue.rabbitmq import RabbitMqQueueProvider

    if wrong := sorted(_ENGINE_ONLY & options.keys()):
        raise SettingsError(
            f"{wrong[0]!r} is an option of tier 'model'; tier 'wire' takes the settings of QueueSettings"
        )
    loop: Any = broker.loop
    links = loop.network.links
    for there in broker.hosts:
        for one, other in ((host, there), (there, host)):
            if not links.get(one, other).latency:
                links.set(one, other, latency=LATENCY)
    settings: dict[str, Any] = {"queue_type": broker.profile.default_type, **options}
    uri = ",".join(broker_uris(broker, exposed=exposed))
    return RabbitMqQueueProvider(_settings(uri, tuple(sorted(settings.items()))))


@lru_cache(maxsize=64)
def _settings(uri: str, values: tuple[tuple[str, Any], ...]) -> QueueSettings:
    # Checking them takes longer than a whole run of three messages.
    from factflow_infra.queue.settings import QueueSettings

    return QueueSettings(uri=uri, **dict(values))
