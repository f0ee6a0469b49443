"""Q2: an accepted message is delivered until it is acked or in the dead-letter queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from factflow_infra.queue.messages import MessageStatus, QueueMessage
from factflow_infra_testing.contracts.queue.capabilities import QueueCapability as Can
from factflow_infra_testing.contracts.queue.inbox import Gate, HandlerError, Inbox, answers, fails, never
from factflow_infra_testing.contracts.queue.table import QUEUE_BEHAVIOURS, ids, numbered

if TYPE_CHECKING:
    from factflow_infra.protocols import MessageHandler, QueueProtocol
    from factflow_infra_testing.contracts.queue.environment import QueueEnvironment


@QUEUE_BEHAVIOURS.add("Q2", like=("watermill/TestResendOnError",))
async def failed_message_comes_again(env: QueueEnvironment) -> None:
    """A handler that raises gets the message again; stompman's own ``subscribe`` NACKs, which Artemis takes for an ack."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(fails(1))
    await provider.subscribe(queue, inbox, error_handling=env.handling())
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    assert ids(await inbox.until_finished(2)) == [message.message_id] * 2


@QUEUE_BEHAVIOURS.add("Q2")
async def retry_verdict_brings_the_message_again(env: QueueEnvironment) -> None:
    """``RETRY`` twice, then ``ACK``: three handlings, and then no more."""
    queue, provider = env.name(), await env.provider()
    inbox = env.inbox(answers(MessageStatus.RETRY, MessageStatus.RETRY, MessageStatus.ACK))
    await provider.subscribe(queue, inbox, error_handling=env.handling())
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until_finished(3)
    await env.settle()
    assert inbox.ids == [message.message_id] * 3
    await provider.stop()
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q2", like=("watermill/TestContinueAfterErrors",))
async def subscription_goes_on_after_errors(env: QueueEnvironment) -> None:
    """Every one of 50 messages fails twice, under concurrency; all are handled in the end, and none more often."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox(fails(2))
    await provider.subscribe(queue, inbox, concurrency=5, error_handling=env.handling(retry_delay=2))
    sent = numbered(50)
    await provider.publish_batch(queue, sent)
    await inbox.until_finished(150)
    await env.settle()
    assert all(inbox.ids.count(message.message_id) == 3 for message in sent)


@QUEUE_BEHAVIOURS.add("Q2")
async def acked_is_gone(env: QueueEnvironment) -> None:
    """After ``ACK`` and after ``None``, the message never comes again: not to this subscription, not after ``stop``, not to
    another provider. On real time a fake whose ack does nothing passes for correct (omniqueue-rs #185).
    """
    queue, provider = env.name(), await env.provider()
    inbox = env.inbox(answers(MessageStatus.ACK))
    quiet = env.inbox()
    first = await provider.subscribe(queue, inbox)
    await provider.publish_batch(queue, numbered(3))
    await inbox.until_finished(3)
    await first.close()
    await provider.subscribe(queue, quiet)
    await provider.publish_batch(queue, numbered(2, first=3))
    await quiet.until_finished(2)
    await env.settle()
    await provider.stop()
    assert (inbox.bodies, quiet.bodies) == ([b"0", b"1", b"2"], [b"3", b"4"])
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.SEVER)
async def acked_is_gone_after_a_lost_connection(env: QueueEnvironment) -> None:
    """An ack that had time to arrive holds across a broken connection."""
    queue, provider, inbox = env.name(), await env.provider(), env.inbox()
    await provider.subscribe(queue, inbox)
    await provider.publish(queue, QueueMessage(body=b"x"))
    await inbox.until_finished(1)
    await env.settle()
    await env.sever(provider)
    await env.settle()
    assert inbox.bodies == [b"x"]


@QUEUE_BEHAVIOURS.add("Q2", like=("watermill/TestNoAck",))
async def unsettled_message_holds_its_place(env: QueueEnvironment) -> None:
    """While a handler has not answered, ``concurrency=1`` delivers nothing else, however long it takes; then the next,
    and neither again.
    """
    queue, provider, gate = env.name(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await provider.publish_batch(queue, numbered(2))
    await provider.subscribe(queue, inbox, prefetch=1)
    await inbox.until(1)
    await env.settle(120)
    assert inbox.bodies == [b"0"]
    gate.open()
    await inbox.until_finished(2)
    await env.settle()
    assert inbox.bodies == [b"0", b"1"]


@QUEUE_BEHAVIOURS.add("Q2", like=("watermill/TestConcurrentSubscribe",))
async def competing_providers_share_without_loss_or_copies(env: QueueEnvironment) -> None:
    """Ten providers, 100 messages: each message to one of them."""
    queue, publisher = env.name(), await env.provider()
    inboxes = [env.inbox() for _ in range(10)]
    for inbox in inboxes:
        await (await env.provider()).subscribe(queue, inbox)
    sent = numbered(100)
    await publisher.publish_batch(queue, sent)
    await env.eventually(lambda: sum(len(inbox.finished) for inbox in inboxes) >= 100, "not all were delivered")
    await env.settle()
    assert sorted(i for inbox in inboxes for i in inbox.ids) == sorted(ids(sent))
    assert sum(bool(inbox.ids) for inbox in inboxes) > 1, "one subscriber got everything: they do not compete"


@QUEUE_BEHAVIOURS.add("Q2", like=("watermill/TestContinueAfterSubscribeClose",))
async def closing_and_subscribing_again_loses_nothing(env: QueueEnvironment) -> None:
    """Each of four providers takes some and stops with more prefetched; together with a fifth they see everything."""
    queue, publisher = env.name(), await env.provider()
    sent = numbered(50)
    await publisher.publish_batch(queue, sent)
    seen: set[str] = set()
    for _ in range(4):
        provider, inbox = await env.provider(), env.inbox()
        await provider.subscribe(queue, inbox, prefetch=10)
        await inbox.until_finished(min(8, len(sent) - len(seen)))
        await provider.stop()
        seen.update(inbox.finished)
    seen.update(ids(await env.left_in(queue)))
    assert seen == set(ids(sent))


@QUEUE_BEHAVIOURS.add("Q2", like=("watermill/TestConcurrentClose",))
async def concurrent_stops_lose_nothing(env: QueueEnvironment) -> None:
    """Ten providers stop at once, each amid a message and with more prefetched, while others come and go as more is
    published: what they did not handle is still there.
    """
    queue, publisher, gate = env.name(), await env.provider(), Gate()
    sent = numbered(50)
    await publisher.publish_batch(queue, sent[:30])
    inboxes = [env.inbox(gate) for _ in range(10)]

    async def come(inbox: Inbox) -> QueueProtocol:
        provider = await env.provider()
        await provider.subscribe(queue, inbox, prefetch=3)
        return provider

    async def come_and_go(inbox: Inbox) -> None:
        await (await come(inbox)).stop()

    busy = await asyncio.gather(*(come(inbox) for inbox in inboxes))
    await env.eventually(lambda: sum(len(inbox.messages) for inbox in inboxes) >= 5, "nobody gets anything")
    passing = [env.inbox() for _ in range(5)]
    stops = asyncio.gather(
        publisher.publish_batch(queue, sent[30:]),
        *(provider.stop() for provider in busy),
        *(come_and_go(inbox) for inbox in passing),
    )
    await asyncio.sleep(0)
    gate.open()
    await env.within_patience(stops, "stops at once hang")
    handled = [i for inbox in (*inboxes, *passing) for i in inbox.finished]
    left = ids(await env.left_in(queue))
    assert {*handled, *left} == set(ids(sent))


@QUEUE_BEHAVIOURS.add("Q2")
async def cancelled_handling_gives_the_message_back_untouched(env: QueueEnvironment) -> None:
    """A handler that ends cancelled is not a failed handling: with ``max_retries=0`` the message comes again, and is not
    dead-lettered.
    """
    queue, dlq, provider = env.name(), env.name("dlq"), await env.provider()
    cancelled: list[str] = []

    async def handler(message: QueueMessage) -> None:
        if not cancelled:
            cancelled.append(message.message_id)
            raise asyncio.CancelledError

    inbox = env.inbox(handler)
    await provider.subscribe(queue, inbox, error_handling=env.handling(max_retries=0, dead_letter_queue=dlq))
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    assert ids(await inbox.until_finished(2)) == [message.message_id] * 2
    await env.settle()
    await provider.stop()
    assert await env.left_in(dlq) == []
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.SEVER)
async def lost_connection_brings_the_message_again(env: QueueEnvironment) -> None:
    """The connection breaks under a handler: its late verdict is dropped, the message comes again, flagged; and this is
    no failed handling. The handler runs on to its end, and never beside the second one.
    """
    queue, dlq, provider, gate = env.name(), env.name("dlq"), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await provider.subscribe(
        queue, inbox, concurrency=4, error_handling=env.handling(max_retries=0, dead_letter_queue=dlq)
    )
    message = QueueMessage(body=b"x")
    await provider.publish(queue, message)
    await inbox.until(1)
    await env.sever(provider)
    await env.settle()
    assert len(inbox.messages) == 1, "a second handler runs beside the first, for the same message"
    gate.open()
    first, second = await inbox.until_finished(2)
    assert not first.redelivered
    assert second.redelivered or not env.has(Can.REMEMBERS_DELIVERIES)
    await env.settle()
    await provider.stop()
    assert inbox.ids == [message.message_id] * 2
    assert inbox.overlaps == []
    assert await env.left_in(dlq) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.SEVER)
async def late_verdicts_are_dropped(env: QueueEnvironment) -> None:
    """A handler whose connection was lost says ``REJECT``, ``RETRY``, ``ACK``, or raises: it counts for nothing. The message
    is not dead-lettered, not even with ``max_retries=0``, but comes again.
    """
    for verdict in (MessageStatus.REJECT, MessageStatus.RETRY, MessageStatus.ACK, None):
        queue, dlq, provider, gate = env.name(), env.name("dlq"), await env.provider(), Gate(verdict)
        inbox = env.inbox(_first_waits_for(gate, then_raises=verdict is None))
        handling = env.handling(max_retries=0, dead_letter_queue=dlq)
        await provider.subscribe(queue, inbox, error_handling=handling)
        await provider.publish(queue, QueueMessage(body=b"x"))
        await inbox.until(1)
        await env.sever(provider)
        gate.open()
        await inbox.until_finished(2)
        await env.settle()
        assert len(inbox.messages) == 2
        await provider.stop()
        assert await env.left_in(dlq) == []


def _first_waits_for(gate: Gate, *, then_raises: bool) -> MessageHandler:
    seen: list[str] = []

    async def handler(message: QueueMessage) -> MessageStatus | None:
        seen.append(message.message_id)
        if len(seen) > 1:
            return MessageStatus.ACK
        verdict = await gate(message)
        if then_raises:
            raise HandlerError("too late to matter")
        return verdict

    return handler


@QUEUE_BEHAVIOURS.add("Q2", Can.SEVER)
async def prefetched_messages_come_back_after_a_lost_connection(env: QueueEnvironment) -> None:
    """What was held and not handled comes again too; nothing is lost, whatever was under way."""
    queue, provider, gate = env.name(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await provider.subscribe(queue, inbox, prefetch=5)
    sent = numbered(8)
    await provider.publish_batch(queue, sent)
    await inbox.until(1)
    await env.sever(provider)
    gate.open()
    await inbox.until_seen(set(ids(sent)))
    await env.settle()
    await provider.stop()
    assert await env.left_in(queue) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.KILL)
async def killed_consumer_gives_way_to_another(env: QueueEnvironment) -> None:
    """A consumer dies under its handler, with more prefetched: another gets all of them, the handled one flagged as
    redelivered; and it counts as no failed handling.
    """
    queue, dlq, victim = env.name(), env.name("dlq"), await env.provider()
    handling = env.handling(max_retries=0, dead_letter_queue=dlq)
    held = env.inbox(never)
    await victim.subscribe(queue, held, prefetch=3, error_handling=handling)
    sent = numbered(3)
    await victim.publish_batch(queue, sent)
    await held.until(1)
    await env.kill(victim)
    heir, inbox = await env.provider(), env.inbox()
    await heir.subscribe(queue, inbox, error_handling=handling)
    await inbox.until_seen(set(ids(sent)))
    if env.has(Can.REMEMBERS_DELIVERIES):
        assert next(m for m in inbox.messages if m.message_id == sent[0].message_id).redelivered
    await env.settle()
    await heir.stop()
    assert await env.left_in(dlq) == []


@QUEUE_BEHAVIOURS.add("Q2", Can.RESTART)
async def broker_restart_brings_the_message_again(env: QueueEnvironment) -> None:
    """The broker restarts under a handler: the message comes again, and those behind it come too."""
    queue, provider, gate = env.name(), await env.provider(), Gate()
    inbox = env.inbox(gate)
    await provider.subscribe(queue, inbox)
    sent = numbered(4)
    await provider.publish_batch(queue, sent)
    await inbox.until(1)
    await env.restart_broker()
    gate.open()
    await inbox.until_seen(set(ids(sent)))
    await env.eventually(lambda: inbox.ids.count(sent[0].message_id) >= 2, "the handled message did not come again")
    await env.settle()
    await provider.stop()
    assert await env.left_in(queue) == []
