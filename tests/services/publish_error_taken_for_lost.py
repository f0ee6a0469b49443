"""Takes "not confirmed" for "not published" and sends again under a new id: nobody can tell the copy from a new order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.errors import QueueError
from factflow_infra.protocols import QueueMessage

from .support import Database

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation

ORDERS = ("a", "b", "c")


async def broken(process: Process, sent: Database) -> None:
    queue = process.queue("rabbitmq")
    for order in ORDERS:
        if await sent.get(order):
            continue
        while True:
            try:
                await queue.publish("shipments", QueueMessage.from_json({"order": order}))
                break
            except QueueError:
                await asyncio.sleep(0.1)
        await sent.put(order, "sent")


async def mended(process: Process, sent: Database) -> None:
    queue = process.queue("rabbitmq")
    for order in ORDERS:
        if await sent.get(order):
            continue
        while True:
            try:
                await queue.publish("shipments", QueueMessage.from_json({"order": order}, message_id=f"ship-{order}"))
                break
            except QueueError:
                await asyncio.sleep(0.1)
        await sent.put(order, "sent")


async def scenario(sim: Simulation, service) -> None:
    sent, shipped = Database(), Database()
    sim.start(lambda process: service(process, sent), name="shop")
    ids: list[str] = []

    async def collect(message: QueueMessage) -> None:
        if message.message_id not in ids:
            ids.append(message.message_id)
            shipped.inserted.append(message.json()["order"])

    await sim.queue("rabbitmq").subscribe("shipments", collect)
    await sim.drain()
    sim.check.exactly_once_effect(shipped.inserted, expected=ORDERS)
