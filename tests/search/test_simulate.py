"""The decorator, over the toy executor: with and without inputs, plans, options, what it refuses."""

from __future__ import annotations

import inspect
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from toy_backend import toy

from factflow_infra_testing.errors import KitUsageError, NothingHappenedError, PlanMismatchError, UnknownFaultError
from factflow_infra_testing.search.decisions import Fault
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.host import Host, hosted
from factflow_infra_testing.search.simulate import simulate


def notes_of(excinfo):
    return "\n".join(excinfo.value.__notes__)


class TestWithoutInputs:
    def test_the_failure_is_the_users_own_exception_with_the_report_as_its_note(self):
        @simulate(backend=toy, seed=1)
        async def test(sim):
            for _ in range(5):
                if sim.strike("ack-lost", "orders"):
                    raise LookupError("lost")

        with pytest.raises(LookupError, match="lost") as excinfo:
            test()
        assert "@simulate(plan=[Fault('ack-lost', 'orders', 1)])" in notes_of(excinfo)
        assert "Hypothesis" not in notes_of(excinfo)
        own = [entry.frame.code.name for entry in excinfo.traceback if "factflow_infra_testing" not in str(entry.path)]
        assert own[-1] == "test"

    def test_examples_are_counted_first_option_then_settings(self):
        runs = []

        async def count(sim):
            runs.append(sim)

        for decorate, host, expected in [
            (simulate(backend=toy, max_examples=7), Host(), 7),
            (simulate(backend=toy, max_examples=7), Host(examples=3), 3),
            (lambda test: simulate(backend=toy)(settings(max_examples=9)(test)), Host(), 9),
            (lambda test: settings(max_examples=9)(simulate(backend=toy)(test)), Host(), 9),
            (lambda test: settings(phases=[Phase.explicit])(simulate(backend=toy)(test)), Host(), 1),
        ]:

            async def test(sim):
                await count(sim)

            runs.clear()
            with hosted(host):
                decorate(test)()
            assert len(runs) == expected

    def test_without_the_shrink_phase_the_plan_is_as_recorded(self):
        @settings(phases=[Phase.generate], max_examples=300)
        @simulate(backend=toy, seed=2)
        async def test(sim):
            hits = sum(sim.strike("reset", "q", 2) for _ in range(30))
            assert hits < 5

        with pytest.raises(AssertionError) as excinfo:
            test()
        assert "Smallest plan found so far" in notes_of(excinfo)

    def test_the_bare_decorator(self):
        decorated = simulate(needs_the_real_thing)
        assert decorated.__name__ == "needs_the_real_thing"
        assert not inspect.iscoroutinefunction(decorated)

    def test_derandomize_searches_the_same_runs(self):
        seen = []

        @settings(derandomize=True, max_examples=20)
        @simulate(backend=toy)
        async def test(sim):
            seen.append(sim.seed)

        test()
        test()
        assert seen[:20] == seen[20:]

    def test_skips_are_not_failures(self):
        @simulate(backend=toy)
        async def test(_sim, sim=None):  # noqa: ARG001 - the search passes it
            pytest.skip("not here")

        with pytest.raises(pytest.skip.Exception):
            test(None)

    def test_methods(self):
        class TestThing:
            runs = 0

            @simulate(backend=toy, max_examples=5)
            async def test_it(self, sim):
                sim.strike("reset", "q")
                TestThing.runs += 1

        TestThing().test_it()
        assert TestThing.runs == 5


async def needs_the_real_thing(sim):
    """Never run."""


