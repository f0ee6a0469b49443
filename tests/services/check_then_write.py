"""Looks whether the row is there, then writes it: two consumers both look first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .support import Database, numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        account = message.json()["account"]
        if await database.get(account) is None:
            await database.put(account, message.message_id)

    queue = process.queue("rabbitmq")
    await queue.subscribe("signups", handle)
    await run_until_terminated(queue)


async def mended(process: Process, database: Database) -> None:
    async def handle(message: QueueMessage) -> None:
        await database.insert(message.json()["account"], message.message_id)

    queue = process.queue("rabbitmq")
    await queue.subscribe("signups", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    database = Database()
    for name in ("worker-1", "worker-2"):
        sim.start(lambda process: service(process, database), name=name)
    messages = [message.from_json({"account": "ada"}, message_id=message.message_id) for message in numbered(2)]
    for message in messages:
        await sim.queue("rabbitmq").publish("signups", message)
        await sim.sleep(1.0)  # far apart: only a fault brings them together
    await sim.drain()
    sim.check.no_loss("signups")
    sim.check.exactly_once_effect(database.inserted, expected=["ada"])
