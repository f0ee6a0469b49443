"""The speed of the wire tier over AMQP: the production provider and a bare aio-pika, in virtual time.

    python tests/benchmarks/wire_amqp.py [rounds]

*aio-pika*: publish with confirms and consume with acks, 200 in flight, end to end. *provider*: the same through
``RabbitMqQueueProvider``. *heart-beats*: what an hour of an idle provider with one subscription costs. Searched runs are in
``search.py``.
"""

from __future__ import annotations

import asyncio

import aio_pika
from wire_rates import MESSAGES, WIDTH, compare

from factflow_infra.queue.messages import QueueMessage
from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.wire.amqp import AmqpFrontEnd
from factflow_infra_testing.wire.amqp.provider import wire_provider


def on_broker(scenario):
    async def main():
        broker = SimulatedBroker("rabbitmq-quorum")
        AmqpFrontEnd(broker).listen(broker.profile.name)
        await scenario(broker)

    return main


async def bare(broker) -> None:
    uri = f"amqp://guest:guest@{broker.profile.name}:5672/"
    async with await aio_pika.connect(uri) as connection:
        channel, taking = await connection.channel(), await connection.channel(publisher_confirms=False)
        await taking.set_qos(prefetch_count=WIDTH)
        queue = await taking.declare_queue("work", durable=True, arguments={"x-queue-type": "quorum"})
        done, left = asyncio.Event(), MESSAGES

        async def handle(message) -> None:
            nonlocal left
            await message.ack()
            left -= 1
            if not left:
                done.set()

        await queue.consume(handle)
        numbers = iter(range(MESSAGES))

        async def produce() -> None:
            for number in numbers:
                message = aio_pika.Message(b"x" * 100, message_id=str(number), delivery_mode=2)
                await channel.default_exchange.publish(message, "work")

        await asyncio.gather(*(produce() for _ in range(WIDTH)))
        await done.wait()


async def provider(broker) -> None:
    producer = wire_provider(broker, host="localhost", exposed=False, options={})
    worker = wire_provider(broker, host="localhost", exposed=False, options={})
    done, left = asyncio.Event(), MESSAGES

    async def handle(_) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    await worker.subscribe("work", handle, concurrency=WIDTH, prefetch=WIDTH)
    numbers = iter(range(MESSAGES))

    async def produce() -> None:
        for number in numbers:
            await producer.publish("work", QueueMessage(b"x" * 100, message_id=str(number)))

    await asyncio.gather(*(produce() for _ in range(WIDTH)))
    await done.wait()
    await worker.stop()
    await producer.stop()


async def idle(broker) -> None:
    async def handle(_) -> None: ...

    worker = wire_provider(broker, host="localhost", exposed=False, options={})
    await worker.subscribe("work", handle)
    await asyncio.sleep(3600)
    assert worker.health().active_subscriptions == 1
    await worker.stop()


if __name__ == "__main__":
    compare("aio-pika", on_broker(bare), on_broker(provider), wanted=3_000, idle=on_broker(idle))
