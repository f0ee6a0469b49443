"""The speed of the wire tier over STOMP: the production provider and a bare stompman, in virtual time.

    python tests/benchmarks/wire_stomp.py [rounds]

*stompman*: send with receipts and consume with acks, 200 in flight, end to end. *provider*: the same through
``ArtemisQueueProvider``. *searched runs*: whole runs of 3 messages with a process under every fault. *heart-beats*: what an
hour of an idle provider with one subscription costs. By processor time: everything is in one thread, and nothing waits.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import stompman

from factflow_infra.queue.messages import QueueMessage
from factflow_infra_testing.broker import SimulatedBroker
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search
from factflow_infra_testing.simulation.runner import run
from factflow_infra_testing.wire.stomp.frontend import PASSWORD, PORT, USER
from factflow_infra_testing.wire.stomp.provider import listening, wire_provider

MESSAGES = 3_000
WIDTH = 200
RUNS = 150


def simulated(scenario) -> float:
    """Seconds of processor time that ``scenario`` takes."""

    async def main():
        broker = SimulatedBroker("artemis")
        listening(broker)
        await scenario(broker)

    began = time.process_time()  # outside the run: inside, it is virtual
    run(main).result()
    return time.process_time() - began


def rate(scenario) -> float:
    return MESSAGES / simulated(scenario)


async def bare(broker) -> None:
    servers = [stompman.ConnectionParameters(broker.profile.name, PORT, USER, PASSWORD)]
    options = {"heartbeat": stompman.Heartbeat(30_000, 30_000), "max_concurrent_handlers": None}
    async with stompman.Client(servers, **options) as client, stompman.Client(servers, **options) as worker:
        done, left = asyncio.Event(), MESSAGES

        async def handle(frame) -> None:
            nonlocal left
            await frame.ack()
            left -= 1
            if not left:
                done.set()

        window = {"subscription-type": "ANYCAST", "consumer-window-size": "-1"}
        subscription = await worker.subscribe_with_manual_ack("/queue/work", handle, headers=window, receipt_timeout=30)
        numbers = iter(range(MESSAGES))

        async def produce() -> None:
            for number in numbers:
                headers = {"destination-type": "ANYCAST", "persistent": "true", "number": str(number)}
                await client.send(b"x" * 100, "/queue/work", headers=headers, receipt_timeout=30)

        await asyncio.gather(*(produce() for _ in range(WIDTH)))
        await done.wait()
        await subscription.unsubscribe()


async def provider(broker) -> None:
    producer = wire_provider(broker, host="localhost", exposed=False, options={})
    worker = wire_provider(broker, host="localhost", exposed=False, options={})
    done, left = asyncio.Event(), MESSAGES

    async def handle(_) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    await worker.subscribe("work", handle, concurrency=WIDTH, prefetch=5 * WIDTH)
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


def searched() -> float:
    async def worker(process) -> None:
        queue = process.queue("artemis")

        async def handle(_) -> None: ...

        await queue.subscribe("work", handle)
        await asyncio.Event().wait()

    async def scenario(sim) -> None:
        sim.tier = "wire"
        sim.start(worker, name="worker")
        await sim.queue("artemis").publish_batch("work", [QueueMessage(b"x", message_id=str(n)) for n in range(3)])
        await sim.drain()
        sim.check.no_loss("work")

    began = time.process_time()
    result = search(scenario, faults=Faults.all(), max_examples=RUNS, seed=0)
    assert result.finding is None, result.finding
    return RUNS / (time.process_time() - began)


CASES = {
    "bare stompman with receipts, msg/s": lambda: rate(bare),
    "the production provider, msg/s": lambda: rate(provider),
    "searched runs of 3 messages, runs/s": searched,
    "an hour of heart-beats, ms": lambda: simulated(idle) * 1000,
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
