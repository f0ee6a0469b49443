"""Batch subscriptions: gathering, settling whole or in part, loss, cancellation and closing."""

from __future__ import annotations

import asyncio

import pytest
from queue_fakes import FakeTransport, envelope, provider_on, turns, until

from factflow_infra.errors import InvalidMessageError, QueueConnectionError, SubscriptionClosedError
from factflow_infra.queue import batch as batch_module
from factflow_infra.queue.messages import ErrorHandling, QueueMessage

pytestmark = pytest.mark.asyncio


def message(text="x", **fields):
    return QueueMessage(text.encode(), message_id=text, **fields)


async def filled(provider, n, **options):
    for i in range(n):
        await provider.publish("q", message(str(i)))
    return await provider.subscribe_batch("q", **{"max_messages": 3, "max_wait": 0.01, **options})


def ids(batch):
    return [m.message_id for m in batch]


async def test_full_batches_at_once_and_the_rest_after_max_wait():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await filled(provider, 7)
        batches = []
        async for batch in handle:
            batches.append(ids(batch))
            await handle.ack(batch)
            if len(batches) == 3:
                break
        assert batches == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
        assert sum(entry[0] == "acked" for entry in transport.log) == 7
        assert handle.status == "active"
        assert transport.consumers[0].most_held <= 6


async def test_an_empty_queue_gives_no_empty_batch():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await provider.subscribe_batch("q", max_messages=3, max_wait=0)
        waiting = asyncio.create_task(anext(handle))
        await turns()
        assert not waiting.done()
        await provider.publish("q", message("a"))
        assert ids(await waiting) == ["a"]


async def test_settling_in_part_in_any_form():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await filled(provider, 4, max_messages=4, error_handling=ErrorHandling(retry_delay_seconds=5))
        batch = await anext(handle)
        zero, one, two, three = batch
        assert (len(batch), zero.delivery_count, zero.destination) == (4, 1, "q")
        await handle.ack(zero)
        await handle.reject([one])
        await handle.retry(m for m in (two,))
        assert transport.delays[-1] == 5
        for settled in (batch, zero, [three, zero], message("3")):
            with pytest.raises(SubscriptionClosedError, match="is not held by this batch handle"):
                await handle.ack(settled)
        await handle.ack(three)  # the failed calls settled nothing
        assert [transport.count("acked", name) for name in "0123"] == [1, 1, 1, 1]
        [dead] = transport.waiting("dlq")
        assert dead.message.message_id == "1"
        assert dead.message.headers["factflow-dead-letter-reason"] == "rejected"
        again = await anext(handle)
        assert [(m.message_id, m.delivery_count) for m in again] == [("2", 2)]
        await handle.ack(())


@pytest.mark.parametrize("settled", [None, "0", b"0", 7, ["0"]])
async def test_settling_something_else_is_bad_input(settled):
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await filled(provider, 1)
        batch = await anext(handle)
        with pytest.raises(InvalidMessageError, match="a BatchMessage, a QueueMessage or several"):
            await handle.ack(settled)
        await handle.ack(batch)


async def test_closing_gives_back_what_is_unsettled_and_ends_the_iteration():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await filled(provider, 5)
        batch = await anext(handle)
        await handle.ack(batch.messages[0])
        await anext(handle)
        iterating = asyncio.create_task(anext(handle))
        await turns()
        await handle.close()
        with pytest.raises(StopAsyncIteration):
            await iterating
        with pytest.raises(SubscriptionClosedError, match="is closed"):
            await handle.ack(batch.messages[1])
        assert sorted(e.message.message_id for e in transport.waiting("q")) == ["1", "2", "3", "4"]
        assert [b async for b in handle] == []
        assert handle.status == "closed"


async def test_a_cancelled_wait_loses_no_message():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await provider.subscribe_batch("q", max_messages=2, max_wait=60)
        waiting = asyncio.create_task(anext(handle))
        await turns()
        await provider.publish("q", message("a"))
        await turns()
        waiting.cancel()
        await provider.publish("q", message("b"))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ids(await anext(handle)) == ["a", "b"]


async def test_verdicts_on_messages_lost_with_the_connection_are_dropped():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await filled(provider, 3)
        batch = await anext(handle)
        transport.lose()
        again = await anext(handle)
        assert ids(again) == ["0", "1", "2"]
        assert all(m.redelivered and m.delivery_count == 2 for m in again)
        await handle.ack(batch)
        assert not transport.count("acked", "0")
        await handle.ack(again)
        assert transport.count("acked", "0") == 1


