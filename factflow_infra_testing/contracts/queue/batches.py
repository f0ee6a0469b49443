"""``subscribe_batch``: what a batch is, how it is settled, and what becomes of the rest."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from factflow_infra.errors import SubscriptionClosedError
from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, QueueMessage, SubscriptionStatus
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered
from factflow_infra_testing.contracts.raising import raises

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from factflow_infra.protocols import BatchHandleProtocol, BatchMessage
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


async def following(env: QueueEnvironment, handle: BatchHandleProtocol) -> BatchMessage:
    """The next batch of ``handle``, within patience."""
    return cast("BatchMessage", await env.within_patience(anext(aiter(handle)), "no batch came"))


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH)
async def full_batch_comes_at_once(env: QueueEnvironment) -> None:
    """``max_messages`` are waiting: the batch has them all, in order, without waiting for ``max_wait``; it is sized and
    iterable, and its messages have their delivery fields.
    """
    queue, provider = env.name(), await env.provider()
    sent = numbered(10)
    await provider.publish_batch(queue, sent)
    handle = await provider.subscribe_batch(queue, max_messages=4, max_wait=env.seconds(600), subscription="batches")
    assert (handle.name, handle.status) == ("batches", SubscriptionStatus.ACTIVE)
    assert handle.destination.removeprefix("/queue/") == queue
    start = asyncio.get_running_loop().time()
    batch = await following(env, handle)
    assert asyncio.get_running_loop().time() - start < env.seconds(300)
    assert len(batch) == 4
    assert ids(list(batch)) == ids(list(batch.messages)) == ids(sent[:4])
    assert [(m.delivery_count, m.redelivered) for m in batch] == [(1, False)] * 4
    await handle.ack(batch)
    second = await following(env, handle)
    assert ids(list(second)) == ids(sent[4:8])
    await handle.ack(second)
    await handle.close()
    assert handle.status is SubscriptionStatus.CLOSED
    back = ids(await env.left_in(queue))
    assert sorted(back) == sorted(ids(sent[8:]))
    if env.has(Can.VIRTUAL_TIME):  # on a real broker their order is its own affair
        assert back == ids(sent[8:])


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH)
async def partial_batch_comes_after_max_wait(env: QueueEnvironment) -> None:
    """What has come within ``max_wait`` of the first message, which later ones do not put off; before a first message there
    is no batch, however long.
    """
    queue, provider = env.name(), await env.provider()
    handle = await provider.subscribe_batch(queue, max_messages=100, max_wait=env.seconds(20))
    waiting = asyncio.ensure_future(anext(aiter(handle)))
    await env.settle(120)
    assert not waiting.done(), "an empty batch, or one out of nothing"
    loop = asyncio.get_running_loop()
    sent = numbered(3)
    start = loop.time()
    for message in sent:
        await provider.publish(queue, message)
        if message is not sent[-1]:
            await env.settle(6)
    batch = await env.within_patience(waiting, "no batch came")
    took = loop.time() - start
    assert ids(list(batch)) == ids(sent)
    assert took >= env.seconds(20) * 0.98
    if env.has(Can.VIRTUAL_TIME):
        assert took <= 21
    await handle.ack(batch)


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH)
async def acked_batch_is_gone(env: QueueEnvironment) -> None:
    """Settled as a batch, one message, a list, a generator: none of them comes again."""
    queue, provider = env.name(), await env.provider()
    await provider.publish_batch(queue, numbered(8))
    handle = await provider.subscribe_batch(queue, max_messages=4, max_wait=env.seconds(5))
    await handle.ack(await following(env, handle))
    batch = await following(env, handle)
    await handle.ack(batch.messages[0])
    await handle.ack([batch.messages[1]])
    await handle.ack(message for message in batch.messages[2:])
    await handle.close()
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH)
async def batch_is_settled_message_by_message(env: QueueEnvironment) -> None:
    """One acked, one retried, one rejected: gone, again, dead-lettered. Pulsar's nack of one redelivers the whole batch."""
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    await provider.publish_batch(queue, numbered(3))
    handle = await provider.subscribe_batch(
        queue,
        max_messages=3,
        max_wait=env.seconds(2),
        error_handling=env.handling(retry_delay=1, dead_letter_queue=dlq),
    )
    batch = await following(env, handle)
    await handle.ack(batch.messages[0])
    await handle.retry(batch.messages[1])
    await handle.reject(batch.messages[2])
    again = await following(env, handle)
    assert [(m.body, m.delivery_count) for m in again] == [(b"1", 2)]
    await handle.ack(again)
    (letter,) = await env.dead_letters(dlq)
    assert letter.body == b"2"
    assert letter.headers[f"{DEAD_LETTER_HEADER_PREFIX}reason"] == "rejected"
    await handle.close()
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH)
async def batch_retries_are_bounded(env: QueueEnvironment) -> None:
    """The count of failures is the same as for handlers: ``max_retries=1``, two retries, dead letter."""
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    await provider.publish(queue, QueueMessage(body=b"x"))
    handling = env.handling(max_retries=1, retry_delay=1, dead_letter_queue=dlq)
    handle = await provider.subscribe_batch(queue, max_messages=1, max_wait=env.seconds(1), error_handling=handling)
    for _ in range(2):
        await handle.retry(await following(env, handle))
    (letter,) = await env.dead_letters(dlq)
    assert letter.headers[f"{DEAD_LETTER_HEADER_PREFIX}reason"] == "retries-exhausted"


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH)
async def unsettled_goes_back_when_the_handle_closes(env: QueueEnvironment) -> None:
    """Half a batch acked, the handle closed or the provider stopped: the other half and what was held come again; and this
    is no failure.
    """
    for way in ("close", "stop"):
        queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
        sent = numbered(10)
        await provider.publish_batch(queue, sent)
        handling = env.handling(max_retries=0, dead_letter_queue=dlq)
        async with await provider.subscribe_batch(
            queue, max_messages=4, max_wait=env.seconds(5), error_handling=handling
        ) as handle:
            batch = await following(env, handle)
            await handle.ack(batch.messages[:2])
            if way == "stop":
                await env.within_patience(provider.stop(), "stop() waits for a batch that nobody settles")
        left = await env.left_in(queue)
        assert sorted(ids(left)) == sorted(ids(sent[2:]))
        assert await env.left_in(dlq) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH)
