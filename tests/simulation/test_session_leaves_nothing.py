"""What a session and its runs leave behind: nothing. And one session serves several searches in turn."""

import asyncio
import gc
import logging
import os
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from simulated_runs import forever, message, passing, run_once, swarm

from factflow_infra_testing.search.decisions import Fault
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search
from factflow_infra_testing.simulation import patches
from factflow_infra_testing.simulation.session import (
    FAILURES_BETWEEN_FULL_COLLECTIONS,
    SimulationSession,
)

if TYPE_CHECKING:
    from factflow_infra_testing.simulation.simulation import Simulation

RUNS = 200


async def worker(process):
    queue, storage = process.queue(), process.storage()

    async def handle(received):
        await storage.write(f"done/{received.message_id}", received.body)

    await queue.subscribe("orders", handle)
    try:
        await forever()
    finally:
        await queue.stop()


async def scenario(sim):
    sim.start(worker, name="worker")
    await sim.queue().publish("orders", message("a"))
    await sim.drain()
    sim.check.queue("orders")
    assert [key async for key in sim.storage().list()] == ["done/a"]


def descriptors():
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


def replaced():
    """What a session replaces in the rest of the process."""
    return (
        time.time,
        time.sleep,
        os.urandom,
        threading.Thread.start,
        open,
        os.open,
        sys.getprofile(),
        sys.unraisablehook,
    )


def test_two_hundred_runs_under_faults_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = replaced()
    logger = logging.getLogger("factflow_infra")
    handlers, propagate = list(logger.handlers), logger.propagate
    runs: list[weakref.ref[Simulation]] = []

    async def watched(sim):
        runs.append(weakref.ref(sim))
        await scenario(sim)

    with SimulationSession() as session:
        for seed in range(20):  # what is set up once, is
            passing(watched, decisions=swarm(seed), seed=seed, session=session)
        gc.collect()
        threads, files, objects = threading.active_count(), descriptors(), len(gc.get_objects())
        for seed in range(20, RUNS):
            passing(watched, decisions=swarm(seed), seed=seed, session=session)
        gc.collect()
        assert threading.active_count() <= threads
        assert descriptors() <= files
        assert len(gc.get_objects()) < objects * 1.02 + 1000
        assert not [ref for ref in runs[:-1] if ref() is not None]
        assert logger.propagate is False
    assert gc.isenabled()
    assert not patches.is_active()
    assert replaced() == before
    assert (logger.handlers, logger.propagate) == (handlers, propagate)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


@pytest.mark.parametrize("fails", [False, True], ids=["passing", "failing"])
def test_a_session_collects_its_runs_by_itself(fails):
    """Nobody else collects while it is open; and what an early collection spares, a quick one does not look at again."""
    runs: list[weakref.ref[Simulation]] = []
    kept = None

    async def watched(sim):
        runs.append(weakref.ref(sim))
        await sim.queue().publish("orders", message("a"))
        await sim.drain()
        assert not fails

    with SimulationSession() as session:
        for seed in range(3 * FAILURES_BETWEEN_FULL_COLLECTIONS):
            kept = run_once(watched, decisions=swarm(seed), seed=seed, session=session)  # as a search has one in hand
        alive = sum(ref() is not None for ref in runs)
        assert (kept.failure is not None) is fails
        assert alive <= 1 + (FAILURES_BETWEEN_FULL_COLLECTIONS if fails else 0)


def test_what_a_task_says_when_it_is_collected_does_not_keep_its_run():
    """A killed process looks at no failures of its tasks any more; asyncio complains of that when they are collected."""

    class Trace:
        pass

    async def fail(circle):
        raise ConnectionError(circle)

    async def careless(_):
        circle: list[object] = [Trace()]
        circle.append(asyncio.create_task(fail(circle)))  # so that it is collected, and not freed before
        await forever()

    async def scenario(sim):
        sim.start(careless, name="careless")
        await asyncio.sleep(1)
        sim.kill("careless")
        await sim.drain()

    with SimulationSession() as session:
        for _ in range(5):
            run_once(scenario, session=session)
        # By weak references nobody can tell: they are cleared before what is collected may speak.
        assert sum(type(one) is Trace for one in gc.get_objects()) <= 1


def test_the_disk_of_a_run_is_empty_and_the_real_one_is_not_touched(tmp_path):
    real = tmp_path / "real"
    real.write_text("x")

    async def look(sim):
        storage = sim.storage()
        assert [key async for key in storage.list()] == []
        await storage.write("a", b"x")
        s3 = sim.storage("s3")
        assert [key async for key in s3.list()] == []
        await s3.write("b", b"x")

    with SimulationSession() as session:
        for _ in range(3):
            passing(look, session=session)
            assert real.read_text() == "x"
            assert list(tmp_path.iterdir()) == [real]


def test_what_a_dead_life_does_when_it_is_unwound_is_not_in_the_next_run():
    async def clinging(process):
        storage = process.storage()
        try:
            await forever()
        finally:
            try:
                await storage.write("from the grave", b"")
            finally:
                await process.queue().publish("orders", message("from the grave"))

    async def killed(sim):
        process = sim.start(clinging, name="worker", restart=False)
        await sim.sleep(1)
        process.kill()
        await sim.drain()

    async def look(sim):
        assert [key async for key in sim.storage().list()] == []
        await sim.drain()
        assert not sim.queue_events()
        assert not list(sim.history.of("write", "publish"))

    with SimulationSession() as session:
        for _ in range(3):
            passing(killed, session=session)
            gc.collect()
            passing(look, session=session)


def test_a_session_serves_several_searches_in_turn():
    async def fails(sim):
        await scenario(sim)
        if sim.processes()["worker"].lives > 1:
            raise ArithmeticError("it was killed")

    plans = []
    for _ in range(2):
        result = search(fails, faults=Faults.only("kill"), seed=1, max_examples=100)
        plans.append(result.finding.plan)
        assert search(scenario, faults=Faults.all(), seed=1, max_examples=20).finding is None
    assert plans[0] == plans[1]
    assert [fault.kind for fault in plans[0]] == ["kill"]
    with SimulationSession() as session:
        digests = [passing(scenario, Fault("ack-lost", "orders", 1), session=session).digest for _ in range(3)]
    with SimulationSession() as session:
        digests.append(passing(scenario, Fault("ack-lost", "orders", 1), session=session).digest)
    assert len(set(digests)) == 1


def test_a_session_that_is_left_by_an_error_undoes_itself():
    before = replaced()

    def leave():
        with SimulationSession() as session:
            passing(scenario, session=session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert replaced() == before
    assert logging.getLogger("factflow_infra").propagate


def test_the_way_out_of_the_test_run_is_not_held_up():
    async def interrupted(sim):
        sim.start(worker, name="worker")
        await sim.sleep(1)
        raise KeyboardInterrupt

    with SimulationSession() as session:
        with pytest.raises(KeyboardInterrupt):
            passing(interrupted, session=session)
        passing(scenario, session=session)
    assert not patches.is_active()
