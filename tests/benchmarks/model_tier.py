"""The model tier's speed: medians of interleaved rounds, so that a slow moment of the machine meets all alike.

    python tests/benchmarks/model_tier.py [rounds]

*state machine*: publish, deliver and ack, synchronously. *model tier*: the production engine over the simulated broker in
virtual time, 100 publishes in flight, concurrency 100; with an observer, as in a searched run; and on asyncio's own loop,
where time is real. *run of 3*: a whole run with its loop, broker and two providers, 3 messages published and handled.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from factflow_infra.queue.messages import QueueMessage
from factflow_infra_testing.broker import SimulatedBroker, SimulatedQueueProvider, profile_named
from factflow_infra_testing.broker.entries import Message
from factflow_infra_testing.broker.model import Broker
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.simulation.loop import DeterministicLoop

MESSAGES = 10_000
RUNS = 200


def state_machine() -> float:
    broker = Broker(profile_named("rabbitmq-quorum"), PlannedDecisions())
    session = broker.open_session(broker.open_connection("c"))
    broker.declare_queue("q")
    out = []
    broker.consume(session, "q", out.append, limit=100)
    began = time.perf_counter()
    for _ in range(MESSAGES):
        broker.publish("", "q", Message("m", None))
        broker.ack(out.pop())
    return MESSAGES / (time.perf_counter() - began)


async def traffic(profile: str, count: int, width: int, *, observed: bool = False) -> float:
    broker = SimulatedBroker(profile)
    if observed:
        broker.observe(lambda _: None)
    producer = SimulatedQueueProvider(broker)
    worker = SimulatedQueueProvider(broker, client="worker", exposed=True)
    handled = 0
    done = asyncio.Event()

    async def handler(_: QueueMessage) -> None:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()

    await worker.subscribe("work", handler, concurrency=width, prefetch=2 * width)
    messages = iter([QueueMessage(b"x" * 100, message_id=str(n)) for n in range(count)])

    async def produce() -> None:
        for message in messages:
            await producer.publish("work", message)

    began = time.perf_counter()
    await asyncio.gather(*(produce() for _ in range(width)))
    await done.wait()
    seconds = time.perf_counter() - began
    await worker.stop()
    await producer.stop()
    assert broker.depth("work") == 0
    return count / seconds


def simulated(profile: str, count: int = MESSAGES, width: int = 100, *, observed: bool = False) -> float:
    loop = DeterministicLoop()
    try:
        return loop.run_until_complete(traffic(profile, count, width, observed=observed))
    finally:
        loop.close()


def small_runs() -> float:
    began = time.perf_counter()
    for _ in range(RUNS):
        simulated("rabbitmq-quorum", 3, 1, observed=True)
    return RUNS / (time.perf_counter() - began)


CASES = {
    "state machine, msg/s": state_machine,
    "model tier, rabbitmq-quorum, msg/s": lambda: simulated("rabbitmq-quorum"),
    "model tier, rabbitmq-classic, msg/s": lambda: simulated("rabbitmq-classic"),
    "model tier, observed, msg/s": lambda: simulated("rabbitmq-quorum", observed=True),
    "model tier on asyncio's loop, msg/s": lambda: asyncio.run(traffic("rabbitmq-quorum", MESSAGES, 100)),
    "run of 3, runs/s": small_runs,
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    results: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, case in CASES.items():
            results[name].append(case())
    print(f"Python {sys.version.split()[0]}, medians of {rounds} interleaved rounds (lowest, highest)")
    for name, values in results.items():
        print(f"{name:40} {statistics.median(values):>10,.0f}   ({min(values):,.0f}, {max(values):,.0f})")


if __name__ == "__main__":
    main()
