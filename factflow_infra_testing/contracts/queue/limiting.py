"""Q6: never more handlers than ``concurrency``, never more messages than ``prefetch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factflow_infra.queue.messages import QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import Gate
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q6")
async def concurrency_is_reached_and_not_passed(env: QueueEnvironment) -> None:
    """Three handlers at once, and never four, while 20 messages wait. stompman's cap is 100, whatever was asked for."""
    queue, provider, gate = env.name(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await provider.subscribe(queue, inbox, concurrency=3, prefetch=10)
    await provider.publish_batch(queue, numbered(20))
    await inbox.until(3)
    await env.settle()
    assert len(inbox.running) == 3
    gate.open()
    await inbox.until_finished(20)
    assert inbox.most_at_once == 3


@QUEUE_BEHAVIOURS.add("Q6")
async def one_at_a_time_by_default(env: QueueEnvironment) -> None:
    """``concurrency`` defaults to 1."""
    queue, provider, gate = env.name(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await provider.subscribe(queue, inbox)
    await provider.publish_batch(queue, numbered(5))
    await inbox.until(1)
    await env.settle()
    gate.open()
    await inbox.until_finished(5)
    assert inbox.most_at_once == 1


@QUEUE_BEHAVIOURS.add("Q6")
async def prefetch_leaves_the_rest_to_others(env: QueueEnvironment) -> None:
    """A stuck subscriber with ``prefetch=2`` holds two of six messages, the running one included; another gets four."""
    queue, stuck, free, gate = env.name(), await env.provider(), await env.provider(), Gate()
    held, inbox = env.inbox(gate), env.inbox()
    await stuck.subscribe(queue, held, prefetch=2)
    sent = numbered(6)
    await stuck.publish_batch(queue, sent)
    await held.until(1)
    await env.settle(10)
    await free.subscribe(queue, inbox)
    await inbox.until_finished(4)
    await env.settle()
    assert len(inbox.messages) == 4
    gate.open()
    await held.until_finished(2)
    assert sorted(inbox.ids + held.ids) == sorted(ids(sent))


@QUEUE_BEHAVIOURS.add("Q6", Can.SEVER)
async def handler_of_a_lost_connection_counts_towards_concurrency(env: QueueEnvironment) -> None:
    """``concurrency=1``, the connection breaks under a handler: until that one ends, no other message is handled either."""
    queue, provider, gate = env.name(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await provider.subscribe(queue, inbox)
    sent = numbered(3)
    await provider.publish_batch(queue, sent)
    await inbox.until(1)
    await env.sever(provider)
    await env.settle()
    assert len(inbox.messages) == 1
    gate.open()
    await inbox.until_seen(set(ids(sent)))
    assert inbox.most_at_once == 1


@QUEUE_BEHAVIOURS.add("Q6")
async def no_two_handlers_for_one_message_id(env: QueueEnvironment) -> None:
    """Two messages with one id, ``concurrency=4``: one after the other, and others beside them."""
    queue, provider, gate = env.name(), await env.provider(), Gate()

    async def handler(message: QueueMessage) -> None:
        if message.message_id == "same":
            await gate(message)

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, concurrency=4, prefetch=8)
    await provider.publish(queue, QueueMessage(body=b"1", message_id="same"))
    await provider.publish(queue, QueueMessage(body=b"2", message_id="same"))
    await provider.publish(queue, QueueMessage(body=b"other"))
    await inbox.until(2)
    await env.settle()
    assert inbox.bodies.count(b"other") == 1
    assert len(inbox.messages) == 2
    gate.open()
    await inbox.until_finished(3)
    assert inbox.overlaps == []
