"""Processes: told to terminate, paused, crashed, returned; their clocks and their disks."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from simulated_runs import forever, message, passing, run_once, told

from factflow_infra.errors import SettingsError
from factflow_infra_testing.errors import KitUsageError
from factflow_infra_testing.search.decisions import Fault

TERMINATED = Fault("terminate", "worker@start", 2)


def starting(main, *, then=None, **options):
    async def scenario(sim):
        process = sim.start(main, name="worker", **options)
        if then is not None:
            await then(sim, process)
        else:
            await sim.drain()

    return scenario


# Terminating


def test_a_process_that_is_told_to_terminate_may_tidy_up_and_is_started_again():
    tidied = []

    async def main(process):
        try:
            await forever()
        finally:
            await asyncio.sleep(29)
            tidied.append(process.time())

    async def then(sim, process):
        await sim.sleep(1)
        process.terminate()
        process.terminate()  # told twice is told once
        await sim.sleep(29.5)
        assert tidied == [30.0]
        assert process.status == "restarting"
        await sim.sleep(60)
        assert (process.lives, process.status) == (2, "running")

    record = passing(starting(main, then=then))
    assert [kind for kind, *_ in told(record, "terminate", "kill", "end", "restart")] == ["terminate", "end", "restart"]


def test_who_swallows_its_cancellation_is_killed_after_thirty_seconds():
    async def main(process):
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                del process

    async def then(sim, process):
        await sim.sleep(1)
        process.terminate()
        await sim.sleep(29.9)
        assert process.status == "running"
        await sim.sleep(0.2)
        assert process.status == "restarting"

    record = passing(starting(main, then=then))
    ((_, _, detail),) = told(record, "kill")
    assert detail.startswith("still there 30 s after it was told to terminate")


def test_an_error_on_the_way_out_is_no_crash_of_a_benign_run():
    async def main(process):
        try:
            await forever()
        finally:
            raise OSError(process.name)

    async def then(sim, process):
        await sim.sleep(1)
        process.terminate()
        await sim.sleep(10)
        assert process.lives == 2

    record = passing(starting(main, then=then))
    assert told(record, "end") == [("end", "worker", "terminated: OSError")]


def test_told_before_its_first_step_it_ends_at_once():
    began = []

    async def main(process):
        began.append(process.lives)
        await forever()

    async def then(sim, process):
        process.terminate()
        assert process.status == "restarting"
        await sim.sleep(40)
        assert began == [2]
        assert process.lives == 2

    record = passing(starting(main, then=then))
    assert not told(record, "kill")
    record = passing(starting(main), Fault("terminate", "worker@start", 1))
    assert [kind for kind, *_ in told(record, "terminate", "end", "kill")] == ["terminate", "end"]


def test_a_process_that_is_not_to_be_restarted_is_not():
    async def main(_):
        await forever()

    async def then(sim, process):
        await sim.sleep(1)
        process.terminate()
        await sim.sleep(100)
        assert (process.lives, process.status) == (1, "ended")

    passing(starting(main, then=then, restart=False))


# Ending by itself


def test_a_process_that_returns_has_ended_and_its_connections_close():
    async def main(process):
        async def handle(_):
            await asyncio.sleep(1000)

        await process.queue().subscribe("orders", handle)
        await asyncio.sleep(1)
        asyncio.get_running_loop().create_task(forever(), name="left over")

    async def then(sim, process):
        await sim.queue().publish("orders", message("a"))
        await sim.sleep(0.9)
        assert sim.has_consumer("orders")
        await sim.sleep(0.2)
        assert not sim.has_consumer("orders")
        assert (process.status, process.lives) == ("ended", 1)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "left over" and not task.done()] or (
            sim.held("orders") == {"a"}
        )
        await sim.drain()
        assert process.lives == 1
        assert sim.held("orders") == {"a"}

    record = passing(starting(main, then=then))
    assert told(record, "end") == [("end", "worker", "returned")]


@pytest.mark.parametrize("code", [None, 0])
def test_a_process_may_leave_by_sys_exit(code):
    async def main(process):
        await asyncio.sleep(1)
        assert process.lives == 1
        sys.exit(code)

    async def then(sim, process):
        await sim.drain()
        assert process.status == "ended"

    passing(starting(main, then=then))


def test_an_exit_with_an_error_is_a_crash_and_not_the_end_of_the_test_run():
    async def main(process):
        await asyncio.sleep(1)
        sys.exit(f"cannot go on as {process.name}")

    record = run_once(starting(main))
    assert isinstance(record.failure, RuntimeError)
    assert str(record.failure) == "process 'worker' exited with 'cannot go on as worker'"


async def leave_in_a_handler(process, code):
    async def handle(_):
        sys.exit(code)

    await process.queue().subscribe("orders", handle)
    await asyncio.Event().wait()


async def leave_in_a_task(_, code):
    async def task():
        await asyncio.sleep(1)
        sys.exit(code)

    await asyncio.gather(task(), asyncio.Event().wait())


async def leave_in_a_callback(_, code):
    asyncio.get_running_loop().call_later(1, sys.exit, code)
    await asyncio.Event().wait()


LEAVING = [leave_in_a_handler, leave_in_a_task, leave_in_a_callback]


@pytest.mark.parametrize("leave", LEAVING)
def test_sys_exit_outside_of_main_ends_the_process_and_not_the_test_run(leave):
    async def then(sim, process):
        await sim.queue().publish("orders", message("a"))
        await sim.sleep(30)
        assert process.status == "ended"
        assert sim.held("orders") == {"a"}

    record = passing(starting(lambda process: leave(process, 0), then=then))
    assert told(record, "end") == [("end", "worker", "exited: 0")]


@pytest.mark.parametrize("leave", LEAVING)
def test_an_exit_with_an_error_outside_of_main_is_a_crash(leave):
    async def then(sim, _):
        await sim.queue().publish("orders", message("a"))
        await sim.sleep(30)

    record = run_once(starting(lambda process: leave(process, "no more"), then=then))
    assert isinstance(record.failure, RuntimeError)
    assert str(record.failure) == "process 'worker' exited with 'no more'"


def test_sys_exit_of_the_test_itself_leaves_the_run():
    async def scenario(sim):
        sim.loop.call_later(1, sys.exit, 3)
        await sim.sleep(10)

    with pytest.raises(SystemExit, match="3"):
        run_once(scenario)


# Crashes


def test_a_crash_without_any_fault_fails_the_test_with_the_services_own_error():
    class BrokenError(Exception):
        pass

    async def helper():
        await asyncio.sleep(5)
        raise BrokenError("the service's own words")

    async def main(_):
        await helper()

    async def then(sim, _):
        await sim.sleep(100)
        raise AssertionError("the run went on")

    record = run_once(starting(main, then=then))
    assert type(record.failure) is BrokenError
    names = []
    trace = record.failure.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-2:] == ["main", "helper"]


def test_a_crash_after_a_fault_is_life_and_the_process_is_started_again():
    async def main(process):
        queue = process.queue()
        await asyncio.sleep(1)
        await queue.publish("orders", message(f"life-{process.lives}"))
        await forever()

    record = passing(starting(main), Fault("publish-refused", "orders", 1))
    ((_, process, detail),) = told(record, "end")
    assert process == "worker"
    assert detail.startswith("crashed: PublishRefusedError: ")
    assert [op.key for op in record.history.of("publish") if op.outcome == "ok"] == ["life-2"]


def test_an_assertion_in_a_process_fails_the_test_at_once_whatever_faults_there_were():
    async def main(process):
        if process.lives == 2:
            raise AssertionError("the service's own check")
        await forever()

    async def then(sim, _):
        await sim.sleep(10)
        raise OSError("the run went on")

    record = run_once(starting(main, then=then), Fault("kill", "worker@start", 1))
    assert isinstance(record.failure, AssertionError)
    assert str(record.failure) == "the service's own check"
    assert len(told(record, "kill")) == 1


def test_who_crashes_again_and_again_is_broken():
    async def main(process):
        await asyncio.sleep(1)
        raise OSError(f"life {process.lives}")

    async def then(sim, _):
        await sim.sleep(24 * 3600)

    record = run_once(starting(main, then=then), Fault("kill", "worker@start", 1))
    assert isinstance(record.failure, OSError), record.failure
    assert len(told(record, "end")) == 26
    assert str(record.failure) == "life 27"  # the killed one, then 26 that crashed


def test_a_main_that_is_cancelled_by_its_own_code_has_crashed():
    async def main(_):
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    record = run_once(starting(main))
    assert isinstance(record.failure, asyncio.CancelledError)
    assert "nobody that told it to end" in str(record.failure)


# Pausing, and clocks


def test_a_paused_process_runs_nothing_and_misses_its_heartbeats():
    seen = []

    async def main(process):
        async def handle(received):
            seen.append((process.time(), received.redelivered))
            await asyncio.sleep(5)

        await process.queue().subscribe("orders", handle)
        while True:
            await asyncio.sleep(1)
            seen.append(process.time())

    async def then(sim, process):
        await sim.sleep(2.5)
        process.pause(100)
        process.pause(1)  # it stands already
        assert process.status == "paused"
        before = list(seen)
        await sim.queue().publish("orders", message("a"))
        await sim.sleep(99)
        assert seen == before
        await sim.sleep(8)
        assert process.status == "running"
        assert not [entry for entry in seen if not isinstance(entry, tuple) and 2.5 < entry < 102.5]

    passing(starting(main, then=then))


def test_a_pause_costs_a_consumer_its_connection():
    handled = []

    async def main(process):
        async def handle(received):
            handled.append((process.name, received.redelivered))
            await asyncio.sleep(10)

        await process.queue().subscribe("orders", handle)
        await forever()

    async def scenario(sim):
        await sim.queue().publish("orders", message("a"))
        first = sim.start(main, name="first")
        await sim.sleep(5)
        first.pause()
        second = sim.start(main, name="second")
        await sim.drain()
        sim.check.queue("orders")
        assert first.status == second.status == "running"

    record = passing(scenario)
    assert handled == [("first", False), ("second", True)]
    assert [kind for kind, *_ in told(record, "pause", "resume")] == ["pause", "resume"]


def test_a_pause_that_was_ended_does_not_shorten_the_next_one():
    async def main(_):
        await forever()

    async def then(sim, process):
        process.pause(10)
        await sim.sleep(1)
        process.resume()
        assert process.status == "running"
        process.pause(100)
        await sim.sleep(50)
        assert process.status == "paused"
        await sim.sleep(60)
        assert process.status == "running"

    passing(starting(main, then=then))


def test_a_paused_process_can_be_killed_and_its_next_life_is_not_paused():
    async def main(_):
        await forever()

    async def then(sim, process):
        process.pause(1000)
        process.kill()
        await sim.sleep(2)
        assert (process.lives, process.status) == (2, "running")

    passing(starting(main, then=then))


@pytest.mark.parametrize(("choice", "seconds"), [(1, -1.0), (2, 1.0), (3, -3600.0), (4, 3600.0)])
def test_a_jump_moves_the_wall_clock_of_one_machine_and_no_loops(choice, seconds):
    from factflow_infra_testing.search.faults import known_kinds

    clocks = {}

    async def main(process):
        loop = asyncio.get_running_loop()
        clocks[process.name] = readings = []
        for _ in range(3):
            await asyncio.sleep(1)
            readings.append((datetime.now(UTC).timestamp(), time.time(), time.monotonic(), loop.time()))

    async def scenario(sim):
        sim.start(main, name="worker", host="one")
        sim.start(main, name="twin", host="one")
        sim.start(main, name="other", host="two")
        await sim.drain()

    record = passing(scenario, Fault("clock-jump", "worker@start", 4, choice))
    assert told(record, "clock-jump") == [("clock-jump", "one", f"{seconds:+g} s")]
    unit = {"s": 1, "h": 3600}
    size, name, way = known_kinds()["clock-jump"].choices[choice - 1].split()
    assert seconds == int(size) * unit[name] * (1 if way == "forward" else -1)
    for name, jumped in (("worker", seconds), ("twin", seconds), ("other", 0.0)):
        wall, posix, monotonic, looped = (
            [after - before for before, after in pairwise(column)] for column in zip(*clocks[name], strict=True)
        )
        assert sum(wall) == pytest.approx(2 + jumped), name
        assert posix == pytest.approx(wall)
        assert monotonic == pytest.approx([1, 1])
        assert looped == pytest.approx([1, 1])


# Machines


def test_processes_of_one_machine_share_its_disk_and_all_machines_share_the_bucket():
    seen = {}

    async def writer(process):
        await process.storage("filesystem").write("file", b"on disk")
        await process.storage("s3").write("object", b"in the bucket")

    async def reader(process):
        await asyncio.sleep(1)
        seen[process.name] = [
            await process.storage("filesystem").exists("file"),
            await process.storage("s3").exists("object"),
        ]

    async def scenario(sim):
        sim.start(writer, host="one")
        sim.start(reader, name="neighbour", host="one")
        sim.start(reader, name="stranger", host="two")
        await sim.drain()
        assert await sim.storage("filesystem", host="one").read("file") == b"on disk"
        assert not await sim.storage("filesystem", host="two").exists("file")
        assert await sim.storage("s3").read("object") == b"in the bucket"

    passing(scenario)
    assert seen == {"neighbour": [True, True], "stranger": [False, True]}


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"name": ""}, "''"),
        ({"name": "a/2"}, "'a/2'"),
        ({"name": "a@b"}, "'a@b'"),
        ({"name": "a\nb"}, r"'a\\nb'"),
        ({"name": 7}, "got 7"),
        ({"host": "../etc"}, r"'\.\./etc'"),
        ({"host": ".."}, r"'\.\.'"),
        ({"host": None}, "None"),
        ({"name": "test"}, "'test'"),
        ({"name": "taken"}, "already"),
        ({"main": None}, "async function of one Process"),
    ],
    ids=str,
)
def test_names_that_would_spoil_plans_and_paths_are_refused(options, shown):
    async def main(_):
        await forever()

    async def scenario(sim):
        sim.start(main, name="taken")
        with pytest.raises(KitUsageError, match=shown):
            sim.start(**{"main": main, **options})
        assert list(sim.processes()) == ["taken"]

    passing(scenario)


# Used in the wrong way


def test_a_function_that_is_not_async_is_refused_by_name():
    def plain(_):
        return 3

    record = run_once(starting(plain))
    assert isinstance(record.failure, KitUsageError)
    assert "takes an async function" in str(record.failure)
    assert "plain" in str(record.failure)
    assert str(record.failure).endswith("gave 3")


def test_a_coroutine_is_not_what_a_process_runs():
    async def main(_):
        pass

    called = main(None)
    record = run_once(starting(called))
    called.close()
    assert isinstance(record.failure, KitUsageError)
    assert "without calling it" in str(record.failure)


@pytest.mark.parametrize(
    ("options", "told_of"), [({"kind": "s4"}, "'s4'"), ({"kind": "filesystem", "profile": "minio"}, "'minio'")]
)
def test_a_check_of_a_store_that_there_is_not_is_refused(options, told_of):
    async def scenario(sim):
        sim.check.storage(**options)

    record = run_once(scenario)
    assert isinstance(record.failure, SettingsError)
    assert told_of in str(record.failure)
