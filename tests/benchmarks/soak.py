"""Look for a lost message for as long as you like: promise Q2 under every fault. ``python tests/benchmarks/soak.py --help``

Each run of the search gives the production engine one of several shapes of use (retries that run out, ordering keys,
batches, topics, delays, pauses, producers that are killed), on one profile of the broker. In the end everything that a
broker accepted must have been handled or lie in the dead-letter queue. Prints runs, runs/s and what was found, with the
plan and the seed that find it again; exits with 1 if anything was.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from typing import TYPE_CHECKING, Any

from factflow_infra.protocols import BatchStatus, ErrorHandling, MessageStatus, QueueMessage
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from factflow_infra_testing import Process, Simulation

PROFILES = ("artemis", "pulsar", "rabbitmq-classic", "rabbitmq-quorum")
MESSAGES = 5
FEW = ErrorHandling(max_retries=1, retry_delay_seconds=2.0, dead_letter_queue="dead")
FLAKY_HANDLINGS = 3
"""Every so many handlings of a life fail."""


def numbered() -> list[QueueMessage]:
    return [QueueMessage.from_json({"n": n}, message_id=f"m{n}") for n in range(MESSAGES)]


async def until_terminated(queue: Any) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await queue.stop(timeout=5.0)


def flaky() -> Callable[[QueueMessage], Awaitable[MessageStatus | None]]:
    """A handler that takes a moment, and fails or rejects now and then."""
    calls = itertools.count(1)

    async def handle(_: QueueMessage) -> MessageStatus | None:
        call = next(calls)
        await asyncio.sleep(0.01)
        if call % FLAKY_HANDLINGS == 0:
            raise RuntimeError("every third handling fails")
        return MessageStatus.REJECT if call % 7 == 0 else None

    return handle


async def retries(sim: Simulation, profile: str) -> None:
    """Two competing workers whose handlers fail: retries, rejections, dead letters."""

    async def worker(process: Process) -> None:
        queue = process.queue(profile)
        await queue.subscribe("orders", flaky(), concurrency=2, error_handling=FEW)
        await until_terminated(queue)

    sim.start(worker, name="worker-a")
    sim.start(worker, name="worker-b")
    await sim.queue(profile).publish_batch("orders", numbered())
    await sim.drain()
    sim.check.queue("orders")
    sim.check.bounded_redelivery("orders", max_retries=1)


async def deliveries(sim: Simulation, profile: str) -> None:
    """``max_deliveries``: a message that comes too often is dead-lettered, not dropped."""
    bounded = ErrorHandling(max_retries=None, retry_delay_seconds=0.5, dead_letter_queue="dead", max_deliveries=4)

    async def worker(process: Process) -> None:
        queue = process.queue(profile)
        await queue.subscribe("orders", flaky(), concurrency=3, prefetch=3, error_handling=bounded)
        await until_terminated(queue)

    sim.start(worker, name="worker")
    await sim.queue(profile).publish_batch("orders", numbered())
    await sim.drain()
    sim.check.no_loss("orders")
    sim.check.no_phantom("orders")


async def keys(sim: Simulation, profile: str) -> None:
    """Ordering keys under concurrency, from a producer that faults meet."""

    async def producer(process: Process) -> None:
        queue = process.queue(profile)
        for message in numbered():
            key = "even" if message.json()["n"] % 2 == 0 else "odd"
            keyed = QueueMessage(message.body, message.message_id, ordering_key=key)
            taken = await queue.publish_batch("orders", [keyed])
            while taken.status is not BatchStatus.COMPLETE:
                await asyncio.sleep(1)
                taken = await queue.publish_batch("orders", [keyed])
        await queue.stop()

    async def worker(process: Process) -> None:
        queue = process.queue(profile)
        await queue.subscribe("orders", flaky(), concurrency=8, error_handling=FEW)
        await until_terminated(queue)

    sim.start(worker, name="worker")
    sim.start(producer, name="producer")
    await sim.drain()
    sim.check.queue("orders")
    sim.check.in_flight_cap("orders", 8)


async def batches(sim: Simulation, profile: str) -> None:
    """Batches settled in parts: acked, retried, rejected, or left unsettled by a handle that closes."""

    async def worker(process: Process) -> None:
        queue = process.queue(profile)
        try:
            while True:
                handle = await queue.subscribe_batch("orders", max_messages=3, max_wait=0.5, error_handling=FEW)
                async with handle:
                    turn = 0
                    async for batch in handle:
                        turn += 1
                        await asyncio.sleep(0.01)
                        first, *rest = batch.messages
                        await (handle.retry(first) if turn % 2 else handle.ack(first))
                        if turn % 3 == 0:
                            break
                        await (handle.reject(rest) if turn % 5 == 0 else handle.ack(rest))
        finally:
            await queue.stop(timeout=5.0)

    sim.start(worker, name="worker")
    await sim.queue(profile).publish_batch("orders", numbered())
    await sim.drain()
    sim.check.no_loss("orders")
    sim.check.no_phantom("orders")


async def topics(sim: Simulation, profile: str) -> None:
    """A durable subscription with two members, and an unnamed one beside it."""
    queue = sim.queue(profile)

    async def never(_: QueueMessage) -> None:
        raise AssertionError("nothing was published yet")

    async def worker(process: Process) -> None:
        mine = process.queue(profile)
        await mine.subscribe("/topic/news", flaky(), subscription="audit", concurrency=2, error_handling=FEW)
        await mine.subscribe("/topic/news", flaky(), error_handling=FEW)
        await until_terminated(mine)

    await (await queue.subscribe("/topic/news", never, subscription="audit")).close()
    sim.start(worker, name="worker-a")
    sim.start(worker, name="worker-b")
    await queue.publish_batch("/topic/news", numbered())
    await sim.drain()
    sim.check.no_loss("/topic/news", subscription="audit")


async def pauses(sim: Simulation, profile: str) -> None:
    """A subscription that is paused, resumed and closed again and again, its callers losing patience."""

    async def worker(process: Process) -> None:
        queue = process.queue(profile)
        try:
            for turn in itertools.count():
                subscription = await queue.subscribe("orders", flaky(), concurrency=2, prefetch=3, error_handling=FEW)
                for patience in (0.0005, 0.003, 5.0):
                    await asyncio.sleep(0.004 * (turn % 4 + 1))
                    pausing = asyncio.ensure_future(subscription.pause())
                    await asyncio.wait([pausing], timeout=patience)
                    pausing.cancel()
                    await asyncio.sleep(1)
                    await subscription.resume()
                await asyncio.sleep(30)
                await subscription.close(timeout=0.005)
        finally:
            await queue.stop(timeout=5.0)

    sim.start(worker, name="worker")
    await sim.queue(profile).publish_batch("orders", numbered())
    await sim.drain()
    sim.check.no_loss("orders")
    sim.check.in_flight_cap("orders", 2)


SHAPES: dict[str, Callable[[Simulation, str], Awaitable[None]]] = {
    shape.__name__: shape for shape in (retries, deliveries, keys, batches, topics, pauses)
}


def soak(shape: str, profile: str, *, runs: int, seed: int, tier: str) -> tuple[int, bool]:
    """Search one shape on one profile. The runs that were made, and whether one failed."""

    async def scenario(sim: Simulation) -> None:
        sim.tier = tier
        await SHAPES[shape](sim, profile)

    started = time.perf_counter()
    result = search(scenario, faults=Faults.all(), max_examples=runs, seed=seed)
    rate = result.examples / (time.perf_counter() - started)
    line = f"{shape:10} {profile:16} seed {seed:<6} {result.examples:6} runs {rate:7.0f}/s"
    if result.finding is None:
        print(f"{line}  nothing", flush=True)
        return result.examples, False
    print(
        f"{line}  FOUND {result.finding.failure!r}\n    plan {result.finding.plan}, seed {result.finding.seed}",
        flush=True,
    )
    return result.examples, True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500, help="of each shape, on each profile, with each seed (500)")
    parser.add_argument("--seed", type=int, default=0, help="the first (0)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other (1)")
    parser.add_argument("--tier", choices=("model", "wire", "api"), default="model")
    parser.add_argument("--shape", choices=sorted(SHAPES), action="append", help="may be given again (all)")
    parser.add_argument(
        "--profile", choices=PROFILES, action="append", help="may be given again (all; with --tier api: pulsar)"
    )
    chosen = parser.parse_args()
    sys.path.append(sys.path.pop(0))  # one of the files beside this one has the name of Pulsar's library
    started = time.perf_counter()
    total = found = 0
    profiles = (
        ("pulsar",) if chosen.tier == "api" else tuple(p for p in PROFILES if p != "pulsar" or chosen.tier == "model")
    )
    seeds = range(chosen.seed, chosen.seed + chosen.seeds)
    for seed, shape, profile in itertools.product(seeds, chosen.shape or SHAPES, chosen.profile or profiles):
        runs, failed = soak(shape, profile, runs=chosen.runs, seed=seed, tier=chosen.tier)
        total += runs
        found += failed
    seconds = time.perf_counter() - started
    print(f"{total} runs in {seconds:.0f} s, {total / seconds:.0f} runs/s: {found or 'nothing'} found")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
