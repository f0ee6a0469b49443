"""A small service is killed at every step it takes: nothing of it happens after its death, and nothing is lost."""

import asyncio

import pytest
from simulated_runs import message, passing, run_once, told

from factflow_infra_testing.search.decisions import Fault, PlannedDecisions
from factflow_infra_testing.simulation.session import SimulationSession

IDS = ["a", "b"]
RESET, SILENT = 1, 2


class World:
    """What the test sees from outside of the simulation: a plain list that any code could write to."""

    def __init__(self):
        self.wrong = []
        self.filed = []


def service(world):
    """Handles, writes, announces; every way out of it tells, and tries to have effects."""

    async def main(process):
        queue, storage = process.queue(), process.storage()
        lives = process.lives

        async def handle(received):
            key = received.message_id
            try:
                await asyncio.sleep(0.01)
                await storage.write(f"done/{key}", received.body)
                await queue.publish("announced", message(f"{key}-done"))
            except BaseException:
                if process.lives == lives and process.status == "ended":
                    world.wrong.append("except")
                await storage.write("wrong/except", b"")
                raise
            finally:
                if process.lives != lives or process.status != "running":
                    world.wrong.append("finally")

        try:
            await queue.subscribe("orders", handle)
            await asyncio.Event().wait()
        except GeneratorExit:
            world.wrong.append("GeneratorExit")
            raise
        finally:
            world.wrong.append("finally of main")
            await storage.write("wrong/finally", b"")
            await queue.publish("announced", message("wrong"))

    return main


def scenario_of(world):
    async def scenario(sim):
        sim.start(service(world), name="worker")
        queue, storage = sim.queue(), sim.storage()
        announced = []

        async def collect(received):
            announced.append(received.message_id)

        await queue.subscribe("announced", collect)
        for name in IDS:
            await queue.publish("orders", message(name))
        await sim.drain()
        sim.check.queue("orders")
        world.filed = [key async for key in storage.list()]
        world.announced = set(announced)
        # Later, when the run is over and judged, the dead are unwound, and Python runs what they still had to say.
        world.wrong_in_run = list(world.wrong)

    return scenario


def steps_of(session):
    """Every (activity, ordinal) at which the service can be killed, from a run in which it is not."""
    decisions = PlannedDecisions([Fault("kill", "nobody@never", 1)])
    passing(scenario_of(World()), decisions=decisions, session=session)
    return [(target, nth) for target, count in decisions.occurred("kill").items() for nth in range(1, count + 1)]


def check_all_steps(choice, expected_detail):
    with SimulationSession() as session:
        steps = steps_of(session)
        assert len(steps) > 10
        assert {target.partition("@")[2] for target, _ in steps} >= {
            "start",
            "handle orders",
            "write filesystem",
            "publish announced",
        }
        for target, nth in steps:
            world, fault = World(), Fault("kill", target, nth, choice)
            record = passing(scenario_of(world), fault, session=session)
            assert record.deviations == (fault,)
            ((_, process, detail),) = told(record, "kill")
            assert process == "worker"
            assert detail.startswith(expected_detail)
            assert [kind for kind, *_ in told(record, "start", "kill", "restart")] == ["start", "kill", "restart"]
            assert world.wrong_in_run == [], fault
            assert world.filed == ["done/a", "done/b"]
            assert world.announced == {"a-done", "b-done"}
            assert passing(scenario_of(World()), fault, session=session).digest == record.digest


def test_no_finally_and_no_except_of_a_killed_life_takes_effect():
    check_all_steps(RESET, "connections reset")


def test_a_silent_kill_neither():
    check_all_steps(SILENT, "falls silent")


def test_the_same_service_cancelled_instead_shows_that_the_watch_would_notice():
    """The ablation: where the process is told to end instead of killed, its ``finally`` does run."""
    world = World()
    record = run_once(scenario_of(world), Fault("terminate", "worker@handle orders", 1))
    assert record.failure is None
    assert "finally of main" in world.wrong_in_run
    assert "wrong/finally" in world.filed
    assert "wrong" in world.announced


@pytest.mark.parametrize(("choice", "waits"), [(RESET, False), (SILENT, True)])
def test_a_reset_gives_messages_back_at_once_and_silence_after_the_heartbeat(choice, waits):
    taken = []

    async def holder(process):
        async def handle(_):
            taken.append((process.name, process.time()))
            await asyncio.sleep(10)

        await process.queue().subscribe("orders", handle)
        await asyncio.Event().wait()

    async def scenario(sim):
        await sim.queue().publish("orders", message("a"))
        first = sim.start(holder, name="first", restart=False)
        await sim.sleep(1)
        first.kill(silent=choice == SILENT)
        killed = sim.time()
        assert first.status == "ended"
        sim.start(holder, name="second")
        await sim.drain()
        ((name, when),) = taken[1:]
        assert name == "second"
        assert (when - killed > 50) is waits, when - killed

    passing(scenario)


def test_restarts_back_off_up_to_a_minute():
    starts = []

    async def main(process):
        starts.append(process.time())
        await asyncio.Event().wait()

    async def scenario(sim):
        process = sim.start(main)
        assert process.name == "process-1"
        pauses = []
        for _ in range(9):
            await sim.sleep(0.001)
            process.kill()
            assert process.status == "restarting"
            killed = sim.time()
            await sim.sleep(61)
            pauses.append(starts[-1] - killed)
        assert [round(pause) for pause in pauses] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert process.lives == 10

    passing(scenario)


def test_kill_without_restart_also_calls_off_one_that_is_due():
    async def main(_):
        await asyncio.Event().wait()

    async def scenario(sim):
        one, other = sim.start(main), sim.start(main)
        await sim.sleep(1)
        one.kill(restart=False)
        other.kill()
        other.kill(restart=False)  # it lies dead, waiting for its supervisor
        assert (one.status, other.status) == ("ended", "ended")
        await sim.sleep(100)
        assert (one.lives, other.lives) == (1, 1)
        other.kill()
        assert repr(one) == "<Process 'process-1', life 1, ended>"

    passing(scenario)


def test_what_was_sent_before_the_kill_arrives_and_what_was_written_stays():
    async def main(process):
        if process.lives > 1:
            return
        queue, storage = process.queue(), process.storage()
        await storage.write("kept", b"x")
        sending = asyncio.create_task(queue.publish("orders", message("sent")))
        await queue.publish("orders", message("first"))
        await sending
        await asyncio.sleep(100)

    async def scenario(sim):
        process = sim.start(main)
        while not [op for op in sim.history.of("publish") if op.completed is not None]:
            await sim.sleep(0.0001)
        process.kill()
        await sim.drain()
        assert await sim.storage().read("kept") == b"x"
        assert sim.held("orders") == {"first", "sent"}

    passing(scenario)
