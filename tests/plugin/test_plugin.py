"""The plugin as its users run it: options, replay, profiles, workers, the summary, what it refuses."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

import hypothesis.strategies  # noqa: F401 - as above
import pytest

import factflow_infra_testing
import factflow_infra_testing.broker.provider  # as below, and the providers with it
import factflow_infra_testing.report.failure  # loaded here, so that each inner run need not load it again
import factflow_infra_testing.search.simulate  # as above, and Hypothesis with it
from factflow_infra_testing import simulate
from factflow_infra_testing.errors import KitUsageError

pytest_plugins = ["pytester"]

TOY = (Path(__file__).parent.parent / "search" / "toy_backend.py").read_text("utf-8")
INI = """\
[pytest]
addopts = -p factflow_infra_testing -p no:cacheprovider -p no:randomly --strict-markers
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""
HEAD = """\
import pytest
from hypothesis import given, settings, HealthCheck, strategies as st
from toy_backend import toy
from factflow_infra_testing import Fault, Faults, simulate
"""
BROKEN = """
@simulate(backend=toy)
async def test_broken(sim):
    for n in range(5):
        sim.work("worker", "handle", "/queue/orders", f"m{n}")
        assert not sim.strike("ack-lost", "/queue/orders"), "handled twice"
"""
CORRECT = """
@simulate(backend=toy)
async def test_correct(sim):
    for n in range(5):
        sim.strike("ack-lost", "/queue/orders")
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The packages under test are found from another folder, installed or not."""
    root = str(Path(factflow_infra_testing.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]))


@pytest.fixture
def run(pytester):
    """Write a test file and run it."""

    def write_and_run(source, *options, process=False):
        pytester.makeini(INI)
        pytester.makepyfile(toy_backend=TOY, test_it=HEAD + source)
        # In a process of its own where workers are started or a profile would stay loaded here.
        return pytester.runpytest_subprocess(*options) if process else pytester.runpytest_inprocess(*options)

    return write_and_run


def plan_file(pytester):
    (path,) = pytester.path.glob(".factflow/*/plan.json")
    return path


class TestFailure:
    def test_the_users_line_then_the_report_and_nothing_of_the_kit(self, run, pytester):
        result = run(BROKEN)
        result.assert_outcomes(failed=1)
        text = result.stdout.str()
        assert "AssertionError: handled twice" in text
        assert "    @simulate(plan=[Fault('ack-lost', '/queue/orders', 1)])" in text.splitlines()
        assert "Needed for this failure: Fault('ack-lost', '/queue/orders', 1). The report is below." in text
        for noise in ("Hypothesis", "Falsifying", "execution.py", "search.py", "toy_backend.py"):
            assert noise not in text
        assert text.count("@simulate(plan=") == 1
        assert json.loads(plan_file(pytester).read_text())["test"] == "test_it.py::test_broken"

    def test_without_captured_sections_the_report_is_in_the_exception(self, run):
        result = run(BROKEN, "--show-capture=no")
        result.stdout.fnmatch_lines(["E*@simulate(plan=[[]Fault('ack-lost', '/queue/orders', 1)[]])"])

    def test_the_replay_command_reproduces_and_later_says_that_it_is_mended(self, run, pytester):
        (command,) = re.findall(r"Replay: +pytest (.*)", run(BROKEN + CORRECT).stdout.str())
        options = command.split()
        assert options[0] == "test_it.py::test_broken"
        replayed = pytester.runpytest_inprocess(*options)
        replayed.assert_outcomes(failed=1)
        replayed.stdout.fnmatch_lines(["Replayed: reproduced 3 of 3 times."])
        pytester.makepyfile(test_it=HEAD + BROKEN.replace("assert not sim", "sim"))
        pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)

    def test_a_replay_with_inputs_repeats_them(self, run, pytester):
        source = """
@simulate(backend=toy)
@settings(max_examples=200)
@given(n=st.integers(0, 1000))
async def test_broken(sim, n):
    for _ in range(5):
        assert not (sim.strike("ack-lost", "q") and n > 77), f"wrong with {n}"
"""
        run(source).stdout.fnmatch_lines(["*@example(n=78)"])
        path = plan_file(pytester)
        replayed = pytester.runpytest_inprocess("--factflow-replay", str(path))
        replayed.assert_outcomes(failed=1)
        replayed.stdout.fnmatch_lines(["*wrong with 78", "*reproduced 3 of 3 times*"])
        pytester.makepyfile(test_it=HEAD + source.replace("n > 77", "n > 78"))
        pytester.runpytest_inprocess("--factflow-replay", str(path)).assert_outcomes(passed=1)

    def test_replay_runs_only_the_test_that_the_plan_belongs_to(self, run, pytester):
        run(BROKEN + CORRECT)
        path = plan_file(pytester)
        pytester.runpytest_inprocess("--factflow-replay", str(path)).assert_outcomes(failed=1, deselected=1)
        other = pytester.runpytest_inprocess("--factflow-replay", str(path), "-k", "correct")
        other.stderr.fnmatch_lines(["*the plan belongs to 'test_it.py::test_broken'*"])
        assert other.ret == pytest.ExitCode.USAGE_ERROR


