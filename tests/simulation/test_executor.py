"""Thread jobs in virtual time."""

import asyncio
import concurrent.futures
import contextvars
import queue
import threading
import time

import pytest
from choices import Choices
from test_loop_owners import spawn

from factflow_infra_testing.simulation.errors import DeadlockError, NotSimulatedError, StuckJobError
from factflow_infra_testing.simulation.owners import OWNER, Owner, current_owner
from factflow_infra_testing.simulation.runner import run


def test_jobs_sleep_in_virtual_time_while_others_go_on():
    log = []

    def job(n):
        for _ in range(2):
            time.sleep(n)
            log.append((n, time.monotonic()))
        return n

    async def main():
        ticker = asyncio.create_task(tick())
        results = await asyncio.gather(asyncio.to_thread(job, 3), asyncio.to_thread(job, 2))
        ticker.cancel()
        return results

    async def tick():
        while True:
            await asyncio.sleep(2.5)
            log.append(("tick", time.monotonic()))

    assert run(main).result() == [3, 2]
    assert log == [(2, 2), ("tick", 2.5), (3, 3), (2, 4), ("tick", 5), (3, 6)]


def test_exactly_one_thread_runs_at_any_time():
    running, most = 0, 0

    def job():
        nonlocal running, most
        for _ in range(20):
            running += 1
            most = max(most, running)
            sum(range(200))
            running -= 1
            time.sleep(0)

    async def main():
        await asyncio.gather(*[asyncio.to_thread(job) for _ in range(6)])

    run(main).result()
    assert most == 1


def test_jobs_have_threads_of_their_own_and_none_of_another_runs():
    local = threading.local()

    def job():
        seen = getattr(local, "seen", 0)
        local.seen = seen + 1
        return seen, threading.current_thread().name, threading.current_thread() is threading.main_thread()

    async def main():
        return await asyncio.to_thread(job), await asyncio.to_thread(job)

    assert run(main).result() == ((0, "simulated-1", False), (1, "simulated-2", False))
    assert run(main).result() == ((0, "simulated-1", False), (1, "simulated-2", False))


def test_context_reaches_to_thread_and_the_owner_every_job():
    variable = contextvars.ContextVar("variable", default="unset")

    async def worker():
        variable.set("set")
        loop = asyncio.get_running_loop()
        return [
            await asyncio.to_thread(variable.get),
            await loop.run_in_executor(None, variable.get),
            await loop.run_in_executor(None, lambda: current_owner().name),
        ]

    async def main():
        return await spawn(Owner("worker"), worker())

    assert run(main).result() == ["set", "unset", "worker"]


def test_an_executors_bound_is_kept_to():
    running, most = 0, 0

    def job():
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(1)
        running -= 1

    async def main():
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            await asyncio.gather(*[loop.run_in_executor(pool, job) for _ in range(9)])
        with pytest.raises(RuntimeError, match="after shutdown"):
            loop.run_in_executor(pool, job)
        return loop.time()

    assert run(main).result() == 3
    assert most == 3


def test_a_started_job_survives_cancellation_and_a_waiting_one_does_not():
    log = []

    def job(n):
        time.sleep(1)
        log.append(n)

    async def main():
        loop = asyncio.get_running_loop()
        pool = concurrent.futures.ThreadPoolExecutor(1)
        futures = [loop.run_in_executor(pool, job, n) for n in range(2)]
        for future in futures:
            future.cancel()
        await asyncio.sleep(5)

    run(main).result()
    assert log == [0]


def test_pools_used_without_asyncio():
    async def main():
        def outer():
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                futures = [pool.submit(pow, 2, n) for n in range(4)]
                concurrent.futures.wait(futures)
                return [future.result() for future in futures], list(pool.map(str, range(3)))

        return await asyncio.to_thread(outer)

    assert run(main).result() == ([1, 2, 4, 8], ["0", "1", "2"])


def test_locks_queues_and_events_between_jobs():
    async def main():
        lock, box, ready = threading.Lock(), queue.Queue(), threading.Event()
        log = []

        def holder():
            with lock:
                ready.set()
                time.sleep(5)
                log.append("released")
            box.put("parcel")

        def wanter():
            ready.wait()
            assert not lock.acquire(timeout=1)
            log.append(time.monotonic())
            assert not lock.acquire(blocking=False)
            with lock:
                log.append("got it")
            log.append(box.get(timeout=10))
            with pytest.raises(queue.Empty):
                box.get(timeout=2)
            return time.monotonic()

        results = await asyncio.gather(asyncio.to_thread(holder), asyncio.to_thread(wanter))
        return results, log

    assert run(main).result() == ([None, 7], [1, "released", "got it", "parcel"])


