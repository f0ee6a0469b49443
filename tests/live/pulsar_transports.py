"""Pulsar transports for the live tests, and what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pulsar
import pulsar.asyncio

from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.naming import PulsarNamingStrategy
from factflow_infra.queue.pulsar.client import PulsarOptions
from factflow_infra.queue.pulsar.transport import PulsarTransport
from factflow_infra.queue.transport import Address, Destination, DestinationKind, Envelope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 20.0
QUIET = 0.7
NAMING = PulsarNamingStrategy()


def queue(name: str | None = None) -> Address:
    name = name or f"q-{uuid4().hex[:10]}"
    return Address(Destination(DestinationKind.QUEUE, name, name))


def topic(name: str, subscription: str | None = None, *, durable: bool = True) -> Address:
    return Address(Destination(DestinationKind.TOPIC, name, f"/topic/{name}"), subscription, durable)


def unique_topic() -> str:
    return f"t-{uuid4().hex[:10]}"


class Client:
    """A transport, and what happened to it."""

    def __init__(self, server: Any, **options: Any) -> None:
        self.transport = PulsarTransport(PulsarOptions(service_url=server.uri, **options))
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> Client:
        self.lost = asyncio.get_running_loop().create_future()
        await self.transport.connect(self.lost.set_result)
        return self

    async def publish(self, address: Address, *bodies: bytes, delay: float = 0.0) -> None:
        for body in bodies:
            await self.transport.publish(address, Envelope(QueueMessage(body)), delay=delay)

    async def consume(self, address: Address, prefetch: int = 100, concurrency: int = 1) -> Taking:
        taking = Taking()
        taking.consumer = await self.transport.consume(
            address,
            prefetch=prefetch,
            concurrency=concurrency,
            on_delivery=taking.queue.put_nowait,
            on_cancelled=taking.ended,
        )
        return taking

    @property
    def session(self) -> Any:
        live = self.transport._live
        assert live is not None
        return live.session


class Taking:
    """A consumer and what it got."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.consumer: Any = None

    def ended(self, error: Exception | None) -> None:
        if not self.cancelled.done():
            self.cancelled.set_result(error)

    async def next(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self.queue.get()

    async def acked(self, count: int) -> list[bytes]:
        bodies = []
        for _ in range(count):
            delivery = await self.next()
            await delivery.ack()
            bodies.append(delivery.envelope.message.body)
        return bodies

    async def nothing(self) -> None:
        await asyncio.sleep(QUIET)
        assert self.queue.empty()


@contextlib.asynccontextmanager
async def foreign(server: Any) -> AsyncIterator[Any]:
    """A client of somebody else's."""
    client = pulsar.asyncio.Client(server.uri, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull))
    yield client
    await client.close()


def cut_connections(server: Any) -> int:
    """Shut down each TCP connection of this process to ``server``, as a network may; the client connects again."""
    cut = 0
    for one in [*Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(one.name))) as end:
            if end.getpeername()[1:2] == (server.port,):
                end.shutdown(socket.SHUT_RDWR)
                cut += 1
    return cut
