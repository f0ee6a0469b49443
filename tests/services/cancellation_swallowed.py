"""Acks in ``finally`` to "always clean up": a service told to terminate amid its work acks what it has not done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .support import Database, ids, numbered

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    queue = process.queue("rabbitmq")
    async with queue, await queue.subscribe_batch("invoices", max_messages=2, max_wait=0.01) as batches:
        async for batch in batches:
            try:
                for message in batch:
                    await database.put(message.message_id, "written")
            finally:
                await batches.ack(batch)


async def mended(process: Process, database: Database) -> None:
    queue = process.queue("rabbitmq")
    async with queue, await queue.subscribe_batch("invoices", max_messages=2, max_wait=0.01) as batches:
        async for batch in batches:
            for message in batch:
                await database.put(message.message_id, "written")
            await batches.ack(batch)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    messages = numbered(4)
    await sim.queue("rabbitmq").publish_batch("invoices", messages)
    await sim.drain()
    assert set(database.rows) == set(ids(messages)), "an invoice was acked and never written"
