"""Writes a temporary file and renames it, without ``fsync``: after a power loss the new name stands for an empty file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from .support import numbered, run_until_terminated, sync_file, sync_folder

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


async def broken(process: Process) -> None:
    def save(name: str, data: bytes) -> None:
        temporary = Path(folder, f"{name}.tmp")
        temporary.write_bytes(data)
        temporary.replace(Path(folder, name))  # atomic for those who look on, and for nobody else

    async def handle(message: QueueMessage) -> None:
        await asyncio.to_thread(save, message.message_id, message.body)

    folder = process.disk()
    queue = process.queue("rabbitmq")
    await queue.subscribe("contracts", handle)
    await run_until_terminated(queue)


async def mended(process: Process) -> None:
    def save(name: str, data: bytes) -> None:
        temporary = Path(folder, f"{name}.tmp")
        with temporary.open("wb") as file:
            file.write(data)
            sync_file(file)
        temporary.replace(Path(folder, name))
        sync_folder(folder)

    async def handle(message: QueueMessage) -> None:
        await asyncio.to_thread(save, message.message_id, message.body)

    folder = process.disk()
    queue = process.queue("rabbitmq")
    await queue.subscribe("contracts", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    folder = sim.disk()
    sim.start(service, name="worker")
    messages = numbered(2)
    await sim.queue("rabbitmq").publish_batch("contracts", messages)
    await sim.drain()
    sim.check.no_loss("contracts")
    for message in messages:
        assert read(folder, message.message_id) == message.body, "an acked contract is not there, or not whole"


def read(folder: str, name: str) -> bytes | None:
    path = Path(folder, name)
    return path.read_bytes() if path.exists() else None
