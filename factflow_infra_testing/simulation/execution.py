"""One run of a scenario, from an empty broker to its record."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, cast

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.run import RunRecord
from factflow_infra_testing.simulation import oversights
from factflow_infra_testing.simulation.runner import VIRTUAL_BUDGET, run
from factflow_infra_testing.simulation.simulation import Simulation

if TYPE_CHECKING:
    from factflow_infra_testing.search.decisions import Decisions
    from factflow_infra_testing.search.faults import Faults
    from factflow_infra_testing.search.run import RunOptions, Scenario
    from factflow_infra_testing.simulation.loop import DeterministicLoop
    from factflow_infra_testing.simulation.session import SimulationSession


def execute(
    scenario: Scenario,
    *,
    decisions: Decisions,
    seed: int,
    faults: Faults,
    session: SimulationSession,
    options: RunOptions,
) -> RunRecord:
    """Run ``scenario`` once, on a loop of its own; what it raised is in the record.

    What steers a test runner (``KeyboardInterrupt``, Hypothesis' ``StopTest``) is raised from here.
    """
    del faults  # which of them can happen in this run is what ``decisions`` know
    sims: list[Simulation] = []

    async def main() -> None:
        sim = Simulation(
            decisions=decisions, session=session, loop=cast("DeterministicLoop", asyncio.get_running_loop())
        )
        sim.tier = options.tier
        sims.append(sim)
        try:
            await scenario(sim)
            if strange := sim.strange_names():
                raise KitUsageError("; ".join(strange))
        except AssertionError as error:
            for line in sim.strange_names():  # perhaps it says what it does because of them
                error.add_note(f"Note: {line}.")
            raise
        finally:
            sim.end()

    budget = VIRTUAL_BUDGET if options.virtual_budget is None else options.virtual_budget
    with session.run():
        # The verdict is there: what the test's own clients would still say to one another costs a tenth of the time.
        outcome = run(main, decisions=decisions, seed=seed, virtual_budget=budget, collect=False, linger=False)
    if outcome.error is not None:
        session.failed()
    if not sims:  # it could not even be set up
        raise cast("BaseException", outcome.error)
    sim = sims.pop()
    if outcome.error is not None:
        sim.tell()
        if sim.disk_faults is not None and (real := oversights.of_real_names(outcome.error)):
            outcome.error.add_note(f"Note: {real}.")
    return RunRecord(
        failure=outcome.error,
        deviations=tuple(decisions.deviations),
        history=sim.history,
        digest=sim.digest() if outcome.error is not None or options.digest else "",
        virtual_seconds=outcome.time,
        sometimes=sim.check.labels,
        fired=Counter(fault.kind for fault in decisions.deviations),
        tier=options.tier,
        parts=tuple(sim.parts),
        places=sim.places,
        libraries=tuple(sim.libraries),
        missing=sim.missing_queues(),
    )
