"""What Python only whispers is in the report: coroutines that were never awaited, errors of tasks that nobody took."""

import asyncio
import warnings

import pytest
from simulated_runs import forever, message, passing, run_once

from factflow_infra_testing.report.text import failure_text
from factflow_infra_testing.search.decisions import Fault
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search

LINE = 22
"""Where ``careless`` forgets an await."""


async def careless(process):
    queue = process.queue()

    async def handle(received):
        queue.publish("printed", received)

    await queue.subscribe("orders", handle)
    await forever()


async def scenario(sim):
    sim.start(careless, name="worker")
    await sim.queue().publish("orders", message("a"))
    await sim.queue().publish("orders", message("b"))
    await sim.drain()
    assert sim.broker().depth("orders") == 2


@pytest.mark.filterwarnings("ignore:coroutine 'RecordedQueue.publish' was never awaited:RuntimeWarning")
def test_a_forgotten_await_is_in_the_report_with_its_place():
    record = run_once(scenario)
    told = f"coroutine queue.publish was never awaited, test_oversights.py:{LINE} (worker)"
    assert record.history.noticed == {told: 2}
    assert record.digest == run_once(scenario).digest
    finding = search(scenario, faults=Faults.none(), max_examples=2).finding
    text = failure_text(finding, inputs={}, origin="", replay="", artifacts="")
    assert f"Noticed in this run:\n\n    {told}, 2 times\n" in text


def test_pythons_own_warning_is_there_still_and_names_the_same_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_once(scenario)
    places = {(one.filename, one.lineno, str(one.message)) for one in caught if one.category is RuntimeWarning}
    assert places == {(__file__, LINE, "coroutine 'RecordedQueue.publish' was never awaited")}


def test_an_error_of_a_task_that_nobody_took_is_in_the_report():
    async def file(received):
        raise ValueError(f"no room for {received.message_id}")

    async def main(process):
        async def handle(received):
            asyncio.get_running_loop().create_task(file(received))

        await process.queue().subscribe("orders", handle)
        await forever()

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.drain()

    (told,) = passing(scenario).history.noticed
    assert told.startswith(
        "a task of test_an_error_of_a_task_that_nobody_took_is_in_the_report.<locals>.file failed with "
    )
    assert "ValueError: no room for a, and nobody asked for its result (worker)" in told


def test_killed_processes_and_sound_code_say_nothing():
    async def main(process):
        queue = process.queue()

        async def handle(received):
            await asyncio.sleep(1)
            await queue.publish("printed", received)

        await queue.subscribe("orders", handle)
        await forever()

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.drain()

    for plan in ((), (Fault("kill", "worker@handle orders", 1),), (Fault("reset", "orders", 1),)):
        assert passing(scenario, *plan).history.noticed == {}


def test_only_so_many_lines():
    async def main(_):
        for n in range(20):

            async def forgotten():
                """Never awaited."""

            forgotten.__qualname__ = f"forgotten_{n}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                forgotten()
        await forever()

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.sleep(1)

    assert len(passing(scenario).history.noticed) == 8