def test_reentrant_locks_and_conditions():
    async def main():
        condition = threading.Condition()
        log = []

        def wait(n):
            with condition, condition:
                log.append(condition.wait(timeout=10))
            return n

        def notify():
            time.sleep(1)
            with condition:
                condition.notify_all()

        await asyncio.gather(asyncio.to_thread(wait, 1), asyncio.to_thread(wait, 2), asyncio.to_thread(notify))
        return log, time.monotonic()

    assert run(main).result() == ([True, True], 1)


def test_the_loops_own_thread_may_wait_for_a_job():
    async def main():
        lock = threading.Lock()

        def holder():
            with lock:
                time.sleep(5)

        job = asyncio.create_task(asyncio.to_thread(holder))
        await asyncio.sleep(1)
        assert not lock.acquire(timeout=1)
        with lock:
            held = time.monotonic()
        await job
        future = concurrent.futures.ThreadPoolExecutor(1).submit(time.sleep, 2)
        future.result()
        return held, time.monotonic()

    assert run(main).result() == (5, 7)


def test_waiting_for_a_lock_that_nobody_releases_is_a_deadlock():
    async def main():
        lock = threading.Lock()
        lock.acquire()
        await asyncio.to_thread(lock.acquire)

    error = run(main).error
    assert isinstance(error, DeadlockError)
    assert "job-1 lock.acquire waits for a lock" in error.waiting or "acquire waits for a lock" in error.waiting

    async def blocking():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    assert isinstance(run(blocking).error, DeadlockError)


def test_locks_outlive_their_run():
    async def main():
        return threading.Lock(), threading.RLock(), threading.Condition(), threading.Event(), queue.Queue()

    lock, rlock, condition, event, box = run(main).result()
    log = []

    def use():
        with lock, rlock, rlock, condition:
            condition.notify()
        box.put("parcel")
        event.set()
        log.append("used")

    lock.acquire()
    thread = threading.Thread(target=use)
    thread.start()
    assert not lock.acquire(timeout=0.01)
    lock.release()
    assert event.wait(5)
    assert box.get(timeout=5) == "parcel"
    thread.join()


def test_a_job_stuck_on_the_world_outside_is_told():
    outside = threading.Lock()
    outside.acquire()

    def prepare(loop):
        loop.jobs.stuck_after = 0.05

    async def main():
        await asyncio.to_thread(outside.acquire)

    error = run(main, prepare=prepare).error
    outside.release()
    assert isinstance(error, StuckJobError)
    assert "before the run" in str(error)


def test_the_job_of_a_killed_process_never_goes_on():
    log = []

    def job():
        try:
            time.sleep(10)
            log.append("went on")
        finally:
            log.append(("unwound", current_owner().fenced))

    async def main():
        loop = asyncio.get_running_loop()
        owner = Owner("worker")
        spawn(owner, asyncio.to_thread(job))
        await asyncio.sleep(5)
        loop.kill(owner)
        await asyncio.sleep(100)
        return list(log)

    assert run(main).result() == []
    assert log == [("unwound", True)]


def test_jobs_left_over_are_unwound():
    log = []

    def job():
        try:
            time.sleep(10_000)
        finally:
            log.append("unwound")

    async def main():
        asyncio.get_running_loop().run_in_executor(None, job)
        await asyncio.sleep(1)

    outcome = run(main)
    assert (outcome.time, outcome.unhandled) == (1, ())
    assert log == ["unwound"]


def test_shutting_down_the_default_executor_waits():
    async def main():
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, time.sleep, 5)
        await loop.shutdown_default_executor()
        return loop.time()

    assert run(main).result() == 5


def test_decisions_delay_the_jobs_of_processes_and_leave_the_tests_own_alone():
    async def main(owner):
        OWNER.set(owner)
        order = []
        await asyncio.gather(*[asyncio.to_thread(order.append, n) for n in range(3)])
        return order

    def order_of(owner, **choices):
        return run(lambda: main(owner), decisions=Choices(**choices)).result()

    assert order_of(Owner("p")) == [0, 1, 2]
    assert order_of(Owner("p"), job_delay=[2, 1]) == [2, 1, 0]
    assert order_of(None, job_delay=[2, 1]) == [0, 1, 2]


def test_processes_are_not_simulated():
    async def main():
        with concurrent.futures.ProcessPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, int)

    assert isinstance(run(main).error, NotSimulatedError)
