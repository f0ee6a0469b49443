"""Takes what comes last for the newest: a redelivered or retried older state overwrites a newer one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.protocols import QueueMessage

from .support import Database, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        await database.put("price", message.json()["version"])

    queue = process.queue("rabbitmq")
    await queue.subscribe("prices", handle)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        version = message.json()["version"]
        if version > int(await database.get("price") or 0):
            await database.put("price", version)

    queue = process.queue("rabbitmq")
    await queue.subscribe("prices", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    sim.start(lambda process: service(process, database), name="worker")
    queue = sim.queue("rabbitmq")
    for version in (1, 2, 3):
        await queue.publish("prices", QueueMessage.from_json({"version": version}, message_id=f"v{version}"))
    await sim.drain()
    sim.check.no_loss("prices")
    assert database.rows["price"] == 3, f"the newest price is 3, the table says {database.rows['price']}"
