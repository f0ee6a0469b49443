"""Processes: killed, paused, resumed; whose callbacks are whose."""

import asyncio
import gc
import warnings

from factflow_infra_testing.simulation.owners import OWNER, Owner, current_owner, is_fenced
from factflow_infra_testing.simulation.runner import run


def spawn(owner, coroutine, name=None):
    """A task that belongs to ``owner``."""
    token = OWNER.set(owner)
    try:
        return asyncio.create_task(coroutine, name=name)
    finally:
        OWNER.reset(token)


def after_a_kill(program, *, graveyard=None):
    """What ``program(log)`` had logged by the end of the run, killed after 5 s; and what it logged when disposed of."""
    log = []
    owner = Owner("worker")

    async def main():
        loop = asyncio.get_running_loop()
        spawn(owner, program(log))
        await asyncio.sleep(5)
        if graveyard is not None:
            loop.graveyard = graveyard
        loop.kill(owner)
        await asyncio.sleep(50)
        gc.collect()  # as the code under test may do
        await asyncio.sleep(50)
        return list(log)

    outcome = run(main)
    assert outcome.unhandled == () or graveyard is not None
    assert outcome.leftovers == ()
    return outcome.result(), log


def test_a_kill_runs_no_finally_and_no_except_while_the_run_lasts():
    async def worker(log):
        log.append("up")
        try:
            await asyncio.sleep(50)
        except BaseException:
            log.append("except")
            raise
        finally:
            log.append("finally")

    assert after_a_kill(worker)[0] == ["up"]


def test_what_is_disposed_of_is_fenced():
    async def worker(log):
        try:
            await asyncio.sleep(50)
        finally:
            log.append((is_fenced(), current_owner().name, current_owner().fenced))
            raise RuntimeError("nobody sees this")

    during, after = after_a_kill(worker)
    assert during == []
    assert after == [(True, "worker", True)]


def test_timers_callbacks_and_children_of_the_killed_do_not_run():
    async def worker(log):
        loop = asyncio.get_running_loop()
        loop.call_later(6, log.append, "timer")
        child = asyncio.create_task(asyncio.sleep(6))
        child.add_done_callback(lambda _: log.append("callback"))
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(6))
        log.append("group")

    assert after_a_kill(worker) == ([], [])


def test_generators_of_the_killed_are_not_closed():
    async def numbers(log):
        try:
            while True:
                yield 1
                await asyncio.sleep(1)
        finally:
            log.append("closed")

    async def worker(log):
        async for _ in numbers(log):
            pass

    assert after_a_kill(worker)[0] == []


def test_what_others_do_to_the_killed_does_not_wake_it():
    log = []
    owner = Owner("worker")

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        async def worker():
            log.append(await future)

        task = spawn(owner, worker())
        await asyncio.sleep(0)
        loop.kill(owner)
        future.set_result("too late")
        task.cancel()
        gc.collect()
        await asyncio.sleep(1)
        assert not task.done()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(main).result() is None
    assert log == []


def test_the_hook_may_kill_before_any_step():
    def stopped_at(fatal):
        log, seen = [], []
        owner = Owner("worker")

        async def worker():
            for n in range(5):
                log.append(n)
                await asyncio.sleep(0)

        async def main():
            loop = asyncio.get_running_loop()

            def before(who, _):
                assert who is owner
                seen.append(who)
                if len(seen) == fatal:
                    loop.kill(who)

            loop.on_step = before
            spawn(owner, worker())
            await asyncio.sleep(1)

        run(main).result()
        return log

    assert [stopped_at(n) for n in (1, 2, 4)] == [[], [0], [0, 1, 2]]


def test_only_the_killed_dies():
    log = []

    async def worker():
        await asyncio.sleep(10)
        log.append(current_owner().name)

    async def main():
        loop = asyncio.get_running_loop()
        one, other = Owner("one"), Owner("other")
        spawn(one, worker())
        spawn(other, worker())
        await asyncio.sleep(1)
        assert [task.get_name() for task in loop.tasks_of(one)] != [task.get_name() for task in loop.tasks_of(other)]
        loop.kill(one)
        loop.kill(one)
        await asyncio.sleep(20)

    run(main).result()
    assert log == ["other"]


def test_the_dead_keep_no_time_and_no_deadlock_alive():
    async def main():
        loop = asyncio.get_running_loop()
        owner = Owner("worker")
        spawn(owner, asyncio.sleep(1000))
        await asyncio.sleep(1)
        loop.kill(owner)
        await loop.create_future()

    outcome = run(main)
    assert outcome.time == 1
    assert "(killed)" in str(outcome.error)


def test_a_paused_process_catches_up():
    log = []

    async def worker():
        for _ in range(4):
            await asyncio.sleep(1)
            log.append(asyncio.get_running_loop().time())

    async def main():
        loop = asyncio.get_running_loop()
        owner = Owner("worker")
        spawn(owner, worker())
        await asyncio.sleep(1.5)
        loop.pause(owner)
        await asyncio.sleep(8.5)
        assert log == [1]
        loop.resume(owner)
        await asyncio.sleep(10)

    run(main).result()
    assert log == [1, 10, 11, 12]


def test_a_paused_process_can_be_killed():
    async def main():
        loop = asyncio.get_running_loop()
        owner = Owner("worker")
        task = spawn(owner, asyncio.sleep(1))
        await asyncio.sleep(0)
        loop.pause(owner)
        await asyncio.sleep(5)
        loop.kill(owner)
        await asyncio.sleep(5)
        return task.done()

    assert run(main).result() is False


def test_signals_reach_the_handler_of_one_process():
    log = []

    async def worker():
        asyncio.get_running_loop().add_signal_handler(15, lambda: log.append(current_owner().name))
        await asyncio.sleep(10)

    async def main():
        loop = asyncio.get_running_loop()
        owners = [Owner("one"), Owner("two")]
        for owner in owners:
            spawn(owner, worker())
        await asyncio.sleep(1)
        sent = [loop.deliver_signal(15, owners[1]), loop.deliver_signal(2, owners[1])]
        await asyncio.sleep(1)
        return sent

    assert run(main).result() == [True, False]
    assert log == ["two"]


def test_leftovers_are_cancelled_in_the_order_they_were_made():
    log = []

    async def work(n):
        try:
            await asyncio.sleep(1000)
        finally:
            log.append(n)

    async def main():
        tasks = [asyncio.create_task(work(n)) for n in range(5)]
        return len(tasks)

    assert run(main).result() == 5
    assert log == [0, 1, 2, 3, 4]


class Forgetful(list):
    """Keeps nothing."""

    def __iadd__(self, _):
        return self

    def append(self, _):
        pass


def test_without_a_hold_on_the_dead_their_finally_runs():
    async def worker(log):
        try:
            await asyncio.sleep(50)
        finally:
            log.append("finally")

    assert after_a_kill(worker)[0] == []
    assert after_a_kill(worker, graveyard=Forgetful())[0] == ["finally"]
