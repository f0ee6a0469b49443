"""``RabbitMqQueueProvider`` against bare aio-pika doing the same work, on one real RabbitMQ: messages a second, and ratios.

    python tests/benchmarks/rabbitmq.py [--uri amqp://guest:guest@127.0.0.1/] [--queue-type quorum] [--rounds 7]

Without ``--uri`` a throw-away RabbitMQ is started. The work: publish persistent, mandatory, confirmed messages of 256 bytes
with 100 in flight; consume them with the same prefetch, one ack each. How rounds are compared is in
``comparing.compare``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import aio_pika
from comparing import BODY, PREFETCH, Countdown, Rate, compare, in_flight, running_server, server_module

from factflow_infra import create_queue_provider
from factflow_infra.queue.messages import QueueMessage


async def bare(uri: str, queue_type: str, messages: int) -> tuple[Rate, Rate]:
    """What one writes on aio-pika for the same promises: confirms, mandatory with returns raised, manual acks."""
    connection = await aio_pika.connect(uri)
    channel = await connection.channel(on_return_raises=True)
    name = f"bench-bare-{uuid4().hex[:8]}"
    queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": queue_type})

    async def publish() -> None:
        message = aio_pika.Message(
            BODY,
            message_id=uuid4().hex,
            headers={"execution": "1"},
            content_type="application/json",
            timestamp=datetime.now(UTC),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await channel.default_exchange.publish(message, routing_key=name, mandatory=True)

    published = await in_flight(messages, publish)
    countdown = Countdown(messages - 1)

    async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        await message.ack()
        countdown.one()

    await channel.set_qos(prefetch_count=PREFETCH)
    tag = await queue.consume(handle)
    consumed = await countdown.rate()
    await queue.cancel(tag)
    await queue.delete(if_unused=False, if_empty=False)
    await connection.close()
    return published, consumed


async def ours(uri: str, queue_type: str, messages: int) -> tuple[Rate, Rate]:
    name = f"bench-ours-{uuid4().hex[:8]}"
    async with create_queue_provider(uri, queue_type=queue_type) as provider:

        async def publish() -> None:
            await provider.publish(
                name, QueueMessage(BODY, headers={"execution": "1"}, content_type="application/json")
            )

        published = await in_flight(messages, publish)
        countdown = Countdown(messages - 1)

        async def handle(message: QueueMessage) -> None:
            del message
            countdown.one()

        await provider.subscribe(name, handle, prefetch=PREFETCH, concurrency=10)
        consumed = await countdown.rate()
    connection = await aio_pika.connect(uri)
    async with connection:
        await (await connection.channel()).queue_delete(name)
    return published, consumed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri")
    parser.add_argument("--queue-type", choices=["quorum", "classic"], action="append")
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    good = True
    with running_server(options.uri, lambda folder: server_module("rabbitmq").RabbitMq(folder)) as uri:
        for queue_type in options.queue_type or ["quorum", "classic"]:
            runs = {"bare": partial(bare, uri, queue_type), "ours": partial(ours, uri, queue_type)}
            good &= asyncio.run(compare(f"{queue_type} queue", runs, options.messages, options.rounds))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
