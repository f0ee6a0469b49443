"""Looks for a duplicate only where the broker sets the redelivered flag: the copy that a publisher sends again has none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.errors import QueueError

from .support import Database, ids, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        if message.redelivered and await database.get(message.message_id):
            return
        await database.put(message.message_id, "shipped")

    queue = process.queue("rabbitmq")
    await queue.subscribe("parcels", handle)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        await database.insert(message.message_id, "shipped")

    queue = process.queue("rabbitmq")
    await queue.subscribe("parcels", handle)
    await run_until_terminated(queue)


async def publisher(process: Process) -> None:
    """As a good publisher does: sends again what was not confirmed, under the same id."""
    queue = process.queue("rabbitmq")
    for message in numbered(3):
        while True:
            try:
                await queue.publish("parcels", message)
                break
            except QueueError:
                await asyncio.sleep(0.1)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    sim.start(publisher, name="publisher")
    await sim.drain()
    sim.check.exactly_once_effect(database.inserted, expected=ids(numbered(3)))
