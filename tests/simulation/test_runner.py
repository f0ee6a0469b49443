"""What a run gives back, and what it leaves behind: nothing."""

# ruff: noqa: BLE001, SIM105, TRY301 - code that swallows what it should not is what is tested

import asyncio
import contextvars
import gc
import threading

import pytest
from choices import Choices

from factflow_infra_testing.simulation.runner import run

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


class Leave(BaseException):
    """How a tool leaves, past everything that catches Exception."""


def test_value_time_and_steps():
    async def main():
        await asyncio.sleep(3)
        return "value"

    outcome = run(main)
    assert (outcome.result(), outcome.time) == ("value", 3)
    assert outcome.steps > 0


def test_an_exception_is_in_the_outcome():
    async def main():
        raise LookupError("x")

    outcome = run(main)
    assert isinstance(outcome.error, LookupError)
    with pytest.raises(LookupError):
        outcome.result()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Leave])
def test_other_base_exceptions_pass_through(kind):
    log = []

    async def slow_to_end():
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.sleep(1)
            log.append("waited for")

    async def main():
        task = asyncio.create_task(slow_to_end())
        await asyncio.sleep(0)
        assert not task.done()
        raise kind

    with pytest.raises(kind):
        run(main)
    assert log == []
    assert gc.isenabled()


def test_an_interrupt_in_a_background_task_ends_the_run():
    async def interrupted():
        raise KeyboardInterrupt

    async def main():
        task = asyncio.create_task(interrupted())
        await asyncio.sleep(1000)
        return task

    with pytest.raises(KeyboardInterrupt):
        run(main)


def test_abort_ends_the_run_whatever_catches():
    async def swallow():
        try:
            asyncio.get_running_loop().abort(Leave())
            raise Leave
        except BaseException:
            pass
        await asyncio.sleep(1000)

    async def main():
        await asyncio.gather(swallow(), asyncio.sleep(1000))

    with pytest.raises(Leave):
        run(main)


def test_what_nobody_took_is_given_back():
    async def fail():
        raise LookupError("nobody looks")

    async def fail_in_a_cycle():
        task = asyncio.current_task()
        error = ValueError(task)
        raise error

    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(2)
        loop.call_soon(lambda: 1 / 0)
        tasks = [asyncio.create_task(fail(), name="failing"), asyncio.create_task(fail_in_a_cycle(), name="cycle")]
        await asyncio.wait(tasks)

    found = {type(one.error): one for one in run(main).unhandled}
    assert set(found) == {ZeroDivisionError, LookupError, ValueError}
    assert found[LookupError].task == "failing"
    assert found[ZeroDivisionError].time == 2
    assert "0x" not in found[ZeroDivisionError].message


def test_who_refuses_to_end_is_named():
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                pass

    async def main():
        asyncio.get_running_loop().stubborn = asyncio.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(1)

    outcome = run(main)
    assert outcome.error is None
    assert outcome.leftovers == ("stubborn",)


def test_what_fails_while_ending_is_given_back():
    async def untidy():
        try:
            await asyncio.sleep(1000)
        finally:
            raise LookupError("untidy")

    async def main():
        asyncio.get_running_loop().untidy = asyncio.create_task(untidy())
        await asyncio.sleep(1)

    assert [type(one.error) for one in run(main).unhandled] == [LookupError]


def test_decisions_are_quiet_while_the_run_is_ended():
    decisions = Choices(timer_tie=[])

    async def main():
        assert not decisions.is_quiet

    run(main, decisions=decisions)
    assert decisions.is_quiet


def test_a_run_starts_with_a_clean_context_and_leaves_the_outer_one_alone():
    VARIABLE.set("outer")

    async def main():
        seen = VARIABLE.get()
        VARIABLE.set("inner")
        return seen

    assert run(main).result() == "unset"
    assert VARIABLE.get() == "outer"


def test_prepare_sees_the_loop_before_main():
    log = []

    async def main():
        log.append("main")

    run(main, prepare=lambda loop: log.append(loop.time())).result()
    assert log == [0.0, "main"]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_off_inside_and_as_before_after(enabled):
    async def main():
        return gc.isenabled()

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        assert run(main).result() is False
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_runs_leave_no_threads_and_no_running_loop():
    async def main():
        await asyncio.gather(*[asyncio.to_thread(int) for _ in range(3)])

    before = {*threading.enumerate()}
    run(main).result()
    for thread in threading.enumerate():
        if thread.name.startswith("simulated"):
            thread.join(5)
    assert {*threading.enumerate()} <= before
    assert asyncio._get_running_loop() is None


def test_runs_can_be_had_inside_a_running_loop_of_another_thread():
    async def main():
        await asyncio.sleep(1)
        return asyncio.get_running_loop().time()

    results = []
    threads = [threading.Thread(target=lambda: results.append(run(main).result())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1, 1, 1]
