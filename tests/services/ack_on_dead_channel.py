"""Own aio-pika code that acks later, in a task: acked on a channel that has died, the task ends, and with it all acking."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import aio_pika
from aio_pika.exceptions import ChannelInvalidStateError

from .own_client import LOST
from .support import Database, ids, numbered

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from factflow_infra_testing import Process, Simulation

TIERS = ("wire",)


async def consume(uri: str, rows: Database, ack) -> None:
    """Store what comes, and ack once a second what is stored."""
    stored: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def store(message: AbstractIncomingMessage) -> None:
        await rows.insert(message.message_id or "")
        stored.put_nowait(message)

    async def ack_what_is_stored() -> None:
        while True:
            await asyncio.sleep(1)
            while not stored.empty():
                await ack(stored.get_nowait())

    acking = asyncio.create_task(ack_what_is_stored())
    connection = None
    while connection is None:
        try:
            connection = await aio_pika.connect_robust(uri, timeout=10)
        except LOST:
            await asyncio.sleep(1)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=3)
    queue = await channel.declare_queue("documents", durable=True, arguments={"x-queue-type": "quorum"})
    await queue.consume(store)
    try:
        await asyncio.Event().wait()
    finally:
        acking.cancel()


async def broken(_: Process, uri: str, rows: Database) -> None:
    await consume(uri, rows, lambda message: message.ack())


async def mended(_: Process, uri: str, rows: Database) -> None:
    async def ack(message: AbstractIncomingMessage) -> None:
        with suppress(ChannelInvalidStateError):  # it was taken back with its channel, and comes again
            await message.ack()

    await consume(uri, rows, ack)


async def scenario(sim: Simulation, service) -> None:
    rows = Database()
    uri = sim.uri("rabbitmq")
    sim.start(lambda process: service(process, uri, rows), name="archive")
    for document in numbered(5):
        await sim.queue("rabbitmq").publish("documents", document)
        await sim.sleep(0.3)
    await sim.drain()
    sim.check.exactly_once_effect(rows.inserted, expected=ids(numbered(5)))