STEPS = """
import asyncio

@simulate(faults=Faults.only("kill"), max_examples=100)
async def test_once(sim):
    begun = []

    async def worker(process):
        begun.append(1)
        await asyncio.sleep(1)

    sim.start(worker, name="worker")
    await sim.drain()
    assert len(begun) == 1
"""
PASTED = "plan=[Fault('kill', 'worker@start', 2)], found_with='Python 3.0'"


class TestPlansThatCountSteps:
    """A kill at a step of the event loop: how many steps there are is another number in another version, or after a change."""

    def test_the_reproducer_says_what_it_was_found_with_and_where_it_struck(self, run):
        python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        result = run(STEPS)
        pasted = "@simulate(plan=[Fault('kill', 'worker@start', 2)], found_with='"
        assert f"{pasted}{python}')" in result.stdout.str()
        result.stdout.fnmatch_lines(
            ["    kill (reset) on worker@start, number 2, in test_once.<locals>.worker, test_it.py:*:*"]
        )
        with_a_client = run(STEPS.replace("begun = []", "begun = []; sim.uri()")).stdout.str()
        assert f"found_with='{python}, aio-pika {version('aio-pika')}, aiormq {version('aiormq')}" in with_a_client
        assert "stompman" not in with_a_client

    def test_a_replay_tells_that_a_fault_struck_other_code(self, run, pytester):
        run(STEPS)
        options = ("--factflow-replay", str(plan_file(pytester)))
        assert "Note:" not in pytester.runpytest_inprocess(*options).stdout.str()
        pytester.makepyfile(test_it="# a line more\n" + HEAD + STEPS)
        assert "Note:" not in pytester.runpytest_inprocess(*options).stdout.str()
        pytester.makepyfile(test_it=HEAD + STEPS.replace("begun.append", "await asyncio.sleep(1); begun.append"))
        moved = pytester.runpytest_inprocess(*options)
        moved.assert_outcomes(passed=1)
        worker = "test_once.<locals>.worker"
        struck = f"Fault('kill', 'worker@start', 2) struck {worker}, test_it.py:* (`await asyncio.sleep(1); begun.append(1)`)"
        before = f"when the plan was found it struck '{worker}: await asyncio.sleep(1)'"
        moved.stdout.fnmatch_lines([f"test_it.py::test_once: it passed, but {struck}; {before}"])

    def test_a_replay_with_other_versions_says_so_passed_or_failed(self, run, pytester):
        run(STEPS)
        path = plan_file(pytester)
        plan = json.dumps(json.loads(path.read_text()) | {"found_with": "Python 3.0, stompman 0.1"})
        path.write_text(plan)
        options = ("--factflow-replay", str(path))
        told = "*was found with other versions (Python 3.* instead of 3.0, *"
        failed = pytester.runpytest_inprocess(*options)
        failed.stdout.fnmatch_lines(["Replayed: reproduced 3 of 3 times.", f"Note: {told}"])
        assert (
            "instead of 3.0" not in pytester.runpytest_inprocess(*options).stdout.str()
        )  # it holds here, as was just seen
        path.write_text(plan)
        pytester.makepyfile(test_it=HEAD + STEPS.replace("begun.append(1)", "begun[:] = [1]"))
        passed = pytester.runpytest_inprocess("--factflow-replay", str(path))
        passed.assert_outcomes(passed=1)
        passed.stdout.fnmatch_lines([f"test_it.py::test_once: it passed, but {told}"])

    def test_a_pasted_plan_carries_its_versions(self, run):
        source = STEPS.replace('faults=Faults.only("kill"), max_examples=100', PASTED)
        run(source).stdout.fnmatch_lines(["Note: *(Python 3.* instead of 3.0)*"])
        passing = run(source.replace("begun.append(1)", "begun[:] = [1]"))
        passing.stdout.fnmatch_lines(["test_it.py::test_once: it passed, but *(Python 3.* instead of 3.0)*"])
        run(source.replace("2)]", "99)]")).stdout.fnmatch_lines(["*Note: *(Python 3.* instead of 3.0)*"])
        assert (
            "other versions"
            not in run(source.replace("begun.append(1)", "begun[:] = [1]").replace(" 2)]", " 1)]")).stdout.str()
        )

    @pytest.mark.parametrize("wrong", ["3.12", "Python", "Ruby 3", ["Python 3.12"]])
    def test_wrong_versions_are_refused_with_an_example(self, wrong):
        with pytest.raises(KitUsageError, match=r"`found_with` takes versions such as 'Python 3\.\d+"):
            simulate(plan=[], found_with=wrong)


