"""Simulated runs a second under the search: three messages, one worker. ``python tests/benchmarks/search.py [rounds] [runs]``

Prints runs a second by processor time (all is in one thread) and by wall clock, median and range of interleaved rounds: on
the model tier without and with faults, and on the wire, over AMQP and over STOMP, with all faults. A tenth of the runs on the
wire.

``--against CHECKOUT``: compares this version with the one in that folder, round by round, by processor time. For such a
comparison many short rounds say most: ``python tests/benchmarks/search.py --against ../before 32 100``.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from versions import SERVE, compare, serve

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search

if TYPE_CHECKING:
    from factflow_infra_testing import Process, Simulation

RUNS = 400
ROUNDS = 7
WIRE_SHARE = 10
MESSAGES = [QueueMessage.from_json({"n": n}, message_id=f"m{n}") for n in range(3)]
CASES = {
    "model, no faults": ("rabbitmq", "model", Faults.none(), 0),
    "model, all faults": ("rabbitmq", "model", Faults.all(), 800),
    "AMQP, all faults": ("rabbitmq", "wire", Faults.all(), 90),
    "STOMP, all faults": ("artemis", "wire", Faults.all(), 200),
}
"""Broker, tier, faults, and the runs a second that are wanted."""


def scenario_on(profile: str, tier: str):
    async def worker(process: Process) -> None:
        async def handle(_: QueueMessage) -> None:
            await asyncio.sleep(0.01)

        await process.queue(profile).subscribe("orders", handle)
        await asyncio.Event().wait()

    async def scenario(sim: Simulation) -> None:
        sim.tier = tier
        sim.start(worker, name="worker")
        queue = sim.queue(profile)
        for message in MESSAGES:
            await queue.publish("orders", message)
        await sim.drain()
        sim.check.no_loss("orders")

    return scenario


def measured(case: str, seed: int, runs: int) -> tuple[float, float]:
    profile, tier, faults, _ = CASES[case]
    runs = runs if tier == "model" else max(1, runs // WIRE_SHARE)
    wall, cpu = time.perf_counter(), time.process_time()
    result = search(scenario_on(profile, tier), faults=faults, max_examples=runs, seed=seed)
    if result.finding is not None:
        raise SystemExit(f"the scenario failed: {result.finding.failure!r}")
    return runs / (time.process_time() - cpu), runs / (time.perf_counter() - wall)


def report(rounds: int, runs: int) -> None:
    for case in CASES:
        measured(case, 0, 20)  # imports
    rates: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for seed in range(rounds):
        for case in CASES:
            rates[case].append(measured(case, seed, runs))
    for case, found in rates.items():
        wanted = CASES[case][3]
        for clock, values in zip(("processor", "wall clock"), zip(*found, strict=True), strict=True):
            told = f"   wanted {wanted}" if wanted and clock == "processor" else ""
            print(
                f"{case:18} {clock:10} {statistics.median(values):7.0f} ({min(values):.0f} to {max(values):.0f}){told}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=ROUNDS)
    parser.add_argument("runs", nargs="?", type=int, default=RUNS)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument(SERVE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(lambda case, seed, runs: measured(case, seed, runs)[0])
        return
    if options.against is not None and options.rounds < 2:
        parser.error("a comparison takes at least 2 rounds")
    print(
        f"Python {platform.python_version()}; {options.rounds} rounds of {options.runs} runs of 3 messages; medians (range)"
    )
    if options.against is not None:
        compare(__file__, options.against, dict.fromkeys(CASES, options.runs), options.rounds)
    else:
        report(options.rounds, options.runs)


if __name__ == "__main__":
    main()
