"""The queue contract on a real Artemis."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import stompman
from servers.confirms import StompConfirms
from servers.proxy import Proxies, ThroughProxies
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
        QueueCapability.REDELIVERED_FLAG,  # the provider remembers what it held
        QueueCapability.REMEMBERS_DELIVERIES,
    }
)
FAULTS = frozenset({QueueCapability.STALL, QueueCapability.LOSE_CONFIRM, QueueCapability.REFUSE})
EXCEPTIONS = frozenset({"q1-partial-batch-says-which"})
"""The ERROR that refuses one message closes the connection. Whether what is behind it is answered depends on packets (ART-37)."""


class ArtemisBackend(PlainQueueBackend):
    """Providers on one running server."""

    def __init__(self, server: Any) -> None:
        self._server = server

    async def provider(self) -> QueueProtocol:
        return self.connecting(self._server.port)

    def connecting(self, port: int, **settings: Any) -> QueueProtocol:
        return create_queue_provider(self._server.uri_at(port), reconnect_base=0.05, reconnect_cap=0.5, **settings)

    async def sever(self, provider: QueueProtocol) -> None:
        for session in sessions_of(provider):
            session.abort()

    async def kill(self, provider: QueueProtocol) -> None:
        async def never(*_: Any) -> None:
            await asyncio.get_running_loop().create_future()

        transport_of(provider).connect = never
        await self.sever(provider)

    @property
    def _login(self) -> stompman.ConnectionParameters:
        return stompman.ConnectionParameters(
            "127.0.0.1", self._server.port, self._server.user, self._server.quoted_password
        )

    async def inject(self, destination: str) -> None:
        name = destination if destination.startswith("/") else f"/queue/{destination}"
        headers = {"destination-type": "ANYCAST", "persistent": "true", "factflow-wire-timestamp": "no moment"}
        headers["factflow-wire-id"] = uuid4().hex
        async with stompman.Client([self._login]) as client:
            await client.send(b"foreign", name, headers=headers, receipt_timeout=10)


class RestartingBackend(ArtemisBackend):
    """Providers on a server that nobody else uses."""

    async def stop_broker(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def start_broker(self) -> None:
        await asyncio.to_thread(self._server.start)


def transport_of(provider: Any) -> Any:
    return provider._transport


def sessions_of(provider: Any) -> list[Any]:
    """Every connection of ``provider``."""
    transport = transport_of(provider)
    publishing = [transport._session] if transport._session is not None else []
    return publishing + [consumer.session for consumer in transport._consumers]


class ArtemisHarness:
    capabilities = CAPABILITIES
    backend: type[ArtemisBackend] = ArtemisBackend

    def __init__(self, server: Any) -> None:
        self._server = server

    def run(self, check: Callable[[QueueEnvironment], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(exercise_queue(check, self.backend(self._server), capabilities=self.capabilities, pace=LIVE_PACE))


class TestArtemis(QueueContract):
    @pytest.fixture
    def harness(self, artemis_server: Any) -> ArtemisHarness:
        return ArtemisHarness(artemis_server)


class RestartingHarness(ArtemisHarness):
    capabilities = CAPABILITIES | {QueueCapability.RESTART}
    backend = RestartingBackend


@pytest.mark.parametrize(
    "behaviour",
    rows_of({QueueCapability.RESTART}, CAPABILITIES),
    ids=lambda row: row.id,
)
def test_with_the_broker_killed_and_started(
    artemis_server_to_restart: Any, behaviour: Behaviour[QueueEnvironment, QueueCapability]
) -> None:
    check_queue(RestartingHarness(artemis_server_to_restart), behaviour)


class FaultyBackend(ThroughProxies, ArtemisBackend):
    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self._proxies = Proxies(server.port, StompConfirms)

    async def refuse(self, destination: str) -> None:
        """By an address that is full; it is not any more once the provider has had an ERROR."""
        address = f"/queue/{destination}"
        full = '{"maxSizeBytes": 2, "pageSizeBytes": 1, "addressFullMessagePolicy": "FAIL"}'
        async with stompman.Client([self._login]) as client:
            # A message that waits, so that there is something which fills it.
            waits = {"destination-type": "ANYCAST", "AMQ_SCHEDULED_DELAY": "600000"}
            await client.send(b"fills", address, headers=waits, receipt_timeout=10)
            await self._manage(client, "addAddressSettings", address, full)

        async def lift() -> None:
            async with stompman.Client([self._login]) as client:
                await self._manage(client, "removeAddressSettings", address)

        self._proxies.refuse(destination, lift)

    async def _manage(self, client: stompman.Client, operation: str, *arguments: str) -> None:
        asked = {"_AMQ_ResourceName": "broker", "_AMQ_OperationName": operation}
        await client.send(
            json.dumps(arguments).encode(),
            "activemq.management",
            headers=asked,
            add_content_length=False,
            receipt_timeout=10,
        )


class FaultyHarness(ArtemisHarness):
    capabilities = CAPABILITIES | FAULTS
    backend = FaultyBackend


@pytest.mark.parametrize(
    "behaviour", [row for row in rows_of(FAULTS, CAPABILITIES) if row.id not in EXCEPTIONS], ids=lambda row: row.id
)
def test_with_faults(artemis_server: Any, behaviour: Behaviour[QueueEnvironment, QueueCapability]) -> None:
    check_queue(FaultyHarness(artemis_server), behaviour)
