"""Runs that use everything a service can use, and their digests. Run as a script it prints them, as JSON, by name.

``python determinism_runs.py [everything|set|counter]``: the last two have a defect planted, which must show.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import count, product

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing.broker.faults import BROKER_FAULTS
from factflow_infra_testing.demo.everything import everything
from factflow_infra_testing.search.decisions import SwarmDecisions
from factflow_infra_testing.search.faults import Faults, known_kinds
from factflow_infra_testing.search.run import RunOptions
from factflow_infra_testing.simulation.execution import execute
from factflow_infra_testing.simulation.session import SimulationSession

SEEDS = (0, 2)
TIER = "model"
"""The wire tier has a test of its own beside its front ends."""
GROUPS = 5
PROFILES = ("rabbitmq-quorum", "rabbitmq-classic")
_numbers = count()


def set_order(profile):
    """Planted: the order of a set of texts is another one in each process."""

    async def scenario(sim):
        for name in {"a", "b", "c", "d", "e", "f", "g", "h"}:  # noqa: PLC0208 - the defect
            await sim.queue(profile).publish("orders", QueueMessage(b"", message_id=name))

    return scenario


def process_counter(profile):
    """Planted: a number that counts on from run to run."""

    async def scenario(sim):
        await sim.queue(profile).publish("orders", QueueMessage(b"", message_id=str(next(_numbers))))

    return scenario


SCENARIOS = {"everything": everything, "set": set_order, "counter": process_counter}


def fault_rates():
    """Every kind of fault, in groups that leave each other room; a broker is asked seldom, a process at every step."""
    kinds = tuple(known_kinds().values())
    rates = {kind.kind: 0.25 if kind.kind in BROKER_FAULTS else kind.rate for kind in kinds}
    return [{kind.kind: rates[kind.kind] for kind in kinds[start::GROUPS]} for start in range(GROUPS)]


def digests(name="everything", seeds=SEEDS):
    """By profile, seed and group of faults the digest of a run, and how often each kind of fault fired in all of them."""
    found, fired = {}, Counter()
    with SimulationSession() as session:
        for seed, profile, (group, rates) in product(seeds, PROFILES, enumerate(fault_rates())):
            record = execute(
                SCENARIOS[name](profile),
                decisions=SwarmDecisions(seed, rates),
                seed=seed,
                faults=Faults.all(),
                session=session,
                options=RunOptions(digest=True, tier=TIER),
            )
            if record.failure is not None:
                raise record.failure
            found[f"seed {seed} {profile} faults {group}"] = record.digest
            fired.update(record.fired)
    return found, fired


if __name__ == "__main__":
    sys.stdout.write(json.dumps(digests(*sys.argv[1:], seeds=SEEDS[:1])[0]))