class TestQueuesThatNoRunHas:
    """A test whose every run is struck: its misspelt names cannot be refused, as a service may not get so far, but told."""

    SOURCE = """
import asyncio
from factflow_infra.protocols import QueueMessage

async def serve(process):
    async def handle(message):
        pass

    await process.queue().subscribe("orders", handle)
    await asyncio.Event().wait()

@simulate(max_examples=3, tier="model", faults=Faults.only("ack-lost"))
async def test_by_hand(sim):
    worker = sim.start(serve, name="worker")
    await sim.queue().publish("orders", QueueMessage(b""))
    worker.kill()
    await sim.drain()
    assert sim.broker().depth("ordres") == 0
"""
    TOLD = (
        "it passed, but sim.broker('rabbitmq-quorum') was asked for 'ordres', and has had no such queue; there is 'orders'. "
        "Where it may be missing, ask before: `if name in sim.broker(profile).queues():`"
    )

    @pytest.mark.parametrize("options", ["", "plan=[Fault('kill', 'worker@start', 1)], "], ids=["search", "plan"])
    def test_the_summary_tells_of_them(self, run, options):
        source = self.SOURCE
        if options:
            source = source.replace("max_examples=3, ", options).replace("    worker.kill()\n", "")
        result = run(source)
        result.assert_outcomes(passed=1)
        assert f"test_it.py::test_by_hand: {self.TOLD}" in result.stdout.str()
        assert "ordres" not in run(source.replace("ordres", "orders")).stdout.str()

    def test_one_that_some_run_has_is_none(self, run):
        publish = 'await sim.queue().publish(next(NAMES), QueueMessage(b""))'
        source = self.SOURCE.replace("assert sim", f"{publish}\n    assert sim").replace("== 0", "< 2")
        result = run(f"NAMES = iter(['other', 'ordres', 'other'])\n{source}")
        result.assert_outcomes(passed=1)
        assert "no such queue" not in result.stdout.str()

    def test_strict_is_strict(self, run):
        result = run(self.SOURCE, "--factflow-strict")
        result.assert_outcomes(failed=1)
        assert "was asked for 'ordres'" in result.stdout.str()


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--factflow-seed=x"], "a whole number from 0 to 2**64 - 1, got 'x'"),
            (["--factflow-seed=-1"], "a whole number from 0 to 2**64 - 1, got '-1'"),
            (["--factflow-examples=0"], "a whole number from 1, got '0'"),
            (["--factflow-replay=nowhere.json"], "Cannot read the plan 'nowhere.json'"),
            (["--factflow-replay=tox.ini"], "is not a saved plan: not JSON"),
        ],
    )
    def test_a_wrong_one_is_a_usage_error(self, run, options, message):
        result = run(CORRECT, *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert message in result.stderr.str() + result.stdout.str()

    SEEN = """
seen = []

@simulate(backend=toy)
async def test_own(sim):
    seen.append([sim.seed, sim.strike("reset", "q", 9)])

@simulate(backend=toy)
@given(n=st.integers())
async def test_drawn(sim, n):
    seen.append([sim.seed, n])

def test_print():
    import json, pathlib
    pathlib.Path("seen.json").write_text(json.dumps(seen))
"""

    def test_the_same_seed_searches_the_same_runs(self, run, pytester):
        seen = []
        for seed in ("5", "5", "6"):
            run(self.SEEN, f"--factflow-seed={seed}").assert_outcomes(passed=3)
            seen.append(json.loads((pytester.path / "seen.json").read_text()))
        assert seen[0] == seen[1] != seen[2]
        assert len(seen[0]) > 150

    def test_examples(self, run, pytester):
        run(self.SEEN, "--factflow-examples=7").assert_outcomes(passed=3)
        assert len(json.loads((pytester.path / "seen.json").read_text())) == 14

    def test_a_profile_of_hypothesis_sets_examples_and_derandomizes(self, run, pytester):
        pytester.makeconftest(
            "from hypothesis import settings\nsettings.register_profile('ci', max_examples=11, derandomize=True)\n"
        )
        seen = []
        for _ in range(2):
            run(self.SEEN, "--hypothesis-profile=ci", process=True).assert_outcomes(passed=3)
            seen.append(json.loads((pytester.path / "seen.json").read_text()))
        assert len(seen[0]) == 22
        assert seen[0] == seen[1]


WEAK = """
@simulate(backend=toy, faults=Faults.only("kill"))
async def test_weak(sim):
    sim.check.sometimes("pigs fly", False)
"""


class TestSummary:
    def test_what_never_happened_is_listed(self, run):
        result = run(WEAK + CORRECT, "--factflow-examples=20")
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(
            [
                "*= factflow =*",
                "2 searches, 40 runs",
                "test_it.py::test_weak: never fired in 20 runs: kill",
                "test_it.py::test_weak: `sometimes` never true in 20 runs: 'pigs fly'",
            ]
        )

    def test_where_all_happened_there_is_nothing_to_say(self, run):
        result = run(CORRECT)
        assert "factflow" not in result.stdout.str()

    def test_strict(self, run):
        result = run(WEAK + CORRECT, "--factflow-strict")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*NothingHappenedError: The search passed, but it is weaker than it looks:"])

    def test_workers_report_to_the_one_summary(self, run, pytester):
        result = run(WEAK + BROKEN + CORRECT, "-n", "2", process=True)
        result.assert_outcomes(passed=2, failed=1)
        result.stdout.fnmatch_lines(["*test_weak: never fired in 100 runs: kill"])
        result.stdout.fnmatch_lines(["    @simulate(plan=[[]Fault('ack-lost', '/queue/orders', 1)[]])"])
        assert plan_file(pytester).exists()


class TestBesideSim:
    def test_fixtures_parametrize_classes_and_marks(self, run):
        result = run(
            """
pytestmark = pytest.mark.asyncio  # a habit in modules with async tests

@pytest.fixture(scope="module")
def shared():
    return "s"

@pytest.mark.parametrize("size", [1, 2])
@simulate(backend=toy)
async def test_parametrized(sim, size, shared):
    assert size in (1, 2) and shared == "s"

class TestThing:
    @pytest.mark.parametrize("size", [1, 2])
    @simulate(backend=toy)
    @given(n=st.integers())
    async def test_it(self, sim, size, n, shared):
        assert isinstance(n, int) and size in (1, 2) and shared == "s"
"""
        )
        result.assert_outcomes(passed=4)

    def test_function_scoped_fixtures_are_a_health_check(self, run):
        result = run(
            """
@simulate(backend=toy)
async def test_not_reset(sim, tmp_path):
    pass

@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@simulate(backend=toy)
async def test_allowed(sim, tmp_path):
    pass
"""
        )
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*uses a function-scoped fixture 'tmp_path'*"])

    def test_below_given_is_answered_plainly(self, run):
        result = run(
            """
@given(n=st.integers())
@simulate(backend=toy)
async def test_it(sim, n):
    pass
"""
        )
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*KitUsageError: Put @simulate above @given, not below it*"])

    def test_a_stale_plan(self, run):
        result = run(
            """
@simulate(backend=toy, plan=[Fault("ack-lost", "/queue/ordres", 1)])
async def test_it(sim):
    sim.strike("ack-lost", "/queue/orders")
"""
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*'ack-lost' was decided on '/queue/orders' (1)"])


def test_nothing_registers_by_itself(pytester):
    """Installed, but not asked for: no option, no marker, no fixture."""
    pytester.makepyfile("def test_it(pytestconfig):\n    assert not hasattr(pytestconfig.option, 'factflow_seed')\n")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
