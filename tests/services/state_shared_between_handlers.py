"""Keeps "the current message" on the service: with two handlers at once, one saves under the other's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .support import Database, ids, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    current: dict[str, QueueMessage] = {}

    async def handle(message: QueueMessage) -> None:
        current["message"] = message
        await database.get("rates")
        await database.put(current["message"].message_id, "priced")

    queue = process.queue("rabbitmq")
    await queue.subscribe("quotes", handle, concurrency=2)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        await database.get("rates")
        await database.put(message.message_id, "priced")

    queue = process.queue("rabbitmq")
    await queue.subscribe("quotes", handle, concurrency=2)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    messages = numbered(3)
    for message in messages:
        await sim.queue("rabbitmq").publish("quotes", message)
        await sim.sleep(1.0)  # far apart: only a fault brings them together
    await sim.drain()
    assert set(database.rows) == set(ids(messages)), "one quote was saved under another's name"
