"""Trusts what an index says of a file beside it, without comparing checksums: the two change one after the other."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from factflow_infra.errors import ObjectNotFoundError
from factflow_infra.protocols import MessageStatus, QueueMessage

from .support import run_until_terminated

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation


async def keep_prices(process: Process) -> None:
    """The other side, which is as it is: first the index, then the file."""
    storage = process.storage("filesystem")

    async def handle(message: QueueMessage) -> None:
        checksum = hashlib.sha256(message.body).hexdigest()
        await storage.write("prices.index", checksum.encode(), {"version": message.message_id, "sha256": checksum})
        await storage.write("prices", message.body)

    queue = process.queue("rabbitmq")
    await queue.subscribe("prices", handle)
    await run_until_terminated(queue)


async def broken(process: Process, quoted: list[tuple[str, bytes]]) -> None:
    storage = process.storage("filesystem")

    async def handle(_: QueueMessage) -> None:
        index = await storage.stat("prices.index")
        quoted.append((index.metadata["version"], await storage.read("prices")))

    queue = process.queue("rabbitmq")
    await queue.subscribe("quotes", handle)
    await run_until_terminated(queue)


async def mended(process: Process, quoted: list[tuple[str, bytes]]) -> None:
    storage = process.storage("filesystem")

    async def handle(_: QueueMessage) -> MessageStatus | None:
        try:
            index: dict[str, Any] = dict((await storage.stat("prices.index")).metadata)
            prices = await storage.read("prices")
        except ObjectNotFoundError:
            return MessageStatus.RETRY
        if hashlib.sha256(prices).hexdigest() != index["sha256"]:
            return MessageStatus.RETRY  # they are being changed: look again later
        quoted.append((index["version"], prices))
        return None

    queue = process.queue("rabbitmq")
    await queue.subscribe("quotes", handle)
    await run_until_terminated(queue)


async def scenario(sim: Simulation, service) -> None:
    quoted: list[tuple[str, bytes]] = []
    sim.start(keep_prices, name="keeper")
    queue = sim.queue("rabbitmq")
    for version in range(3):
        body = f"prices of {version}".encode()
        await queue.publish("prices", QueueMessage(body, message_id=f"v{version}"))
        await asyncio.sleep(5.0)
        if version == 0:
            sim.start(lambda process: service(process, quoted), name="clerk")
        await queue.publish("quotes", QueueMessage(b"", message_id=f"q{version}"))
    await sim.drain()
    sim.check.no_loss("prices")
    sim.check.no_loss("quotes")
    for version, prices in quoted:
        assert prices == f"prices of {version[1:]}".encode(), "a quote with the prices of another version"
