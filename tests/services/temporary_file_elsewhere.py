"""Syncs a file in a scratch folder and moves it to where it belongs: the name there is not synced, and the file is gone."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .support import numbered, run_until_terminated, sync_file, sync_folder

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation


def put_into_scratch(folder: str, name: str, data: bytes) -> Path:
    for needed in ("scratch", "archive"):
        Path(folder, needed).mkdir(exist_ok=True)
    sync_folder(folder)
    temporary = Path(folder, "scratch", name)
    with temporary.open("wb") as file:
        file.write(data)
        sync_file(file)
    return temporary


async def broken(process: Process) -> None:
    def save(name: str, data: bytes) -> None:
        temporary = put_into_scratch(folder, name, data)
        shutil.move(temporary, Path(folder, "archive", name))  # the content is safe; where it lies is not

    async def handle(message: QueueMessage) -> None:
        await asyncio.to_thread(save, message.message_id, message.body)

    folder = process.disk()
    queue = process.queue("rabbitmq")
    await queue.subscribe("scans", handle)
    await run_until_terminated(queue)


async def mended(process: Process) -> None:
    def save(name: str, data: bytes) -> None:
        temporary = put_into_scratch(folder, name, data)
        temporary.replace(Path(folder, "archive", name))
        sync_folder(f"{folder}/archive")

    async def handle(message: QueueMessage) -> None:
        await asyncio.to_thread(save, message.message_id, message.body)

    folder = process.disk()
    queue = process.queue("rabbitmq")
    await queue.subscribe("scans", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    folder = sim.disk()
    sim.start(service, name="worker")
    messages = numbered(2)
    await sim.queue("rabbitmq").publish_batch("scans", messages)
    await sim.drain()
    sim.check.no_loss("scans")
    for message in messages:
        assert archived(folder, message.message_id) == message.body, "an acked scan is not in the archive"


def archived(folder: str, name: str) -> bytes | None:
    path = Path(folder, "archive", name)
    return path.read_bytes() if path.exists() else None
