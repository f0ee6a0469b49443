"""The queue contract on a real Pulsar, with Shared and with Key_Shared subscriptions."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pulsar
import pulsar.asyncio
import pytest
from servers.confirms import PulsarConfirms
from servers.proxy import Proxies, ThroughProxies
from servers.rows import rows_of

from factflow_infra import create_queue_provider
from factflow_infra.queue.naming import PulsarNamingStrategy
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
    }
)
"""Without ``DELIVERY_COUNT``: the broker counts no delivery that a lost consumer had (PUL-10)."""
FAULTS = frozenset({QueueCapability.STALL, QueueCapability.LOSE_CONFIRM})


class PulsarBackend(PlainQueueBackend):
    """Providers on one running server. Each kind of subscription has a namespace of its own: they share ``/queue/dlq``."""

    def __init__(self, server: Any, subscription_type: str) -> None:
        self._server = server
        self._namespace = subscription_type.replace("_", "-")
        self._subscription_type = subscription_type

    async def provider(self) -> QueueProtocol:
        return self.connecting(self._server.port)

    def connecting(self, port: int, **settings: Any) -> QueueProtocol:
        return create_queue_provider(
            f"pulsar://127.0.0.1:{port}/public/{self._namespace}",
            subscription_type=self._subscription_type,
            reconnect_base=0.05,
            reconnect_cap=0.5,
            **settings,
        )

    async def sever(self, provider: QueueProtocol) -> None:
        if (live := transport_of(provider)._live) is not None:
            live.session.lose("cut off by the test")

    async def kill(self, provider: QueueProtocol) -> None:
        async def never(*_: Any) -> None:
            await asyncio.get_running_loop().create_future()

        transport_of(provider).connect = never
        await self.sever(provider)

    async def inject(self, destination: str) -> None:
        naming = PulsarNamingStrategy(namespace=self._namespace)
        client = pulsar.asyncio.Client(self._server.uri, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull))
        producer = await client.create_producer(naming.encode(naming.destination(destination)), batching_enabled=False)
        await producer.send(b"foreign", {"factflow-wire-timestamp": "no moment", "factflow-wire-id": uuid4().hex})
        await client.close()


def transport_of(provider: Any) -> Any:
    return provider._transport


class PulsarHarness:
    capabilities = CAPABILITIES
    backend: type[PulsarBackend] = PulsarBackend

    def __init__(self, server: Any, subscription_type: str) -> None:
        self._backend = self.backend(server, subscription_type)

    def run(self, check: Callable[[QueueEnvironment], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(exercise_queue(check, self._backend, capabilities=self.capabilities, pace=LIVE_PACE))


@pytest.mark.parametrize("subscription_type", ["shared", "key_shared"])
class TestPulsar(QueueContract):
    @pytest.fixture
    def harness(self, request: pytest.FixtureRequest, pulsar_server: Any, subscription_type: str) -> PulsarHarness:
        if subscription_type == "key_shared" and "prefetch-leaves-the-rest-to-others" in request.node.name:
            pytest.skip("Key_Shared keeps for a stuck consumer what falls to it by its hash (PUL-19)")
        pulsar_server.ensure_namespace(f"public/{subscription_type.replace('_', '-')}")
        return PulsarHarness(pulsar_server, subscription_type)


class FaultyBackend(ThroughProxies, PulsarBackend):
    publish_timeout = 8.0

    def __init__(self, server: Any, subscription_type: str) -> None:
        super().__init__(server, subscription_type)
        # A lost answer alone is made good by the client, which connects and sends again: so it is kept from that for longer
        # than a session lives without a connection.
        self._proxies = Proxies(server.port, PulsarConfirms, away=6.0)


class FaultyHarness(PulsarHarness):
    capabilities = CAPABILITIES | FAULTS
    backend = FaultyBackend


@pytest.mark.parametrize("behaviour", rows_of(FAULTS, CAPABILITIES), ids=lambda row: row.id)
def test_with_faults(pulsar_server: Any, behaviour: Behaviour[QueueEnvironment, QueueCapability]) -> None:
    pulsar_server.ensure_namespace("public/shared")
    check_queue(FaultyHarness(pulsar_server, "shared"), behaviour)


RESTARTS = [
    row
    for row in rows_of({QueueCapability.RESTART}, CAPABILITIES)
    if os.environ.get("FACTFLOW_LIVE_ALL")
    or row.id
    in {
        "q1-accepted-survives-a-broker-restart",
        "q2-broker-restart-brings-the-message-again",
        "q3-waiting-retry-survives-a-broker-restart",
    }
]
"""A start takes about 10 s, and all twelve over three minutes: these three unless ``FACTFLOW_LIVE_ALL`` is set."""


class RestartingBackend(PulsarBackend):
    """Providers on a server that nobody else uses."""

    async def provider(self) -> QueueProtocol:
        return self.connecting(self._server.port, connect_timeout=25.0)

    async def stop_broker(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def start_broker(self) -> None:
        await asyncio.to_thread(self._server.start)


class RestartingHarness(PulsarHarness):
    capabilities = CAPABILITIES | {QueueCapability.RESTART}
    backend = RestartingBackend


@pytest.mark.parametrize("behaviour", RESTARTS, ids=lambda row: row.id)
def test_with_the_broker_killed_and_started(
    pulsar_server_to_restart: Any, behaviour: Behaviour[QueueEnvironment, QueueCapability]
) -> None:
    pulsar_server_to_restart.ensure_namespace("public/shared")
    check_queue(RestartingHarness(pulsar_server_to_restart, "shared"), behaviour)
