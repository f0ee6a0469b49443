"""Determinism, shown: the same seeds give the same runs, again and again in one process, and in fresh processes.

``python -m factflow_infra_testing.verify`` prints the digests of this process as JSON; ``verify`` compares many such
processes, each with another ``PYTHONHASHSEED``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factflow_infra_testing.errors import KitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from factflow_infra_testing.simulation.simulation import Simulation

SEEDS = (0, 1, 2, 3, 4)
_LINES = (
    ("rabbitmq-quorum", "model"),
    ("rabbitmq-classic", "model"),
    ("artemis", "model"),
    ("rabbitmq-quorum", "wire"),
    ("artemis", "wire"),
    ("pulsar", "api"),
)
"""Each broker's profile, and the tier: with ``wire`` and ``api`` the client libraries take part."""


def _scenarios() -> Iterator[tuple[str, str, Callable[[Simulation], Awaitable[None]]]]:
    """Name, tier and scenario of all that is run: two services on each line to a broker."""
    from factflow_infra_testing.demo.everything import everything
    from factflow_infra_testing.demo.scenario import scenario_of
    from factflow_infra_testing.demo.service import HastyInvoiceWorker

    for profile, tier in _LINES:
        yield f"invoices on {profile}, tier {tier}", tier, scenario_of(HastyInvoiceWorker, profile=profile)
        yield f"everything on {profile}, tier {tier}", tier, everything(profile)


def digests(seeds: tuple[int, ...] = SEEDS) -> dict[str, str]:
    """The digest of each run by its name: every scenario with each seed, under all faults."""
    from factflow_infra_testing.search.faults import Faults, known_kinds
    from factflow_infra_testing.search.run import RunOptions
    from factflow_infra_testing.search.swarm import swarm_decisions
    from factflow_infra_testing.simulation.execution import execute
    from factflow_infra_testing.simulation.session import SimulationSession

    kinds = tuple(known_kinds().values())
    found: dict[str, str] = {}
    with SimulationSession() as session:
        for name, tier, scenario in _scenarios():
            for seed in seeds:
                record = execute(
                    scenario,
                    decisions=swarm_decisions(seed, kinds),
                    seed=seed,
                    faults=Faults.all(),
                    session=session,
                    options=RunOptions(digest=True, tier=tier),
                )
                found[f"{name}, seed {seed}"] = record.digest
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of ``verify``: ``different`` names the runs that were not the same everywhere."""

    scenarios: int
    runs: int
    repeats: int
    processes: int
    different: tuple[str, ...]


def verify(*, repeats: int = 5, processes: int = 20, tell: Callable[[str], None] = lambda _: None) -> Comparison:
    """Compare ``repeats`` rounds in this process and ``processes`` fresh ones with hash seeds of their own.

    As many processes at a time as there are cores. Raises ``KitError`` where a fresh process fails.
    """
    reference = digests()
    different: set[str] = set()

    def compare(what: str, found: dict[str, str]) -> None:
        wrong = {name for name in reference if found.get(name) != reference[name]}
        different.update(wrong)
        tell(f"{what}: {len(reference) - len(wrong)} of {len(reference)} runs the same")

    for number in range(2, repeats + 1):
        compare(f"round {number} in this process", digests())
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        hash_seeds = range(1, processes + 1)
        for hash_seed, found in zip(hash_seeds, pool.map(_in_a_fresh_process, hash_seeds), strict=True):
            compare(f"fresh process with PYTHONHASHSEED={hash_seed}", found)
    return Comparison(len(reference) // len(SEEDS), len(reference), repeats, processes, tuple(sorted(different)))


def _in_a_fresh_process(hash_seed: int) -> dict[str, str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-m", "factflow_infra_testing.verify"]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if child.returncode:
        raise KitError(f"a fresh process with PYTHONHASHSEED={hash_seed} failed:\n{child.stderr}")
    return json.loads(child.stdout)


if __name__ == "__main__":
    print(json.dumps(digests()))  # noqa: T201 - the parent reads it
