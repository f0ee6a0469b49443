"""Acks the batch first and publishes its results after: what fails in between has no second chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.protocols import QueueMessage

from .support import ids, numbered

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation


def _result(message: QueueMessage) -> QueueMessage:
    return QueueMessage.from_json({"done": message.message_id}, message_id=f"result-{message.message_id}")


async def broken(process: Process, _: object) -> None:
    queue = process.queue("rabbitmq")
    async with await queue.subscribe_batch("jobs", max_messages=3, max_wait=0.01) as batches:
        async for batch in batches:
            await batches.ack(batch)
            for message in batch:
                await queue.publish("results", _result(message))


async def mended(process: Process, _: object) -> None:
    queue = process.queue("rabbitmq")
    async with await queue.subscribe_batch("jobs", max_messages=3, max_wait=0.01) as batches:
        async for batch in batches:
            for message in batch:
                await queue.publish("results", _result(message))
            await batches.ack(batch)


async def scenario(sim: Simulation, service) -> None:
    results: set[str] = set()

    async def collect(message: QueueMessage) -> None:
        results.add(message.message_id)

    queue = sim.queue("rabbitmq")
    await queue.subscribe("results", collect)
    sim.start(lambda process: service(process, None), name="worker")
    jobs = numbered(3)
    await queue.publish_batch("jobs", jobs)
    await sim.drain()
    dead = sim.dead_letters("jobs")  # where a broker gives up after so many lost connections
    missing = {f"result-{key}" for key in ids(jobs) if key not in dead} - results
    assert not missing, "a job was acked and its result never published"
