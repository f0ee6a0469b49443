"""Own aio-pika code without publisher confirms: ``publish`` returns when the bytes are written, and a reset loses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aio_pika

from .own_client import connected, until_it_works
from .support import Database

if TYPE_CHECKING:
    from factflow_infra.protocols import QueueMessage
    from factflow_infra_testing import Process, Simulation

TIERS = ("wire",)
READINGS = ("1", "2", "3")


async def meter(uri: str, sent: Database, *, confirms: bool) -> None:
    async def send_the_rest() -> None:
        async with connected(uri, publisher_confirms=confirms) as channel:
            await channel.declare_queue("readings", durable=True, arguments={"x-queue-type": "quorum"})
            for reading in READINGS:
                if not await sent.get(reading):
                    message = aio_pika.Message(reading.encode(), message_id=reading, delivery_mode=2)
                    await channel.default_exchange.publish(message, "readings", timeout=10)
                    await sent.put(reading, "sent")

    await until_it_works(send_the_rest)


async def broken(_: Process, uri: str, sent: Database) -> None:
    await meter(uri, sent, confirms=False)


async def mended(_: Process, uri: str, sent: Database) -> None:
    await meter(uri, sent, confirms=True)


async def scenario(sim: Simulation, service) -> None:
    sent, billed = Database(), Database()
    uri = sim.uri("rabbitmq")
    sim.start(lambda process: service(process, uri, sent), name="meter")

    async def bill(message: QueueMessage) -> None:
        await billed.insert(message.message_id)

    await sim.queue("rabbitmq").subscribe("readings", bill)
    await sim.drain()
    sim.check.exactly_once_effect(billed.inserted, expected=READINGS)
