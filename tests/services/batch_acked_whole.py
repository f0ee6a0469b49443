"""Logs what fails, goes on, and acks the whole batch: the failed ones are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.errors import QueueError
from factflow_infra.protocols import QueueMessage

from .support import ids, numbered

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation


def _enriched(message: QueueMessage) -> QueueMessage:
    return QueueMessage.from_json({"enriched": message.json()}, message_id=f"enriched-{message.message_id}")


async def broken(process: Process, _: object) -> None:
    queue = process.queue("rabbitmq")
    async with queue, await queue.subscribe_batch("facts", max_messages=3, max_wait=0.01) as batches:
        async for batch in batches:
            for message in batch:
                try:
                    await queue.publish("enriched", _enriched(message))
                except QueueError:
                    process.history.note(
                        process.time(), process.name, "log", "warning", message.message_id, "not enriched"
                    )
            await batches.ack(batch)


async def mended(process: Process, _: object) -> None:
    queue = process.queue("rabbitmq")
    async with queue, await queue.subscribe_batch("facts", max_messages=3, max_wait=0.01) as batches:
        async for batch in batches:
            done: list[QueueMessage] = []
            for message in batch:
                try:
                    await queue.publish("enriched", _enriched(message))
                    done.append(message)
                except QueueError:
                    await batches.retry(message)
            await batches.ack(done)


async def scenario(sim: Simulation, service) -> None:
    enriched: set[str] = set()

    async def collect(message: QueueMessage) -> None:
        enriched.add(message.message_id)

    queue = sim.queue("rabbitmq")
    await queue.subscribe("enriched", collect)
    sim.start(lambda process: service(process, None), name="worker")
    facts = numbered(3)
    await queue.publish_batch("facts", facts)
    await sim.drain()
    dead = sim.dead_letters("facts")
    missing = {f"enriched-{key}" for key in ids(facts) if key not in dead} - enriched
    assert not missing, f"acked, and never enriched: {sorted(missing)}"
