"""Writes an object, then publishes that it has, each time under a new id: a second attempt announces it twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.protocols import QueueMessage

from .support import numbered, run_until_terminated

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation

STORAGE = "s3"
COUNT = 2


async def broken(process: Process, _: object) -> None:
    queue, storage = process.queue("rabbitmq"), process.storage(STORAGE)

    async def handle(message: QueueMessage) -> None:
        await storage.write(f"reports/{message.message_id}", message.body)
        await queue.publish("filed", QueueMessage.from_json({"report": message.message_id}))

    await queue.subscribe("reports", handle)
    await run_until_terminated(queue)


async def mended(process: Process, _: object) -> None:
    queue, storage = process.queue("rabbitmq"), process.storage(STORAGE)

    async def handle(message: QueueMessage) -> None:
        await storage.write(f"reports/{message.message_id}", message.body)
        # The same id each time: who counts reports can tell a second announcement from a second report.
        announced = QueueMessage.from_json({"report": message.message_id}, message_id=f"filed-{message.message_id}")
        await queue.publish("filed", announced)

    await queue.subscribe("reports", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    counted: dict[str, str] = {}

    async def count(message: QueueMessage) -> None:
        counted[message.message_id] = message.json()["report"]

    queue = sim.queue("rabbitmq")
    await queue.subscribe("filed", count)
    sim.start(lambda process: service(process, None), name="clerk")
    await queue.publish_batch("reports", numbered(COUNT))
    await sim.drain()
    sim.check.no_loss("reports")
    reports = sorted(counted.values())
    assert len(reports) == len(set(reports)), f"counted twice: {reports}"
    sim.check.storage(STORAGE)
