"""The production provider in a simulation: ``RabbitMqQueueProvider`` on aio-pika, connected over the simulated network."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.wire.amqp.frontend import EXPOSED_PORT, PORT, AmqpFrontEnd
from factflow_infra_testing.wire.links import lay_links

if TYPE_CHECKING:
    from collections.abc import Mapping

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra.queue.settings import QueueSettings
    from factflow_infra_testing.broker.server import SimulatedBroker


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

    lay_links(broker, host)
    settings: dict[str, Any] = {"queue_type": broker.profile.default_type, **options}
    uri = ",".join(broker_uris(broker, exposed=exposed))
    return RabbitMqQueueProvider(_settings(uri, tuple(sorted(settings.items()))))


@lru_cache(maxsize=64)
def _settings(uri: str, values: tuple[tuple[str, Any], ...]) -> QueueSettings:
    # Checking them takes longer than a whole run of three messages.
    from factflow_infra.queue.settings import QueueSettings

    return QueueSettings(uri=uri, **dict(values))
