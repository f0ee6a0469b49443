"""The queue contract on a real RabbitMQ, on quorum and on classic queues."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import pytest

from factflow_infra import create_queue_provider
from factflow_infra_testing.contracts import (
    LIVE_PACE,
    QUEUE_BEHAVIOURS,
    PlainQueueBackend,
    QueueCapability,
    QueueContract,
    check_queue,
    exercise_queue,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from factflow_infra.protocols import QueueProtocol
    from factflow_infra_testing.contracts import QueueEnvironment
    from factflow_infra_testing.contracts.behaviours import Behaviour

pytestmark = pytest.mark.live

CAPABILITIES = frozenset(
    {
        QueueCapability.SEVER,
        QueueCapability.KILL,
        QueueCapability.INJECT,
        QueueCapability.TOPICS,
        QueueCapability.DURABLE_SUBSCRIPTIONS,
        QueueCapability.DELAY,
        QueueCapability.BATCH,
        QueueCapability.ORDERING_KEY,
        QueueCapability.LARGE_MESSAGES,
        QueueCapability.REMEMBERS_DELIVERIES,
    }
)


class RabbitMqBackend(PlainQueueBackend):
    """Providers on one running server. Each queue type has a virtual host of its own: they share ``/queue/dlq``."""

    def __init__(self, server: Any, queue_type: str) -> None:
        self._server = server
        self._queue_type = queue_type

    async def provider(self) -> QueueProtocol:
        return create_queue_provider(
            self._server.uri + self._queue_type, queue_type=self._queue_type, reconnect_base=0.05, reconnect_cap=0.5
        )

    async def sever(self, provider: QueueProtocol) -> None:
        if (live := transport_of(provider)._live) is not None:
            live.session.abort()

    async def kill(self, provider: QueueProtocol) -> None:
        transport = transport_of(provider)

        async def never(*_: Any) -> None:
            await asyncio.get_running_loop().create_future()

        transport.connect = never
        live = transport._live
        if live is not None:
            live.session.abort()

    async def inject(self, destination: str) -> None:
        connection = await aio_pika.connect(self._server.uri + self._queue_type)
        async with connection:
            channel = await connection.channel(on_return_raises=True)
            message = aio_pika.Message(
                b"foreign", message_id=uuid4().hex, headers={"factflow-wire-timestamp": "no moment"}
            )
            await channel.default_exchange.publish(message, destination)


def transport_of(provider: Any) -> Any:
    return provider._transport


class RestartingBackend(RabbitMqBackend):
    """Providers on a server that nobody else uses."""

    async def stop_broker(self) -> None:
        # Not killed: RabbitMQ forgets quorum queues that were declared just before, and delays wait in such.
        await asyncio.to_thread(self._server.stop)

    async def start_broker(self) -> None:
        await asyncio.to_thread(self._server.start)


class RabbitMqHarness:
    backend: type[RabbitMqBackend] = RabbitMqBackend

    def __init__(self, server: Any, queue_type: str) -> None:
        self._server = server
        self._queue_type = queue_type
        self.capabilities = CAPABILITIES
        if queue_type == "quorum":
            self.capabilities |= {QueueCapability.DELIVERY_COUNT}

    def run(self, check: Callable[[QueueEnvironment], Coroutine[Any, Any, None]]) -> None:
        backend = self.backend(self._server, self._queue_type)
        asyncio.run(exercise_queue(check, backend, capabilities=self.capabilities, pace=LIVE_PACE))


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
class TestRabbitMq(QueueContract):
    @pytest.fixture
    def harness(self, rabbitmq_server: Any, queue_type: str) -> RabbitMqHarness:
        rabbitmq_server.ensure_vhost(queue_type)
        return RabbitMqHarness(rabbitmq_server, queue_type)


class RestartingHarness(RabbitMqHarness):
    backend = RestartingBackend

    def __init__(self, server: Any, queue_type: str) -> None:
        super().__init__(server, queue_type)
        self.capabilities |= {QueueCapability.RESTART}


RESTARTS = [
    row
    for row in QUEUE_BEHAVIOURS
    if QueueCapability.RESTART in row.needs and not row.missing(CAPABILITIES | {QueueCapability.RESTART})
]


@pytest.mark.parametrize("behaviour", RESTARTS, ids=lambda row: row.id)
def test_with_the_broker_restarted(
    rabbitmq_server_to_restart: Any, behaviour: Behaviour[QueueEnvironment, QueueCapability]
) -> None:
    """On classic queues, which forget what is not persistent."""
    rabbitmq_server_to_restart.ensure_vhost("classic")
    check_queue(RestartingHarness(rabbitmq_server_to_restart, "classic"), behaviour)
