"""What Python only whispers is in the report: coroutines that were never awaited, errors of tasks that nobody took,
and what no recorder saw.
"""

import asyncio
import contextlib
import time
import warnings

import pytest
from simulated_runs import forever, message, passing, run_once

from factflow_infra.errors import QueueConnectionError
from factflow_infra_testing.errors import NondeterminismError
from factflow_infra_testing.report.text import failure_text
from factflow_infra_testing.search.decisions import Fault
from factflow_infra_testing.search.faults import Faults
from factflow_infra_testing.search.search import search
from factflow_infra_testing.search.simulate import simulate
from factflow_infra_testing.storage.files import RealDiskError


async def careless(process):
    queue = process.queue()

    async def handle(received):
        queue.publish("printed", received)

    await queue.subscribe("orders", handle)
    await forever()


def outcome_of(handle):
    async def main(process):
        await process.queue().subscribe("orders", handle)
        await forever()

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.drain()

    return passing(scenario).history.noticed


LINE = careless.__code__.co_firstlineno + 4
"""Where ``careless`` forgets an await."""


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

    async def handle(received):
        asyncio.get_running_loop().create_task(file(received))

    (told,) = outcome_of(handle)
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


def test_a_sleep_that_holds_up_the_loop_is_in_the_report_and_one_in_a_job_is_none():
    async def main(_):
        time.sleep(2)  # noqa: ASYNC251 - the mistake
        await asyncio.to_thread(time.sleep, 3)
        await forever()

    async def scenario(sim):
        sim.start(main, name="worker")
        await sim.sleep(10)

    (told,) = passing(scenario).history.noticed
    assert told.startswith("time.sleep(2) held up everything on the event loop, test_oversights.py:")
    assert told.endswith(" (worker)")


# What no recorder saw


async def by_hand(uri):
    """A client of one's own, that acks before it works."""
    import aio_pika

    connection = await aio_pika.connect_robust(uri, timeout=10)
    channel = await connection.channel()
    queue = await channel.declare_queue("orders", durable=True, arguments={"x-queue-type": "quorum"})
    done = await channel.declare_queue("done", durable=True, arguments={"x-queue-type": "quorum"})
    async with queue.iterator() as messages:
        async for received in messages:
            await received.ack()
            await asyncio.sleep(1)
            copy = aio_pika.Message(received.body, message_id=f"{received.message_id}-done", delivery_mode=2)
            await channel.default_exchange.publish(copy, done.name)


def own_client(*, kill_at):
    async def scenario(sim):
        uri = sim.uri("rabbitmq")
        process = sim.start(lambda _: by_hand(uri), name="shop")
        await sim.queue("rabbitmq", tier="wire").publish("orders", message("a"))
        await sim.sleep(kill_at)
        process.kill()
        await sim.drain()
        assert sim.broker().depth("done") == 1

    return scenario


def told_of(record):
    return [(op.process, op.kind, op.target, op.key) for op in record.history.told() if op.kind != "start"]


def test_the_report_shows_what_the_broker_saw_of_a_client_of_ones_own():
    record = run_once(own_client(kill_at=0.5))
    assert isinstance(record.failure, AssertionError)
    assert told_of(record) == [
        ("test", "publish", "orders", "a"),
        ("shop", "got from", "orders", "a"),
        ("shop", "acked on", "orders", "a"),
        ("shop", "kill", "shop", ""),
        ("shop", "restart", "shop", ""),
    ]
    assert not [op for op in record.history.operations if op.kind.startswith(("got", "acked"))]
    assert record.digest == run_once(own_client(kill_at=0.5)).digest
    finding = search(own_client(kill_at=0.5), faults=Faults.none(), max_examples=2).finding
    assert "acked on orders a" in failure_text(finding, inputs={}, origin="", replay="", artifacts="")


def test_what_a_recorder_shows_is_not_shown_again():
    async def scenario(sim):
        sim.uri("rabbitmq")
        sim.start(careless, name="worker")
        await sim.queue().publish("orders", message("a"))
        await sim.drain()
        raise AssertionError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = run_once(scenario)
    assert record.history.told() == record.history.operations


def test_an_address_where_nobody_listens_is_told_with_those_that_there_are():
    async def main(_):
        await asyncio.open_connection("localhost", 5672)

    async def scenario(sim):
        sim.uri("rabbitmq")
        sim.start(main, name="shop")
        await sim.sleep(1)

    record = run_once(scenario)
    assert isinstance(record.failure, ConnectionRefusedError)
    (told,) = record.history.noticed
    assert told.startswith("nobody listens at localhost:5672 in the simulation; there are: rabbitmq-quorum:5672")
    assert told.endswith(" (shop)")


def test_what_a_run_that_is_broken_off_was_doing_has_never_ended():
    async def main(_):
        raise RuntimeError

    async def scenario(sim):
        sim.start(main, name="shop")
        await sim.queue("rabbitmq", tier="wire").publish("orders", message("a"))

    (publish,) = run_once(scenario).history.of("publish")
    assert (publish.completed, publish.outcome, publish.detail) == (None, "", "")


