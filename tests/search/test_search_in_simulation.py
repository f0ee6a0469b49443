"""The search over the real simulation: the pieces that only meet there."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from factflow_infra.protocols import QueueMessage
from factflow_infra_testing.search.decisions import Fault
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search
from factflow_infra_testing.search.simulate import simulate


async def counting(process, counted):
    """Counts each delivery: not idempotent."""
    queue = process.queue("rabbitmq")

    async def handle(message):
        counted.append(message.message_id)

    await queue.subscribe("orders", handle)
    await asyncio.Event().wait()


async def scenario(sim, messages=2):
    counted = []
    sim.start(lambda process: counting(process, counted), name="worker")
    queue = sim.queue("rabbitmq")
    for n in range(messages):
        await queue.publish("orders", QueueMessage(b"", message_id=f"m{n}"))
    await sim.drain()
    return counted


async def counts_once(sim):
    counted = await scenario(sim)
    assert len(counted) == len(set(counted)), "counted twice"


def test_the_defect_is_found_and_one_fault_shows_it_every_time():
    results = [search(counts_once, faults=Faults.all(), seed=4) for _ in range(2)]
    findings = [result.finding for result in results]
    assert len(findings[0].plan) == 1
    assert findings[0].plan == findings[1].plan
    assert findings[0].record.digest == findings[1].record.digest != ""
    operations = findings[0].record.history.operations
    assert [operation.process for operation in operations if operation.kind == "publish"] == ["test", "test"]


def test_a_plan_repeats_a_run_to_its_digest():
    simulate(plan=[])(scenario_passes)()
    with pytest.raises(AssertionError, match="counted twice") as excinfo:
        simulate(plan=[Fault("ack-lost", "orders", 1)])(counts_once)()
    assert not [entry for entry in excinfo.traceback if "factflow_infra_testing/simulation" in str(entry.path)]


async def scenario_passes(sim):
    assert await scenario(sim) == ["m0", "m1"]


def test_inputs_and_draws_inside_the_simulation():
    @simulate(seed=1, max_examples=60, faults=Faults.only("ack-lost", "reset", "kill"))
    @settings(database=None)
    @given(messages=st.integers(1, 4), data=st.data())
    async def test(sim, messages, data):
        assume(messages != 3)
        counted = await scenario(sim, messages)
        if data.draw(st.integers(0, 9)) >= 0:
            assert len(counted) == len(set(counted)), "counted twice"

    with pytest.raises(AssertionError, match="counted twice") as excinfo:
        test()
    assert "messages=1" in "\n".join(excinfo.value.__notes__)


def test_a_run_that_overruns_its_draws_is_left_at_once():
    runs = []

    @simulate(seed=1, max_examples=5)
    @settings(database=None)
    @given(data=st.data())
    async def test(sim, data):
        runs.append(sim)
        await sim.sleep(1)
        data.draw(st.lists(st.integers(0, 2**60), min_size=200, max_size=200))
        data.draw(st.binary(min_size=20_000))  # more than an example may draw

    with pytest.raises(Exception, match=r"(?i)large|unsatisf|data"):  # Hypothesis' own health check, not a hang
        test()
    assert runs


def test_skip_and_fail_of_pytest():
    async def skips(sim):
        await sim.sleep(1)
        pytest.skip("not here")

    async def fails(sim):
        await sim.sleep(1)
        pytest.fail("no")

    with pytest.raises(pytest.skip.Exception):
        simulate(skips)()
    with pytest.raises(pytest.fail.Exception):
        simulate(fails)()


def test_the_virtual_budget_is_handed_on():
    async def long(sim):
        await sim.sleep(100)

    simulate(virtual_budget=200, max_examples=1)(long)()
    with pytest.raises(Exception, match="virtual"):
        simulate(virtual_budget=50, max_examples=1)(long)()
