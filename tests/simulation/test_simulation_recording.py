"""The recorders: what the history says of each call, and that nothing else is different from the bare provider."""

import asyncio
import contextlib

import pytest
from simulated_runs import forever, message, passing, run_once

from factflow_infra.errors import (
    InvalidKeyError,
    InvalidMessageError,
    InvalidSubscriptionError,
    ObjectNotFoundError,
    StorageError,
)
from factflow_infra.protocols import BatchStatus, ErrorHandling, MessageStatus, QueueProtocol, StorageProtocol
from factflow_infra_testing.search.decisions import Fault


def operations(sim, *kinds):
    return [(op.kind, op.target, op.key, op.outcome, op.detail) for op in sim.history.of(*kinds)]


def test_a_recorded_provider_is_one():
    async def scenario(sim):
        assert isinstance(sim.queue(), QueueProtocol)
        assert isinstance(sim.storage(), StorageProtocol)
        async with sim.queue() as queue:
            await queue.publish("orders", message("a"))
            assert queue.health().connected

    passing(scenario)


@pytest.mark.parametrize(
    ("fault", "outcome", "detail"),
    [
        ("publish-refused", "fail", "PublishRefusedError"),
        ("publish-lost", "info", "PublishUnconfirmedError"),
        ("confirm-lost", "info", "PublishUnconfirmedError"),
    ],
)
def test_what_is_known_of_a_publish(fault, outcome, detail):
    async def scenario(sim):
        queue = sim.queue(exposed=True)
        with pytest.raises(Exception, match="orders"):
            await queue.publish("/queue/orders", message("a"))
        await queue.publish("orders", message("b"))
        assert operations(sim, "publish") == [
            ("publish", "orders", "a", outcome, detail),
            ("publish", "orders", "b", "ok", ""),
        ]

    passing(scenario, Fault(fault, "orders", 1))


def test_what_is_known_of_each_message_of_a_batch():
    async def scenario(sim):
        result = await sim.queue(exposed=True).publish_batch("orders", [message(name) for name in "abc"])
        assert result.status is BatchStatus.PARTIAL
        assert [op[2:] for op in operations(sim, "publish")] == [
            ("a", "ok", ""),
            ("b", "fail", "PublishRefusedError"),
            ("c", "ok", ""),
        ]

    passing(scenario, Fault("publish-refused", "orders", 2))


def test_what_is_known_of_a_handling():
    async def handle(received):
        if received.message_id == "raised":
            raise OSError
        if received.message_id == "cancelled":
            await forever()
        return MessageStatus.ACK if received.message_id == "acked" else MessageStatus.RETRY

    async def scenario(sim):
        queue = sim.queue()
        subscription = await queue.subscribe("orders", handle, concurrency=4)
        for name in ("acked", "retried", "raised", "cancelled"):
            await queue.publish("orders", message(name))
        await sim.sleep(1)
        await subscription.close(timeout=1)
        assert [op[2:] for op in operations(sim, "handle")] == [
            ("acked", "ok", "ack"),
            ("retried", "fail", "retry"),
            ("raised", "fail", "OSError"),
            ("cancelled", "info", "cancelled"),
        ]

    passing(scenario)


def test_a_handling_tells_that_its_message_had_come_back_however_it_ends():
    async def worker(process):
        async def handle(received):
            if not received.redelivered:
                await forever()
            return MessageStatus.RETRY

        await process.queue().subscribe("orders", handle, error_handling=ErrorHandling(max_retries=0))
        await forever()

    async def batcher(process):
        async with await process.queue().subscribe_batch("bills", max_messages=1, max_wait=0) as batches:
            async for batch in batches:
                if not batch.messages[0].redelivered:
                    await forever()
                await batches.ack(batch)

    async def scenario(sim):
        processes = [sim.start(main, name=name) for main, name in ((worker, "worker"), (batcher, "batcher"))]
        for target in ("orders", "bills"):
            await sim.queue().publish(target, message("a"))
        await sim.sleep(1)
        for process in processes:
            process.kill()
        await sim.drain()
        assert operations(sim, "handle") == [
            ("handle", "orders", "a", "", ""),
            ("handle", "bills", "a", "", ""),
            ("handle", "orders", "a", "fail", "redelivered, delivery 2: retry"),
            ("handle", "bills", "a", "ok", "redelivered, delivery 2: ack"),
        ]

    passing(scenario)


def test_a_batch_is_handled_from_its_arrival_until_it_is_settled():
    async def scenario(sim):
        queue = sim.queue()
        for name in "abcd":
            await queue.publish("orders", message(name))
        async with await queue.subscribe_batch("orders", max_messages=4, max_wait=1) as batches:
            assert (batches.destination, batches.status) == ("orders", "active")
            batch = await anext(aiter(batches))
            a, b, c, _ = batch
            await sim.sleep(5)
            await batches.ack(one for one in (a, b))
            await batches.retry([c])
            with pytest.raises(InvalidMessageError):
                await batches.reject([b"d"])
        handled = [(op.key, op.outcome, op.detail) for op in sim.history.of("handle")]
        assert handled == [("a", "ok", "ack"), ("b", "ok", "ack"), ("c", "fail", "retry"), ("d", "", "")]
        assert all(op.completed - op.invoked >= 5 for op in sim.history.of("handle") if op.completed is not None)

    passing(scenario)


