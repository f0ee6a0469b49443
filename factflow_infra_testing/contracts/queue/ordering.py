"""Q4: the order of messages, where it is promised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.queue.messages import MessageStatus, QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import Gate, fails
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q4", like=("watermill/TestPublishSubscribeInOrder",))
async def first_in_first_out(env: QueueEnvironment) -> None:
    """One producer, ``concurrency=1``, no failures: 100 messages in the order of their publishing, whatever the prefetch.
    stompman runs handlers side by side: they finished 4, 3, 2, 1, 0.
    """
    for prefetch in (None, 1, 7):
        queue, provider, inbox = env.name(), await env.provider(), env.inbox()
        sent = numbered(100)
        for message in sent[:50]:
            await provider.publish(queue, message)
        await provider.subscribe(queue, inbox, prefetch=prefetch)
        await provider.publish_batch(queue, sent[50:])
        await inbox.until_finished(100)
        assert inbox.finished == ids(sent)
        assert inbox.ids == ids(sent)


@QUEUE_BEHAVIOURS.add("Q4", Can.TOPICS)
async def topic_is_in_order_for_each_subscription(env: QueueEnvironment) -> None:
    """Every subscription of a topic sees the order of publishing."""
    topic, provider = f"/topic/{env.name()}", await env.provider()
    inboxes = [env.inbox(), env.inbox()]
    for inbox in inboxes:
        await provider.subscribe(topic, inbox)
    sent = numbered(50)
    for message in sent:
        await provider.publish(topic, message)
    for inbox in inboxes:
        await inbox.until_finished(50)
        assert inbox.ids == ids(sent)


@QUEUE_BEHAVIOURS.add("Q4")
async def retried_message_goes_behind(env: QueueEnvironment) -> None:
    """The first of three fails: the other two are not held up, and come before its retry."""
    queue, provider = env.name(), await env.provider()
    failing = fails(1)

    async def handler(message: QueueMessage) -> MessageStatus | None:
        return await failing(message) if message.body == b"0" else None

    inbox = env.inbox(handler)
    await provider.publish_batch(queue, numbered(3))
    await provider.subscribe(queue, inbox, error_handling=env.handling(retry_delay=10))
    await inbox.until_finished(4)
    assert inbox.bodies == [b"0", b"1", b"2", b"0"]


@QUEUE_BEHAVIOURS.add("Q4", Can.ORDERING_KEY, like=("watermill/TestPublishSubscribeInOrder",))
async def ordering_key_keeps_its_order_under_concurrency(env: QueueEnvironment) -> None:
    """Eight handlers at once, four keys, the first of each key the slowest: every key in order, one at a time, and the
    keys side by side.
    """
    queue, provider = env.name(), await env.provider()
    running: dict[str, int] = {}
    overlapped: list[str] = []

    async def handler(message: QueueMessage) -> None:
        key = str(message.ordering_key)
        running[key] = running.get(key, 0) + 1
        if running[key] > 1:
            overlapped.append(key)
        await asyncio.sleep(env.seconds(0.5 * (10 - int(message.body) // 4)))
        running[key] -= 1

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, concurrency=8, prefetch=16)
    sent = [QueueMessage(body=str(n).encode(), ordering_key=f"key-{n % 4}") for n in range(40)]
    await provider.publish_batch(queue, sent)
    await inbox.until_finished(40)
    assert overlapped == []
    for nth in range(4):
        assert [i for i in inbox.finished if i in ids(sent[nth::4])] == ids(sent[nth::4])
    assert inbox.most_at_once > 1, "the keys waited for each other"


@QUEUE_BEHAVIOURS.add("Q4", Can.ORDERING_KEY)
async def slow_key_holds_up_no_other(env: QueueEnvironment) -> None:
    """One key is stuck; messages of others, and those without a key, go on."""
    queue, provider, gate = env.name(), await env.provider(), Gate()

    async def handler(message: QueueMessage) -> MessageStatus | None:
        return await gate(message) if message.ordering_key == "stuck" else None

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, concurrency=3, prefetch=20)
    for n in range(3):
        await provider.publish(queue, QueueMessage(body=b"stuck", ordering_key="stuck"))
        await provider.publish(queue, QueueMessage(body=b"other", ordering_key=f"other-{n}"))
        await provider.publish(queue, QueueMessage(body=b"none"))
    await inbox.until_finished(6)
    assert inbox.bodies.count(b"stuck") == 1
    gate.open()
    await inbox.until_finished(9)