class TestWithInputs:
    def test_inputs_shrink_with_the_plan_held_fixed(self):
        @simulate(backend=toy, seed=3)
        @settings(max_examples=300)
        @given(n=st.integers(0, 10_000), names=st.lists(st.text("abc")))
        async def test(sim, n, names):
            for _ in range(5):
                if sim.strike("ack-lost", "orders") and n > 41 and len(names) > 1:
                    raise LookupError("lost")

        with pytest.raises(LookupError) as excinfo:
            test()
        assert "@simulate(plan=[Fault('ack-lost', 'orders', 1)])" in notes_of(excinfo)
        assert "@example(n=42, names=['', ''])" in notes_of(excinfo)
        assert "Falsifying example" not in notes_of(excinfo)

    def test_smaller_inputs_allow_a_smaller_plan(self):
        @simulate(backend=toy, seed=3)
        @settings(max_examples=500)
        @given(n=st.integers(0, 20))
        async def test(sim, n):
            hits = sum(sim.strike("ack-lost", "orders") for _ in range(8))
            assert n < 2 or hits <= n - 2  # n=2 fails with one fault

        with pytest.raises(AssertionError) as excinfo:
            test()
        assert "@simulate(plan=[Fault('ack-lost', 'orders', 1)])" in notes_of(excinfo)
        assert "@example(n=2)" in notes_of(excinfo)

    def test_inputs_that_fail_without_faults_need_no_plan(self):
        @simulate(backend=toy)
        @given(st.integers(0, 10_000))
        async def test(sim, n):
            sim.strike("reset", "q")
            assert n < 100

        with pytest.raises(AssertionError) as excinfo:
            test()
        assert "@simulate(plan=[])" in notes_of(excinfo)
        assert "@example(n=100)" in notes_of(excinfo)

    def test_positional_strategies_fixtures_and_methods(self):
        class TestThing:
            seen: ClassVar[set] = set()

            @simulate(backend=toy)
            @settings(max_examples=30)
            @given(n=st.integers())
            async def test_it(self, sim, fixture, n):
                sim.strike("reset", "q")
                TestThing.seen.add((fixture, n))

        TestThing().test_it(fixture="f")
        assert {fixture for fixture, _ in TestThing.seen} == {"f"}
        assert len(TestThing.seen) > 10

    def test_each_run_gets_inputs_of_its_own(self):
        @simulate(backend=toy, seed=5)
        @given(items=st.lists(st.integers(), min_size=1, max_size=3))
        async def test(sim, items):
            items.append(0)  # a run that changes its input must not change the next one's
            assert len(items) <= 4
            if any(sim.strike("ack-lost", "q") for _ in range(5)):
                raise LookupError

        with pytest.raises(LookupError):
            test()

    @pytest.mark.parametrize("seed", [6, 56, 57, 59])  # for most seeds Hypothesis calls the smaller inputs flaky
    def test_drawing_inside_the_test(self, seed):
        @simulate(backend=toy, seed=seed)
        @settings(max_examples=300)
        @given(data=st.data())
        async def test(sim, data):
            for _ in range(4):
                n = data.draw(st.integers(0, 1000))
                if sim.strike("ack-lost", "q") and n > 10:
                    raise LookupError(n)

        with pytest.raises(LookupError) as excinfo:
            test()
        assert "Fault('ack-lost', 'q', " in notes_of(excinfo)
        assert "inputs: data=<drawn: " in notes_of(excinfo)

    def test_assume_rejects_an_example(self):
        seen = []

        @simulate(backend=toy)
        @settings(max_examples=50)
        @given(n=st.integers(0, 9))
        async def test(sim, n):
            sim.strike("reset", "q")
            assume(n % 2)
            seen.append(n)

        test()
        assert seen
        assert all(n % 2 for n in seen)

    @pytest.mark.parametrize("above", [True, False])
    def test_explicit_examples_meet_faults_too(self, above):
        def decorate(test):
            if above:
                return example(n=7)(simulate(backend=toy, seed=1)(phases(given(n=st.integers())(test))))
            return simulate(backend=toy, seed=1)(example(n=7)(phases(given(n=st.integers())(test))))

        phases = settings(phases=[Phase.explicit])

        async def test(sim, n):
            if any(sim.strike("ack-lost", "q") for _ in range(5)) and n == 7:
                raise LookupError

        with pytest.raises(LookupError) as excinfo:
            decorate(test)()
        assert "@example(n=7)" in notes_of(excinfo)

    def test_the_seed_of_hypothesis_is_kept(self):
        seen = []

        def build():
            @hypothesis_seed(99)
            @simulate(backend=toy)
            @settings(max_examples=20)
            @given(n=st.integers())
            async def test(sim, n):
                seen.append((n, sim.seed))

            return test

        build()()
        build()()
        assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]

    def test_examples_and_health_checks_of_the_test_are_kept(self):
        runs = []

        @settings(max_examples=12, suppress_health_check=[HealthCheck.filter_too_much])
        @simulate(backend=toy)
        @given(n=st.integers())
        async def test(sim, n):  # noqa: ARG001 - the search passes it
            runs.append(n)

        test()
        assert len(runs) == 12

    def test_a_second_call_searches_afresh(self):
        @simulate(backend=toy, seed=3)
        @given(n=st.integers())
        async def test(sim, n):  # noqa: ARG001 - as drawn
            if sim.strike("ack-lost", "q"):
                raise LookupError

        for _ in range(2):
            with pytest.raises(LookupError):
                test()


