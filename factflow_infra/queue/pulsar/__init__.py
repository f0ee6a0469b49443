"""The queue provider for Pulsar."""

from factflow_infra.queue.pulsar.provider import PulsarQueueProvider

__all__ = ["PulsarQueueProvider"]
