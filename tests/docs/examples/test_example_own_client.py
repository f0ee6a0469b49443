import asyncio

import aio_pika
import pytest
from factflow_infra.protocols import QueueMessage
from factflow_infra_testing import Faults, Process, Simulation, simulate


class Shelf:
    """Stands for a database on another machine."""

    def __init__(self) -> None:
        self.titles: list[str] = []


async def librarian(uri: str, shelf: Shelf) -> None:
    """AMQP by hand: nothing of this project is in it."""
    connection = await aio_pika.connect_robust(uri, timeout=10)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=4)
        queue = await channel.declare_queue("books", durable=True, arguments={"x-queue-type": "quorum"})
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process(requeue=True):
                    shelf.titles.append(message.body.decode())


@simulate(max_examples=30)
async def test_aio_pika_by_hand(sim: Simulation) -> None:
    uri, shelf = sim.uri("rabbitmq"), Shelf()

    async def main(_: Process) -> None:
        await librarian(uri, shelf)

    sim.start(main, name="librarian")
    await sim.queue("rabbitmq").publish("books", QueueMessage(b"Moby-Dick"))
    await sim.drain()
    assert "Moby-Dick" in shelf.titles  # at least once: acks get lost


@simulate(max_examples=10, faults=Faults.all() - {"duplicate"})
async def test_faststream(sim: Simulation) -> None:
    rabbit = pytest.importorskip("faststream.rabbit", reason="faststream[rabbit] is not installed")
    uri, shelf = sim.uri("rabbitmq"), Shelf()

    async def main(_: Process) -> None:
        broker = rabbit.RabbitBroker(uri)
        books = rabbit.RabbitQueue("books", durable=True, queue_type=rabbit.QueueType.QUORUM)

        @broker.subscriber(books)
        async def store(title: str) -> None:
            shelf.titles.append(title)

        async with broker:
            await broker.start()
            await asyncio.Event().wait()

    sim.start(main, name="librarian")
    await sim.queue("rabbitmq").publish("books", QueueMessage(b"Moby-Dick", content_type="text/plain"))
    await sim.drain()
    assert "Moby-Dick" in shelf.titles