class TestPlan:
    def test_a_plan_runs_once_and_alone(self):
        runs = []

        @simulate(backend=toy, plan=[Fault("ack-lost", "q", 2)])
        async def test(sim):
            runs.append([sim.strike("ack-lost", "q") for _ in range(3)])

        test()
        assert runs == [[0, 1, 0]]

    def test_a_plan_that_fails_is_not_minimised(self):
        @simulate(backend=toy, plan=[Fault("ack-lost", "q", 2), Fault("reset", "q", 1)])
        async def test(sim):
            if sim.strike("reset", "q") + sum(sim.strike("ack-lost", "q") for _ in range(3)):
                raise LookupError

        with pytest.raises(LookupError) as excinfo:
            test()
        assert "Plan (2 faults)" in notes_of(excinfo)

    def test_entries_that_meet_nothing_are_an_error_with_what_there_was(self):
        plan = [Fault("ack-lost", "q", 9), Fault("reset", "r", 1), Fault("kill", "w", 1), Fault("ack-lost", "q", 1, 7)]

        @simulate(backend=toy, plan=plan)
        async def test(sim):
            sim.strike("ack-lost", "q")
            sim.strike("reset", "q")

        with pytest.raises(PlanMismatchError) as excinfo:
            test()
        message = str(excinfo.value)
        assert "Fault('ack-lost', 'q', 9): 'ack-lost' on 'q' was decided 1 time" in message
        assert "Fault('reset', 'r', 1): 'reset' was decided on 'q' (1)" in message
        assert "Fault('kill', 'w', 1): 'kill' was never decided in this run" in message
        assert "Fault('ack-lost', 'q', 1, 7): there is no choice 7 at that point" in message

    def test_a_failing_test_is_told_before_a_stale_plan(self):
        @simulate(backend=toy, plan=[Fault("ack-lost", "q", 9)])
        async def test(sim):  # noqa: ARG001 - the search passes it
            raise LookupError

        with pytest.raises(LookupError) as excinfo:
            test()
        assert "Fault('ack-lost', 'q', 9): 'ack-lost' was never decided in this run" in notes_of(excinfo)

    def test_with_inputs_an_entry_must_match_in_some_example(self):
        @simulate(backend=toy, plan=[Fault("ack-lost", "q", 2)])
        @given(n=st.integers(0, 3))
        async def test(sim, n):
            for _ in range(n):
                sim.strike("ack-lost", "q")

        test()

    def test_the_seed_of_a_plan_is_the_seed_of_its_run(self):
        seeds = []

        @simulate(backend=toy, plan=[], seed=5)
        async def test(sim):
            seeds.append(sim.seed)

        test()
        assert seeds == [5]


class TestStrict:
    def test_what_never_happened_fails_a_strict_search(self):
        async def test(sim):
            sim.check.sometimes("pigs fly", False)

        faults = Faults.only("kill")
        simulate(backend=toy, faults=faults)(test)()
        for decorated, host in [
            (simulate(backend=toy, faults=faults, strict=True)(test), Host()),
            (simulate(backend=toy, faults=faults)(test), Host(strict=True)),
        ]:
            with (
                hosted(host),
                pytest.raises(NothingHappenedError, match=r"(?s)never fired: kill.*never true: 'pigs fly'"),
            ):
                decorated()

    def test_a_search_in_which_all_happened_passes(self):
        @simulate(backend=toy, faults=Faults.only("reset"), strict=True)
        async def test(sim):
            sim.check.sometimes("struck", sim.strike("reset", "q"))

        test()


