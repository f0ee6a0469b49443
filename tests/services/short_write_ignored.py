"""Ignores how many bytes ``os.write`` took: what is synced and acked is the beginning of the data."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .support import numbered, run_until_terminated, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


def save(folder: str, name: str, data: bytes, write: Callable[[int, bytes], object]) -> None:
    temporary = Path(folder, f"{name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(Path(folder, name))
    sync_folder(folder)


async def broken(process: Process) -> None:
    async def handle(message: QueueMessage) -> None:
        await asyncio.to_thread(lambda: save(folder, message.message_id, message.body, os.write))

    folder = process.disk()
    queue = process.queue("rabbitmq")
    await queue.subscribe("images", handle)
    await run_until_terminated(queue)


async def mended(process: Process) -> None:
    def write_all(descriptor: int, data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    async def handle(message: QueueMessage) -> None:
        await asyncio.to_thread(save, folder, message.message_id, message.body, write_all)

    folder = process.disk()
    queue = process.queue("rabbitmq")
    await queue.subscribe("images", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    folder = sim.disk()
    sim.start(service, name="worker")
    messages = numbered(2)
    await sim.queue("rabbitmq").publish_batch("images", messages)
    await sim.drain()
    sim.check.no_loss("images")
    for message in messages:
        assert load(folder, message.message_id) == message.body, "an acked image is not whole"


def load(folder: str, name: str) -> bytes:
    return Path(folder, name).read_bytes()