async def settling_twice_raises(env: QueueEnvironment) -> None:
    """What is settled already, and anything after ``close``, raises ``SubscriptionClosedError``: a double ack in AMQP
    would close the channel, and give back everything else.
    """
    queue, provider = env.name(), await env.provider()
    await provider.publish_batch(queue, numbered(2))
    handle = await provider.subscribe_batch(queue, max_messages=2, max_wait=env.seconds(5))
    batch = await following(env, handle)
    first, second = batch.messages
    await handle.ack(first)
    for settle in (handle.ack, handle.retry, handle.reject):
        with raises(SubscriptionClosedError):
            await settle(first)
    await handle.close()
    with raises(SubscriptionClosedError):
        await handle.ack(second)
    await handle.close()
    assert [m.body for m in await env.left_in(queue)] == [b"1"]


@QUEUE_BEHAVIOURS.add("Q8", Can.BATCH)
async def iteration_ends_when_the_handle_closes(env: QueueEnvironment) -> None:
    """``async for`` over a handle ends, without an error, when the handle closes, and when the provider stops."""
    for way in ("close", "stop"):
        queue, provider = env.name(), await env.provider()
        handle = await provider.subscribe_batch(queue, max_messages=2, max_wait=env.seconds(1))
        batches: list[int] = []

        async def consume(handle: BatchHandleProtocol = handle, batches: list[int] = batches) -> None:
            async for batch in handle:
                batches.append(len(batch))
                await handle.ack(batch)

        consumer = asyncio.ensure_future(consume())
        await provider.publish(queue, QueueMessage(body=b"x"))
        await env.eventually(lambda b=batches: b == [1], "no batch came")
        await env.settle(5)  # it waits for the next
        await (handle.close() if way == "close" else provider.stop())
        await env.within_patience(consumer, f"the iteration goes on after {way}()")
        assert handle.status is SubscriptionStatus.CLOSED


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH)
async def abandoned_iteration_loses_nothing(env: QueueEnvironment) -> None:
    """A consumer that is cancelled while it waits for a batch loses no message. Pulsar's cancelled ``receive`` swallows
    the next one.
    """
    queue, provider = env.name(), await env.provider()
    handle = await provider.subscribe_batch(queue, max_messages=10, max_wait=env.seconds(60))
    for n in range(3):
        iterator = aiter(handle)
        waiting = asyncio.ensure_future(anext(iterator))
        await asyncio.sleep(0)
        if n:
            await provider.publish(queue, QueueMessage(body=str(n).encode()))
            await env.settle(1)
        waiting.cancel()
        with raises(asyncio.CancelledError):
            await waiting
        if hasattr(iterator, "aclose"):
            async with aclosing(cast("AsyncGenerator[BatchMessage]", iterator)):
                pass
    seen: list[bytes] = []
    while len(seen) < 2:
        batch = await following(env, handle)
        seen.extend(m.body for m in batch)
        await handle.ack(batch)
    assert sorted(seen) == [b"1", b"2"]


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH, Can.TOPICS)
async def batches_of_a_topic(env: QueueEnvironment) -> None:
    """A named batch subscription of a topic gets every message, in batches."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    handle = await provider.subscribe_batch(topic, max_messages=3, max_wait=env.seconds(2), subscription="batches")
    sent = numbered(3)
    for message in sent:
        await provider.publish(topic, message)
    batch = await following(env, handle)
    assert ids(list(batch)) == ids(sent)
    await handle.ack(batch)


@QUEUE_BEHAVIOURS.add("Q9", Can.BATCH, Can.SEVER)
async def batch_of_a_lost_connection_comes_again(env: QueueEnvironment) -> None:
    """The connection breaks with a batch unsettled: its late settling is dropped, with or without an error, and the
    messages come again, to the same handle.
    """
    queue, provider = env.name(), await env.provider()
    sent = numbered(3)
    await provider.publish_batch(queue, sent)
    handle = await provider.subscribe_batch(queue, max_messages=3, max_wait=env.seconds(5))
    batch = await following(env, handle)
    await env.sever(provider)
    await env.settle(5)
    try:
        await env.within_patience(handle.ack(batch), "ack() of a lost batch never returned")
    except SubscriptionClosedError:
        pass
    except Exception as error:  # noqa: BLE001 - each way of saying it is as good
        assert getattr(error, "retryable", False), f"{error!r} does not say that the batch comes again"  # noqa: PT017
    again: list[QueueMessage] = []
    while len(again) < 3:
        batch = await following(env, handle)
        again.extend(batch)
        await handle.ack(batch)
    assert sorted(ids(again)) == sorted(ids(sent))
    if env.has(Can.REDELIVERED_FLAG):
        assert all(m.redelivered for m in again)
    elif env.has(Can.REMEMBERS_DELIVERIES):
        assert next(m for m in again if m.message_id == sent[0].message_id).redelivered


@QUEUE_BEHAVIOURS.add("Q2", Can.BATCH, Can.KILL)
async def batch_of_a_killed_consumer_goes_to_another(env: QueueEnvironment) -> None:
    """A consumer dies with a batch half acked: the other half comes again, to another."""
    queue, victim = env.name(), await env.provider()
    sent = numbered(4)
    await victim.publish_batch(queue, sent)
    handle = await victim.subscribe_batch(queue, max_messages=4, max_wait=env.seconds(5))
    batch = await following(env, handle)
    await handle.ack(batch.messages[:2])
    await env.settle(1)
    await env.kill(victim)
    assert sorted(ids(await env.left_in(queue))) == sorted(ids(sent[2:]))