async def test_what_was_gathered_but_lost_is_not_given_out():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await provider.subscribe_batch("q", max_messages=5, max_wait=60)
        await provider.publish("q", message("a"))
        await turns()
        transport.lose()
        await until(lambda: transport.consumers and transport.consumers[0].held)
        for name in "bcde":
            await provider.publish("q", message(name))
        batch = await anext(handle)
        assert [(m.message_id, m.delivery_count) for m in batch] == [
            ("a", 2), ("b", 1), ("c", 1), ("d", 1), ("e", 1),
        ]  # fmt: skip


async def test_what_cannot_be_handled_never_reaches_a_batch():
    transport = FakeTransport(counts=True)
    async with provider_on(transport) as provider:
        handle = await provider.subscribe_batch(
            "q", max_messages=1, max_wait=0, error_handling=ErrorHandling(max_deliveries=1)
        )
        transport.inject("queue:q", envelope(message("garbage")), undecodable="no JSON")
        transport.inject("queue:q", envelope(message("crasher")), seen=1)
        transport.inject("queue:q", envelope(message("fine")))
        assert ids(await anext(handle)) == ["fine"]
        await until(lambda: len(transport.waiting("dlq")) == 2)


async def test_a_copy_that_fails_is_published_again_while_the_message_is_held():
    transport = FakeTransport()
    failures = [QueueConnectionError("x"), QueueConnectionError("x")]

    async def refuse(address, _envelope):
        if address.destination.name == "dlq" and failures:
            raise failures.pop()

    transport.publish_hook = refuse
    async with provider_on(transport) as provider:
        handle = await filled(provider, 1)
        await handle.reject(await anext(handle))
        assert len(transport.waiting("dlq")) == 1
        assert transport.count("acked", "0") == 1


async def test_a_settling_that_is_cancelled_leaves_its_messages_held():
    transport = FakeTransport()
    gate = asyncio.Event()

    async def hang(address, _envelope):
        if address.destination.name == "dlq":
            await gate.wait()

    transport.publish_hook = hang
    async with provider_on(transport) as provider:
        handle = await filled(provider, 2, max_messages=2)
        batch = await anext(handle)
        settling = asyncio.create_task(handle.reject(batch))
        await turns()
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
        assert not transport.count("acked", "0")
        await handle.ack(batch)
        assert transport.count("acked", "1") == 1


async def test_a_settling_that_close_cuts_short_says_so():
    transport = FakeTransport()

    async def hang(address, _envelope):
        if address.destination.name == "dlq":
            await asyncio.Event().wait()

    transport.publish_hook = hang
    async with provider_on(transport) as provider:
        handle = await filled(provider, 1)
        settling = asyncio.create_task(handle.reject(await anext(handle)))
        await turns()
        await handle.close(timeout=0)
        with pytest.raises(SubscriptionClosedError, match="closed before all was settled"):
            await settling
        assert len(transport.waiting("q")) == 1


async def test_who_asks_an_idle_queue_again_and_again_leaves_nothing_behind():
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await provider.subscribe_batch("q", max_messages=3, max_wait=0)
        for _ in range(50):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(handle), 0.0001)
        assert len(handle._waiters) == 0
        await provider.publish("q", message("a"))
        assert ids(await anext(handle)) == ["a"]


@pytest.mark.parametrize("reused", [True, False])
async def test_a_verdict_on_what_was_lost_is_dropped_however_often_connections_are_lost(monkeypatch, reused):
    """What is settled is not remembered as lost any more: a later message may have its place in memory, and so its id()."""
    if reused:
        monkeypatch.setattr(batch_module, "id", lambda _message: 7, raising=False)
    kept = []  # so that no id() is used again
    transport = FakeTransport()
    async with provider_on(transport) as provider:
        handle = await provider.subscribe_batch("q", max_messages=1, max_wait=0)
        await provider.publish("q", message("a"))
        for connection in range(20):
            batch = await anext(handle)
            kept.append(batch)
            transport.lose()
            await handle.ack(batch)
            assert not handle._lost
            await until(lambda connection=connection: transport.connects == connection + 2)
        await handle.ack(await anext(handle))
        await until(lambda: transport.count("acked", "a") == 1)
