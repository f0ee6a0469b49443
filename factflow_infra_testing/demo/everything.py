"""A service that uses everything a service can use: handlers, batches, a topic, delays, both storages, ids, clocks, chance.

``factflow-sim verify`` compares its runs: whatever is not the same from run to run should show here.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from factflow_infra.protocols import ErrorHandling, MessageStatus, QueueMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from factflow_infra_testing.simulation.processes import Process
    from factflow_infra_testing.simulation.simulation import Simulation

_HANDLING = ErrorHandling(max_retries=2, retry_delay_seconds=1.0)


def everything(profile: str) -> Callable[[Simulation], Awaitable[None]]:
    """A run in which two such services and a third that takes batches work on a few messages, one of them never handled."""

    async def worker(process: Process) -> None:
        queue, files, objects = process.queue(profile), process.storage("filesystem"), process.storage("s3")

        async def handle(message: QueueMessage) -> MessageStatus | None:
            await asyncio.sleep(random.random() / 10)  # noqa: S311 - chance is what it is here for
            if message.message_id == "bad":
                return MessageStatus.RETRY
            note = {"life": process.lives, "at": datetime.now(UTC).isoformat(), "posix": time.time()}
            await asyncio.gather(
                files.write(f"files/{message.message_id}", message.body, note),
                objects.write(f"objects/{message.message_id}", message.body, note),
            )
            await queue.publish("/topic/news", QueueMessage(message.body, headers={"id": uuid.uuid4().hex}))
            return None

        await queue.subscribe("orders", handle, concurrency=2, error_handling=_HANDLING)
        try:
            await asyncio.Event().wait()
        finally:
            await queue.stop(timeout=2)

    async def batcher(process: Process) -> None:
        queue = process.queue(profile)
        async with await queue.subscribe_batch(
            "/topic/news", max_messages=2, max_wait=0.5, subscription="batcher", error_handling=_HANDLING
        ) as batches:
            async for batch in batches:
                await asyncio.sleep(0.01)
                await batches.ack(batch)

    async def scenario(sim: Simulation) -> None:
        sim.start(batcher, name="batcher", host="other")
        await sim.sleep(1)
        sim.start(worker, name="worker")
        sim.start(worker, name="twin")
        queue = sim.queue(profile)
        for name in ("a", "b", "bad", "c"):
            await queue.publish("orders", QueueMessage(name.encode(), message_id=name))
            await sim.sleep(0.2)
        await queue.publish("orders", QueueMessage(b"late"), delay=3)
        await sim.drain()
        for kind in ("filesystem", "s3"):
            assert len([key async for key in sim.storage(kind).list()]) == 4

    return scenario
