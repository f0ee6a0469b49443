"""Adds 1 a message: delivered twice, counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .support import Database, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    async def handle(_: QueueMessage) -> None:
        await database.increment("visits")

    queue = process.queue("rabbitmq")
    await queue.subscribe("visits", handle)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        await database.increment("visits", once=message.message_id)

    queue = process.queue("rabbitmq")
    await queue.subscribe("visits", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    await sim.queue("rabbitmq").publish_batch("visits", numbered(3))
    await sim.drain()
    assert database.rows["visits"] == 3, f"3 visits were counted as {database.rows['visits']}"