class TestSavedFailure:
    def test_the_last_failure_is_run_first_and_forgotten_when_it_is_gone(self, tmp_path):
        broken, seen = True, []

        @simulate(backend=toy, seed=1)
        async def test(sim):
            hit = [sim.strike("ack-lost", "q") for _ in range(5)]
            seen.append(hit)
            assert not (broken and any(hit))

        host = Host(test="tests/test_x.py::test", artifacts=tmp_path)
        with hosted(host), pytest.raises(AssertionError):
            test()
        folder = next(path for path in tmp_path.iterdir() if path.is_dir())
        assert sorted(path.name for path in folder.iterdir()) == ["history.jsonl", "plan.json", "timeline.html"]

        seen.clear()
        with hosted(host), pytest.raises(AssertionError) as excinfo:
            test()
        assert seen[0] == [1, 0, 0, 0, 0]
        assert "was run first, and fails" in notes_of(excinfo)

        broken = False
        with hosted(host):
            test()
        assert not folder.exists()

    @pytest.mark.parametrize(
        "text", ["", "{}", "[]", '{"format": 1, "test": "tests/test_x.py::test", "plan": [{"kind": "gone"}]}']
    )
    def test_a_file_that_makes_no_sense_is_left_alone(self, tmp_path, text):
        from factflow_infra_testing.search.replay import artifacts_folder

        @simulate(backend=toy, max_examples=3)
        async def test(sim):  # noqa: ARG001 - the search passes it
            raise LookupError

        host = Host(test="tests/test_x.py::test", artifacts=tmp_path)
        folder = artifacts_folder(tmp_path, host.test)
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(text)
        with hosted(host), pytest.raises(LookupError):
            test()


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"max_examples": 0}, KitUsageError, "`max_examples` takes a whole number from 1, got 0"),
            ({"max_examples": True}, KitUsageError, "got True"),
            ({"max_examples": 1.5}, KitUsageError, "got 1.5"),
            ({"seed": -1}, KitUsageError, "`seed` takes a whole number from 0, got -1"),
            ({"seed": "1"}, KitUsageError, "got '1'"),
            ({"virtual_budget": 0}, KitUsageError, "`virtual_budget` takes a number of seconds above 0, got 0"),
            ({"virtual_budget": float("nan")}, KitUsageError, "got nan"),
            ({"faults": {"kill"}}, KitUsageError, "`faults` takes a Faults"),
            ({"plan": Fault("kill", "w", 1)}, KitUsageError, "`plan` takes a list of Fault"),
            ({"plan": "kill"}, KitUsageError, "`plan` takes a list of Fault, got 'kill'"),
            ({"plan": [("kill", "w", 1)]}, KitUsageError, "`plan` takes Fault"),
            ({"plan": [Fault("kil", "w", 1)]}, UnknownFaultError, "No such fault kind: 'kil'"),
            ({"plan": [Fault("kill", "w", 1), Fault("kill", "w", 1, 2)]}, KitUsageError, "number 1 twice"),
        ],
    )
    def test_options(self, options, error, message):
        with pytest.raises(error, match=message):
            simulate(**options)

    def test_a_synchronous_test(self):
        with pytest.raises(KitUsageError, match="`async def` tests"):
            simulate(lambda sim: None)  # noqa: ARG005 - a test by its shape

    def test_a_test_without_sim(self):
        async def test(queue):
            pass

        with pytest.raises(KitUsageError, match="does not take it"):
            simulate(test)

    def test_twice(self):
        with pytest.raises(KitUsageError, match="twice"):
            simulate(simulate(needs_the_real_thing))

    def test_below_given(self):
        @given(n=st.integers())
        @simulate(backend=toy)
        async def test(sim, n):
            pass

        with pytest.raises(Exception, match="@given"):  # Hypothesis' own words; the plugin says it better
            test()
