"""Determinism, shown: the same seeds give the same runs, again and again in one process, and in fresh processes.

``python -m factflow_infra_testing.verify`` prints the digests of this process as JSON; ``verify`` compares many such
processes, each with another ``PYTHONHASHSEED``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factflow_infra_testing.errors import KitError

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = (0, 1, 2, 3, 4)
_PLACES = tuple(
    (profile, storage) for profile in ("rabbitmq-quorum", "rabbitmq-classic") for storage in ("filesystem", "s3")
)


def digests(seeds: tuple[int, ...] = SEEDS) -> dict[str, str]:
    """The digest of the demo's runs by scenario: each profile, each storage, hasty and careful, each seed; all faults."""
    from factflow_infra_testing.demo.scenario import scenario_of
    from factflow_infra_testing.demo.service import HastyInvoiceWorker, InvoiceWorker
    from factflow_infra_testing.search.faults import Faults, known_kinds
    from factflow_infra_testing.search.run import RunOptions
    from factflow_infra_testing.search.swarm import swarm_decisions
    from factflow_infra_testing.simulation.execution import execute
    from factflow_infra_testing.simulation.session import SimulationSession

    kinds = tuple(known_kinds().values())
    found: dict[str, str] = {}
    with SimulationSession() as session:
        for profile, storage in _PLACES:
            for worker in (HastyInvoiceWorker, InvoiceWorker):
                for seed in seeds:
                    record = execute(
                        scenario_of(worker, profile=profile, storage=storage),
                        decisions=swarm_decisions(seed, kinds),
                        seed=seed,
                        faults=Faults.all(),
                        session=session,
                        options=RunOptions(digest=True),
                    )
                    found[f"{profile} {storage} {worker.__name__} seed {seed}"] = record.digest
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of ``verify``: ``different`` names the runs that were not the same everywhere."""

    runs: int
    repeats: int
    processes: int
    different: tuple[str, ...]


def verify(*, repeats: int = 5, processes: int = 20, tell: Callable[[str], None] = lambda _: None) -> Comparison:
    """Compare ``repeats`` rounds in this process and ``processes`` fresh ones with hash seeds of their own.

    Raises ``KitError`` where a fresh process fails.
    """
    reference = digests()
    different: set[str] = set()

    def compare(what: str, found: dict[str, str]) -> None:
        wrong = {name for name in reference if found.get(name) != reference[name]}
        different.update(wrong)
        tell(f"{what}: {len(reference) - len(wrong)} of {len(reference)} runs the same")

    for number in range(2, repeats + 1):
        compare(f"round {number} in this process", digests())
    for number in range(1, processes + 1):
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        command = [sys.executable, "-m", "factflow_infra_testing.verify"]
        child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if child.returncode:
            raise KitError(f"a fresh process with PYTHONHASHSEED={number} failed:\n{child.stderr}")
        compare(f"fresh process with PYTHONHASHSEED={number}", json.loads(child.stdout))
    return Comparison(len(reference), repeats, processes, tuple(sorted(different)))


if __name__ == "__main__":
    print(json.dumps(digests()))  # noqa: T201 - the parent reads it
