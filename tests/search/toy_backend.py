"""An executor without a loop: a scenario that asks for decisions directly. It exercises the search, not the simulation."""

from __future__ import annotations

from contextlib import nullcontext
from hashlib import blake2b
from types import SimpleNamespace

from factflow_infra_testing.history.operations import History, finish
from factflow_infra_testing.search.run import Backend, RunRecord


class ToySimulation:
    """What a toy scenario gets: ``strike`` asks for one decision, ``work`` records one operation."""

    def __init__(self, decisions, seed, faults):
        self.decisions = decisions
        self.seed = seed
        self.faults = faults
        self.history = History()
        self.now = 0.0
        self.labels = {}
        self.check = SimpleNamespace(sometimes=self._sometimes)

    def _sometimes(self, label, holds):
        self.labels[label] = self.labels.get(label, False) or bool(holds)

    def strike(self, kind, target="", n=2):
        choice = self.decisions.pick(n, kind, target)
        if choice:
            self.history.note(self.now, "broker", "fault", target, detail=kind)
        return choice

    def work(self, process, kind, target, key="", outcome="ok", seconds=0.01):
        operation = self.history.begin(self.now, process, kind, target, key)
        self.now += seconds
        finish(operation, self.now, outcome)


def execute(scenario, *, decisions, seed, faults, session, options):  # noqa: ARG001 - the seam
    sim = ToySimulation(decisions, seed, faults)
    failure = None
    coroutine = scenario(sim)
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    except BaseException as error:  # noqa: BLE001 - a failure is data here
        failure = error
    else:
        raise AssertionError("a toy scenario awaits nothing")
    fired = {}
    for fault in decisions.deviations:
        fired[fault.kind] = fired.get(fault.kind, 0) + 1
    lines = "\n".join(f"{op.invoked} {op.process} {op.kind} {op.target} {op.key}" for op in sim.history.operations)
    return RunRecord(
        failure=failure,
        deviations=tuple(decisions.deviations),
        history=sim.history,
        digest=blake2b(lines.encode(), digest_size=8).hexdigest(),
        virtual_seconds=sim.now,
        sometimes=sim.labels,
        fired=fired,
    )


TOY = Backend(execute, nullcontext)


def toy():
    return TOY
