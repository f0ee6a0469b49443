"""AMQP 0-9-1 over the simulated broker: RabbitMQ's clients connect to it unchanged, in a simulation or on real sockets."""

from factflow_infra_testing.wire.amqp.frontend import EXPOSED_PORT, PORT, AmqpFrontEnd
from factflow_infra_testing.wire.amqp.serving import AmqpServer, serve

__all__ = ["EXPOSED_PORT", "PORT", "AmqpFrontEnd", "AmqpServer", "serve"]
