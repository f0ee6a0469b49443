"""The STOMP front end: the simulated broker as Artemis, ActiveMQ Classic or RabbitMQ's plugin, for any STOMP client."""

from factflow_infra_testing.wire.stomp.frontend import StompFrontEnd

__all__ = ["StompFrontEnd"]
