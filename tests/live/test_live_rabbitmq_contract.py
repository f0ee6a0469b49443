"""The queue contract on a real RabbitMQ, on quorum and on classic queues."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import pytest
from servers.confirms import AmqpConfirms
from servers.proxy import Proxies, ThroughProxies
from servers.rows import rows_of

from factflow_infra import create_queue_provider
from factflow_infra.errors import PublishRefusedError
from factflow_infra.queue.messages import BatchStatus, QueueMessage
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
FAULTS = frozenset({QueueCapability.STALL, QueueCapability.LOSE_CONFIRM, QueueCapability.REFUSE})
EXCEPTIONS = frozenset(
    {
        # A queue that is full refuses all of them; test_a_batch_that_fills_its_queue is in its place.
        ("quorum", "q1-partial-batch-says-which"),
        ("classic", "q1-partial-batch-says-which"),
        # A quorum queue with nothing in it takes a message whatever its limit (RMQ-18).
        ("quorum", "q3-copy-confirmed-before-ack"),
        ("quorum", "q3-dead-letter-confirmed-before-ack"),
        # The same on both types, and slow.
        ("classic", "q1-publish-on-a-silent-connection-ends"),
    }
)


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


class FaultyBackend(ThroughProxies, RabbitMqBackend):
    def __init__(self, server: Any, queue_type: str) -> None:
        super().__init__(server, queue_type)
        self._proxies = Proxies(server.port, AmqpConfirms)

    async def refuse(self, destination: str) -> None:
        """By a policy under which the queue is full (RMQ-18); it goes once the provider has had its second nack."""
        async with await aio_pika.connect(self._server.uri + self._queue_type) as connection:
            queue = await (await connection.channel()).get_queue(destination)
        ready = queue.declaration_result.message_count
        full = ready if self._queue_type == "classic" else ready - 1
        await asyncio.to_thread(self._server.limit, self._queue_type, destination, full)

        async def lift() -> None:
            await asyncio.to_thread(self._server.limit, self._queue_type, destination, 1_000_000)

        self._proxies.refuse(destination, lift, times=2)


class FaultyHarness(RabbitMqHarness):
    backend = FaultyBackend

    def __init__(self, server: Any, queue_type: str) -> None:
        super().__init__(server, queue_type)
        self.capabilities |= FAULTS


@pytest.mark.parametrize(
    ("queue_type", "behaviour"),
    [
        pytest.param(queue_type, row, id=f"{row.id}-{queue_type}")
        for queue_type in ("quorum", "classic")
        for row in rows_of(FAULTS, CAPABILITIES)
        if (queue_type, row.id) not in EXCEPTIONS
    ],
)
def test_with_faults(
    rabbitmq_server: Any, queue_type: str, behaviour: Behaviour[QueueEnvironment, QueueCapability]
) -> None:
    rabbitmq_server.ensure_vhost(queue_type)
    check_queue(FaultyHarness(rabbitmq_server, queue_type), behaviour)


def test_a_batch_that_fills_its_queue(rabbitmq_server: Any) -> None:
    """``PARTIAL``: the error with each message that was refused, the others accepted and there."""
    rabbitmq_server.ensure_vhost("classic")

    async def check(env: QueueEnvironment) -> None:
        queue, provider = env.name(), await env.provider()
        await provider.publish(queue, QueueMessage(body=b"before"))
        await asyncio.to_thread(rabbitmq_server.limit, "classic", queue, 3)
        result = await provider.publish_batch(queue, [QueueMessage(body=body) for body in (b"1", b"2", b"3", b"4")])
        assert result.status is BatchStatus.PARTIAL
        errors = [item.error for item in result.results]
        assert errors[:2] == [None, None]
        assert all(isinstance(error, PublishRefusedError) and error.retryable for error in errors[2:])
        assert [message.body for message in await env.left_in(queue)] == [b"before", b"1", b"2"]

    RabbitMqHarness(rabbitmq_server, "classic").run(check)


def test_a_quorum_queue_goes_on_refusing_when_its_limit_is_gone(rabbitmq_server: Any) -> None:
    """RMQ-61: on a channel that it has told that it is full. Where the limit is only raised, it takes messages again."""
    rabbitmq_server.ensure_vhost("quorum")

    async def check(env: QueueEnvironment) -> None:
        for lift, taken in ((partial(rabbitmq_server.limit, length=1000), True), (rabbitmq_server.unlimit, False)):
            async with await aio_pika.connect(rabbitmq_server.uri + "quorum") as connection:
                told, other = await connection.channel(), await connection.channel()
                queue = await told.declare_queue(env.name(), durable=True, arguments={"x-queue-type": "quorum"})

                async def is_taken(channel: Any, name: str = queue.name) -> bool:
                    try:
                        await channel.default_exchange.publish(aio_pika.Message(b"x", delivery_mode=2), name)
                    except aio_pika.exceptions.DeliveryError:
                        return False
                    return True

                assert await is_taken(told)
                await asyncio.to_thread(rabbitmq_server.limit, "quorum", queue.name, 0)
                assert not await is_taken(told)
                await asyncio.to_thread(lift, "quorum", queue.name)
                assert await is_taken(told) is taken
                assert await is_taken(other)
                await queue.purge()
                assert await is_taken(told) is taken

    RabbitMqHarness(rabbitmq_server, "quorum").run(check)


def test_a_classic_queue_that_is_too_long_for_a_new_limit_drops_its_head(rabbitmq_server: Any) -> None:
    """RMQ-62: though what is published is refused. A quorum queue keeps it (above, and the rows of refusals)."""
    rabbitmq_server.ensure_vhost("classic")

    async def check(env: QueueEnvironment) -> None:
        queue, provider = env.name(), await env.provider()
        await provider.publish_batch(queue, [QueueMessage(body=body) for body in (b"1", b"2", b"3")])
        await asyncio.to_thread(rabbitmq_server.limit, "classic", queue, 1)
        with pytest.raises(PublishRefusedError):
            await provider.publish(queue, QueueMessage(body=b"4"))
        assert [message.body for message in await env.left_in(queue)] == [b"3"]

    RabbitMqHarness(rabbitmq_server, "classic").run(check)