def test_a_message_that_rabbitmq_confirms_and_drops_is_told():
    async def main(_, uri):
        import aio_pika

        async with await aio_pika.connect_robust(uri, timeout=10) as connection:
            channel = await connection.channel()
            for mandatory in (True, False):
                with contextlib.suppress(aio_pika.exceptions.DeliveryError):
                    sent = aio_pika.Message(b"", delivery_mode=2)
                    await channel.default_exchange.publish(sent, "dnoe", mandatory=mandatory)

    async def scenario(sim):
        uri = sim.uri("rabbitmq")
        sim.start(lambda process: main(process, uri), name="shop")
        await sim.queue("rabbitmq", tier="wire").publish("/topic/nobody", message("a"))
        await sim.sleep(1)

    (told,) = passing(scenario).history.noticed
    assert told.startswith("a message to queue 'dnoe' met none, and was dropped: without `mandatory` ")
    assert told.endswith(" (shop)")
    assert passing(scenario).history.noticed[told] == 1


def test_the_report_shows_what_the_broker_drops():
    async def main(_, uri):
        import aio_pika

        connection = await aio_pika.connect_robust(uri, timeout=10)
        queue = await (await connection.channel()).declare_queue(
            "orders", durable=True, arguments={"x-queue-type": "quorum"}
        )
        async with queue.iterator() as messages:
            async for received in messages:
                await received.reject(requeue=False)

    async def scenario(sim):
        uri = sim.uri("rabbitmq")
        sim.start(lambda process: main(process, uri), name="shop")
        await sim.queue("rabbitmq", tier="wire").publish("orders", message("a"))
        await sim.drain()
        raise AssertionError

    assert ("broker", "dropped from", "orders", "a") in told_of(run_once(scenario))


async def raises(_):
    raise ValueError("no such customer")


async def returns_no_verdict(_):
    return "ack"


async def is_refused(_):
    raise QueueConnectionError("the broker is away")


def test_what_a_handler_raised_or_returned_is_told_and_errors_that_pass_are_not():
    line = raises.__code__.co_firstlineno + 1
    told = f"a handler of orders failed with ValueError: no such customer, test_oversights.py:{line} (worker)"
    assert outcome_of(raises) == {told: 4}
    verdicts = "which is no verdict: MessageStatus.ACK, RETRY, REJECT or None (worker)"
    assert outcome_of(returns_no_verdict) == {f"a handler of orders returned 'ack', {verdicts}": 4}
    assert QueueConnectionError.retryable
    assert outcome_of(is_refused) == {}


@pytest.mark.parametrize("how", ["raised", "returned", "left in a task"])
def test_no_credentials_that_the_code_under_test_quotes_are_in_the_report(how):
    async def fail():
        raise OSError("cannot reach amqp://shop:s3cret@broker/orders\nwith token s3cret")

    async def handle(_):
        if how == "left in a task":
            asyncio.get_running_loop().create_task(fail())
        elif how == "raised":
            await fail()
        return "amqp://shop:s3cret@broker/orders" if how == "returned" else None

    (told,) = outcome_of(handle)
    assert "amqp://***@broker/orders" in told
    assert "s3cret" not in told


def test_a_failure_that_one_run_leaves_to_the_next_is_no_finding():
    seen = []

    async def scenario(sim):
        await sim.sleep(1)
        seen.append(1)
        assert len(seen) == 1, "somebody was here"

    with pytest.raises(
        NondeterminismError, match=r"Run 1, .* passed; the same run fails after 1 other: .*module-wide cache"
    ):
        search(scenario, faults=Faults.none(), max_examples=5)
    seen.clear()
    with pytest.raises(NondeterminismError, match="passed; the same run fails"):
        simulate(max_examples=5)(scenario)()


async def imports_first(sim):
    import os

    folder = sim.disk()
    os.makedirs(f"{folder}/inbox")  # noqa: PTH103


async def imports_a_class_first(sim):
    from pathlib import Path

    folder = sim.disk()
    assert (Path(folder) / "inbox").exists()


async def imports_in_a_process(sim):
    async def main(process):
        from os import makedirs

        makedirs(f"{process.disk()}/inbox")  # noqa: PTH103

    sim.start(main, name="worker")
    await sim.drain()


@pytest.mark.parametrize(
    ("test", "name"), [(imports_first, "os"), (imports_a_class_first, "Path"), (imports_in_a_process, "makedirs")]
)
def test_what_was_imported_in_a_function_before_the_disk_was_there_is_told(test, name):
    failure = run_once(test).failure
    told = f"{name} in {test.__name__}"
    assert any(note.startswith(f"Note: {told}") and "import at the top" in note for note in failure.__notes__)
    if name != "Path":  # whose lookups no audit hook sees
        assert isinstance(failure, RealDiskError)
        assert "folder = process.disk()" in str(failure)


def test_what_was_imported_before_and_is_not_of_files_is_not_told():
    async def scenario(sim):
        import json

        folder = sim.disk()
        assert not json.dumps(folder)

    assert not getattr(run_once(scenario).failure, "__notes__", ())
