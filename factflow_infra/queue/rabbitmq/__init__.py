"""The queue provider for RabbitMQ."""

from factflow_infra.queue.rabbitmq.provider import RabbitMqQueueProvider

__all__ = ["RabbitMqQueueProvider"]
