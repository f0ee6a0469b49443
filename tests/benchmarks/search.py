"""Simulated runs a second under the search: three messages, one worker. ``python tests/benchmarks/search.py [rounds] [runs]``

Prints runs a second by wall clock and by processor time, median and range of interleaved rounds, without and with faults, on
the model tier and on the wire.
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import sys
import time
from typing import TYPE_CHECKING

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation

RUNS = 400
ROUNDS = 7
MESSAGES = [QueueMessage.from_json({"n": n}, message_id=f"m{n}") for n in range(3)]


async def worker(process: Process) -> None:
    async def handle(_: QueueMessage) -> None:
        await asyncio.sleep(0.01)

    await process.queue("rabbitmq").subscribe("orders", handle)
    await asyncio.Event().wait()


async def scenario(sim: Simulation, tier: str) -> None:
    sim.tier = tier
    sim.start(worker, name="worker")
    queue = sim.queue("rabbitmq")
    for message in MESSAGES:
        await queue.publish("orders", message)
    await sim.drain()
    sim.check.no_loss("orders")


def measured(faults: Faults, tier: str, seed: int, runs: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = search(lambda sim: scenario(sim, tier), faults=faults, max_examples=runs, seed=seed)
    if result.finding is not None:
        raise SystemExit(f"the scenario failed: {result.finding.failure!r}")
    return runs / (time.perf_counter() - wall), runs / (time.process_time() - cpu)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else RUNS
    kinds = {
        f"{tier}, {name}": (faults, tier)
        for tier in ("model", "wire")
        for name, faults in (("no faults", Faults.none()), ("all faults", Faults.all()))
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for seed in range(rounds):
        for name, (faults, tier) in kinds.items():
            rates[name].append(measured(faults, tier, seed, runs))
    print(f"Python {platform.python_version()}; {rounds} rounds of {runs} runs of 3 messages; runs/s, median (range)")
    for name, found in rates.items():
        for clock, values in zip(("wall clock", "processor"), zip(*found, strict=True), strict=True):
            print(f"{name:18} {clock:10} {statistics.median(values):7.0f} ({min(values):.0f} to {max(values):.0f})")


if __name__ == "__main__":
    main()
