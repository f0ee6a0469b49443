"""Q2: failed handlings are counted, delayed and bounded; redeliveries are counted too, but are no failures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.queue.messages import DEAD_LETTER_HEADER_PREFIX, MessageStatus, QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import Gate, fails, never
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered

if TYPE_CHECKING:
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


def reason_of(letter: QueueMessage) -> str:
    return letter.headers[f"{DEAD_LETTER_HEADER_PREFIX}reason"]


@QUEUE_BEHAVIOURS.add("Q2")
async def retries_are_bounded(env: QueueEnvironment) -> None:
    """``max_retries=2``: three handlings, then the dead-letter queue, once, with the reason ``retries-exhausted``."""
    queue, dlq, provider, inbox = env.name(), env.name("dlq"), await env.provider(), env.inbox(fails())
    await provider.subscribe(queue, inbox, error_handling=env.handling(max_retries=2, dead_letter_queue=dlq))
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    (letter,) = await env.dead_letters(dlq)
    assert letter.message_id == message.message_id
    assert reason_of(letter) == "retries-exhausted"
    await env.settle()
    assert inbox.ids == [message.message_id] * 3
    assert await env.left_in(dlq) == []


@QUEUE_BEHAVIOURS.add("Q2")
async def no_retries_means_none(env: QueueEnvironment) -> None:
    """``max_retries=0``: one handling, then the dead-letter queue."""
    queue, dlq, provider, inbox = env.name(), env.name("dlq"), await env.provider(), env.inbox(MessageStatus.RETRY)
    await provider.subscribe(queue, inbox, error_handling=env.handling(max_retries=0, dead_letter_queue=dlq))
    await provider.publish(queue, QueueMessage(body=b"x"))
    (letter,) = await env.dead_letters(dlq)
    assert reason_of(letter) == "retries-exhausted"
    assert len(inbox.messages) == 1


@QUEUE_BEHAVIOURS.add("Q2")
async def retries_without_limit_have_none(env: QueueEnvironment) -> None:
    """``max_retries=None``: 25 failures are not the end. A quorum queue of RabbitMQ 4 has a delivery limit of 20 of its
    own.
    """
    queue, dlq, provider, inbox = env.name(), env.name("dlq"), await env.provider(), env.inbox(fails(25))
    await provider.subscribe(
        queue, inbox, error_handling=env.handling(max_retries=None, retry_delay=0, dead_letter_queue=dlq)
    )
    await provider.publish(queue, QueueMessage(body=b"x"))
    await inbox.until_finished(26)
    await env.settle()
    assert len(inbox.messages) == 26
    await provider.stop()
    assert await env.left_in(dlq) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.DELAY)
async def retry_waits_its_delay(env: QueueEnvironment) -> None:
    """``retry_delay_seconds`` lie between a failure and the next handling."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(fails(2))
    handling = env.handling(retry_delay=15)
    await provider.subscribe(queue, inbox, error_handling=handling)
    await provider.publish(queue, QueueMessage(body=b"x"))
    await inbox.until_finished(3)
    gaps = [later - sooner for sooner, later in zip(inbox.started_at, inbox.started_at[1:], strict=False)]
    assert all(gap >= handling.retry_delay_seconds * 0.98 for gap in gaps), gaps
    if env.has(Can.VIRTUAL_TIME):
        assert all(gap <= handling.retry_delay_seconds + 1.0 for gap in gaps), gaps


@QUEUE_BEHAVIOURS.add("Q2")
async def failure_count_travels_with_the_message(env: QueueEnvironment) -> None:
    """Failed once here, twice at another provider: the third failure is the last with ``max_retries=2``. A count kept in
    the memory of a consumer would start anew.
    """
    queue, dlq = env.name(), env.name("dlq")
    handling = env.handling(max_retries=2, retry_delay=30, dead_letter_queue=dlq)
    handlings: list[int] = []
    for _ in range(3):
        provider, inbox = await env.provider(), env.inbox(fails())
        if not handlings:
            await provider.publish(queue, QueueMessage(body=b"x"))
        await provider.subscribe(queue, inbox, error_handling=handling)
        await inbox.until_finished(1)
        await env.settle(5)
        await provider.stop()
        handlings.append(len(inbox.messages))
    (letter,) = await env.dead_letters(dlq)
    assert handlings == [1, 1, 1]
    assert letter.headers[f"{DEAD_LETTER_HEADER_PREFIX}attempts"] == "3"


