"""Whole runs on the wire tier under every fault, as digests: printed, so that fresh processes can be compared."""

import json
import sys
from pathlib import Path

SEEDS = tuple(range(6))


def digests(seeds=SEEDS):
    from factflow_infra_testing.search.faults import Faults, known_kinds
    from factflow_infra_testing.search.run import RunOptions
    from factflow_infra_testing.search.swarm import swarm_decisions
    from factflow_infra_testing.simulation.execution import execute
    from factflow_infra_testing.simulation.session import SimulationSession

    kinds = tuple(known_kinds().values())
    found = {}
    with SimulationSession() as session:
        for profile in ("rabbitmq-quorum", "rabbitmq-classic", "artemis"):
            for seed in seeds:
                record = execute(
                    scenario(profile),
                    decisions=swarm_decisions(seed, kinds),
                    seed=seed,
                    faults=Faults.all(),
                    session=session,
                    options=RunOptions(digest=True),
                )
                found[f"{profile} seed {seed}"] = f"{record.digest} {record.failure!r} {len(record.deviations)}"
    return found


def scenario(profile):
    from factflow_infra.protocols import ErrorHandling, QueueMessage

    async def worker(process):
        queue = process.queue(profile)

        async def handle(message):
            if message.json()["n"] == 1:
                raise ValueError("one that is never handled")
            await queue.publish("done", message)

        async def news(message):
            await queue.publish("read", message)

        await queue.subscribe(
            "orders", handle, concurrency=2, error_handling=ErrorHandling(max_retries=1, retry_delay_seconds=0.1)
        )
        await queue.subscribe("/topic/news", news, subscription="desk")
        await process_end(queue)

    async def run(sim):
        sim.tier = "wire"
        for number in (1, 2):
            sim.start(worker, name=f"worker-{number}")
        queue = sim.queue(profile)
        await sim.sleep(1)
        for n in range(4):
            await queue.publish("orders", QueueMessage.from_json({"n": n}, message_id=f"m{n}"))
            await queue.publish("/topic/news", QueueMessage.from_json({"n": n}, message_id=f"n{n}"), delay=0.2 * n)
        await sim.drain()
        sim.check.no_loss("orders")

    return run


async def process_end(queue):
    import asyncio

    try:
        await asyncio.Event().wait()
    finally:
        await queue.stop(timeout=5)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    sys.stdout.write(json.dumps(digests()))
