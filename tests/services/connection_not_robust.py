"""Own aio-pika code on ``connect`` in place of ``connect_robust``: after a lost connection the process lives on, deaf."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aio_pika

from .own_client import LOST
from .support import Database, ids, numbered

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

    from factflow_infra_testing import Process, Simulation

TIERS = ("wire",)


async def consume(connect, uri: str, rows: Database) -> None:
    async def store(message: AbstractIncomingMessage) -> None:
        async with message.process(requeue=True, ignore_processed=True):
            await rows.insert(message.message_id or "")

    while True:
        try:
            connection = await connect(uri, timeout=10)
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=5)
            queue = await channel.declare_queue("letters", durable=True, arguments={"x-queue-type": "quorum"})
            await queue.consume(store)
            break
        except LOST:
            await asyncio.sleep(1)
    await asyncio.Event().wait()


async def broken(_: Process, uri: str, rows: Database) -> None:
    await consume(aio_pika.connect, uri, rows)


async def mended(_: Process, uri: str, rows: Database) -> None:
    await consume(aio_pika.connect_robust, uri, rows)


async def scenario(sim: Simulation, service) -> None:
    rows = Database()
    uri = sim.uri("rabbitmq")
    sim.start(lambda process: service(process, uri, rows), name="office")
    await sim.queue("rabbitmq").publish_batch("letters", numbered(3))
    await sim.drain()
    sim.check.exactly_once_effect(rows.inserted, expected=ids(numbered(3)))
