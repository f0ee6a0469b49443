"""Whole runs over STOMP under every fault, as digests: of the production provider, and of stompman's own client, unmodified."""

import json
import sys
from pathlib import Path

SEEDS = tuple(range(3))


def digests(seeds=SEEDS):
    from factflow_infra_testing.search.faults import Faults, known_kinds
    from factflow_infra_testing.search.run import RunOptions
    from factflow_infra_testing.search.swarm import swarm_decisions
    from factflow_infra_testing.simulation.execution import execute
    from factflow_infra_testing.simulation.session import SimulationSession

    kinds = tuple(known_kinds().values())
    found = {}
    with SimulationSession() as session:
        for name, scenario in (("provider", provider), ("client", client)):
            for seed in seeds:
                record = execute(
                    scenario,
                    decisions=swarm_decisions(seed, kinds),
                    seed=seed,
                    faults=Faults.all(),
                    session=session,
                    options=RunOptions(digest=True),
                )
                found[f"{name} seed {seed}"] = f"{record.digest} {record.failure!r} {len(record.deviations)}"
    return found


async def provider(sim):
    import asyncio

    from factflow_infra.protocols import ErrorHandling, QueueMessage

    async def worker(process):
        queue = process.queue("artemis")

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
        await asyncio.Event().wait()

    sim.tier = "wire"
    for number in (1, 2):
        sim.start(worker, name=f"worker-{number}")
    queue = sim.queue("artemis")
    await sim.sleep(1)
    for n in range(3):
        await queue.publish("orders", QueueMessage.from_json({"n": n}, message_id=f"m{n}"))
        await queue.publish("/topic/news", QueueMessage.from_json({"n": n}, message_id=f"n{n}"), delay=0.2 * n)
    await sim.drain()
    sim.check.no_loss("orders")


async def client(sim):
    """A service on ``stompman.Client``, two servers named, in two processes."""
    import asyncio
    from urllib.parse import urlsplit

    import stompman

    uri = urlsplit(sim.uri("artemis"))
    servers = [
        stompman.ConnectionParameters(host, uri.port, uri.username, uri.password)
        for host in (uri.hostname, uri.hostname + "-2")
    ]
    queue = {"destination-type": "ANYCAST", "persistent": "true"}

    async def worker(_):
        while True:
            try:
                async with stompman.Client(servers, connection_confirmation_timeout=5) as stomp:

                    async def handle(frame):
                        await asyncio.sleep(0.01)
                        await stomp.send(frame.body, "done", headers=queue, receipt_timeout=5)
                        await frame.ack()

                    await stomp.subscribe_with_manual_ack("orders", handle, headers={"subscription-type": "ANYCAST"})
            except Exception:  # noqa: BLE001 - whatever went wrong, it tries again
                await asyncio.sleep(1)

    for number in (1, 2):
        sim.start(worker, name=f"worker-{number}")
    await sim.sleep(1)
    broker = sim.broker("artemis")
    async with stompman.Client(servers) as stomp:
        for n in range(4):
            await stomp.send(b"%d" % n, "orders", headers=queue)
    await sim.sleep(200)
    sim.end_faults()
    await sim.sleep(60)
    assert broker.broker.depth("done") >= 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    sys.stdout.write(json.dumps(digests()))
