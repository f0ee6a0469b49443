"""The search over a toy executor: planted bugs, coverage, determinism, and what it says of runs that do not repeat."""

from __future__ import annotations

import pytest
from toy_backend import TOY

from factflow_infra_testing.errors import NondeterminismError
from factflow_infra_testing.search.decisions import Fault, PlannedDecisions
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.run import Backend
from factflow_infra_testing.search.search import search

ALL = Faults.all()
KINDS = ("ack-lost", "reset", "duplicate", "publish-refused")


def look(scenario, **options):
    return search(scenario, **{"faults": ALL, "max_examples": 300, "backend": TOY, **options})


def strikes(sim):
    """Five rounds of four questions: what happened, by kind."""
    seen = []
    for n in range(5):
        seen += [(kind, n) for kind in KINDS if sim.strike(kind, "orders", 3 if kind == "reset" else 2)]
        sim.work("worker", "handle", "orders", f"m{n}")
    return seen


async def correct(sim):
    strikes(sim)


async def needs_one(sim):
    assert not any(kind == "ack-lost" for kind, _ in strikes(sim)), "one ack lost"


async def needs_two(sim):
    assert sum(kind == "ack-lost" for kind, _ in strikes(sim)) < 2, "two acks lost"


async def needs_three(sim):
    assert not {"ack-lost", "reset", "duplicate"} <= {kind for kind, _ in strikes(sim)}, "all three"


async def needs_none(sim):
    strikes(sim)
    raise RuntimeError("always")


@pytest.mark.parametrize(
    ("scenario", "plan"),
    [
        (needs_none, ()),
        (needs_one, (Fault("ack-lost", "orders", 1),)),
        (needs_two, (Fault("ack-lost", "orders", 1), Fault("ack-lost", "orders", 2))),
        (needs_three, (Fault("ack-lost", "orders", 1), Fault("duplicate", "orders", 1), Fault("reset", "orders", 1))),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_planted_bugs_are_found_and_their_plans_are_minimal(scenario, plan, seed):
    result = look(scenario, seed=seed, max_examples=1500)
    assert result.finding is not None
    assert tuple(sorted(result.finding.plan)) == plan
    assert result.finding.seed == 0
    assert result.finding.record.failure is not None


def test_the_first_example_is_benign():
    seen = []

    async def scenario(sim):
        seen.append(strikes(sim))

    look(scenario, max_examples=20)
    assert seen[0] == []
    assert any(seen[1:])


def test_a_correct_scenario_passes_and_everything_fired():
    result = look(correct)
    assert result.finding is None
    assert result.examples == result.coverage.runs == 300
    assert {"ack-lost", "reset", "duplicate", "publish-refused"} <= set(result.coverage.fired)
    assert result.coverage.never_fired == ()


def test_the_same_seed_searches_the_same_runs():
    def digests(seed):
        seen = []

        async def scenario(sim):
            seen.append(strikes(sim))

        look(scenario, seed=seed, max_examples=30)
        return seen

    assert digests(4) == digests(4) != digests(5)


def test_faults_that_are_not_wanted_do_not_happen():
    result = look(needs_one, faults=ALL - {"ack-lost"})
    assert result.finding is None
    assert "ack-lost" not in result.coverage.fired


class TestCoverage:
    def test_a_named_kind_without_a_place_is_missed(self):
        assert look(correct, faults=Faults.only("ack-lost", "kill")).coverage.never_fired == ("kill",)

    def test_a_kind_that_was_asked_for_and_never_fired_is_missed(self):
        async def scenario(sim):
            sim.decisions.pick(1, "kill", "worker")  # asked, but there is nothing to choose from

        assert look(scenario).coverage.never_fired == ("kill",)

    def test_sometimes(self):
        async def scenario(sim):
            sim.check.sometimes("struck", bool(strikes(sim)))
            sim.check.sometimes("pigs fly", False)

        coverage = look(scenario).coverage
        assert coverage.sometimes == {"struck": True, "pigs fly": False}
        assert coverage.never_held == ("pigs fly",)


class TestNondeterminism:
    def test_a_global_that_leaks_between_runs_is_reported_with_both_digests(self):
        runs = []

        async def scenario(sim):
            runs.append(None)
            hit = strikes(sim)
            sim.work("worker", "log", "", str(len(runs)))
            assert not hit or len(runs) > 8

        with pytest.raises(NondeterminismError, match=r"(?s)defect of the kit.*digest \w{16}.*digest \w{16}"):
            look(scenario)

    def test_a_plan_that_fails_in_different_ways_is_reported(self):
        runs = []

        async def scenario(sim):
            runs.append(None)
            sim.work("worker", "log", "", str(len(runs)))
            assert not strikes(sim)

        with pytest.raises(NondeterminismError, match="not in the same way"):
            look(scenario)


def test_a_failure_that_hangs_on_the_seed_of_the_run_keeps_it():
    async def scenario(sim):
        assert not (sim.strike("ack-lost", "q") and sim.seed % 2)

    finding = look(scenario).finding
    assert finding.seed % 2 == 1
    assert finding.plan == (Fault("ack-lost", "q", 1),)


def test_another_failure_on_the_way_does_not_mislead_the_minimiser():
    async def scenario(sim):
        seen = {kind for kind, _ in strikes(sim)}
        if {"reset", "duplicate"} <= seen:
            raise KeyError("the one found")
        if seen and isinstance(sim.decisions, PlannedDecisions):
            raise KeyError("another, met only while minimising")

    finding = look(scenario).finding
    assert {fault.kind for fault in finding.plan} == {"reset", "duplicate"}
    assert finding.failure.args == ("the one found",)


def test_the_session_is_opened_once_and_closed():
    events = []

    class Session:
        def __enter__(self):
            events.append("open")
            return self

        def __exit__(self, *_):
            events.append("close")

    look(correct, backend=Backend(TOY.execute, Session), max_examples=5)
    with pytest.raises(KeyboardInterrupt):
        look(interrupted, backend=Backend(TOY.execute, Session), max_examples=5)
    assert events == ["open", "close"] * 2


async def interrupted(_sim):
    raise KeyboardInterrupt


def test_progress_is_told():
    seen = []
    look(correct, max_examples=4, on_example=seen.append)
    assert seen == [1, 2, 3, 4]
