"""Decisions: ordinals, streams that do not disturb each other, plans that say what they missed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import factflow_infra_testing
from factflow_infra_testing.search.decisions import Fault, PlannedDecisions, SwarmDecisions, benign, mix, text_seed
from factflow_infra_testing.search.kinds import Budget


def asked(decisions, kind, target, times, n=2):
    return [decisions.pick(n, kind, target) for _ in range(times)]


ROOT = str(Path(factflow_infra_testing.__file__).parent.parent)


class TestFault:
    def test_repr_is_python_and_leaves_the_usual_choice_out(self):
        for fault in (Fault("ack-lost", "/queue/it's", 3), Fault("kill", "worker", 1, 2)):
            assert eval(repr(fault)) == fault
        assert repr(Fault("ack-lost", "q", 1)) == "Fault('ack-lost', 'q', 1)"

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (("ack-lost", "q", 0), ValueError, "counts from 1"),
            (("ack-lost", "q", 1, 0), ValueError, "choice 0 is no fault"),
            (("ack-lost", "q", True), TypeError, "whole numbers"),
            (("ack-lost", "q", "1"), TypeError, "whole numbers"),
            ((None, "q", 1), TypeError, "strings, got None"),
        ],
    )
    def test_a_wrong_one_says_so(self, arguments, error, message):
        with pytest.raises(error, match=message):
            Fault(*arguments)


class TestSwarm:
    def test_kinds_with_a_budget_share_it_and_replay_without_it(self):
        budget = Budget("storage", 3)
        decisions = SwarmDecisions(1, {"a": 0.5, "b": 0.5, "c": 0.5}, {"a": budget, "b": budget})
        for _ in range(50):
            for kind in ("a", "b", "c"):
                decisions.pick(2, kind, "t")
        struck = [fault.kind for fault in decisions.deviations]
        assert struck.count("a") + struck.count("b") == 3
        assert struck.count("c") > 10
        replayed = PlannedDecisions(decisions.deviations)
        for _ in range(50):
            for kind in ("a", "b", "c"):
                replayed.pick(2, kind, "t")
        assert replayed.deviations == decisions.deviations
        by_hand = PlannedDecisions([Fault("a", "t", nth) for nth in range(1, 6)])
        assert sum(by_hand.pick(2, "a", "t") for _ in range(5)) == 5

    def test_a_kind_without_a_rate_never_deviates(self):
        decisions = SwarmDecisions(1, {"kill": 1.0, "reset": 0.0})
        assert asked(decisions, "ack-lost", "q", 1000) == asked(decisions, "reset", "q", 1000) == [0] * 1000
        assert not decisions.enabled("ack-lost")
        assert not decisions.enabled("reset")
        assert decisions.enabled("kill")

    def test_same_seed_same_answers_other_seed_other_answers(self):
        answers = [asked(SwarmDecisions(seed, {"kill": 0.3}), "kill", "w", 200) for seed in (7, 7, 8)]
        assert answers[0] == answers[1] != answers[2]

    def test_answers_do_not_depend_on_what_else_is_asked(self):
        alone, mixed = SwarmDecisions(7, {"a": 0.3, "b": 0.3}), SwarmDecisions(7, {"a": 0.3, "b": 0.3})
        for _ in range(100):
            mixed.pick(2, "b", "y")
            mixed.pick(2, "a", "z")
            assert alone.pick(2, "a", "x") == mixed.pick(2, "a", "x")

    @pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
    def test_the_rate_is_kept(self, rate):
        hits = sum(asked(SwarmDecisions(3, {"k": rate}), "k", "t", 20_000))
        assert abs(hits / 20_000 - rate) < 0.15 * rate + 0.005

    def test_a_rate_of_one_always_deviates(self):
        assert asked(SwarmDecisions(3, {"k": 1.0}), "k", "t", 50) == [1] * 50

    def test_every_choice_comes_and_none_is_out_of_range(self):
        assert set(asked(SwarmDecisions(3, {"k": 1.0}), "k", "t", 200, n=4)) == {1, 2, 3}

    def test_where_there_is_one_choice_there_is_no_deviation(self):
        decisions = SwarmDecisions(3, {"k": 1.0})
        assert asked(decisions, "k", "t", 5, n=1) == [0] * 5
        assert decisions.deviations == []

    def test_deviations_are_the_answers_by_ordinal(self):
        decisions = SwarmDecisions(5, {"k": 0.4})
        answers = asked(decisions, "k", "t", 40, n=3)
        assert decisions.deviations == [Fault("k", "t", nth, c) for nth, c in enumerate(answers, 1) if c]

    def test_quiet_ends_the_faults_and_the_counting(self):
        decisions = SwarmDecisions(5, {"k": 1.0})
        asked(decisions, "k", "t", 3)
        decisions.quiet()
        assert asked(decisions, "k", "t", 3) == [0, 0, 0]
        assert not decisions.enabled("k")
        assert decisions.asked == {"k": 3}

    @pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
    def test_a_rate_is_a_share(self, rate):
        with pytest.raises(ValueError, match="between 0 and 1"):
            SwarmDecisions(1, {"k": rate})

    def test_streams_do_not_hang_on_the_hash_seed(self):
        code = (
            "from factflow_infra_testing.search.decisions import SwarmDecisions\n"
            "d = SwarmDecisions(9, {'a': .2, 'b': .4})\n"
            "print([d.pick(3, k, t) for _ in range(50) for k in 'ab' for t in 'xy'])"
        )
        outputs = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": ROOT},
                capture_output=True,
                check=True,
            ).stdout
            for seed in ("0", "12345")
        }
        assert len(outputs) == 1


class TestPlan:
    def test_it_deviates_exactly_where_it_says(self):
        decisions = PlannedDecisions([Fault("k", "t", 2), Fault("k", "u", 1, 3)])
        assert asked(decisions, "k", "t", 4) == [0, 1, 0, 0]
        assert asked(decisions, "k", "u", 2, n=4) == [3, 0]
        assert decisions.unmatched == ()
        assert decisions.deviations == [Fault("k", "t", 2), Fault("k", "u", 1, 3)]

    def test_replaying_what_a_swarm_recorded_gives_the_same_answers(self):
        swarm = SwarmDecisions(11, {"a": 0.3, "b": 0.1})
        questions = [(3, kind, target) for _ in range(100) for kind in "ab" for target in "xy"]
        answers = [swarm.pick(*question) for question in questions]
        plan = PlannedDecisions(swarm.deviations)
        assert [plan.pick(*question) for question in questions] == answers
        assert plan.deviations == swarm.deviations

    def test_what_met_nothing_is_known(self):
        decisions = PlannedDecisions([Fault("k", "t", 5), Fault("k", "t", 1, 2), Fault("gone", "t", 1)])
        asked(decisions, "k", "t", 2)
        assert decisions.unmatched == (Fault("k", "t", 5), Fault("k", "t", 1, 2), Fault("gone", "t", 1))
        assert decisions.occurred("k") == {"t": 2}
        assert decisions.occurred("gone") == {}

    def test_one_place_decided_twice_is_refused(self):
        with pytest.raises(ValueError, match="number 1 twice"):
            PlannedDecisions([Fault("k", "t", 1), Fault("k", "t", 1, 2)])

    def test_quiet(self):
        decisions = PlannedDecisions([Fault("k", "t", 1)])
        decisions.quiet()
        assert decisions.pick(2, "k", "t") == 0
        assert not decisions.enabled("k")

    def test_benign_is_the_empty_plan(self):
        decisions = benign()
        assert asked(decisions, "k", "t", 3) == [0, 0, 0]
        assert not decisions.enabled("k")
        assert decisions.asked == {"k": 3}


def test_mix_is_pinned():
    """Seeds in bug reports must keep their meaning across releases."""
    assert (mix(0), mix(1), mix(1, 2)) == (16294208416658607535, 10451216379200822465, 13608149317741381227)
    assert mix(1, 2) != mix(2, 1)
    assert text_seed("ack-lost") == 4183713454


def test_a_kind_that_tires_strikes_a_target_ever_more_rarely_and_the_next_target_as_before():
    def strikes(tiring):
        decisions = SwarmDecisions(5, {"kill": 0.2}, tiring=tiring)
        for target in ("start", "handle"):
            for _ in range(2000):
                decisions.pick(3, "kill", target)
        return [
            [fault.nth for fault in decisions.deviations if fault.target == target] for target in ("start", "handle")
        ]

    tired, tireless = strikes({"kill"}), strikes(())
    assert [one[0] for one in tired] == [one[0] for one in tireless]  # the first comes as it would
    assert all(len(one) > 300 for one in tireless)
    assert all(5 <= len(one) <= 12 for one in tired)
