"""One execution of a test that ``@simulate`` made: its examples, its plan or its replay, and the verdict.

Without ``@given`` there are no inputs to draw, so the examples are counted here and Hypothesis is asked for its settings
only (an example then costs 30 us instead of 370); with it, Hypothesis draws the inputs and the swarm's seed over a
synchronous function, a fresh loop an example. Once an example fails its minimal plan is held fixed while Hypothesis makes
the inputs smaller, and is then minimised again.
"""

from __future__ import annotations

import functools
import inspect
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from factflow_infra_testing.errors import KitUsageError, NothingHappenedError
from factflow_infra_testing.search import inputs as hypothesis_inputs
from factflow_infra_testing.search.decisions import mix, text_seed
from factflow_infra_testing.search.failures import signature_of, trimmed
from factflow_infra_testing.search.faults import Faults, known_kinds
from factflow_infra_testing.search.host import Host, Summary, current_host
from factflow_infra_testing.search.inputs import Inputs
from factflow_infra_testing.search.replay import PLAN_FILE, artifacts_folder, forget_artifacts, read_plan
from factflow_infra_testing.search.search import MINIMISE_RUNS, Finding, Searcher, mismatch
from factflow_infra_testing.search.surroundings import elsewhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from factflow_infra_testing.errors import PlanMismatchError
    from factflow_infra_testing.search.decisions import Fault, PlannedDecisions
    from factflow_infra_testing.search.failures import Signature
    from factflow_infra_testing.search.options import Options
    from factflow_infra_testing.search.replay import SavedPlan
    from factflow_infra_testing.search.run import Scenario
    from factflow_infra_testing.search.surroundings import Place

SIM: Final = "sim"
_EXAMPLE_SWARMS: Final = 20
_REPLAYS: Final = 3
"""How often a saved plan is run: what fails must fail each time."""


class _FailedExample(Exception):  # noqa: N818 - a signal to Hypothesis; the user never sees it
    """An example failed; its finding is held by the search."""


