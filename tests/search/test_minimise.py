"""Minimising: planted conditions of one, two and three faults, budgets, and what is preferred."""

from __future__ import annotations

import random

import pytest

from factflow_infra_testing.search.decisions import Fault
from factflow_infra_testing.search.minimise import minimise

NOISE = [
    Fault(kind, target, nth, choice)
    for kind in ("a", "b", "c")
    for target in "xy"
    for nth in range(1, 5)
    for choice in (1,)
]


def plan_with(*needed, seed=0):
    plan = [fault for fault in NOISE if fault not in needed] + list(needed)
    random.Random(seed).shuffle(plan)
    return plan


def needs(*needed):
    """Fails iff all of ``needed`` happen; every fault takes place."""

    def reproduces(plan):
        return plan if set(needed) <= set(plan) else None

    return reproduces


NEEDED = (Fault("a", "x", 1), Fault("kill", "w", 1), Fault("b", "y", 1))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_exactly_the_needed_faults_are_left(count, seed):
    needed = NEEDED[:count]
    result = minimise(needs(*needed), plan_with(*needed, seed=seed))
    assert set(result.plan) == set(needed)
    assert not result.exhausted
    assert result.runs < 150


def test_no_fault_is_left_where_none_is_needed():
    assert minimise(lambda plan: plan, plan_with()).plan == ()


def test_of_several_single_faults_the_mildest_is_kept():
    ranks = {"a": 2, "b": 1, "c": 0}
    result = minimise(lambda plan: plan or None, plan_with(), ranks=ranks)
    assert [(fault.kind, fault.nth) for fault in result.plan] == [("c", 1)]


def test_a_choice_becomes_the_mildest_that_suffices():
    def reproduces(plan):
        return plan if any(fault.choice >= 2 for fault in plan) else None

    assert minimise(reproduces, [Fault("delay", "q", 1, 5), Fault("kill", "w", 1)]).plan == (Fault("delay", "q", 1, 2),)


def test_an_ordinal_becomes_the_earliest_that_suffices():
    def reproduces(plan):
        return plan if any(fault.kind == "ack-lost" and fault.nth >= 3 for fault in plan) else None

    assert minimise(reproduces, [Fault("ack-lost", "q", 40), Fault("kill", "w", 1)]).plan == (
        Fault("ack-lost", "q", 3),
    )


def test_simpler_never_decides_one_place_twice():
    def reproduces(plan):
        places = [(fault.kind, fault.target, fault.nth) for fault in plan]
        assert len(set(places)) == len(places)
        return plan if len(plan) == 2 else None

    result = minimise(reproduces, [Fault("k", "t", 5), Fault("k", "t", 9)])
    assert [fault.nth for fault in result.plan] == [1, 2]


def test_what_took_no_effect_is_dropped():
    def reproduces(plan):
        hit = tuple(fault for fault in plan if fault.kind != "dead")
        return hit if {fault.kind for fault in hit} >= {"a", "b"} else None

    plan = [Fault("dead", "x", 1), Fault("a", "x", 1), Fault("b", "x", 1)]
    assert set(minimise(reproduces, plan).plan) == {Fault("a", "x", 1), Fault("b", "x", 1)}


def test_the_budget_bounds_the_runs_and_the_best_so_far_is_given():
    runs = []

    def reproduces(plan):
        runs.append(plan)
        return plan if {*NEEDED} <= {*plan} else None

    result = minimise(reproduces, plan_with(*NEEDED), budget=30)
    assert len(runs) == result.runs == 30
    assert result.exhausted
    assert {*NEEDED} <= {*result.plan}
    assert len(result.plan) < len(plan_with(*NEEDED))


def test_no_plan_is_run_twice():
    runs = []

    def reproduces(plan):
        runs.append(tuple(sorted(plan)))
        return plan if {*NEEDED} <= {*plan} else None

    minimise(reproduces, plan_with(*NEEDED))
    assert len(runs) == len(set(runs))
