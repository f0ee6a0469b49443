"""Takes messages into a queue of its own and acks at once: what waits there when the service ends is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .support import Database, ids, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    waiting: asyncio.Queue[QueueMessage] = asyncio.Queue()

    async def work() -> None:
        while True:
            message = await waiting.get()
            await database.put(message.message_id, "archived")

    worker = asyncio.create_task(work())
    queue = process.queue("rabbitmq")
    await queue.subscribe("documents", waiting.put)
    try:
        await run_until_terminated(queue)
    finally:
        worker.cancel()


async def mended(process: Process, database: Database) -> None:
    waiting: asyncio.Queue[tuple[QueueMessage, asyncio.Future[None]]] = asyncio.Queue()

    async def work() -> None:
        while True:
            message, done = await waiting.get()
            await database.put(message.message_id, "archived")
            if not done.done():
                done.set_result(None)

    async def handle(message: QueueMessage) -> None:
        done = asyncio.get_running_loop().create_future()
        await waiting.put((message, done))
        await done  # the ack waits for the work

    worker = asyncio.create_task(work())
    queue = process.queue("rabbitmq")
    await queue.subscribe("documents", handle)
    try:
        await run_until_terminated(queue)
    finally:
        worker.cancel()


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    messages = numbered(3)
    await sim.queue("rabbitmq").publish_batch("documents", messages)
    await sim.drain()
    assert set(database.rows) == set(ids(messages)), "a document was acked and never archived"
