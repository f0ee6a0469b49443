"""Virtual time, timer ties and the guards."""

# ruff: noqa: ASYNC110, ASYNC251 - polling and blocking are what is tested

import asyncio
import time

import pytest
from choices import Choices

from factflow_infra_testing.simulation.errors import DeadlockError, LivelockError, VirtualBudgetError
from factflow_infra_testing.simulation.runner import run


def test_a_day_passes_at_once():
    began = time.perf_counter()

    async def main():
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert run(main).result() == 86_400
    assert time.perf_counter() - began < 5


def ties(decisions):
    log = []

    async def main():
        loop = asyncio.get_running_loop()
        for n in range(4):
            loop.call_at(5, log.append, n)
        loop.call_at(5, log.append, "cancelled").cancel()
        loop.call_at(5.5, log.append, "later")
        await asyncio.sleep(6)

    run(main, decisions=decisions).result()
    return log


def test_timers_of_one_instant_run_in_the_order_they_were_made():
    assert ties(None) == [0, 1, 2, 3, "later"]
    assert ties(Choices()) == [0, 1, 2, 3, "later"]
    assert ties(Choices(timer_tie=[])) == [0, 1, 2, 3, "later"]


def test_decisions_permute_timers_of_one_instant_and_nothing_else():
    assert ties(Choices(timer_tie=[3, 1, 0])) == [3, 1, 0, 2, "later"]


def test_cancelled_timers_do_not_pile_up():
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(10_000):
            loop.call_later(1000, int).cancel()
        return len(loop._scheduled)

    assert run(main).result() < 300


def test_a_deadlock_says_who_waits_where():
    async def wait_for_nobody():
        await asyncio.Event().wait()

    async def main():
        await asyncio.create_task(wait_for_nobody(), name="worker")

    error = run(main).error
    assert isinstance(error, DeadlockError)
    assert "main awaits task worker" in error.waiting
    assert "worker awaits a future" in error.waiting
    assert "test_loop_time.py" in error.waiting
    assert "wait_for_nobody" in error.waiting
    assert "Event.wait" in error.waiting
    assert "0x" not in str(error)


def test_a_livelock_says_what_is_busy():
    def again():
        asyncio.get_running_loop().call_soon(again)

    async def main():
        again()
        await asyncio.sleep(1)

    error = run(main, livelock_limit=500).error
    assert isinstance(error, LivelockError)
    assert "again" in error.waiting


def test_a_clock_that_creeps_is_still():
    async def main():
        while True:
            await asyncio.sleep(1e-12)

    assert isinstance(run(main, livelock_limit=500).error, LivelockError)


def test_much_work_over_time_is_no_livelock():
    async def main():
        for _ in range(2_000):
            await asyncio.sleep(0.001)

    assert run(main, livelock_limit=500).error is None


def test_code_that_spins_on_the_clock_is_told():
    async def main():
        while time.monotonic() < 1:
            pass

    error = run(main).error
    assert isinstance(error, LivelockError)
    assert "spins" in str(error)


def test_virtual_time_is_capped():
    async def main():
        while True:
            await asyncio.sleep(60)

    outcome = run(main, virtual_budget=3600)
    assert isinstance(outcome.error, VirtualBudgetError)
    assert outcome.time == 3600


def test_a_blocking_sleep_holds_everything_up():
    async def main():
        loop = asyncio.get_running_loop()
        late = loop.create_future()
        loop.call_later(1, lambda: late.set_result(loop.time()))
        time.sleep(10)
        return await late

    assert run(main).result() == 10


@pytest.mark.parametrize("when", ["call_later", "call_at"])
def test_no_time_is_no_time(when):
    async def main():
        getattr(asyncio.get_running_loop(), when)(None, int)

    assert isinstance(run(main).error, TypeError)


def test_tasks_and_futures_hash_by_number():
    async def main():
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(20)]
        futures = [loop.create_future() for _ in range(20)]
        hashes = [hash(one) for one in [*tasks, *futures]]
        await asyncio.gather(*tasks)
        return hashes, [task.get_name() for task in tasks], [one.get_name() for one in sorted({*tasks}, key=hash)]

    first, second = run(main).result(), run(main).result()
    assert first == second
    assert first[1] == first[2]