@QUEUE_BEHAVIOURS.add("Q2")
async def delivery_count_grows_with_retries(env: QueueEnvironment) -> None:
    """``delivery_count`` is 1 the first time, unflagged, and then 2, 3."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(fails(2))
    await provider.subscribe(queue, inbox, error_handling=env.handling())
    await provider.publish(queue, QueueMessage(body=b"x"))
    messages = await inbox.until_finished(3)
    assert [message.delivery_count for message in messages] == [1, 2, 3]
    assert messages[0].redelivered is False


@QUEUE_BEHAVIOURS.add("Q2", Can.SEVER, Can.REMEMBERS_DELIVERIES)
async def delivery_count_grows_with_redeliveries(env: QueueEnvironment) -> None:
    """A message that comes again after a lost connection has a count above 1, and the flag; where the broker counts, the
    count is exact. RabbitMQ's classic queues know only the flag.
    """
    queue, provider, gates = env.name(), await env.provider(), [Gate(), Gate(), Gate()]

    async def handler(message: QueueMessage) -> MessageStatus | None:
        return await gates[len(inbox.messages) - 1](message)

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, error_handling=env.handling())
    await provider.publish(queue, QueueMessage(body=b"x"))
    for nth in (1, 2):
        await inbox.until(nth)
        await env.sever(provider)
        gates[nth - 1].open()
    gates[2].open()
    messages = await inbox.until_finished(3)
    counts = [message.delivery_count for message in messages]
    assert [message.redelivered for message in messages] == [False, True, True]
    assert counts[0] == 1
    assert min(counts[1:]) > 1
    if env.has(Can.DELIVERY_COUNT):
        assert counts == [1, 2, 3]


@QUEUE_BEHAVIOURS.add("Q2", Can.KILL, Can.REMEMBERS_DELIVERIES)
async def message_that_kills_its_consumers_is_bounded(env: QueueEnvironment) -> None:
    """``max_deliveries`` bounds what is no failure: a message that kills each consumer ends in the dead-letter queue, with
    the reason ``deliveries-exhausted``. Without it the message would bring down every instance, for ever.
    """
    queue, dlq = env.name(), env.name("dlq")
    handling = env.handling(max_retries=None, max_deliveries=3, dead_letter_queue=dlq)
    publisher = await env.provider()
    message = QueueMessage(body=b"deadly")
    await publisher.publish(queue, message)
    handlings = 0
    for _ in range(10):
        victim, inbox = await env.provider(), env.inbox(never)
        await victim.subscribe(queue, inbox, error_handling=handling)
        await env.settle(30)
        if not inbox.messages:
            await victim.stop()
            break
        handlings += 1
        await env.kill(victim)
    (letter,) = await env.dead_letters(dlq)
    assert (letter.message_id, reason_of(letter)) == (message.message_id, "deliveries-exhausted")
    assert 1 <= handlings <= 4
    if env.has(Can.DELIVERY_COUNT):
        assert handlings == 3


@QUEUE_BEHAVIOURS.add("Q2")
async def max_deliveries_bounds_retries_too(env: QueueEnvironment) -> None:
    """``max_deliveries=2`` with more retries allowed: two handlings, then the dead-letter queue."""
    queue, dlq, provider, inbox = env.name(), env.name("dlq"), await env.provider(), env.inbox(fails())
    handling = env.handling(max_retries=None, max_deliveries=2, dead_letter_queue=dlq)
    await provider.subscribe(queue, inbox, error_handling=handling)
    await provider.publish(queue, QueueMessage(body=b"x"))
    (letter,) = await env.dead_letters(dlq)
    assert reason_of(letter) == "deliveries-exhausted"
    assert len(inbox.messages) == 2


@QUEUE_BEHAVIOURS.add("Q3", Can.RESTART, Can.DELAY)
async def waiting_retry_survives_a_broker_restart(env: QueueEnvironment) -> None:
    """The copy that waits for its delay is as durable as the original was."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(fails(1))
    await provider.subscribe(queue, inbox, error_handling=env.handling(retry_delay=60))
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until_finished(1)
    await env.settle(10)
    await env.restart_broker()
    assert ids(await inbox.until_finished(2)) == [message.message_id] * 2


