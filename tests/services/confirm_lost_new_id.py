"""Own aio-pika code that sends again, under a new id, what was not confirmed: a confirm lost by a reset makes two orders."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import aio_pika

from .own_client import connected, until_it_works
from .support import Database

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation

TIERS = ("wire",)
ORDERS = ("a", "b", "c")


async def shop(uri: str, sent: Database, message_id) -> None:
    async def send_the_rest() -> None:
        async with connected(uri) as channel:
            await channel.declare_queue("shipments", durable=True, arguments={"x-queue-type": "quorum"})
            for order in ORDERS:
                if not await sent.get(order):
                    message = aio_pika.Message(order.encode(), message_id=message_id(order), delivery_mode=2)
                    await channel.default_exchange.publish(message, "shipments", timeout=10)
                    await sent.put(order, "sent")

    await until_it_works(send_the_rest)


async def broken(_: Process, uri: str, sent: Database) -> None:
    await shop(uri, sent, lambda _: uuid4().hex)


async def mended(_: Process, uri: str, sent: Database) -> None:
    await shop(uri, sent, lambda order: f"ship-{order}")


async def scenario(sim: Simulation, service) -> None:
    sent, shipped = Database(), Database()
    uri = sim.uri("rabbitmq")
    sim.start(lambda process: service(process, uri, sent), name="shop")

    async def collect(message: QueueMessage) -> None:
        if await shipped.insert(message.message_id):
            await shipped.append(f"order {message.body.decode()}")

    await sim.queue("rabbitmq").subscribe("shipments", collect)
    await sim.drain()
    orders = [row for row in shipped.inserted if row.startswith("order ")]
    sim.check.exactly_once_effect(orders, expected=[f"order {order}" for order in ORDERS])
