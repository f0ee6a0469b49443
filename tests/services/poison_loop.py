"""Puts what fails back at the end of its own queue: a message that can never succeed goes round for ever."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from factflow_infra.protocols import QueueMessage

from .support import Database, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    queue = process.queue("rabbitmq")

    async def handle(message: QueueMessage) -> None:
        try:
            await database.put(message.message_id, json.loads(message.body)["n"])
        except ValueError:
            await queue.publish("readings", message)  # perhaps it works next time

    await queue.subscribe("readings", handle)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    queue = process.queue("rabbitmq")

    async def handle(message: QueueMessage) -> None:
        await database.put(message.message_id, json.loads(message.body)["n"])  # a failure counts, and ends in the DLQ

    await queue.subscribe("readings", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    poison = QueueMessage(b"{not json", message_id="poison", content_type="application/json")
    await sim.queue("rabbitmq").publish_batch("readings", [poison, *numbered(2)])
    await sim.drain()
    sim.check.no_loss("readings")
    sim.check.bounded_redelivery("readings", max_retries=3)
    assert set(database.rows) == {"m0", "m1"}
