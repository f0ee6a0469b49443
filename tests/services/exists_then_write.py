"""Looks whether the object exists, then writes it: two consumers both look first, and both take the account for theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.errors import PreconditionFailedError

from .support import Database, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation

STORAGE = "s3"


async def broken(process: Process, database: Database) -> None:
    storage = process.storage(STORAGE)

    async def handle(message: QueueMessage) -> None:
        key = f"accounts/{message.json()['account']}"
        if not await storage.exists(key):
            await storage.write(key, message.message_id.encode())
            await database.insert(message.message_id)

    queue = process.queue("rabbitmq")
    await queue.subscribe("signups", handle)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    storage = process.storage(STORAGE)

    async def handle(message: QueueMessage) -> None:
        key = f"accounts/{message.json()['account']}"
        try:
            await storage.write(key, message.message_id.encode(), if_absent=True)
        except PreconditionFailedError:
            if await storage.read(key) != message.message_id.encode():  # else it is ours, of an earlier attempt
                return
        await database.insert(message.message_id)

    queue = process.queue("rabbitmq")
    await queue.subscribe("signups", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    for name in ("worker-1", "worker-2"):
        sim.start(lambda process: service(process, database), name=name)
    for message in numbered(2):
        await sim.queue("rabbitmq").publish(
            "signups", message.from_json({"account": "ada"}, message_id=message.message_id)
        )
        await sim.sleep(1.0)  # far apart: only a fault brings them together
    await sim.drain()
    sim.check.no_loss("signups")
    owners = sorted(database.rows)
    assert len(owners) < 2, f"the account was given to {owners}"
    sim.check.storage(STORAGE)
