"""The queue contract on a real RabbitMQ, on quorum and on classic queues."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import pytest
from servers.confirms import AmqpConfirms
from servers.proxy import Proxies
from servers.rows import rows_of

from factflow_infra import create_queue_provider
from factflow_infra_testing.contracts import (
    LIVE_PACE,
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
FAULTS = frozenset({QueueCapability.STALL, QueueCapability.LOSE_CONFIRM})
PUBLISH_SECONDS = 6.0
"""For which a publish waits on a connection that is silent. Long enough for one that is only slow."""


class RabbitMqBackend(PlainQueueBackend):
    """Providers on one running server. Each queue type has a virtual host of its own: they share ``/queue/dlq``."""

    def __init__(self, server: Any, queue_type: str) -> None:
        self._server = server
        self._queue_type = queue_type

    async def provider(self) -> QueueProtocol:
        return self.connecting(self._server.port)

    def connecting(self, port: int, **settings: Any) -> QueueProtocol:
        return create_queue_provider(
            self._server.uri_at(port) + self._queue_type,
            queue_type=self._queue_type,
            reconnect_base=0.05,
            reconnect_cap=0.5,
            **settings,
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


@pytest.mark.parametrize("behaviour", rows_of({QueueCapability.RESTART}, CAPABILITIES), ids=lambda row: row.id)
def test_with_the_broker_restarted(
    rabbitmq_server_to_restart: Any, behaviour: Behaviour[QueueEnvironment, QueueCapability]
) -> None:
    """On classic queues, which forget what is not persistent."""
    rabbitmq_server_to_restart.ensure_vhost("classic")
    check_queue(RestartingHarness(rabbitmq_server_to_restart, "classic"), behaviour)


class FaultyBackend(RabbitMqBackend):
    """Each provider goes through a proxy of its own."""

    def __init__(self, server: Any, queue_type: str) -> None:
        super().__init__(server, queue_type)
        self._proxies = Proxies(server.port, AmqpConfirms)

    async def provider(self) -> QueueProtocol:
        proxy = await self._proxies.open()
        provider = self.connecting(proxy.port, publish_timeout=PUBLISH_SECONDS)
        self._proxies.of[provider] = proxy
        return provider

    async def stall(self, provider: QueueProtocol) -> None:
        self._proxies.of[provider].stall()

    async def lose_confirm(self, destination: str) -> None:
        self._proxies.lose_confirm(destination)

    async def close(self) -> None:
        await self._proxies.close()


class FaultyHarness(RabbitMqHarness):
    backend = FaultyBackend

    def __init__(self, server: Any, queue_type: str) -> None:
        super().__init__(server, queue_type)
        self.capabilities |= FAULTS


@pytest.mark.parametrize(
    ("queue_type", "behaviour"),
    [
        pytest.param(queue_type, row, id=f"{row.id}-{queue_type}")
        for queue_type, faults in (("quorum", FAULTS), ("classic", FAULTS - {QueueCapability.STALL}))
        for row in rows_of(faults, CAPABILITIES)
    ],
)
def test_with_faults(
    rabbitmq_server: Any, queue_type: str, behaviour: Behaviour[QueueEnvironment, QueueCapability]
) -> None:
    rabbitmq_server.ensure_vhost(queue_type)
    check_queue(FaultyHarness(rabbitmq_server, queue_type), behaviour)