class TestExecution:
    """One execution of a decorated test: one search, one plan or one replay."""

    __test__ = False  # a name that pytest would collect

    def __init__(
        self,
        wrapper: Callable[..., Any],
        inner: Callable[..., Any],
        given: Any,
        options: Options,
        args: tuple[Any, ...],
        fixtures: dict[str, Any],
    ) -> None:
        self._wrapper = wrapper
        self._inner = inner
        self._given = given
        self._args = args
        self._fixtures = fixtures
        self._host: Host = current_host()
        replay = self._host.replay
        if replay is not None:
            options = replace(options, plan=replay.plan, seed=replay.seed, found_with=replay.found_with)
        tier = (replay.tier if replay is not None else None) or options.run.tier or self._host.tier
        options = replace(options, run=replace(options.run, tier=tier))
        self._options = options
        self._name = self._host.test or f"{inner.__module__}.{inner.__qualname__}"
        bound = list(inspect.signature(inner).parameters)[: len(args)]  # self
        self._not_drawn = {SIM, *fixtures, *bound}
        self._matched: set[Fault] = set()
        self._held: Finding | None = None
        self._inputs = Inputs({})
        self._blob = ("", "")
        self._reproduced = ""
        self._from_saved = False
        self._last_plan: PlannedDecisions | None = None
        self._struck: dict[Fault, Place] = {}

    def run(self) -> None:
        __tracebackhide__ = True
        options, host = self._options, self._host
        settings = hypothesis_inputs.effective_settings(self._wrapper)
        phases = {phase.name for phase in settings.phases}
        self._reuses = "reuse" in phases and host.seed is None and options.plan is None
        self._examples = host.examples or options.max_examples or settings.max_examples
        if "generate" not in phases:
            self._examples = 1
        self._seed = self._base_seed(derandomize=settings.derandomize)
        faults = options.faults if options.faults is not None else Faults.all()
        backend = options.backend()
        with backend.open_session() as session:
            self._searcher = searcher = Searcher(
                backend, session, faults, options=options.run, budget=MINIMISE_RUNS if "shrink" in phases else 0
            )
            finding = self._search_inputs() if self._given is not None else self._search_runs()
        coverage = searcher.coverage
        if options.plan is None:
            host.finished(Summary(test=self._name, coverage=coverage, seed=self._seed, failed=finding is not None))
        if finding is not None:
            self._fail(finding)
        if options.plan is None and host.artifacts is not None and host.test:
            forget_artifacts(host.artifacts, self._name)  # they would tell of a defect that is gone
        if options.plan is not None:
            stale = self._mismatch()
            if stale is not None:
                raise stale
        elif options.strict or host.strict:
            _require_coverage(coverage.never_fired, coverage.never_held, coverage.never_there)
        for line in (*self._elsewhere(), *coverage.never_there):
            host.notice(f"{self._name}: it passed, but {line}")

    def _base_seed(self, *, derandomize: bool) -> int:
        for chosen in (self._options.seed, self._host.seed, hypothesis_inputs.forced_seed()):
            if chosen is not None:
                return chosen
        return text_seed(self._name) if derandomize else secrets.randbits(32)

    def _scenario(self, inputs: Inputs) -> Scenario:
        def scenario(sim: Any) -> Awaitable[None]:
            return self._inner(*self._args, **{SIM: sim}, **self._fixtures, **inputs.fresh())

        return scenario

    # Without inputs: the examples are ours.

    def _search_runs(self) -> Finding | None:
        scenario = self._scenario(self._inputs)
        if self._options.plan is not None:
            return self._run_plan(scenario)
        saved = self._saved_plan()
        if saved is not None:
            finding = self._searcher.example_of(scenario, saved.plan, saved.seed)
            if finding is not None:
                self._from_saved = True
                return finding
        for example in range(1, self._examples + 1):
            seed = None if example == 1 else mix(self._seed, example)
            finding = self._searcher.believable(self._searcher.example(scenario, seed), example)
            if finding is not None:
                return finding
        return None

    def _saved_plan(self) -> SavedPlan | None:
        """The plan of this test's last failure: run first, so that a fix is judged at once."""
        if not self._reuses or self._host.artifacts is None:
            return None
        path = artifacts_folder(self._host.artifacts, self._name) / PLAN_FILE
        if not path.exists():
            return None
        try:
            saved = read_plan(path)
        except KitUsageError:
            return None  # of another version, or cut short: the search goes on without it
        known = known_kinds()
        return saved if saved.test == self._name and all(fault.kind in known for fault in saved.plan) else None

    def _run_plan(self, scenario: Scenario) -> Finding | None:
        plan, seed = self._options.plan or (), self._options.seed or 0
        record, decisions = self._searcher.planned(scenario, plan, seed)
        self._searcher.coverage.add(record, decisions.asked)
        self._matched.update(decisions.deviations)
        self._last_plan = decisions
        self._struck.update(record.places)
        if record.failure is None:
            return None
        if self._host.replay is not None:
            self._reproduced = self._count_reproduced(scenario, signature_of(record.failure))
        return Finding(
            signature=signature_of(record.failure),
            plan=plan,
            seed=seed,
            record=record,
            recorded=len(plan),
            runs=0,
            exhausted=False,
        )

    def _count_reproduced(self, scenario: Scenario, signature: Signature) -> str:
        plan, seed = self._options.plan or (), self._options.seed or 0
        records = self._searcher.confirm(scenario, plan, seed, _REPLAYS - 1)
        again = sum(record.failure is not None and signature_of(record.failure) == signature for record in records)
        return f"{1 + again} of {_REPLAYS}"

    # With inputs: the examples are Hypothesis'.

    def _search_inputs(self) -> Finding | None:
        given = self._given
        replay = self._host.replay
        hypothesis_inputs.prepare(given, self._wrapper, max_examples=self._examples, seed=self._seed)
        if replay is not None and replay.blob:
            hypothesis_inputs.replay_choices(given, replay.blob, replay.hypothesis_version)

        @functools.wraps(self._inner)
        def example(*_args: Any, **arguments: Any) -> None:
            self._example(arguments)

        given.hypothesis.inner_test = example
        try:
            given(*self._args, **{SIM: None}, **self._fixtures)
        except _FailedExample:
            pass
        except BaseException as error:
            if replay is not None and type(error).__name__ == "DidNotReproduce":
                return None  # the saved inputs pass now
            # With the plan held fixed a test that draws as it goes may draw more or less than it did under its swarm, which
            # Hypothesis calls flaky. Then its inputs are as small as they got; the finding stands, confirmed by itself.
            if self._held is None or not hypothesis_inputs.is_flaky(error):
                raise
        finally:
            given.hypothesis.inner_test = self._inner
        return self._held

    def _example(self, arguments: dict[str, Any]) -> None:
        inputs = Inputs({name: value for name, value in arguments.items() if name not in self._not_drawn})
        swarm = hypothesis_inputs.draw_swarm_seed()
        scenario = self._scenario(inputs)
        held = self._held
        if held is not None:
            record, _ = self._searcher.planned(scenario, held.plan, held.seed)
            if record.failure is None or signature_of(record.failure) != held.signature:
                return
            finding: Finding | None = replace(held, record=record)
            # Inside the example, where `assume` and `note` still work.
            if self._options.plan is None and hypothesis_inputs.is_final_example():
                finding = self._searcher.reduce_again(scenario, held)
        elif self._options.plan is not None:
            finding = self._run_plan(scenario)
        elif swarm is None:
            finding = self._explicit(scenario)
        else:
            finding = self._searcher.example(scenario, swarm or None)
        if finding is not None:
            self._held, self._inputs = finding, inputs
            self._blob = hypothesis_inputs.choices_blob()
            raise _FailedExample

    def _explicit(self, scenario: Scenario) -> Finding | None:
        for number in range(_EXAMPLE_SWARMS + 1):
            finding = self._searcher.example(scenario, mix(self._seed, number) if number else None)
            if finding is not None:
                return finding
        return None

    # The verdict.

    def _mismatch(self) -> PlanMismatchError | None:
        plan = self._options.plan or ()
        if self._last_plan is None or all(fault in self._matched for fault in plan):
            return None
        stale = mismatch(self._last_plan)
        for line in self._elsewhere():
            stale.add_note(f"Note: {line}.")
        return stale

    def _elsewhere(self) -> list[str]:
        """What there is to say of a plan that may mean something else here than where it was found."""
        plan, replay = self._options.plan or (), self._host.replay
        then = {fault: code for fault, code in zip(replay.plan, replay.places, strict=False) if code} if replay else {}
        return elsewhere(plan, self._options.found_with, then, self._struck)

    def _fail(self, finding: Finding) -> NoReturn:
        __tracebackhide__ = True
        from factflow_infra_testing.report.failure import FailureReport, publish

        blob, version = self._blob
        report = FailureReport(
            test=self._name,
            finding=finding,
            inputs=self._inputs.rendered(),
            search_seed=self._seed,
            examples=self._searcher.coverage.runs,
            from_saved=self._from_saved,
            given_plan=self._options.plan is not None,
            reproduced=self._reproduced,
            blob=blob,
            hypothesis_version=version,
            unmatched="\n".join(
                [str(self._mismatch() or ""), *(f"Note: {line}." for line in self._elsewhere())]
            ).strip(),
        )
        failure = trimmed(finding.failure)
        text = publish(report, self._host)
        if self._host.report is not None:
            self._host.report(text)
            failure.add_note(report.headline)
        else:
            failure.add_note(text)
        raise failure


def _require_coverage(never_fired: Sequence[str], never_held: Sequence[str], never_there: Sequence[str]) -> None:
    __tracebackhide__ = True
    if never_fired or never_held or never_there:
        raise NothingHappenedError(
            "The search passed, but it is weaker than it looks:"
            + (f"\n  faults that never fired: {', '.join(never_fired)}" if never_fired else "")
            + (f"\n  `sometimes` that was never true: {', '.join(map(repr, never_held))}" if never_held else "")
            + "".join(f"\n  {line}" for line in never_there)
            + "\nRaise max_examples, or take the kinds out with Faults.all() - {...}."
        )
