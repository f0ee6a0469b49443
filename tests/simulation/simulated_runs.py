"""Running one simulation from a test: a scenario, a plan, and the record of what came of it."""

from __future__ import annotations

import asyncio

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing.search.decisions import PlannedDecisions
from factflow_infra_testing.search.faults import Faults, known_kinds
from factflow_infra_testing.search.run import RunOptions
from factflow_infra_testing.search.swarm import swarm_decisions
from factflow_infra_testing.simulation.execution import execute
from factflow_infra_testing.simulation.session import SimulationSession


def run_once(scenario, *plan, session=None, decisions=None, seed=0, options=None):
    """The record of one run of ``scenario`` under ``plan``; the plan's own book-keeping is ``record.decisions``."""
    decisions = PlannedDecisions(plan) if decisions is None else decisions
    if session is None:
        with SimulationSession() as own:
            return run_once(scenario, *plan, session=own, decisions=decisions, seed=seed, options=options)
    return execute(
        scenario,
        decisions=decisions,
        seed=seed,
        faults=Faults.all(),
        session=session,
        options=options or RunOptions(digest=True, tier="model"),
    )


def passing(scenario, *plan, **options):
    """The record of a run that must pass: else what it raised is raised."""
    record = run_once(scenario, *plan, **options)
    if record.failure is not None:
        raise record.failure
    return record


def swarm(seed):
    return swarm_decisions(seed, tuple(known_kinds().values()))


def told(record, *kinds):
    """(kind, process, detail) of the operations of these kinds, in order."""
    return [(op.kind, op.process, op.detail) for op in record.history.operations if op.kind in kinds]


def message(text):
    return QueueMessage(text.encode(), message_id=text)


async def forever():
    await asyncio.Event().wait()
