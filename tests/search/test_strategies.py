"""Plans as a strategy: short, unique, evaluable, and how they shrink."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings

from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import Fault, PlannedDecisions
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.strategies import fault_plans

QUICK = settings(database=None, max_examples=2000)


@given(plan=fault_plans(["q", "w"]))
@settings(max_examples=50, database=None)
def test_a_plan_can_be_run_and_printed(plan):
    PlannedDecisions(plan)
    assert len(plan) <= 3
    assert eval(repr(plan)) == plan


def test_the_empty_plan_comes_first():
    assert find(fault_plans(["q"]), lambda _: True, settings=QUICK) == []


def test_one_fault_shrinks_to_the_first_of_the_mildest():
    assert find(fault_plans(["q", "w"]), bool, settings=QUICK) == [Fault("timer-tie", "q", 1)]


def test_a_needed_kind_stays():
    plan = find(fault_plans(["q"]), lambda plan: any(fault.kind == "kill" for fault in plan), settings=QUICK)
    assert plan == [Fault("kill", "q", 1)]


@given(plan=fault_plans(["q"], faults=Faults.only("kill", "reset"), max_faults=2, max_nth=2))
@settings(max_examples=50, database=None)
def test_bounds_are_kept(plan):
    assert len(plan) <= 2
    assert all(fault.kind in {"kill", "reset"} and fault.nth <= 2 for fault in plan)


def test_without_kinds_there_is_one_plan():
    assert find(fault_plans(["q"], faults=Faults.none()), lambda _: True, settings=QUICK) == []


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([],), {}, "list of names"),
        (("queue",), {}, "got 'queue'"),
        ((["q"],), {"max_faults": -1}, "max_faults from 0"),
        ((["q"],), {"max_nth": 0}, "max_nth from 1"),
    ],
)
def test_wrong_arguments(arguments, options, message):
    with pytest.raises(KitUsageError, match=message):
        fault_plans(*arguments, **options)
