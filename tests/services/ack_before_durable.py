"""Acks, then saves in the background: a kill in between loses the order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .support import Database, ids, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    saving: set[asyncio.Task[None]] = set()

    async def handle(message: QueueMessage) -> None:
        task = asyncio.create_task(database.put(message.message_id, "saved"))  # answers fast: the work goes on behind
        saving.add(task)
        task.add_done_callback(saving.discard)

    queue = process.queue("rabbitmq")
    await queue.subscribe("orders", handle)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        await database.put(message.message_id, "saved")

    queue = process.queue("rabbitmq")
    await queue.subscribe("orders", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    messages = numbered(3)
    await sim.queue("rabbitmq").publish_batch("orders", messages)
    await sim.drain()
    sim.check.no_loss("orders")
    assert set(database.rows) == set(ids(messages)), "an acked order was never saved"
