"""A transport on a real broker, and what happens to it: what the live tests of each broker's transport begin with."""

from __future__ import annotations

import asyncio
from typing import Any, Self
from uuid import uuid4

from factflow_infra.queue.messages import QueueMessage
from factflow_infra.queue.transport import Address, Destination, DestinationKind, Envelope

PATIENCE = 20.0
QUIET = 0.7


def queue(name: str | None = None) -> Address:
    name = name or f"q-{uuid4().hex[:10]}"
    return Address(Destination(DestinationKind.QUEUE, name, name))


def topic(name: str, subscription: str | None = None, *, durable: bool = True) -> Address:
    return Address(Destination(DestinationKind.TOPIC, name, f"/topic/{name}"), subscription, durable)


def unique_topic() -> str:
    return f"t-{uuid4().hex[:10]}"


class TransportClient:
    """A transport, and what happened to it."""

    TELLS_ONCE = True
    """Whether a consumer's end must not be told twice."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> Self:
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
            on_cancelled=taking.cancelled.set_result if self.TELLS_ONCE else taking.ended,
        )
        return taking


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

    async def quiet(self, seconds: float = 0.3) -> int:
        """How many have come, and wait, once none has come for ``seconds``."""
        while True:
            count = self.queue.qsize()
            await asyncio.sleep(seconds)
            if self.queue.qsize() == count:
                return count

    async def nothing(self, seconds: float = QUIET) -> None:
        """Nothing comes."""
        assert await self.quiet(seconds) == 0