def test_bad_input_is_refused_where_and_as_the_bare_provider_does():
    async def scenario(sim):
        queue, storage = sim.queue(), sim.storage()
        for call in (
            lambda provider: provider.stream("../up"),  # at the call, not at the first piece
            lambda provider: provider.list("/"),
        ):
            texts = []
            for provider in (storage, storage.provider):
                with pytest.raises(InvalidKeyError) as caught:
                    call(provider)
                texts.append(str(caught.value))
            assert texts[0] == texts[1]
        with pytest.raises(InvalidSubscriptionError, match="handler"):
            await queue.subscribe("orders", None)
        assert not sim.history.operations

    passing(scenario)


def test_who_stops_reading_half_way_leaves_nothing_open():
    async def scenario(sim):
        storage = sim.storage()
        await storage.write("k", b"x" * 100)
        pieces = storage.stream("k", chunk_size=10)
        assert await anext(pieces) == b"x" * 10
        await pieces.aclose()
        async for _ in storage.list():
            break
        with pytest.raises(ObjectNotFoundError):
            await storage.read("missing")
        await storage.delete("k")
        assert operations(sim, "write", "read", "delete") == [
            ("write", "filesystem", "k", "ok", ""),
            ("read", "filesystem", "k", "info", "GeneratorExit"),
            ("read", "filesystem", "missing", "fail", "ObjectNotFoundError"),
            ("delete", "filesystem", "k", "ok", ""),
        ]

    passing(scenario)


def test_an_operation_that_its_process_did_not_survive_has_no_outcome():
    async def main(process):
        if process.lives == 1:
            await process.queue().publish("orders", message("a"))

    async def scenario(sim):
        process = sim.start(main, name="producer")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        process.kill()
        await sim.drain()
        (publish,) = sim.history.of("publish")
        assert (publish.outcome, publish.completed) == ("", None)

    passing(scenario)


def test_a_failing_run_tells_everything_again_in_its_lines():
    async def scenario(sim):
        await sim.queue().publish("orders", message("a"))
        assert [line for line in sim.lines() if " publish orders a " in line]
        assert len(sim.digest()) == 32
        raise ArithmeticError

    first, second = run_once(scenario), run_once(scenario)
    assert first.digest == second.digest != ""


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("disk-full",), ["disk-full"]),
        (("disk-slow", "disk-full"), ["disk-slow (10 ms)", "disk-full"]),
        (("disk-denied", "disk-full"), ["disk-full"]),  # an operation fails once
        (("disk-slow", "power-loss", "disk-full"), ["disk-slow (10 ms)"]),
    ],
)
def test_a_fault_of_the_disk_is_noted_where_it_strikes(kinds, expected):
    async def writer(process):
        with contextlib.suppress(StorageError):
            await process.storage("filesystem").write("invoices/1", b"1")

    async def scenario(sim):
        sim.start(writer, name="writer", restart=False)
        await sim.drain()

    at = {"power-loss": Fault("power-loss", "writer@write filesystem", 4, 1)}  # as the folder is made
    plan = [at.get(kind) or Fault(kind, "mkdir invoices", 1) for kind in kinds]
    record = passing(scenario, *plan)
    assert [(op.target, op.detail) for op in record.history.of("fault")] == [
        ("mkdir invoices", how) for how in expected
    ]


def test_a_short_write_is_noted():
    async def writer(process):
        await process.storage("filesystem").write("invoices/1", b"123")

    async def scenario(sim):
        sim.start(writer, name="writer", restart=False)
        await sim.drain()

    target = "write invoices/.factflow-*.tmp"
    record = passing(scenario, Fault("short-write", target, 1))
    assert [(op.target, op.detail) for op in record.history.of("fault")] == [(target, "short-write")]


def test_a_job_that_takes_its_time_is_told_where_it_does():
    async def work(_):
        await asyncio.sleep(3)
        await asyncio.to_thread(len, "")

    async def scenario(sim):
        sim.start(work, name="worker")
        await asyncio.sleep(10)

    record = passing(scenario, Fault("job-delay", "worker@start", 1, 3))
    (fault,) = record.history.of("fault")
    assert (fault.invoked, fault.process, fault.target, fault.detail) == (
        3,
        "worker",
        "worker@start",
        "job-delay (1 s)",
    )


def test_a_read_of_a_range_says_which():
    async def scenario(sim):
        storage = sim.storage()
        await storage.write("k", b"0123456789")
        for given in ({}, {"start": 2, "end": 5}, {"start": 7}):
            assert [piece async for piece in storage.stream("k", **given)]
        assert [operation[4] for operation in operations(sim, "read")] == ["stream", "stream [2:5]", "stream [7:]"]

    passing(scenario)