@QUEUE_BEHAVIOURS.add("Q3", Can.KILL)
async def waiting_retry_survives_its_consumer(env: QueueEnvironment) -> None:
    """The consumer dies while a retry waits: another gets the message. A timer in the consumer would be lost with it."""
    queue, victim, inbox = env.name(), await env.provider(), env.inbox(fails())
    await victim.subscribe(queue, inbox, error_handling=env.handling(retry_delay=60))
    message = QueueMessage(body=b"x")
    await victim.publish(queue, message)
    await inbox.until_finished(1)
    await env.settle(10)
    await env.kill(victim)
    assert ids(await env.take(queue, 1)) == [message.message_id]


@QUEUE_BEHAVIOURS.add("Q3", Can.REFUSE)
async def copy_confirmed_before_ack(env: QueueEnvironment) -> None:
    """The broker refuses the copy for the retry: the original was not acked, so the message comes again all the same."""
    queue, provider, gate = env.name(), await env.provider(), Gate(MessageStatus.RETRY)
    inbox = env.inbox(gate)
    subscription = await provider.subscribe(queue, inbox, error_handling=env.handling(retry_delay=0))
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until(1)
    await env.refuse(queue)
    gate.open()
    await inbox.until(2)
    await subscription.close(timeout=env.seconds(5))
    await provider.stop()
    assert set(ids(await env.left_in(queue))) <= {message.message_id}


@QUEUE_BEHAVIOURS.add("Q3", Can.LOSE_CONFIRM)
async def unconfirmed_copy_duplicates_rather_than_loses(env: QueueEnvironment) -> None:
    """The confirmation of the copy is lost: the message may come twice, and comes at least once."""
    queue, provider, gate = env.name(), await env.provider(), Gate(MessageStatus.RETRY)

    async def handler(message: QueueMessage) -> MessageStatus | None:
        return await gate(message) if len(inbox.messages) == 1 else MessageStatus.ACK

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, error_handling=env.handling(retry_delay=0))
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until(1)
    await env.lose_confirm(queue)
    gate.open()
    await inbox.until_finished(2)
    await env.settle()
    assert set(inbox.ids) == {message.message_id}
    assert len(inbox.ids) <= 3
    await provider.stop()
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q3", Can.REFUSE)
async def dead_letter_confirmed_before_ack(env: QueueEnvironment) -> None:
    """The broker refuses the dead letter: the message is still there, and is dead-lettered when that works again."""
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    await provider.publish(dlq, QueueMessage(body=b"makes the queue exist"))
    await env.take(dlq, 1)
    gate = Gate(MessageStatus.REJECT)
    inbox = env.inbox(gate)
    await provider.subscribe(queue, inbox, error_handling=env.handling(dead_letter_queue=dlq))
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until(1)
    await env.refuse(dlq)
    gate.open()
    letters = await env.dead_letters(dlq)
    assert ids(letters) == [message.message_id]
    await env.settle()
    await provider.stop()
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q3", Can.KILL)
async def killed_at_any_point_of_a_retry_loses_nothing(env: QueueEnvironment) -> None:
    """The consumer dies at each of its first steps after the verdict: the message is always still somewhere."""
    for steps in range(12):
        queue, victim, gate = env.name(), await env.provider(), Gate(MessageStatus.RETRY)
        inbox = env.inbox(gate)
        await victim.subscribe(queue, inbox, error_handling=env.handling(retry_delay=1))
        (message,) = numbered(1)
        await victim.publish(queue, message)
        await inbox.until(1)
        gate.open()
        for _ in range(steps):
            await asyncio.sleep(0)
        await env.kill(victim)
        heir, left = await env.provider(), env.inbox()
        await heir.subscribe(queue, left)
        await left.until(1)
        await heir.stop()
        assert set(left.ids) == {message.message_id}
