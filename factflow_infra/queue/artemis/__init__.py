"""The queue provider for Apache Artemis, over STOMP."""

from factflow_infra.queue.artemis.provider import ArtemisQueueProvider

__all__ = ["ArtemisQueueProvider"]
