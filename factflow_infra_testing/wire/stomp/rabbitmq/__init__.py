"""The STOMP of RabbitMQ's plugin, which translates it to AMQP 0-9-1: facts RST-1 to RST-17."""

from factflow_infra_testing.wire.stomp.rabbitmq.commands import HANDLERS, error_headers, stranger, unknown
from factflow_infra_testing.wire.stomp.rabbitmq.content import message_of
from factflow_infra_testing.wire.stomp.rabbitmq.destinations import Destinations
from factflow_infra_testing.wire.stomp.rabbitmq.login import log_in, welcome

__all__ = ["HANDLERS", "Destinations", "error_headers", "log_in", "message_of", "stranger", "unknown", "welcome"]
