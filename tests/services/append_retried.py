"""Appends a line to a journal for each delivery: what comes again, after a kill or an error, is there twice, or half."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from .support import numbered, run_until_terminated, sync_file, sync_folder

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process) -> None:
    def append(line: str) -> None:
        with Path(folder, "journal").open("a") as file:
            file.write(f"{line}\n")
            sync_file(file)
        sync_folder(folder)

    async def handle(message: QueueMessage) -> None:
        await asyncio.to_thread(append, message.message_id)

    folder = process.disk()
    queue = process.queue("rabbitmq")
    await queue.subscribe("bookings", handle)
    await run_until_terminated(queue)


async def mended(process: Process) -> None:
    """A journal of one object an entry: writing it again changes nothing, and no half of one is ever there."""
    storage = process.storage("filesystem")

    async def handle(message: QueueMessage) -> None:
        await storage.write(f"journal/{message.message_id}", message.message_id.encode())

    queue = process.queue("rabbitmq")
    await queue.subscribe("bookings", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    folder, storage = sim.disk(), sim.storage("filesystem")
    sim.start(service, name="worker")
    messages = numbered(2)
    await sim.queue("rabbitmq").publish_batch("bookings", messages)
    await sim.drain()
    sim.check.no_loss("bookings")
    entries = [(await storage.read(key)).decode() async for key in storage.list("journal/")] or lines(folder)
    sim.check.exactly_once_effect(entries, expected=[message.message_id for message in messages])


def lines(folder: str) -> list[str]:
    journal = Path(folder, "journal")
    return journal.read_text().splitlines() if journal.exists() else []
