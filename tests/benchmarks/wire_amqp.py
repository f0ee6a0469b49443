"""The speed of the wire tier over AMQP: the production provider and a bare aio-pika, in virtual time.

    python tests/benchmarks/wire_amqp.py [rounds]

*aio-pika*: publish with confirms and consume with acks, 200 in flight, end to end. *provider*: the same through
``RabbitMqQueueProvider``. *searched runs*: whole runs of 3 messages with a process under every fault.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import aio_pika

from factflow_infra.queue.messages import QueueMessage
from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.amqp import AmqpFrontEnd
from factflow_infra_testing.wire.amqp.provider import wire_provider

MESSAGES = 3_000
WIDTH = 200
RUNS = 150


def simulated(scenario) -> float:
    async def main():
        broker = SimulatedBroker("rabbitmq-quorum")
        AmqpFrontEnd(broker).listen(broker.profile.name)
        await scenario(broker)

    began = time.perf_counter()  # outside the run: inside, it is virtual
    run(main).result()
    return MESSAGES / (time.perf_counter() - began)


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


def searched() -> float:
    async def worker(process) -> None:
        queue = process.queue()

        async def handle(_) -> None: ...

        await queue.subscribe("work", handle)
        await asyncio.Event().wait()

    async def scenario(sim) -> None:
        sim.tier = "wire"
        sim.start(worker, name="worker")
        await sim.queue().publish_batch("work", [QueueMessage(b"x", message_id=str(n)) for n in range(3)])
        await sim.drain()
        sim.check.no_loss("work")

    began = time.perf_counter()
    result = search(scenario, faults=Faults.all(), max_examples=RUNS, seed=0)
    assert result.finding is None, result.finding
    return RUNS / (time.perf_counter() - began)


CASES = {
    "bare aio-pika with confirms, msg/s": lambda: simulated(bare),
    "the production provider, msg/s": lambda: simulated(provider),
    "searched runs of 3 messages, runs/s": searched,
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    results: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, case in CASES.items():
            results[name].append(case())
    print(f"Python {sys.version.split()[0]}, medians of {rounds} interleaved rounds (lowest, highest)")
    for name, values in results.items():
        print(f"{name:40} {statistics.median(values):>8,.0f}   ({min(values):,.0f}, {max(values):,.0f})")


if __name__ == "__main__":
    main()
