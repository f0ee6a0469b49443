"""Remembers what it has seen in a set of its own: a restart forgets, and the redelivery is billed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .support import Database, ids, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    seen: set[str] = set()

    async def handle(message: QueueMessage) -> None:
        if message.message_id not in seen:
            await database.append(message.message_id)
            seen.add(message.message_id)

    queue = process.queue("rabbitmq")
    await queue.subscribe("payments", handle)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        await database.insert(message.message_id)

    queue = process.queue("rabbitmq")
    await queue.subscribe("payments", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    messages = numbered(3)
    await sim.queue("rabbitmq").publish_batch("payments", messages)
    await sim.drain()
    sim.check.no_loss("payments")
    sim.check.exactly_once_effect(database.inserted, expected=ids(messages))
