"""The search for a failing run: benign first, then swarms; a failure is reduced to a plan that reproduces it twice."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.errors import NondeterminismError, PlanMismatchError
from factflow_infra_testing.search.coverage import Coverage
from factflow_infra_testing.search.decisions import Fault, PlannedDecisions, SwarmDecisions, benign, mix
from factflow_infra_testing.search.failures import Signature, is_control, signature_of
from factflow_infra_testing.search.faults import Faults, known_kinds
from factflow_infra_testing.search.minimise import minimise
from factflow_infra_testing.search.run import Backend, RunOptions, RunRecord, Scenario, default_backend
from factflow_infra_testing.search.swarm import split, swarm_decisions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from factflow_infra_testing.search.kinds import FaultKind

MINIMISE_RUNS = 500
"""How many runs one minimisation may cost."""
SHORT_PLAN = 2
"""Faults that a plan may have before a shorter one is looked for."""
SIMPLER_RUNS = 200
"""How many runs that may cost, minimising not counted."""
_SIMPLER_SALT = 0x5349_4D50


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A failure and the smallest plan that was found to reproduce it, every time.

    ``seed`` is that of the run itself (ids, jitter), 0 wherever 0 reproduces it too. ``recorded`` is how many decisions
    deviated when it was first seen; ``runs`` what minimising cost; ``exhausted`` that the budget ended it early.
    """

    signature: Signature
    plan: tuple[Fault, ...]
    seed: int
    record: RunRecord
    recorded: int
    runs: int
    exhausted: bool

    @property
    def failure(self) -> BaseException:
        if self.record.failure is None:
            raise AssertionError("a finding without a failure")  # pragma: no cover - constructed from failures only
        return self.record.failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a whole search came to. ``examples`` counts the runs until the failure, that one included."""

    finding: Finding | None
    examples: int
    coverage: Coverage
    seed: int
    seconds: float


class Searcher:
    """Runs examples of one search inside one open session."""

    def __init__(
        self,
        backend: Backend,
        session: Any,
        faults: Faults,
        *,
        options: RunOptions | None = None,
        budget: int = MINIMISE_RUNS,
    ) -> None:
        self._execute = backend.execute
        self._session = session
        self._faults = faults
        self._options = options or RunOptions()
        self._budget = budget
        registry = known_kinds()
        self._kinds = tuple(registry[kind] for kind in faults)
        self._idle: tuple[FaultKind, ...] = ()
        self._ranks = {kind: rank for rank, kind in enumerate(registry)}
        self.coverage = Coverage(kinds=tuple(faults), named=faults.named)

    def run(self, scenario: Scenario, decisions: PlannedDecisions | SwarmDecisions, seed: int) -> RunRecord:
        """One run. An exception that steers a test runner is raised; any other is in the record."""
        try:
            record = self._execute(
                scenario,
                decisions=decisions,
                seed=seed,
                faults=self._faults,
                session=self._session,
                options=self._options,
            )
        except BaseException as error:
            if is_control(error) or isinstance(error, Exception):
                raise
            # One that leaves a loop at once although it is a verdict on the test: pytest.fail() is a BaseException.
            record = RunRecord(failure=error, deviations=tuple(decisions.deviations))
        if record.failure is not None and is_control(record.failure):
            raise record.failure
        return record

    def example(self, scenario: Scenario, seed: int | None) -> Finding | None:
        """Run the swarm of ``seed`` (None: no fault); a failure is minimised before it is returned."""
        decisions = self._again(seed)
        run_seed = 0 if seed is None else seed
        record = self.run(scenario, decisions, run_seed)
        self.coverage.add(record, decisions.asked)
        if seed is None:
            self._kinds, self._idle = split((*self._kinds, *self._idle), record.parts)
        if record.failure is None:
            return None
        return self._simpler(
            scenario, self._reduce(scenario, record, run_seed, again=lambda: self._again(seed)), run_seed
        )

    @staticmethod
    def believable(finding: Finding | None, example: int) -> Finding | None:
        """``finding``, unless it is the run that was the first example of the same search, without any fault, and passed then."""
        if finding is None or example == 1 or finding.plan or finding.seed:
            return finding
        raise NondeterminismError(
            f"Run 1, without any fault, passed; the same run fails after {example - 1} other{'s' if example > 2 else ''}: "
            f"{finding.signature}. So a run leaves something to the next, and no plan would reproduce this: a module-wide cache, counter "
            "or connection pool, lru_cache, a class attribute, an object made outside the test."
        )

    def _simpler(self, scenario: Scenario, finding: Finding, seed: int) -> Finding:
        """Of a plan that stays long though nothing in it can go, look for a shorter one to the same failure.

        Minimising only takes away; another swarm may get there on a way of its own, with fewer faults.
        """
        if self._budget == 0:
            return finding
        runs = finding.runs
        for number in range(SIMPLER_RUNS):
            if len(finding.plan) <= SHORT_PLAN:
                break
            other = mix(seed, _SIMPLER_SALT, number)
            record = self.run(scenario, self._again(other), other)
            runs += 1
            if record.failure is None or signature_of(record.failure) != finding.signature:
                continue
            found = self._reduce(scenario, record, other, again=lambda other=other: self._again(other))
            runs += found.runs
            if len(found.plan) < len(finding.plan):
                finding = replace(found, recorded=finding.recorded)
        return replace(finding, runs=runs)

    def example_of(self, scenario: Scenario, plan: Sequence[Fault], seed: int) -> Finding | None:
        """Run ``plan`` as an example: a failure is minimised before it is returned."""
        record, decisions = self.planned(scenario, plan, seed)
        self.coverage.add(record, decisions.asked)
        if record.failure is None:
            return None
        return self._reduce(scenario, record, seed, again=lambda: PlannedDecisions(plan))

    def planned(self, scenario: Scenario, plan: Iterable[Fault], seed: int) -> tuple[RunRecord, PlannedDecisions]:
        """Run ``plan``, and nothing else."""
        decisions = PlannedDecisions(plan)
        record = self.run(scenario, decisions, seed)
        return record, decisions

    def reduce_again(self, scenario: Scenario, finding: Finding) -> Finding:
        """Minimise ``finding`` once more, for a scenario whose inputs became smaller. It must fail with its plan."""
        record, _ = self.planned(scenario, finding.plan, finding.seed)
        if record.failure is None or signature_of(record.failure) != finding.signature:
            raise _nondeterminism("The smaller inputs failed once and then no more", finding.record, record)
        again = self._reduce(scenario, record, finding.seed, again=lambda: PlannedDecisions(finding.plan))
        return replace(again, recorded=finding.recorded, runs=finding.runs + again.runs)

    def confirm(self, scenario: Scenario, plan: Sequence[Fault], seed: int, times: int) -> list[RunRecord]:
        return [self.planned(scenario, plan, seed)[0] for _ in range(times)]

    def _again(self, seed: int | None) -> PlannedDecisions | SwarmDecisions:
        return benign() if seed is None else swarm_decisions(seed, self._kinds, self._idle)

    def _reduce(
        self,
        scenario: Scenario,
        first: RunRecord,
        seed: int,
        *,
        again: Callable[[], PlannedDecisions | SwarmDecisions],
    ) -> Finding:
        if first.failure is None:
            raise AssertionError("nothing to reduce")  # pragma: no cover - callers checked
        signature = signature_of(first.failure)

        def reproduces_with(run_seed: int) -> Callable[[tuple[Fault, ...]], tuple[Fault, ...] | None]:
            def reproduces(plan: tuple[Fault, ...]) -> tuple[Fault, ...] | None:
                record, decisions = self.planned(scenario, plan, run_seed)
                if record.failure is None or signature_of(record.failure) != signature:
                    return None
                return tuple(decisions.deviations)

            return reproduces

        # A plan alone should do, so the seed of the run is made 0 where the failure does not hang on it.
        plan = first.deviations
        run_seed = 0 if seed == 0 or reproduces_with(0)(plan) is not None else seed
        if run_seed != 0 and reproduces_with(run_seed)(plan) is None:
            self._explain_difference(scenario, first, seed, again)
        small = minimise(reproduces_with(run_seed), plan, ranks=self._ranks, budget=self._budget)
        one, two = self.confirm(scenario, small.plan, run_seed, 2)
        for record in (one, two):
            if record.failure is None or signature_of(record.failure) != signature:
                raise _nondeterminism("The minimal plan failed once and then no more", first, record)
        if one.digest != two.digest:
            raise _nondeterminism("The minimal plan fails each time, but not in the same way", one, two)
        return Finding(
            signature=signature,
            plan=small.plan,
            seed=run_seed,
            record=two,
            recorded=len(plan),
            runs=small.runs,
            exhausted=small.exhausted,
        )

    def _explain_difference(
        self,
        scenario: Scenario,
        first: RunRecord,
        seed: int,
        again: Callable[[], PlannedDecisions | SwarmDecisions],
    ) -> None:
        second = self.run(scenario, again(), seed)
        if second.digest != first.digest:
            raise _nondeterminism("The failing run was repeated with the same decisions", first, second)
        replayed, _ = self.planned(scenario, first.deviations, seed)
        raise _nondeterminism(
            "The recorded deviations do not lead to the run that they were recorded in", first, replayed
        )


def search(
    scenario: Scenario,
    *,
    faults: Faults,
    max_examples: int = 100,
    seed: int = 0,
    options: RunOptions | None = None,
    backend: Backend | None = None,
    minimise_budget: int = MINIMISE_RUNS,
    on_example: Callable[[int], None] | None = None,
) -> SearchResult:
    """Look for a failing run of ``scenario`` in up to ``max_examples`` runs; the same ``seed`` searches the same runs.

    This is the decorator without its test runner: for programs that search, such as the demo. ``on_example`` is called
    after each example with its number, from 1.
    """
    backend = backend or default_backend()
    started = time.perf_counter()
    with backend.open_session() as session:
        searcher = Searcher(backend, session, faults, options=options, budget=minimise_budget)
        finding: Finding | None = None
        example = 0
        for example in range(1, max_examples + 1):
            seed_of_it = None if example == 1 else mix(seed, example)
            finding = searcher.believable(searcher.example(scenario, seed_of_it), example)
            if on_example is not None:
                on_example(example)
            if finding is not None:
                break
    return SearchResult(
        finding=finding,
        examples=example,
        coverage=searcher.coverage,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def mismatch(decisions: PlannedDecisions) -> PlanMismatchError:
    """The error for a plan with entries that met no decision: which, and what there was instead."""
    lines: list[str] = []
    for fault in decisions.unmatched:
        occurred = decisions.occurred(fault.kind)
        if fault.target in occurred:
            count = occurred[fault.target]
            what = (
                f"{fault.kind!r} on {fault.target!r} was decided {count} time{'s' if count != 1 else ''}"
                if fault.nth > count
                else f"there is no choice {fault.choice} at that point"
            )
        elif occurred:
            what = f"{fault.kind!r} was decided on " + ", ".join(
                f"{target!r} ({count})" for target, count in sorted(occurred.items())
            )
        else:
            what = f"{fault.kind!r} was never decided in this run"
        lines.append(f"  {fault!r}: {what}")
    return PlanMismatchError(
        "The plan names faults that did not take place, so it tests less than it says:\n"
        + "\n".join(lines)
        + "\nTake these entries out, or give them ordinals and targets that occur."
    )


def _nondeterminism(what: str, one: RunRecord, two: RunRecord) -> NondeterminismError:
    return NondeterminismError(
        f"{what}, and the runs differ. This is a defect of the kit, or state outside its reach (a global that one run "
        "leaves to the next, a thread, a real clock).\n"
        f"  first:  {_outcome(one)}, digest {one.digest or 'none'}\n"
        f"  second: {_outcome(two)}, digest {two.digest or 'none'}"
    )


def _outcome(record: RunRecord) -> str:
    return "passed" if record.failure is None else f"failed ({signature_of(record.failure)})"
