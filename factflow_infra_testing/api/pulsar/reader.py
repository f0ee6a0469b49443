"""The reader: an exclusive consumer on a subscription of its own that is not durable (``ReaderImpl``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from factflow_infra_testing.api.pulsar.consumer import Consumer
from factflow_infra_testing.api.pulsar.results import OK, result_value
from factflow_infra_testing.api.pulsar.values import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra_testing.api.pulsar.client import ApiClient
    from factflow_infra_testing.api.pulsar.values import Message


class Reader:
    """As ``_pulsar.Reader``."""

    def __init__(
        self, client: ApiClient, topic: str, start: Any, configuration: Any, created: Callable[[str, str], None]
    ) -> None:
        prefix = configuration.subscription_role_prefix()
        name = "reader-" + client.random_name(10)
        subscription = f"{prefix}-{name}" if prefix else name
        self.consumer = Consumer(client, topic, subscription, configuration, created, start=key_of(start))

    def topic(self) -> str:
        return self.consumer.topic()

    def is_connected(self) -> bool:
        return self.consumer.is_connected()

    def read_next_async(self, callback: Callable[[Any, Message], None]) -> None:
        """The next message, which is thereby done."""

        def received(result: Any, message: Message) -> None:
            if result == result_value(OK) and message.key[2] <= 0:
                self.consumer.acknowledge_up_to(message)
            callback(result, message)

        self.consumer.receive_async(received)

    def seek_async(self, target: Any, callback: Callable[[Any], None]) -> None:
        self.consumer.seek_async(target, callback)

    def close_async(self, callback: Callable[[Any], None]) -> None:
        self.consumer.close_async(callback)
